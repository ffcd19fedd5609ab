//! The door of the state layer: row frames, operation frames, and the sources that say what is in them.

use std::collections::HashSet;

use crate::error::Result;
use crate::format::count::EventCount;
use crate::format::extension::{Extensions, ShortExtensions};
use crate::format::frame::flag;
use crate::format::index::EntityHash;
use crate::format::operation::{EventMark, EventOperation};
use crate::format::row::{RowMark, RowOperation};
use crate::format::source::SourceInfo;
use crate::format::system::{Owner, Preamble, System};
use crate::id::{KindId, Position};
use crate::journal::Journal;
use crate::journal::core::{Beside, Core, Item};
use crate::journal::cursors::Move;
use crate::journal::record::{Receipt, Record};
use crate::journal::registry::Registry;
use crate::journal::view::View;
use crate::log::writer::{Draft, Says};
use crate::options::EPOCH_BATCH_BYTES_MAX;

/// A batch has room for so many rows at first: what a window has touched need not have changed.
const ROWS_MAX: usize = 16_384;

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
        let says = Says::Short(ShortExtensions::of(&self.mark.extensions()));
        let operation = self.operation as u8;
        let mut draft = Draft::new(operation, self.kind.0, says, self.key, self.metadata, self.payload);
        draft.source = self.source;
        draft.flags = if self.operation == RowOperation::Deleted { flag::TOMBSTONE } else { 0 };
        draft
    }
}

/// An operation frame that is to be appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OperationFrame<'a> {
    pub(crate) operation: EventOperation,
    /// That of the operations, not of the rows.
    pub(crate) kind: KindId,
    pub(crate) hash: EntityHash,
    pub(crate) key: &'a [u8],
    pub(crate) metadata: &'a [u8],
    /// The whole row behind it; empty of a retraction.
    pub(crate) payload: &'a [u8],
    pub(crate) source: u8,
    /// [`flag::SYNTHETIC`] or [`flag::IN_EPOCH`], where it is no event.
    pub(crate) suppressed: u16,
    pub(crate) mark: EventMark,
}

impl<'a> OperationFrame<'a> {
    fn draft(&self) -> Draft<'a> {
        let extensions: Box<Extensions> = Box::new(self.mark.extensions());
        let operation = self.operation as u8;
        let mut draft =
            Draft::new(operation, self.kind.0, Some(extensions), self.key, self.metadata, self.payload);
        draft.source = self.source;
        draft.flags = flag::ASIDE | self.suppressed;
        draft
    }
}

/// What is appended beside rows, in the same batch.
#[derive(Debug, Default)]
pub(crate) struct Together<'a> {
    pub(crate) facts: Vec<Item<'a>>,
    pub(crate) moves: &'a [Move],
    /// All of it may be so many bytes, where that is more than the options' limit.
    pub(crate) up_to: u64,
}

impl Together<'_> {
    /// Nothing, beside rows that are worth a segment of their own.
    pub(crate) fn alone() -> Self {
        Self { up_to: EPOCH_BATCH_BYTES_MAX, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.facts.is_empty() && self.moves.is_empty()
    }
}

/// What came of a batch.
pub(crate) struct Appended {
    /// Where the facts were put.
    pub(crate) facts: Vec<Receipt>,
    /// Where the last frame was, if there was one.
    pub(crate) last: Option<Receipt>,
    /// Where the log ends behind it.
    pub(crate) end: Position,
}

impl Core {
    /// Appends operation frames, row frames and what else there is in one batch, in this order. Answers where each row
    /// was put. `counts`: the numbers that events have come to with these.
    pub(crate) fn append_rows<'a>(
        &self,
        operations: impl Iterator<Item = OperationFrame<'a>>,
        rows: impl Iterator<Item = RowFrame<'a>>,
        counts: &[EventCount],
        together: Together<'a>,
    ) -> Result<(Vec<Receipt>, Appended)> {
        let Together { facts, moves, up_to } = together;
        // Of most entities of a window something has changed.
        let rows_at_most = rows.size_hint().1.unwrap_or_default().min(ROWS_MAX);
        let mut items = Vec::with_capacity(operations.size_hint().0 + rows_at_most + facts.len());
        // Not for each of them: whoever accepts operations looks at it too.
        let before = self.index.entities.before();
        let said = operations.map(|operation| (operation.draft(), operation.hash));
        for (draft, hash) in said.chain(rows.map(|row| (row.draft(), row.hash))) {
            let touched = self.index.touch_behind(&before, hash)?;
            items.push(Item::of_row(draft, hash, touched));
        }
        drop(before);
        let first_fact = items.len();
        items.extend(facts);
        let mut receipts = Vec::with_capacity(items.len());
        let beside = Beside { moves, counts, up_to, ..Beside::default() };
        let (end, _) = self.append_items(&items, beside, &mut |receipt| receipts.push(receipt))?;
        self.want_sync_for_readers();
        let last = receipts.last().copied();
        let facts = receipts.split_off(first_fact.min(receipts.len()));
        let first_row = items.iter().take_while(|item| item.draft.flags & flag::ASIDE != 0).count();
        let rows = receipts.split_off(first_row.min(receipts.len()));
        Ok((rows, Appended { facts, last, end }))
    }

    /// The version that an entity begins with that the log does not know: none that it ever had is greater.
    pub(crate) fn first_version(&self) -> u64 {
        let writer = self.writer.lock();
        if writer.forgot { writer.last_seq + 1 } else { 1 }
    }

    /// Learns how many events there were behind a preamble, which said how many there were before, from the newest
    /// operation of each kind.
    ///
    /// # Errors
    ///
    /// `Corrupt` or `Io` if something there cannot be read, and nobody can tell how much: numbers would be given twice.
    pub(crate) fn learn_counts(&self, preamble: &Preamble) -> Result<()> {
        let mut registry = self.registry.write();
        let counted = registry.counted_through.max(preamble.next_seq.saturating_sub(1));
        learn_counts_behind(&self.view(), counted, &mut registry)
    }

    /// Appends a fact of one of the library's own kinds. Nobody waits for it.
    pub(crate) fn append_own(&self, kind: KindId, version: u16, key: &[u8], payload: &[u8]) -> Result<()> {
        let item = self.item(&Record::new(kind, key, payload).schema_version(version))?;
        self.append_checked(std::slice::from_ref(&item), Beside::default(), &mut |_| {})?;
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

/// Learns of the events behind a Seq, which are looked for from the end. What cannot be read may have been some: their
/// numbers are left out then, and none is given twice.
pub(crate) fn learn_counts_behind(view: &View, counted: u64, registry: &mut Registry) -> Result<()> {
    let kinds = registry.iter().filter(|kind| kind.owner == Owner::Events);
    let mut wanted: HashSet<KindId> = kinds.map(|kind| kind.id).collect();
    let all: Vec<KindId> = wanted.iter().copied().collect();
    let (mut through, mut lost) = (u64::MAX, 0);
    'entries: while !wanted.is_empty() && counted < through {
        let mut before = view.between(counted.saturating_add(1), through).rev();
        through = loop {
            match before.next() {
                None => break 'entries,
                Some(Ok(entry)) if wanted.contains(&entry.kind()) => {
                    let Some(mark) = EventMark::read(entry.frame().extensions()) else { continue };
                    registry.learn_count(EventCount { kind: entry.kind(), sequence: mark.sequence });
                    wanted.remove(&entry.kind());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    let Some(seqs) = error.seqs() else { return Err(error) };
                    lost += seqs.end() - seqs.start() + 1;
                    break seqs.start().saturating_sub(1);
                }
            }
            if wanted.is_empty() {
                break 'entries;
            }
        };
    }
    registry.leave_out_events(&all, lost);
    Ok(())
}

impl Journal {
    /// The sources that have a number in this store, by number; see [`Store::source`](crate::Store::source).
    #[must_use]
    pub fn sources(&self) -> Vec<SourceInfo> {
        self.core().registry.read().sources().values().cloned().collect()
    }
}
