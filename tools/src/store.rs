//! Opening a store to look at it, and saying what state it is in.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use esker::dump::{Dump, SegmentInfo, Survey, key_text, rfc3339, segment_text};
use esker::{Check, Damage, ErrorKind, Holder, Reader, Region};
use serde::Serialize;
use serde_json::{Value, json};

use crate::filter::{Filter, Pattern};
use crate::outcome::{BeingMade, Usage};
use crate::output::{self, Output};

/// A store that is looked at.
pub(crate) struct Opened {
    pub(crate) reader: Reader,
    pub(crate) survey: Survey,
    pub(crate) dump: Dump,
    /// The process that writes it now.
    pub(crate) writer: Option<u32>,
    /// The damaged places that were told of, by segment and offset: more than one walk may meet one.
    told: RefCell<BTreeSet<(u32, u64)>>,
}

/// Opens a store for a command, says whether it is live, and writes the header.
pub(crate) fn open(path: &Path, command: &'static str, output: &mut Output) -> Result<Opened> {
    let mut opened = look(path)?;
    opened.dump = std::mem::take(&mut opened.dump).translators(output.translators().clone());
    opened.note_live();
    output.header(command, &opened.description())?;
    Ok(opened)
}

/// A writer that compacts all the time is not to be caught up with.
const LOOKS_AT_ALL: usize = 20;

/// Beside a live writer the first look may catch the end of the log half written.
const LOOKS: usize = 3;

/// Opens a store, and says nothing.
pub(crate) fn look(path: &Path) -> Result<Opened> {
    let mut looks = 1;
    loop {
        let reader = open_reader(path)?;
        let writer = reader.writer().map(|holder| holder.pid);
        if writer.is_some() && !reader.recovery().damage.is_empty() && looks < LOOKS {
            looks += 1;
            continue;
        }
        let survey = Survey::of(&reader)?;
        // The kinds as of the survey: what is shown is not newer than it.
        let dump = Dump::new(reader.kinds()).sources(reader.sources());
        return Ok(Opened { reader, survey, dump, writer, told: RefCell::default() });
    }
}

/// Opens a store; one without a manifest that a living process holds is no damaged one.
pub(crate) fn open_reader(path: &Path) -> Result<Reader> {
    match Reader::open(path) {
        Err(error) if error.is_corruption() || error.kind() == ErrorKind::NotAStore => {
            let seen = esker::verify(path, Check::Quick).ok();
            check_is_made(path, seen.and_then(|seen| seen.live).as_ref())?;
            Err(error.into())
        }
        opened => Ok(opened?),
    }
}

/// Refuses a file that would stand among those of a store, or in the place of one.
pub(crate) fn check_outside(file: &Path) -> Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_part = |name: &str| {
        let stem = name.strip_suffix(".seg").filter(|stem| stem.len() == 10);
        name == MANIFEST || stem.is_some_and(|stem| stem.bytes().all(|byte| byte.is_ascii_digit()))
    };
    // What cannot be listed cannot be written to either, and that is told then.
    let mut names = std::fs::read_dir(parent).into_iter().flatten().flatten();
    if names.any(|entry| entry.file_name().to_str().is_some_and(is_part)) {
        let (file, parent) = (file.display(), parent.display());
        return Err(Usage(format!("write {file}: {parent} holds a store; give a name outside of it")).into());
    }
    Ok(())
}

/// The file that a directory has which is a store.
pub(crate) const MANIFEST: &str = "MANIFEST";

/// Refuses a store that its holder has not made yet.
pub(crate) fn check_is_made(path: &Path, holder: Option<&Holder>) -> Result<()> {
    let has_manifest = || path.join(MANIFEST).symlink_metadata().is_ok();
    match holder {
        Some(holder) if !has_manifest() => {
            Err(BeingMade { path: path.display().to_string(), pid: holder.pid }.into())
        }
        _ => Ok(()),
    }
}

impl Opened {
    /// Takes note that a damaged place is told of; false: it was before.
    pub(crate) fn tells(&self, place: (u32, u64)) -> bool {
        self.told.borrow_mut().insert(place)
    }

    /// The same of what could not be read. An error without a place is always told.
    pub(crate) fn tells_of(&self, error: &esker::Error) -> bool {
        error.segment().zip(error.offset()).is_none_or(|place| self.tells(place))
    }

    /// Says so where somebody writes the store.
    pub(crate) fn note_live(&self) {
        if let Some(pid) = self.writer {
            output::note(&format!("live, writer pid {pid}"));
        }
    }

    /// What the header of JSON lines says of the store.
    pub(crate) fn description(&self) -> Value {
        json!({
            "path": self.reader.path().display().to_string(),
            "store": self.reader.store_id().to_string(),
            "format": esker::dump::FORMAT_VERSION,
            "era": self.reader.era().to_string(),
            "live": self.writer.map(|pid| json!({ "pid": pid })),
        })
    }

    /// How long the files of the log are, as far as that can be told.
    pub(crate) fn bytes_of_log(&self) -> u64 {
        let is_of_log = |path: &PathBuf| path.extension().is_some_and(|end| end == "seg" || end == "snap");
        let files = std::fs::read_dir(self.reader.path()).into_iter().flatten().flatten();
        let files = files.map(|file| file.path()).filter(is_of_log);
        files.filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum()
    }

    /// The segments and parts, summed up; of a later moment where a writer compacts meanwhile.
    pub(crate) fn segments(&self) -> Result<Vec<SegmentInfo>> {
        let mut survey = self.survey.clone();
        for _ in 0..LOOKS_AT_ALL {
            match survey.segments().collect() {
                Err(error) if error.kind() == ErrorKind::Compacted => survey = Survey::of(&self.reader)?,
                segments => return Ok(segments?),
            }
        }
        Ok(survey.segments().collect::<esker::Result<_>>()?)
    }

    /// Says so where no kind matches what was asked for: a typing error shows nothing, and in silence.
    pub(crate) fn note_unknown_kind(&self, pattern: &Pattern, more: &str) {
        if self.has_no_kind(pattern) {
            let kinds = self.reader.kinds();
            let names: Vec<&str> = kinds.iter().map(|kind| &*kind.name).collect();
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            output::note(&format!("no kind matches {pattern}; there are: {there}{more}"));
        }
    }

    /// True if no kind matches, by its name or its number.
    pub(crate) fn has_no_kind(&self, pattern: &Pattern) -> bool {
        !self.reader.kinds().iter().any(|kind| pattern.matches_kind(&kind.name, kind.id))
    }

    /// Says so where no source has the name that was asked for.
    pub(crate) fn note_unknown_source(&self, filter: &Filter<'_>, more: &str) {
        let Some(name) = filter.unknown_source() else { return };
        let names: Vec<String> = self.reader.sources().into_iter().map(|source| source.name).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        output::note(&format!("no source {name:?}; there are: {there}{more}"));
    }

    /// Damage at the end that is not of a whole segment, which is counted where the segments are.
    pub(crate) fn damage_beside(&self, segments: &[SegmentInfo]) -> u64 {
        let is_counted = |damage: &Damage| {
            let mut same = segments.iter().filter(|segment| segment.number == damage.segment);
            damage.offset == 0 && same.any(|segment| segment.damaged > 0)
        };
        self.survey.damage_at_end().iter().filter(|damage| !is_counted(damage)).count() as u64
    }

    /// Says what is damaged where no walk over the frames gets to; answers how much that is.
    pub(crate) fn report_damage_at_end(&self, output: &mut Output) -> Result<u64> {
        let damage = self.survey.damage_at_end();
        damage.iter().try_for_each(|damage| report(damage, output))?;
        Ok(damage.len() as u64)
    }
}

/// One finding: a JSON line among the data, else a line beside it.
pub(crate) fn report(damage: &Damage, output: &mut Output) -> Result<()> {
    if output.is_json() {
        output.typed("finding", &named(damage, Some(damage.segment))?)?;
    } else {
        output::finding(&describe(damage));
    }
    Ok(())
}

/// A finding for JSON lines: with its segment or part also as places have it.
pub(crate) fn named(finding: &impl Serialize, segment: Option<u32>) -> Result<Value> {
    let mut finding = serde_json::to_value(finding)?;
    if let Some(fields) = finding.as_object_mut() {
        fields.insert("name".to_owned(), segment.map(segment_text).into());
    }
    Ok(finding)
}

/// Who holds a store, or held it last, for JSON lines.
pub(crate) fn holder(holder: &Holder) -> Value {
    json!({
        "pid": holder.pid,
        "host": holder.host,
        "since": rfc3339(holder.since),
        "since_ns": holder.since.to_string(),
        "boot": holder.boot,
        "life": format!("{:08x}", holder.life),
        "held": holder.held,
    })
}

/// A region in words, its entities as `--entity` takes them.
pub(crate) fn region(region: &Region, dump: &Dump) -> String {
    match region {
        Region::All => "all".to_owned(),
        Region::Kind(kind) => format!("{}/*", dump.kind_name(*kind)),
        Region::Entity(kind, key) => format!("{}/{}", dump.kind_name(*kind), key_text(key)),
        Region::Prefix(kind, key) => format!("{}/{}*", dump.kind_name(*kind), key_text(key)),
        // A later library's.
        other => format!("{other:?}"),
    }
}

/// Sources by name, or that there is none.
pub(crate) fn names(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(",") }
}

/// A range of Seq as `--seq` takes it.
pub(crate) fn seqs(first: u64, last: u64) -> String {
    if first == last { first.to_string() } else { format!("{first}..{last}") }
}

/// A damaged place in words.
pub(crate) fn describe(damage: &Damage) -> String {
    let Damage { segment, offset, first_seq, last_seq, what, .. } = damage;
    let lost = match last_seq.checked_sub(*first_seq) {
        Some(_) => format!("; seq {} lost", seqs(*first_seq, *last_seq)),
        None => String::new(),
    };
    let is_part = esker::Position::new(*segment, 0).is_in_part();
    let segment = segment_text(*segment);
    let next = match damage.next_good {
        Some(next) => format!("; the next good frame is at {segment}:{next}"),
        None if is_part => "; no good frame follows in this part".to_owned(),
        None => "; no good frame follows in this segment".to_owned(),
    };
    format!("{segment}:{offset}: {what}{lost}{next}")
}
