//! What a consumer does not do, or not now: it is stood before, passed over, given up, or set aside with all that follows of its
//! entity.

use crate::backplane::{Filter, KEY_BYTES_MAX, PAYLOAD_BYTES_PORTABLE, StreamRecord, WriterId};
use crate::error::{Error, ErrorKind};
use crate::fold::consumer::aside::{self, Written};
use crate::fold::consumer::delivery::{DeadLetter, Outcome};
use crate::fold::consumer::handle::Shared;
use crate::fold::consumer::options::{Aside, OnUndecodable};
use crate::fold::consumer::progress::{BRIEF_BYTES_MAX, Bytes, Parking, Progress, brief};
use crate::fold::consumer::working::{Copied, Setting, Trouble, Working};
use crate::fold::image::repeated;
use crate::fold::retry::Retry;
use crate::fold::value::Unfit;

/// So many entities may be parked at a time.
pub const PARKED_ENTITIES_MAX: usize = 256;
/// What stands in the cell of each beside its key and the cause: names and numbers.
const PARKING_BYTES_MAX: usize = 160;
/// What stands there of the consumer itself.
const PROGRESS_BYTES_MAX: usize = 8 << 10;
/// All of them, with the longest keys and causes, fit into the cell.
const _: () = assert!(
    PROGRESS_BYTES_MAX + PARKED_ENTITIES_MAX * (PARKING_BYTES_MAX + KEY_BYTES_MAX + BRIEF_BYTES_MAX)
        <= PAYLOAD_BYTES_PORTABLE
);

impl Working {
    /// False if a record in hand was dropped or erased since it came: of that no copy is made any more.
    pub(super) fn is_there(&self, setting: &Setting, record: &StreamRecord) -> Result<bool, Trouble> {
        let topic = Filter::topic(&setting.of.stream, record.key());
        Ok(repeated(|| setting.plane.still_has(topic, record.offset()))?)
    }

    pub(super) fn unfit(
        &mut self,
        setting: &Setting,
        shared: &Shared,
        record: &StreamRecord,
        unfit: Unfit,
    ) -> Result<(), Trouble> {
        let (why, text) = match unfit {
            Unfit::Newer(text) => ("a later build wrote it", text),
            Unfit::Schema(text) => match setting.options.on_undecodable {
                // Whoever wrote it meant something: it is not dropped, as what is no value at all.
                OnUndecodable::Skip => {
                    let cause = format!("it is of another type: {text}");
                    return self.give_up(setting, shared, record, (0, &cause), |p| p.undecodable += 1);
                }
                OnUndecodable::Park => return self.park_unfit(setting, record, &text),
                OnUndecodable::Block => ("it is of another type", text),
            },
            // What follows of its entity may build on it, and a build that reads it may come: only who says so sets it aside.
            Unfit::Older(text) => match setting.options.on_undecodable {
                OnUndecodable::Park => return self.park_unfit(setting, record, &text),
                OnUndecodable::Skip | OnUndecodable::Block => {
                    ("it is of an earlier version, which this build does not read", text)
                }
            },
            Unfit::Undecodable(text) => match setting.options.on_undecodable {
                OnUndecodable::Skip => return self.skip(setting, record),
                OnUndecodable::Park => return self.park_unfit(setting, record, &text),
                OnUndecodable::Block => ("it is no value", text),
            },
        };
        self.blocked = self.blocked.saturating_add(1);
        shared.note_blocked(record.offset(), format!("record {}: {why}: {text}", record.offset()));
        // A later build of the same name may take it, and this one goes on behind that.
        let base = setting.options.retry.base.max(Retry::DEFAULT.base);
        let retry = Retry { base, max: setting.options.retry.max.max(base) };
        Err(Trouble::Pause(retry.pause(self.blocked)))
    }

    fn park_unfit(&mut self, setting: &Setting, record: &StreamRecord, text: &str) -> Result<(), Trouble> {
        self.park(setting, record, (0, text), |progress| progress.undecodable += 1)
    }

    fn skip(&mut self, setting: &Setting, record: &StreamRecord) -> Result<(), Trouble> {
        let offset = record.offset();
        self.update(setting, Copied::NOTHING, |progress| {
            let moved = progress.advance(offset);
            progress.undecodable += u64::from(moved);
            moved
        })?;
        self.moved_behind(offset);
        Ok(())
    }

    /// It failed as often as it may.
    pub(super) fn poison(
        &mut self,
        setting: &Setting,
        shared: &Shared,
        record: &StreamRecord,
    ) -> Result<(), Trouble> {
        let Some(progress) = self.progress() else { return Err(Trouble::Anew) };
        let (attempts, cause) = (progress.attempts_of(record.offset()), progress.cause.clone());
        self.give_up(setting, shared, record, (attempts, &cause), |progress| progress.poisoned += 1)
    }

    /// Sets a record aside, as it was told to, that will not be done.
    fn give_up(
        &mut self,
        setting: &Setting,
        shared: &Shared,
        record: &StreamRecord,
        (attempts, cause): (u32, &str),
        count: impl Fn(&mut Progress),
    ) -> Result<(), Trouble> {
        let offset = record.offset();
        let Some(progress) = self.progress() else { return Err(Trouble::Anew) };
        let letter = DeadLetter::of(&setting.of, record, attempts, cause);
        let advanced = |progress: &mut Progress| {
            let moved = progress.advance(offset);
            if moved {
                count(progress);
            }
            moved
        };
        match &setting.options.aside {
            Aside::Park => return self.park(setting, record, (attempts, cause), count),
            Aside::Handler(handler) => {
                if self.letter_taken != Some(offset) {
                    let taken = shared.in_hand(|| handler(&letter).map_err(|error| error.to_string()));
                    if let Err(cause) = taken.unwrap_or_else(Err) {
                        return Err(self.letter_failed(setting, shared, record, &cause));
                    }
                    self.letter_taken = Some(offset);
                }
                self.update(setting, Copied::NOTHING, advanced)?;
            }
            Aside::DeadLetter => {
                let written = Written::dead(progress, &letter)?;
                let without = Written::dead(progress, &DeadLetter { payload: None, ..letter })?;
                match self.update(setting, Copied::of(record, &written), advanced) {
                    Err(Trouble::Error(error)) if is_too_large(&error) => {
                        self.update(setting, Copied::of(record, &without), advanced)?;
                    }
                    other => _ = other?,
                }
            }
        }
        self.moved_behind(offset);
        Ok(())
    }

    /// Nobody took the dead letter: it alone is tried again.
    fn letter_failed(
        &mut self,
        setting: &Setting,
        shared: &Shared,
        record: &StreamRecord,
        cause: &str,
    ) -> Trouble {
        self.letters_failed = self.letters_failed.saturating_add(1);
        shared.note_error(format!("the dead letter of record {}: {cause}", record.offset()));
        Trouble::Pause(setting.options.retry.pause(self.letters_failed))
    }

    /// Sets a record aside behind the others of its entity.
    pub(super) fn park(
        &mut self,
        setting: &Setting,
        record: &StreamRecord,
        (attempts, cause): (u32, &str),
        count: impl Fn(&mut Progress),
    ) -> Result<(), Trouble> {
        let (offset, key) = (record.offset(), record.key());
        let Some(progress) = self.progress() else { return Err(Trouble::Anew) };
        if progress.parking(key).is_none() && progress.parked.len() >= PARKED_ENTITIES_MAX {
            return Err(Error::new(
                ErrorKind::LimitReached,
                format!("park record {offset} of {}", setting.of.filter()),
            )
            .sides(format!("at most {PARKED_ENTITIES_MAX} entities"), "one more: retry or discard some")
            .into());
        }
        let letter = DeadLetter::of(&setting.of, record, attempts, cause);
        let parking = match progress.parking(key) {
            Some(parking) => parking.clone(),
            None => Parking {
                key: Bytes(key.to_vec()),
                episode: WriterId::random()?.raw(),
                copies: 0,
                done: 0,
                first: offset.raw(),
                last: offset.raw(),
                attempts,
                cause: brief(cause),
                retries: false,
            },
        };
        let written = Written::parked(&setting.of, &parking, &letter)?;
        let is_parked = |progress: &mut Progress| {
            let known = progress.parking(key);
            // Somebody else may have retried what was parked, or discarded it: then the record is to be delivered.
            let is_as_before = known.map_or(0, |known| known.copies) == parking.copies
                && known.is_none_or(|known| known.episode == parking.episode);
            if !is_as_before || !progress.advance(offset) {
                return false;
            }
            count(progress);
            if progress.parking(key).is_none() {
                progress.parked.push(parking.clone());
            }
            if let Some(parking) = progress.parking_mut(key) {
                (parking.copies, parking.last) = (parking.copies + 1, offset.raw());
            }
            true
        };
        match self.update(setting, Copied::of(record, &written), is_parked) {
            Err(Trouble::Error(error)) if is_too_large(&error) => {
                let without = DeadLetter { payload: None, ..letter };
                let written = Written::parked(&setting.of, &parking, &without)?;
                self.update(setting, Copied::of(record, &written), is_parked)?;
            }
            other => _ = other?,
        }
        if self.progress().is_none_or(|progress| progress.offset() < offset) {
            return Err(Trouble::Anew);
        }
        self.moved_behind(offset);
        Ok(())
    }

    /// Tries what is parked of the entities for which somebody has asked.
    pub(super) fn retry_parked(&mut self, setting: &Setting, shared: &Shared) -> Result<(), Trouble> {
        const BATCH: usize = 64;
        let asked = |progress: &Progress| progress.parked.iter().find(|parking| parking.retries).cloned();
        let mut read_to = None;
        while let Some(parking) = self.progress().and_then(asked) {
            if shared.is_cancelled() {
                return Err(Trouble::Anew);
            }
            let (batch, last) = aside::parked(&*setting.plane, &setting.of, &parking, (BATCH, read_to))?;
            read_to = last;
            if batch.is_empty() {
                self.keep_parked(setting, shared, &parking, "the copies are not there any more".to_owned())?;
                continue;
            }
            self.mark_crash(setting)?;
            // Those that failed are of the first that is left: nothing behind it was tried.
            let mut attempts = parking.attempts;
            for (n, letter) in batch {
                if shared.is_cancelled() {
                    return Err(Trouble::Anew);
                }
                let Some(record) = aside::record(&*setting.plane, &letter)? else {
                    let text = format!(
                        "record {} was too large to be copied, and is not found in its topic",
                        letter.offset
                    );
                    self.keep_parked(setting, shared, &parking, text)?;
                    break;
                };
                match self.deliver(setting, shared, &record, std::mem::take(&mut attempts)) {
                    Outcome::Done => self.unpark(setting, &parking, n)?,
                    Outcome::Failed(_) if shared.is_cancelled() => return Err(Trouble::Anew),
                    Outcome::Failed(cause) => {
                        self.keep_parked(setting, shared, &parking, cause)?;
                        break;
                    }
                    Outcome::Unfit(
                        Unfit::Newer(cause)
                        | Unfit::Schema(cause)
                        | Unfit::Older(cause)
                        | Unfit::Undecodable(cause),
                    ) => {
                        self.keep_parked(setting, shared, &parking, cause)?;
                        break;
                    }
                }
                let is_asked_for = |progress: &Progress| {
                    let known = progress.parking(&parking.key.0);
                    known.is_some_and(|known| known.episode == parking.episode && known.retries)
                };
                if !self.progress().is_some_and(is_asked_for) {
                    // All are done, or somebody has given them up meanwhile.
                    break;
                }
            }
        }
        Ok(())
    }

    /// An attempt has failed: they stay.
    fn keep_parked(
        &mut self,
        setting: &Setting,
        shared: &Shared,
        kept: &Parking,
        cause: String,
    ) -> Result<(), Trouble> {
        let text = brief(&cause);
        shared.note_failed(cause);
        self.update(setting, Copied::NOTHING, |progress| {
            let parking = progress.parking_mut(&kept.key.0);
            let Some(parking) = parking.filter(|parking| parking.episode == kept.episode) else {
                return false;
            };
            parking.retries = false;
            parking.attempts = parking.attempts.saturating_add(1);
            parking.cause.clone_from(&text);
            progress.end_crashes();
            true
        })?;
        Ok(())
    }

    fn unpark(&mut self, setting: &Setting, done: &Parking, n: u64) -> Result<(), Trouble> {
        let key = &*done.key.0;
        self.update(setting, Copied::NOTHING, |progress| {
            progress.end_crashes();
            let parking = progress.parking_mut(key).filter(|parking| parking.episode == done.episode);
            let Some(parking) = parking.filter(|parking| parking.done < n) else { return false };
            (parking.done, parking.attempts) = (n, 0);
            if parking.done >= parking.copies {
                progress.parked.retain(|parking| parking.key.0 != key);
            }
            true
        })?;
        if self.progress().is_some_and(|progress| progress.parking(key).is_none()) {
            aside::forget_parked(&*setting.plane, &setting.of, done);
        }
        Ok(())
    }
}

fn is_too_large(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::BatchTooLarge | ErrorKind::InvalidInput)
}
