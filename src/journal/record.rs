//! What is appended, and what an append answers.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::extension::{Extensions, Id, causation_bytes};
use crate::format::frame::{FACT, KEY_BYTES_MAX, METADATA_BYTES_MAX, PAYLOAD_BYTES_MAX, flag};
use crate::format::stamp::StampBytes;
use crate::id::{Generation, IdempotencyKey, KindId, Position, Seq};
use crate::journal::core::{Core, Item};
use crate::journal::cursors::Move;
use crate::journal::watcher::Watcher;
use crate::log::writer::Draft;

/// What an append expects of its entity, checked under the writer's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Expect {
    /// Nothing.
    #[default]
    Any,
    /// The entity has no entry yet.
    New,
    /// The entity has an entry.
    Exists,
    /// The entity's newest entry has this generation.
    Generation(Generation),
}

impl std::fmt::Display for Expect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::New => f.write_str("no entry"),
            Self::Exists => f.write_str("an entry"),
            Self::Generation(generation) => write!(f, "generation {generation}"),
        }
    }
}

/// One entry that is to be appended: a kind, a key, a payload, and what else there is to say.
///
/// ```
/// # fn main() -> esker::Result<()> {
/// use esker::{Expect, Journal, Record};
/// let journal = Journal::in_memory()?;
/// let order = journal.kind("order")?;
/// let receipt = journal.append(Record::new(order, b"8812", b"placed").expect(Expect::New))?;
/// assert_eq!((receipt.seq.get(), receipt.generation.get()), (1, 1));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a record does nothing until it is appended"]
pub struct Record<'a> {
    pub(crate) kind: KindId,
    pub(crate) key: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) metadata: &'a [u8],
    pub(crate) expect: Expect,
    pub(crate) schema_version: u16,
    pub(crate) correlation: Option<[u8; 16]>,
    pub(crate) causation: Option<Causation>,
    pub(crate) stamp: Option<StampBytes>,
    pub(crate) tombstone: bool,
    /// It is the library's, which may append to kinds of its own.
    pub(crate) is_own: bool,
}

/// What an entry was caused by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Causation {
    /// The entry that was reacted to.
    pub seq: Seq,
    /// How many causes stand behind each other: 1 for a reaction to what nothing caused.
    pub depth: u8,
}

impl<'a> Record<'a> {
    /// A record for the entity `kind` and `key` (1 to 255 bytes), with `payload` (at most
    /// 16 MiB less 4 KiB, and what fits a batch).
    pub const fn new(kind: KindId, key: &'a [u8], payload: &'a [u8]) -> Self {
        Self {
            kind,
            key,
            payload,
            metadata: &[],
            expect: Expect::Any,
            schema_version: 0,
            correlation: None,
            causation: None,
            stamp: None,
            tombstone: false,
            is_own: false,
        }
    }

    /// A record that says that the entity is no more. Its history goes on with it, and may go on behind it.
    /// Where the kind keeps the newest entries ([`Keep::Latest`](crate::Keep)), compaction forgets the
    /// entity when the tombstone has had its time. Only for kinds whose payloads are bytes.
    pub const fn tombstone(kind: KindId, key: &'a [u8]) -> Self {
        Self { tombstone: true, ..Self::new(kind, key, &[]) }
    }

    /// Bytes beside the payload, at most 65,535: a trace id, a user, a content type.
    pub const fn metadata(mut self, metadata: &'a [u8]) -> Self {
        self.metadata = metadata;
        self
    }

    /// What must hold for the entity; else nothing of the batch is appended.
    pub const fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// What the entry belongs to: the same id on everything that one request caused.
    pub const fn correlation(mut self, id: [u8; 16]) -> Self {
        self.correlation = Some(id);
        self
    }

    pub(crate) const fn caused_by(mut self, cause: Option<Causation>) -> Self {
        self.causation = cause;
        self
    }

    /// By whom it is, and as the how manieth of its entity: it is appended once, like a keyed batch.
    pub(crate) const fn stamped(mut self, stamp: StampBytes) -> Self {
        self.stamp = Some(stamp);
        self
    }

    /// Of the library itself.
    pub(crate) const fn own(mut self) -> Self {
        self.is_own = true;
        self
    }

    pub(crate) const fn schema_version(mut self, version: u16) -> Self {
        self.schema_version = version;
        self
    }

    /// Refuses what is over its limits.
    pub(crate) fn check(&self) -> Result<()> {
        let check = |what: &str, found: usize, least: usize, most: usize| {
            if (least..=most).contains(&found) {
                return Ok(());
            }
            Err(Error::new(ErrorKind::InvalidInput, format!("append to kind {}: the {what}", self.kind))
                .sides(format!("{least} to {most} bytes"), found))
        };
        check("key", self.key.len(), 1, KEY_BYTES_MAX)?;
        check("metadata", self.metadata.len(), 0, METADATA_BYTES_MAX)?;
        check("payload", self.payload.len(), 0, PAYLOAD_BYTES_MAX)
    }

    /// The frame as it is before the lock: checked, and its body summed.
    pub(crate) fn draft(&self) -> Result<Draft<'a>> {
        self.check()?;
        let plain = self.correlation.is_none()
            && self.schema_version == 0
            && self.causation.is_none()
            && self.stamp.is_none();
        let extensions = (!plain).then(|| Box::new(self.extensions()));
        let mut draft = Draft::new(FACT, self.kind.0, extensions, self.key, self.metadata, self.payload);
        draft.flags = if self.tombstone { flag::TOMBSTONE } else { 0 };
        Ok(draft)
    }

    fn extensions(&self) -> Extensions {
        let mut extensions = Extensions::default();
        if let Some(id) = &self.correlation {
            extensions.push(Id::Correlation, id);
        }
        if let Some(cause) = &self.causation {
            extensions.push(Id::Causation, &causation_bytes((cause.seq.get(), cause.depth)));
        }
        if let Some(stamp) = self.stamp {
            extensions.push(Id::Writer, &stamp.encode());
        }
        if self.schema_version != 0 {
            extensions.push(Id::SchemaVersion, &self.schema_version.to_le_bytes());
        }
        extensions
    }
}

/// Where an entry was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Its place in the log.
    pub seq: Seq,
    /// Its place in its entity's history.
    pub generation: Generation,
}

/// The receipts of a batch, in the order of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchReceipt {
    /// One for each record.
    pub receipts: Vec<Receipt>,
    /// The idempotency key was used before with the same content: nothing was written, and
    /// these are the receipts of then.
    pub repeated: bool,
}

/// An append that is visible, and will be durable.
#[derive(Clone, Debug)]
#[must_use = "an append that nobody waits for may be lost to a power cut"]
pub struct Ticket {
    pub(crate) core: Arc<Core>,
    pub(crate) receipt: Receipt,
    pub(crate) end: Position,
}

impl Ticket {
    /// The place of the entry (of the last one, for a batch) in the log.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.receipt.seq
    }

    /// The place of the entry (of the last one, for a batch) in its entity's history.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.receipt.generation
    }

    /// True once the append survives a power cut.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.core.commit.durable() >= self.end
    }

    /// Waits until the append survives a power cut, and syncs if nobody else does.
    ///
    /// # Errors
    ///
    /// `Poisoned` if a sync failed: the outcome is unknown. `Closed` if the journal was closed
    /// before the append was durable.
    pub fn wait_durable(&self) -> Result<Receipt> {
        self.core.wait_durable(self.end)?;
        Ok(self.receipt)
    }
}

/// Records that are appended together: all or nothing, over any entities.
///
/// Later records see the earlier ones of the same batch. A batch takes at most a quarter of
/// [`Options::segment_bytes`](crate::Options::segment_bytes).
///
/// ```
/// # fn main() -> esker::Result<()> {
/// use esker::{Expect, IdempotencyKey, Journal, Record};
/// let journal = Journal::in_memory()?;
/// let account = journal.kind("account")?;
/// let transfer = IdempotencyKey(*b"transfer #000042");
/// for _ in 0..2 {
///     let mut batch = journal.batch().idempotency_key(transfer);
///     batch.push(Record::new(account, b"ada", b"-10"));
///     batch.push(Record::new(account, b"grace", b"+10"));
///     let done = batch.commit()?;                       // the second time: the first receipts
///     assert_eq!(done.receipts[1].seq.get(), 2);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch<'a> {
    core: Arc<Core>,
    /// Checked, summed and hashed as they came: a commit has only to store them.
    items: Vec<Item<'a>>,
    key: Option<IdempotencyKey>,
    /// A record of which no item could be made, and those behind it: the commit tries again, and
    /// tells why not.
    refused: VecDeque<Record<'a>>,
    moves: Vec<Move>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, items: Vec::new(), key: None, refused: VecDeque::new(), moves: Vec::new() }
    }

    /// Adds a record. One that cannot be appended makes the commit fail: over its limits, or of an
    /// entity whose place cannot be looked up.
    pub fn push(&mut self, record: Record<'a>) -> &mut Self {
        match self.core.item(&record) {
            Ok(item) if self.refused.is_empty() => self.items.push(item),
            _ => self.refused.push_back(record),
        }
        self
    }

    /// Names the batch, so that it can be repeated after an unknown outcome: the same key with
    /// the same content answers with the first receipts and writes nothing.
    ///
    /// A store remembers the keys of the last 65,536 keyed batches or of the last ten minutes,
    /// whichever is more, and of 1,048,576 batches at most. Give a key to requests that are
    /// retried within that window.
    pub const fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Says in the same batch that a watcher has seen everything of its region up to `seq`: what is
    /// appended and how far its cause was read are then one write, exactly once through any crash.
    /// It never goes back: a cursor that is further already stays there.
    ///
    /// ```
    /// use esker::{Journal, Record, Region};
    /// # fn main() -> esker::Result<()> {
    /// let journal = Journal::in_memory()?;
    /// let (order, invoice) = (journal.kind("order")?, journal.kind("invoice")?);
    /// journal.append(Record::new(order, b"8812", b"placed"))?;
    /// let mut orders = journal.watch("invoicing", Region::kind(order))?;
    /// while orders.advance()? {
    ///     let seq = orders.entry().seq();
    ///     let mut batch = journal.batch();
    ///     batch.push(Record::new(invoice, b"8812", b"9.90")).move_cursor(&orders, seq)?;
    ///     batch.commit()?;
    /// }
    /// assert_eq!(journal.cursors()?[0].behind, 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a Seq that the watcher has not come to, or a watcher of another journal;
    /// `UnknownCursor`, here or when the batch is committed, if the cursor was retired or put back.
    pub fn move_cursor(&mut self, watcher: &Watcher, seq: Seq) -> Result<&mut Self> {
        let step = watcher.step_to(&self.core, seq)?;
        Ok(self.step(step))
    }

    /// Adds the move of a cursor, in the place of an earlier one of the same.
    pub(crate) fn step(&mut self, step: Move) -> &mut Self {
        self.moves.retain(|other| other.state.name != step.state.name);
        self.moves.push(step);
        self
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len() + self.refused.len()
    }

    /// True if there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the batch, and waits as the journal's durability says. The batch is then empty; after
    /// an error it is as it was, so that it can be committed again.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty batch or a record over its limits, `BatchTooLarge`,
    /// `Conflict` with both numbers, `KeyReused`, `UnknownKind`, and what
    /// [`Journal::append`](crate::Journal::append) answers.
    pub fn commit(&mut self) -> Result<BatchReceipt> {
        let (receipt, end) = self.append()?;
        self.core.wait_as_configured(end)?;
        self.clear();
        Ok(receipt)
    }

    /// Appends the batch without waiting for the disk.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit), but for those of waiting.
    pub fn commit_nowait(&mut self) -> Result<(BatchReceipt, Ticket)> {
        let (receipt, end) = self.append()?;
        self.core.want_sync_for_readers();
        let last = *receipt
            .receipts
            .last()
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "commit an empty batch"))?;
        let ticket = Ticket { core: Arc::clone(&self.core), receipt: last, end };
        self.clear();
        Ok((receipt, ticket))
    }

    /// What it consists of, for a batch of more than records.
    pub(crate) fn into_parts(mut self) -> Result<(Vec<Item<'a>>, Vec<Move>)> {
        self.make_items()?;
        Ok((self.items, self.moves))
    }

    fn make_items(&mut self) -> Result<()> {
        while let Some(record) = self.refused.front() {
            self.items.push(self.core.item(record)?);
            self.refused.pop_front();
        }
        Ok(())
    }

    /// Appends it. Answers where the log ends behind it.
    pub(crate) fn append(&mut self) -> Result<(BatchReceipt, Position)> {
        self.make_items()?;
        self.core.append_batch(&mut self.items, &self.moves, self.key)
    }

    fn clear(&mut self) {
        self.items.clear();
        self.moves.clear();
        self.key = None;
    }
}

impl<'a> Extend<Record<'a>> for Batch<'a> {
    fn extend<T: IntoIterator<Item = Record<'a>>>(&mut self, records: T) {
        records.into_iter().for_each(|record| {
            self.push(record);
        });
    }
}
