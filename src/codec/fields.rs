//! The names of a type's fields, learned through serde without a derive of our own.
//!
//! A derived `Deserialize` begins by telling the deserializer what it expects: a struct with
//! these fields, an enum with these variants. The probe here listens to that and then refuses,
//! so no value is ever made. Wrappers that leave no trace in the payload (a newtype, an
//! `Option`, `#[serde(transparent)]`) are looked through. Everything else (tuples, maps,
//! flattened structs, untagged enums, hand-written implementations) tells no names: its facts
//! are stored all the same, and the payload still carries whatever names it has.
//!
//! What the probe cannot do: it hears a field's aliases as further fields, and sees nothing of
//! nested values.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::format::system::{FIELD_NAME_BYTES_MAX, FIELDS_MAX};

/// So many wrappers are looked through. A type can wrap itself for ever:
/// `struct Chain(Option<Box<Chain>>)`.
const WRAPPERS_MAX: u32 = 16;

/// The fields of a struct or the variants of an enum, in the order of declaration. Empty where
/// the type tells none, or more than the registry can hold: a list cut short would mislead.
pub(crate) fn names<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let (Shape::Struct(heard) | Shape::Enum(heard)) = shape::<T>() else { return &[] };
    let fits = heard.len() <= FIELDS_MAX && heard.iter().all(|name| name.len() <= FIELD_NAME_BYTES_MAX);
    if fits { heard } else { &[] }
}

/// What a type tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A struct with these fields, aliases included.
    Struct(&'static [&'static str]),
    /// An enum with these variants.
    Enum(&'static [&'static str]),
    /// Anything else.
    Other,
}

pub(crate) fn shape<'de, T: Deserialize<'de>>() -> Shape {
    let mut heard = Shape::Other;
    // The probe always refuses; what it heard is the result.
    let _ = T::deserialize(Probe { heard: &mut heard, wrappers: 0 });
    heard
}

/// Hears what a type expects, and gives it nothing.
struct Probe<'p> {
    heard: &'p mut Shape,
    wrappers: u32,
}

impl Probe<'_> {
    fn unwrapped(self) -> Result<Self, Refusal> {
        if self.wrappers == WRAPPERS_MAX {
            return Err(Refusal);
        }
        Ok(Self { wrappers: self.wrappers + 1, ..self })
    }
}

/// The one answer of the probe.
#[derive(Debug)]
struct Refusal;

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("only the shape was asked for")
    }
}

impl std::error::Error for Refusal {}

impl Error for Refusal {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refusal> {
        Err(Refusal)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Refusal> {
        *self.heard = Shape::Struct(fields);
        Err(Refusal)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Refusal> {
        *self.heard = Shape::Enum(variants);
        Err(Refusal)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self.unwrapped()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_some(self.unwrapped()?)
    }

    fn is_human_readable(&self) -> bool {
        // As the codec: a type that has two shapes shows the one that is stored.
        false
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
#[allow(dead_code, reason = "the types are only looked at")]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::names;

    #[derive(Deserialize)]
    struct Vessel {
        name: String,
        #[serde(rename = "speed")]
        knots: Option<f32>,
        #[serde(skip)]
        cached: u8,
        cargo: Nested,
    }

    #[derive(Deserialize)]
    struct Nested {
        inner: u8,
    }

    #[test]
    fn a_struct_tells_its_own_fields_as_they_are_stored() {
        assert_eq!(names::<Vessel>(), ["name", "speed", "cargo"]);
    }

    #[derive(Deserialize)]
    enum Event {
        Placed { item: String },
        Paid(u64),
        Shipped,
    }

    #[test]
    fn an_enum_tells_its_variants() {
        assert_eq!(names::<Event>(), ["Placed", "Paid", "Shipped"]);
    }

    #[derive(Deserialize)]
    struct Wrapper(Vessel);
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Clear {
        vessel: Vessel,
    }

    #[test]
    fn wrappers_are_looked_through() {
        let expected = ["name", "speed", "cargo"];
        assert_eq!(names::<Wrapper>(), expected);
        assert_eq!(names::<Clear>(), expected);
        assert_eq!(names::<Option<Box<Wrapper>>>(), expected);
    }

    #[derive(Deserialize)]
    struct Chain(Option<Box<Chain>>);

    #[test]
    fn a_type_that_wraps_itself_tells_nothing() {
        assert!(names::<Chain>().is_empty());
    }

    #[derive(Deserialize)]
    struct Tuple(u8, u8);
    #[derive(Deserialize)]
    struct Unit;
    #[derive(Deserialize)]
    struct Flattened {
        id: u8,
        #[serde(flatten)]
        rest: Nested,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u8),
        Text(String),
    }
    #[derive(Deserialize)]
    #[serde(tag = "type")]
    enum Tagged {
        Number { value: u8 },
    }

    #[test]
    fn what_has_no_fields_of_its_own_tells_none() {
        assert!(names::<Tuple>().is_empty() && names::<(u8, Nested)>().is_empty());
        assert!(names::<Unit>().is_empty() && names::<()>().is_empty());
        assert!(names::<BTreeMap<String, u8>>().is_empty() && names::<Vec<Nested>>().is_empty());
        assert!(names::<Flattened>().is_empty());
        assert!(names::<Untagged>().is_empty() && names::<Tagged>().is_empty());
        assert!(names::<String>().is_empty() && names::<&str>().is_empty() && names::<u64>().is_empty());
    }

    #[derive(Deserialize)]
    struct Borrowed<'a> {
        text: &'a str,
    }

    #[test]
    fn a_type_that_borrows_is_probed_like_any_other() {
        assert_eq!(names::<Borrowed<'_>>(), ["text"]);
    }

    macro_rules! wide {
        ($($field:ident)*) => {
            #[derive(Deserialize)]
            struct Wide { $($field: u8),* }
        };
    }
    wide! {
        a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 b0 b1 b2 b3 b4 b5 b6 b7 b8 b9 c0 c1 c2 c3 c4 c5 c6 c7 c8 c9 d0 d1
        d2 d3 d4 d5 d6 d7 d8 d9 e0 e1 e2 e3 e4 e5 e6 e7 e8 e9 f0 f1 f2 f3 f4 f5 f6 f7 f8 f9 g0 g1 g2 g3 g4
    }

    #[test]
    fn more_fields_than_the_registry_holds_count_as_unknown() {
        assert!(names::<Wide>().is_empty());
    }
}
