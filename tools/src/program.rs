//! The tool as a program: its name, the codecs that it knows, and one run of it.

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{CommandFactory, FromArgMatches};
use esker::ErrorKind;
use esker::dump::Translators;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::args::Args;
use crate::commands::health;
use crate::explain;
use crate::instead;
use crate::meant;
use crate::outcome::{Outcome, exit_code, text_of};
use crate::output::{self, Output};

/// The tool, for an application that links its own: with its name, and with the codecs that only it knows.
///
/// ```no_run
/// # use std::process::ExitCode;
/// fn main() -> ExitCode {
///     esker_tools::Tool::new()
///         .name("harbour")
///         .translate("invoice", |payload| std::str::from_utf8(payload).map(|text| text.replace(';', "\t")))
///         .run(std::env::args_os())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Tool {
    name: &'static str,
    translators: Translators,
}

impl Default for Tool {
    fn default() -> Self {
        Self { name: output::NAME, translators: Translators::new() }
    }
}

impl Tool {
    /// The tool as it is: `esker`, with the codecs that stores name themselves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the program a name: in its help, its manual, its completions and its messages. Default: `esker`.
    ///
    /// In the header of JSON lines `tool` stays `esker`: it says who makes the lines.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Makes text of the payloads of a kind, wherever they are shown; in JSON lines it is `payload_text`. What it refuses
    /// is shown as undecodable with its reason, and `verify --decode` names it.
    #[must_use]
    pub fn translate<E: fmt::Display>(
        mut self,
        kind: impl Into<String>,
        translate: impl Fn(&[u8]) -> Result<String, E> + Send + Sync + 'static,
    ) -> Self {
        self.translators = self.translators.with(kind, translate);
        self
    }

    /// Runs the tool for a command line, of which the first word is the program's name.
    pub fn run(self, words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
        let Self { name, translators } = self;
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        output::call_it(name);
        raise_the_limit_of_files();
        let matches = command_line(name).try_get_matches_from(&words);
        let args = match matches.and_then(|matches| Args::from_arg_matches(&matches)) {
            Ok(args) => args,
            Err(answer) => {
                // Help and version are answers too, and come on stdout.
                let code = u8::try_from(answer.exit_code()).unwrap_or(2);
                if code != 0 && asks_for_a_plugin(&words) {
                    return unknown(&answer);
                }
                let printed = answer.print();
                if let Some(instead) = meant::instead(&answer) {
                    output::note(&instead);
                }
                return match printed {
                    Err(error) => {
                        let (text, code) = (format!("write to stdout: {error}"), exit_code(&error.into()));
                        if code != ExitCode::SUCCESS {
                            output::error(&text);
                        }
                        code
                    }
                    Ok(()) => ExitCode::from(code),
                };
            }
        };
        let mut output = Output::new(args.json, args.header).translating(translators);
        let done = crate::command(&args, &mut output).and_then(|outcome| {
            output.flush()?;
            Ok(outcome)
        });
        match done {
            Ok(outcome) => outcome.into(),
            Err(error) => {
                let code = exit_code(&error);
                if code != ExitCode::SUCCESS {
                    output::error(&format!("{}{}", text_of(&error), hint(&error)));
                    found_instead(&error).iter().for_each(|note| output::note(note));
                }
                // What was found before the failure is data still; a second failure says nothing new.
                let _ = output.flush();
                code
            }
        }
    }
}

/// True of a command line that asks for the answer of a monitoring plugin, whatever else is wrong with it.
fn asks_for_a_plugin(words: &[OsString]) -> bool {
    let says = |at: usize, wanted: &str| words.get(at).is_some_and(|word| word == wanted);
    let is_nagios = |at| says(at, "--format=nagios") || says(at, "--format") && says(at + 1, "nagios");
    words.iter().skip(1).any(|word| word == "check") && (1..words.len()).any(is_nagios)
}

/// What a plugin answers that was called in a wrong way: of these codes two is critical, and pages somebody at night.
fn unknown(answer: &clap::Error) -> ExitCode {
    let printed = answer.render().to_string();
    let what = printed.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let _ = answer.print();
    let mut output = Output::new(false, false);
    let said = output.line(&health::unknown(what)).and_then(|()| output.flush());
    said.map_or_else(|error| exit_code(&error.into()), |()| Outcome::Plugin(3).into())
}

/// The soft limit of files before it was raised.
static FILES_BEFORE: OnceLock<u64> = OnceLock::new();

/// The limit of files for programs that this one starts, if they are not to have its own: they may be such as cannot do with high
/// numbers.
pub(crate) fn files_of_others() -> Option<u64> {
    FILES_BEFORE.get().copied()
}

/// A soft limit is for programs that cannot do with high numbers; what the system allows is the hard one. Where it cannot be
/// raised, whatever needs more than it says so.
fn raise_the_limit_of_files() {
    let mut limit = getrlimit(Resource::Nofile);
    if let Some(before) = limit.current.filter(|_| limit.current != limit.maximum) {
        limit.current = limit.maximum;
        if setrlimit(Resource::Nofile, limit).is_ok() {
            let _ = FILES_BEFORE.set(before);
        }
    }
}

/// The command line under a name.
pub(crate) fn command_line(name: &'static str) -> clap::Command {
    Args::command().name(name).bin_name(name)
}

/// What is at a path that is no store, and what to type.
fn found_instead(error: &anyhow::Error) -> Option<String> {
    let error = error.downcast_ref::<esker::Error>()?;
    let is_of_path =
        matches!(error.kind(), ErrorKind::NotAStore | ErrorKind::NotADirectory | ErrorKind::NotFound);
    error.path().filter(|_| is_of_path).and_then(instead::of)
}

/// Where to read more about an error. A mistake of the command line says all itself.
fn hint(error: &anyhow::Error) -> String {
    let kind = error.downcast_ref::<esker::Error>().map(esker::Error::kind);
    let page = kind.filter(|kind| *kind != esker::ErrorKind::InvalidInput).and_then(explain::of_error);
    page.map_or_else(String::new, |page| format!("; more: `{} explain {}`", output::name(), page.code))
}
