//! The kinds of a store: how they come to be, what is kept of them, and what may be appended to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{FACT, flag};
use crate::format::system::{Codec, Keep, KindInfo, Owner, System};
use crate::id::{KINDS_MAX, KindId, Position};
use crate::journal::core::{Core, Item};
use crate::journal::registry::{KindSpec, Registered, check_not_reserved, is_reserved};
use crate::log::writer::Draft;

/// A set of kinds, looked at by every append: one bit each.
#[derive(Debug)]
pub(crate) struct KindSet([AtomicU64; KINDS_MAX as usize / 64 + 1]);

impl KindSet {
    fn insert(&self, kind: KindId) {
        if let Some(word) = self.0.get(usize::from(kind.0) / 64) {
            word.fetch_or(1 << (kind.0 % 64), Ordering::Release);
        }
    }

    #[inline]
    fn contains(&self, kind: u16) -> bool {
        let word = self.0.get(usize::from(kind) / 64);
        word.is_some_and(|word| word.load(Ordering::Acquire) & 1 << (kind % 64) != 0)
    }
}

/// True of a kind of which only the state layer writes: a program that appends to it would break what it says.
pub(crate) fn is_guarded(kind: &KindInfo) -> bool {
    kind.owner == Owner::State || is_reserved(&kind.name)
}

impl FromIterator<KindId> for KindSet {
    fn from_iter<I: IntoIterator<Item = KindId>>(kinds: I) -> Self {
        let set = Self([const { AtomicU64::new(0) }; KINDS_MAX as usize / 64 + 1]);
        kinds.into_iter().for_each(|kind| set.insert(kind));
        set
    }
}

impl Core {
    /// Registers a kind, or finds it registered alike.
    pub(crate) fn register(&self, spec: KindSpec) -> Result<Arc<KindInfo>> {
        check_not_reserved(&spec.name)?;
        self.register_any(spec)
    }

    /// The same, for kinds of the library's own too.
    pub(crate) fn register_any(&self, spec: KindSpec) -> Result<Arc<KindInfo>> {
        self.check_not_forked("register a kind")?;
        if let Registered::Already(kind) = self.registry.read().resolve(spec.clone())? {
            return Ok(kind);
        }
        loop {
            let mut writer = self.writer.lock();
            self.check_writable()?;
            let info = match self.registry.read().resolve(spec.clone())? {
                Registered::Already(kind) => return Ok(kind),
                Registered::New(info) => info,
            };
            let payload = info.encode();
            let draft = Draft::system(System::Kind, &payload);
            if self.make_room(&mut writer, draft.bytes())? {
                self.push_system(&mut writer, &draft)?;
                let id = info.id;
                if is_guarded(&info) {
                    self.state_kinds.insert(id);
                }
                let mut registry = self.registry.write();
                registry.learn(info);
                self.kinds_through.store(registry.dense_through(), Ordering::Release);
                let found = registry.get(id).cloned();
                return found.ok_or_else(|| Error::new(ErrorKind::UnknownKind, "register a kind"));
            }
            drop(writer);
            self.prepare(draft.bytes())?;
        }
    }

    /// A kind that is registered.
    pub(crate) fn known_kind(&self, kind: KindId, doing: &str) -> Result<Arc<KindInfo>> {
        self.registry.read().get(kind).cloned().ok_or_else(|| {
            Error::new(ErrorKind::UnknownKind, format!("{doing} kind {kind}"))
                .sides("a kind that this store has registered", kind)
        })
    }

    /// Registers what is kept of a kind. Answers where the log ends behind that.
    pub(crate) fn set_keep(&self, kind: KindId, keep: Keep) -> Result<Position> {
        self.check_not_forked("say what is kept of a kind")?;
        loop {
            let mut writer = self.writer.lock();
            self.check_writable()?;
            let known = self.known_kind(kind, "say what is kept of")?;
            if known.owner == Owner::State && keep == Keep::Nothing {
                return Err(self.owned_by_state(kind.0, "keep nothing of"));
            }
            if known.owner != Owner::Facts && keep == Keep::Fold {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("keep of {:?} what folds need", known.name),
                )
                .sides("a kind of facts", format!("owner {:?}", known.owner)));
            }
            if known.keep == keep {
                return Ok(self.commit.visible());
            }
            let info = KindInfo { keep, ..(*known).clone() };
            let payload = info.encode();
            let draft = Draft::system(System::Kind, &payload);
            if self.make_room(&mut writer, draft.bytes())? {
                self.push_system(&mut writer, &draft)?;
                self.registry.write().learn(info);
                return Ok(self.commit.visible());
            }
            drop(writer);
            self.prepare(draft.bytes())?;
        }
    }

    pub(crate) fn check_kinds(&self, items: &[Item<'_>]) -> Result<()> {
        let known = 1..=self.kinds_through.load(Ordering::Acquire);
        items.iter().try_for_each(|item| {
            let kind = item.draft.kind;
            if item.draft.operation == FACT && !item.is_own {
                if self.state_kinds.contains(kind) {
                    return Err(self.owned_by_state(kind, "append to"));
                }
                if item.draft.flags & flag::TOMBSTONE != 0 {
                    self.check_tombstone(kind)?;
                }
            }
            if known.contains(&kind) || self.registry.read().get(KindId(kind)).is_some() {
                return Ok(());
            }
            Err(Error::new(ErrorKind::UnknownKind, format!("append to kind {kind}"))
                .sides("a kind that this store has registered", kind))
        })
    }

    /// Only the state layer knows what its rows have to say, so that no other door can break it.
    #[cold]
    pub(crate) fn owned_by_state(&self, kind: u16, doing: &str) -> Error {
        let name = self.registry.read().get(KindId(kind)).map(|known| known.name.clone());
        let is_own = name.as_deref().is_some_and(is_reserved);
        let name = name.map_or_else(|| kind.to_string(), |name| format!("{name:?}"));
        let error =
            Error::new(ErrorKind::OwnedByState, format!("{doing} kind {name}")).at(self.directory.path());
        if is_own { error.noting("the store itself says what comes and goes".to_owned()) } else { error }
    }

    /// Typed values have no form that says that there is none.
    #[cold]
    fn check_tombstone(&self, kind: u16) -> Result<()> {
        let registry = self.registry.read();
        match registry.get(KindId(kind)) {
            Some(known) if known.codec != Codec::Bytes => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("append a tombstone to kind {:?}", known.name),
            )
            .sides("a kind whose payloads are bytes", format!("codec {:?}", known.codec))),
            _ => Ok(()),
        }
    }
}
