//! Which fields of a struct say something: those whose outer value is not `None`.
//!
//! A value that is encoded does not tell `None` from `Some(None)`; serde does, before it is.

use std::fmt;

use serde::ser::{Error as _, Impossible, Serialize, SerializeStruct, Serializer};

/// Gives the name and the encoded value of each field that is not `None`.
///
/// # Errors
///
/// What is wrong with a value that cannot be encoded, or is no struct with named fields.
pub(crate) fn said<T: Serialize>(
    value: &T,
    mut put: impl FnMut(&'static str, Vec<u8>),
) -> Result<(), Unsaid> {
    value.serialize(Whole { put: &mut put })
}

/// Why a value says nothing.
#[derive(Debug)]
pub(crate) struct Unsaid(String);

impl fmt::Display for Unsaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsaid {}

impl serde::ser::Error for Unsaid {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
}

/// Takes the fields of a struct.
struct Whole<'p> {
    put: &'p mut dyn FnMut(&'static str, Vec<u8>),
}

impl SerializeStruct for Whole<'_> {
    type Ok = ();
    type Error = Unsaid;

    fn serialize_field<V: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &V,
    ) -> Result<(), Unsaid> {
        if value.serialize(IsNone).is_ok() {
            return Ok(());
        }
        (self.put)(name, rmp_serde::to_vec_named(value).map_err(Unsaid::custom)?);
        Ok(())
    }

    fn end(self) -> Result<(), Unsaid> {
        Ok(())
    }
}

/// Takes `None`, and nothing else.
struct IsNone;

/// The calls that a serializer refuses, each with what it is given.
macro_rules! refuses {
    ($($call:ident($($given:ty),*) -> $made:ty;)*) => {
        $(fn $call(self, $(_: $given),*) -> Result<$made, Unsaid> { refused() })*

        fn serialize_newtype_variant<V: Serialize + ?Sized>(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: &V,
        ) -> Result<(), Unsaid> {
            refused()
        }

        fn serialize_newtype_struct<V: Serialize + ?Sized>(
            self,
            _: &'static str,
            value: &V,
        ) -> Result<(), Unsaid> {
            value.serialize(self)
        }

        fn is_human_readable(&self) -> bool {
            // As the codec.
            false
        }
    };
}

/// What both of them refuse.
macro_rules! refuses_plain_values {
    ($($more:tt)*) => {
        refuses! {
            serialize_bool(bool) -> ();
            serialize_i8(i8) -> ();
            serialize_i16(i16) -> ();
            serialize_i32(i32) -> ();
            serialize_i64(i64) -> ();
            serialize_i128(i128) -> ();
            serialize_u8(u8) -> ();
            serialize_u16(u16) -> ();
            serialize_u32(u32) -> ();
            serialize_u64(u64) -> ();
            serialize_u128(u128) -> ();
            serialize_f32(f32) -> ();
            serialize_f64(f64) -> ();
            serialize_char(char) -> ();
            serialize_str(&str) -> ();
            serialize_bytes(&[u8]) -> ();
            serialize_unit() -> ();
            serialize_unit_struct(&'static str) -> ();
            serialize_unit_variant(&'static str, u32, &'static str) -> ();
            serialize_seq(Option<usize>) -> Never;
            serialize_tuple(usize) -> Never;
            serialize_tuple_struct(&'static str, usize) -> Never;
            serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
            serialize_map(Option<usize>) -> Never;
            serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
            $($more)*
        }
    };
}

type Never = Impossible<(), Unsaid>;

fn refused<R>() -> Result<R, Unsaid> {
    Err(Unsaid("it is no struct with named fields".to_owned()))
}

impl<'p> Serializer for Whole<'p> {
    type Ok = ();
    type Error = Unsaid;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Whole<'p>;
    type SerializeStructVariant = Never;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Whole<'p>, Unsaid> {
        Ok(self)
    }

    fn serialize_some<V: Serialize + ?Sized>(self, value: &V) -> Result<(), Unsaid> {
        value.serialize(self)
    }

    refuses_plain_values! { serialize_none() -> (); }
}

impl Serializer for IsNone {
    type Ok = ();
    type Error = Unsaid;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    fn serialize_none(self) -> Result<(), Unsaid> {
        Ok(())
    }

    fn serialize_some<V: Serialize + ?Sized>(self, _: &V) -> Result<(), Unsaid> {
        refused()
    }

    refuses_plain_values! { serialize_struct(&'static str, usize) -> Never; }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

    use std::collections::BTreeMap;

    use super::*;

    #[derive(serde::Serialize, Default)]
    struct Known {
        plain: u8,
        text: Option<&'static str>,
        nested: Option<Option<u8>>,
        list: Option<Vec<u8>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        skipped: Option<bool>,
        unit: (),
    }

    fn names(value: &impl Serialize) -> Vec<&'static str> {
        let mut names = Vec::new();
        said(value, |name, _| names.push(name)).unwrap();
        names
    }

    #[test]
    fn what_is_none_says_nothing_and_what_is_some_none_says_none() {
        assert_eq!(names(&Known::default()), ["plain", "unit"]);
        let all = Known {
            text: Some("a"),
            nested: Some(None),
            list: Some(vec![1]),
            skipped: Some(true),
            ..Known::default()
        };
        let mut fields = BTreeMap::new();
        said(&all, |name, value| assert!(fields.insert(name, value).is_none())).unwrap();
        assert_eq!(fields["nested"], [0xc0], "nil");
        assert_eq!(fields["text"], [0xa1, b'a']);
        assert_eq!(fields.len(), 6);
        assert_eq!(names(&Some(Known::default())), ["plain", "unit"]);
    }

    #[test]
    fn what_is_no_struct_is_refused() {
        for refused in [
            said(&1u8, |_, _| {}),
            said(&BTreeMap::from([("a", 1u8)]), |_, _| {}),
            said(&None::<u8>, |_, _| {}),
        ] {
            assert!(refused.unwrap_err().to_string().contains("no struct"));
        }
    }
}
