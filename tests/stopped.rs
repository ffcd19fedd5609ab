//! While a subscriber stands still inside its bootstrap, memory does not grow with what it has not read, and the disk by
//! little more than it may hold back; and when it goes on, it comes to what is there. Alone in its process, whose memory is looked at.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod memory;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use esker::{
    AutoCompact, Because, Behind, ChangeKind, Durability, Kind, Marker, Options, StateItem, Store, Window,
};
use memory::anonymous;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Vessel {
    name: String,
    heading: u64,
}

const VESSEL: Kind<Vessel> = Kind::new("vessel");
const HOLD: u64 = 16 << 20;
/// Beside what is held back: the live rows, segments that are being written, and what compaction has not looked at yet.
const SLACK: u64 = 32 << 20;
/// More than may stay.
const MUCH: u64 = 80 << 20;
const _: () = assert!(MUCH > HOLD + SLACK);
const WRITERS: u64 = 10;

fn disk_bytes(path: &Path) -> u64 {
    // What has a name. Of files that are removed and still mapped `Stats::unlinked_bytes` tells.
    std::fs::read_dir(path).unwrap().filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
}

/// What was gathered: version and heading by key; and why it had to begin anew.
#[derive(Default)]
struct Gathered {
    rows: BTreeMap<Vec<u8>, (u64, u64)>,
    because: Vec<Option<Because>>,
}

impl Gathered {
    fn take(&mut self, item: &StateItem<'_, Vessel>) {
        match item {
            StateItem::Marker(Marker::BootstrapBegin { because, .. }) => {
                self.because.push(*because);
                self.rows.clear();
            }
            StateItem::Change(change) if change.kind() == ChangeKind::Deleted => {
                self.rows.remove(change.key()).unwrap();
            }
            StateItem::Change(change) => {
                let heading = change.value().unwrap().unwrap().heading;
                self.rows.insert(change.key().to_vec(), (change.version(), heading));
            }
            _ => {}
        }
    }
}

/// Writes until so many bytes were appended since, and looks at memory and disk meanwhile.
fn write(store: &Store, path: &Path, bytes: u64) -> (u64, u64) {
    let appended = || store.journal().stats().appended_bytes;
    let end = appended() + bytes;
    let (memory, mut most) = (anonymous(), (0, 0));
    let deadline = Instant::now() + Duration::from_secs(120);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let source = store.source(&format!("writer {writer}")).unwrap();
            let appended = &appended;
            scope.spawn(move || {
                for n in 0.. {
                    if n % 64 == 0 && (appended() >= end || Instant::now() > deadline) {
                        return;
                    }
                    let key = format!("{writer}/{}", n % 100);
                    if n % 7 == 0 {
                        source.retract(VESSEL, key).unwrap();
                    } else {
                        source.assert(VESSEL, key, &Vessel { name: "x".repeat(100), heading: n }).unwrap();
                    }
                }
            });
        }
        while appended() < end && Instant::now() < deadline {
            most.0 = most.0.max(anonymous().saturating_sub(memory));
            most.1 = most.1.max(disk_bytes(path));
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert!(appended() >= end, "{:?}", store.journal().stats());
    store.flush().unwrap();
    most
}

#[test]
fn s25_who_stands_still_in_its_bootstrap_holds_no_memory_and_little_disk_and_comes_to_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.esker");
    let options = Options::new().window(Window::Every(Duration::from_millis(2))).segment_bytes(1 << 20);
    let compact = AutoCompact::every(Duration::from_millis(20)).min_garbage(1 << 20);
    let options = options.durability(Durability::Os).auto_compact(compact);
    let store = Store::over(options.open(&path).unwrap());
    // Until what is needed always has its size.
    write(&store, &path, 8 << 20);
    // Less than it may hold back, and far more.
    for (bytes, expected) in [(4 << 20, &[None][..]), (MUCH, &[None, Some(Because::HeldTooMuch)])] {
        let builder = store.subscription(VESSEL).behind(Behind::Resume).bootstrap_hold(HOLD);
        let (mut changes, mut gathered) = (builder.start().unwrap(), Gathered::default());
        for _ in 0..50 {
            gathered.take(&changes.try_next().unwrap().unwrap());
        }
        let (memory, disk) = write(&store, &path, bytes);
        assert!(memory <= 16 << 20, "{memory} bytes more of memory");
        assert!(disk <= HOLD + SLACK, "{disk} bytes of disk");
        while let Some(item) = changes.try_next().unwrap() {
            gathered.take(&item);
        }
        assert_eq!(gathered.because, expected, "behind {bytes} bytes");
        let token = changes.token().unwrap().unwrap();
        let scanned = store.scan(VESSEL).unwrap().map(|row| row.unwrap());
        let scanned: BTreeMap<_, _> =
            scanned.map(|row| (row.key().to_vec(), (row.version(), row.value().unwrap().heading))).collect();
        assert_eq!(token.seq(), store.journal().view().last_seq().unwrap(), "nothing was appended since");
        assert!(gathered.rows == scanned, "{} rows, and a scan has {}", gathered.rows.len(), scanned.len());
    }
    store.close().unwrap();
}
