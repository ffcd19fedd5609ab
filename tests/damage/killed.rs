//! What a writer had synced before it was killed, and no frame says: the lock page does, until the machine is started anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use esker::{Durability, ErrorKind, Journal, Options, Reader, Record, Seq};

fn options() -> Options {
    Options::new().segment_bytes(4096).background(false).durability(Durability::Os)
}

/// The files as they are, of whatever name.
fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
    files.map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

const CHILD: &str = "ESKER_KILLED_STORE";

/// What the other process does: it writes, and is gone. Where an entry in the midst stands it leaves beside the store.
#[test]
fn whoever_is_killed() {
    let Some(path) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let journal = options().open(&path).unwrap();
    let note = journal.kind("note").unwrap();
    (0..200).for_each(|_| _ = journal.append(Record::new(note, b"k", &[7; 100])).unwrap());
    if path.ends_with("synced") {
        journal.sync().unwrap();
    }
    let at = journal.view().get(Seq::new(100).unwrap()).unwrap().unwrap().position();
    std::fs::write(path.with_extension("place"), format!("{} {}", at.segment(), at.offset())).unwrap();
    std::process::abort();
}

/// A store whose writer was killed, and where an entry in its midst stands. Whether all had been synced by then.
fn killed(synced: bool) -> (tempfile::TempDir, PathBuf, u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(if synced { "synced" } else { "written" });
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::whoever_is_killed"])
        .env(CHILD, &path)
        .output()
        .unwrap();
    assert!(!child.status.success());
    let place = std::fs::read_to_string(path.with_extension("place")).unwrap();
    let (segment, offset) = place.split_once(' ').unwrap();
    let segment = path.join(format!("{:010}.seg", segment.parse::<u32>().unwrap()));
    (directory, segment, offset.parse().unwrap())
}

fn flip(file: &Path, at: u64) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn what_was_synced_before_a_kill_is_damaged_and_no_end() {
    let (_directory, segment, offset) = killed(true);
    flip(&segment, offset + 20);
    let store = segment.parent().unwrap();
    let before = files(store);
    // A reader goes on behind it, and so a writer must not cut it off.
    let reader = Reader::open(store).unwrap();
    assert_eq!(reader.recovery().damage.len(), 1, "{:?}", reader.recovery());
    let view = reader.view().unwrap();
    assert_eq!(view.get(Seq::new(100).unwrap()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(view.get(Seq::new(200).unwrap()).unwrap().is_some());
    let refused = Journal::open(store).unwrap_err();
    assert_eq!((refused.kind(), refused.seqs()), (ErrorKind::Corrupt, Some(100..=100)), "{refused}");
    assert!(
        before
            .iter()
            .filter(|(file, _)| !file.ends_with("LOCK"))
            .all(|(file, bytes)| files(store)[file] == *bytes)
    );
}

#[test]
fn what_nobody_had_synced_before_a_kill_ends_where_it_is_damaged() {
    let (_directory, segment, offset) = killed(false);
    flip(&segment, offset + 20);
    let store = segment.parent().unwrap();
    let shown = |view: esker::View| view.last_seq().unwrap().unwrap().get();
    assert_eq!(shown(Reader::open(store).unwrap().view().unwrap()), 99);
    assert_eq!(shown(options().open(store).unwrap().view()), 99);
}

/// The page has no checksum. What it cannot mean is not believed, and keeps nobody out.
#[test]
fn a_lock_page_that_says_too_much_keeps_nobody_out() {
    for synced in [false, true] {
        let (_directory, segment, _) = killed(synced);
        let store = segment.parent().unwrap();
        let left = files(store);
        for at in (0..1024).step_by(8) {
            for file in files(store).into_keys().filter(|file| !left.contains_key(file)) {
                std::fs::remove_file(file).unwrap();
            }
            // The files stay the same ones: the page is not that of a copy.
            left.iter().for_each(|(file, bytes)| std::fs::write(file, bytes).unwrap());
            let mut page = left[&store.join("LOCK")].clone();
            page[at + 5] ^= 0x40;
            std::fs::write(store.join("LOCK"), page).unwrap();
            let what = format!("synced {synced}, byte {at}");
            let journal = options().open(store).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(journal.view().last_seq().unwrap().unwrap().get(), 200, "{what}");
        }
    }
}

/// A copy of a live store may have the page from later than the segments, and whoever puts it back in place keeps the files.
#[test]
fn a_copy_that_was_put_back_in_place_is_a_prefix() {
    let (_directory, segment, offset) = killed(true);
    let store = segment.parent().unwrap();
    for file in files(store).into_keys().filter(|file| file.extension().is_some() && *file > segment) {
        std::fs::remove_file(file).unwrap();
    }
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[usize::try_from(offset).unwrap()..].fill(0);
    std::fs::write(&segment, bytes).unwrap();
    let shown = |view: esker::View| view.last_seq().unwrap().unwrap().get();
    assert_eq!(shown(Reader::open(store).unwrap().view().unwrap()), 99);
    assert_eq!(shown(options().open(store).unwrap().view()), 99);
}

/// What stands behind a torn end is dead, whatever the writer that went on behind it says of its own entries.
#[test]
fn a_page_of_a_later_writer_vouches_for_nothing_that_a_crash_has_torn() {
    let (directory, segment, offset) = killed(false);
    flip(&segment, offset + 20);
    let store = segment.parent().unwrap();
    let journal = options().durability(Durability::Sync).open(store).unwrap();
    let note = journal.kind("note").unwrap();
    (0..120).for_each(|_| _ = journal.append(Record::new(note, b"k", &[8; 100])).unwrap());
    let next = journal.view().get(Seq::new(100).unwrap()).unwrap().unwrap().position().segment();
    drop(journal);
    std::fs::remove_file(store.join(format!("{next:010}.seg"))).unwrap();
    let _ = std::fs::remove_file(store.join(format!("{next:010}.idx")));
    let view = Reader::open(store).unwrap().view().unwrap();
    for seq in (100..=219).filter_map(Seq::new) {
        if let Ok(entry) = view.get(seq) {
            assert_eq!(entry.unwrap().payload(), [8; 100], "{seq} is dead");
        }
    }
    drop(directory);
}
