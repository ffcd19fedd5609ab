//! How far a consumer has come: a cell of the backplane, changed by compare-and-swap; and a second one of each topic or stream,
//! with the names of those who consume it.
//!
//! The keys of these cells begin with a byte with which none of [`Cells`](crate::Cells) does, and are made of the names. A cell
//! says what it is of, so that two that came to the same key are told apart.

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::backplane::{Backplane, Era, Filter, Offset, Put, Revision, Stamp, Step, WriterId};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::consumer::session::Run;
use crate::fold::image::{key_of, repeated};
use crate::journal::lodger::Registrations;

/// No scope of cells is so long that a key could begin so.
const CELLS_PREFIX: u8 = 0xff;
/// A topic, and a stream, has at most so many consumers.
pub const CONSUMERS_MAX: usize = 256;
/// What a cell is called in errors.
const PROGRESS: &str = "the progress of a consumer";
/// The version of what stands in the cells.
const VERSION: u8 = 1;
/// Others who change a cell at the same time are waited for so often.
pub(super) const SWAPS: u32 = 100;

/// Bytes that are written as bytes, and not as a list of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

/// Which consumer: its name, and what it consumes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) stream: String,
    /// `None`: all topics of the stream.
    pub(crate) key: Option<Bytes>,
    pub(crate) shard: Option<(u32, u32)>,
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    version: u8,
    pub(super) of: Identity,
    /// Drawn when the name was first used: one that was retired and is used again is another.
    pub(super) born: u64,
    era: [u64; 2],
    /// Everything up to here is done: handled, passed over, or set aside.
    offset: u64,
    /// Who runs it, the last to begin, until that is ended as it should be.
    pub(super) open: Option<u64>,
    /// All of those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) runs: Vec<Run>,
    /// How often the record behind the offset failed, which one it is, and why it did so last.
    pub(super) attempts: u32,
    attempts_at: u64,
    pub(super) cause: String,
    /// So many ended in the handler, one behind the other, with nothing done in between.
    pub(super) crashes: u32,
    /// Which of the handles that run counted the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) counted_by: Option<u64>,
    pub(super) suspended: Option<String>,
    pub(super) poisoned: u64,
    pub(super) undecodable: u64,
    pub(super) reseeded: u64,
    pub(super) parked: Vec<Parking>,
}

/// An entity of which records are set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Parking {
    pub(super) key: Bytes,
    /// Drawn when the first was set aside: it names the topic of the copies.
    pub(super) episode: u64,
    /// So many copies there are, and of so many nothing is left to be done.
    pub(super) copies: u64,
    pub(super) done: u64,
    /// The last that was set aside, and the first that ever was.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) attempts: u32,
    pub(super) cause: String,
    /// Somebody has asked for them to be tried again.
    pub(super) retries: bool,
}

/// Who consumes a topic, or a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Registry {
    version: u8,
    stream: String,
    key: Option<Bytes>,
    consumers: Vec<(String, Option<(u32, u32)>)>,
}

/// What is consumed: a topic, or all of a stream.
pub(super) struct Consumed {
    stream: String,
    key: Option<Bytes>,
}

/// A cell as it is.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) progress: Progress,
    pub(super) revision: Revision,
}

impl Consumed {
    pub(super) fn filter(&self) -> Filter<'_> {
        Filter { stream: &self.stream, key: self.key.as_ref().map(|key| &*key.0) }
    }
}

impl Identity {
    pub(super) fn filter(&self) -> Filter<'_> {
        Filter { stream: &self.stream, key: self.key.as_ref().map(|key| &*key.0) }
    }

    /// A number made of all that it is, and of more.
    pub(super) fn mixed(&self, what: &[u8], more: &[u8]) -> [u8; 16] {
        let shard = self.shard.map_or([0; 8], |(i, n)| {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&i.to_le_bytes());
            bytes[4..].copy_from_slice(&n.to_le_bytes());
            bytes
        });
        let (is_of_one, key) = self.key.as_ref().map_or((0, &[][..]), |key| (1, &*key.0));
        key_of(what, &[self.name.as_bytes(), self.stream.as_bytes(), &[is_of_one], key, &shard, more])
    }

    pub(super) fn cell(&self) -> Vec<u8> {
        cell_of(b"consumer", self.mixed(b"consumer", b""))
    }

    fn registry(filter: Filter<'_>) -> Vec<u8> {
        let is_of_one = u8::from(filter.key.is_some());
        let parts = [filter.stream.as_bytes(), &[is_of_one], filter.key.unwrap_or_default()];
        cell_of(b"consumers", key_of(b"consumers", &parts))
    }
}

fn cell_of(what: &[u8], name: [u8; 16]) -> Vec<u8> {
    [&*cell_prefix(what), &name].concat()
}

fn cell_prefix(what: &[u8]) -> Vec<u8> {
    [&[CELLS_PREFIX][..], b"esker.", what, b" "].concat()
}

impl Progress {
    pub(super) fn new(of: Identity, born: u64, era: Era, offset: Offset) -> Self {
        let mut progress = Self {
            version: VERSION,
            of,
            born,
            era: [0; 2],
            offset: offset.raw(),
            open: None,
            runs: Vec::new(),
            attempts: 0,
            attempts_at: 0,
            cause: String::new(),
            crashes: 0,
            counted_by: None,
            suspended: None,
            poisoned: 0,
            undecodable: 0,
            reseeded: 0,
            parked: Vec::new(),
        };
        progress.set_era(era);
        progress
    }

    pub(super) fn offset(&self) -> Offset {
        Offset::from_raw(self.offset)
    }

    pub(super) fn era(&self) -> Era {
        let [low, high] = self.era.map(u128::from);
        Era::from_raw(high << 64 | low)
    }

    pub(super) fn set_era(&mut self, era: Era) {
        let half = |word: u128| u64::try_from(word & u128::from(u64::MAX)).unwrap_or(0);
        self.era = [half(era.raw()), half(era.raw() >> 64)];
    }

    /// How often a record failed.
    pub(super) fn attempts_of(&self, offset: Offset) -> u32 {
        if self.attempts_at == offset.raw() { self.attempts } else { 0 }
    }

    pub(super) fn failed(&mut self, offset: Offset, attempts: u32, cause: &str) {
        (self.attempts, self.attempts_at, self.cause) = (attempts, offset.raw(), short(cause));
        self.end_crashes();
    }

    /// The record at which it stands, if it failed and it was said why.
    pub(super) fn fails_at(&self) -> Option<Offset> {
        (!self.cause.is_empty()).then(|| Offset::from_raw(self.attempts_at))
    }

    /// Says no more that a record failed, and why.
    pub(super) fn forget_cause(&mut self) {
        (self.attempts, self.attempts_at) = (0, 0);
        self.cause.clear();
    }

    /// A handler has answered, or there is nothing to answer any more: whoever was taken for one that ended without a word may
    /// have been another process that was in it, and what was suspended for that goes on.
    pub(super) fn end_crashes(&mut self) {
        (self.crashes, self.suspended) = (0, None);
    }

    /// Everything up to here is done. It never goes back; false: somebody was here before.
    pub(super) fn advance(&mut self, offset: Offset) -> bool {
        if offset.raw() <= self.offset {
            return false;
        }
        self.offset = offset.raw();
        self.forget_failures();
        true
    }

    /// Goes wherever it is told.
    pub(super) fn move_to(&mut self, offset: Offset) {
        self.offset = offset.raw();
        self.forget_failures();
    }

    fn forget_failures(&mut self) {
        self.forget_cause();
        self.end_crashes();
    }

    /// How many records are parked and not done.
    pub(super) fn parked_records(&self) -> u64 {
        self.parked.iter().map(|parking| parking.copies.saturating_sub(parking.done)).sum()
    }

    pub(super) fn parking(&self, key: &[u8]) -> Option<&Parking> {
        self.parked.iter().find(|parking| parking.key.0 == key)
    }

    /// Lets it go on that is suspended; answers whether it was.
    pub(super) fn resume(&mut self) -> bool {
        self.crashes = 0;
        self.suspended.take().is_some()
    }

    /// Asks for what is parked of an entity to be tried again; answers whether there is any.
    pub(super) fn retry(&mut self, key: &[u8]) -> bool {
        self.parking_mut(key).map(|parking| parking.retries = true).is_some()
    }

    pub(super) fn parking_mut(&mut self, key: &[u8]) -> Option<&mut Parking> {
        self.parked.iter_mut().find(|parking| parking.key.0 == key)
    }
}

/// A cause, as far as it is worth keeping.
pub(super) fn short(cause: &str) -> String {
    const CHARS_MAX: usize = 400;
    cause.chars().take(CHARS_MAX).collect()
}

/// A cause in a cell with many has at most so many bytes.
pub(super) const BRIEF_BYTES_MAX: usize = 400;

/// A cause, as far as it has room in a cell with many.
pub(super) fn brief(cause: &str) -> String {
    let mut end = cause.len().min(BRIEF_BYTES_MAX);
    while !cause.is_char_boundary(end) {
        end -= 1;
    }
    cause[..end].to_owned()
}

fn decoded<'c, T: Deserialize<'c>>(bytes: &'c [u8], doing: &str) -> Result<T> {
    codec::decode_bytes(bytes).map_err(|cause| Error::corrupt(doing).because(cause))
}

fn read(bytes: &[u8], doing: &str) -> Result<Progress> {
    let progress: Progress = decoded(bytes, doing)?;
    if progress.version > VERSION {
        return Err(Error::new(ErrorKind::FormatTooNew, doing)
            .sides(format!("version {VERSION}"), format!("version {}", progress.version)));
    }
    Ok(progress)
}

/// What stands in a cell, whoever it is of.
pub(super) fn read_cell(key: &[u8], bytes: &[u8]) -> Result<Progress> {
    let doing = format!("read {PROGRESS}");
    let progress = read(bytes, &doing)?;
    if progress.of.cell() != key {
        return Err(Error::corrupt(doing).sides("a cell under the key of its consumer", "one under another"));
    }
    Ok(progress)
}

/// With what the keys of the cells of consumers begin, and those of the lists of them.
pub(super) fn prefixes() -> [Vec<u8>; 2] {
    [b"consumer".as_slice(), b"consumers"].map(cell_prefix)
}

/// The consumers that a list names.
pub(super) fn read_list(key: &[u8], bytes: &[u8]) -> Result<Vec<Identity>> {
    list_of(key, bytes).map(|(_, consumers)| consumers)
}

/// The same, with what they consume.
pub(super) fn list_of(key: &[u8], bytes: &[u8]) -> Result<(Consumed, Vec<Identity>)> {
    let doing = "read the names of consumers";
    let Registry { version, stream, key: of, consumers } = decoded(bytes, doing)?;
    if version > VERSION {
        return Err(Error::new(ErrorKind::FormatTooNew, doing)
            .sides(format!("version {VERSION}"), format!("version {version}")));
    }
    let filter = Filter { stream: &stream, key: of.as_ref().map(|key| &*key.0) };
    if Identity::registry(filter) != key {
        return Err(Error::corrupt(doing).sides("a list under the key of its topic", "one under another"));
    }
    let identity = |(name, shard)| Identity { name, stream: stream.clone(), key: of.clone(), shard };
    let consumers = consumers.into_iter().map(identity).collect();
    Ok((Consumed { stream, key: of }, consumers))
}

/// What is known of a consumer; `None`: there is none of this name.
pub(super) fn load(plane: &dyn Backplane, of: &Identity) -> Result<Option<Known>> {
    let cell = repeated(|| plane.load(&of.cell()))?;
    let Some(bytes) = &cell.bytes else { return Ok(None) };
    let doing = || format!("read {PROGRESS}: {:?} of {}", of.name, of.filter());
    let progress = read(bytes, &doing())?;
    if progress.of != *of {
        return Err(Error::corrupt(doing()).sides(format!("{of:?}"), format!("{:?}", progress.of)));
    }
    Ok(Some(Known { progress, revision: cell.revision }))
}

/// The revision at which a new cell is made: one that was emptied keeps its own.
pub(super) fn revision(plane: &dyn Backplane, of: &Identity) -> Result<Revision> {
    Ok(repeated(|| plane.load(&of.cell()))?.revision)
}

/// One step that writes progress down, and others before it, in one commit. Answers the revision.
pub(super) fn put(
    plane: &dyn Backplane,
    before: &[Step<'_>],
    progress: Option<&Progress>,
    of: &Identity,
    expect: Revision,
    stamp: Stamp,
) -> Result<Revision> {
    let mut bytes = Vec::new();
    if let Some(progress) = progress {
        codec::encode(PROGRESS, progress, &mut bytes)?;
    }
    let cell = of.cell();
    let put = Put::new(&cell, expect, progress.map(|_| &*bytes), stamp);
    let steps: Vec<Step<'_>> = before.iter().copied().chain([Step::Put(put)]).collect();
    // The cursor last: where a commit is done step by step what comes before it may be there without it, never the reverse.
    let done = repeated(|| plane.commit(&steps))?;
    Ok(done.revision(before.len()).unwrap_or_default())
}

/// Changes what is known of a consumer, from outside of it. `change` answers whether there is something to change.
pub(super) fn change(
    plane: &dyn Backplane,
    of: &Identity,
    mut change: impl FnMut(&mut Progress) -> bool,
) -> Result<bool> {
    let mut stamps = Stamps::new()?;
    for _ in 0..SWAPS {
        let Some(mut known) = load(plane, of)? else { return Ok(false) };
        if !change(&mut known.progress) {
            return Ok(false);
        }
        match put(plane, &[], Some(&known.progress), of, known.revision, stamps.next()) {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => return other.map(|_| true),
        }
    }
    Err(overtaken(of))
}

pub(super) fn overtaken(of: &Identity) -> Error {
    Error::new(ErrorKind::Conflict, format!("write {PROGRESS}: {:?} of {}", of.name, of.filter()))
        .sides("a change that nobody overtakes", format!("others, {SWAPS} times"))
}

/// Stamps that nobody else has.
pub(super) struct Stamps {
    writer: WriterId,
    n: u64,
}

impl Stamps {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { writer: WriterId::random()?, n: 0 })
    }

    pub(super) fn writer(&self) -> u64 {
        self.writer.raw()
    }

    pub(super) fn next(&mut self) -> Stamp {
        self.n += 1;
        Stamp::new(self.writer, self.n)
    }
}

fn registered(plane: &dyn Backplane, filter: Filter<'_>) -> Result<(Registry, Revision)> {
    let cell = repeated(|| plane.load(&Identity::registry(filter)))?;
    let key = filter.key.map(|key| Bytes(key.to_vec()));
    let (stream, none) = (filter.stream.to_owned(), Vec::new());
    let Some(bytes) = &cell.bytes else {
        return Ok((Registry { version: VERSION, stream, key, consumers: none }, cell.revision));
    };
    let doing = format!("read the names of the consumers of {filter}");
    let registry: Registry = decoded(bytes, &doing)?;
    if registry.version > VERSION {
        return Err(Error::new(ErrorKind::FormatTooNew, doing)
            .sides(format!("version {VERSION}"), format!("version {}", registry.version)));
    }
    if (&registry.stream, &registry.key) != (&stream, &key) {
        let found = format!("{}, {:?}", registry.stream, registry.key);
        return Err(Error::corrupt(doing).sides(filter, found));
    }
    Ok((registry, cell.revision))
}

fn change_registry(
    plane: &dyn Backplane,
    filter: Filter<'_>,
    mut change: impl FnMut(&mut Registry) -> Result<bool>,
) -> Result<()> {
    let mut stamps = Stamps::new()?;
    for _ in 0..SWAPS {
        let (mut registry, revision) = registered(plane, filter)?;
        if !change(&mut registry)? {
            return Ok(());
        }
        let mut bytes = Vec::new();
        codec::encode(PROGRESS, &registry, &mut bytes)?;
        let cell = Identity::registry(filter);
        let step = Step::Put(Put::new(&cell, revision, Some(&bytes), stamps.next()));
        match repeated(|| plane.commit(&[step])) {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => return other.map(drop),
        }
    }
    Err(Error::new(ErrorKind::Conflict, format!("write the names of the consumers of {filter}")))
}

/// Puts a consumer on the list of what it consumes. From then on compaction asks how far it has come.
pub(super) fn register(plane: &dyn Backplane, of: &Identity) -> Result<()> {
    list(plane, of, false)
}

/// The same behind the making of its cell: who [retires](retire) the one of this name that was before finds that the list has
/// changed, or this one finds that it is gone from it.
pub(super) fn register_anew(plane: &dyn Backplane, of: &Identity) -> Result<()> {
    list(plane, of, true)
}

fn list(plane: &dyn Backplane, of: &Identity, is_written_anyhow: bool) -> Result<()> {
    let name = (of.name.clone(), of.shard);
    let registrations = plane.registrations();
    let is_settled = registrations.is_some() && !is_written_anyhow;
    if is_settled && registered(plane, of.filter())?.0.consumers.contains(&name) {
        return Ok(());
    }
    // No floor rises that was decided on without it. (Whoever may not take the lock was refused by what was loaded.)
    let _held = registrations.map(Registrations::hold);
    change_registry(plane, of.filter(), |registry| {
        if registry.consumers.contains(&name) {
            return Ok(is_written_anyhow);
        }
        if registry.consumers.len() >= CONSUMERS_MAX {
            return Err(Error::new(ErrorKind::LimitReached, format!("register the consumer {:?}", of.name))
                .sides(format!("at most {CONSUMERS_MAX} of {}", of.filter()), registry.consumers.len() + 1));
        }
        registry.consumers.push(name.clone());
        Ok(true)
    })
}

/// Forgets a consumer. Compaction asks it no more.
pub(crate) fn retire(plane: &dyn Backplane, of: &Identity) -> Result<bool> {
    let mut stamps = Stamps::new()?;
    let mut was_there = false;
    for _ in 0..SWAPS {
        let Some(known) = load(plane, of)? else { break };
        match put(plane, &[], None, of, known.revision, stamps.next()) {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => {
                other?;
                was_there = true;
                break;
            }
        }
    }
    change_registry(plane, of.filter(), |registry| {
        // The name may have been taken up again since the cell was emptied.
        if load(plane, of)?.is_some() {
            return Ok(false);
        }
        let before = registry.consumers.len();
        registry.consumers.retain(|(name, shard)| (name, *shard) != (&of.name, of.shard));
        was_there |= registry.consumers.len() < before;
        Ok(registry.consumers.len() < before)
    })?;
    Ok(was_there)
}

/// The consumers of a topic or stream, and what is known of each.
pub(super) fn all_of(plane: &dyn Backplane, filter: Filter<'_>) -> Result<Vec<(Identity, Option<Known>)>> {
    let (registry, _) = registered(plane, filter)?;
    let mut all = Vec::new();
    for (name, shard) in registry.consumers {
        let of = Identity { name, stream: registry.stream.clone(), key: registry.key.clone(), shard };
        let known = load(plane, &of)?;
        all.push((of, known));
    }
    Ok(all)
}

/// The consumers that a record of a topic may be for.
pub(super) fn all_concerned(
    plane: &dyn Backplane,
    topic: Filter<'_>,
) -> Result<Vec<(Identity, Option<Known>)>> {
    let mut all = all_of(plane, topic)?;
    if topic.key.is_some() {
        all.extend(all_of(plane, Filter::stream(topic.stream))?);
    }
    Ok(all)
}

/// Up to where records of a topic may be dropped: nothing goes that a consumer has not done yet, whether it runs or not.
pub(crate) fn clamped(plane: &dyn Backplane, topic: Filter<'_>, before: Offset) -> Result<Offset> {
    let concerned = all_concerned(plane, topic)?;
    if concerned.is_empty() {
        return Ok(before);
    }
    let era = repeated(|| plane.era())?;
    let first_needed = |(_, known): &(Identity, Option<Known>)| {
        // Of one that has not begun, or stands in another era, nothing is known.
        let known = known.as_ref().filter(|known| known.progress.era() == era);
        known.map_or(Offset::BEGINNING, |known| {
            Offset::from_raw(known.progress.offset().raw().saturating_add(1))
        })
    };
    Ok(concerned.iter().map(first_needed).fold(before, Ord::min))
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes(bytes.to_vec()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(Bytes(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Bytes, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = parts.next_element()? {
            bytes.push(byte);
        }
        Ok(Bytes(bytes))
    }
}
