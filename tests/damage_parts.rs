//! Damage to what compaction kept: every byte of a part counts, and what is derived from it does not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use esker::dump::{Item, SegmentState, Survey};
use esker::{
    Check, CompactOptions, Durability, IdempotencyKey, Journal, Keep, Options, Reader, Record, Region, Seq,
    Severity, Start, SubscribeOptions, Verdict, Verification, repair, verify,
};

/// Entries by their Seq, as far as they are whole.
type Log = BTreeMap<u64, Vec<u8>>;

struct Compacted {
    directory: tempfile::TempDir,
    whole: Log,
}

impl Compacted {
    /// A store with one part, in which stand entries of two kinds and the answer to a keyed batch.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = options().open(directory.path().join("store")).unwrap();
        let (row, audit) = (journal.kind("row").unwrap(), journal.kind("audit").unwrap());
        journal.keep(row, Keep::Latest).unwrap();
        let mut batch = journal.batch().idempotency_key(IdempotencyKey([7; 16]));
        batch.push(Record::new(row, b"keyed", b"1")).push(Record::new(row, b"k0", b"2"));
        batch.commit().unwrap();
        for n in 0..10_u8 {
            journal.append(Record::new(row, format!("quiet {n}").as_bytes(), &[n; 20])).unwrap();
        }
        for n in 0..60_u8 {
            let key = format!("k{}", n % 6);
            journal.append(Record::new(row, key.as_bytes(), &[n; 200])).unwrap();
            if n % 20 == 0 {
                journal.append(Record::new(audit, b"who", &[n; 33])).unwrap();
            }
        }
        assert_eq!(journal.compact(&all()).unwrap().parts_written, 1);
        journal.close().unwrap();
        let mut store = Self { directory, whole: Log::new() };
        let (whole, damaged) = store.shown();
        assert_eq!(damaged, 0);
        store.whole = whole;
        store
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn part(&self) -> PathBuf {
        self.path().join("0000000001.snap")
    }

    fn verify(&self) -> Verification {
        verify(self.path(), Check::Full).unwrap()
    }

    /// What a dump shows, and how many places it says are damaged.
    fn shown(&self) -> (Log, usize) {
        let reader = Reader::open(self.path()).unwrap();
        let (mut log, mut damaged) = (Log::new(), 0);
        for item in Survey::of(&reader).unwrap().frames() {
            match item.unwrap() {
                Item::Frame(frame) if !frame.body_good => damaged += 1,
                Item::Frame(frame) if frame.is_system() => {}
                Item::Frame(frame) => drop(log.insert(frame.seq, frame.payload)),
                Item::Damage(_) => damaged += 1,
            }
        }
        (log, damaged)
    }

    /// What a view shows; what it cannot read is left out. `None`: the store is refused.
    fn read(&self) -> Option<Log> {
        let journal = match options().open_existing(self.path()) {
            Err(error) if error.is_corruption() => return None,
            journal => journal.unwrap(),
        };
        let view = journal.view();
        let get = |seq: u64| view.get(Seq::new(seq).unwrap()).ok().flatten();
        let entries = (1..=view.last_seq().unwrap().unwrap().get()).filter_map(get);
        Some(entries.map(|entry| (entry.seq().get(), entry.payload().to_vec())).collect())
    }
}

fn options() -> Options {
    Options::new().segment_bytes(4096).background(false).durability(Durability::Os)
}

fn all() -> CompactOptions {
    CompactOptions::new().keep_tombstones_for(Duration::ZERO).thorough(true)
}

fn damages(verification: &Verification) -> usize {
    verification.findings.iter().filter(|finding| finding.severity == Severity::Damage).count()
}

/// True if everything in `some` is in `all`, as it is there.
fn is_of(some: &Log, all: &Log) -> bool {
    some.iter().all(|(seq, payload)| all.get(seq) == Some(payload))
}

fn with_flipped(path: &Path, at: usize, see: impl FnOnce()) {
    let good = std::fs::read(path).unwrap();
    let mut bad = good.clone();
    bad[at] ^= 0x10;
    std::fs::write(path, &bad).unwrap();
    see();
    std::fs::write(path, good).unwrap();
}

#[test]
fn every_byte_of_a_part_counts() {
    let store = Compacted::new();
    let part = store.part();
    let length = std::fs::metadata(&part).unwrap().len();
    let reader = Reader::open(store.path()).unwrap();
    let is_answer = |item| match item {
        Ok(Item::Frame(frame)) => {
            (frame.position.is_in_part() && frame.is_system()).then_some(frame.position)
        }
        _ => None,
    };
    let answers_from = Survey::of(&reader).unwrap().frames().find_map(is_answer).unwrap();
    let answers_from = usize::try_from(answers_from.offset()).unwrap();
    assert!(length > 1000 && store.whole.len() > 8);
    for at in 0..usize::try_from(length).unwrap() {
        with_flipped(&part, at, || {
            let found = store.verify();
            assert_eq!(found.verdict, Verdict::Invalid, "byte {at}");
            let names_it = |finding: &esker::Finding| finding.file == "0000000001.snap";
            assert!(found.findings.iter().any(names_it), "byte {at}: {:?}", found.findings);
            let (shown, damaged) = store.shown();
            assert!(damaged > 0 && is_of(&shown, &store.whole), "byte {at}");
            if at % 7 == 0 {
                let read = store.read();
                assert!(read.as_ref().is_none_or(|read| is_of(read, &store.whole)), "byte {at}");
                // Of a frame that does not validate one entry is lost, and no other. Nobody writes to a store
                // that cannot tell any more what a keyed batch was answered.
                let is_nearly_whole = read.as_ref().is_some_and(|read| read.len() + 1 >= store.whole.len());
                let must_be = (128..answers_from).contains(&at);
                assert!(is_nearly_whole || !must_be && read.is_none(), "byte {at}");
            }
        });
    }
    assert_eq!(store.verify().verdict, Verdict::Valid);
}

#[test]
fn a_part_that_is_cut_short_or_longer_is_not_the_one_that_was_written() {
    let store = Compacted::new();
    let good = std::fs::read(store.part()).unwrap();
    for length in (0..good.len() + 16).step_by(9).filter(|length| *length != good.len()) {
        let mut bad = good.clone();
        bad.resize(length, 0);
        std::fs::write(store.part(), bad).unwrap();
        assert!(damages(&store.verify()) > 0, "{length} bytes");
        let (shown, damaged) = store.shown();
        assert!(damaged > 0 && is_of(&shown, &store.whole), "{length} bytes");
    }
}

#[test]
fn without_a_part_the_rest_is_there_and_a_repair_says_what_it_cost() {
    let store = Compacted::new();
    std::fs::remove_file(store.part()).unwrap();
    let found = store.verify();
    assert_eq!(found.verdict, Verdict::Invalid, "{found:?}");
    assert!(found.findings.iter().any(|finding| finding.file == "0000000001.snap"), "{found:?}");
    let (shown, damaged) = store.shown();
    assert_eq!(damaged, 1);
    assert!(!shown.is_empty() && shown.len() < store.whole.len() && is_of(&shown, &store.whole));
    let reader = Reader::open(store.path()).unwrap();
    let first = Survey::of(&reader).unwrap().segments().next().unwrap().unwrap();
    assert_eq!((first.state, &*first.name, first.damaged), (SegmentState::Damaged, "part-1", 1));
    let target = store.directory.path().join("repaired");
    let repaired = repair(store.path(), &target).unwrap();
    assert!(repaired.entries_lost > 0, "{repaired:?}");
    assert_eq!(repaired.entries, shown.len() as u64);
    assert_eq!(verify(&target, Check::Full).unwrap().verdict, Verdict::Valid);
}

#[test]
fn a_part_whose_file_is_missing_is_told_once_and_is_not_what_compaction_dropped() {
    let store = Compacted::new();
    let first = *store.whole.keys().next().unwrap();
    let journal = options().open(store.path()).unwrap();
    let row = journal.kind("row").unwrap();
    let behind = journal.append(Record::new(row, b"k0", b"behind the part")).unwrap().seq;
    journal.close().unwrap();
    std::fs::remove_file(store.part()).unwrap();
    let reader = Reader::open(store.path()).unwrap();
    let view = reader.view().unwrap();
    let error = view.get(Seq::new(first).unwrap()).unwrap_err();
    assert!(error.is_corruption() && error.seqs().unwrap().contains(&first), "{error}");
    let error = view.range(..).next().unwrap().unwrap_err();
    assert!(error.is_corruption(), "{error}");
    assert!(view.entity(row, b"quiet 1").any(|entry| entry.is_err_and(|error| error.is_corruption())));
    assert_eq!(view.latest(row, b"k0").unwrap().unwrap().seq(), behind);
    for region in [Region::all(), Region::kind(row), Region::entity(row, b"k0")] {
        let from = SubscribeOptions::new().from(Start::Oldest);
        let mut subscriber = reader.subscribe(region.clone(), from).unwrap();
        let (mut newest, mut errors) = (None, Vec::new());
        while errors.len() < 5 {
            match subscriber.try_next() {
                Ok(Some(esker::Item::Entry(entry))) => newest = Some(entry.seq()),
                Ok(Some(other)) => panic!("{other:?}"),
                Ok(None) => break,
                Err(error) => errors.push(error),
            }
        }
        let [error] = &errors[..] else { panic!("{region:?}: once, and then on: {errors:?}") };
        assert!(error.is_corruption(), "{region:?}: {error}");
        assert_eq!(newest, Some(behind), "{region:?}");
    }
    let live = esker::StoreView::of(&reader);
    assert!(live.is_ok(), "{live:?}");
}

#[test]
fn a_history_over_what_is_missing_above_its_floor_is_damage_and_not_compacted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = options().open(&path).unwrap();
    let row = journal.kind("row").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    let say = |key: &str| journal.append(Record::new(row, key.as_bytes(), &[7; 200])).unwrap().seq;
    let segment_of = |seq| journal.view().get(seq).unwrap().unwrap().position().segment();
    (0..2).for_each(|_| _ = say("a"));
    (0..60).for_each(|n| _ = say(&format!("k{}", n % 6)));
    assert!(journal.compact(&all()).unwrap().entries_dropped > 20);
    let (mut written, mut stands_in) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        written.push(say("a"));
        stands_in.push(segment_of(*written.last().unwrap()));
        (0..40).for_each(|n| _ = say(&format!("k{}", n % 6)));
    }
    let floor = journal.view().floor(&Region::kind(row)).unwrap();
    assert!(floor <= written[0] && stands_in.is_sorted_by(|one, next| one < next), "{floor} {stands_in:?}");
    journal.close().unwrap();
    for extension in ["seg", "idx"] {
        std::fs::remove_file(path.join(format!("{:010}.{extension}", stands_in[1]))).unwrap();
    }
    let _ = std::fs::remove_file(path.join("entities"));
    let reader = Reader::open(&path).unwrap();
    let view = reader.view().unwrap();
    let mut history = view.entity(row, b"a").rev();
    assert_eq!(history.next().unwrap().unwrap().seq(), written[2]);
    let error = history.next().unwrap().unwrap_err();
    assert!(error.is_corruption() && error.seqs().unwrap().contains(&written[1].get()), "{error}");
    // Where it began nobody knows.
    let error = view.entity(row, b"a").next().unwrap().unwrap_err();
    assert_eq!(error.kind(), esker::ErrorKind::Compacted, "{error}");
}

#[test]
fn what_was_missed_is_told_also_if_nobody_can_count_what_was_kept_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = options().durability(Durability::Sync).open(&path).unwrap();
    let row = journal.kind("row").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    journal.append(Record::new(row, b"quiet", b"1")).unwrap();
    (0..60).for_each(|n| {
        _ = journal.append(Record::new(row, format!("k{}", n % 6).as_bytes(), &[7; 200])).unwrap()
    });
    journal.close().unwrap();
    // With the directory nothing is opened before somebody comes to it.
    let journal = options().durability(Durability::Sync).open(&path).unwrap();
    let reader = Reader::open(&path).unwrap();
    let from = SubscribeOptions::new().from(Start::Oldest);
    let mut subscriber = reader.subscribe(Region::kind(row), from).unwrap();
    assert!(journal.compact(&all()).unwrap().parts_written > 0);
    for name in ["0000000001.snap", "0000000001.snap.idx"] {
        std::fs::remove_file(path.join(name)).unwrap();
    }
    let (mut missed, mut errors, mut newest) = (0, 0, 0);
    while errors < 5 {
        match subscriber.try_next() {
            Ok(Some(esker::Item::Entry(entry))) => newest = entry.seq().get(),
            Ok(Some(esker::Item::Missed(of))) => missed += of.count,
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) => break,
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                errors += 1;
            }
        }
    }
    assert_eq!((errors, newest), (1, 61), "once, and then on");
    assert!(missed > 20, "{missed}");
}

#[test]
fn the_index_of_a_part_is_derived_and_missing_or_rotten_it_changes_nothing() {
    let store = Compacted::new();
    let index = store.path().join("0000000001.snap.idx");
    let good = std::fs::read(&index).unwrap();
    for at in (0..good.len()).step_by(11) {
        with_flipped(&index, at, || {
            let found = store.verify();
            assert_eq!(damages(&found), 0, "byte {at}: {found:?}");
            let is_derived = |finding: &esker::Finding| finding.severity == Severity::Derived;
            assert!(found.findings.iter().any(is_derived), "byte {at}: {found:?}");
            assert_eq!(store.shown(), (store.whole.clone(), 0), "byte {at}");
        });
        assert_eq!(store.verify().verdict, Verdict::Valid);
    }
    std::fs::remove_file(&index).unwrap();
    assert_eq!(store.verify().verdict, Verdict::Valid);
    assert_eq!(store.shown(), (store.whole.clone(), 0));
    assert_eq!(store.read().as_ref(), Some(&store.whole));
}

#[test]
fn what_was_compacted_behind_a_gap_that_a_repair_left_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (store, repaired) = (directory.path().join("store"), directory.path().join("repaired"));
    let journal = options().open(&store).unwrap();
    let row = journal.kind("row").unwrap();
    for n in 0..120_u8 {
        journal.append(Record::new(row, format!("k{}", n % 6).as_bytes(), &[n; 200])).unwrap();
    }
    let lost = journal.view().get(Seq::new(40).unwrap()).unwrap().unwrap().position();
    journal.close().unwrap();
    let file = store.join(format!("{:010}.seg", lost.segment()));
    with_flipped(&file, usize::try_from(lost.offset()).unwrap() + 20, || {
        assert_eq!(repair(&store, &repaired).unwrap().lost.len(), 1);
    });
    let journal = options().open(&repaired).unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    assert!(journal.compact(&all()).unwrap().entries_dropped > 60);
    journal.close().unwrap();
    assert_eq!(verify(&repaired, Check::Full).unwrap().verdict, Verdict::Valid);
    let reader = Reader::open(&repaired).unwrap();
    let damaged: Vec<_> = Survey::of(&reader)
        .unwrap()
        .frames()
        .filter_map(|item| match item.unwrap() {
            Item::Damage(damage) => Some(damage),
            Item::Frame(_) => None,
        })
        .collect();
    assert!(damaged.is_empty(), "{damaged:?}");
}

#[test]
fn what_was_written_behind_a_damaged_part_is_known() {
    // With the index of the segment behind the part, and without.
    for kept in [".idx", "none"] {
        let store = Compacted::new();
        let journal = options().open(store.path()).unwrap();
        let row = journal.kind("row").unwrap();
        let newest = journal.append(Record::new(row, b"k0", b"behind the part")).unwrap().seq;
        journal.close().unwrap();
        let mut removed = 0;
        for file in std::fs::read_dir(store.path()).unwrap().map(|file| file.unwrap().path()) {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let is_kept = name.ends_with(kept) && !name.ends_with(".snap.idx");
            if name == "entities" || name.ends_with(".idx") && !is_kept {
                std::fs::remove_file(file).unwrap();
                removed += 1;
            }
        }
        assert!(removed > 0);
        let middle = std::fs::metadata(store.part()).unwrap().len() / 2;
        with_flipped(&store.part(), usize::try_from(middle).unwrap(), || {
            let reader = Reader::open(store.path()).unwrap();
            let view = reader.view().unwrap();
            assert_eq!(view.latest(row, b"k0").unwrap().unwrap().seq(), newest, "{kept}");
            assert!(view.latest(row, b"nobody").unwrap_err().is_corruption(), "{kept}");
        });
    }
}

#[test]
fn a_segment_that_was_replaced_and_is_still_there_is_no_damage_and_shown_by_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = options().open(&path).unwrap();
    let row = journal.kind("row").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    let fill = |journal: &Journal, count: u8| {
        for n in 0..count {
            journal.append(Record::new(row, b"k", &[n; 200])).unwrap();
        }
    };
    fill(&journal, 60);
    let names = ["0000000001.seg", "0000000001.idx", "0000000002.seg"];
    let old: Vec<_> = names.iter().map(|name| std::fs::read(path.join(name)).ok()).collect();
    journal.compact(&all()).unwrap();
    journal.close().unwrap();
    let reader = Reader::open(&path).unwrap();
    let before: Vec<u64> = seqs(&reader);
    for (name, bytes) in names.iter().zip(&old) {
        if let Some(bytes) = bytes {
            std::fs::write(path.join(name), bytes).unwrap();
        }
    }
    let found = verify(&path, Check::Full).unwrap();
    assert_eq!((found.verdict, damages(&found)), (Verdict::Valid, 0), "{found:?}");
    let reader = Reader::open(&path).unwrap();
    assert_eq!(seqs(&reader), before);
    let survey = Survey::of(&reader).unwrap();
    let states: Vec<_> =
        survey.segments().map(|segment| segment.unwrap()).map(|s| (s.number, s.state)).collect();
    assert_eq!(states[..2], [(1, SegmentState::Dead), (2, SegmentState::Dead)]);
    assert!(survey.frames_of(1).count() > 5, "what is there can be looked at");
    assert!(!survey.log().any(|number| number <= 2), "and is not of the log");
    drop((survey, reader));
    let journal = options().open(&path).unwrap();
    journal.compact(&all()).unwrap();
    journal.close().unwrap();
    assert!(names.iter().all(|name| !path.join(name).exists()), "the next compaction removes it");
}

fn seqs(reader: &Reader) -> Vec<u64> {
    let frames = Survey::of(reader).unwrap().frames();
    let entries = frames.filter_map(|item| match item.unwrap() {
        Item::Frame(frame) => (!frame.is_system()).then_some(frame.seq),
        Item::Damage(damage) => panic!("{damage:?}"),
    });
    entries.collect()
}

#[test]
fn a_walk_that_compaction_overtakes_goes_on_in_what_was_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = options().open(&path).unwrap();
    let row = journal.kind("row").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    for n in 0..200_u8 {
        let key = format!("k{}", n % 9);
        journal.append(Record::new(row, key.as_bytes(), &[n; 200])).unwrap();
    }
    let reader = Reader::open(&path).unwrap();
    let survey = Survey::of(&reader).unwrap();
    let mut frames = survey.frames();
    let mut shown = Vec::new();
    let mut see = |item: Option<esker::Result<Item>>| match item.map(Result::unwrap) {
        Some(Item::Frame(frame)) => {
            shown.extend((!frame.is_system()).then_some(frame.seq));
            true
        }
        Some(Item::Damage(damage)) => panic!("{damage:?}"),
        None => false,
    };
    for _ in 0..20 {
        assert!(see(frames.next()));
    }
    let dropped = journal.compact(&all()).unwrap().entries_dropped;
    assert!(dropped > 100, "{dropped}");
    while see(frames.next()) {}
    assert!(shown.is_sorted_by(|a, b| a < b), "{shown:?}");
    let view = journal.view();
    let there: Vec<u64> = view.range(..).map(|entry| entry.unwrap().seq().get()).collect();
    assert!(there.iter().all(|seq| shown.contains(seq)), "{shown:?} {there:?}");
    assert!(shown.len() < 100, "what was dropped before the walk came to it is not shown: {}", shown.len());
    // A survey of now shows what there is.
    assert_eq!(seqs(&reader), there);
    let (first, last) = (there[0], *there.last().unwrap());
    assert_eq!(last, 200);
    let stretch = Survey::of(&reader).unwrap().compacted(Seq::new(first).unwrap()).unwrap();
    assert_eq!(*stretch.start(), 1);
    assert!(stretch.contains(&first) && !stretch.contains(&last));
    // From each entry on, the frames begin with it or before it.
    let survey = Survey::of(&reader).unwrap();
    for seq in &there {
        let frames = survey.frames_from(survey.before(Seq::new(*seq).unwrap()));
        let found = frames.filter_map(Result::ok).any(|item| matches!(item, Item::Frame(f) if f.seq == *seq));
        assert!(found, "{seq}");
    }
}
