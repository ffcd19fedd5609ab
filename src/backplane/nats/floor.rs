//! Floors: from where on a topic is there.
//!
//! A floor is a key of the bucket, and it is stored before anything is dropped: whoever finds records missing below it knows
//! why. A crash in between leaves records below a floor, which nobody is shown; the next compaction drops them.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::task::{JoinError, JoinSet};

use crate::backplane::name::{Era, Filter, Offset, lost};
use crate::backplane::nats::message::Raw;
use crate::backplane::nats::server::{Consume, Published, Server, unreachable};
use crate::error::{Error, ErrorKind, Result};

/// So many messages are on their way out at a time.
const DELETES_AT_A_TIME: usize = 64;

/// From where on a topic is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Floor {
    /// The first record that is left; 0: nothing was dropped.
    pub(super) first: u64,
    /// The last that was dropped.
    pub(super) hidden: u64,
}

/// A topic, by stream and key.
type Topic = (String, Vec<u8>);

/// The floors that this process has set or seen, of the era that it saw last.
#[derive(Debug, Default)]
pub(super) struct Floors {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// `None`: none was seen.
    era: Option<Era>,
    floors: HashMap<Topic, Floor>,
}

impl Floor {
    fn encode(self, era: Era) -> Vec<u8> {
        format!("{era} {} {}", self.first, self.hidden).into_bytes()
    }

    /// `None`: it is none. Of another era it says nothing.
    fn decode(bytes: &[u8], era: Era) -> Option<Self> {
        let mut words = std::str::from_utf8(bytes).ok()?.split(' ');
        let of_era = u128::from_str_radix(words.next()?, 16).ok()?;
        let floor = Self { first: words.next()?.parse().ok()?, hidden: words.next()?.parse().ok()? };
        if words.next().is_some() || floor.hidden >= floor.first {
            return None;
        }
        Some(if of_era == era.raw() { floor } else { Self::default() })
    }
}

impl Floors {
    /// A floor of another era says nothing: its numbers are of other records.
    pub(super) fn of(&self, era: Era, stream: &str, key: &[u8]) -> Floor {
        let known = self.known.lock();
        if known.era != Some(era) || known.floors.is_empty() {
            return Floor::default();
        }
        known.floors.get(&(stream.to_owned(), key.to_vec())).copied().unwrap_or_default()
    }

    /// Takes in a floor, of the era that the server has just told.
    pub(super) fn raise(&self, era: Era, stream: &str, key: &[u8], floor: Floor) {
        let mut known = self.known.lock();
        if known.era != Some(era) {
            *known = Known { era: Some(era), floors: HashMap::new() };
        }
        if floor.first == 0 {
            return;
        }
        let entry = known.floors.entry((stream.to_owned(), key.to_vec())).or_default();
        if floor.first > entry.first {
            *entry = floor;
        }
    }

    /// A topic of which something behind an offset was dropped is lost to whoever stands there.
    pub(super) fn check_not_lost(&self, era: Era, filter: Filter<'_>, from: Offset) -> Result<()> {
        let Some(key) = filter.key else { return Ok(()) };
        let floor = self.of(era, filter.stream, key);
        if from.raw() < floor.hidden {
            Err(lost(filter, from, Offset::from_raw(floor.first)))
        } else {
            Ok(())
        }
    }
}

/// A floor, and the revision of its key.
struct Stored {
    floor: Floor,
    revision: u64,
}

async fn stored(server: &Server, era: Era, stream: &str, key: &[u8]) -> Result<Stored> {
    let subject = server.names.floor(stream, key);
    let Some(message) = server.last(&server.names.cells(), &subject).await? else {
        return Ok(Stored { floor: Floor::default(), revision: 0 });
    };
    let floor = match Raw::of(&message).cell().bytes {
        None => Floor::default(),
        Some(bytes) => Floor::decode(&bytes, era).ok_or_else(|| {
            Error::corrupt(format!("read the floor of {}", Filter::topic(stream, key)))
                .sides("an era and two numbers", format!("{:?}", String::from_utf8_lossy(&bytes)))
        })?,
    };
    Ok(Stored { floor, revision: message.sequence })
}

/// The floor of a topic, asked of the leader.
pub(super) async fn floor_of(
    server: &Server,
    floors: &Floors,
    era: Era,
    stream: &str,
    key: &[u8],
) -> Result<Floor> {
    let Stored { floor, .. } = stored(server, era, stream, key).await?;
    floors.raise(era, stream, key, floor);
    Ok(floor)
}

/// Stores a floor, unless one that is as high is there. Answers the one that counts.
async fn store(server: &Server, era: Era, stream: &str, key: &[u8], floor: Floor) -> Result<Floor> {
    loop {
        let before = stored(server, era, stream, key).await?;
        if before.floor.first >= floor.first {
            return Ok(before.floor);
        }
        // Behind the look at what it replaces: a floor of a later era would have been that.
        check_era(server, era).await?;
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", before.revision.to_string());
        let subject = server.names.floor(stream, key);
        let published = server.publish(&server.names.cells(), subject, headers, floor.encode(era)).await?;
        if matches!(published, Published::Stored(..)) {
            return Ok(floor);
        }
    }
}

/// Refuses what was meant for another era than the one that it is.
async fn check_era(server: &Server, era: Era) -> Result<()> {
    let found = server.era().await?;
    if found == era {
        return Ok(());
    }
    Err(Error::new(ErrorKind::EraChanged, "compact a topic")
        .sides(format!("era {era}"), format!("era {found}")))
}

/// Drops the records of a topic before an offset, but never its newest. Answers the floor, once it is stored and the rest is
/// gone.
pub(super) async fn compact(
    server: &Server,
    era: Era,
    stream: &str,
    key: &[u8],
    before: Offset,
) -> Result<Floor> {
    check_era(server, era).await?;
    let subject = server.names.topic(stream, key);
    let known = stored(server, era, stream, key).await?.floor;
    let head = server.last(&server.names.stream, &subject).await?.map_or(0, |message| message.sequence);
    let target = before.raw().min(head);
    let found = find_floor(server, &subject, known, target).await?;
    let floor = if found.first > known.first { store(server, era, stream, key, found).await? } else { known };
    // Also where the floor is as it was: whoever set it may not have come to the end of this.
    drop_below(server, &subject, floor.first).await?;
    Ok(floor)
}

/// Drops what a subject has before a number, message by message: where the server purges a subject it moves every consumer
/// that reads it, also among others, and these then miss records of other topics.
async fn drop_below(server: &Server, subject: &str, first: u64) -> Result<()> {
    let oldest = server.next(&server.names.stream, subject, 1).await?;
    let Some(oldest) = oldest.filter(|oldest| oldest.sequence < first) else { return Ok(()) };
    let consume = Consume { from: oldest.sequence, headers_only: true };
    let mut consumer = server.consume(subject, consume).await?;
    let mut deletes = JoinSet::new();
    while consumer.pending > 0 {
        let sequence = consumer.next().await?.sequence;
        if sequence >= first {
            break;
        }
        if deletes.len() >= DELETES_AT_A_TIME {
            joined(deletes.join_next().await)?;
        }
        deletes.spawn(server.clone().delete(sequence));
    }
    while let Some(done) = deletes.join_next().await {
        joined(Some(done))?;
    }
    consumer.forget().await;
    Ok(())
}

fn joined(done: Option<Result<Result<()>, JoinError>>) -> Result<()> {
    done.map_or(Ok(()), |done| done.unwrap_or_else(|cause| Err(unreachable("delete messages", cause))))
}

/// The first record from a number on, and the one before it; nothing if there is none before it.
async fn find_floor(server: &Server, subject: &str, known: Floor, target: u64) -> Result<Floor> {
    let from = known.first.max(1);
    if target <= from {
        return Ok(Floor::default());
    }
    let first = server.next(&server.names.stream, subject, from).await?;
    if first.is_none_or(|first| first.sequence >= target) {
        return Ok(Floor::default());
    }
    let mut consumer = server.consume(subject, Consume { from, headers_only: true }).await?;
    let mut hidden = 0;
    while consumer.pending > 0 {
        let sequence = consumer.next().await?.sequence;
        if sequence >= target {
            consumer.forget().await;
            return Ok(Floor { first: sequence, hidden });
        }
        hidden = sequence;
    }
    // Somebody has dropped the newest one, which no compaction does.
    Err(unreachable(format!("compact {subject}"), format!("there is nothing from {target} on any more")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_of_one_era_and_what_is_none_is_told() {
        let (era, floor) = (Era::from_raw(u128::MAX - 1), Floor { first: 9, hidden: 4 });
        let bytes = floor.encode(era);
        assert_eq!(Floor::decode(&bytes, era), Some(floor));
        assert_eq!(Floor::decode(&bytes, Era::from_raw(3)), Some(Floor::default()));
        for bad in [&b""[..], b"\xff 1 0", b"0 9", b"0 9 9", b"0 9 4 1", b"0 x 4", b"0 -9 4"] {
            assert_eq!(Floor::decode(bad, era), None, "{bad:?}");
        }
    }

    #[test]
    fn floors_only_rise_and_whoever_stands_right_below_one_has_lost_nothing() {
        let (floors, era) = (Floors::default(), Era::from_raw(7));
        let topic = Filter::topic("s", b"k");
        floors.raise(era, "s", b"k", Floor { first: 9, hidden: 4 });
        floors.raise(era, "s", b"k", Floor { first: 5, hidden: 3 });
        assert_eq!(floors.of(era, "s", b"k").first, 9);
        floors.check_not_lost(era, topic, Offset::from_raw(4)).unwrap();
        let error = floors.check_not_lost(era, topic, Offset::from_raw(3)).unwrap_err();
        assert_eq!(error.floor(), Some(9));
        floors.check_not_lost(era, Filter::stream("s"), Offset::BEGINNING).unwrap();
    }

    #[test]
    fn a_floor_counts_in_its_era_and_a_topic_without_one_is_not_kept() {
        let (floors, era, next) = (Floors::default(), Era::from_raw(7), Era::from_raw(8));
        floors.raise(era, "s", b"k", Floor { first: 9, hidden: 4 });
        floors.check_not_lost(next, Filter::topic("s", b"k"), Offset::BEGINNING).unwrap();
        assert_eq!(floors.of(next, "s", b"k"), Floor::default());
        floors.raise(next, "s", b"other", Floor::default());
        assert_eq!(floors.of(era, "s", b"k"), Floor::default(), "what was known of the era before is gone");
        assert!(floors.known.lock().floors.is_empty());
    }
}
