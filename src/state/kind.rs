//! The typed handle of a kind of live state, and what a patch says.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::said::said;
use crate::error::{Error, ErrorKind, Result};
use crate::state::field::FieldFor;
use crate::state::pack;

/// Brings a row from one version of a kind's schema to the next. It must answer the same for the same row,
/// and not use the store: it runs wherever rows are read. If it answers an error, or panics, whoever reads the row is told
/// `Codec`; the row can still be asserted anew, or retracted.
pub type Upcaster = fn(&mut RowFields) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// A kind of live state: each of its entities has one row, a value of `T`, that sources assert.
///
/// Two rows are the same where their fields have the same bytes. Maps are put in order for that, of any type. **Sets are not**:
/// a `HashSet` comes in another order each time, and looks like another value; take a `BTreeSet`.
///
/// A handle is a constant: it holds no connection to a store and costs nothing to copy. `T` is a struct with
/// named fields, at most 64; the fields may be of any type that serde can handle. The name is what stands
/// on disk; the Rust type may be renamed and moved freely.
///
/// Fields may be added to a version where older rows can do without (`Option`, `#[serde(default)]`); programs without them
/// read on, and cannot write any more. The store knows the names of fields, not their types: a field that changes its type
/// under its name is found when a row is decoded. Whatever goes further than a new field gets a new [`version`](Self::version), and an [upcaster](Self::upcasts) where rows of the old one
/// are to be read on.
///
/// **An alias** (`#[serde(alias = "speed")] knots`) counts as a field: it is one of the 64, and to take it away is another version.
/// Rows that have it are read, and written anew under the field's own name once they are asserted or patched; that change has both
/// names. A patch names a field as its type writes it, and by an alias is refused with `TypeMismatch`. An upcaster that renames needs none.
///
/// ```
/// use esker::Kind;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Vessel {
///     name: String,
///     knots: f32,
/// }
///
/// const VESSEL: Kind<Vessel> = Kind::new("vessel").version(2).upcasts(&[(1, |fields| {
///     fields.rename("speed", "knots");
///     Ok(())
/// })]);
/// assert_eq!((VESSEL.name(), VESSEL.schema_version()), ("vessel", 2));
/// ```
pub struct Kind<T> {
    name: &'static str,
    version: u16,
    upcasts: &'static [(u16, Upcaster)],
    events: bool,
    // A handle makes values and owns none: it is `Send`, `Sync` and covariant whatever `T` is.
    makes: PhantomData<fn() -> T>,
}

impl<T> Kind<T> {
    /// The kind of this name (1 to 255 bytes, with [events](Self::events) to 242, not beginning with `esker.`), at version 1.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, version: 1, upcasts: &[], events: false, makes: PhantomData }
    }

    /// The version of the schema, from 1. Each row is stored with the version that wrote it. Programs of an older
    /// one are refused with `KindMismatch` when they write.
    #[must_use]
    pub const fn version(mut self, version: u16) -> Self {
        self.version = version;
        self
    }

    /// How rows of older versions become rows of this one: for a version, the step to the next. A version
    /// without a step is read as it is, by the names of its fields.
    #[must_use]
    pub const fn upcasts(mut self, steps: &'static [(u16, Upcaster)]) -> Self {
        self.upcasts = steps;
        self
    }

    /// Logs every operation too, for [`Store::events`](crate::Store::events): what each source said, in order, beside
    /// what came of it. Operations are kept whatever is kept of the rows, until
    /// [`Store::keep_events`](crate::Store::keep_events) says otherwise.
    ///
    /// Events begin where a kind is first used with this. A kind that has events is not written without them: an operation
    /// that nobody logged would be missing in them.
    #[must_use]
    pub const fn events(mut self) -> Self {
        self.events = true;
        self
    }

    /// True if every operation is logged.
    #[must_use]
    pub const fn has_events(&self) -> bool {
        self.events
    }

    /// The name, as it stands in the log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The version that writes.
    #[must_use]
    pub const fn schema_version(&self) -> u16 {
        self.version
    }

    pub(crate) const fn steps(&self) -> &'static [(u16, Upcaster)] {
        self.upcasts
    }
}

impl<T> Clone for Kind<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Kind<T> {}

impl<T> fmt::Debug for Kind<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({:?} version {})", self.name, self.version)
    }
}

/// What a source knows of some fields of a row, and nothing of the others.
///
/// ```
/// use esker::Patch;
/// # fn main() -> esker::Result<()> {
/// let patch = Patch::new().set("knots", &12.0f32)?.set("name", "Ada")?;
/// assert_eq!(patch.names().collect::<Vec<_>>(), ["knots", "name"]);
/// # Ok(()) }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use = "a patch does nothing until a source says it"]
pub struct Patch {
    fields: RowFields,
}

impl Patch {
    /// A patch of no field: said by a source, it asserts the entity as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// The fields of a struct that are not `None`, whatever type it is: one with an `Option` for each field of a row says those that
    /// it has. Where the row's own field is an `Option`, `Some(None)` says that it is none.
    ///
    /// ```
    /// use esker::{Kind, Patch, Store};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize, Default)]
    /// struct Vessel { name: String, knots: f32, destination: Option<String> }
    ///
    /// #[derive(Serialize, Default)]
    /// struct Seen { knots: Option<f32>, destination: Option<Option<String>> }
    ///
    /// const VESSEL: Kind<Vessel> = Kind::new("vessel");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let radar = store.source("radar")?;
    /// radar.assert(VESSEL, "ada", &Vessel { name: "Ada".into(), knots: 3.0, destination: Some("Lisbon".into()) })?;
    /// radar.patch(VESSEL, "ada", &Patch::of(&Seen { destination: Some(None), ..Seen::default() })?)?;
    /// store.flush()?;
    /// let ada = store.get(VESSEL, "ada")?.unwrap().value()?;
    /// assert_eq!((ada.knots, ada.destination), (3.0, None));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `Codec` if it is no struct with named fields, or a value cannot be encoded.
    pub fn of<P: Serialize>(said_by: &P) -> Result<Self> {
        let mut fields = RowFields::default();
        said(said_by, |name, value| fields.set_encoded(name, pack::sorted_value(&value)))
            .map_err(|cause| Error::new(ErrorKind::Codec, "make a patch of a struct").because(cause))?;
        Ok(Self { fields })
    }

    /// The value of a field, which is named by a string, or by a [`Field`](crate::Field), whose type it then has.
    ///
    /// # Errors
    ///
    /// `Codec` if the value cannot be encoded.
    pub fn set<V: Serialize + ?Sized>(mut self, field: impl FieldFor<V>, value: &V) -> Result<Self> {
        self.fields.set(field.field_name(), value)?;
        Ok(self)
    }

    /// The fields that are set, in that order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.names()
    }

    pub(crate) fn fields(&self) -> &RowFields {
        &self.fields
    }
}

impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Patch({:?})", self.fields)
    }
}

/// The fields of a row by name, without its type: what an [`Upcaster`] works on.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RowFields {
    fields: Vec<(String, Vec<u8>)>,
}

impl RowFields {
    /// Of a row's bytes. `None`: they are not those of a row.
    pub(crate) fn read(row: &[u8]) -> Option<Self> {
        let (whole, []) = pack::split_value(row)? else { return None };
        let mut fields = pack::Fields::of(whole)?;
        let mut read = Vec::new();
        for (name, value) in fields.by_ref() {
            read.push((std::str::from_utf8(name).ok()?.to_owned(), value.to_vec()));
        }
        fields.is_whole().then_some(Self { fields: read })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut row = Vec::new();
        let fields: Vec<(&[u8], &[u8])> =
            self.encoded().map(|(name, value)| (name.as_bytes(), value)).collect();
        pack::write_row(&fields, &mut row);
        row
    }

    pub(crate) fn encoded(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    pub(crate) fn set_encoded(&mut self, field: &str, value: Vec<u8>) {
        match self.fields.iter_mut().find(|(name, _)| name == field) {
            Some((_, old)) => *old = value,
            None => self.fields.push((field.to_owned(), value)),
        }
    }

    /// The names, in the order in which they stand.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }

    /// The value of a field; `None`: there is no such field.
    ///
    /// # Errors
    ///
    /// `TypeMismatch` if it is not a `V`.
    pub fn get<V: DeserializeOwned>(&self, field: &str) -> Result<Option<V>> {
        let Some((_, value)) = self.fields.iter().find(|(name, _)| name == field) else { return Ok(None) };
        rmp_serde::from_slice(value).map(Some).map_err(|cause| {
            Error::new(ErrorKind::TypeMismatch, format!("read the field {field:?}")).because(cause)
        })
    }

    /// Puts a value into a field, in the place of the one that it had.
    ///
    /// # Errors
    ///
    /// `Codec` if it cannot be encoded.
    pub fn set<V: Serialize + ?Sized>(&mut self, field: &str, value: &V) -> Result<()> {
        let encoded = rmp_serde::to_vec_named(value).map_err(|cause| {
            Error::new(ErrorKind::Codec, format!("encode the field {field:?}")).because(cause)
        })?;
        self.set_encoded(field, pack::sorted_value(&encoded));
        Ok(())
    }

    pub(crate) fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.fields.retain(|(name, _)| is_kept(name));
    }

    /// Takes a field away. False: there was none.
    pub fn remove(&mut self, field: &str) -> bool {
        let before = self.fields.len();
        self.fields.retain(|(name, _)| name != field);
        self.fields.len() < before
    }

    /// Gives a field another name, in the place of a field that has it. False: there was none.
    pub fn rename(&mut self, field: &str, to: &str) -> bool {
        let Some(at) = self.fields.iter().position(|(name, _)| name == field) else { return false };
        let (_, value) = self.fields.remove(at);
        self.set_encoded(to, value);
        true
    }
}

impl fmt::Debug for RowFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_set_renamed_removed_and_read_with_their_type() {
        let mut fields = RowFields::default();
        fields.set("a", &1u8).unwrap();
        fields.set("b", "text").unwrap();
        fields.set("a", &2u8).unwrap();
        assert!(fields.rename("b", "c") && !fields.rename("b", "c"));
        assert_eq!(fields.get::<u8>("a").unwrap(), Some(2));
        assert_eq!(fields.get::<String>("c").unwrap().as_deref(), Some("text"));
        assert_eq!(fields.get::<u8>("b").unwrap(), None);
        assert_eq!(fields.get::<u8>("c").unwrap_err().kind(), ErrorKind::TypeMismatch);
        let row = fields.write();
        assert_eq!(RowFields::read(&row), Some(fields.clone()));
        assert!((0..row.len()).all(|cut| RowFields::read(&row[..cut]).is_none()));
        assert_eq!(RowFields::read(&[&row[..], &[0]].concat()), None);
        assert!(fields.remove("a") && !fields.remove("a"));
    }

    #[test]
    fn a_map_whose_keys_are_no_names_is_no_row() {
        let numbered = rmp_serde::to_vec(&std::collections::BTreeMap::from([(1u8, 2u8)])).unwrap();
        assert_eq!(RowFields::read(&numbered), None);
        assert_eq!(RowFields::read(&[0x80]), Some(RowFields::default()));
    }
}
