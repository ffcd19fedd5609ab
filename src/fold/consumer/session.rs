//! Who runs a consumer: a handle takes the name up, and writes down when it ends as it should. Of one that did not, the process
//! tells whether it ended without a word.

use serde::{Deserialize, Serialize};

use crate::backplane::{Backplane, Offset, Process};
use crate::error::{ErrorKind, Result};
use crate::fold::consumer::options::ConsumeFrom;
use crate::fold::consumer::progress::{self, Known, Progress, SWAPS};
use crate::fold::consumer::working::{Copied, Setting, Trouble, Working};
use crate::fold::image::repeated;

/// So many handles are known to run it; when there are more the oldest is forgotten: so goes in time what was run on a machine that
/// is not there any more, of which nobody can say that it has ended.
const RUNS_MAX: usize = 16;
/// An end is written down so often, where the era changes meanwhile.
const FINISH_TRIES: u32 = 3;

/// A handle that runs it, in whichever process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    session: u64,
    process: Process,
}

impl Progress {
    /// Takes it up. True if somebody who ran it ended without a word: whose process is not there any more, and said nothing
    /// before. Who runs it elsewhere at the same time has ended in no handler.
    fn begin_run(&mut self, plane: &dyn Backplane, session: u64) -> bool {
        let is_another = |open: &u64| *open != session;
        // What was written by a build that did not say by whom it is.
        let is_nobodys =
            self.open.filter(is_another).is_some_and(|open| self.runs.iter().all(|run| run.session != open));
        let before = self.runs.len();
        self.runs.retain(|run| !plane.is_over(&run.process));
        let has_ended = self.runs.len() < before;
        self.runs.retain(|run| run.session != session);
        let process = plane.process();
        self.runs.push(Run { session, process });
        self.runs.drain(..self.runs.len().saturating_sub(RUNS_MAX));
        self.open = Some(session);
        is_nobodys || has_ended
    }

    /// Ends it as it should be; answers whether it was open.
    fn end_run(&mut self, plane: &dyn Backplane, session: u64) -> bool {
        let before = self.runs.len();
        self.runs.retain(|run| run.session != session);
        self.counted_by = self.counted_by.filter(|counted_by| *counted_by != session);
        let was_open = self.open == Some(session);
        if was_open {
            // Of those that are left, the last that may still be there.
            let left = self.runs.iter().rev().find(|run| !plane.is_over(&run.process));
            self.open = left.map(|run| run.session);
        }
        was_open || self.runs.len() < before
    }
}

impl Working {
    /// Takes the name up, which is made where there is none.
    pub(super) fn begin(&mut self, setting: &Setting) -> Result<(), Trouble> {
        let (plane, of, session) = (&*setting.plane, &setting.of, self.stamps.writer());
        progress::register(plane, of)?;
        for _ in 0..SWAPS {
            let found = progress::load(plane, of)?;
            let is_new = found.is_none();
            let (mut progress, revision) = match found {
                Some(known) => (known.progress, known.revision),
                None => {
                    let revision = progress::revision(plane, of)?;
                    let era = repeated(|| plane.era())?;
                    (Progress::new(of.clone(), session, era, first_place(setting)?), revision)
                }
            };
            // A put of which nobody knows what became may have taken the ended run out: what was found stays found.
            let found_before = self.is_unclean;
            self.is_unclean |= progress.begin_run(plane, session);
            match progress::put(plane, &[], Some(&progress), of, revision, self.stamps.next()) {
                Ok(revision) => {
                    if is_new {
                        progress::register_anew(plane, of)?;
                    }
                    self.has_begun = true;
                    self.adopt(Known { progress, revision });
                    return Ok(());
                }
                // Whoever swapped in between may have found it, and counts it.
                Err(error) if error.kind() == ErrorKind::Conflict => self.is_unclean = found_before,
                Err(error) => return Err(error.into()),
            }
        }
        Err(progress::overtaken(of).into())
    }

    /// Before the handler is called for the first time behind an end without a word.
    pub(super) fn mark_crash(&mut self, setting: &Setting) -> Result<(), Trouble> {
        if !self.is_unclean {
            return Ok(());
        }
        let (most, session) = (setting.options.crashes_max, self.stamps.writer());
        self.update(setting, Copied::NOTHING, |progress| {
            // A handle finds one when it begins, and no more. An answer that did not come may have been that it is counted.
            if progress.counted_by.replace(session) == Some(session) {
                return false;
            }
            progress.crashes = progress.crashes.saturating_add(1);
            if progress.crashes >= most {
                progress.suspended = Some(format!("crash loop: {} times in a row", progress.crashes));
            }
            true
        })?;
        self.is_unclean = false;
        match self.progress() {
            Some(progress) if progress.suspended.is_some() => Err(Trouble::Suspended),
            _ => Ok(()),
        }
    }

    /// Stops: writes down how far it has come, and that it ended as it should.
    pub(super) fn finish(&mut self, setting: &Setting) {
        (self.feed, self.head) = (None, None);
        // Where that cannot be written, what was done last comes again: that is no failure.
        let _ = self.settle_owed(setting);
        let session = self.stamps.writer();
        for _ in 0..FINISH_TRIES {
            let at = self.at;
            let finished = self.update(setting, Copied::NOTHING, |progress| {
                let was_open = progress.end_run(&*setting.plane, session);
                progress.advance(at) || was_open
            });
            // In an era that has come since the place is another one.
            if !matches!(finished, Err(Trouble::Anew)) {
                return;
            }
        }
    }
}

fn first_place(setting: &Setting) -> Result<Offset> {
    match setting.options.from {
        ConsumeFrom::Oldest => Ok(Offset::BEGINNING),
        ConsumeFrom::Newest => repeated(|| setting.plane.head(setting.of.filter())),
        ConsumeFrom::Behind(offset) => Ok(offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backplane::{Era, InMemory, Local};
    use crate::fold::consumer::progress::Identity;
    use crate::options::Options;

    fn progress() -> Progress {
        let of = Identity { name: "ship".to_owned(), stream: "order".to_owned(), key: None, shard: None };
        Progress::new(of, 1, Era::from_raw(1), Offset::BEGINNING)
    }

    #[test]
    fn who_left_a_journal_has_ended_wherever_it_was_and_who_left_a_shared_plane_only_if_that_is_certain() {
        let journal = Options::new().background(false).in_memory().unwrap();
        let (local, shared) = (Local::over(&journal).unwrap(), InMemory::new());
        for (plane, counts) in [(&local as &dyn Backplane, true), (&shared, false)] {
            let mut progress = progress();
            assert!(!progress.begin_run(plane, 1));
            // It was of a container that started under another name each time.
            progress.runs[0].process = Process::of_nobody_knows_where();
            assert_eq!(progress.begin_run(plane, 2), counts);
            // One that runs beside it in this process is none.
            assert!(!progress.begin_run(plane, 3));
            assert!(progress.end_run(plane, 3) && progress.end_run(plane, 2));
            assert_eq!(progress.open.is_some(), !counts, "of whom nobody knows more");
            progress.runs = vec![Run { session: 7, process: Process::that_has_ended() }];
            assert!(progress.begin_run(plane, 8));
        }
        // Those of whom nobody ever knows more are forgotten one by one.
        let mut progress = progress();
        for session in 0..100 {
            progress.begin_run(&shared, session);
            progress.runs.last_mut().unwrap().process = Process::of_nobody_knows_where();
        }
        assert_eq!(progress.runs.len(), RUNS_MAX);
    }

    #[test]
    fn who_ends_leaves_it_open_only_to_one_that_may_be_there() {
        let (plane, mut progress) = (InMemory::new(), progress());
        progress.begin_run(&plane, 1);
        progress.begin_run(&plane, 2);
        progress.runs[0].process = Process::that_has_ended();
        assert!(progress.end_run(&plane, 2));
        assert_eq!((progress.open, progress.runs.len()), (None, 1), "who begins next counts it");
        assert!(progress.begin_run(&plane, 3));
    }
}
