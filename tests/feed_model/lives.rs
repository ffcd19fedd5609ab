//! How a life ends, and what the next one must find.

use esker::{Check, ErrorKind, Journal, Simulator, Verdict, verify_in};

use super::operation::{NAMES, Operation};
use super::plain::{Checked, Cursors, Plain, Trouble, cursors_of, ensure, register};
use super::world::{Note, World};

impl World {
    /// What was opened is one moment of the model, with everything in it that was promised.
    pub(super) fn recognise(&mut self, least: usize) -> Checked {
        let shown = shown(&self.journal)?;
        let moment = recognised(&self.plain, &shown, least, self.plain.moments.len() - 1)?;
        self.plain.go_back_to(moment, shown.1);
        self.kinds = register(&self.journal)?;
        self.journal.sync()?;
        self.plain.check_log(&self.journal, &self.kinds)?;
        self.keyed.take_if(|keyed| keyed.seq > self.plain.newest());
        self.retired.clear();
        self.check()
    }

    fn let_go(&mut self) {
        self.watchers.clear();
        self.subscribers.clear();
        self.prepared = None;
        self.may_refuse = false;
        self.is_full = false;
        self.may_poison = false;
    }

    /// Ends in order: every reader is shown the rest.
    pub(super) fn close(&mut self) -> Checked {
        match self.journal.close() {
            Ok(()) => {}
            Err(error) if self.journal.stats().poisoned => return Err(error.into()),
            // Only that it ended in order could not be written down.
            Err(error) => self.forgive(error.into())?,
        }
        self.plain.all_is_durable();
        self.end(ErrorKind::Closed)?;
        self.disk.fail_writes(0, 0);
        self.disk.limit_space(None);
        if self.may_poison {
            self.disk.fail_sync_after(usize::MAX);
        }
        self.let_go();
        self.journal = self.manner.open(&self.disk)?;
        self.recognise(self.plain.durable)
    }

    /// Readers are shown what there is for them yet, and then the end.
    fn end(&mut self, kind: ErrorKind) -> Checked {
        let (mut watchers, mut subscribers) =
            (std::mem::take(&mut self.watchers), std::mem::take(&mut self.subscribers));
        for watching in watchers.values_mut() {
            watching.drain(&self.truth(), kind)?;
            if !watching.visible {
                self.was_shown_durably(watching.looked);
            }
        }
        for reading in subscribers.values_mut() {
            // How far behind one of what is visible is, a failed sync has changed under it.
            if kind == ErrorKind::Closed || !reading.visible {
                reading.drain(&self.truth(), kind)?;
            }
        }
        Ok(())
    }

    /// A sync has failed: only what is durable is certain, and the next opening says what there is.
    pub(super) fn end_by_poison(&mut self) -> Checked {
        self.end(ErrorKind::Poisoned)?;
        let at = self.disk.events();
        let disk = match at % 3 {
            0 => self.disk.kill(at),
            1 => self.disk.crash(at, &mut |_| 0),
            _ => self.disk.crash(at, &mut |n| n / 2),
        };
        self.live_on(disk, self.plain.durable, false)
    }

    /// Opens what a crash left. What was noted of the disk holds on if it has all that it had.
    fn live_on(&mut self, disk: Simulator, least: usize, goes_on: bool) -> Checked {
        self.let_go();
        self.is_another_disk = !goes_on;
        self.disk = disk;
        // Dropping the old one closes it: on the old disk, whose later operations nobody sees.
        self.journal = self.manner.open(&self.disk)?;
        self.recognise(least)
    }

    /// How far back within the last call, and what was promised before it.
    fn within_the_last_call(&self, back: usize) -> (usize, Note) {
        let now = self.note();
        let before = self.notes.last().map_or(now, |(before, _)| *before);
        let at = now.operations.saturating_sub(back).max(before.operations);
        (at, if at == now.operations { now } else { before })
    }

    /// Everything that was visible is there.
    pub(super) fn kill(&mut self, back: usize) -> Checked {
        let (at, then) = self.within_the_last_call(back);
        let least = if at == self.disk.events() { self.plain.moments.len() - 1 } else { then.moments - 1 };
        let (disk, is_now) = (self.disk.kill(at), at == self.disk.events());
        self.live_on(disk, least, is_now)
    }

    pub(super) fn crash(&mut self, back: usize, seed: u64) -> Checked {
        let (at, then) = self.within_the_last_call(back);
        let mut state = seed;
        let disk = self.disk.crash(at, &mut |n| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match seed % 4 {
                // What nobody synced is gone: the hardest state, and the likeliest.
                0 => 0,
                1 => n - 1,
                _ => usize::try_from((state >> 33) % n as u64).unwrap_or(0),
            }
        });
        self.live_on(disk, then.durable, false)
    }

    /// Closes, and has the whole store verified.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        self.step(&Operation::Close)?;
        self.step(&Operation::Close)?;
        self.journal.close().map_err(|error| error.to_string())?;
        let found = verify_in(&self.disk, Check::Full).map_err(|error| error.to_string())?;
        if found.verdict == Verdict::Valid { Ok(()) } else { Err(format!("{:#?}", found.findings)) }
    }
}

/// Which of the model's moments a journal shows that was just opened: of those that a crash may
/// leave, the one with these entries and cursors.
pub(crate) fn recognised(
    plain: &Plain,
    (entries, cursors): &(u64, Cursors),
    least: usize,
    most: usize,
) -> Checked<usize> {
    for (name, cursor) in cursors {
        ensure!(cursor.seq <= *entries, "{} is ahead of {entries} entries: {cursor:?}", NAMES[*name]);
    }
    let promised = plain.moments[least].entries as u64;
    ensure!(*entries >= promised, "{entries} entries, and {promised} were acknowledged");
    if let Some(moment) = plain.moment_of(*entries, cursors, least, most) {
        return Ok(moment);
    }
    let (first, last) = (&plain.moments[least], &plain.moments[most]);
    Err(Trouble::Wrong(format!(
        "{entries} entries and these cursors were never together: {cursors:#?}; acknowledged: {first:#?}; \
         begun: {last:#?}"
    )))
}

/// What a journal shows.
pub(crate) fn shown(journal: &Journal) -> Checked<(u64, Cursors)> {
    Ok((journal.stats().entries, cursors_of(journal)?))
}
