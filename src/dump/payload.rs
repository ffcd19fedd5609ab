//! Payloads, decoded by what the log says of their kind.

use serde::Serialize;

use crate::dump::frame::FrameInfo;
use crate::dump::large::lengths;
use crate::dump::text::{base64, escaped, hex, key_text};
use crate::dump::value::{DecodeError, Value};
use crate::format::count::EventCount;
use crate::format::cursor::CursorState;
use crate::format::part::Answer;
use crate::format::source::SourceInfo;
use crate::format::system::{Codec, KindInfo, Open, Preamble, System};

/// How payloads are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PayloadStyle {
    /// By the kind's codec; bytes as JSON (feature `json`), text, or in hexadecimal.
    #[default]
    Auto,
    /// As text, whatever the codec.
    Text,
    /// In hexadecimal.
    Hex,
    /// In base64.
    Base64,
    /// Not at all.
    None,
    /// How long it is, and each field of a row that the kind tells of: nothing that an application wrote is shown but keys,
    /// names and numbers. The metadata is left out.
    Lengths,
}

/// A payload, ready to be shown.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Payload {
    /// Decoded by the kind's codec.
    Value(Value),
    /// Text that a translator made of it.
    Translated(String),
    /// Text.
    Text(String),
    /// Hexadecimal digits, asked for or because the bytes say nothing.
    Hex(String),
    /// Base64, asked for.
    Base64(String),
    /// Not what the kind's codec says.
    Undecodable(Vec<u8>, DecodeError),
    /// Not asked for, or a frame that has none by nature.
    Absent,
}

/// A payload for JSON and its like: one of the first four, or none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PayloadFields {
    /// Decoded, or text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// Text that a translator made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_text: Option<String>,
    /// Hexadecimal digits, where those were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_hex: Option<String>,
    /// Base64: of bytes that say nothing, or that are not what the codec says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// Why the payload is not decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_error: Option<String>,
}

impl Payload {
    /// True of a row or an operation of which nothing is left, so that there is nothing to decode.
    pub(crate) fn is_of_nothing(frame: &FrameInfo) -> bool {
        (frame.row.is_some() || frame.event.is_some()) && frame.payload.is_empty()
    }

    pub(crate) fn of(frame: &FrameInfo, kind: Option<&KindInfo>, style: PayloadStyle) -> Self {
        let bytes = &frame.payload;
        match style {
            PayloadStyle::Auto | PayloadStyle::Lengths if frame.is_system() => Self::of_system(frame),
            PayloadStyle::Lengths => Self::lengths(bytes, kind),
            // Nothing is left of its row.
            PayloadStyle::Auto if Self::is_of_nothing(frame) => Self::Absent,
            PayloadStyle::Auto => Self::decoded(bytes, kind.map(|kind| kind.codec)),
            other => Self::as_asked(bytes, other),
        }
    }

    /// Names that the kind does not tell of may be what is not to be shown.
    fn lengths(bytes: &[u8], kind: Option<&KindInfo>) -> Self {
        let told = kind.filter(|kind| kind.codec == Codec::MessagePack && !kind.fields.is_empty());
        let is_told = |kind: &KindInfo, name: &str| kind.fields.iter().any(|told| told == name);
        let lengths = told.and_then(|kind| lengths(bytes, |name| is_told(kind, name)));
        match lengths {
            Some(lengths) => Self::Value(Value::Map(lengths)),
            None => Self::as_asked(bytes, PayloadStyle::Lengths),
        }
    }

    /// Bytes that are no entry's payload but part of one, or of a file: a cell's value, a record that was set aside. Without a codec
    /// they are shown as what they look like.
    ///
    /// ```
    /// use esker::Codec;
    /// use esker::dump::{Payload, PayloadStyle};
    /// let payload = Payload::of_value(&[0x2a], Some(Codec::MessagePack), PayloadStyle::Auto);
    /// assert_eq!(payload.text(), "42");
    /// assert_eq!(Payload::of_value(b"as it is", None, PayloadStyle::Auto).text(), "as it is");
    /// ```
    #[must_use]
    pub fn of_value(bytes: &[u8], codec: Option<Codec>, style: PayloadStyle) -> Self {
        match style {
            PayloadStyle::Auto => Self::decoded(bytes, codec),
            other => Self::as_asked(bytes, other),
        }
    }

    fn decoded(bytes: &[u8], codec: Option<Codec>) -> Self {
        match codec {
            Some(Codec::MessagePack) => Value::from_message_pack(bytes)
                .map_or_else(|error| Self::Undecodable(bytes.to_vec(), error), Self::Value),
            Some(Codec::Json) => Self::of_json(bytes),
            Some(Codec::Bytes) | None => Self::of_bytes(bytes),
        }
    }

    /// Whatever the codec.
    fn as_asked(bytes: &[u8], style: PayloadStyle) -> Self {
        match style {
            PayloadStyle::Hex => Self::Hex(hex(bytes)),
            PayloadStyle::Base64 => Self::Base64(base64(bytes)),
            PayloadStyle::Text => match std::str::from_utf8(bytes) {
                Ok(text) => Self::Text(text.to_owned()),
                Err(error) => {
                    Self::Undecodable(bytes.to_vec(), DecodeError::new(format!("not UTF-8: {error}")))
                }
            },
            PayloadStyle::Lengths if !bytes.is_empty() => Self::Text(format!("{} bytes", bytes.len())),
            PayloadStyle::Auto | PayloadStyle::None | PayloadStyle::Lengths => Self::Absent,
        }
    }

    /// The same for JSON and its like, in the words of [`Fields`](crate::dump::Fields); `bytes` are those that it was made of.
    #[must_use]
    pub fn fields(self, bytes: &[u8], style: PayloadStyle) -> PayloadFields {
        let mut fields = PayloadFields::default();
        match self {
            Self::Value(value) => fields.payload = Some(value),
            Self::Text(text) => fields.payload = Some(Value::Text(text)),
            Self::Translated(text) => fields.payload_text = Some(text),
            Self::Hex(digits) if style == PayloadStyle::Hex => fields.payload_hex = Some(digits),
            Self::Hex(_) => fields.payload_base64 = Some(base64(bytes)),
            Self::Base64(digits) => fields.payload_base64 = Some(digits),
            Self::Undecodable(bytes, error) => {
                fields.payload_base64 = Some(base64(&bytes));
                fields.decode_error = Some(error.to_string());
            }
            Self::Absent => {}
        }
        fields
    }

    #[cfg(feature = "json")]
    fn of_json(bytes: &[u8]) -> Self {
        Value::from_json(bytes).map_or_else(|error| Self::Undecodable(bytes.to_vec(), error), Self::Value)
    }

    /// Without a decoder for JSON its text is shown, which says the same.
    #[cfg(not(feature = "json"))]
    fn of_json(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(error) => Self::Undecodable(bytes.to_vec(), DecodeError::new(format!("not JSON: {error}"))),
        }
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        #[cfg(feature = "json")]
        if matches!(bytes.first(), Some(b'{' | b'['))
            && let Ok(value) = Value::from_json(bytes)
        {
            return Self::Value(value);
        }
        let printable =
            |text: &&str| !text.chars().any(|one| one.is_control() && !matches!(one, '\n' | '\t' | '\r'));
        match std::str::from_utf8(bytes).ok().filter(printable) {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Hex(hex(bytes)),
        }
    }

    fn of_system(frame: &FrameInfo) -> Self {
        let value = match frame.system() {
            Some(System::Preamble) => Preamble::read(&frame.payload).map(|preamble| {
                Value::named([
                    ("next_seq", Value::Unsigned(preamble.next_seq)),
                    ("log_bytes", Value::Unsigned(preamble.log_bytes)),
                    ("keyed_from", Value::Unsigned(preamble.keyed_from)),
                    ("lost", Value::Unsigned(preamble.lost)),
                    ("forgot", Value::Bool(preamble.forgot)),
                ])
            }),
            Some(System::Open) => Open::read(&frame.payload).map(|open| {
                Value::named([
                    ("previous_life", Value::Text(open.previous_life.to_string())),
                    ("pid", Value::Unsigned(u64::from(open.pid))),
                    ("recovered_end", Value::Text(open.recovered_end.to_string())),
                ])
            }),
            Some(System::Kind) => KindInfo::read(&frame.payload).map(|kind| {
                let fields = kind.fields.iter().map(|field| Value::Text(field.clone())).collect();
                Value::named([
                    ("id", Value::Unsigned(u64::from(kind.id.get()))),
                    ("name", Value::Text(kind.name.clone())),
                    ("version", Value::Unsigned(u64::from(kind.version))),
                    ("codec", Value::Text(format!("{:?}", kind.codec).to_lowercase())),
                    ("owner", Value::Text(format!("{:?}", kind.owner).to_lowercase())),
                    ("keep", Value::Text(format!("{:?}", kind.keep).to_lowercase())),
                    ("fields", Value::List(fields)),
                ])
            }),
            Some(System::Answer) => Answer::read(&frame.payload).map(|answer| {
                let generations = answer.generations.iter().map(|number| Value::Unsigned(*number)).collect();
                Value::named([
                    ("key", Value::Text(answer.keyed.key.to_string())),
                    ("first_seq", Value::Unsigned(answer.keyed.first_seq)),
                    ("entries", Value::Unsigned(u64::from(answer.keyed.frames))),
                    ("from", Value::Unsigned(u64::from(answer.from))),
                    ("generations", Value::List(generations)),
                ])
            }),
            Some(System::Cursor) => CursorState::read(&frame.payload).map(|cursor| {
                Value::named([
                    ("name", Value::Text(cursor.name.clone())),
                    ("revision", Value::Unsigned(cursor.revision)),
                    ("seq", Value::Unsigned(cursor.seq)),
                    ("part", Value::Text(format!("{:?}", cursor.part).to_lowercase())),
                    ("kind", Value::Unsigned(u64::from(cursor.kind))),
                    ("key", Value::Text(key_text(&cursor.key))),
                    ("hold", Value::Unsigned(cursor.hold)),
                    ("retired", Value::Bool(cursor.retired)),
                ])
            }),
            Some(System::Source) => SourceInfo::read(&frame.payload).map(|source| {
                let mut fields = vec![
                    ("id", Value::Unsigned(u64::from(source.id))),
                    ("name", Value::Text(source.name.clone())),
                    ("retired", Value::Bool(source.retired)),
                ];
                // Few sources have one.
                if let Some(deadline) = source.liveness.deadline() {
                    let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
                    fields.push(("deadline_ms", Value::Unsigned(millis)));
                    fields.push(("settled", Value::Bool(source.settled)));
                }
                Value::named(fields)
            }),
            Some(System::Count) => EventCount::read(&frame.payload).map(|count| {
                let (store, of_kind) = count.sequence;
                Value::named([
                    ("kind", Value::Unsigned(u64::from(count.kind.get()))),
                    ("events", Value::Unsigned(store)),
                    ("of_kind", Value::Unsigned(of_kind)),
                ])
            }),
            Some(System::Closed | System::Seal | System::Mark) | None => None,
        };
        match value {
            Some(value) => Self::Value(value),
            None if frame.payload.is_empty() => Self::Absent,
            None => Self::Hex(hex(&frame.payload)),
        }
    }

    /// On one line, without control characters.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Value(value) => value.to_string(),
            Self::Text(text) | Self::Translated(text) => escaped(text, false),
            Self::Hex(digits) if digits.is_empty() => String::new(),
            Self::Hex(digits) => format!("hex:{digits}"),
            Self::Base64(digits) => digits.clone(),
            Self::Undecodable(bytes, error) => format!("hex:{} ({error})", hex(bytes)),
            Self::Absent => String::new(),
        }
    }
}
