//! SQLite, through rusqlite with the bundled library.
//!
//! Configuration: write-ahead log, `synchronous = FULL` for durable appends and `OFF` where nothing is to
//! be synced, prepared statements, 1 GiB mapped for reading, one connection behind a mutex (SQLite has
//! one writer). By sequence: a rowid table. By entity: a `WITHOUT ROWID` table keyed by key and generation.

use parking_lot::Mutex;
use rusqlite::{Connection, params};

use crate::engine::{Durability, Engine, Keyed, Outcome, Setup};
use crate::shrink::Shrinks;
use crate::workload::{Event, Key};
use crate::works::Work;

const INSERT_EVENT: &str = "INSERT INTO events (key, payload) VALUES (?1, ?2)";
const INSERT_HISTORY: &str = "INSERT INTO histories (key, generation, payload) VALUES (?1, ?2, ?3)";

pub struct Sqlite {
    connection: Mutex<Connection>,
    keyed: Keyed,
}

impl Sqlite {
    fn insert(connection: &Connection, keyed: Keyed, event: &Event<'_>) -> Outcome {
        match keyed {
            Keyed::BySequence => {
                connection.prepare_cached(INSERT_EVENT)?.execute(params![event.key, event.payload])?;
            }
            Keyed::ByEntity => {
                let row = params![event.key, event.generation, event.payload];
                connection.prepare_cached(INSERT_HISTORY)?.execute(row)?;
            }
        }
        Ok(())
    }
}

impl Engine for Sqlite {
    const CRATE: &'static str = "rusqlite";

    fn offers(_work: Work) -> bool {
        true
    }

    fn open(setup: &Setup) -> Outcome<Self> {
        let connection = Connection::open(setup.dir.join("events.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let synchronous = match setup.durability {
            Durability::Each => "FULL",
            Durability::None => "OFF",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "mmap_size", 1 << 30)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, key BLOB NOT NULL, payload BLOB NOT NULL);
             CREATE TABLE IF NOT EXISTS histories (key BLOB, generation INTEGER, payload BLOB NOT NULL,
                 PRIMARY KEY (key, generation)) WITHOUT ROWID;",
        )?;
        Ok(Self { connection: Mutex::new(connection), keyed: setup.keyed })
    }

    fn append(&mut self, event: &Event<'_>) -> Outcome {
        Self::insert(self.connection.get_mut(), self.keyed, event)
    }

    fn append_shared(&self, event: &Event<'_>) -> Outcome {
        Self::insert(&self.connection.lock(), self.keyed, event)
    }

    fn append_batch(&mut self, events: &[Event<'_>]) -> Outcome {
        let keyed = self.keyed;
        let transaction = self.connection.get_mut().transaction()?;
        for event in events {
            Self::insert(&transaction, keyed, event)?;
        }
        Ok(transaction.commit()?)
    }

    /// SQLite has no call that syncs its log: a checkpoint with syncs on moves it into the database.
    fn sync(&mut self) -> Outcome {
        let connection = self.connection.get_mut();
        let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        Ok(connection.pragma_update(None, "synchronous", synchronous)?)
    }

    fn scan(&mut self, mut see: impl FnMut(&[u8])) -> Outcome {
        let mut statement =
            self.connection.get_mut().prepare_cached("SELECT payload FROM events ORDER BY seq")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            see(row.get_ref(0)?.as_blob()?);
        }
        Ok(())
    }

    fn history(&mut self, _entity: u32, key: &Key, mut see: impl FnMut(&[u8])) -> Outcome {
        let connection = self.connection.get_mut();
        let mut statement =
            connection.prepare_cached("SELECT payload FROM histories WHERE key = ?1 ORDER BY generation")?;
        let mut rows = statement.query([key])?;
        while let Some(row) = rows.next()? {
            see(row.get_ref(0)?.as_blob()?);
        }
        Ok(())
    }

    fn get(&mut self, place: u64, mut see: impl FnMut(&[u8])) -> Outcome {
        let mut statement =
            self.connection.get_mut().prepare_cached("SELECT payload FROM events WHERE seq = ?1")?;
        let mut rows = statement.query([place as i64 + 1])?;
        let row = rows.next()?.ok_or("no such event")?;
        see(row.get_ref(0)?.as_blob()?);
        Ok(())
    }

    fn close(self) -> Outcome {
        self.connection.into_inner().close().map_err(|(_, error)| error.into())
    }
}

/// One connection: whoever appends or reads waits for the statement that goes on, as they would for the
/// lock that `VACUUM` holds.
impl Shrinks for Sqlite {
    const BESIDE_OTHERS: bool = true;

    fn shrink(&mut self, events: u64, newest: u64) -> Outcome {
        self.shrink_beside(events, newest)
    }

    fn shrink_beside(&self, events: u64, newest: u64) -> Outcome {
        let last = (events - newest) as i64;
        self.connection.lock().execute("DELETE FROM events WHERE seq <= ?1", [last])?;
        self.connection.lock().execute_batch("VACUUM")?;
        self.connection.lock().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    fn get_shared(&self, place: u64, mut see: impl FnMut(&[u8])) -> Outcome {
        let connection = self.connection.lock();
        let mut statement = connection.prepare_cached("SELECT payload FROM events WHERE seq = ?1")?;
        let mut rows = statement.query([place as i64 + 1])?;
        see(rows.next()?.ok_or("no such event")?.get_ref(0)?.as_blob()?);
        Ok(())
    }
}
