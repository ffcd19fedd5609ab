//! Who runs a consumer: a handle takes the name up, and writes down when it ends as it should. Of one that did not, the process
//! tells whether it ended without a word.

use serde::{Deserialize, Serialize};

use crate::backplane::{Offset, Process};
use crate::error::{ErrorKind, Result};
use crate::fold::consumer::options::ConsumeFrom;
use crate::fold::consumer::progress::{self, Known, Progress, SWAPS};
use crate::fold::consumer::working::{Setting, Trouble, Working};
use crate::fold::image::repeated;

/// So many handles are known to run it; when there are more the oldest is forgotten.
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
    fn begin_run(&mut self, session: u64, process: Process) -> bool {
        let is_another = |open: &u64| *open != session;
        // What was written by a build that did not say by whom it is.
        let is_nobodys =
            self.open.filter(is_another).is_some_and(|open| self.runs.iter().all(|run| run.session != open));
        let before = self.runs.len();
        self.runs.retain(|run| !run.process.has_ended());
        let has_ended = self.runs.len() < before;
        self.runs.retain(|run| run.session != session);
        self.runs.push(Run { session, process });
        self.runs.drain(..self.runs.len().saturating_sub(RUNS_MAX));
        self.open = Some(session);
        is_nobodys || has_ended
    }

    /// Ends it as it should be; answers whether it was open.
    fn end_run(&mut self, session: u64) -> bool {
        let before = self.runs.len();
        self.runs.retain(|run| run.session != session);
        let was_open = self.open == Some(session);
        if was_open {
            self.open = self.runs.last().map(|run| run.session);
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
            self.is_unclean = progress.begin_run(session, plane.process());
            match progress::put(plane, &[], Some(&progress), of, revision, self.stamps.next()) {
                Ok(revision) => {
                    if is_new {
                        progress::register_anew(plane, of)?;
                    }
                    self.has_begun = true;
                    self.adopt(Known { progress, revision });
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {}
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
        let most = setting.options.crashes_max;
        self.update(setting, None, |progress| {
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
            let finished = self.update(setting, None, |progress| {
                let was_open = progress.end_run(session);
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
