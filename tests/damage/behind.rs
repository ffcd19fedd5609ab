//! Readers that come from behind what cannot be read.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use esker::{
    BackupBy, CompactOptions, Item, Keep, Kind, KindId, Reader, Record, Region, Seq, Simulator, Source,
    Start, Store, StoreView, SubscribeOptions, Subscriber, View,
};
use serde::{Deserialize, Serialize};

use super::{Files, Oracle, both, fill, log_of, options, segments};

#[derive(Serialize, Deserialize)]
pub(super) struct Vessel {
    pub(super) knots: u32,
}

pub(super) const VESSEL: Kind<Vessel> = Kind::new("vessel");

/// A store in which one source says something, each time as a batch of its own.
pub(super) struct Harbour {
    pub(super) disk: Simulator,
    pub(super) store: Store,
    radar: Source,
}

impl Harbour {
    pub(super) fn new() -> Self {
        let disk = Simulator::new();
        let store = Store::over(options().window(esker::Window::Manual).open_in(&disk).unwrap());
        let radar = store.source("radar").unwrap();
        Self { disk, store, radar }
    }

    pub(super) fn say(&self, name: &str, knots: u32) {
        self.radar.assert(VESSEL, name, &Vessel { knots }).unwrap();
        self.store.flush().unwrap();
    }

    /// The segment with the newest row.
    fn segment_of(&self, name: &str) -> u32 {
        let kind = self.store.journal().kind_named("vessel").unwrap().id;
        self.store.journal().view().latest(kind, name.as_bytes()).unwrap().unwrap().position().segment()
    }

    /// What a reader has of it without a segment.
    fn without(&self, segment: u32) -> Reader {
        reader_without(self.disk.files(), &format!("{segment:010}.seg"))
    }

    /// And without its last one, of a store that is closed.
    fn closed_without_the_last(self) -> Reader {
        self.store.close().unwrap();
        let files = self.disk.files();
        let last = segments(&files).pop().unwrap();
        reader_without(files, &last)
    }
}

pub(super) fn reader_without(mut files: Files, segment: &str) -> Reader {
    files.remove(segment).unwrap();
    files.remove(&segment.replace(".seg", ".idx"));
    files.remove("entities");
    Reader::open_on(&Simulator::with(files)).unwrap()
}

#[test]
fn rows_of_which_something_newer_may_stand_in_a_file_that_is_missing_are_errors() {
    let harbour = Harbour::new();
    let say = |name: &str, knots| harbour.say(name, knots);
    say("ada", 1);
    (0..60).for_each(|n| say("busy", n));
    say("ada", 2);
    let newest = harbour.segment_of("ada");
    (60..120).for_each(|n| say("busy", n));
    let reader = harbour.without(newest);
    let view = StoreView::of(&reader).unwrap();
    assert!(view.get(VESSEL, "ada").unwrap_err().is_corruption());
    let rows: Vec<_> = view.rows(VESSEL).unwrap().collect();
    assert!(rows.iter().any(|row| row.as_ref().is_err_and(esker::Error::is_corruption)));
    let keys: Vec<&[u8]> = rows.iter().flatten().map(esker::OwnedRow::key).collect();
    assert_eq!(keys, [b"busy"], "what ada was before, or not what was written behind the file");
    // What was so before the file no file behind it can change.
    let before = view.at(Seq::new(30).unwrap()).unwrap();
    let rows: Vec<_> = before.rows(VESSEL).unwrap().map(|row| row.unwrap().key().to_vec()).collect();
    assert_eq!(rows, [b"ada".to_vec(), b"busy".to_vec()]);
}

#[test]
fn rows_that_a_last_file_that_is_missing_may_have_had_anew_are_errors() {
    let harbour = Harbour::new();
    let say = |name: &str, knots| harbour.say(name, knots);
    say("ada", 1);
    (0..60).for_each(|n| say("busy", n));
    say("ada", 2);
    let reader = harbour.closed_without_the_last();
    let view = StoreView::of(&reader).unwrap();
    assert!(view.get(VESSEL, "ada").unwrap_err().is_corruption());
    let rows: Vec<_> = view.rows(VESSEL).unwrap().collect();
    assert!(!rows.is_empty() && rows.iter().all(Result::is_err), "what they were before: {rows:?}");
}

#[test]
fn a_row_that_only_a_last_file_that_is_missing_had_is_told_of() {
    let harbour = Harbour::new();
    (0..60).for_each(|n| harbour.say("busy", n));
    harbour.radar.retract(VESSEL, "busy").unwrap();
    harbour.store.flush().unwrap();
    let earlier = segments(&harbour.disk.files()).len();
    while segments(&harbour.disk.files()).len() == earlier {
        harbour.store.append(esker::Facts::new("tick"), "t", &1).unwrap();
    }
    harbour.say("ada", 1);
    let reader = harbour.closed_without_the_last();
    let rows: Vec<_> = StoreView::of(&reader).unwrap().rows(VESSEL).unwrap().collect();
    let [Err(error)] = &rows[..] else { panic!("as if there were no row: {rows:?}") };
    assert!(error.is_corruption(), "{error}");
    // Whoever walks to the end is told so there; who follows is told once.
    let view = reader.view().unwrap();
    let entries: Vec<_> = view.range(..).collect();
    assert!(entries.len() > 60 && entries.iter().filter(|entry| entry.is_err()).count() == 1);
    assert!(entries.last().unwrap().is_err());
    let kind = reader.kinds().iter().find(|kind| kind.name == "vessel").unwrap().id;
    for region in
        [Region::all(), Region::kind(kind), Region::entity(kind, b"busy"), Region::entity(kind, b"ada")]
    {
        let told = told(&reader, region.clone(), Start::Oldest);
        let errors = told.iter().filter(|told| told.is_err()).count();
        assert!(errors == 1 && told.last().unwrap().is_err(), "{region:?}: once, and last: {told:?}");
    }
}

#[test]
fn a_backup_without_its_last_file_ends_with_an_error_for_whoever_walks() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("store.esker"), directory.path().join("backup.esker"));
    let journal = options().open(&path).unwrap();
    let late = Store::over(journal.clone());
    late.append(esker::Facts::<String>::new("late"), "a", &"1".to_owned()).unwrap();
    fill(&journal, 0, 200);
    late.append(esker::Facts::<String>::new("late"), "a", &"2".to_owned()).unwrap();
    journal.backup(&copy, BackupBy::Copy).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&copy).unwrap().map(|file| file.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "seg"));
    names.sort();
    std::fs::remove_file(names.pop().unwrap()).unwrap();
    let reader = Reader::open(&copy).unwrap();
    let view = reader.view().unwrap();
    let entries: Vec<_> = view.range(..).collect();
    assert!(entries.len() > 50 && entries.last().unwrap().is_err(), "it passes for a shorter log");
    let (told, lost) = follow(&reader, Region::all(), Start::Oldest);
    assert_eq!((told.len(), lost.len()), (entries.len() - 1, 1));
    // And moments before that are whole.
    const LATE: esker::Facts<String> = esker::Facts::new("late");
    let half = told[told.len() / 2];
    let past = StoreView::of(&reader).unwrap().at(Seq::new(half).unwrap()).unwrap();
    assert!(past.latest(LATE, "a").unwrap().is_some());
}

#[test]
fn a_damaged_end_of_a_file_without_an_index_takes_nothing_from_what_stands_before_and_behind_it() {
    let (_, files) = both_long().into_iter().next().unwrap();
    let oracle = Oracle::of(&files, log_of(&files).len() as u64);
    let (number, last) = {
        let journal = options().open_in(&Simulator::with(files.clone())).unwrap();
        let view = journal.view();
        let middle = view.get(Seq::new(60).unwrap()).unwrap().unwrap().position().segment();
        let entries = view.range(..).map(|entry| entry.unwrap().position());
        (middle, entries.filter(|at| at.segment() == middle).last().unwrap())
    };
    let name = format!("{number:010}.seg");
    let mut damaged = files.clone();
    damaged.remove(&format!("{number:010}.idx"));
    let from = usize::try_from(last.offset()).unwrap();
    // Its last entries, and whatever is behind them.
    for byte in damaged.get_mut(&name).unwrap()[from..].iter_mut() {
        *byte ^= 0x5a;
    }
    let reader = Reader::open_on(&Simulator::with(damaged)).unwrap();
    let (told, lost) = follow(&reader, Region::all(), Start::Oldest);
    let is_lost = |seq: &u64| lost.iter().any(|lost| lost.contains(seq));
    assert!(oracle.log.keys().all(|seq| told.contains(seq) || is_lost(seq)), "{lost:?}");
    assert!(lost.iter().map(|lost| lost.end() - lost.start() + 1).sum::<u64>() < 12, "{lost:?}");
    for seen in oracle.log.values() {
        let kind = KindId::new(seen.kind).unwrap();
        let is_of =
            |other: &&u64| (oracle.log[*other].kind, &oracle.log[*other].key) == (seen.kind, &seen.key);
        let expected: Vec<u64> = oracle.log.keys().filter(is_of).copied().collect();
        let (told, lost) = follow(&reader, Region::entity(kind, &seen.key), Start::Oldest);
        let is_lost = |seq: &u64| lost.iter().any(|lost| lost.contains(seq));
        assert!(
            expected.iter().all(|seq| told.contains(seq) || is_lost(seq)),
            "{expected:?} {told:?} {lost:?}"
        );
    }
}

#[test]
fn the_kept_rest_before_a_file_that_is_missing_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.esker");
    let journal = options().open(&path).unwrap();
    let junk = journal.kind("junk").unwrap();
    journal.keep(junk, Keep::Latest).unwrap();
    for n in 0..60_u8 {
        journal.append(Record::new(junk, b"once", &[n; 60])).unwrap();
        journal.append(Record::new(junk, format!("k{n}").as_bytes(), &[n; 60])).unwrap();
    }
    assert!(journal.compact(&CompactOptions::new().thorough(true)).unwrap().parts_written > 0);
    fill(&journal, 0, 200);
    let kept: Vec<u64> = journal.view().kind(junk).map(|entry| entry.unwrap().seq().get()).collect();
    journal.close().unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "seg"));
    names.sort();
    assert!(names.len() > 3);
    std::fs::remove_file(&names[1]).unwrap();
    let _ = std::fs::remove_file(names[1].with_extension("idx"));
    let _ = std::fs::remove_file(path.join("entities"));
    let reader = Reader::open(&path).unwrap();
    let (told, lost) = follow(&reader, Region::kind(junk), Start::Oldest);
    assert!(told.len() > 50 && told.iter().all(|seq| kept.contains(seq)), "{told:?}");
    assert!(lost.iter().all(|lost| *lost.start() > *told.first().unwrap()), "{lost:?}");
    let view = reader.view().unwrap();
    assert_eq!(view.get(Seq::new(told[10]).unwrap()).unwrap().unwrap().kind(), junk);
}

#[test]
fn what_an_entity_was_at_a_moment_behind_a_hole_is_not_told_from_before_it() {
    let harbour = Harbour::new();
    let say = |name: &str, knots| harbour.say(name, knots);
    say("ada", 1);
    (0..60).for_each(|n| say("busy", n));
    say("ada", 2);
    let newest = harbour.segment_of("ada");
    (60..120).for_each(|n| say("busy", n));
    let moment = harbour.store.journal().view().last_seq().unwrap().unwrap();
    (120..180).for_each(|n| say("busy", n));
    say("ada", 3);
    let reader = harbour.without(newest);
    let now = StoreView::of(&reader).unwrap();
    assert_eq!(now.get(VESSEL, "ada").unwrap().unwrap().value().unwrap().knots, 3);
    let then = now.at(moment).unwrap();
    let was = then.get(VESSEL, "ada").map(|row| row.map(|row| row.value().unwrap().knots));
    assert!(was.is_err(), "{was:?}");
    assert_eq!(then.get(VESSEL, "busy").unwrap().unwrap().value().unwrap().knots, 119);
    assert!(then.rows(VESSEL).is_err_and(|error| error.is_corruption()), "nobody knows whether it was there");
}

#[test]
fn what_a_live_segment_had_that_is_gone_is_not_taken_for_nothing_by_the_empty_one_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("store.esker"), directory.path().join("copy.esker"));
    let journal = options().background(true).open(&path).unwrap();
    let note = journal.kind("note").unwrap();
    for n in 0..100_u8 {
        journal.append(Record::new(note, format!("k{}", n % 9).as_bytes(), &[n; 60])).unwrap();
    }
    let newest = journal.append(Record::new(note, b"k0", b"newest")).unwrap().seq;
    let active = journal.view().get(newest).unwrap().unwrap().position().segment();
    let spare = path.join(format!("{:010}.seg", active + 1));
    while !spare.exists() {
        std::thread::yield_now();
    }
    let mut opened = 0;
    for is_zero in [false, true] {
        let _ = std::fs::remove_dir_all(&copy);
        std::fs::create_dir(&copy).unwrap();
        for file in std::fs::read_dir(&path).unwrap().map(|file| file.unwrap()) {
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
        let lost = copy.join(format!("{active:010}.seg"));
        if is_zero {
            let mut bytes = std::fs::read(&lost).unwrap();
            bytes[..128].fill(0);
            std::fs::write(&lost, bytes).unwrap();
        } else {
            std::fs::remove_file(&lost).unwrap();
        }
        let Ok(reader) = Reader::open(&copy) else { continue };
        opened += 1;
        let view = reader.view().unwrap();
        let latest = view.latest(note, b"k0").map(|entry| entry.map(|entry| entry.seq()));
        assert!(
            latest.as_ref().is_err_and(esker::Error::is_corruption)
                || latest.as_ref().is_ok_and(|seq| *seq == Some(newest)),
            "{is_zero}: {latest:?}"
        );
        assert!(view.range(..).filter(Result::is_ok).count() > 50, "{is_zero}: what was before is there");
        assert!(view.get(Seq::new(50).unwrap()).unwrap().is_some(), "{is_zero}");
    }
    assert_eq!(opened, 2);
}

#[test]
fn what_compaction_kept_of_a_hole_is_nothing_newer_than_what_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.esker");
    let journal = options().open(&path).unwrap();
    let (order, junk) = (journal.kind("order").unwrap(), journal.kind("junk").unwrap());
    let segment_of = |seq| journal.view().get(seq).unwrap().unwrap().position().segment();
    let write = |kind, key: &str| journal.append(Record::new(kind, key.as_bytes(), &[7; 60])).unwrap().seq;
    journal.keep(junk, Keep::Latest).unwrap();
    (0..30).for_each(|_| _ = write(junk, "j"));
    let old = segment_of(write(order, "a"));
    (0..120).for_each(|_| _ = write(junk, "j"));
    (0..30).for_each(|n| _ = write(order, &format!("o{n}")));
    let newest = write(order, "a");
    (0..60).for_each(|n| _ = write(order, &format!("p{n}")));
    assert!(old + 1 < segment_of(newest));
    let gone = path.join(format!("{:010}.seg", old + 1));
    std::fs::remove_file(gone).unwrap();
    let reader = Reader::open(&path).unwrap();
    let latest = |view: &View| view.latest(order, b"a").unwrap().unwrap().seq();
    let before = reader.view().unwrap();
    assert_eq!(latest(&before), newest);
    assert!(journal.compact(&CompactOptions::new().thorough(true)).unwrap().entries_dropped > 50);
    assert_eq!(latest(&reader.view().unwrap()), newest);
    assert_eq!(reader.view().unwrap().entity(order, b"a").count(), 2);
    // A view from before has the hole that it had.
    let last = before.last_seq().unwrap().unwrap().get();
    let told = (1..=last).filter_map(Seq::new).map(|seq| before.get(seq));
    assert!(told.into_iter().all(|entry| !matches!(entry, Ok(None))), "a gap that is none");
}

#[test]
fn an_end_that_is_damaged_before_an_opening_that_came_to_nothing_may_have_had_newer_entries() {
    let disk = Simulator::new();
    let journal = options().open_in(&disk).unwrap();
    let note = journal.kind("note").unwrap();
    journal.append(Record::new(note, b"ada", b"1")).unwrap();
    let newest = journal.append(Record::new(note, b"ada", b"2")).unwrap();
    let at = journal.view().get(newest.seq).unwrap().unwrap().position();
    let killed = Simulator::with(disk.files());
    let later = options().open_in(&killed).unwrap();
    later.append(Record::new(note, b"bob", b"1")).unwrap();
    drop(later);
    let mut files = killed.files();
    let names = segments(&files);
    assert_eq!(names.len(), 2, "{names:?}");
    // Of the file behind it no more than the header reached the disk.
    files.get_mut(&names[1]).unwrap()[128..].fill(0);
    files.get_mut(&names[0]).unwrap()[usize::try_from(at.offset()).unwrap() + 20] ^= 1;
    files.retain(|name, _| !name.ends_with(".idx") && name != "entities");
    let reader = Reader::open_on(&Simulator::with(files)).unwrap();
    let view = reader.view().unwrap();
    let latest = view.latest(note, b"ada").map(|entry| entry.map(|entry| entry.seq()));
    assert!(latest.as_ref().is_err_and(esker::Error::is_corruption), "what it was before: {latest:?}");
}

#[test]
fn a_row_that_was_made_anew_in_a_file_that_is_missing_is_told_of() {
    let harbour = Harbour::new();
    let say = |name: &str, knots| harbour.say(name, knots);
    say("ada", 1);
    harbour.radar.retract(VESSEL, "ada").unwrap();
    (0..60).for_each(|n| say("busy", n));
    say("ada", 2);
    let newest = harbour.segment_of("ada");
    (60..120).for_each(|n| say("busy", n));
    let reader = harbour.without(newest);
    let rows: Vec<_> = StoreView::of(&reader).unwrap().rows(VESSEL).unwrap().collect();
    assert!(
        rows.iter().any(|row| row.as_ref().is_err_and(esker::Error::is_corruption)),
        "ada is there, or was"
    );
    assert_eq!(rows.iter().flatten().count(), 1);
}

/// What a follower comes to, until there is no more.
pub(super) fn told(reader: &Reader, region: Region, start: Start) -> Vec<Result<u64, esker::Error>> {
    let told = drain(&mut reader.subscribe(region, SubscribeOptions::new().from(start)).unwrap());
    told.iter()
        .flat_map(|told| told.as_ref().err())
        .for_each(|error| assert!(error.is_corruption(), "{error}"));
    told
}

/// Whatever there is now.
pub(super) fn drain(subscriber: &mut Subscriber) -> Vec<Result<u64, esker::Error>> {
    let mut told = Vec::new();
    loop {
        match subscriber.try_next() {
            Ok(Some(Item::Entry(entry))) => told.push(Ok(entry.seq().get())),
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) => return told,
            Err(error) => told.push(Err(error)),
        }
        assert!(told.iter().filter(|told| told.is_err()).count() < 10, "it goes on and on: {told:?}");
    }
}

/// The Seqs of that, and those that its errors name.
pub(super) fn follow(reader: &Reader, region: Region, start: Start) -> (Vec<u64>, Vec<RangeInclusive<u64>>) {
    let (mut seqs, mut lost) = (Vec::new(), Vec::new());
    for told in told(reader, region, start) {
        match told {
            Ok(seq) => seqs.push(seq),
            Err(error) => {
                lost.push(error.seqs().unwrap_or_else(|| panic!("nobody can go on behind: {error}")));
            }
        }
    }
    (seqs, lost)
}

/// A closed store, and one of a process that was killed, in more segments than two holes take.
pub(super) fn both_long() -> [(&'static str, Files); 2] {
    let [closed, killed] = [true, false].map(|is_closed| {
        let disk = Simulator::new();
        for (from, to) in [(0, 70), (70, 130), (130, 240)] {
            let journal = options().open_in(&disk).unwrap();
            fill(&journal, from, to);
            if is_closed || to < 240 {
                journal.close().unwrap();
            }
        }
        disk.files()
    });
    [("closed", closed), ("killed", killed)]
}

#[test]
fn who_follows_an_entity_is_told_of_each_of_its_entries_or_that_it_is_missing() {
    for (what, files) in both_long() {
        let oracle = Oracle::of(&files, log_of(&files).len() as u64 - 1);
        let segments = segments(&files);
        let last = segments.len();
        let middle: Vec<&String> = segments.iter().take(last - 2).collect();
        let mut cases: Vec<Vec<&String>> = middle.iter().map(|name| vec![*name]).collect();
        // Two that are neighbours, and two that are apart.
        cases.extend(middle.windows(2).map(<[&String]>::to_vec));
        cases.extend(middle.iter().zip(middle.iter().skip(2)).map(|(one, other)| vec![*one, *other]));
        assert!(cases.len() > middle.len(), "{what}: {segments:?}");
        for case in cases {
            for keeps_indexes in [false, true] {
                let mut damaged = files.clone();
                damaged.remove("entities");
                damaged.retain(|name, _| keeps_indexes || !name.ends_with(".idx"));
                for name in &case {
                    damaged.remove(*name).unwrap();
                    damaged.remove(&name.replace(".seg", ".idx"));
                }
                let reader = Reader::open_on(&Simulator::with(damaged)).unwrap();
                all_is_told(&format!("{what} {case:?} {keeps_indexes}"), &reader, &oracle);
            }
        }
    }
}

/// The Seqs that a view shows one by one. No walk ends before or behind what is missing as if that were the end.
fn shown(view: &View) -> Vec<u64> {
    let last = view.last_seq().unwrap().unwrap().get();
    let mut shown = Vec::new();
    for seq in (1..=last).filter_map(Seq::new) {
        match view.get(seq) {
            Ok(Some(entry)) => shown.push(entry.seq().get()),
            Ok(None) => panic!("{seq} is not there, and no error"),
            Err(error) => assert!(error.is_corruption(), "{error}"),
        }
    }
    let is_whole = shown.len() as u64 == last;
    assert_eq!(view.range(..).all(|entry| entry.is_ok()), is_whole, "from the front");
    assert_eq!(view.range(..).rev().all(|entry| entry.is_ok()), is_whole, "from the back");
    shown
}

#[test]
fn a_place_by_time_and_how_far_cursors_are_is_told_also_over_files_that_are_missing() {
    let disk = Simulator::new();
    let journal = options().open_in(&disk).unwrap();
    fill(&journal, 0, 20);
    let mut watcher = journal.watch("far", Region::all()).unwrap();
    assert!(watcher.try_next().unwrap().is_some());
    watcher.checkpoint().unwrap();
    drop(watcher);
    fill(&journal, 20, 240);
    let time_of = |seq: Seq| journal.view().get(seq).unwrap().unwrap().time();
    let early = time_of(Seq::new(2).unwrap());
    // The clock that entries are stamped by may stand for many of them.
    let note = journal.kind("note").unwrap();
    let before = time_of(journal.append(Record::new(note, b"late", b"")).unwrap().seq);
    let (late, latest) = loop {
        let seq = journal.append(Record::new(note, b"late", b"")).unwrap().seq;
        if time_of(seq) > before {
            break (time_of(seq), seq.get());
        }
    };
    journal.close().unwrap();
    let files = disk.files();
    let names = segments(&files);
    for name in [&names[1], names.last().unwrap()] {
        let reader = reader_without(files.clone(), name);
        let from_early = told(&reader, Region::all(), Start::At(early));
        assert!(
            matches!(from_early.first(), Some(Ok(1 | 2))) && from_early.len() > 50,
            "{name}: {from_early:?}"
        );
        assert!(from_early.iter().any(Result::is_err), "{name}");
        // Where they are missing, the error is all there is.
        let from_late = told(&reader, Region::all(), Start::At(late));
        let is_late = |told: &Result<u64, esker::Error>| told.as_ref().map_or(true, |seq| *seq >= latest);
        assert!(!from_late.is_empty() && from_late.iter().all(is_late), "{name}: {from_late:?}");
        let [cursor] = &reader.cursors().unwrap()[..] else { panic!("{name}: one cursor") };
        assert!(cursor.damaged > 0 && cursor.behind > 50, "{name}: {cursor:?}");
    }
}

fn all_is_told(what: &str, reader: &Reader, oracle: &Oracle) {
    let mut entities: BTreeMap<(u16, &[u8]), Vec<u64>> = BTreeMap::new();
    for (seq, seen) in oracle.log.range(..=oracle.certain) {
        entities.entry((seen.kind, &seen.key)).or_default().push(*seq);
    }
    let view = reader.view().unwrap();
    let shown = shown(&view);
    let hole = oracle.log.keys().filter(|seq| !shown.contains(seq)).max().unwrap();
    for behind in [0, 5] {
        let start = Seq::new(behind).map_or(Start::Oldest, Start::After);
        let (told, lost) = follow(reader, Region::all(), start);
        let is_told = |seq: &u64| told.contains(seq) || lost.iter().any(|lost| lost.contains(seq));
        let left_out = oracle.log.range(behind + 1..=oracle.certain).find(|(seq, _)| !is_told(seq));
        assert!(left_out.is_none(), "{what}: {left_out:?} {lost:?}");
    }
    let mut missing = 0;
    for ((kind, key), seqs) in entities {
        let newest =
            view.latest(KindId::new(kind).unwrap(), key).map(|entry| entry.map(|entry| entry.seq().get()));
        match newest {
            Ok(newest) => assert_eq!(newest.as_ref(), seqs.last(), "{what}"),
            Err(error) => assert!(error.is_corruption() && seqs.last() <= Some(hole), "{what}: {error}"),
        }
        let entity = || Region::entity(KindId::new(kind).unwrap(), key);
        let starts = [Start::Oldest, Start::After(Seq::new(1).unwrap()), Start::After(Seq::new(12).unwrap())];
        for (start, behind) in starts.into_iter().zip([0, 1, 12]) {
            let (told, lost) = follow(reader, entity(), start);
            let is_lost = |seq: &u64| lost.iter().any(|lost| lost.contains(seq));
            for seq in seqs.iter().filter(|seq| **seq > behind) {
                let key = String::from_utf8_lossy(key);
                assert!(
                    told.contains(seq) || is_lost(seq),
                    "{what}: {kind} {key:?} {seq}: {told:?} {lost:?}"
                );
                missing += u32::from(!told.contains(seq));
            }
            assert!(told.iter().all(|seq| seqs.contains(seq)) && told.is_sorted(), "{what}: {told:?}");
        }
    }
    assert!(missing > 10, "{what}: {missing}");
}

#[test]
fn who_follows_an_entity_behind_what_a_reader_could_not_read_is_told_all_that_comes_there() {
    for (what, files, oracle) in both() {
        let reader = reader_without(files.clone(), "0000000001.seg");
        let behind = oracle.certain / 2;
        let mut entities: BTreeMap<(u16, &[u8]), Vec<u64>> = BTreeMap::new();
        for (seq, seen) in oracle.log.range(behind + 1..) {
            entities.entry((seen.kind, &seen.key)).or_default().push(*seq);
        }
        assert!(entities.len() > 10);
        for ((kind, key), seqs) in entities {
            let region = Region::entity(KindId::new(kind).unwrap(), key);
            let told = follow(&reader, region, Start::After(Seq::new(behind).unwrap()));
            assert_eq!(told, (seqs, Vec::new()), "{what}: {kind} {:?}", String::from_utf8_lossy(key));
        }
    }
}

#[test]
fn a_history_over_a_frame_that_is_damaged_in_a_file_without_an_index_is_an_error() {
    let (_, files) = both_long().into_iter().next().unwrap();
    let oracle = Oracle::of(&files, log_of(&files).len() as u64);
    let entry_at = |seq: u64| {
        let journal = options().open_in(&Simulator::with(files.clone())).unwrap();
        let at = journal.view().get(Seq::new(seq).unwrap()).unwrap().unwrap().position();
        (at.segment(), usize::try_from(at.offset()).unwrap())
    };
    let mut refused = 0;
    for (seq, seen) in oracle.log.range(40..oracle.certain - 60).step_by(3) {
        let (segment, offset) = entry_at(*seq);
        let mut damaged = files.clone();
        damaged.remove(&format!("{segment:010}.idx"));
        damaged.get_mut(&format!("{segment:010}.seg")).unwrap()[offset + 70] ^= 1;
        let kind = KindId::new(seen.kind).unwrap();
        let expected =
            oracle.log.values().filter(|other| (other.kind, &other.key) == (seen.kind, &seen.key)).count();
        let disk = Simulator::with(damaged);
        let reader = Reader::open_on(&disk).unwrap();
        let views =
            [Some(reader.view().unwrap()), options().open_in(&disk).ok().map(|journal| journal.view())];
        for view in views.into_iter().flatten() {
            let shown: Result<Vec<_>, _> = view.entity(kind, &seen.key).collect();
            let backward: Result<Vec<_>, _> = view.entity(kind, &seen.key).rev().collect();
            for entries in [shown, backward] {
                match entries {
                    Ok(entries) => assert_eq!(entries.len(), expected, "{seq} is left out of {:?}", seen.key),
                    Err(error) => refused += u32::from(error.is_corruption()),
                }
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn what_was_gone_when_it_was_to_be_opened_is_known_again_by_what_compaction_made_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.esker");
    let journal = options().open(&path).unwrap();
    fill(&journal, 0, 200);
    // The process that writes has everything open, and so can do without the names.
    assert!(journal.view().range(..).all(|entry| entry.is_ok()));
    let kinds = ["note", "vessel", "order"].map(|name| journal.kind(name).unwrap());
    for extension in ["seg", "idx"] {
        let _ = std::fs::remove_file(path.join(format!("0000000003.{extension}")));
    }
    let _ = std::fs::remove_file(path.join("entities"));
    let reader = Reader::open(&path).unwrap();
    let newest = |kind, key: &[u8]| {
        let view = reader.view().unwrap();
        let seq = view.latest(kind, key)?.map(|entry| entry.seq());
        Ok::<_, esker::Error>(seq)
    };
    let keys: Vec<String> =
        (0..10).map(|n| format!("entity-{n}")).chain((0..200).map(|n| format!("once-{n}"))).collect();
    let all = || kinds.iter().flat_map(|kind| keys.iter().map(move |key| (*kind, key.as_bytes())));
    let refused =
        all().filter(|(kind, key)| newest(*kind, key).is_err_and(|error| error.is_corruption())).count();
    assert!(refused > 10, "{refused}");

    kinds.iter().for_each(|kind| journal.keep(*kind, Keep::Latest).unwrap());
    assert!(journal.compact(&CompactOptions::new().thorough(true)).unwrap().entries_dropped > 20);
    for (kind, key) in all() {
        let expected = journal.latest(kind, key).unwrap().map(|entry| entry.seq());
        assert_eq!(newest(kind, key).unwrap(), expected, "{kind} {}", String::from_utf8_lossy(key));
    }
}
