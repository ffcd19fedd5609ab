//! SQLite, with a table of rows and triggers that log what changed.
//!
//! Configuration: write-ahead log, `synchronous = FULL`, each group a transaction, prepared statements, 1 GiB mapped
//! for reading. The writer, whoever reads rows, and the consumer have a connection each. The consumer is
//! woken by the process, because SQLite tells nobody of a commit, and reads on in the log by number.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, params};

use crate::engine::Outcome;
use crate::state::{Bell, Consumer, Payload, Transacts};
use crate::workload::Key;

const SCHEMA: &str = "
    CREATE TABLE rows (key BLOB PRIMARY KEY, version INTEGER NOT NULL, payload BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE changes (place INTEGER PRIMARY KEY, key BLOB NOT NULL, version INTEGER NOT NULL,
        payload BLOB NOT NULL);
    CREATE TRIGGER created AFTER INSERT ON rows BEGIN
        INSERT INTO changes (key, version, payload) VALUES (new.key, new.version, new.payload);
    END;
    CREATE TRIGGER updated AFTER UPDATE ON rows BEGIN
        INSERT INTO changes (key, version, payload) VALUES (new.key, new.version, new.payload);
    END;";
const UPSERT: &str = "INSERT INTO rows (key, version, payload) VALUES (?1, 1, ?2)
    ON CONFLICT (key) DO UPDATE SET version = version + 1, payload = excluded.payload";
const GET: &str = "SELECT payload FROM rows WHERE key = ?1";
const SCAN: &str = "SELECT key, payload FROM rows";
const CONSUME: &str = "SELECT place, key, payload FROM changes WHERE place > ?1 ORDER BY place";

pub struct SqliteState {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    bell: Arc<Bell>,
}

pub struct SqliteConsumer {
    connection: Connection,
    bell: Arc<Bell>,
    last: i64,
}

fn connect(path: &PathBuf) -> Outcome<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(60))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "mmap_size", 1 << 30)?;
    Ok(connection)
}

impl Transacts for SqliteState {
    const CRATE: &'static str = "rusqlite";

    type Consumer = SqliteConsumer;

    fn open(dir: &Path) -> Outcome<(Self, SqliteConsumer)> {
        let path = dir.join("state.sqlite");
        let writer = connect(&path)?;
        writer.execute_batch(SCHEMA)?;
        let (reader, connection) = (connect(&path)?, connect(&path)?);
        let bell = Arc::<Bell>::default();
        let consumer = SqliteConsumer { connection, bell: Arc::clone(&bell), last: 0 };
        Ok((Self { writer: Mutex::new(writer), reader: Mutex::new(reader), bell }, consumer))
    }

    fn transact(&self, upserts: impl Iterator<Item = (Key, Payload)>) -> Outcome {
        let mut writer = self.writer.lock();
        let transaction = writer.transaction()?;
        {
            let mut upsert = transaction.prepare_cached(UPSERT)?;
            for (key, payload) in upserts {
                upsert.execute(params![key, payload])?;
            }
        }
        transaction.commit()?;
        self.bell.ring();
        Ok(())
    }

    fn get(&self, key: &Key, see: impl FnOnce(&[u8])) -> Outcome {
        let reader = self.reader.lock();
        let mut get = reader.prepare_cached(GET)?;
        let mut rows = get.query([key])?;
        see(rows.next()?.ok_or("no such row")?.get_ref(0)?.as_blob()?);
        Ok(())
    }

    fn scan(&self, mut see: impl FnMut(&[u8], &[u8])) -> Outcome {
        let reader = self.reader.lock();
        let mut scan = reader.prepare_cached(SCAN)?;
        let mut rows = scan.query([])?;
        while let Some(row) = rows.next()? {
            see(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        }
        Ok(())
    }

    fn close(self) -> Outcome {
        self.reader.into_inner().close().map_err(|(_, error)| error)?;
        self.writer.into_inner().close().map_err(|(_, error)| error.into())
    }
}

impl Consumer for SqliteConsumer {
    fn next(&mut self, patience: Duration, mut see: impl FnMut(&[u8], &[u8])) -> Outcome<bool> {
        let count = self.bell.count();
        let before = self.last;
        {
            let mut consume = self.connection.prepare_cached(CONSUME)?;
            let mut changes = consume.query([before])?;
            while let Some(change) = changes.next()? {
                see(change.get_ref(1)?.as_blob()?, change.get_ref(2)?.as_blob()?);
                self.last = change.get(0)?;
            }
        }
        if self.last == before {
            self.bell.wait(count, patience);
        }
        Ok(self.last > before)
    }
}
