//! Live state through the typed door.

use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::format::system::Keep;
use crate::id::KindId;
use crate::journal::reader::Reader;
use crate::journal::registry::SESSIONS_NAME;
use crate::journal::view::View;
use crate::journal::waiting::Until;
use crate::state::door::Door;
use crate::state::ending::Closing;
use crate::state::engine::{State, StateStats};
use crate::state::events::{EventWatcher, Events, EventsBuilder, without_events};
use crate::state::kind::Kind;
use crate::state::past::{Asked, check_entity, check_rows};
use crate::state::presence::SessionEvent;
use crate::state::reading::{self, OwnedRow, Row, Rows, Status, Version};
use crate::state::schema::readable_as;
use crate::state::sessions::{SourceOptions, Who};
use crate::state::source::Source;
use crate::state::subscribing::SubscriptionBuilder;
use crate::state::subscription::Subscription;
use crate::state::ticket::StateTicket;
use crate::store::Store;
use crate::store::facts::Facts;
use crate::store::view::StoreView;

/// Who comes and goes: what became of sources that have a deadline, each under its name. Sources that may be silent for
/// ever are not told of: their claims cost no entry.
///
/// The store itself says it, in the moment or soon after; nobody waits for the disk. It is read like any other kind of
/// facts, and `OwnedByState` is the answer to whoever appends to it. Compaction keeps all of it, two entries for each session: where
/// sources come and go all the time, [`Journal::keep`](crate::Journal::keep) says otherwise.
///
/// ```
/// use std::time::Duration;
///
/// use esker::{Liveness, SESSIONS, SessionEvent, SourceOptions, Store};
/// # fn main() -> esker::Result<()> {
/// let store = Store::in_memory()?;
/// let mortal = SourceOptions::new().liveness(Liveness::Deadline(Duration::from_secs(30)));
/// let radar = store.source_with("radar", mortal)?;
/// let newest = store.latest(SESSIONS, "radar")?.unwrap();
/// assert_eq!(newest.value()?, SessionEvent::Begun { source: radar.id() });
/// # Ok(()) }
/// ```
pub const SESSIONS: Facts<SessionEvent> = Facts::new(SESSIONS_NAME);

const _: () = {
    const fn is_shareable<T: Send + Sync + 'static>() {}
    const fn moves<T: Send + 'static>() {}
    is_shareable::<Source>();
    is_shareable::<StateTicket>();
    moves::<Events<*const u8>>();
    moves::<EventWatcher<*const u8>>();
    is_shareable::<OwnedRow<*const u8>>();
    moves::<Subscription<*const u8>>();
    moves::<Rows<*const u8>>();
};

impl Store {
    /// A session of a source, which has one of 64 numbers in the store from its first session on; see [`Source`].
    ///
    /// # Errors
    ///
    /// `SourceClaimed` while another session has it, `LimitReached` with all 64, and whether they assert anything, if
    /// there is no number,
    /// `InvalidInput` for a name over its limit; and what [`append`](Self::append) answers.
    pub fn source(&self, name: &str) -> Result<Source> {
        self.source_with(name, SourceOptions::new())
    }

    /// The same, with what becomes of the source when it falls silent; see [`SourceOptions`] and [`Liveness`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a deadline outside its limits, and as [`source`](Self::source).
    ///
    /// [`Liveness`]: crate::Liveness
    pub fn source_with(&self, name: &str, options: SourceOptions) -> Result<Source> {
        Source::claim(self.journal(), Who::Named(name), options)
    }

    /// A session of a new source, with a number that none has, and a name of its own: the first of `prefix-0`,
    /// `prefix-1` and so on that is free. Nothing is asserted under its number, in no kind.
    ///
    /// A number is not free again by itself: [`Source::close`] with [`Closing::Retract`] gives it back, or
    /// [`retire_source`](Self::retire_source).
    ///
    /// ```
    /// use esker::{Closing, SourceOptions, Store};
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let worker = store.source_auto("worker", SourceOptions::new())?;
    /// assert_eq!((worker.name(), worker.id()), ("worker-0", 0));
    /// worker.close(Closing::Retract)?;
    /// assert!(store.journal().sources().is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`source_with`](Self::source_with).
    pub fn source_auto(&self, prefix: &str, options: SourceOptions) -> Result<Source> {
        Source::claim(self.journal(), Who::Anybody(prefix), options)
    }

    /// Frees the number and the name of a source that is needed no more: another source may be given the number, and what
    /// compaction has left of old rows then shows it under that one's name. Answers of how many entities was taken back
    /// what it asserted: with [`Closing::Preserve`] that is none, and it is refused if there is anything.
    ///
    /// # Errors
    ///
    /// `Conflict` with one of them if the source asserts entities, and they are not to be taken back; `SourceClaimed` if it
    /// has a session; `InvalidInput` if there is no such source; and what a flush answers.
    pub fn retire_source(&self, name: &str, closing: Closing) -> Result<u64> {
        let core = self.journal().appending();
        State::of(core).retire(core, name, closing)
    }

    /// Appends what sources have said up to now, as one batch, and waits as the store's durability says.
    ///
    /// # Errors
    ///
    /// `NoSpace` or `Io`: it is still pending, and is tried again; what ending sources answered who were silent for too long;
    /// `Poisoned`, `Closed`.
    pub fn flush(&self) -> Result<()> {
        let core = self.journal().appending();
        State::of(core).flush(core)
    }

    /// What the sources of this opening have said, and what became of it.
    ///
    /// # Errors
    ///
    /// `Forked` in a child of the process that opened the store.
    pub fn state_stats(&self) -> Result<StateStats> {
        let core = self.journal().core();
        State::of(core).stats(core)
    }

    /// The row of an entity, if it is there. Sees what was flushed, which a power cut may take until it is durable: what is
    /// pending shows behind its window, or with [`read_after`](Self::read_after).
    ///
    /// # Errors
    ///
    /// `KindMismatch` if the kind is one of facts; `Schema`, with both lists, if `T` is no form of what the store has under its
    /// name; `Corrupt`, `Io`.
    pub fn get<T: DeserializeOwned>(
        &self,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<OwnedRow<T>>> {
        Ok(self.view().get(kind, key)?.map(|row| row.to_owned()))
    }

    /// The same behind an operation: waits until that is visible, flushing it if need be, and then sees what it came to. So a
    /// source reads what it has written.
    ///
    /// ```
    /// use esker::{Kind, Store};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Vessel { knots: f32 }
    /// # const VESSEL: Kind<Vessel> = Kind::new("vessel");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let radar = store.source("radar")?;
    /// let ticket = radar.assert(VESSEL, "ada", &Vessel { knots: 11.2 })?;
    /// assert_eq!(store.read_after(&ticket, VESSEL, "ada")?.unwrap().value()?.knots, 11.2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`StateTicket::wait`] and [`get`](Self::get); `InvalidInput` for a ticket of another store.
    pub fn read_after<T: DeserializeOwned>(
        &self,
        ticket: &StateTicket,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<OwnedRow<T>>> {
        ticket.check_of(self.journal().core())?;
        ticket.wait(Until::Visible)?;
        self.get(kind, key)
    }

    /// How an entity is: also whether it was deleted a short while ago, within
    /// [`Options::tombstone_retention`](crate::Options::tombstone_retention) by the wall clock. Where that was set
    /// back since, a deletion may be told for up to as long again; where it was compacted with less for
    /// [`CompactOptions::keep_tombstones_for`](crate::CompactOptions::keep_tombstones_for), none is told that went with that.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn status<T: DeserializeOwned>(&self, kind: Kind<T>, key: impl AsRef<[u8]>) -> Result<Status> {
        self.view().status(kind, key)
    }

    /// The rows that an entity had, oldest first, and its deletions, as far as compaction has left them.
    ///
    /// # Errors
    ///
    /// `Compacted` if the history has no beginning any more: of live state only the newest row is kept, unless
    /// [`Journal::keep`](crate::Journal::keep) says otherwise. And as [`get`](Self::get).
    pub fn versions<T: DeserializeOwned>(
        &self,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
    ) -> Result<Vec<Version<T>>> {
        self.view().versions(kind, key)
    }

    /// The rows of a kind as they are now, on the disk: isolated from what is written meanwhile. See [`Rows`].
    ///
    /// ```
    /// use esker::{Kind, Store};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Vessel { name: String }
    /// # const VESSEL: Kind<Vessel> = Kind::new("vessel");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let radar = store.source("radar")?;
    /// for name in ["Ada", "Grace"] {
    ///     radar.assert(VESSEL, name, &Vessel { name: name.into() })?;
    /// }
    /// store.flush()?;
    /// for row in store.scan(VESSEL)? {
    ///     let row = row?;
    ///     println!("{:?} v{} {}", row.key(), row.version(), row.value()?.name);
    /// }
    /// # assert_eq!(store.scan(VESSEL)?.count(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and what a sync answers.
    pub fn scan<T: DeserializeOwned>(&self, kind: Kind<T>) -> Result<Rows<T>> {
        let core = self.journal().appending();
        let id = self.view().find_rows(kind)?;
        core.wait_durable(core.commit.visible())?;
        let view = View::new(std::sync::Arc::clone(&core.index), core.commit.durable());
        Ok(Rows::new(kind, id, view))
    }

    /// Follows a kind: the rows that there are, and then each change, with the defaults of [`subscription`](Self::subscription).
    ///
    /// ```
    /// use esker::{ChangeKind, Kind, Marker, StateItem, Store};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Vessel { name: String, knots: f32 }
    /// # const VESSEL: Kind<Vessel> = Kind::new("vessel");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let radar = store.source("radar")?;
    /// radar.assert(VESSEL, "mmsi:2190", &Vessel { name: "Ada".into(), knots: 11.2 })?;
    /// store.flush()?;
    ///
    /// let mut vessels = store.subscribe(VESSEL)?;
    /// radar.assert(VESSEL, "mmsi:2190", &Vessel { name: "Ada".into(), knots: 12.0 })?;
    /// store.flush()?;
    /// let mut told = Vec::new();
    /// while let Some(item) = vessels.try_next()? {
    ///     match item {
    ///         StateItem::Change(change) => told.push((change.kind(), change.version(), change.has("name"))),
    ///         StateItem::Marker(Marker::BootstrapBegin { .. }) => told.clear(),
    ///         StateItem::Marker(_) => {}
    ///         _ => {}
    ///     }
    /// }
    /// // It is one moment's rows, and what came behind that moment.
    /// assert_eq!(told, [(ChangeKind::Bootstrap, 2, true)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`SubscriptionBuilder::start`].
    pub fn subscribe<T: DeserializeOwned>(&self, kind: Kind<T>) -> Result<Subscription<T>> {
        self.subscription(kind).start()
    }

    /// What sources say of a kind with [events](Kind::events): one event for each assertion, patch and retraction, in
    /// the order in which they were said, over all entities. Nothing is folded together, and an assertion that changes
    /// nothing is one too.
    ///
    /// ```
    /// use esker::{EventItem, EventKind, Kind, Patch, Start, Store};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Vessel { name: String, knots: f32 }
    /// const VESSEL: Kind<Vessel> = Kind::new("vessel").events();
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let radar = store.source("radar")?;
    /// radar.assert(VESSEL, "mmsi:2190", &Vessel { name: "Ada".into(), knots: 11.2 })?;
    /// radar.patch(VESSEL, "mmsi:2190", &Patch::new().set("knots", &12.0)?)?;
    /// radar.retract(VESSEL, "mmsi:2190")?;
    /// store.flush()?;                                   // of rows nothing comes of that
    ///
    /// let mut events = store.events(VESSEL).from(Start::Oldest).start()?;
    /// let mut told = Vec::new();
    /// while let Some(EventItem::Event(event)) = events.try_next()? {
    ///     told.push((event.sequence(), event.kind(), event.has("knots")));
    /// }
    /// assert_eq!(told, [
    ///     (Some(1), EventKind::Created, true),
    ///     (Some(2), EventKind::Updated, true),
    ///     (Some(3), EventKind::Retracted, false),
    /// ]);
    /// # Ok(()) }
    /// ```
    pub fn events<T: DeserializeOwned>(&self, kind: Kind<T>) -> EventsBuilder<T> {
        EventsBuilder::new(Door::Store(self.journal().clone()), kind)
    }

    /// Says what compaction keeps of the operations of a kind with [events](Kind::events), from now on. All of them, unless
    /// it is told otherwise: state needs none of them.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a handle without events, and what [`append`](Self::append) answers.
    pub fn keep_events<T: DeserializeOwned>(&self, kind: Kind<T>, keep: Keep) -> Result<()> {
        let core = self.journal().appending();
        if !kind.has_events() {
            return Err(without_events("keep", kind.name()));
        }
        let operations = State::of(core).schemas.bind(core, kind)?.events;
        let operations = operations.ok_or_else(|| without_events("keep", kind.name()))?;
        self.journal().keep(operations, keep)
    }

    /// Says what compaction keeps of the rows of a kind, from now on: the newest of each entity, unless it is told otherwise.
    /// With [`Keep::All`] the past of a kind is there for [`at`](Self::at) and [`versions`](Self::versions).
    ///
    /// ```
    /// use esker::{Keep, Kind, Store};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Vessel { name: String }
    /// # const VESSEL: Kind<Vessel> = Kind::new("vessel");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// store.keep_rows(VESSEL, Keep::All)?;
    /// # assert_eq!(store.journal().kind_named("vessel").unwrap().keep, Keep::All);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `OwnedByState` for [`Keep::Nothing`], which state cannot do with, and what [`append`](Self::append) answers.
    pub fn keep_rows<T: DeserializeOwned>(&self, kind: Kind<T>, keep: Keep) -> Result<()> {
        let core = self.journal().appending();
        let rows = State::of(core).schemas.bind(core, kind)?.id;
        self.journal().keep(rows, keep)
    }

    /// How to follow a kind.
    pub fn subscription<T: DeserializeOwned>(&self, kind: Kind<T>) -> SubscriptionBuilder<T> {
        SubscriptionBuilder::new(Door::Store(self.journal().clone()), kind)
    }
}

impl Reader {
    /// How to follow a kind of live state from another process than the writer's: the rows that there are, and then each
    /// change, as [`Store::subscription`] does it. It looks for more again and again, with pauses of up to 20
    /// milliseconds, because nobody wakes it, and goes on when one writer has ended and the next begins.
    ///
    /// It is told what is [durable](Reader#what-is-durable), unless
    /// [`until`](SubscriptionBuilder::until) says otherwise; its tokens are the store's. It registers nothing and holds nothing
    /// back: where compaction has dropped what it had yet to see, it is told so as one that is too slow, or begins with
    /// all the rows anew ([`Because::Compacted`](crate::Because::Compacted)); so it does if a crash took back what it was told
    /// ([`Because::Rewound`](crate::Because::Rewound)). One that needs longer for all the rows than compaction for its next turn
    /// begins again and again.
    ///
    /// ```
    /// use esker::{ChangeKind, Kind, Reader, StateItem, Store};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Vessel { name: String }
    /// # const VESSEL: Kind<Vessel> = Kind::new("vessel");
    /// # fn main() -> esker::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("harbour.esker");
    /// let store = Store::open(&path)?;                                // in one process
    /// let radar = store.source("radar")?;
    ///
    /// let reader = Reader::open(&path)?;                              // in another, before there is such a kind
    /// let mut vessels = reader.subscription(VESSEL).start()?;
    /// radar.assert(VESSEL, "mmsi:2190", &Vessel { name: "Ada".into() })?;
    /// store.flush()?;
    /// let mut told = Vec::new();
    /// while let Some(item) = vessels.try_next()? {                    // `next` waits for more
    ///     if let StateItem::Change(change) = item {
    ///         told.push((change.kind(), change.value()?.unwrap().name));
    ///     }
    /// }
    /// assert_eq!(told, [(ChangeKind::Bootstrap, "Ada".to_owned())]);
    /// # drop(radar);
    /// # store.close() }
    /// ```
    pub fn subscription<T: DeserializeOwned>(&self, kind: Kind<T>) -> SubscriptionBuilder<T> {
        SubscriptionBuilder::new(Door::Reader(self.clone()), kind)
    }

    /// What sources say of a kind with [events](Kind::events), from another process than the writer's; see
    /// [`Store::events`], and [`subscription`](Self::subscription) for how it sees and waits. There are no names:
    /// [`from`](EventsBuilder::from) begins behind an event that was seen before. What compaction dropped before it was
    /// seen is told as missed. A stream does not begin anew: once a crash took back what it had looked at, which of its events
    /// that were is for the caller to find out, and it answers `Rewound` from then on; begin another one.
    pub fn events<T: DeserializeOwned>(&self, kind: Kind<T>) -> EventsBuilder<T> {
        EventsBuilder::new(Door::Reader(self.clone()), kind)
    }
}

impl StoreView {
    /// The row of an entity, if it is there.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn get<T: DeserializeOwned>(
        &self,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Row<'_, T>>> {
        let Some(id) = self.find_entity_of(kind, key.as_ref(), Asked::Row)? else { return Ok(None) };
        reading::row(self.entries(), id, kind, key.as_ref())
    }

    /// How an entity is; see [`Store::status`].
    ///
    /// At an [earlier moment](Self::at) it is what it would have been answered then: a deletion is told if it was not older
    /// than [`Options::tombstone_retention`](crate::Options::tombstone_retention) says (for a [`Reader`] five minutes) at that moment, however long ago that is. Where compaction has dropped the entry that says when
    /// that was, and those around it do not agree, it is `Compacted`, as it is for an entity of which nothing is left that may
    /// have been deleted.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn status<T: DeserializeOwned>(&self, kind: Kind<T>, key: impl AsRef<[u8]>) -> Result<Status> {
        let found = self.find_entity_of(kind, key.as_ref(), Asked::History)?;
        let Some(id) = found else { return Ok(Status::NotFound) };
        let status =
            |time| reading::status(self.entries(), id, key.as_ref(), time, self.tombstone_retention());
        let (from, to) = self.times()?;
        let found = status(from)?;
        match self.past() {
            Some(past) if from != to && found != status(to)? => {
                Err(past.dropped_time(kind.name(), key.as_ref())?)
            }
            _ => Ok(found),
        }
    }

    /// The rows that an entity had, oldest first, and its deletions; see [`Store::versions`].
    ///
    /// # Errors
    ///
    /// As [`Store::versions`].
    pub fn versions<T: DeserializeOwned>(
        &self,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
    ) -> Result<Vec<Version<T>>> {
        let found = self.find_entity_of(kind, key.as_ref(), Asked::History)?;
        let Some(id) = found else { return Ok(Vec::new()) };
        let history = self.entries().entity(id, key.as_ref());
        history.filter_map(|entry| entry.and_then(|entry| Version::of(kind, entry)).transpose()).collect()
    }

    /// The rows of a kind in this view.
    ///
    /// At an [earlier moment](Self::at) of a kind of which something was dropped or lost, this looks first at what has changed
    /// since: so no row comes before it is known that none is missing.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn rows<T: DeserializeOwned>(&self, kind: Kind<T>) -> Result<Rows<T>> {
        let id = self.find_rows(kind)?;
        if let (Some(past), Some(id)) = (self.past(), id) {
            check_rows(past, self.entries(), (id, kind.name()))?;
        }
        Ok(Rows::new(kind, id, self.entries().clone()))
    }

    /// The kind, if this view can tell what is asked of an entity.
    fn find_entity_of<T: DeserializeOwned>(
        &self,
        kind: Kind<T>,
        key: &[u8],
        asked: Asked,
    ) -> Result<Option<KindId>> {
        let id = self.find_rows(kind)?;
        if let (Some(past), Some(id)) = (self.past(), id) {
            check_entity(past, self.entries(), (id, kind.name()), key, asked)?;
        }
        Ok(id)
    }

    fn find_rows<T: DeserializeOwned>(&self, kind: Kind<T>) -> Result<Option<KindId>> {
        readable_as(self.named(kind.name()).as_deref(), kind)
    }
}
