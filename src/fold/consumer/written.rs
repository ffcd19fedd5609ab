//! Consumers by what is written of them, for who has no handle of any: the tool, and whoever watches from outside.

use crate::backplane::{Backplane, Filter, Offset, ReadOnly, WriterId, WrittenCell};
use crate::error::Result;
use crate::fold::consumer::aside;
use crate::fold::consumer::delivery::DeadLetter;
use crate::fold::consumer::info::{ConsumerInfo, ParkedEntity};
use crate::fold::consumer::progress::{self, Bytes, Identity, Progress};
use crate::fold::consumer::working::is_of_shard;

/// So many parked records are in hand at a time.
const PARKED_AT_A_TIME: usize = 32;

/// A consumer, whether it runs or not, as it is written on a backplane; and what somebody else than its process may change
/// of it, on a backplane that is [written](crate::backplane::Local). One that runs takes such a change in with its next turn.
///
/// ```
/// use esker::backplane::ReadOnly;
/// use esker::{ConsumerOptions, Delivery, Reader, Store, Topic, WrittenConsumer};
/// # fn main() -> esker::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("shop.esker");
/// const ORDERS: Topic<String> = Topic::new("order");
/// let store = Store::open(&path)?;
/// let order = store.topic(ORDERS, "8812")?;
/// let shipping = order.on_event("ship", ConsumerOptions::new(), |_: &Delivery<'_, String>| Ok(()))?;
///
/// let plane = ReadOnly::of(&Reader::open(&path)?)?;            // beside the writer
/// let all: Vec<WrittenConsumer> = WrittenConsumer::all(&plane).collect::<esker::Result<_>>()?;
/// assert_eq!((&*all[0].info.name, &*all[0].stream, all[0].key.as_deref()), ("ship", "order", Some(&b"8812"[..])));
/// shipping.close()?;
/// assert!(all[0].retire(&**store.backplane()?)?);
/// # store.close() }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrittenConsumer {
    /// The stream that it consumes.
    pub stream: String,
    /// The topic; `None`: all topics of the stream.
    pub key: Option<Vec<u8>>,
    /// What is written of it.
    pub info: ConsumerInfo,
    /// Who runs it, or ended without a word: the number of the handle.
    pub open_by: Option<WriterId>,
    /// The entities of which records are parked.
    pub parked: Vec<ParkedEntity>,
    /// When it was written last, in nanoseconds since 1970; `None`: that is not known, or it has not begun.
    pub written: Option<i64>,
    of: Identity,
}

impl WrittenConsumer {
    /// All consumers of a store: those that have begun, in the order in which they were last written, then those that are
    /// listed and have not. It walks over the cells as [`ReadOnly::cells`] does, and tells what cannot be read as that does.
    pub fn all(plane: &ReadOnly) -> impl Iterator<Item = Result<Self>> + '_ {
        let [cells, lists] = progress::prefixes();
        let begun = plane.cells_beginning(&cells).filter_map(|cell| Self::of_cell(cell).transpose());
        // The lists behind the cells: the lists are many only where the consumers are.
        let listed = plane.cells_beginning(&lists).flat_map(move |cell| Self::not_begun(plane, cell));
        begun.chain(listed)
    }

    /// Those of a topic, with those of its whole stream; without a key those of all topics.
    ///
    /// # Errors
    ///
    /// As [`load`](Backplane::load); `Corrupt`, `FormatTooNew`.
    pub fn of(plane: &dyn Backplane, filter: Filter<'_>) -> Result<Vec<Self>> {
        let all = progress::all_concerned(plane, filter)?;
        Ok(all
            .into_iter()
            .map(|(of, known)| Self::new(of, known.map(|known| known.progress), None))
            .collect())
    }

    fn of_cell(cell: Result<WrittenCell>) -> Result<Option<Self>> {
        let cell = cell?;
        // One without a value is of a consumer that was retired.
        let Some(bytes) = &cell.bytes else { return Ok(None) };
        let progress = progress::read_cell(&cell.key, bytes)?;
        Ok(Some(Self::new(progress.of.clone(), Some(progress), Some(cell.time))))
    }

    fn not_begun(plane: &ReadOnly, cell: Result<WrittenCell>) -> Vec<Result<Self>> {
        let listed = cell.and_then(|cell| match &cell.bytes {
            Some(bytes) => progress::read_list(&cell.key, bytes),
            None => Ok(Vec::new()),
        });
        let has_begun = |of: &Identity| match progress::load(plane, of) {
            Ok(known) => known.is_some(),
            // Its own cell said so.
            Err(_) => true,
        };
        match listed {
            Ok(listed) => {
                let waiting = listed.into_iter().filter(|of| !has_begun(of));
                waiting.map(|of| Ok(Self::new(of, None, None))).collect()
            }
            Err(error) => vec![Err(error)],
        }
    }

    fn new(of: Identity, progress: Option<Progress>, written: Option<i64>) -> Self {
        let parked = progress.as_ref().map_or(&[][..], |progress| &progress.parked);
        Self {
            stream: of.stream.clone(),
            key: of.key.clone().map(|Bytes(key)| key),
            info: ConsumerInfo::of_progress(of.clone(), progress.as_ref()),
            open_by: progress.as_ref().and_then(|progress| progress.open).map(WriterId::from_raw),
            parked: parked.iter().map(ParkedEntity::of).collect(),
            written,
            of,
        }
    }

    /// What it consumes.
    #[must_use]
    pub fn filter(&self) -> Filter<'_> {
        self.of.filter()
    }

    /// True if the records of this key are its own, of all those of the [stream](Self::stream).
    #[must_use]
    pub fn consumes(&self, key: &[u8]) -> bool {
        self.filter().matches(key) && is_of_shard(self.of.shard, key)
    }

    /// Its dead letters in the built-in stream, the oldest first, until `each` answers false.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Backplane::subscribe); `Corrupt`.
    pub fn dead_letters(&self, plane: &dyn Backplane, each: impl FnMut(DeadLetter) -> bool) -> Result<()> {
        aside::each_dead_letter(plane, &self.of, each)
    }

    /// The records that are parked of an entity, in order, until `each` answers false.
    ///
    /// # Errors
    ///
    /// As [`dead_letters`](Self::dead_letters).
    pub fn parked_records(
        &self,
        plane: &dyn Backplane,
        key: &[u8],
        mut each: impl FnMut(DeadLetter) -> bool,
    ) -> Result<()> {
        let known = progress::load(plane, &self.of)?;
        let Some(mut parking) = known.as_ref().and_then(|known| known.progress.parking(key)).cloned() else {
            return Ok(());
        };
        let mut read_to = None;
        loop {
            let (letters, last) = aside::parked(plane, &self.of, &parking, (PARKED_AT_A_TIME, read_to))?;
            let Some((n, _)) = letters.last() else { return Ok(()) };
            (parking.done, read_to) = (*n, last);
            for (_, letter) in letters {
                if !each(letter) {
                    return Ok(());
                }
            }
        }
    }

    /// Lets it go on that is suspended. Answers whether it was.
    ///
    /// # Errors
    ///
    /// What [`load`](Backplane::load) and [`commit`](Backplane::commit) answer.
    pub fn resume(&self, plane: &dyn Backplane) -> Result<bool> {
        progress::change(plane, &self.of, Progress::resume)
    }

    /// Has the parked records of an entity tried again, in order, when the consumer runs. Answers whether there are any.
    ///
    /// # Errors
    ///
    /// As [`resume`](Self::resume).
    pub fn retry(&self, plane: &dyn Backplane, key: &[u8]) -> Result<bool> {
        progress::change(plane, &self.of, |progress| progress.retry(key))
    }

    /// Gives the parked records of an entity up; what comes of it is delivered. Answers whether there were any.
    ///
    /// # Errors
    ///
    /// As [`resume`](Self::resume).
    pub fn discard(&self, plane: &dyn Backplane, key: &[u8]) -> Result<bool> {
        aside::discard(plane, &self.of, key)
    }

    /// Forgets it: compaction keeps nothing for it any more, and what is parked is not tried again. Answers whether there was one.
    ///
    /// # Errors
    ///
    /// As [`resume`](Self::resume).
    pub fn retire(&self, plane: &dyn Backplane) -> Result<bool> {
        progress::retire(plane, &self.of)
    }

    /// The first record that it may still need: compaction keeps it and what is behind it. [`Offset::BEGINNING`] for one that has
    /// not begun.
    #[must_use]
    pub fn needs_from(&self) -> Offset {
        match self.info.era {
            Some(_) => Offset::from_raw(self.info.position.raw().saturating_add(1)),
            None => Offset::BEGINNING,
        }
    }
}
