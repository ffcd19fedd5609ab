//! Power cuts of one disk, one behind the other: each run begins with what the cut before has left.

use super::order::Order;
use super::qemu::{Ended, Saved};
use super::tally::Tally;
use crate::blocks::device::Device;
use crate::blocks::disk::{Event, Layer, Power};
use crate::blocks::known::Known;
use crate::blocks::random::Random;
use crate::blocks::roles::Judge;
use crate::blocks::survivors::{Choice, is_torn, layer, settle, survivors};

/// So many cuts of a disk, before another is taken.
const CUTS: u64 = 10;

pub(crate) struct Chains<'a> {
    device: &'a Device,
    saved: Saved,
    judge: Judge,
    random: Random,
    /// How a disk begins.
    fresh: Vec<u8>,
    /// How many writes, flushes and marks came of the last run that came to its end.
    usual: Option<usize>,
    pub(crate) tally: Tally,
}

/// What came of a run: all that happened to the disk, and what is known by it.
struct Run {
    log: Vec<Event>,
    ended: Ended,
    known: Known,
    /// What was on the console.
    said: Vec<String>,
}

impl<'a> Chains<'a> {
    pub(crate) fn new(device: &'a Device, saved: Saved, seed: u64) -> Self {
        let fresh = device.disk().base.clone();
        let (judge, random) = (Judge::new(device.place()), Random::new(seed));
        Self { device, saved, judge, random, fresh, usual: None, tally: Tally::default() }
    }

    /// At most so many cuts of a new disk.
    pub(crate) fn cut(&mut self, at_most: usize) {
        {
            let mut disk = self.device.disk();
            disk.over.clear();
            disk.base.clone_from(&self.fresh);
        }
        let mut known = Known::default();
        let seed = self.random.below(1 << 40);
        let enough = self.tally.cuts + at_most;
        for run in 0..CUTS {
            let asks = run > 0 && self.random.below(3) == 0;
            let lives = 1 + self.random.below(2);
            let order = Order { run, seed: seed + run, lives, known: asks.then(|| known.clone()) };
            let run = self.run(&order, known);
            if !self.judge(&order, &run) || self.tally.cuts >= enough {
                return;
            }
            known = run.known;
        }
    }

    /// A machine does what it is told until its power goes.
    fn run(&mut self, order: &Order, known: Known) -> Run {
        let mut machine = self.saved.resume().unwrap();
        {
            let mut disk = self.device.disk();
            disk.log.clear();
            disk.is_recorded = true;
            // As often at one of them as at any other, and now and then when nothing more comes.
            disk.power = self.usual.map(|usual| {
                let left = 1 + usize::try_from(self.random.below((usual + usual / 8) as u64)).unwrap();
                Power { left, told: machine.power_switch() }
            });
        }
        machine.tell(order).unwrap();
        let ended = machine.until_ended();
        let log = {
            // What is in the machine still must not come to the disk.
            let mut disk = self.device.disk();
            disk.power = Some(Power { left: 0, told: Box::new(|| {}) });
            std::mem::take(&mut disk.log)
        };
        self.tally.events += log.len();
        self.tally.inside += usize::from(machine.has_judged());
        let said = std::mem::take(&mut machine.said);
        drop(machine);
        if ended == Ended::Over {
            self.tally.idle += 1;
            self.usual = Some(log.len());
        }
        let mut known = known;
        for event in &log {
            if let Event::Mark(line) = event {
                known.learn(line);
            }
        }
        Run { log, ended, known, said }
    }

    /// Judges what is left, and puts it there for the next run; false if there is to be none.
    fn judge(&mut self, order: &Order, run: &Run) -> bool {
        let state = self.leave(&run.log);
        let verdict = self.judge.judge(&run.known);
        let (word, rest) = verdict.split_once(' ').unwrap_or((&verdict, ""));
        self.tally.cuts += 1;
        // What the kernel does not take for its file system nobody has judged.
        self.tally.states += usize::from(word != "unmountable");
        let class = if word == "right" { rest } else { &verdict };
        *self.tally.classes.entry(class.to_owned()).or_default() += 1;
        let wrong = match &run.ended {
            Ended::Wrong(what) => Some(format!("in the machine: {what}")),
            _ => (word == "wrong").then(|| rest.to_owned()),
        };
        {
            let mut disk = self.device.disk();
            disk.over = state;
            disk.settle();
        }
        if let Some(what) = &wrong {
            self.keep(order, run, what);
        }
        wrong.is_none() && word == "right"
    }

    /// Makes the disk as the power cut leaves it, and answers what is above its base. What comes to it from here on, nobody records.
    fn leave(&mut self, log: &[Event]) -> Layer {
        let mut disk = self.device.disk();
        disk.power = None;
        disk.is_recorded = false;
        let flying = settle(log, &mut disk.base);
        let atom = Some(self.device.file_system.atom());
        let choices = [
            // As a disk without a cache leaves it.
            Choice { kept: 1000, atom: None },
            Choice { kept: 0, atom: None },
            Choice { kept: 150, atom },
            Choice { kept: 500, atom },
            Choice { kept: 850, atom },
        ];
        let choice = choices[usize::try_from(self.random.below(choices.len() as u64)).unwrap()];
        let there = survivors(&flying, choice, &mut self.random);
        self.tally.dropped += usize::from(there.len() < flying.len());
        self.tally.torn += usize::from(is_torn(&flying, &there));
        disk.over = layer(&there, &disk.base);
        disk.over.clone()
    }

    fn keep(&mut self, order: &Order, run: &Run, what: &str) {
        let number = self.tally.violations.len();
        let name = self.device.file_system.name();
        let story = format!("{name}, run \"{order}\": {what}; known was {}", run.known);
        eprintln!("violation: {story}");
        self.tally.violations.push(story.clone());
        let Ok(directory) = std::env::var("ESKER_MACHINE_EVIDENCE") else { return };
        let marks = run.log.iter().map(|event| match event {
            Event::Write { at, bytes } => format!("write {at} {}", bytes.len()),
            Event::Flush => "flush".to_owned(),
            Event::Mark(line) => line.clone(),
        });
        let log = marks.collect::<Vec<_>>().join("\n");
        let told = format!("{story}\n\nconsole:\n{}\n\ndisk:\n{log}\n", run.said.join("\n"));
        let name = format!("{name}-{}-{number}", order.seed);
        _ = std::fs::create_dir_all(&directory);
        _ = std::fs::write(format!("{directory}/{name}.image"), self.device.disk().image());
        _ = std::fs::write(format!("{directory}/{name}.txt"), told);
    }
}
