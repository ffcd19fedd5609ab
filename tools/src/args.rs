//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::filter::{Moment, Pattern, Range};
use crate::place::Place;
use crate::span::Span;

/// Inspects an esker store without the application that wrote it, also while that one runs.
///
/// Data goes to stdout: a table on a terminal, tab-separated without a heading when piped, or
/// JSON lines. Everything else goes to stderr.
#[derive(Debug, Parser)]
#[command(name = "esker", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// Print JSON lines: a header, one object a result, a summary
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Also in a pipe, a first line with the names of the columns
    #[arg(long, global = true)]
    pub(crate) header: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 fine, 1 findings (damage, a difference, a cursor over a threshold), 2 usage, no such entry, segment or cursor, or nothing to upgrade, \
     3 not a store, a newer format, or held by a writer where one is needed, 4 input or output failed, \
     130 interrupted. A closed pipe is 0.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One screen about a store: what it is, how much is in it, who writes it
    Info(Store),
    /// The segments of the log: state, range, sizes
    Segments(Store),
    /// The kinds that are registered, and how much there is of each
    Kinds(Store),
    /// The entities: how often each was written, and when last
    Entities(Entities),
    /// The entries, in the order of the log
    #[command(visible_aliases = ["entries", "cat"])]
    Dump(Dump),
    /// Single entries, with every field
    Get(Get),
    /// The bytes of a segment or a part, with the names of their fields
    Hex(Hex),
    /// Numbers about a store, for a person and for what watches
    ///
    /// Tells what the files say, whether a process has the store open or not: entries, sizes, cursors and what they hold back,
    /// damage. It reads every frame. What is only in the memory of the process that has it open it cannot tell: how many
    /// entries that has appended, how long its syncs take, what is visible and not durable, whether it is poisoned, what its
    /// subscribers missed, and how its folds and backplanes are. Those the process itself tells, under names of the same
    /// family (`Journal::stats`, and the module `esker::metrics` with what to alert on)
    Stats(Stats),
    /// The row of one entity, or those of all that match; also as of an earlier Seq or time
    State(crate::commands::state::Args),
    /// The sources: who may say what is true, what each asserts, and when it wrote last
    Sources(Store),
    /// What sources have said of a kind, operation by operation
    Events(crate::commands::events::Args),
    /// The cursors: where each is, what it has not seen, what it holds back; with thresholds a health check
    Cursors(Cursors),
    /// Lists the cursors, puts one somewhere else, or forgets one
    #[command(subcommand)]
    Cursor(Cursor),
    Topics(crate::commands::topics::Args),
    Cells(crate::commands::cells::Args),
    /// Who wrote the store: each opening by a writer, what it appended, and how it ended
    Lives(crate::commands::lives::Args),
    Consumers(crate::commands::consumers::Args),
    #[command(subcommand)]
    Consumer(crate::commands::consumer::Command),
    /// Every checksum, chain and index, and a verdict
    Verify(Verify),
    /// The health of a store in one line and an exit code: damage, the tail, cursors, space, derived files
    ///
    /// It says what is worst, and what to run next. With `--format nagios` the exit codes are those of monitoring plugins: 0
    /// OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN where the store cannot be looked at. Else they are those of every command: 1
    /// for findings, whether they are warnings or critical
    Check(crate::commands::health::Args),
    /// Draws a store: one page of seven pictures with their numbers, to be opened in a browser
    Report(crate::commands::report::Args),
    /// Saves everything good of a damaged store into a new one, and says what is lost
    Repair(Repair),
    /// Copies a store as it is at one moment, also while it is written
    Backup(Backup),
    /// Makes a store of a backup, which stays as it is
    Restore(Restore),
    /// What compaction would free, and who holds it back; compacts with --execute
    Compact(crate::commands::compact::Args),
    /// Says what compaction keeps of a kind; only shows it without --execute
    Keep(crate::commands::keep::Args),
    /// Writes a store as JSON lines, of which `import` makes the same store again
    Export(Export),
    /// Makes a store of the JSON lines that `export` wrote: the same Seqs, times and batches, a new era
    Import(Import),
    /// Compares two stores: the first entry that differs, and how many do. The exit code is 0 where they are equal, and 1
    /// where anything differs, or a place in either cannot be read
    Diff(Diff),
    /// Brings a store of an older format to this one, in a new directory. The exit code is 2, and nothing is made, where the store
    /// has the present format
    Upgrade(Upgrade),
    /// What an error or a finding means, how it comes about, what was lost, and what to do
    Explain(crate::commands::shell::Explain),
    /// Completions of commands and options, for a shell to read
    Completions(crate::commands::shell::Completions),
    /// The manual: one page to stdout, or all pages into a directory
    Man(crate::commands::shell::Man),
    /// The shape of the JSON lines, as a JSON Schema
    Schema(crate::commands::shell::Schema),
}

impl Command {
    /// True if the command ends by itself when it is interrupted: it follows, or has to clear up.
    pub(crate) fn ends_in_order(&self) -> bool {
        match self {
            Self::Dump(Dump { follow: true, .. }) | Self::Export(_) | Self::Import(_) => true,
            Self::Backup(_) | Self::Restore(_) | Self::Repair(_) => true,
            Self::Events(events) => events.follows(),
            _ => false,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Store {
    /// The store's directory
    pub(crate) path: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Entities {
    #[command(flatten)]
    pub(crate) store: Store,
    /// Only kinds that match this name (`*` and `?` stand for any characters and any one)
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<Pattern>,
    /// The order: most entries first, most bytes first, or last written first
    #[arg(long, value_enum, default_value_t = Sort::Events)]
    pub(crate) sort: Sort,
    /// Only so many
    #[arg(long, short = 'n', visible_alias = "limit", value_name = "N")]
    pub(crate) top: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    Events,
    Bytes,
    Last,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Dump {
    #[command(flatten)]
    pub(crate) store: Store,
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Go on with what is appended, until interrupted, or until nothing can come any more that --seq, --until and --limit let pass;
    /// with --until that is a second after its time
    #[arg(short, long, conflicts_with = "reverse")]
    pub(crate) follow: bool,
    /// Newest first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Only the last so many
    #[arg(long, visible_alias = "tail", value_name = "N")]
    pub(crate) last: Option<usize>,
    /// The frames, too, that the log writes about itself
    #[arg(long)]
    pub(crate) system: bool,
    /// Say how each frame lies on disk
    #[arg(long)]
    pub(crate) physical: bool,
    #[command(flatten)]
    pub(crate) payload: PayloadOption,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PayloadOption {
    #[command(flatten)]
    shown: ShownPayload,
    /// Let a program say what payloads mean: it is given one line of JSON for each entry and writes one line of text for
    /// each. It runs once for the whole command, by `sh -c`
    #[arg(long, value_name = "CMD", conflicts_with = "redact")]
    pub(crate) translate: Option<String>,
}

impl PayloadOption {
    pub(crate) fn style(&self) -> esker::dump::PayloadStyle {
        self.shown.style()
    }
}

/// How payloads are shown that are of no kind, so that there is nothing to translate them by.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ShownPayload {
    /// How payloads are shown: decoded by their kind's codec, as text, digits, or not at all
    #[arg(long = "payload", value_enum, default_value_t = Payload::Auto, value_name = "HOW")]
    style: Payload,
    /// Show how long payloads and their fields are, and not what they say; metadata is left out. Keys, names and numbers stay
    #[arg(long, conflicts_with = "style")]
    redact: bool,
}

impl ShownPayload {
    pub(crate) fn style(&self) -> esker::dump::PayloadStyle {
        if self.redact { esker::dump::PayloadStyle::Lengths } else { self.style.into() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Payload {
    Auto,
    Text,
    Hex,
    Base64,
    None,
}

impl From<Payload> for esker::dump::PayloadStyle {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Auto => Self::Auto,
            Payload::Text => Self::Text,
            Payload::Hex => Self::Hex,
            Payload::Base64 => Self::Base64,
            Payload::None => Self::None,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Filter {
    /// Only this entity (`*` and `?` stand for any characters and any one; keys also as `hex:…`);
    /// of one that is named in full `dump` looks at its own frames alone, and does not tell of damage in others
    #[arg(long, value_name = "KIND/KEY")]
    pub(crate) entity: Option<crate::filter::Entity>,
    /// Only this kind
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<Pattern>,
    /// Only this operation
    #[arg(long, value_enum, value_name = "OP")]
    pub(crate) op: Option<Operation>,
    /// Only rows and operations of this source, by name: those that it said, or had the last word on
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Only this range of Seq, both ends included: A..B, A.., ..B or A
    #[arg(long, value_name = "A..B")]
    pub(crate) seq: Option<Range>,
    /// Only this range of generations
    #[arg(long, value_name = "A..B")]
    pub(crate) generation: Option<Range>,
    /// Only what was written at or after this time (`2026-11-20T10:00Z`) or so long ago (`2h`)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// Only what was written before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    Fact,
    /// Any row of live state
    Row,
    /// Rows of entities that were not there before
    Created,
    /// Rows that are others than before
    Updated,
    /// Entities that nobody asserts any more
    Deleted,
    /// Rows of which only who asserts them has changed
    Sources,
    /// Any operation of a source on live state
    Event,
    /// Operations that state the whole of an entity
    Assert,
    /// Operations that state some fields of one
    Patch,
    /// Operations that take one back
    Retract,
    System,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) store: Store,
    /// The numbers of the entries; also ranges, both ends included: A..B
    #[arg(required = true, value_name = "SEQ", value_parser = seqs)]
    pub(crate) seqs: Vec<Range>,
    #[command(flatten)]
    pub(crate) payload: PayloadOption,
}

fn seqs(text: &str) -> Result<Range, String> {
    let range: Range = text.parse()?;
    if range.last == 0 || text.starts_with('0') {
        return Err("entries are numbered from 1".to_owned());
    }
    Ok(Range { first: range.first.max(1), ..range })
}

#[derive(Debug, clap::Args)]
pub(crate) struct Hex {
    #[command(flatten)]
    pub(crate) store: Store,
    /// The segment's number (of a part: `part-3`), and where in it to begin: the place of a frame, as
    /// others print it
    #[arg(value_name = "SEGMENT[:OFFSET]", value_parser = place)]
    pub(crate) place: (u32, Option<u64>),
    /// At most so many frames [default: 1 at an offset, else all]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
}

fn place(text: &str) -> Result<(u32, Option<u64>), String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
    let (segment, offset) = match text.split_once(':') {
        Some((segment, offset)) => (segment, Some(number(offset)?)),
        None => (text, None),
    };
    let segment = esker::dump::segment_number(segment)
        .ok_or_else(|| format!("{segment:?} is no segment's number, and no part's"))?;
    Ok((segment, offset))
}

#[derive(Debug, clap::Args)]
pub(crate) struct Cursors {
    #[command(flatten)]
    pub(crate) store: Store,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// How far a cursor may be behind. One that is over is named on stderr, and the exit code is 1.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Limits {
    /// Entries of its region that a cursor may be behind
    #[arg(long, value_name = "N")]
    pub(crate) max_lag: Option<u64>,
    /// How long a cursor's next entry may have waited (`2h`, `30s`, `1d`)
    #[arg(long, value_name = "D")]
    pub(crate) max_age: Option<Span>,
    /// Bytes of log that a cursor may hold back (`65536`, `10M`)
    #[arg(long, value_name = "N", value_parser = crate::size::bytes)]
    pub(crate) max_bytes: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cursor {
    /// The cursors, as `esker cursors` lists them
    List(Store),
    /// Puts a cursor somewhere else, forward or back; only says what that would do without --execute
    Reset(Reset),
    /// Forgets a cursor, which then holds nothing back; only says what that would do without --execute
    Retire(Retire),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    pub(crate) store: Store,
    /// The cursor's name
    pub(crate) name: String,
    /// Where to: `oldest`, `newest`, behind an entry by its Seq, before what was written at a time
    /// (`2026-11-20T10:00Z`) or so long ago (`2h`), or so many entries of its own region forward or
    /// back (`+10`, `-10`)
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    pub(crate) to: Place,
    /// Do it. Nobody else may have the store open for writing
    #[arg(long)]
    pub(crate) execute: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Retire {
    #[command(flatten)]
    pub(crate) store: Store,
    /// The cursor's name
    pub(crate) name: String,
    /// Do it. Nobody else may have the store open for writing
    #[arg(long)]
    pub(crate) execute: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) store: Store,
    /// Headers, the manifest, derived files' checksums, and the end of the log
    #[arg(long, conflicts_with = "full")]
    pub(crate) quick: bool,
    /// Every frame, and whether the derived files say what the log says (the default)
    #[arg(long)]
    pub(crate) full: bool,
    /// Decode every payload, too, by the codec and the fields of its kind
    #[arg(long, conflicts_with = "quick")]
    pub(crate) decode: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Repair {
    #[command(flatten)]
    pub(crate) store: Store,
    /// The new store's directory: empty, or not there yet. The damaged one is not touched
    #[arg(long, short, value_name = "NEW")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    pub(crate) store: Store,
    /// The backup's directory: empty, or not there yet
    #[arg(value_name = "BACKUP")]
    pub(crate) target: PathBuf,
    /// Second names of sealed segments instead of copies: in no space, and lost with the store's own files
    #[arg(long)]
    pub(crate) link: bool,
    /// Verify what was copied as `esker verify` does, before it counts as a backup; without it every frame is read, and no more
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The backup's directory
    #[arg(value_name = "BACKUP")]
    pub(crate) backup: PathBuf,
    /// The new store's directory: empty, or not there yet
    #[arg(value_name = "NEW")]
    pub(crate) target: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) store: Store,
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Only the last so many
    #[arg(long, visible_alias = "tail", value_name = "N")]
    pub(crate) last: Option<usize>,
    /// Write to this file, which must not be there yet; it is whole when it is there [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// What `export` wrote; `-` for stdin
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The new store's directory: empty, or not there yet
    #[arg(value_name = "NEW")]
    pub(crate) target: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// One store's directory
    pub(crate) a: PathBuf,
    /// The other one's
    pub(crate) b: PathBuf,
    /// Show so many entries that are not the same in both, each with the first field that differs [default: 1]. All are
    /// counted, and kinds, sources and cursors that differ are always shown
    #[arg(long, short = 'n', value_name = "N", conflicts_with = "all")]
    pub(crate) limit: Option<u64>,
    /// Show all of them
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    pub(crate) store: Store,
    /// The new store's directory: empty, or not there yet. The older one is not touched
    #[arg(long, short, value_name = "NEW")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Stats {
    #[command(flatten)]
    pub(crate) store: Store,
    /// The form: a table, JSON lines, or the text exposition format 0.0.4
    #[arg(long, value_enum, default_value_t = StatsFormat::Table)]
    pub(crate) format: StatsFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatsFormat {
    #[value(alias = "text")]
    Table,
    Json,
    Prometheus,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_contradicts_nothing() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn entries_are_numbered_from_one() {
        assert_eq!(seqs("7"), Ok(Range { first: 7, last: 7 }));
        assert_eq!(seqs("1..3"), Ok(Range { first: 1, last: 3 }));
        assert_eq!(seqs("..3"), Ok(Range { first: 1, last: 3 }));
        for wrong in ["0", "0..3", "..0", "x", "-1"] {
            assert!(seqs(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_place_is_a_segment_and_maybe_an_offset() {
        assert_eq!(place("3"), Ok((3, None)));
        assert_eq!(place("3:128"), Ok((3, Some(128))));
        assert_eq!(place("part-3:128"), Ok((1 << 31 | 3, Some(128))));
        assert!(place("x").is_err() && place("3:").is_err() && place("99999999999").is_err());
    }
}
