//! What an operator, another program and a configuration do.

use std::sync::Arc;
use std::time::Duration;

use esker::backplane::{Append, Backplane, Filter, Nats, NatsConfig, Offset, Stamp, Step, WriterId};
use esker::{ConsumerOptions, Delivery, ErrorKind};

use crate::faults::{EVENTS, store_on};
use crate::server::{Server, until};

const SOON: Duration = Duration::from_secs(20);

fn append(plane: &Nats, key: &[u8], writer: WriterId, n: u64) -> Offset {
    let append = Append::new("event", key, b"v", Stamp::new(writer, n));
    plane.commit(&[Step::Append(append)]).unwrap().offset(0).unwrap()
}

/// The stream is deleted, and somebody makes it again with other records.
fn made_anew(server: &Server, records: u64) -> (Nats, Vec<Offset>) {
    assert!(server.ask("$JS.API.STREAM.DELETE.esker", "").contains("\"success\":true"));
    let plane = server.connect();
    let writer = WriterId::random().unwrap();
    let offsets = (1..=records).map(|n| append(&plane, b"k", writer, n)).collect();
    (plane, offsets)
}

#[test]
fn a_floor_of_an_old_era_hides_nothing_of_the_new_one() {
    let server = Server::start();
    let plane = server.connect();
    let writer = WriterId::random().unwrap();
    let offsets: Vec<_> = (1..=5).map(|n| append(&plane, b"k", writer, n)).collect();
    plane.compactor().unwrap().compact("event", b"k", offsets[4]).unwrap();
    let (other, anew) = made_anew(&server, 3);
    for reader in [&other, &plane] {
        assert_eq!(reader.lowest_retained(Filter::topic("event", b"k")).unwrap(), anew[0]);
        for filter in [Filter::stream("event"), Filter::topic("event", b"k")] {
            let mut feed = reader.subscribe(filter, Offset::BEGINNING).unwrap();
            let found: Vec<_> =
                anew.iter().map(|_| feed.next_timeout(SOON).unwrap().unwrap().offset()).collect();
            assert_eq!(found, anew);
        }
    }
}

#[test]
fn who_knows_the_old_era_only_does_not_compact_the_new_one() {
    let server = Server::start();
    let plane = server.connect();
    let (other, offsets) = made_anew(&server, 9);
    other.compactor().unwrap().compact("event", b"k", offsets[3]).unwrap();
    // Its offset may be one of the stream that is gone.
    let told = plane.compactor().unwrap().compact("event", b"k", offsets[6]).unwrap_err();
    assert_eq!(told.kind(), ErrorKind::EraChanged, "{told}");
    let lowest = |plane: &Nats| plane.lowest_retained(Filter::topic("event", b"k")).unwrap();
    assert_eq!(lowest(&server.connect()), offsets[3]);
    plane.era().unwrap();
    plane.compactor().unwrap().compact("event", b"k", offsets[6]).unwrap();
    assert_eq!(lowest(&server.connect()), offsets[6]);
}

#[test]
fn what_another_program_publishes_in_a_wider_stream_is_the_trouble_of_its_own_topic_alone() {
    let server = Server::start();
    let made = server.ask(
        "$JS.API.STREAM.CREATE.esker",
        r#"{"name":"esker","subjects":["esker.e.>"],"retention":"limits","storage":"file","discard":"new","num_replicas":1,"duplicate_window":120000000000}"#,
    );
    assert!(made.contains("\"created\""), "{made}");
    let plane = Arc::new(server.connect());
    let store = store_on(&plane);
    let topic = store.topic(EVENTS, "k").unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let consumer = topic
        .on_event("ship", ConsumerOptions::new(), move |event: &Delivery<'_, u64>| {
            tell.send(event.event)?;
            Ok(())
        })
        .unwrap();
    let mut all = plane.subscribe(Filter::stream("event"), Offset::BEGINNING).unwrap();
    let mut sick = plane.subscribe(Filter::topic("event", b"sick"), Offset::BEGINNING).unwrap();
    let first = topic.append(&1).unwrap();
    assert_eq!(told.recv_timeout(SOON).unwrap(), 1);
    // Deeper than topics are: nobody's. With a stamp that is none: its topic's.
    let answer = server.ask("esker.e.event.x.y", "hello");
    assert!(answer.contains("\"seq\""), "{answer}");
    assert_eq!(all.next_timeout(SOON).unwrap().unwrap().offset(), first);
    server.publish_with_header("esker.e.event.sick", "Esker-Stamp: none");
    topic.append(&2).unwrap();
    assert_eq!(told.recv_timeout(SOON), Ok(2), "{:?}", consumer.status());
    for feed in [&mut sick, &mut all] {
        assert_eq!(feed.next_timeout(SOON).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn a_longest_timeout_is_a_timeout_and_a_password_stands_in_no_error() {
    let server = Server::start();
    drop(server.connect());
    Nats::connect(server.config().timeout(Duration::MAX)).unwrap();
    let config =
        NatsConfig::new().server("nats://user:hunter2@127.0.0.1:1").timeout(Duration::from_millis(200));
    let error = Nats::connect(config).unwrap_err();
    let all = format!("{error} / {error:?}");
    assert!(all.contains("127.0.0.1:1") && !all.contains("hunter2"), "{all}");
}

#[test]
fn a_channel_that_nobody_listens_to_any_more_is_not_subscribed_to() {
    let server = Server::start();
    let plane = server.connect();
    let mut stays = plane.listen("stays").unwrap();
    (0..100).for_each(|n| drop(plane.listen(&format!("session {n}")).unwrap()));
    let text = format!("{plane:?}");
    assert!(text.matches("session ").count() <= 1, "{text}");
    plane.broadcast("stays", b"heard").unwrap();
    assert!(stays.next_timeout(SOON).unwrap().is_some());
    // Whoever comes again hears again.
    let mut again = plane.listen("session 7").unwrap();
    let heard = until(|| {
        plane.broadcast("session 7", b"again").unwrap();
        again.next_timeout(Duration::from_millis(50)).unwrap()
    });
    assert!(matches!(heard, esker::backplane::Broadcast::Message(_)));
}

#[test]
fn a_stream_that_drops_nothing_is_told_as_one_that_only_grows() {
    let server = Server::start();
    let grows = |plane: Nats| store_on(&Arc::new(plane)).journal().stats().backplane_only_grows;
    assert!(!grows(server.connect()));
    assert!(server.ask("$JS.API.STREAM.DELETE.esker", "").contains("\"success\":true"));
    let made = server.ask(
        "$JS.API.STREAM.CREATE.esker",
        r#"{"name":"esker","subjects":["esker.e.>"],"retention":"limits","storage":"file","discard":"new","deny_delete":true,
            "num_replicas":1,"duplicate_window":120000000000}"#,
    );
    assert!(made.contains("\"created\""), "{made}");
    assert!(grows(server.connect()));
}
