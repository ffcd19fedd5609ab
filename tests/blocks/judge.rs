//! The oracle: what a store must be, given what is known of it.

use std::path::Path;

use esker::{Check, ErrorKind, Journal, Reader, Verdict, View};

use super::known::{JUDGE, Known, WRITERS, Written};
use super::workload::{CURSOR, Marks, append, entries, key, options, payload};

type Judgement<T> = Result<T, String>;

fn text(error: esker::Error) -> String {
    error.to_string()
}

/// Opens what a power cut left, reads it, goes on, closes it and opens it again. Answers what kind of opening it was.
pub(crate) fn judge(store: &Path, marks: &Marks, known: &Known) -> Judgement<&'static str> {
    let journal = match options().background(false).open_existing(store) {
        Ok(journal) => journal,
        Err(error) if !known.is_opened && is_nothing(error.kind()) => return Ok("nothing"),
        Err(error) => return Err(format!("opening: {error}")),
    };
    let report = journal.recovery();
    let class = if report.clean {
        "clean"
    } else if report.cut > 0 || report.valid_after_hole > 0 {
        "torn"
    } else {
        "unclean"
    };
    let mut found = whole(&journal, known)?;
    // What was shown once is durable: a power cut of this life is judged by it.
    marks.mark(&format!("all {found}"));
    beside(store, known, &found)?;
    let count = found.writers[JUDGE].acknowledged + 1;
    let seq = append(&journal, marks, JUDGE, count).map_err(|error| format!("the next life: {error}"))?;
    marks.mark(&format!("ack {JUDGE} {count} {seq}"));
    found.writers[JUDGE] = Written { begun: count, acknowledged: count, seq };
    found.seen = seq;
    journal.close().map_err(|error| format!("closing: {error}"))?;
    let verified = esker::verify(store, Check::Full).map_err(text)?;
    if verified.verdict != Verdict::Valid {
        return Err(format!("verify: {:#?}", verified.findings));
    }
    let journal = options().background(false).open_existing(store).map_err(|e| format!("again: {e}"))?;
    let again = whole(&journal, &found).map_err(|what| format!("again: {what}"))?;
    if !journal.recovery().clean || again.writers != found.writers {
        return Err(format!("a second opening found {again} where {found} was: {:?}", journal.recovery()));
    }
    journal.close().map_err(|error| format!("closing again: {error}"))?;
    Ok(class)
}

const fn is_nothing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotAStore)
}

/// A reader beside the writer finds the same.
fn beside(store: &Path, known: &Known, found: &Known) -> Judgement<()> {
    let reader = Reader::open(store).map_err(|error| format!("a reader: {error}"))?;
    let view = reader.view().map_err(text)?;
    let (beside, _) = read(&view, known).map_err(|what| format!("a reader: {what}"))?;
    if beside == found.writers { Ok(()) } else { Err(format!("a reader finds {beside:?} where {found} is")) }
}

/// All that must hold of what is there; answers it, as what is known from here on.
pub(crate) fn whole(journal: &Journal, known: &Known) -> Judgement<Known> {
    let (writers, end) = read(&journal.view(), known)?;
    if end < known.seen {
        return Err(format!("the log ends with {end}, and {} was shown", known.seen));
    }
    let cursors = journal.cursors().map_err(text)?;
    let cursor = cursors.iter().find(|cursor| cursor.name == CURSOR);
    let cursor = cursor.and_then(|cursor| cursor.seq).map_or(0, |seq| seq.get());
    if !(known.cursor..=end).contains(&cursor) {
        return Err(format!(
            "the cursor is at {cursor}; it was put to {}, and the log ends with {end}",
            known.cursor
        ));
    }
    Ok(Known { is_opened: true, writers, cursor, seen: end })
}

/// Every entry is the one that was written, in whole batches, none is missing, and none is too many.
fn read(view: &View, known: &Known) -> Judgement<([Written; WRITERS], u64)> {
    let mut there = [Written::default(); WRITERS];
    let mut cells = [(0, 0); WRITERS];
    let mut ended = [0; WRITERS];
    // Of the batch that is open.
    let mut indices = [0; WRITERS];
    let mut end = 0;
    for entry in view.range(..) {
        let entry = entry.map_err(|error| format!("behind {end}: {error}"))?;
        let seq = entry.seq().get();
        if seq <= end {
            return Err(format!("{seq} comes behind {end}"));
        }
        end = seq;
        let bytes = entry.payload();
        let Some((count, [writer, index])) = head(bytes) else { return Err(format!("{seq} is {bytes:?}")) };
        let writer_at = usize::from(writer);
        let is_right = writer_at < WRITERS
            && entry.key() == key(writer_at)
            && bytes == payload(writer_at, count, u64::from(index));
        if !is_right {
            return Err(format!("{seq}, {count} of {writer}, is what nobody wrote"));
        }
        let last = entries(count);
        if u64::from(index) == last {
            if ended[writer_at] == count {
                return Err(format!(
                    "{seq}, the cell of {count} of {writer}, comes behind the end of its batch"
                ));
            }
            cells[writer_at] = (count, seq);
            continue;
        }
        let (before, next) = (there[writer_at].acknowledged, &mut indices[writer_at]);
        let expected = if *next == 0 { before + 1 } else { before };
        if count != expected || u64::from(index) != *next {
            return Err(format!("{seq} is {count}/{index} of {writer} where {expected}/{next} has to come"));
        }
        there[writer_at].acknowledged = count;
        *next = (*next + 1) % last;
        if !entry.has_more() {
            // So it stands where compaction has dropped the cell, for a newer one.
            ended[writer_at] = count;
            if u64::from(index) + 1 != last {
                return Err(format!("{seq} ends a batch before its cell"));
            }
        }
    }
    for (writer, there) in there.iter_mut().enumerate() {
        let known = known.writers[writer];
        let count = there.acknowledged;
        if !(known.acknowledged..=known.begun).contains(&count) {
            return Err(format!("of {writer} there are {count} batches, and it is {known:?}"));
        }
        // The newest of a cell is never dropped.
        if cells[writer].0 != count || indices[writer] != 0 {
            return Err(format!("{count} of {writer} is a part of a batch: {:?}", cells[writer]));
        }
        if count == known.acknowledged && count > 0 && known.seq != cells[writer].1 {
            return Err(format!("{count} of {writer} is now {}, and was {}", cells[writer].1, known.seq));
        }
        (there.begun, there.seq) = (count, cells[writer].1);
    }
    let newest = view.last_seq().map_err(text)?.map_or(0, |seq| seq.get());
    if newest == end { Ok((there, end)) } else { Err(format!("the log ends with {newest} and shows {end}")) }
}

fn head(payload: &[u8]) -> Option<(u64, [u8; 2])> {
    Some((u64::from_le_bytes(payload.get(..8)?.try_into().ok()?), payload.get(8..10)?.try_into().ok()?))
}
