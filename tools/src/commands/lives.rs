//! `lives`: who wrote a store, opening by opening.
//!
//! The log holds what each opening for writing said of itself with its first append, and whether it ended in order. One that
//! appended nothing has left nothing, and of one whose beginning compaction has dropped only what is left can be told. One
//! walk over the frames, with one life in hand.

use anyhow::Result;
use esker::dump::{Dump, FrameInfo, Item, Payload, Value, rfc3339};
use esker::{Holder, Life, Position};
use serde::Serialize;
use serde_json::json;

use super::listing::optional;
use crate::args;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::progress::{Shown, busy_with};
use crate::rows::Rows;
use crate::store::{self, Opened};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: args::Store,
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Ended {
    /// In order.
    Closed,
    /// The store is open still.
    Open,
    /// Without a word: a crash, a kill, the power.
    Crashed,
    /// What stood behind its last frame is damaged, was compacted, or was not copied.
    Unknown,
}

impl Ended {
    fn text(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Crashed => "crashed",
            Self::Unknown => "unknown",
        }
    }
}

/// What an opening says of itself.
struct Opening {
    pid: Option<u64>,
    previous: Option<String>,
    time: i64,
}

/// One opening by a writer.
struct OneLife {
    number: u64,
    life: Life,
    opening: Option<Opening>,
    position: Position,
    entries: u64,
    seqs: Option<(u64, u64)>,
    last_time: i64,
    /// The last number that was given in it, or before it.
    last_number: u64,
    is_closed: bool,
    /// In what compaction kept there are entries, and nothing of what the log says of itself.
    is_in_part: bool,
}

#[derive(Debug, Serialize)]
struct LifeLine<'a> {
    number: u64,
    life: String,
    previous_life: Option<&'a str>,
    pid: Option<u64>,
    host: Option<&'a str>,
    opened: Option<String>,
    opened_ns: Option<String>,
    last_write: String,
    last_write_ns: String,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    entries: u64,
    ended: Ended,
    position: String,
}

/// The lives as they are met.
struct Lives<'a> {
    opened: &'a Opened,
    holder: Option<Holder>,
    kinds: Dump,
    here: Option<OneLife>,
    /// Damage was met behind the last frame.
    is_damaged: bool,
    count: u64,
    rows: Rows,
    failed: Result<()>,
}

const HEADING: &[&str] =
    &["life", "id", "pid", "host", "opened", "last write", "first", "last", "entries", "ended"];

pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Outcome> {
    let opened = store::open(&args.store.path, "lives", output)?;
    let mut lives = Lives {
        opened: &opened,
        holder: opened.reader.last_writer(),
        kinds: Dump::default(),
        here: None,
        is_damaged: false,
        count: 0,
        rows: Rows::under(HEADING),
        failed: Ok(()),
    };
    let damaged = busy_with("reading", None, |shown| lives.over_all(shown, output))?;
    let at_end = opened.report_damage_at_end(output)?;
    lives.is_damaged |= at_end > 0;
    lives.leave(None, output);
    let Lives { count, rows, failed, .. } = lives;
    failed?;
    rows.end(output)?;
    if output.is_json() {
        output.typed("summary", &json!({ "lives": count, "damaged": damaged + at_end }))?;
    }
    Ok(Outcome::of_findings(damaged + at_end))
}

impl Lives<'_> {
    /// Answers how much damage was met.
    fn over_all(&mut self, shown: &Shown<'_>, output: &mut Output) -> Result<u64> {
        let (opened, mut damaged) = (self.opened, 0);
        shown.expect(opened.bytes_of_log());
        for item in opened.survey.frames() {
            match item? {
                Item::Frame(frame) => {
                    shown.add(frame.frame_bytes);
                    if !frame.body_good {
                        damaged += 1;
                        opened.tells((frame.position.segment(), frame.position.offset()));
                        super::dump::report_content(&frame, output)?;
                    }
                    self.see(&frame, output);
                }
                Item::Damage(damage) => {
                    damaged += 1;
                    self.is_damaged = true;
                    opened.tells((damage.segment, damage.offset));
                    store::report(&damage, output)?;
                }
            }
        }
        Ok(damaged)
    }

    fn see(&mut self, frame: &FrameInfo, output: &mut Output) {
        // What a compaction writes about batches is of nobody's life.
        let is_in_part = frame.position.is_in_part();
        if frame.is_system() && is_in_part {
            return;
        }
        if self.here.as_ref().is_none_or(|here| here.life != frame.life) {
            self.leave(Some(frame), output);
            self.count += 1;
            self.here = Some(OneLife::begin(self.count, frame));
        }
        self.is_damaged = false;
        let Some(here) = &mut self.here else { return };
        here.is_in_part = is_in_part;
        here.last_time = frame.time;
        here.last_number = frame.seq;
        let operation = frame.is_system().then(|| frame.operation_name());
        here.is_closed = operation.as_deref() == Some("closed");
        if operation.as_deref() == Some("open") {
            here.opening = Some(Opening::of(frame, &self.kinds));
        }
        if !frame.is_system() {
            here.entries += 1;
            here.seqs = Some((here.seqs.map_or(frame.seq, |(first, _)| first), frame.seq));
        }
    }

    /// The life that is in hand has no frame from the next one on.
    fn leave(&mut self, next: Option<&FrameInfo>, output: &mut Output) {
        let Some(here) = self.here.take() else { return };
        let id = here.life.to_string();
        let is_its = |holder: &Holder| format!("{:08x}", holder.life) == id;
        let is_open = next.is_none() && self.opened.writer.is_some();
        // A backup does not wait for the writer: what it wrote behind the end of the copy is not here.
        let next_number = next.map_or(u64::MAX, |next| next.seq.saturating_sub(u64::from(!next.is_system())));
        let mut copied = self.opened.reader.copied_through();
        let is_cut = copied.any(|through| (here.last_number..=next_number).contains(&through));
        let ended = match here.is_closed {
            true => Ended::Closed,
            false if is_open && self.holder.as_ref().is_none_or(is_its) => Ended::Open,
            false if is_cut || self.is_damaged || here.is_in_part => Ended::Unknown,
            false => Ended::Crashed,
        };
        // The lock page knows one holder, the last.
        let holder = self.holder.as_ref().filter(|holder| is_its(holder));
        let host = holder.map(|holder| holder.host.as_str());
        let written = if output.is_json() {
            output.typed("life", &here.line(host, ended)).map_err(Into::into)
        } else {
            self.rows.push(here.row(host, ended), output)
        };
        self.failed = std::mem::replace(&mut self.failed, Ok(())).and(written);
    }
}

impl Opening {
    fn of(frame: &FrameInfo, kinds: &Dump) -> Self {
        let members = match kinds.payload(frame) {
            Payload::Value(Value::Map(members)) => members,
            _ => Vec::new(),
        };
        let of_name = |name: &str| members.iter().find(|(member, _)| *member == Value::Text(name.to_owned()));
        let pid = match of_name("pid") {
            Some((_, Value::Unsigned(pid))) => Some(*pid),
            _ => None,
        };
        let previous = match of_name("previous_life") {
            Some((_, Value::Text(life))) => Some(life.clone()),
            _ => None,
        };
        Self { pid, previous, time: frame.time }
    }
}

impl OneLife {
    fn begin(number: u64, frame: &FrameInfo) -> Self {
        Self {
            number,
            life: frame.life,
            opening: None,
            position: frame.position,
            entries: 0,
            seqs: None,
            last_time: frame.time,
            last_number: frame.seq,
            is_closed: false,
            is_in_part: false,
        }
    }

    fn line<'a>(&'a self, host: Option<&'a str>, ended: Ended) -> LifeLine<'a> {
        let opening = self.opening.as_ref();
        LifeLine {
            number: self.number,
            life: self.life.to_string(),
            previous_life: opening.and_then(|opening| opening.previous.as_deref()),
            pid: opening.and_then(|opening| opening.pid),
            host,
            opened: opening.map(|opening| rfc3339(opening.time)),
            opened_ns: opening.map(|opening| opening.time.to_string()),
            last_write: rfc3339(self.last_time),
            last_write_ns: self.last_time.to_string(),
            first_seq: self.seqs.map(|(first, _)| first),
            last_seq: self.seqs.map(|(_, last)| last),
            entries: self.entries,
            ended,
            position: self.position.to_string(),
        }
    }

    fn row(&self, host: Option<&str>, ended: Ended) -> Vec<String> {
        let opening = self.opening.as_ref();
        vec![
            self.number.to_string(),
            self.life.to_string(),
            optional(opening.and_then(|opening| opening.pid)),
            host.unwrap_or("-").to_owned(),
            opening.map_or_else(|| "-".to_owned(), |opening| rfc3339(opening.time)),
            rfc3339(self.last_time),
            optional(self.seqs.map(|(first, _)| first)),
            optional(self.seqs.map(|(_, last)| last)),
            self.entries.to_string(),
            ended.text().to_owned(),
        ]
    }
}
