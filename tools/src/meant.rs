//! What somebody may have meant whose command line is none: commands by other names, a store without a command.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::output;
use crate::typed::quoted;

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
    (&["lag", "offsets"], "cursors PATH|consumers PATH"),
    (&["fold", "folds", "topic", "images"], "topics PATH"),
    (&["parked"], "consumer parked PATH NAME"),
    (&["dead", "letters", "poisoned"], "consumer dead PATH NAME"),
    (&["retry"], "consumer retry PATH NAME --key KEY"),
    (&["discard"], "consumer discard PATH NAME --key KEY"),
    (&["resume"], "consumer resume PATH NAME"),
    (&["retire"], "cursor retire PATH NAME|consumer retire PATH NAME"),
    (&["reset"], "cursor reset PATH NAME --to WHERE"),
    (&["find", "search", "grep"], "dump PATH --entity KIND/KEY|entities PATH --kind KIND"),
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
        ErrorKind::InvalidValue | ErrorKind::ValueValidation
            if of(ContextKind::InvalidArg).is_some_and(|arg| arg.starts_with("<SEQ>")) =>
        {
            let name = output::name();
            let entity = "KIND/KEY";
            Some(format!(
                "{name} get is of entries, by number; of an entity: {name} state PATH {entity}, or {name} dump PATH --entity {entity}"
            ))
        }
        // A key of any bytes has a form that every shell takes.
        ErrorKind::InvalidUtf8 => {
            Some("a key that is no text is written as hex:DIGITS, as in KIND/hex:00ff".to_owned())
        }
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
