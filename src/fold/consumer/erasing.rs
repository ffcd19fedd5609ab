//! What consumers have written of a topic, for who erases it: copies of its events that were given up or set aside, and cells
//! that name its key or quote what a handler said of an event.
//!
//! | where | what goes |
//! | --- | --- |
//! | a cell with the place of a consumer of the stream | each state of it that names the key as parked, or says why an event of the topic failed; the newest is written anew without |
//! | a cell with the place of a consumer of this topic alone | all of it, once its events are gone: the consumer is retired |
//! | the cell that lists the consumers of this topic | all of it |
//! | a cell of these of which the newest state is damaged | what of it can be read |
//! | a topic of `esker.parked` | all of it: its records are of one entity |
//! | a topic of `esker.dead` | what stands there; the letters of others are written again behind it, in their order |
//!
//! Whatever is interrupted is found again: everything is looked for in the log itself, also what a floor hides or nobody comes to
//! any more, and what was written again is not written a third time. What a letter says decides, not who is known to have
//! written it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::backplane::local::cells;
use crate::backplane::{
    Append, Backplane, Compactor, DEAD_STREAM, Filter, Local, Offset, PARKED_STREAM, Pending, Stamp, Step,
    WriterId,
};
use crate::error::{Error, ErrorKind, Result};
use crate::fold::consumer::aside;
use crate::fold::consumer::progress::{self, Identity, Progress};
use crate::fold::image::key_of;
use crate::id::{KindId, Seq};
use crate::journal::Journal;
use crate::journal::entry::Entry;
use crate::journal::erasing::{Going, each_left};
use crate::journal::region::Region;
use crate::journal::registry::CELLS_NAME;
use crate::journal::view::View;

/// A consumer that writes of what is being erased, and does so again, is waited for so often.
const TRIES: u32 = 16;

/// Makes what consumers have written of a topic ready to go, and answers what it is.
///
/// While its events are not gone (`is_gone`) the consumers of it alone stay.
pub(crate) fn written_of(journal: &Journal, topic: Filter<'_>, is_gone: bool) -> Result<Vec<Going>> {
    let plane = Local::over(journal)?;
    // The cells first: who finds an entity parked goes for its copies.
    let mut going = cells_of(journal, &plane, topic, is_gone)?;
    going.extend(parked_of(journal, topic)?);
    going.extend(dead_of(journal, &plane, topic)?);
    Ok(going)
}

/// Goes over the entries of a kind. What cannot be read is of another topic, as far as anybody can know.
fn each_of(view: &View, kind: KindId, each: impl FnMut(&Entry<'_>) -> Result<()>) -> Result<()> {
    each_left(|behind| view.region_behind(&Region::Kind(kind), behind), 0, each)
}

/// What a cell says of a topic.
enum Said {
    Nothing,
    /// Of a consumer of the stream, who goes on without it.
    InPassing(Identity),
    /// Of these, who consume nothing else.
    OfItsOwn(Vec<Identity>),
}

/// A cell that has named the topic.
struct Named {
    /// The last time.
    last: Seq,
    /// What it says now.
    said: Said,
    newest: Seq,
    is_emptied: bool,
}

fn cells_of(journal: &Journal, plane: &Local, topic: Filter<'_>, is_gone: bool) -> Result<Vec<Going>> {
    let Some(kind) = journal.kind_named(CELLS_NAME) else { return Ok(Vec::new()) };
    // Of these nobody can read what they say now, and who they are of could not go on: what can be read of them goes.
    let mut damaged: BTreeSet<Vec<u8>> = BTreeSet::new();
    for _ in 0..TRIES {
        let (mut going, mut is_settled) = (Vec::new(), true);
        for (key, named) in cells_that_name(journal, plane, kind.id, topic)? {
            let is_damaged = damaged.contains(&key);
            match named.said {
                _ if is_damaged => {
                    let through = Some(named.newest);
                    going.push(Going { through, ..Going::all_of(kind.id, key) });
                }
                Said::InPassing(of) => {
                    is_settled = false;
                    unless_damaged(renounce(journal, plane, &of, topic), [key], &mut damaged)?;
                }
                // While its events are there they are still told, and it is still asked how far it has come.
                Said::OfItsOwn(consumers) if !is_gone && !consumers.is_empty() => {}
                Said::OfItsOwn(consumers) if !consumers.is_empty() => {
                    is_settled = false;
                    for of in &consumers {
                        let cells = [key.clone(), of.cell()];
                        unless_damaged(progress::retire(plane, of).map(drop), cells, &mut damaged)?;
                    }
                }
                // A list without names, or a cell that holds nothing any more, goes as a whole.
                Said::OfItsOwn(_) => {
                    going.push(Going { through: Some(named.newest), ..Going::all_of(kind.id, key) });
                }
                Said::Nothing => {
                    let last = if named.is_emptied { named.newest } else { named.last };
                    going.push(Going { through: Some(last), ..Going::all_of(kind.id, key) });
                }
            }
        }
        if is_settled {
            return Ok(going);
        }
    }
    Err(Error::new(ErrorKind::Conflict, format!("erase what consumers have written of {topic}"))
        .sides("cells that do not name it any more", format!("a consumer that writes of it, {TRIES} times"))
        .noting("close the consumers of the stream, and erase it again".to_owned()))
}

/// Takes note of cells of which what is written last is damaged.
fn unless_damaged(
    outcome: Result<()>,
    cells: impl IntoIterator<Item = Vec<u8>>,
    damaged: &mut BTreeSet<Vec<u8>>,
) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::Corrupt => damaged.extend(cells),
        other => return other,
    }
    Ok(())
}

/// The cells of consumers that name a topic, or have done so, as far as the log has what they said.
fn cells_that_name(
    journal: &Journal,
    plane: &Local,
    kind: KindId,
    topic: Filter<'_>,
) -> Result<BTreeMap<Vec<u8>, Named>> {
    let (view, [places, lists]) = (journal.view(), progress::prefixes());
    let subject =
        Subject { view: &view, stream: journal.kind_named(topic.stream).map(|of| of.id), plane, topic };
    let mut all: BTreeMap<Vec<u8>, Named> = BTreeMap::new();
    each_of(&view, kind, |entry| {
        let is_list = entry.key().starts_with(&lists);
        if !is_list && !entry.key().starts_with(&places) {
            return Ok(());
        }
        // Of what a later build wrote, or nobody, nothing is known.
        let Ok(bytes) = cells::value_of(entry) else { return Ok(()) };
        let said = match bytes {
            None => Said::Nothing,
            Some(bytes) if is_list => of_list(entry.key(), bytes, topic),
            Some(bytes) => of_place(entry.key(), bytes, &subject)?,
        };
        let names_it = !matches!(said, Said::Nothing);
        match all.get_mut(entry.key()) {
            Some(named) => {
                named.last = if names_it { entry.seq() } else { named.last };
                (named.said, named.newest, named.is_emptied) = (said, entry.seq(), bytes.is_none());
            }
            None if names_it => {
                let named = Named { last: entry.seq(), said, newest: entry.seq(), is_emptied: false };
                all.insert(entry.key().to_vec(), named);
            }
            None => {}
        }
        Ok(())
    })?;
    Ok(all)
}

fn of_list(key: &[u8], bytes: &[u8], topic: Filter<'_>) -> Said {
    match progress::list_of(key, bytes) {
        Ok((of, consumers)) if of.filter() == topic => Said::OfItsOwn(consumers),
        _ => Said::Nothing,
    }
}

fn of_place(key: &[u8], bytes: &[u8], subject: &Subject<'_>) -> Result<Said> {
    let Ok(progress) = progress::read_cell(key, bytes) else { return Ok(Said::Nothing) };
    let topic = subject.topic;
    if progress.of.filter() == topic {
        return Ok(Said::OfItsOwn(vec![progress.of]));
    }
    let is_of_all = progress.of.filter() == Filter::stream(topic.stream);
    Ok(if is_of_all && subject.is_named_by(&progress)? {
        Said::InPassing(progress.of)
    } else {
        Said::Nothing
    })
}

/// A topic in a journal, of which a consumer of its stream may say something.
struct Subject<'v> {
    view: &'v View,
    /// The kind of the stream, if there is one.
    stream: Option<KindId>,
    plane: &'v Local,
    topic: Filter<'v>,
}

impl Subject<'_> {
    fn is_named_by(&self, progress: &Progress) -> Result<bool> {
        let key = self.topic.key.unwrap_or_default();
        Ok(progress.parking(key).is_some() || self.is_of_its_failure(progress)?)
    }

    /// True if the cause may be one of an event of the topic: what is not there any more may have been one.
    fn is_of_its_failure(&self, progress: &Progress) -> Result<bool> {
        let Some(at) = progress.fails_at().and_then(|at| Seq::new(at.raw())) else { return Ok(false) };
        if progress.era() != self.plane.era()? {
            return Ok(true);
        }
        match self.view.get(at) {
            Ok(Some(entry)) => {
                let is_of_stream = Some(entry.kind()) == self.stream;
                Ok(!is_of_stream || Some(entry.key()) == self.topic.key)
            }
            Ok(None) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::Compacted | ErrorKind::Corrupt) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Takes out of the place of a consumer what names a topic.
fn renounce(journal: &Journal, plane: &Local, of: &Identity, topic: Filter<'_>) -> Result<()> {
    let view = journal.view();
    let subject =
        Subject { view: &view, stream: journal.kind_named(topic.stream).map(|of| of.id), plane, topic };
    let mut judged = Ok(());
    progress::change(plane, of, |progress| {
        let is_of_its_failure = subject.is_of_its_failure(progress).unwrap_or_else(|error| {
            judged = Err(error);
            false
        });
        let before = progress.parked.len();
        progress.parked.retain(|parking| Some(&*parking.key.0) != topic.key);
        if is_of_its_failure {
            progress.forget_cause();
        }
        is_of_its_failure || progress.parked.len() < before
    })?;
    judged
}

/// The topics of what is parked of an entity, whoever parked it, also what was retried or given up since.
fn parked_of(journal: &Journal, topic: Filter<'_>) -> Result<Vec<Going>> {
    let Some(kind) = journal.kind_named(PARKED_STREAM) else { return Ok(Vec::new()) };
    let mut keys = BTreeSet::new();
    each_of(&journal.view(), kind.id, |entry| {
        if !keys.contains(entry.key()) && aside::is_copy_of(entry.payload(), topic) {
            keys.insert(entry.key().to_vec());
        }
        Ok(())
    })?;
    Ok(keys.into_iter().map(|key| Going::all_of(kind.id, key)).collect())
}

fn dead_of(journal: &Journal, plane: &Local, topic: Filter<'_>) -> Result<Vec<Going>> {
    let Some(kind) = journal.kind_named(DEAD_STREAM) else { return Ok(Vec::new()) };
    let view = journal.view();
    // By the name of the consumers: the last of the letters that are of the topic.
    let mut last: BTreeMap<Vec<u8>, Seq> = BTreeMap::new();
    each_of(&view, kind.id, |entry| {
        if aside::is_copy_of(entry.payload(), topic) {
            last.insert(entry.key().to_vec(), entry.seq());
        }
        Ok(())
    })?;
    let of = |(key, last): (Vec<u8>, Seq)| {
        let through = leave_letters(journal, plane, (kind.id, &key), last, topic)?;
        Ok(Going { through: Some(through), ..Going::all_of(kind.id, key) })
    };
    last.into_iter().map(of).collect()
}

/// Writes the letters of others in a topic again behind all that is there, which is hidden then; answers up to where it goes.
///
/// A process that ends in between leaves some of them twice, until this is done again. All are written then, under other stamps: those
/// that were written the time before go too. What came in between would stand before those that are older: then all are written
/// behind it once more.
fn leave_letters(
    journal: &Journal,
    plane: &Local,
    (kind, key): (KindId, &[u8]),
    last: Seq,
    topic: Filter<'_>,
) -> Result<Seq> {
    let shown_from = plane.floor(Filter::topic(DEAD_STREAM, key))?;
    if Offset::from_raw(last.get()) < shown_from {
        return Ok(last);
    }
    let mut through = last;
    for _ in 0..TRIES {
        let view = journal.view();
        through = newest_of(&view, kind, key, last)?;
        let (mut written, mut end) = (HashSet::new(), None);
        // Entry by entry, and not the history as a whole: that has no beginning where a letter was erased before.
        let from = shown_from.raw().saturating_sub(1);
        each_left(
            |behind| view.entity_behind(kind, key, behind),
            from,
            |entry| {
                if aside::is_copy_of(entry.payload(), topic) {
                    return Ok(());
                }
                let again = Again::of(entry, through)?;
                if written.insert(again.writer()) {
                    end = Some(again.write(plane, key)?);
                }
                Ok(())
            },
        )?;
        let Some(end) = end else { return Ok(through) };
        end.wait_durable()?;
        if are_next_to_each_other(&journal.view(), (kind, key), through, &written)? {
            break;
        }
    }
    plane.compact(DEAD_STREAM, key, Offset::from_raw(through.get().saturating_add(1)))?;
    Ok(through)
}

/// The newest that there is, damaged or not.
fn newest_of(view: &View, kind: KindId, key: &[u8], known: Seq) -> Result<Seq> {
    match view.latest(kind, key) {
        Ok(newest) => Ok(newest.map_or(known, |newest| newest.seq())),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            let damaged = error.seqs().and_then(|seqs| Seq::new(*seqs.end()));
            damaged.map(|damaged| damaged.max(known)).ok_or(error)
        }
        Err(error) => Err(error),
    }
}

/// True if nothing came between the letters that were written again.
fn are_next_to_each_other(
    view: &View,
    (kind, key): (KindId, &[u8]),
    through: Seq,
    written: &HashSet<WriterId>,
) -> Result<bool> {
    let (mut left, mut are) = (written.len(), true);
    each_left(
        |behind| view.entity_behind(kind, key, behind),
        through.get(),
        |entry| {
            let is_one =
                entry.stamp().is_some_and(|stamp| written.contains(&WriterId::from_raw(stamp.writer)));
            are &= is_one || left == 0;
            left = left.saturating_sub(usize::from(is_one));
            Ok(())
        },
    )?;
    Ok(are)
}

/// A letter that is written again.
struct Again {
    payload: Vec<u8>,
    /// As it stands there now.
    before: Vec<u8>,
    name: [u8; 16],
}

impl Again {
    fn of(entry: &Entry<'_>, through: Seq) -> Result<Self> {
        let stamp = entry.stamp().map(|stamp| (stamp.writer, stamp.n));
        let (origin, payload) = aside::again(entry.payload(), stamp)?;
        let (writer, n) = origin.unwrap_or_default();
        let parts = [through.get().to_le_bytes(), writer.to_le_bytes(), n.to_le_bytes()].concat();
        let name = key_of(b"dead again", &[entry.key(), &parts, &payload]);
        Ok(Self { payload, before: entry.payload().to_vec(), name })
    }

    fn writer(&self) -> WriterId {
        aside::writer_of(self.name)
    }

    fn write(&self, plane: &Local, key: &[u8]) -> Result<Pending> {
        let append = |payload| {
            let append = Append::new(DEAD_STREAM, key, payload, Stamp::new(self.writer(), 1));
            plane.commit_nowait(&[Step::Append(append)])
        };
        match append(&self.payload) {
            // With its origin there is no room for it.
            Err(error) if matches!(error.kind(), ErrorKind::BatchTooLarge | ErrorKind::InvalidInput) => {
                append(&self.before)
            }
            other => other,
        }
    }
}
