//! Epochs: a source says again all that it knows of a kind, and what it does not say any more it takes back.

pub(crate) mod in_parts;

use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::format::index::EntityHash;
use crate::id::KindId;
use crate::journal::entry::Entry;
use crate::journal::view::View;
use crate::state::engine::State;
use crate::state::epoch::in_parts::Whom;
use crate::state::pending::frame_bytes;
use crate::state::reading::Walk;
use crate::state::row::Said;
use crate::state::schema::Bound;
use crate::state::source::Source;
use crate::state::window::AsItIs;

/// What epochs that are open have seen.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    open: Vec<OpenEpoch>,
    begun: u64,
    /// Those whose end takes more than one batch, and is being decided or carried out: nobody speaks for them meanwhile.
    held: Vec<Whom>,
}

#[derive(Debug)]
struct OpenEpoch {
    number: u64,
    source: u8,
    kind: KindId,
    /// The entities that the source has said anything of since it began.
    touched: HashSet<EntityHash, BuildHasherDefault<AsItIs>>,
}

impl Epochs {
    fn begin(&mut self, source: u8, kind: KindId) -> Option<u64> {
        if self.open.iter().any(|epoch| (epoch.source, epoch.kind) == (source, kind)) {
            return None;
        }
        self.begun += 1;
        self.open.push(OpenEpoch { number: self.begun, source, kind, touched: HashSet::default() });
        Some(self.begun)
    }

    /// True if a source has one open of a kind.
    pub(crate) fn has(&self, source: u8, kind: KindId) -> bool {
        self.open.iter().any(|epoch| (epoch.source, epoch.kind) == (source, kind))
    }

    /// Takes note of an operation.
    #[inline]
    pub(crate) fn touch(&mut self, source: u8, kind: KindId, hash: EntityHash) {
        for epoch in self.open.iter_mut().filter(|epoch| (epoch.source, epoch.kind) == (source, kind)) {
            epoch.touched.insert(hash);
        }
    }

    pub(crate) fn has_touched(&self, number: u64, hash: EntityHash) -> bool {
        self.open.iter().any(|epoch| epoch.number == number && epoch.touched.contains(&hash))
    }

    /// True unless it was ended.
    pub(crate) fn is_open(&self, number: u64) -> bool {
        self.open.iter().any(|epoch| epoch.number == number)
    }

    pub(crate) fn hold(&mut self, whom: Whom) {
        self.held.push(whom);
    }

    pub(crate) fn release(&mut self, whom: Whom) {
        self.held.retain(|held| *held != whom);
    }

    pub(crate) fn held(&self) -> Vec<Whom> {
        self.held.clone()
    }

    #[inline]
    pub(crate) fn is_held(&self, whom: Whom) -> bool {
        self.held.contains(&whom)
    }

    /// Ends that of a source and a kind, if one is open.
    fn abandon_of(&mut self, whom: Whom) {
        self.open.retain(|epoch| (epoch.source, epoch.kind) != whom);
    }

    /// Ends those of a source.
    pub(crate) fn abandon(&mut self, source: u8) {
        self.open.retain(|epoch| epoch.source != source);
    }

    fn touched(&self, number: u64) -> u64 {
        let epoch = self.open.iter().find(|epoch| epoch.number == number);
        epoch.map_or(0, |epoch| epoch.touched.len() as u64)
    }

    fn end(&mut self, number: u64) {
        self.open.retain(|epoch| epoch.number != number);
    }
}

/// What becomes of an epoch that begins beside another one of its source and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhereOneIsOpen {
    Refuse,
    Replace,
}

/// A re-statement of all that a source knows of a kind; see [`Source::epoch`].
///
/// Dropped without a [`commit`](Self::commit) it is abandoned: what was said in it stays said, and nothing is taken
/// back. So it is when its source falls silent for longer than its [`Liveness`](crate::Liveness) says, when the
/// session is closed, and when [another one](Source::epoch_anew) is begun in its place. It remembers some 30 bytes for each entity that was touched.
#[must_use = "an epoch that is dropped is abandoned"]
pub struct Epoch {
    source: Source,
    state: Arc<State>,
    bound: Arc<Bound>,
    number: u64,
}

/// What an epoch came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EpochOutcome {
    /// The entities that were touched in it.
    pub touched: u64,
    /// Those that the source asserted before and were not: it has retracted them.
    pub retracted: u64,
}

impl Epoch {
    pub(crate) fn begin(
        source: &Source,
        state: &Arc<State>,
        bound: Arc<Bound>,
        other: WhereOneIsOpen,
    ) -> Result<Self> {
        let (core, whom) = (source.core(), (source.id(), bound.id));
        core.check_not_forked("begin an epoch")?;
        let mut open = loop {
            // Under one lock: let go of it in between, the number may be another source's, whose events this would silence.
            let open =
                state.enter_with_a_sign(core, std::iter::once(source.speaker()), State::enter_beside)?;
            if other == WhereOneIsOpen::Refuse || !open.epochs.is_held(whom) {
                break open;
            }
            // What was decided is carried out, whoever begins anew.
            drop(open);
            state.wait_for_end(core, whom)?;
        };
        if other == WhereOneIsOpen::Replace {
            open.epochs.abandon_of(whom);
        }
        let number = open.epochs.begin(source.id(), bound.id);
        drop(open);
        let Some(number) = number else {
            let doing = format!("begin an epoch of {:?} and the kind {:?}", source.name(), bound.name);
            return Err(Error::new(ErrorKind::EpochOpen, doing));
        };
        Ok(Self { source: source.clone(), state: Arc::clone(state), bound, number })
    }

    /// The keys of the entities that a commit would retract now.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub fn stale(&self) -> Result<Vec<Box<[u8]>>> {
        let mut stale = Vec::new();
        self.state.append(self.source.core())?;
        self.each_stale(self.source.core().view(), &mut |entry, _| {
            stale.push(entry.key().into());
            Ok(true)
        })?;
        Ok(stale)
    }

    /// Goes through what of a view is stale, until it is told that this is enough.
    fn each_stale(
        &self,
        view: View,
        tell: &mut dyn FnMut(&Entry<'_>, EntityHash) -> Result<bool>,
    ) -> Result<()> {
        let core = self.source.core();
        let mut walk = Walk::new(view, self.bound.id);
        while walk.advance()? {
            let Some(entry) = walk.entry() else { continue };
            let asserts = Said::of(&entry)?.mark.sources & 1 << (self.source.id() % 64) != 0;
            let hash = core.index.hash(self.bound.id.get(), entry.key());
            let is_stale =
                asserts && !self.state.with_epochs(core, |epochs| epochs.has_touched(self.number, hash))?;
            if is_stale && !tell(&entry, hash)? {
                break;
            }
        }
        Ok(())
    }

    /// The keys of what is stale, if its retraction may be one batch.
    fn stale_at_once(&self) -> Result<Option<Vec<Box<[u8]>>>> {
        let core = self.source.core();
        let (most, mut bytes, mut stale) = (core.options.epoch_bytes_max(), 0, Vec::new());
        self.state.append(core)?;
        self.each_stale(core.view(), &mut |entry, _| {
            bytes += frame_bytes(entry.key().len(), 0, 0);
            stale.push(entry.key().into());
            Ok(bytes <= most)
        })?;
        Ok((bytes <= most).then_some(stale))
    }

    /// Ends it: whatever the source asserted of the kind and has not touched since the beginning it retracts. Other sources'
    /// assertions are not affected. Waits as the store's durability says.
    ///
    /// All of it is one batch, if that takes no more than [`Options::epoch_batch_bytes`](crate::Options::epoch_batch_bytes): then
    /// nobody ever sees a part of it. What takes more is decided as a whole and carried out in batches: a crash leaves all of it or
    /// nothing, for the next opening as a [`Store`](crate::Store) carries on what was decided, before it answers. Until the end whoever
    /// reads, also in another process, sees a part of it; and the source's other operations of the kind wait.
    ///
    /// # Errors
    ///
    /// `SourceEnded` if it was abandoned before. `Corrupt` or `Io` for a row that cannot be read; and what a flush answers.
    /// Of an end in one batch nothing was retracted then, and the epoch is abandoned. One in batches may have been decided: then the
    /// next flush, the next operation of the source and the kind, or the next opening goes on with it; but behind `Corrupt` all of it is
    /// done but for what that names.
    pub fn commit(self) -> Result<EpochOutcome> {
        let (core, speaker) = (self.source.core(), self.source.speaker());
        self.state.check_in(core, speaker)?;
        let at_once = match self.stale_at_once()? {
            Some(stale) => self.state.retract_stale(core, &self.bound, (speaker, self.number), &stale)?,
            None => None,
        };
        let touched = self.state.with_epochs(core, |epochs| epochs.touched(self.number))?;
        let retracted = match at_once {
            Some(retracted) => retracted,
            None => self.state.end_in_parts(core, &self.bound, (speaker, self.number), &|tell| {
                self.each_stale(core.view(), &mut |_, hash| tell(hash).map(|()| true))
            })?,
        };
        self.state.flush_alone(core)?;
        Ok(EpochOutcome { touched, retracted })
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.state.end_epoch(self.source.core(), |epochs| epochs.end(self.number));
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({:?}, kind {:?})", self.source.name(), self.bound.name)
    }
}
