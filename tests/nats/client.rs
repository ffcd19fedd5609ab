//! Over a connection of the caller's, which it has for itself before and behind that.

use std::sync::mpsc::channel;
use std::time::Duration;

use esker::backplane::{Append, Backplane, Filter, Nats, NatsConfig, Offset, Stamp, Step, WriterId};
use esker::{ConsumerOptions, Delivery, ErrorKind, Options, Store, Topic};
use tokio::sync::oneshot;

use crate::server::{Server, until};

const NUMBERS: Topic<u64> = Topic::new("number");

/// A thread that drives a client until it is told to end; it publishes something of its own then, and answers whether that went.
fn driven(port: u16) -> (async_nats::Client, oneshot::Sender<()>, std::thread::JoinHandle<bool>) {
    let (tell, told) = channel();
    let (end, ended) = oneshot::channel();
    let driver = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = async_nats::connect(format!("127.0.0.1:{port}")).await.unwrap();
            tell.send(client.clone()).unwrap();
            let _ = ended.await;
            client.publish("theirs", "more".into()).await.is_ok() && client.flush().await.is_ok()
        })
    });
    (told.recv().unwrap(), end, driver)
}

/// A configuration whose server is none: the client's is the one that counts.
fn nowhere() -> NatsConfig {
    NatsConfig::new().server("127.0.0.1:1").timeout(Duration::from_secs(2))
}

#[test]
fn a_backplane_over_a_client_of_the_callers_is_the_same_and_leaves_the_client_to_it() {
    let server = Server::start();
    let (client, end, driver) = driven(server.port());
    // It listens before it has its streams.
    let plane = until(|| Nats::with_client(client.clone(), nowhere()).ok());
    let stamp = Stamp::new(WriterId::random().unwrap(), 1);
    let append = Append::new("event", b"k", b"one", stamp);
    let offset = plane.commit(&[Step::Append(append)]).unwrap().offset(0).unwrap();
    // Over a connection of its own another one has what it said, and says what it hears.
    let other = server.connect();
    let topic = Filter::topic("event", b"k");
    assert_eq!((other.era().unwrap(), other.head(topic).unwrap()), (plane.era().unwrap(), offset));
    let mut feed = plane.subscribe(topic, Offset::BEGINNING).unwrap();
    assert_eq!(feed.next_timeout(Duration::from_secs(10)).unwrap().unwrap().payload(), b"one");
    let stamp = Stamp::new(stamp.writer, 2);
    other.commit(&[Step::Append(Append::new("event", b"k", b"two", stamp))]).unwrap();
    assert_eq!(feed.next_timeout(Duration::from_secs(10)).unwrap().unwrap().payload(), b"two");

    plane.close().unwrap();
    assert_eq!(plane.head(topic).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(client.connection_state(), async_nats::connection::State::Connected);
    // A second one over the same client, with what runs on one.
    let plane = Nats::with_client(client, nowhere()).unwrap();
    let journal = Options::new().background(false).in_memory().unwrap();
    let store = Store::over(journal).with_backplane(std::sync::Arc::new(plane));
    let numbers = store.topic(NUMBERS, "a").unwrap();
    let last = numbers.append(&1).unwrap();
    let consumer = numbers.on_event("ship", ConsumerOptions::new(), |_: &Delivery<'_, u64>| Ok(())).unwrap();
    until(|| (consumer.status().committed >= last).then_some(()));
    // It asks for the head between its records, once in a while.
    until(|| store.journal().stats().consumer_readings[0].lag.filter(|lag| *lag == 0));
    store.close().unwrap();
    end.send(()).unwrap();
    assert!(driver.join().unwrap(), "it is the caller's to the end");
}
