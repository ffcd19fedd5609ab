//! fjall: an LSM tree with a journal.
//!
//! Configuration: one keyspace with the defaults, 1 GiB of block cache, no compression (payloads do not
//! compress), `persist(SyncData)` for durability. By sequence: big-endian place -> key and payload. By
//! entity: key and generation -> payload.

use std::sync::atomic::{AtomicU64, Ordering};

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::engine::{Durability, Engine, Keyed, Outcome, Setup};
use crate::engines::layout::{by_entity, value_with_key};
use crate::workload::{Event, KEY_BYTES, Key};
use crate::works::Work;

pub struct Fjall {
    database: Database,
    events: Keyspace,
    keyed: Keyed,
    durable: bool,
    next: AtomicU64,
}

impl Engine for Fjall {
    const CRATE: &'static str = "fjall";

    fn offers(_work: Work) -> bool {
        true
    }

    fn open(setup: &Setup) -> Outcome<Self> {
        let database = Database::builder(&setup.dir).cache_size(1 << 30).open()?;
        let events = database.keyspace("events", || {
            KeyspaceCreateOptions::default()
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        })?;
        let next = match (setup.keyed, events.last_key_value()) {
            (Keyed::BySequence, Some(row)) => u64::from_be_bytes(row.key()?[..].try_into()?) + 1,
            _ => 0,
        };
        let durable = setup.durability == Durability::Each;
        Ok(Self { database, events, keyed: setup.keyed, durable, next: AtomicU64::new(next) })
    }

    fn append(&mut self, event: &Event<'_>) -> Outcome {
        self.append_shared(event)
    }

    fn append_shared(&self, event: &Event<'_>) -> Outcome {
        match self.keyed {
            Keyed::BySequence => {
                let place = self.next.fetch_add(1, Ordering::Relaxed);
                self.events.insert(place.to_be_bytes(), value_with_key(event))?;
            }
            Keyed::ByEntity => self.events.insert(by_entity(&event.key, event.generation), event.payload)?,
        }
        if self.durable {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn append_batch(&mut self, events: &[Event<'_>]) -> Outcome {
        let mut batch = self.database.batch().durability(self.durable.then_some(PersistMode::SyncData));
        for event in events {
            match self.keyed {
                Keyed::BySequence => {
                    let place = self.next.fetch_add(1, Ordering::Relaxed);
                    batch.insert(&self.events, place.to_be_bytes(), value_with_key(event));
                }
                Keyed::ByEntity => {
                    batch.insert(&self.events, by_entity(&event.key, event.generation), event.payload)
                }
            }
        }
        Ok(batch.commit()?)
    }

    fn sync(&mut self) -> Outcome {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn scan(&mut self, mut see: impl FnMut(&[u8])) -> Outcome {
        for row in self.events.iter() {
            see(&row.value()?[KEY_BYTES..]);
        }
        Ok(())
    }

    fn history(&mut self, _entity: u32, key: &Key, mut see: impl FnMut(&[u8])) -> Outcome {
        for row in self.events.prefix(key) {
            see(&row.value()?);
        }
        Ok(())
    }

    fn get(&mut self, place: u64, mut see: impl FnMut(&[u8])) -> Outcome {
        let value = self.events.get(place.to_be_bytes())?.ok_or("no such event")?;
        see(&value[KEY_BYTES..]);
        Ok(())
    }

    fn close(self) -> Outcome {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}
