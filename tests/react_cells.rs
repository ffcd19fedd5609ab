//! Cells and events of topics in what a reactor puts out: in one batch with how far it has read, so that each entry counts once
//! whatever goes wrong.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use esker::backplane::{InMemory, Offset, Revision};
use esker::{
    At, Entry, ErrorKind, Facts, Fold, Options, Out, ReactOptions, Reaction, ReactorState, Simulator, Store,
    Topic,
};

const ORDERS: Facts<u64> = Facts::new("order");
const TOLD: Topic<u64> = Topic::new("told");
const LONG: Duration = Duration::from_secs(30);

fn soon() -> ReactOptions {
    ReactOptions::new().retry_between(Duration::from_micros(100), Duration::from_millis(1))
}

/// Counts an order in two steps, and tells what it came to.
fn count(entry: Entry<'_>, out: &mut Out<'_>) -> Reaction {
    let cents = out.fact(ORDERS, entry)?.ok_or("an order")?.value()?;
    let turnover = out.store().cells().cell::<u64>("turnover")?;
    let mut sum = 0;
    for part in [cents / 2, cents - cents / 2] {
        out.update(&turnover, |known| {
            sum = known.unwrap_or(0) + part;
            Ok(Some(sum))
        })?;
    }
    out.append_event(TOLD, "sum", &sum)?;
    Ok(())
}

fn orders(store: &Store) -> Vec<u64> {
    store.facts(ORDERS).unwrap().iter().map(|order| order.value().unwrap()).collect()
}

fn told(store: &Store) -> Vec<u64> {
    let mut feed = store.topic(TOLD, "sum").unwrap().read(Offset::BEGINNING).unwrap();
    std::iter::from_fn(|| feed.try_next().unwrap()).map(|event| event.value().unwrap()).collect()
}

/// What is to be told of orders.
fn sums(orders: &[u64]) -> Vec<u64> {
    orders.iter().scan(0, |sum, cents| (*sum += cents, Some(*sum)).1).collect()
}

/// Waits until the cell has this value.
fn await_turnover(store: &Store, value: u64) {
    let mut watcher = store.cells().cell::<u64>("turnover").unwrap().watch().unwrap();
    while watcher.next_timeout(LONG).unwrap().expect("it is told in time").value != Some(value) {}
}

#[test]
fn each_entry_counts_once_also_behind_failures_and_those_who_follow_are_told() {
    let store = Store::in_memory().unwrap();
    let attempts = AtomicU32::new(0);
    let reactor = store
        .react_with("counting", store.region(ORDERS).unwrap(), soon(), move |entry, out| {
            count(entry, out)?;
            if attempts.fetch_add(1, Ordering::Relaxed) % 3 == 1 {
                Err("now and then".into())
            } else {
                Ok(())
            }
        })
        .unwrap();
    for n in 1..=60 {
        store.append(ORDERS, "a", &n).unwrap();
    }
    await_turnover(&store, 60 * 61 / 2);
    reactor.stop();
    reactor.join().unwrap();
    let all = orders(&store);
    assert_eq!(told(&store), sums(&all));
    let loaded = store.cells().cell::<u64>("turnover").unwrap().load().unwrap();
    assert_eq!(loaded.revision, Revision::from_raw(60), "two changes of one reaction are one");
}

#[test]
fn a_cell_that_others_change_meanwhile_has_the_reaction_called_again() {
    let store = Store::in_memory().unwrap();
    let (mine, theirs) = channel();
    let reactor = store
        .react_with("counting", store.region(ORDERS).unwrap(), soon(), move |entry, out| {
            count(entry, out)?;
            // Behind the look at it, and before the batch: whoever is told may be faster.
            let (done, wait) = channel::<()>();
            mine.send(done)?;
            let _ = wait.recv();
            Ok(())
        })
        .unwrap();
    let turnover = store.cells().cell::<u64>("turnover").unwrap();
    for n in 1..=10 {
        store.append(ORDERS, "a", &n).unwrap();
        let done = theirs.recv_timeout(LONG).unwrap();
        turnover.update(|known| Ok(Some(known.unwrap_or(0) + 1000))).unwrap();
        drop(done);
        // The second attempt is left alone.
        drop(theirs.recv_timeout(LONG).unwrap());
        await_turnover(&store, n * 1000 + n * (n + 1) / 2);
    }
    let failures = reactor.status().failures;
    assert_eq!(failures, 10, "{:?}", reactor.status());
    drop(theirs);
    reactor.stop();
    reactor.join().unwrap();
    assert_eq!(told(&store).len(), 10);
}

#[test]
fn a_power_cut_at_any_operation_of_the_disk_leaves_each_order_counted_once() {
    let open = |disk: &Simulator| {
        Store::over(Options::new().segment_bytes(4096).background(false).open_in(disk).unwrap())
    };
    let disk = Simulator::new();
    let store = open(&disk);
    let reactor = store.react_with("counting", store.region(ORDERS).unwrap(), soon(), count).unwrap();
    for n in 1..=10 {
        store.append(ORDERS, "a", &n).unwrap();
    }
    await_turnover(&store, 55);
    store.close().unwrap();
    drop(reactor);
    for at in 0..=disk.events() {
        for choose in 0..2_usize {
            let lost = disk.crash(at, &mut |n: usize| [0, n - 1][choose]);
            let store = open(&lost);
            let (all, before) = (orders(&store), told(&store));
            let expected = sums(&all);
            let shown = format!("behind {at} operations, outcome {choose}: {before:?} of {all:?}");
            assert!(expected.starts_with(&before), "{shown}");
            let turnover = store.cells().cell::<u64>("turnover").unwrap().load().unwrap();
            assert_eq!(turnover.value, before.last().copied(), "{shown}");
            let Some(last) = expected.last() else { continue };
            let reactor = store.react("counting", store.region(ORDERS).unwrap(), count).unwrap();
            await_turnover(&store, *last);
            reactor.stop();
            reactor.join().unwrap();
            assert_eq!(told(&store), expected, "{shown}");
        }
    }
}

#[test]
fn what_a_reactor_puts_out_is_folded_as_what_is_appended() {
    struct Newest;
    impl Fold for Newest {
        type State = Vec<u64>;
        type Event = u64;
        const NAME: &'static str = "newest";
        const VERSION: u32 = 1;
        fn fold(all: &mut Vec<u64>, sum: u64, _: &At) {
            all.push(sum);
        }
    }
    let store = Store::in_memory().unwrap();
    let reactor = store.react("counting", store.region(ORDERS).unwrap(), count).unwrap();
    let topic = store.topic(TOLD, "sum").unwrap();
    let fold = topic.fold::<Newest>().unwrap();
    for n in 1..=20 {
        topic.append(&(n * 1_000_000)).unwrap();
        store.append(ORDERS, "a", &n).unwrap();
    }
    await_turnover(&store, 210);
    let folded = fold.read_after(topic.head().unwrap(), LONG).unwrap();
    assert_eq!(folded.value, told(&store));
    assert_eq!(folded.value.len(), 40);
    reactor.stop();
    reactor.join().unwrap();
}

#[test]
fn what_no_batch_reaches_is_refused_with_the_reason() {
    let elsewhere = Store::in_memory().unwrap().with_backplane(Arc::new(InMemory::new()));
    let other = Store::in_memory().unwrap().cells().cell::<u64>("turnover").unwrap();
    let (tell, heard) = channel();
    let store = Store::in_memory().unwrap();
    let reacts = |store: &Store, said: &'static str| {
        let (tell, other) = (tell.clone(), other.clone());
        let reaction = move |_: Entry<'_>, out: &mut Out<'_>| {
            let own = out.store().cells().cell::<u64>("turnover")?;
            let outcome = match said {
                "another store's cell" => out.update(&other, Ok).map(drop),
                "a cell elsewhere" => out.update(&own, Ok).map(drop),
                _ => out.append_event(TOLD, "sum", &1).map(drop),
            };
            tell.send(outcome.unwrap_err()).unwrap();
            assert!(out.is_empty());
            Ok(())
        };
        let reactor = store.react("refused", store.region(ORDERS).unwrap(), reaction).unwrap();
        store.append(ORDERS, "a", &1).unwrap();
        let error = heard.recv_timeout(LONG).unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{said}: {error}");
        reactor.stop();
        reactor.join().unwrap();
        store.journal().retire_cursor("refused").unwrap();
        error.to_string()
    };
    assert!(reacts(&store, "another store's cell").contains("one of another"));
    for said in ["a cell elsewhere", "an event elsewhere"] {
        assert!(reacts(&elsewhere, said).contains("those of another backplane"));
    }
    // What a cell holds is never written over unread, and an error of the change discards all.
    let text = store.cells().cell::<String>("turnover").unwrap();
    let before = text.update(|_| Ok(Some("no number".to_owned()))).unwrap();
    let reactor = store.react_with("counting", store.region(ORDERS).unwrap(), soon(), count).unwrap();
    while reactor.status().failures < 3 {
        std::thread::yield_now();
    }
    assert!(matches!(reactor.status().state, ReactorState::Retrying { .. }));
    assert!(reactor.status().last_failure.unwrap().contains("decode the cell"));
    assert_eq!(text.load().unwrap(), before);
    reactor.stop();
    reactor.join().unwrap();
    assert!(told(&store).is_empty());
}
