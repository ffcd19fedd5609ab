//! LMDB, through heed: a memory-mapped B-tree.
//!
//! Configuration: a map of 64 GiB (address space, not disk), one write transaction an append or batch,
//! `NO_SYNC` where nothing is to be synced, `APPEND` puts by sequence, reads straight from the map in
//! one read transaction. By sequence: big-endian place -> key and payload. By entity: key and
//! generation -> payload. There are two rows: LMDB's default, which writes through the file, and `-map`
//! with `WRITE_MAP`, which stores into the map: much faster unsynced, but the manual warns of it, for a
//! stray pointer of the application may then spoil the database.

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags, RoTxn, WithoutTls};
use parking_lot::Mutex;

use crate::engine::{Durability, Engine, Keyed, Outcome, Setup};
use crate::engines::layout::{by_entity, value_with_key};
use crate::workload::{Event, KEY_BYTES, Key};
use crate::works::Work;

const MAP_BYTES: usize = 64 << 30;

pub struct Lmdb<const WRITE_MAP: bool> {
    env: Env<WithoutTls>,
    events: Database<'static, Bytes, Bytes>,
    keyed: Keyed,
    /// In a mutex, which nobody ever locks, because a transaction may be sent but not shared.
    reading: Mutex<Option<RoTxn<'static, WithoutTls>>>,
}

impl<const WRITE_MAP: bool> Lmdb<WRITE_MAP> {
    fn write(&self, events: &[Event<'_>]) -> Outcome {
        let mut transaction = self.env.write_txn()?;
        match self.keyed {
            Keyed::BySequence => {
                let next = match self.events.last(&transaction)? {
                    Some((place, _)) => u64::from_be_bytes(place.try_into()?) + 1,
                    None => 0,
                };
                for (place, event) in (next..).zip(events) {
                    let (key, value) = (place.to_be_bytes(), value_with_key(event));
                    self.events.put_with_flags(&mut transaction, PutFlags::APPEND, &key, &value)?;
                }
            }
            Keyed::ByEntity => {
                for event in events {
                    self.events.put(
                        &mut transaction,
                        &by_entity(&event.key, event.generation),
                        event.payload,
                    )?;
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

impl<const WRITE_MAP: bool> Engine for Lmdb<WRITE_MAP> {
    const CRATE: &'static str = "heed";

    fn offers(_work: Work) -> bool {
        true
    }

    fn open(setup: &Setup) -> Outcome<Self> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_BYTES).max_dbs(1);
        let mut flags = EnvFlags::empty();
        flags.set(EnvFlags::NO_SYNC, setup.durability == Durability::None);
        flags.set(EnvFlags::WRITE_MAP, WRITE_MAP);
        // SAFETY: without syncs a power cut may spoil the file, and with a writable map a stray pointer:
        // nobody cuts the power of a bench, and its few stores through pointers go elsewhere.
        unsafe { options.flags(flags) };
        // SAFETY: the directory belongs to this process alone, so nobody changes the mapped file.
        let env = unsafe { options.open(&setup.dir)? };
        let transaction = env.write_txn()?;
        let opened = env.create_databases_and_commit(transaction, |opener, transaction| {
            opener
                .create_database::<Bytes, Bytes>(transaction, Some("events"))
                .map(CommitOrAbort::<_, ()>::Commit)
        })?;
        let events = opened.unwrap_commit();
        Ok(Self { env, events, keyed: setup.keyed, reading: Mutex::new(None) })
    }

    fn append(&mut self, event: &Event<'_>) -> Outcome {
        self.append_shared(event)
    }

    fn append_shared(&self, event: &Event<'_>) -> Outcome {
        self.write(std::slice::from_ref(event))
    }

    fn append_batch(&mut self, events: &[Event<'_>]) -> Outcome {
        self.write(events)
    }

    fn sync(&mut self) -> Outcome {
        Ok(self.env.force_sync()?)
    }

    fn start_reading(&mut self) -> Outcome {
        *self.reading.get_mut() = Some(self.env.clone().static_read_txn()?);
        Ok(())
    }

    fn scan(&mut self, mut see: impl FnMut(&[u8])) -> Outcome {
        let transaction = self.reading.get_mut().as_ref().ok_or("not reading")?;
        for row in self.events.iter(transaction)? {
            see(&row?.1[KEY_BYTES..]);
        }
        Ok(())
    }

    fn history(&mut self, _entity: u32, key: &Key, mut see: impl FnMut(&[u8])) -> Outcome {
        let transaction = self.reading.get_mut().as_ref().ok_or("not reading")?;
        for row in self.events.prefix_iter(transaction, key)? {
            see(row?.1);
        }
        Ok(())
    }

    fn get(&mut self, place: u64, mut see: impl FnMut(&[u8])) -> Outcome {
        let transaction = self.reading.get_mut().as_ref().ok_or("not reading")?;
        let value = self.events.get(transaction, &place.to_be_bytes())?.ok_or("no such event")?;
        see(&value[KEY_BYTES..]);
        Ok(())
    }

    fn close(mut self) -> Outcome {
        *self.reading.get_mut() = None;
        self.env.force_sync()?;
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}
