//! The lines of entries as text, by hand: an export is hardly anything else, and what serde would be asked for each
//! member takes longer than to write it.

use std::io::{self, Write};

use esker::dump::{FrameInfo, base64, hex, key_text, rfc3339};
use esker::{EventMark, EventOperation, Generation, RowMark, RowOperation};

use super::state::{IN_EPOCH, SYNTHETIC};

/// Lines, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    /// What was said of a time last: the entries of a batch have the same.
    time: Option<i64>,
    time_text: String,
}

impl Lines {
    /// Writes them, and begins anew.
    pub(super) fn give(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let given = out.write_all(&self.bytes);
        self.bytes.clear();
        given
    }

    /// The line of an entry of a kind with this name; [`Entry`](super::Entry) reads it.
    pub(super) fn entry(&mut self, frame: &FrameInfo, kind: &str) {
        self.number(r#"{"type":"entry","seq":"#, frame.seq);
        self.number(r#","generation":"#, frame.generation.map_or(0, Generation::get));
        self.text(r#","kind":"#, kind);
        match plain_text(&frame.key) {
            Some(key) => self.text(r#","key":"#, key),
            None => self.text(r#","key":"#, &key_text(&frame.key)),
        }
        self.time(frame.time);
        if frame.source != 0 {
            self.number(r#","source":"#, u64::from(frame.source));
        }
        self.flag(r#","more":true"#, frame.more);
        self.flag(r#","tombstone":true"#, frame.tombstone);
        self.about(frame);
        if let Some((operation, mark)) = RowOperation::of(frame.operation).zip(frame.row) {
            self.row(operation, &mark);
        }
        if let Some((operation, mark)) = EventOperation::of(frame.operation).zip(frame.event) {
            self.event(operation, &mark, frame);
        }
        match std::str::from_utf8(&frame.metadata) {
            Ok("") => {}
            Ok(metadata) => self.text(r#","metadata":"#, metadata),
            Err(_) => self.text(r#","metadata_base64":"#, &base64(&frame.metadata)),
        }
        match std::str::from_utf8(&frame.payload) {
            Ok(payload) => self.text(r#","payload_text":"#, payload),
            Err(_) => self.text(r#","payload_base64":"#, &base64(&frame.payload)),
        }
        self.raw("}\n");
    }

    /// What belongs to it.
    fn about(&mut self, frame: &FrameInfo) {
        if let Some(key) = frame.idempotency_key {
            self.text(r#","idempotency_key":"#, &key.to_string());
        }
        if let Some(id) = frame.correlation {
            self.text(r#","correlation":"#, &hex(&id));
        }
        if let Some((cause, depth)) = frame.causation {
            self.number(r#","cause":"#, cause);
            self.number(r#","depth":"#, u64::from(depth));
        }
        if let Some(version) = frame.schema_version {
            self.number(r#","schema_version":"#, u64::from(version));
        }
        if let Some(stamp) = frame.stamp {
            self.text(r#","stamp":"#, &stamp.to_string());
        }
    }

    fn row(&mut self, operation: RowOperation, mark: &RowMark) {
        self.text(r#","row":{"operation":"#, operation.name());
        self.mask(r#","sources":"#, mark.sources);
        self.mask(r#","changed":"#, mark.changed);
        if let Some(version) = mark.version {
            self.number(r#","version":"#, version);
        }
        self.raw("}");
    }

    fn event(&mut self, operation: EventOperation, mark: &EventMark, frame: &FrameInfo) {
        self.text(r#","event":{"operation":"#, operation.name());
        self.mask(r#","sources":"#, mark.sources);
        if let Some(changed) = mark.changed {
            self.mask(r#","changed":"#, changed);
        }
        if let Some(present) = mark.present {
            self.mask(r#","present":"#, present);
        }
        self.number(r#","sequence":"#, mark.sequence.0);
        self.number(r#","kind_sequence":"#, mark.sequence.1);
        self.number(r#","version":"#, mark.version);
        if let Some(before) = mark.version_before {
            self.number(r#","version_before":"#, before);
        }
        if frame.is_in_epoch() {
            self.text(r#","suppressed":"#, IN_EPOCH);
        } else if frame.is_synthetic() {
            self.text(r#","suppressed":"#, SYNTHETIC);
        }
        self.raw("}");
    }

    fn time(&mut self, time: i64) {
        if self.time != Some(time) {
            self.time_text = format!(r#","time":"{}","time_ns":"{time}""#, rfc3339(time));
            self.time = Some(time);
        }
        self.bytes.extend_from_slice(self.time_text.as_bytes());
    }

    fn raw(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn flag(&mut self, member: &str, is_set: bool) {
        if is_set {
            self.raw(member);
        }
    }

    fn number(&mut self, name: &str, mut number: u64) {
        let mut digits = [b'0'; 20];
        let mut count = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
            count += 1;
            if number == 0 {
                break;
            }
        }
        self.raw(name);
        self.bytes.extend_from_slice(digits.get(digits.len() - count..).unwrap_or_default());
    }

    /// One bit for each, in hexadecimal.
    fn mask(&mut self, name: &str, mask: u64) {
        self.text(name, &format!("{mask:016x}"));
    }

    fn text(&mut self, name: &str, text: &str) {
        self.raw(name);
        self.bytes.push(b'"');
        for piece in text.as_bytes().chunks(PIECE) {
            // Told of a whole piece at once: nearly none has anything to escape.
            if piece.iter().fold(false, |any, byte| any | is_escaped(*byte)) {
                piece.iter().for_each(|byte| self.escaped(*byte));
            } else {
                self.bytes.extend_from_slice(piece);
            }
        }
        self.bytes.push(b'"');
    }

    fn escaped(&mut self, byte: u8) {
        match byte {
            b'"' => self.raw("\\\""),
            b'\\' => self.raw("\\\\"),
            b'\n' => self.raw("\\n"),
            b'\r' => self.raw("\\r"),
            b'\t' => self.raw("\\t"),
            0x08 => self.raw("\\b"),
            0x0c => self.raw("\\f"),
            0..b' ' => self.raw(&format!("\\u{byte:04x}")),
            _ => self.bytes.push(byte),
        }
    }
}

/// So many bytes are looked at together.
const PIECE: usize = 64;

/// True for what JSON has no place for in a text; all of it is ASCII.
fn is_escaped(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

/// A key of printable ASCII that [`key_text`] gives back as it is, as nearly all are.
fn plain_text(key: &[u8]) -> Option<&str> {
    let is_plain = key.iter().all(|byte| matches!(byte, b' '..=b'~')) && !key.starts_with(b"hex:");
    if is_plain { std::str::from_utf8(key).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_as_serde_writes_them() {
        for number in [0, 9, 10, 1234, u64::MAX] {
            let mut lines = Lines::default();
            lines.number("", number);
            assert_eq!(lines.bytes, number.to_string().as_bytes());
        }
        let all: String = (0..=0x2100).filter_map(char::from_u32).collect();
        for text in
            [all.as_str(), "", "\"", &"x".repeat(PIECE), &format!("{}\n\u{e9}", "x".repeat(PIECE - 1))]
        {
            let mut lines = Lines::default();
            lines.text("", text);
            assert_eq!(lines.bytes, serde_json::to_vec(text).unwrap());
        }
    }

    #[test]
    fn a_key_that_is_plain_is_its_own_text() {
        for key in [&b"a"[..], b"~ ", b"hex:00", b"\x7f", b"a\nb", "\u{e9}".as_bytes(), b""] {
            assert_eq!(plain_text(key).map_or_else(|| key_text(key), str::to_owned), key_text(key));
        }
    }
}
