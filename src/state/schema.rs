//! What a typed handle means in one store: its number, and the order of its fields.

use std::any::type_name;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use parking_lot::RwLock;
use serde::de::DeserializeOwned;

use crate::codec::fields::{Shape, shape};
use crate::error::{Error, ErrorKind, Result, entity_text};
use crate::format::system::{Codec, FIELDS_MAX, KindInfo, Owner};
use crate::id::KindId;
use crate::journal::core::Core;
use crate::journal::registry::{EVENTS_PREFIX, KindSpec, Registry, check};
use crate::state::kind::{Kind, Upcaster};
use crate::state::pack::{Fields, may_hold_a_map};

/// A kind that rows are written of.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) id: KindId,
    /// The kind of its operations, if it has events.
    pub(crate) events: Option<KindId>,
    pub(crate) name: Cow<'static, str>,
    pub(crate) version: u16,
    pub(crate) steps: &'static [(u16, Upcaster)],
    /// Every field that a row of this version ever had: a field's place is its bit.
    pub(crate) fields: Vec<String>,
    /// What the type tells.
    told: &'static [&'static str],
    /// How often a row was encoded, for those of which each so manieth is looked at.
    pub(crate) encoded: AtomicU32,
    /// What the store said of it, where this process only reads.
    found: Option<Arc<KindInfo>>,
}

/// Of a kind that the store does not have yet: no entry is of it.
const NOT_THERE: KindId = KindId(0);

impl Bound {
    /// A kind of rows that are left as they were written, whatever type they are of.
    pub(crate) fn as_written(core: &Core, kind: &KindInfo) -> Self {
        let events = core.registry.read().events_of(&kind.name);
        let KindInfo { id, version, .. } = *kind;
        let (name, fields) = (Cow::Owned(kind.name.clone()), kind.fields.clone());
        Self {
            id,
            events,
            name,
            version,
            steps: &[],
            fields,
            told: &[],
            encoded: AtomicU32::new(0),
            found: None,
        }
    }

    /// What a handle means in a store that this process only reads: nothing is registered. A kind that is not there yet has no
    /// rows until it is.
    ///
    /// Of the handle's version the store may have more fields, or fewer: a type reads those that it has. Rows of an older
    /// version are brought to the handle's. What a newer one has made of the rows nobody here knows.
    ///
    /// # Errors
    ///
    /// `Schema` with both lists if it can be none of these; `KindMismatch` for a kind of facts.
    pub(crate) fn found<T: DeserializeOwned>(registry: &Registry, kind: Kind<T>) -> Result<Self> {
        let told = told_by::<T>(kind.name())?;
        let (name, version, steps) = (Cow::Borrowed(kind.name()), kind.schema_version(), kind.steps());
        let fields = texts(told);
        let encoded = AtomicU32::new(0);
        Self { id: NOT_THERE, events: None, name, version, steps, fields, told, encoded, found: None }
            .found_in(registry)
    }

    /// The same, where the store says something else by now.
    pub(crate) fn renewed(&self, registry: &Registry) -> Result<Option<Self>> {
        let is_as_it_was = match (registry.named(&self.name), &self.found) {
            (Some(known), Some(found)) => Arc::ptr_eq(known, found),
            (None, None) => true,
            _ => false,
        };
        let has_no_more = || self.events.is_some() || registry.events_of(&self.name).is_none();
        if is_as_it_was && has_no_more() { Ok(None) } else { self.found_in(registry).map(Some) }
    }

    fn found_in(&self, registry: &Registry) -> Result<Self> {
        let &Self { version, steps, told, .. } = self;
        let found = registry.named(&self.name).cloned();
        let id = readable(found.as_deref())?.unwrap_or(NOT_THERE);
        let mut fields = Vec::new();
        if let Some(known) = &found {
            check_readable(known, version, told)?;
            if known.version == version {
                fields.clone_from(&known.fields);
            }
        }
        add_told(&mut fields, told, &self.name)?;
        let events = registry.events_of(&self.name);
        let (name, encoded) = (self.name.clone(), AtomicU32::new(0));
        Ok(Self { id, events, name, version, steps, fields, told, encoded, found })
    }

    /// The store does not have it yet.
    pub(crate) fn is_missing(&self) -> bool {
        self.id == NOT_THERE
    }

    /// Its operations, if it has events; while it has none, no entry is one.
    pub(crate) fn operations(&self) -> KindId {
        self.events.unwrap_or(NOT_THERE)
    }

    /// Refuses bytes that are no row of the type that was told: a hand-written `Serialize` may write anything, and a tagged
    /// struct writes its tag. Answers whether there may be maps in its fields.
    pub(crate) fn check_row(&self, key: &[u8], row: &[u8]) -> Result<bool> {
        let no_map = || {
            Error::new(ErrorKind::Schema, format!("write the row {}", entity_text(&self.name, key)))
                .sides("a struct with named fields", "a value that is encoded as something else")
                .noting("let it serialise as what it is read as".to_owned())
        };
        let mut fields = Fields::of(row).ok_or_else(no_map)?;
        let mut has_maps = false;
        let names = fields.by_ref().map(|(name, value)| {
            has_maps |= may_hold_a_map(value);
            name
        });
        if let Some(name) = self.untold(names) {
            let name = String::from_utf8_lossy(name);
            let doing = format!("write the row {}", entity_text(&self.name, key));
            return Err(Error::new(ErrorKind::Schema, doing)
                .sides(
                    format!("a type that reads what it writes, {:?}", self.told),
                    format!("a field {name:?}"),
                )
                .noting("let it serialise as what it is read as".to_owned()));
        }
        if fields.is_whole() { Ok(has_maps) } else { Err(no_map()) }
    }

    /// Some fields as one bit each.
    pub(crate) fn bits_of<'a>(&self, names: impl Iterator<Item = &'a str>) -> u64 {
        let bit =
            |name: &str| self.fields.iter().position(|field| field == name).map_or(0, |at| 1 << (at % 64));
        names.fold(0, |bits, name| bits | bit(name))
    }

    /// The fields that have these bits.
    pub(crate) fn names_of(&self, mask: u64) -> impl Iterator<Item = &str> {
        let fields = self.fields.iter().enumerate();
        fields.filter(move |(at, _)| mask & 1 << (at % 64) != 0).map(|(_, name)| name.as_str())
    }

    /// Refuses fields that the kind's type does not tell.
    pub(crate) fn check_names<'a>(&self, key: &[u8], names: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        let Some(name) = self.untold(names) else { return Ok(()) };
        let name = String::from_utf8_lossy(name);
        let doing = format!("write the row {}", entity_text(&self.name, key));
        Err(Error::new(ErrorKind::InvalidInput, doing)
            .sides(format!("the fields {:?}", self.told), format!("a field {name:?}")))
    }

    /// The first that the kind's type does not tell.
    fn untold<'a>(&self, mut names: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
        let mut expected = self.told.iter();
        names.find(|name| {
            // As a rule they come in the order of declaration.
            if expected.any(|told| told.as_bytes() == *name) {
                return false;
            }
            expected = self.told.iter();
            self.told.iter().all(|told| told.as_bytes() != *name)
        })
    }
}

/// A handle's name and Rust type, each as the place and length of its static text; its version; and the place and
/// number of its steps; and whether it has events.
type Handle = (usize, usize, usize, usize, u16, usize, usize, bool);

/// Hashes handles: numbers of this program's own, which nobody chooses so that they collide.
#[derive(Debug, Default)]
struct Places(u64);

impl Hasher for Places {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0 ^ number).wrapping_mul(ODD).rotate_left(29);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }
}

/// The handles that were used to write.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    bound: RwLock<HashMap<Handle, Arc<Bound>, BuildHasherDefault<Places>>>,
}

impl Schemas {
    /// The kind of a handle, registered if this is its first use.
    #[inline]
    pub(crate) fn bind<T: DeserializeOwned>(&self, core: &Core, kind: Kind<T>) -> Result<Arc<Bound>> {
        let rust = type_name::<T>();
        let handle = (
            kind.name().as_ptr().addr(),
            kind.name().len(),
            rust.as_ptr().addr(),
            rust.len(),
            kind.schema_version(),
            kind.steps().as_ptr().addr(),
            kind.steps().len(),
            kind.has_events(),
        );
        if let Some(bound) = self.bound.read().get(&handle) {
            return Ok(Arc::clone(bound));
        }
        let told = told_by::<T>(kind.name())?;
        // Under the lock from here on: of two types under one name the second one sees the first.
        let mut bound = self.bound.write();
        if let Some(other) = bound.values().find(|other| other.name == kind.name()) {
            let known = (other.version, other.told);
            if known != (kind.schema_version(), told) {
                let gains = known.1.iter().all(|field| told.contains(field));
                let advice = if gains { ONE_AT_A_TIME } else { ANOTHER_VERSION };
                return Err(differs(kind.name(), (known.0, &texts(known.1)), (kind.schema_version(), told))
                    .noting(advice.to_owned()));
            }
            if other.events.is_some() != kind.has_events() {
                return Err(in_two_ways(kind.name(), kind.has_events()));
            }
            let versions =
                |steps: &[(u16, Upcaster)]| steps.iter().map(|(from, _)| *from).collect::<Vec<u16>>();
            let (known, asked) = (versions(other.steps), versions(kind.steps()));
            if known != asked {
                return Err(Error::new(ErrorKind::Schema, format!("use the kind {:?}", kind.name()))
                    .sides(
                        format!("steps from the versions {known:?}, as another handle of the name has"),
                        format!("steps from the versions {asked:?}"),
                    )
                    .noting(ONE_AT_A_TIME.to_owned()));
            }
        }
        let made = Arc::new(register(core, kind, told)?);
        bound.insert(handle, Arc::clone(&made));
        Ok(made)
    }
}

fn register<T>(core: &Core, kind: Kind<T>, told: &'static [&'static str]) -> Result<Bound> {
    let known = core.registry.read().named(kind.name()).cloned();
    if !kind.has_events() && core.registry.read().events_of(kind.name()).is_some() {
        return Err(without_events(kind.name())
            .noting("add `.events()` to the handle, or use another name".to_owned()));
    }
    let mut fields = match &known {
        Some(known) if known.owner == Owner::State && known.version == kind.schema_version() => {
            check_compatible(known, kind, told)?;
            known.fields.clone()
        }
        // Another version counts its fields anew.
        _ => Vec::new(),
    };
    add_told(&mut fields, told, kind.name())?;
    let (codec, owner, version) = (Codec::MessagePack, Owner::State, kind.schema_version());
    let spec = KindSpec { name: kind.name().to_owned(), version, codec, owner, fields: fields.clone() };
    let name = format!("{EVENTS_PREFIX}{}", kind.name());
    let events = kind.has_events().then(|| KindSpec { name, owner: Owner::Events, ..spec.clone() });
    // First: a name that is too long for both leaves nothing behind.
    events.iter().try_for_each(check)?;
    let id = core.register(spec)?.id;
    let events = events.map(|spec| core.register_any(spec)).transpose()?.map(|events| events.id);
    let (name, steps) = (Cow::Borrowed(kind.name()), kind.steps());
    let encoded = AtomicU32::new(0);
    Ok(Bound { id, events, name, version, steps, fields, told, encoded, found: None })
}

/// The fields of a type, in the order in which it declares them.
fn told_by<T: DeserializeOwned>(name: &str) -> Result<&'static [&'static str]> {
    let rust = type_name::<T>();
    match shape::<T>() {
        Shape::Struct(fields) => Ok(fields),
        Shape::Enum(_) => Err(no_row(name, rust, "an enum")),
        Shape::Other => Err(no_row(
            name,
            rust,
            "a type that serde does not read as one (a tuple, a map, a flattened or tagged struct)",
        )),
    }
}

/// Fields that are new come behind those that there are. There is a bit for each, whoever writes or reads.
fn add_told(fields: &mut Vec<String>, told: &[&str], name: &str) -> Result<()> {
    for field in told {
        if fields.iter().all(|known| known != field) {
            fields.push((*field).to_owned());
        }
    }
    if fields.len() > FIELDS_MAX {
        return Err(Error::new(ErrorKind::Schema, format!("use the kind {name:?}"))
            .sides(format!("at most {FIELDS_MAX} fields"), fields.len()));
    }
    Ok(())
}

/// A version may gain fields. One that loses or renames some is another version.
fn check_compatible<T>(known: &KindInfo, kind: Kind<T>, told: &[&str]) -> Result<()> {
    let is_told = |field: &String| told.iter().any(|name| name == field);
    if known.fields.iter().all(is_told) {
        return Ok(());
    }
    Err(differs(kind.name(), (known.version, &known.fields), (kind.schema_version(), told))
        .noting(ANOTHER_VERSION.to_owned()))
}

/// A type may be one that knows fewer fields of its version than the store, or more. A step to a later version is known to
/// those who have that.
fn check_readable(known: &KindInfo, version: u16, told: &[&str]) -> Result<()> {
    if known.version == version && known.fields.iter().eq(told) {
        // As most are, and whoever reads one row asks.
        return Ok(());
    }
    let clash = || differs(&known.name, (known.version, &known.fields), (version, told));
    if known.version > version {
        return Err(clash().noting(format!("read it with a program that knows version {}", known.version)));
    }
    let is_told = |field: &String| told.iter().any(|name| name == field);
    let is_known = |name: &&str| known.fields.iter().any(|field| field == name);
    if known.version < version || told.iter().all(is_known) || known.fields.iter().all(is_told) {
        return Ok(());
    }
    Err(clash().noting(ANOTHER_VERSION.to_owned()))
}

/// A type that loses fields is another one.
const ANOTHER_VERSION: &str = "give the kind a new version, or another name";

/// Between two types of one name in one process nobody could tell whose rows are meant.
const ONE_AT_A_TIME: &str = "this opening of the store has used the first one: use one of them, and open the store anew to \
                             change";

/// One constant for a kind, or somebody's operations are not logged.
fn in_two_ways(name: &str, has_events: bool) -> Error {
    let way = |has_events| if has_events { "with `.events()`" } else { "without `.events()`" };
    Error::new(ErrorKind::Schema, format!("use the kind {name:?}"))
        .sides(
            format!("a handle {}, as this opening of the store has used", way(!has_events)),
            format!("one {}", way(has_events)),
        )
        .noting("use one handle everywhere; to add events to it, open the store anew".to_owned())
}

fn without_events(name: &str) -> Error {
    Error::new(ErrorKind::Schema, format!("use the kind {name:?}"))
        .sides("a handle with `.events()`, as the kind has had", "one without")
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn differs(name: &str, known: (u16, &[String]), asked: (u16, &[&str])) -> Error {
    Error::new(ErrorKind::Schema, format!("use the kind {name:?}")).sides(
        format!("version {} with the fields {:?}", known.0, known.1),
        format!("version {} with the fields {:?}", asked.0, asked.1),
    )
}

fn no_row(name: &str, rust: &str, found: &str) -> Error {
    Error::new(ErrorKind::Schema, format!("use {rust} for the rows of the kind {name:?}"))
        .sides("a struct with named fields", found)
        .noting("make it one: what has another shape can be a field of it".to_owned())
}

/// The number of a kind whose rows are read as values; `None`: the store does not have it.
///
/// # Errors
///
/// `Schema` with both lists for a struct that is no form of what the store has. What tells no fields (a map, say) takes
/// whatever there is.
pub(crate) fn readable_as<T: DeserializeOwned>(
    known: Option<&KindInfo>,
    kind: Kind<T>,
) -> Result<Option<KindId>> {
    let id = readable(known)?;
    if let (Some(known), Shape::Struct(told)) = (known, shape::<T>())
        // Of a newer version each row says whether it was written anew.
        && known.version <= kind.schema_version()
    {
        check_readable(known, kind.schema_version(), told)?;
    }
    Ok(id)
}

/// The number of a kind that rows are read of; `None`: the store does not have it.
pub(crate) fn readable(known: Option<&KindInfo>) -> Result<Option<KindId>> {
    match known {
        None => Ok(None),
        Some(known) if known.owner == Owner::State => Ok(Some(known.id)),
        Some(known) => {
            Err(Error::new(ErrorKind::KindMismatch, format!("read rows of the kind {:?}", known.name))
                .sides("a kind of live state", "a kind of facts"))
        }
    }
}
