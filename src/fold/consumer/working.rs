//! The part of a consumer that consumes: where it stands, what it makes of each record, and how it goes on.
//!
//! # What may come, and what becomes of it
//!
//! | what comes | what is done |
//! | --- | --- |
//! | the handler answers an error, or panics | written down; the same record again, behind a pause; nothing behind it meanwhile |
//! | it did so as often as it may | set aside, in one commit with the step over it |
//! | a process ended without a word | written down before the handler is called again; suspended behind the fifth in a row |
//! | a record of an entity that is parked | parked behind the others |
//! | a record that nobody can have written | passed over, parked, or stood before, as it was told |
//! | a record of another type | set aside, parked, or stood before, as it was told |
//! | the same, of an earlier version | parked, if it was told to, or stood before |
//! | a record that a later build wrote | stood before, with pauses |
//! | a record whose number came before | passed over: it was appended again |
//! | a number too high | read again; then as what is lost |
//! | `Lost` | halt, or on from the floor, as it was told |
//! | another era | halt, or as it was told |
//! | somebody else was faster | on from where that one is |
//! | damage | halt |
//! | anything else that fails | the same again, later |
//!
//! How far it has come is written by compare-and-swap, and never goes back within an era.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::backplane::{Backplane, Era, Feed, Filter, Offset, StreamRecord};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::consumer::aside::Written;
use crate::fold::consumer::delivery::{Deliver, Outcome, Raw};
use crate::fold::consumer::handle::Shared;
use crate::fold::consumer::info::{ConsumerHalt, ConsumerHaltReason};
use crate::fold::consumer::options::{ConsumerOptions, OnEraChange, OnLost};
use crate::fold::consumer::order::{Judged, Order};
use crate::fold::consumer::progress::{self, Identity, Known, Progress, SWAPS, Stamps};
use crate::fold::image::{key_of, repeated};
use crate::fold::lost::{self, is_behind_the_end};
use crate::id::IdempotencyKey;

/// So many records are consumed in one turn.
const TURN_RECORDS: usize = 16;
/// What is missing at one place is asked for again so often.
const GAP_TRIES: u32 = 3;

/// What a consumer works on, and how.
pub(super) struct Setting {
    pub(super) plane: Arc<dyn Backplane>,
    pub(super) clock: Clock,
    pub(super) of: Identity,
    pub(super) options: ConsumerOptions,
}

pub(super) struct Working {
    /// `None` when it has ended.
    pub(super) handler: Option<Box<dyn Deliver>>,
    pub(super) stamps: Stamps,
    /// What was written when somebody looked last; `None` before it has begun.
    pub(super) known: Option<Known>,
    pub(super) has_begun: bool,
    /// Of the offsets that follow.
    era: Option<Era>,
    pub(super) feed: Option<Box<dyn Feed>>,
    /// What the feed has delivered and is not done.
    pub(super) head: Option<StreamRecord>,
    /// Everything up to here is done, though that may not be written down yet.
    pub(super) at: Offset,
    /// Everything up to here has come, in order.
    seen: Offset,
    order: Option<Order>,
    uncommitted: u32,
    since: Option<Duration>,
    /// Whoever ran it before ended without a word, and the handler was not called since.
    pub(super) is_unclean: bool,
    /// An attempt that failed, until it is written down: of which record, the how manieth, and why.
    owed: Option<(StreamRecord, u32, String)>,
    /// The dead letter of this record was taken.
    pub(super) letter_taken: Option<Offset>,
    pub(super) letters_failed: u32,
    pub(super) blocked: u32,
    gaps: u32,
    /// So often it has subscribed anew.
    pub(super) reconnects: u64,
    has_subscribed: bool,
    /// The backplane did not answer since.
    was_cut: bool,
}

/// What a change of the progress says of a record.
#[derive(Clone, Copy)]
pub(super) struct Copied<'a> {
    record: Option<&'a StreamRecord>,
    /// A copy of it, in the same commit.
    written: Option<&'a Written>,
}

impl<'a> Copied<'a> {
    pub(super) const NOTHING: Self = Self { record: None, written: None };

    pub(super) fn of(record: &'a StreamRecord, written: &'a Written) -> Self {
        Self { record: Some(record), written: Some(written) }
    }
}

/// How far a turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There was nothing more.
    Drained,
    More,
}

/// Why a turn ended early.
pub(super) enum Trouble {
    Halt(ConsumerHalt),
    /// The same again, later.
    Error(Error),
    /// The same again, behind a pause.
    Pause(Duration),
    /// Until somebody resumes it.
    Suspended,
    /// The same again.
    Anew,
}

impl Trouble {
    /// The backplane did not answer.
    pub(super) fn is_disconnected(&self) -> bool {
        matches!(self, Self::Error(error) if error.kind() == ErrorKind::Disconnected)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Working {
    pub(super) fn new(handler: Box<dyn Deliver>) -> Result<Self> {
        Ok(Self {
            handler: Some(handler),
            stamps: Stamps::new()?,
            known: None,
            has_begun: false,
            era: None,
            feed: None,
            head: None,
            at: Offset::BEGINNING,
            seen: Offset::BEGINNING,
            order: None,
            uncommitted: 0,
            since: None,
            is_unclean: false,
            owed: None,
            letter_taken: None,
            letters_failed: 0,
            blocked: 0,
            gaps: 0,
            reconnects: 0,
            has_subscribed: false,
            was_cut: false,
        })
    }

    pub(super) fn progress(&self) -> Option<&Progress> {
        self.known.as_ref().map(|known| &known.progress)
    }

    /// How often the record failed at which it stands.
    pub(super) fn stuck(&self) -> u32 {
        let failing = self.head.as_ref().zip(self.progress());
        let written = failing.map_or(0, |(head, progress)| progress.attempts_of(head.offset()));
        written.saturating_add(self.letters_failed)
    }

    /// Of which era its offsets are, and how often it has subscribed anew.
    pub(super) fn feeds(&self) -> (Option<Era>, u64) {
        (self.era, self.reconnects)
    }

    /// The record at which it stands.
    pub(super) fn stands_before(&self) -> Offset {
        self.head.as_ref().map_or(self.at, StreamRecord::offset)
    }

    /// Goes on for a turn.
    pub(super) fn turn(
        &mut self,
        setting: &Setting,
        shared: &Shared,
        waker: &Waker,
    ) -> Result<Turn, Trouble> {
        match self.go_on(setting, shared, waker) {
            Err(Trouble::Error(error)) => {
                self.feed = None;
                self.was_cut |= error.kind() == ErrorKind::Disconnected;
                // What became of a commit is not known.
                shared.look_again();
                Err(judged(error, self.at))
            }
            Err(Trouble::Pause(pause)) => {
                // Somebody else may have come further meanwhile.
                shared.look_again();
                Err(Trouble::Pause(pause))
            }
            Err(Trouble::Suspended) => {
                // It may be resumed in another process.
                shared.look_again();
                self.feed = None;
                Err(Trouble::Suspended)
            }
            Err(other) => {
                self.feed = None;
                Err(other)
            }
            Ok(turn) => Ok(turn),
        }
    }

    fn go_on(&mut self, setting: &Setting, shared: &Shared, waker: &Waker) -> Result<Turn, Trouble> {
        self.look(setting, shared)?;
        if self.progress().is_some_and(|progress| progress.suspended.is_some()) {
            return Err(Trouble::Suspended);
        }
        self.settle_owed(setting)?;
        self.retry_parked(setting, shared)?;
        if self.is_commit_due(setting) {
            self.commit(setting)?;
        }
        if self.feed.is_none() {
            self.connect(setting)?;
        }
        for _ in 0..TURN_RECORDS {
            if shared.is_cancelled() {
                return Ok(Turn::More);
            }
            let Some(record) = self.next(setting, waker)? else {
                return Ok(Turn::Drained);
            };
            let era = self.era;
            let taken = self.take(setting, shared, &record);
            // Before a gap it is read again, with what the feed may have left out; and one of another era is another record.
            let is_next = self.era == era && self.gaps == 0 && record.offset() > self.at;
            if taken.is_err() && is_next {
                self.head = Some(record);
            }
            taken?;
        }
        Ok(Turn::More)
    }

    fn next(&mut self, setting: &Setting, waker: &Waker) -> Result<Option<StreamRecord>, Trouble> {
        if let Some(head) = self.head.clone() {
            let is_there = self.is_there(setting, &head)?;
            self.head = None;
            // Else what comes next is looked up: there may be another one, or it is `Lost`.
            return if is_there { Ok(Some(head)) } else { Err(Trouble::Anew) };
        }
        let Some(feed) = &mut self.feed else { return Err(Trouble::Anew) };
        match feed.poll(waker) {
            Ok(found) => Ok(found),
            Err(error) if error.kind() == ErrorKind::Lost => Err(self.lost(setting, &error)),
            Err(error) if error.kind() == ErrorKind::EraChanged => Err(Trouble::Anew),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at what is written, where that may have changed.
    fn look(&mut self, setting: &Setting, shared: &Shared) -> Result<(), Trouble> {
        let is_asked = shared.takes_a_look();
        if !self.has_begun {
            return self.begin(setting);
        }
        if is_asked {
            // Until that has come to something it is asked for.
            shared.look_again();
            self.reload(setting)?;
            shared.takes_a_look();
        }
        Ok(())
    }

    fn reload(&mut self, setting: &Setting) -> Result<(), Trouble> {
        let Some(known) = progress::load(&*setting.plane, &setting.of)? else {
            return Err(self.halt(ConsumerHaltReason::Retired, "its name was retired".to_owned()));
        };
        if self.progress().is_some_and(|progress| progress.born != known.progress.born) {
            let text = "its name was retired, and is now that of another consumer".to_owned();
            return Err(self.halt(ConsumerHaltReason::Retired, text));
        }
        self.adopt(known);
        Ok(())
    }

    /// Takes what is written for what is so: somebody else may have come further.
    pub(super) fn adopt(&mut self, known: Known) {
        let (era, offset) = (known.progress.era(), known.progress.offset());
        if self.era != Some(era) {
            (self.era, self.at, self.seen) = (Some(era), offset, Offset::BEGINNING);
            (self.feed, self.head, self.order, self.owed) = (None, None, None, None);
            (self.uncommitted, self.since) = (0, None);
            // Of the record that has the offset now nothing of this is so.
            (self.blocked, self.gaps, self.letters_failed, self.letter_taken) = (0, 0, 0, None);
        }
        if offset > self.at {
            self.at = offset;
            (self.uncommitted, self.since) = (0, None);
        }
        self.head = self.head.take().filter(|head| head.offset() > self.at);
        self.known = Some(known);
    }

    fn connect(&mut self, setting: &Setting) -> Result<(), Trouble> {
        let plane = &*setting.plane;
        let era = repeated(|| plane.era())?;
        if self.era != Some(era) {
            self.change_era(setting, era)?;
        }
        match repeated(|| plane.subscribe(setting.of.filter(), self.at)) {
            Ok(feed) => {
                self.feed = Some(feed);
                let is_again = std::mem::replace(&mut self.has_subscribed, true);
                self.reconnects += u64::from(std::mem::take(&mut self.was_cut) && is_again);
            }
            Err(error) if error.kind() == ErrorKind::Lost => return Err(self.lost(setting, &error)),
            Err(error) if is_behind_the_end(&error) => {
                if repeated(|| plane.era())? != era {
                    return Err(Trouble::Anew);
                }
                return Err(self.halt(ConsumerHaltReason::Gap, format!("the log ends before it: {error}")));
            }
            Err(error) => return Err(error.into()),
        }
        if self.order.is_none() || self.seen < self.at {
            self.order = Some(Order::new(self.at == Offset::BEGINNING));
            self.seen = self.at;
        }
        // What was subscribed to may be of a later one.
        if repeated(|| plane.era())? == era { Ok(()) } else { Err(Trouble::Anew) }
    }

    fn change_era(&mut self, setting: &Setting, era: Era) -> Result<(), Trouble> {
        let known = self.era;
        let place = match setting.options.on_era_change {
            OnEraChange::Halt => {
                let known = known.map_or_else(String::new, |known| known.to_string());
                let text = format!("it is {era}, and the place is of {known}");
                return Err(self.halt(ConsumerHaltReason::EraChanged, text));
            }
            OnEraChange::KeepPlace => self.at,
            OnEraChange::StartOver => {
                before(repeated(|| setting.plane.lowest_retained(setting.of.filter()))?)
            }
        };
        self.update(setting, Copied::NOTHING, |progress| {
            let is_of_before = progress.era() != era;
            progress.set_era(era);
            progress.move_to(place);
            is_of_before
        })?;
        // A place that was moved back is adopted as one of the new era.
        if let Some(known) = self.known.clone() {
            self.adopt(known);
        }
        Ok(())
    }

    /// Goes on from the floor, or halts: what comes next here was dropped.
    fn lost(&mut self, setting: &Setting, error: &Error) -> Trouble {
        if setting.options.on_lost == OnLost::Halt {
            let halt = ConsumerHalt::new(ConsumerHaltReason::Lost, self.at, error.to_string());
            return Trouble::Halt(halt.floored_at(error.floor().map(Offset::from_raw)));
        }
        let lowest = match repeated(|| setting.plane.lowest_retained(setting.of.filter())) {
            Ok(lowest) => lowest,
            Err(error) => return error.into(),
        };
        // Where what is left has holes, only behind them.
        let places = [before(lowest), before(Offset::from_raw(error.floor().unwrap_or(0)))];
        let Some(place) = places.into_iter().find(|place| *place > self.at) else {
            return self.halt(ConsumerHaltReason::Lost, error.to_string());
        };
        (self.head, self.order) = (None, None);
        let moved = self.update(setting, Copied::NOTHING, |progress| {
            progress.reseeded += 1;
            progress.advance(place)
        });
        if let Err(trouble) = moved {
            return trouble;
        }
        self.at = self.at.max(place);
        Trouble::Anew
    }

    fn take(&mut self, setting: &Setting, shared: &Shared, record: &StreamRecord) -> Result<(), Trouble> {
        if !setting.of.filter().matches(record.key()) {
            return Ok(());
        }
        if record.offset() > self.seen && self.is_repeated(setting, record)? {
            self.pass(setting, record);
            return Ok(());
        }
        if record.offset() <= self.at {
            return Ok(());
        }
        if !is_of_shard(setting.of.shard, record.key()) {
            self.pass(setting, record);
            return Ok(());
        }
        let Some(progress) = self.progress() else { return Err(Trouble::Anew) };
        if progress.parking(record.key()).is_some() {
            return self.park(setting, record, (0, "behind others"), |_| {});
        }
        let attempts = progress.attempts_of(record.offset());
        self.mark_crash(setting)?;
        if record.offset() <= self.at {
            // Somebody else was faster.
            return Ok(());
        }
        if setting.options.max_attempts.is_some_and(|most| attempts >= most) {
            return self.poison(setting, shared, record);
        }
        match self.deliver(setting, shared, record, attempts) {
            Outcome::Done => self.done(setting, record),
            // What a handler answers that was told to stop says nothing.
            Outcome::Failed(_) if shared.is_cancelled() => Err(Trouble::Anew),
            Outcome::Failed(cause) => {
                shared.note_failed(cause.clone());
                self.owed = Some((record.clone(), attempts.saturating_add(1), cause));
                self.head = Some(record.clone());
                self.settle_owed(setting)?;
                Err(self.behind_a_failure(setting, record))
            }
            Outcome::Unfit(unfit) => self.unfit(setting, shared, record, unfit),
        }
    }

    /// Proves that nothing is missing before a record that comes for the first time. True: it came before, further up.
    fn is_repeated(&mut self, setting: &Setting, record: &StreamRecord) -> Result<bool, Trouble> {
        let Some(order) = &mut self.order else { return Err(Trouble::Anew) };
        let topic = Filter::topic(&setting.of.stream, record.key());
        let is_behind_others =
            order.begins_again(record) && !lost::is_first_left(&*setting.plane, topic, record.offset())?;
        let judged = order.judge(record, is_behind_others);
        if let Judged::Gap { expected, found } = judged {
            return self.gap(setting, record, &expected, &found).map(|()| false);
        }
        order.take(record);
        (self.seen, self.gaps) = (record.offset(), 0);
        Ok(judged == Judged::Again)
    }

    /// The record is not the next one. It may be the feed that left something out.
    fn gap(
        &mut self,
        setting: &Setting,
        record: &StreamRecord,
        expected: &str,
        found: &str,
    ) -> Result<(), Trouble> {
        self.gaps += 1;
        if self.gaps <= GAP_TRIES {
            return Err(Trouble::Anew);
        }
        if setting.options.on_lost == OnLost::Halt {
            let text = format!("expected {expected}, found {found}");
            return Err(self.halt_before(setting, record, text));
        }
        self.update(setting, Copied::NOTHING, |progress| {
            progress.reseeded += 1;
            true
        })?;
        let Some(order) = &mut self.order else { return Err(Trouble::Anew) };
        order.forget(record.key());
        order.take(record);
        (self.seen, self.gaps) = (record.offset(), 0);
        Ok(())
    }

    /// Where nothing is left of its topic before a record, what is missing was dropped.
    fn halt_before(&self, setting: &Setting, record: &StreamRecord, text: String) -> Trouble {
        let topic = Filter::topic(&setting.of.stream, record.key());
        match repeated(|| setting.plane.lowest_retained(topic)) {
            Ok(lowest) if lowest >= record.offset() => {
                let halt = ConsumerHalt::new(ConsumerHaltReason::Lost, self.at, format!("{topic}: {text}"));
                Trouble::Halt(halt.floored_at(Some(lowest)))
            }
            Ok(_) => self.halt(ConsumerHaltReason::Gap, text),
            Err(error) => error.into(),
        }
    }

    pub(super) fn deliver(
        &self,
        setting: &Setting,
        shared: &Shared,
        record: &StreamRecord,
        attempts: u32,
    ) -> Outcome {
        let raw = Raw {
            record,
            attempt: attempts.saturating_add(1),
            idempotency_key: self.idempotency_key(setting, record),
            cancelled: &shared.cancelled,
        };
        let Some(handler) = &self.handler else {
            return Outcome::Failed("the consumer has ended".to_owned());
        };
        shared.in_hand(|| handler.deliver(raw)).unwrap_or_else(Outcome::Failed)
    }

    fn idempotency_key(&self, setting: &Setting, record: &StreamRecord) -> IdempotencyKey {
        let of = &setting.of;
        let place = match record.stamp() {
            // The same where it was appended again, and in each era.
            Some(stamp) => [&b"s"[..], &stamp.writer.raw().to_le_bytes(), &stamp.n.to_le_bytes()].concat(),
            None => {
                let era = self.era.map_or(0, Era::raw);
                [&b"o"[..], &era.to_le_bytes(), &record.offset().raw().to_le_bytes()].concat()
            }
        };
        // Whatever part it falls into.
        let is_of_one = [u8::from(of.key.is_some())];
        let parts = [of.name.as_bytes(), of.stream.as_bytes(), &is_of_one, record.key(), &place];
        IdempotencyKey(key_of(b"delivery", &parts))
    }

    /// Writes an attempt down that failed. Two who fail at a time both call it the same one.
    pub(super) fn settle_owed(&mut self, setting: &Setting) -> Result<(), Trouble> {
        let Some((record, attempts, cause)) = self.owed.clone() else { return Ok(()) };
        if !self.is_there(setting, &record)? {
            // Nothing is said any more of what was erased.
            self.owed = None;
            return Ok(());
        }
        let (at, offset) = (self.at, record.offset());
        self.update(setting, Copied { record: Some(&record), written: None }, |progress| {
            if progress.offset() >= offset || progress.attempts_of(offset) >= attempts {
                return false;
            }
            progress.advance(at);
            progress.failed(offset, attempts, &cause);
            true
        })?;
        (self.owed, self.uncommitted, self.since) = (None, 0, None);
        Ok(())
    }

    fn behind_a_failure(&self, setting: &Setting, record: &StreamRecord) -> Trouble {
        let attempts = self.progress().map_or(0, |progress| progress.attempts_of(record.offset()));
        if attempts == 0 || setting.options.max_attempts.is_some_and(|most| attempts >= most) {
            // Somebody else has done it, or it is to be set aside.
            return Trouble::Anew;
        }
        Trouble::Pause(setting.options.retry.pause(attempts))
    }

    fn done(&mut self, setting: &Setting, record: &StreamRecord) -> Result<(), Trouble> {
        self.moved_behind(record.offset());
        self.uncommitted = self.uncommitted.saturating_add(1);
        self.since.get_or_insert_with(|| setting.clock.elapsed());
        if self.is_commit_due(setting) { self.commit(setting) } else { Ok(()) }
    }

    /// Nothing is to be done for it.
    fn pass(&mut self, setting: &Setting, record: &StreamRecord) {
        if record.offset() > self.at {
            self.moved_behind(record.offset());
            self.since.get_or_insert_with(|| setting.clock.elapsed());
        }
    }

    pub(super) fn moved_behind(&mut self, offset: Offset) {
        self.at = self.at.max(offset);
        self.head = None;
        (self.blocked, self.letters_failed, self.letter_taken) = (0, 0, None);
    }

    fn is_commit_due(&self, setting: &Setting) -> bool {
        // What is done behind a crash ends a row of them only when it is written down.
        let is_behind_a_crash = self.progress().is_some_and(|progress| progress.crashes > 0);
        let most = if is_behind_a_crash { 1 } else { setting.options.commit.records };
        self.uncommitted >= most || self.commit_in(setting) == Some(Duration::ZERO)
    }

    /// How long it may be until what is done has to be written down; `None`: it is.
    pub(super) fn commit_in(&self, setting: &Setting) -> Option<Duration> {
        let due = self.since?.saturating_add(setting.options.commit.after);
        Some(due.saturating_sub(setting.clock.elapsed()))
    }

    fn commit(&mut self, setting: &Setting) -> Result<(), Trouble> {
        let at = self.at;
        self.update(setting, Copied::NOTHING, |progress| progress.advance(at))?;
        (self.uncommitted, self.since) = (0, None);
        Ok(())
    }

    /// Changes what is written, with a copy of a record in the same commit. `change` answers whether there is something to
    /// change, and is asked again when somebody else was faster; not when that one has come to another era, in which the offsets
    /// that it would write mean something else.
    pub(super) fn update(
        &mut self,
        setting: &Setting,
        copied: Copied<'_>,
        change: impl Fn(&mut Progress) -> bool,
    ) -> Result<bool, Trouble> {
        let mut is_there = false;
        let era = self.era;
        for _ in 0..SWAPS {
            let Some(known) = self.known.as_ref().filter(|_| self.era == era) else {
                return Err(Trouble::Anew);
            };
            let mut next = known.progress.clone();
            if !change(&mut next) {
                return Ok(false);
            }
            let before: Vec<_> =
                copied.written.filter(|_| !is_there).map(Written::step).into_iter().collect();
            let stamp = self.stamps.next();
            match progress::put(&*setting.plane, &before, Some(&next), &setting.of, known.revision, stamp) {
                Ok(revision) => {
                    self.known = Some(Known { progress: next, revision });
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    self.reload(setting)?;
                    // Who was faster may have been an erasure.
                    if let Some(record) = copied.record
                        && !self.is_there(setting, record)?
                    {
                        return Err(Trouble::Anew);
                    }
                }
                // It was written down before, by a commit of which the rest was not done.
                Err(error) if error.kind() == ErrorKind::KeyReused && !is_there => is_there = true,
                Err(error) => return Err(error.into()),
            }
        }
        Err(progress::overtaken(&setting.of).into())
    }

    fn halt(&self, why: ConsumerHaltReason, text: String) -> Trouble {
        Trouble::Halt(ConsumerHalt::new(why, self.at, text))
    }
}

/// Behind what stands before an offset.
fn before(offset: Offset) -> Offset {
    Offset::from_raw(offset.raw().saturating_sub(1))
}

pub(super) fn is_of_shard(shard: Option<(u32, u32)>, key: &[u8]) -> bool {
    let Some((i, n)) = shard else { return true };
    // Not keyed by the store: every process has to come to the same.
    let hash = u128::from_le_bytes(key_of(b"shard", &[key]));
    hash % u128::from(n.max(1)) == u128::from(i)
}

/// What is worth another try, and what is not.
fn judged(error: Error, at: Offset) -> Trouble {
    let why = match error.kind() {
        ErrorKind::Closed | ErrorKind::Poisoned | ErrorKind::Forked => ConsumerHaltReason::Closed,
        ErrorKind::Corrupt | ErrorKind::Codec => ConsumerHaltReason::Damaged,
        ErrorKind::InvalidInput
        | ErrorKind::BatchTooLarge
        | ErrorKind::OwnedByState
        | ErrorKind::KindMismatch
        | ErrorKind::FormatTooNew => ConsumerHaltReason::Refused,
        _ => return Trouble::Error(error),
    };
    Trouble::Halt(ConsumerHalt::new(why, at, error.to_string()))
}
