//! `topics`: the folds over each topic, and how far their images have come.

use std::rc::Rc;

use anyhow::Result;
use esker::backplane::WrittenTopic;
use esker::dump::{key_text, rfc3339};
use esker::{Owner, StreamFolds, WrittenFold};
use serde::Serialize;
use serde_json::json;

use super::listing::optional;
use super::plane::{Looked, now, or_dash};
use crate::args;
use crate::filter::{Entity, Pattern};
use crate::outcome::Outcome;
use crate::output::{self, Output};
use crate::rows::Rows;
use crate::span::Span;

/// The folds over topics: what is saved of each, and how many records of the topic are not in it
///
/// A stream is listed when a fold was ever registered with it. What a process folds and has not saved only that process knows
/// (`TopicFold::stats`). It reads the segments that hold such streams, and of each image all pieces, one at a time
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: args::Store,
    /// Only folds that cannot go on, as far as the files tell: one that diverged, or that would need what was dropped. The exit
    /// code is 1 if there is one
    #[arg(long)]
    halted: bool,
    /// Only streams that match this name (`*` and `?` stand for any characters and any one)
    #[arg(long, value_name = "KIND")]
    kind: Option<Pattern>,
    /// Only topics that match
    #[arg(long, value_name = "KIND/KEY")]
    entity: Option<Entity>,
}

impl Args {
    fn wants_stream(&self, name: &str) -> bool {
        let entity = self.entity.as_ref().map(Entity::kind);
        self.kind.iter().chain(entity).all(|pattern| pattern.matches(name))
    }

    fn wants(&self, stream: &str, key: &[u8]) -> bool {
        self.entity.as_ref().is_none_or(|entity| entity.matches(stream, key))
    }
}

/// How a fold over a topic stands, as far as the files tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It diverged: what it made of the records and what an image of it has are not the same.
    Diverged,
    /// It would need what was dropped.
    Lost,
    /// Its images are of another era.
    OtherEra,
    /// None of its images can be used.
    Unusable,
    NoImage,
    Behind,
    Whole,
}

impl Status {
    pub(crate) fn of(fold: &WrittenFold, topic: &WrittenTopic) -> Self {
        match &fold.image {
            _ if fold.diverged.is_some() => Self::Diverged,
            _ if fold.is_lost => Self::Lost,
            Some(image) if image.offset < topic.head => Self::Behind,
            Some(_) => Self::Whole,
            None if fold.of_other_eras > 0 => Self::OtherEra,
            None if fold.unusable > 0 => Self::Unusable,
            None => Self::NoImage,
        }
    }

    pub(crate) fn is_halted(self) -> bool {
        matches!(self, Self::Diverged | Self::Lost)
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Diverged => "diverged",
            Self::Lost => "lost",
            Self::OtherEra => "other era",
            Self::Unusable => "unusable",
            Self::NoImage => "no image",
            Self::Behind => "behind",
            Self::Whole => "whole",
        }
    }
}

/// A fold over a topic for JSON lines.
#[derive(Debug, Serialize)]
struct TopicLine<'a> {
    kind: &'a str,
    key: String,
    fold: &'a str,
    version: u32,
    registered: bool,
    status: Status,
    /// The newest record of the topic, and the how manieth it is.
    head: u64,
    generation: u64,
    head_time: String,
    head_time_ns: String,
    /// The last record that is in the image.
    offset: Option<u64>,
    /// Records of the topic that are not in it.
    lag: u64,
    image_bytes: Option<u64>,
    image_time: Option<String>,
    image_time_ns: Option<String>,
    image_age_ns: Option<String>,
    begun_anew: Option<u64>,
    diverged_at: Option<u64>,
    unusable: u64,
    of_other_eras: u64,
}

/// What is counted over all.
#[derive(Debug, Default)]
struct Sums {
    streams: u64,
    topics: u64,
    folds: u64,
    halted: u64,
}

const HEADING: &[&str] =
    &["topic", "fold", "version", "offset", "head", "lag", "image age", "image bytes", "status"];

pub(crate) fn topics(args: &Args, output: &mut Output) -> Result<Outcome> {
    let mut looked = Looked::open(&args.store.path, "topics", output)?;
    let wanted = args.kind.iter().chain(args.entity.as_ref().map(Entity::kind));
    wanted.for_each(|kind| looked.opened.note_unknown_kind(kind, ""));
    let (mut rows, mut sums) = (Rows::under(HEADING), Sums::default());
    let kinds = looked.opened.reader.kinds();
    let is_stream = |name: &str| !name.starts_with("esker.") && args.wants_stream(name);
    for kind in kinds.iter().filter(|kind| kind.owner == Owner::Facts && is_stream(&kind.name)) {
        stream(&mut looked, &kind.name, args, (&mut rows, &mut sums), output)?;
    }
    rows.end(output)?;
    let damaged = looked.report_damage(output)?;
    if output.is_json() {
        let summary = json!({
            "kinds": sums.streams,
            "topics": sums.topics,
            "folds": sums.folds,
            "halted": sums.halted,
            "damaged": damaged,
        });
        output.typed("summary", &summary)?;
    }
    let halted = if args.halted { sums.halted } else { 0 };
    Ok(Outcome::of_findings(damaged + halted))
}

fn stream(
    looked: &mut Looked,
    name: &str,
    args: &Args,
    (rows, sums): (&mut Rows, &mut Sums),
    output: &mut Output,
) -> Result<()> {
    let folds = StreamFolds::of(&*looked.plane, name)?;
    if folds.is_empty() {
        return Ok(());
    }
    sums.streams += 1;
    if folds.is_partial() {
        let what = format!(
            "which folds are registered with {name:?} cannot be read in full: there may be more, and compaction drops \
             nothing of it"
        );
        looked.finding(&what, output)?;
    }
    let plane = Rc::clone(&looked.plane);
    for topic in plane.topics(name)? {
        let Some(topic) = looked.take(topic, output)? else { continue };
        if !args.wants(name, &topic.key) {
            continue;
        }
        let Some(found) = looked.take(folds.over(&*plane, name, &topic), output)? else { continue };
        sums.topics += 1;
        for fold in found {
            let status = Status::of(&fold, &topic);
            sums.folds += 1;
            sums.halted += u64::from(status.is_halted());
            if status.is_halted() || !args.halted {
                show((name, &topic, &fold, status), rows, output)?;
            }
        }
    }
    Ok(())
}

fn show(
    (name, topic, fold, status): (&str, &WrittenTopic, &WrittenFold, Status),
    rows: &mut Rows,
    output: &mut Output,
) -> Result<()> {
    let image = fold.image.as_ref();
    let age = image.map(|image| Span::between(image.time, now()));
    let lag = topic.generation.saturating_sub(image.map_or(0, |image| image.generation));
    let line = TopicLine {
        kind: name,
        key: key_text(&topic.key),
        fold: &fold.fold,
        version: fold.version,
        registered: fold.is_registered,
        status,
        head: topic.head.raw(),
        generation: topic.generation,
        head_time: rfc3339(topic.time),
        head_time_ns: topic.time.to_string(),
        offset: image.map(|image| image.offset.raw()),
        lag,
        image_bytes: image.map(|image| image.bytes),
        image_time: image.map(|image| rfc3339(image.time)),
        image_time_ns: image.map(|image| image.time.to_string()),
        image_age_ns: age.map(|age| age.0.as_nanos().to_string()),
        begun_anew: image.map(|image| image.begun_anew),
        diverged_at: fold.diverged.map(esker::backplane::Offset::raw),
        unusable: fold.unusable,
        of_other_eras: fold.of_other_eras,
    };
    if output.is_json() {
        rows.count += 1;
        return Ok(output.typed("topic", &line)?);
    }
    if status == Status::Diverged {
        let (at, fold) = (or_dash(line.diverged_at.map(|at| at.to_string())), line.fold);
        output::note(&format!(
            "the fold {fold:?} diverged over {name}/{} behind offset {at}: the topic keeps all records until its \
             images are made anew",
            line.key
        ));
    }
    let registered = if fold.is_registered { "" } else { ", not registered" };
    let row = vec![
        format!("{name}/{}", line.key),
        line.fold.to_owned(),
        line.version.to_string(),
        optional(line.offset),
        line.head.to_string(),
        line.lag.to_string(),
        or_dash(age.map(|age| age.to_string())),
        optional(line.image_bytes),
        format!("{}{registered}", status.word()),
    ];
    rows.push(row, output)
}
