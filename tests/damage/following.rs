//! What is damaged, or goes missing, while somebody has the store open: it is told once, and what stands behind it is shown.

use std::path::{Path, PathBuf};

use esker::{
    Durability, Error, Journal, KindId, Options, Reader, Record, Region, Seq, Start, SubscribeOptions,
};

use super::behind::{drain, told};

fn options() -> Options {
    Options::new().segment_bytes(4096).background(false).durability(Durability::Os)
}

/// A store that somebody writes, and its kind.
struct Live {
    directory: tempfile::TempDir,
    journal: Journal,
    note: KindId,
}

impl Live {
    fn new() -> Self {
        Self::with(options())
    }

    fn with(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = options.open(directory.path().join("store")).unwrap();
        let note = journal.kind("note").unwrap();
        Self { directory, journal, note }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Appends an entry, and answers in which segment it stands.
    fn say(&self) -> (Seq, u32, u64) {
        let receipt = self.journal.append(Record::new(self.note, b"k", &[7; 100])).unwrap();
        let at = self.journal.view().get(receipt.seq).unwrap().unwrap().position();
        (receipt.seq, at.segment(), at.offset())
    }

    /// Appends until the writer has come to a segment.
    fn say_until(&self, segment: u32) {
        while self.say().1 < segment {}
    }

    fn last(&self) -> u64 {
        self.journal.view().last_seq().unwrap().unwrap().get()
    }
}

fn file(path: &Path, segment: u32) -> PathBuf {
    path.join(format!("{segment:010}.seg"))
}

/// One bit of a file is not what it was. The file stays the same one: somebody may have it mapped.
fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// Each Seq up to the last is told of, in order, and once; of damage in one place one error speaks.
fn each_is_told_once(what: &str, told: &[Result<u64, Error>], (first, last): (u64, u64), errors: usize) {
    let mut next = first;
    for told in told {
        match told {
            Ok(seq) => assert_eq!(*seq, next, "{what}"),
            Err(error) => {
                assert!(error.is_corruption(), "{what}: {error}");
                let lost = error.seqs().unwrap_or_else(|| panic!("{what}: nobody can go on behind: {error}"));
                assert_eq!(*lost.start(), next, "{what}: {error}");
                next = *lost.end();
            }
        }
        next += 1;
    }
    assert_eq!(next, last + 1, "{what}: {told:?}");
    assert_eq!(told.iter().filter(|told| told.is_err()).count(), errors, "{what}: {told:?}");
}

/// What damages a file of the log that a reader has come to: it is given the path, and the reader stands in `here`.
type Damages = fn(&Live) -> u32;

#[test]
fn who_follows_beside_a_writer_goes_on_behind_what_is_damaged_before_he_comes_to_it() {
    let cases: [(&str, Damages); 4] = [
        ("a frame in the segment that is followed", |live| {
            let (_, segment, offset) = live.say();
            flip(&file(&live.path(), segment), offset + 20);
            segment
        }),
        ("the header of the next segment", |live| {
            let here = live.say().1;
            live.say_until(here + 1);
            flip(&file(&live.path(), here + 1), 40);
            here + 1
        }),
        ("the file of the next segment", |live| {
            let here = live.say().1;
            live.say_until(here + 2);
            std::fs::remove_file(file(&live.path(), here + 1)).unwrap();
            let _ = std::fs::remove_file(file(&live.path(), here + 1).with_extension("idx"));
            here + 1
        }),
        ("a frame and the header behind it", |live| {
            let (_, segment, offset) = live.say();
            flip(&file(&live.path(), segment), offset + 20);
            live.say_until(segment + 1);
            flip(&file(&live.path(), segment + 1), 40);
            segment + 1
        }),
    ];
    for (what, damage) in cases {
        let live = Live::new();
        live.say_until(2);
        let reader = Reader::open(live.path()).unwrap();
        let region = Region::kind(live.note);
        let from = |start| reader.subscribe(region.clone(), SubscribeOptions::new().from(start)).unwrap();
        let mut all = from(Start::Oldest);
        let came = live.last();
        each_is_told_once(what, &drain(&mut all), (1, came), 0);
        live.say();
        let damaged = damage(&live);
        live.say_until(damaged + 1);
        (0..5).for_each(|_| _ = live.say());
        let more = drain(&mut all);
        each_is_told_once(what, &more, (came + 1, live.last()), 1);
        if what == "a frame in the segment that is followed" {
            let lost = more.iter().find_map(|told| told.as_ref().err()?.seqs()).unwrap();
            assert_eq!(lost.end(), lost.start(), "{what}: nothing else is lost");
        }
        // And it stays so.
        let before = live.last();
        live.say_until(damaged + 3);
        each_is_told_once(what, &drain(&mut all), (before + 1, live.last()), 0);
        let view = reader.view().unwrap();
        assert_eq!(view.last_seq().unwrap().unwrap().get(), live.last(), "{what}");
        let newest = view.latest(live.note, b"k").unwrap().unwrap().seq().get();
        assert_eq!(newest, live.last(), "{what}");
        each_is_told_once(what, &told(&reader, region.clone(), Start::Oldest), (1, live.last()), 1);
        // Whoever opens it anew is told the same; and of frames that validate without their header he is told nothing else.
        let anew = Reader::open(live.path()).unwrap();
        let errors = usize::from(what != "the header of the next segment");
        each_is_told_once(what, &told(&anew, region, Start::Oldest), (1, live.last()), errors);
    }
}

/// Until the machine is started anew the last writer's word counts: what it had synced is of the log.
#[test]
fn who_follows_goes_on_behind_what_is_damaged_also_when_the_writer_has_gone() {
    let live = Live::new();
    live.say_until(2);
    let reader = Reader::open(live.path()).unwrap();
    let options = SubscribeOptions::new().from(Start::Oldest);
    let mut all = reader.subscribe(Region::kind(live.note), options).unwrap();
    let came = live.last();
    each_is_told_once("before", &drain(&mut all), (1, came), 0);
    let here = live.say().1;
    live.say_until(here + 3);
    flip(&file(&live.path(), here + 1), 40);
    let last = live.last();
    live.journal.close().unwrap();
    each_is_told_once("behind the close", &drain(&mut all), (came + 1, last), 1);
}

#[test]
fn a_segment_that_goes_missing_before_it_is_looked_into_is_told_with_what_was_in_it() {
    let live = Live::new();
    live.say();
    let mut watcher = live.journal.watch("far", Region::all()).unwrap();
    assert!(watcher.try_next().unwrap().is_some());
    watcher.checkpoint().unwrap();
    drop(watcher);
    live.say_until(6);
    let in_third: Vec<u64> = (live.journal.view().range(..).map(Result::unwrap))
        .filter(|entry| entry.position().segment() == 3)
        .map(|entry| entry.seq().get())
        .collect();
    let last = live.last();
    live.journal.close().unwrap();
    assert!(live.path().join("entities").exists(), "what it covers is not opened");
    let names = ["seg", "idx"].map(|extension| file(&live.path(), 3).with_extension(extension));
    let bytes = names.clone().map(|name| std::fs::read(name).unwrap());
    let gone = || names.iter().for_each(|name| std::fs::remove_file(name).unwrap());
    let reader = Reader::open(live.path()).unwrap();
    gone();
    let view = reader.view().unwrap();
    let error = view.get(Seq::new(in_third[1]).unwrap()).unwrap_err();
    assert!(error.is_corruption(), "{error}");
    assert_eq!(error.seqs(), Some(in_third[0]..=*in_third.last().unwrap()), "{error}");
    each_is_told_once("a reader", &told(&reader, Region::all(), Start::Oldest), (1, last), 1);
    let [cursor] = &reader.cursors().unwrap()[..] else { panic!("one cursor") };
    assert_eq!(cursor.damaged, in_third.len() as u64, "{cursor:?}");
    names.iter().zip(&bytes).for_each(|(name, bytes)| std::fs::write(name, bytes).unwrap());
    let journal = options().open(live.path()).unwrap();
    gone();
    let error = journal.view().get(Seq::new(in_third[1]).unwrap()).unwrap_err();
    assert!(error.is_corruption() && error.seqs().is_some(), "{error}");
    let from = SubscribeOptions::new().from(Start::Oldest);
    let mut subscriber = journal.subscribe_with(Region::all(), from).unwrap();
    each_is_told_once("a journal", &drain(&mut subscriber), (1, last), 1);
}

/// Where the writer has a segment in hand, it says how far that is durable.
#[test]
fn who_follows_goes_on_behind_damage_in_the_segment_that_the_writer_is_in() {
    for closes in [false, true] {
        let live = Live::with(options().durability(Durability::Sync));
        live.say_until(2);
        let reader = Reader::open(live.path()).unwrap();
        let from =
            |start| reader.subscribe(Region::kind(live.note), SubscribeOptions::new().from(start)).unwrap();
        let mut all = from(Start::Oldest);
        let came = live.last();
        each_is_told_once("before", &drain(&mut all), (1, came), 0);
        let (seq, segment, offset) = live.say();
        // The second frame of a batch takes all of it.
        let mut batch = live.journal.batch();
        (0..3).for_each(|_| _ = batch.push(Record::new(live.note, b"k", &[8; 100])));
        let receipts = batch.commit().unwrap().receipts;
        let in_batch = live.journal.view().get(receipts[1].seq).unwrap().unwrap().position();
        assert_eq!([live.say().1, in_batch.segment()], [segment; 2]);
        let last = live.last();
        assert_eq!(last, came + 5);
        flip(&file(&live.path(), segment), offset + 20);
        flip(&file(&live.path(), segment), in_batch.offset() + 20);
        if closes {
            live.journal.close().unwrap();
        }
        let what = format!("closed: {closes}");
        let more = drain(&mut all);
        each_is_told_once(&what, &more, (came + 1, last), 4);
        assert_eq!(more[0].as_ref().unwrap_err().seqs(), Some(seq.get()..=seq.get()), "{more:?}");
        assert!(drain(&mut all).is_empty(), "{what}: again");
        let view = reader.view().unwrap();
        assert_eq!(view.latest(live.note, b"k").unwrap().unwrap().seq().get(), last, "{what}");
        assert!(view.entity(live.note, b"k").any(|entry| entry.is_err()), "{what}: a history without a hole");
        let anew = Reader::open(live.path()).unwrap();
        // An index says of each frame where it stands.
        for (reader, errors) in [(&reader, 4), (&anew, if closes { 2 } else { 4 })] {
            let told = told(reader, Region::kind(live.note), Start::Oldest);
            each_is_told_once(&what, &told, (1, last), errors);
        }
    }
}

/// Nothing says yet how much it is: that is told once, and with what comes behind it, what it was.
#[test]
fn who_follows_is_told_that_the_last_entry_is_damaged_before_and_behind_the_next_one() {
    for next in ["an entry", "a close", "the next segment"] {
        let live = Live::with(options().durability(Durability::Sync));
        live.say_until(2);
        let reader = Reader::open(live.path()).unwrap();
        let from = SubscribeOptions::new().from(Start::Oldest);
        let mut all = reader.subscribe(Region::all(), from).unwrap();
        let came = live.last();
        each_is_told_once("before", &drain(&mut all), (1, came), 0);
        let (seq, segment, offset) = live.say();
        flip(&file(&live.path(), segment), offset + 20);
        let told_so = drain(&mut all);
        assert!(matches!(&told_so[..], [Err(error)] if error.is_corruption()), "{next}: {told_so:?}");
        assert!(drain(&mut all).is_empty(), "{next}: again");
        let anew = Reader::open(live.path()).unwrap();
        let told_so = told(&anew, Region::all(), Start::Oldest);
        assert_eq!(told_so.iter().filter(|told| told.is_err()).count(), 1, "{next}: {told_so:?}");
        match next {
            "an entry" => _ = live.say(),
            "the next segment" => live.say_until(segment + 1),
            _ => {}
        }
        let last = live.last();
        if next == "a close" {
            live.journal.close().unwrap();
        }
        let more = drain(&mut all);
        each_is_told_once(next, &more, (seq.get(), last), 1);
        assert_eq!(more[0].as_ref().unwrap_err().seqs(), Some(seq.get()..=seq.get()), "{next}: {more:?}");
        for reader in [&reader, &anew] {
            each_is_told_once(next, &told(reader, Region::all(), Start::Oldest), (1, last), 1);
        }
    }
}

/// Whoever had come to the end before something was missing there is told as well.
#[test]
fn who_stands_at_the_end_is_told_of_what_goes_missing_there() {
    for region in [Region::all(), Region::kind(KindId::new(1).unwrap())] {
        let live = Live::new();
        live.say_until(2);
        let reader = Reader::open(live.path()).unwrap();
        let from = SubscribeOptions::new().from(Start::Oldest);
        let mut all = reader.subscribe(region.clone(), from).unwrap();
        // The last entry that a segment has room for, with nothing but system frames behind it.
        let mut watcher = live.journal.watch("far", Region::all()).unwrap();
        let (mut seq, mut segment, mut offset) = live.say();
        while offset < 3300 {
            (seq, segment, offset) = live.say();
        }
        let came = seq.get();
        each_is_told_once("before", &drain(&mut all), (1, came), 0);
        let (lost, here, offset) = live.say();
        assert_eq!(here, segment);
        flip(&file(&live.path(), here), offset + 20);
        while !file(&live.path(), here + 1).exists() {
            assert!(watcher.try_next().unwrap().is_some());
            watcher.checkpoint().unwrap();
        }
        let told = drain(&mut all);
        each_is_told_once("at the end", &told, (lost.get(), lost.get()), 1);
        assert!(drain(&mut all).is_empty());
    }
}
