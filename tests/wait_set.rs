//! One thread that waits on many readers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::time::Duration;

use esker::{
    Durability, ErrorKind, Item, Journal, Options, Place, Reading, Record, Region, Simulator,
    SubscribeOptions, Subscriber, Until, WaitKey, WaitSet, WatchOptions, Watcher,
};

const LONG: Option<Duration> = Some(Duration::from_secs(30));

fn key(n: u64) -> [u8; 8] {
    n.to_le_bytes()
}

fn drain(subscriber: &mut Subscriber) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while subscriber.advance().unwrap() {
        let Item::Entry(entry) = subscriber.item() else { panic!("nothing is missed") };
        payloads.push(entry.payload().to_vec());
    }
    payloads
}

#[test]
fn ten_thousand_readers_of_entities_sleep_in_one_thread_and_each_is_woken_for_its_own() {
    const READERS: u64 = 10_000;
    const APPENDS: u64 = 3000;
    let journal = Options::new().durability(Durability::Os).in_memory().unwrap();
    let note = journal.kind("note").unwrap();
    let mut set = WaitSet::new();
    let keys: BTreeMap<WaitKey, u64> = (0..READERS)
        .map(|n| (set.insert(journal.subscribe(Region::entity(note, key(n))).unwrap()), n))
        .collect();
    assert!(set.wait(Some(Duration::ZERO)).is_empty(), "all of them sleep");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..APPENDS {
                let entity = n * 7919 % READERS;
                journal.append(Record::new(note, &key(entity), &key(n))).unwrap();
            }
        });
        let (mut seen, mut named) = (0, 0);
        while seen < APPENDS {
            let ready = set.wait(LONG);
            assert!(!ready.is_empty(), "{seen} of {APPENDS} were seen");
            for ready in ready {
                named += 1;
                for payload in drain(set.get_mut(ready).unwrap()) {
                    let n = u64::from_le_bytes(payload.try_into().unwrap());
                    assert_eq!(n * 7919 % READERS, keys[&ready]);
                    seen += 1;
                }
            }
        }
        // About ten entities share a bit; those who lie there for another are not bothered.
        assert!(named < APPENDS * 20, "{named} readers were named for {APPENDS} entries");
    });
    assert!(set.wait(Some(Duration::ZERO)).is_empty());
}

#[test]
fn who_was_not_read_on_is_named_again_and_who_was_taken_out_is_not() {
    let journal = Journal::in_memory().unwrap();
    let note = journal.kind("note").unwrap();
    let mut set = WaitSet::new();
    let a = set.insert(journal.subscribe(Region::entity(note, b"a")).unwrap());
    let b = set.insert(journal.subscribe(Region::entity(note, b"b")).unwrap());
    // The first sync behind the first reader is for everybody.
    journal.append(Record::new(note, b"c", b"0")).unwrap();
    for key in set.wait(LONG) {
        assert!(drain(set.get_mut(key).unwrap()).is_empty());
    }
    assert_eq!(set.wait(Some(Duration::from_millis(1))), []);
    journal.append(Record::new(note, b"a", b"1")).unwrap();
    assert_eq!(set.wait(LONG), [a]);
    assert_eq!(set.wait(LONG), [a]);
    journal.append(Record::new(note, b"b", b"2")).unwrap();
    assert_eq!(set.wait(LONG), [a, b]);
    assert_eq!(drain(set.get_mut(a).unwrap()), [b"1"]);
    assert_eq!(set.wait(LONG), [b]);
    let mut taken = set.remove(b).unwrap();
    assert!(set.get_mut(b).is_none() && set.remove(b).is_none());
    assert_eq!(set.wait(Some(Duration::ZERO)), []);
    assert_eq!(drain(&mut taken), [b"2"]);
    journal.append(Record::new(note, b"b", b"3")).unwrap();
    assert_eq!(set.wait(Some(Duration::ZERO)), [], "it rings no bell here any more");
    assert_eq!(drain(&mut taken), [b"3"]);
    assert_eq!((set.len(), set.is_empty()), (1, false));
}

#[test]
fn what_is_durable_is_asked_for_and_told_of_behind_its_sync() {
    let disk = Simulator::new();
    let journal = Options::new().durability(Durability::Os).open_in(&disk).unwrap();
    let note = journal.kind("note").unwrap();
    let mut set: WaitSet<Watcher> = WaitSet::new();
    let named = set.insert(journal.watch("named", Region::kind(note)).unwrap());
    let other = set.insert(journal.follow(Region::entity(note, b"other"), WatchOptions::new()).unwrap());
    assert_eq!(set.wait(Some(Duration::ZERO)), []);
    journal.append(Record::new(note, b"k", b"1")).unwrap();
    loop {
        let ready = set.wait(LONG);
        assert!(!ready.is_empty(), "a sleeping reader of what is durable is a request for a sync");
        for key in ready {
            let reader = set.get_mut(key).unwrap();
            if let Some(entry) = reader.try_next().unwrap() {
                assert_eq!((key, entry.payload()), (named, &b"1"[..]));
                assert!(journal.durable() > entry.position());
                assert!(set.get_mut(other).unwrap().try_next().unwrap().is_none());
                return;
            }
        }
    }
}

#[test]
fn an_end_a_failed_disk_and_a_stop_are_all_told() {
    let disk = Simulator::new();
    let journal = Options::new().durability(Durability::Os).background(false).open_in(&disk).unwrap();
    let note = journal.kind("note").unwrap();
    let visible = SubscribeOptions::new().until(Until::Visible);
    let mut set = WaitSet::new();
    let one = set.insert(journal.subscribe_with(Region::all(), visible.clone()).unwrap());
    let two = set.insert(journal.subscribe_with(Region::kind(note), visible).unwrap());
    assert_eq!(set.wait(Some(Duration::ZERO)), []);
    set.get_mut(two).unwrap().stopper().stop();
    assert_eq!(set.wait(LONG), [two]);
    set.remove(two);
    assert_eq!(set.wait(Some(Duration::ZERO)), []);
    std::thread::scope(|scope| {
        let fails = scope.spawn(|| {
            journal.append(Record::new(note, b"k", b"1")).unwrap();
            disk.fail_sync_after(0);
            assert_eq!(journal.sync().unwrap_err().kind(), ErrorKind::Poisoned);
        });
        let told = loop {
            assert_eq!(set.wait(LONG), [one]);
            match set.get_mut(one).unwrap().try_next() {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(told.kind(), ErrorKind::Poisoned);
        fails.join().unwrap();
    });
    let stopper = set.stopper();
    set.remove(one);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| set.wait(None));
        stopper.stop();
        assert_eq!(waits.join().unwrap(), []);
    });
    assert_eq!(set.wait(None), [], "and all later ones");
}

#[test]
fn whoever_has_something_to_read_is_named_until_it_was_read() {
    let journal = Journal::in_memory().unwrap();
    let note = journal.kind("note").unwrap();
    let mut set = WaitSet::new();
    for _ in 0..10 {
        journal.append(Record::new(note, b"a", b"1")).unwrap();
    }
    // What was there before it came counts too.
    let key = set.insert(journal.watch("w", Region::kind(note)).unwrap());
    for n in 0..10 {
        assert_eq!(set.wait(LONG), [key], "{n} of 10 were read");
        assert!(set.get_mut(key).unwrap().try_next().unwrap().is_some());
    }
    assert!(set.get_mut(key).unwrap().try_next().unwrap().is_none());
    assert_eq!(set.wait(Some(Duration::ZERO)), []);
}

#[test]
fn that_nothing_more_will_come_is_said_once() {
    let journal = Journal::in_memory().unwrap();
    let mut set = WaitSet::new();
    let stopped = set.insert(journal.subscribe(Region::all()).unwrap());
    let closed = set.insert(journal.subscribe(Region::all()).unwrap());
    let stopper = set.get_mut(stopped).unwrap().stopper();
    stopper.stop();
    // Also where there was something to read: who was stopped reads no more.
    let note = journal.kind("note").unwrap();
    journal.append(Record::new(note, b"k", b"1")).unwrap();
    assert!(set.wait(LONG).contains(&stopped));
    while set.get_mut(closed).unwrap().advance().unwrap() {}
    assert!(stopper.is_stopped());
    assert_eq!(set.wait(Some(Duration::ZERO)), []);
    journal.close().unwrap();
    assert_eq!(set.wait(LONG), [closed]);
    assert_eq!(set.get_mut(closed).unwrap().try_next().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(set.wait(Some(Duration::ZERO)), []);
}

#[test]
fn a_reader_that_is_put_in_the_place_of_another_is_woken_too() {
    let journal = Journal::in_memory().unwrap();
    let note = journal.kind("note").unwrap();
    let mut set = WaitSet::new();
    let key = set.insert(journal.subscribe(Region::kind(note)).unwrap());
    journal.sync().unwrap();
    assert_eq!(set.wait(Some(Duration::ZERO)), [key], "what was synced since it came is another's");
    *set.get_mut(key).unwrap() = journal.subscribe(Region::kind(note)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| journal.append(Record::new(note, b"a", b"1")).unwrap());
        assert_eq!(set.wait(LONG), [key]);
    });
}

/// Readers of two kinds in one set.
#[allow(clippy::large_enum_variant, reason = "a test holds two of them")]
enum Either {
    Lossy(Subscriber),
    Guaranteed(Watcher),
}

impl Reading for Either {
    fn place(&self) -> Place<'_> {
        match self {
            Self::Lossy(subscriber) => subscriber.place(),
            Self::Guaranteed(watcher) => watcher.place(),
        }
    }
}

#[test]
fn a_set_may_hold_readers_of_several_kinds() {
    let journal = Journal::in_memory().unwrap();
    let note = journal.kind("note").unwrap();
    let mut set = WaitSet::new();
    let lossy = set.insert(Either::Lossy(journal.subscribe(Region::all()).unwrap()));
    let guaranteed = set.insert(Either::Guaranteed(journal.watch("w", Region::all()).unwrap()));
    journal.append(Record::new(note, b"a", b"1")).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        for key in set.wait(LONG) {
            let found = match set.get_mut(key).unwrap() {
                Either::Lossy(subscriber) => subscriber.advance().unwrap(),
                Either::Guaranteed(watcher) => watcher.advance().unwrap(),
            };
            seen.extend(found.then_some(key));
        }
    }
    seen.sort();
    assert_eq!(seen, [lossy, guaranteed]);
}
