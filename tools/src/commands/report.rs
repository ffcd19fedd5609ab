//! `report`: a store as one page to look at.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use esker::Check;
use serde_json::json;

use crate::args;
use crate::outcome::{Outcome, Usage};
use crate::output::Output;
use crate::progress::busy_with;
use crate::report::report;
use crate::store;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: args::Store,
    /// Write to this file; `-` for stdout
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Take the place of a file that is there already
    #[arg(long)]
    force: bool,
    /// Verify only headers, the manifest, derived files' checksums, and the end of the log
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Verify every frame (the default)
    #[arg(long)]
    full: bool,
}

pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Outcome> {
    let target = &args.output;
    let is_stdout = target == Path::new("-");
    if is_stdout && output.is_json() {
        return Err(Usage(
            "the page and JSON lines cannot both go to stdout: give --output a file".to_owned(),
        )
        .into());
    }
    let target = if is_stdout { None } else { Some(NewPage::of(target, args.force)?) };
    let opened = store::open(&args.store.path, "report", output)?;
    let check = if args.quick { Check::Quick } else { Check::Full };
    let made = busy_with("drawing", None, |shown| report(&opened, check, shown))?;
    let Some(target) = target else {
        output.lines().write_all(made.page.as_bytes())?;
        return Ok(Outcome::of_findings(made.findings));
    };
    target.write(made.page.as_bytes())?;
    let file = args.output.display().to_string();
    if output.is_json() {
        let summary = json!({
            "output": file,
            "bytes": made.page.len(),
            "entries": made.entries,
            "findings": made.findings,
        });
        output.typed("summary", &summary)?;
    } else {
        output.pairs(&[
            ("output", file),
            ("bytes", made.page.len().to_string()),
            ("entries", made.entries.to_string()),
            ("findings", made.findings.to_string()),
        ])?;
    }
    Ok(Outcome::of_findings(made.findings))
}

/// A file that is whole when it has its name.
struct NewPage<'a> {
    name: &'a Path,
    temporary: PathBuf,
    force: bool,
}

impl<'a> NewPage<'a> {
    fn of(name: &'a Path, force: bool) -> Result<Self> {
        let Some(file_name) = name.file_name() else {
            return Err(Usage(format!("{} is no name for a file", name.display())).into());
        };
        store::check_outside(name)?;
        if let Ok(found) = name.symlink_metadata() {
            // A new file would take the place of a device, a pipe or a link, and not what is behind it.
            if !found.is_file() && !found.is_dir() {
                let what = format!("{} is no ordinary file", name.display());
                return Err(Usage(format!("{what}: give the name of one, or - for stdout")).into());
            }
            if !force {
                return Err(there_already(name));
            }
        }
        let parent = name.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
            let what = format!("write {}: there is no directory {}", name.display(), parent.display());
            return Err(Usage(format!("{what}; make it, or give another place")).into());
        }
        if name.is_dir() {
            return Err(
                Usage(format!("{} is a directory: give the name of a file in it", name.display())).into()
            );
        }
        let mut temporary = file_name.to_owned();
        temporary.push(format!(".{}.tmp", std::process::id()));
        Ok(Self { name, temporary: name.with_file_name(temporary), force })
    }

    fn write(&self, page: &[u8]) -> Result<()> {
        let Self { name, temporary, force } = self;
        let made = File::options().write(true).create_new(true).open(temporary);
        let mut file = made.with_context(|| format!("make {}", temporary.display()))?;
        file.write_all(page).with_context(|| format!("write {}", temporary.display()))?;
        file.sync_all()?;
        if *force {
            #[allow(clippy::disallowed_methods, reason = "a page is no part of a store")]
            let renamed = std::fs::rename(temporary, name);
            renamed.with_context(|| format!("give {} its name", name.display()))?;
        } else {
            // A rename would take the place of a file that came meanwhile; a second name does not.
            match std::fs::hard_link(temporary, name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(there_already(name));
                }
                linked => linked.with_context(|| format!("give {} its name", name.display()))?,
            }
        }
        Ok(())
    }
}

impl Drop for NewPage<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.temporary);
    }
}

fn there_already(path: &Path) -> anyhow::Error {
    Usage(format!("{} is there already: give another name, or --force to take its place", path.display()))
        .into()
}
