//! What is judged to be superfluous, entry by entry, against a few lines that say the same of a list.

use std::cell::RefCell;
use std::collections::HashMap;

use super::*;
use crate::compact::judge::Rules;
use crate::disk::memory::MemoryDirectory;
use crate::format::index::EntityHash;
use crate::format::operation::{EventMark, EventOperation};
use crate::id::KindId;
use crate::journal::opening;
use crate::journal::record::Record;
use crate::journal::rows::{OperationFrame, Together};
use crate::options::{Durability, Options};

/// One entry of a log.
struct Said {
    at: Position,
    seq: u64,
    kind: KindId,
    key: Vec<u8>,
}

/// A log, and a list of what is in it.
struct Log {
    journal: Journal,
    row: KindId,
    said: Vec<Said>,
    end: Position,
}

/// A segment a word, a row a letter, which is its key; something else fills each segment but the last.
fn log_of(words: &[&str]) -> Log {
    let options = Options::new().segment_bytes(4096).background(false).durability(Durability::Os);
    let journal = options.in_memory().unwrap();
    let (row, filler) = (journal.kind("row").unwrap(), journal.kind("filler").unwrap());
    for (at, word) in (1..).zip(words) {
        for letter in word.bytes() {
            journal.append(Record::new(row, &[letter], b"said")).unwrap();
        }
        while at < words.len() && journal.stats().segments <= at as u64 {
            journal.append(Record::new(filler, b"f", &[7; 300])).unwrap();
        }
    }
    let end = journal.sync().unwrap();
    let view = journal.view();
    let said = view.range(..).map(|entry| {
        let entry = entry.unwrap();
        let (at, seq, kind) = (entry.position(), entry.seq().get(), entry.kind());
        Said { at, seq, kind, key: entry.key().to_vec() }
    });
    let said: Vec<Said> = said.collect();
    drop(view);
    let is_there = |number: usize, letter: u8| {
        said.iter().any(|one| one.at.segment() as usize == number && one.kind == row && one.key == [letter])
    };
    let mut each = (1..).zip(words).flat_map(|(at, word)| word.bytes().map(move |letter| (at, letter)));
    assert!(each.all(|(at, letter)| is_there(at, letter)), "each word is in its segment");
    Log { journal, row, said, end }
}

impl Log {
    fn rules(&self, keep: Keep, durable: Position) -> Rules<'_> {
        Rules {
            index: &self.journal.core().index,
            keep: HashMap::from([(self.row.get(), keep)]),
            durable,
            tombstones_until: 0,
            erasing: HashMap::new(),
            floors: HashMap::new(),
            found: RefCell::default(),
        }
    }

    fn hash(&self, key: u8) -> EntityHash {
        self.journal.core().index.hash(self.row.get(), &[key])
    }

    fn sections(&self) -> Vec<Arc<Section>> {
        self.journal.core().index.catalog().sections.clone()
    }

    fn seal(&self, section: &Section) {
        self.journal.core().seal(section.open().unwrap()).unwrap();
    }

    /// Before each entry, and behind the last.
    fn marks(&self) -> impl Iterator<Item = Position> + '_ {
        self.said.iter().map(|one| one.at).chain([self.end])
    }

    /// The newest durable entry of the entity of an entry.
    fn newest_durable(&self, of: &Said, mark: Position) -> Option<&Said> {
        self.said.iter().rfind(|one| (one.kind, &one.key) == (of.kind, &of.key) && one.at < mark)
    }

    /// It is the last of its entity in its segment.
    fn is_last(&self, of: &Said) -> bool {
        let is_later = |one: &Said| one.at.segment() == of.at.segment() && one.at > of.at;
        !self.said.iter().any(|one| (one.kind, &one.key) == (of.kind, &of.key) && is_later(one))
    }

    /// Judges a segment, and compares; of an entry of which `stays` says nothing, nothing is asked.
    fn compare(&self, rules: &Rules<'_>, section: &Arc<Section>, stays: impl Fn(&Said) -> Option<bool>) {
        let judged = rules.judge(section, &|_, _| Ok(false)).unwrap().unwrap();
        let here: Vec<&Said> = self.said.iter().filter(|one| one.at.segment() == section.number).collect();
        assert_eq!(judged.entries, here.len() as u64);
        for (ordinal, one) in (0..).zip(here) {
            let (key, durable) = (String::from_utf8_lossy(&one.key), rules.durable);
            let stays = if one.kind == self.row { stays(one) } else { Some(true) };
            let is_as_it_should_be = stays.is_none_or(|stays| judged.keeps(ordinal) == stays);
            assert!(is_as_it_should_be, "{key} at {:?}: {stays:?}; durable: {durable:?}", one.at);
        }
    }
}

/// Only what is durable makes an older entry superfluous: a power cut takes the newest, and the row with it.
#[test]
fn a_row_is_dropped_only_for_one_that_no_power_cut_takes_wherever_both_and_the_mark_are() {
    let log = log_of(&["aabx", "ac", "cab", "bdax", "adda", "eab"]);
    let sections = log.sections();
    // Those that have no index file are looked up in the arrays of their writing.
    for sealed in 1..sections.len() {
        log.seal(&sections[sealed - 1]);
        for mark in log.marks() {
            let rules = log.rules(Keep::Latest, mark);
            for section in &sections[..sealed] {
                log.compare(&rules, section, |one| match log.newest_durable(one, mark) {
                    None => Some(log.is_last(one)),
                    Some(newest) if newest.at.segment() == section.number => Some(log.is_last(one)),
                    // What is not durable itself is never judged.
                    Some(newest) => (newest.at.segment() > section.number).then_some(false),
                });
            }
        }
    }
}

#[test]
fn a_row_is_not_dropped_where_more_of_it_is_not_durable_than_anybody_looks_at() {
    let options = Options::new().segment_bytes(1 << 20).background(false).durability(Durability::Os);
    let journal = options.in_memory().unwrap();
    let (row, filler) = (journal.kind("row").unwrap(), journal.kind("filler").unwrap());
    journal.append(Record::new(row, b"k", b"old")).unwrap();
    while journal.stats().segments < 2 {
        journal.append(Record::new(filler, b"f", &[7; 30_000])).unwrap();
    }
    let durable = journal.sync().unwrap();
    for _ in 0..5 {
        let mut batch = journal.batch();
        (0..1000).for_each(|_| _ = batch.push(Record::new(row, b"k", b"new")));
        batch.commit().unwrap();
    }
    let end = journal.sync().unwrap();
    assert_eq!(end.segment(), durable.segment(), "all of it is in the segment with the mark");
    let log = Log { journal, row, said: Vec::new(), end };
    let first = &log.sections()[0];
    log.seal(first);
    let judge = |durable| {
        let rules = log.rules(Keep::Latest, durable);
        rules.judge(first, &|_, _| Ok(false)).unwrap().unwrap()
    };
    assert!(judge(durable).keeps(0), "a power cut takes all the newer ones");
    assert_eq!(judge(durable).entries_kept, judge(durable).entries);
    assert!(!judge(end).keeps(0), "now they are durable");
}

#[test]
fn what_is_below_a_floor_goes_but_for_the_newest_and_nothing_else() {
    let log = log_of(&["xaaabyyz", "xaby", "aabb"]);
    let sections = log.sections();
    sections[..2].iter().for_each(|section| log.seal(section));
    let last = log.said.last().unwrap().seq;
    for mark in log.marks().filter(|mark| mark.segment() > 2) {
        for (floor, key) in
            (0..=last + 1).flat_map(|floor| [b'a', b'x', b'y', b'z', b'-'].map(|key| (floor, key)))
        {
            let mut rules = log.rules(Keep::Fold, mark);
            rules.floors.insert(log.hash(key), floor);
            for section in &sections[..2] {
                log.compare(&rules, section, |one| {
                    let newest = log.newest_durable(one, mark).unwrap();
                    let may_go = newest.at.segment() > section.number || !log.is_last(one);
                    Some(one.key != [key] || one.seq >= floor || !may_go)
                });
            }
        }
    }
}

#[test]
fn a_tombstone_and_a_retraction_by_the_last_source_go_when_their_time_is_over_and_nothing_else() {
    let options = Options::new().segment_bytes(4096).background(false);
    let journal = options.in_memory().unwrap();
    let (row, filler) = (journal.kind("row").unwrap(), journal.kind("filler").unwrap());
    journal.append(Record::new(row, b"row", b"")).unwrap();
    let operations = [
        (EventOperation::Assert, 0),
        (EventOperation::Assert, 1),
        (EventOperation::Patch, 0),
        (EventOperation::Retract, 1),
        (EventOperation::Retract, 0),
    ];
    for (at, (operation, sources)) in (1..).zip(operations) {
        let mark = EventMark {
            schema: 1,
            sources,
            changed: None,
            present: None,
            sequence: (at, at),
            version: 1,
            version_before: None,
        };
        let key = at.to_string();
        let operation = OperationFrame {
            operation,
            kind: row,
            hash: journal.core().index.hash(row.get(), key.as_bytes()),
            key: key.as_bytes(),
            metadata: &[],
            payload: &[],
            source: 0,
            suppressed: 0,
            mark,
        };
        let none = Together::default();
        journal.core().append_rows([operation].into_iter(), [].into_iter(), &[], none).unwrap();
    }
    journal.append(Record::tombstone(row, b"gone")).unwrap();
    let times: Vec<i64> = journal.view().all_behind(0).map(|entry| entry.unwrap().time()).collect();
    assert_eq!(times.len(), 7);
    while journal.stats().segments < 2 {
        journal.append(Record::new(filler, b"f", &[7; 300])).unwrap();
    }
    let end = journal.sync().unwrap();
    let log = Log { journal, row, said: Vec::new(), end };
    let first = &log.sections()[0];
    log.seal(first);
    let judge = |tombstones_until, below| {
        let rules = Rules { tombstones_until, ..log.rules(Keep::Latest, end) };
        let judged = rules.judge(first, &|_, _| Ok(below)).unwrap().unwrap();
        (0..7).map(|at| judged.keeps(at)).collect::<Vec<bool>>()
    };
    let all = [true; 7];
    let newest = times[6];
    assert_eq!(judge(i64::MAX, false), [true, true, true, true, true, false, false]);
    assert_eq!(judge(i64::MAX, true), all, "something older would come to light");
    assert!(judge(newest - 1, false)[6], "not before its time is over");
    assert!(!judge(newest, false)[6]);
    assert_eq!(judge(times[0] - 1, false), all);
}

#[test]
fn something_of_an_entity_is_below_where_a_segment_before_holds_it_or_nobody_can_tell() {
    let log = log_of(&["ab", "b", "bc", "a"]);
    let sections = log.sections();
    let is_below = |number, key| {
        let entity = (log.hash(key), log.row.get());
        super::is_below(&log.journal.core().index.catalog(), std::iter::empty(), number, entity).unwrap()
    };
    assert!(!is_below(1, b'c'), "nothing is before the first");
    assert!(is_below(2, b'c'), "that has no index yet");
    sections[..3].iter().for_each(|section| log.seal(section));
    let below = |key| [1, 2, 3, 4].map(|number| is_below(number, key));
    assert_eq!(below(b'a'), [false, true, true, true]);
    assert_eq!(below(b'c'), [false, false, false, true], "others of its kind are");
    assert_eq!(below(b'-'), [false; 4]);
}

#[test]
fn a_tombstone_stays_while_its_row_is_where_nothing_is_worth_the_copying() {
    let directory = Arc::new(MemoryDirectory::new());
    let open = || {
        let options = Options::new().segment_bytes(4096).background(false);
        Journal::of(opening::open(Arc::clone(&directory) as _, options).unwrap())
    };
    let journal = open();
    let (row, filler) = (journal.kind("row").unwrap(), journal.kind("filler").unwrap());
    journal.keep(row, Keep::Latest).unwrap();
    journal.append(Record::new(row, b"gone", b"old")).unwrap();
    while journal.stats().segments < 2 {
        journal.append(Record::new(filler, b"f", &[7; 300])).unwrap();
    }
    journal.append(Record::tombstone(row, b"gone")).unwrap();
    while journal.stats().segments < 5 {
        journal.append(Record::new(row, b"busy", b"and again")).unwrap();
    }
    let compact = |journal: &Journal| {
        let options = CompactOptions::new().keep_tombstones_for(Duration::ZERO);
        journal.compact(&options).unwrap()
    };
    let says_gone = |journal: &Journal| {
        let latest = journal.latest(row, b"gone").unwrap();
        latest.map(|latest| latest.entry().is_tombstone())
    };
    assert!(compact(&journal).entries_dropped > 20);
    let catalog = journal.core().index.catalog();
    assert!(catalog.sections[0].cover.is_none() && catalog.sections[1].cover.is_some());
    assert_eq!(says_gone(&journal), Some(true));
    journal.close().unwrap();
    let journal = open();
    assert_eq!(says_gone(&journal), Some(true), "the old row has not come to light");
    let thorough = CompactOptions::new().keep_tombstones_for(Duration::ZERO).thorough(true);
    journal.compact(&thorough).unwrap();
    journal.compact(&thorough).unwrap();
    assert_eq!(says_gone(&journal), None, "it goes once its row has gone, by a clock of any fineness");
}

#[test]
fn a_pause_beyond_all_time_ends_when_it_is_told_to() {
    let compacting = Compacting::default();
    let ended = std::thread::scope(|scope| {
        let pauses = scope.spawn(|| compacting.pause(Duration::MAX));
        compacting.stop();
        pauses.join()
    });
    assert!(matches!(ended, Ok(false)), "{ended:?}");
}
