//! raft-engine: a log shared by many Raft groups, with an index of every entry in memory.
//!
//! Configuration: the defaults (128 MiB files, checksums), without LZ4, for payloads do not compress.
//! Point reads and histories are of events written one by one: a read loads the batch it is part of.
//! By sequence: one Raft group. By entity: one group an entity, whose entry indexes are generations.
//! Entries must be Protobuf messages with consecutive indexes; `UninterpretedOption` of Protobuf itself
//! is one that has an integer and bytes, which spares a Protobuf compiler.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use protobuf::descriptor::UninterpretedOption as Entry;
use raft_engine::{Config, Engine as Raft, LogBatch, MessageExt, ReadableSize};

use crate::engine::{Durability, Engine, Keyed, Outcome, Setup};
use crate::workload::{BATCH_EVENTS, Event, KEY_BYTES, Key};
use crate::works::Work;

/// The group of all events when they are kept by sequence. Entities have groups from 2 on.
const ALL: u64 = 1;
const READ_ENTRIES: u64 = 1_000;

#[derive(Clone)]
struct Format;

impl MessageExt for Format {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.get_positive_int_value()
    }
}

pub struct RaftEngine {
    engine: Raft,
    batch: LogBatch,
    keyed: Keyed,
    sync: bool,
    next: AtomicU64,
    /// Entries of one group must arrive in the order of their indexes.
    order: Mutex<()>,
}

impl RaftEngine {
    fn add(&self, batch: &mut LogBatch, event: &Event<'_>, index: u64) -> Outcome {
        let mut value = Vec::with_capacity(KEY_BYTES + event.payload.len());
        value.extend_from_slice(&event.key);
        value.extend_from_slice(event.payload);
        let (group, index) = match self.keyed {
            Keyed::BySequence => (ALL, index),
            Keyed::ByEntity => (u64::from(event.entity) + ALL + 1, u64::from(event.generation)),
        };
        let mut entry = Entry::new();
        entry.set_positive_int_value(index);
        entry.set_string_value(value);
        Ok(batch.add_entries::<Format>(group, &[entry])?)
    }

    fn read(&self, group: u64, mut see: impl FnMut(&[u8])) -> Outcome {
        let (Some(first), Some(last)) = (self.engine.first_index(group), self.engine.last_index(group))
        else {
            return Ok(());
        };
        let mut entries = Vec::with_capacity(READ_ENTRIES as usize);
        for from in (first..=last).step_by(READ_ENTRIES as usize) {
            let to = (from + READ_ENTRIES).min(last + 1);
            self.engine.fetch_entries_to::<Format>(group, from, to, None, &mut entries)?;
            entries.drain(..).for_each(|entry| see(&entry.get_string_value()[KEY_BYTES..]));
        }
        Ok(())
    }
}

impl Engine for RaftEngine {
    const CRATE: &'static str = "raft-engine";

    fn offers(_work: Work) -> bool {
        true
    }

    fn filled_by(work: Work) -> usize {
        if matches!(work, Work::PointRead | Work::EntityHistory) { 1 } else { BATCH_EVENTS }
    }

    fn open(setup: &Setup) -> Outcome<Self> {
        let dir = setup.dir.to_str().ok_or("the directory's name is not text")?.to_owned();
        let engine =
            Raft::open(Config { dir, batch_compression_threshold: ReadableSize(0), ..Config::default() })?;
        let next = AtomicU64::new(engine.last_index(ALL).unwrap_or(0) + 1);
        Ok(Self {
            engine,
            batch: LogBatch::default(),
            keyed: setup.keyed,
            sync: setup.durability == Durability::Each,
            next,
            order: Mutex::new(()),
        })
    }

    fn append(&mut self, event: &Event<'_>) -> Outcome {
        let index = *self.next.get_mut();
        *self.next.get_mut() += 1;
        let mut batch = std::mem::take(&mut self.batch);
        self.add(&mut batch, event, index)?;
        self.engine.write(&mut batch, self.sync)?;
        self.batch = batch;
        Ok(())
    }

    /// Threads append to groups of their own, as Raft groups do: entries of one group must be written in
    /// order, which would forbid the engine to group the writes of several threads.
    fn append_shared(&self, event: &Event<'_>) -> Outcome {
        use std::cell::RefCell;
        thread_local! {
            static MINE: RefCell<Option<(u64, u64, LogBatch)>> = const { RefCell::new(None) };
        }
        MINE.with_borrow_mut(|mine| {
            let (group, index, batch) = mine.get_or_insert_with(|| {
                let _order = self.order.lock();
                let group = u64::from(u32::MAX) + self.next.fetch_add(1, Ordering::Relaxed);
                (group, 0, LogBatch::default())
            });
            *index += 1;
            let mut entry = Entry::new();
            let mut value = Vec::with_capacity(KEY_BYTES + event.payload.len());
            value.extend_from_slice(&event.key);
            value.extend_from_slice(event.payload);
            entry.set_positive_int_value(*index);
            entry.set_string_value(value);
            batch.add_entries::<Format>(*group, &[entry])?;
            self.engine.write(batch, self.sync)?;
            Ok(())
        })
    }

    fn append_batch(&mut self, events: &[Event<'_>]) -> Outcome {
        let mut batch = std::mem::take(&mut self.batch);
        for event in events {
            let index = *self.next.get_mut();
            *self.next.get_mut() += 1;
            self.add(&mut batch, event, index)?;
        }
        self.engine.write(&mut batch, self.sync)?;
        self.batch = batch;
        Ok(())
    }

    fn sync(&mut self) -> Outcome {
        // An empty write is dropped before the sync, so this has to write something.
        self.batch.put(u64::MAX, b"synced".to_vec(), Vec::new())?;
        self.engine.write(&mut self.batch, true)?;
        Ok(())
    }

    fn scan(&mut self, see: impl FnMut(&[u8])) -> Outcome {
        self.read(ALL, see)
    }

    fn history(&mut self, entity: u32, _key: &Key, see: impl FnMut(&[u8])) -> Outcome {
        self.read(u64::from(entity) + ALL + 1, see)
    }

    fn get(&mut self, place: u64, mut see: impl FnMut(&[u8])) -> Outcome {
        let entry = self.engine.get_entry::<Format>(ALL, place + 1)?.ok_or("no such entry")?;
        see(&entry.get_string_value()[KEY_BYTES..]);
        Ok(())
    }

    fn close(mut self) -> Outcome {
        Engine::sync(&mut self)
    }
}
