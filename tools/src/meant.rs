//! What somebody may have meant whose command line is none: commands by other names, a store without a command.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::commands::cursor::quoted;
use crate::output;

/// Commands as other tools call them, and what they are here.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["ls", "list"], "segments PATH|kinds PATH|entities PATH|state PATH"),
    (&["log", "history"], "dump PATH [--entity KIND/KEY]|events PATH KIND"),
    (&["tail", "follow", "watch"], "dump PATH --last 10 --follow"),
    (&["head"], "dump PATH --limit 10"),
    (&["show", "read"], "get PATH SEQ|state PATH KIND/KEY"),
    (&["status", "about"], "info PATH|check PATH"),
    (&["doctor", "fsck", "validate"], "check PATH|verify PATH"),
    (&["rows"], "state PATH KIND"),
    (&["lag", "offsets"], "cursors PATH"),
    (&["gc", "vacuum"], "compact PATH"),
    (&["fix"], "verify PATH|repair PATH --output NEW"),
    (&["copy", "snapshot"], "backup PATH BACKUP"),
];

/// Options as other tools call them.
const OPTIONS: &[(&str, &str)] = &[
    ("--key", "--entity KIND/KEY"),
    ("--from", "--seq A.. or --since TIME"),
    ("--to", "--seq ..B or --until TIME"),
    ("--format", "--json"),
    ("--head", "--limit N"),
];

/// What may have been meant, for below the error; nothing where the error says all.
pub(crate) fn instead(error: &clap::Error) -> Option<String> {
    let of = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => command(of(ContextKind::InvalidSubcommand)?),
        ErrorKind::UnknownArgument => {
            let asked = of(ContextKind::InvalidArg)?;
            let (_, here) = OPTIONS.iter().find(|(option, _)| *option == asked)?;
            Some(format!("{asked} may be {here} here, where a command has it"))
        }
        _ => None,
    }
}

fn command(asked: &str) -> Option<String> {
    let name = output::name();
    if let Some((_, here)) = COMMANDS.iter().find(|(names, _)| names.contains(&asked)) {
        let commands: Vec<String> = here.split('|').map(|command| format!("{name} {command}")).collect();
        return Some(format!("{asked} is {} here", commands.join(", or ")));
    }
    let path = Path::new(asked);
    let is_path = path.is_dir() || asked.contains(std::path::MAIN_SEPARATOR);
    is_path.then(|| format!("a command comes before the store: {name} info {}", quoted(asked)))
}
