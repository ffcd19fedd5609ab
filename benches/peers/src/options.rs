//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::engine::Outcome;
use crate::engines::{ROWS, Row};
use crate::works::{Step, Work};

pub const USAGE: &str = "usage: peers [--engines a,b] [--works a,b] [--events N] [--runs N] [--dir PATH]
             [--quick] [--ten-million] [--feed] [--state] [--patience SECONDS] [--json] [--list]";

pub struct Options {
    pub engines: Vec<&'static Row>,
    pub works: Vec<Work>,
    pub events: u64,
    pub runs: u32,
    pub dir: PathBuf,
    /// How long to wait for a quiet machine before each process.
    pub patience: Duration,
    pub json: bool,
    pub list: bool,
}

/// What a process that was spawned for one step is told.
pub struct ChildOptions {
    pub engine: &'static Row,
    pub work: Work,
    pub step: Step,
    pub events: u64,
    pub dir: PathBuf,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self {
            engines: ROWS.iter().collect(),
            works: Work::ALL.into_iter().filter(|&work| work != Work::AppendTenMillionEntities).collect(),
            events: 1_000_000,
            runs: 3,
            dir: PathBuf::from("target"),
            patience: Duration::from_secs(20),
            json: false,
            list: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--engines" => options.engines = each(&value()?, |name| Row::named(name), "engine")?,
                "--works" => options.works = each(&value()?, Work::named, "work")?,
                "--events" => options.events = value()?.replace('_', "").parse()?,
                "--runs" => options.runs = value()?.parse()?,
                "--dir" => options.dir = value()?.into(),
                "--patience" => options.patience = Duration::from_secs(value()?.parse()?),
                "--quick" => (options.events, options.runs) = (100_000, 1),
                "--ten-million" => options.works = Work::ALL.to_vec(),
                "--feed" => options.works = Work::ALL.into_iter().filter(|work| work.is_feed()).collect(),
                "--state" => options.works = Work::ALL.into_iter().filter(|work| work.is_state()).collect(),
                "--json" => options.json = true,
                "--list" => options.list = true,
                "--help" | "-h" => return Err(USAGE.into()),
                _ => return Err(format!("{argument} is not an option\n{USAGE}").into()),
            }
        }
        if options.events < 2_000 || options.runs == 0 {
            return Err("at least 2,000 events and one run".into());
        }
        Ok(options)
    }
}

/// The first argument of a spawned process.
pub const CHILD: &str = "--one-step";

impl ChildOptions {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut next = || arguments.next().ok_or("a spawned process was told too little");
        Ok(Self {
            engine: Row::named(&next()?).ok_or("no such engine")?,
            work: Work::named(&next()?).ok_or("no such work")?,
            step: Step::named(&next()?).ok_or("no such step")?,
            events: next()?.parse()?,
            dir: next()?.into(),
        })
    }

    pub fn arguments(&self) -> [String; 6] {
        let dir = self.dir.to_string_lossy().into_owned();
        let (engine, work, step) = (self.engine.name, self.work.name(), self.step.name());
        [CHILD.into(), engine.into(), work.into(), step.into(), self.events.to_string(), dir]
    }
}

fn each<T>(names: &str, find: impl Fn(&str) -> Option<T>, what: &str) -> Outcome<Vec<T>> {
    names
        .split(',')
        .map(|name| find(name).ok_or_else(|| format!("no {what} {name}; try --list").into()))
        .collect()
}
