//! The tool `esker` as a library: what an application needs that links a tool of its own, and stores as lines of text
//! and back.
//!
//! It shows any store without the application that wrote it, also while that one runs. Data goes to stdout and everything
//! else to stderr. Exit codes: 0 fine, 1 findings, 2 usage or not there, 3 not a store, 4 input or output failed, 130
//! interrupted; a closed pipe is fine.

pub mod exchange;

mod args;
mod commands;
mod explain;
mod filter;
mod fit;
mod home;
mod instead;
mod meant;
mod near;
mod nothing;
mod outcome;
mod output;
mod place;
mod program;
mod progress;
mod report;
mod rows;
mod schema;
mod size;
mod span;
mod store;
mod translate;
mod typed;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::{Args, Command, Cursor, Limits};
use crate::outcome::Outcome;
use crate::output::Output;

pub use crate::program::Tool;

/// Runs the tool as it is for a command line, of which the first word is the program's name.
///
/// ```no_run
/// # use std::process::ExitCode;
/// fn main() -> ExitCode {
///     esker_tools::run(std::env::args_os())
/// }
/// ```
pub fn run(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    Tool::new().run(words)
}

fn command(args: &Args, output: &mut Output) -> anyhow::Result<Outcome> {
    let interrupt = outcome::Interrupt::catch(args.command.ends_in_order())?;
    match &args.command {
        Command::Info(at) => commands::info::info(at, output),
        Command::Stats(stats) => commands::stats::stats(stats, output),
        Command::Segments(at) => commands::listing::segments(at, output),
        Command::Kinds(at) => commands::listing::kinds(at, output),
        Command::Entities(entities) => commands::listing::entities(entities, output),
        Command::Dump(dump) => commands::dump::dump(dump, output, &interrupt),
        Command::Get(get) => commands::dump::get(get, output),
        Command::State(state) => commands::state::state(state, output),
        Command::Sources(at) => commands::sources::sources(at, output),
        Command::Events(events) => commands::events::events(events, output, &interrupt),
        Command::Cursors(cursors) => {
            commands::cursors::list(&cursors.store, "cursors", cursors.limits, output)
        }
        Command::Cursor(Cursor::List(at)) => {
            commands::cursors::list(at, "cursor list", Limits::default(), output)
        }
        Command::Cursor(Cursor::Reset(reset)) => commands::cursor::reset(reset, output),
        Command::Cursor(Cursor::Retire(retire)) => commands::cursor::retire(retire, output),
        Command::Topics(topics) => commands::topics::topics(topics, output),
        Command::Cells(cells) => commands::cells::cells(cells, output),
        Command::Lives(lives) => commands::lives::run(lives, output),
        Command::Consumers(consumers) => commands::consumers::consumers(consumers, output),
        Command::Consumer(consumer) => commands::consumer::consumer(consumer, output),
        Command::Verify(verify) => commands::check::verify(verify, output),
        Command::Repair(repair) => commands::repair::repair(repair, output, &interrupt),
        Command::Backup(backup) => commands::backup::backup(backup, output, &interrupt),
        Command::Restore(restore) => commands::backup::restore(restore, output, &interrupt),
        Command::Compact(compact) => commands::compact::compact(compact, output),
        Command::Keep(keep) => commands::keep::keep(keep, output),
        Command::Export(export) => commands::exchange::export(export, output, &interrupt),
        Command::Import(import) => commands::exchange::import(import, output, &interrupt),
        Command::Diff(diff) => commands::diff::diff(diff, output),
        Command::Upgrade(upgrade) => commands::upgrade::upgrade(upgrade, output),
        Command::Explain(explain) => commands::shell::explain(explain, output),
        Command::Completions(completions) => commands::shell::completions(completions, output),
        Command::Man(man) => commands::shell::man(man, output),
        Command::Schema(schema) => commands::shell::schema(schema, output),
        Command::Hex(hex) => commands::hex::hex(hex, output),
        Command::Check(args) => commands::health::run(args, output),
        Command::Report(args) => commands::report::run(args, output),
    }
}
