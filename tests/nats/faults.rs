//! What a network, a crash and an operator do, under feeds and folds that run.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use esker::backplane::{
    Append, Backplane, Broadcast, Filter, Nats, NatsConfig, Offset, Put, Revision, Stamp, Step, StepDone,
    WriterId,
};
use esker::{
    At, ConsumerOptions, Delivery, ErrorKind, Fold, FoldOptions, HaltReason, Handled, Store, Topic,
    TopicFold, TopicHandle,
};

use crate::proxy::Proxy;
use crate::server::{Server, until};

pub(crate) const EVENTS: Topic<u64> = Topic::new("event");
const PATIENCE: Duration = Duration::from_secs(60);

/// Another list of numbers comes to another value.
pub(crate) struct Chain;
impl Fold for Chain {
    type State = (u64, u64);
    type Event = u64;
    const NAME: &'static str = "chain";
    const VERSION: u32 = 1;
    fn fold(chain: &mut (u64, u64), number: u64, _: &At) {
        chain.0 += 1;
        chain.1 = (chain.1 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    }
}

pub(crate) fn chain_of(numbers: impl IntoIterator<Item = u64>) -> (u64, u64) {
    let mut chain = (0, 0);
    numbers.into_iter().for_each(|number| {
        chain.0 += 1;
        chain.1 = (chain.1 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    });
    chain
}

pub(crate) fn store_on(plane: &Arc<Nats>) -> Store {
    Store::in_memory().unwrap().with_backplane(Arc::clone(plane) as Arc<dyn Backplane>)
}

fn once(stream: &str, key: &[u8], payload: &[u8], stamp: Stamp) -> (String, Vec<u8>, Vec<u8>, Stamp) {
    (stream.to_owned(), key.to_vec(), payload.to_vec(), stamp)
}

fn commit(plane: &Nats, record: &(String, Vec<u8>, Vec<u8>, Stamp)) -> esker::Result<StepDone> {
    let append = Append::new(&record.0, &record.1, &record.2, record.3);
    Ok(plane.commit(&[Step::Append(append)])?.steps[0])
}

/// All records of a stream that are there now.
fn all(plane: &Nats, stream: &str) -> Vec<Vec<u8>> {
    let head = plane.head(Filter::stream(stream)).unwrap();
    let mut feed = plane.subscribe(Filter::stream(stream), Offset::BEGINNING).unwrap();
    let mut found = Vec::new();
    while feed.position() < head {
        found.push(feed.next().unwrap().payload().to_vec());
    }
    found
}

/// Repeats what a broken connection ends.
fn stubborn<T>(mut call: impl FnMut() -> esker::Result<T>) -> T {
    until(|| match call() {
        Ok(done) => Some(done),
        Err(error) if error.kind() == ErrorKind::Disconnected => None,
        Err(error) => panic!("{error}"),
    })
}

/// Appends numbers; answers where the last one is.
fn send_all(topic: &TopicHandle<'_, u64>, numbers: impl IntoIterator<Item = u64>) -> Offset {
    numbers.into_iter().fold(Offset::BEGINNING, |_, number| topic.append(&number).unwrap())
}

/// Appends the next numbers until one is acknowledged. Those that were not are there too: the next append sees to that first.
fn send(topic: &TopicHandle<'_, u64>, sent: &mut u64) -> Offset {
    until(|| {
        let appended = topic.append(sent);
        *sent += 1;
        match appended {
            Ok(offset) => Some(offset),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
                None
            }
        }
    })
}

fn expect(fold: &TopicFold<Chain>, offset: Offset, numbers: impl IntoIterator<Item = u64>) {
    let folded = fold.read_after(offset, PATIENCE).unwrap();
    assert_eq!(folded.value, chain_of(numbers), "{:?}", fold.stats());
}

#[test]
fn a_server_that_is_killed_under_folds_and_comes_back_has_lost_nothing() {
    let mut server = Server::start();
    let (plane, other) = (Arc::new(server.connect()), Arc::new(server.connect()));
    let (store, reads) = (store_on(&plane), store_on(&other));
    let topic = store.topic(EVENTS, "k").unwrap();
    let folds = [topic.fold::<Chain>().unwrap(), reads.topic(EVENTS, "k").unwrap().fold::<Chain>().unwrap()];
    let mut sent = 0;
    for round in 0..4 {
        for _ in 0..2 {
            let last = (0..10).fold(Offset::BEGINNING, |_, _| send(&topic, &mut sent));
            folds.iter().for_each(|fold| expect(fold, last, 0..sent));
        }
        server.kill();
        if round % 2 == 0 {
            let lost = topic.append(&sent).unwrap_err();
            assert_eq!(lost.kind(), ErrorKind::Disconnected, "{lost}");
            sent += 1;
        }
        server.revive();
        let last = send(&topic, &mut sent);
        folds.iter().for_each(|fold| expect(fold, last, 0..sent));
    }
    assert_eq!(all(&server.connect(), "event").len() as u64, sent);
}

#[test]
fn a_consumer_under_a_server_that_is_killed_does_each_event_in_order_and_passes_none_over() {
    let mut server = Server::start();
    let plane = Arc::new(server.connect());
    let store = store_on(&plane);
    let topic = store.topic(EVENTS, "k").unwrap();
    let (does, done) = channel();
    let handler = move |delivery: &Delivery<'_, u64>| -> Handled { Ok(does.send(delivery.event)?) };
    let consumer = topic.on_event("ship", ConsumerOptions::new(), handler).unwrap();
    let comes_to = |last: Offset| until(|| (consumer.status().committed >= last).then_some(()));
    let mut sent = 0;
    for _ in 0..4 {
        comes_to((0..10).fold(Offset::BEGINNING, |_, _| send(&topic, &mut sent)));
        server.kill();
        let lost = topic.append(&sent).unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Disconnected, "{lost}");
        sent += 1;
        server.revive();
        comes_to(send(&topic, &mut sent));
    }
    let stats = store.journal().stats();
    assert!(stats.consumer_reconnects > 0 && stats.consumers_down == 0, "{stats:?}");
    // At least once: what was done again came before.
    let mut first = Vec::new();
    for event in done.try_iter() {
        if event == first.len() as u64 {
            first.push(event);
        }
        assert!(first.contains(&event), "{event} behind {first:?}");
    }
    assert_eq!(first.len() as u64, sent);
}

#[test]
fn a_stream_that_is_made_anew_under_a_running_fold_is_another_era() {
    let server = Server::start();
    let plane = Arc::new(server.connect());
    let store = store_on(&plane);
    let topic = store.topic(EVENTS, "k").unwrap();
    let fold = topic.fold::<Chain>().unwrap();
    let offsets: Vec<Offset> = (0..30).map(|number| topic.append(&number).unwrap()).collect();
    expect(&fold, offsets[29], 0..30);
    let era = plane.era().unwrap();
    let mut feed = plane.subscribe(Filter::stream("event"), offsets[29]).unwrap();

    assert!(server.ask("$JS.API.STREAM.DELETE.esker", "").contains("\"success\":true"));
    // Whoever connects makes it again. The consumers that were are silent, without an error.
    let again = Arc::new(server.connect());
    assert_ne!(again.era().unwrap(), era);
    let ended = feed.next().unwrap_err();
    assert!(matches!(ended.kind(), ErrorKind::EraChanged | ErrorKind::Disconnected), "{ended}");
    let store_again = store_on(&again);
    let topic_again = store_again.topic(EVENTS, "k").unwrap();
    let last = send_all(&topic_again, 100..103);
    // The offsets are those of before, and the records others.
    assert!(last < offsets[29]);
    until(|| (fold.stats().era_resets > 0).then_some(()));
    // The handle of before may have been read, and says so; another one of the same fold goes on.
    let told = fold.read_after(last, PATIENCE).unwrap_err();
    assert_eq!(told.kind(), ErrorKind::EraChanged, "{told}");
    expect(&topic.fold::<Chain>().unwrap(), last, 100..103);
    let error = plane.subscribe(Filter::stream("event"), offsets[29]).err().map(|error| error.kind());
    assert_eq!(error, Some(ErrorKind::EraChanged));
}

#[test]
fn a_fold_that_was_away_while_the_stream_was_made_anew_takes_no_image_of_before() {
    let server = Server::start();
    let plane = Arc::new(server.connect());
    let store = store_on(&plane);
    let topic = store.topic(EVENTS, "k").unwrap();
    let fold = topic.fold::<Chain>().unwrap();
    let last = send_all(&topic, 0..9);
    expect(&fold, last, 0..9);
    fold.save_image().unwrap();
    drop(fold);
    assert!(server.ask("$JS.API.STREAM.DELETE.esker", "").contains("\"success\":true"));
    let again = Arc::new(server.connect());
    let store = store_on(&again);
    let topic = store.topic(EVENTS, "k").unwrap();
    let last = send_all(&topic, 50..65);
    let fold = topic.fold::<Chain>().unwrap();
    expect(&fold, last, 50..65);
    assert_eq!(fold.stats().images_used, 0);
}

#[test]
fn an_append_whose_answer_does_not_come_is_there_once() {
    let server = Server::start();
    let proxy = Proxy::before(server.port());
    let config = NatsConfig::new().server(proxy.url()).timeout(Duration::from_millis(300));
    let plane = Nats::connect(config).unwrap();
    let writer = WriterId::random().unwrap();
    commit(&plane, &once("s", b"k", b"1", Stamp::new(writer, 1))).unwrap();
    let observer = server.connect();
    for n in 2..6 {
        proxy.hold(true);
        let payload = n.to_string();
        let record = once("s", b"k", payload.as_bytes(), Stamp::new(writer, n));
        let lost = commit(&plane, &record).unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Disconnected, "{lost}");
        // It is stored, and only the answer is not there.
        let stored = until(|| observer.head(Filter::stream("s")).ok().filter(|head| head.raw() == n));
        proxy.hold(false);
        let again = stubborn(|| commit(&plane, &record));
        assert_eq!(again, StepDone::Appended { offset: stored, repeated: true });
    }
    // The same of a cell.
    proxy.hold(true);
    let put = Put::new(b"cell", Revision::NEVER, Some(b"v"), Stamp::new(writer, 1));
    assert_eq!(plane.commit(&[Step::Put(put)]).unwrap_err().kind(), ErrorKind::Disconnected);
    let stored = until(|| observer.load(b"cell").ok().filter(|cell| cell.bytes.is_some())).revision;
    proxy.hold(false);
    let again = stubborn(|| plane.commit(&[Step::Put(put)]));
    assert_eq!(again.steps, [StepDone::Put { revision: stored, repeated: true }]);
    assert_eq!(all(&observer, "s"), [b"1", b"2", b"3", b"4", b"5"]);
}

#[test]
fn a_commit_that_is_looked_for_in_a_long_topic_takes_no_longer_than_its_timeouts_and_gets_on() {
    let server = Server::start();
    let before = 20_000;
    server.publish(0..before, b"x", |_| "k");
    let proxy = Proxy::before(server.port());
    let plane =
        Nats::connect(NatsConfig::new().server(proxy.url()).timeout(Duration::from_millis(400))).unwrap();
    let record = once("event", b"k", b"v", Stamp::new(WriterId::random().unwrap(), 1));
    proxy.hold(true);
    let lost = commit(&plane, &record).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Disconnected, "{lost}");
    proxy.hold(false);
    // One look at each message takes as many answers as there are messages.
    let answers = proxy.answers();
    let again = stubborn(|| commit(&plane, &record));
    assert_eq!(again, StepDone::Appended { offset: Offset::from_raw(before + 1), repeated: true });
    let answers = proxy.answers() - answers;
    assert!(answers < before / 2, "{answers} answers");
}

#[test]
fn answers_that_are_slow_change_nothing_but_the_time() {
    let server = Server::start();
    let proxy = Proxy::before(server.port());
    let plane = Arc::new(Nats::connect(server.config().server(proxy.url())).unwrap());
    let slow = NatsConfig::new().server(proxy.url());
    let slow = Arc::new(Nats::connect(slow).unwrap());
    proxy.delay(Duration::from_millis(3));
    let store = store_on(&slow);
    let topic = store.topic(EVENTS, "k").unwrap();
    let fold = store_on(&plane).topic(EVENTS, "k").unwrap().fold::<Chain>().unwrap();
    let last = send_all(&topic, 0..40);
    expect(&fold, last, 0..40);
    expect(&topic.fold::<Chain>().unwrap(), last, 0..40);
}

#[test]
fn a_stream_of_the_operators_that_would_lose_records_is_refused_and_left_as_it_is() {
    let server = Server::start();
    let made = server.ask(
        "$JS.API.STREAM.CREATE.esker",
        r#"{"name":"esker","subjects":["esker.e.>"],"retention":"limits","storage":"file","discard":"old","max_msgs":100,
            "max_age":3600000000000,"num_replicas":1}"#,
    );
    assert!(made.contains("\"created\""), "{made}");
    let config = || server.ask("$JS.API.STREAM.INFO.esker", "").split_once("\"state\"").unwrap().0.to_owned();
    let before = config();
    let error = until(|| {
        Nats::connect(server.config()).err().filter(|error| error.kind() != ErrorKind::Disconnected)
    });
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("max age") && error.to_string().contains("discard new"), "{error}");
    let settings = |info: &str| info.split_once("\"config\"").unwrap().1.to_owned();
    assert_eq!(settings(&config()), settings(&before));
}

#[test]
fn a_limit_that_refuses_what_is_new_is_told_as_a_limit_and_loses_nothing() {
    let server = Server::start();
    drop(server.connect());
    let made = server.ask(
        "$JS.API.STREAM.UPDATE.esker",
        r#"{"name":"esker","subjects":["esker.e.>"],"retention":"limits","storage":"file","discard":"new","max_msgs":3,
            "num_replicas":1,"duplicate_window":120000000000}"#,
    );
    assert!(made.contains("\"max_msgs\":3"), "{made}");
    let plane = server.connect();
    let writer = WriterId::random().unwrap();
    for n in 1..4 {
        commit(&plane, &once("s", b"k", b"v", Stamp::new(writer, n))).unwrap();
    }
    let full = commit(&plane, &once("s", b"k", b"v", Stamp::new(writer, 4))).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::LimitReached, "{full}");
    assert_eq!(all(&plane, "s").len(), 3);
}

#[test]
fn an_image_that_is_larger_than_a_message_is_saved_in_pieces_and_found_again() {
    struct Large;
    impl Fold for Large {
        type State = Vec<String>;
        type Event = u64;
        const NAME: &'static str = "large";
        const VERSION: u32 = 1;
        fn fold(state: &mut Vec<String>, number: u64, _: &At) {
            state.push(number.to_string().repeat(100_000));
        }
    }
    let server = Server::start();
    let plane = Arc::new(server.connect());
    let store = store_on(&plane);
    let topic = store.topic(EVENTS, "k").unwrap();
    let last = send_all(&topic, 10..40);
    let fold = topic.fold_with::<Large>(FoldOptions::new().images_every(0)).unwrap();
    let whole = fold.read_after(last, PATIENCE).unwrap().value;
    assert!(whole.iter().map(String::len).sum::<usize>() > 5 << 20);
    fold.save_image().unwrap();
    drop((fold, store));
    let store = store_on(&Arc::new(server.connect()));
    let fold =
        store.topic(EVENTS, "k").unwrap().fold_with::<Large>(FoldOptions::new().images_every(0)).unwrap();
    assert_eq!(fold.read_after(last, PATIENCE).unwrap().value, whole);
    assert_eq!((fold.stats().images_used, fold.stats().folded), (1, 0));

    let most = plane.payload_bytes_max();
    let writer = WriterId::random().unwrap();
    commit(&plane, &once("s", b"k", &vec![7; most], Stamp::new(writer, 1))).unwrap();
    let over = commit(&plane, &once("s", b"k", &vec![7; most + 1], Stamp::new(writer, 2))).unwrap_err();
    assert_eq!(over.kind(), ErrorKind::InvalidInput, "{over}");
}

#[test]
fn what_one_process_compacts_is_lost_to_another_and_a_fold_there_halts_or_bridges() {
    let server = Server::start();
    let (plane, other) = (Arc::new(server.connect()), Arc::new(server.connect()));
    let store = store_on(&plane);
    let topic = store.topic(EVENTS, "k").unwrap();
    let offsets: Vec<Offset> = (0..20).map(|number| topic.append(&number).unwrap()).collect();
    // The server would take these two for the whole subject.
    for before in [0, 1] {
        plane.compactor().unwrap().compact("event", b"k", Offset::from_raw(before)).unwrap();
    }
    assert_eq!(topic.lowest_retained().unwrap(), offsets[0]);
    plane.compactor().unwrap().compact("event", b"k", offsets[12]).unwrap();
    let lost = other.subscribe(Filter::topic("event", b"k"), offsets[3]).err().unwrap();
    assert_eq!((lost.kind(), lost.floor()), (ErrorKind::Lost, Some(offsets[12].raw())));
    // Whoever stands right before the floor has missed nothing.
    let mut feed = other.subscribe(Filter::topic("event", b"k"), offsets[11]).unwrap();
    assert_eq!(feed.next().unwrap().offset(), offsets[12]);
    let fold = store_on(&other).topic(EVENTS, "k").unwrap().fold::<Chain>().unwrap();
    let halted = fold.read_after(offsets[19], PATIENCE).unwrap_err();
    assert_eq!(halted.kind(), ErrorKind::Halted, "{halted}");
    assert!(halted.to_string().contains("no image"), "{halted} is not {:?}", HaltReason::Unbridgeable);
}

#[test]
fn a_broadcast_is_heard_in_other_processes_and_once_in_ones_own() {
    let server = Server::start();
    let (here, there) = (server.connect(), server.connect());
    let (mut own, mut other) = (here.listen("news").unwrap(), there.listen("news").unwrap());
    // Whether the other one's subscription is there already nobody promises.
    let heard = until(|| {
        assert_eq!(here.broadcast("news", b"now").unwrap(), 1);
        other.next_timeout(Duration::from_millis(50)).unwrap()
    });
    assert_eq!(heard, Broadcast::Message(b"now"[..].into()));
    assert_eq!(own.next_timeout(PATIENCE).unwrap(), Some(Broadcast::Message(b"now"[..].into())));
    here.broadcast("news", b"last").unwrap();
    let last = until(|| match own.next_timeout(PATIENCE).unwrap().unwrap() {
        Broadcast::Message(message) if *message == *b"last" => Some(own.try_next().unwrap()),
        _ => None,
    });
    assert_eq!(last, None, "it came twice");
    here.close().unwrap();
    assert_eq!(own.try_next().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_feed_that_nobody_reads_is_told_that_it_fell_behind_and_goes_on_where_it_stood() {
    let server = Server::start();
    let plane = server.connect();
    let writer = WriterId::random().unwrap();
    let mut feed = plane.subscribe(Filter::stream("s"), Offset::BEGINNING).unwrap();
    let payload = vec![1; 512 << 10];
    let sent: Vec<_> =
        (1..41).map(|n| commit(&plane, &once("s", b"k", &payload, Stamp::new(writer, n)))).collect();
    let head = plane.head(Filter::stream("s")).unwrap();
    let mut seen = Vec::new();
    while feed.position() < head {
        match feed.next() {
            Ok(record) => seen.push(record.offset().raw()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
                feed = plane.subscribe(Filter::stream("s"), feed.position()).unwrap();
            }
        }
    }
    assert_eq!(seen.len(), sent.len());
    assert!(seen.is_sorted());
}
