//! Live state without its types: for who shows a store and knows nothing of the application.
//!
//! A row is the entry that it stands in, with its bytes; [`dump`](crate::dump) decodes it by what the store says of its
//! kind. What an earlier moment cannot tell is `Compacted` here as it is through the typed door.

use crate::error::Result;
use crate::id::{KindId, Seq};
use crate::journal::entry::{Entry, OwnedEntry};
use crate::journal::registry::EVENTS_PREFIX;
use crate::state::event::{Told, row_before};
use crate::state::past::{Asked, check_entity, check_rows};
use crate::state::reading::Walk;
use crate::state::row::Said;
use crate::state::schema::readable;
use crate::store::view::StoreView;

impl StoreView {
    /// The row of an entity as the entry that it stands in, if it is there; the kind by its name, whatever type its rows are
    /// of.
    ///
    /// ```
    /// use esker::dump::{Dump, FrameInfo};
    /// use esker::{Kind, Reader, Store, StoreView};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Vessel { knots: f32 }
    /// # const VESSEL: Kind<Vessel> = Kind::new("vessel");
    /// # fn main() -> esker::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("harbour.esker");
    /// let store = Store::open(&path)?;
    /// store.source("radar")?.assert(VESSEL, "ada", &Vessel { knots: 11.5 })?;
    /// store.flush()?;
    ///
    /// let reader = Reader::open(&path)?;                   // another program, without that type
    /// let view = StoreView::of(&reader)?;
    /// let row = FrameInfo::of_entry(&view.row_entry("vessel", "ada")?.unwrap());
    /// assert_eq!(Dump::new(reader.kinds()).payload(&row).text(), r#"{"knots":11.5}"#);
    /// # store.close() }
    /// ```
    ///
    /// # Errors
    ///
    /// `KindMismatch` for a kind of facts or of operations; else as [`get`](Self::get).
    pub fn row_entry(&self, kind: &str, key: impl AsRef<[u8]>) -> Result<Option<Entry<'_>>> {
        let (Some(id), key) = (self.rows_named(kind)?, key.as_ref()) else { return Ok(None) };
        if let Some(past) = self.past() {
            check_entity(past, self.entries(), (id, kind), key, Asked::Row)?;
        }
        let Some(entry) = self.entries().latest(id, key)? else { return Ok(None) };
        Ok(Said::of(&entry)?.is_alive().then_some(entry))
    }

    /// The rows of a kind in this view as the entries that they stand in; the kind by its name. See [`rows`](Self::rows).
    ///
    /// # Errors
    ///
    /// As [`row_entry`](Self::row_entry).
    pub fn row_entries(&self, kind: &str) -> Result<RowEntries> {
        let id = self.rows_named(kind)?;
        if let (Some(past), Some(id)) = (self.past(), id) {
            check_rows(past, self.entries(), (id, kind))?;
        }
        Ok(RowEntries { walk: id.map(|id| Walk::new(self.entries().clone(), id)) })
    }

    /// The row before an update, as it was with everything that had been said until then, as the entry that it stands in: what
    /// [`Event::previous`](crate::Event::previous) decodes. The operation is named by its Seq, and the kind of its rows by name.
    /// `None`: it is no update, or compaction has dropped that row.
    ///
    /// # Errors
    ///
    /// `Compacted` if the operation was dropped; `KindMismatch` as [`row_entry`](Self::row_entry); `Corrupt` or `Io` if
    /// something cannot be read.
    pub fn row_before(&self, kind: &str, operation: Seq) -> Result<Option<OwnedEntry>> {
        let events = self.named(&format!("{EVENTS_PREFIX}{kind}"));
        let (Some(rows), Some(events)) = (self.rows_named(kind)?, events) else { return Ok(None) };
        let entry = self.entries().get(operation)?.filter(|entry| entry.kind() == events.id);
        let Some(entry) = entry else { return Ok(None) };
        if !Told::of(&entry)?.is_update() {
            return Ok(None);
        }
        Ok(row_before(&self.log(), rows, &entry)?.map(|(row, _)| row))
    }

    fn rows_named(&self, kind: &str) -> Result<Option<KindId>> {
        readable(self.named(kind).as_deref())
    }
}

/// The rows of a kind that are alive at one moment, as entries, in the order in which they were written last; see
/// [`StoreView::row_entries`]. Only the one that came up is held.
#[derive(Debug)]
pub struct RowEntries {
    /// `None`: the store does not have the kind.
    walk: Option<Walk>,
}

impl RowEntries {
    /// The next row; `None`: there is no more.
    ///
    /// # Errors
    ///
    /// `Corrupt` or `Io` for a row that cannot be read. Behind one that [names what it took](crate::Error::seqs) the next call
    /// goes on.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>> {
        let Some(walk) = self.walk.as_mut() else { return Ok(None) };
        Ok(if walk.advance()? { walk.entry() } else { None })
    }
}
