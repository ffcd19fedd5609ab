//! What is left of an entity that is erased in what consumers have written of it: nothing, and everything of others.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esker::backplane::{Append, Backplane, DEAD_STREAM, Filter, Local, Stamp, Step, WriterId};
use esker::{
    Check, Consumer, ConsumerHaltReason, ConsumerOptions, ConsumerState, Delivery, Facts, Handled,
    ManualClock, Options, Region, Store, Topic, Verdict,
};

use crate::world::{until, until_at};

const PEOPLE: Topic<String> = Topic::new("person");
const FACTS: Facts<String> = Facts::new("person");
const ADA: &str = "ada.lovelace";
const BOB: &str = "charles.babbage";
const SECRET: &str = "St James's Square 12";
const OTHER: &str = "Dorset Street 1";

fn open(path: &Path) -> Store {
    let options = Options::new().segment_bytes(64 << 10).background(false).clock(ManualClock::new());
    Store::over(options.open(path).unwrap())
}

/// How often some bytes are in the files of a store.
fn found_in(path: &Path, text: &str) -> usize {
    let files = std::fs::read_dir(path).unwrap().map(|file| std::fs::read(file.unwrap().path()));
    let windows = |file: Vec<u8>| file.windows(text.len()).filter(|found| *found == text.as_bytes()).count();
    files.map(|file| windows(file.unwrap_or_default())).sum()
}

fn options() -> ConsumerOptions {
    ConsumerOptions::new().max_attempts(1)
}

/// Fails, and says of what.
fn fails(delivery: &Delivery<'_, String>) -> Handled {
    Err(format!("cannot write to {}", delivery.event).into())
}

/// Lets a consumer of all topics do all there is.
fn run(store: &Store, name: &str, options: ConsumerOptions) -> Consumer {
    let consumer = store.on_event(PEOPLE, name, options, fails).unwrap();
    let filter = Filter::stream(PEOPLE.name());
    until_at(&consumer, store.backplane().unwrap().head(filter).unwrap());
    consumer
}

/// Two people whose events were given up by one consumer, and set aside by another.
fn given_up(path: &Path) -> Store {
    let store = open(path);
    for n in 0..3 {
        for (key, text) in [(ADA, SECRET), (BOB, OTHER)] {
            store.topic(PEOPLE, key).unwrap().append(&format!("{text}, {n}")).unwrap();
        }
    }
    for (name, options) in [("mail", options()), ("call", options().park()), ("gone", options().park())] {
        run(&store, name, options).close().unwrap();
    }
    assert!(store.retire_consumer(PEOPLE, "gone", None).unwrap());
    let ada = store.topic(PEOPLE, ADA).unwrap();
    let own = ada.on_event("own", options(), fails).unwrap();
    until_at(&own, ada.head().unwrap());
    own.close().unwrap();
    store
}

fn texts(letters: &[esker::DeadLetter]) -> Vec<String> {
    let payload = |letter: &esker::DeadLetter| letter.payload.clone().unwrap();
    letters.iter().map(|letter| String::from_utf8(payload(letter)[1..].to_vec()).unwrap()).collect()
}

fn letters_of(store: &Store, name: &str) -> Vec<String> {
    let consumer = run(store, name, options());
    let letters = texts(&consumer.dead_letters().unwrap());
    consumer.close().unwrap();
    letters
}

fn three_of(text: &str) -> [String; 3] {
    [0, 1, 2].map(|n| format!("{text}, {n}"))
}

#[test]
fn an_erasure_takes_what_was_given_up_and_set_aside_of_the_entity_and_leaves_that_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let store = given_up(&path);
    assert!(found_in(&path, SECRET) >= 12 && found_in(&path, ADA) >= 12);
    let erasure = store.erase(FACTS, ADA).unwrap();
    assert!(erasure.erased && erasure.waiting_for.is_empty(), "{erasure:?}");
    assert_eq!([SECRET, ADA].map(|text| found_in(&path, text)), [0, 0]);
    // Nothing of the other went, and it stands in order.
    assert_eq!(letters_of(&store, "mail"), three_of(OTHER));
    let done = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&done);
    let consumer =
        store.on_event(PEOPLE, "call", options().park(), move |delivery: &Delivery<'_, String>| {
            told.lock().unwrap().push(delivery.event.clone());
            Ok(())
        });
    let consumer = consumer.unwrap();
    let parked = consumer.parked().unwrap();
    assert_eq!(parked.iter().map(|of| (&*of.key, of.records)).collect::<Vec<_>>(), [(BOB.as_bytes(), 3)]);
    assert!(consumer.retry(BOB).unwrap());
    until("what was parked", || (done.lock().unwrap().len() == 3).then_some(()));
    until("an end", || consumer.parked().unwrap().is_empty().then_some(()));
    assert_eq!(*done.lock().unwrap(), three_of(OTHER));
    consumer.close().unwrap();
    // Again it does nothing, and neither does it behind a restart.
    assert!(store.erase(FACTS, ADA).unwrap().erased);
    store.close().unwrap();
    let store = open(&path);
    assert_eq!(store.erase(FACTS, ADA).unwrap().entries, 0);
    assert_eq!(letters_of(&store, "mail"), three_of(OTHER));
    assert!(store.topic(PEOPLE, ADA).unwrap().consumers().unwrap().iter().all(|of| of.is_of_all_topics));
    assert_eq!(store.journal().verify(Check::Full).unwrap().verdict, Verdict::Valid);
    store.close().unwrap();
}

#[test]
fn letters_that_stand_beside_erased_ones_are_told_once_while_the_erasure_is_held_back_and_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let store = given_up(&path);
    let holding = store.journal().watch("audit", Region::all()).unwrap();
    drop(holding);
    let erasure = store.erase(FACTS, ADA).unwrap();
    assert!(!erasure.erased && format!("{:?}", erasure.waiting_for).contains("audit"), "{erasure:?}");
    assert_eq!(letters_of(&store, "mail"), three_of(OTHER));
    // The process ends, and the one behind it is not held back.
    store.close().unwrap();
    let store = open(&path);
    assert!(!store.erase(FACTS, ADA).unwrap().erased);
    assert_eq!(letters_of(&store, "mail"), three_of(OTHER));
    store.journal().retire_cursor("audit").unwrap();
    assert!(store.erase(FACTS, ADA).unwrap().erased);
    assert_eq!([SECRET, ADA].map(|text| found_in(&path, text)), [0, 0]);
    assert_eq!(letters_of(&store, "mail"), three_of(OTHER));
    store.close().unwrap();
}

#[test]
fn an_erasure_that_ended_when_letters_were_written_again_leaves_each_once_when_it_is_done_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let store = given_up(&path);
    // So far it came: the letters of others stand there twice, and those of the entity before them.
    let plane = Local::over(store.journal()).unwrap();
    let kind = store.journal().kind_named(DEAD_STREAM).unwrap().id;
    let view = store.journal().view();
    let all: Vec<Vec<u8>> =
        view.entity(kind, b"mail").map(|entry| entry.unwrap().payload().to_vec()).collect();
    let of_bob = |payload: &&Vec<u8>| payload.windows(BOB.len()).any(|found| found == BOB.as_bytes());
    for payload in all.iter().filter(of_bob) {
        let stamp = Stamp::new(WriterId::random().unwrap(), 1);
        plane.commit(&[Step::Append(Append::new(DEAD_STREAM, b"mail", payload, stamp))]).unwrap();
    }
    assert_eq!(letters_of(&store, "mail").len(), 9);
    assert!(store.erase(FACTS, ADA).unwrap().erased);
    assert_eq!([SECRET, ADA].map(|text| found_in(&path, text)), [0, 0]);
    assert_eq!(letters_of(&store, "mail"), three_of(OTHER));
    store.close().unwrap();
}

#[test]
fn a_consumer_that_stands_before_an_event_that_is_erased_goes_on_without_it_and_copies_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let clock = ManualClock::new();
    let options = Options::new().segment_bytes(64 << 10).background(false).clock(clock.clone());
    let store = Store::over(options.open(&path).unwrap());
    store.topic(PEOPLE, ADA).unwrap().append(&SECRET.to_owned()).unwrap();
    let last = store.topic(PEOPLE, BOB).unwrap().append(&OTHER.to_owned()).unwrap();
    let consumer = store.on_event(PEOPLE, "mail", ConsumerOptions::new().max_attempts(2), fails).unwrap();
    until("a failure", || (consumer.status().stuck == 1).then_some(()));
    let pause = until("a pause", || consumer.status().pause);
    assert!(store.erase(FACTS, ADA).unwrap().erased);
    assert_eq!([SECRET, ADA].map(|text| found_in(&path, text)), [0, 0]);
    clock.advance(pause);
    until("the other one", || {
        clock.advance(Duration::from_secs(1));
        (consumer.status().committed >= last).then_some(())
    });
    assert_eq!(texts(&consumer.dead_letters().unwrap()), [OTHER]);
    assert_eq!([SECRET, ADA].map(|text| found_in(&path, text)), [0, 0]);
    store.close().unwrap();
}

#[test]
fn a_consumer_of_a_topic_that_is_erased_is_retired_with_it_and_its_name_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let store = open(&path);
    let ada = store.topic(PEOPLE, ADA).unwrap();
    ada.append(&SECRET.to_owned()).unwrap();
    let running = ada.on_event("own", options(), |_| Ok(())).unwrap();
    until_at(&running, ada.head().unwrap());
    assert!(store.erase(FACTS, ADA).unwrap().erased);
    assert_eq!(found_in(&path, ADA), 0);
    let last = ada.append(&"back".to_owned()).unwrap();
    until("a halt", || match running.status().state {
        ConsumerState::Halted(halt) => Some(assert_eq!(halt.why, ConsumerHaltReason::Retired)),
        _ => None,
    });
    let anew = ada.on_event("own", options(), |_| Ok(())).unwrap();
    until_at(&anew, last);
    assert_eq!(ada.consumers().unwrap().len(), 1);
    store.close().unwrap();
}
