//! `backup` and `restore`: a copy of a store at one moment, and a store made of it.

use anyhow::Result;
use esker::{BackupBy, Reader, Seq};
use serde_json::json;

use crate::args;
use crate::commands::repair::reset_all;
use crate::outcome::{Interrupt, Outcome, Usage};
use crate::output::{self, Output};
use crate::progress::busy_with;
use crate::store;
use crate::typed::{on, path_of};

pub(crate) fn backup(args: &args::Backup, output: &mut Output, interrupt: &Interrupt) -> Result<Outcome> {
    let (path, target) = (&args.store.path, &args.target);
    let reader = store::open_reader(path)?;
    if let Some(writer) = reader.writer() {
        output::note(&format!("live, writer pid {}", writer.pid));
    }
    let by = if args.link { BackupBy::Link } else { BackupBy::Copy };
    let made = busy_with("copying", Some(interrupt), |shown| match args.verify {
        true => reader.backup_verified_while(target, by, shown),
        false => reader.backup_while(target, by, shown),
    });
    let made = interrupt.of(made)?;
    let description = json!({
        "path": path.display().to_string(),
        "output": target.display().to_string(),
        "store": made.store,
        "format": esker::dump::FORMAT_VERSION,
    });
    output.header("backup", &description)?;
    let next = format!("{} NEW", on("restore", target));
    if output.is_json() {
        let mut summary = serde_json::to_value(&made)?;
        if let Some(fields) = summary.as_object_mut() {
            fields.insert("verified".to_owned(), if args.verify { "full" } else { "frames" }.into());
            fields.insert("next".to_owned(), next.into());
        }
        output.typed("summary", &summary)?;
        return Ok(Outcome::Fine);
    }
    output.pairs(&[
        ("output", target.display().to_string()),
        ("store", made.store.clone()),
        ("era", made.era.to_string()),
        ("last entry", last(made.through)),
        ("segments", made.segments.to_string()),
        ("of those linked", made.linked.to_string()),
        ("bytes", made.bytes.to_string()),
        ("verified", if args.verify { "in full" } else { "every frame" }.to_owned()),
        ("next", next),
    ])?;
    Ok(Outcome::Fine)
}

pub(crate) fn restore(args: &args::Restore, output: &mut Output, interrupt: &Interrupt) -> Result<Outcome> {
    let made = busy_with("restoring", Some(interrupt), |shown| {
        esker::restore_while(&args.backup, &args.target, shown)
    });
    let made = match made {
        Err(error) if !interrupt.is_set() => return Err(no_backup(args, error)),
        made => interrupt.of(made)?,
    };
    let description = json!({
        "path": args.backup.display().to_string(),
        "output": args.target.display().to_string(),
        "store": made.store,
        "format": esker::dump::FORMAT_VERSION,
    });
    output.header("restore", &description)?;
    let next = reset_all(&args.target);
    if output.is_json() {
        let mut summary = serde_json::to_value(&made)?;
        if let Some(fields) = summary.as_object_mut() {
            fields.insert("next".to_owned(), next.into());
        }
        output.typed("summary", &summary)?;
        return Ok(Outcome::Fine);
    }
    output.pairs(&[
        ("output", args.target.display().to_string()),
        ("store", made.store.clone()),
        ("era", made.era.to_string()),
        ("last entry", last(made.through)),
        ("bytes", made.bytes.to_string()),
        ("next", next),
    ])?;
    Ok(Outcome::Fine)
}

/// A store in the place of a backup can be copied, and need not be restored.
fn no_backup(args: &args::Restore, error: esker::Error) -> anyhow::Error {
    let is_store = Reader::open(&args.backup).is_ok_and(|reader| !reader.is_backup());
    if error.kind() != esker::ErrorKind::InvalidInput || !is_store {
        return error.into();
    }
    let advice = format!("{} BACKUP makes one of it, which can be restored", on("backup", &args.backup));
    let store = path_of(&args.backup);
    Usage(format!("restore {store}: it is a store, and no backup; {advice}")).into()
}

fn last(through: Option<Seq>) -> String {
    through.map_or_else(|| "none".to_owned(), |seq| seq.to_string())
}
