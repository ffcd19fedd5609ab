//! Who was silent for how long: the model of deadlines, and what is done to a store with them.

use std::time::Duration;

use esker::{Heartbeat, Liveness, ManualClock, Source, SourceOptions};

use super::events::Suppressed;
use super::{KEYS, SOURCES, World, met};

/// In milliseconds, as all times here.
pub(crate) const DEADLINE: u64 = 30_000;
const HEARTBEAT: u64 = DEADLINE / 2;

/// The first source may be silent for ever.
fn has_deadline(source: usize) -> bool {
    source != 0
}

/// The second one says itself that it is there; the third is there as long as its session is.
pub(crate) fn speaks_for_itself(source: usize) -> bool {
    source == 1
}

/// The clock of an opening, and the countdowns that run: when each has run out, and whether it was given a heartbeat more.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    pub(crate) clock: ManualClock,
    now: u64,
    countdowns: [Option<(u64, bool)>; SOURCES.len()],
    is_counting: bool,
}

impl Silence {
    pub(crate) fn pass(&mut self, time: u64) {
        self.now += time;
        self.clock.advance(Duration::from_millis(time));
    }

    fn begin(&mut self, source: usize) {
        self.countdowns[source] = has_deadline(source).then_some((self.now + DEADLINE, false));
    }

    fn is_late(&self, source: usize) -> bool {
        self.countdowns[source].is_some_and(|(due, _)| due <= self.now)
    }

    /// A source is claimed. With the first claim all countdowns begin.
    fn claimed(&mut self, source: usize) {
        if !std::mem::replace(&mut self.is_counting, true) {
            (0..SOURCES.len()).for_each(|source| self.begin(source));
        }
        self.countdowns[source] = None;
        self.spoke(source);
    }

    fn spoke(&mut self, source: usize) {
        if speaks_for_itself(source) {
            self.begin(source);
        }
    }

    /// Those whose time is up. Who was noticed late is given a heartbeat more.
    fn take_due(&mut self) -> Vec<usize> {
        let mut due = Vec::new();
        for (source, countdown) in self.countdowns.iter_mut().enumerate() {
            match *countdown {
                Some((at, false)) if at + HEARTBEAT < self.now => {
                    met("who was noticed late was given a heartbeat more");
                    *countdown = Some((self.now + HEARTBEAT, true));
                }
                Some((at, _)) if at <= self.now => {
                    *countdown = None;
                    due.push(source);
                }
                _ => {}
            }
        }
        due
    }
}

impl World {
    /// A session of a source, which is claimed if there is none.
    pub(super) fn source(&mut self, at: usize) -> Result<Source, String> {
        if let Some(source) = &self.sources[at] {
            return Ok(source.clone());
        }
        let mut options = SourceOptions::new();
        if has_deadline(at) {
            options = options.liveness(Liveness::Deadline(Duration::from_millis(DEADLINE)));
        }
        if speaks_for_itself(at) {
            options = options.heartbeat(Heartbeat::ByHand);
        }
        self.enters(Some(at), Silence::claimed);
        let source = self.store.source_with(SOURCES[at], options).map_err(|error| error.to_string())?;
        self.count_flushes();
        self.sources[at] = Some(source.clone());
        Ok(source)
    }

    /// A source says something, and whoever is late is ended on the way. Answers whether anybody was.
    pub(super) fn speaks(&mut self, source: usize) -> bool {
        self.enters(Some(source), Silence::spoke)
    }

    /// Somebody looks at deadlines. A source that speaks does so first, unless it is late itself.
    fn enters(&mut self, speaker: Option<usize>, speak: impl Fn(&mut Silence, usize)) -> bool {
        let is_late = speaker.is_some_and(|source| self.silence.is_late(source));
        if let Some(source) = speaker.filter(|_| !is_late) {
            let is_counted =
                self.silence.countdowns[source].is_some_and(|(due, _)| due < self.silence.now + DEADLINE);
            if is_counted && self.oracle.now.values().any(|entity| entity.sources.contains(&source)) {
                met("a source came back before its deadline");
            }
            speak(&mut self.silence, source);
        }
        let due = self.silence.take_due();
        self.end(&due);
        if let Some(source) = speaker.filter(|_| is_late) {
            speak(&mut self.silence, source);
        }
        !due.is_empty()
    }

    /// What these sources assert is taken back.
    fn end(&mut self, sources: &[usize]) {
        if sources.is_empty() {
            return;
        }
        self.oracle.flushed();
        for key in KEYS {
            for source in sources {
                if self.oracle.now.get(key).is_some_and(|entity| entity.sources.contains(source)) {
                    self.take_back(key, *source, Suppressed::Synthetic);
                    let is_there = self.oracle.now.contains_key(key);
                    met(if is_there {
                        "a deadline left what others assert"
                    } else {
                        "the last bit fell at a deadline"
                    });
                }
            }
        }
        self.oracle.ended();
    }

    /// So much time passes, and somebody looks at once; or nobody does. The process may be killed while it looks, behind a part
    /// of what the disk is told.
    pub(super) fn pass(&mut self, time: u64, looks: bool, killed: Option<u8>) -> Result<(), String> {
        if !looks {
            self.flush()?;
            self.silence.pass(time);
            return Ok(());
        }
        let begun = self.disk.events();
        self.silence.pass(time);
        let Some(part) = killed else { return self.flush() };
        self.store.flush().map_err(|error| error.to_string())?;
        self.looks();
        self.kill_within(begun, part, "killed while deadlines were looked at")
    }

    /// Whoever is late is ended by a flush too.
    pub(super) fn looks(&mut self) {
        self.oracle.flushed();
        self.enters(None, |_, _| {});
    }

    /// A session ends.
    pub(super) fn let_go(&mut self, source: usize) {
        if self.sources[source].take().is_some() {
            self.silence.begin(source);
        }
    }
}
