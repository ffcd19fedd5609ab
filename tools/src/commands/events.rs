//! `events`: what sources have said of a kind, operation by operation, in the order in which they said it.
//!
//! They are entries of a kind of their own beside the rows, so this is a dump of that kind in other words. What is no event (what
//! a source says in an epoch, and what the end of an epoch or of a source takes back) is shown to who asks for it.

use anyhow::Result;
use esker::dump::{Dump, FrameInfo, Payload, Value, escaped, one_line};
use esker::{ErrorKind, EventOperation, KindInfo, Owner, Reader, Seq, StoreView};
use serde_json::json;

use super::dump::{Show, fields_with};
use super::keep::find;
use crate::args;
use crate::filter::{Entity, Filter, Moment, Pattern, Range};
use crate::outcome::{Interrupt, Outcome, Usage};
use crate::output::{Mode, Output};
use crate::store;
use crate::translate::Payloads;
use crate::typed::{on, quoted};

/// What stands before the name of a kind in that of its operations.
const PREFIX: &str = "esker.events.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: args::Store,
    /// The kind of live state, by its name
    kind: String,
    /// Also what is no event: what a source says in an epoch, and what the end of an epoch or of a source takes back
    #[arg(long)]
    synthetic: bool,
    /// Say what the fields that changed were before, where the log still has it: a look at the entity's history for each
    #[arg(long)]
    before: bool,
    /// Only this entity (`*` and `?` stand for any characters and any one; keys also as `hex:…`)
    #[arg(long, value_name = "KIND/KEY")]
    entity: Option<Entity>,
    /// Only this operation
    #[arg(long, value_enum, value_name = "OP")]
    op: Option<Said>,
    /// Only operations of this source, by name
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only this range of Seq, both ends included: A..B, A.., ..B or A
    #[arg(long, value_name = "A..B")]
    seq: Option<Range>,
    /// Only what was written at or after this time (`2026-11-20T10:00Z`) or so long ago (`2h`)
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only what was written before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Go on with what is appended, until interrupted, or until nothing can come any more that --seq, --until and --limit let pass;
    /// with --until that is a second after its time
    #[arg(short, long, conflicts_with = "reverse")]
    follow: bool,
    /// Newest first
    #[arg(long)]
    reverse: bool,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<u64>,
    /// Only the last so many
    #[arg(long, visible_alias = "tail", value_name = "N")]
    last: Option<usize>,
    #[command(flatten)]
    payload: args::PayloadOption,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Said {
    Assert,
    Patch,
    Retract,
}

impl Args {
    pub(crate) fn follows(&self) -> bool {
        self.follow
    }

    /// The dump that this is, of a kind of operations.
    fn dump(&self, operations: &str) -> args::Dump {
        let op = self.op.map_or(args::Operation::Event, |op| match op {
            Said::Assert => args::Operation::Assert,
            Said::Patch => args::Operation::Patch,
            Said::Retract => args::Operation::Retract,
        });
        let Self { seq, since, until, follow, reverse, limit, last, .. } = *self;
        args::Dump {
            store: args::Store { path: self.store.path.clone() },
            filter: args::Filter {
                entity: self.entity.as_ref().map(|entity| entity.of_kind(operations)),
                kind: Some(Pattern::of(operations)),
                op: Some(op),
                source: self.source.clone(),
                seq,
                generation: None,
                since,
                until,
            },
            follow,
            reverse,
            limit,
            last,
            system: false,
            physical: false,
            payload: self.payload.clone(),
        }
    }
}

pub(crate) fn events(args: &Args, output: &mut Output, interrupt: &Interrupt) -> Result<Outcome> {
    let mut opened = store::open(&args.store.path, "events", output)?;
    let kind = args.kind.strip_prefix(PREFIX).unwrap_or(&args.kind);
    let operations = operations(&opened.reader, &find(&opened, kind)?, args)?;
    if let Some(entity) = args.entity.as_ref().filter(|entity| !entity.kind().matches(kind)) {
        let what = format!("--entity {entity} is of another kind than {kind}, of which the events are shown");
        return Err(Usage(what).into());
    }
    let dump = args.dump(&operations);
    let telling = Telling {
        kind: kind.to_owned(),
        synthetic: args.synthetic,
        before: args.before.then(|| opened.reader.clone()),
    };
    opened.dump = std::mem::take(&mut opened.dump).payloads(args.payload.style());
    let filter = Filter::new(&dump.filter, false, &opened.reader)?;
    opened.note_unknown(&filter, args.follow);
    Show::new(&dump, filter, Some(&telling))?.all(opened, output, interrupt)
}

/// The name of the kind of a kind's operations, or why there is none.
fn operations(reader: &Reader, kind: &KindInfo, args: &Args) -> Result<String> {
    let operations = format!("{PREFIX}{}", kind.name);
    let entries = format!("`{} --kind {}` shows", on("dump", &args.store.path), quoted(&kind.name));
    let why = match kind.owner {
        Owner::State if reader.kind_named(&operations).is_some() => return Ok(operations),
        Owner::State => format!("has no events: its handle does not say `.events()`; {entries} its rows"),
        _ => format!("is a kind of facts, of which no source says anything; {entries} them"),
    };
    Err(Usage(format!("the kind {:?} {why}", kind.name)).into())
}

/// How operations are told.
pub(super) struct Telling {
    /// The kind of the rows.
    kind: String,
    synthetic: bool,
    /// Where to look what was before.
    before: Option<Reader>,
}

impl Telling {
    /// What the cells of a line are.
    pub(super) const COLUMNS: [&str; 11] = [
        "seq",
        "time",
        "event",
        "source",
        "operation",
        "key",
        "did",
        "versions",
        "asserted by",
        "changed",
        "payload",
    ];

    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    pub(super) fn hides(&self, frame: &FrameInfo) -> bool {
        !self.synthetic && why_none(frame).is_some()
    }

    pub(super) fn show(
        &self,
        frame: &FrameInfo,
        dump: &Dump,
        payloads: &mut Payloads,
        output: &mut Output,
    ) -> Result<()> {
        let translated = payloads.translated(frame, dump)?;
        let fields = fields_with(translated.clone(), frame, dump);
        let changed = fields.changed.clone().unwrap_or_default();
        let before = self.before(frame, dump, &changed)?;
        if output.mode() == Mode::Json {
            let mut line = serde_json::to_value(fields)?;
            if let Some(line) = line.as_object_mut() {
                line.insert("type".to_owned(), json!("event"));
                line.insert("of".to_owned(), json!(self.kind));
                line.insert("did".to_owned(), json!(did(frame)));
                line.insert("is_event".to_owned(), json!(why_none(frame).is_none()));
                line.insert("because".to_owned(), json!(why_none(frame)));
                if let Some(before) = before {
                    line.insert("before".to_owned(), serde_json::to_value(before)?);
                }
            }
            return Ok(output.json(&line)?);
        }
        let number = fields.kind_sequence.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let versions = match (fields.version_before, fields.version) {
            (Some(before), Some(after)) if before != after => format!("v{before}..v{after}"),
            (_, Some(version)) => format!("v{version}"),
            _ => "-".to_owned(),
        };
        let cells = [
            fields.seq.to_string(),
            fields.time,
            number,
            fields.said_by.unwrap_or_else(|| "-".to_owned()),
            fields.operation,
            fields.key.unwrap_or_default(),
            [Some(did(frame)), why_none(frame)].into_iter().flatten().collect::<Vec<_>>().join(","),
            versions,
            fields.asserted_by.map_or_else(|| "-".to_owned(), |names| store::names(&names)),
            text_of_changed(&changed, before.as_ref()),
            translated.map_or_else(|| dump.payload(frame).text(), |text| escaped(&text, false)),
        ];
        match output.mode() {
            Mode::Tabs => output.tabs(&cells)?,
            _ => output.line(&spoken(&cells.map(|cell| one_line(&cell))))?,
        }
        Ok(())
    }

    /// The fields that changed with an update, as they were; `None`: nobody asked, or the log does not have it any more.
    fn before(&self, frame: &FrameInfo, dump: &Dump, changed: &[String]) -> Result<Option<Value>> {
        let (Some(reader), Some(seq)) = (&self.before, Seq::new(frame.seq)) else { return Ok(None) };
        let row = match StoreView::of(reader).and_then(|view| view.row_before(&self.kind, seq)) {
            // It went while this was on its way, or with a damaged part of the log, which is told where it is met.
            Err(error) if matches!(error.kind(), ErrorKind::Compacted | ErrorKind::Corrupt) => {
                return Ok(None);
            }
            row => row?,
        };
        let row = row.map(|row| FrameInfo::of_entry(&row.entry()));
        let Some(Payload::Value(Value::Map(mut fields))) = row.map(|row| dump.payload(&row)) else {
            return Ok(None);
        };
        fields.retain(|(name, _)| matches!(name, Value::Text(name) if changed.contains(name)));
        Ok(Some(Value::Map(fields)))
    }
}

/// What an operation did to the row as it was with everything that had been said before.
fn did(frame: &FrameInfo) -> &'static str {
    match (frame.event_operation(), frame.event.map(|event| event.changed)) {
        (Some(EventOperation::Retract), _) => "retracted",
        (Some(_), Some(Some(_))) => "updated",
        (Some(_), Some(None)) => "created",
        _ => "unknown",
    }
}

/// Why an operation is no event.
fn why_none(frame: &FrameInfo) -> Option<&'static str> {
    if frame.is_synthetic() { Some("synthetic") } else { frame.is_in_epoch().then_some("in-epoch") }
}

/// The names of the fields that changed, with what they were where that is known.
fn text_of_changed(changed: &[String], before: Option<&Value>) -> String {
    if changed.is_empty() {
        return "-".to_owned();
    }
    let was = |name: &String| {
        let Some(Value::Map(fields)) = before else { return None };
        fields.iter().find(|(field, _)| matches!(field, Value::Text(field) if field == name))
    };
    let text =
        |name: &String| was(name).map_or_else(|| name.clone(), |(_, value)| format!("{name} was {value}"));
    changed.iter().map(text).collect::<Vec<_>>().join(",")
}

/// The cells as one line to read.
fn spoken(cells: &[String; 11]) -> String {
    let [seq, time, number, source, operation, key, did, versions, by, changed, payload] = cells;
    let changed = if changed == "-" { String::new() } else { format!(" [{changed}]") };
    let number = if number == "-" { String::new() } else { format!(" event {number}") };
    format!("#{seq} {time}{number} {source} {operation} {key}: {did} {versions} by:{by}{changed} {payload}")
}
