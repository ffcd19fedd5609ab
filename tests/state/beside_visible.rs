//! Who asked, beside a writer that does not sync, for what is only visible.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use esker::{Behind, Durability, Reader, Store, Subscription, Until};

use super::following::{Folded, fold, scanned};
use super::harbour::{VESSEL, Vessel, change_often, fill, options};

/// What has not come to its end by then never will.
const LONG: Duration = Duration::from_secs(60);

fn begun() -> (tempfile::TempDir, PathBuf, Store) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let store = Store::over(options().durability(Durability::Os).open(&path).unwrap());
    (directory, path, store)
}

fn visible(path: &Path, behind: Behind, capacity: u64) -> Subscription<Vessel> {
    let builder = Reader::open(path).unwrap().subscription(VESSEL).behind(behind).capacity(capacity);
    builder.until(Until::Visible).start().unwrap()
}

/// Takes in all that there is now. Where that has no end, the test has.
fn gathered(mut changes: Subscription<Vessel>, mut folded: Folded) -> (Subscription<Vessel>, Folded) {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        while let Some(item) = changes.next_timeout(Duration::ZERO).unwrap() {
            fold(&mut folded, &item);
        }
        done.send((changes, folded))
    });
    ended.recv_timeout(LONG).expect("it comes to an end")
}

#[test]
fn whoever_falls_behind_what_is_not_durable_catches_up_with_what_is_visible() {
    for behind in [Behind::Resume, Behind::Full, Behind::Conflate] {
        for capacity in [0, 1, 8] {
            let (_directory, path, store) = begun();
            let radar = store.source("radar").unwrap();
            fill(&store, &radar, 3);
            store.sync().unwrap();
            let (changes, folded) = gathered(visible(&path, behind, capacity), Folded::new());
            change_often(&store, &radar, "ada", 10);
            assert!(store.journal().durable() < store.journal().view().end(), "nobody syncs");
            let (changes, folded) = gathered(changes, folded);
            // And who begins while there is as much.
            let (new, begun) = gathered(visible(&path, behind, capacity), Folded::new());
            for changes in [&changes, &new] {
                assert_eq!(changes.token().unwrap(), None, "{behind:?}, {capacity}: it names what is durable");
            }
            // A scan syncs.
            assert_eq!([folded, begun], [scanned(&store), scanned(&store)], "{behind:?}, {capacity}");
            let newest = store.journal().view().last_seq().unwrap();
            assert_eq!(changes.token().unwrap().unwrap().seq(), newest);
        }
    }
}
