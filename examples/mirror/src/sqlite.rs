//! A SQLite file as the target of a mirror: one table of rows, and one with the token.

use std::collections::BTreeMap;
use std::path::Path;

use esker::{MirrorChanges, MirrorRows, MirrorTarget, MirrorToken};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::{Result, Vessel};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS vessel (
        key BLOB PRIMARY KEY, version INTEGER NOT NULL, name TEXT NOT NULL, knots REAL NOT NULL, cargo TEXT
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS mirror (kind TEXT PRIMARY KEY, token TEXT NOT NULL) WITHOUT ROWID;
";
const PUT: &str =
    "INSERT OR REPLACE INTO vessel (key, version, name, knots, cargo) VALUES (?1, ?2, ?3, ?4, ?5)";
const DELETE: &str = "DELETE FROM vessel WHERE key = ?1";
const SIGN: &str = "INSERT OR REPLACE INTO mirror (kind, token) VALUES ('vessel', ?1)";

pub struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    pub fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A transaction that a power cut takes back is handed over again: the token goes with it.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(TABLES)?;
        Ok(Self { connection })
    }

    /// The rows by key: version and value.
    pub fn rows(&self) -> Result<BTreeMap<Vec<u8>, (u64, Vessel)>> {
        let mut statement = self.connection.prepare("SELECT key, version, name, knots, cargo FROM vessel")?;
        let rows = statement.query_map([], |row| {
            let vessel = Vessel { name: row.get(2)?, knots: row.get(3)?, cargo: row.get(4)? };
            Ok((row.get(0)?, (row.get::<_, i64>(1)?.cast_unsigned(), vessel)))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

fn put(transaction: &Transaction<'_>, key: &[u8], version: u64, vessel: &Vessel) -> Result<()> {
    let Vessel { name, knots, cargo } = vessel;
    // SQLite's integers have a sign.
    let version = version.cast_signed();
    transaction.prepare_cached(PUT)?.execute(params![key, version, name, knots, cargo])?;
    Ok(())
}

/// Stores the token with the rows that belong to it.
fn commit(transaction: Transaction<'_>, token: MirrorToken) -> Result<()> {
    transaction.execute(SIGN, [token.to_string()])?;
    Ok(transaction.commit()?)
}

impl MirrorTarget<Vessel> for Sqlite {
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn token(&mut self) -> Result<Option<MirrorToken>> {
        let select = "SELECT token FROM mirror WHERE kind = 'vessel'";
        let token: Option<String> = self.connection.query_row(select, [], |row| row.get(0)).optional()?;
        Ok(token.map(|token| token.parse()).transpose()?)
    }

    fn replace_all(&mut self, rows: &mut MirrorRows<Vessel>) -> Result<()> {
        // What is not committed is rolled back when it is dropped, whatever ends this function.
        let transaction = self.connection.transaction()?;
        transaction.execute("DELETE FROM vessel", [])?;
        while let Some(row) = rows.next_row()? {
            put(&transaction, row.key(), row.version(), &row.value()?)?;
        }
        commit(transaction, rows.token()?)
    }

    fn apply(&mut self, changes: &mut MirrorChanges<Vessel>) -> Result<()> {
        let transaction = self.connection.transaction()?;
        while let Some(change) = changes.next_change()? {
            match change.value()? {
                Some(vessel) => put(&transaction, change.key(), change.version(), &vessel)?,
                None => _ = transaction.prepare_cached(DELETE)?.execute([change.key()])?,
            }
        }
        commit(transaction, changes.token()?)
    }
}
