//! Payloads that are too large to be held once more, as a value or as text: they are written as they are decoded.
//!
//! What is written is what a [`Payload`](crate::dump::Payload) of the same bytes says. Whether they can be decoded at all is
//! found out first, by writing them to nowhere.

use std::fmt;
use std::io::{self, Write};

use crate::dump::payload::PayloadStyle;
use crate::dump::text::{base64, escaped, hex, is_unprintable};
use crate::dump::value::{DecodeError, Decoder, Head, Value};
use crate::format::system::Codec;

/// A payload of fewer bytes is not large.
pub const LARGE_BYTES: usize = 1 << 20;

/// So many bytes are turned into text together. Three are four digits of base64.
const PIECE: usize = 3 << 10;

/// A payload that is written as it is decoded; see [`Dump::large_payload`](crate::dump::Dump::large_payload).
#[derive(Clone)]
pub struct LargePayload<'a> {
    bytes: &'a [u8],
    what: What,
}

/// What it is shown as.
#[derive(Clone, Debug)]
enum What {
    MessagePack,
    #[cfg(feature = "json")]
    Json,
    Text,
    Hex,
    Base64,
    /// Bytes that say nothing.
    Unknown,
    Undecodable(DecodeError),
}

impl<'a> LargePayload<'a> {
    /// `None`: the style shows nothing of it that is large.
    pub(super) fn of(bytes: &'a [u8], codec: Option<Codec>, style: PayloadStyle) -> Option<Self> {
        let what = match (style, codec) {
            (PayloadStyle::Auto, Some(Codec::MessagePack)) => {
                message_pack(bytes, &mut Writer::line(&mut io::sink()))
                    .map_or_else(undecodable, |()| What::MessagePack)
            }
            (PayloadStyle::Auto, Some(Codec::Json)) => json_or_why(bytes),
            (PayloadStyle::Auto, Some(Codec::Bytes) | None) => looks_like(bytes),
            (PayloadStyle::Text, _) => text_or_why(bytes, "UTF-8"),
            (PayloadStyle::Hex, _) => What::Hex,
            (PayloadStyle::Base64, _) => What::Base64,
            (PayloadStyle::None | PayloadStyle::Lengths, _) => return None,
        };
        Some(Self { bytes, what })
    }

    /// The member of [`PayloadFields`](crate::dump::PayloadFields) that has its value.
    #[must_use]
    pub fn member(&self) -> &'static str {
        match self.what {
            What::MessagePack | What::Text => "payload",
            #[cfg(feature = "json")]
            What::Json => "payload",
            What::Hex => "payload_hex",
            What::Base64 | What::Unknown | What::Undecodable(_) => "payload_base64",
        }
    }

    /// Why it is not decoded, if it should be and cannot be.
    #[must_use]
    pub fn decode_error(&self) -> Option<&DecodeError> {
        if let What::Undecodable(error) = &self.what { Some(error) } else { None }
    }

    /// Of a map of MessagePack, the first of its names that is looked for, if it has one; `None`: it is no such map.
    #[must_use]
    pub fn find_name(&self, mut is_it: impl FnMut(&Value) -> bool) -> Option<Option<Value>> {
        let mut decoder = Decoder::of(self.bytes);
        let Ok(Head::Map(count)) = decoder.head(0) else { return None };
        for _ in 0..count {
            let name = decoder.value(1).ok()?;
            if is_it(&name) {
                return Some(Some(name));
            }
            Writer::line(&mut io::sink()).value(&mut decoder, 1).ok()?;
        }
        Some(None)
    }

    /// Writes it on one line, without control characters, as [`Payload::text`](crate::dump::Payload::text) has it.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = Writer::line(out);
        match &self.what {
            What::MessagePack => in_writing(message_pack(self.bytes, &mut out)),
            #[cfg(feature = "json")]
            What::Json => in_writing(json::write(self.bytes, &mut out)),
            What::Text => out.escaped(self.as_text(), false),
            What::Base64 => out.base64(self.bytes),
            What::Hex | What::Unknown if self.bytes.is_empty() => Ok(()),
            What::Hex | What::Unknown => out.raw("hex:").and_then(|()| out.hex(self.bytes)),
            What::Undecodable(error) => {
                out.raw("hex:")?;
                out.hex(self.bytes)?;
                out.raw(&format!(" ({error})"))
            }
        }
    }

    /// Writes the value of its [member](Self::member) as JSON.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    #[cfg(feature = "json")]
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = Writer { out, form: Form::Json };
        match &self.what {
            What::MessagePack => in_writing(message_pack(self.bytes, &mut out)),
            What::Json => in_writing(json::write(self.bytes, &mut out)),
            What::Text => out.quoted(self.as_text()),
            What::Hex => out.in_quotes(|out| out.hex(self.bytes)),
            What::Base64 | What::Unknown | What::Undecodable(_) => {
                out.in_quotes(|out| out.base64(self.bytes))
            }
        }
    }

    fn as_text(&self) -> &'a str {
        std::str::from_utf8(self.bytes).unwrap_or_default()
    }
}

impl fmt::Debug for LargePayload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LargePayload({} bytes, {:?})", self.bytes.len(), self.what)
    }
}

fn undecodable(stop: Stop) -> What {
    match stop {
        Stop::Decode(error) => What::Undecodable(error),
        Stop::Io(error) => What::Undecodable(DecodeError::new(error.to_string())),
    }
}

fn text_or_why(bytes: &[u8], codec: &str) -> What {
    let why = |error| What::Undecodable(DecodeError::new(format!("not {codec}: {error}")));
    std::str::from_utf8(bytes).map_or_else(why, |_| What::Text)
}

#[cfg(feature = "json")]
fn json_or_why(bytes: &[u8]) -> What {
    json::write(bytes, &mut Writer::line(&mut io::sink())).map_or_else(undecodable, |()| What::Json)
}

/// Without a decoder for JSON its text is shown.
#[cfg(not(feature = "json"))]
fn json_or_why(bytes: &[u8]) -> What {
    text_or_why(bytes, "JSON")
}

/// Bytes of which nobody says what they are.
fn looks_like(bytes: &[u8]) -> What {
    #[cfg(feature = "json")]
    if matches!(bytes.first(), Some(b'{' | b'[')) && matches!(json_or_why(bytes), What::Json) {
        return What::Json;
    }
    let is_printed = |one: char| !one.is_control() || matches!(one, '\n' | '\t' | '\r');
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.chars().all(is_printed));
    text.map_or(What::Unknown, |_| What::Text)
}

/// Of a map of MessagePack each name with the length of its value: the bytes of text and of bytes, of anything else those of its
/// text. `None`: it is no such map, or has a name that nobody told of.
pub(super) fn lengths(bytes: &[u8], is_told: impl Fn(&str) -> bool) -> Option<Vec<(Value, Value)>> {
    let mut decoder = Decoder::of(bytes);
    let Ok(Head::Map(count)) = decoder.head(0) else { return None };
    let mut members = Vec::new();
    for _ in 0..count {
        let name = decoder.value(1).ok()?;
        if !matches!(&name, Value::Text(name) if is_told(name)) {
            return None;
        }
        let mut counted = Counted(0);
        match decoder.head(1).ok()? {
            Head::Text(text) => counted.0 = text.len() as u64,
            Head::Bytes(bytes) => counted.0 = bytes.len() as u64,
            head => Writer::line(&mut counted).rest(head, &mut decoder, 1).ok()?,
        }
        members.push((name, Value::Unsigned(counted.0)));
    }
    decoder.end().ok().map(|()| members)
}

/// Writes to nowhere, and counts.
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why it does not go on.
enum Stop {
    Decode(DecodeError),
    Io(io::Error),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Of bytes that were found to decode.
fn in_writing(written: Result<(), Stop>) -> io::Result<()> {
    written.map_err(|stop| match stop {
        Stop::Io(error) => error,
        Stop::Decode(error) => io::Error::other(error.to_string()),
    })
}

fn message_pack(bytes: &[u8], out: &mut Writer<'_>) -> Result<(), Stop> {
    let mut decoder = Decoder::of(bytes);
    out.value(&mut decoder, 0)?;
    Ok(decoder.end()?)
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As `Value` displays them.
    Line,
    /// As `Value` is serialized.
    #[cfg(feature = "json")]
    Json,
}

struct Writer<'w> {
    out: &'w mut dyn Write,
    form: Form,
}

impl<'w> Writer<'w> {
    fn line(out: &'w mut dyn Write) -> Self {
        Self { out, form: Form::Line }
    }

    fn raw(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    /// The value that stands next.
    fn value(&mut self, decoder: &mut Decoder<'_>, depth: usize) -> Result<(), Stop> {
        let head = decoder.head(depth)?;
        self.rest(head, decoder, depth)
    }

    /// A value of which the head was read.
    fn rest(&mut self, head: Head<'_>, decoder: &mut Decoder<'_>, depth: usize) -> Result<(), Stop> {
        match head {
            Head::Plain(value) => self.plain(&value)?,
            Head::Text(text) => self.quoted(text)?,
            Head::Bytes(bytes) => self.bytes(bytes)?,
            Head::Extension(tag, bytes) => {
                self.raw(&format!("{{\"extension\":{tag},\"data\":"))?;
                self.bytes(bytes)?;
                self.raw("}")?;
            }
            Head::List(count) => {
                self.raw("[")?;
                for at in 0..count {
                    self.raw(if at == 0 { "" } else { "," })?;
                    self.value(decoder, depth + 1)?;
                }
                self.raw("]")?;
            }
            Head::Map(count) => {
                self.raw("{")?;
                for at in 0..count {
                    self.raw(if at == 0 { "" } else { "," })?;
                    self.quoted(&decoder.value(depth + 1)?.as_key())?;
                    self.raw(":")?;
                    self.value(decoder, depth + 1)?;
                }
                self.raw("}")?;
            }
        }
        Ok(())
    }

    /// A value that is none of many, and no text.
    fn plain(&mut self, value: &Value) -> io::Result<()> {
        match self.form {
            Form::Line => write!(self.out, "{value}"),
            #[cfg(feature = "json")]
            Form::Json => Ok(serde_json::to_writer(&mut *self.out, value)?),
        }
    }

    fn quoted(&mut self, text: &str) -> io::Result<()> {
        match self.form {
            Form::Line => self.in_quotes(|out| out.escaped(text, true)),
            #[cfg(feature = "json")]
            Form::Json => Ok(serde_json::to_writer(&mut *self.out, text)?),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.in_quotes(|out| out.raw("hex:").and_then(|()| out.hex(bytes)))
    }

    fn in_quotes(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.raw("\"")?;
        write(self)?;
        self.raw("\"")
    }

    fn hex(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(PIECE).try_for_each(|piece| self.raw(&hex(piece)))
    }

    fn base64(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(PIECE).try_for_each(|piece| self.raw(&base64(piece)))
    }

    fn escaped(&mut self, text: &str, quotes: bool) -> io::Result<()> {
        let is_escaped = |one: char| one == '\\' || quotes && one == '"' || is_unprintable(one);
        text.split_inclusive(is_escaped).try_for_each(|piece| {
            // Only the last character of a piece may be one.
            let last = piece.chars().next_back().filter(|one| is_escaped(*one));
            let plain = piece.len() - last.map_or(0, char::len_utf8);
            self.raw(piece.get(..plain).unwrap_or_default())?;
            self.raw(&escaped(piece.get(plain..).unwrap_or_default(), quotes))
        })
    }
}

#[cfg(feature = "json")]
mod json {
    //! JSON that is written as it is read.

    use std::fmt;
    use std::io;

    use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

    use super::{Stop, Writer};
    use crate::dump::value::{DecodeError, Value};

    pub(super) fn write(bytes: &[u8], out: &mut Writer<'_>) -> Result<(), Stop> {
        let (mut reader, mut failed) = (serde_json::Deserializer::from_slice(bytes), None);
        let next = Next { out, failed: &mut failed, before: "" };
        let read = next.deserialize(&mut reader).and_then(|()| reader.end());
        match (failed, read) {
            (Some(error), _) => Err(error.into()),
            (None, Err(error)) => Err(DecodeError::new(format!("not JSON: {error}")).into()),
            (None, Ok(())) => Ok(()),
        }
    }

    /// The value that stands next, with what comes before it.
    struct Next<'s, 'w> {
        out: &'s mut Writer<'w>,
        /// Why it could not be written.
        failed: &'s mut Option<io::Error>,
        before: &'static str,
    }

    impl<'w> Next<'_, 'w> {
        fn write<E: Error>(
            &mut self,
            write: impl FnOnce(&mut Writer<'_>) -> io::Result<()>,
        ) -> Result<(), E> {
            write(self.out).map_err(|error| {
                *self.failed = Some(error);
                E::custom("it could not be written")
            })
        }

        fn then(&mut self, before: &'static str) -> Next<'_, 'w> {
            Next { out: &mut *self.out, failed: &mut *self.failed, before }
        }
    }

    impl<'de> DeserializeSeed<'de> for Next<'_, '_> {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(mut self, reader: D) -> Result<(), D::Error> {
            let before = self.before;
            self.write(|out| out.raw(before))?;
            reader.deserialize_any(self)
        }
    }

    impl<'de> Visitor<'de> for Next<'_, '_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value")
        }

        fn visit_unit<E: Error>(mut self) -> Result<(), E> {
            self.write(|out| out.plain(&Value::Null))
        }

        fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
            self.write(|out| out.plain(&Value::Bool(value)))
        }

        fn visit_u64<E: Error>(mut self, value: u64) -> Result<(), E> {
            self.write(|out| out.plain(&Value::Unsigned(value)))
        }

        fn visit_i64<E: Error>(mut self, value: i64) -> Result<(), E> {
            self.write(|out| out.plain(&u64::try_from(value).map_or(Value::Signed(value), Value::Unsigned)))
        }

        fn visit_f64<E: Error>(mut self, value: f64) -> Result<(), E> {
            self.write(|out| out.plain(&Value::Double(value)))
        }

        fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
            self.write(|out| out.quoted(text))
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
            self.write(|out| out.raw("["))?;
            let mut before = "";
            while list.next_element_seed(self.then(before))?.is_some() {
                before = ",";
            }
            self.write(|out| out.raw("]"))
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            self.write(|out| out.raw("{"))?;
            let mut before = "";
            while map.next_key_seed(self.then(before))?.is_some() {
                map.next_value_seed(self.then(":"))?;
                before = ",";
            }
            self.write(|out| out.raw("}"))
        }
    }
}

#[cfg(test)]
#[path = "large_tests.rs"]
mod tests;
