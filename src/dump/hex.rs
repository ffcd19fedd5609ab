//! The bytes of a segment or a part with the names of their fields in the margin.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use zerocopy::FromBytes;

use crate::disk::Access;
use crate::dump::frame::FrameInfo;
use crate::dump::text::{escaped, key_text, rfc3339, segment_text};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{FRAME_BYTES, Found, Frame};
use crate::format::header::{FileHeader, FileType, HEADER_BYTES};
use crate::format::segment::{FIRST_FRAME, file_name};
use crate::id::{FRAME_ALIGN, PART, Position};
use crate::index::catalog::Section;
use crate::journal::reader::Reader;
use crate::journal::verify::window::Window;

/// So many bytes stand on a line.
const WIDTH: usize = 16;

/// The fields of a file's header, in their order, with their widths.
const HEADER_FIELDS: [(&str, usize); 19] = [
    ("magic", 8),
    ("file type", 2),
    ("format version", 2),
    ("compatible features", 4),
    ("read-only features", 4),
    ("incompatible features", 4),
    ("store id", 16),
    ("segment", 8),
    ("salt", 8),
    ("follows", 8),
    ("file bytes", 8),
    ("created", 8),
    ("reserved", 8),
    ("reserved", 8),
    ("reserved", 8),
    ("reserved", 8),
    ("reserved", 8),
    ("reserved", 4),
    ("checksum", 4),
];

/// The same of a part's file, whose words say again what the manifest says of the part.
const PART_FIELDS: [(&str, usize); 20] = [
    ("magic", 8),
    ("file type", 2),
    ("format version", 2),
    ("compatible features", 4),
    ("read-only features", 4),
    ("incompatible features", 4),
    ("store id", 16),
    ("part", 8),
    ("salt", 8),
    ("follows", 8),
    ("file bytes", 8),
    ("created", 8),
    ("last segment", 4),
    ("first segment", 4),
    ("first seq", 8),
    ("last seq", 8),
    ("entries", 8),
    ("reserved", 8),
    ("reserved", 4),
    ("checksum", 4),
];

/// The fields of a frame's fixed part, in their order, with their widths.
const FRAME_FIELDS: [(&str, usize); 13] = [
    ("operation", 1),
    ("key bytes", 1),
    ("metadata bytes", 2),
    ("payload bytes, extensions", 4),
    ("kind", 2),
    ("flags, source", 2),
    ("life", 4),
    ("seq", 8),
    ("generation", 8),
    ("time", 8),
    ("durable", 8),
    ("body checksum", 4),
    ("head checksum", 4),
];

const fn total<const N: usize>(fields: &[(&str, usize); N]) -> usize {
    let (mut sum, mut at) = (0, 0);
    while at < N {
        #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        let width = fields[at].1;
        sum += width;
        at += 1;
    }
    sum
}
const _: () = assert!(total(&HEADER_FIELDS) == HEADER_BYTES && total(&FRAME_FIELDS) == FRAME_BYTES);
const _: () = assert!(total(&PART_FIELDS) == HEADER_BYTES);

/// Up to sixteen bytes of a file, and what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HexLine {
    /// Where they stand in the file.
    pub offset: u64,
    /// The bytes; none on a line that is a heading.
    pub bytes: Vec<u8>,
    /// The name of the field, on its first line.
    pub field: String,
    /// What the field says.
    pub value: String,
    /// What stands here is not what was written: a checksum that does not match, or no frame where the log has one.
    pub is_damage: bool,
}

impl fmt::Display for HexLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes.is_empty() {
            return write!(f, "{:010}  -- {} {}", self.offset, self.field, self.value);
        }
        write!(f, "{:010}  ", self.offset)?;
        for at in 0..WIDTH {
            let gap = if at == WIDTH / 2 { " " } else { "" };
            match self.bytes.get(at) {
                Some(byte) => write!(f, "{gap}{byte:02x} ")?,
                None => write!(f, "{gap}   ")?,
            }
        }
        if self.field.is_empty() && self.value.is_empty() {
            return Ok(());
        }
        write!(f, " {}", self.field)?;
        if self.value.is_empty() { Ok(()) } else { write!(f, " = {}", self.value) }
    }
}

/// The bytes of a segment or a part, annotated, from its header on or from an offset; at most so many frames.
///
/// At an offset where no frame validates, the lines say so, show the bytes as they are, and
/// go on at the next frame.
///
/// # Errors
///
/// `NotFound` if there is no such file, `InvalidInput` for an offset past its end, `Io`.
pub fn annotate(
    reader: &Reader,
    segment: u32,
    offset: Option<u64>,
    frames: u64,
) -> Result<impl Iterator<Item = Result<HexLine>>> {
    let path = reader.path().join(file_name(segment));
    let doing = {
        let path = path.clone();
        move |e: std::io::Error| Error::io("read a segment", e).at(&path)
    };
    let file = reader.directory().open(&file_name(segment), Access::Read).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(ErrorKind::NotFound, "read a segment").at(&path).sides("its file", "none")
        }
        _ => doing(e),
    })?;
    let length = file.len().map_err(&doing)?;
    if offset.is_some_and(|offset| offset >= length) {
        return Err(Error::new(ErrorKind::InvalidInput, "read a segment at an offset")
            .at(&path)
            .sides(format!("an offset below {length}"), offset.unwrap_or(0)));
    }
    let known = Known::of(reader, segment);
    let mut window = Window::new(file, length);
    let head = window.from(0, HEADER_BYTES as u64).map_err(&doing)?;
    let head = head.get(..HEADER_BYTES.min(head.len())).unwrap_or_default().to_vec();
    let salt = FileHeader::ref_from_prefix(&head).map_or(0, |(header, _)| header.salt.get());
    let mut queue = VecDeque::new();
    if offset.is_none_or(|offset| offset < FIRST_FRAME) {
        annotate_header(&mut queue, &head, segment);
    }
    let at = offset.unwrap_or(0).max(FIRST_FRAME) / FRAME_ALIGN * FRAME_ALIGN;
    let mut annotated =
        Annotated { window, segment, salt, at, asked: offset.map(|_| at), left: frames, known, queue };
    Ok(std::iter::from_fn(move || annotated.step().map_err(&doing).transpose()))
}

/// What is known of a segment that its bytes do not say.
struct Known {
    /// Below stands what the log has of it.
    end: u64,
    /// Where the opening found damage.
    damaged: Vec<u64>,
}

impl Known {
    fn of(reader: &Reader, segment: u32) -> Self {
        let catalog = reader.index().catalog();
        let is_it = |section: &&Arc<Section>| match &section.cover {
            Some(cover) => cover.part.is_some_and(|part| part.number == segment),
            None => section.number == segment,
        };
        let opened = catalog.sections.iter().find(is_it).map(|section| section.open().ok());
        let damage = reader.recovery().damage.iter().filter(|damage| damage.segment == segment);
        let damaged: Vec<u64> = damage.map(|damage| damage.offset).collect();
        let end = match opened {
            Some(Some(opened)) => opened.segment.map.limit() as u64,
            // It is of the log, and where that ends in it nobody can tell: one fault must not hide another.
            Some(None) => u64::MAX,
            None if damaged.is_empty() => 0,
            None => u64::MAX,
        };
        Self { end, damaged }
    }
}

struct Annotated {
    window: Window,
    segment: u32,
    salt: u64,
    at: u64,
    /// The offset that was asked for, which may be in the middle of something.
    asked: Option<u64>,
    known: Known,
    left: u64,
    queue: VecDeque<HexLine>,
}

impl Annotated {
    fn step(&mut self) -> std::io::Result<Option<HexLine>> {
        while self.queue.is_empty() && self.left > 0 {
            let place = self.window.frame(self.at)?;
            if place.is_empty() {
                break;
            }
            let position = Position::new(self.segment, self.at);
            match Frame::find(place) {
                Found::Frame(frame) if frame.head_is_good(self.salt, position) => {
                    let bytes = place.get(..frame.len()).unwrap_or_default();
                    let is_of_log = self.at < self.known.end || self.known.damaged.contains(&self.at);
                    annotate_frame(&mut self.queue, &frame, bytes, (self.salt, position), is_of_log);
                    self.at += frame.len() as u64;
                    self.left -= 1;
                }
                found => {
                    let what = match found {
                        Found::Empty => "zeros",
                        Found::DoesNotFit => "not a frame: longer than the segment",
                        Found::Frame(_) => "not a frame: the header does not match its checksum",
                    };
                    self.pass_over(what)?;
                }
            }
        }
        Ok(self.queue.pop_front())
    }

    /// Shows the bytes up to the next frame: long runs of them only by their ends.
    fn pass_over(&mut self, what: &str) -> std::io::Result<()> {
        let start = self.at;
        let next = self.next_frame()?;
        let value = match next {
            Some(next) => format!("{} bytes, next frame at {next}", next - start),
            None => "to the end of the file".to_owned(),
        };
        let is_damage = self.is_damage(start)?;
        self.queue.push_back(HexLine { is_damage, ..heading(start, what, value) });
        let end = next.unwrap_or_else(|| self.window.until());
        let shown = (end - start).min(16 * WIDTH as u64);
        let bytes =
            self.window.from(start, shown)?.get(..usize::try_from(shown).unwrap_or(0)).unwrap_or_default();
        if bytes.iter().any(|byte| *byte != 0) {
            let bytes = bytes.to_vec();
            push(&mut self.queue, start, &bytes, "", String::new());
            if end - start > shown {
                self.queue.push_back(heading(
                    start + shown,
                    "…",
                    format!("{} bytes more", end - start - shown),
                ));
            }
        }
        self.at = end;
        Ok(())
    }

    /// True if the log has a frame at a place where there is none: not behind its end, and not in the middle of another.
    fn is_damage(&mut self, start: u64) -> std::io::Result<bool> {
        if self.known.damaged.contains(&start) {
            return Ok(true);
        }
        Ok(start < self.known.end && !(self.asked == Some(start) && self.is_inside_a_frame(start)?))
    }

    fn is_inside_a_frame(&mut self, place: u64) -> std::io::Result<bool> {
        let mut at = FIRST_FRAME;
        while at < place {
            let bytes = self.window.frame(at)?;
            let end = match Frame::find(bytes) {
                Found::Frame(frame) if frame.head_is_good(self.salt, Position::new(self.segment, at)) => {
                    Some(at + frame.len() as u64)
                }
                _ => None,
            };
            match end {
                Some(end) if end > place => return Ok(true),
                Some(end) => at = end,
                None => at = self.frame_after(at)?.unwrap_or(u64::MAX),
            }
        }
        Ok(false)
    }

    fn next_frame(&mut self) -> std::io::Result<Option<u64>> {
        self.frame_after(self.at)
    }

    fn frame_after(&mut self, at: u64) -> std::io::Result<Option<u64>> {
        let mut at = at + FRAME_ALIGN;
        while at < self.window.until() {
            let place = self.window.from(at, FRAME_BYTES as u64)?;
            if place.first_chunk::<8>().is_some_and(|word| *word != [0; 8]) {
                let place = self.window.candidate(at)?;
                if let Found::Frame(frame) = Frame::find(place)
                    && frame.head_is_good(self.salt, Position::new(self.segment, at))
                {
                    return Ok(Some(at));
                }
            }
            at += FRAME_ALIGN;
        }
        Ok(None)
    }
}

fn heading(offset: u64, field: &str, value: String) -> HexLine {
    HexLine { offset, bytes: Vec::new(), field: field.to_owned(), value, is_damage: false }
}

/// One field, on as many lines as its bytes take.
fn push(lines: &mut VecDeque<HexLine>, offset: u64, bytes: &[u8], field: &str, value: String) {
    let (mut field, mut value, mut at) = (field.to_owned(), value, offset);
    for bytes in bytes.chunks(WIDTH) {
        lines.push_back(HexLine {
            offset: at,
            bytes: bytes.to_vec(),
            field: std::mem::take(&mut field),
            value: std::mem::take(&mut value),
            is_damage: false,
        });
        at += bytes.len() as u64;
    }
}

fn annotate_header(lines: &mut VecDeque<HexLine>, head: &[u8], segment: u32) {
    let (of, heading_text, fields): (_, _, &[(&str, usize)]) = match segment & PART {
        0 => (FileType::Segment, "segment header,", &HEADER_FIELDS),
        _ => (FileType::Part, "part header,", &PART_FIELDS),
    };
    let read = FileHeader::read(head, of);
    let is_damage = read.is_err();
    let verdict = read.map_or_else(|error| error.facts(), |_| "checksum good".to_owned());
    lines.push_back(HexLine { is_damage, ..heading(0, heading_text, verdict) });
    let mut at = 0;
    for &(field, width) in fields {
        let bytes = head.get(at..(at + width).min(head.len())).unwrap_or_default();
        let number = little_endian(bytes);
        let value = match field {
            "magic" => escaped(&String::from_utf8_lossy(bytes), false),
            "store id" | "reserved" => String::new(),
            "salt" | "checksum" => format!("{number:#x}"),
            "follows" => Position::from_word(number).to_string(),
            "created" => rfc3339(number.cast_signed()),
            "part" => segment_text(u32::try_from(number).unwrap_or(u32::MAX)),
            _ => number.to_string(),
        };
        push(lines, at as u64, bytes, field, value);
        at += width;
    }
}

fn annotate_frame(
    lines: &mut VecDeque<HexLine>,
    frame: &Frame<'_>,
    bytes: &[u8],
    (salt, position): (u64, Position),
    is_of_log: bool,
) {
    let info = FrameInfo::of(frame, salt, position, None);
    let lengths = frame.header.lengths();
    let verdict = |good: bool| if good { "good" } else { "does not match" };
    let start = position.offset();
    let what = format!("{}, {} bytes", info.operation_name(), bytes.len());
    // Behind the end of the log a crash, or a writer that is at work, may have left a part of one.
    lines.push_back(HexLine { is_damage: is_of_log && !info.body_good, ..heading(start, "frame", what) });
    let mut at = 0;
    let mut field = |name: &str, width: usize, value: &dyn Fn(u64) -> String| {
        let part = bytes.get(at..at + width).unwrap_or_default();
        push(lines, start + at as u64, part, name, value(little_endian(part)));
        at += width;
    };
    for (name, width) in FRAME_FIELDS {
        field(name, width, &|number| match name {
            "operation" => format!("{number} ({})", info.operation_name()),
            "payload bytes, extensions" => format!("{}, {}", lengths.payload, lengths.extensions),
            "kind" if info.is_system() => "0 (system)".to_owned(),
            "flags, source" => {
                let names = [(info.first, " first"), (info.more, " more"), (info.tombstone, " tombstone")];
                let names: String = names.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
                format!("{:#x}{names}, {}", info.flags, info.source)
            }
            "life" => info.life.to_string(),
            "time" => rfc3339(info.time),
            "durable" => info.durable.to_string(),
            "body checksum" => verdict(info.body_good).to_owned(),
            "head checksum" => verdict(info.head_good).to_owned(),
            _ => number.to_string(),
        });
    }
    field("extensions", lengths.extensions, &|_| extension_names(frame.extensions()));
    field("key", lengths.key, &|_| key_text(&info.key));
    field("metadata", lengths.metadata, &|_| String::new());
    field("payload", lengths.payload, &|_| String::new());
    field("padding", lengths.padding(), &|_| String::new());
}

/// The extensions of a row by name, with their values in hexadecimal.
fn extension_names(mut row: &[u8]) -> String {
    let mut names = Vec::new();
    while let [id, length, rest @ ..] = row {
        let Some((value, next)) = rest.split_at_checked(usize::from(*length)).filter(|_| *id != 0) else {
            break;
        };
        let name = match id {
            1 => "correlation".to_owned(),
            2 => "causation".to_owned(),
            3 => "idempotency key".to_owned(),
            4 => "schema version".to_owned(),
            5 => "source set".to_owned(),
            6 => "changed mask".to_owned(),
            7 => "presence mask".to_owned(),
            8 => "event sequence".to_owned(),
            9 => "writer".to_owned(),
            10 => "version".to_owned(),
            11 => "version before".to_owned(),
            other => format!("extension {other}"),
        };
        names.push(format!("{name} {}", crate::dump::text::hex(value)));
        row = next;
    }
    names.join(", ")
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::format::frame::{FACT, FrameFields, FrameHeader, Lengths, body_crc, flag};
    use crate::id::Life;

    #[test]
    fn a_frame_is_shown_with_the_name_of_each_field() {
        let place = Position::new(3, 256);
        let lengths = Lengths { extensions: 8, key: 3, metadata: 0, payload: 18 };
        let fields = FrameFields {
            operation: FACT,
            kind: 7,
            flags: flag::FIRST,
            source: 0,
            life: Life(0x0102_0304),
            seq: 5,
            generation: 1,
            time: 0,
            durable: Position::new(2, 64),
            lengths,
            body_crc: body_crc(lengths, b"Ada", b"", b"eighteen bytes ok!"),
        };
        let extensions = [4, 2, 9, 0, 0, 0, 0, 0];
        let mut bytes = FrameHeader::seal(&fields, &extensions, 11, place).as_bytes().to_vec();
        bytes.extend_from_slice(&extensions);
        bytes.extend_from_slice(b"Adaeighteen bytes ok!");
        bytes.resize(lengths.frame(), 0);
        let mut lines = VecDeque::new();
        annotate_frame(&mut lines, &Frame::parse(&bytes).unwrap(), &bytes, (11, place), true);
        let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
        let shown = |line: usize| text[line].split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(shown(0), "0000000256 -- frame fact, 88 bytes");
        assert_eq!(shown(1), "0000000256 01 operation = 1 (fact)");
        assert_eq!(shown(7), "0000000268 04 03 02 01 life = 01020304");
        assert_eq!(shown(14), "0000000312 04 02 09 00 00 00 00 00 extensions = schema version 0900");
        assert_eq!(shown(15), "0000000320 41 64 61 key = Ada");
        assert_eq!(shown(16), "0000000323 65 69 67 68 74 65 65 6e 20 62 79 74 65 73 20 6f payload");
        assert_eq!(shown(17), "0000000339 6b 21");
        assert_eq!(shown(18), "0000000341 00 00 00 padding");
        assert!(text[12].ends_with("= good") && text[13].ends_with("= good"));
        assert_eq!(lines.iter().map(|line| line.bytes.len()).sum::<usize>(), bytes.len());
    }
}
