//! The part of a projector that folds: where it stands, what it has come to, and how it goes on.
//!
//! # What may come, and what becomes of it
//!
//! | what comes | what is done |
//! | --- | --- |
//! | a record right behind what was folded | folded |
//! | a record at or before where it stands, or of another key | left out |
//! | a record whose number was folded, further on | left out: it was appended again |
//! | a number too high, also where it is told for the first and others are left before it | the topic is read again from where it stands; an image from behind there is taken up; else halt |
//! | a number too low, behind an image | the image is of records that were lost: the next older one is taken up |
//! | `Lost`, while it stands somewhere | an image from behind there is taken up; else halt |
//! | `Lost`, at the beginning | halt: no image could be used, and the history is not whole |
//! | a panic | begun with the last image; halt if it panics there again, or too often |
//! | another era | everything is thrown away, and it begins anew; halt where that is `Lost` |
//! | a record that cannot be decoded | halt |
//! | damage | halt |
//! | anything else that fails | the same again, later |
//!
//! Whoever is told to begin anew, and take what was dropped or is missing for lost, takes up an image of nothing from right before
//! what is left.
//!
//! So a value is always that of all records of the topic, in their order, up to the offset beside it; or, if somebody said so, of all that were left then.

use std::sync::Arc;
use std::task::Waker;

use crate::backplane::{Backplane, Era, Feed, Offset, StreamRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::fold::continuity::{Continuity, Judged};
use crate::fold::image::{self, Image, Kept, Subject, repeated};
use crate::fold::lost::{self, is_behind_the_end};
use crate::fold::marks;
use crate::fold::panics::guarded;
use crate::fold::topic::{FoldOptions, FoldStats, Halt, HaltReason, Verify};
use crate::fold::value::{Unfit, Value};
use crate::fold::{At, Fold};
use crate::format::checksum::crc;

/// So many records are folded in one turn.
const TURN_RECORDS: usize = 256;
/// An image costs syncs, and as many folds as are done meanwhile: with more to fold, one is saved behind so many.
const IMAGE_FOLDS_BEHIND: u32 = 1 << 16;
/// What is missing at one place is asked for again so often.
const GAP_TRIES: u32 = 3;
/// A fold that panics, here and there, begins so often with the last image before it halts.
const PANICS_MAX: u32 = 8;

/// What a projector works on, and how.
pub(super) struct Setting {
    pub(super) plane: Arc<dyn Backplane>,
    pub(super) subject: Subject,
    /// The version that the topic is read as.
    pub(super) schema: u16,
    pub(super) options: FoldOptions,
}

pub(super) struct Working<F: Fold> {
    /// `None` before it has begun, and behind a panic.
    pub(super) value: Option<Value<F>>,
    /// Everything up to here was looked at.
    pub(super) at: Offset,
    continuity: Continuity,
    pub(super) era: Option<Era>,
    feed: Option<Box<dyn Feed>>,
    /// What the feed has given, when an image was held against it.
    next: Option<StreamRecord>,
    /// What was newest when it began: it is not told of before it has come there.
    target: Option<Offset>,
    /// What was missing here so often.
    gaps: u32,
    panicked_behind: Option<Offset>,
    /// So often, since it last had everything or saved an image.
    panics: u32,
    has_diverged: bool,
    /// Since the last image.
    folds: u32,
    bytes: u64,
    /// What the last image had.
    image_bytes: u64,
    last_image: Option<Offset>,
    piece_bytes: usize,
    turn_records: usize,
    pub(super) stats: FoldStats,
    /// Of the last image, and behind which record that is.
    pub(super) digest: Option<(Offset, u32)>,
    /// Rises with each change of the value or the place.
    pub(super) number: u64,
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
    Halt(Halt),
    /// The same again, later.
    Error(Error),
    /// The same again, with a new feed, for this reason.
    Anew(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Trouble {
    fn anew(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self::Anew(Error::new(kind, "read on").because(text.into()))
    }
}

impl<F: Fold> Working<F> {
    pub(super) fn new() -> Self {
        Self {
            value: None,
            at: Offset::BEGINNING,
            continuity: Continuity::default(),
            era: None,
            feed: None,
            next: None,
            target: None,
            gaps: 0,
            panicked_behind: None,
            panics: 0,
            has_diverged: false,
            folds: 0,
            bytes: 0,
            image_bytes: 0,
            last_image: None,
            piece_bytes: image::PIECE_BYTES,
            turn_records: TURN_RECORDS,
            stats: FoldStats::default(),
            digest: None,
            number: 0,
        }
    }

    /// Everything that had been appended when it began is in the value.
    pub(super) fn has_caught_up(&self) -> bool {
        self.value.is_some() && self.target.is_none()
    }

    /// The value, unless nobody knows whether it is the right one.
    pub(super) fn undisputed(&self) -> Option<&F::State> {
        self.value.as_ref().filter(|_| !self.has_diverged).map(|value| &value.first)
    }

    /// Goes on for a turn. Behind trouble the next one begins with a new feed.
    pub(super) fn turn(&mut self, setting: &Setting, waker: &Waker) -> Result<Turn, Trouble> {
        let turn = self.go_on(setting, waker);
        if turn.is_err() {
            (self.feed, self.next) = (None, None);
        }
        match turn {
            Err(Trouble::Error(error)) => Err(self.judged(error)),
            other => other,
        }
    }

    fn go_on(&mut self, setting: &Setting, waker: &Waker) -> Result<Turn, Trouble> {
        if self.has_diverged {
            return Err(self.diverged(setting));
        }
        if self.feed.is_none() || self.value.is_none() {
            self.connect(setting)?;
        }
        let turn = self.fold_what_comes(setting, waker)?;
        self.look_for_the_target(setting, turn)?;
        if self.is_image_due(setting, turn) {
            self.save(setting)?;
        }
        Ok(turn)
    }

    fn fold_what_comes(&mut self, setting: &Setting, waker: &Waker) -> Result<Turn, Trouble> {
        for _ in 0..self.turn_records {
            let Some(feed) = &mut self.feed else {
                return Err(Trouble::anew(ErrorKind::Disconnected, "there is no feed"));
            };
            let found = self.next.take().map_or_else(|| feed.poll(waker), |next| Ok(Some(next)));
            match found {
                Ok(Some(record)) => self.take(setting, &record)?,
                Ok(None) => return Ok(Turn::Drained),
                Err(error) if error.kind() == ErrorKind::Lost => {
                    self.bridge(setting, &error)?;
                    return Ok(Turn::More);
                }
                Err(error) if error.kind() == ErrorKind::EraChanged => return Err(Trouble::Anew(error)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Turn::More)
    }

    fn look_for_the_target(&mut self, setting: &Setting, turn: Turn) -> Result<(), Trouble> {
        if let Some(target) = self.target
            && self.at < target
            && turn == Turn::Drained
        {
            // It may have been erased meanwhile.
            self.target = Some(repeated(|| setting.plane.head(setting.subject.filter()))?);
        }
        self.target = self.target.filter(|target| self.at < *target);
        if self.target.is_none() && turn == Turn::Drained {
            self.panics = 0;
        }
        Ok(())
    }

    /// Begins, or goes on from where it stands.
    fn connect(&mut self, setting: &Setting) -> Result<(), Trouble> {
        let era = repeated(|| setting.plane.era())?;
        if self.era.is_some_and(|known| known != era) {
            self.stats.era_resets += 1;
            self.forget();
        }
        self.era = Some(era);
        if self.value.is_none() {
            self.begin(setting, era)?;
        } else {
            match repeated(|| setting.plane.subscribe(setting.subject.filter(), self.at)) {
                Ok(feed) => {
                    (self.feed, self.next) = (Some(feed), None);
                    self.stats.reconnects += 1;
                }
                Err(error) if error.kind() == ErrorKind::Lost => self.bridge(setting, &error)?,
                Err(error) if is_behind_the_end(&error) => {
                    let now = repeated(|| setting.plane.era())?;
                    if now != era {
                        return Err(Trouble::Anew(error));
                    }
                    return Err(self.halt(HaltReason::Gap, format!("the log ends before it: {error}")));
                }
                Err(error) => return Err(error.into()),
            }
        }
        // What was subscribed to may be of a later one.
        let now = repeated(|| setting.plane.era())?;
        if now == era {
            return Ok(());
        }
        Err(Trouble::Anew(Error::new(ErrorKind::EraChanged, "subscribe").sides(era, now)))
    }

    fn forget(&mut self) {
        self.value = None;
        self.at = Offset::BEGINNING;
        self.continuity = Continuity::default();
        self.stats.begun_anew = 0;
        self.last_image = None;
        self.gaps = 0;
        self.number += 1;
    }

    /// Begins with the newest image that can be used, or with nothing where the whole history is there.
    fn begin(&mut self, setting: &Setting, era: Era) -> Result<(), Trouble> {
        let (plane, subject) = (&*setting.plane, &setting.subject);
        if let Some(offset) = marks::marked(plane, subject)? {
            let text = format!("a mark says so of the records up to {offset}; {}", marks::WAY_ON);
            return Err(Trouble::Halt(Halt::new(HaltReason::Diverged, offset, text)));
        }
        let found = image::load(plane, subject, era)?;
        self.stats.images_bad += found.bad;
        let head = repeated(|| plane.head(subject.filter()))?;
        self.target = Some(head);
        let mut unusable = found.bad;
        // Where there is no record at all the topic was erased, and images of it say nothing.
        for kept in found.images.into_iter().filter(|_| head > Offset::BEGINNING) {
            // One of records that are not there says nothing either.
            if kept.image.offset > head || !self.take_up(setting, kept)? {
                unusable += 1;
            } else {
                return Ok(());
            }
        }
        let feed = match repeated(|| plane.subscribe(subject.filter(), Offset::BEGINNING)) {
            Err(error) if error.kind() == ErrorKind::Lost => {
                let text = format!(
                    "{unusable} images could not be used, {} are of other eras: {error}",
                    found.of_other_eras
                );
                let of_other_eras = found.of_other_eras > 0 && unusable == 0;
                let why = if of_other_eras { HaltReason::EraChanged } else { HaltReason::Unbridgeable };
                return Err(self.halt(why, text));
            }
            other => other?,
        };
        self.forget();
        self.stats.refolded += u64::from(unusable > 0);
        self.value = Some(Value::new(F::State::default(), self.is_verified(setting)));
        (self.feed, self.next) = (Some(feed), None);
        Ok(())
    }

    fn is_verified(&self, setting: &Setting) -> bool {
        setting.options.verify != Verify::Nothing
    }

    /// Takes up an image, if its value is one and everything behind it is there.
    fn take_up(&mut self, setting: &Setting, kept: Kept) -> Result<bool, Trouble> {
        let Kept { first, image } = kept;
        let is_verified = self.is_verified(setting);
        let Ok(Ok(value)) = guarded(|| Value::decode(&image.value, is_verified)) else {
            self.stats.images_bad += 1;
            return Ok(false);
        };
        let subscribe = || repeated(|| setting.plane.subscribe(setting.subject.filter(), image.offset));
        let mut feed = match subscribe() {
            Err(error) if error.kind() == ErrorKind::Lost => return Ok(false),
            other => other?,
        };
        let next = feed.try_next();
        if next.is_err() {
            // Whoever folds comes to it, and has a value by then.
            feed = subscribe()?;
        }
        let next = next.ok().flatten();
        if next.as_ref().is_some_and(|next| Continuity::is_contradicted(image.continuity.count, next)) {
            return Ok(false);
        }
        (self.feed, self.next) = (Some(feed), next);
        self.stats.images_used += 1;
        self.stats.begun_anew = image.continuity.begun_anew;
        self.image_bytes = image.value.len() as u64;
        self.digest = Some((image.offset, crc(&[&image.value])));
        (self.folds, self.bytes) = (0, 0);
        // Those before it go with the next one.
        self.last_image = Some(first);
        self.value = Some(value);
        self.at = image.offset;
        self.continuity = image.continuity;
        self.number += 1;
        Ok(true)
    }

    /// Takes up an image from behind where it stands, or halts: what comes next here was dropped.
    fn bridge(&mut self, setting: &Setting, lost: &Error) -> Result<(), Trouble> {
        if self.is_bridged(setting)? {
            return Ok(());
        }
        Err(self.halt(HaltReason::Unbridgeable, lost.to_string()))
    }

    fn is_bridged(&mut self, setting: &Setting) -> Result<bool, Trouble> {
        let Some(era) = self.era else { return Ok(false) };
        let found = image::load(&*setting.plane, &setting.subject, era)?;
        for kept in found.images {
            if kept.image.offset > self.at && self.take_up(setting, kept)? {
                self.stats.reseeds += 1;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take(&mut self, setting: &Setting, record: &StreamRecord) -> Result<(), Trouble> {
        if record.key() != setting.subject.key || record.offset() <= self.at {
            return Ok(());
        }
        match lost::judged(&*setting.plane, setting.subject.filter(), &self.continuity, record)? {
            Judged::Next => {}
            Judged::Again => {
                self.stats.repeated += 1;
                self.move_behind(record);
                return Ok(());
            }
            Judged::Anew => {
                self.forget();
                self.value = Some(Value::new(F::State::default(), self.is_verified(setting)));
            }
            Judged::Gap { expected, found } => return self.gap(setting, &expected, &found),
        }
        self.fold(setting, record)?;
        self.move_behind(record);
        self.stats.folded += 1;
        self.folds = self.folds.saturating_add(1);
        self.bytes += record.payload().len() as u64;
        if setting.options.verify == Verify::Each {
            self.compare(setting)?;
        }
        Ok(())
    }

    fn move_behind(&mut self, record: &StreamRecord) {
        self.continuity.take(record);
        self.at = record.offset();
        self.gaps = 0;
        self.number += 1;
    }

    fn fold(&mut self, setting: &Setting, record: &StreamRecord) -> Result<(), Trouble> {
        let at = At::of_record(record, self.continuity.count_with(record));
        // Out of reach while it is folded: behind a panic there is none.
        let Some(mut value) = self.value.take() else {
            return Err(Trouble::anew(ErrorKind::Halted, "there is no value"));
        };
        let folded = guarded(move || {
            let taken = if F::relevant(&at) { value.take(record, &at, setting.schema) } else { Ok(()) };
            (value, taken)
        });
        let (value, taken) = folded.map_err(|panic| self.panicked(record, panic))?;
        self.value = Some(value);
        if self.panicked_behind == Some(self.at) {
            self.panicked_behind = None;
        }
        taken.map_err(|unfit| {
            let (why, text) = match unfit {
                Unfit::Newer(text) => (HaltReason::ForwardIncompatible, text),
                Unfit::Schema(text) | Unfit::Older(text) => (HaltReason::Schema, text),
                Unfit::Undecodable(text) => (HaltReason::Undecodable, text),
            };
            self.halt(why, format!("record {}: {text}", record.offset()))
        })
    }

    /// Both values are gone: it begins with the last image. Not at one place twice, and not for ever at others.
    fn panicked(&mut self, record: &StreamRecord, panic: String) -> Trouble {
        self.panics += 1;
        let text = format!("record {}: {panic}", record.offset());
        if self.panicked_behind == Some(self.at) || self.panics > PANICS_MAX {
            return self.halt(HaltReason::Panicked, text);
        }
        self.panicked_behind = Some(self.at);
        Trouble::anew(ErrorKind::Halted, text)
    }

    /// The record is not the next one. It may be the feed that left something out.
    fn gap(&mut self, setting: &Setting, expected: &str, found: &str) -> Result<(), Trouble> {
        self.stats.gaps += 1;
        self.gaps += 1;
        if self.is_bridged(setting)? {
            return Ok(());
        }
        let text = format!("expected {expected}, found {found}");
        if self.gaps > GAP_TRIES {
            return Err(self.halt(HaltReason::Gap, text));
        }
        Err(Trouble::anew(ErrorKind::Lost, text))
    }

    fn is_image_due(&self, setting: &Setting, turn: Turn) -> bool {
        let every = setting.options.images_every;
        let folds = if turn == Turn::More { every.max(IMAGE_FOLDS_BEHIND) } else { every };
        every > 0 && self.folds >= folds && self.bytes >= self.image_bytes
    }

    /// Saves an image if that can be done now.
    fn save(&mut self, setting: &Setting) -> Result<(), Trouble> {
        self.compare(setting)?;
        if let Err(error) = self.save_now(setting) {
            if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Poisoned) {
                return Err(error.into());
            }
            // In as many folds again.
            self.folds = 0;
            self.stats.images_failed += 1;
        }
        Ok(())
    }

    /// Saves an image of where it stands.
    pub(super) fn save_now(&mut self, setting: &Setting) -> Result<Offset> {
        let doing = || format!("save an image of the fold {:?}", F::NAME);
        let (Some(value), Some(era)) = (&self.value, self.era) else {
            return Err(Error::new(ErrorKind::Halted, doing()));
        };
        let encoded = guarded(|| value.encode());
        let value = encoded.map_err(|panic| Error::new(ErrorKind::Codec, doing()).because(panic))??;
        let (image_bytes, digest) = (value.len() as u64, crc(&[&value]));
        let image = Image { era, offset: self.at, continuity: self.continuity.clone(), value };
        let (plane, subject) = (&*setting.plane, &setting.subject);
        let first = image::save(plane, subject, &image, &mut self.piece_bytes)?;
        self.image_bytes = image_bytes;
        (self.folds, self.bytes, self.panics) = (0, 0, 0);
        self.stats.images_written += 1;
        self.stats.image_bytes += image_bytes;
        self.digest = Some((self.at, digest));
        if let Some(before) = self.last_image.replace(first) {
            // The next one will see to it that they go.
            let _ = image::forget_before(plane, subject, before);
        }
        Ok(self.at)
    }

    /// Compares the value with the second one, if there is one.
    pub(super) fn compare(&mut self, setting: &Setting) -> Result<(), Trouble> {
        let Some(value) = &self.value else { return Ok(()) };
        match guarded(|| value.agrees()) {
            Ok(Ok(true)) => Ok(()),
            // What cannot be compared cannot be saved either.
            Ok(Err(error)) => Err(self.halt(HaltReason::Refused, error.to_string())),
            Err(panic) => Err(self.halt(HaltReason::Panicked, panic)),
            Ok(Ok(false)) => {
                self.has_diverged = true;
                Err(self.diverged(setting))
            }
        }
    }

    /// Writes down that it has diverged. Until that is done it is not told, and nothing else is.
    fn diverged(&mut self, setting: &Setting) -> Trouble {
        match marks::mark(&*setting.plane, &setting.subject, self.at) {
            Ok(()) => self.halt(HaltReason::Diverged, "folded twice".to_owned()),
            Err(error) => error.into(),
        }
    }

    fn halt(&self, why: HaltReason, text: String) -> Trouble {
        Trouble::Halt(Halt::new(why, self.at, text))
    }

    /// What is worth another try, and what is not.
    fn judged(&mut self, error: Error) -> Trouble {
        let why = match error.kind() {
            ErrorKind::Closed | ErrorKind::Poisoned | ErrorKind::Forked => HaltReason::Closed,
            ErrorKind::Corrupt | ErrorKind::Codec => HaltReason::Damaged,
            ErrorKind::InvalidInput | ErrorKind::OwnedByState | ErrorKind::KindMismatch => {
                HaltReason::Refused
            }
            _ => {
                self.stats.retries += 1;
                return Trouble::Error(error);
            }
        };
        self.halt(why, error.to_string())
    }
}

#[cfg(test)]
mod tests;
