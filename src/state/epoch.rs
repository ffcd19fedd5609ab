//! Epochs: a source says again all that it knows of a kind, and what it does not say any more it takes back.

use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::format::index::EntityHash;
use crate::id::KindId;
use crate::state::engine::State;
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

/// A re-statement of all that a source knows of a kind; see [`Source::epoch`].
///
/// Dropped without a [`commit`](Self::commit) it is abandoned: what was said in it stays said, and nothing is taken
/// back. So it is when its source falls silent for longer than its [`Liveness`](crate::Liveness) says, and when the
/// session is closed. It remembers some 30 bytes for each entity that was touched.
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
    pub(crate) fn begin(source: &Source, state: &Arc<State>, bound: Arc<Bound>) -> Result<Self> {
        let (core, speaker) = (source.core(), std::iter::once(source.speaker()));
        core.check_not_forked("begin an epoch")?;
        // Under one lock: let go of it in between, the number may be another source's, whose events this would silence.
        let mut open = state.enter_with_a_sign(core, speaker, State::enter_beside)?;
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
        let core = self.source.core();
        self.state.append(core)?;
        let mut walk = Walk::new(core.view(), self.bound.id);
        let mut stale = Vec::new();
        while walk.advance()? {
            let Some(entry) = walk.entry() else { continue };
            let asserts = Said::of(&entry)?.mark.sources & 1 << (self.source.id() % 64) != 0;
            let hash = core.index.hash(self.bound.id.get(), entry.key());
            if asserts && !self.state.with_epochs(core, |epochs| epochs.has_touched(self.number, hash))? {
                stale.push(entry.key().into());
            }
        }
        Ok(stale)
    }

    /// Ends it: whatever the source asserted of the kind and has not touched since the beginning it retracts, all in one
    /// batch of up to 512 MiB: a segment of the log is made to hold it. Other sources' entities are not affected. Waits as the store's durability says.
    ///
    /// # Errors
    ///
    /// `BatchTooLarge` if the retractions take more than 512 MiB of log (some millions take less): nothing was retracted,
    /// and the epoch is abandoned. `SourceEnded` if it was abandoned before. `Corrupt` or `Io` for a row that cannot be
    /// read; and what a flush answers.
    pub fn commit(self) -> Result<EpochOutcome> {
        let core = self.source.core();
        self.state.check_in(core, self.source.speaker())?;
        let stale = self.stale()?;
        let touched = self.state.with_epochs(core, |epochs| epochs.touched(self.number))?;
        let retracted =
            self.state.retract_stale(core, &self.bound, (self.source.speaker(), self.number), &stale)?;
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
