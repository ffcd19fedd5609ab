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

    /// The line of an entry of a kind with this name; [`Entry`](super::Entry) reads it. What is large of it is written at once.
    pub(super) fn entry(&mut self, frame: &FrameInfo, kind: &str, out: &mut dyn Write) -> io::Result<()> {
        self.number(r#"{"type":"entry","seq":"#, frame.seq);
        self.number(r#","generation":"#, frame.generation.map_or(0, Generation::get));
        self.text(r#","kind":"#, kind);
        match is_plain(&frame.key) && !frame.key.starts_with(b"hex:") {
            true => self.plain(r#","key":"#, &frame.key),
            false => self.text(r#","key":"#, &key_text(&frame.key)),
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
        if !frame.metadata.is_empty() {
            self.content(r#","metadata":"#, r#","metadata_base64":"#, &frame.metadata);
        }
        let names = [r#","payload_text":"#, r#","payload_base64":"#];
        match frame.payload.len() > LARGE {
            true => self.large(names, &frame.payload, out)?,
            false => self.content(names[0], names[1], &frame.payload),
        }
        self.raw("}\n");
        Ok(())
    }

    /// As [`content`](Self::content), with no more than some of it here.
    fn large(
        &mut self,
        [as_text, as_base64]: [&str; 2],
        bytes: &[u8],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let is_text = std::str::from_utf8(bytes).is_ok();
        self.raw(if is_text { as_text } else { as_base64 });
        self.bytes.push(b'"');
        for piece in bytes.chunks(LARGE) {
            if is_text {
                self.escapes(piece)
            } else {
                self.raw(&base64(piece))
            }
            self.give(out)?;
        }
        self.bytes.push(b'"');
        Ok(())
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

    /// What an application wrote: as text if it is one.
    fn content(&mut self, as_text: &str, as_base64: &str, bytes: &[u8]) {
        if is_plain(bytes) {
            return self.plain(as_text, bytes);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => self.with_escapes(as_text, text),
            Err(_) => self.plain(as_base64, base64(bytes).as_bytes()),
        }
    }

    /// Bytes that are [plain](is_plain).
    fn plain(&mut self, name: &str, bytes: &[u8]) {
        self.bytes.reserve(name.len() + bytes.len() + 2);
        self.raw(name);
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(bytes);
        self.bytes.push(b'"');
    }

    fn text(&mut self, name: &str, text: &str) {
        match is_plain(text.as_bytes()) {
            true => self.plain(name, text.as_bytes()),
            false => self.with_escapes(name, text),
        }
    }

    /// A text that is not plain.
    fn with_escapes(&mut self, name: &str, text: &str) {
        self.raw(name);
        self.bytes.push(b'"');
        self.escapes(text.as_bytes());
        self.bytes.push(b'"');
    }

    /// Bytes of a text.
    fn escapes(&mut self, text: &[u8]) {
        for piece in text.chunks(PIECE) {
            // Told of a whole piece at once: nearly none has anything to escape.
            if piece.iter().fold(false, |any, byte| any | is_escaped(*byte)) {
                piece.iter().for_each(|byte| self.escaped(*byte));
            } else {
                self.bytes.extend_from_slice(piece);
            }
        }
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

/// What has more bytes is written in pieces of as many, of which three are four digits of base64.
const LARGE: usize = 3 << 14;

/// So many bytes are looked at together.
const PIECE: usize = 64;

/// True for what JSON has no place for in a text; all of it is ASCII.
fn is_escaped(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

/// True for printable ASCII in which nothing is escaped: it is text, and stands in JSON as it is. Nearly all keys are, and
/// many payloads.
fn is_plain(bytes: &[u8]) -> bool {
    let is_strange = |byte: &u8| !matches!(byte, b' '..=b'~') | is_escaped(*byte);
    // Told of a whole piece at once, as many bytes as a processor looks at side by side.
    let mut pieces = bytes.chunks_exact(PIECE / 2);
    let is_plain = pieces.all(|piece| !piece.iter().fold(false, |any, byte| any | is_strange(byte)));
    is_plain && !pieces.remainder().iter().any(is_strange)
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
    fn what_is_written_in_pieces_is_what_is_written_at_once() {
        let names = ["text:", "bytes:"];
        for bytes in
            ["\u{e9}\n\"x".repeat(LARGE).into_bytes(), b"\xff\n".repeat(LARGE), vec![b'x'; 3 * LARGE]]
        {
            let (mut at_once, mut in_pieces, mut out) = (Lines::default(), Lines::default(), Vec::new());
            at_once.content(names[0], names[1], &bytes);
            in_pieces.large(names, &bytes, &mut out).unwrap();
            in_pieces.give(&mut out).unwrap();
            assert!(
                out == at_once.bytes && in_pieces.bytes.capacity() < 2 * bytes.len(),
                "{:?}",
                &bytes[..4]
            );
        }
    }

    #[test]
    fn what_is_plain_is_its_own_text() {
        let behind: [(&[u8], bool); 8] = [
            (b"a", true),
            (b"", true),
            (b"\x7f", false),
            (b"a\nb", false),
            (b"\"", false),
            (b"\\", false),
            ("\u{e9}".as_bytes(), false),
            (b"\xff", false),
        ];
        let tildes = "~ ".repeat(50);
        for length in [0, 1, 31, 32, 33, 64, 100] {
            let before = &tildes.as_bytes()[..length];
            for (behind, expected) in behind {
                for bytes in [[before, behind].concat(), [behind, before].concat()] {
                    assert_eq!(is_plain(&bytes), expected, "{bytes:?}");
                    if expected {
                        let text = std::str::from_utf8(&bytes).unwrap();
                        assert_eq!(key_text(&bytes), text);
                        assert_eq!(serde_json::to_string(text).unwrap(), format!("\"{text}\""));
                    }
                }
            }
        }
    }
}
