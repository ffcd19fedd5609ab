//! A reader beside a live writer: it follows appends, rotation, clean ends and crashes.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use esker::{Durability, Entry, ErrorKind, Journal, Options, Reader, Record, Seq, Simulator, View};

fn options() -> Options {
    Options::new().segment_bytes(16 << 10).durability(Durability::Os)
}

fn append(journal: &Journal, from: u64, count: u64) {
    let kind = journal.kind("note").unwrap();
    for n in from..from + count {
        let key = format!("k{}", n % 5);
        journal.append(Record::new(kind, key.as_bytes(), &n.to_le_bytes())).unwrap();
    }
}

fn seqs(reader: &Reader) -> Vec<u64> {
    reader.view().unwrap().range(..).map(|entry| entry.unwrap().seq().get()).collect()
}

#[test]
fn there_is_no_entry_behind_all_numbers() {
    let journal = Options::new().in_memory().unwrap();
    let note = journal.kind("note").unwrap();
    journal.append(Record::new(note, b"a", b"1")).unwrap();
    assert!(journal.view().get(Seq::new(u64::MAX).unwrap()).unwrap().is_none());
}

#[test]
fn a_reader_follows_appends_rotation_and_a_writer_that_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.esker");
    let journal = options().open(&path).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert!(seqs(&reader).is_empty());
    let mut total = 0;
    let mut journal = Some(journal);
    for round in 0..6 {
        let writer = journal.take().unwrap_or_else(|| options().open(&path).unwrap());
        for _ in 0..10 {
            append(&writer, total, 60);
            total += 60;
            assert_eq!(seqs(&reader), (1..=total).collect::<Vec<_>>());
        }
        let kind = reader.kind_named("note").unwrap().id;
        let view = reader.view().unwrap();
        let generations: Vec<u64> = view.entity(kind, b"k3").map(|e| e.unwrap().generation().get()).collect();
        assert_eq!(generations, (1..=total / 5).collect::<Vec<_>>(), "round {round}");
        assert_eq!(reader.writer().unwrap().pid, std::process::id());
        writer.close().unwrap();
        assert!(reader.writer().is_none());
    }
    let fresh = Reader::open(&path).unwrap();
    assert_eq!(seqs(&fresh), seqs(&reader));
    assert!(fresh.recovery().clean);
    let newest = fresh.view().unwrap().get(Seq::new(total).unwrap()).unwrap().unwrap().to_owned();
    assert_eq!(newest.payload(), (total - 1).to_le_bytes());
}

/// The word of the lock page that says how far the log is visible.
const VISIBLE_AT: u64 = 512 + 8;

#[test]
fn what_is_durable_is_seen_although_the_writer_has_yet_to_say_that_it_is_visible() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.esker");
    let journal = options().durability(Durability::Sync).open(&path).unwrap();
    append(&journal, 0, 1);
    let page = std::fs::File::options().read(true).write(true).open(path.join("LOCK")).unwrap();
    let mut visible = [0; 8];
    page.read_exact_at(&mut visible, VISIBLE_AT).unwrap();
    append(&journal, 1, 1);
    // The thread that appended waits for the processor, and another one has synced.
    page.write_all_at(&visible, VISIBLE_AT).unwrap();
    assert_eq!(seqs(&Reader::open(&path).unwrap()), [1, 2]);
    journal.close().unwrap();
}

#[test]
fn a_reader_needs_a_store_and_makes_none() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(Reader::open(directory.path()).unwrap_err().kind(), ErrorKind::NotAStore);
    assert_eq!(Reader::open(directory.path().join("x")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

type Files = BTreeMap<String, Vec<u8>>;

const ENTRIES: u64 = 400;

/// A closed store of many segments, and which entries stand in which.
fn many_segments() -> (Files, BTreeMap<u32, BTreeSet<u64>>) {
    let disk = Simulator::new();
    let options = Options::new().segment_bytes(4096).background(false);
    let journal = options.open_in(&disk).unwrap();
    append(&journal, 0, ENTRIES);
    let mut held: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    for entry in journal.view().range(..) {
        let entry = entry.unwrap();
        held.entry(entry.position().segment()).or_default().insert(entry.seq().get());
    }
    journal.close().unwrap();
    assert!(held.len() > 7, "{held:?}");
    (disk.files(), held)
}

/// One bit of the header of a segment is not what it was.
fn with_damaged_header(files: &Files, number: u32) -> Files {
    let mut files = files.clone();
    files.get_mut(&format!("{number:010}.seg")).unwrap()[50] ^= 1;
    files
}

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

/// Scans, and starts another scan behind whatever is damaged. Answers what was served, and what
/// the errors on the way named as lost.
fn around_damage(view: &View, from_back: bool) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut served, mut lost) = (BTreeSet::new(), BTreeSet::new());
    let (mut first, mut last) = (1, ENTRIES);
    while first <= last {
        let mut entries = view.range(seq(first)..=seq(last));
        let mut met = None;
        while let Some(entry) = if from_back { entries.next_back() } else { entries.next() } {
            match entry {
                Ok(entry) => assert!(served.insert(entry.seq().get())),
                Err(error) => met = Some(error),
            }
        }
        let Some(error) = met else { break };
        assert!(error.is_corruption() && error.path().is_some(), "{error}");
        let gone = error.seqs().unwrap();
        assert!(gone.start() <= gone.end() && lost.is_disjoint(&gone.clone().collect()), "{error}");
        if from_back {
            last = gone.start() - 1
        } else {
            first = gone.end() + 1
        }
        lost.extend(gone);
    }
    (served, lost)
}

/// The generations of the entity's entries that come before an error, from one end.
fn until_damage<'v>(entries: impl Iterator<Item = esker::Result<Entry<'v>>>) -> (Vec<u64>, bool) {
    let mut generations = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => generations.push(entry.generation().get()),
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                return (generations, true);
            }
        }
    }
    (generations, false)
}

#[test]
fn beside_a_segment_with_a_damaged_header_a_reader_serves_all_the_others() {
    let (files, held) = many_segments();
    let all: BTreeSet<u64> = (1..=ENTRIES).collect();
    let newest = *held.keys().last().unwrap();
    for (number, gone) in held.iter().filter(|(number, _)| **number != newest) {
        let mut damaged = with_damaged_header(&files, *number);
        let before = format!("{:010}.idx", number - 1);
        for unindexed in ["none", &before, ".idx"] {
            damaged.retain(|name, _| !name.ends_with(unindexed));
            let shown = format!("segment {number}, without index: {unindexed}");
            let reader = Reader::open_on(&Simulator::with(damaged.clone())).unwrap();
            let view = reader.view().unwrap();
            assert_eq!(view.last_seq().unwrap(), Seq::new(ENTRIES), "{shown}");
            for number in &all {
                match view.get(seq(*number)) {
                    Ok(entry) => {
                        assert_eq!(entry.map(|entry| entry.seq().get()), Some(*number), "{shown}");
                        assert!(!gone.contains(number), "{shown}");
                    }
                    Err(error) => {
                        assert!(error.is_corruption() && gone.contains(number), "{shown}: {error}");
                        assert!(error.seqs().unwrap().contains(number), "{shown}: {error}");
                    }
                }
            }
            assert!(view.get(seq(ENTRIES + 1)).unwrap().is_none(), "{shown}");
            for from_back in [false, true] {
                let (served, lost) = around_damage(&view, from_back);
                assert_eq!(lost, *gone, "{shown}");
                assert_eq!(served, all.difference(gone).copied().collect(), "{shown}");
            }
        }
    }
}

#[test]
fn the_history_of_an_entity_is_served_up_to_a_damaged_segment_from_both_ends() {
    let (files, held) = many_segments();
    let newest = *held.keys().last().unwrap();
    for (number, gone) in held.iter().filter(|(number, _)| **number != newest) {
        let disk = Simulator::with(with_damaged_header(&files, *number));
        let reader = Reader::open_on(&disk).unwrap();
        let view = reader.view().unwrap();
        let kind = reader.kind_named("note").unwrap().id;
        // The entity's generation n has the Seq 5n - 1.
        let lost = |generation: &u64| gone.contains(&(5 * generation - 1));
        let all = 1..=ENTRIES / 5;
        let (older, damaged) = until_damage(view.entity(kind, b"k3"));
        assert_eq!(older, all.clone().take_while(|n| !lost(n)).collect::<Vec<_>>(), "segment {number}");
        assert!(damaged);
        let (newer, damaged) = until_damage(view.entity(kind, b"k3").rev());
        assert_eq!(newer, all.rev().take_while(|n| !lost(n)).collect::<Vec<_>>(), "segment {number}");
        assert!(damaged);
        let latest = view.latest(kind, b"k3").map(|latest| latest.unwrap().generation().get());
        assert_eq!(latest.ok(), Some(ENTRIES / 5).filter(|n| !lost(n)), "segment {number}");
    }
}

#[test]
fn a_newest_segment_with_a_damaged_header_is_reported_and_what_validates_of_it_is_served() {
    let (files, held) = many_segments();
    let (newest, its_own) = held.last_key_value().unwrap();
    let disk = Simulator::with(with_damaged_header(&files, *newest));
    let reader = Reader::open_on(&disk).unwrap();
    assert!(reader.recovery().damage.iter().any(|damage| damage.segment == *newest));
    for _ in 0..3 {
        let shown = seqs(&reader);
        assert_eq!(shown, (1..=*its_own.last().unwrap()).collect::<Vec<_>>());
    }
    let behind = reader.wait_behind(reader.refresh().unwrap(), std::time::Duration::ZERO);
    assert!(!behind.unwrap());
}

#[test]
fn a_damaged_entry_is_named_with_its_file_and_the_next_good_one() {
    let (mut files, held) = many_segments();
    let number = *held.keys().nth(2).unwrap();
    let good = Reader::open_on(&Simulator::with(files.clone())).unwrap();
    let place = |number| good.view().unwrap().get(seq(number)).unwrap().unwrap().position();
    let bad = *held[&number].iter().nth(5).unwrap();
    let name = format!("{number:010}.seg");
    files.get_mut(&name).unwrap()[usize::try_from(place(bad).offset()).unwrap() + 60] ^= 1;
    let reader = Reader::open_on(&Simulator::with(files)).unwrap();
    let error = reader.view().unwrap().get(seq(bad)).unwrap_err();
    assert_eq!((error.kind(), error.seqs()), (ErrorKind::Corrupt, Some(bad..=bad)));
    assert!(error.path().unwrap().ends_with(&name), "{error}");
    assert_eq!(error.offset(), Some(place(bad).offset()));
    assert_eq!(error.next_good(), Some(place(bad + 1).offset()));
}

#[test]
fn what_is_reported_of_damage_gives_no_advice() {
    let (files, held) = many_segments();
    let newest = *held.keys().last().unwrap();
    let damaged = with_damaged_header(&files, newest);
    let reader = Reader::open_on(&Simulator::with(damaged.clone())).unwrap();
    let mut texts: Vec<String> = reader.recovery().damage.iter().map(|damage| damage.what.clone()).collect();
    let found = esker::verify_in(&Simulator::with(damaged), esker::Check::Full).unwrap();
    texts.extend(found.findings.iter().map(ToString::to_string));
    assert!(texts.len() > 1);
    assert!(texts.iter().all(|text| !text.contains("run `esker")), "{texts:#?}");
}

#[test]
fn a_pipe_in_the_place_of_a_store_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe.esker");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (told, is_told) = std::sync::mpsc::channel();
    std::thread::spawn(move || told.send(Reader::open(&pipe).map(drop).map_err(|error| error.kind())));
    let opened =
        is_told.recv_timeout(std::time::Duration::from_secs(20)).expect("it waits for a writer of the pipe");
    assert_eq!(opened, Err(ErrorKind::NotADirectory));
}
