//! What the log says of itself: the kinds of a store (name and number, codec, owner, fields), its
//! sources, and its cursors.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::cursor::Cursors;
use crate::error::{Error, ErrorKind, Result};
use crate::format::count::EventCount;
use crate::format::cursor::CursorState;
use crate::format::frame::Frame;
use crate::format::source::SourceInfo;
use crate::format::system::{
    Codec, FIELD_NAME_BYTES_MAX, FIELDS_MAX, KIND_NAME_BYTES_MAX, Keep, KindInfo, Owner, System,
};
use crate::id::{KINDS_MAX, KindId, SEQ_MAX};

/// Names that start so are the library's own.
const RESERVED_PREFIX: &str = "esker.";
/// What stands before the name of a kind of live state in that of its operations.
pub(crate) const EVENTS_PREFIX: &str = "esker.events.";

/// What stands before the name of a kind of facts in that of its floors: by key, below which entry nothing is shown any more.
pub(crate) const FLOORS_PREFIX: &str = "esker.floors.";
/// Cells: values that are compared and swapped.
pub(crate) const CELLS_NAME: &str = "esker.cells";

/// The values of folds over topics.
pub(crate) const IMAGES_NAME: &str = "esker.images";
/// Records that consumers gave up.
pub(crate) const DEAD_NAME: &str = "esker.dead";
/// Records that consumers have set aside with those behind them.
pub(crate) const PARKED_NAME: &str = "esker.parked";

/// The ends of epochs that take more than one batch.
pub(crate) const EPOCHS_NAME: &str = "esker.epochs";
/// The facts of sources that come and go.
pub(crate) const SESSIONS_NAME: &str = "esker.sessions";

/// The name of the kind of the floors of another one.
pub(crate) fn floors_name(stream: &str) -> String {
    format!("{FLOORS_PREFIX}{stream}")
}

/// True of the name of a kind that only the library itself writes.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX)
}

/// The codec of a kind of ours that is a stream of a backplane.
pub(crate) fn codec_of_stream(name: &str) -> Option<Codec> {
    match name {
        IMAGES_NAME => Some(Codec::Bytes),
        DEAD_NAME | PARKED_NAME => Some(Codec::MessagePack),
        _ => None,
    }
}

/// What a kind should be, before it has a number.
#[derive(Clone, Debug)]
pub(crate) struct KindSpec {
    pub(crate) name: String,
    pub(crate) version: u16,
    pub(crate) codec: crate::format::system::Codec,
    pub(crate) owner: Owner,
    pub(crate) fields: Vec<String>,
}

/// The kinds by number and by name, the sources by number, and the cursors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    kinds: Vec<Arc<KindInfo>>,
    by_name: HashMap<String, usize>,
    sources: BTreeMap<u8, SourceInfo>,
    /// The numbers of the last event of each kind that has any.
    counts: BTreeMap<KindId, (u64, u64)>,
    /// The last entry that stands before a frame that says so.
    pub(crate) counted_through: u64,
    pub(crate) cursors: Cursors,
}

/// What registering a kind comes to.
#[derive(Debug)]
pub(crate) enum Registered {
    Already(Arc<KindInfo>),
    /// To be written into the log before it is learned.
    New(KindInfo),
}

impl Registry {
    /// Forgets what a preamble is about to restate, for what was retired may stand in what was compacted.
    pub(crate) fn begin_anew(&mut self) {
        self.cursors.begin_anew();
        self.sources.clear();
    }

    /// Learns what a system frame says of a kind, a source or a cursor.
    pub(crate) fn learn_frame(&mut self, frame: &Frame<'_>) {
        match System::of(frame.header.operation) {
            Some(System::Kind) => {
                let kind = KindInfo::read(frame.payload());
                if let Some(kind) = kind.filter(|kind| (1..=KINDS_MAX).contains(&kind.id.0)) {
                    self.learn(kind);
                }
            }
            Some(System::Cursor) => {
                if let Some(cursor) = CursorState::read(frame.payload()) {
                    self.cursors.learn(cursor);
                }
            }
            Some(System::Source) => {
                if let Some(source) = SourceInfo::read(frame.payload()) {
                    self.learn_source(source);
                }
            }
            Some(System::Count) => {
                if let Some(count) = EventCount::read(frame.payload()) {
                    self.learn_count(count);
                    self.counted_through = self.counted_through.max(frame.header.seq.get());
                }
            }
            _ => {}
        }
    }

    /// Learns of events. Their numbers only rise.
    pub(crate) fn learn_count(&mut self, EventCount { kind, sequence: (store, of_kind) }: EventCount) {
        let known = self.counts.entry(kind).or_default();
        *known = (known.0.max(store), known.1.max(of_kind));
    }

    /// Leaves out so many numbers of events, of the store and of these kinds: nobody knows whether they were given.
    pub(crate) fn leave_out_events(&mut self, kinds: &[KindId], lost: u64) {
        if lost == 0 {
            return;
        }
        let behind = |number: u64| number.saturating_add(lost).min(SEQ_MAX);
        let store = behind(self.last_event());
        for kind in kinds {
            let of_kind = behind(self.last_event_of(*kind));
            self.learn_count(EventCount { kind: *kind, sequence: (store, of_kind) });
        }
    }

    /// The numbers of the last event of each kind.
    pub(crate) fn counts(&self) -> impl Iterator<Item = EventCount> {
        self.counts.iter().map(|(kind, sequence)| EventCount { kind: *kind, sequence: *sequence })
    }

    /// The number of the last event among those of the store.
    pub(crate) fn last_event(&self) -> u64 {
        self.counts.values().map(|(store, _)| *store).max().unwrap_or(0)
    }

    /// The numbers of the last event of a kind that is known.
    pub(crate) fn last_event_known(&self, kind: KindId) -> (u64, u64) {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// The number of the last event among those of a kind.
    pub(crate) fn last_event_of(&self, kind: KindId) -> u64 {
        self.counts.get(&kind).map_or(0, |(_, of_kind)| *of_kind)
    }

    /// Learns of a source. The last frame about a number is right.
    pub(crate) fn learn_source(&mut self, source: SourceInfo) {
        if source.retired {
            self.sources.remove(&source.id);
        } else {
            self.sources.insert(source.id, source);
        }
    }

    /// The sources by number.
    pub(crate) fn sources(&self) -> &BTreeMap<u8, SourceInfo> {
        &self.sources
    }

    /// Learns of a kind from the log. The last frame about a kind is right.
    pub(crate) fn learn(&mut self, info: KindInfo) {
        match self.by_name.get(&info.name) {
            Some(at) => {
                // A preamble says again what is known: who has it from here has what is said still.
                if let Some(slot) = self.kinds.get_mut(*at).filter(|known| ***known != info) {
                    *slot = Arc::new(info);
                }
            }
            None => {
                self.by_name.insert(info.name.clone(), self.kinds.len());
                self.kinds.push(Arc::new(info));
            }
        }
    }

    pub(crate) fn get(&self, id: KindId) -> Option<&Arc<KindInfo>> {
        // Numbers are given in order, so the place is known; a log with a hole is searched.
        let at = usize::from(id.0).checked_sub(1)?;
        self.kinds
            .get(at)
            .filter(|kind| kind.id == id)
            .or_else(|| self.kinds.iter().find(|kind| kind.id == id))
    }

    /// The greatest number such that it and every one below is registered.
    pub(crate) fn dense_through(&self) -> u16 {
        let dense = self.kinds.iter().zip(1..).take_while(|(kind, number)| kind.id.0 == *number);
        dense.last().map_or(0, |(_, number)| number)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Arc<KindInfo>> {
        self.kinds.get(*self.by_name.get(name)?)
    }

    /// The kinds whose entries stand aside.
    pub(crate) fn aside(&self) -> BTreeSet<u16> {
        self.kinds.iter().filter(|kind| kind.owner == Owner::Events).map(|kind| kind.id.0).collect()
    }

    /// The kinds of facts that have floors, each with the kind of these.
    pub(crate) fn floored(&self) -> Vec<(KindId, KindId)> {
        let facts =
            |floors: &KindInfo| self.named(floors.name.strip_prefix(FLOORS_PREFIX)?).map(|kind| kind.id);
        self.kinds.iter().filter_map(|floors| Some((facts(floors)?, floors.id))).collect()
    }

    /// The kind of the operations of a kind of rows, if it has events.
    pub(crate) fn events_of(&self, rows: &str) -> Option<KindId> {
        self.named(&format!("{EVENTS_PREFIX}{rows}")).map(|events| events.id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<KindInfo>> {
        self.kinds.iter()
    }

    /// Decides what a specification comes to in this store.
    pub(crate) fn resolve(&self, spec: KindSpec) -> Result<Registered> {
        check(&spec)?;
        let Some(known) = self.named(&spec.name) else {
            let number = self.kinds.iter().map(|kind| kind.id.0).max().unwrap_or(0) + 1;
            if number > KINDS_MAX {
                return Err(Error::new(
                    ErrorKind::LimitReached,
                    format!("register the kind {:?}", spec.name),
                )
                .sides(format!("at most {KINDS_MAX} kinds"), number));
            }
            return Ok(Registered::New(spec.numbered(KindId(number))));
        };
        if known.owner != Owner::Facts && spec.owner == Owner::Facts {
            return Err(Error::new(
                ErrorKind::OwnedByState,
                format!("use the kind {:?} for facts", spec.name),
            ));
        }
        if (known.codec, known.owner) != (spec.codec, spec.owner) || known.version > spec.version {
            let side = |version, codec: &dyn std::fmt::Debug, owner: &dyn std::fmt::Debug| {
                format!("version {version}, codec {codec:?}, owner {owner:?}")
            };
            return Err(Error::new(ErrorKind::KindMismatch, format!("register the kind {:?}", spec.name))
                .sides(
                    side(spec.version, &spec.codec, &spec.owner),
                    side(known.version, &known.codec, &known.owner),
                ));
        }
        if known.version == spec.version && (spec.fields.is_empty() || known.fields == spec.fields) {
            return Ok(Registered::Already(Arc::clone(known)));
        }
        Ok(Registered::New(KindInfo { keep: known.keep, ..spec.numbered(known.id) }))
    }
}

impl KindSpec {
    pub(crate) fn numbered(self, id: KindId) -> KindInfo {
        let Self { name, version, codec, owner, fields } = self;
        let keep = match owner {
            // Where an end stands is in the newest entry.
            Owner::Facts if name == EPOCHS_NAME => Keep::Latest,
            Owner::Facts | Owner::Events => Keep::All,
            // What was true once is history; what is true now is in the newest row.
            Owner::State => Keep::Latest,
        };
        KindInfo { id, name, version, codec, owner, keep, fields }
    }
}

/// Refuses a name of the library's own.
pub(crate) fn check_not_reserved(name: &str) -> Result<()> {
    if !is_reserved(name) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("register the kind {name:?}: its name"))
        .sides(format!("one that does not start with {RESERVED_PREFIX:?}"), name))
}

/// Refuses a kind under a name of the library's own that is none of its own kinds.
pub(crate) fn check_own(spec: &KindSpec) -> Result<()> {
    let is_own = match (spec.owner, &spec.codec) {
        (Owner::Facts, Codec::MessagePack) => [SESSIONS_NAME, DEAD_NAME, PARKED_NAME].contains(&&*spec.name),
        (Owner::Facts, Codec::Bytes) => {
            [CELLS_NAME, IMAGES_NAME, EPOCHS_NAME].contains(&&*spec.name)
                || spec.name.starts_with(FLOORS_PREFIX)
        }
        (Owner::Events, Codec::MessagePack) => spec.name.starts_with(EVENTS_PREFIX),
        _ => false,
    };
    if is_own {
        return Ok(());
    }
    check_not_reserved(&spec.name)
}

/// Refuses what no kind may be.
pub(crate) fn check(spec: &KindSpec) -> Result<()> {
    let refuse = |what: &str, expected: String, found: String| {
        Err(Error::new(ErrorKind::InvalidInput, format!("register the kind {:?}: {what}", spec.name))
            .sides(expected, found))
    };
    if spec.name.is_empty() || spec.name.len() > KIND_NAME_BYTES_MAX {
        return refuse("its name", format!("1 to {KIND_NAME_BYTES_MAX} bytes"), spec.name.len().to_string());
    }
    let rows = spec.name.strip_prefix(EVENTS_PREFIX);
    if spec.owner == Owner::Events && rows.is_none_or(str::is_empty) {
        let expected = format!("the name of a kind of live state behind {EVENTS_PREFIX:?}");
        return refuse("its name", expected, spec.name.clone());
    }
    if spec.version == 0 {
        return refuse("its version", "1 or more".to_owned(), "0".to_owned());
    }
    if spec.fields.len() > FIELDS_MAX {
        return refuse("its fields", format!("at most {FIELDS_MAX}"), spec.fields.len().to_string());
    }
    match spec.fields.iter().find(|field| field.len() > FIELD_NAME_BYTES_MAX) {
        Some(field) => {
            refuse("a field's name", format!("at most {FIELD_NAME_BYTES_MAX} bytes"), field.len().to_string())
        }
        None => Ok(()),
    }
}
