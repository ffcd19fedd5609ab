//! Lines that an export could have, or any bytes: no panic, and a store that is made of them is valid, says the
//! same again, and makes the same store again.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use esker::dump::Survey;
use esker::{Check, Import, ImportEntry, Reader, Simulator, Verdict, verify_in};
use esker_tools::exchange::{BadFile, Line, Lines, export, import};
use libfuzzer_sys::fuzz_target;

/// A line: mostly near what is right, so that the next one is reached.
#[derive(Debug, Arbitrary)]
enum Piece {
    Entry { seq: Step, generation: Step, key: u8, payload: Vec<u8>, more: bool, extra: Extra },
    Finding,
    Raw(Vec<u8>),
}

/// A number behind the one before.
#[derive(Clone, Copy, Debug, Arbitrary)]
enum Step {
    Next,
    Behind(u8),
    Any(u64),
}

impl Step {
    fn behind(self, last: u64) -> u64 {
        match self {
            Self::Next => last.saturating_add(1),
            Self::Behind(gap) => last.saturating_add(u64::from(gap)),
            Self::Any(number) => number,
        }
    }
}

#[derive(Debug, Arbitrary)]
enum Extra {
    None,
    Key([u8; 16]),
    Correlation([u8; 16]),
    Cause(u64, u8),
    Version(u16),
    Source(u8),
    Metadata(Vec<u8>),
    Field(String),
}

#[derive(Debug, Arbitrary)]
struct Input {
    segment_bytes: u32,
    forgot: bool,
    pieces: Vec<Piece>,
    behind: Option<u8>,
    end: bool,
}

const HEADER: &str = r#"{"type":"header","tool":"esker","version":"0.1.0","schema":1,"command":"export","store":"00112233445566778899aabbccddeeff","format":1,"era":3,"created":"","created_ns":"-1","filtered":false,"#;
const KINDS: &str = r#""kinds":[{"number":2,"name":"a","version":1,"codec":"bytes","owner":"facts","fields":["x"]},{"number":7,"name":"\u0000","version":9,"codec":"json","owner":"state","fields":[]}]}"#;

impl Input {
    fn lines(&self) -> Vec<u8> {
        let (bytes, forgot) = (self.segment_bytes, self.forgot);
        let mut text =
            format!("{HEADER}\"segment_bytes\":{bytes},\"forgot\":{forgot},{KINDS}\n").into_bytes();
        let (mut seq, mut entries, mut generations) = (0_u64, 0, [0_u64; 256]);
        for piece in &self.pieces {
            match piece {
                Piece::Entry { seq: step, generation, key, payload, more, extra } => {
                    seq = step.behind(seq);
                    entries += 1;
                    let newest = &mut generations[usize::from(*key)];
                    *newest = generation.behind(*newest);
                    let (kind, digits) =
                        (["a", "\\u0000"][usize::from(*key) % 2], esker::dump::base64(payload));
                    let start = format!(
                        "{{\"type\":\"entry\",\"seq\":{seq},\"generation\":{newest},\"kind\":\"{kind}\""
                    );
                    let key = format!(",\"key\":\"hex:{key:02x}\",\"time_ns\":\"{seq}\",\"more\":{more}");
                    let rest = format!(",\"payload_base64\":\"{digits}\"{}}}\n", extra.text());
                    text.extend([start, key, rest].concat().bytes());
                }
                Piece::Finding => text.extend(b"{\"type\":\"finding\"}\n"),
                Piece::Raw(bytes) => text.extend(bytes),
            }
        }
        let last = seq.saturating_add(u64::from(self.behind.unwrap_or(0)));
        if self.end {
            let rest = "\"batches\":0,\"batches_cut\":0,\"gaps\":0,\"missing\":0,\"damaged\":0";
            text.extend(
                format!("{{\"type\":\"summary\",\"entries\":{entries},{rest},\"log_last_seq\":{last}}}\n")
                    .bytes(),
            );
        }
        text
    }
}

impl Extra {
    fn text(&self) -> String {
        use esker::dump::{base64, hex};
        match self {
            Self::None => String::new(),
            Self::Key(key) => format!(",\"idempotency_key\":\"{}\"", hex(key)),
            Self::Correlation(id) => format!(",\"correlation\":\"{}\"", hex(id)),
            Self::Cause(seq, depth) => format!(",\"cause\":{seq},\"depth\":{depth}"),
            Self::Version(version) => format!(",\"schema_version\":{version}"),
            Self::Source(source) => format!(",\"source\":{source}"),
            Self::Metadata(bytes) => format!(",\"metadata_base64\":\"{}\"", base64(bytes)),
            Self::Field(text) => format!(",{}", text.replace('\n', "")),
        }
    }
}

/// The entries of lines that are good, and the last Seq.
fn entries(text: &[u8]) -> (Vec<ImportEntry>, u64) {
    let (mut lines, mut entries) = (Lines::new(text), Vec::new());
    loop {
        match lines.next_line().expect("lines of which a store was made").expect("a summary") {
            Line::Entry(entry) => entries.push(entry),
            Line::Summary(summary) => return (entries, summary.log_last_seq),
            Line::Header(_) | Line::Finding => {}
        }
    }
}

fn exported(disk: &Simulator) -> Vec<u8> {
    let reader = Reader::open_on(disk).expect("the store that was made");
    let survey = Survey::of(&reader).expect("its segments");
    let mut text = Vec::new();
    let summary =
        export(&reader, &survey, 0..=u64::MAX, false, |_| true, || true, &mut text).expect("its export");
    assert_eq!(summary.damaged, 0);
    text
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    let text = match bytes.first() {
        Some(b'{') | None => bytes.to_vec(),
        Some(_) => match Input::arbitrary(&mut input) {
            Ok(input) => input.lines(),
            Err(_) => return,
        },
    };
    let disk = Simulator::new();
    if let Err(error) = import(&*text, |origin| Import::begin_on(&disk, origin), || true) {
        let bad =
            error.downcast_ref::<BadFile>().unwrap_or_else(|| panic!("not the file's fault: {error:#}"));
        assert!(bad.line >= 1);
        assert!(disk.files().is_empty(), "left after {error}: {:?}", disk.files().keys());
        return;
    }
    let verified = verify_in(&disk, Check::Full).expect("the store that was made");
    assert_eq!(verified.verdict, Verdict::Valid, "{:#?}", verified.findings);
    let again = exported(&disk);
    assert_eq!(entries(&again), entries(&text));
    let other = Simulator::new();
    import(&*again, |origin| Import::begin_on(&other, origin), || true).expect("an export");
    assert_eq!(entries(&exported(&other)), entries(&again));
});
