//! Erasing an entity: no byte of its entries is left in the store's directory.
//!
//! What is to be erased is written into the manifest first, so that whatever comes between, every later
//! compaction goes on with it. Then the segments and parts with entries of the entity are written anew
//! without them, as any compaction does it, and the old files are unlinked.

use std::collections::HashMap;

use serde::Serialize;

use crate::compact::policy::CompactOptions;
use crate::error::{ErrorKind, Result};
use crate::format::compacted::{Compacted, Erasing};
use crate::format::index::EntityHash;
use crate::format::segment::FIRST_FRAME;
use crate::format::system::Owner;
use crate::id::{KindId, Seq};
use crate::index::catalog::IndexRef;
use crate::journal::Journal;
use crate::journal::compaction::Do;
use crate::journal::core::{Core, Stage};
use crate::journal::entry::Entry;
use crate::journal::holds::HeldBack;
use crate::journal::registry::floors_name;
use crate::journal::view::View;

/// What became of an entity that was to be erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Erasure {
    /// Every entry of it up to here goes; `None`: there was none.
    pub through: Option<Seq>,
    /// Nothing of it is left in the store's directory.
    pub erased: bool,
    /// How many entries went with this call.
    pub entries: u64,
    /// What holds back entries of it, or of its neighbours in a file: a later compaction goes on with it.
    pub waiting_for: Vec<HeldBack>,
    /// Segments and parts that stay as they are since they could not be read whole, while something of it is left: it may be
    /// in these. `esker repair` makes a store of all that can be read, in which it can be erased.
    pub damaged: u64,
}

impl Journal {
    /// Erases an entity: every entry of it up to now, whatever its kind keeps, and then the floor that it has as a topic of a
    /// [backplane](crate::backplane::Local). When `erased` is true no byte of their keys, metadata and payloads is left in the
    /// store's directory.
    ///
    /// Cursors and readers that have not seen what lies in the same files hold it back, and are named, and files that are damaged
    /// do, and are counted; every later compaction goes on with it. Waits for a compaction that is under way. What stays: the keyed hash of the entity in the directory of
    /// entities until that is written anew, the region of a cursor that names the entity, what was derived from it ([images of
    /// folds](crate::TopicFold), and what [consumers](crate::Consumer) wrote of it, which [`Store::erase`](crate::Store::erase) erases too), copies that a backup has made, and, in this process, what views and entries have mapped until they are dropped. The
    /// file system and the disk may keep what was in files that were removed.
    ///
    /// ```
    /// use esker::{Journal, Record};
    /// # fn main() -> esker::Result<()> {
    /// let journal = Journal::in_memory()?;
    /// let person = journal.kind("person")?;
    /// journal.append(Record::new(person, b"ada", b"{}"))?;
    /// let erasure = journal.erase(person, b"ada")?;
    /// assert!(erasure.erased && journal.latest(person, b"ada")?.is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`compact`](Self::compact); `UnknownKind` for a kind that is not registered; `OwnedByState` for live state: who follows
    /// that has to be told that an entity is gone, so it is [retracted](crate::Source::retract), and its rows go with the next
    /// compaction that [keeps no tombstones](crate::CompactOptions::keep_tombstones_for). What was said of it, if its kind has
    /// events, goes by [`Store::keep_events`](crate::Store::keep_events) alone.
    pub fn erase(&self, kind: KindId, key: &[u8]) -> Result<Erasure> {
        self.erase_with(kind, key, &[], &|_| Ok(Vec::new()))
    }

    /// The same; then entities that were derived from it; then what `copies` finds of it elsewhere, which is told whether nobody
    /// comes to what goes any more.
    pub(crate) fn erase_with(
        &self,
        kind: KindId,
        key: &[u8],
        derived: &[(KindId, Vec<u8>)],
        copies: &dyn Fn(bool) -> Result<Vec<Going>>,
    ) -> Result<Erasure> {
        let core = self.appending();
        // In a child that was forked nobody may ever let go of the lock.
        core.check_not_forked("erase an entity")?;
        let _held = core.registrations.hold();
        // It may be registrations that are erased.
        core.registrations.known().clear();
        let mut erasure = core.erase(&[Going::all_of(kind, key)])?;
        let is_gone = erasure.erased;
        for (kind, key) in derived {
            erasure.add(core.erase(&[Going::all_of(*kind, &**key)])?);
        }
        erasure.add(core.erase(&copies(is_gone)?)?);
        let floors = |kind: KindId| {
            let registry = core.registry.read();
            let of_kind = registry.get(kind).and_then(|info| registry.named(&floors_name(&info.name)));
            of_kind.map(|floors| floors.id)
        };
        // What stands below a floor must not come to light: it goes last.
        let topics = derived.iter().map(|(kind, key)| (*kind, &**key)).chain([(kind, key)]);
        for (kind, key) in topics {
            match floors(kind) {
                Some(floors) if erasure.erased => {
                    erasure.add(core.erase(&[Going::all_of(floors, key)])?);
                }
                _ => {}
            }
        }
        Ok(erasure)
    }
}

/// What is to go of an entity.
#[derive(Debug)]
pub(crate) struct Going {
    pub(crate) kind: KindId,
    pub(crate) key: Vec<u8>,
    /// Everything up to here; `None`: everything up to now.
    pub(crate) through: Option<Seq>,
}

impl Going {
    pub(crate) fn all_of(kind: KindId, key: impl Into<Vec<u8>>) -> Self {
        Self { kind, key: key.into(), through: None }
    }

    /// Up to where it goes, and the last segment in which any of that stands; `None`: there is none.
    fn reach(&self, view: &View) -> Result<Option<(Seq, u32)>> {
        let (newest, segment) = match view.latest(self.kind, &self.key) {
            Ok(Some(newest)) => (newest.seq(), newest.position().segment()),
            Ok(None) => return Ok(None),
            // The newest is damaged. The others go by its key, all that is there by now.
            Err(error) if error.kind() == ErrorKind::Corrupt => match view.last_seq()? {
                Some(last) => (last, view.end().segment()),
                None => return Ok(None),
            },
            Err(error) => return Err(error),
        };
        Ok(Some((self.through.map_or(newest, |through| through.min(newest)), segment)))
    }
}

/// Goes over entries that `from` reads behind a Seq, and on behind whatever of them is damaged.
pub(crate) fn each_left<'v, I: Iterator<Item = Result<Entry<'v>>>>(
    from: impl Fn(u64) -> I,
    mut behind: u64,
    mut each: impl FnMut(&Entry<'v>) -> Result<()>,
) -> Result<()> {
    loop {
        // One that has told an error has ended.
        let mut damage = None;
        for entry in from(behind) {
            match entry {
                Ok(entry) => {
                    behind = entry.seq().get();
                    each(&entry)?;
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => damage = Some(error),
                Err(error) => return Err(error),
            }
        }
        let Some(damage) = damage else { return Ok(()) };
        behind = match damage.seqs() {
            Some(lost) if *lost.end() > behind => *lost.end(),
            _ => return Err(damage.noting("what is behind it was not searched".to_owned())),
        };
    }
}

impl Erasure {
    fn nothing() -> Self {
        Self { through: None, erased: true, entries: 0, waiting_for: Vec::new(), damaged: 0 }
    }

    fn add(&mut self, other: Self) {
        self.erased &= other.erased;
        self.entries += other.entries;
        self.waiting_for.extend(other.waiting_for);
        // Each compaction has looked at all of them.
        self.damaged = self.damaged.max(other.damaged);
    }
}

impl Core {
    /// Erases all of these, or what of them may go now, with one compaction.
    fn erase(&self, going: &[Going]) -> Result<Erasure> {
        self.check_not_forked("erase an entity")?;
        let (view, mut erasing) = (self.view(), Vec::new());
        for of in going {
            let Going { kind, key, .. } = of;
            if self.known_kind(*kind, "erase an entity of")?.owner != Owner::Facts {
                return Err(self.owned_by_state(kind.0, "erase an entity of"));
            }
            let Some((through, segment)) = of.reach(&view)? else { continue };
            // No entry up to there is in a later segment than the newest one.
            self.leave_segment(segment)?;
            erasing.push(Erasing { hash: self.index.hash(kind.0, key), through: through.get() });
        }
        let Some(last) = erasing.last() else { return Ok(Erasure::nothing()) };
        let through = Seq::new(last.through);
        // What is remembered outlives a power cut: else it would name what comes to have these numbers then.
        self.wait_durable(self.commit.visible())?;
        self.remember_to_erase(&erasing)?;
        let done = self.compact(&CompactOptions::new(), Do::Erase)?;
        let left = &self.index.catalog().compacted.erasing;
        let erased = !left.iter().any(|left| erasing.iter().any(|erasing| erasing.hash == left.hash));
        let (waiting_for, damaged) = if erased { (Vec::new(), 0) } else { (done.held_back_by, done.damaged) };
        Ok(Erasure { through, erased, entries: done.entries_dropped, waiting_for, damaged })
    }

    /// Goes on in another segment, if this one is being written, or the one behind it never began: what the log says of
    /// itself has to stand behind what is to go.
    fn leave_segment(&self, number: u32) -> Result<()> {
        loop {
            let mut writer = self.writer.lock();
            self.check_writable()?;
            let end = match &writer.stage {
                Stage::Writing(active) => active.log.end(),
                Stage::Waiting { end, .. } | Stage::Torn { end } => *end,
            };
            if end.segment() != number && end.offset() > FIRST_FRAME {
                return Ok(());
            }
            if matches!(writer.stage, Stage::Writing(_)) {
                let preamble = self.preamble_bytes(&writer);
                if let Some(spare) = self.keeper.take_spare(number, preamble) {
                    return self.rotate(&mut writer, spare);
                }
                drop(writer);
                let _making = self.keeper.making.lock();
                self.make_spare(0)?;
            } else {
                drop(writer);
                self.prepare(0)?;
            }
        }
    }

    fn remember_to_erase(&self, all: &[Erasing]) -> Result<()> {
        let _turn = self.compacting.turn.lock();
        self.check_writable()?;
        let mut compacted = (*self.index.catalog().compacted).clone();
        all.iter().for_each(|erasing| compacted.erase(*erasing));
        // What was dropped of it is known to nobody any more.
        self.writer.lock().forgot = true;
        self.change_manifest(compacted)
    }

    /// Forgets what was to be erased and is. The caller has the turn.
    pub(crate) fn forget_what_is_erased(&self) -> Result<()> {
        let catalog = self.index.catalog();
        if catalog.compacted.erasing.is_empty() {
            return Ok(());
        }
        let mut left = Vec::new();
        for erasing in &catalog.compacted.erasing {
            if self.has_entries_through(erasing.hash, erasing.through)? {
                left.push(*erasing);
            }
        }
        // Only when its files are unlinked is it erased.
        if left.len() == catalog.compacted.erasing.len() || !self.left.lock().is_empty() {
            return Ok(());
        }
        self.change_manifest(Compacted { erasing: left, ..(*catalog.compacted).clone() })
    }

    /// True if a segment or part has an entry of an entity up to a Seq.
    fn has_entries_through(&self, hash: EntityHash, through: u64) -> Result<bool> {
        for section in &self.index.catalog().sections {
            // Of what cannot be opened nobody can say that it is not there.
            let Ok(opened) = section.open() else { return Ok(true) };
            if opened.first_seq() > through {
                break;
            }
            let found = match opened.index() {
                // Nobody knows whose the frames were that are damaged.
                IndexRef::Sealed(..) if opened.damage().is_some() => Some(true),
                IndexRef::Sealed(index, _) => index.find(hash).and_then(|record| {
                    let first = index.members(record).first()?.get();
                    Some(opened.index().seq(opened.first_seq(), first) <= through)
                }),
                // The one that is being written was left before, and begins behind that. Another one without an index cannot be
                // read whole.
                IndexRef::Live(_) => Some(true),
            };
            if found == Some(true) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What is to be erased, for those who judge.
pub(crate) fn rules_of(compacted: &Compacted) -> HashMap<EntityHash, u64> {
    compacted.erasing.iter().map(|erasing| (erasing.hash, erasing.through)).collect()
}
