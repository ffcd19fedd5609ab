//! Writing the lines of a store.

use std::fmt;
use std::io::Write;
use std::ops::RangeInclusive;

use anyhow::{Context, Result};
use esker::dump::{Dump, FrameInfo, Lent, Payload, Survey, Value};
use esker::{Damage, KindInfo, Position, Reader, Seq};
use serde::Serialize;
use serde_json::json;

use crate::exchange::entries::{Entries, Next};
use crate::exchange::import::{Fault, Interrupted};
use crate::exchange::line::{Header, Summary};
use crate::exchange::text::Lines;

/// The header of an export of what a survey shows.
///
/// # Errors
///
/// If the store cannot be read.
pub fn header(reader: &Reader, survey: &Survey, filtered: bool) -> Result<Header> {
    Ok(header_of(reader, survey, last(survey)?.forgot, filtered))
}

fn header_of(reader: &Reader, survey: &Survey, forgot: bool, filtered: bool) -> Header {
    let mut segment_bytes = 0;
    for segment in survey.log() {
        let path = reader.path().join(format!("{segment:010}.seg"));
        // One in memory has no file there, and a default will do.
        segment_bytes = segment_bytes.max(std::fs::metadata(path).map_or(0, |file| file.len()));
    }
    Header::new(reader, segment_bytes, forgot, filtered)
}

/// Writes the entries of these Seqs that are wanted, and the header and the summary around them.
///
/// Damage is a line too, and makes a gap. `go_on` is asked before each line.
///
/// # Errors
///
/// [`NotCarried`] for an entry that these lines have no form for, [`Interrupted`], and what reading the store
/// and writing to `out` come to.
pub fn export(
    reader: &Reader,
    survey: &Survey,
    seqs: RangeInclusive<u64>,
    filtered: bool,
    wanted: impl FnMut(&FrameInfo) -> bool,
    mut go_on: impl FnMut() -> bool,
    out: &mut dyn Write,
) -> Result<Summary> {
    let last = last(survey)?;
    line(out, &header_of(reader, survey, last.forgot, filtered))?;
    let dump = Dump::new(reader.kinds());
    let start = Seq::new(*seqs.start()).map_or(Position::ZERO, |seq| survey.before(seq));
    let mut wanted = wanted;
    let in_range = |frame: &FrameInfo| seqs.contains(&frame.seq) && wanted(frame);
    let mut entries = Entries::new(survey.frames_from(start), *seqs.end(), in_range)
        .context("start a thread to read the log")?;
    let mut summary = Summary { what: "summary".to_owned(), log_last_seq: last.seq, ..Summary::default() };
    let mut last_seq = 0;
    let mut lines = Lines::default();
    while let Some(next) = entries.next() {
        let (is_entry, goes_on) = (matches!(next, Ok(Next::Entry(_))), go_on());
        // What was written before anything else is said comes out before it.
        if !is_entry || !goes_on || lines.bytes.len() > TOGETHER {
            lines.give(out)?;
        }
        if !goes_on {
            return Err(Interrupted.into());
        }
        match next? {
            Next::Entry(frame) => {
                let kind = match kind_of(&frame, &dump) {
                    Ok(kind) => kind,
                    Err(error) => {
                        lines.give(out)?;
                        return Err(error.into());
                    }
                };
                lines.entry(&frame, &kind.name, out)?;
                summary.entries += 1;
                summary.batches += u64::from(!frame.more);
                summary.add_gap(last_seq, frame.seq);
                last_seq = frame.seq;
                entries.take_back(frame);
            }
            Next::Damage(damage) => {
                summary.damaged += 1;
                line(out, &Finding { what: "finding", damage: &damage })?;
            }
            Next::Content(frame) => {
                summary.damaged += 1;
                line(
                    out,
                    &json!({
                        "type": "finding",
                        "segment": frame.position.segment(),
                        "offset": frame.position.offset(),
                        "first_seq": frame.seq,
                        "last_seq": if frame.is_system() { frame.seq.saturating_sub(1) } else { frame.seq },
                        "what": "a frame's content does not match its checksum",
                    }),
                )?;
            }
        }
    }
    lines.give(out)?;
    summary.batches_cut = entries.cut();
    for damage in survey.damage_at_end() {
        summary.damaged += 1;
        line(out, &Finding { what: "finding", damage: &damage })?;
    }
    // What came while the export ran is not in it, and not missing.
    summary.log_last_seq = summary.log_last_seq.max(last_seq);
    summary.add_gap(last_seq, summary.log_last_seq + 1);
    line(out, &summary)?;
    Ok(summary)
}

#[derive(Serialize)]
struct Finding<'a> {
    #[serde(rename = "type")]
    what: &'static str,
    #[serde(flatten)]
    damage: &'a Damage,
}

/// An entry that these lines have no form for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCarried {
    /// Whether a newer build wrote it, or something of it is lost.
    pub fault: Fault,
    what: String,
}

impl fmt::Display for NotCarried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for NotCarried {}

/// The kind of an entry that these lines have a form for.
fn kind_of<'d>(frame: &FrameInfo, dump: &'d Dump) -> Result<&'d KindInfo, NotCarried> {
    let (seq, repair) = (frame.seq, "esker repair makes a store of what is there");
    let Some(kind) = frame.kind.and_then(|kind| dump.kind(kind)) else {
        let kind = frame.kind.map_or(0, |kind| kind.get());
        let what = format!("entry {seq} is of kind {kind}, which the log does not name any more; {repair}");
        return Err(NotCarried { fault: Fault::Damaged, what });
    };
    if !frame.is_plain() {
        let strange = "an operation, a flag or an extension that this build does not know";
        let what = format!("entry {seq} has {strange}; esker backup copies it as it is");
        return Err(NotCarried { fault: Fault::TooNew, what });
    }
    Ok(kind)
}

/// So many bytes of lines are written at once.
const TOGETHER: usize = 1 << 16;

fn line(out: &mut dyn Write, line: &impl Serialize) -> std::io::Result<()> {
    // At once: a writer is asked for each of its small pieces else.
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    out.write_all(&bytes)
}

impl Summary {
    /// Counts what is missing between one Seq and another.
    fn add_gap(&mut self, before: u64, next: u64) {
        if let Some(missing @ 1..) = next.checked_sub(before + 1) {
            self.gaps += 1;
            self.missing += missing;
        }
    }
}

/// How the log ends.
#[derive(Debug, Default)]
struct Last {
    seq: u64,
    forgot: bool,
}

/// What the newest segment with frames says: each of its frames names a Seq, and the first what was forgotten.
fn last(survey: &Survey) -> Result<Last> {
    let kinds = Dump::default();
    for segment in survey.log().rev() {
        let mut last = None::<Last>;
        let mut frames = survey.frames_of(segment).heads();
        while let Some(item) = frames.lend() {
            let Lent::Frame(frame) = item? else { continue };
            let last = last.get_or_insert_default();
            last.seq = last.seq.max(frame.seq);
            if let (true, Payload::Value(Value::Map(members))) = (frame.is_system(), kinds.payload(frame)) {
                last.forgot |= members.iter().any(|(name, value)| {
                    *name == Value::Text("forgot".to_owned()) && *value == Value::Bool(true)
                });
            }
        }
        if let Some(last) = last {
            return Ok(last);
        }
    }
    Ok(Last::default())
}
