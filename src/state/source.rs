//! Sources: who says what is true, and the sessions in which they say it.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result, entity_text};
use crate::journal::Journal;
use crate::journal::core::Core;
use crate::state::ending::Closing;
use crate::state::engine::{Accepted, OnlyIf, Operation, State};
use crate::state::epoch::{Epoch, EpochOutcome, WhereOneIsOpen};
use crate::state::kind::{Kind, Patch};
use crate::state::pending::Saying;
use crate::state::row::{ALL_FIELDS, changed, check_is_steady, decode, encode, patched};
use crate::state::schema::Bound;
use crate::state::sessions::{Claimed, SourceOptions, Speaker, Who};
use crate::state::ticket::StateTicket;

/// A session of a source, until its last clone is dropped.
struct Claim {
    core: Arc<Core>,
    state: Arc<State>,
    id: u8,
    session: u64,
    name: String,
    /// Its number is given back when what it asserts is taken back.
    gives_back: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.state.let_go(&self.core, self.id, &self.name, self.session);
    }
}

/// A session of a source: through it the source says what is true.
///
/// Clones are the same session, and may be used from any thread. What a source asserts stays asserted when its
/// sessions end and when the process does, until the source retracts it; unless it has a deadline
/// ([`Liveness`](crate::Liveness)), which runs when it falls silent.
///
/// **Operations are accepted, not awaited**: what they come to is appended with their window, and is visible and
/// durable as the [`StateTicket`] says, or behind [`Store::flush`](crate::Store::flush). An operation that answers an
/// error was not taken. If a window that nobody waits for cannot be appended, the next call of any session, or the
/// close, is told; what was pending stays, and is tried again.
///
/// ```
/// use esker::{Kind, Patch, Store};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// struct Vessel {
///     name: String,
///     knots: f32,
/// }
///
/// const VESSEL: Kind<Vessel> = Kind::new("vessel");
///
/// # fn main() -> esker::Result<()> {
/// let store = Store::in_memory()?;
/// let (radar, pilot) = (store.source("radar")?, store.source("pilot")?);
/// radar.assert(VESSEL, "mmsi:2190", &Vessel { name: "Ada".into(), knots: 11.2 })?;
/// pilot.patch(VESSEL, "mmsi:2190", &Patch::new().set("knots", &12.0)?)?;
/// store.flush()?;
/// assert_eq!(store.get(VESSEL, "mmsi:2190")?.unwrap().value()?.knots, 12.0);
///
/// radar.retract(VESSEL, "mmsi:2190")?;                  // the pilot still says that it is there
/// store.flush()?;
/// assert!(store.get(VESSEL, "mmsi:2190")?.is_some());
/// pilot.retract(VESSEL, "mmsi:2190")?;
/// store.flush()?;
/// assert!(store.get(VESSEL, "mmsi:2190")?.is_none());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Source {
    // Let go before the journal, which may end with this.
    claim: Arc<Claim>,
    state: Arc<State>,
    journal: Journal,
}

impl Source {
    /// Claims a source, and gives it a number if it has none.
    pub(crate) fn claim(journal: &Journal, who: Who<'_>, options: SourceOptions) -> Result<Self> {
        let core = journal.appending();
        core.check_not_forked("claim a source")?;
        let state = State::of(core);
        let Claimed { id, name, session } = state.claim(core, who, options)?;
        let gives_back = matches!(who, Who::Anybody(_));
        let (core, claimed) = (Arc::clone(core), Arc::clone(&state));
        let claim = Arc::new(Claim { core, state: claimed, id, session, name, gives_back });
        Ok(Self { claim, state, journal: journal.clone() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.claim.name
    }

    /// Its number: the bit that it has in a row's set of sources.
    #[must_use]
    pub fn id(&self) -> u8 {
        self.claim.id
    }

    /// States the whole of an entity: it is there, and this is its row. It is accepted, and durable when its window is: see
    /// [`Source`] and [`StateTicket`].
    ///
    /// A row that is as it was changes nothing: no version, no notification, and no frame if the source asserted
    /// it before. A row that was written before its type had gained a field is not as it is now.
    ///
    /// # Errors
    ///
    /// `Codec` if the value cannot be encoded; `Schema` if its type cannot be the row of the kind, with both
    /// lists of fields; `KindMismatch` if the name is one of facts or of a newer version; `InvalidInput` for a key
    /// over its limit, `BatchTooLarge` for a row that no batch takes, with its key and with what was said beside it, or beside
    /// the row that is there where only who asserts it changes; what a flush failed with that nobody waited
    /// for; `SourceEnded` behind a [`close`](Self::close); `Poisoned`, `Closed`, `Forked`.
    pub fn assert<T>(&self, kind: Kind<T>, key: impl AsRef<[u8]>, row: &T) -> Result<StateTicket>
    where
        T: Serialize + DeserializeOwned,
    {
        self.assert_with(kind, key, row, &[])
    }

    /// The same with bytes beside the row, at most 65,535. A window's row has those of its last operation that
    /// came with any.
    ///
    /// # Errors
    ///
    /// As [`assert`](Self::assert).
    pub fn assert_with<T>(
        &self,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
        row: &T,
        metadata: &[u8],
    ) -> Result<StateTicket>
    where
        T: Serialize + DeserializeOwned,
    {
        self.assert_row(kind, key.as_ref(), row, metadata, OnlyIf::Whatever)
    }

    /// Asserts a row if the entity's version in the log is this one (0: there never was such an entity), and no
    /// other source has said anything of it since.
    ///
    /// # Errors
    ///
    /// `Conflict` with both versions if it is not, and as [`assert`](Self::assert).
    pub fn assert_if<T>(
        &self,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
        version: u64,
        row: &T,
    ) -> Result<StateTicket>
    where
        T: Serialize + DeserializeOwned,
    {
        self.assert_row(kind, key.as_ref(), row, &[], OnlyIf::Version(version))
    }

    fn assert_row<T>(
        &self,
        kind: Kind<T>,
        key: &[u8],
        row: &T,
        metadata: &[u8],
        only_if: OnlyIf,
    ) -> Result<StateTicket>
    where
        T: Serialize + DeserializeOwned,
    {
        let bound = self.bind(kind)?;
        crate::codec::with_buffer(|bytes| {
            encode(&bound, key, row, bytes)?;
            check_is_steady::<T>(&bound, key, bytes)?;
            let (speaker, saying) = (self.speaker(), Saying::Assert(bytes));
            let operation = Operation { speaker, key, saying, metadata, only_if };
            match self.state.accept(self.core(), &bound, &operation)? {
                Accepted::Done(ticket) => Ok(ticket),
                Accepted::Moved => panic!("only what looked before can have been overtaken"),
            }
        })
    }

    /// States some fields of an entity: the others stay as they are, pending operations included. The source asserts the
    /// entity with it. An entity that is not there is created from the defaults that serde knows.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a field that the kind does not have, with the list of those that it has; `TypeMismatch` for
    /// a value that its field does not take, or if there is no entity and a field without a default is not among
    /// these: nothing is said then. And as [`assert`](Self::assert).
    pub fn patch<T>(&self, kind: Kind<T>, key: impl AsRef<[u8]>, patch: &Patch) -> Result<StateTicket>
    where
        T: Serialize + DeserializeOwned,
    {
        self.patch_row(kind, key.as_ref(), patch, &[], false)
    }

    /// The same with bytes beside it, as those of [`assert_with`](Self::assert_with).
    ///
    /// # Errors
    ///
    /// As [`patch`](Self::patch).
    pub fn patch_with<T>(
        &self,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
        patch: &Patch,
        metadata: &[u8],
    ) -> Result<StateTicket>
    where
        T: Serialize + DeserializeOwned,
    {
        self.patch_row(kind, key.as_ref(), patch, metadata, false)
    }

    /// As [`patch`](Self::patch), if there is the entity.
    ///
    /// # Errors
    ///
    /// `Conflict` if there is none, and as [`patch`](Self::patch).
    pub fn patch_existing<T>(
        &self,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
        patch: &Patch,
    ) -> Result<StateTicket>
    where
        T: Serialize + DeserializeOwned,
    {
        self.patch_row(kind, key.as_ref(), patch, &[], true)
    }

    fn patch_row<T>(
        &self,
        kind: Kind<T>,
        key: &[u8],
        patch: &Patch,
        metadata: &[u8],
        must_exist: bool,
    ) -> Result<StateTicket>
    where
        T: Serialize + DeserializeOwned,
    {
        let bound = self.bind(kind)?;
        bound.check_names(key, patch.names().map(str::as_bytes))?;
        self.overwrite(&bound, key, metadata, |row| {
            if row.is_none() && must_exist {
                let doing = format!("patch the row {}", entity_text(kind.name(), key));
                return Err(Error::new(ErrorKind::Conflict, doing).sides("an entity that is there", "none"));
            }
            patching::<T>(&bound, key, patch, row)
        })
    }

    /// Reads an entity's row as it is with all that is pending, and asserts what `change` makes of it; again, if
    /// another operation on the entity came between. So `change` may be called more than once.
    ///
    /// ```
    /// use esker::{Kind, Store};
    /// # #[derive(serde::Serialize, serde::Deserialize, Default)]
    /// # struct Counter { hits: u64 }
    /// const COUNTER: Kind<Counter> = Kind::new("counter");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let web = store.source("web")?;
    /// for _ in 0..3 {
    ///     web.update(COUNTER, "/", |counter| Counter { hits: counter.unwrap_or_default().hits + 1 })?;
    /// }
    /// store.flush()?;
    /// assert_eq!(store.get(COUNTER, "/")?.unwrap().value()?.hits, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `Codec` if the row that is there cannot be decoded, and as [`assert`](Self::assert).
    pub fn update<T>(
        &self,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
        mut change: impl FnMut(Option<T>) -> T,
    ) -> Result<StateTicket>
    where
        T: Serialize + DeserializeOwned,
    {
        let (bound, key) = (self.bind(kind)?, key.as_ref());
        self.overwrite(&bound, key, &[], |row| {
            let value = row.map(|row| decode(kind.name(), key, row)).transpose()?;
            let mut bytes = Vec::new();
            encode(&bound, key, &change(value), &mut bytes)?;
            let differing = row.map_or(ALL_FIELDS, |row| changed(row, &bytes, &bound.fields));
            Ok((bytes, differing))
        })
    }

    /// Asserts what `make` makes of the row that is there, and names the fields that it says something of, one bit each. It
    /// runs under no lock, and again if it was overtaken.
    fn overwrite(
        &self,
        bound: &Arc<Bound>,
        key: &[u8],
        metadata: &[u8],
        mut make: impl FnMut(Option<&[u8]>) -> Result<(Vec<u8>, u64)>,
    ) -> Result<StateTicket> {
        loop {
            let (row, only_if) = self.state.look(self.core(), bound, key, |standing| {
                let only_if = OnlyIf::Tick(standing.tick, standing.version);
                (standing.row.map(std::borrow::Cow::into_owned), only_if)
            })?;
            let (row, present) = make(row.as_deref())?;
            let (speaker, saying) = (self.speaker(), Saying::Patch(&row, present));
            let operation = Operation { speaker, key, saying, metadata, only_if };
            if let Accepted::Done(ticket) = self.state.accept(self.core(), bound, &operation)? {
                return Ok(ticket);
            }
        }
    }

    /// Says that as far as this source knows the entity is not there. It is deleted when no source asserts it any
    /// more; where this one never did, nothing changes. Of a kind with [events](Kind::events) it is an event all the same.
    ///
    /// # Errors
    ///
    /// As [`assert`](Self::assert).
    pub fn retract<T>(&self, kind: Kind<T>, key: impl AsRef<[u8]>) -> Result<StateTicket>
    where
        T: DeserializeOwned,
    {
        self.retract_with(kind, key, &[])
    }

    /// The same with bytes beside it, as those of [`assert_with`](Self::assert_with): why it is gone, say.
    ///
    /// # Errors
    ///
    /// As [`assert`](Self::assert).
    pub fn retract_with<T>(
        &self,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
        metadata: &[u8],
    ) -> Result<StateTicket>
    where
        T: DeserializeOwned,
    {
        let bound = self.bind(kind)?;
        let (speaker, key, only_if) = (self.speaker(), key.as_ref(), OnlyIf::Whatever);
        let operation = Operation { speaker, key, saying: Saying::Retract, metadata, only_if };
        match self.state.accept(self.core(), &bound, &operation)? {
            Accepted::Done(ticket) => Ok(ticket),
            Accepted::Moved => panic!("only what looked before can have been overtaken"),
        }
    }

    /// Begins to say again all that this source knows of a kind: at the [commit](Epoch::commit) it retracts what it
    /// asserted before and has not touched since. Operations go on as ever, through any clone of the session.
    ///
    /// ```
    /// use esker::{Kind, Store};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Package { version: String }
    /// # const PACKAGE: Kind<Package> = Kind::new("package");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let dpkg = store.source("dpkg")?;
    /// for listing in [&["bash", "sed"][..], &["bash", "vim"]] {
    ///     let epoch = dpkg.epoch(PACKAGE)?;
    ///     for name in listing {
    ///         dpkg.assert(PACKAGE, name, &Package { version: "1".into() })?;
    ///     }
    ///     println!("{} are gone", epoch.commit()?.retracted);
    /// }
    /// assert!(store.get(PACKAGE, "sed")?.is_none() && store.get(PACKAGE, "bash")?.is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `EpochOpen` while the source has one of that kind ([`epoch_anew`](Self::epoch_anew) replaces it), and as
    /// [`assert`](Self::assert).
    pub fn epoch<T: DeserializeOwned>(&self, kind: Kind<T>) -> Result<Epoch> {
        Epoch::begin(self, &self.state, self.bind(kind)?, WhereOneIsOpen::Refuse)
    }

    /// The same in the place of one that is open, which is abandoned: its [commit](Epoch::commit) answers `SourceEnded`, and what
    /// was said in it is stale unless it is said again. For who begins over while a thread that hangs has the other one.
    ///
    /// ```
    /// use esker::{ErrorKind, Kind, Store};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Package { version: String }
    /// # const PACKAGE: Kind<Package> = Kind::new("package");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let dpkg = store.source("dpkg")?;
    /// let hangs = dpkg.epoch(PACKAGE)?;
    /// dpkg.assert(PACKAGE, "sed", &Package { version: "1".into() })?;
    /// let anew = dpkg.epoch_anew(PACKAGE)?;
    /// assert_eq!(hangs.commit().unwrap_err().kind(), ErrorKind::SourceEnded);
    /// assert_eq!(anew.commit()?.retracted, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`assert`](Self::assert).
    pub fn epoch_anew<T: DeserializeOwned>(&self, kind: Kind<T>) -> Result<Epoch> {
        Epoch::begin(self, &self.state, self.bind(kind)?, WhereOneIsOpen::Replace)
    }

    /// Retracts all that this source asserts of a kind, in one batch.
    ///
    /// # Errors
    ///
    /// As [`epoch`](Self::epoch) and [`Epoch::commit`].
    pub fn retract_all<T: DeserializeOwned>(&self, kind: Kind<T>) -> Result<EpochOutcome> {
        self.epoch(kind)?.commit()
    }

    /// Says that the source is there, and nothing else: for a source with a deadline whose heartbeats are given
    /// [by hand](crate::Heartbeat::ByHand). For others it does nothing.
    ///
    /// # Errors
    ///
    /// `SourceEnded` if the session was closed; `Poisoned`, `Closed`, `Forked`; and what ending others answered who were
    /// silent for too long, where no thread does that: the sign of life counts all the same.
    pub fn heartbeat(&self) -> Result<()> {
        self.state.check_in(self.core(), self.speaker())
    }

    /// Ends the session for all its clones, and decides at once what becomes of what the source asserts. Answers of how
    /// many entities that was taken back. Epochs that are open are abandoned. Waits as the store's durability says.
    ///
    /// A session that is dropped instead decides nothing: what a source asserts stays if it may be silent for ever, and
    /// otherwise its deadline runs from then on.
    ///
    /// ```
    /// use esker::{Closing, ErrorKind, Kind, Store};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Vessel { name: String }
    /// # const VESSEL: Kind<Vessel> = Kind::new("vessel");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let radar = store.source("radar")?;
    /// let ada = Vessel { name: "Ada".into() };
    /// radar.assert(VESSEL, "ada", &ada)?;
    /// assert_eq!(radar.close(Closing::Retract)?, 1);
    /// assert!(store.get(VESSEL, "ada")?.is_none());
    /// assert_eq!(radar.assert(VESSEL, "ada", &ada).unwrap_err().kind(), ErrorKind::SourceEnded);
    /// assert!(store.source("radar").is_ok());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `SourceEnded` if it was closed before. `NoSpace`, `Io`, or `Corrupt` for a row that cannot be read: the session
    /// goes on, and what was taken back until then is. What its last flush answers comes when everything is
    /// decided and the session has ended: a call behind that answers `SourceEnded`, and
    /// [`Store::flush`](crate::Store::flush) tries again.
    pub fn close(&self, closing: Closing) -> Result<u64> {
        self.state.close_session(self.core(), self.speaker(), closing, self.claim.gives_back)
    }

    pub(crate) fn speaker(&self) -> Speaker<'_> {
        Speaker { source: self.claim.id, session: self.claim.session, name: &self.claim.name }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        self.journal.core()
    }

    #[inline]
    pub(crate) fn bind<T: DeserializeOwned>(&self, kind: Kind<T>) -> Result<Arc<Bound>> {
        self.state.schemas.bind(self.core(), kind)
    }
}

/// What a patch makes of a row, and the fields that it names, one bit each.
pub(crate) fn patching<T: Serialize + DeserializeOwned>(
    bound: &Bound,
    key: &[u8],
    patch: &Patch,
    row: Option<&[u8]>,
) -> Result<(Vec<u8>, u64)> {
    let row = patched::<T>(bound, key, row, patch.fields())?;
    Ok((row, bound.bits_of(patch.names())))
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?}, {})", self.claim.name, self.claim.id)
    }
}
