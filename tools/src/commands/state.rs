//! `state`: the row of one entity, or the rows of those that match, now or at an earlier moment.

use std::ops::ControlFlow;
use std::str::FromStr;

use anyhow::Result;
use esker::dump::{Dump, FrameInfo, Payload, Value, escaped, key_text, one_line, rfc3339};
use esker::{EventOperation, KindInfo, Owner, Reader, Region, RowOperation, Seq, StoreView, View};
use serde_json::json;

use super::cursor::quoted;
use super::dump::{fields_with, one};
use super::keep::find;
use crate::args;
use crate::filter::{Entity, Moment};
use crate::near::Near;
use crate::outcome::{Outcome, Usage};
use crate::output::{self, Mode, Output};
use crate::place;
use crate::store::{self, Opened};
use crate::translate::Payloads;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: args::Store,
    /// The entity; with `*` or `?` in the key all that match and are there, in the order in which they were written last; KIND
    /// alone is all of a kind, and nothing is all
    #[arg(value_name = "KIND[/KEY]", value_parser = entity)]
    entity: Option<Entity>,
    /// As it was behind the last whole batch up to this Seq, or to this time (`2026-11-20T10:00Z`, `2h` ago)
    #[arg(long, value_name = "SEQ|TIME")]
    at: Option<At>,
    /// Who asserts the entity, and what each source said last, where the log still has it
    #[arg(long)]
    sources: bool,
    /// At most so many rows
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    payload: args::PayloadOption,
}

/// An entity, or a kind for all of its entities.
fn entity(text: &str) -> Result<Entity, String> {
    if text.contains('/') { text.parse() } else { format!("{text}/*").parse() }
}

/// An earlier moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Zero: before everything.
    Seq(u64),
    Time(Moment),
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Seq).map_err(|_| format!("{text} is no Seq: it is too great"));
        }
        let wrong = || format!("{text:?} is neither a Seq nor a time (2026-11-20T10:00Z, or 2h ago as 2h)");
        text.parse().map(Self::Time).map_err(|_| wrong())
    }
}

/// What the cells of a row are.
const COLUMNS: [&str; 6] = ["entity", "version", "asserted by", "seq", "time", "payload"];

/// What is looked at.
struct Look<'a> {
    args: &'a Args,
    entity: Entity,
    opened: Opened,
    kind: KindInfo,
    view: StoreView,
    /// The Seq that the moment was found to be.
    at: Option<u64>,
    payloads: Payloads,
    shown: u64,
    damaged: u64,
}

pub(crate) fn state(args: &Args, output: &mut Output) -> Result<Outcome> {
    let mut opened = store::open(&args.store.path, "state", output)?;
    opened.dump = std::mem::take(&mut opened.dump).payloads(args.payload.style());
    let mut asked = asked(args, &opened)?.into_iter();
    let at = args.at.map(|at| seq_of(at, &opened.reader)).transpose()?;
    let present = StoreView::of(&opened.reader)?;
    let view = match at {
        Some(seq) => present.at(Seq::new(seq))?,
        None => present,
    };
    let payloads = Payloads::of(&args.payload)?;
    let Some((entity, kind)) = asked.next() else { return no_rows(&opened.reader, output) };
    let mut look = Look { args, entity, opened, kind, view, at, payloads, shown: 0, damaged: 0 };
    if look.entity.key().is_none() {
        output.heading(&COLUMNS)?;
    }
    let mut is_there = look.show(output)?;
    for (entity, kind) in asked {
        (look.entity, look.kind) = (entity, kind);
        is_there &= look.show(output)?;
    }
    if output.is_json() {
        let summary = json!({ "shown": look.shown, "damaged": look.damaged, "at": look.at });
        output.typed("summary", &summary)?;
    }
    Ok(match (look.damaged, is_there) {
        (0, true) => Outcome::Fine,
        (0, false) => Outcome::Missing,
        _ => Outcome::Findings,
    })
}

/// What is asked for, with its kind: one, or everything that has rows.
fn asked(args: &Args, opened: &Opened) -> Result<Vec<(Entity, KindInfo)>> {
    if let Some(entity) = &args.entity {
        let Some(name) = entity.kind_name() else {
            let what = "names more than one kind: state is of one, or of all that have rows without it";
            return Err(Usage(format!("{entity} {what}")).into());
        };
        return Ok(vec![(entity.clone(), find(opened, name)?)]);
    }
    let kinds = opened.reader.kinds();
    let kinds = kinds.iter().filter(|kind| kind.owner == Owner::State);
    Ok(kinds.map(|kind| (Entity::all_of(&kind.name), (**kind).clone())).collect())
}

/// A store of facts alone has no state.
fn no_rows(reader: &Reader, output: &mut Output) -> Result<Outcome> {
    let path = quoted(&reader.path().display().to_string());
    output::note(&format!(
        "no kind of this store has rows; `esker entities {path}` shows what facts are about"
    ));
    if output.is_json() {
        output.typed("summary", &json!({ "shown": 0, "damaged": 0, "at": null }))?;
    }
    Ok(Outcome::Fine)
}

/// The last Seq up to a moment. Clocks go back: it is the one before the first entry of a later time.
fn seq_of(at: At, reader: &Reader) -> Result<u64> {
    let last = reader.view()?.last_seq()?.map_or(0, Seq::get);
    let Moment(time) = match at {
        At::Seq(seq) => return Ok(seq),
        At::Time(time) => time,
    };
    let mut found = last;
    place::walk(reader, &Region::All, (0, last), |entry| {
        if entry.time() <= time {
            return ControlFlow::Continue(());
        }
        found = entry.seq().get() - 1;
        ControlFlow::Break(())
    })?;
    Ok(found)
}

impl Look<'_> {
    fn dump(&self) -> &Dump {
        &self.opened.dump
    }

    /// Shows what is asked for; answers whether it is there.
    fn show(&mut self, output: &mut Output) -> Result<bool> {
        let done = match (self.kind.owner, self.entity.key()) {
            (Owner::State, Some(key)) => self.one(&key, output),
            (Owner::State, None) => self.all(output),
            (Owner::Facts, Some(key)) => self.fact(&key, output),
            _ => Err(Usage(self.instead()).into()),
        };
        match done {
            Ok(is_there) => Ok(is_there),
            Err(error) if self.is_gone(&error, output)? => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What to ask for instead of rows that a kind has not.
    fn instead(&self) -> String {
        let (name, path) = (&self.kind.name, quoted(&self.args.store.path.display().to_string()));
        match self.kind.owner {
            Owner::Events => {
                let rows = name.strip_prefix("esker.events.").unwrap_or(name);
                format!(
                    "{name:?} has what was said of {rows:?}: `esker events {path} {}` shows that",
                    quoted(rows)
                )
            }
            _ => format!(
                "{name:?} is a kind of facts, which has no rows; `esker dump {path} --entity {}` shows its entries",
                quoted(&self.entity.to_string())
            ),
        }
    }

    /// What compaction has dropped is not there, and where it begins is an answer. False: it failed otherwise.
    fn is_gone(&self, error: &anyhow::Error, output: &mut Output) -> Result<bool> {
        let Some(floor) = dropped(error.downcast_ref::<esker::Error>()).filter(|_| self.at.is_some()) else {
            return Ok(false);
        };
        let from = match self.told_from(floor)? {
            Some(seq) => format!("; it can be told from seq {seq} on"),
            None => String::new(),
        };
        output.flush()?;
        output::error(&format!("{error}{from}"));
        Ok(true)
    }

    /// The first Seq from a floor on at which what was asked can be told: behind the kind's floor is that of an entity.
    fn told_from(&self, mut floor: u64) -> Result<Option<u64>> {
        let present = StoreView::of(&self.opened.reader)?;
        for _ in 0..FLOORS_MAX {
            let name = &self.kind.name;
            let asked = present.at(Seq::new(floor)).and_then(|view| match self.entity.key() {
                Some(key) => view.row_entry(name, key).map(drop),
                None => view.row_entries(name).map(drop),
            });
            match asked {
                Ok(()) => return Ok(Some(floor)),
                Err(error) => match dropped(Some(&error)).filter(|higher| *higher > floor) {
                    Some(higher) => floor = higher,
                    None => return Ok(None),
                },
            }
        }
        Ok(None)
    }

    /// The row of one entity.
    fn one(&mut self, key: &[u8], output: &mut Output) -> Result<bool> {
        let Some(entry) = self.view.row_entry(&self.kind.name, key)? else {
            self.none(key, output)?;
            return Ok(false);
        };
        let frame = FrameInfo::of_entry(&entry);
        let (created, updated) = beginnings(self.view.entries(), &self.kind, key);
        let translated = self.payloads.translated(&frame, &self.opened.dump)?;
        self.shown += 1;
        if output.is_json() {
            let mut line = self.line(&frame, translated)?;
            if let Some(line) = line.as_object_mut() {
                line.insert("created".to_owned(), moment(created));
                line.insert("updated".to_owned(), moment(updated));
            }
            output.json(&line)?;
        } else {
            output.pairs(
                &self.pairs(&frame, translated, created, updated).iter().map(pair).collect::<Vec<_>>(),
            )?;
        }
        if self.args.sources {
            self.sources(&frame, output)?;
        }
        Ok(true)
    }

    /// Tells of what cannot be read, once.
    fn unread(&mut self, error: &esker::Error, output: &mut Output) -> Result<()> {
        if !self.opened.tells_of(error) {
            return Ok(());
        }
        self.damaged += 1;
        report(error, output)
    }

    /// The rows that match, one line each.
    fn all(&mut self, output: &mut Output) -> Result<bool> {
        let mut rows = self.view.row_entries(&self.kind.name)?;
        while self.args.limit.is_none_or(|limit| self.shown < limit) {
            let frame = match rows.next_entry() {
                Ok(None) => break,
                Ok(Some(entry)) if !self.entity.matches_key(entry.key()) => continue,
                Ok(Some(entry)) => FrameInfo::of_entry(&entry),
                Err(error) if error.is_corruption() => {
                    self.unread(&error, output)?;
                    // Only where it is known how far the damage goes there is a next one.
                    if error.seqs().is_none() {
                        break;
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.shown += 1;
            self.row(&frame, output)?;
            if self.args.sources {
                self.sources(&frame, output)?;
            }
        }
        Ok(true)
    }

    fn row(&mut self, frame: &FrameInfo, output: &mut Output) -> Result<()> {
        let translated = self.payloads.translated(frame, &self.opened.dump)?;
        if output.is_json() {
            return Ok(output.json(&self.line(frame, translated)?)?);
        }
        let dump = self.dump();
        let fields = dump.fields(frame);
        let cells = [
            dump.entity(frame),
            fields.version.map_or_else(|| "-".to_owned(), |version| format!("v{version}")),
            store::names(&fields.asserted_by.unwrap_or_default()),
            fields.seq.to_string(),
            fields.time,
            translated.map_or_else(|| dump.payload(frame).text(), |text| escaped(&text, false)),
        ];
        match output.mode() {
            Mode::Tabs => output.tabs(&cells)?,
            _ => {
                let [entity, version, by, seq, time, payload] = cells.map(|cell| one_line(&cell));
                output.line(&format!("{entity} {version} by:{by} #{seq} {time} {payload}"))?;
            }
        }
        Ok(())
    }

    /// A row as a JSON line.
    fn line(&self, frame: &FrameInfo, translated: Option<String>) -> Result<serde_json::Value> {
        let mut line = serde_json::to_value(fields_with(translated, frame, self.dump()))?;
        if let Some(line) = line.as_object_mut() {
            line.insert("type".to_owned(), json!("row"));
        }
        Ok(line)
    }

    fn pairs(
        &self,
        frame: &FrameInfo,
        translated: Option<String>,
        created: When,
        updated: When,
    ) -> Vec<(String, String)> {
        let fields = self.dump().fields(frame);
        let when = |at: When| {
            at.map_or_else(|| "before what the log still has".to_owned(), |(seq, time)| said_at(seq, time))
        };
        let mut pairs = vec![
            ("entity", self.dump().entity(frame)),
            ("version", fields.version.map(|version| version.to_string()).unwrap_or_default()),
            ("asserted by", store::names(&fields.asserted_by.unwrap_or_default())),
            ("last said by", fields.said_by.unwrap_or_default()),
            ("written", said_at(frame.seq, frame.time)),
            ("created", when(created)),
            ("updated", when(updated)),
            ("schema", fields.schema_version.map(|version| version.to_string()).unwrap_or_default()),
            ("metadata", fields.metadata.or(fields.metadata_base64).unwrap_or_default()),
        ];
        pairs.retain(|(_, value)| !value.is_empty());
        let mut pairs: Vec<(String, String)> =
            pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        match (translated, self.dump().payload(frame)) {
            (Some(text), _) => pairs.push(("payload".to_owned(), text)),
            (None, Payload::Value(Value::Map(members))) => {
                pairs.extend(
                    members.iter().map(|(name, value)| (format!(".{}", bare(name)), value.to_string())),
                );
            }
            (None, payload) => pairs.push(("payload".to_owned(), payload.text())),
        }
        pairs
    }

    /// Who asserts a row, and what each said last.
    fn sources(&self, row: &FrameInfo, output: &mut Output) -> Result<()> {
        let asserting = row.row.map_or(0, |mark| mark.sources);
        let last = LastSaid::of(self.view.entries(), &self.opened.reader, &self.kind, &row.key, asserting);
        let known = (0u8..64).zip(&last.frames);
        let shown = known.filter(|(id, said)| asserting & 1 << id != 0 || said.is_some());
        for (id, said) in shown {
            let asserts = asserting & 1 << id != 0;
            let name = self.dump().source_name(id);
            if output.is_json() {
                output.typed(
                    "assertion",
                    &last.line(id, &name, asserts, said.as_ref(), &self.dump().entity(row)),
                )?;
                continue;
            }
            let said = match said {
                Some(said) => format!("{} {}", said.operation_name(), said_at(said.seq, said.time)),
                None => "nothing that the log still has".to_owned(),
            };
            let does = if asserts { "asserts" } else { "does not assert" };
            output.tabs(&["source".to_owned(), name, does.to_owned(), said])?;
        }
        Ok(())
    }

    /// The newest entry about an entity of a kind of facts.
    fn fact(&mut self, key: &[u8], output: &mut Output) -> Result<bool> {
        let view = self.view.entries();
        if let (Some(floor), Some(at)) = (view.floor(&Region::Kind(self.kind.id)), self.at)
            && at < floor.get().saturating_sub(1)
        {
            let name = &self.kind.name;
            let what =
                format!("of {name:?} compaction has left what it needs: entry {at} is below seq {floor}");
            return Err(Usage(format!("{what}, from which on all of it is there")).into());
        }
        let Some(entry) = view.latest(self.kind.id, key)? else {
            let entity = &self.entity;
            let near = self.opened.near(entity, None)?;
            output::error(&format!("no entity {entity}{}; {near}", self.then()));
            return Ok(false);
        };
        let frame = FrameInfo::of_entry(&entry);
        output::note(&format!(
            "{:?} is a kind of facts: this is the newest entry, and no row",
            self.kind.name
        ));
        let translated = self.payloads.translated(&frame, &self.opened.dump)?;
        self.shown += 1;
        one(&frame, translated, &self.opened.dump, output)?;
        Ok(true)
    }

    fn then(&self) -> String {
        self.at.map(|at| format!(" at seq {at}")).unwrap_or_default()
    }

    /// There is no row: because it was deleted, or because there never was one; then some that have a like key.
    fn none(&mut self, key: &[u8], output: &mut Output) -> Result<()> {
        output.flush()?;
        let none = format!("no entity {}{}", self.entity, self.then());
        let newest = self.view.entries().latest(self.kind.id, key)?.map(|entry| FrameInfo::of_entry(&entry));
        if let Some(frame) = newest {
            let when = said_at(frame.seq, frame.time);
            output::error(&format!(
                "{none}: it was deleted by {}, {when}",
                self.dump().source_name(frame.source)
            ));
            return Ok(());
        }
        let (near, looked) = self.near(key, output)?;
        let name = &self.kind.name;
        let found: Vec<String> = near.found().map(|key| format!("{name}/{key}")).collect();
        let advice = match (looked, found.is_empty()) {
            (0, _) if self.damaged > 0 => format!("of {name:?} nothing can be read"),
            (0, _) => format!("of {name:?} nothing is there"),
            (_, true) => format!("of {name:?} nothing that is there is called like it; {name}/* shows all"),
            (_, false) => format!("near it: {}", found.join(", ")),
        };
        output::error(&format!("{none}; {advice}"));
        Ok(())
    }

    /// The keys that are there and like one, and how many were looked at. What cannot be read is told: it may be the one.
    fn near(&mut self, key: &[u8], output: &mut Output) -> Result<(Near, u64)> {
        let (mut near, mut looked) = (Near::to(&key_text(key)), 0);
        let mut rows = self.view.row_entries(&self.kind.name)?;
        while looked < LOOKED_AT_MAX {
            match rows.next_entry() {
                Ok(None) => break,
                Ok(Some(entry)) => {
                    near.look(&key_text(entry.key()));
                    looked += 1;
                }
                Err(error) if error.is_corruption() => {
                    self.unread(&error, output)?;
                    if error.seqs().is_none() {
                        break;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok((near, looked))
    }
}

/// So many floors are followed.
const FLOORS_MAX: u32 = 1000;

/// From where on there is what compaction has dropped, if that is what an error says.
fn dropped(error: Option<&esker::Error>) -> Option<u64> {
    error.filter(|error| error.kind() == esker::ErrorKind::Compacted)?.floor()
}

/// So many rows are looked at for one with a like key.
const LOOKED_AT_MAX: u64 = 100_000;

fn pair((name, value): &(String, String)) -> (&str, String) {
    (name, value.clone())
}

/// The name of a field, without what makes it a value.
fn bare(name: &Value) -> String {
    match name {
        Value::Text(text) => text.clone(),
        other => other.to_string(),
    }
}

fn said_at(seq: u64, time: i64) -> String {
    format!("seq {seq}, {}", rfc3339(time))
}

fn moment(at: When) -> serde_json::Value {
    at.map_or(
        serde_json::Value::Null,
        |(seq, time)| json!({ "seq": seq, "time": rfc3339(time), "time_ns": time.to_string() }),
    )
}

/// A Seq and its time; `None`: the log does not have it any more.
type When = Option<(u64, i64)>;

/// Where an entity that is there began, and where its row became what it is.
fn beginnings(view: &View, kind: &KindInfo, key: &[u8]) -> (When, When) {
    let mut updated = None;
    // What is missing, or damaged, ends the history: behind that nothing is known.
    for frame in
        view.entity(kind.id, key).rev().map_while(Result::ok).map(|entry| FrameInfo::of_entry(&entry))
    {
        let here = (frame.seq, frame.time);
        match frame.row_operation() {
            Some(RowOperation::Sources) => {}
            Some(RowOperation::Created) => return (Some(here), updated.or(Some(here))),
            _ => updated = updated.or(Some(here)),
        }
    }
    (None, updated)
}

/// What each source said last of an entity.
struct LastSaid {
    frames: Vec<Option<FrameInfo>>,
    /// Operations tell of each source; rows only of the one that had the last word.
    from: &'static str,
}

impl LastSaid {
    /// Back through the entity's history, until all who assert it are met.
    fn of(view: &View, reader: &Reader, kind: &KindInfo, key: &[u8], asserting: u64) -> Self {
        let operations = reader.kind_named(&format!("esker.events.{}", kind.name));
        let (id, from) = operations.map_or((kind.id, "rows"), |events| (events.id, "operations"));
        let mut frames: Vec<Option<FrameInfo>> = vec![None; 64];
        let mut missing = asserting;
        for entry in view.entity(id, key).rev().map_while(Result::ok) {
            if missing == 0 {
                break;
            }
            let frame = FrameInfo::of_entry(&entry);
            missing &= !(1u64.checked_shl(frame.source.into()).unwrap_or(0));
            if let Some(place @ None) = frames.get_mut(usize::from(frame.source)) {
                *place = Some(frame);
            }
        }
        Self { frames, from }
    }

    fn line(
        &self,
        id: u8,
        name: &str,
        asserts: bool,
        said: Option<&FrameInfo>,
        entity: &str,
    ) -> serde_json::Value {
        let said = said.map(|said| {
            json!({
                "operation": said.operation_name(),
                "is_retraction": said.event_operation() == Some(EventOperation::Retract),
                "seq": said.seq,
                "time": rfc3339(said.time),
                "time_ns": said.time.to_string(),
                "in_epoch": said.is_in_epoch(),
                "synthetic": said.is_synthetic(),
            })
        });
        json!({ "entity": entity, "id": id, "name": name, "asserts": asserts, "from": self.from, "last": said })
    }
}

/// A row that cannot be read.
pub(super) fn report(error: &esker::Error, output: &mut Output) -> Result<()> {
    if !output.is_json() {
        output::finding(&error.to_string());
        return Ok(());
    }
    let seqs = error.seqs();
    let finding = json!({
        "segment": error.segment(),
        "name": error.segment().map(esker::dump::segment_text),
        "offset": error.offset(),
        "next_good": error.next_good(),
        "first_seq": seqs.as_ref().map(|seqs| *seqs.start()),
        "last_seq": seqs.as_ref().map(|seqs| *seqs.end()),
        "what": error.to_string(),
    });
    Ok(output.typed("finding", &finding)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_seq_or_a_time() {
        assert_eq!("0".parse(), Ok(At::Seq(0)));
        assert_eq!("17".parse(), Ok(At::Seq(17)));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(At::Time(Moment(1_000_000_000))));
        for wrong in ["", "x", "-1", "99999999999999999999"] {
            assert!(wrong.parse::<At>().is_err(), "{wrong}");
        }
    }
}
