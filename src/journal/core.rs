//! The engine behind a journal: the writer, the marks, the index, and what keeps them going.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;

use crate::disk::map::ForkGuard;
use crate::disk::{Directory, Through};
use crate::error::{Error, ErrorKind, Result, entity_text};
use crate::feed::Feed;
use crate::feed::hub::Hub;
use crate::format::count::EventCount;
use crate::format::cursor::CursorState;
use crate::format::frame::flag;
use crate::format::index::{EntityHash, Keyed};
use crate::format::lock::Cell;
use crate::format::manifest::{CursorTable, Manifest};
use crate::format::system::System;
use crate::id::{EntryAt, Generation, IdempotencyKey, Life, Position, SEQ_MAX, Seq};
use crate::index::entities::{Entities, Known, Touched};
use crate::index::finder::Index;
use crate::index::keyed::Digest;
use crate::index::live::{LiveIndex, units};
use crate::journal::compaction::Compacting;
use crate::journal::cursors::Move;
use crate::journal::durable::PoisonIfDropped;
use crate::journal::idle::Idle;
use crate::journal::keeper::Keeper;
use crate::journal::kinds::{KindSet, is_guarded};
use crate::journal::lodger::{Lodger, Registrations};
use crate::journal::pages::window;
use crate::journal::pins::Pins;
use crate::journal::record::{BatchReceipt, Expect, Receipt, Record};
use crate::journal::registry::Registry;
use crate::journal::tasks::Tasks;
use crate::journal::waiting::touch;
use crate::journal::window::Window;
use crate::log::commit::{Commit, Stopped};
use crate::log::lock::HeldLock;
use crate::log::report::RecoveryReport;
use crate::log::segment::Segment;
use crate::log::writer::{ActiveSegment, Draft, Numbers};
use crate::meter::{Batches, Meter, Syncs, add};
use crate::options::{Durability, Options};

/// The engine. The lock order stands in [`crate::journal`].
pub(crate) struct Core {
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) options: Options,
    /// How frames get into the file here.
    pub(crate) through: Through,
    pub(crate) manifest: Manifest,
    pub(crate) report: RecoveryReport,
    pub(crate) commit: Commit,
    pub(crate) index: Arc<Index>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) registry: parking_lot::RwLock<Registry>,
    /// Every kind up to this number is registered: spares the append path a lock.
    pub(crate) kinds_through: AtomicU16,
    /// The kinds of which only the state layer writes.
    pub(crate) state_kinds: KindSet,
    /// What stands on the journal, and ends before it does.
    pub(crate) lodger: OnceLock<Arc<dyn Lodger>>,
    pub(crate) registrations: Registrations,
    /// Segments with bytes that are not durable, oldest first; the last one is active.
    pub(crate) unsynced: Mutex<Vec<Arc<Segment>>>,
    pub(crate) keeper: Keeper,
    pub(crate) idle: Idle,
    pub(crate) feed: Feed,
    /// Broadcasts, which nothing of the log knows of.
    pub(crate) hub: Arc<Hub>,
    /// The names of the cursors that a watcher of this process has in hand,
    /// and how often in a row what reads under each has failed at one entry.
    pub(crate) cursors_held: Mutex<BTreeMap<String, u32>>,
    pub(crate) tasks: Tasks,
    /// What holds compaction back beside cursors.
    pub(crate) pins: Arc<Pins>,
    pub(crate) compacting: Compacting,
    /// The manifest's table of cursors. Whoever replaces the manifest holds it until memory is as that.
    pub(crate) table: Mutex<CursorTable>,
    /// There is a file that can be given up for a manifest.
    pub(crate) has_reserve: AtomicBool,
    /// Files that compaction has replaced and that are still there.
    pub(crate) left: Mutex<Vec<String>>,
    pub(crate) lock: HeldLock,
    pub(crate) fork: ForkGuard,
    pub(crate) counters: Counters,
    /// What those above count.
    pub(crate) meter: Arc<Meter>,
    /// Rises with each floor of a topic that is put: who has looked at them since need not look again.
    pub(crate) floors_put: AtomicU64,
    pub(crate) closed: AtomicBool,
    /// The system refused a thread: the appending calls do its work.
    pub(crate) alone: AtomicBool,
}

/// What is counted, for `stats()`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Entries and batches, in one: a batch is one more of its size.
    pub(crate) batches: Batches,
    pub(crate) appended_bytes: AtomicU64,
    pub(crate) syncs: Syncs,
    pub(crate) rotations: AtomicU64,
    pub(crate) last_append: AtomicU64,
    /// Whoever subscribes was told of the poison.
    pub(crate) poison_told: AtomicBool,
}

impl Counters {
    /// Counts a batch. Only the holder of the writer's lock does: what it adds to stays where it
    /// is meanwhile, and a plain store is enough.
    #[inline]
    fn appended(&self, entries: u64, bytes: u64, time: i64) {
        self.batches.count(entries);
        add(&self.appended_bytes, bytes);
        self.last_append.store(time.cast_unsigned(), Ordering::Relaxed);
    }
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
    /// This life has no `open` frame yet: where recovery ended.
    pub(crate) unannounced: Option<Position>,
    /// Seqs that a repair could not save, to be named by the next preamble.
    pub(crate) lost: u64,
    /// The segment that begins with the last preamble.
    pub(crate) preamble_at: u32,
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
    pub(crate) entered: Instant,
    /// The offset at which the keeper is told how far the log has come.
    pub(crate) tell_at: u64,
}

impl<'a> Item<'a> {
    /// Of a row frame. What it expects of its entity, its one writer knows.
    pub(crate) fn of_row(draft: Draft<'a>, hash: EntityHash, touched: Touched) -> Self {
        Self { draft, hash, touched, expect: Expect::Any, stamp: None, is_own: false }
    }

    pub(crate) fn kind(&self) -> u16 {
        self.draft.kind
    }

    pub(crate) fn hash(&self) -> EntityHash {
        self.hash
    }
}

impl Active {
    pub(crate) fn new(log: ActiveSegment, live: Arc<LiveIndex>) -> Self {
        // The first window was made writable with the segment.
        let tell_at = window(log.segment.header.bytes) / 2;
        Self { log, live, entered: Instant::now(), tell_at }
    }

    /// Enters the frame that is pushed next into the arrays and the directory, with the generation
    /// that `number` gives it behind what was known of its entity.
    #[inline]
    pub(crate) fn index_next(
        &self,
        entities: &Entities,
        entity: (EntityHash, Touched),
        number: impl FnOnce(Option<Known>) -> u64,
    ) -> u64 {
        let end = self.log.end();
        let newest = EntryAt::new(end.segment(), self.live.count());
        entities.advance(entity, |before| {
            // The arrays first, so that whoever finds the entry in the directory finds it there.
            self.live.push(end.offset(), before.map_or(EntryAt::NONE, |known| known.newest));
            Known { generation: number(before), newest }
        })
    }
}

/// What belongs to a batch beside its entries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside<'a> {
    pub(crate) moves: &'a [Move],
    pub(crate) key: Option<IdempotencyKey>,
    /// The numbers that events of these kinds have come to with it.
    pub(crate) counts: &'a [EventCount],
    /// It may be greater than what the options say, up to so many bytes; a segment is made to fit it then.
    pub(crate) up_to: u64,
}

/// A batch that is stored under the lock.
struct Stored<'a, 'b> {
    items: &'a [Item<'b>],
    cursors: &'a [CursorState],
    counts: &'a [EventCount],
    bytes: u64,
    key: Option<IdempotencyKey>,
    time: i64,
    somebody_reads: bool,
}

/// A frame that is ready for the lock, with what the lock's holder needs to know.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    pub(crate) draft: Draft<'a>,
    hash: EntityHash,
    touched: Touched,
    expect: Expect,
    /// What it is remembered by.
    pub(crate) stamp: Option<IdempotencyKey>,
    /// Nobody asks whether its kind may be written.
    pub(crate) is_own: bool,
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
        let copies = directory.file_system().copy_on_write;
        let table = Mutex::new(manifest.table.clone());
        Self {
            directory,
            options,
            through: if copies { Through::Pwrite } else { Through::Map },
            manifest,
            report,
            commit: Commit::new(end),
            index,
            writer: Mutex::new(writer),
            kinds_through: AtomicU16::new(registry.dense_through()),
            state_kinds: registry.iter().filter(|kind| is_guarded(kind)).map(|kind| kind.id).collect(),
            lodger: OnceLock::new(),
            registrations: Registrations::default(),
            registry: parking_lot::RwLock::new(registry),
            unsynced: Mutex::default(),
            keeper: Keeper::default(),
            idle: Idle::default(),
            feed: Feed::default(),
            hub: Arc::default(),
            cursors_held: Mutex::default(),
            tasks: Tasks::default(),
            pins: Arc::default(),
            compacting: Compacting::default(),
            table,
            has_reserve: AtomicBool::new(false),
            left: Mutex::default(),
            lock,
            fork: ForkGuard::new(),
            counters: Counters::default(),
            meter: Arc::default(),
            floors_put: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            alone: AtomicBool::new(false),
        }
    }

    /// Appends one record.
    pub(crate) fn append(&self, record: &Record<'_>) -> Result<(Receipt, Position)> {
        let item = self.item(record)?;
        let mut receipt = None;
        let (end, _) = self
            .append_items(std::slice::from_ref(&item), Beside::default(), &mut |next| receipt = Some(next))?;
        Ok((receipt.unwrap_or_else(|| panic!("one record has one receipt")), end))
    }

    /// Appends records together, all or nothing.
    pub(crate) fn append_batch(
        &self,
        items: &mut [Item<'_>],
        moves: &[Move],
        key: Option<IdempotencyKey>,
    ) -> Result<(BatchReceipt, Position)> {
        let Some(first) = items.first_mut() else {
            return Err(Error::new(ErrorKind::InvalidInput, "append a batch").sides("1 record or more", 0));
        };
        if let Some(key) = key {
            first.draft.name_batch(key);
        }
        let mut receipts = Vec::with_capacity(items.len());
        let (end, repeated) =
            self.append_items(items, Beside { moves, key, ..Beside::default() }, &mut |receipt| {
                receipts.push(receipt)
            })?;
        Ok((BatchReceipt { receipts, repeated }, end))
    }

    /// Everything that can be done to a record before the lock.
    #[inline]
    pub(crate) fn item<'a>(&self, record: &Record<'a>) -> Result<Item<'a>> {
        self.check_not_forked("append")?;
        let draft = record.draft()?;
        let hash = self.index.hash(record.kind.0, record.key);
        let touched = self.index.touch(hash)?;
        let stamp = record.stamp.map(|stamp| stamp.key_for(record.kind.0, record.key));
        Ok(Item { draft, hash, touched, expect: record.expect, stamp, is_own: record.is_own })
    }

    /// Appends items, and in the same batch moves of cursors, which stand before them.
    pub(crate) fn append_items(
        &self,
        items: &[Item<'_>],
        beside: Beside<'_>,
        receipt: &mut dyn FnMut(Receipt),
    ) -> Result<(Position, bool)> {
        // Here too: the items may have been made before the fork.
        self.check_not_forked("append")?;
        // A kind that was registered stays so.
        self.check_kinds(items)?;
        self.append_checked(items, beside, receipt)
    }

    /// The same, of kinds that whoever calls may write.
    pub(crate) fn append_checked(
        &self,
        items: &[Item<'_>],
        beside: Beside<'_>,
        receipt: &mut dyn FnMut(Receipt),
    ) -> Result<(Position, bool)> {
        let Beside { moves, key, counts, up_to } = beside;
        let items_bytes: u64 = items.iter().map(|item| item.draft.bytes()).sum();
        let bytes = items_bytes + moves.iter().map(|step| cursor_bytes(&step.state)).sum::<u64>();
        let most = self.options.batch_bytes_max().max(up_to);
        if bytes > most {
            return Err(Error::new(ErrorKind::BatchTooLarge, format!("append {} entries", items.len()))
                .sides(format!("at most {most} bytes"), format!("{bytes} bytes")));
        }
        let time = self.options.clock.now();
        let mut cursors;
        let mut writer = loop {
            let mut writer = self.writer.lock();
            self.check_writable()?;
            if let Some(key) = key
                && let Some(first) = writer.keyed.get(&key).copied()
            {
                // What was appended does not change: nobody has to wait for the look at it.
                drop(writer);
                let end = self.repeat(first, key, items, receipt)?;
                if moves.is_empty() {
                    return Ok((end, true));
                }
                // The cursor may have been put back since, and has come here again.
                return Ok((
                    self.append_items(&[], Beside { moves, ..Beside::default() }, &mut |_| {})?.0,
                    true,
                ));
            }
            if is_known(&writer, items) {
                // Whoever appends stamped entries leaves out what is there, and comes again.
                return Ok((self.commit.visible(), true));
            }
            self.check_expectations(&writer, items)?;
            cursors = self.states_behind(moves, writer.last_seq, time)?;
            if items.is_empty() && cursors.is_empty() {
                // They are there already; whoever waits, waits for what said so.
                return Ok((self.commit.visible(), false));
            }
            if self.make_room(&mut writer, bytes)? {
                break writer;
            }
            drop(writer);
            self.prepare(bytes)?;
        };
        // A cursor that is there already takes no room.
        let bytes = items_bytes + cursors.iter().map(cursor_bytes).sum::<u64>();
        let somebody_reads = self.feed.is_in_use();
        let batch = Stored { items, cursors: &cursors, counts, bytes, key, time, somebody_reads };
        let end = self.store(&mut writer, &batch, receipt)?;
        // Under the lock, so that it never goes back: a plain store.
        self.lock.show(Cell::Visible, end.word());
        let nears = match &mut writer.stage {
            Stage::Writing(active) => active.nears_the_window(),
            _ => false,
        };
        drop(writer);
        if somebody_reads {
            self.wake_for(items);
        }
        if nears && self.keeps_pages_writable() {
            self.keeper.want_pages();
        }
        if self.options.durability != Durability::Os {
            self.idle.busy();
        }
        if !self.options.background || self.alone.load(Ordering::Relaxed) {
            // Derived files can wait: the batch is in the log whatever becomes of them.
            let _ = self.maintain();
        }
        Ok((end, false))
    }

    /// Refuses what can no longer be written.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "append").at(self.directory.path()));
        }
        if self.commit.is_poisoned() {
            return Err(self.stopped_now("append"));
        }
        Ok(())
    }

    /// Refuses in a forked child, which has only a copy of everything here. Before any lock:
    /// a thread of the parent, which is not there, may have held it at that moment.
    #[inline]
    pub(crate) fn check_not_forked(&self, doing: &str) -> Result<()> {
        if self.fork.is_forked() {
            return Err(Error::new(ErrorKind::Forked, doing).at(self.directory.path()));
        }
        Ok(())
    }

    /// Why nothing more is written.
    pub(crate) fn stopped_now(&self, doing: &str) -> Error {
        self.stopped(self.commit.stopped().unwrap_or(Stopped::Closed), doing)
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
                None => self.known_now(item.hash)?,
            };
            let met = match item.expect {
                Expect::Any => true,
                Expect::New => known.is_none(),
                Expect::Exists => known.is_some(),
                Expect::Generation(generation) => known == Some(generation.get()),
            };
            if !met {
                let found =
                    known.map_or_else(|| "no entry".to_owned(), |known| format!("generation {known}"));
                return Err(Error::new(ErrorKind::Conflict, format!("append to {}", self.entity_of(item)))
                    .sides(item.expect, found)
                    .found_generation(known));
            }
            now.insert(
                item.hash,
                known.map_or(writer.first_generation(seq), |known| known.saturating_add(1)),
            );
        }
        Ok(())
    }

    /// The newest generation of an entity. One that compaction has dropped since it was touched is forgotten, so
    /// that it begins anew like any that is not known.
    fn known_now(&self, hash: EntityHash) -> Result<Option<u64>> {
        let known = self.index.find(hash)?;
        if known.is_none() {
            self.index.touch(hash)?;
        }
        Ok(known.map(|known| known.generation))
    }

    /// An entity as people write it.
    fn entity_of(&self, item: &Item<'_>) -> String {
        match self.registry.read().get(crate::id::KindId(item.draft.kind)) {
            Some(kind) => entity_text(&kind.name, item.draft.key),
            None => entity_text(&item.draft.kind.to_string(), item.draft.key),
        }
    }

    /// Answers a batch, or a stamped entry, that was appended before.
    pub(crate) fn repeat(
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
        if let Some(generations) = view.answer_to(&first)? {
            for (generation, seq) in generations.into_iter().zip(first.first_seq..) {
                receipt(numbers(seq, generation));
            }
            return Ok(self.commit.visible());
        }
        for seq in first.first_seq..first.first_seq + u64::from(first.frames) {
            let found = Seq::new(seq).map(|seq| view.get(seq)).transpose()?.flatten();
            let Some(entry) = found else {
                // A sync that failed just now has cut the view.
                self.check_writable()?;
                return Err(Error::corrupt(format!("find entry {seq}, which was appended with key {key}"))
                    .lost(seq..=seq));
            };
            receipt(Receipt { seq: entry.seq(), generation: entry.generation() });
        }
        // As durable as the caller asks: everything that is visible now covers it.
        Ok(self.commit.visible())
    }

    /// Stores a batch for which there is room, and publishes it with one store.
    fn store(
        &self,
        writer: &mut Writer,
        batch: &Stored<'_, '_>,
        receipt: &mut dyn FnMut(Receipt),
    ) -> Result<Position> {
        let &Stored { items, cursors, counts, bytes, key, time, somebody_reads } = batch;
        let durable = self.commit.durable();
        let mut undo: Vec<(EntityHash, Option<Known>)> = Vec::new();
        let (first_seq, forgot) = (writer.last_seq + 1, writer.forgot);
        let Stage::Writing(active) = &mut writer.stage else {
            return Err(Error::new(ErrorKind::Closed, "append"));
        };
        let (start, count) = (active.log.end(), active.live.count());
        let may_fail = active.log.begin_batch(bytes);
        let half_done = PoisonIfDropped(self);
        let listed = active.live.system.lock().len();
        push_cursors(active, cursors, first_seq - 1, time, !items.is_empty(), durable);
        let mut left = items.len();
        for (item, seq) in items.iter().zip(first_seq..) {
            left -= 1;
            let mut flags = if left > 0 { flag::MORE } else { 0 };
            let generation = active.index_next(&self.index.entities, (item.hash, item.touched), |before| {
                if may_fail {
                    undo.push((item.hash, before));
                }
                let Some(known) = before else {
                    flags |= flag::FIRST;
                    return if forgot { seq } else { 1 };
                };
                known.generation.saturating_add(1)
            });
            active.log.push(&item.draft, Numbers { flags, seq, generation, time }, durable);
            receipt(numbers(seq, generation));
        }
        if let Err(unfinished) = active.log.finish() {
            // Nobody saw anything of the batch: take back what the index was told.
            active.live.truncate(count);
            active.live.system.lock().truncate(listed);
            active.log.give_up_at(start);
            undo.into_iter().rev().for_each(|(hash, before)| self.index.entities.restore(hash, before));
            writer.stage = Stage::Torn { end: start };
            std::mem::forget(half_done);
            return Err(self.write_failed(start, unfinished));
        }
        let end = active.log.end();
        if let Some(key) = key {
            let frames = u32::try_from(items.len()).unwrap_or(u32::MAX);
            let keyed = Keyed { key, first_seq, frames, digest: digest_of(items).word(), time };
            active.live.keyed.lock().push(keyed);
            writer.keyed.remember(start.segment(), keyed, time);
        } else {
            for (item, first_seq) in items.iter().zip(first_seq..) {
                let Some(key) = item.stamp else { continue };
                let digest = digest_of(std::slice::from_ref(item)).word();
                let keyed = Keyed { key, first_seq, frames: 1, digest, time };
                active.live.keyed.lock().push(keyed);
                writer.keyed.remember(start.segment(), keyed, time);
            }
        }
        if somebody_reads {
            self.feed.publish(&self.commit, end, |pending| touch(pending, items));
        } else {
            self.commit.publish(end);
        }
        writer.last_seq += items.len() as u64;
        if !cursors.is_empty() || !counts.is_empty() {
            // Before the lock is given back: the next preamble restates them.
            let mut registry = self.registry.write();
            cursors.iter().for_each(|cursor| registry.cursors.learn_at(cursor.clone(), end));
            counts.iter().for_each(|count| registry.learn_count(*count));
        }
        std::mem::forget(half_done);
        self.counters.appended(items.len() as u64, end.offset() - start.offset(), time);
        Ok(end)
    }

    pub(crate) fn view(&self) -> crate::journal::view::View {
        crate::journal::view::View::new(Arc::clone(&self.index), self.commit.readable())
    }
}

impl Writer {
    /// The generation that an unknown entity starts with.
    fn first_generation(&self, seq: u64) -> u64 {
        if self.forgot { seq } else { 1 }
    }
}

/// One of the stamped entries was appended before.
#[inline]
fn is_known(writer: &Writer, items: &[Item<'_>]) -> bool {
    let mut stamps = items.iter().filter_map(|item| item.stamp.as_ref());
    stamps.any(|stamp| writer.keyed.get(stamp).is_some())
}

fn cursor_bytes(state: &CursorState) -> u64 {
    Draft::system(System::Cursor, &state.encode()).bytes()
}

/// Stores the moves of cursors in front of a batch's entries: they take no number of the order.
fn push_cursors(
    active: &mut Active,
    cursors: &[CursorState],
    seq: u64,
    time: i64,
    entries_follow: bool,
    durable: Position,
) {
    for (place, cursor) in cursors.iter().enumerate() {
        let more = entries_follow || place + 1 < cursors.len();
        let flags = if more { flag::MORE } else { 0 };
        let numbers = Numbers { flags, seq, generation: 0, time };
        let state = cursor.encode();
        let draft = Draft::system(System::Cursor, &state);
        let offset = active.log.push(&draft, numbers, durable);
        active.live.system.lock().push(units(offset));
    }
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

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Core({}, visible {})", self.directory.path().display(), self.commit.visible())
    }
}
