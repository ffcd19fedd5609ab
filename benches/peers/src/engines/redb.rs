//! redb: a copy-on-write B-tree in one file.
//!
//! Configuration: the defaults (1 GiB of cache, one-phase commits), one transaction an append or batch,
//! `Durability::None` where nothing is to be synced. By sequence: `u64 -> key and payload`. By entity:
//! `key and generation -> payload`, both big-endian so that they sort.

use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, Durability as Commit, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};

use crate::engine::{Durability, Engine, Keyed, Outcome, Setup};
use crate::engines::layout::{by_entity, value_with_key};
use crate::shrink::Shrinks;
use crate::workload::{Event, KEY_BYTES, Key};
use crate::works::Work;

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const HISTORIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("histories");

pub struct Redb {
    database: Database,
    commit: Commit,
    keyed: Keyed,
    next: AtomicU64,
    events: Option<ReadOnlyTable<u64, &'static [u8]>>,
    histories: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
}

impl Redb {
    fn write(&self, events: &[Event<'_>], first: u64, commit: Commit) -> Outcome {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(commit)?;
        match self.keyed {
            Keyed::BySequence => {
                let mut table = transaction.open_table(EVENTS)?;
                for (place, event) in (first..).zip(events) {
                    table.insert(place, &value_with_key(event)[..])?;
                }
            }
            Keyed::ByEntity => {
                let mut table = transaction.open_table(HISTORIES)?;
                for event in events {
                    table.insert(&by_entity(&event.key, event.generation)[..], event.payload)?;
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Engine for Redb {
    const CRATE: &'static str = "redb";

    fn offers(_work: Work) -> bool {
        true
    }

    fn open(setup: &Setup) -> Outcome<Self> {
        let database = Database::create(setup.dir.join("events.redb"))?;
        let next = match database.begin_read()?.open_table(EVENTS) {
            Ok(table) => table.last()?.map_or(0, |(place, _)| place.value() + 1),
            Err(redb::TableError::TableDoesNotExist(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        let commit = match setup.durability {
            Durability::Each => Commit::Immediate,
            Durability::None => Commit::None,
        };
        Ok(Self {
            database,
            commit,
            keyed: setup.keyed,
            next: AtomicU64::new(next),
            events: None,
            histories: None,
        })
    }

    fn append(&mut self, event: &Event<'_>) -> Outcome {
        self.append_shared(event)
    }

    fn append_shared(&self, event: &Event<'_>) -> Outcome {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        self.write(std::slice::from_ref(event), place, self.commit)
    }

    fn append_batch(&mut self, events: &[Event<'_>]) -> Outcome {
        let first = self.next.fetch_add(events.len() as u64, Ordering::Relaxed);
        self.write(events, first, self.commit)
    }

    fn sync(&mut self) -> Outcome {
        self.write(&[], 0, Commit::Immediate)
    }

    fn start_reading(&mut self) -> Outcome {
        let transaction = self.database.begin_read()?;
        match self.keyed {
            Keyed::BySequence => self.events = Some(transaction.open_table(EVENTS)?),
            Keyed::ByEntity => self.histories = Some(transaction.open_table(HISTORIES)?),
        }
        Ok(())
    }

    fn scan(&mut self, mut see: impl FnMut(&[u8])) -> Outcome {
        let table = self.events.as_ref().ok_or("not reading")?;
        for row in table.iter()? {
            see(&row?.1.value()[KEY_BYTES..]);
        }
        Ok(())
    }

    fn history(&mut self, _entity: u32, key: &Key, mut see: impl FnMut(&[u8])) -> Outcome {
        let table = self.histories.as_ref().ok_or("not reading")?;
        for row in table.range(&by_entity(key, 0)[..]..=&by_entity(key, u32::MAX)[..])? {
            see(row?.1.value());
        }
        Ok(())
    }

    fn get(&mut self, place: u64, mut see: impl FnMut(&[u8])) -> Outcome {
        let row = self.events.as_ref().ok_or("not reading")?.get(place)?.ok_or("no such event")?;
        see(&row.value()[KEY_BYTES..]);
        Ok(())
    }

    fn close(mut self) -> Outcome {
        self.sync()
    }
}

/// `compact` wants the database for itself: nobody can use it meanwhile.
impl Shrinks for Redb {
    const BESIDE_OTHERS: bool = false;

    fn shrink(&mut self, events: u64, newest: u64) -> Outcome {
        let transaction = self.database.begin_write()?;
        transaction.open_table(EVENTS)?.retain_in(..events - newest, |_, _| false)?;
        transaction.commit()?;
        self.database.compact()?;
        Ok(())
    }
}
