//! Compactions and purges beside feeds that are wider than what goes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker::ErrorKind;
use esker::backplane::{Backplane, Feed, Filter, Nats, Offset};

use crate::server::{Server, until};

const PATIENCE: Duration = Duration::from_secs(20);

/// First those of `b`, then by turns.
fn key_of(n: u64, turns_from: u64) -> &'static str {
    if n < turns_from || n % 2 == 1 { "b" } else { "a" }
}

/// A feed of the whole stream that has read one record and stands, with most of the rest neither read nor on its way.
fn standing_feed(server: &Server, reader: &Nats, records: u64) -> Box<dyn Feed> {
    server.publish(0..records, &vec![b'x'; 8000], |n| key_of(n, records / 2));
    let mut feed = reader.subscribe(Filter::stream("event"), Offset::BEGINNING).unwrap();
    assert_eq!(feed.next().unwrap().offset().raw(), 1);
    feed
}

/// The records of `b` that come up to the last of all. A feed that ends in between begins again where it stood.
fn read_b(reader: &Nats, mut feed: Box<dyn Feed>, last: u64) -> u64 {
    let mut found = 1;
    while feed.position().raw() < last {
        match feed.next_timeout(PATIENCE) {
            Ok(Some(record)) => found += u64::from(record.key() == b"b"),
            Ok(None) => panic!("nothing came behind {}", feed.position()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
                feed = reader.subscribe(Filter::stream("event"), feed.position()).unwrap();
            }
        }
    }
    found
}

#[test]
fn a_catch_up_leaves_nothing_out_where_another_topic_is_compacted_meanwhile() {
    let server = Server::start();
    let (reader, other) = (server.connect(), server.connect());
    const RECORDS: u64 = 6000;
    let feed = standing_feed(&server, &reader, RECORDS);
    let head = other.head(Filter::topic("event", b"a")).unwrap();
    other.compactor().unwrap().compact("event", b"a", head).unwrap();
    assert_eq!(other.lowest_retained(Filter::topic("event", b"a")).unwrap(), head);
    assert_eq!(server.messages_of("esker.e.event.a"), 1, "the bytes of the rest go too");
    assert_eq!(read_b(&reader, feed, RECORDS), RECORDS * 3 / 4);
}

#[test]
fn a_catch_up_that_an_operators_purge_sets_behind_its_end_begins_again() {
    let server = Server::start();
    let reader = server.connect();
    const RECORDS: u64 = 6000;
    let feed = standing_feed(&server, &reader, RECORDS);
    server.publish(0..2, b"x", |_| "a");
    // It moves the consumer of the feed to the last record of `a`, behind all that the feed began to catch up with.
    let purged = server.ask(
        "$JS.API.STREAM.PURGE.esker",
        &format!(r#"{{"filter":"esker.e.event.a","seq":{}}}"#, RECORDS + 2),
    );
    assert!(purged.contains("\"success\":true"), "{purged}");
    assert_eq!(server.messages_of("esker.e.event.a"), 1);
    assert_eq!(read_b(&reader, feed, RECORDS + 2), RECORDS * 3 / 4);
}

#[test]
fn a_feed_that_is_read_slowly_is_not_taken_for_one_that_is_silent() {
    let server = Server::start();
    let reader = server.connect();
    const RECORDS: u64 = 6000;
    let mut feed = standing_feed(&server, &reader, RECORDS);
    // The server waits for it, and says every two seconds that it does.
    std::thread::sleep(Duration::from_secs(5));
    for offset in 2..=RECORDS {
        assert_eq!(feed.next().unwrap().offset().raw(), offset);
    }
}

#[test]
fn a_live_feed_leaves_nothing_out_where_another_topic_is_compacted_all_the_time() {
    let server = Server::start();
    let (reader, other) = (server.connect(), server.connect());
    let feed = reader.subscribe(Filter::stream("event"), Offset::BEGINNING).unwrap();
    const RECORDS: u64 = 8000;
    let done = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            server.publish(0..RECORDS, &vec![b'x'; 2000], |n| key_of(n, 0));
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let head = other.head(Filter::topic("event", b"a")).unwrap();
                other.compactor().unwrap().compact("event", b"a", head).unwrap();
            }
        });
        read_b(&reader, feed, RECORDS) - 1
    });
    assert_eq!(found, RECORDS / 2);
}

#[test]
fn a_compaction_that_was_interrupted_is_finished_by_the_next_one() {
    let mut server = Server::start();
    server.publish(0..3000, b"x", |_| "a");
    let plane = server.connect();
    let head = plane.head(Filter::topic("event", b"a")).unwrap();
    std::thread::scope(|scope| {
        let compacts = scope.spawn(|| plane.compactor().unwrap().compact("event", b"a", head));
        // The floor is there, and not all has gone.
        until(|| (server.messages_of("esker.e.event.a") < 3000).then_some(()));
        server.kill();
        let _ = compacts.join().unwrap();
    });
    server.revive();
    let again = server.connect();
    assert_eq!(until(|| again.lowest_retained(Filter::topic("event", b"a")).ok()), head);
    until(|| again.compactor().unwrap().compact("event", b"a", head).ok());
    assert_eq!(server.messages_of("esker.e.event.a"), 1);
}
