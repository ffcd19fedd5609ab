//! `export` and `import`: a store as JSON lines, and a store of them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::exchange::{self, Done, Summary};
use anyhow::{Context, Result};
use esker::dump::{FrameInfo, Lent};
use esker::{Position, Seq};
use serde_json::{Value, json};

use crate::args::{self, Operation};
use crate::filter::{Filter, Range};
use crate::outcome::{Interrupt, Outcome, Usage};
use crate::output::{self, Output};
use crate::progress::{Shown, busy, busy_with};
use crate::store::{self, Opened};
use crate::typed::{on, path_of};

/// An import makes a segment of each gap: so many are worth a word.
const GAPS_WORTH_A_WORD: u64 = 1000;

pub(crate) fn export(args: &args::Export, output: &mut Output, interrupt: &Interrupt) -> Result<Outcome> {
    if args.filter.op == Some(Operation::System) {
        return Err(Usage(
            "an export is of entries: what the log writes about itself is made anew".to_owned(),
        )
        .into());
    }
    let opened = store::look(&args.store.path)?;
    opened.note_live();
    let filter = Filter::new(&args.filter, false, &opened.reader)?;
    opened.note_unknown(&filter, false);
    let seqs = wanted_of(args, &opened, &filter)?;
    let is_filtered = filter.is_any() || args.limit.is_some() || args.last.is_some();
    let write = |out: &mut dyn Write, shown: Option<&Shown<'_>>| {
        let wanted = |frame: &FrameInfo| {
            shown.inspect(|shown| shown.add(frame.frame_bytes));
            filter.accepts(frame, &opened.dump)
        };
        let range = seqs.first..=seqs.last;
        let go_on = || !interrupt.is_set();
        exchange::export(&opened.reader, &opened.survey, range, is_filtered, wanted, go_on, out)
    };
    let summary = match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => {
            let mut file = NewFile::create(path)?;
            let summary = busy_with("exporting", None, |shown| {
                shown.expect(opened.bytes_of_log());
                write(&mut file.out, Some(shown))
            })?;
            file.put_in_place()?;
            say(&opened, path, &summary, output)?;
            summary
        }
        None => {
            output.use_json();
            write(output.lines(), None)?
        }
    };
    if summary.entries == 0 && summary.damaged == 0 {
        opened.note_nothing(&filter, None)?;
    }
    if summary.damaged > 0 {
        output::finding(&format!(
            "{}: what they held is not in the export",
            output::count_of(summary.damaged, "place")
        ));
    }
    if summary.gaps > GAPS_WORTH_A_WORD {
        output::note(&format!(
            "{} gaps between the entries: an import makes a segment of each",
            summary.gaps
        ));
    }
    Ok(Outcome::of_findings(summary.damaged))
}

/// The Seqs of which something is wanted: where only the first or the last so many are, their places are looked up first.
fn wanted_of(args: &args::Export, opened: &Opened, filter: &Filter<'_>) -> Result<Range> {
    let mut seqs = filter.seqs();
    let limit = args.limit.unwrap_or(u64::MAX);
    match args.last {
        None if args.limit.is_none() => {}
        None => seqs.last = nth(opened, filter, limit)?.unwrap_or(seqs.last),
        Some(last) => {
            let found = last_of(opened, filter, last)?;
            // Of the last so many, the first.
            let shown = found.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
            let last = shown.checked_sub(1).and_then(|at| found.get(at));
            seqs = match (found.front(), last) {
                (Some(first), Some(last)) => Range { first: *first, last: *last },
                _ => Range { first: 1, last: 0 },
            };
        }
    }
    Ok(seqs)
}

/// The Seq of the how manieth entry that is wanted; `None`: there are not so many.
fn nth(opened: &Opened, filter: &Filter<'_>, n: u64) -> Result<Option<u64>> {
    let (mut left, mut found) = (n, (n == 0).then_some(0));
    walk(opened, filter, |seq| {
        left -= u64::from(found.is_none());
        if found.is_none() && left == 0 {
            found = Some(seq);
        }
        found.is_none()
    })?;
    Ok(found)
}

/// The Seqs of the last so many that are wanted.
fn last_of(opened: &Opened, filter: &Filter<'_>, count: usize) -> Result<VecDeque<u64>> {
    let mut found = VecDeque::new();
    walk(opened, filter, |seq| {
        found.push_back(seq);
        if found.len() > count {
            found.pop_front();
        }
        true
    })?;
    Ok(found)
}

/// Shows the Seqs of the entries that are wanted, as long as there is a need for more.
fn walk(opened: &Opened, filter: &Filter<'_>, mut see: impl FnMut(u64) -> bool) -> Result<()> {
    let Range { first, last } = filter.seqs();
    let start = Seq::new(first).map_or(Position::ZERO, |seq| opened.survey.before(seq));
    let mut frames = opened.survey.frames_from(start).heads();
    while let Some(item) = frames.lend() {
        // Of what is damaged the export tells.
        let Lent::Frame(frame) = item? else { continue };
        if frame.seq > last {
            break;
        }
        let is_wanted = !frame.is_system() && frame.body_good && frame.seq >= first;
        if is_wanted && filter.accepts(frame, &opened.dump) && !see(frame.seq) {
            break;
        }
    }
    Ok(())
}

/// What is in the file that was made.
fn say(opened: &Opened, path: &Path, summary: &Summary, output: &mut Output) -> Result<()> {
    let next = format!("{} NEW", on("import", path));
    if output.is_json() {
        let mut description = opened.description();
        if let Some(fields) = description.as_object_mut() {
            fields.insert("output".to_owned(), path.display().to_string().into());
        }
        output.header("export", &description)?;
        return Ok(output.json(&with_next(serde_json::to_value(summary)?, next))?);
    }
    output.pairs(&[
        ("output", path.display().to_string()),
        ("entries", summary.entries.to_string()),
        ("batches", summary.batches.to_string()),
        ("batches cut", summary.batches_cut.to_string()),
        ("gaps", summary.gaps.to_string()),
        ("missing", summary.missing.to_string()),
        ("damaged", summary.damaged.to_string()),
        ("next", next),
    ])?;
    Ok(())
}

pub(crate) fn import(args: &args::Import, output: &mut Output, interrupt: &Interrupt) -> Result<Outcome> {
    let (path, target) = (&args.file, &args.target);
    let begin = |origin| esker::Import::begin(target, origin);
    let go_on = || !interrupt.is_set();
    let done = busy("importing", || match path.as_os_str() == "-" {
        true => exchange::import(io::stdin().lock(), begin, go_on),
        false => {
            if path.is_dir() {
                return Err(a_directory(path, target).into());
            }
            let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
            exchange::import(BufReader::with_capacity(1 << 20, file), begin, go_on)
        }
    });
    let Done { imported, summary } = done.with_context(|| format!("import {}", path.display()))?;
    if summary.damaged > 0 {
        let were = if summary.damaged == 1 { "was" } else { "were" };
        let places = output::count_of(summary.damaged, "place");
        output::note(&format!("{places} {were} damaged where the export was made"));
    }
    let next = on("verify", target);
    if output.is_json() {
        let description = json!({
            "path": path.display().to_string(),
            "output": target.display().to_string(),
            "store": imported.store,
            "format": esker::dump::FORMAT_VERSION,
        });
        output.header("import", &description)?;
        let mut fields = with_next(serde_json::to_value(&imported)?, next);
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("damaged".to_owned(), summary.damaged.into());
        }
        output.typed("summary", &fields)?;
        return Ok(Outcome::of_findings(summary.damaged));
    }
    let mut pairs = vec![
        ("output", target.display().to_string()),
        ("store", imported.store.clone()),
        ("era", imported.era.to_string()),
        ("kinds", imported.kinds.to_string()),
        ("entries", imported.entries.to_string()),
        ("batches", imported.batches.to_string()),
        ("gaps", imported.gaps.to_string()),
        ("missing", imported.missing.to_string()),
        ("last seq", imported.last_seq.map_or_else(|| "none".to_owned(), |seq| seq.to_string())),
        ("segments", imported.segments.to_string()),
        ("damaged", summary.damaged.to_string()),
        ("next", next),
    ];
    pairs.retain(|(name, _)| *name != "damaged" || summary.damaged > 0);
    output.pairs(&pairs)?;
    // What `export` ended with is lost behind a pipe.
    Ok(Outcome::of_findings(summary.damaged))
}

/// A directory is no export: it is one of what the other commands make stores of, or comes in the wrong place.
fn a_directory(path: &Path, target: &Path) -> Usage {
    let instead = if target.is_file() {
        format!("the file comes first: {} {}", on("import", target), path_of(path))
    } else {
        let (restore, export) = (on("restore", path), on("export", path));
        format!("of a backup {restore} {} makes one; of a store {export} makes the lines", path_of(target))
    };
    let first = path.display();
    Usage(format!("import {first}: a directory, and not a file that export wrote; {instead}"))
}

fn with_next(mut summary: Value, next: String) -> Value {
    if let Some(fields) = summary.as_object_mut() {
        fields.insert("next".to_owned(), next.into());
    }
    summary
}

/// A file that has its name when it is whole, and never takes another's. Nothing is left of one that is not.
struct NewFile {
    out: BufWriter<File>,
    name: PathBuf,
    temporary: PathBuf,
}

impl NewFile {
    fn create(path: &Path) -> Result<Self> {
        store::check_outside(path)?;
        if path.symlink_metadata().is_ok() {
            return Err(there_already(path));
        }
        let Some(name) = path.file_name() else {
            return Err(Usage(format!("{} is no name for a file", path.display())).into());
        };
        let mut temporary = name.to_owned();
        temporary.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(temporary);
        let file = File::options().write(true).create_new(true).open(&temporary);
        let file = file.with_context(|| format!("make {}", temporary.display()))?;
        Ok(Self { out: BufWriter::with_capacity(1 << 20, file), name: path.to_owned(), temporary })
    }

    fn put_in_place(mut self) -> Result<()> {
        let Self { out, name, temporary } = &mut self;
        out.flush()?;
        out.get_ref().sync_all()?;
        // A rename would take the place of a file that came meanwhile; a second name does not.
        match std::fs::hard_link(&temporary, &name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(there_already(name)),
            linked => linked.with_context(|| format!("give {} its name", name.display()))?,
        }
        let parent = name.parent().filter(|parent| !parent.as_os_str().is_empty());
        let _ = std::fs::remove_file(&temporary);
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.temporary);
    }
}

fn there_already(path: &Path) -> anyhow::Error {
    Usage(format!("{} is there already: give another name, or remove it", path.display())).into()
}
