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
    // What an erasure writes again, in a copy that has come to its end.
    store.close().unwrap();
    let copied = directory.path().join("copy.esker");
    std::fs::create_dir(&copied).unwrap();
    for file in std::fs::read_dir(&path).unwrap().map(|file| file.unwrap()) {
        std::fs::copy(file.path(), copied.join(file.file_name())).unwrap();
    }
    let (store, copy) = (open(&path), open(&copied));
    assert!(copy.erase(FACTS, ADA).unwrap().erased);
    let kind = copy.journal().kind_named(DEAD_STREAM).unwrap().id;
    let of_mail = Filter::topic(DEAD_STREAM, b"mail");
    let lowest = Local::over(copy.journal()).unwrap().lowest_retained(of_mail).unwrap();
    let view = copy.journal().view();
    let again = view.kind(kind).map(|entry| entry.unwrap()).filter(|entry| entry.key() == b"mail");
    let again = again.filter(|entry| entry.seq().get() >= lowest.raw());
    let again: Vec<Vec<u8>> = again.map(|entry| entry.payload().to_vec()).collect();
    assert_eq!(again.len(), 3);
    // So far it came here: the letters of others stand there twice, and those of the entity before them.
    let plane = Local::over(store.journal()).unwrap();
    for payload in &again {
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
    let halted = until("a halt", || match running.status().state {
        ConsumerState::Halted(halt) => Some(halt.why),
        _ => None,
    });
    assert_eq!(halted, ConsumerHaltReason::Retired);
    let anew = ada.on_event("own", options(), |_| Ok(())).unwrap();
    until_at(&anew, last);
    assert_eq!(ada.consumers().unwrap().len(), 1);
    store.close().unwrap();
}

/// The log goes on in another segment.
fn leave_the_segment(store: &Store) {
    let noise = store.topic(Topic::<String>::new("noise"), "n").unwrap();
    (0..20).for_each(|_| _ = noise.append(&"x".repeat(8 << 10)).unwrap());
}

/// Flips a bit behind the first of some bytes in the log.
fn rot(path: &Path, mark: &[u8], behind: usize) {
    let mut files: Vec<_> = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    for file in files.into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "seg")) {
        let mut bytes = std::fs::read(&file).unwrap();
        if let Some(at) = bytes.windows(mark.len()).position(|found| found == mark) {
            bytes[at + behind] ^= 4;
            return std::fs::write(&file, bytes).unwrap();
        }
    }
    panic!("nothing is found that could rot");
}

#[test]
fn whoever_is_erased_behind_another_goes_too_and_those_that_are_left_keep_their_letters() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let store = open(&path);
    let people = ["ada", "bob", "cyd"].map(|key| (key, format!("of {key} alone")));
    for (key, text) in &people {
        (0..2).for_each(|n| _ = store.topic(PEOPLE, key).unwrap().append(&format!("{text}, {n}")).unwrap());
    }
    run(&store, "mail", options()).close().unwrap();
    run(&store, "call", options().park()).close().unwrap();
    store.close().unwrap();
    for (erased, (key, text)) in people.iter().enumerate() {
        let store = open(&path);
        assert!(store.erase(FACTS, key).unwrap().erased, "{key}");
        assert_eq!(found_in(&path, text), 0);
        let left = people[erased + 1..].iter().flat_map(|(_, text)| [0, 1].map(|n| format!("{text}, {n}")));
        assert_eq!(letters_of(&store, "mail"), left.collect::<Vec<_>>(), "behind {key}");
        assert_eq!(store.journal().verify(Check::Full).unwrap().verdict, Verdict::Valid);
        store.close().unwrap();
    }
}

#[test]
fn what_is_damaged_hides_no_copy_behind_it_and_takes_no_letter_of_another_with_it() {
    for (mark, behind) in [(&b"is_of_all_topics"[..], 0), (b"\xffesker.consumer ", 40)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("people.esker");
        let store = open(&path);
        let append =
            |key, text: &str| _ = store.topic(PEOPLE, key).unwrap().append(&text.to_owned()).unwrap();
        let consume = || {
            run(&store, "mail", options()).close().unwrap();
            run(&store, "call", options().park()).close().unwrap();
            leave_the_segment(&store);
        };
        append("dora", "she is first");
        consume();
        append(ADA, SECRET);
        append(BOB, OTHER);
        consume();
        store.close().unwrap();
        rot(&path, mark, behind);
        let store = open(&path);
        let erasure = store.erase(FACTS, ADA).unwrap();
        // What is damaged stays where it is, and so may what else is in its file: then that is what is said.
        let left = [SECRET, ADA].map(|text| found_in(&path, text));
        assert!(!erasure.erased || left == [0, 0], "{mark:?}: {left:?}, {erasure:?}");
        assert_eq!(erasure.damaged > 0, !erasure.erased, "{mark:?}: {erasure:?}");
        let letters = letters_of(&store, "mail");
        assert_eq!(letters.last().map(|letter| &**letter), Some(OTHER), "{mark:?}");
        store.close().unwrap();
    }
}

#[test]
fn letters_that_are_the_same_stay_as_many_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let store = given_up(&path);
    assert!(store.retire_consumer(PEOPLE, "mail", None).unwrap());
    // Another one of its name gives the same events up, for the same cause.
    let twice = [three_of(OTHER), three_of(OTHER)].concat();
    let of_bob =
        |letters: Vec<String>| letters.into_iter().filter(|of| of.starts_with(OTHER)).collect::<Vec<_>>();
    assert_eq!(of_bob(letters_of(&store, "mail")), twice);
    assert!(store.erase(FACTS, ADA).unwrap().erased);
    assert_eq!(letters_of(&store, "mail"), twice);
    store.close().unwrap();
}

#[test]
fn consumers_of_a_topic_stay_while_its_erasure_is_held_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let store = open(&path);
    let ada = store.topic(PEOPLE, ADA).unwrap();
    let last = ada.append(&SECRET.to_owned()).unwrap();
    let running = ada.on_event("own", options(), |_| Ok(())).unwrap();
    until_at(&running, last);
    drop(store.journal().watch("audit", Region::all()).unwrap());
    assert!(!store.erase(FACTS, ADA).unwrap().erased);
    assert_eq!(ada.consumers().unwrap().len(), 1, "what it has done does not come again");
    assert!(!matches!(running.status().state, ConsumerState::Halted(_)));
    running.close().unwrap();
    store.journal().retire_cursor("audit").unwrap();
    assert!(store.erase(FACTS, ADA).unwrap().erased);
    assert!(ada.consumers().unwrap().is_empty());
    assert_eq!([SECRET, ADA].map(|text| found_in(&path, text)), [0, 0]);
    store.close().unwrap();
}

#[test]
fn a_cell_of_which_what_it_says_last_is_damaged_holds_no_erasure_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let store = open(&path);
    store.topic(PEOPLE, ADA).unwrap().append(&SECRET.to_owned()).unwrap();
    run(&store, "call", options().park()).close().unwrap();
    leave_the_segment(&store);
    let last = store.topic(PEOPLE, BOB).unwrap().append(&OTHER.to_owned()).unwrap();
    let fine = store.on_event(PEOPLE, "call", options(), |_: &Delivery<'_, String>| Ok(())).unwrap();
    until_at(&fine, last);
    fine.close().unwrap();
    let kind = store.journal().kind_named("esker.cells").unwrap().id;
    let view = store.journal().view();
    let newest = view.kind(kind).map(|entry| entry.unwrap()).last().unwrap().payload().to_vec();
    drop(view);
    leave_the_segment(&store);
    store.close().unwrap();
    rot(&path, &newest, 3);
    let store = open(&path);
    let erasure = store.erase(FACTS, ADA).unwrap();
    // It goes through, as far as files with damage can be written anew, and says whether that was all.
    assert!(found_in(&path, SECRET) == 0 || !erasure.erased && erasure.damaged > 0, "{erasure:?}");
    assert!(store.topic(PEOPLE, ADA).unwrap().head().unwrap().raw() == 0);
    store.close().unwrap();
}

#[test]
fn damage_to_an_older_event_of_its_topic_ends_no_consumer_that_tries_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let clock = ManualClock::new();
    let open = || {
        let options = Options::new().segment_bytes(64 << 10).background(false).clock(clock.clone());
        Store::over(options.open(&path).unwrap())
    };
    let store = open();
    let ada = store.topic(PEOPLE, ADA).unwrap();
    let first = ada.append(&"the oldest of all".to_owned()).unwrap();
    let consumer = ada.on_event("own", ConsumerOptions::new(), |_| Ok(())).unwrap();
    until_at(&consumer, first);
    leave_the_segment(&store);
    drop((ada, consumer));
    store.close().unwrap();
    rot(&path, b"the oldest of all", 0);
    let store = open();
    let ada = store.topic(PEOPLE, ADA).unwrap();
    ada.append(&SECRET.to_owned()).unwrap();
    let consumer = ada.on_event("own", ConsumerOptions::new(), fails).unwrap();
    until("a third attempt", || {
        let status = consumer.status();
        assert!(!status.has_ended(), "{status:?}");
        // It may be the pause before that is shown still.
        status.pause.into_iter().for_each(|pause| clock.advance(pause));
        (status.errors >= 3).then_some(())
    });
    store.close().unwrap();
}
