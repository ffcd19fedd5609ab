//! What is read in pieces is what recovery sees, whatever byte is changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::disk::memory::MemoryDirectory;
use crate::disk::{Access, Directory, read_whole};
use crate::error::Result;
use crate::format::frame::Frame;
use crate::id::Position;
use crate::journal::Journal;
use crate::journal::identity::identify;
use crate::journal::opening;
use crate::journal::record::Record;
use crate::journal::verify::straight::recover_in_pieces;
use crate::log::chain::find_chain;
use crate::log::recovery::{Purpose, Visitor, recover};
use crate::log::report::Damage;
use crate::log::segment::Segment;
use crate::options::Options;

type Files = BTreeMap<String, Vec<u8>>;

/// All that a visitor is told, in its order.
#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    segment: u32,
}

impl Visitor for Seen {
    fn enter(&mut self, segment: &Arc<Segment>, from: u64, last_seq: u64) -> Result<()> {
        // Recovery goes on with a segment that was begun.
        if std::mem::replace(&mut self.segment, segment.number()) != segment.number() {
            self.lines.push(format!("segment {} from {from}, last {last_seq}", segment.number()));
        }
        Ok(())
    }

    fn frame(&mut self, position: Position, frame: &Frame<'_>) -> Result<()> {
        self.lines.push(format!("{position}: {:?}", frame.to_bytes()));
        Ok(())
    }

    fn lost(&mut self, damage: &Damage) {
        self.lines.push(format!("{damage:?}"));
    }
}

fn files_of(directory: &MemoryDirectory) -> Files {
    let read = |name: &str| read_whole(&*directory.open(name, Access::Read).unwrap(), 1 << 20).unwrap();
    directory.list().unwrap().into_iter().map(|entry| (entry.name.clone(), read(&entry.name))).collect()
}

/// A store of some segments that was opened twice; as it was before it was closed, and after.
fn stores() -> [Files; 2] {
    let directory = Arc::new(MemoryDirectory::new());
    let options = || Options::new().segment_bytes(4096).background(false);
    let open = || Journal::of(opening::open(Arc::clone(&directory) as _, options()).unwrap());
    let append = |journal: &Journal, from: u8| {
        let kind = journal.kind("note").unwrap();
        for n in from..from + 30 {
            let mut batch = journal.batch();
            batch.push(Record::new(kind, &[1 + n % 7], &[n; 30]));
            batch.push(Record::new(kind, b"shared", &[n; 3]));
            batch.commit().unwrap();
        }
    };
    let first = open();
    append(&first, 0);
    first.close().unwrap();
    let second = open();
    append(&second, 100);
    let in_use = files_of(&directory);
    second.close().unwrap();
    [in_use, files_of(&directory)]
}

/// What is seen of a store, and where it is said to end.
fn seen(files: &Files, in_pieces: bool) -> Option<(Vec<String>, String)> {
    let directory = MemoryDirectory::with(files.clone(), None);
    let identity = identify(&directory, &directory.list().unwrap()).ok()?;
    let chain = find_chain(&directory, identity.store, Purpose::Salvage, &identity.compacted, |_| false);
    let (chain, mut seen) = (chain.ok()?, Seen::default());
    let end = if in_pieces {
        recover_in_pieces(&directory, identity.store, &chain, None, &mut seen)
    } else {
        recover(&directory, identity.store, &chain, None, Purpose::Salvage, &mut seen)
    };
    let end = match end {
        Ok(end) => {
            let report = (end.report.clean, end.report.cut, end.report.valid_after_hole);
            format!("{} {} {:?} {} {report:?}", end.position, end.last_seq, end.life, end.sealed)
        }
        Err(error) => error.to_string(),
    };
    Some((seen.lines, end))
}

#[test]
fn a_whole_store_is_read_in_pieces_to_its_end() {
    for files in stores() {
        let (lines, end) = seen(&files, true).unwrap();
        assert!(lines.len() > 120, "{}", lines.len());
        assert_eq!(Some((lines, end)), seen(&files, false));
    }
}

#[test]
fn what_is_read_in_pieces_is_what_recovery_sees() {
    const EVERY: usize = if cfg!(miri) { 4001 } else { 29 };
    for files in stores() {
        let segments = files.iter().filter(|(name, _)| name.ends_with(".seg"));
        for (name, bytes) in segments {
            for at in (0..bytes.len()).step_by(EVERY) {
                let mut changed = files.clone();
                changed.get_mut(name).unwrap()[at] ^= 1;
                assert_eq!(seen(&changed, true), seen(&changed, false), "{name}, offset {at}");
            }
            let mut without = files.clone();
            without.remove(name);
            assert_eq!(seen(&without, true), seen(&without, false), "without {name}");
        }
    }
}
