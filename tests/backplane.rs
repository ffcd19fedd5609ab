//! What the backplane over a journal promises beyond the contract that all have: where things are in the log, and what
//! becomes of them in compaction, repair and export.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use esker::backplane::{
    Append, Backplane, Broadcast, Compactor, Feed, Filter, InMemory, Local, Offset, Put, Revision, Stamp,
    Step, WriterId,
};
use esker::{
    BackupBy, Check, CompactOptions, Durability, ErrorKind, Expect, Facts, Journal, Keep, Options, Record,
    Region, Store, Verdict,
};

const ME: WriterId = WriterId::from_raw(7);

fn append<'a>(key: &'a [u8], n: u64, payload: &'a [u8]) -> Step<'a> {
    Step::Append(Append::new("order", key, payload, Stamp::new(ME, n)))
}

fn put<'a>(cell: &'a [u8], n: u64, revision: u64, value: Option<&'a [u8]>) -> Step<'a> {
    Step::Put(Put::new(cell, Revision::from_raw(revision), value, Stamp::new(ME, n)))
}

fn rest(feed: &mut dyn Feed) -> Vec<(u64, Vec<u8>)> {
    let next = || feed.try_next().unwrap().map(|record| (record.offset().raw(), record.payload().to_vec()));
    std::iter::from_fn(next).collect()
}

fn small() -> Options {
    Options::new().segment_bytes(4096).background(false)
}

#[test]
fn records_are_facts_and_what_a_journal_appends_is_delivered_too() {
    let journal = Journal::in_memory().unwrap();
    let plane = Local::over(&journal).unwrap();
    let done = plane.commit(&[append(b"a", 1, b"one")]).unwrap();
    let order = journal.kind_named("order").unwrap().id;
    let entry = journal.latest(order, b"a").unwrap().unwrap();
    assert_eq!(entry.payload(), b"one");
    assert_eq!(done.offset(0).unwrap().raw(), entry.seq().get());

    let seq = journal.append(Record::new(order, b"a", b"two")).unwrap().seq;
    let mut feed = plane.subscribe(Filter::topic("order", b"a"), Offset::BEGINNING).unwrap();
    assert_eq!(feed.try_next().unwrap().unwrap().stamp(), Some(Stamp::new(ME, 1)));
    let second = feed.try_next().unwrap().unwrap();
    assert_eq!((second.offset().raw(), second.stamp()), (seq.get(), None));

    // Cells and floors are no doors for others.
    plane.commit(&[put(b"c", 1, 0, Some(b"v"))]).unwrap();
    let cells = journal.kind_named("esker.cells").unwrap().id;
    let refused = journal.append(Record::new(cells, b"c", b"x")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::OwnedByState);
}

/// Who tries again behind a conflict, with what is there, comes through, however long the disk takes.
#[test]
fn what_was_in_the_way_of_a_commit_is_told_behind_the_conflict() {
    let journal = small().durability(Durability::Sync).in_memory().unwrap();
    let plane = Local::over(&journal).unwrap();
    let first = plane.commit(&[put(b"c", 1, 0, Some(b"one"))]).unwrap().revision(0).unwrap();
    // It has its place, and nobody has waited for the disk.
    let second = plane.commit_nowait(&[put(b"c", 2, first.raw(), Some(b"two"))]).unwrap();
    assert!(!second.is_durable() && plane.load(b"c").unwrap().revision == first);
    let refused = plane.commit(&[put(b"c", 3, first.raw(), Some(b"three"))]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    let known = plane.load(b"c").unwrap();
    assert_eq!(known.bytes.as_deref(), Some(&b"two"[..]));
    plane.commit(&[put(b"c", 4, known.revision.raw(), Some(b"four"))]).unwrap();
}

#[test]
fn a_commit_is_one_batch() {
    let journal = Journal::in_memory().unwrap();
    let plane = Local::over(&journal).unwrap();
    plane.commit(&[append(b"a", 1, b"one"), append(b"b", 1, b"two"), put(b"c", 1, 0, Some(b"v"))]).unwrap();
    let more: Vec<bool> = journal.view().range(..).map(|entry| entry.unwrap().has_more()).collect();
    assert_eq!(more, [true, true, false]);
    let before = journal.stats().entries;
    let refused = plane.commit(&[append(b"a", 2, b"three"), put(b"c", 2, 7, Some(b"w"))]).unwrap_err();
    assert_eq!((refused.kind(), refused.actual_generation()), (ErrorKind::Conflict, Some(1)), "{refused}");
    assert_eq!(journal.stats().entries, before);
}

#[test]
fn a_typed_store_reads_the_same_topics() {
    const NOTES: Facts<String> = Facts::new("note");
    let store = Store::in_memory().unwrap();
    store.append(NOTES, "a", &"hello".to_owned()).unwrap();
    let plane = Local::over(store.journal()).unwrap();
    let mut feed = plane.subscribe(Filter::stream("note"), Offset::BEGINNING).unwrap();
    let record = feed.try_next().unwrap().unwrap();
    assert_eq!((record.key(), record.schema()), (&b"a"[..], NOTES.schema_version()));
}

#[test]
fn the_bytes_below_a_floor_go_with_the_prefix_and_nothing_else_does() {
    let journal = small().in_memory().unwrap();
    let plane = Local::over(&journal).unwrap();
    let mut offsets = Vec::new();
    for n in 1..=60 {
        offsets.push(plane.commit(&[append(b"a", n, &[7; 100])]).unwrap().offset(0).unwrap());
        plane.commit(&[append(b"b", n, &[8; 100])]).unwrap();
    }
    let nothing = journal.compact(&CompactOptions::new().thorough(true)).unwrap();
    assert_eq!(nothing.entries_dropped, 0, "topics keep everything that no floor hides");
    plane.compact("order", b"a", offsets[50]).unwrap();
    let (hidden, first) = (offsets[49], offsets[50]);

    // The same before the bytes have gone and behind that.
    for round in 0..2 {
        let from =
            |offset| plane.subscribe(Filter::topic("order", b"a"), offset).map(|mut feed| rest(&mut *feed));
        let lost = from(offsets[48]).unwrap_err();
        assert_eq!(
            (lost.kind(), lost.floor()),
            (ErrorKind::Lost, Some(first.raw())),
            "round {round}: {lost}"
        );
        assert_eq!(from(Offset::BEGINNING).unwrap_err().kind(), ErrorKind::Lost);
        assert_eq!(from(hidden).unwrap().len(), 10, "round {round}");
        assert_eq!(from(first).unwrap().len(), 9);
        assert_eq!(plane.lowest_retained(Filter::topic("order", b"a")).unwrap(), first);
        let mut all = plane.subscribe(Filter::stream("order"), Offset::BEGINNING).unwrap();
        assert_eq!(rest(&mut *all).len(), 70, "round {round}");
        let mut b = plane.subscribe(Filter::topic("order", b"b"), Offset::BEGINNING).unwrap();
        assert_eq!(rest(&mut *b).len(), 60);
        let nobody =
            plane.subscribe(Filter::topic("order", b"nobody"), Offset::BEGINNING).unwrap().try_next();
        assert!(nobody.unwrap().is_none());
        let dropped = journal.compact(&CompactOptions::new().thorough(true)).unwrap().entries_dropped;
        assert!(round == 1 || (40..=50).contains(&dropped), "{dropped} of the 50 that are hidden");
    }
    let verified = journal.verify(Check::Full).unwrap();
    assert_eq!(verified.verdict, Verdict::Valid, "{:?}", verified.findings);
    // What is hidden is remembered all the same.
    let again = plane.commit(&[append(b"a", 3, &[7; 100])]).unwrap();
    assert_eq!(again.offset(0), Some(offsets[2]));
}

#[test]
fn a_feed_that_had_looked_finds_a_floor_that_is_put_under_it() {
    let journal = small().in_memory().unwrap();
    let plane = Local::over(&journal).unwrap();
    let mut offsets = Vec::new();
    for n in 1..=9 {
        offsets.push(plane.commit(&[append(b"a", n, b"x")]).unwrap().offset(0).unwrap());
    }
    // The kind of the floors is there before it looks for it.
    plane.compact("order", b"a", offsets[1]).unwrap();
    let mut feed = plane.subscribe(Filter::topic("order", b"a"), offsets[1]).unwrap();
    assert_eq!(feed.try_next().unwrap().unwrap().offset(), offsets[2]);
    plane.compact("order", b"a", offsets[7]).unwrap();
    let lost = feed.try_next().unwrap_err();
    assert_eq!((lost.kind(), lost.floor()), (ErrorKind::Lost, Some(offsets[7].raw())), "{lost}");
}

#[test]
fn a_feed_that_stands_on_the_last_hidden_record_goes_on_through_compaction() {
    let journal = small().in_memory().unwrap();
    let plane = Local::over(&journal).unwrap();
    let mut offsets = Vec::new();
    (1..=40)
        .for_each(|n| offsets.push(plane.commit(&[append(b"a", n, &[7; 100])]).unwrap().offset(0).unwrap()));
    let mut feed = plane.subscribe(Filter::topic("order", b"a"), Offset::BEGINNING).unwrap();
    let mut behind = plane.subscribe(Filter::topic("order", b"a"), Offset::BEGINNING).unwrap();
    (0..30).for_each(|_| _ = feed.try_next().unwrap().unwrap());
    (0..29).for_each(|_| _ = behind.try_next().unwrap().unwrap());
    plane.compact("order", b"a", offsets[30]).unwrap();
    assert!(journal.compact(&CompactOptions::new().thorough(true)).unwrap().entries_dropped > 20);
    assert_eq!(rest(&mut *feed).len(), 10);
    assert_eq!(behind.try_next().unwrap_err().kind(), ErrorKind::Lost);
    assert_eq!(behind.try_next().unwrap_err().kind(), ErrorKind::Closed, "it has ended");
}

#[test]
fn what_a_policy_dropped_is_lost_and_not_silent() {
    let journal = small().in_memory().unwrap();
    let plane = Local::over(&journal).unwrap();
    (1..=40).for_each(|n| _ = plane.commit(&[append(b"a", n, &[7; 100])]).unwrap());
    let order = journal.kind_named("order").unwrap().id;
    let mut feed = plane.subscribe(Filter::topic("order", b"a"), Offset::BEGINNING).unwrap();
    journal.keep(order, Keep::Latest).unwrap();
    assert!(journal.compact(&CompactOptions::new()).unwrap().entries_dropped > 0);
    for filter in [Filter::topic("order", b"a"), Filter::stream("order")] {
        let anew = plane.subscribe(filter, Offset::BEGINNING);
        assert_eq!(anew.err().map(|error| error.kind()), Some(ErrorKind::Lost), "{filter}");
    }
    // What stood in its view it may read on; what it does not deliver it says.
    let mut next = 1;
    loop {
        match feed.try_next() {
            Ok(Some(record)) => assert_eq!(record.stamp().unwrap().n, next),
            Ok(None) => break assert_eq!(next, 41),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::Lost),
        }
        next += 1;
    }
}

#[test]
fn a_topic_that_was_erased_begins_anew() {
    let journal = small().in_memory().unwrap();
    let plane = Local::over(&journal).unwrap();
    (1..=40).for_each(|n| _ = plane.commit(&[append(b"a", n, &[7; 100])]).unwrap());
    assert!(journal.erase(journal.kind_named("order").unwrap().id, b"a").unwrap().erased);
    let topic = Filter::topic("order", b"a");
    assert_eq!(plane.head(topic).unwrap(), Offset::BEGINNING);
    let done = plane.commit(&[append(b"a", 41, b"behind")]).unwrap();
    let mut feed = plane.subscribe(topic, Offset::BEGINNING).unwrap();
    assert_eq!(rest(&mut *feed), [(done.offset(0).unwrap().raw(), b"behind".to_vec())]);
}

#[test]
fn cells_keep_their_revisions_through_compaction_also_those_that_hold_nothing() {
    let journal = small().in_memory().unwrap();
    let plane = Local::over(&journal).unwrap();
    for n in 0..40 {
        plane.commit(&[put(b"live", n + 1, n, Some(&[7; 100])), put(b"gone", n + 1, n, None)]).unwrap();
    }
    let dropped =
        journal.compact(&CompactOptions::new().keep_tombstones_for(std::time::Duration::ZERO)).unwrap();
    assert!(dropped.entries_dropped > 40, "{dropped:?}");
    for (cell, bytes) in [(&b"live"[..], Some(vec![7; 100])), (b"gone", None)] {
        let loaded = plane.load(cell).unwrap();
        assert_eq!((loaded.bytes, loaded.revision.raw()), (bytes, 40));
    }
    assert_eq!(plane.load(b"never").unwrap().revision, Revision::NEVER);
    let refused = plane.commit(&[put(b"gone", 41, 0, Some(b"v"))]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    // A change that compaction has dropped is still known by its stamp.
    let again = plane.commit(&[put(b"live", 3, 2, Some(&[7; 100]))]).unwrap();
    assert_eq!(again.revision(0).unwrap().raw(), 3);
}

#[test]
fn stamps_are_remembered_through_closing_rotation_and_a_lost_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.esker");
    let open = || Local::owning(small().durability(Durability::Os).open(&path).unwrap()).unwrap();
    let plane = open();
    let steps: Vec<[u8; 100]> = (0..80).map(|n| [n; 100]).collect();
    let commit = |plane: &Local, n: usize| {
        plane
            .commit(&[append(b"a", n as u64 + 1, &steps[n]), put(b"c", n as u64 + 1, n as u64, Some(b"v"))])
            .unwrap()
    };
    let first: Vec<_> = (0..80).map(|n| commit(&plane, n)).collect();
    plane.close().unwrap();
    for removes in [false, true] {
        if removes {
            for file in std::fs::read_dir(&path).unwrap() {
                let file = file.unwrap().path();
                if file.extension().is_some_and(|extension| extension == "idx") {
                    std::fs::remove_file(file).unwrap();
                }
            }
        }
        let plane = open();
        for (n, first) in first.iter().enumerate() {
            let again = commit(&plane, n);
            assert_eq!((again.offset(0), again.revision(1)), (first.offset(0), first.revision(1)), "{n}");
        }
        let other = plane.commit(&[append(b"a", 5, b"other")]).unwrap_err();
        assert_eq!(other.kind(), ErrorKind::KeyReused, "{other}");
        let verified = plane.journal().verify(Check::Full).unwrap();
        assert_eq!(verified.verdict, Verdict::Valid, "{:?}", verified.findings);
        plane.close().unwrap();
    }
}

#[test]
fn closing_one_backplane_of_a_journal_leaves_the_journal_and_the_others_open() {
    let journal = Journal::in_memory().unwrap();
    let (first, second) = (Local::over(&journal).unwrap(), Local::over(&journal).unwrap());
    let mut heard = second.listen("news").unwrap();
    assert_eq!(first.broadcast("news", b"hello").unwrap(), 1, "one journal is one place");
    assert_eq!(heard.try_next().unwrap(), Some(Broadcast::Message(b"hello"[..].into())));
    let mut feed = first.subscribe(Filter::stream("order"), Offset::BEGINNING).unwrap();
    first.close().unwrap();
    assert_eq!(feed.try_next().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(first.commit(&[append(b"a", 1, b"one")]).unwrap_err().kind(), ErrorKind::Closed);
    second.commit(&[append(b"a", 1, b"one")]).unwrap();
    journal.close().unwrap();
    assert_eq!(second.head(Filter::stream("order")).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(heard.try_next().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn the_era_is_that_of_the_store_and_another_behind_a_restore() {
    let directory = tempfile::tempdir().unwrap();
    let [path, copy, restored] = ["a", "b", "c"].map(|name| directory.path().join(name));
    let plane = Local::open(&path).unwrap();
    plane.commit(&[append(b"a", 1, b"one")]).unwrap();
    let era = plane.era().unwrap();
    plane.journal().backup(&copy, BackupBy::Copy).unwrap();
    plane.close().unwrap();
    let plane = Local::open(&path).unwrap();
    assert_eq!(plane.era().unwrap(), era);
    esker::restore(&copy, &restored).unwrap();
    assert_ne!(Local::open(&restored).unwrap().era().unwrap(), era);
    assert_ne!(InMemory::new().era().unwrap(), InMemory::new().era().unwrap());
}

#[test]
fn bad_input_is_told_with_its_numbers() {
    let planes: [Box<dyn Backplane>; 2] =
        [Box::new(InMemory::new()), Box::new(Local::owning(Journal::in_memory().unwrap()).unwrap())];
    for plane in planes {
        let stamp = Stamp::new(ME, 1);
        let long = [1; 256];
        let name = "n".repeat(201);
        let bad: Vec<Vec<Step<'_>>> = vec![
            vec![],
            vec![append(b"", 1, b"p")],
            vec![append(&long, 1, b"p")],
            vec![append(b"a", 0, b"p")],
            vec![append(b"a", 1, b"p"), append(b"a", 1, b"q")],
            vec![Step::Append(Append::new("", b"a", b"p", stamp))],
            vec![Step::Append(Append::new(&name, b"a", b"p", stamp))],
            vec![Step::Append(Append::new("esker.cells", b"a", b"p", stamp))],
            vec![put(b"", 1, 0, None)],
            (1..=257).map(|n| append(b"a", n, b"p")).collect(),
        ];
        for steps in &bad {
            let error = plane.commit(steps).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{plane:?} {error}");
            assert!(error.expected().is_some() && error.actual().is_some(), "{error}");
        }
        let behind = plane.subscribe(Filter::stream("order"), Offset::from_raw(99)).err().unwrap();
        assert_eq!(behind.kind(), ErrorKind::InvalidInput, "{behind}");
        assert!(plane.head(Filter::stream("order")).unwrap() == Offset::BEGINNING);
        assert!(plane.broadcast("", b"x").is_err() && plane.listen("esker.x").is_err());
    }
}

#[test]
fn a_kind_of_live_state_is_no_stream() {
    let store = Store::in_memory().unwrap();
    const VESSEL: esker::Kind<Vessel> = esker::Kind::new("vessel");
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Vessel {
        knots: f32,
    }
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "a", &Vessel { knots: 1.0 }).unwrap();
    let plane = Local::over(store.journal()).unwrap();
    let step = Step::Append(Append::new("vessel", b"a", b"p", Stamp::new(ME, 1)));
    assert_eq!(plane.commit(&[step]).unwrap_err().kind(), ErrorKind::OwnedByState);
    assert_eq!(plane.head(Filter::stream("vessel")).unwrap_err().kind(), ErrorKind::OwnedByState);
}

#[test]
fn an_append_that_expects_the_head_of_a_journal_s_topic_is_compared_with_it() {
    let journal = Journal::in_memory().unwrap();
    let order = journal.kind("order").unwrap();
    let seq = journal.append(Record::new(order, b"a", b"one").expect(Expect::New)).unwrap().seq;
    let plane = Local::over(&journal).unwrap();
    let if_head = |head: u64, n| {
        let append = Append::new("order", b"a", b"next", Stamp::new(ME, n)).expect(Offset::from_raw(head));
        plane.commit(&[Step::Append(append)])
    };
    let refused = if_head(0, 1).unwrap_err();
    assert_eq!((refused.expected(), refused.actual()), (Some("0"), Some(&*seq.to_string())));
    let done = if_head(seq.get(), 1).unwrap().offset(0).unwrap();
    assert_eq!(if_head(seq.get(), 1).unwrap().offset(0), Some(done), "its own success is no conflict");
    assert_eq!(journal.region(&Region::kind(order)).unwrap().len(), 2);
}

#[test]
fn who_waits_for_a_stream_does_not_make_it_and_is_woken_by_its_first_record() {
    const ORDERS: esker::Topic<i64> = esker::Topic::new("order");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.esker");
    for opening in 0..2_i64 {
        let store = Store::open(&path).unwrap();
        let plane = store.backplane().unwrap().clone();
        let newest = plane.head(Filter::stream("order")).unwrap();
        let filters = [Filter::stream("order"), Filter::topic("order", b"k")];
        let mut feeds = filters.map(|filter| plane.subscribe(filter, newest).unwrap());
        let mut never = plane.subscribe(Filter::stream("odrer"), Offset::BEGINNING).unwrap();
        assert!(feeds.iter_mut().chain([&mut never]).all(|feed| feed.try_next().unwrap().is_none()));
        assert_eq!(store.journal().kind_named("order").is_some(), opening > 0);
        let at = std::thread::scope(|threads| {
            let waiting = feeds.map(|mut feed| threads.spawn(move || feed.next().unwrap()));
            // Others come before it.
            store.topic(esker::Topic::<String>::new("other"), "k").unwrap().append(&"x".to_owned()).unwrap();
            let at = store.topic(ORDERS, "k").unwrap().append(&opening).unwrap();
            for waits in waiting {
                assert_eq!(waits.join().unwrap().offset(), at);
            }
            at
        });
        let mut late = plane.subscribe(Filter::topic("order", b"k"), newest).unwrap();
        assert_eq!(late.next().unwrap().offset(), at);
        assert!(never.try_next().unwrap().is_none() && store.journal().kind_named("odrer").is_none());
        plane.close().unwrap();
        assert_eq!(never.try_next().unwrap_err().kind(), ErrorKind::Closed);
        store.close().unwrap();
    }
}

#[test]
fn an_append_that_is_refused_for_what_it_expects_or_its_size_does_not_make_its_stream() {
    let journal = Journal::in_memory().unwrap();
    let plane = Local::over(&journal).unwrap();
    plane.commit(&[put(b"c", 1, 0, None)]).unwrap();
    let step = Append::new("order", b"a", b"x", Stamp::new(ME, 1)).expect(Offset::from_raw(1));
    let refused = plane.commit(&[Step::Append(step)]).unwrap_err();
    assert_eq!((refused.kind(), refused.actual()), (ErrorKind::Conflict, Some("0")), "{refused}");
    let large = vec![0; 15 << 20];
    let steps = [1, 2].map(|n| append(b"a", n, &large));
    let refused = plane.commit(&steps).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BatchTooLarge, "{refused}");
    assert!(journal.kind_named("order").is_none());
}

#[test]
fn a_close_ends_the_listeners_of_its_handle_and_of_no_other() {
    let journal = Journal::in_memory().unwrap();
    let (ends, stays) = (Local::over(&journal).unwrap(), Local::over(&journal).unwrap());
    let mut ending = ends.listen("news").unwrap();
    let mut staying = stays.listen("news").unwrap();
    std::thread::scope(|threads| {
        let waits = threads.spawn(move || ending.next_timeout(std::time::Duration::from_secs(60)));
        ends.close().unwrap();
        assert_eq!(waits.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    });
    assert_eq!(ends.listen("news").err().map(|error| error.kind()), Some(ErrorKind::Closed));
    assert_eq!(stays.broadcast("news", b"x").unwrap(), 1, "it is told to those who are left");
    assert_eq!(staying.try_next().unwrap(), Some(Broadcast::Message(b"x"[..].into())));
}

#[test]
fn the_same_append_behind_the_same_head_from_many_at_a_time_is_no_conflict_with_itself() {
    let journal = Journal::in_memory().unwrap();
    let plane = Local::over(&journal).unwrap();
    let mut head = Offset::BEGINNING;
    for n in 1..=500 {
        let step = Append::new("order", b"k", b"x", Stamp::new(ME, n)).expect(head);
        let together = std::sync::Barrier::new(4);
        let offsets: Vec<Offset> = std::thread::scope(|threads| {
            let run = || {
                together.wait();
                plane.commit(&[Step::Append(step)]).unwrap().offset(0).unwrap()
            };
            let handles: Vec<_> = (0..4).map(|_| threads.spawn(run)).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        });
        assert!(offsets.iter().all(|offset| *offset == offsets[0] && *offset > head), "{offsets:?}");
        head = offsets[0];
    }
}

/// How often some bytes are in the files of a directory.
fn found_in(path: &std::path::Path, bytes: &[u8]) -> usize {
    let files = std::fs::read_dir(path).unwrap().map(|file| std::fs::read(file.unwrap().path()));
    files
        .map(|file| file.unwrap_or_default().windows(bytes.len()).filter(|found| *found == bytes).count())
        .sum()
}

struct Texts;
impl esker::Fold for Texts {
    type State = Vec<String>;
    type Event = String;
    const NAME: &'static str = "texts";
    const VERSION: u32 = 1;
    fn fold(texts: &mut Vec<String>, text: String, _: &esker::At) {
        texts.push(text);
    }
}

#[test]
fn of_a_topic_that_is_erased_neither_images_nor_its_floor_stay() {
    const PEOPLE: esker::Topic<String> = esker::Topic::new("person");
    const FACTS: Facts<String> = Facts::new("person");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let store = Store::open(&path).unwrap();
    let people = ["ada.lovelace", "charles.babbage"].map(|key| store.topic(PEOPLE, key).unwrap());
    for (person, address) in people.iter().zip(["St James's Square 12", "Dorset Street 1"]) {
        person.append(&"born".to_owned()).unwrap();
        let moved = person.append(&address.to_owned()).unwrap();
        let fold = person.fold::<Texts>().unwrap();
        fold.read_after(moved, std::time::Duration::from_secs(60)).unwrap();
        fold.save_image().unwrap();
        drop(fold);
        person.compact(moved).unwrap();
    }
    assert!(found_in(&path, b"St James's Square 12") >= 2 && found_in(&path, b"ada.lovelace") >= 3);
    let erasure = store.erase(FACTS, "ada.lovelace").unwrap();
    assert!(erasure.erased && erasure.waiting_for.is_empty(), "{erasure:?}");
    let left = [&b"St James's Square 12"[..], b"ada.lovelace"].map(|bytes| found_in(&path, bytes));
    assert_eq!(left, [0, 0]);
    assert!(store.erase(FACTS, "ada.lovelace").unwrap().erased, "again it does nothing");

    // It begins anew, and the other one is as it was.
    let back = people[0].append(&"back".to_owned()).unwrap();
    let read = |person: &esker::TopicHandle<'_, String>, at| {
        let fold = person.fold::<Texts>().unwrap();
        fold.read_after(at, std::time::Duration::from_secs(60)).unwrap().value
    };
    assert_eq!(read(&people[0], back), ["back"]);
    assert_eq!(read(&people[1], people[1].head().unwrap()), ["born", "Dorset Street 1"]);
    store.close().unwrap();
}
