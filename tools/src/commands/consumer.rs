//! `consumer`: what one has set aside, and what an operator may say to it. What changes something is a plan first.
//!
//! No handler is called here, and nothing is delivered: what is changed is how the consumer stands in the log, and who runs
//! it takes that in.

use std::path::Path;
use std::rc::Rc;

use anyhow::Result;
use clap::Subcommand;
use esker::backplane::{Backplane, Filter, Local, Offset, ReadOnly};
use esker::dump::{
    Dump, Payload as Shown, PayloadFields, PayloadStyle, escaped, key_bytes, key_text, rfc3339,
};
use esker::{DeadLetter, Options, ParkedEntity, WrittenConsumer};
use serde::Serialize;
use serde_json::json;

use super::consumers::{OfFields, consumed, consumed_part, is_gone, selector};
use super::plane::Looked;
use crate::args;
use crate::outcome::{Outcome, Usage};
use crate::output::Output;
use crate::rows::Rows;
use crate::translate::Payloads;
use crate::typed::{on, quoted};

/// What a consumer has parked or given up; has it tried again, gives it up, lets it go on, forgets a consumer
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The entities of which records are parked, and those records, in their order
    Parked(Parked),
    /// The records that it gave up, the oldest first
    Dead(Dead),
    /// Has what is parked tried again, when the consumer runs; only says what that would be without --execute
    Retry(OfEntities),
    /// Gives up what is parked of an entity, of which what comes is delivered then; only says what that would be without --execute
    Discard(OfEntities),
    /// Lets a suspended consumer go on; only says whether it is suspended without --execute
    Resume(Change),
    /// Forgets a consumer, which then holds nothing back; only says what that would do without --execute
    Retire(Change),
}

/// Which consumer.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    #[command(flatten)]
    store: args::Store,
    /// The consumer's name
    name: String,
    /// What it consumes, where several have this name: all topics of a kind, or one
    #[arg(long, value_name = "KIND[/KEY]")]
    of: Option<String>,
    /// Which part of the entities it consumes, where several have this name
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<(u32, u32)>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Parked {
    #[command(flatten)]
    which: Which,
    /// Only of this entity (also as `hex:…`)
    #[arg(long, value_name = "KEY", value_parser = key)]
    key: Option<Key>,
    #[command(flatten)]
    payload: args::PayloadOption,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Dead {
    #[command(flatten)]
    which: Which,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    payload: args::PayloadOption,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OfEntities {
    #[command(flatten)]
    which: Which,
    /// Of this entity (also as `hex:…`); may be said again
    #[arg(long, value_name = "KEY", value_parser = key, required_unless_present = "all")]
    key: Vec<Key>,
    /// Of all entities that are parked
    #[arg(long, conflicts_with = "key")]
    all: bool,
    /// Do it. Nobody else may have the store open for writing
    #[arg(long)]
    execute: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    #[command(flatten)]
    which: Which,
    /// Do it. Nobody else may have the store open for writing
    #[arg(long)]
    execute: bool,
}

/// The key of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key(Vec<u8>);

fn key(text: &str) -> Result<Key, String> {
    let key = key_bytes(text).filter(|key| !key.is_empty());
    key.map(Key).ok_or_else(|| {
        format!("{text:?} is no key: an odd number of digits, none that are hexadecimal, or nothing")
    })
}

fn shard(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    parts.filter(|(i, n): &(u32, u32)| i < n).ok_or_else(|| {
        format!("{text:?} is no part: the how manieth, from 0, a slash, and of how many (0/3)")
    })
}

pub(crate) fn consumer(command: &Command, output: &mut Output) -> Result<Outcome> {
    match command {
        Command::Parked(args) => parked(args, output),
        Command::Dead(args) => dead(args, output),
        Command::Retry(args) => change_entities(args, Deed::Retry, output),
        Command::Discard(args) => change_entities(args, Deed::Discard, output),
        Command::Resume(args) => change(args, Deed::Resume, output),
        Command::Retire(args) => change(args, Deed::Retire, output),
    }
}

/// So many names an error lists.
const NAMES_MAX: usize = 20;

impl Which {
    fn accepts(&self, consumer: &WrittenConsumer) -> bool {
        consumer.info.name == self.name
            && self.of.as_ref().is_none_or(|of| *of == consumed(consumer))
            && self.shard.is_none_or(|shard| consumer.info.shard == Some(shard))
    }

    /// The consumer that is meant, or an error with those that there are.
    fn find(&self, plane: &ReadOnly) -> Result<WrittenConsumer> {
        let (mut found, mut names, mut unread) = (Vec::new(), Vec::new(), None);
        for consumer in WrittenConsumer::all(plane) {
            let consumer = match consumer {
                Ok(consumer) => consumer,
                // It may be that of another one; where the one that is meant is not among the rest, it may be its own.
                Err(error) if error.is_corruption() => {
                    unread = unread.or(Some(error));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if self.accepts(&consumer) {
                if found.len() < NAMES_MAX {
                    found.push(consumer);
                }
            } else if names.len() < NAMES_MAX {
                names.push(format!("{} of {}", consumer.info.name, consumed_part(&consumer)));
            }
        }
        match (found.len(), found.pop()) {
            (1, Some(only)) => Ok(only),
            (0, _) | (_, None) => {
                if let Some(error) = unread {
                    let what = format!(
                        "look for the consumer {:?}: it is not among those that can be read, and what is written of one cannot be",
                        self.name
                    );
                    return Err(anyhow::Error::from(error).context(what));
                }
                let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                Err(Usage(format!("no such consumer {:?}; there are: {there}", self.name)).into())
            }
            (_, Some(last)) => {
                found.push(last);
                let all: Vec<String> = found.iter().map(selector).collect();
                let what = format!("several consumers have the name {:?}; say which", self.name);
                Err(Usage(format!("{what}: {}", all.join(", or "))).into())
            }
        }
    }
}

fn parked(args: &Parked, output: &mut Output) -> Result<Outcome> {
    let mut looked = Looked::open(&args.which.store.path, "consumer parked", output)?;
    let plane = Rc::clone(&looked.plane);
    let consumer = args.which.find(&plane)?;
    let wanted = |entity: &&ParkedEntity| args.key.as_ref().is_none_or(|key| key.0 == entity.key);
    let entities: Vec<&ParkedEntity> = consumer.parked.iter().filter(wanted).collect();
    if let Some(key) = args.key.as_ref().filter(|_| entities.is_empty()) {
        return Err(nothing_parked(&consumer, &key.0).into());
    }
    let mut letters = Letters::of(&mut looked, &args.payload)?;
    for entity in &entities {
        if output.is_json() {
            output.typed("parked", &parked_fields(&consumer, entity))?;
        }
        let read =
            letters.show(&plane, output, |each| consumer.parked_records(&*plane, &entity.key, each))?;
        looked.take(read, output)?;
    }
    let count = letters.rows.count;
    letters.rows.end(output)?;
    let damaged = looked.report_damage(output)?;
    if output.is_json() {
        let summary = json!({ "entities": entities.len(), "letters": count, "damaged": damaged });
        output.typed("summary", &summary)?;
    }
    Ok(Outcome::of_findings(damaged))
}

fn dead(args: &Dead, output: &mut Output) -> Result<Outcome> {
    let mut looked = Looked::open(&args.which.store.path, "consumer dead", output)?;
    let plane = Rc::clone(&looked.plane);
    let consumer = args.which.find(&plane)?;
    let mut letters = Letters::of(&mut looked, &args.payload)?;
    letters.limit = args.limit;
    let read = letters.show(&plane, output, |each| consumer.dead_letters(&*plane, each))?;
    looked.take(read, output)?;
    let count = letters.rows.count;
    letters.rows.end(output)?;
    let damaged = looked.report_damage(output)?;
    if output.is_json() {
        output.typed("summary", &json!({ "letters": count, "damaged": damaged }))?;
    }
    Ok(Outcome::of_findings(damaged))
}

fn parked_fields(consumer: &WrittenConsumer, entity: &ParkedEntity) -> serde_json::Value {
    json!({
        "name": consumer.info.name,
        "kind": consumer.stream,
        "key": key_text(&entity.key),
        "records": entity.records,
        "first_offset": entity.offsets.0.raw(),
        "last_offset": entity.offsets.1.raw(),
        "attempts": entity.attempts,
        "cause": entity.cause,
    })
}

/// A record that was set aside, for JSON lines.
#[derive(Debug, Serialize)]
struct LetterLine<'a> {
    name: &'a str,
    kind: &'a str,
    key: String,
    offset: u64,
    attempts: u32,
    cause: &'a str,
    time: String,
    time_ns: String,
    stamp: Option<String>,
    schema: u16,
    /// `null`: it is too large to be copied, and not in its topic any more.
    payload_bytes: Option<u64>,
    #[serde(flatten)]
    payload: PayloadFields,
}

/// Letters as they are shown, one by one.
struct Letters {
    rows: Rows,
    style: PayloadStyle,
    limit: Option<u64>,
    dump: Dump,
    payloads: Payloads,
}

impl Letters {
    fn of(looked: &mut Looked, payload: &args::PayloadOption) -> Result<Self> {
        let rows = Rows::under(&["topic", "offset", "time", "attempts", "cause", "payload"]);
        let style = payload.style();
        let dump = std::mem::take(&mut looked.opened.dump).payloads(style);
        looked.opened.dump = dump.clone();
        Ok(Self { rows, style, limit: None, dump, payloads: Payloads::of(payload)? })
    }

    /// Shows those that `read` hands on; answers what became of reading.
    fn show(
        &mut self,
        plane: &ReadOnly,
        output: &mut Output,
        read: impl FnOnce(&mut dyn FnMut(DeadLetter) -> bool) -> esker::Result<()>,
    ) -> Result<esker::Result<()>> {
        let mut written = Ok(());
        let read = read(&mut |letter| {
            if self.limit.is_some_and(|limit| self.rows.count >= limit) {
                return false;
            }
            written = self.one(letter, plane, output);
            written.is_ok()
        });
        written.map(|()| read)
    }

    fn one(&mut self, mut letter: DeadLetter, plane: &ReadOnly, output: &mut Output) -> Result<()> {
        if letter.payload.is_none() {
            letter.payload = in_its_topic(plane, &letter)?;
        }
        let shown = letter.payload.as_deref().map(|bytes| self.dump.payload_of(&letter.stream, bytes));
        let bytes = letter.payload.as_deref().unwrap_or_default();
        let mut line = LetterLine {
            name: &letter.consumer,
            kind: &letter.stream,
            key: key_text(&letter.key),
            offset: letter.offset.raw(),
            attempts: letter.attempts,
            cause: &letter.cause,
            time: rfc3339(letter.time),
            time_ns: letter.time.to_string(),
            stamp: letter.stamp.map(|stamp| stamp.to_string()),
            schema: letter.schema,
            payload_bytes: letter.payload.as_ref().map(|bytes| bytes.len() as u64),
            payload: shown.clone().unwrap_or(Shown::Absent).fields(bytes, self.style),
        };
        let what = format!("record {} ({}/{})", line.offset, line.kind, line.key);
        let translated = self.payloads.of_copy(&line, bytes, &what)?;
        if output.is_json() {
            self.rows.count += 1;
            line.payload.payload_text = translated.or(line.payload.payload_text);
            return Ok(output.typed("letter", &line)?);
        }
        let shown = shown.map_or_else(|| "too large to be copied, and gone".to_owned(), |shown| shown.text());
        let shown = translated.map_or(shown, |text| escaped(&text, false));
        let row = vec![
            format!("{}/{}", letter.stream, key_text(&letter.key)),
            letter.offset.to_string(),
            rfc3339(letter.time),
            letter.attempts.to_string(),
            letter.cause.clone(),
            shown,
        ];
        self.rows.push(row, output)
    }
}

/// The payload of a record that was too large to be copied, if it is in its topic still.
fn in_its_topic(plane: &ReadOnly, letter: &DeadLetter) -> Result<Option<Vec<u8>>> {
    let before = Offset::from_raw(letter.offset.raw().saturating_sub(1));
    let mut feed = match plane.subscribe(Filter::topic(&letter.stream, &letter.key), before) {
        Err(error) if is_gone(&error) => return Ok(None),
        other => other?,
    };
    let found =
        feed.try_next()?.filter(|found| (found.offset(), found.stamp()) == (letter.offset, letter.stamp));
    Ok(found.map(|found| found.payload().to_vec()))
}

/// What is done to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Retry,
    Discard,
    Resume,
    Retire,
}

impl Deed {
    fn word(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Discard => "discard",
            Self::Resume => "resume",
            Self::Retire => "retire",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Retry => "consumer retry",
            Self::Discard => "consumer discard",
            Self::Resume => "consumer resume",
            Self::Retire => "consumer retire",
        }
    }
}

fn nothing_parked(consumer: &WrittenConsumer, key: &[u8]) -> Usage {
    let keys: Vec<String> = consumer.parked.iter().take(NAMES_MAX).map(|one| key_text(&one.key)).collect();
    let there = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
    let (name, key) = (&consumer.info.name, key_text(key));
    Usage(format!(
        "nothing of {key} is parked by the consumer {name:?}; entities of which something is: {there}; what it has set aside for good \
         `consumer dead` shows, and nobody tries that again"
    ))
}

/// Those that are meant, of the entities that are parked.
fn entities_of<'c>(args: &OfEntities, consumer: &'c WrittenConsumer) -> Result<Vec<&'c ParkedEntity>> {
    if args.all {
        return Ok(consumer.parked.iter().collect());
    }
    let find = |key: &Key| {
        let found = consumer.parked.iter().find(|entity| entity.key == key.0);
        found.ok_or_else(|| nothing_parked(consumer, &key.0).into())
    };
    args.key.iter().map(find).collect()
}

fn change_entities(args: &OfEntities, deed: Deed, output: &mut Output) -> Result<Outcome> {
    let path = &args.which.store.path;
    let looked = Looked::open(path, deed.command(), output)?;
    let mut consumer = args.which.find(&looked.plane)?;
    let mut entities = entities_of(args, &consumer)?;
    if !args.execute {
        let keys = args.key.iter().map(|key| format!(" --key {}", quoted(&key_text(&key.0))));
        let keys = if args.all { " --all".to_owned() } else { keys.collect() };
        let next = next_of(deed, path, &consumer) + &keys + " --execute";
        print(deed, &consumer, &entities, ("next", next), output)?;
        return Ok(Outcome::Fine);
    }
    let plane = Local::owning(Options::new().open_existing(path)?)?;
    // Under the lock: whoever had the store before may have tried some again.
    consumer = args.which.find(&ReadOnly::of(&looked.opened.reader)?)?;
    entities = entities_of(args, &consumer)?;
    let mut done = 0;
    for entity in &entities {
        let is_done = match deed {
            Deed::Discard => consumer.discard(&plane, &entity.key)?,
            _ => consumer.retry(&plane, &entity.key)?,
        };
        done += u64::from(is_done);
    }
    plane.close()?;
    let what = match deed {
        Deed::Discard => format!("gave up what was parked of {done} entities"),
        _ => format!("{done} entities are tried again when the consumer runs"),
    };
    print(deed, &consumer, &entities, ("done", what), output)?;
    Ok(Outcome::Fine)
}

fn change(args: &Change, deed: Deed, output: &mut Output) -> Result<Outcome> {
    let path = &args.which.store.path;
    let looked = Looked::open(path, deed.command(), output)?;
    let mut consumer = args.which.find(&looked.plane)?;
    let is_suspended = consumer.info.suspended.is_some();
    if deed == Deed::Resume && !is_suspended {
        return Err(Usage(format!("the consumer {:?} is not suspended", consumer.info.name)).into());
    }
    if !args.execute {
        let next = next_of(deed, path, &consumer) + " --execute";
        print(deed, &consumer, &[], ("next", next), output)?;
        return Ok(Outcome::Fine);
    }
    let plane = Local::owning(Options::new().open_existing(path)?)?;
    consumer = args.which.find(&ReadOnly::of(&looked.opened.reader)?)?;
    let what = match deed {
        Deed::Retire => {
            consumer.retire(&plane)?;
            format!("retired at offset {}", consumer.info.position)
        }
        _ if consumer.resume(&plane)? => "goes on when somebody runs it".to_owned(),
        _ => "was not suspended any more".to_owned(),
    };
    plane.close()?;
    print(deed, &consumer, &[], ("done", what), output)?;
    Ok(Outcome::Fine)
}

fn next_of(deed: Deed, path: &Path, consumer: &WrittenConsumer) -> String {
    let command = on(&format!("consumer {}", deed.word()), path);
    format!("{command} {} {}", quoted(&consumer.info.name), selector(consumer))
}

fn print(
    deed: Deed,
    consumer: &WrittenConsumer,
    entities: &[&ParkedEntity],
    end: (&'static str, String),
    output: &mut Output,
) -> Result<()> {
    let info = &consumer.info;
    let records: u64 = entities.iter().map(|entity| entity.records).sum();
    if output.is_json() {
        let keys: Vec<String> = entities.iter().map(|entity| key_text(&entity.key)).collect();
        let of = serde_json::to_value(OfFields::of(consumer))?;
        let mut plan = json!({
            "deed": deed.word(),
            "offset": info.position.raw(),
            "suspended": info.suspended,
            "entities": keys,
            "records": records,
            "parked_records": info.parked,
        });
        if let (Some(plan), serde_json::Value::Object(of)) = (plan.as_object_mut(), of) {
            plan.extend(of);
        }
        output.typed("plan", &plan)?;
        let (what, text) = end;
        return Ok(output.typed("summary", &json!({ "executed": what == "done", what: text }))?);
    }
    let mut pairs = vec![
        ("consumer", info.name.clone()),
        ("of", consumed_part(consumer)),
        ("offset", info.position.to_string()),
    ];
    pairs.extend(info.suspended.iter().map(|why| ("suspended", why.clone())));
    for entity in entities {
        let ParkedEntity { key, records, attempts, cause, .. } = entity;
        let what = format!("{}: {records} records, tried {attempts} times: {cause}", key_text(key));
        pairs.push(("parked", what));
    }
    if deed == Deed::Retire && info.parked > 0 {
        let what = format!("{} records that are parked, and not tried again then", info.parked);
        pairs.push(("forgotten", what));
    }
    pairs.push(end);
    Ok(output.pairs(&pairs)?)
}
