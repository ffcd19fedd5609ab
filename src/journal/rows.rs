//! The door of the state layer: row frames, and the sources that rows are asserted by.

use crate::error::Result;
use crate::format::extension::Extensions;
use crate::format::frame::flag;
use crate::format::index::EntityHash;
use crate::format::row::{RowMark, RowOperation};
use crate::format::source::SourceInfo;
use crate::format::system::System;
use crate::id::{KindId, Position};
use crate::journal::Journal;
use crate::journal::core::{Core, Item};
use crate::journal::record::{Receipt, Record};
use crate::log::writer::Draft;

/// A row frame that is to be appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowFrame<'a> {
    pub(crate) operation: RowOperation,
    pub(crate) kind: KindId,
    pub(crate) hash: EntityHash,
    pub(crate) key: &'a [u8],
    pub(crate) metadata: &'a [u8],
    /// The whole row; empty of an entity that was deleted.
    pub(crate) payload: &'a [u8],
    /// Whose operation was the last.
    pub(crate) source: u8,
    pub(crate) mark: RowMark,
}

impl<'a> RowFrame<'a> {
    fn draft(&self) -> Draft<'a> {
        let extensions: Box<Extensions> = Box::new(self.mark.extensions());
        let operation = self.operation as u8;
        let mut draft =
            Draft::new(operation, self.kind.0, Some(extensions), self.key, self.metadata, self.payload);
        draft.source = self.source;
        draft.flags = if self.operation == RowOperation::Deleted { flag::TOMBSTONE } else { 0 };
        draft
    }
}

impl Core {
    /// Appends row frames in one batch. Answers where each was put, and where the log ends behind them.
    pub(crate) fn append_rows<'a>(
        &self,
        rows: impl Iterator<Item = RowFrame<'a>>,
    ) -> Result<(Vec<Receipt>, Position)> {
        let mut items = Vec::with_capacity(rows.size_hint().0);
        for row in rows {
            self.index.touch(row.hash)?;
            items.push(Item::of_row(row.draft(), row.hash));
        }
        let mut receipts = Vec::with_capacity(items.len());
        let (end, _) = self.append_items(&items, &[], None, &mut |receipt| receipts.push(receipt))?;
        self.want_sync_for_readers();
        Ok((receipts, end))
    }

    /// Appends a fact of one of the library's own kinds. Nobody waits for it.
    pub(crate) fn append_own(&self, kind: KindId, version: u16, key: &[u8], payload: &[u8]) -> Result<()> {
        let item = self.item(&Record::new(kind, key, payload).schema_version(version))?;
        self.append_checked(std::slice::from_ref(&item), &[], None, &mut |_| {})?;
        self.want_sync_for_readers();
        Ok(())
    }

    /// Says in the log who has a source's number.
    pub(crate) fn put_source(&self, source: SourceInfo) -> Result<()> {
        self.check_not_forked("claim a source")?;
        let payload = source.encode();
        let draft = Draft::system(System::Source, &payload);
        loop {
            let mut writer = self.writer.lock();
            self.check_writable()?;
            if self.make_room(&mut writer, draft.bytes())? {
                self.push_system(&mut writer, &draft)?;
                self.registry.write().learn_source(source);
                return Ok(());
            }
            drop(writer);
            self.prepare(draft.bytes())?;
        }
    }
}

impl Journal {
    /// The sources that have a number in this store, by number; see [`Store::source`](crate::Store::source).
    #[must_use]
    pub fn sources(&self) -> Vec<SourceInfo> {
        self.core().registry.read().sources().values().cloned().collect()
    }
}
