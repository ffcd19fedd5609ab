//! A disk that refuses the n-th write, the n-th sync or the n-th read, for each n of a small life.
//!
//! Whoever writes is told by an error of the right kind, or is poisoned; a restart above the same cache finds everything
//! acknowledged or says that it cannot; and what that found is there when the power is cut behind it. Whoever reads gets no
//! other bytes: an error, or through a mapping the SIGBUS that is promised for it.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::model::{Fate, Model};
use super::tally::Tally;
use super::tree::{Asked, Event, Fault, Files};
use super::workshop::{Manner, Recorder, STORE, Workshop, model};
use crate::blocks::known::Known;
use crate::blocks::random::Random;
use crate::blocks::roles::Judge;
use crate::sectors::child::{Child, Ended};
use crate::sectors::writing::{is_of_a_disk, judge_the_life, judge_the_restart};

/// Rounds of batches; it compacts behind the twelfth.
const ROUNDS: &str = "14";
/// So many power cuts are tried behind each failure.
const CUTS: usize = 4;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    asked: Asked,
    error: Errno,
    number: usize,
    is_once: bool,
}

impl Case {
    const fn fault(self) -> Fault {
        let Self { asked, error, number, is_once } = self;
        Fault { asked, error, spared: number, is_once, hits: 0 }
    }
}

/// Each so many-th of them, with each error that it may have.
pub(crate) fn cases(counts: &BTreeMap<Asked, usize>, step: usize, first: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for (asked, count) in counts {
        let errors: &[Errno] = if *asked == Asked::Read { &[Errno::IO] } else { &[Errno::IO, Errno::NOSPC] };
        for number in 0..*count {
            for (kind, error) in errors.iter().enumerate() {
                for is_once in [true, false] {
                    // Neighbours differ in what they get, so that a step leaves out none of the kinds.
                    if (number * 5 + kind * 2 + usize::from(is_once) + first).is_multiple_of(step) {
                        cases.push(Case { asked: *asked, error: *error, number, is_once });
                    }
                }
            }
        }
    }
    cases
}

pub(crate) struct Failing<'a> {
    pub(crate) workshop: &'a Workshop,
    pub(crate) manner: Manner,
    pub(crate) judge: Judge,
    pub(crate) random: Random,
    pub(crate) tally: Tally,
}

/// A store, and what is known of it.
pub(crate) struct Sound {
    files: Files,
    known: Known,
    seqs: String,
}

fn learn(known: &mut Known, log: &[Event]) {
    for event in log {
        if let Event::Mark(line) = event {
            known.learn(line);
        }
    }
}

impl Failing<'_> {
    fn run(&self, role: &str, told: &str) -> Child {
        Child::run_by(self.manner.command(), role, &self.workshop.recorded(), told)
    }

    /// A life in which nothing fails: what it asks for, and what it leaves.
    pub(crate) fn sound(&self) -> (BTreeMap<Asked, usize>, Sound) {
        let recorder = Recorder::new(self.workshop, self.manner, None).unwrap();
        let child = self.run("works", ROUNDS);
        assert!(child.ended == Ended::Well && child.first("failed").is_none(), "{:?}", child.said);
        assert_eq!(child.said.last().map(String::as_str), Some("through"));
        let counts = recorder.tree().count.clone();
        let listed = self.run("lists", "");
        let seqs: Vec<&str> = listed.all("entry").filter_map(|entry| entry.split(' ').next()).collect();
        let (mut known, mut model) = (Known::default(), model(None));
        let log = recorder.log();
        learn(&mut known, &log);
        log.iter().for_each(|event| model.apply(event));
        let files = model.left(STORE, &mut Fate::Prefix(usize::MAX)).unwrap();
        (counts, Sound { files, known, seqs: seqs.join(" ") })
    }

    /// How often who opens that store without anything in the cache, and who reads it, asks for something.
    pub(crate) fn reads(&self, sound: &Sound) -> usize {
        ["recovers", "reads"]
            .into_iter()
            .map(|role| {
                let recorder = Recorder::new(self.workshop, self.manner, Some(&sound.files)).unwrap();
                self.run(role, &sound.told(role));
                recorder.tree().count.get(&Asked::Read).copied().unwrap_or_default()
            })
            .max()
            .unwrap()
    }

    /// A life that is refused something, a restart, and power cuts behind it.
    pub(crate) fn write(&mut self, case: Case) {
        let recorder = Recorder::new(self.workshop, self.manner, None).unwrap();
        recorder.tree().fault = Some(case.fault());
        let mut worked = self.run("works", ROUNDS);
        // Where nobody could look at what a call had written, the outcome of that batch is unknown, and nothing else: all before it
        // is durable, and a sync says so.
        if worked.first("poisoned").is_some_and(|error| error.contains("look at what was written")) {
            worked.said.retain(|line| line != "wrong behind the poison: sync: Ok(())");
        }
        let mut known = Known::default();
        let mut log = recorder.log();
        learn(&mut known, &log);
        let tried = self.judge_the_writing(case, &worked, &known);
        let tried = tried.map_err(|what| format!("{what}; it said {:?}", worked.said));
        log.extend(recorder.log());
        self.conclude(case, &recorder, &log, model(None), tried);
    }

    fn judge_the_writing(
        &self,
        case: Case,
        worked: &Child,
        known: &Known,
    ) -> Result<(String, Known), String> {
        let class = match worked.ended {
            Ended::Bus if case.asked == Asked::Read => "SIGBUS",
            _ => judge_the_life(worked)?,
        };
        let (expected, again) = self.restart(case, known)?;
        Ok((format!("{class}, {again}"), expected))
    }

    /// A sound store of which one part cannot be read, by who opens it or by who only reads it.
    pub(crate) fn read(&mut self, case: Case, sound: &Sound) {
        for role in ["recovers", "reads"] {
            let recorder = Recorder::new(self.workshop, self.manner, Some(&sound.files)).unwrap();
            recorder.tree().fault = Some(case.fault());
            let known = &sound.known;
            let tried = if role == "reads" {
                let read = self.run(role, &sound.told(role));
                judge_the_reading(&read).map(|class| (class.to_owned(), known.clone()))
            } else {
                self.restart(case, known).map(|(expected, class)| (class.to_owned(), expected))
            };
            self.conclude(case, &recorder, &recorder.log(), model(Some(&sound.files)), tried);
        }
    }

    fn restart(&self, case: Case, known: &Known) -> Result<(Known, &'static str), String> {
        let restarted = self.run("recovers", &known.to_string());
        if restarted.ended == Ended::Bus && case.asked == Asked::Read {
            return Ok((known.clone(), "SIGBUS"));
        }
        judge_the_restart(&restarted, known)
    }

    /// The power is cut behind everything.
    fn conclude(
        &mut self,
        case: Case,
        recorder: &Recorder,
        log: &[Event],
        mut model: Model,
        tried: Result<(String, Known), String>,
    ) {
        log.iter().for_each(|event| model.apply(event));
        // What is wrong is so, too, where the fault was not met.
        if tried.is_ok() && recorder.tree().fault.is_none_or(|fault| fault.hits == 0) {
            self.tally.class("not met");
            return;
        }
        self.tally.count("states", 1);
        let (class, expected) = match tried {
            Ok(tried) => tried,
            Err(what) => {
                let files = model.left(STORE, &mut Fate::Prefix(usize::MAX));
                self.tally.violation(format!("{}: {case:?}: {what}", self.manner.name()), files.as_ref());
                return;
            }
        };
        self.tally.class(&*class);
        for number in 0..CUTS {
            let mut fate = match number {
                0 => Fate::Prefix(0),
                1 => Fate::Prefix(model.order()),
                _ => Fate::Any { random: &mut self.random, names: 500, pages: 500, is_torn: true },
            };
            let left = model.left(STORE, &mut fate);
            self.workshop.put(left.as_ref()).unwrap();
            self.tally.count("power_cuts", 1);
            let verdict = self.judge.judge(&expected);
            if !verdict.starts_with("right ") {
                let story = format!(
                    "{}: {case:?}: {class}; then {verdict}; known was {expected}",
                    self.manner.name()
                );
                self.tally.violation(story, left.as_ref());
                return;
            }
        }
    }
}

impl Sound {
    fn told(&self, role: &str) -> String {
        if role == "reads" { self.seqs.clone() } else { self.known.to_string() }
    }
}

/// Nobody was shown anything that was not written, nor that there is nothing.
fn judge_the_reading(read: &Child) -> Result<&'static str, String> {
    if let Some(line) = read.first("false").or_else(|| read.first("silent")) {
        return Err(format!("it read what is not there: {line}"));
    }
    if let Ended::Otherwise(how) = &read.ended {
        return Err(how.clone());
    }
    let of_a_read = read.all("failed").filter_map(|failed| Some(failed.split_once(' ')?.1));
    let of_the_walk = read.all("walked").filter_map(|walked| Some(walked.split_once(" then ")?.1));
    let mut errors = of_a_read.chain(of_the_walk).chain(read.all("unopened")).peekable();
    if read.ended == Ended::Bus {
        return Ok("read: SIGBUS");
    }
    if errors.peek().is_none() {
        return Ok("read: not noticed");
    }
    match errors.find(|error| !is_of_a_disk(error)) {
        Some(error) => Err(format!("no error of a disk: {error}")),
        None => Ok("read: an error"),
    }
}
