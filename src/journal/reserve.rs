//! A disk that is full: cursors still move, so that it can be drained by reading.
//!
//! A checkpoint is a frame of the log. While the log cannot grow, it is written into the manifest instead,
//! which is replaced as a whole: for that a file is kept that can be given up. What the log says later of a
//! cursor has a greater revision, and wins.

use std::sync::atomic::Ordering;

use crate::disk::Access;
use crate::error::{Error, ErrorKind, Result};
use crate::format::cursor::CursorState;
use crate::format::manifest::{CursorTable, Manifest};
use crate::format::segment::FIRST_FRAME;
use crate::id::Position;
use crate::journal::core::{Core, Writer};
use crate::journal::cursors::Move;
use crate::journal::opening::{read_manifest, write_manifest};

/// Allocated, and nothing else.
pub(crate) const FILE_NAME: &str = "RESERVE";
/// Room for a manifest with some hundred cursors. A store that has no cursors has no such file.
const BYTES: u64 = 64 << 10;
/// Where there is not so much room, half of it is tried, down to this.
const BYTES_LEAST: u64 = 8 << 10;

impl Core {
    /// Allocates the file, if there is none and there may be need of it. If that cannot be, it is not there.
    pub(crate) fn keep_a_reserve(&self) {
        if self.has_reserve.load(Ordering::Relaxed) || self.registry.read().cursors.len() == 0 {
            return;
        }
        self.make_a_reserve();
    }

    fn make_a_reserve(&self) {
        let made = match self.directory.create(FILE_NAME) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                // It may be one of a disk that was full.
                let grown = self.directory.open(FILE_NAME, Access::Write).map(|file| file.allocate(BYTES));
                drop(grown);
                true
            }
            Err(_) => false,
            Ok(file) => {
                let is_made = std::iter::successors(Some(BYTES), |bytes| Some(bytes / 2))
                    .take_while(|bytes| *bytes >= BYTES_LEAST)
                    .any(|bytes| file.allocate(bytes).is_ok());
                if !is_made {
                    let _ = self.directory.remove(FILE_NAME);
                }
                is_made
            }
        };
        self.has_reserve.store(made, Ordering::Relaxed);
    }

    /// Replaces the manifest, also if the disk is full.
    pub(crate) fn write_with_reserve(&self, manifest: &Manifest) -> Result<()> {
        match write_manifest(&*self.directory, manifest) {
            Err(error) if error.kind() == ErrorKind::NoSpace && self.directory.remove(FILE_NAME).is_ok() => {
                let written = write_manifest(&*self.directory, manifest);
                // What is free now would go for indexes, and the next one could not be replaced.
                self.make_a_reserve();
                written
            }
            other => other,
        }
    }

    /// Moves cursors where the log cannot grow, which `full` says.
    pub(crate) fn move_cursors_in_manifest(&self, moves: &[Move], full: Error) -> Result<()> {
        // No cursor is ever durable before what it has seen.
        self.wait_durable(self.commit.visible())?;
        self.put_in_manifest(moves, full)
    }

    fn put_in_manifest(&self, moves: &[Move], full: Error) -> Result<()> {
        let writer = self.writer.lock();
        self.check_writable()?;
        let states = self.states_behind(moves, writer.last_seq, self.options.clock.now())?;
        if states.is_empty() {
            return Ok(());
        }
        let mut table = self.table.lock();
        let durable = self.commit.durable();
        // Another thread may have gone on in a segment meanwhile, whose preamble says nothing of this.
        let at = durable.max(Position::new(writer.preamble_at, FIRST_FRAME));
        let mut cursors = if table.is_news(writer.preamble_at) { table.cursors.clone() } else { Vec::new() };
        cursors.retain(|cursor| states.iter().all(|state| state.name != cursor.name));
        cursors.extend(states.iter().cloned());
        let next = CursorTable { at, cursors };
        let compacted = (*self.index.catalog().compacted).clone();
        let manifest = Manifest { compacted, table: next.clone(), ..self.manifest.clone() };
        if self.write_with_reserve(&manifest).is_err() {
            let is_in_place =
                read_manifest(&*self.directory).ok().flatten().is_some_and(|now| now == manifest);
            if is_in_place {
                // Nobody knows whether for good: as behind any sync that failed.
                self.poison("replace the manifest: it could not be made durable");
            }
            return Err(if is_in_place { self.stopped_now("move a cursor") } else { full });
        }
        *table = next;
        let mut registry = self.registry.write();
        states.into_iter().for_each(|state| registry.cursors.learn_at(state, durable));
        Ok(())
    }

    /// Those that were retired while the log could not grow: no frame has said so yet.
    pub(crate) fn retired_in_manifest(&self, writer: &Writer) -> Vec<CursorState> {
        let table = self.table.lock();
        let is_news = table.is_news(writer.preamble_at);
        table.cursors.iter().filter(|cursor| is_news && cursor.retired).cloned().collect()
    }

    /// Says who holds back what could be freed, if somebody does.
    pub(crate) fn name_who_pins(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::NoSpace {
            return error;
        }
        let registry = self.registry.read();
        let farthest = registry.cursors.farthest_behind(1).first().map(|c| (c.name.clone(), c.seq));
        drop(registry);
        let Some((name, seq)) = farthest else { return error };
        match self.view().bytes_from(seq + 1) {
            Ok(bytes) if bytes > 0 => error.noting(format!(
                "the cursor {name:?} holds back {bytes} bytes of log: read on under it, or retire it, and compact"
            )),
            _ => error,
        }
    }
}

#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::*;
    use crate::disk::simulator::Simulator;
    use crate::journal::Journal;
    use crate::journal::cursors::How;
    use crate::journal::record::Record;
    use crate::journal::region::Region;
    use crate::options::{Durability, Options};

    #[test]
    fn what_moves_while_others_go_on_in_a_segment_that_is_not_durable_yet_is_not_restated_by_that() {
        let disk = Simulator::new();
        let options = Options::new().durability(Durability::Os).segment_bytes(4096).background(false);
        let open = |disk: &Simulator| -> Journal { options.open_in(disk).unwrap() };
        let journal = open(&disk);
        let kind = journal.kind("metric").unwrap();
        let append = || journal.append(Record::new(kind, b"k", &[7; 100])).unwrap();
        append();
        drop(journal.watch("reader", Region::all()).unwrap());
        let core = journal.core();
        core.wait_durable(core.commit.visible()).unwrap();
        let durable = core.commit.durable();
        while core.writer.lock().preamble_at == durable.segment() {
            append();
        }
        assert_eq!(core.commit.durable(), durable, "the segment that comes to be written is not synced");
        let state = core.registry.read().cursors.get("reader").cloned().unwrap();
        let incarnation = core.registry.read().cursors.incarnation("reader").unwrap();
        let step = Move { state: CursorState { seq: 1, ..state }, how: How::Step(incarnation) };
        core.put_in_manifest(&[step], Error::new(ErrorKind::NoSpace, "grow")).unwrap();
        let places = |journal: &Journal| -> Vec<u64> {
            journal.cursors().unwrap().iter().map(|cursor| cursor.seq.map_or(0, |seq| seq.get())).collect()
        };
        assert_eq!(places(&journal), [1]);
        assert_eq!(places(&open(&disk.kill(disk.events()))), [1], "behind a kill");
        assert_eq!(places(&open(&disk.crash(disk.events(), &mut |_| 0))), [1], "behind a power cut");
    }
}
