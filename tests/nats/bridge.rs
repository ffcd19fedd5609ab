//! The bridge: facts of a journal in a stream, once, through kills of the server and of the bridge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker::backplane::{Append, Backplane, Filter, Nats, NatsBridge, NatsConfig, Offset, Step};
use esker::{ErrorKind, Facts, Region, Store};

use crate::faults::{Chain, EVENTS, chain_of, store_on};
use crate::proxy::Proxy;
use crate::server::{Server, until};

const FACTS: Facts<u64> = Facts::new("event");

/// Goes on through what ends a connection.
fn copy_all(bridge: &mut NatsBridge) -> u64 {
    until(|| match bridge.copy(Duration::ZERO) {
        Ok(bridged) => Some(bridged.copied),
        Err(error) if error.kind() == ErrorKind::Disconnected => None,
        Err(error) => panic!("{error}"),
    })
}

#[test]
fn each_fact_is_in_its_stream_once_through_kills_and_comes_back_to_no_stream() {
    let mut server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("origin.esker")).unwrap();
    let mut sent = 0;
    for round in 0..6 {
        for _ in 0..30 {
            store.append(FACTS, ["a", "b"][sent % 2], &(sent as u64)).unwrap();
            sent += 1;
        }
        let plane = Arc::new(server.connect());
        let mut bridge = NatsBridge::begin(store.journal(), plane, "out", Region::all()).unwrap();
        match round {
            // What is copied and not noted is found again.
            0 | 3 => server.kill(),
            1 => assert!(copy_all(&mut bridge) > 0),
            _ => _ = copy_all(&mut bridge),
        }
        if round % 3 == 0 {
            let error = bridge.copy(Duration::ZERO).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
            server.revive();
            if round == 3 {
                copy_all(&mut bridge);
            }
        }
    }
    let plane = Arc::new(server.connect());
    let cluster = store_on(&plane);
    for (at, key) in [(0, "a"), (1, "b")] {
        let topic = cluster.topic(EVENTS, key).unwrap();
        let fold = topic.fold::<Chain>().unwrap();
        let folded = fold.read_after(topic.head().unwrap(), Duration::from_secs(60)).unwrap();
        assert_eq!(folded.value, chain_of((0..sent as u64).filter(|number| number % 2 == at)));
        assert_eq!(fold.stats().repeated, 0, "nothing is there twice");
    }
    let head = plane.head(Filter::stream("event")).unwrap();
    let origin = plane.origin_of(head).unwrap().unwrap();
    assert!(origin.starts_with(&store.journal().store_id().to_string()), "{origin}");

    // Another store takes the stream in, with the stamps that the records have, and says something of its own.
    let own = Store::in_memory().unwrap();
    own.topic(EVENTS, "a").unwrap().append(&9999).unwrap();
    let mut feed = plane.subscribe(Filter::stream("event"), Offset::BEGINNING).unwrap();
    while feed.position() < head {
        let record = feed.next().unwrap();
        let stamp = record.stamp().unwrap();
        let append = Append::new("event", record.key(), record.payload(), stamp).schema(record.schema());
        own.backplane().unwrap().commit(&[Step::Append(append)]).unwrap();
    }
    let mut bridge = NatsBridge::begin(own.journal(), Arc::clone(&plane), "out", Region::all()).unwrap();
    let bridged = bridge.copy(Duration::ZERO).unwrap();
    assert_eq!((bridged.copied, bridged.imported), (1, sent as u64), "{bridged:?}");
}

#[test]
fn a_bridge_that_died_before_its_cursor_moved_finds_what_it_had_copied() {
    let server = Server::start();
    let store = Store::in_memory().unwrap();
    for number in 0..40 {
        store.append(FACTS, "a", &number).unwrap();
    }
    let plane = Arc::new(server.connect());
    let mut bridge = NatsBridge::begin(store.journal(), Arc::clone(&plane), "one", Region::all()).unwrap();
    assert_eq!(bridge.copy(Duration::ZERO).unwrap().copied, 40);
    drop(bridge);
    // Another name begins at the oldest: what it looks for is in the stream, also without the cells.
    for with_cells in [true, false] {
        if !with_cells {
            let purged = server.ask("$JS.API.STREAM.PURGE.KV_esker", "");
            assert!(purged.contains("\"success\":true"), "{purged}");
        }
        let name = if with_cells { "two" } else { "three" };
        let mut bridge = NatsBridge::begin(store.journal(), Arc::clone(&plane), name, Region::all()).unwrap();
        let bridged = bridge.copy(Duration::ZERO).unwrap();
        assert_eq!((bridged.copied, bridged.repeated), (0, 40), "{bridged:?}");
    }
    assert_eq!(plane.head(Filter::stream("event")).unwrap(), Offset::from_raw(40));
}

#[test]
fn a_bridge_goes_on_behind_a_save_whose_answer_did_not_come_also_where_something_new_came() {
    let server = Server::start();
    let proxy = Proxy::before(server.port());
    let config = NatsConfig::new().server(proxy.url()).timeout(Duration::from_millis(300));
    let plane = Arc::new(Nats::connect(config).unwrap());
    let store = Store::in_memory().unwrap();
    store.append(FACTS, "a", &1).unwrap();
    let mut bridge = NatsBridge::begin(store.journal(), Arc::clone(&plane), "out", Region::all()).unwrap();
    // From the moment at which the client changes a cell.
    proxy.hold_behind(b"HPUB $KV.esker.c.");
    let lost = bridge.copy(Duration::ZERO).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Disconnected, "{lost}");
    assert!(proxy.holds(), "it was another call");
    proxy.hold(false);
    for number in 2..5 {
        store.append(FACTS, "a", &number).unwrap();
        assert_eq!(copy_all(&mut bridge), 1);
    }
    assert_eq!(plane.head(Filter::stream("event")).unwrap(), Offset::from_raw(4));
    // How far it is was saved: another one finds nothing to do.
    let mut bridge = NatsBridge::begin(store.journal(), plane, "again", Region::all()).unwrap();
    let bridged = bridge.copy(Duration::ZERO).unwrap();
    assert_eq!((bridged.copied, bridged.repeated), (0, 4), "{bridged:?}");
}

#[test]
fn a_bridge_that_is_interrupted_anywhere_goes_on() {
    let mut server = Server::start();
    let plane = Arc::new(server.connect());
    let store = Store::in_memory().unwrap();
    let mut bridge = NatsBridge::begin(store.journal(), Arc::clone(&plane), "out", Region::all()).unwrap();
    const KEYS: u64 = 100;
    let facts = |round: u64| {
        (0..KEYS).for_each(|key| _ = store.append(FACTS, format!("k{key}"), &round).unwrap());
    };
    for round in 0..8 {
        facts(round);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(10 + 13 * round));
                server.kill();
                server.revive();
            });
            let _ = bridge.copy(Duration::ZERO);
        });
        facts(round);
        copy_all(&mut bridge);
    }
    let cluster = store_on(&plane);
    for key in 0..KEYS {
        let topic = cluster.topic(EVENTS, format!("k{key}")).unwrap();
        let fold = topic.fold::<Chain>().unwrap();
        let folded = fold.read_after(topic.head().unwrap(), Duration::from_secs(60)).unwrap();
        assert_eq!(folded.value, chain_of((0..16).map(|n| n / 2)));
    }
}

#[test]
fn a_bridge_into_a_stream_that_was_made_anew_begins_to_count_anew() {
    let server = Server::start();
    let plane = Arc::new(server.connect());
    let store = Store::in_memory().unwrap();
    let mut bridge = NatsBridge::begin(store.journal(), plane, "out", Region::all()).unwrap();
    (1..=3).for_each(|number| _ = store.append(FACTS, "a", &number).unwrap());
    assert_eq!(copy_all(&mut bridge), 3);
    assert!(server.ask("$JS.API.STREAM.DELETE.esker", "").contains("\"success\":true"));
    let again = Arc::new(server.connect());
    (4..=5).for_each(|number| _ = store.append(FACTS, "a", &number).unwrap());
    assert_eq!(copy_all(&mut bridge), 2);
    let cluster = store_on(&again);
    let topic = cluster.topic(EVENTS, "a").unwrap();
    let folded = topic.fold::<Chain>().unwrap().read_after(topic.head().unwrap(), Duration::from_secs(60));
    assert_eq!(folded.unwrap().value, chain_of(4..=5));
}

#[test]
fn a_copy_ends_although_facts_come_all_the_time() {
    let server = Server::start();
    let plane = Arc::new(server.connect());
    let store = Store::in_memory().unwrap();
    let mut bridge = NatsBridge::begin(store.journal(), plane, "out", Region::all()).unwrap();
    let observer = server.connect();
    const AHEAD: u64 = 100;
    const FACTS_MAX: u64 = 3000;
    (0..AHEAD).for_each(|number| _ = store.append(FACTS, "a", &number).unwrap());
    let done = AtomicBool::new(false);
    let (copied, sent) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut sent = AHEAD;
            // Always ahead of the bridge: where it follows to the end it comes to the last of all.
            while !done.load(Ordering::SeqCst) && sent < FACTS_MAX {
                let head = observer.head(Filter::stream("event")).unwrap().raw();
                while sent < head + AHEAD {
                    store.append(FACTS, "a", &sent).unwrap();
                    sent += 1;
                }
            }
            sent
        });
        let copied = copy_all(&mut bridge);
        done.store(true, Ordering::SeqCst);
        (copied, writer.join().unwrap())
    });
    assert!(copied >= AHEAD && sent < FACTS_MAX, "{copied} were copied of {sent}");
    // The rest is the next one's.
    assert_eq!(copied + copy_all(&mut bridge), sent);
}

#[test]
fn a_bridge_that_ends_between_two_copies_leaves_no_fact_out_although_facts_come_all_the_time() {
    const AHEAD: u64 = 100;
    const FACTS_MAX: u64 = 3000;
    let server = Server::start();
    let (plane, observer) = (Arc::new(server.connect()), server.connect());
    let store = Store::in_memory().unwrap();
    let begin = || NatsBridge::begin(store.journal(), Arc::clone(&plane), "out", Region::all()).unwrap();
    let begun = AtomicBool::new(false);
    let (first, sent) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            (0..AHEAD).for_each(|number| _ = store.append(FACTS, "a", &number).unwrap());
            begun.store(true, Ordering::SeqCst);
            let mut sent = AHEAD;
            while sent < FACTS_MAX && observer.head(Filter::stream("event")).unwrap().raw() < AHEAD {
                store.append(FACTS, "a", &sent).unwrap();
                sent += 1;
            }
            // What comes behind the look of the copy at where to end.
            (0..AHEAD).for_each(|more| _ = store.append(FACTS, "a", &(sent + more)).unwrap());
            sent + AHEAD
        });
        until(|| begun.load(Ordering::SeqCst).then_some(()));
        // What it has in hand when it ends goes with it.
        let first = copy_all(&mut begin());
        (first, writer.join().unwrap())
    });
    let rest = copy_all(&mut begin());
    assert_eq!(first + rest, sent, "{first} were copied, then {rest}");
    let mut feed = plane.subscribe(Filter::stream("event"), Offset::BEGINNING).unwrap();
    let mut numbers: Vec<u64> = Vec::new();
    for _ in 0..sent {
        numbers.push(rmp_serde::from_slice(feed.next().unwrap().payload()).unwrap());
    }
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
    assert_eq!(plane.head(Filter::stream("event")).unwrap(), feed.position());
}
