//! Reactors: what they put out is appended exactly once, whatever goes wrong, and the log is what
//! says so: outputs are counted by their causes in a store that was opened anew.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use esker::{
    Durability, ErrorKind, Expect, Facts, Options, Out, REACTION_DEPTH_MAX, REACTION_ENTRIES_MAX,
    ReactOptions, Reaction, ReactorState, Region, Simulator, Start, Store, SubscribeOptions, Until,
    WatchOptions, With,
};

const ORDERS: Facts<u32> = Facts::new("order");
const INVOICES: Facts<u32> = Facts::new("invoice");
/// A test that waits longer has failed.
const LONG: Duration = Duration::from_secs(30);
/// What a reactor puts out for each order.
const COPIES: usize = 2;

fn soon() -> ReactOptions {
    ReactOptions::new().retry_between(Duration::from_micros(100), Duration::from_millis(1))
}

fn invoice(entry: esker::Entry<'_>, out: &mut Out<'_>) -> Reaction {
    let cents = out.fact(ORDERS, entry)?.ok_or("an order")?.value()?;
    for copy in 0..COPIES {
        out.append(INVOICES, format!("{copy}"), &cents)?;
    }
    Ok(())
}

/// How many invoices each order was the cause of.
fn invoices(store: &Store) -> BTreeMap<u64, usize> {
    let view = store.view();
    let orders = view.facts(ORDERS).map(|order| (order.unwrap().seq().get(), 0));
    let mut by_order: BTreeMap<u64, usize> = orders.collect();
    for invoice in view.facts(INVOICES) {
        let cause = invoice.unwrap().entry().causation().unwrap().seq.get();
        *by_order.get_mut(&cause).expect("an invoice for an order that there is") += 1;
    }
    by_order
}

/// Waits until there are as many invoices as there should be, and ends what appends them.
fn await_invoices(store: &Store, count: usize) {
    let options = WatchOptions::new().until(Until::Visible);
    let name = format!("awaits {count}");
    let mut watcher = store.journal().watch_with(&name, store.region(INVOICES).unwrap(), options).unwrap();
    for _ in 0..count {
        watcher.next_timeout(LONG).unwrap().expect("another invoice");
    }
    drop(watcher);
    store.journal().retire_cursor(&name).unwrap();
}

#[test]
fn what_is_put_out_tells_of_its_cause() {
    let store = Store::in_memory().unwrap();
    let reactor = store
        .react("chain", Region::all(), |entry, out| {
            if out.fact(ORDERS, entry)?.is_some() {
                out.append_with(INVOICES, "plain", &1, With::new().metadata(b"m"))?;
                out.append_with(INVOICES, "own", &2, With::new().correlation([9; 16]))?;
            } else if entry.key() == b"plain" {
                out.append(INVOICES, "second", &3)?;
            }
            Ok(())
        })
        .unwrap();
    let order = store.append_with(ORDERS, "8812", &5, With::new().correlation([7; 16])).unwrap();
    await_invoices(&store, 3);
    let told = |key: &str| {
        let fact = store.latest(INVOICES, key).unwrap().unwrap();
        let entry = fact.fact().entry();
        let cause = entry.causation().unwrap();
        (entry.correlation().unwrap(), cause.seq.get(), cause.depth, entry.seq().get())
    };
    let plain = told("plain");
    assert_eq!(plain, ([7; 16], order.seq.get(), 1, 2));
    assert_eq!(told("own"), ([9; 16], order.seq.get(), 1, 3));
    assert_eq!(told("second"), ([7; 16], plain.3, 2, 4));
    assert_eq!(store.latest(INVOICES, "plain").unwrap().unwrap().metadata(), b"m");
    assert_eq!(store.journal().get(order.seq).unwrap().unwrap().entry().causation(), None);
    reactor.stop();
    reactor.join().unwrap();
}

#[test]
fn an_error_and_a_panic_are_tried_again_and_pass_nothing_over() {
    let store = Store::in_memory().unwrap();
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    let reactor = store
        .react_with("shaky", store.region(ORDERS).unwrap(), soon(), move |entry, out| {
            out.append(INVOICES, "discarded unless this attempt is the good one", &0)?;
            match counted.fetch_add(1, Ordering::Relaxed) {
                0 => Err("the first time")?,
                1 => panic!("the second time"),
                2 => _ = out.append_if(INVOICES, "never there", Expect::Exists, &0)?,
                3 => {
                    (0..REACTION_ENTRIES_MAX).try_for_each(|_| out.append(INVOICES, "many", &0).map(drop))?
                }
                _ => {}
            }
            assert_eq!(out.len(), 1 + usize::from(counted.load(Ordering::Relaxed) == 3));
            let _ = entry;
            Ok(())
        })
        .unwrap();
    for n in 0..3 {
        store.append(ORDERS, "8812", &n).unwrap();
    }
    await_invoices(&store, 3);
    assert!(invoices(&store).values().all(|count| *count == 1));
    // They are visible a moment before they are counted.
    while reactor.status().reactions < 3 {
        std::thread::yield_now();
    }
    let status = reactor.status();
    assert_eq!((status.reactions, status.appended, status.failures), (3, 3, 4), "{status:?}");
    assert_eq!(status.state, ReactorState::Running);
    assert!(status.last_failure.unwrap().contains("at most 256"));
    assert_eq!(attempts.load(Ordering::Relaxed), 7);
}

#[test]
fn a_reactor_that_fails_says_so_and_its_cursor_stands_while_others_go_on() {
    let store = Store::in_memory().unwrap();
    let options = ReactOptions::new().retry_between(Duration::from_micros(10), Duration::from_micros(20));
    let region = store.region(ORDERS).unwrap();
    let stuck = store.react_with("stuck", region.clone(), options, |_, _| Err("always".into())).unwrap();
    let fine = store.react("fine", region, invoice).unwrap();
    let order = store.append(ORDERS, "8812", &1).unwrap();
    await_invoices(&store, COPIES);
    let failed_often =
        |state| matches!(state, ReactorState::Retrying { seq, failures } if seq == order.seq && failures > 8);
    while !failed_often(stuck.status().state) {
        std::thread::yield_now();
    }
    assert_eq!(stuck.status().last_failure.as_deref(), Some("always"));
    let cursor =
        store.journal().cursors().unwrap().into_iter().find(|cursor| cursor.name == "stuck").unwrap();
    assert!(cursor.failures > 8 && cursor.held, "{cursor:?}");
    assert_eq!(cursor.seq, None, "nothing came before");
    assert_eq!((cursor.next, cursor.behind), (Some(order.seq), 1));
    stuck.stop();
    stuck.join().unwrap();
    let cursor =
        store.journal().cursors().unwrap().into_iter().find(|cursor| cursor.name == "stuck").unwrap();
    assert_eq!((cursor.failures, cursor.held, cursor.behind), (0, false, 1));
    assert_eq!(fine.status().failures, 0);
    // Whoever comes under that name goes on with the entry that failed.
    let again = store.react("stuck", store.region(ORDERS).unwrap(), invoice).unwrap();
    await_invoices(&store, 2 * COPIES);
    again.stop();
    again.join().unwrap();
}

#[test]
fn reactions_to_reactions_without_an_end_stop_at_a_depth() {
    let store = Store::in_memory().unwrap();
    let reactor = store
        .react("loop", Region::all(), |_, out| {
            out.append(INVOICES, "again", &0)?;
            Ok(())
        })
        .unwrap();
    store.append(ORDERS, "8812", &0).unwrap();
    let error = reactor.join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReactionLoop, "{error}");
    let history = store.history(INVOICES, "again").unwrap();
    assert_eq!(history.len(), usize::from(REACTION_DEPTH_MAX));
    let last = history.last().unwrap().seq().get();
    assert_eq!(error.seqs(), Some(last..=last));
    assert_eq!(store.journal().cursors().unwrap()[0].next.map(u64::from), Some(last));
}

#[test]
fn what_would_wait_for_itself_is_refused() {
    let store = Store::in_memory().unwrap();
    let (send, told) = mpsc::channel();
    let reactor = store
        .react("closer", store.region(ORDERS).unwrap(), move |_, out| {
            send.send(out.store().close().map_err(|error| error.kind())).unwrap();
            Ok(())
        })
        .unwrap();
    store.append(ORDERS, "8812", &0).unwrap();
    assert_eq!(told.recv().unwrap(), Err(ErrorKind::WouldDeadlock));
    store.append(ORDERS, "8812", &0).unwrap();
    assert_eq!(told.recv().unwrap(), Err(ErrorKind::WouldDeadlock), "nothing was closed");
    store.close().unwrap();
    assert_eq!(reactor.status().state, ReactorState::Stopped);
    reactor.join().unwrap();
    let refused = store.react("late", Region::all(), invoice).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
}

#[test]
fn a_reactor_does_not_keep_a_store_open_and_goes_on_without_its_handle() {
    let disk = Simulator::new();
    let open = || Store::over(Options::new().open_in(&disk).unwrap());
    let store = open();
    let (send, reacted) = mpsc::channel();
    let say = move |entry: esker::Entry<'_>, out: &mut Out<'_>| {
        invoice(entry, out)?;
        Ok(send.send(entry.seq())?)
    };
    drop(store.react("invoicing", store.region(ORDERS).unwrap(), say.clone()).unwrap());
    let first = store.append(ORDERS, "8812", &0).unwrap();
    assert_eq!(reacted.recv().unwrap(), first.seq);
    drop(store);
    // The last handle is gone: the directory is free, and the thread has ended.
    let store = open();
    let second = store.append(ORDERS, "8812", &0).unwrap();
    let reactor = store.react("invoicing", store.region(ORDERS).unwrap(), say).unwrap();
    // The first may come again if the store was gone before its batch was there.
    while reacted.recv().unwrap() != second.seq {}
    reactor.stop();
    reactor.join().unwrap();
    assert!(invoices(&store).values().all(|count| *count == COPIES));
}

#[test]
fn where_a_name_is_new_it_begins_where_it_was_told_to() {
    let store = Store::in_memory().unwrap();
    store.append(ORDERS, "8812", &1).unwrap();
    let region = store.region(ORDERS).unwrap();
    let options = ReactOptions::new().from(Start::Newest);
    let reactor = store.react_with("new", region.clone(), options.clone(), invoice).unwrap();
    let refused = store.react("new", region.clone(), invoice).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::CursorInUse);
    store.append(ORDERS, "8812", &2).unwrap();
    await_invoices(&store, COPIES);
    assert_eq!(invoices(&store).into_values().collect::<Vec<_>>(), [0, COPIES]);
    reactor.stop();
    reactor.join().unwrap();
}

#[test]
fn a_lossy_reactor_passes_failures_over_and_counts_them() {
    let store = Store::in_memory().unwrap();
    let reactor = store
        .react_lossy(store.region(ORDERS).unwrap(), SubscribeOptions::new(), |entry, out| {
            match out.fact(ORDERS, entry)?.ok_or("an order")?.value()? {
                0 => Err("not this one")?,
                1 => panic!("nor this one"),
                _ => invoice(entry, out),
            }
        })
        .unwrap();
    for n in 0..4 {
        store.append(ORDERS, "8812", &n).unwrap();
    }
    await_invoices(&store, 2 * COPIES);
    assert_eq!(invoices(&store).into_values().collect::<Vec<_>>(), [0, 0, COPIES, COPIES]);
    reactor.stop();
    let shown = format!("{reactor:?}");
    reactor.join().unwrap();
    assert!(shown.contains("lossy"), "{shown}");
    assert!(store.journal().cursors().unwrap().is_empty());
}

#[test]
fn the_key_of_an_effect_elsewhere_is_the_same_in_each_attempt_and_nowhere_else() {
    let store = Store::in_memory().unwrap();
    let (send, keys) = mpsc::channel();
    let attempts = AtomicU32::new(0);
    let reactor = store
        .react_with("outside", store.region(ORDERS).unwrap(), soon(), move |_, out| {
            send.send([out.idempotency_key(0), out.idempotency_key(1)])?;
            if attempts.fetch_add(1, Ordering::Relaxed) == 0 { Err("once more".into()) } else { Ok(()) }
        })
        .unwrap();
    store.append(ORDERS, "8812", &0).unwrap();
    store.append(ORDERS, "8812", &0).unwrap();
    let [first, again, next] = [keys.recv().unwrap(), keys.recv().unwrap(), keys.recv().unwrap()];
    assert_eq!(first, again);
    let mut all = [first, next].concat();
    all.sort_by_key(|key| key.0);
    all.dedup();
    assert_eq!(all.len(), 4);
    drop(reactor);
}

/// Opens what a crash left, lets the reactor do what is left to do, and counts.
fn every_order_has_its_invoices(disk: &Simulator, shown: &str) {
    let store = Store::over(Options::new().segment_bytes(4096).background(false).open_in(disk).unwrap());
    let before = invoices(&store);
    assert!(before.values().all(|count| [0, COPIES].contains(count)), "{shown}: {before:?}");
    let orders = before.len();
    let reactor = store.react("invoicing", store.region(ORDERS).unwrap(), invoice).unwrap();
    await_invoices(&store, orders * COPIES);
    reactor.stop();
    reactor.join().unwrap();
    let after = invoices(&store);
    assert!(after.values().all(|count| *count == COPIES), "{shown}: {after:?}");
}

#[test]
fn a_power_cut_at_any_operation_of_the_disk_leaves_each_order_with_its_invoices_once() {
    let disk = Simulator::new();
    let store = Store::over(Options::new().segment_bytes(4096).background(false).open_in(&disk).unwrap());
    let attempts = AtomicU32::new(0);
    let reactor = store
        .react_with("invoicing", store.region(ORDERS).unwrap(), soon(), move |entry, out| {
            invoice(entry, out)?;
            if attempts.fetch_add(1, Ordering::Relaxed) % 3 == 1 {
                Err("now and then".into())
            } else {
                Ok(())
            }
        })
        .unwrap();
    for n in 0..12 {
        store.append(ORDERS, format!("{n}"), &n).unwrap();
    }
    await_invoices(&store, 12 * COPIES);
    store.close().unwrap();
    drop(reactor);
    for at in 0..=disk.events() {
        let mut word = at as u64 ^ 0x9e37_79b9;
        for choose in 0..3_usize {
            let mut chance = |n: usize| {
                word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                [0, n - 1, usize::try_from(word >> 33).unwrap() % n][choose]
            };
            let lost = disk.crash(at, &mut chance);
            every_order_has_its_invoices(&lost, &format!("behind {at} operations, outcome {choose}"));
        }
    }
}

const STORE: &str = "ESKER_REACT_STORE";
const ABORT_AT: &str = "ESKER_REACT_ABORT_AT";
const ORDERED: u32 = 10;

fn small() -> Options {
    Options::new().segment_bytes(4096).background(false)
}

/// Not a test of its own: reacts to what is in the store, until it is done.
#[test]
fn role_of_a_process_that_reacts() {
    let Ok(path) = std::env::var(STORE) else { return };
    let abort_at: Option<u32> = std::env::var(ABORT_AT).ok().map(|at| at.parse().unwrap());
    let store = Store::over(small().open(path).unwrap());
    let found = invoices(&store);
    let mut left = found.len() * COPIES - found.values().sum::<usize>();
    let calls = AtomicU32::new(0);
    let reaction = move |entry: esker::Entry<'_>, out: &mut Out<'_>| {
        invoice(entry, out)?;
        let call = calls.fetch_add(1, Ordering::Relaxed);
        if abort_at == Some(call) {
            std::process::abort();
        }
        // A panic is no end, and leaves nothing behind.
        assert!(call % 4 != 2, "now and then");
        Ok(())
    };
    let mut seen = store.journal().subscribe(store.region(INVOICES).unwrap()).unwrap();
    let _reactor = store.react_with("invoicing", store.region(ORDERS).unwrap(), soon(), reaction).unwrap();
    // One order at a time, so that each of them has system calls of its own.
    for n in u32::try_from(found.len()).unwrap()..=ORDERED {
        (0..left).for_each(|_| _ = seen.next_timeout(LONG).unwrap().expect("another invoice"));
        if n < ORDERED {
            store.append(ORDERS, format!("{n}"), &n).unwrap();
            left = COPIES;
        }
    }
    store.close().unwrap();
}

fn process(mut command: Command, path: &Path) -> std::process::ExitStatus {
    command.env(STORE, path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap()
}

fn reacting() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role_of_a_process_that_reacts", "--test-threads=1"]);
    command
}

/// Lets a process do what is left, and counts what is in the log.
fn is_whole_after_another(path: &Path, shown: &str) {
    // Before there is a manifest, there is no store.
    let killed =
        small().open_existing(path).map_or_else(|_| BTreeMap::new(), |left| invoices(&Store::over(left)));
    assert!(killed.values().all(|count| [0, COPIES].contains(count)), "{shown}: {killed:?}");
    assert!(process(reacting(), path).success(), "{shown}");
    let done = invoices(&Store::over(small().open(path).unwrap()));
    assert_eq!(done.len(), ORDERED as usize);
    assert!(done.values().all(|count| *count == COPIES), "{shown}: {done:?}");
}

#[test]
fn an_abort_in_any_call_of_the_closure_leaves_each_order_with_its_invoices_once() {
    for call in 0..ORDERED {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.esker");
        let mut command = reacting();
        command.env(ABORT_AT, call.to_string());
        assert!(!process(command, &path).success(), "call {call} aborts");
        is_whole_after_another(&path, &format!("aborted in call {call}"));
    }
}

#[test]
fn a_kill_at_any_system_call_leaves_each_order_with_its_invoices_once() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("not run: strace is not installed");
        return;
    }
    let mut kills = 0;
    // strace counts the calls of each thread: it is the one that comes first to so many.
    for when in 1.. {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.esker");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(&path);
        for number in 1..=4 {
            for suffix in ["seg", "seg.tmp", "idx", "idx.tmp"] {
                strace.arg("-P").arg(path.join(format!("{number:010}.{suffix}")));
            }
        }
        for name in ["LOCK", "MANIFEST", "entities", "entities.tmp"] {
            strace.arg("-P").arg(path.join(name));
        }
        strace.arg("-e").arg(format!("inject=all:signal=KILL:when={when}"));
        let child = reacting();
        strace.arg(child.get_program()).args(child.get_args());
        let ended = process(strace, &path);
        is_whole_after_another(&path, &format!("killed at call {when}"));
        if ended.success() {
            break;
        }
        kills += 1;
    }
    assert!(kills > 20, "only {kills} calls were met");
}

#[test]
fn two_lossy_reactors_have_keys_of_their_own() {
    let store = Store::in_memory().unwrap();
    let (send, keys) = mpsc::channel();
    let start = || {
        let send = send.clone();
        let reaction = move |_: esker::Entry<'_>, out: &mut Out<'_>| Ok(send.send(out.idempotency_key(0))?);
        store.react_lossy(store.region(ORDERS).unwrap(), SubscribeOptions::new(), reaction).unwrap()
    };
    let _both = [start(), start()];
    store.append(ORDERS, "8812", &1).unwrap();
    assert_ne!(keys.recv_timeout(LONG).unwrap(), keys.recv_timeout(LONG).unwrap());
}

struct BadDisplay;

impl std::fmt::Display for BadDisplay {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("while it says what is wrong")
    }
}

impl std::fmt::Debug for BadDisplay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BadDisplay")
    }
}

impl std::error::Error for BadDisplay {}

#[test]
fn an_error_that_panics_when_it_is_asked_and_a_pause_without_an_end_are_failures_like_others() {
    let store = Store::in_memory().unwrap();
    let for_ever = ReactOptions::new().retry_between(Duration::MAX, Duration::MAX);
    let region = store.region(ORDERS).unwrap();
    let shaky = store.react_with("shaky", region.clone(), soon(), |_, _| Err(Box::new(BadDisplay))).unwrap();
    let waits = store.react_with("waits", region, for_ever, |_, _| Err("no".into())).unwrap();
    store.append(ORDERS, "8812", &1).unwrap();
    while shaky.status().failures < 3 || waits.status().failures < 1 {
        std::thread::yield_now();
    }
    for reactor in [shaky, waits] {
        assert!(matches!(reactor.status().state, ReactorState::Retrying { .. }), "{reactor:?}");
        reactor.stop();
        reactor.join().unwrap();
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_ends_no_reactor() {
    let disk = Simulator::new();
    let store = Store::over(Options::new().segment_bytes(4096).open_in(&disk).unwrap());
    let quiet = store.react_with("quiet", store.region(ORDERS).unwrap(), soon(), |_, _| Ok(())).unwrap();
    disk.limit_space(Some(1));
    // Until a segment is full there is room.
    while store.append(ORDERS, "8812", &0).is_ok() {}
    let behind = || store.journal().cursors().unwrap()[0].behind;
    // It fails, or its cursor moves in the space that is reserved for that.
    while quiet.status().failures == 0 && behind() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(quiet.status().state, ReactorState::Running, "{:?}", quiet.status());
    disk.limit_space(None);
    while behind() > 0 {
        std::thread::yield_now();
    }
    quiet.stop();
    quiet.join().unwrap();
}

#[test]
fn a_store_that_is_poisoned_ends_a_reactor_that_could_only_fail() {
    let disk = Simulator::new();
    let options = Options::new().durability(Durability::Os).background(false);
    let store = Store::over(options.open_in(&disk).unwrap());
    let reactor =
        store.react_with("r", store.region(ORDERS).unwrap(), soon(), |_, _| Err("no".into())).unwrap();
    store.append(ORDERS, "8812", &1).unwrap();
    while reactor.status().failures == 0 {
        std::thread::yield_now();
    }
    disk.fail_sync_after(0);
    store.append(ORDERS, "8812", &1).unwrap();
    assert_eq!(store.sync().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(reactor.join().unwrap_err().kind(), ErrorKind::Poisoned);
}

#[test]
fn whoever_closes_waits_for_the_reaction_that_is_under_way_also_as_the_second() {
    let store = Store::in_memory().unwrap();
    let (enter, entered) = mpsc::channel();
    let (leave, left) = mpsc::channel::<()>();
    let reaction = move |_: esker::Entry<'_>, out: &mut Out<'_>| {
        enter.send(())?;
        let _ = left.recv_timeout(LONG);
        assert_eq!(out.store().close().unwrap_err().kind(), ErrorKind::WouldDeadlock);
        Ok(())
    };
    let reactor = store.react("slow", store.region(ORDERS).unwrap(), reaction).unwrap();
    store.append(ORDERS, "8812", &1).unwrap();
    entered.recv_timeout(LONG).unwrap();
    std::thread::scope(|scope| {
        let closers = [(); 2].map(|()| scope.spawn(|| store.close()));
        while store.append(ORDERS, "8812", &1).is_ok() {}
        assert!(closers.iter().all(|closer| !closer.is_finished()), "a reaction is under way");
        leave.send(()).unwrap();
        closers.into_iter().for_each(|closer| closer.join().unwrap().unwrap());
    });
    assert_eq!(reactor.status().state, ReactorState::Stopped);
}

#[test]
fn a_value_that_panics_while_it_is_encoded_leaves_nothing_in_its_batch() {
    struct Bad;
    impl serde::Serialize for Bad {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("while it is encoded")
        }
    }
    impl<'de> serde::Deserialize<'de> for Bad {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom("never"))
        }
    }
    const BAD: Facts<Bad> = Facts::new("bad");
    let store = Store::in_memory().unwrap();
    let mut batch = store.batch();
    let encode = std::panic::AssertUnwindSafe(|| batch.append(BAD, "left over", &Bad).map(|_| ()));
    assert!(std::panic::catch_unwind(encode).is_err());
    batch.append(ORDERS, "right", &7).unwrap();
    batch.commit().unwrap();
    assert_eq!(store.latest(ORDERS, "right").unwrap().unwrap().value().unwrap(), 7);
}

#[test]
fn what_put_nothing_out_is_written_down_before_a_failure_and_by_a_close() {
    let disk = Simulator::new();
    let open = || Store::over(Options::new().open_in(&disk).unwrap());
    let store = open();
    let fails_at = |bad: u32| {
        move |entry: esker::Entry<'_>, out: &mut Out<'_>| {
            let cents = out.fact(ORDERS, entry)?.ok_or("an order")?.value()?;
            if cents == bad { Err("this one".into()) } else { Ok(()) }
        }
    };
    let region = store.region(ORDERS).unwrap();
    let stuck = store.react_with("stuck", region.clone(), soon(), fails_at(10)).unwrap();
    let quiet = store.react("quiet", region, fails_at(u32::MAX)).unwrap();
    for n in 0..20 {
        store.append(ORDERS, "8812", &n).unwrap();
    }
    while stuck.status().failures < 2 || quiet.status().reactions < 20 {
        std::thread::yield_now();
    }
    let place = |store: &Store, name: &str| {
        let cursor =
            store.journal().cursors().unwrap().into_iter().find(|cursor| cursor.name == name).unwrap();
        (cursor.seq.map_or(0, u64::from), cursor.next.map(u64::from))
    };
    assert_eq!(place(&store, "stuck"), (10, Some(11)), "it has failed at `next`");
    store.close().unwrap();
    let store = open();
    assert_eq!((place(&store, "stuck"), place(&store, "quiet")), ((10, Some(11)), (20, None)));
}
