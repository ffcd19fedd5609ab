//! redb, with a table of rows and a table of what changed.
//!
//! Configuration: as in `redb.rs`, each group a transaction with `Durability::Immediate`. A row is its version and
//! its payload; a change is its key, version and payload, by number. A consumer reads a snapshot for each time
//! that it is woken, and a read of one row is one of its own: it sees what is there now.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::engine::Outcome;
use crate::state::{Bell, Consumer, Payload, Transacts};
use crate::workload::{KEY_BYTES, Key};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const CHANGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("changes");

const VERSION_BYTES: usize = 8;

pub struct RedbState {
    database: Arc<Database>,
    bell: Arc<Bell>,
}

pub struct RedbConsumer {
    database: Arc<Database>,
    bell: Arc<Bell>,
    next: u64,
}

impl Transacts for RedbState {
    const CRATE: &'static str = "redb";

    type Consumer = RedbConsumer;

    fn open(dir: &Path) -> Outcome<(Self, RedbConsumer)> {
        let database = Arc::new(Database::create(dir.join("state.redb"))?);
        let transaction = database.begin_write()?;
        transaction.open_table(ROWS)?;
        transaction.open_table(CHANGES)?;
        transaction.commit()?;
        let bell = Arc::<Bell>::default();
        let consumer = RedbConsumer { database: Arc::clone(&database), bell: Arc::clone(&bell), next: 0 };
        Ok((Self { database, bell }, consumer))
    }

    fn transact(&self, upserts: impl Iterator<Item = (Key, Payload)>) -> Outcome {
        let transaction = self.database.begin_write()?;
        {
            let (mut rows, mut changes) = (transaction.open_table(ROWS)?, transaction.open_table(CHANGES)?);
            let mut place = changes.last()?.map_or(0, |(place, _)| place.value() + 1);
            let mut change = Vec::new();
            for (key, payload) in upserts {
                let version = rows.get(&key[..])?.map_or(0, |row| version_of(row.value())) + 1;
                change.clear();
                change.extend_from_slice(&key);
                change.extend_from_slice(&version.to_le_bytes());
                change.extend_from_slice(&payload);
                rows.insert(&key[..], &change[KEY_BYTES..])?;
                changes.insert(place, &change[..])?;
                place += 1;
            }
        }
        transaction.commit()?;
        self.bell.ring();
        Ok(())
    }

    fn get(&self, key: &Key, see: impl FnOnce(&[u8])) -> Outcome {
        let rows = self.database.begin_read()?.open_table(ROWS)?;
        let row = rows.get(&key[..])?.ok_or("no such row")?;
        see(&row.value()[VERSION_BYTES..]);
        Ok(())
    }

    fn scan(&self, mut see: impl FnMut(&[u8], &[u8])) -> Outcome {
        for row in self.database.begin_read()?.open_table(ROWS)?.iter()? {
            let (key, row) = row?;
            see(key.value(), &row.value()[VERSION_BYTES..]);
        }
        Ok(())
    }

    fn close(self) -> Outcome {
        Ok(())
    }
}

impl Consumer for RedbConsumer {
    fn next(&mut self, patience: Duration, mut see: impl FnMut(&[u8], &[u8])) -> Outcome<bool> {
        let count = self.bell.count();
        let before = self.next;
        for change in self.database.begin_read()?.open_table(CHANGES)?.range(before..)? {
            let (place, change) = change?;
            let (key, row) = change.value().split_at(KEY_BYTES);
            see(key, &row[VERSION_BYTES..]);
            self.next = place.value() + 1;
        }
        if self.next == before {
            self.bell.wait(count, patience);
        }
        Ok(self.next > before)
    }
}

fn version_of(row: &[u8]) -> u64 {
    u64::from_le_bytes(row[..VERSION_BYTES].try_into().expect("a row begins with its version"))
}
