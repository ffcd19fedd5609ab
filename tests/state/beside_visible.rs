//! Who asked, beside a writer that does not sync, for what is only visible.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use esker::{Behind, Durability, Reader, Seq, Store, Subscription, Until};

use super::beside::{heard, lose, start};
use super::following::{Folded, fold, scanned};
use super::harbour::{VESSEL, Vessel, change_often, fill, options, told, vessel};

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
        done.send((changes, folded)).unwrap();
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
                assert_eq!(
                    changes.token().unwrap(),
                    None,
                    "{behind:?}, {capacity}: it names what is durable"
                );
            }
            // A scan syncs.
            assert_eq!([folded, begun], [scanned(&store), scanned(&store)], "{behind:?}, {capacity}");
            let newest = store.journal().view().last_seq().unwrap();
            assert_eq!(changes.token().unwrap().unwrap().seq(), newest);
        }
    }
}

#[test]
fn a_token_between_two_rounds_is_of_a_durable_moment_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let mut writer = start("leaves what came while it was followed", &path);
    heard(&mut writer, "begun");
    let mut changes = visible(&path, Behind::Conflate, 0);
    assert!((0..3).all(|_| changes.advance().unwrap()), "all the rows");
    writer.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    heard(&mut writer, "left");
    assert!(!writer.wait().unwrap().success());
    assert!(changes.advance().unwrap(), "all of the round");
    // A power cut takes the round, and for a while the log cannot be opened again.
    let view = Reader::open(&path).unwrap().view().unwrap();
    let lost = view.get(Seq::new(2).unwrap()).unwrap().unwrap().position();
    lose(&path, lost.segment(), lost.offset());
    let store = Store::over(options().open(&path).unwrap());
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "grace", &vessel("Grace", 1.0)).unwrap();
    store.flush().unwrap();
    let manifest = path.join("MANIFEST");
    let aside = std::fs::read(&manifest).unwrap();
    std::fs::remove_file(&manifest).unwrap();
    let error = changes.advance().unwrap_err();
    assert!(error.to_string().contains("MANIFEST"), "{error}");
    let token = changes.token();
    assert!(!matches!(token, Ok(Some(_))), "{token:?} of what is lost");
    std::fs::write(&manifest, aside).unwrap();
    assert_eq!(told(&mut changes)[0], "begin true Some(Rewound)");
}
