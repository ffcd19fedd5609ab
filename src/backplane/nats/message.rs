//! Messages of the server, and the records and cells that they are.
//!
//! The payload of a message is that of the record. Who appended it, and the version, stand in headers; what another
//! program published has none, and is a record all the same.

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;

use crate::backplane::name::{Offset, Revision, Stamp};
use crate::backplane::nats::names::Names;
use crate::backplane::record::{CellState, StreamRecord};
use crate::error::{Error, Result};

pub(super) const STAMP: &str = "Esker-Stamp";
pub(super) const SCHEMA: &str = "Esker-Schema";
/// Where a bridge took the record from.
pub(super) const ORIGIN: &str = "Esker-Origin";
/// The mark of a KV bucket for what was taken out.
pub(super) const OPERATION: &str = "KV-Operation";
pub(super) const DELETE: &str = "DEL";
/// What headers may take of a message, beside the payload: four of ours, and the longest message id.
pub(super) const HEADER_BYTES_MAX: usize = 4 << 10;

fn text<'h>(headers: Option<&'h HeaderMap>, name: &str) -> Option<&'h str> {
    headers?.get(name).map(|value| value.as_str())
}

/// Who appended a message, if it says so.
pub(super) fn stamp_of(headers: Option<&HeaderMap>, at: u64) -> Result<Option<Stamp>> {
    let damaged =
        |_| unreadable(at, STAMP, "16 hexadecimal digits, a colon and a number", text(headers, STAMP));
    text(headers, STAMP).map(|text| text.parse().map_err(damaged)).transpose()
}

fn schema_of(headers: Option<&HeaderMap>, at: u64) -> Result<u16> {
    let Some(schema) = text(headers, SCHEMA) else { return Ok(0) };
    schema.parse().map_err(|_| unreadable(at, SCHEMA, "a number below 65536", Some(schema)))
}

fn unreadable(at: u64, header: &str, expected: &str, found: Option<&str>) -> Error {
    Error::corrupt(format!("read the header {header} of message {at}"))
        .sides(expected, format!("{:?}", found.unwrap_or_default()))
}

/// What a message in the stream of events is, apart from where it came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'m> {
    pub(super) subject: &'m str,
    pub(super) sequence: u64,
    pub(super) headers: Option<&'m HeaderMap>,
    pub(super) payload: &'m [u8],
    /// Nanoseconds since 1970.
    pub(super) time: i128,
}

impl<'m> Raw<'m> {
    pub(super) fn of(message: &'m StreamMessage) -> Self {
        Self {
            subject: message.subject.as_str(),
            sequence: message.sequence,
            headers: Some(&message.headers),
            payload: &message.payload,
            time: message.time.unix_timestamp_nanos(),
        }
    }

    /// The record that it is.
    pub(super) fn record(&self, names: &Names) -> Result<StreamRecord> {
        let key = names.key_of(self.subject).ok_or_else(|| {
            Error::corrupt(format!("read the subject of message {}", self.sequence))
                .sides("that of a topic", format!("{:?}", self.subject))
        })?;
        let stamp = stamp_of(self.headers, self.sequence)?;
        let time = i64::try_from(self.time).unwrap_or(i64::MAX);
        let record = StreamRecord::new(Offset::from_raw(self.sequence), stamp, time, key, self.payload);
        Ok(record.with_schema(schema_of(self.headers, self.sequence)?))
    }

    /// Where a bridge took it from.
    pub(super) fn origin(&self) -> Option<String> {
        text(self.headers, ORIGIN).map(str::to_owned)
    }

    /// What stands in it is this.
    pub(super) fn is_content(&self, payload: Option<&[u8]>, schema: u16) -> bool {
        let is_there = text(self.headers, OPERATION).is_none();
        is_there == payload.is_some()
            && self.payload == payload.unwrap_or_default()
            && schema_of(self.headers, self.sequence).is_ok_and(|found| found == schema)
    }

    /// What a cell holds behind it.
    pub(super) fn cell(&self) -> CellState {
        let is_there = text(self.headers, OPERATION).is_none();
        CellState::new(is_there.then(|| self.payload.to_vec()), Revision::from_raw(self.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn read(subject: &str, headers: &[(&str, &str)]) -> Result<StreamRecord> {
        let names = Names { stream: "S".into(), bucket: "B".into(), prefix: "esker".into() };
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), (*value).parse().unwrap()))
            .collect();
        Raw { subject, sequence: 9, headers: Some(&headers), payload: b"p", time: 5 }.record(&names)
    }

    #[test]
    fn a_message_without_headers_is_a_record_and_headers_that_say_nothing_are_damage() {
        let record = read("esker.e.s.=00", &[]).unwrap();
        assert_eq!(
            (record.key(), record.payload(), record.stamp(), record.schema()),
            (&b"\0"[..], &b"p"[..], None, 0)
        );
        let record = read("esker.e.s.k", &[(STAMP, "00000000000000ab:7"), (SCHEMA, "3")]).unwrap();
        assert_eq!(
            (record.stamp().unwrap().n, record.schema(), record.offset().raw(), record.time()),
            (7, 3, 9, 5)
        );
        for headers in [[(STAMP, "ab:7")], [(STAMP, "")], [(SCHEMA, "65536")], [(SCHEMA, "-1")]] {
            assert_eq!(read("esker.e.s.k", &headers).unwrap_err().kind(), ErrorKind::Corrupt, "{headers:?}");
        }
        assert_eq!(read("other.e.s.k", &[]).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
