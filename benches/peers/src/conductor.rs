//! Runs every engine through every work, one process a step, and collects what they measured.
//!
//! The runs of one work are interleaved over the engines (first run of all, second run of all, …), so
//! that a slow minute of the machine does not fall on one engine alone.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::engine::Outcome;
use crate::engines::Row;
use crate::machine::{Share, Ticks, wait_until_quiet};
use crate::options::{ChildOptions, Options};
use crate::works::{Measure, Step, Work};

/// All runs of one engine in one work.
pub struct Cell {
    pub row: &'static Row,
    pub work: Work,
    /// How many events it was given: fewer than asked for where the engine is too slow.
    pub events: u64,
    pub series: Vec<Series>,
    /// What others used of the machine while this was measured.
    pub others: Share,
    pub failure: Option<String>,
}

/// One metric, with a value a run.
pub struct Series {
    pub metric: String,
    pub unit: String,
    pub values: Vec<f64>,
}

impl Cell {
    fn record(&mut self, measure: Measured) {
        match self.series.iter_mut().find(|series| series.metric == measure.metric) {
            Some(series) => series.values.push(measure.value),
            None => {
                self.series.push(Series {
                    metric: measure.metric,
                    unit: measure.unit,
                    values: vec![measure.value],
                });
            }
        }
    }
}

/// What a spawned process says on its standard output, one JSON line a metric.
#[derive(serde::Deserialize)]
struct Measured {
    metric: String,
    value: f64,
    unit: String,
}

pub fn measure_all(options: &Options) -> Outcome<Vec<Cell>> {
    let mut cells = Vec::new();
    for &work in &options.works {
        let mut of_work: Vec<Cell> = options
            .engines
            .iter()
            .filter(|row| row.does(work))
            .map(|row| Cell {
                row,
                work,
                events: options.events.min(row.most_events(work)),
                series: Vec::new(),
                others: Share::default(),
                failure: None,
            })
            .collect();
        for run in 1..=options.runs {
            for cell in of_work.iter_mut().filter(|cell| cell.failure.is_none()) {
                eprintln!("{} {} run {run} of {}", work.name(), cell.row.name, options.runs);
                if let Err(error) = one_run(cell, options) {
                    eprintln!("  failed: {error}");
                    cell.failure = Some(error.to_string());
                }
            }
        }
        cells.append(&mut of_work);
    }
    Ok(cells)
}

fn one_run(cell: &mut Cell, options: &Options) -> Outcome {
    let dir = Scratch::create(options)?;
    for &step in cell.work.steps() {
        // What the step before left to be written would be written at the expense of this one.
        rustix::fs::sync();
        if !wait_until_quiet(options.patience) {
            eprintln!("  the machine is not quiet");
        }
        let child = ChildOptions {
            engine: cell.row,
            work: cell.work,
            step,
            events: cell.events,
            dir: dir.path.join("store"),
        };
        let before = Ticks::now();
        let output = Command::new(std::env::current_exe()?)
            .args(child.arguments())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        let others = Ticks::now().others_since(before);
        // A process that is to die has no status to be proud of.
        if !output.status.success() && step != Step::FillAndDie {
            return Err(format!("{}: {}", step.name(), output.status).into());
        }
        let lines = String::from_utf8(output.stdout)?;
        for line in lines.lines() {
            // Also at once, so that a run which is broken off leaves what it had.
            eprintln!("  {line}");
            cell.record(serde_json::from_str(line)?);
        }
        cell.others.add(others);
    }
    Ok(())
}

/// The spawned process: does one step and says what it measured.
pub fn run_child(child: &ChildOptions) -> Outcome {
    fs::create_dir_all(&child.dir)?;
    let task = crate::works::Task {
        work: child.work,
        step: child.step,
        dir: child.dir.clone(),
        events: child.events,
        keyed: child.engine.keyed(),
    };
    for measure in child.engine.run(&task)? {
        println!("{}", json_line(child.work, child.engine.name, &measure));
    }
    Ok(())
}

pub fn json_line(work: Work, engine: &str, measure: &Measure) -> String {
    line(work.name(), engine, measure.metric, measure.value, measure.unit)
}

pub fn line(work: &str, engine: &str, metric: &str, value: f64, unit: &str) -> String {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        work: &'a str,
        engine: &'a str,
        metric: &'a str,
        value: f64,
        unit: &'a str,
    }
    serde_json::to_string(&Line { work, engine, metric, value, unit })
        .expect("names and finite numbers are JSON")
}

/// A directory of this process, removed with everything in it.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn create(options: &Options) -> Outcome<Self> {
        let path = options.dir.join(format!("peers-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("{}: {error}", self.path.display());
        }
    }
}
