//! Facts of several kinds, and operations on live state, that are appended together.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backplane::local::cells::payload_of;
use crate::backplane::{CellState, Local, Revision};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Generation, IdempotencyKey, KindId, Position, Seq};
use crate::journal::cursors::Move;
use crate::journal::record::{Batch, BatchReceipt, Causation, Expect, Receipt, Record, Ticket};
use crate::journal::rows::Appended;
use crate::journal::watcher::Watcher;
use crate::state::batching::InBatch;
use crate::state::engine::State;
use crate::state::kind::{Kind, Patch};
use crate::state::source::Source;
use crate::store::Store;
use crate::store::facts::Facts;

/// What an append says beside its value: nothing, unless it is told.
///
/// ```
/// use esker::{Expect, Facts, Store, With};
/// # fn main() -> esker::Result<()> {
/// const NOTES: Facts<String> = Facts::new("note");
/// let store = Store::in_memory()?;
/// let with = With::new().expect(Expect::New).metadata(b"user=7");
/// store.append_with(NOTES, "a", &"text".to_owned(), with)?;
/// assert_eq!(store.latest(NOTES, "a")?.unwrap().metadata(), b"user=7");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "this only describes an append"]
pub struct With<'a> {
    expect: Expect,
    metadata: &'a [u8],
    correlation: Option<[u8; 16]>,
    causation: Option<Causation>,
}

impl<'a> With<'a> {
    /// Nothing: no expectation, no metadata, no correlation.
    pub const fn new() -> Self {
        Self { expect: Expect::Any, metadata: &[], correlation: None, causation: None }
    }

    /// What must hold for the entity; else nothing of the batch is appended.
    pub const fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// Bytes beside the value, at most 65,535: a trace id, a user, a content type.
    pub const fn metadata(mut self, metadata: &'a [u8]) -> Self {
        self.metadata = metadata;
        self
    }

    /// What the fact belongs to: the same id on everything that one request caused.
    pub const fn correlation(mut self, id: [u8; 16]) -> Self {
        self.correlation = Some(id);
        self
    }

    /// What a reaction says of everything that it appends, unless it says otherwise.
    pub(crate) fn caused_by(mut self, cause: Option<Causation>, correlation: Option<[u8; 16]>) -> Self {
        self.causation = cause;
        self.correlation = self.correlation.or(correlation);
        self
    }

    pub(crate) fn record<'r>(self, kind: KindId, version: u16, key: &'r [u8], payload: &'r [u8]) -> Record<'r>
    where
        'a: 'r,
    {
        let record = Record::new(kind, key, payload)
            .schema_version(version)
            .expect(self.expect)
            .metadata(self.metadata)
            .caused_by(self.causation);
        match self.correlation {
            Some(id) => record.correlation(id),
            None => record,
        }
    }
}

/// Facts, and operations on live state, that are appended together: all or nothing, over any kinds and entities.
///
/// Later facts see the earlier ones of the same batch, and so do operations. A batch takes at most a quarter of
/// [`Options::segment_bytes`](crate::Options::segment_bytes).
///
/// ```
/// use esker::{Expect, Facts, IdempotencyKey, Store};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Moved { cents: i64 }
///
/// const ACCOUNTS: Facts<Moved> = Facts::new("account");
/// const TRANSFERS: Facts<String> = Facts::new("transfer");
///
/// # fn main() -> esker::Result<()> {
/// let store = Store::in_memory()?;
/// for attempt in 0..2 {
///     let mut batch = store.batch().idempotency_key(IdempotencyKey(*b"transfer #000042"));
///     batch.append(ACCOUNTS, "ada", &Moved { cents: -1000 })?;
///     batch.append(ACCOUNTS, "grace", &Moved { cents: 1000 })?;
///     batch.append_if(TRANSFERS, "42", Expect::New, &"rent".to_owned())?;
///     let done = batch.commit()?;                  // the second time: the first receipts
///     assert_eq!((done.repeated, done.receipts[2].seq.get()), (attempt == 1, 3));
/// }
/// # Ok(()) }
/// ```
#[must_use = "a batch does nothing until it is committed"]
pub struct StoreBatch<'s> {
    store: &'s Store,
    /// Key, metadata and payload of every fact, one behind the other.
    bytes: Vec<u8>,
    /// So many of them; what follows is no part of the batch.
    used: usize,
    facts: Vec<Pending>,
    key: Option<IdempotencyKey>,
    moves: Vec<Move>,
    /// The operations on live state.
    said: Vec<InBatch>,
    /// The changes of cells, one for each.
    cells: Vec<CellChange>,
}

/// A change of a cell, on the store's own journal.
struct CellChange {
    kind: KindId,
    key: Vec<u8>,
    /// What it holds then.
    value: Option<Vec<u8>>,
    /// The same as the payload of its entry.
    payload: Vec<u8>,
    expect: Expect,
}

/// A fact of the batch; its bytes are the next of the buffer.
#[derive(Clone, Copy, Debug)]
struct Pending {
    kind: KindId,
    version: u16,
    expect: Expect,
    correlation: Option<[u8; 16]>,
    causation: Option<Causation>,
    key_bytes: usize,
    metadata_bytes: usize,
    payload_bytes: usize,
}

impl<'s> StoreBatch<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self {
            store,
            bytes: Vec::new(),
            used: 0,
            facts: Vec::new(),
            key: None,
            moves: Vec::new(),
            said: Vec::new(),
            cells: Vec::new(),
        }
    }

    /// Names the batch, so that it can be repeated after an unknown outcome; see
    /// [`Batch::idempotency_key`].
    pub const fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Adds a fact. The value is encoded now; the batch owns all it needs.
    ///
    /// # Errors
    ///
    /// `Codec` if the value cannot be encoded, `InvalidInput` for a key, metadata or a value over its limits, and what the
    /// first use of a kind answers ([`Store::append`]). The batch is then as it was before the call.
    pub fn append<'t, T>(&mut self, kind: Facts<T>, key: impl AsRef<[u8]>, value: &T) -> Result<&mut Self>
    where
        T: Serialize + Deserialize<'t>,
    {
        self.append_with(kind, key, value, With::new())
    }

    /// Adds a fact with an expectation of its entity. If it is not met when the batch is
    /// committed, nothing of the batch is appended.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_if<'t, T>(
        &mut self,
        kind: Facts<T>,
        key: impl AsRef<[u8]>,
        expect: Expect,
        value: &T,
    ) -> Result<&mut Self>
    where
        T: Serialize + Deserialize<'t>,
    {
        self.append_with(kind, key, value, With::new().expect(expect))
    }

    /// Adds a fact with whatever else there is to say of it.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_with<'t, T>(
        &mut self,
        kind: Facts<T>,
        key: impl AsRef<[u8]>,
        value: &T,
        with: With<'_>,
    ) -> Result<&mut Self>
    where
        T: Serialize + Deserialize<'t>,
    {
        // What an attempt left that failed, or whose value panicked while it was encoded.
        self.bytes.truncate(self.used);
        self.push(kind, key.as_ref(), value, with)?;
        self.used = self.bytes.len();
        Ok(self)
    }

    fn push<'t, T>(&mut self, kind: Facts<T>, key: &[u8], value: &T, with: With<'_>) -> Result<()>
    where
        T: Serialize + Deserialize<'t>,
    {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(with.metadata);
        let start = self.bytes.len();
        codec::encode(kind.name(), value, &mut self.bytes)?;
        let (id, version) = (self.store.bind(kind)?, kind.schema_version());
        with.record(id, version, key, self.bytes.get(start..).unwrap_or_default()).check()?;
        self.facts.push(Pending {
            kind: id,
            version,
            expect: with.expect,
            correlation: with.correlation,
            causation: with.causation,
            key_bytes: key.len(),
            metadata_bytes: with.metadata.len(),
            payload_bytes: self.bytes.len() - start,
        });
        Ok(())
    }

    /// Says in the same batch that a watcher has seen everything of its region up to `seq`; see
    /// [`Batch::move_cursor`].
    ///
    /// # Errors
    ///
    /// As [`Batch::move_cursor`].
    pub fn move_cursor(&mut self, watcher: &Watcher, seq: Seq) -> Result<&mut Self> {
        let step = watcher.step_to(self.store.journal().core(), seq)?;
        self.moves.push(step);
        Ok(self)
    }

    /// Adds that a source states the whole of an entity; see [`Source::assert`]. What sources said before the commit is
    /// flushed before the batch.
    ///
    /// ```
    /// use esker::{Facts, Kind, Patch, Store};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Account { cents: i64 }
    /// const ACCOUNT: Kind<Account> = Kind::new("account");
    /// const TRANSFERS: Facts<String> = Facts::new("transfer");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let bank = store.source("bank")?;
    /// let mut batch = store.batch();
    /// batch.assert(&bank, ACCOUNT, "ada", &Account { cents: 0 })?;
    /// batch.patch(&bank, ACCOUNT, "grace", &Patch::new().set("cents", &1000)?)?;
    /// batch.append(TRANSFERS, "42", &"rent".to_owned())?;
    /// batch.commit()?;                             // both accounts and the transfer, or none of them
    /// assert_eq!(store.get(ACCOUNT, "grace")?.unwrap().value()?.cents, 1000);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `Codec` if the value cannot be encoded, `InvalidInput` for a key over its limit, and what the first use of a kind
    /// answers. The batch is then as it was before the call.
    pub fn assert<T>(
        &mut self,
        source: &Source,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
        row: &T,
    ) -> Result<&mut Self>
    where
        T: Serialize + DeserializeOwned,
    {
        self.said.push(InBatch::assert(source, kind, key.as_ref(), row)?);
        Ok(self)
    }

    /// Adds that a source states some fields of an entity; see [`Source::patch`]. They are laid over the row that is
    /// there when the batch is committed.
    ///
    /// The row is worked out then, under the lock under which the operations of all sources are accepted, so that nobody comes
    /// between it and the batch. What the type's `Deserialize` and `Serialize` do holds up everybody else for so long, and must not use
    /// the store: a call of a [`Source`] from there never returns. [`Source::patch`] runs them under no lock.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a field that the kind does not have, and as [`assert`](Self::assert).
    pub fn patch<T>(
        &mut self,
        source: &Source,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
        patch: &Patch,
    ) -> Result<&mut Self>
    where
        T: Serialize + DeserializeOwned + 'static,
    {
        self.said.push(InBatch::patch(source, kind, key.as_ref(), patch)?);
        Ok(self)
    }

    /// Adds that a source says of an entity that it is not there; see [`Source::retract`].
    ///
    /// # Errors
    ///
    /// As [`assert`](Self::assert).
    pub fn retract<T>(&mut self, source: &Source, kind: Kind<T>, key: impl AsRef<[u8]>) -> Result<&mut Self>
    where
        T: DeserializeOwned,
    {
        self.said.push(InBatch::retract(source, kind, key.as_ref())?);
        Ok(self)
    }

    /// Puts bytes beside the operation that was added last, as [`Source::assert_with`] does.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for more than 65,535 bytes, or if nothing was said yet that a source says.
    pub fn said_with(&mut self, metadata: &[u8]) -> Result<&mut Self> {
        let none = || {
            Error::new(ErrorKind::InvalidInput, "put metadata beside an operation of a batch")
                .sides("an assert, a patch or a retract before it", "none")
        };
        self.said.last_mut().ok_or_else(none)?.set_metadata(metadata)?;
        Ok(self)
    }

    /// Adds that a cell of the store's own journal comes to hold what `change` makes of what it holds now, or comes to hold by what
    /// the batch has of it already. If it is another then, nothing of the batch is appended.
    pub(crate) fn change_cell(
        &mut self,
        key: &[u8],
        change: impl FnOnce(Option<&[u8]>) -> Result<Option<Vec<u8>>>,
    ) -> Result<()> {
        let earlier = self.cells.iter_mut().find(|cell| cell.key == key);
        if let Some(cell) = earlier {
            cell.value = change(cell.value.as_deref())?;
            cell.payload = payload_of(cell.value.as_deref());
            return Ok(());
        }
        let (kind, now) = Local::over(self.store.journal())?.cell(key)?;
        let value = change(now.bytes.as_deref())?;
        let payload = payload_of(value.as_deref());
        let expect = Generation::new(now.revision.raw()).map_or(Expect::New, Expect::Generation);
        Record::new(kind, key, &payload).check()?;
        self.cells.push(CellChange { kind, key: key.to_vec(), value, payload, expect });
        Ok(())
    }

    /// How many facts, operations and changes of cells there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.facts.len() + self.said.len() + self.cells.len()
    }

    /// True if there is none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the batch, and waits as the store's durability says. The batch is then empty; after an
    /// error it is as it was, so that it can be committed again. The receipts are those of its facts.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty batch, or an idempotency key on one with operations: what
    /// they come to depends on what there is, and could not be told to be the same. `BatchTooLarge`, `Conflict` with both
    /// numbers, `KeyReused`, and what [`Store::append`] answers; with operations, `TypeMismatch` for a patch that
    /// does not fit its row, `SourceEnded` for a session that was closed, and what a flush of what was said before
    /// answers.
    pub fn commit(&mut self) -> Result<BatchReceipt> {
        let AppendedAll { done, end, cells, .. } = self.append_all()?;
        self.store.journal().core().wait_as_configured(end)?;
        self.store.tell_of_cells(&cells);
        self.clear();
        Ok(done)
    }

    /// Appends the batch without waiting for the disk.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit), but for those of waiting.
    pub fn commit_nowait(&mut self) -> Result<(BatchReceipt, Ticket)> {
        let core = self.store.journal().core();
        // What came of cells is found out by the sweep, once it is durable.
        let AppendedAll { done, last, end, .. } = self.append_all()?;
        core.want_sync_for_readers();
        // Operations may come to nothing: it stands where the log ended then.
        let receipt = last.or(done.receipts.last().copied()).unwrap_or(Receipt {
            seq: core.view().last_seq()?.unwrap_or(Seq::FIRST),
            generation: Generation::FIRST,
        });
        let ticket = Ticket { core: Arc::clone(core), receipt, end };
        self.clear();
        Ok((done, ticket))
    }

    /// Appends all of it.
    pub(crate) fn append_all(&mut self) -> Result<AppendedAll> {
        if self.said.is_empty() {
            let (done, end) = self.records().append()?;
            let last = done.receipts.last().copied();
            return Ok(self.appended(done, last, end));
        }
        if self.key.is_some() {
            return Err(Error::new(ErrorKind::InvalidInput, "append a batch with an idempotency key")
                .sides("facts alone", format!("{} operations among them", self.said.len())));
        }
        let core = self.store.journal().appending();
        let (facts, moves) = self.records().into_parts()?;
        let appended = State::of(core).append_together(core, &self.said, facts, &moves)?;
        let Appended { facts: receipts, last, end } = appended;
        Ok(self.appended(BatchReceipt { receipts, repeated: false }, last, end))
    }

    /// What came of it: the receipts of the cells stand behind those of the facts.
    fn appended(&self, mut done: BatchReceipt, last: Option<Receipt>, end: Position) -> AppendedAll {
        let of_cells = done.receipts.split_off(self.facts.len().min(done.receipts.len()));
        let states = self.cells.iter().zip(of_cells).map(|(cell, receipt)| {
            let revision = Revision::from_raw(receipt.generation.get());
            (cell.key.clone(), CellState::new(cell.value.clone(), revision))
        });
        AppendedAll { cells: states.collect(), done, last, end }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.used = 0;
        self.facts.clear();
        self.moves.clear();
        self.said.clear();
        self.cells.clear();
        self.key = None;
    }

    fn records(&self) -> Batch<'_> {
        let mut batch = self.store.journal().batch();
        if let Some(key) = self.key {
            batch = batch.idempotency_key(key);
        }
        self.moves.iter().for_each(|step| _ = batch.step(step.clone()));
        let mut rest = self.bytes.as_slice();
        let mut next = |bytes: usize| {
            let (part, behind) = rest.split_at(bytes);
            rest = behind;
            part
        };
        for fact in &self.facts {
            let (key, metadata, payload) =
                (next(fact.key_bytes), next(fact.metadata_bytes), next(fact.payload_bytes));
            let Pending { expect, correlation, causation, .. } = *fact;
            let with = With { expect, metadata, correlation, causation };
            batch.push(with.record(fact.kind, fact.version, key, payload));
        }
        for cell in &self.cells {
            batch.push(Record::new(cell.kind, &cell.key, &cell.payload).expect(cell.expect).own());
        }
        batch
    }
}

/// What came of a batch.
pub(crate) struct AppendedAll {
    /// Of the facts.
    pub(crate) done: BatchReceipt,
    /// Where the last frame was, if there was one.
    pub(crate) last: Option<Receipt>,
    /// Where the log ends behind it.
    pub(crate) end: Position,
    /// What cells have come to hold, to be told when it is durable.
    pub(crate) cells: Vec<(Vec<u8>, CellState)>,
}

impl Store {
    /// Tells what cells have come to hold.
    pub(crate) fn tell_of_cells(&self, cells: &[(Vec<u8>, CellState)]) {
        if let Some(plane) = self.backplane.get() {
            cells.iter().for_each(|(key, cell)| self.copies.changed(&**plane, key, cell));
        }
    }
}

impl fmt::Debug for StoreBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (facts, said, bytes) = (self.facts.len(), self.said.len(), self.bytes.len());
        write!(f, "StoreBatch({facts} facts, {said} operations, {bytes} bytes, key {:?})", self.key)
    }
}
