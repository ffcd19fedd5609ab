//! Golden scripts: what a store looks like on disk after a few commands, frame by frame.
//!
//! Each file under `tests/golden/` is a row of blocks: commands, a line `---`, and what they
//! print, up to an empty line. `UPDATE_GOLDEN=1 cargo test --test golden` writes them anew; the
//! difference is then read like any other change. What is drawn at random (ids, lives, salts)
//! and times are replaced by names in order of appearance.
//!
//! The lines are made by `esker::dump`, the formatter of the tool.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::fmt::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use esker::dump::{Dump, FrameInfo, Item, StandsFor, Survey, annotate, segment_number};
use esker::{CompactOptions, Durability, IdempotencyKey, Journal, Keep, Options, Reader, Record, Seq};

#[test]
fn stores_look_on_disk_as_the_golden_scripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no golden scripts");
    let mut changed = Vec::new();
    for path in scripts {
        let script = std::fs::read_to_string(&path).unwrap();
        let now = run(&script);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &now).unwrap();
        } else if now != script {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            changed.push(format!("{name}:\n{}", difference(&script, &now)));
        }
    }
    assert!(changed.is_empty(), "UPDATE_GOLDEN=1 renews the scripts\n{}", changed.join("\n"));
}

/// The script with what its commands print now.
fn run(script: &str) -> String {
    let mut stage = Stage::new();
    let blocks = script.trim_end().split("\n\n").map(|block| {
        let commands = block.split("\n---").next().unwrap_or_default();
        let printed: String = commands
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| stage.run(line))
            .collect();
        if commands.lines().all(|line| line.starts_with('#')) {
            commands.to_owned()
        } else {
            format!("{commands}\n---\n{}", if printed.is_empty() { "ok\n" } else { &*printed })
        }
    });
    let blocks: Vec<String> = blocks.map(|block| block.trim_end().to_owned()).collect();
    blocks.join("\n\n") + "\n"
}

/// The store that a script plays on.
struct Stage {
    directory: tempfile::TempDir,
    copies: u32,
    journal: Option<Journal>,
    names: Names,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, copies: 0, journal: None, names: Names::default() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(format!("{}.esker", self.copies))
    }

    fn run(&mut self, line: &str) -> String {
        let mut words = line.split(' ');
        let command = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        match command {
            "open" => self.open(words[0].parse().unwrap()),
            "append" => self.append(&words),
            "fill" => self.fill(&words),
            "batch" => self.batch(&words, None),
            "keyed" => self.batch(&words, Some(IdempotencyKey(*b"a key of sixteen"))),
            "close" => self.journal.take().unwrap().close().unwrap(),
            "crash" => self.crash(),
            "keep" => self.keep(&words),
            "compact" => return self.compact(),
            "remove" => std::fs::remove_file(self.path().join(words[0])).unwrap(),
            "flip" => self.flip(words[0], words[1].parse().unwrap()),
            "hex" => return self.hex(words[0]),
            "dump" => return self.dump(!words.contains(&"entries"), words.contains(&"physical")),
            "segments" => return self.segments(),
            other => panic!("no such command: {other}"),
        }
        String::new()
    }

    fn open(&mut self, segment_bytes: u64) {
        let options =
            Options::new().segment_bytes(segment_bytes).background(false).durability(Durability::Sync);
        self.journal = Some(options.open(self.path()).unwrap());
    }

    fn append(&self, words: &[&str]) {
        let journal = self.journal.as_ref().unwrap();
        let kind = journal.kind(words[0]).unwrap();
        let (key, payload) = (unescaped(words[1]), unescaped(words.get(2).copied().unwrap_or_default()));
        journal.append(Record::new(kind, &key, &payload)).unwrap();
    }

    /// An entry with a payload of so many dots, of which a dump shows one.
    fn fill(&self, words: &[&str]) {
        let journal = self.journal.as_ref().unwrap();
        let payload = vec![b'.'; words[2].parse().unwrap()];
        journal.append(Record::new(journal.kind(words[0]).unwrap(), words[1].as_bytes(), &payload)).unwrap();
    }

    /// `kind/key=payload` for each entry.
    fn batch(&self, words: &[&str], key: Option<IdempotencyKey>) {
        let journal = self.journal.as_ref().unwrap();
        let entries: Vec<(String, Vec<u8>, Vec<u8>)> = words
            .iter()
            .map(|word| {
                let (entity, payload) = word.split_once('=').unwrap();
                let (kind, key) = entity.split_once('/').unwrap();
                (kind.to_owned(), unescaped(key), unescaped(payload))
            })
            .collect();
        let kinds: Vec<_> = entries.iter().map(|(kind, ..)| journal.kind(kind).unwrap()).collect();
        let mut batch = journal.batch();
        for ((_, key, payload), kind) in entries.iter().zip(kinds) {
            batch.push(Record::new(kind, key, payload));
        }
        if let Some(key) = key {
            batch = batch.idempotency_key(key);
        }
        batch.commit().unwrap();
    }

    /// Goes on with a copy of the files as they are, as a process does that was killed.
    fn crash(&mut self) {
        let before = self.path();
        self.copies += 1;
        std::fs::create_dir(self.path()).unwrap();
        for file in std::fs::read_dir(&before).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), self.path().join(file.file_name())).unwrap();
        }
        drop(self.journal.take());
    }

    fn keep(&self, words: &[&str]) {
        let journal = self.journal.as_ref().unwrap();
        let keep = match words[1] {
            "latest" => Keep::Latest,
            "nothing" => Keep::Nothing,
            other => panic!("nobody keeps {other}"),
        };
        journal.keep(journal.kind(words[0]).unwrap(), keep).unwrap();
    }

    /// Everything that can go, and what came of it.
    fn compact(&self) -> String {
        let options = CompactOptions::new().keep_tombstones_for(Duration::ZERO).thorough(true);
        let done = self.journal.as_ref().unwrap().compact(&options).unwrap();
        let seq = |seq: Option<Seq>| seq.map_or("-".to_owned(), |seq| seq.to_string());
        format!(
            "through {}, floor {}, {} dropped, {} removed, {} written\n",
            seq(done.through),
            seq(done.floor),
            done.entries_dropped,
            done.segments_removed,
            done.parts_written
        )
    }

    fn flip(&self, segment: &str, offset: u64) {
        let name = match segment.strip_prefix("part-") {
            Some(part) => format!("{part:0>10}.snap"),
            None => format!("{segment:0>10}.seg"),
        };
        let path = self.path().join(name);
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0xff], offset).unwrap();
    }

    fn dump(&mut self, system: bool, physical: bool) -> String {
        let reader = Reader::open(self.path()).unwrap();
        let dump = Dump::new(reader.kinds()).physical(physical);
        let mut printed = String::new();
        for item in Survey::of(&reader).unwrap().frames() {
            match item.unwrap() {
                Item::Frame(frame) if !system && frame.is_system() => {}
                Item::Frame(frame) => {
                    let line = dump.line(&frame);
                    let line = line.split_once("..").map_or(&*line, |(line, _)| line);
                    let _ = writeln!(printed, "{}", self.names.replace(line, &frame));
                }
                Item::Damage(damage) => {
                    let _ = writeln!(printed, "! {damage:?}");
                }
            }
        }
        printed
    }

    /// The fields of a header, or of the frame at a place, that are the same on every run.
    fn hex(&self, place: &str) -> String {
        let (segment, offset) = place.split_once(':').map_or((place, None), |(a, b)| (a, Some(b)));
        let offset = offset.map(|offset| offset.parse().unwrap());
        let reader = Reader::open(self.path()).unwrap();
        let frames = u64::from(offset.is_some());
        let lines = annotate(&reader, segment_number(segment).unwrap(), offset, frames).unwrap();
        let lines = lines.map(Result::unwrap);
        let shown = lines.filter(|line| line.bytes.is_empty() || SHOWN_IN_HEX.contains(&&*line.field));
        shown.map(|line| format!("{line}\n")).collect()
    }

    fn segments(&self) -> String {
        let reader = Reader::open(self.path()).unwrap();
        let survey = Survey::of(&reader).unwrap();
        let mut printed = String::new();
        for segment in survey.segments() {
            let one = segment.unwrap();
            let seqs = one.first_seq.zip(one.last_seq).map_or("-".to_owned(), |(a, b)| format!("{a}..{b}"));
            let _ = write!(printed, "{} {} {seqs} {} entries", one.name, one.state, one.entries);
            let _ = write!(printed, " {} of {} B", one.bytes_used, one.file_bytes);
            if let Some(StandsFor { first_segment, last_segment, first_seq, last_seq, .. }) = one.stands_for {
                let _ = write!(printed, " for {first_segment}-{last_segment} with {first_seq}..{last_seq}");
            }
            let follows = one.follows.map(|place| format!(" follows {place}")).unwrap_or_default();
            let indexed = if one.indexed { " indexed" } else { "" };
            let _ = writeln!(printed, "{follows}{indexed} damaged={}", one.damaged);
        }
        printed
    }
}

/// What is not drawn at random of the bytes at a place.
const SHOWN_IN_HEX: [&str; 9] = [
    "file type",
    "follows",
    "last segment",
    "first segment",
    "first seq",
    "last seq",
    "entries",
    "seq",
    "key",
];

/// `\xNN` for a byte and `\_` for a space, so that words hold everything.
fn unescaped(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                after
            }
            (b'\\', [b'_', after @ ..]) => {
                bytes.push(b' ');
                after
            }
            _ => {
                bytes.push(*first);
                after
            }
        };
    }
    bytes
}

/// Names for what is another value on every run.
#[derive(Default)]
struct Names {
    lives: Vec<String>,
}

impl Names {
    fn replace(&mut self, line: &str, frame: &FrameInfo) -> String {
        let life = frame.life.to_string();
        if !self.lives.contains(&life) {
            self.lives.push(life);
        }
        let mut line = line.replace(&esker::dump::rfc3339(frame.time), "TIME");
        line = line.replace(&format!("\"pid\":{}", std::process::id()), "\"pid\":PID");
        for (at, life) in self.lives.iter().enumerate() {
            line = line.replace(life, &format!("L{}", at + 1));
        }
        line
    }
}

/// The first lines that differ, with what stands before them.
fn difference(before: &str, after: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let at = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
    let shown = |lines: &[&str], sign: &str| {
        lines.iter().skip(at).take(5).map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    format!("line {}\n{}{}", at + 1, shown(&before, "-"), shown(&after, "+"))
}
