//! Records that were set aside: copies in the streams `esker.dead` and `esker.parked`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backplane::{
    Append, Backplane, DEAD_STREAM, Filter, Offset, PARKED_STREAM, Stamp, Step, StreamRecord, WriterId,
};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::consumer::delivery::DeadLetter;
use crate::fold::consumer::progress::{self, Bytes, Identity, Parking, Progress, short};
use crate::fold::image::repeated;

/// A feed that ends is taken up so often, before all is read anew later.
const FEEDS_MAX: usize = 16;
/// What was acknowledged and is not delivered within this time is asked for again later.
const PATIENCE: Duration = Duration::from_secs(1);

/// A record and why it is here, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Copied {
    consumer: String,
    stream: String,
    key: Bytes,
    offset: u64,
    writer: Option<(u64, u64)>,
    schema: u16,
    time: i64,
    payload: Option<Bytes>,
    attempts: u32,
    cause: String,
    is_of_all_topics: bool,
    shard: Option<(u32, u32)>,
    /// Of one that was written again: the stamp of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Origin,
}

impl DeadLetter {
    pub(super) fn of(of: &Identity, record: &StreamRecord, attempts: u32, cause: &str) -> Self {
        Self {
            consumer: of.name.clone(),
            stream: of.stream.clone(),
            key: record.key().to_vec(),
            offset: record.offset(),
            stamp: record.stamp(),
            schema: record.schema(),
            time: record.time(),
            payload: Some(record.payload().to_vec()),
            attempts,
            cause: short(cause),
            is_of_all_topics: of.key.is_none(),
            shard: of.shard,
        }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let copied = Copied {
            consumer: self.consumer.clone(),
            stream: self.stream.clone(),
            key: Bytes(self.key.clone()),
            offset: self.offset.raw(),
            writer: self.stamp.map(|stamp| (stamp.writer.raw(), stamp.n)),
            schema: self.schema,
            time: self.time,
            payload: self.payload.clone().map(Bytes),
            attempts: self.attempts,
            cause: self.cause.clone(),
            is_of_all_topics: self.is_of_all_topics,
            shard: self.shard,
            origin: None,
        };
        let mut bytes = Vec::new();
        codec::encode(DEAD_STREAM, &copied, &mut bytes)?;
        Ok(bytes)
    }

    fn decode(record: &StreamRecord, filter: Filter<'_>) -> Result<Self> {
        let copied: Copied = codec::decode_bytes(record.payload()).map_err(|cause| {
            Error::corrupt(format!("read a record of {filter}"))
                .concerning(record.offset().raw())
                .because(cause)
        })?;
        Ok(Self {
            consumer: copied.consumer,
            stream: copied.stream,
            key: copied.key.0,
            offset: Offset::from_raw(copied.offset),
            stamp: copied.writer.map(|(writer, n)| Stamp::new(WriterId::from_raw(writer), n)),
            schema: copied.schema,
            time: copied.time,
            payload: copied.payload.map(|payload| payload.0),
            attempts: copied.attempts,
            cause: copied.cause,
            is_of_all_topics: copied.is_of_all_topics,
            shard: copied.shard,
        })
    }
}

/// True if a record of ours is a copy of one of a topic.
pub(super) fn is_copy_of(payload: &[u8], topic: Filter<'_>) -> bool {
    codec::decode_bytes::<Copied>(payload)
        .is_ok_and(|copied| copied.stream == topic.stream && Some(&*copied.key.0) == topic.key)
}

/// The stamp of what was written first: its writer, and the number.
type Origin = Option<(u64, u64)>;

/// A copy that is there under a stamp as it is written again, which says of which one it is; two that are of one are the same.
pub(super) fn again(payload: &[u8], stamp: Origin) -> Result<(Origin, Vec<u8>)> {
    let Ok(mut copied) = codec::decode_bytes::<Copied>(payload) else { return Ok((stamp, payload.to_vec())) };
    copied.origin = copied.origin.or(stamp);
    let mut bytes = Vec::new();
    codec::encode(DEAD_STREAM, &copied, &mut bytes)?;
    Ok((copied.origin, bytes))
}

/// The record again, as it was delivered: of one of which the payload was too large to be copied the one that is in its topic;
/// `None`: it is not there any more.
pub(super) fn record(plane: &dyn Backplane, letter: &DeadLetter) -> Result<Option<StreamRecord>> {
    if let Some(payload) = letter.payload.clone() {
        let record = StreamRecord::new(letter.offset, letter.stamp, letter.time, &*letter.key, payload);
        return Ok(Some(record.with_schema(letter.schema)));
    }
    let topic = Filter::topic(&letter.stream, &letter.key);
    if repeated(|| plane.head(topic))? < letter.offset {
        return Ok(None);
    }
    let before = Offset::from_raw(letter.offset.raw().saturating_sub(1));
    let mut feed = match repeated(|| plane.subscribe(topic, before)) {
        Err(error) if error.kind() == ErrorKind::Lost => return Ok(None),
        other => other?,
    };
    let found = feed.next_timeout(PATIENCE)?;
    // In another era it is another record that stands there.
    Ok(found.filter(|found| (found.offset(), found.stamp()) == (letter.offset, letter.stamp)))
}

/// The topic of a consumer's dead letters: its name.
fn dead_key(of: &Identity) -> &[u8] {
    of.name.as_bytes()
}

/// The topic of what is parked of an entity: each time that it is, another one.
fn parked_key(of: &Identity, parking: &Parking) -> [u8; 16] {
    of.mixed(b"parked", &[&parking.episode.to_le_bytes()[..], &parking.key.0].concat())
}

/// A step that writes a copy down. Whoever repeats it, in whichever process, comes to the same stamp, so that it is there once.
pub(super) struct Written {
    stream: &'static str,
    key: Vec<u8>,
    payload: Vec<u8>,
    stamp: Stamp,
}

impl Written {
    /// One writer a letter: of a commit that is done step by step one may be left that nobody counts.
    pub(super) fn dead(progress: &Progress, letter: &DeadLetter) -> Result<Self> {
        let (born, era) = (progress.born.to_le_bytes(), progress.era().raw().to_le_bytes());
        let place = [&born[..], &era, &letter.offset.raw().to_le_bytes(), &letter.key].concat();
        let writer = writer_of(progress.of.mixed(b"dead", &place));
        let (key, payload) = (dead_key(&progress.of).to_vec(), letter.encode()?);
        Ok(Self { stream: DEAD_STREAM, key, payload, stamp: Stamp::new(writer, 1) })
    }

    /// The next of those that are parked of an entity.
    pub(super) fn parked(of: &Identity, parking: &Parking, letter: &DeadLetter) -> Result<Self> {
        let key = parked_key(of, parking);
        let stamp = Stamp::new(writer_of(key), parking.copies.saturating_add(1));
        Ok(Self { stream: PARKED_STREAM, key: key.to_vec(), payload: letter.encode()?, stamp })
    }

    pub(super) fn step(&self) -> Step<'_> {
        Step::Append(Append::new(self.stream, &self.key, &self.payload, self.stamp))
    }
}

pub(super) fn writer_of(number: [u8; 16]) -> WriterId {
    let (half, _) = number.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    WriterId::from_raw(u64::from_le_bytes(*half))
}

/// Everything that is in a topic of ours behind an offset.
fn read_all(
    plane: &dyn Backplane,
    filter: Filter<'_>,
    behind: Offset,
    mut each: impl FnMut(&StreamRecord, DeadLetter) -> bool,
) -> Result<()> {
    let head = repeated(|| plane.head(filter))?;
    if head == Offset::BEGINNING {
        return Ok(());
    }
    let lowest = repeated(|| plane.lowest_retained(filter))?;
    // Behind the one before the oldest that there is.
    let mut last = Offset::from_raw(lowest.raw().saturating_sub(1)).max(behind);
    let mut feed = repeated(|| plane.subscribe(filter, last))?;
    let mut tries = FEEDS_MAX;
    while last < head {
        let record = match feed.next_timeout(PATIENCE) {
            Ok(Some(record)) => record,
            Ok(None) => {
                return Err(Error::new(ErrorKind::Disconnected, format!("read {filter}"))
                    .sides(format!("records up to {head}"), format!("none behind {last}")));
            }
            Err(error) if error.kind() == ErrorKind::Disconnected && tries > 0 => {
                tries -= 1;
                feed = repeated(|| plane.subscribe(filter, last))?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if record.offset() > last && filter.matches(record.key()) {
            last = record.offset();
            if !each(&record, DeadLetter::decode(&record, filter)?) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The dead letters of a consumer, oldest first.
pub(super) fn dead_letters(plane: &dyn Backplane, of: &Identity) -> Result<Vec<DeadLetter>> {
    let mut letters = Vec::new();
    each_dead_letter(plane, of, |letter| {
        letters.push(letter);
        true
    })?;
    Ok(letters)
}

/// The same one by one, until `each` answers false.
pub(super) fn each_dead_letter(
    plane: &dyn Backplane,
    of: &Identity,
    mut each: impl FnMut(DeadLetter) -> bool,
) -> Result<()> {
    read_all(plane, Filter::topic(DEAD_STREAM, dead_key(of)), Offset::BEGINNING, |_, letter| {
        // Others of the same name consume something else.
        let is_ours = (letter.is_of_all_topics, letter.shard) == (of.key.is_none(), of.shard);
        let is_ours = is_ours && letter.stream == of.stream && of.filter().matches(&letter.key);
        !is_ours || each(letter)
    })
}

/// Copies, each with its number.
type Numbered = Vec<(u64, DeadLetter)>;

/// Where the copies of an entity were read to: the number of the last, and its place.
#[derive(Clone, Copy)]
pub(super) struct ReadTo {
    episode: u64,
    n: u64,
    offset: Offset,
}

/// The next of those that are parked of an entity, in the order in which they came, up to so many; and where they end, for
/// who asks for those behind them when they are done.
pub(super) fn parked(
    plane: &dyn Backplane,
    of: &Identity,
    parking: &Parking,
    (most, read_to): (usize, Option<ReadTo>),
) -> Result<(Numbered, Option<ReadTo>)> {
    let key = parked_key(of, parking);
    let fits = |read_to: &ReadTo| (read_to.episode, read_to.n) == (parking.episode, parking.done);
    let behind = read_to.filter(fits).map_or(Offset::BEGINNING, |read_to| read_to.offset);
    let (mut letters, mut last) = (Numbered::new(), None);
    read_all(plane, Filter::topic(PARKED_STREAM, &key), behind, |copy, letter| {
        let n = copy.stamp().map_or(0, |stamp| stamp.n);
        // Behind them there may be one that was left by a commit of which the rest was not done.
        if n > parking.done && n <= parking.copies {
            letters.push((n, letter));
            last = Some(ReadTo { episode: parking.episode, n, offset: copy.offset() });
        }
        letters.len() < most
    })?;
    Ok((letters, last))
}

/// Gives up what is parked of an entity; answers whether there was any.
pub(super) fn discard(plane: &dyn Backplane, of: &Identity, key: &[u8]) -> Result<bool> {
    let mut gone = None;
    let is_changed = progress::change(plane, of, |progress| {
        gone = progress.parking(key).cloned();
        progress.parked.retain(|parking| parking.key.0 != key);
        gone.is_some()
    })?;
    if let Some(gone) = gone {
        forget_parked(plane, of, &gone);
    }
    Ok(is_changed)
}

/// Drops the copies of an entity, as far as the backplane can.
pub(super) fn forget_parked(plane: &dyn Backplane, of: &Identity, parking: &Parking) {
    let Some(compactor) = plane.compactor() else { return };
    let key = parked_key(of, parking);
    // Nobody reads them any more: what is left of them only takes space.
    let _ = repeated(|| compactor.compact(PARKED_STREAM, &key, Offset::from_raw(u64::MAX)));
}
