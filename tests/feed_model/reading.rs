//! Readers and cursors: made, read, put elsewhere, and refused where they must be.

use esker::{Durability, ErrorKind, Hold, Lag, Seq, Start, SubscribeOptions, Until, WatchOptions};

use super::operation::{From, NAMES, Reading};
use super::plain::{Change, Checked, Cursor, Said, ensure, met, region};
use super::readers::{Subscribing, Watching};
use super::world::{World, seq};

impl World {
    /// Where a reader begins, as the library takes it, and behind which Seq that is.
    fn start(&self, from: From) -> (Start, Option<u64>) {
        let newest = self.plain.newest();
        let back = |back: usize| newest.saturating_sub(back as u64);
        match from {
            From::Oldest => (Start::Oldest, Some(0)),
            From::Newest => (Start::Newest, Some(newest)),
            From::After(count) if back(count) > 0 => (Start::After(seq(back(count))), Some(back(count))),
            From::After(_) => (Start::Oldest, Some(0)),
            From::AfterWhatIsNotThere => (Start::After(seq(newest + 1)), None),
            From::AtTheEndOfTime => (Start::At(i64::MAX), Some(newest)),
            From::AtTheTimeOf(count) => {
                let wanted = usize::try_from(back(count)).ok().and_then(|at| self.plain.entries.get(at));
                let time = wanted.and_then(|said| said.place).map_or(0, |(_, time)| time);
                let is_past = |said: &Said| said.place.is_some_and(|(_, own)| own >= time);
                let first = self.plain.entries.iter().position(is_past);
                (Start::At(time), Some(first.map_or(newest, |before| before as u64)))
            }
        }
    }

    pub(super) fn watch(
        &mut self,
        name: usize,
        number: usize,
        from: From,
        visible: bool,
        bounded: bool,
    ) -> Checked {
        let region = region(number, &self.kinds);
        let (start, behind) = self.start(from);
        let hold = if bounded { Hold::UpTo(1 << 20) } else { Hold::Forever };
        let until = if visible { Until::Visible } else { Until::Durable };
        let options = WatchOptions::new().from(start).until(until).hold(hold);
        let answer = self.journal.watch_with(NAMES[name], region.clone(), options);
        let refused = |answer: esker::Result<_>| answer.err().map(|error: esker::Error| error.kind());
        if self.watchers.contains_key(&name) {
            let kind = refused(answer.map(drop));
            ensure!(kind == Some(ErrorKind::CursorInUse), "a name in use: {kind:?}");
            return Ok(());
        }
        let known = self.plain.now().cursors.get(&name).cloned();
        let looked = match (known, behind) {
            (Some(known), _) if known.region != region => {
                let kind = refused(answer.map(drop));
                ensure!(kind == Some(ErrorKind::CursorMismatch), "another region: {kind:?}");
                return Ok(());
            }
            (None, None) => {
                let kind = refused(answer.map(drop));
                ensure!(kind == Some(ErrorKind::InvalidInput), "behind the end of the log: {kind:?}");
                return Ok(());
            }
            (Some(known), _) => known.seq,
            (None, Some(behind)) => behind,
        };
        let mut change = Change::default();
        if !self.plain.now().cursors.contains_key(&name) {
            change.cursors.push((name, Some(Cursor { region, seq: looked, hold, revision: None })));
        }
        let is_new = !change.cursors.is_empty();
        let watcher = self.settle(answer, change)?;
        if is_new {
            self.plain.all_is_durable();
        }
        self.watchers.insert(name, Watching { watcher, region: number, visible, looked });
        Ok(())
    }

    /// Somebody was shown everything up to here who may see only what survives.
    pub(super) fn was_shown_durably(&mut self, looked: u64) {
        // It may have begun further on than it may see yet.
        let limit = self.truth().limit(false);
        self.plain.is_durable_through(looked.min(limit));
    }

    /// The name of one of the watchers that are there.
    pub(super) fn in_hand(&self, watcher: usize) -> Option<usize> {
        let count = self.watchers.len().max(1);
        self.watchers.keys().nth(watcher % count).copied()
    }

    pub(super) fn read(&mut self, watcher: usize, steps: usize, how: Reading) -> Checked {
        let Some(name) = self.in_hand(watcher) else { return Ok(()) };
        let Some(mut watching) = self.watchers.remove(&name) else { return Ok(()) };
        let done = self.read_with(&mut watching, steps, how);
        if !watching.visible {
            self.was_shown_durably(watching.looked);
        }
        self.watchers.insert(name, watching);
        done
    }

    fn read_with(&self, watching: &mut Watching, steps: usize, how: Reading) -> Checked {
        let truth = self.truth();
        match how {
            Reading::InABatch => watching.batch(&truth, steps.min(20)).map(drop),
            Reading::OneByOne => {
                for _ in 0..steps {
                    if !watching.step(&truth, false)? {
                        break;
                    }
                }
                Ok(())
            }
            Reading::Waiting => {
                for _ in 0..steps {
                    if !watching.will_see_more(&truth) {
                        break;
                    }
                    watching.step(&truth, true)?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn checkpoint(&mut self, watcher: usize) -> Checked {
        let Some(name) = self.in_hand(watcher) else { return Ok(()) };
        let Some(watching) = self.watchers.get_mut(&name) else { return Ok(()) };
        let looked = watching.looked;
        let answer = watching.watcher.checkpoint();
        let cursors = self.moved([(name, looked)]);
        if cursors.is_empty() {
            met("a checkpoint had nothing to write");
        }
        self.settle(answer, Change { said: Vec::new(), cursors })?;
        self.plain.is_durable_with(name);
        Ok(())
    }

    /// A cursor that somebody wants to put elsewhere: nobody may have it, and it must be there.
    fn idle(&self, name: usize) -> Result<Cursor, ErrorKind> {
        if self.watchers.contains_key(&name) {
            return Err(ErrorKind::CursorInUse);
        }
        self.plain.now().cursors.get(&name).cloned().ok_or(ErrorKind::UnknownCursor)
    }

    pub(super) fn reset(&mut self, name: usize, to: From, lets_go: bool) -> Checked {
        if lets_go {
            self.watchers.remove(&name);
        }
        let (start, behind) = self.start(to);
        let answer = self.journal.reset_cursor(NAMES[name], start);
        let expected = self.idle(name).and_then(|known| Ok((known, behind.ok_or(ErrorKind::InvalidInput)?)));
        let (known, seq) = match expected {
            Ok(expected) => expected,
            Err(expected) => {
                let kind = answer.err().map(|error| error.kind());
                ensure!(kind == Some(expected), "{kind:?}, not {expected:?}");
                return Ok(());
            }
        };
        if seq < known.seq && answer.is_ok() {
            met("a cursor was put back");
            self.prepared.iter_mut().filter(|prepared| prepared.name == name).for_each(|prepared| {
                prepared.is_stale = true;
            });
        }
        let cursor = Cursor { seq, revision: None, ..known.clone() };
        let change = Change { cursors: vec![(name, Some(cursor))], ..Change::default() };
        let reset = self.settle(answer, change)?;
        let told = (reset.from, reset.to);
        ensure!(told == (Seq::new(known.seq), Seq::new(seq)), "{reset:?}, not from {} to {seq}", known.seq);
        self.plain.all_is_durable();
        Ok(())
    }

    pub(super) fn retire(&mut self, name: usize, lets_go: bool) -> Checked {
        if lets_go {
            self.watchers.remove(&name);
        }
        let answer = self.journal.retire_cursor(NAMES[name]);
        if let Err(expected) = self.idle(name) {
            let kind = answer.err().map(|error| error.kind());
            ensure!(kind == Some(expected), "{kind:?}, not {expected:?}");
            return Ok(());
        }
        if answer.is_ok() {
            self.prepared.iter_mut().filter(|prepared| prepared.name == name).for_each(|prepared| {
                prepared.is_stale = true;
            });
        }
        self.settle(answer, Change { cursors: vec![(name, None)], ..Change::default() })?;
        self.plain.all_is_durable();
        Ok(())
    }

    pub(super) fn subscribe(
        &mut self,
        slot: usize,
        number: usize,
        from: From,
        visible: Option<bool>,
        limit: Option<(usize, bool)>,
    ) -> Checked {
        self.subscribers.remove(&slot);
        let mut options = SubscribeOptions::new();
        if let Some(visible) = visible {
            options = options.until(if visible { Until::Visible } else { Until::Durable });
        }
        if let Some((capacity, disconnects)) = limit {
            let lag = if disconnects { Lag::Disconnect } else { Lag::Skip };
            options = options.capacity(capacity as u64).on_lag(lag);
        }
        let visible = visible.unwrap_or(self.manner.durability != Durability::Sync);
        let (start, behind) = self.start(from);
        let answer = self.journal.subscribe_with(region(number, &self.kinds), options.from(start));
        let Some(looked) = behind else {
            let kind = answer.err().map(|error| error.kind());
            ensure!(kind == Some(ErrorKind::InvalidInput), "behind the end of the log: {kind:?}");
            return Ok(());
        };
        let (capacity, disconnects) = (limit.map(|(n, _)| n), limit.is_some_and(|(_, ends)| ends));
        let subscriber = answer?;
        let subscribing =
            Subscribing { subscriber, region: number, visible, looked, capacity, disconnects, lagged: false };
        self.subscribers.insert(slot, subscribing);
        Ok(())
    }

    pub(super) fn take(&mut self, slot: usize, items: usize, waits: bool) -> Checked {
        let Some(mut reading) = self.subscribers.remove(&slot) else { return Ok(()) };
        let mut done = Ok(true);
        for _ in 0..items {
            let truth = self.truth();
            if waits && !reading.will_see_more(&truth) {
                break;
            }
            done = reading.step(&truth, waits);
            if !matches!(done, Ok(true)) {
                break;
            }
        }
        if !reading.visible {
            self.was_shown_durably(reading.looked);
        }
        self.subscribers.insert(slot, reading);
        done.map(drop)
    }
}
