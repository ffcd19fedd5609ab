//! A payload as a value: what MessagePack says, without the type that wrote it.
//!
//! The decoder reads bytes that nobody vouches for: it is limited in depth and in the number
//! of values, and no count that it reads makes it allocate.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::dump::text::{escaped, hex};

/// Values inside each other, at most.
pub const DEPTH_MAX: usize = 64;
/// Values in one payload, at most.
pub const VALUES_MAX: usize = 1 << 20;

/// A decoded value. As text it looks like JSON; bytes are `"hex:…"`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer from zero.
    Unsigned(u64),
    /// An integer below zero.
    Signed(i64),
    /// A number of 32 bits: it prints with the digits that 32 bits have.
    Single(f32),
    /// A number of 64 bits.
    Double(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values in a row.
    List(Vec<Value>),
    /// Values by key, in the order in which they were written.
    Map(Vec<(Value, Value)>),
    /// An extension type of MessagePack and its bytes.
    Extension(i8, Vec<u8>),
}

/// Why a payload is not what its kind's codec says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    what: String,
}

impl DecodeError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for DecodeError {}

impl Value {
    /// Decodes a payload that is one value of MessagePack, and nothing else.
    ///
    /// # Errors
    ///
    /// If the bytes end early, go on behind the value, or are over a limit.
    pub fn from_message_pack(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::of(bytes);
        let value = decoder.value(0)?;
        decoder.end().map(|()| value)
    }

    /// Decodes JSON text.
    ///
    /// # Errors
    ///
    /// If the bytes are not one value of JSON.
    #[cfg(feature = "json")]
    pub fn from_json(bytes: &[u8]) -> Result<Self, DecodeError> {
        serde_json::from_slice(bytes).map_err(|error| DecodeError::new(format!("not JSON: {error}")))
    }

    /// A map whose keys are names.
    pub(crate) fn named<'n>(members: impl IntoIterator<Item = (&'n str, Self)>) -> Self {
        Self::Map(members.into_iter().map(|(name, value)| (Self::Text(name.to_owned()), value)).collect())
    }

    /// What it is, in one word.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Unsigned(_) | Self::Signed(_) => "integer",
            Self::Single(_) | Self::Double(_) => "number",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Extension(..) => "extension",
        }
    }

    /// The value as the key of a map in JSON, which must be text.
    pub(crate) fn as_key(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bytes(bytes) => format!("hex:{}", hex(bytes)),
            other => other.to_string(),
        }
    }
}

/// Numbers that JSON has no form for are text.
fn is_number(value: f64) -> bool {
    value.is_finite()
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Unsigned(value) => value.fmt(f),
            Self::Signed(value) => value.fmt(f),
            Self::Single(value) if is_number(f64::from(*value)) => write!(f, "{value:?}"),
            Self::Double(value) if is_number(*value) => write!(f, "{value:?}"),
            Self::Single(value) => write!(f, "\"{value}\""),
            Self::Double(value) => write!(f, "\"{value}\""),
            Self::Text(text) => write!(f, "\"{}\"", escaped(text, true)),
            Self::Bytes(bytes) => write!(f, "\"hex:{}\"", hex(bytes)),
            Self::Extension(tag, bytes) => {
                write!(f, "{{\"extension\":{tag},\"data\":\"hex:{}\"}}", hex(bytes))
            }
            Self::List(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}{item}")?;
                }
                f.write_str("]")
            }
            Self::Map(members) => {
                f.write_str("{")?;
                for (at, (key, value)) in members.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}\"{}\":{value}", escaped(&key.as_key(), true))?;
                }
                f.write_str("}")
            }
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Single(value) if is_number(f64::from(*value)) => serializer.serialize_f32(*value),
            Self::Double(value) if is_number(*value) => serializer.serialize_f64(*value),
            Self::Single(value) => serializer.collect_str(value),
            Self::Double(value) => serializer.collect_str(value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.collect_str(&format_args!("hex:{}", hex(bytes))),
            Self::Extension(tag, bytes) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("extension", tag)?;
                map.serialize_entry("data", &format!("hex:{}", hex(bytes)))?;
                map.end()
            }
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Self::Map(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(key, value)| map.serialize_entry(&key.as_key(), value))?;
                map.end()
            }
        }
    }
}

/// For formats that describe themselves: members stay in the order in which they were written.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Unsigned(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(u64::try_from(value).map_or(Value::Signed(value), Value::Unsigned))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Double(value))
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
                Ok(Value::Bytes(bytes.to_vec()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Value::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Value::Map(members))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// Reads MessagePack, value by value.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    total: usize,
    values: usize,
}

impl<'a> Decoder<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, total: bytes.len(), values: 0 }
    }

    fn error(&self, what: &str) -> DecodeError {
        DecodeError::new(format!("not MessagePack: {what} at byte {}", self.total - self.rest.len()))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or_else(|| self.error("the payload ends early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The big-endian number of the next `N` bytes.
    fn number<const N: usize>(&mut self) -> Result<u64, DecodeError> {
        Ok(self.take(N)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length<const N: usize>(&mut self) -> Result<usize, DecodeError> {
        let number = self.number::<N>()?;
        usize::try_from(number).map_err(|_| self.error("a length past any memory"))
    }

    /// What stands next, up to the first of the values in it.
    pub(crate) fn head(&mut self, depth: usize) -> Result<Head<'a>, DecodeError> {
        self.values += 1;
        if depth > DEPTH_MAX || self.values > VALUES_MAX {
            return Err(self.error(&format!("deeper than {DEPTH_MAX} or more than {VALUES_MAX} values")));
        }
        let tag = self.take(1)?.first().copied().unwrap_or(0);
        Ok(match tag {
            0x00..=0x7f => Head::Plain(Value::Unsigned(u64::from(tag))),
            0x80..=0x8f => Head::Map(usize::from(tag & 0x0f)),
            0x90..=0x9f => Head::List(usize::from(tag & 0x0f)),
            0xa0..=0xbf => self.text(usize::from(tag & 0x1f))?,
            0xc0 => Head::Plain(Value::Null),
            0xc1 => return Err(self.error("a byte that begins no value")),
            0xc2 | 0xc3 => Head::Plain(Value::Bool(tag == 0xc3)),
            0xc4 => self.length::<1>().and_then(|length| self.take(length)).map(Head::Bytes)?,
            0xc5 => self.length::<2>().and_then(|length| self.take(length)).map(Head::Bytes)?,
            0xc6 => self.length::<4>().and_then(|length| self.take(length)).map(Head::Bytes)?,
            0xc7 => self.length::<1>().and_then(|length| self.extension(length))?,
            0xc8 => self.length::<2>().and_then(|length| self.extension(length))?,
            0xc9 => self.length::<4>().and_then(|length| self.extension(length))?,
            0xca => {
                Head::Plain(Value::Single(f32::from_bits(u32::try_from(self.number::<4>()?).unwrap_or(0))))
            }
            0xcb => Head::Plain(Value::Double(f64::from_bits(self.number::<8>()?))),
            0xcc => Head::Plain(Value::Unsigned(self.number::<1>()?)),
            0xcd => Head::Plain(Value::Unsigned(self.number::<2>()?)),
            0xce => Head::Plain(Value::Unsigned(self.number::<4>()?)),
            0xcf => Head::Plain(Value::Unsigned(self.number::<8>()?)),
            0xd0 => Head::Plain(signed(self.number::<1>()?, 8)),
            0xd1 => Head::Plain(signed(self.number::<2>()?, 16)),
            0xd2 => Head::Plain(signed(self.number::<4>()?, 32)),
            0xd3 => Head::Plain(signed(self.number::<8>()?, 64)),
            0xd4..=0xd8 => self.extension(1 << (tag - 0xd4))?,
            0xd9 => self.length::<1>().and_then(|length| self.text(length))?,
            0xda => self.length::<2>().and_then(|length| self.text(length))?,
            0xdb => self.length::<4>().and_then(|length| self.text(length))?,
            0xdc => Head::List(self.length::<2>()?),
            0xdd => Head::List(self.length::<4>()?),
            0xde => Head::Map(self.length::<2>()?),
            0xdf => Head::Map(self.length::<4>()?),
            0xe0..=0xff => Head::Plain(signed(u64::from(tag), 8)),
        })
    }

    /// Text that is not UTF-8 was written as bytes by somebody old: it is shown as bytes.
    fn text(&mut self, length: usize) -> Result<Head<'a>, DecodeError> {
        let bytes = self.take(length)?;
        Ok(std::str::from_utf8(bytes).map_or(Head::Bytes(bytes), Head::Text))
    }

    fn extension(&mut self, length: usize) -> Result<Head<'a>, DecodeError> {
        let tag = self.take(1)?.first().map_or(0, |tag| tag.cast_signed());
        Ok(Head::Extension(tag, self.take(length)?))
    }

    /// All of what stands next.
    pub(crate) fn value(&mut self, depth: usize) -> Result<Value, DecodeError> {
        Ok(match self.head(depth)? {
            Head::Plain(value) => value,
            Head::Text(text) => Value::Text(text.to_owned()),
            Head::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
            Head::Extension(tag, bytes) => Value::Extension(tag, bytes.to_vec()),
            Head::List(count) => {
                (0..count).map(|_| self.value(depth + 1)).collect::<Result<_, _>>().map(Value::List)?
            }
            Head::Map(count) => {
                let mut member = || Ok((self.value(depth + 1)?, self.value(depth + 1)?));
                (0..count).map(|_| member()).collect::<Result<_, _>>().map(Value::Map)?
            }
        })
    }

    /// Nothing may stand behind the value.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.error(&format!("{} bytes behind the value", self.rest.len())))
    }
}

/// A value, or that so many follow of which it is made.
pub(crate) enum Head<'a> {
    /// One that holds no bytes.
    Plain(Value),
    Text(&'a str),
    Bytes(&'a [u8]),
    Extension(i8, &'a [u8]),
    List(usize),
    Map(usize),
}

/// A number of `bits` bits with a sign.
fn signed(number: u64, bits: u32) -> Value {
    let value = (number << (64 - bits)).cast_signed() >> (64 - bits);
    u64::try_from(value).map_or(Value::Signed(value), Value::Unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize)]
    struct Vessel {
        name: &'static str,
        knots: f32,
        course: Option<i16>,
        crew: Vec<(String, u8)>,
    }

    #[test]
    fn what_serde_wrote_with_names_is_decoded_without_the_type() {
        let vessel = Vessel { name: "Ada\n", knots: 11.2, course: Some(-7), crew: vec![("Bo".into(), 200)] };
        let bytes = rmp_serde::to_vec_named(&vessel).unwrap();
        let value = Value::from_message_pack(&bytes).unwrap();
        assert_eq!(value.to_string(), r#"{"name":"Ada\n","knots":11.2,"course":-7,"crew":[["Bo",200]]}"#);
        for cut in 0..bytes.len() {
            assert!(Value::from_message_pack(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn numbers_of_every_width_keep_their_value() {
        for number in [0, 1, -1, -32, -33, -128, -129, 127, 128, 255, 256, 65_535, 65_536, i64::MIN, i64::MAX]
        {
            let value = Value::from_message_pack(&rmp_serde::to_vec(&number).unwrap()).unwrap();
            assert_eq!(value.to_string(), number.to_string());
        }
        let infinite = Value::from_message_pack(&rmp_serde::to_vec(&f64::INFINITY).unwrap()).unwrap();
        assert_eq!(infinite.to_string(), "\"inf\"");
    }

    #[test]
    fn hostile_counts_and_depths_are_errors_and_not_allocations() {
        assert!(Value::from_message_pack(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(Value::from_message_pack(&[0xc6, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(Value::from_message_pack(&[0x91; 100_000]).is_err());
        assert!(Value::from_message_pack(&[0xc0, 0xc0]).is_err());
        assert!(Value::from_message_pack(&[]).is_err());
        let mut many = vec![0xdd, 0x00, 0x20, 0x00, 0x00];
        many.resize(5 + (1 << 21), 0xc0);
        assert!(Value::from_message_pack(&many).is_err());
    }
}
