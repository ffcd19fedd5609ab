//! `keep`: what compaction keeps of a kind, for a store whose application is not there to say it.

use anyhow::Result;
use clap::ValueEnum;
use esker::{Keep, KindInfo, Options, Owner, Region, Seq};
use serde_json::json;

use super::cursor::summary;
use super::listing::optional;
use crate::args;
use crate::outcome::{Outcome, Usage};
use crate::output::Output;
use crate::store::{self, Opened};
use crate::typed::{on, quoted};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: args::Store,
    /// The kind's name
    kind: String,
    /// What compaction keeps of it, from then on
    #[arg(value_enum)]
    keep: What,
    /// Do it. Nobody else may have the store open for writing
    #[arg(long)]
    execute: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Every entry
    All,
    /// The newest entry of each entity
    Latest,
    /// Nothing
    Nothing,
    /// Of a topic, what its folds still need
    Fold,
}

impl From<What> for Keep {
    fn from(what: What) -> Self {
        match what {
            What::All => Self::All,
            What::Latest => Self::Latest,
            What::Nothing => Self::Nothing,
            What::Fold => Self::Fold,
        }
    }
}

/// What is kept, in one word.
pub(crate) fn word(keep: Keep) -> &'static str {
    match keep {
        Keep::All => "all",
        Keep::Latest => "latest",
        Keep::Nothing => "nothing",
        Keep::Fold => "fold",
        // A later library's.
        _ => "other",
    }
}

fn meaning(keep: Keep) -> &'static str {
    match keep {
        Keep::All => "every entry stays",
        Keep::Latest => "of what is compacted, the newest entry of each entity stays",
        Keep::Nothing => "of what is compacted, nothing stays",
        Keep::Fold => {
            "of what is compacted, the events that a fold still needs stay, and the newest of each key"
        }
        _ => "as a later version says",
    }
}

pub(crate) fn keep(args: &Args, output: &mut Output) -> Result<Outcome> {
    let path = &args.store.path;
    let opened = store::open(path, "keep", output)?;
    let kind = find(&opened, &args.kind)?;
    let (before, then) = (kind.keep, Keep::from(args.keep));
    if kind.owner == Owner::State && then == Keep::Nothing {
        let events = format!("esker.events.{}", kind.name);
        let what =
            format!("the newest row of each entity of {:?} says what is true now, and stays", kind.name);
        let advice = match opened.reader.kind_named(&events) {
            Some(_) => format!("; what was said of it is another kind, {events}"),
            None => String::new(),
        };
        return Err(Usage(what + &advice).into());
    }
    if kind.name.starts_with("esker.") && !kind.name.starts_with("esker.events.") && before != then {
        let what = format!(
            "what {:?} keeps is the library's own matter: consumers, cells and floors stand on it",
            kind.name
        );
        return Err(Usage(what).into());
    }
    let floor = opened.reader.view()?.floor(&Region::Kind(kind.id));
    let end = if args.execute {
        if before != then {
            let journal = Options::new().open_existing(path)?;
            journal.keep(kind.id, then)?;
            journal.close()?;
        }
        // It says what a compaction keeps, and is none.
        vec![("done", format!("keeps {}", word(then))), ("next", on("compact", path))]
    } else {
        let command = format!("{} {} {} --execute", on("keep", path), quoted(&kind.name), word(then));
        vec![("next", command)]
    };
    if output.is_json() {
        let line =
            json!({ "kind": kind.name, "id": kind.id, "before": before, "then": then, "floor": floor });
        output.typed("plan", &line)?;
        summary(&end, output)?;
        return Ok(Outcome::Fine);
    }
    let mut pairs = vec![
        ("kind", kind.name.clone()),
        ("kept before", word(before).to_owned()),
        ("kept then", format!("{}: {}", word(then), meaning(then))),
        ("whole from", optional(floor.map(Seq::get))),
    ];
    pairs.extend(end);
    output.pairs(&pairs)?;
    Ok(Outcome::Fine)
}

/// The kind of a name, or an error with the names that there are.
pub(super) fn find(opened: &Opened, name: &str) -> Result<KindInfo> {
    if let Some(kind) = opened.reader.kind_named(name) {
        return Ok((*kind).clone());
    }
    let kinds = opened.reader.kinds();
    let names: Vec<&str> = kinds.iter().map(|kind| &*kind.name).collect();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(Usage(format!("no kind {name:?}; there are: {there}")).into())
}
