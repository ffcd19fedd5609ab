//! Repairing a store: everything of it that is good, in a new directory.
//!
//! The source is read as [`verify`](crate::verify()) reads it, and is not touched. What is
//! good is appended to a new store in whole batches, with the numbers that it had: Seq,
//! generation, time, and idempotency keys. Where entries are lost, a segment begins whose
//! preamble says how many, and the next entry of a history with a hole is flagged as the first
//! of a dense one. The numbers of lost entries are never given again, and the era changes.
//!
//! The target becomes a store with its manifest, which is written last.

mod noted;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::disk::{Access, Directory, Name};
use crate::error::{Error, ErrorKind, Result, is_passing};
use crate::format::compacted::Compacted;
use crate::format::count::EventCount;
use crate::format::cursor::CursorState;
use crate::format::frame::{Frame, flag};
use crate::format::lock;
use crate::format::lost::LostRange;
use crate::format::manifest::{CursorTable, Manifest};
use crate::format::operation::{EventMark, EventOperation};
use crate::format::row::{RowMark, RowOperation};
use crate::format::source::SourceInfo;
use crate::format::system::{Codec, Keep, KindInfo, Owner, Preamble, System};
use crate::id::{KindId, Position, StoreId};
use crate::journal::copying::{Copied, EmptyTarget, Numbered};
use crate::journal::core::Core;
use crate::journal::identity::{Identity, existing, identify};
use crate::journal::kept::{Done, KeptCopy};
use crate::journal::onlooker::{Meter, Onlooker, While, bytes_of};
use crate::journal::opening::{start_anew, write_manifest};
use crate::journal::registry::{EVENTS_PREFIX, Registry, floors_name};
use crate::journal::repair::noted::Noted;
use crate::log::chain::{Chain, find_chain};
use crate::log::lock::{held_elsewhere, now, random, refusal};
use crate::log::recovery::recover;
use crate::log::report::Damage;
use crate::log::segment::{Segment, open_header};
use crate::log::visitor::{Purpose, Visitor};
use crate::options::{Durability, Options, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

pub use crate::journal::repair::noted::{CursorFate, LostCursor, LostKind};

/// What a repair saved, and what it could not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Repair {
    /// The identity of the store, which is kept.
    pub store: String,
    /// The new era: a cursor of another one does not count in the new store.
    #[serde(serialize_with = "crate::journal::stats::as_text")]
    pub era: u64,
    /// Entries kept.
    pub entries: u64,
    /// Batches kept, all of them whole.
    pub batches: u64,
    /// Bytes of frames kept.
    pub bytes: u64,
    /// Kinds kept; one whose registration is lost is named `recovered-` and its number.
    pub kinds: u64,
    /// Segments written, as a verification of the new store counts them. Where entries are lost a segment begins, so
    /// there may be more of them than there were.
    pub segments: u64,
    /// Segments of the damaged store, as a verification of it counts them: also those of which nothing is left.
    pub segments_read: u64,
    /// Parts written: what compaction had kept stands in them.
    pub parts: u64,
    /// Cursors kept.
    pub cursors: u64,
    /// Cursors that are not there any more, are where they were before, or are there again, as far as the damaged places
    /// say so. Where nothing of a place is left nobody knows.
    pub cursors_lost: Vec<LostCursor>,
    /// Kinds of which the name, or what compaction keeps of them, could not be carried over.
    pub kinds_lost: Vec<LostKind>,
    /// Entries lost, as far as their numbers tell; of a part as many as the manifest says it had.
    pub entries_lost: u64,
    /// The first and last Seq of each range that is lost.
    pub lost: Vec<(u64, u64)>,
    /// The same, with how many entries that is: of a part compaction had dropped the rest before. The new store says them
    /// again: [`Reader::lost_to_repair`](crate::Reader::lost_to_repair).
    pub ranges_lost: Vec<LostRange>,
    /// What was wrong, place by place.
    pub damage: Vec<Damage>,
    /// Batches that are whole and contradict what came before them: not kept.
    pub refused: u64,
    /// Bytes behind the end of the log, of a batch that was torn: no part of it, and not kept.
    pub cut: u64,
    /// The manifest was lost or damaged, and is made from what the other files say.
    pub manifest_rebuilt: bool,
}

const DOING: &str = "make the repaired store";

/// Saves everything good of a damaged store into a new directory.
///
/// `target` must be empty or not there, and not inside `source`, which stays as it is.
///
/// The new store has an era of its own. Unless the manifest had to be made anew, images of [folds](crate::TopicFold) count in it as
/// they did in the source.
///
/// # Errors
///
/// `Locked` while the source is open for writing, `AlreadyExists` for a target that is not
/// empty, `InvalidInput` for a target inside the source, `NotFound`, `NotADirectory`, `NotAStore`
/// and `FormatTooNew` for the source, and what making a store can come to. Nothing is left in
/// the target then.
pub fn repair(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<Repair> {
    repair_while(source, target, || true)
}

/// As [`repair`], for as long as it is to go on: it asks the [onlooker](Onlooker) that before each frame, and tells how far
/// it is.
///
/// # Errors
///
/// As [`repair`]; `Io`, with an interruption as its source, once it is not to go on. Nothing is left in the target then.
pub fn repair_while(
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    onlooker: impl Onlooker,
) -> Result<Repair> {
    let (source, target) = (source.as_ref(), target.as_ref());
    let from = existing(source, "repair the store")?;
    refuse_inside(source, target, DOING)?;
    salvage(&*from, EmptyTarget::at(target, DOING)?, &Meter::of(&onlooker))
}

/// Saves everything good of one simulated disk onto another, which is empty.
///
/// # Errors
///
/// As [`repair`].
#[cfg(feature = "simulator")]
pub fn repair_in(
    source: &crate::disk::simulator::Simulator,
    target: &crate::disk::simulator::Simulator,
) -> Result<Repair> {
    salvage(&*source.directory(), EmptyTarget::on(target.directory(), DOING)?, &Meter::of(&|| true))
}

/// Refuses a target that would become a part of what it is made from.
pub(crate) fn refuse_inside(source: &Path, target: &Path, doing: &'static str) -> Result<()> {
    let source = match source.canonicalize() {
        // In memory there is nothing to be inside of.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        source => source.map_err(|e| Error::io(doing, e).at(target))?,
    };
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let inside = parent.canonicalize().is_ok_and(|parent| parent.starts_with(&source));
    if inside {
        return Err(Error::new(ErrorKind::InvalidInput, doing)
            .at(target)
            .sides("a directory outside the one that is read", "one inside it"));
    }
    Ok(())
}

/// What this process may not read is not damaged, and would be left out.
fn refuse_unreadable(from: &dyn Directory, names: &[Name]) -> Result<()> {
    for Name { name, .. } in names.iter().filter(|name| name.is_file) {
        match from.open(name, Access::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(Error::io("read what is to be repaired", error)
                    .at(from.path().join(name))
                    .noting("it is not damaged: make everything readable first".to_owned()));
            }
            Err(error) if is_passing(&error) => {
                return Err(Error::io("read what is to be repaired", error).at(from.path().join(name)));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(crate) fn salvage(from: &dyn Directory, mut target: EmptyTarget, meter: &Meter<'_>) -> Result<Repair> {
    let names = from.list().map_err(|e| Error::io("list the store", e).at(from.path()))?;
    let identity = identify(from, &names)?;
    refuse_unreadable(from, &names)?;
    // Held until the repair is done, so that nobody starts to write meanwhile.
    let Some(_directory) = from.hold().map_err(|e| Error::io("hold the store", e).at(from.path()))? else {
        let holder = from.open(lock::FILE_NAME, Access::Read).ok();
        return Err(refusal(from, holder.as_deref()));
    };
    let _held = match from.open(lock::FILE_NAME, Access::Read) {
        Ok(file) => {
            if let Some(held) = held_elsewhere(from, &*file)? {
                return Err(held);
            }
            Some(Unlock(file))
        }
        Err(_) => None,
    };
    let chain = find_chain(from, identity.store, Purpose::Salvage, &identity.compacted, |_| false)?;
    let chain = chain.of_copy(identity.manifest.as_ref().ok().and_then(|manifest| manifest.backup));
    let repaired = copy(from, &chain, identity, target.directory(), meter)?;
    target.keep();
    Ok(repaired)
}

struct Unlock(Arc<dyn crate::disk::File>);

impl Drop for Unlock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

fn copy(
    from: &dyn Directory,
    chain: &Chain,
    identity: Identity,
    to: Arc<dyn Directory>,
    meter: &Meter<'_>,
) -> Result<Repair> {
    let Identity { store, manifest, mut compacted } = identity;
    let mut kinds = Kinds::of(from, store);
    let looks = if compacted.covers.is_empty() { 2 } else { 3 };
    meter.expect(bytes_of(from, chain).saturating_mul(looks));
    let last_seq =
        recover(from, store, chain, None, Purpose::Salvage, &mut While::of(&mut kinds, meter, DOING))?
            .last_seq;
    if manifest.is_err() {
        kinds.floors_of(&mut compacted);
    }

    let manifest_rebuilt = manifest.is_err();
    if let Ok(manifest) = &manifest {
        kinds.learn_table(&manifest.table);
    }
    let mut manifest = manifest_behind(manifest, store, last_seq, &kinds.ranges);
    let era = manifest.era;
    let sizes = chain.live.iter().filter_map(|number| open_header(from, store, *number, Access::Read).ok());
    let segment_bytes = sizes.map(|(_, header)| header.bytes).max().unwrap_or(SEGMENT_BYTES_MIN);
    let segment_bytes = segment_bytes.next_multiple_of(4096).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    let options = Options::new().durability(Durability::Os).background(false).segment_bytes(segment_bytes);
    let mut done = Done::default();
    if let Some(mut kept) = KeptCopy::of(&*to, store, &compacted, segment_bytes) {
        recover(from, store, chain, None, Purpose::Salvage, &mut While::of(&mut kept, meter, DOING))?;
        (manifest.compacted, done) = kept.finish()?;
    }
    let core = start_anew(to, options, manifest)?;
    let registry = kinds.complete();
    let (cursors_lost, kinds_lost) =
        (kinds.noted.lost_cursors(&registry), kinds.noted.lost_kinds(&registry, &kinds.nameless()));
    *core.registry.write() = registry;
    core.writer.lock().forgot |= kinds.forgot;
    let through = compacted.covers.last().map_or(0, |cover| cover.last_seq);
    let mut copying = Copying { core: &core, through, batch: Vec::new(), done };
    let ended =
        recover(from, store, chain, None, Purpose::Salvage, &mut While::of(&mut copying, meter, DOING));
    let done = copying.done;
    let finished = ended.and_then(|end| {
        core.finish_copy(end.last_seq)?;
        write_manifest(&*core.directory, &core.manifest)?;
        Ok(end)
    });
    meter.end();
    let closed = core.close(true);
    let end = finished?;
    closed?;
    let directory = &core.directory;
    directory
        .sync_parent()
        .map_err(|e| Error::io("make the store's name durable", e).at(directory.path()))?;
    let lost: Vec<_> = end.report.damage.iter().map(|damage| (damage.first_seq, damage.last_seq)).collect();
    let lost: Vec<_> = lost.into_iter().filter(|(first, last)| first <= last).collect();
    let ranges_lost = kinds.ranges;
    let catalog = core.index.catalog();
    let sections = &catalog.sections;
    let parts = sections.iter().filter(|section| section.cover.is_some()).count();
    let (kinds, cursors) = {
        let registry = core.registry.read();
        (registry.iter().count() as u64, registry.cursors.len() as u64)
    };
    Ok(Repair {
        store: store.to_string(),
        era,
        entries: done.entries,
        batches: done.batches,
        bytes: done.bytes,
        kinds,
        segments: (sections.len() - parts) as u64,
        segments_read: chain.live.len() as u64,
        parts: parts as u64,
        cursors,
        cursors_lost,
        kinds_lost,
        entries_lost: ranges_lost.iter().map(|range| range.entries).sum(),
        lost,
        ranges_lost,
        refused: done.refused,
        cut: end.report.cut,
        damage: end.report.damage,
        manifest_rebuilt,
    })
}

/// The manifest of a store that is made of one with this manifest, or of one that has none any more.
fn manifest_behind(
    manifest: Result<Manifest>,
    store: StoreId,
    last_seq: u64,
    lost: &[LostRange],
) -> Manifest {
    let lost = |before: &[LostRange]| LostRange::put_together(before.iter().chain(lost).copied());
    match manifest {
        Ok(manifest) => Manifest {
            era: era_behind(manifest.era),
            ancestors: manifest.ancestors_of_copy(last_seq),
            backup: None,
            // What was kept is appended like everything else.
            compacted: Compacted::default(),
            // The first preamble restates it: its place is one of the old log.
            table: CursorTable::default(),
            lost: lost(&manifest.lost),
            ..manifest
        },
        // Nobody knows the era: the time is greater than any that was counted up to.
        Err(_) => Manifest {
            store,
            era: era_behind(0),
            created: now(),
            compacted: Compacted::default(),
            table: CursorTable::default(),
            ancestors: Vec::new(),
            lost: lost(&[]),
            sections: Vec::new(),
            read_only: false,
            backup: None,
            features: (0, 0),
        },
    }
}

/// An era behind this one that no other repair or restore will have: the microsecond in which it begins,
/// and ten bits of chance. Greater than any that was counted up to.
pub(crate) fn era_behind(era: u64) -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(since_1970.as_micros()).unwrap_or(0);
    let chance = random::<2>().map_or(0, u16::from_le_bytes) & 0x3ff;
    (micros << 10 | u64::from(chance)).max(era.saturating_add(1))
}

/// What the frames of a kind say of it.
#[derive(Debug)]
struct Used {
    owner: Owner,
    /// The greatest version of its schema that is known.
    version: u16,
}

impl Default for Used {
    fn default() -> Self {
        Self { owner: Owner::Facts, version: 1 }
    }
}

impl Used {
    fn stand_in(&self, id: KindId) -> KindInfo {
        let name = match self.owner {
            Owner::Events => format!("{EVENTS_PREFIX}recovered-{id}"),
            Owner::Facts | Owner::State => format!("recovered-{id}"),
        };
        let codec = if self.owner == Owner::Facts { Codec::Bytes } else { Codec::MessagePack };
        let Self { owner, version } = *self;
        KindInfo { id, name, version, codec, owner, keep: Keep::All, fields: Vec::new() }
    }
}

/// The first look: the kinds, wherever in the log they are registered.
struct Kinds<'a> {
    from: &'a dyn Directory,
    store: StoreId,
    /// What damaged places have said.
    noted: Noted,
    registry: Registry,
    /// The last segment whose preamble was read, and which cursors it and what came behind it say were retired.
    preamble_at: u32,
    retired: HashMap<String, u64>,
    /// By number.
    used: BTreeMap<u16, Used>,
    /// One bit for each source that a row names since it was registered, or that nobody registered.
    sources: u64,
    /// Entries that are lost: any of them may have been an event.
    lost: u64,
    /// The same, range by range.
    ranges: Vec<LostRange>,
    /// Something is lost, or was forgotten before: an entity that is not known may have been.
    forgot: bool,
}

impl<'a> Kinds<'a> {
    fn of(from: &'a dyn Directory, store: StoreId) -> Self {
        Self {
            from,
            store,
            noted: Noted::default(),
            registry: Registry::default(),
            preamble_at: 0,
            retired: HashMap::new(),
            used: BTreeMap::new(),
            sources: 0,
            lost: 0,
            ranges: Vec::new(),
            forgot: false,
        }
    }

    /// The cursors that moved while the log could not grow, unless it has said more since.
    fn learn_table(&mut self, table: &CursorTable) {
        if table.is_news(self.preamble_at) {
            self.noted.learn_table(table);
            for cursor in &table.cursors {
                self.registry.cursors.learn_later(cursor, self.retired.get(&cursor.name).copied());
            }
        }
    }

    /// Those that are used, and whose registration is lost.
    fn nameless(&self) -> Vec<KindId> {
        let used = self.used.keys().map(|number| KindId(*number));
        used.filter(|kind| self.registry.get(*kind).is_none()).collect()
    }

    /// What the log says of itself.
    fn system_frame(&mut self, position: Position, frame: &Frame<'_>) {
        match System::of(frame.header.operation) {
            Some(System::Preamble) => {
                let preamble = Preamble::read(frame.payload());
                self.forgot |= preamble.is_some_and(|preamble| preamble.forgot || preamble.lost > 0);
                // It restates what there is: what it does not, was retired in what is lost or was compacted.
                self.registry.begin_anew();
                self.retired.clear();
                self.noted.restated();
                self.preamble_at = position.segment();
                return;
            }
            Some(System::Source) => {
                let source = SourceInfo::read(frame.payload());
                if let Some(source) = source.filter(|source| source.retired) {
                    // Behind that no row names it.
                    self.sources &= !(1 << (source.id % 64));
                }
            }
            Some(System::Cursor) => {
                let cursor = CursorState::read(frame.payload()).filter(|cursor| cursor.retired);
                self.retired.extend(cursor.map(|cursor| (cursor.name, cursor.revision)));
            }
            _ => {}
        }
        self.registry.learn_frame(frame);
        self.noted.learn_frame(frame);
    }

    /// Where nobody says any more what was dropped, everything may have been that need not be kept.
    fn floors_of(&self, compacted: &mut Compacted) {
        let Some(last) = compacted.covers.last().map(|cover| cover.last_seq) else { return };
        // Of a topic's stream what a floor hides goes, whatever it keeps.
        let has_floors = |name: &str| self.registry.named(&floors_name(name)).is_some();
        let may_miss = |kind: &&Arc<KindInfo>| !kind.keep.goes_by_floors() || has_floors(&kind.name);
        for kind in self.registry.iter().filter(may_miss) {
            compacted.raise_floor(kind.id.get(), last);
        }
        compacted.aside = self.registry.aside();
    }

    /// The registry, with a stand-in for each kind that is used and not registered any more.
    fn complete(&self) -> Registry {
        let mut registry = self.registry.clone();
        let events: Vec<KindId> = registry.aside().into_iter().map(KindId).collect();
        registry.leave_out_events(&events, self.lost);
        for (number, used) in &self.used {
            if registry.get(KindId(*number)).is_none() {
                registry.learn(used.stand_in(KindId(*number)));
            }
        }
        for id in (0..64).filter(|id| self.sources & 1 << id != 0) {
            if !registry.sources().contains_key(&id) {
                // Its number must not come to be another one's, with all the rows that it has.
                registry.learn_source(SourceInfo::new(id, format!("recovered-{id}"), 0));
            }
        }
        registry
    }
}

impl Visitor for Kinds<'_> {
    fn enter(&mut self, _segment: &Arc<Segment>, _from: u64, _last_seq: u64) -> Result<()> {
        Ok(())
    }

    fn frame(&mut self, position: Position, frame: &Frame<'_>) -> Result<()> {
        if !frame.header.is_system() {
            let (number, operation) = (frame.header.kind.get(), frame.header.operation);
            let used = self.used.entry(number).or_default();
            let row = RowMark::read(frame.extensions()).filter(|_| RowOperation::of(operation).is_some());
            let event =
                EventMark::read(frame.extensions()).filter(|_| EventOperation::of(operation).is_some());
            let said = row.map(|mark| (Owner::State, mark.schema));
            if let Some((owner, schema)) = said.or(event.map(|mark| (Owner::Events, mark.schema))) {
                used.owner = owner;
                used.version = used.version.max(schema);
            }
            // Operations are history: only a row says who asserts anything now.
            self.sources |= row.map_or(0, |mark| mark.sources);
            if let Some(mark) = event {
                self.registry.learn_count(EventCount { kind: KindId(number), sequence: mark.sequence });
            }
        } else {
            self.system_frame(position, frame);
        }
        Ok(())
    }

    fn lost(&mut self, damage: &Damage) {
        self.noted.look_at(self.from, self.store, damage);
        let numbers = damage.last_seq.saturating_add(1).saturating_sub(damage.first_seq);
        self.lost_of_part(damage, numbers);
    }

    fn lost_of_part(&mut self, damage: &Damage, entries: u64) {
        self.forgot = true;
        self.lost += damage.last_seq.saturating_add(1).saturating_sub(damage.first_seq);
        self.ranges.extend(LostRange::new(damage.first_seq, damage.last_seq, entries));
    }
}

/// The second look: what is good goes into the new store, batch by batch.
struct Copying<'a> {
    core: &'a Core,
    /// Everything up to this Seq is in parts already.
    through: u64,
    /// The frames of a batch that is not complete, each whole.
    batch: Vec<Vec<u8>>,
    done: Done,
}

impl Visitor for Copying<'_> {
    fn enter(&mut self, _segment: &Arc<Segment>, _from: u64, _last_seq: u64) -> Result<()> {
        self.batch.clear();
        Ok(())
    }

    fn frame(&mut self, _position: Position, frame: &Frame<'_>) -> Result<()> {
        if frame.header.is_system() || frame.header.seq.get() <= self.through {
            return Ok(());
        }
        self.batch.push(frame.to_bytes());
        if frame.header.has(flag::MORE) {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let frames = batch.iter().filter_map(|bytes| Frame::parse(bytes));
        let entries = frames.map(|frame| Numbered::of(&frame)).collect::<Result<Vec<_>>>()?;
        if self.core.copy_batch(&entries)? == Copied::Whole {
            self.done.batches += 1;
            self.done.entries += entries.len() as u64;
            self.done.bytes += batch.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        } else {
            self.done.refused += 1;
        }
        Ok(())
    }
}
