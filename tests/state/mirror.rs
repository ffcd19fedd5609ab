//! Mirrors: a target outside of the store is equal to a kind, whatever happens to either side.

use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering};

use esker::{
    Because, CompactOptions, Durability, ErrorKind, Hold, Kind, MirrorChanges, MirrorOutcome, MirrorRows,
    MirrorTarget, MirrorToken, Options, Record, Region, Simulator, Start, Store, WaitSet, Window,
};

use super::harbour::{VESSEL, Vessel, change_often, fill, open, options, store, until, vessel};
use super::table::{Content, Fault, Table, because, catch_up, changes, mirror, rows};

#[test]
fn s27_a_target_is_given_all_the_rows_and_then_what_has_changed() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    for name in ["ada", "grace", "joan"] {
        radar.assert(VESSEL, name, &vessel(name, 1.0)).unwrap();
    }
    store.flush().unwrap();
    let mut mirror = mirror(&store);
    let first = catch_up(&store, &mut mirror);
    assert!(matches!(first, MirrorOutcome::Replaced { because: None, rows: 3, .. }), "{first:?}");
    assert!(matches!(catch_up(&store, &mut mirror), MirrorOutcome::Nothing { .. }));
    // What is pending is not part of it.
    radar.assert(VESSEL, "ada", &vessel("ada", 2.0)).unwrap();
    assert!(matches!(mirror.catch_up().unwrap(), MirrorOutcome::Nothing { .. }));
    store.flush().unwrap();
    // Another is only asserted by more, one is deleted, one is made anew, one comes and goes.
    pilot.assert(VESSEL, "grace", &vessel("grace", 1.0)).unwrap();
    radar.retract(VESSEL, "joan").unwrap();
    store.flush().unwrap();
    radar.assert(VESSEL, "joan", &vessel("joan", 1.0)).unwrap();
    radar.assert(VESSEL, "ghost", &vessel("ghost", 1.0)).unwrap();
    store.flush().unwrap();
    radar.retract(VESSEL, "ghost").unwrap();
    radar.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    mirror.target_mut().told.clear();
    assert_eq!(changes(&catch_up(&store, &mut mirror)), 3);
    let told = ["grace v1 updated []", "joan v3 updated []", "ada v3 deleted"];
    assert_eq!(mirror.target().told, told, "what it comes to, in the order of the newest frames");
    let status = mirror.status();
    assert_eq!((status.replacements, status.rows, status.applications, status.changes), (1, 3, 1, 3));
    // An entity that came and went is no change, and still another token.
    radar.assert(VESSEL, "ghost", &vessel("ghost", 1.0)).unwrap();
    store.flush().unwrap();
    radar.retract(VESSEL, "ghost").unwrap();
    store.flush().unwrap();
    let before = mirror.status().token.unwrap();
    let after = catch_up(&store, &mut mirror);
    assert_eq!(changes(&after), 0);
    assert!(after.token().token().seq() > before.token().seq());
}

#[test]
fn s27_what_is_deleted_while_all_the_rows_are_handed_over_is_deleted_in_the_target() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 20);
    let mut mirror = mirror(&store);
    let (theirs, source) = (store.clone(), radar.clone());
    let before = rows(&store);
    mirror.target_mut().during = Some(Box::new(move || {
        // One that was handed over, some that come yet, and a new one; and nothing of it is left that can be told later.
        for key in ["v00", "v07", "v19"] {
            source.retract(VESSEL, key).unwrap();
        }
        source.assert(VESSEL, "v08", &vessel("other", 9.0)).unwrap();
        source.assert(VESSEL, "new", &vessel("new", 9.0)).unwrap();
        theirs.flush().unwrap();
    }));
    mirror.catch_up().unwrap();
    assert_eq!(mirror.target().content.rows, before, "the rows of one moment");
    mirror.target_mut().during = None;
    assert_eq!(changes(&catch_up(&store, &mut mirror)), 5);
    assert!(!mirror.target().content.rows.contains_key("v07"));
}

#[test]
fn s27_a_compaction_while_it_is_handed_over_takes_nothing_of_it() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 20);
    let mut mirror = mirror(&store);
    let (theirs, source) = (store.clone(), radar.clone());
    let before = rows(&store);
    let busy = move || {
        for n in 0..20 {
            source.retract(VESSEL, format!("v{n:02}")).unwrap();
        }
        change_often(&theirs, &source, "busy", 300);
        let compacted = theirs.journal().compact(&CompactOptions::new()).unwrap();
        assert!(compacted.entries_dropped > 100, "{compacted:?}");
    };
    mirror.target_mut().during = Some(Box::new(busy));
    mirror.catch_up().unwrap();
    assert_eq!(mirror.target().content.rows, before, "it holds nothing back, and what it began it ends");
    mirror.target_mut().during = None;
    assert_eq!(because(&catch_up(&store, &mut mirror)), Some(Because::Compacted));
    // While changes are handed over, too.
    fill(&store, &radar, 20);
    let moment = rows(&store);
    let (theirs, source) = (store.clone(), radar.clone());
    let busy = move || {
        change_often(&theirs, &source, "busy", 300);
        theirs.journal().compact(&CompactOptions::new()).unwrap();
    };
    mirror.target_mut().during = Some(Box::new(busy));
    assert_eq!(changes(&mirror.catch_up().unwrap()), 20);
    assert_eq!(mirror.target().content.rows, moment);
}

#[test]
fn s27_what_counts_is_the_newest_version_and_not_what_arrives_last() {
    let store = store();
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 3);
    let mut mirror = mirror(&store);
    let (theirs, source) = (store.clone(), radar.clone());
    // A row that is about to be handed over changes, goes, and comes again as it was.
    mirror.target_mut().during = Some(Box::new(move || {
        change_often(&theirs, &source, "v02", 3);
        source.retract(VESSEL, "v02").unwrap();
        theirs.flush().unwrap();
        source.assert(VESSEL, "v02", &vessel("v", 1.0)).unwrap();
        theirs.flush().unwrap();
    }));
    mirror.catch_up().unwrap();
    assert_eq!(mirror.target().content.rows["v02"].0, 1);
    mirror.target_mut().during = None;
    assert_eq!(changes(&catch_up(&store, &mut mirror)), 1);
    assert_eq!(mirror.target().content.rows["v02"], (6, 1, vessel("v", 1.0)));
    // A target that was put back to an earlier content is told what has come since that.
    let earlier = mirror.target().commits[0].clone();
    change_often(&store, &radar, "v00", 2);
    catch_up(&store, &mut mirror);
    mirror.target_mut().content = earlier;
    assert_eq!(changes(&catch_up(&store, &mut mirror)), 2);
}

#[test]
fn s27_what_was_flushed_together_is_committed_together() {
    let store = store();
    let bank = store.source("bank").unwrap();
    // What the one has more the other has less.
    let transfer = |n: u16| {
        bank.assert(VESSEL, "one", &Vessel { heading: n, ..vessel("one", 0.0) }).unwrap();
        bank.assert(VESSEL, "other", &Vessel { heading: 1000 - n, ..vessel("other", 0.0) }).unwrap();
        store.flush().unwrap();
    };
    transfer(0);
    let mut mirror = mirror(&store);
    let faults = [
        Fault::ErrorBehind(1),
        Fault::PanicBehind(1),
        Fault::ErrorBeforeCommit,
        Fault::ErrorAfterCommit,
        Fault::PanicAfterCommit,
        Fault::ErrorInToken,
        Fault::PanicInToken,
    ];
    for (n, fault) in (1..).zip(faults) {
        mirror.target_mut().fault = Some(fault);
        let error = mirror.catch_up().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Target, "{fault:?}: {error}");
        // What comes next does not become part of what was interrupted.
        transfer(n);
        catch_up(&store, &mut mirror);
        transfer(100 + n);
    }
    catch_up(&store, &mut mirror);
    let sums = |content: &Content| content.rows.values().map(|(.., row)| row.heading).sum::<u16>();
    assert!(mirror.target().commits.len() >= faults.len());
    assert!(mirror.target().commits.iter().all(|content| sums(content) == 1000));
    assert_eq!(mirror.status().failures, faults.len() as u64);
}

#[test]
fn s27_a_failure_says_what_the_target_said_and_which_entity_it_had() {
    let store = store();
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 3);
    let mut mirror = mirror(&store);
    mirror.target_mut().fault = Some(Fault::ErrorBehind(2));
    let error = mirror.catch_up().unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "in the middle");
    assert!(error.to_string().contains("vessel/v01, entry 2"), "{error}");
    mirror.target_mut().fault = Some(Fault::PanicBehind(1));
    let error = mirror.catch_up().unwrap_err();
    assert!(error.to_string().contains("panicked: in the middle"), "{error}");
    let status = mirror.status();
    assert_eq!((status.failures, status.failing, status.last_failure), (2, 2, Some(error.to_string())));
    catch_up(&store, &mut mirror);
    assert_eq!(mirror.status().failing, 0);
}

#[test]
fn s27_there_is_no_token_for_who_has_not_taken_everything() {
    let store = store();
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 3);
    let mut mirror = mirror(&store);
    mirror.target_mut().fault = Some(Fault::LeavesTheRest(2));
    let error = mirror.catch_up().unwrap_err();
    let cause = error.source().and_then(|cause| cause.downcast_ref::<esker::Error>()).unwrap();
    assert_eq!((error.kind(), cause.kind()), (ErrorKind::Target, ErrorKind::InvalidInput));
    mirror.target_mut().fault = Some(Fault::ForgetsToken);
    assert_eq!(
        mirror.catch_up().unwrap_err().kind(),
        ErrorKind::Target,
        "what it did is not known to be kept"
    );
    assert_eq!(mirror.target().content, Content::default());
    catch_up(&store, &mut mirror);
}

#[test]
fn s27_a_token_that_is_not_good_any_more_means_all_the_rows() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 5);
    let mut mirror = mirror(&store);
    catch_up(&store, &mut mirror);
    let content = mirror.target().content.clone();
    let token = content.token.clone().unwrap();
    change_often(&store, &radar, "busy", 3);
    // Whatever is in the target: a row too many is gone afterwards.
    let mut with = |token: String| {
        mirror.target_mut().content = Content { token: Some(token), ..content.clone() };
        mirror.target_mut().content.rows.insert("ghost".into(), (1, 1, vessel("ghost", 1.0)));
        because(&catch_up(&store, &mut mirror))
    };
    let parts: Vec<&str> = token.split(':').collect();
    let [id, era, seq, kind, version, fields] = parts[..] else { panic!("{token}") };
    assert_eq!(
        with(format!("{}:{era}:{seq}:{kind}:{version}:{fields}", "0".repeat(32))),
        Some(Because::OtherStore)
    );
    assert_eq!(with(format!("{id}:9:{seq}:{kind}:{version}:{fields}")), Some(Because::Rewound));
    assert_eq!(with(format!("{id}:{era}:99999:{kind}:{version}:{fields}")), Some(Because::Rewound));
    assert_eq!(with(format!("{id}:{era}:{seq}:99:{version}:{fields}")), Some(Because::OtherKind));
    assert_eq!(with(format!("{id}:{era}:{seq}:{kind}:2:{fields}")), Some(Because::OtherSchema));
    assert_eq!(with(format!("{id}:{era}:{seq}:{kind}:{version}:4")), Some(Because::OtherSchema));
    drop((mirror, radar));
    store.close().unwrap();

    // A store that was repaired may have lost what the token names.
    let repaired = Simulator::new();
    esker::repair_in(&disk, &repaired).unwrap();
    let store = open(&repaired);
    let target = Table { content, ..Table::default() };
    let mut mirror = store.mirror(VESSEL).start(target).unwrap();
    assert_eq!(because(&catch_up(&store, &mut mirror)), Some(Because::Rewound));
}

#[test]
fn s27_a_name_holds_back_what_the_target_does_not_have_and_no_more() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 20);
    let compact = |store: &Store| store.journal().compact(&CompactOptions::new()).unwrap();
    let mut named = store.mirror(VESSEL).named("sqlite").start(Table::default()).unwrap();
    let again = store.mirror(VESSEL).named("sqlite").start(Table::default());
    assert_eq!(again.unwrap_err().kind(), ErrorKind::CursorInUse);
    // Before the first round too: behind its beginning nothing goes.
    change_often(&store, &radar, "busy", 300);
    assert_eq!(compact(&store).entries_dropped, 0);
    catch_up(&store, &mut named);
    change_often(&store, &radar, "busy", 300);
    // What the target has may go; of what it does not have, nothing: also while nobody runs the mirror.
    let target = named.into_target();
    assert!(compact(&store).entries_dropped > 100);
    let mut named = store.mirror(VESSEL).named("sqlite").start(target).unwrap();
    assert_eq!(changes(&catch_up(&store, &mut named)), 1);
    change_often(&store, &radar, "busy", 300);
    named.target_mut().fault = Some(Fault::ErrorBehind(1));
    named.catch_up().unwrap_err();
    let cursors = store.journal().cursors().unwrap();
    assert_eq!((cursors[0].failures, cursors[0].behind), (1, 300));
    compact(&store);
    assert_eq!(changes(&catch_up(&store, &mut named)), 1);
    assert_eq!(store.journal().cursors().unwrap()[0].failures, 0);
}

#[test]
fn s27_a_cursor_that_was_left_behind_or_is_of_another_era_is_put_back() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 20);
    let builder = |store: &Store| store.mirror(VESSEL).named("sqlite").hold(Hold::UpTo(4096));
    let mut named = builder(&store).start(Table::default()).unwrap();
    catch_up(&store, &mut named);
    change_often(&store, &radar, "busy", 300);
    assert!(store.journal().compact(&CompactOptions::new()).unwrap().entries_dropped > 100);
    assert!(store.journal().cursors().unwrap()[0].lost);
    assert_eq!(because(&catch_up(&store, &mut named)), Some(Because::Compacted));
    assert!(!store.journal().cursors().unwrap()[0].lost, "it holds back what comes now");
    let vessels = Region::kind(store.journal().kind_named("vessel").unwrap().id);
    let target = named.into_target();
    drop(store.journal().watch("audit", Region::all()).unwrap());
    drop(radar);
    store.close().unwrap();

    let repaired = Simulator::new();
    esker::repair_in(&disk, &repaired).unwrap();
    let store = open(&repaired);
    let mut named = builder(&store).start(target).unwrap();
    assert_eq!(because(&catch_up(&store, &mut named)), Some(Because::Rewound));
    drop(named);
    // Somebody else's is left alone.
    let era = |store: &Store| store.journal().cursors().unwrap()[0].era;
    let before = era(&store);
    let others = store.mirror(VESSEL).named("audit").start(Table::default()).unwrap_err();
    assert_eq!((others.kind(), era(&store)), (ErrorKind::EraChanged, before));
    store.journal().reset_cursor("audit", Start::Oldest).unwrap();
    let others = store.mirror(VESSEL).named("audit").start(Table::default()).unwrap_err();
    assert_eq!(others.kind(), ErrorKind::CursorMismatch);
    assert_eq!(store.journal().cursors().unwrap()[1].region, vessels);
}

#[test]
fn s27_what_a_power_cut_would_take_is_not_handed_over() {
    for seed in 1..40u64 {
        let disk = Simulator::new();
        let open = |disk: &Simulator| {
            Store::over(options().durability(Durability::Os).segment_bytes(16384).open_in(disk).unwrap())
        };
        let store = open(&disk);
        let radar = store.source("radar").unwrap();
        fill(&store, &radar, 5);
        let mut mirror = mirror(&store);
        catch_up(&store, &mut mirror);
        change_often(&store, &radar, "v00", 5);
        catch_up(&store, &mut mirror);
        // Nobody has asked for this to be durable.
        change_often(&store, &radar, "v01", 5);
        radar.retract(VESSEL, "v02").unwrap();
        store.flush().unwrap();
        let mut state = seed;
        let crashed = disk.crash(disk.events(), &mut |n| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % n
        });
        let target = Table { content: mirror.into_target().content, ..Table::default() };
        let store = open(&crashed);
        let radar = store.source("radar").unwrap();
        radar.assert(VESSEL, "behind", &vessel("behind", 1.0)).unwrap();
        store.flush().unwrap();
        let mut mirror = store.mirror(VESSEL).start(target).unwrap();
        let outcome = catch_up(&store, &mut mirror);
        assert!(changes(&outcome) >= 1, "the token was durable: {outcome:?}");
    }
}

#[test]
fn s27_what_cannot_be_read_is_told_and_the_target_stays_as_it_is() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 5);
    let mut before = mirror(&store);
    catch_up(&store, &mut before);
    let content = before.target().content.clone();
    radar.assert(VESSEL, "damaged", &vessel("a name that is easy to find", 1.0)).unwrap();
    radar.assert(VESSEL, "whole", &vessel("whole", 1.0)).unwrap();
    store.flush().unwrap();
    drop((before, radar));
    store.close().unwrap();
    let mut files = disk.files();
    for bytes in files.values_mut() {
        let at = bytes.windows(12).position(|bytes| bytes == b"easy to find");
        at.into_iter().for_each(|at| bytes[at] ^= 1);
    }
    let store = open(&Simulator::with(files));
    for token in [content.token.clone(), None] {
        let target = Table { content: Content { token, ..content.clone() }, ..Table::default() };
        let mut mirror = store.mirror(VESSEL).start(target).unwrap();
        let error = mirror.catch_up().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(mirror.target().content.rows, content.rows);
        assert_eq!(mirror.run().unwrap_err().kind(), ErrorKind::Corrupt, "no other attempt would mend it");
    }
}

#[test]
fn s27_a_target_has_all_that_is_durable_when_the_log_has_ended() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 3);
    let (mut closed, mut poisoned) = (mirror(&store), mirror(&store));
    catch_up(&store, &mut closed);
    catch_up(&store, &mut poisoned);
    change_often(&store, &radar, "v00", 2);
    let durable = rows(&store);
    disk.fail_sync_after(0);
    radar.assert(VESSEL, "v01", &vessel("v", 9.0)).unwrap();
    store.flush().unwrap_err();
    assert_eq!(poisoned.catch_up().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(poisoned.target().content.rows, durable);
    assert_eq!(poisoned.run().unwrap_err().kind(), ErrorKind::Poisoned);

    let store = self::store();
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 3);
    let mut closed = mirror(&store);
    let rows = rows(&store);
    drop(radar);
    store.close().unwrap();
    closed.run().unwrap();
    assert_eq!(closed.target().content.rows, rows);
    assert_eq!(closed.catch_up().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn s27_it_runs_beside_writers_through_failures_until_it_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new()
        .durability(Durability::Os)
        .segment_bytes(65536)
        .window(Window::Every(std::time::Duration::from_millis(1)));
    let store = Store::over(options.open(directory.path().join("harbour.esker")).unwrap());
    let mut mirror = store.mirror(VESSEL).named("table").start(Table::default()).unwrap();
    // A failure now and then, as often as something is handed over.
    let mut calls = 0u64;
    mirror.target_mut().during = Some(Box::new(move || {
        calls += 1;
        assert!(!calls.is_multiple_of(7), "every seventh time");
    }));
    let (stopper, monitor) = (mirror.stopper(), mirror.monitor());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A wait that ends with a panic ends the other threads too.
        let _ending = Ending(|| {
            done.store(true, Ordering::Relaxed);
            stopper.stop();
        });
        let running = scope.spawn(|| {
            mirror.run().unwrap();
            mirror
        });
        let writers: Vec<_> = (0..3u64)
            .map(|writer| {
                let (store, done) = (&store, &done);
                scope.spawn(move || {
                    let source = store.source(&format!("source-{writer}")).unwrap();
                    let mut n = writer;
                    while !done.load(Ordering::Relaxed) {
                        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let key = format!("v{}", (n >> 33) % 50);
                        let row = Vessel { heading: u16::try_from(n >> 48).unwrap(), ..vessel(&key, 1.0) };
                        let said = match (n >> 20) % 10 {
                            0..7 => source.assert(VESSEL, &key, &row).unwrap(),
                            _ => source.retract(VESSEL, &key).unwrap(),
                        };
                        said.wait(esker::Until::Visible).unwrap();
                    }
                })
            })
            .collect();
        until("it has failed often", || monitor.status().failures >= 5);
        done.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        store.flush().unwrap();
        let end = store.journal().view().last_seq().unwrap();
        until("it is there", || monitor.status().token.is_some_and(|token| token.token().seq() >= end));
        // It sleeps, and is woken.
        store.source("last").unwrap().assert(VESSEL, "last", &vessel("last", 1.0)).unwrap();
        until("it is woken", || monitor.status().token.is_some_and(|token| token.token().seq() > end));
        stopper.stop();
        let mirror = running.join().unwrap();
        assert_eq!(mirror.target().content.rows, rows(&store));
        let status = mirror.status();
        assert_eq!(
            (status.replacements, status.because),
            (1, None),
            "nothing was lost that its name holds back"
        );
        let seen = store.journal().cursors().unwrap()[0].seq;
        assert_eq!(seen, status.token.unwrap().token().seq());
    });
    store.close().unwrap();
}

/// Does something at the end, also of a test that fails.
struct Ending<F: Fn()>(F);

impl<F: Fn()> Drop for Ending<F> {
    fn drop(&mut self) {
        self.0();
    }
}

#[test]
fn s27_a_store_that_is_closed_ends_the_run_behind_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("harbour.esker")).unwrap();
    let mut mirror = mirror(&store);
    let monitor = mirror.monitor();
    let running = std::thread::spawn(move || {
        mirror.run().unwrap();
        mirror.into_target()
    });
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 3);
    until("a round is done", || monitor.status().token.is_some());
    // Accepted and not flushed: the close flushes it.
    radar.assert(VESSEL, "last", &vessel("last", 1.0)).unwrap();
    drop(radar);
    store.close().unwrap();
    assert_eq!(running.join().unwrap().content.rows.len(), 4);
    // While it waits before another attempt, too.
    let store = self::store();
    let mut mirror = store.mirror(VESSEL).start(Down).unwrap();
    let monitor = mirror.monitor();
    let running = std::thread::spawn(move || mirror.run());
    until("a round has failed", || monitor.status().failures > 0);
    store.close().unwrap();
    assert_eq!(running.join().unwrap().unwrap_err().kind(), ErrorKind::Target);
}

#[test]
fn s27_a_cursor_that_cannot_be_moved_is_a_failure_that_shows_until_it_can() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let raw = store.journal().kind("raw").unwrap();
    let mut mirror = store.mirror(VESSEL).named("table").start(Table::default()).unwrap();
    let mut another = store.mirror(VESSEL).named("another").start(Table::default()).unwrap();
    fill(&store, &radar, 5);
    disk.limit_space(Some(0));
    while store.journal().append(Record::new(raw, b"k", b"")).is_ok() {}
    // There is room that is kept for cursors, which this one takes; and then there is none at all.
    another.catch_up().unwrap();
    disk.fail_writes(0, usize::MAX);
    let (stopper, monitor) = (mirror.stopper(), mirror.monitor());
    let running = std::thread::spawn(move || mirror.run());
    until("it has failed more than once in a row", || monitor.status().failing > 2);
    let status = monitor.status();
    assert!(status.last_failure.is_some_and(|why| why.contains("no space")), "and not the target");
    assert!(status.token.is_some(), "which has the rows");
    disk.fail_writes(0, 0);
    disk.limit_space(None);
    until("it goes on", || monitor.status().failing == 0);
    stopper.stop();
    running.join().unwrap().unwrap();
    assert_eq!(store.journal().cursors().unwrap()[0].seq, monitor.status().token.unwrap().token().seq());
}

#[test]
fn s27_an_error_of_the_target_that_panics_as_it_is_dropped_ends_nothing() {
    let store = store();
    let mut mirror = store.mirror(VESSEL).start(Explosive { has_failed: false }).unwrap();
    let (stopper, monitor) = (mirror.stopper(), mirror.monitor());
    let running = std::thread::spawn(move || mirror.run());
    until("a round has gone well", || monitor.status().token.is_some());
    stopper.stop();
    running.join().unwrap().unwrap();
    assert_eq!(monitor.status().failures, 1);
}

/// One whose first answer is not to be dropped.
struct Explosive {
    has_failed: bool,
}

#[derive(Debug)]
struct Bomb;

impl std::fmt::Display for Bomb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a bomb")
    }
}

impl std::error::Error for Bomb {}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("as it is dropped");
    }
}

impl MirrorTarget<Vessel> for Explosive {
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn token(&mut self) -> Result<Option<MirrorToken>, Self::Error> {
        if std::mem::replace(&mut self.has_failed, true) { Ok(None) } else { Err(Box::new(Bomb)) }
    }

    fn replace_all(&mut self, rows: &mut MirrorRows<Vessel>) -> Result<(), Self::Error> {
        while rows.next_row()?.is_some() {}
        rows.token()?;
        Ok(())
    }

    fn apply(&mut self, _: &mut MirrorChanges<Vessel>) -> Result<(), Self::Error> {
        unreachable!("it has no token")
    }
}

/// One that cannot be reached.
struct Down;

impl MirrorTarget<Vessel> for Down {
    type Error = &'static str;

    fn token(&mut self) -> Result<Option<MirrorToken>, &'static str> {
        Err("it is down")
    }

    fn replace_all(&mut self, _: &mut MirrorRows<Vessel>) -> Result<(), &'static str> {
        unreachable!("it has no token")
    }

    fn apply(&mut self, _: &mut MirrorChanges<Vessel>) -> Result<(), &'static str> {
        unreachable!("it has no token")
    }
}

#[test]
fn s27_one_thread_waits_on_many_mirrors() {
    const PORT: Kind<Vessel> = Kind::new("port");
    let store = store();
    let harbour = store.source("harbour").unwrap();
    let mut set = WaitSet::new();
    let keys = [VESSEL, PORT].map(|kind| set.insert(store.mirror(kind).start(Table::default()).unwrap()));
    assert_eq!(set.wait(None), keys, "neither has anything yet");
    keys.iter().for_each(|key| _ = set.get_mut(*key).unwrap().catch_up().unwrap());
    harbour.assert(PORT, "rotterdam", &vessel("Rotterdam", 0.0)).unwrap();
    store.flush().unwrap();
    // One may be woken for nothing.
    let mut found = Vec::new();
    for key in set.wait(None) {
        let outcome = set.get_mut(key).unwrap().catch_up().unwrap();
        if !matches!(outcome, MirrorOutcome::Nothing { .. }) {
            found.push((key, changes(&outcome)));
        }
    }
    assert_eq!(found, [(keys[1], 1)]);
    assert_eq!(set.wait(Some(std::time::Duration::ZERO)), []);
}

#[test]
fn s27_what_is_of_other_kinds_costs_the_target_nothing() {
    const PORT: Kind<Vessel> = Kind::new("port");
    let disk = Simulator::new();
    let store = open(&disk);
    let harbour = store.source("harbour").unwrap();
    fill(&store, &harbour, 3);
    let mut mirror = mirror(&store);
    catch_up(&store, &mut mirror);
    let commits = mirror.target().commits.len();
    for n in 0..300u16 {
        harbour.assert(PORT, "rotterdam", &Vessel { heading: n, ..vessel("Rotterdam", 0.0) }).unwrap();
        store.flush().unwrap();
        assert!(matches!(catch_up(&store, &mut mirror), MirrorOutcome::Nothing { .. }));
    }
    assert_eq!(mirror.target().commits.len(), commits);
    assert!(store.journal().compact(&CompactOptions::new()).unwrap().entries_dropped > 100);
    // Its old token is as good as ever, in the next opening too.
    let target = mirror.into_target();
    drop(harbour);
    store.close().unwrap();
    let store = open(&disk);
    let mut mirror = store.mirror(VESSEL).start(target).unwrap();
    assert!(matches!(catch_up(&store, &mut mirror), MirrorOutcome::Nothing { .. }));
}
