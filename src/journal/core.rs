//! The engine behind a journal: the writer, the marks, the index, and what keeps them going.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::disk::map::ForkGuard;
use crate::disk::{Directory, Through};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::flag;
use crate::format::index::{EntityHash, Keyed};
use crate::format::lock::Cell;
use crate::format::manifest::Manifest;
use crate::format::segment::{FIRST_FRAME, SegmentHeader, file_name};
use crate::format::system::{KindInfo, Open, Preamble, System};
use crate::id::{EntryAt, Generation, IdempotencyKey, Life, Position, SEQ_MAX, Seq};
use crate::index::catalog::{Index, Section};
use crate::index::entities::Known;
use crate::index::keyed::Digest;
use crate::index::live::LiveIndex;
use crate::journal::idle::Idle;
use crate::journal::keeper::{Keeper, Spare};
use crate::journal::record::{BatchReceipt, Expect, Receipt, Record};
use crate::journal::registry::{KindSpec, Registered, Registry};
use crate::journal::window::Window;
use crate::log::commit::{Commit, Stopped};
use crate::log::lock::{HeldLock, now};
use crate::log::recovery::RecoveryReport;
use crate::log::segment::{Making, Segment, make};
use crate::log::writer::{ActiveSegment, Draft, Numbers};
use crate::options::{Durability, Options};

/// The engine. The lock order stands in [`crate::journal`].
pub(crate) struct Core {
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) options: Options,
    pub(crate) manifest: Manifest,
    pub(crate) report: RecoveryReport,
    pub(crate) commit: Commit,
    pub(crate) index: Arc<Index>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) registry: parking_lot::RwLock<Registry>,
    /// Segments with bytes that are not durable, oldest first; the last one is active.
    pub(crate) unsynced: Mutex<Vec<Arc<Segment>>>,
    pub(crate) keeper: Keeper,
    pub(crate) idle: Idle,
    pub(crate) lock: HeldLock,
    fork: ForkGuard,
    pub(crate) counters: Counters,
    closed: AtomicBool,
}

/// What is counted, for `stats()`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appends: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) appended_bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) rotations: AtomicU64,
    pub(crate) last_append: AtomicU64,
}

/// What only the holder of the writer's lock touches.
pub(crate) struct Writer {
    pub(crate) life: Life,
    pub(crate) previous_life: Life,
    pub(crate) stage: Stage,
    pub(crate) last_seq: u64,
    /// Bytes of log before the active segment.
    pub(crate) log_bytes: u64,
    pub(crate) keyed: Window,
    /// An entity was forgotten once: unknown ones start at their Seq.
    pub(crate) forgot: bool,
    /// Segments that a crash left behind the end of the log.
    pub(crate) dead: Vec<u32>,
    /// The greatest number that any segment has.
    pub(crate) greatest: u32,
    /// Seqs that a repair could not save, to be named by the next preamble.
    pub(crate) lost: u64,
}

/// Where the writer stands.
pub(crate) enum Stage {
    /// Nothing was appended in this life. `resume`: the log goes on in its last segment.
    Waiting {
        end: Position,
        resume: bool,
    },
    Writing(Active),
    /// A write failed at `end`: the next append starts a segment that follows there.
    Torn {
        end: Position,
    },
}

/// The active segment with its index.
pub(crate) struct Active {
    pub(crate) log: ActiveSegment,
    pub(crate) live: Arc<LiveIndex>,
}

/// A frame that is ready for the lock, with what the lock's holder needs to know.
pub(crate) struct Item<'a> {
    draft: Draft<'a>,
    hash: EntityHash,
    expect: Expect,
}

impl Core {
    #[allow(clippy::too_many_arguments, reason = "each is a part of the engine, and there is one caller")]
    pub(crate) fn new(
        directory: Arc<dyn Directory>,
        options: Options,
        manifest: Manifest,
        report: RecoveryReport,
        end: Position,
        index: Arc<Index>,
        writer: Writer,
        registry: Registry,
        lock: HeldLock,
    ) -> Self {
        Self {
            directory,
            options,
            manifest,
            report,
            commit: Commit::new(end),
            index,
            writer: Mutex::new(writer),
            registry: parking_lot::RwLock::new(registry),
            unsynced: Mutex::default(),
            keeper: Keeper::default(),
            idle: Idle::default(),
            lock,
            fork: ForkGuard::new(),
            counters: Counters::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Appends one record.
    pub(crate) fn append(&self, record: &Record<'_>) -> Result<(Receipt, Position)> {
        let item = self.item(record, None)?;
        let mut receipt = None;
        let (end, _) =
            self.append_items(std::slice::from_ref(&item), None, &mut |next| receipt = Some(next))?;
        Ok((receipt.unwrap_or_else(|| panic!("one record has one receipt")), end))
    }

    /// Appends records together, all or nothing.
    pub(crate) fn append_batch(
        &self,
        records: &[Record<'_>],
        key: Option<IdempotencyKey>,
    ) -> Result<(BatchReceipt, Position)> {
        if records.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "append a batch").sides("1 record or more", 0));
        }
        let named = |at: usize| key.filter(|_| at == 0);
        let items = records.iter().enumerate().map(|(at, record)| self.item(record, named(at)));
        let items = items.collect::<Result<Vec<_>>>()?;
        let mut receipts = Vec::with_capacity(items.len());
        let (end, repeated) = self.append_items(&items, key, &mut |receipt| receipts.push(receipt))?;
        Ok((BatchReceipt { receipts, repeated }, end))
    }

    /// Everything that can be done to a record before the lock.
    fn item<'a>(&self, record: &Record<'a>, key: Option<IdempotencyKey>) -> Result<Item<'a>> {
        let draft = record.draft(key)?;
        let hash = self.index.hash(record.kind.0, record.key);
        self.index.entities.touch(hash, &*self.index)?;
        Ok(Item { draft, hash, expect: record.expect })
    }

    fn append_items(
        &self,
        items: &[Item<'_>],
        key: Option<IdempotencyKey>,
        receipt: &mut dyn FnMut(Receipt),
    ) -> Result<(Position, bool)> {
        let bytes: u64 = items.iter().map(|item| item.draft.bytes()).sum();
        if bytes > self.options.batch_bytes_max() {
            return Err(Error::new(ErrorKind::BatchTooLarge, format!("append {} entries", items.len()))
                .sides(
                    format!("at most {} bytes", self.options.batch_bytes_max()),
                    format!("{bytes} bytes"),
                ));
        }
        let time = now();
        let mut writer = loop {
            let mut writer = self.writer.lock();
            self.check_writable()?;
            if let Some(key) = key
                && let Some(first) = writer.keyed.get(&key).copied()
            {
                let end = self.repeat(first, key, items, receipt)?;
                return Ok((end, true));
            }
            self.check_kinds(items)?;
            self.check_expectations(&writer, items)?;
            if self.make_room(&mut writer, bytes)? {
                break writer;
            }
            drop(writer);
            self.prepare(bytes)?;
        };
        let end = self.store(&mut writer, items, key, time, receipt)?;
        drop(writer);
        self.lock.show(Cell::Visible, end.word());
        self.idle.busy();
        if !self.options.background {
            self.maintain()?;
        }
        Ok((end, false))
    }

    /// Refuses what can no longer be written.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "append").at(self.directory.path()));
        }
        if self.commit.is_poisoned() {
            return Err(self.stopped(self.commit.stopped().unwrap_or(Stopped::Closed), "append"));
        }
        if self.fork.is_forked() {
            return Err(Error::new(ErrorKind::Forked, "append").at(self.directory.path()));
        }
        Ok(())
    }

    pub(crate) fn stopped(&self, stopped: Stopped, doing: &str) -> Error {
        let error = match stopped {
            Stopped::Poisoned(reason) => {
                Error::new(ErrorKind::Poisoned, doing).because(String::from(&*reason))
            }
            Stopped::Closed => Error::new(ErrorKind::Closed, doing),
        };
        error.at(self.directory.path())
    }

    fn check_kinds(&self, items: &[Item<'_>]) -> Result<()> {
        let registry = self.registry.read();
        let mut checked = 0;
        for item in items {
            let kind = item.draft.kind;
            if kind == checked {
                continue;
            }
            let Some(_) = registry.get(crate::id::KindId(kind)) else {
                return Err(Error::new(ErrorKind::UnknownKind, format!("append to kind {kind}"))
                    .sides("a kind that this store has registered", kind));
            };
            checked = kind;
        }
        Ok(())
    }

    /// Checks every expectation of a batch; later records see the earlier ones.
    fn check_expectations(&self, writer: &Writer, items: &[Item<'_>]) -> Result<()> {
        if SEQ_MAX - writer.last_seq < items.len() as u64 {
            return Err(Error::new(ErrorKind::LimitReached, "append")
                .sides(format!("seq up to {SEQ_MAX}"), writer.last_seq));
        }
        if items.iter().all(|item| item.expect == Expect::Any) {
            return Ok(());
        }
        let mut now: HashMap<EntityHash, u64> = HashMap::new();
        for (item, seq) in items.iter().zip(writer.last_seq + 1..) {
            let known = match now.get(&item.hash) {
                Some(generation) => Some(*generation),
                None => self.index.find(item.hash)?.map(|known| known.generation),
            };
            let met = match item.expect {
                Expect::Any => true,
                Expect::New => known.is_none(),
                Expect::Exists => known.is_some(),
                Expect::Generation(generation) => known == Some(generation.get()),
            };
            if !met {
                let key = String::from_utf8_lossy(item.draft.key).into_owned();
                let found =
                    known.map_or_else(|| "no entry".to_owned(), |known| format!("generation {known}"));
                return Err(Error::new(ErrorKind::Conflict, format!("append to {}/{key}", item.draft.kind))
                    .sides(item.expect, found));
            }
            now.insert(item.hash, known.map_or(writer.first_generation(seq), |known| known + 1));
        }
        Ok(())
    }

    /// Answers a batch that was appended before.
    fn repeat(
        &self,
        first: Keyed,
        key: IdempotencyKey,
        items: &[Item<'_>],
        receipt: &mut dyn FnMut(Receipt),
    ) -> Result<Position> {
        let digest = digest_of(items);
        if (digest.word(), items.len()) != (first.digest, first.frames as usize) {
            let side = |digest: u64, frames: usize| format!("{frames} entries with digest {digest:016x}");
            return Err(Error::new(ErrorKind::KeyReused, format!("append a batch with key {key}"))
                .sides(side(first.digest, first.frames as usize), side(digest.word(), items.len())));
        }
        let view = self.view();
        for seq in first.first_seq..first.first_seq + u64::from(first.frames) {
            let found = Seq::new(seq).map(|seq| view.get(seq)).transpose()?.flatten();
            let Some(entry) = found else {
                return Err(Error::corrupt(format!("find entry {seq}, which was appended with key {key}"))
                    .lost(seq..=seq));
            };
            receipt(Receipt { seq: entry.seq(), generation: entry.generation() });
        }
        // As durable as the caller asks: everything that is visible now covers it.
        Ok(self.commit.visible())
    }

    /// Makes sure that `bytes` fit the active segment. False: a segment has to be made first,
    /// and the writer's lock given back for that.
    fn make_room(&self, writer: &mut Writer, bytes: u64) -> Result<bool> {
        let Stage::Writing(active) = &writer.stage else { return Ok(false) };
        if active.log.has_room(bytes) {
            return Ok(true);
        }
        let Some(spare) = self.keeper.take_spare(active.log.end().segment(), bytes) else { return Ok(false) };
        self.rotate(writer, spare)?;
        self.make_room(writer, bytes)
    }

    /// Makes what the writer needs before `bytes` can be stored: a spare, or the first segment
    /// of this life. The maker's lock comes before the writer's, so that no spare is made for a
    /// segment that is not active any more.
    pub(crate) fn prepare(&self, bytes: u64) -> Result<()> {
        let _making = self.keeper.making.lock();
        let mut writer = self.writer.lock();
        self.check_writable()?;
        match &writer.stage {
            Stage::Writing(active) if active.log.has_room(bytes) => Ok(()),
            Stage::Writing(_) => {
                drop(writer);
                self.make_spare(bytes)
            }
            Stage::Torn { end } => {
                let end = *end;
                self.go_on_behind(&mut writer, end, bytes)
            }
            Stage::Waiting { end, resume } => {
                let (end, resume) = (*end, *resume);
                self.begin_life(&mut writer, end, resume, bytes)
            }
        }
    }

    /// The first append of a life: `open` is its first frame.
    fn begin_life(&self, writer: &mut Writer, end: Position, resume: bool, bytes: u64) -> Result<()> {
        let open = Open { previous_life: writer.previous_life, pid: std::process::id(), recovered_end: end };
        let payload = open.encode();
        let draft = Draft::system(System::Open, &payload);
        if !(resume && self.resume(writer, end, draft.bytes())?) {
            self.go_on_behind(writer, end, bytes + draft.bytes())?;
        }
        self.push_system(writer, &draft)
    }

    /// Goes on in the last segment, whose life ended in order. False: there is no room in it.
    fn resume(&self, writer: &mut Writer, end: Position, bytes: u64) -> Result<bool> {
        let (directory, store) = (&*self.directory, self.manifest.store);
        let catalog = self.index.catalog();
        let Some(section) = catalog.section(end.segment()) else { return Ok(false) };
        let opened = section.open()?;
        let preamble = self.preamble(writer);
        let is_empty = end.offset() == FIRST_FRAME;
        let needed = bytes + if is_empty { preamble.bytes() } else { 0 } + crate::log::writer::RESERVED_BYTES;
        if end.offset() + needed > opened.segment.header.bytes {
            return Ok(false);
        }
        let live = self.live_again(opened)?;
        let through = self.making().through;
        let (segment, map_writer) =
            Segment::open_for_writing(directory, store, end.segment(), end.offset(), through)?;
        let segment = Arc::new(segment);
        self.index.add(Section::opened(
            Arc::clone(&self.index.place),
            Arc::clone(&segment),
            Arc::clone(&live),
        ));
        self.unsynced.lock().push(Arc::clone(&segment));
        let log = ActiveSegment::new(segment, map_writer, end.offset(), writer.life);
        writer.stage = Stage::Writing(Active { log, live: Arc::clone(&live) });
        if is_empty {
            live.begin(writer.last_seq + 1);
            self.push_all_system(writer, &preamble.drafts())?;
        }
        Ok(true)
    }

    /// Starts a segment behind a torn end, with a number above all others.
    fn go_on_behind(&self, writer: &mut Writer, end: Position, bytes: u64) -> Result<()> {
        // A spare follows the seal of a segment that will never have one.
        self.keeper.drop_spare();
        let before = writer.greatest;
        let number = next_number(before)?;
        writer.greatest = number;
        let preamble = self.preamble(writer);
        let size = self.next_segment_bytes(writer.log_bytes, bytes, preamble.bytes());
        let header = self.segment_header(number, end, size)?;
        let (segment, map_writer) = make(&*self.directory, self.manifest.store, header, self.making())?;
        let spare = Spare { live: Arc::new(LiveIndex::for_segment(size)), segment, writer: map_writer };
        self.enter(writer, spare, end.offset())?;
        // The header that names the end is durable: what lies between can go.
        let between = end.segment().saturating_add(1)..=before;
        let mut dead: Vec<u32> = std::mem::take(&mut writer.dead).into_iter().chain(between).collect();
        dead.dedup();
        for number in dead {
            let _ = self.directory.remove(&file_name(number));
            let _ = self.directory.remove(&crate::format::index::file_name(number));
        }
        Ok(())
    }

    /// Leaves the active segment, which is full, for the spare.
    fn rotate(&self, writer: &mut Writer, spare: Spare) -> Result<()> {
        let seal = Draft::system(System::Seal, &[]);
        self.push_system(writer, &seal)?;
        let Stage::Writing(active) = &writer.stage else { return Ok(()) };
        let end = active.log.end();
        self.counters.rotations.fetch_add(1, Ordering::Relaxed);
        self.enter(writer, spare, end.offset())?;
        self.keeper.wake();
        Ok(())
    }

    /// Makes a new segment the active one, and writes its preamble.
    fn enter(&self, writer: &mut Writer, spare: Spare, bytes_before: u64) -> Result<()> {
        writer.log_bytes += bytes_before;
        let Spare { segment, writer: map_writer, live } = spare;
        let preamble = self.preamble(writer);
        live.begin(writer.last_seq + 1 + writer.lost);
        writer.last_seq += std::mem::take(&mut writer.lost);
        self.unsynced.lock().push(Arc::clone(&segment));
        self.index.add(Section::opened(
            Arc::clone(&self.index.place),
            Arc::clone(&segment),
            Arc::clone(&live),
        ));
        let log = ActiveSegment::new(segment, map_writer, FIRST_FRAME, writer.life);
        writer.stage = Stage::Writing(Active { log, live });
        self.push_all_system(writer, &preamble.drafts())
    }

    /// Restates what a reader of the log from here on needs to know.
    fn preamble(&self, writer: &Writer) -> PreambleBatch {
        let head = Preamble {
            next_seq: writer.last_seq + 1 + writer.lost,
            log_bytes: writer.log_bytes,
            keyed_from: writer.keyed.first_segment(),
            lost: writer.lost,
            forgot: writer.forgot,
        };
        let kinds = self.registry.read().iter().map(|kind| kind.encode()).collect();
        PreambleBatch { head: head.encode(), kinds }
    }

    /// Stores a batch of one system frame and makes it visible.
    pub(crate) fn push_system(&self, writer: &mut Writer, draft: &Draft<'_>) -> Result<()> {
        self.push_all_system(writer, std::slice::from_ref(draft))
    }

    fn push_all_system(&self, writer: &mut Writer, drafts: &[Draft<'_>]) -> Result<()> {
        let durable = self.commit.durable();
        let (seq, time) = (writer.last_seq, now());
        let Stage::Writing(active) = &mut writer.stage else {
            return Err(Error::new(ErrorKind::Closed, "write a system frame"));
        };
        let start = active.log.end();
        for (at, draft) in drafts.iter().enumerate() {
            let flags = if at + 1 < drafts.len() { flag::MORE } else { 0 };
            let offset = active.log.push(draft, Numbers { flags, seq, generation: 0, time }, durable);
            if matches!(System::of(draft.operation), Some(System::Preamble | System::Kind)) {
                active.live.system.lock().push(crate::index::live::units(offset));
            }
        }
        if let Err(error) = active.log.finish() {
            active.log.give_up_at(start);
            writer.stage = Stage::Torn { end: start };
            return Err(self.write_failed(start, error));
        }
        let end = active.log.end();
        self.commit.publish(end);
        self.lock.show(Cell::Visible, end.word());
        Ok(())
    }

    fn write_failed(&self, at: Position, error: std::io::Error) -> Error {
        Error::io("write a batch; nothing of it was appended", error)
            .at(self.directory.path().join(file_name(at.segment())))
            .place(at.segment(), at.offset())
    }

    /// Stores a batch for which there is room, and publishes it with one store.
    fn store(
        &self,
        writer: &mut Writer,
        items: &[Item<'_>],
        key: Option<IdempotencyKey>,
        time: i64,
        receipt: &mut dyn FnMut(Receipt),
    ) -> Result<Position> {
        let durable = self.commit.durable();
        let may_fail = self.making().through == Through::Pwrite;
        let mut undo: Vec<(EntityHash, Option<Known>)> = Vec::new();
        let (first_seq, forgot) = (writer.last_seq + 1, writer.forgot);
        let Stage::Writing(active) = &mut writer.stage else {
            return Err(Error::new(ErrorKind::Closed, "append"));
        };
        let (start, count) = (active.log.end(), active.live.count());
        let half_done = PoisonIfDropped(&self.commit);
        let mut left = items.len();
        for (item, seq) in items.iter().zip(first_seq..) {
            left -= 1;
            let at = EntryAt::new(start.segment(), active.live.count());
            let first = if forgot { seq } else { 1 };
            let (generation, before) = self.index.entities.advance(item.hash, at, first);
            if may_fail {
                undo.push((item.hash, before));
            }
            let more = if left > 0 { flag::MORE } else { 0 };
            let flags = if before.is_none() { more | flag::FIRST } else { more };
            let offset = active.log.push(&item.draft, Numbers { flags, seq, generation, time }, durable);
            active.live.push(offset, before.map_or(EntryAt::NONE, |known| known.newest));
            receipt(numbers(seq, generation));
        }
        if let Err(error) = active.log.finish() {
            // Nobody saw anything of the batch: take back what the index was told.
            active.live.truncate(count);
            active.log.give_up_at(start);
            undo.into_iter().rev().for_each(|(hash, before)| self.index.entities.restore(hash, before));
            writer.stage = Stage::Torn { end: start };
            std::mem::forget(half_done);
            return Err(self.write_failed(start, error));
        }
        let end = active.log.end();
        if let Some(key) = key {
            let frames = u32::try_from(items.len()).unwrap_or(u32::MAX);
            let keyed = Keyed { key, first_seq, frames, digest: digest_of(items).word(), time };
            active.live.keyed.lock().push(keyed);
            writer.keyed.remember(start.segment(), keyed, time);
        }
        self.commit.publish(end);
        writer.last_seq += items.len() as u64;
        std::mem::forget(half_done);
        self.counters.appends.fetch_add(items.len() as u64, Ordering::Relaxed);
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
        self.counters.appended_bytes.fetch_add(end.offset() - start.offset(), Ordering::Relaxed);
        self.counters.last_append.store(time.cast_unsigned(), Ordering::Relaxed);
        Ok(end)
    }

    /// Registers a kind, or finds it registered alike.
    pub(crate) fn register(&self, spec: KindSpec) -> Result<Arc<KindInfo>> {
        if let Registered::Already(kind) = self.registry.read().resolve(spec.clone())? {
            return Ok(kind);
        }
        loop {
            let mut writer = self.writer.lock();
            self.check_writable()?;
            let info = match self.registry.read().resolve(spec.clone())? {
                Registered::Already(kind) => return Ok(kind),
                Registered::New(info) => info,
            };
            let payload = info.encode();
            let draft = Draft::system(System::Kind, &payload);
            if self.make_room(&mut writer, draft.bytes())? {
                self.push_system(&mut writer, &draft)?;
                let id = info.id;
                let mut registry = self.registry.write();
                registry.learn(info);
                let found = registry.get(id).cloned();
                return found.ok_or_else(|| Error::new(ErrorKind::UnknownKind, "register a kind"));
            }
            drop(writer);
            self.prepare(draft.bytes())?;
        }
    }

    /// Waits as the journal's durability says.
    pub(crate) fn wait_as_configured(&self, end: Position) -> Result<()> {
        match self.options.durability {
            Durability::Sync => self.wait_durable(end),
            Durability::Interval(_) | Durability::Os => Ok(()),
        }
    }

    /// Waits until everything below `end` is durable.
    pub(crate) fn wait_durable(&self, end: Position) -> Result<()> {
        let waited = self.commit.wait(end, || self.sync_segments());
        if self.commit.is_poisoned() {
            self.lock.show(Cell::Poison, 1);
        }
        self.lock.show(Cell::Durable, self.commit.durable().word());
        waited.map_err(|stopped| self.stopped(stopped, "wait for an append to be durable"))
    }

    /// Brings every segment with unsynced bytes to the disk, oldest first. Only the syncer's
    /// turn calls this.
    fn sync_segments(&self) -> std::result::Result<(), String> {
        let segments = self.unsynced.lock().clone();
        for segment in &segments {
            segment.file.sync().map_err(|error| {
                let path = self.directory.path().join(file_name(segment.number()));
                format!("sync {}: {error}", path.display())
            })?;
        }
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        if let Some(active) = segments.last() {
            self.unsynced.lock().retain(|segment| segment.number() >= active.number());
        }
        if segments.len() > 1 {
            self.keeper.wake();
        }
        Ok(())
    }

    /// How segments are made here.
    pub(crate) fn making(&self) -> Making {
        let through = if self.directory.file_system().copy_on_write { Through::Pwrite } else { Through::Map };
        match self.options.durability {
            Durability::Sync => {
                Making { zeros_at_a_time: 16 << 10, sync_zeros_every: Some(1 << 20), through }
            }
            Durability::Interval(_) | Durability::Os => {
                Making { zeros_at_a_time: 64 << 10, sync_zeros_every: None, through }
            }
        }
    }

    pub(crate) fn segment_header(&self, number: u32, follows: Position, bytes: u64) -> Result<SegmentHeader> {
        let salt = crate::log::lock::random::<8>().map_err(|e| Error::io("draw a segment's salt", e))?;
        Ok(SegmentHeader { number, salt: u64::from_le_bytes(salt), follows, bytes, created: now() })
    }

    /// An eighth of the log, within the options' bounds, and more where the batch or sixteen
    /// preambles need it.
    pub(crate) fn next_segment_bytes(&self, log_bytes: u64, batch: u64, preamble: u64) -> u64 {
        let full = self.options.segment_bytes;
        let usual = (log_bytes / 8).clamp(full.min(1 << 20), full);
        let needed = FIRST_FRAME + preamble + batch + 2 * crate::log::writer::RESERVED_BYTES;
        usual.max(needed).max(16 * preamble).next_multiple_of(4096)
    }

    /// The bytes that the next preamble will take.
    pub(crate) fn preamble_bytes(&self, writer: &Writer) -> u64 {
        self.preamble(writer).bytes()
    }

    pub(crate) fn view(&self) -> crate::journal::view::View {
        crate::journal::view::View::new(Arc::clone(&self.index), self.commit.readable())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends this life. The first call does it; later ones find it done.
    pub(crate) fn close(&self) -> Result<()> {
        // Nobody is making a file when the directory is let go of, and nobody begins to.
        let _making = self.keeper.making.lock();
        let mut writer = self.writer.lock();
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let _indexing = self.keeper.indexing.lock();
        let ended = self.end_life(&mut writer);
        self.commit.close();
        if self.commit.is_poisoned() {
            self.lock.show(Cell::Poison, 1);
        }
        writer.stage = Stage::Waiting { end: self.commit.durable(), resume: false };
        drop(writer);
        let released =
            self.lock.release().map_err(|e| Error::io("release the lock", e).at(self.directory.path()));
        ended.and(released)
    }

    fn end_life(&self, writer: &mut Writer) -> Result<()> {
        if self.fork.is_forked() {
            return Err(Error::new(ErrorKind::Forked, "close").at(self.directory.path()));
        }
        if !matches!(writer.stage, Stage::Writing(_)) {
            // Nothing was appended, or a failed write ended the segment: there is nothing to say.
            return self.wait_durable(self.commit.visible());
        }
        // What is visible becomes durable first, so that `closed` can name it.
        self.wait_durable(self.commit.visible())?;
        let closed = Draft::system(System::Closed, &[]);
        let Stage::Writing(active) = &writer.stage else { return Ok(()) };
        if !active.log.has_reserve(1) {
            return Ok(());
        }
        self.push_system(writer, &closed)?;
        self.wait_durable(self.commit.visible())?;
        self.finish_segments(writer)
    }
}

impl Writer {
    /// The generation that an unknown entity starts with.
    fn first_generation(&self, seq: u64) -> u64 {
        if self.forgot { seq } else { 1 }
    }
}

/// The number behind the greatest.
pub(crate) fn next_number(greatest: u32) -> Result<u32> {
    greatest.checked_add(1).ok_or_else(|| {
        Error::new(ErrorKind::LimitReached, "start a segment")
            .sides(format!("numbers up to {}", u32::MAX), greatest)
    })
}

fn numbers(seq: u64, generation: u64) -> Receipt {
    Receipt {
        seq: Seq::new(seq).unwrap_or(Seq::FIRST),
        generation: Generation::new(generation).unwrap_or(Generation::FIRST),
    }
}

fn digest_of(items: &[Item<'_>]) -> Digest {
    items.iter().fold(Digest::EMPTY, |digest, item| {
        let Draft { kind, operation, body_crc, .. } = item.draft;
        digest.with(kind, operation, item.draft.lengths(), body_crc)
    })
}

/// The payloads of a preamble's frames.
struct PreambleBatch {
    head: Vec<u8>,
    kinds: Vec<Vec<u8>>,
}

impl PreambleBatch {
    fn drafts(&self) -> Vec<Draft<'_>> {
        let kinds = self.kinds.iter().map(|kind| Draft::system(System::Kind, kind));
        std::iter::once(Draft::system(System::Preamble, &self.head)).chain(kinds).collect()
    }

    fn bytes(&self) -> u64 {
        self.drafts().iter().map(Draft::bytes).sum()
    }
}

/// A panic between the first stored byte and the publishing store leaves the index ahead of
/// the log: nothing may be written after it.
struct PoisonIfDropped<'a>(&'a Commit);

impl Drop for PoisonIfDropped<'_> {
    fn drop(&mut self) {
        self.0.poison("a panic while a batch was being stored");
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Core({}, visible {})", self.directory.path().display(), self.commit.visible())
    }
}
