//! Following a store from another process: the same readers over a `Reader`, which nobody wakes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::time::Duration;

use esker::{
    Durability, ErrorKind, Item, Journal, KindId, Lag, Options, Reader, Record, Region, Seq, Start,
    SubscribeOptions, Until, WaitSet, WatchOptions,
};

const LONG: Duration = Duration::from_secs(30);

fn options() -> Options {
    Options::new().segment_bytes(4096).durability(Durability::Os)
}

fn say(journal: &Journal, kind: KindId, key: &[u8], n: u64) {
    journal.append(Record::new(kind, key, &n.to_le_bytes())).unwrap();
}

fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload.try_into().unwrap())
}

#[test]
fn both_readers_see_every_entry_of_their_region_over_rotations_and_lives() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let journal = options().open(&path).unwrap();
    let (note, other) = (journal.kind("note").unwrap(), journal.kind("other").unwrap());
    say(&journal, note, b"a", 0);
    let reader = Reader::open(&path).unwrap();
    let mut all = reader.follow(Region::all(), WatchOptions::new().until(Until::Visible)).unwrap();
    let mut kind = reader.subscribe(Region::kind(note), SubscribeOptions::new()).unwrap();
    let oldest = SubscribeOptions::new().from(Start::Oldest);
    let mut entity = reader.subscribe(Region::entity(note, b"a"), oldest).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..300 {
                say(&journal, if n % 3 == 0 { note } else { other }, if n % 2 == 0 { b"a" } else { b"b" }, n);
            }
            journal.close().unwrap();
            // The next writer: the readers just go on.
            let journal = options().open(&path).unwrap();
            for n in 300..400 {
                say(&journal, if n % 3 == 0 { note } else { other }, if n % 2 == 0 { b"a" } else { b"b" }, n);
            }
        });
        scope.spawn(|| {
            for n in 0..400 {
                assert_eq!(number(all.next_timeout(LONG).unwrap().unwrap().payload()), n);
            }
        });
        scope.spawn(|| {
            for n in (3..400).step_by(3) {
                let Some(Item::Entry(entry)) = kind.next_timeout(LONG).unwrap() else { panic!("entry {n}") };
                assert_eq!(number(entry.payload()), n);
            }
        });
        scope.spawn(|| {
            for n in (0..400).step_by(6) {
                let Some(Item::Entry(entry)) = entity.next_timeout(LONG).unwrap() else {
                    panic!("entry {n}")
                };
                assert_eq!(number(entry.payload()), n);
            }
        });
    });
    assert_eq!(all.name(), None);
    assert_eq!(all.checkpoint().unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_lossy_one_is_told_exactly_what_it_missed_here_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let journal = options().open(&path).unwrap();
    let note = journal.kind("note").unwrap();
    let reader = Reader::open(&path).unwrap();
    let mut skips = reader.subscribe(Region::all(), SubscribeOptions::new().capacity(2)).unwrap();
    let strict = SubscribeOptions::new().capacity(2).on_lag(Lag::Disconnect);
    let mut strict = reader.subscribe(Region::all(), strict).unwrap();
    (0..5).for_each(|n| say(&journal, note, b"k", n));
    let Some(Item::Missed(missed)) = skips.try_next().unwrap() else { panic!("three are missed") };
    assert_eq!((missed.from.get(), missed.to.get(), missed.count), (1, 3, 3));
    assert!(matches!(skips.try_next().unwrap(), Some(Item::Entry(_))));
    assert_eq!(strict.try_next().unwrap_err().kind(), ErrorKind::Lagged);
}

#[test]
fn what_is_durable_is_what_a_writer_that_lives_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let journal = options().background(false).open(&path).unwrap();
    let note = journal.kind("note").unwrap();
    let reader = Reader::open(&path).unwrap();
    let mut durable = reader.follow(Region::all(), WatchOptions::new()).unwrap();
    let mut visible = reader.follow(Region::all(), WatchOptions::new().until(Until::Visible)).unwrap();
    say(&journal, note, b"k", 1);
    assert!(visible.try_next().unwrap().is_some());
    assert!(durable.try_next().unwrap().is_none());
    journal.sync().unwrap();
    assert!(durable.try_next().unwrap().is_some());
}

#[test]
fn a_wait_ends_with_its_time_or_a_stop_and_a_set_looks_again_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let journal = options().open(&path).unwrap();
    let note = journal.kind("note").unwrap();
    let reader = Reader::open(&path).unwrap();
    let mut subscriber = reader.subscribe(Region::all(), SubscribeOptions::new()).unwrap();
    assert!(subscriber.next_timeout(Duration::from_millis(3)).unwrap().is_none());
    let stopper = subscriber.stopper();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| subscriber.next().unwrap().is_none());
        stopper.stop();
        assert!(waits.join().unwrap());
    });
    let mut set = WaitSet::new();
    let mine = set.insert(reader.subscribe(Region::all(), SubscribeOptions::new()).unwrap());
    let woken = set.insert(journal.subscribe(Region::all()).unwrap());
    assert_eq!(set.wait(Some(Duration::from_millis(3))), []);
    std::thread::scope(|scope| {
        scope.spawn(|| say(&journal, note, b"k", 1));
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let ready = set.wait(Some(LONG));
            assert!(!ready.is_empty());
            for key in ready {
                let reader = set.get_mut(key).unwrap();
                while reader.advance().unwrap() {
                    seen.push(key);
                }
            }
        }
        seen.sort();
        assert_eq!(seen, [mine, woken]);
    });
    assert_eq!(set.wait(Some(Duration::from_millis(3))), []);
}

#[test]
fn cursors_are_listed_from_another_process_with_what_they_have_not_seen() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let journal = options().background(false).open(&path).unwrap();
    let note = journal.kind("note").unwrap();
    let reader = Reader::open(&path).unwrap();
    assert!(reader.cursors().unwrap().is_empty());
    let mut watcher = journal.watch("audit", Region::kind(note)).unwrap();
    (0..40).for_each(|n| say(&journal, note, b"k", n));
    journal.sync().unwrap();
    for _ in 0..15 {
        watcher.try_next().unwrap().unwrap();
    }
    watcher.checkpoint().unwrap();
    let (theirs, ours) = (reader.cursors().unwrap(), journal.cursors().unwrap());
    assert_eq!((theirs[0].behind, theirs[0].next.map(u64::from)), (25, Some(16)));
    assert_eq!(theirs[0].held_bytes, ours[0].held_bytes);
    assert_eq!((theirs[0].held, ours[0].held), (false, true));
}

#[test]
fn a_place_to_begin_is_found_also_where_nobody_says_what_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let journal = options().open(&path).unwrap();
    let note = journal.kind("note").unwrap();
    (0..5).for_each(|n| say(&journal, note, b"k", n));
    journal.close().unwrap();
    let reader = Reader::open(&path).unwrap();
    let third = Seq::new(3).unwrap();
    let follow = |start| reader.follow(Region::all(), WatchOptions::new().from(start)).unwrap();
    let (mut newest, mut after) = (follow(Start::Newest), follow(Start::After(third)));
    let journal = options().open(&path).unwrap();
    say(&journal, note, b"k", 5);
    journal.sync().unwrap();
    assert_eq!(number(newest.next_timeout(LONG).unwrap().unwrap().payload()), 5);
    assert_eq!(number(after.next_timeout(LONG).unwrap().unwrap().payload()), 3);
}

#[test]
fn damage_in_what_a_cursor_has_not_seen_is_counted_and_hides_no_cursor() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let journal = options().background(false).open(&path).unwrap();
    let (note, other) = (journal.kind("note").unwrap(), journal.kind("other").unwrap());
    let regions = [
        ("all", Region::All),
        ("kind", Region::kind(note)),
        ("entity", Region::entity(note, b"k")),
        ("prefix", Region::prefix(note, b"k")),
        ("elsewhere", Region::kind(other)),
    ];
    for (name, region) in &regions {
        drop(journal.watch(name, region.clone()).unwrap());
        journal.reset_cursor(name, Start::Oldest).unwrap();
    }
    (0..600).for_each(|n| say(&journal, note, b"k", n));
    say(&journal, other, b"k", 600);
    journal.reset_cursor("kind", Start::After(Seq::new(100).unwrap())).unwrap();
    journal.close().unwrap();
    let flip = |segment: u32, offset: u64| {
        let file = path.join(format!("{segment:010}.seg"));
        let file = std::fs::File::options().read(true).write(true).open(file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0xff], offset).unwrap();
    };
    let place = |seq| {
        let view = Reader::open(&path).unwrap().view().unwrap();
        view.get(Seq::new(seq).unwrap()).unwrap().unwrap().position()
    };
    let (first, second) = (place(50), place(300));
    assert!(first.segment() > 1 && first.segment() != second.segment(), "{first} {second}");
    flip(first.segment(), first.offset() + 66);
    let counts = |name: &str| {
        let cursors = Reader::open(&path).unwrap().cursors().unwrap();
        let cursor = cursors.into_iter().find(|cursor| cursor.name == name).unwrap();
        (cursor.behind, cursor.damaged, cursor.held_bytes)
    };
    let held = counts("all").2;
    for name in ["all", "entity", "prefix"] {
        let there = if name == "all" { 600 } else { 599 };
        assert_eq!(counts(name), (there, 1, held), "{name}");
    }
    assert_eq!(counts("elsewhere").0, 1);
    assert_eq!((counts("kind").0, counts("kind").1), (500, 0), "it has seen what is damaged");
    // The header of a whole segment.
    let view = Reader::open(&path).unwrap().view().unwrap();
    let entries = view.range(Seq::new(101).unwrap()..).map(|entry| entry.unwrap().position().segment());
    let lost = entries.filter(|segment| *segment == second.segment()).count();
    flip(second.segment(), 50);
    for name in ["all", "kind", "prefix"] {
        let (behind, damaged, bytes) = counts(name);
        let readable = u64::from(name == "all") + 600 - if name == "kind" { 100 } else { 1 };
        assert_eq!(behind, readable - lost as u64, "{name}");
        assert_eq!(damaged, lost as u64 + u64::from(name != "kind"), "{name}");
        assert!(bytes > 0 && bytes < held, "{name}");
    }
    let (behind, damaged, _) = counts("entity");
    assert!(behind < 599 && damaged > 1, "{behind} {damaged}");
}
