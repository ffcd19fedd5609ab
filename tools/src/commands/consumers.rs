//! `consumers`: how far each has come, what it stands before, and whether that is too much.
//!
//! What is read is what they have not done, so that a look costs what they are behind.

use std::rc::Rc;

use anyhow::Result;
use esker::backplane::{Backplane, Behind, Offset, ReadOnly};
use esker::dump::{key_text, rfc3339};
use esker::{ErrorKind, WrittenConsumer};
use serde::Serialize;
use serde_json::json;

use super::listing::optional;
use super::plane::{Looked, now, or_dash};
use crate::args;
use crate::filter::Pattern;
use crate::outcome::Outcome;
use crate::output::{self, Output};
use crate::rows::Rows;
use crate::span::Span;
use crate::typed::quoted;

/// The consumers of topics: where each is, what it has not done, what it gave up; with thresholds a health check
///
/// Whether a process runs one, the files only tell as far as it began and did not end in order. It reads the segments that hold
/// cells, and the records that they have not done
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: args::Store,
    /// Only consumers of streams that match this name (`*` and `?` stand for any characters and any one)
    #[arg(long, value_name = "KIND")]
    kind: Option<Pattern>,
    /// Records that a consumer may have before it. With a threshold, one that is suspended, of another era, has lost records or
    /// stands behind the end of its log is over it, too
    #[arg(long, value_name = "N")]
    max_lag: Option<u64>,
    /// How long a consumer's next record may have waited (`2h`, `30s`, `1d`)
    #[arg(long, value_name = "D")]
    max_age: Option<Span>,
}

/// What a consumer is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Over {
    Lag,
    Age,
    Suspended,
    Era,
    /// What it had not done was dropped.
    Lost,
    /// The log ends before its place.
    Ahead,
}

/// A consumer for JSON lines.
#[derive(Debug, Serialize)]
struct ConsumerLine<'a> {
    #[serde(flatten)]
    of: OfFields<'a>,
    /// `null`: it has not begun.
    offset: Option<u64>,
    head: u64,
    /// Records that it has not done; `null` where its offset is of another era.
    lag: Option<u64>,
    next_offset: Option<u64>,
    next_time: Option<String>,
    next_time_ns: Option<String>,
    age_ns: Option<String>,
    same_era: bool,
    /// How often its next record failed, and why it did so last.
    attempts: u32,
    cause: Option<&'a str>,
    suspended: Option<&'a str>,
    crashes: u32,
    /// The handle that runs it, or ended without a word.
    open_by: Option<String>,
    poisoned: u64,
    undecodable: u64,
    reseeded: u64,
    parked_entities: usize,
    parked_records: u64,
    written: Option<String>,
    written_ns: Option<String>,
    over: Vec<Over>,
}

/// Which consumer it is, for JSON lines.
#[derive(Debug, Serialize)]
pub(super) struct OfFields<'a> {
    name: &'a str,
    kind: &'a str,
    /// `null`: all topics of the kind.
    key: Option<String>,
    /// Which part of the entities, and of how many.
    shard: Option<(u32, u32)>,
}

impl<'a> OfFields<'a> {
    pub(super) fn of(consumer: &'a WrittenConsumer) -> Self {
        Self {
            name: &consumer.info.name,
            kind: &consumer.stream,
            key: consumer.key.as_deref().map(key_text),
            shard: consumer.info.shard,
        }
    }
}

/// What a consumer consumes, in the words of `--of`.
pub(super) fn consumed(consumer: &WrittenConsumer) -> String {
    match &consumer.key {
        Some(key) => format!("{}/{}", consumer.stream, key_text(key)),
        None => consumer.stream.clone(),
    }
}

/// The same with its part, for a person.
pub(crate) fn consumed_part(consumer: &WrittenConsumer) -> String {
    let part = consumer.info.shard.map(|(i, n)| format!(" part {i}/{n}"));
    consumed(consumer) + &part.unwrap_or_default()
}

/// The options that tell a consumer from others of its name.
pub(super) fn selector(consumer: &WrittenConsumer) -> String {
    let part = consumer.info.shard.map(|(i, n)| format!(" --shard {i}/{n}"));
    format!("--of {}{}", quoted(&consumed(consumer)), part.unwrap_or_default())
}

/// Why a consumer cannot go on from where it is, in words.
#[derive(Debug)]
pub(super) enum Gone {
    /// What stood there was dropped.
    Lost(String),
    /// The log ends before it.
    Ahead(String),
}

/// A consumer beside its topics.
pub(crate) struct Standing {
    pub(crate) consumer: WrittenConsumer,
    head: Offset,
    /// `None`: its offset is of another era, or what is behind it cannot be read.
    pub(crate) behind: Option<Behind>,
    pub(super) same_era: bool,
    pub(super) gone: Option<Gone>,
    pub(crate) age: Option<Span>,
}

impl Standing {
    fn of(consumer: WrittenConsumer, looked: &mut Looked, output: &mut Output) -> Result<Self> {
        let plane = Rc::clone(&looked.plane);
        Self::measure(consumer, &plane, now(), |error| looked.take::<()>(Err(error), output).map(drop))
    }

    /// Where it is; what cannot be read `refuse` is told of, and the rest is measured if it can be.
    pub(crate) fn measure(
        consumer: WrittenConsumer,
        plane: &ReadOnly,
        now: i64,
        mut refuse: impl FnMut(esker::Error) -> Result<()>,
    ) -> Result<Self> {
        let (info, filter) = (&consumer.info, consumer.filter());
        let same_era = is_of_era(&consumer, plane)?;
        let head = match plane.head(filter) {
            Ok(head) => head,
            Err(error) => refuse(error).map(|()| Offset::default())?,
        };
        // One that has not begun begins with what there is.
        let has_place = same_era && info.era.is_some();
        let (gone, refused) = match has_place.then(|| plane.subscribe(filter, info.position)).transpose() {
            Ok(_) => (None, None),
            Err(error) => match error.kind() {
                ErrorKind::Lost => (Some(Gone::Lost(error.to_string())), None),
                // As a consumer that runs takes it.
                ErrorKind::InvalidInput | ErrorKind::EraChanged => {
                    (Some(Gone::Ahead(error.to_string())), None)
                }
                _ => (None, Some(error)),
            },
        };
        let counted =
            same_era.then(|| plane.count_behind(filter, info.position, |key| consumer.consumes(key)));
        let behind = match counted.transpose() {
            // What counting meets as well is one place.
            Ok(behind) => refused.map_or(Ok(()), &mut refuse).map(|()| behind)?,
            Err(error) => refuse(error).map(|()| None)?,
        };
        let next = behind.and_then(|behind| behind.next);
        let age = next.map(|(_, time)| Span::between(time, now));
        Ok(Self { head, behind, same_era, gone, age, consumer })
    }

    pub(super) fn excesses(&self, max_lag: Option<u64>, max_age: Option<Span>) -> Vec<(Over, String)> {
        let (mut excesses, info) = (Vec::new(), &self.consumer.info);
        let is_check = max_lag.is_some() || max_age.is_some();
        if is_check && !self.same_era {
            let text = "its offset is of another era of the store";
            excesses.push((Over::Era, text.to_owned()));
        }
        if let Some(why) = info.suspended.as_ref().filter(|_| is_check) {
            excesses.push((Over::Suspended, format!("suspended: {why}")));
        }
        match self.gone.as_ref().filter(|_| is_check) {
            Some(Gone::Lost(why)) => excesses.push((Over::Lost, format!("lost records: {why}"))),
            Some(Gone::Ahead(why)) => {
                excesses.push((Over::Ahead, format!("stands behind the end of its log: {why}")));
            }
            None => {}
        }
        let lag = self.behind.map(|behind| behind.records);
        if let Some((limit, lag)) = max_lag.zip(lag).filter(|(limit, lag)| lag > limit) {
            excesses.push((Over::Lag, format!("{lag} records behind, over {limit}")));
        }
        if let Some((limit, age)) = max_age.zip(self.age).filter(|(limit, age)| age > limit) {
            excesses.push((Over::Age, format!("its next record has waited {age}, over {limit}")));
        }
        excesses
    }

    fn line(&self, over: Vec<Over>) -> ConsumerLine<'_> {
        let WrittenConsumer { info, parked, written, open_by, .. } = &self.consumer;
        let next = self.behind.and_then(|behind| behind.next);
        ConsumerLine {
            of: OfFields::of(&self.consumer),
            offset: info.era.map(|_| info.position.raw()),
            head: self.head.raw(),
            lag: self.behind.map(|behind| behind.records),
            next_offset: next.map(|(offset, _)| offset.raw()),
            next_time: next.map(|(_, time)| rfc3339(time)),
            next_time_ns: next.map(|(_, time)| time.to_string()),
            age_ns: self.age.map(|age| age.0.as_nanos().to_string()),
            same_era: self.same_era,
            attempts: info.attempts,
            cause: info.last_error.as_deref(),
            suspended: info.suspended.as_deref(),
            crashes: info.crashes,
            open_by: open_by.map(|handle| handle.to_string()),
            poisoned: info.poisoned,
            undecodable: info.undecodable,
            reseeded: info.reseeded,
            parked_entities: parked.len(),
            parked_records: info.parked,
            written: written.map(rfc3339),
            written_ns: written.map(|time| time.to_string()),
            over,
        }
    }

    fn row(&self) -> Vec<String> {
        let WrittenConsumer { info, parked, written, .. } = &self.consumer;
        let parked = match parked.len() {
            0 => "-".to_owned(),
            entities => format!("{} of {entities}", info.parked),
        };
        vec![
            info.name.clone(),
            consumed_part(&self.consumer),
            optional(info.era.map(|_| info.position.raw())),
            self.head.to_string(),
            optional(self.behind.map(|behind| behind.records)),
            or_dash(self.age.map(|age| age.to_string())),
            info.attempts.to_string(),
            parked,
            info.poisoned.to_string(),
            self.state().to_owned(),
            or_dash(written.map(rfc3339)),
        ]
    }

    /// How it stands, as far as the files tell.
    pub(crate) fn state(&self) -> &'static str {
        let info = &self.consumer.info;
        match info.era {
            None => "not begun",
            Some(_) if !self.same_era => "other era",
            Some(_) if matches!(self.gone, Some(Gone::Lost(_))) => "lost",
            Some(_) if self.gone.is_some() => "halted",
            Some(_) if info.suspended.is_some() => "suspended",
            Some(_) if info.attempts > 0 => "retrying",
            Some(_) if info.is_open => "open",
            Some(_) => "ended",
        }
    }

    fn note(&self) {
        let (info, of) = (&self.consumer.info, consumed_part(&self.consumer));
        if let Some(why) = &info.suspended {
            output::note(&format!("consumer {:?} of {of} is suspended: {why}", info.name));
        } else if let Some(cause) = info.last_error.as_ref().filter(|_| info.attempts > 0) {
            output::note(&format!(
                "consumer {:?} of {of} has tried its next record {} times: {cause}",
                info.name, info.attempts
            ));
        }
    }
}

/// True if a consumer's offset means in this store what it meant when it was written.
pub(super) fn is_of_era(consumer: &WrittenConsumer, plane: &ReadOnly) -> Result<bool> {
    let (era, now) = (consumer.info.era, plane.era()?);
    Ok(era.is_none_or(|era| era == now || plane.shares_offsets(era, consumer.info.position)))
}

const HEADING: &[&str] = &[
    "consumer",
    "of",
    "offset",
    "head",
    "lag",
    "next waits",
    "retried",
    "parked",
    "given up",
    "state",
    "written",
];

pub(crate) fn consumers(args: &Args, output: &mut Output) -> Result<Outcome> {
    let mut looked = Looked::open(&args.store.path, "consumers", output)?;
    let (mut rows, mut too_far, mut count) = (Rows::under(HEADING), 0, 0_u64);
    args.kind.iter().for_each(|kind| looked.opened.note_unknown_kind(kind, ""));
    let plane = Rc::clone(&looked.plane);
    for consumer in WrittenConsumer::all(&plane) {
        let Some(consumer) = looked.take(consumer, output)? else { continue };
        if args.kind.as_ref().is_some_and(|kind| !kind.matches(&consumer.stream)) {
            continue;
        }
        count += 1;
        let standing = Standing::of(consumer, &mut looked, output)?;
        let excesses = standing.excesses(args.max_lag, args.max_age);
        if output.is_json() {
            let over = excesses.iter().map(|(over, _)| *over).collect();
            output.typed("consumer", &standing.line(over))?;
        } else {
            rows.push(standing.row(), output)?;
            standing.note();
        }
        if !excesses.is_empty() {
            too_far += 1;
            let what: Vec<&str> = excesses.iter().map(|(_, text)| &**text).collect();
            let (name, of) = (&standing.consumer.info.name, consumed_part(&standing.consumer));
            output::over(&format!("consumer {name:?} of {of}: {}", what.join("; ")));
        }
    }
    rows.end(output)?;
    let damaged = looked.report_damage(output)?;
    if output.is_json() {
        let summary = json!({ "consumers": count, "over": too_far, "damaged": damaged });
        output.typed("summary", &summary)?;
    }
    Ok(Outcome::of_findings(too_far + damaged))
}

/// True for what says nothing of a store: the next look may find it otherwise.
pub(super) fn is_gone(error: &esker::Error) -> bool {
    error.kind() == ErrorKind::Lost
}
