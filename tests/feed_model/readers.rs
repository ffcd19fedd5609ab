//! Readers, each beside what the model says of it: where it is, and what must come next.

use std::time::Duration;

use esker::{Entry, ErrorKind, Item, Journal, KindId, Missed, Subscriber, Watcher};

use super::plain::{Checked, Plain, Trouble, ensure, met};

/// Longer than anything here takes; a wait that needs it was not woken.
const LONG: Duration = Duration::from_secs(30);

/// What a reader is held against.
pub(crate) struct Truth<'a> {
    pub(crate) plain: &'a Plain,
    pub(crate) journal: &'a Journal,
    pub(crate) kinds: &'a [KindId],
}

impl Truth<'_> {
    /// The last entry that a reader may be shown now, and must be shown in the end.
    pub(crate) fn limit(&self, visible: bool) -> u64 {
        // Behind a failed sync the log ends, for everybody, where it is durable.
        let end = if visible { self.journal.view().end() } else { self.journal.durable() };
        self.plain.entries_before(end)
    }

    /// The next entry of the region that there is behind a place.
    fn next(&self, region: usize, behind: u64, limit: u64) -> Option<u64> {
        self.plain.between(region, behind, limit).next()
    }

    fn check(&self, entry: &Entry<'_>, region: usize, behind: u64, limit: u64) -> Checked<u64> {
        let (seq, next) = (entry.seq().get(), self.next(region, behind, limit));
        ensure!(
            next == Some(seq),
            "shown {seq}, where {next:?} is the next of region {region} behind {behind}, up to {limit}"
        );
        self.plain.entries[usize::try_from(seq).unwrap() - 1].same(entry, self.kinds)?;
        Ok(seq)
    }
}

/// A watcher, and up to where it has looked.
pub(crate) struct Watching {
    pub(crate) watcher: Watcher,
    pub(crate) region: usize,
    pub(crate) visible: bool,
    pub(crate) looked: u64,
}

impl Watching {
    /// True if the region has more of what is visible.
    pub(crate) fn will_see_more(&self, truth: &Truth<'_>) -> bool {
        truth.next(self.region, self.looked, truth.plain.newest()).is_some()
    }

    /// One step; false: there was nothing more.
    pub(crate) fn step(&mut self, truth: &Truth<'_>, waits: bool) -> Checked<bool> {
        let found = if waits {
            let woken = self.watcher.next_timeout(LONG)?.is_some();
            ensure!(woken, "a watcher of region {} slept over what was there", self.region);
            if !self.visible && truth.plain.durable + 1 < truth.plain.moments.len() {
                met("a watcher waited for what was not durable");
            }
            true
        } else {
            self.watcher.advance()?
        };
        let limit = truth.limit(self.visible);
        if found {
            self.looked = truth.check(&self.watcher.entry(), self.region, self.looked, limit)?;
            if self.watcher.entry().generation().get() > 256 && matches!(self.region, 3 | 4) {
                met("a watcher read far into the history of an entity");
            }
        } else {
            self.has_seen_all(truth, limit)?;
        }
        self.check_position()?;
        Ok(found)
    }

    /// Some steps at once; false: there was nothing more.
    pub(crate) fn batch(&mut self, truth: &Truth<'_>, max: usize) -> Checked<bool> {
        let batch = self.watcher.next_batch(max)?;
        let limit = truth.limit(self.visible);
        ensure!(batch.len() <= max, "{} entries, where {max} were asked for", batch.len());
        let is_full = batch.len() == max;
        for entry in batch {
            self.looked = truth.check(&entry.entry(), self.region, self.looked, limit)?;
        }
        if !is_full {
            self.has_seen_all(truth, limit)?;
        }
        self.check_position()?;
        Ok(is_full)
    }

    fn has_seen_all(&mut self, truth: &Truth<'_>, limit: u64) -> Checked {
        let next = truth.next(self.region, self.looked, limit);
        ensure!(next.is_none(), "nothing more, and {next:?} was not shown, up to {limit}");
        self.looked = self.looked.max(limit);
        Ok(())
    }

    fn check_position(&self) -> Checked {
        let position = self.watcher.position().map_or(0, esker::Seq::get);
        ensure!(position == self.looked, "stands at {position}, and has looked at {}", self.looked);
        Ok(())
    }

    /// The log has ended: all of it is shown first, and then that.
    pub(crate) fn drain(&mut self, truth: &Truth<'_>, end: ErrorKind) -> Checked {
        loop {
            match self.step(truth, false) {
                Ok(found) => ensure!(found, "{end:?}, and a watcher waits for more"),
                Err(Trouble::Refused(error)) if error.kind() == end => break,
                Err(other) => return Err(other),
            }
        }
        // Behind a failed sync, only what is durable is certain.
        let limit = truth.limit(self.visible && end == ErrorKind::Closed);
        let next = truth.next(self.region, self.looked, limit);
        ensure!(next.is_none(), "{end:?}, and {next:?} was not shown");
        // A checkpoint that has nothing to write is as durable as before.
        let error = self.watcher.checkpoint().err().map(|error| error.kind());
        let is_the_end = |kind| kind == end || kind == ErrorKind::Closed;
        ensure!(error.is_none_or(is_the_end), "{end:?}, and a checkpoint answers {error:?}");
        Ok(())
    }
}

/// A subscriber, and up to where it has looked.
pub(crate) struct Subscribing {
    pub(crate) subscriber: Subscriber,
    pub(crate) region: usize,
    pub(crate) visible: bool,
    pub(crate) looked: u64,
    pub(crate) capacity: Option<usize>,
    pub(crate) disconnects: bool,
    pub(crate) lagged: bool,
}

impl Subscribing {
    pub(crate) fn will_see_more(&self, truth: &Truth<'_>) -> bool {
        !self.lagged && truth.next(self.region, self.looked, truth.plain.newest()).is_some()
    }

    /// One step; false: there was nothing more, or it has ended.
    pub(crate) fn step(&mut self, truth: &Truth<'_>, waits: bool) -> Checked<bool> {
        let seen = truth.limit(self.visible);
        if waits && truth.next(self.region, self.looked, seen).is_none() {
            // It looks at all that there is before it lies down.
            self.looked = self.looked.max(seen);
        }
        let answer = if waits {
            self.subscriber.next_timeout(LONG).map(|item| item.is_some())
        } else {
            self.subscriber.advance()
        };
        let limit = truth.limit(self.visible);
        let ahead = truth.plain.between(self.region, self.looked, limit).count();
        let too_many = self.capacity.map_or(0, |capacity| ahead.saturating_sub(capacity));
        let found = match answer {
            Err(error) if error.kind() == ErrorKind::Lagged => {
                let was_shown = (self.looked > 0).then_some(self.looked..=self.looked);
                ensure!(self.lagged || self.disconnects && too_many > 0, "{error}, and {ahead} are ahead");
                ensure!(error.seqs() == was_shown, "{error}, and was shown {was_shown:?}");
                self.lagged = true;
                met("a subscriber was too far behind, and ended");
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
            Ok(found) => found,
        };
        ensure!(!self.lagged, "it has ended, and goes on");
        ensure!(found || !waits, "a subscriber of region {} slept over what was there", self.region);
        if !found {
            ensure!(ahead == 0, "nothing more, and {ahead} of region {} up to {limit}", self.region);
            self.looked = self.looked.max(limit);
            return Ok(false);
        }
        match self.subscriber.item() {
            Item::Entry(entry) => {
                ensure!(too_many == 0, "shown {entry:?}, with {ahead} ahead of {:?}", self.capacity);
                self.looked = truth.check(&entry, self.region, self.looked, limit)?;
            }
            Item::Missed(missed) => {
                ensure!(too_many > 0 && !self.disconnects, "{missed:?} of {ahead}, {:?}", self.capacity);
                self.looked = Self::check_missed(missed, truth, self.region, self.looked, too_many)?;
            }
            other => return Err(Trouble::Wrong(format!("{other:?}"))),
        }
        Ok(true)
    }

    /// A gap is told exactly: it begins with the next one, and ends with as many as were too many.
    fn check_missed(
        missed: Missed,
        truth: &Truth<'_>,
        region: usize,
        looked: u64,
        too_many: usize,
    ) -> Checked<u64> {
        let passed: Vec<u64> = truth.plain.between(region, looked, u64::MAX).take(too_many).collect();
        let told = (Some(missed.from.get()), Some(missed.to.get()), missed.count);
        let is = (passed.first().copied(), passed.last().copied(), passed.len() as u64);
        met("a subscriber was told what it missed");
        ensure!(told == is, "told {told:?} behind {looked} in region {region}, and missed {is:?}");
        Ok(missed.to.get())
    }

    /// The log has ended: all of it is shown or told first, and then that.
    pub(crate) fn drain(&mut self, truth: &Truth<'_>, end: ErrorKind) -> Checked {
        loop {
            match self.step(truth, false) {
                Ok(true) => {}
                Ok(false) => {
                    ensure!(self.lagged, "{end:?}, and a subscriber waits for more");
                    return Ok(());
                }
                Err(Trouble::Refused(error)) if error.kind() == end => break,
                Err(other) => return Err(other),
            }
        }
        let next = truth.next(self.region, self.looked, truth.limit(self.visible));
        ensure!(next.is_none(), "{end:?}, and {next:?} was not shown");
        Ok(())
    }
}
