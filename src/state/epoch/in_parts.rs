//! The end of an epoch that takes more than one batch.
//!
//! It is *decided* by one entry, and *carried out* batch by batch behind that:
//!
//! 1. Nobody speaks for the source of this kind any more until the end: what it said would be taken for what was before.
//! 2. Lists of all that is stale go into the log, and behind them the commit. A crash before that is as if nothing had been.
//! 3. What is listed is retracted, as many entities at a time as a batch takes. Others go on meanwhile.
//! 4. The lists are emptied, and the commit too.
//!
//! A commit that is not empty is carried on by whoever opens the store next, before anything is read of it; and where the disk
//! was full, or the like, by the source's next operation of the kind. Entities are listed by hash: a list holds no key, so
//! that nobody has to erase one from it.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::epoch::{EpochCommit, HASH_BYTES, LIST_ENTITIES_MAX, commit_key, hashes, list_key};
use crate::format::index::EntityHash;
use crate::format::source::SOURCES_MAX;
use crate::format::system::{Codec, Owner};
use crate::id::KindId;
use crate::journal::Journal;
use crate::journal::core::Core;
use crate::journal::entry::Entry;
use crate::journal::opening::read_manifest;
use crate::journal::registry::{EPOCHS_NAME, KindSpec, check_own};
use crate::state::ending::{Taken, abandoned};
use crate::state::endings::Whose;
use crate::state::engine::State;
use crate::state::schema::Bound;
use crate::state::sessions::Speaker;

const VERSION: u16 = 1;
/// So many entities are looked up at a time.
const ENTITIES_AT_ONCE: usize = 4096;

/// Whose end it is: of a source, and of a kind.
pub(crate) type Whom = (u8, KindId);

/// Goes through what is stale, and tells of each entity.
pub(crate) type Stale<'a> = &'a dyn Fn(&mut dyn FnMut(EntityHash) -> Result<()>) -> Result<()>;

/// Carries out what an earlier opening has decided and not carried out. Whoever comes first is told of a failure; what could not be
/// done is tried again by the next flush, and by the source's next operation.
pub(crate) fn carry_on(journal: &Journal) {
    let core = journal.core();
    // In a forked child a thread of the parent, which is not there, may have the locks.
    if core.registry.read().named(EPOCHS_NAME).is_some() && core.check_not_forked("carry on an end").is_ok() {
        State::of(core).carry_on(journal);
    }
}

impl State {
    /// Ends an epoch, and answers how many entities were taken back.
    pub(crate) fn end_in_parts(
        &self,
        core: &Arc<Core>,
        bound: &Arc<Bound>,
        (speaker, epoch): (Speaker<'_>, u64),
        stale: Stale<'_>,
    ) -> Result<u64> {
        let whom = (speaker.source, bound.id);
        let ends = self.ends.lock();
        self.clear_the_way(core, whom)?;
        {
            let mut open = self.enter_whatever_failed(core)?;
            if !open.epochs.is_open(epoch) {
                return Err(abandoned(core, speaker.name, &bound.name));
            }
            open.epochs.hold(whom);
        }
        let decided =
            self.append(core).and_then(|_| list(core, whom, stale)).and_then(|(lists, entities)| {
                let commit = EpochCommit { lists, entities, source: speaker.name.to_owned() };
                let (own, key) = (register(core)?, commit_key(whom.0, whom.1));
                // Its source may have ended meanwhile, and with it the epoch. Nobody ends it between this look and the commit.
                let open = self.enter_whatever_failed(core)?;
                if !open.epochs.is_open(epoch) {
                    return Err(abandoned(core, speaker.name, &bound.name));
                }
                core.append_own(own, VERSION, &key, &commit.encode())
            });
        if let Err(error) = decided {
            // Where that fails too, as on a full disk, they stay until the next end that takes as many.
            let _ = register(core).and_then(|own| empty_lists(core, own, whom, 0));
            self.open.lock().epochs.release(whom);
            return Err(error);
        }
        let carried_out = self.carry_out(core, whom);
        drop(ends);
        carried_out
    }

    /// Waits until an end that was decided, or is being decided, is carried out; does it if nobody else does.
    pub(crate) fn wait_for_end(&self, core: &Arc<Core>, whom: Whom) -> Result<()> {
        let _ends = self.ends.lock();
        self.clear_the_way(core, whom)
    }

    /// Carries out what was decided before for whoever comes behind it, if there is such a thing. By whoever has the lock of
    /// ends.
    fn clear_the_way(&self, core: &Arc<Core>, whom: Whom) -> Result<()> {
        let is_held = self.open.lock().epochs.is_held(whom);
        match if is_held { self.carry_out(core, whom) } else { Ok(0) } {
            // All of it is done that ever will be, and what comes now has nothing to do with the rest.
            Err(error) if error.is_corruption() && !self.open.lock().epochs.is_held(whom) => {
                self.open.lock().untold.put(error);
                Ok(())
            }
            carried_out => carried_out.map(drop),
        }
    }

    /// Tries again what could not be carried out, unless somebody is at it. One that cannot be holds up no other, and nobody
    /// else's flush: its source is told.
    pub(crate) fn carry_on_held(&self, core: &Arc<Core>) {
        let Some(_ends) = self.ends.try_lock() else { return };
        let held = self.open.lock().epochs.held();
        for whom in held {
            if let Err(error) = self.carry_out(core, whom) {
                let mut open = self.open.lock();
                // One that is held yet is tried again, and told then.
                if error.is_corruption() && !open.epochs.is_held(whom) {
                    open.untold.put(error);
                }
            }
        }
    }

    fn carry_on(&self, journal: &Journal) {
        // Whoever opens a store over the same journal meanwhile waits for this, and nobody later.
        let mut has_looked = self.has_looked.lock();
        if std::mem::replace(&mut *has_looked, true) {
            return;
        }
        let (core, _ends) = (journal.core(), self.ends.lock());
        let kinds: Vec<KindId> = {
            let registry = core.registry.read();
            registry.iter().filter(|kind| kind.owner == Owner::State).map(|kind| kind.id).collect()
        };
        // Also of numbers that no source has: what was decided for one that was retired since is not to be met by the next.
        let numbers = (0..64_u8).take(SOURCES_MAX);
        let whom = numbers.flat_map(|source| kinds.iter().map(move |kind| (source, *kind)));
        let decided: Vec<Whom> = whom.filter(|whom| !matches!(commit_of(core, *whom), Ok(None))).collect();
        if !decided.is_empty() {
            journal.appending();
        }
        decided.iter().for_each(|whom| self.open.lock().epochs.hold(*whom));
        for whom in decided {
            if let Err(error) = self.carry_out(core, whom) {
                self.open.lock().untold.put(error);
            }
        }
    }

    /// Takes back what a commit lists, if there is one, and says that it is done. By whoever has the lock of ends.
    fn carry_out(&self, core: &Arc<Core>, whom: Whom) -> Result<u64> {
        let (source, kind) = whom;
        let (own, commit) = match commit_of(core, whom) {
            Ok(Some(commit)) => commit,
            Ok(None) => {
                self.open.lock().epochs.release(whom);
                return Ok(0);
            }
            // Nobody will ever know what it was: most likely one that was done.
            Err(error) if error.is_corruption() => {
                core.append_own(register(core)?, VERSION, &commit_key(source, kind), &[])?;
                self.open.lock().epochs.release(whom);
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let mut taken = Taken::default();
        if commit.may_be_done {
            taken.leave(lost_behind(core, &commit));
        }
        let (is_its_own, bound) = {
            let registry = core.registry.read();
            let is_its_own = registry.sources().get(&source).is_some_and(|known| known.name == commit.source);
            (is_its_own && !commit.may_be_done, registry.get(kind).cloned())
        };
        if let Some(kind) = bound.filter(|_| is_its_own) {
            let bound = Arc::new(Bound::as_written(core, &kind));
            for number in 0..commit.lists {
                self.take_back_listed(
                    core,
                    &bound,
                    (own, &list_key(source, kind.id, number)),
                    source,
                    &mut taken,
                )?;
            }
        }
        if let Some(error) = taken.is_to_be_tried_again() {
            return Err(error);
        }
        // What is damaged will not be whole the next time.
        empty_lists(core, own, whom, commit.lists)?;
        core.append_own(own, VERSION, &commit_key(source, kind), &[])?;
        self.open.lock().epochs.release(whom);
        taken.all()
    }

    fn take_back_listed(
        &self,
        core: &Arc<Core>,
        bound: &Arc<Bound>,
        (own, list_key): (KindId, &[u8]),
        source: u8,
        taken: &mut Taken,
    ) -> Result<()> {
        let list = match listed(core, own, list_key) {
            Ok(list) => list,
            Err(error) if error.is_corruption() => {
                taken.leave(error);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for hashes in list.chunks(ENTITIES_AT_ONCE) {
            let keys = self.keys_of(core, hashes, taken)?;
            self.take_back_of(core, bound, Whose::Held(source), &keys, taken)?;
            // Who ends an epoch is there, and cannot say so meanwhile.
            self.open.lock().sessions.countdowns.renew(source, core.options.clock.elapsed());
        }
        Ok(())
    }

    /// The keys of some entities. Nobody writes rows meanwhile.
    fn keys_of(&self, core: &Arc<Core>, hashes: &[EntityHash], taken: &mut Taken) -> Result<Vec<Box<[u8]>>> {
        let mut open = self.enter_whatever_failed(core)?;
        self.append_in(core, &mut open)?;
        let mut view = core.view();
        let mut keys = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let key = loop {
                match view.key_of(*hash).map(|key| key.map(Box::from)) {
                    // What a compaction has moved meanwhile may be known where only a newer view has it: asked behind the look.
                    Ok(None) if view.is_older_than_the_row() => view = core.view(),
                    key => break key,
                }
            };
            match key {
                Ok(key) => keys.extend(key),
                Err(error) if error.is_corruption() => taken.leave(error),
                Err(error) => return Err(error),
            }
        }
        Ok(keys)
    }
}

/// Appends lists of what is stale. Answers how many there are, and how many entities they name.
fn list(core: &Arc<Core>, (source, kind): Whom, stale: Stale<'_>) -> Result<(u32, u64)> {
    let own = register(core)?;
    // A small part of a batch, whatever the options say that a batch is.
    let room = usize::try_from(core.options.batch_bytes_max()).unwrap_or(usize::MAX) / 4;
    let most = room.clamp(HASH_BYTES, LIST_ENTITIES_MAX * HASH_BYTES) / HASH_BYTES * HASH_BYTES;
    let (mut list, mut lists, mut entities) = (Vec::new(), 0, 0);
    let mut put = |list: &mut Vec<u8>| {
        core.append_own(own, VERSION, &list_key(source, kind, lists), list)?;
        list.clear();
        lists += 1;
        Ok(())
    };
    stale(&mut |hash| {
        list.extend_from_slice(&hash.to_le_bytes());
        entities += 1;
        if list.len() >= most { put(&mut list) } else { Ok(()) }
    })?;
    if !list.is_empty() {
        put(&mut list)?;
    }
    Ok((lists, entities))
}

/// Empties the lists of an end: so many at least, and what there is behind them.
fn empty_lists(core: &Core, own: KindId, (source, kind): Whom, least: u32) -> Result<()> {
    for number in 0.. {
        let key = list_key(source, kind, number);
        match core.view().latest(own, &key) {
            Ok(None) if number >= least => break,
            Ok(list) if list.is_none_or(|list| list.payload().is_empty()) => {}
            Err(error) if !error.is_corruption() => return Err(error),
            _ => core.append_own(own, VERSION, &key, &[])?,
        }
    }
    Ok(())
}

/// A commit, and what else there is to know of it.
struct Decided {
    lists: u32,
    source: String,
    seq: u64,
    /// Behind it something was lost to a repair: perhaps that it was done.
    may_be_done: bool,
}

/// What was decided and is not carried out, with the number of the kind in which that stands.
fn commit_of(core: &Core, (source, kind): Whom) -> Result<Option<(KindId, Decided)>> {
    let Some(own) = core.registry.read().named(EPOCHS_NAME).map(|kind| kind.id) else { return Ok(None) };
    let view = core.view();
    let Some(entry) = view.latest(own, &commit_key(source, kind))? else { return Ok(None) };
    if entry.payload().is_empty() {
        return Ok(None);
    }
    // The lists name something each, and stand before it.
    let most = |commit: &EpochCommit| commit.entities.min(entry.seq().get());
    let is_possible = |commit: &EpochCommit| u64::from(commit.lists) <= most(commit);
    let Some(commit) = EpochCommit::read(entry.payload()).filter(is_possible) else {
        return Err(not_one(core, &entry, "the commit of an epoch"));
    };
    let lost = read_manifest(&*core.directory)?.map(|manifest| manifest.lost).unwrap_or_default();
    let may_be_done = lost.iter().any(|lost| lost.last_seq > entry.seq().get());
    Ok(Some((
        own,
        Decided { lists: commit.lists, source: commit.source, seq: entry.seq().get(), may_be_done },
    )))
}

#[cold]
fn lost_behind(core: &Core, commit: &Decided) -> Error {
    Error::corrupt(format!("carry on the end of an epoch of the source {:?}", commit.source))
        .at(core.directory.path())
        .concerning(commit.seq)
        .noting("a repair has lost what came behind it, perhaps that it was done: what is left of it stays asserted".to_owned())
}

fn listed(core: &Core, own: KindId, key: &[u8]) -> Result<Vec<EntityHash>> {
    let view = core.view();
    let Some(entry) = view.latest(own, key)? else {
        return Err(Error::corrupt("carry out the end of an epoch")
            .at(core.directory.path())
            .sides("a list of what is taken back", format!("no entry {:?}", String::from_utf8_lossy(key))));
    };
    let listed = hashes(entry.payload()).map(Iterator::collect);
    listed.ok_or_else(|| not_one(core, &entry, "a list of what an epoch takes back"))
}

#[cold]
fn not_one(core: &Core, entry: &Entry<'_>, what: &str) -> Error {
    Error::corrupt(format!("read {what}"))
        .at(core.directory.path())
        .concerning(entry.seq().get())
        .sides("its fields", format!("{} bytes that are none", entry.payload().len()))
}

/// The number of the kind of lists and commits.
fn register(core: &Core) -> Result<KindId> {
    let (name, codec, owner) = (EPOCHS_NAME.to_owned(), Codec::Bytes, Owner::Facts);
    let spec = KindSpec { name, version: VERSION, codec, owner, fields: Vec::new() };
    check_own(&spec)?;
    Ok(core.register_any(spec)?.id)
}
