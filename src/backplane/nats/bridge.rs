//! A bridge: the facts of a journal, copied to a stream, one way.
//!
//! Each fact is a record of the topic of its kind and key, with its bytes and version, and says where it is from. Who appends it
//! is the journal: a writer made of its identity and era, which counts in each topic as any writer does. What has come into
//! the journal from a stream to which a bridge copied it has the stamp of such a writer, and is not copied on.
//!
//! How far it is in the journal is a cursor there; how far in each topic is a cell beside the stream, written before the cursor
//! moves. Whatever was copied behind that is found in the topic itself: a bridge that was killed copies nothing twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::backplane::Backplane;
use crate::backplane::check::check_name;
use crate::backplane::name::{Offset, Revision, Stamp, WriterId};
use crate::backplane::nats::Nats;
use crate::backplane::nats::message::Raw;
use crate::backplane::step::{Append, Put, Step, StepDone};
use crate::error::{Error, ErrorKind, Result};
use crate::format::stamp::mixed;
use crate::format::system::{KindInfo, Owner};
use crate::id::{KindId, Seq};
use crate::journal::Journal;
use crate::journal::entry::OwnedEntry;
use crate::journal::region::Region;
use crate::journal::watcher::Watcher;

/// The cursor moves when so many facts were looked at.
const BATCH: u64 = 256;
/// So many topics are kept in mind.
const TOPICS_MAX: usize = 1 << 16;

/// Copies the facts of a journal to the streams of a backplane, each once, in their order.
///
/// It resumes by a named cursor, which holds back what is not copied yet. In the topics of a stream nobody else should append
/// what a bridge copies there; others may append beside it.
///
/// ```no_run
/// use std::{sync::Arc, time::Duration};
/// use esker::{Region, Store};
/// use esker::backplane::{Nats, NatsBridge, NatsConfig};
/// # fn main() -> esker::Result<()> {
/// let store = Store::open("./local.esker")?;
/// let plane = Arc::new(Nats::connect(NatsConfig::new())?);
/// let mut bridge = NatsBridge::begin(store.journal(), plane, "to the cluster", Region::all())?;
/// loop {
///     let bridged = bridge.copy(Duration::from_secs(1))?;        // after `Disconnected` the same call goes on
///     # break;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct NatsBridge {
    journal: Journal,
    nats: Arc<Nats>,
    watcher: Watcher,
    writer: WriterId,
    /// The store and its era, as they stand before a Seq.
    origin: String,
    kinds: HashMap<KindId, Arc<KindInfo>>,
    /// Of this era: of another one nothing is in the streams.
    era: Option<u128>,
    topics: HashMap<Of, Count>,
    /// What the watcher has given and is not copied yet.
    pending: Option<OwnedEntry>,
    /// Looked at since the cursor moved.
    looked: u64,
}

/// What a copying came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Bridged {
    /// Facts that are in their streams now.
    pub copied: u64,
    /// Facts that had been there: copied before a kill.
    pub repeated: u64,
    /// Facts that had come from a bridge.
    pub imported: u64,
    /// What is no fact of a user: live state, tombstones, kinds of the library's own.
    pub left_out: u64,
}

/// A topic.
type Of = (KindId, Vec<u8>);

/// How far a topic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Count {
    /// So many facts were copied,
    n: u64,
    /// the last of them this one,
    seq: u64,
    /// to here.
    offset: u64,
    /// Of the cell.
    revision: u64,
    is_saved: bool,
    /// The topic was looked through to its end.
    is_whole: bool,
}

impl NatsBridge {
    /// Begins to copy what a region has, behind where a bridge of the same name stopped; a new one begins with the oldest.
    ///
    /// # Errors
    ///
    /// As [`Journal::watch`].
    pub fn begin(journal: &Journal, nats: Arc<Nats>, name: &str, region: Region) -> Result<Self> {
        let watcher = journal.watch(name, region)?;
        let origin = format!("{}:{}", journal.store_id(), journal.core().manifest.era);
        Ok(Self {
            journal: journal.clone(),
            nats,
            watcher,
            writer: writer_of(&origin),
            origin,
            kinds: HashMap::new(),
            era: None,
            topics: HashMap::new(),
            pending: None,
            looked: 0,
        })
    }

    /// Waits for something to copy, at most so long, and copies all that is there then. The cursor stands behind it when
    /// this returns; what came meanwhile is copied by the next call.
    ///
    /// Where the stream was made anew, what was copied before is not there any more, and is not copied again. The numbers of each
    /// topic begin anew, from the next call on, or within 256 facts.
    ///
    /// # Errors
    ///
    /// `Disconnected`: the same call goes on. `InvalidInput` for a kind or a payload that the backplane does not take: nothing behind
    /// it is copied. What [`Watcher::advance`] and [`Backplane::commit`] answer. `Conflict` if two bridges of one journal copy.
    pub fn copy(&mut self, wait: Duration) -> Result<Bridged> {
        self.take_in_era()?;
        let mut bridged = Bridged::default();
        let (mut patience, mut until) = (wait, None);
        while let Some(next) = self.next(patience)? {
            patience = Duration::ZERO;
            // Whoever appends all the time would keep this call for ever.
            let until = *until.get_or_insert(self.journal.view().last_seq()?.unwrap_or(next));
            if next > until {
                break;
            }
            self.copy_one(&mut bridged)?;
            self.pending = None;
            self.looked += 1;
            if self.looked >= BATCH {
                self.save()?;
            }
        }
        self.save()?;
        Ok(bridged)
    }

    /// Takes in whether the stream was made anew.
    fn take_in_era(&mut self) -> Result<u128> {
        let era = self.nats.era()?.raw();
        if self.era.replace(era).is_some_and(|before| before != era) {
            self.topics.clear();
        }
        Ok(era)
    }

    /// The Seq of what is to be copied next.
    fn next(&mut self, patience: Duration) -> Result<Option<Seq>> {
        if self.pending.is_none() {
            let entry = self.watcher.next_timeout(patience)?;
            self.pending = entry.map(|entry| entry.to_owned());
        }
        Ok(self.pending.as_ref().map(|pending| pending.entry().seq()))
    }

    fn copy_one(&mut self, bridged: &mut Bridged) -> Result<()> {
        let Some(owned) = self.pending.clone() else { return Ok(()) };
        let entry = owned.entry();
        let kind = self.kind(entry.kind())?;
        if kind.owner != Owner::Facts || entry.is_tombstone() || kind.name.starts_with("esker.") {
            bridged.left_out += 1;
            return Ok(());
        }
        if entry.stamp().map(Stamp::of_bytes).is_some_and(is_of_a_bridge) {
            bridged.imported += 1;
            return Ok(());
        }
        check_name("stream", &kind.name)?;
        let (seq, topic) = (entry.seq().get(), (entry.kind(), entry.key().to_vec()));
        let mut count = self.count(&kind.name, &topic)?;
        if seq <= count.seq {
            bridged.repeated += 1;
            return Ok(());
        }
        let stamp = Stamp::new(self.writer, count.n + 1);
        let append = Append::new(&kind.name, entry.key(), entry.payload(), stamp);
        let append = append.schema(entry.schema_version().unwrap_or(0));
        let done = self.nats.append_from(append, &format!("{}:{seq}", self.origin))?;
        if let StepDone::Appended { offset, .. } = done {
            count = Count { n: stamp.n, seq, offset: offset.raw(), is_saved: false, ..count };
        }
        self.topics.insert(topic, count);
        bridged.copied += 1;
        Ok(())
    }

    fn kind(&mut self, id: KindId) -> Result<Arc<KindInfo>> {
        if !self.kinds.contains_key(&id) {
            self.kinds = self.journal.kinds().into_iter().map(|kind| (kind.id, kind)).collect();
        }
        self.kinds
            .get(&id)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::UnknownKind, format!("copy of kind {id}")))
    }

    /// How far a topic is: by what is in mind, or by its cell and what was appended behind that.
    fn count(&mut self, stream: &str, topic: &Of) -> Result<Count> {
        if self.topics.len() >= TOPICS_MAX && !self.topics.contains_key(topic) {
            self.save()?;
            self.topics.clear();
        }
        let mut count = match self.topics.get(topic) {
            Some(count) if count.is_whole => return Ok(*count),
            Some(count) => *count,
            None => self.saved_count(stream, topic)?,
        };
        let looked = self.nats.count_behind(self.writer, stream, &topic.1, &mut count);
        count.is_whole = looked.is_ok();
        self.topics.insert(topic.clone(), count);
        looked.map(|()| count)
    }

    fn saved_count(&mut self, stream: &str, topic: &Of) -> Result<Count> {
        let cell = self.nats.load(&self.cell(stream, &topic.1))?;
        let era = self.take_in_era()?;
        let mut count = Count { is_saved: true, ..Count::default() };
        if let Some(bytes) = &cell.bytes {
            count = Count::decode(bytes, era).ok_or_else(|| {
                Error::corrupt(format!("read how far a bridge of {stream} is"))
                    .sides("an era and three numbers", format!("{:?}", String::from_utf8_lossy(bytes)))
            })?;
        }
        count.revision = cell.revision.raw();
        Ok(count)
    }

    /// Of one topic, for one journal.
    fn cell(&self, stream: &str, key: &[u8]) -> Vec<u8> {
        let mut topic = format!("{}:{stream}:", stream.len()).into_bytes();
        topic.extend(key);
        format!("esker.bridge {} {:032x}", self.origin, mixed(&topic)).into_bytes()
    }

    /// Up to where everything is done: before what is in hand, where something is.
    fn done(&self) -> u64 {
        match &self.pending {
            Some(pending) => pending.entry().seq().get() - 1,
            None => self.watcher.looked(),
        }
    }

    /// Saves how far each topic is, then the cursor. What was given and is not copied stays before it.
    fn save(&mut self) -> Result<()> {
        let era = self.take_in_era()?;
        let is_unsaved = |count: &Count| count.is_whole && !count.is_saved;
        let unsaved = self.topics.iter().filter(|(_, count)| is_unsaved(count));
        let unsaved: Vec<_> = unsaved.map(|(topic, count)| (topic.clone(), *count)).collect();
        for (topic, count) in unsaved {
            // Whether it is saved nobody knows now. Its cell tells, and what stands in the topic behind that.
            self.topics.remove(&topic);
            let revision = self.save_topic(era, &topic, count)?;
            self.topics.insert(topic, Count { revision, is_saved: true, ..count });
        }
        if self.looked > 0 {
            self.watcher.checkpoint_at(self.done())?;
            self.looked = 0;
        }
        Ok(())
    }

    /// Answers the revision of the cell.
    fn save_topic(&self, era: u128, topic: &Of, count: Count) -> Result<u64> {
        let name = self.kinds.get(&topic.0).map_or("", |kind| &kind.name);
        let (cell, value) = (self.cell(name, &topic.1), count.encode(era));
        let stamp = Stamp::new(self.writer, count.seq.max(1));
        let put = Put::new(&cell, Revision::from_raw(count.revision), Some(&value), stamp);
        Ok(self.nats.commit(&[Step::Put(put)])?.revision(0).unwrap_or_default().raw())
    }
}

impl Count {
    fn encode(self, era: u128) -> Vec<u8> {
        format!("{era:032x} {} {} {}", self.n, self.seq, self.offset).into_bytes()
    }

    /// `None`: it is none. Of another era there is nothing in the stream.
    fn decode(bytes: &[u8], era: u128) -> Option<Self> {
        let mut words = std::str::from_utf8(bytes).ok()?.split(' ');
        let of_era = u128::from_str_radix(words.next()?, 16).ok()?;
        let mut number = || words.next()?.parse().ok();
        let (n, seq, offset) = (number()?, number()?, number()?);
        if words.next().is_some() {
            return None;
        }
        let count = Self { is_saved: true, ..Self::default() };
        Some(if of_era == era { Self { n, seq, offset, ..count } } else { count })
    }
}

/// Who appends for a journal. Half of the number says that it is a bridge: no other writer comes to it by chance.
fn writer_of(origin: &str) -> WriterId {
    let (origin, _) = halves(mixed(format!("bridge {origin}").as_bytes()));
    WriterId::from_raw(u64::from(origin) << 32 | u64::from(mark_of(origin)))
}

fn is_of_a_bridge(stamp: Stamp) -> bool {
    let (mark, origin) = halves(u128::from(stamp.writer.raw()));
    !stamp.is_keyed() && mark == mark_of(origin)
}

fn mark_of(origin: u32) -> u32 {
    let mut bytes = b"esker bridge ".to_vec();
    bytes.extend(origin.to_le_bytes());
    halves(mixed(&bytes)).0
}

/// The lowest 32 bits, and those above them.
fn halves(number: u128) -> (u32, u32) {
    let half = |number: u128| u32::try_from(number & u128::from(u32::MAX)).unwrap_or(0);
    (half(number), half(number >> 32))
}

impl Nats {
    /// Counts what a writer has in a topic behind where the count stands. `Disconnected`: the count is of a part, and can be gone
    /// on with.
    fn count_behind(&self, writer: WriterId, stream: &str, key: &[u8], count: &mut Count) -> Result<()> {
        let subject = self.server.names.topic(stream, key);
        let behind = count.offset;
        let looks = self.server.look_through(&subject, behind, |delivered| {
            count.offset = delivered.sequence;
            if let Some(stamp) = delivered.stamp.filter(|stamp| stamp.writer == writer && stamp.n > count.n) {
                let seq =
                    delivered.origin.as_ref().and_then(|origin| origin.rsplit(':').next()?.parse().ok());
                (count.n, count.seq, count.is_saved) = (stamp.n, seq.unwrap_or(count.seq), false);
            }
            false
        });
        self.link.call("look for what was copied", looks)
    }

    /// Where a record was copied from, as `STORE:ERA:SEQ`; `None`: by no bridge, or it is not there.
    ///
    /// # Errors
    ///
    /// `Disconnected`, `Closed`.
    pub fn origin_of(&self, offset: Offset) -> Result<Option<String>> {
        let stream = &self.server.names.stream;
        let message = self.link.call("look up an origin", self.server.at(stream, offset.raw()))?;
        Ok(message.and_then(|message| Raw::of(&message).origin()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_of_a_bridge_is_known_for_one_and_no_other_is() {
        let (one, two) = (writer_of("00:1"), writer_of("00:2"));
        assert_ne!(one, two);
        let is_known = |writer: u64, n| is_of_a_bridge(Stamp::new(WriterId::from_raw(writer), n));
        assert!(is_known(one.raw(), 1) && is_known(two.raw(), 9));
        for at in 0..64 {
            assert!(!is_known(one.raw() ^ 1 << at, 1), "bit {at}");
        }
        assert!(!is_known(0, 1) && !is_known(u64::MAX, 1));
        assert!(!is_known(one.raw(), u64::MAX), "that is the half of a key, whatever it looks like");
    }

    #[test]
    fn how_far_a_topic_is_counts_in_one_era() {
        let count = Count { n: 3, seq: 9, offset: 12, revision: 0, is_saved: true, is_whole: false };
        assert_eq!(Count::decode(&count.encode(5), 5), Some(count));
        assert_eq!(Count::decode(&count.encode(5), 6), Some(Count { n: 0, seq: 0, offset: 0, ..count }));
        for bad in [&b""[..], b"5 1 2", b"5 1 2 3 4", b"x 1 2 3", b"5 1 -2 3"] {
            assert_eq!(Count::decode(bad, 5), None, "{bad:?}");
        }
    }
}
