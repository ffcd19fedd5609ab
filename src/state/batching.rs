//! Operations of any sources on any kinds that take effect together, with facts and with moves of cursors.
//!
//! What was said before is flushed first; then all of it is one batch, worked out and appended under the lock under
//! which operations are accepted. A patch is laid over the row as it is then, with what the batch has said before it.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result, entity_text};
use crate::journal::core::{Core, Item};
use crate::journal::cursors::Move;
use crate::journal::rows::{Appended, Together};
use crate::state::engine::{OnlyIf, Open, Operation, State, check, stuck};
use crate::state::kind::{Kind, Patch};
use crate::state::pending::Saying;
use crate::state::row::encode;
use crate::state::schema::Bound;
use crate::state::source::{Source, patching};
use crate::state::window::Window;

/// Makes a row of the one that is there, and says which fields it names.
type Make = dyn Fn(Option<&[u8]>) -> Result<(Vec<u8>, u64)> + Send + Sync;

/// An operation of a batch, before it is committed.
pub(crate) struct InBatch {
    source: Source,
    bound: Arc<Bound>,
    key: Box<[u8]>,
    what: What,
    metadata: Box<[u8]>,
}

enum What {
    Assert(Vec<u8>),
    Patch(Box<Make>),
    Retract,
}

impl InBatch {
    pub(crate) fn assert<T>(source: &Source, kind: Kind<T>, key: &[u8], row: &T) -> Result<Self>
    where
        T: Serialize + DeserializeOwned,
    {
        let bound = source.bind(kind)?;
        let mut bytes = Vec::new();
        encode(&bound, key, row, &mut bytes)?;
        Self::new(source, bound, key, What::Assert(bytes))
    }

    pub(crate) fn patch<T>(source: &Source, kind: Kind<T>, key: &[u8], patch: &Patch) -> Result<Self>
    where
        T: Serialize + DeserializeOwned + 'static,
    {
        let bound = source.bind(kind)?;
        bound.check_names(key, patch.names().map(str::as_bytes))?;
        let (of, patch, of_key) = (Arc::clone(&bound), patch.clone(), Box::<[u8]>::from(key));
        let make = move |row: Option<&[u8]>| patching::<T>(&of, &of_key, &patch, row);
        Self::new(source, bound, key, What::Patch(Box::new(make)))
    }

    pub(crate) fn retract<T: DeserializeOwned>(source: &Source, kind: Kind<T>, key: &[u8]) -> Result<Self> {
        Self::new(source, source.bind(kind)?, key, What::Retract)
    }

    fn new(source: &Source, bound: Arc<Bound>, key: &[u8], what: What) -> Result<Self> {
        let said = Self { source: source.clone(), bound, key: key.into(), what, metadata: Box::default() };
        check(&said.bound.name, &said.operation(Saying::Retract))?;
        Ok(said)
    }

    /// Puts bytes beside it. What is too long leaves it as it was.
    pub(crate) fn set_metadata(&mut self, metadata: &[u8]) -> Result<()> {
        let before = std::mem::replace(&mut self.metadata, metadata.into());
        check(&self.bound.name, &self.operation(Saying::Retract)).inspect_err(|_| self.metadata = before)
    }

    fn operation<'a>(&'a self, saying: Saying<'a>) -> Operation<'a> {
        let (speaker, key) = (self.source.speaker(), &*self.key);
        Operation { speaker, key, saying, metadata: &self.metadata, only_if: OnlyIf::Whatever }
    }
}

impl fmt::Debug for InBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InBatch({:?}, {})", self.source, entity_text(&self.bound.name, &self.key))
    }
}

impl State {
    /// Appends operations, facts and moves of cursors as one batch, or nothing of them.
    pub(crate) fn append_together(
        &self,
        core: &Arc<Core>,
        said: &[InBatch],
        facts: Vec<Item<'_>>,
        moves: &[Move],
    ) -> Result<Appended> {
        core.check_not_forked("append a batch")?;
        if said.iter().any(|said| !Arc::ptr_eq(said.source.core(), core)) {
            return Err(Error::new(ErrorKind::InvalidInput, "append a batch")
                .at(core.directory.path())
                .sides("sources of the batch's own store", "one of another"));
        }
        let speakers = said.iter().map(|said| said.source.speaker());
        let mut open = loop {
            let open = self.enter_alive(core, speakers.clone(), Self::enter_whatever_failed)?;
            let mut whom = said.iter().map(|said| (said.source.id(), said.bound.id));
            let Some(held) = whom.find(|whom| open.epochs.is_held(*whom)) else { break open };
            drop(open);
            self.wait_for_end(core, held)?;
        };
        self.append_in(core, &mut open)?;
        let window = open.window_of(core, said)?;
        open.window.take_over(window);
        let appended = self.append_with(core, &mut open, Together { facts, moves, up_to: 0 });
        if appended.is_err() {
            // What answers an error was not taken.
            open.window.withdraw();
            return appended;
        }
        for said in said {
            let hash = core.index.hash(said.bound.id.get(), &said.key);
            open.epochs.touch(said.source.id(), said.bound.id, hash);
            open.sessions.endings.touch(said.source.id(), hash);
        }
        appended
    }
}

impl Open {
    /// A window of its own that operations come to, where nothing else is pending.
    fn window_of(&mut self, core: &Arc<Core>, said: &[InBatch]) -> Result<Window> {
        let mut window = self.window.successor();
        for one in said {
            let hash = core.index.hash(one.bound.id.get(), &one.key);
            let entity = match window.find(hash) {
                Some(entity) => entity,
                None => {
                    let entity = self.take(core, &one.bound, hash, &one.key)?;
                    window.enter(entity)
                }
            };
            let made;
            let saying = match &one.what {
                What::Assert(row) => Saying::Assert(row),
                What::Retract => Saying::Retract,
                What::Patch(make) => {
                    let standing = window.standing(entity);
                    if standing.is_stuck {
                        return Err(stuck(&one.bound, &one.key));
                    }
                    made = make(standing.row.as_deref())?;
                    Saying::Patch(&made.0, made.1)
                }
            };
            let operation = one.operation(saying);
            check(&one.bound.name, &operation)?;
            window.say(entity, &self.utterance(&one.bound, &operation));
        }
        Ok(window)
    }
}
