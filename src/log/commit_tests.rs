//! The commit machine, run as it is by threads, and by loom over every interleaving
//! (`cargo test --manifest-path tests/loom/Cargo.toml`).

use super::*;

fn at(offset: u64) -> Position {
    Position::new(1, offset)
}

#[cfg(not(loom))]
mod real {
    use super::*;

    #[test]
    fn a_wait_below_the_durable_mark_needs_no_sync() {
        let commit = Commit::new(at(64));
        commit.wait(at(64), || panic!("nothing to sync")).unwrap();
    }

    #[test]
    fn a_failed_sync_poisons_everybody_and_is_never_repeated() {
        let commit = Commit::new(at(0));
        commit.publish(at(64));
        let mut calls = 0;
        let mut fail = || {
            calls += 1;
            Err("EIO".to_owned())
        };
        let poisoned = Err(Stopped::Poisoned("EIO".into()));
        assert_eq!(commit.wait(at(64), &mut fail), poisoned);
        assert_eq!(commit.wait(at(64), &mut fail), poisoned);
        assert_eq!(calls, 1);
        assert_eq!(commit.readable(), at(0), "the limit of every reader is the durable mark");
    }

    #[test]
    fn a_sync_moves_the_mark_as_far_as_it_came_and_never_back() {
        let commit = Commit::new(at(8));
        assert_eq!((commit.visible(), commit.durable(), commit.stopped()), (at(8), at(8), None));
        commit.publish(at(64));
        assert_eq!((commit.readable(), commit.durable(), commit.is_poisoned()), (at(64), at(8), false));
        // The second of three answers is behind the first.
        let mut came_to = [at(32), at(16), at(64)].into_iter();
        let mut marks = Vec::new();
        commit
            .wait(at(64), || {
                marks.push(commit.durable());
                Ok(came_to.next().unwrap())
            })
            .unwrap();
        assert_eq!((marks, commit.durable()), (vec![at(8), at(32), at(32)], at(64)));
    }

    #[test]
    fn a_leader_does_not_wait_for_long_for_those_who_do_not_come_back() {
        let commit = Commit::new(at(8));
        commit.publish(at(64));
        std::thread::scope(|scope| {
            let second = std::sync::OnceLock::new();
            let first = commit.wait(at(64), || {
                second.get_or_init(|| scope.spawn(|| commit.wait(at(64), || panic!("one sync has to do"))));
                while commit.turn.lock().waiting < 2 {
                    std::thread::yield_now();
                }
                Ok(at(64))
            });
            assert_eq!((first, second.into_inner().unwrap().join().unwrap()), (Ok(()), Ok(())));
        });
        // Two were satisfied, and one of them appends again.
        commit.publish(at(128));
        let mut turn = commit.turn.lock();
        assert_eq!(turn.satisfied, 2);
        // A tenth of nothing is over at once.
        turn.last_sync = std::time::Duration::ZERO;
        drop(turn);
        assert_eq!(commit.wait(at(128), || Ok(at(128))), Ok(()));
        let turn = commit.turn.lock();
        assert_eq!((turn.waiting, turn.satisfied), (0, 1));
    }

    #[test]
    fn behind_a_close_nothing_becomes_durable_and_what_was_stays() {
        let commit = Commit::new(at(8));
        commit.publish(at(64));
        commit.close();
        assert_eq!(commit.stopped(), Some(Stopped::Closed));
        assert_eq!(commit.wait(at(64), || panic!("it was closed")), Err(Stopped::Closed));
        assert_eq!(commit.wait(at(8), || panic!("it was closed")), Ok(()));
        assert_eq!((commit.is_poisoned(), commit.readable()), (false, at(64)));
        commit.poison("a failed write");
        assert_eq!(
            commit.stopped(),
            Some(Stopped::Poisoned("a failed write".into())),
            "a failure outweighs a close"
        );
        assert_eq!((commit.is_poisoned(), commit.readable()), (true, at(8)));
    }

    #[test]
    fn the_first_failure_is_the_reason_that_everybody_is_told() {
        let commit = Commit::new(at(0));
        commit.poison("first");
        commit.poison("second");
        commit.close();
        assert_eq!(commit.stopped(), Some(Stopped::Poisoned("first".into())));
        assert!(commit.is_poisoned());
    }

    #[test]
    fn a_poison_set_during_a_sync_keeps_the_mark_where_it_was() {
        let commit = Commit::new(at(0));
        commit.publish(at(64));
        let outcome = commit.wait(at(64), || {
            commit.poison("a failed write");
            Ok(commit.visible())
        });
        assert_eq!(outcome, Err(Stopped::Poisoned("a failed write".into())));
        assert_eq!(commit.durable(), at(0));
    }

    #[test]
    fn a_panic_inside_a_sync_poisons_and_nobody_waits_for_ever() {
        let commit = Commit::new(at(0));
        commit.publish(at(64));
        let sync = || -> Result<Position, String> { panic!("inside the sync") };
        assert!(
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| commit.wait(at(64), sync))).is_err()
        );
        assert!(matches!(commit.wait(at(64), || Ok(commit.visible())), Err(Stopped::Poisoned(_))));
    }

    #[test]
    fn threads_share_syncs_and_each_returns_only_when_its_own_position_is_durable() {
        let commit = Commit::new(at(0));
        let synced = std::sync::atomic::AtomicU64::new(0);
        let next = Mutex::new(0u64);
        let inside = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..if cfg!(miri) { 3 } else { 200 } {
                        let mine = {
                            let mut next = next.lock();
                            *next += 8;
                            commit.publish(at(*next));
                            at(*next)
                        };
                        let sync = || {
                            assert!(!inside.swap(true, Ordering::SeqCst), "two syncs at once");
                            let end = commit.visible();
                            synced.store(end.offset(), Ordering::SeqCst);
                            inside.store(false, Ordering::SeqCst);
                            Ok(end)
                        };
                        commit.wait(mine, sync).unwrap();
                        assert!(synced.load(Ordering::SeqCst) >= mine.offset());
                    }
                });
            }
        });
    }
}

#[cfg(loom)]
mod modelled {
    use super::*;
    use loom::sync::Arc;

    /// Two appenders wait for their own positions: nobody sleeps for ever, nobody returns early.
    #[test]
    fn publish_and_wait() {
        loom::model(|| {
            let commit = Arc::new(Commit::new(at(0)));
            let next = Arc::new(Mutex::new(0u64));
            let disk = Arc::new(AtomicU64::new(0));
            let appender = |commit: Arc<Commit>, next: Arc<Mutex<u64>>, disk: Arc<AtomicU64>| {
                let mine = {
                    let mut next = next.lock();
                    *next += 8;
                    commit.publish(at(*next));
                    at(*next)
                };
                let sync = || {
                    let end = commit.visible();
                    disk.store(end.offset(), Ordering::SeqCst);
                    Ok(end)
                };
                commit.wait(mine, sync).expect("nothing stops it");
                assert!(disk.load(Ordering::SeqCst) >= mine.offset(), "acknowledged before the sync");
            };
            let (c, n, d) = (commit.clone(), next.clone(), disk.clone());
            let other = loom::thread::spawn(move || appender(c, n, d));
            appender(commit, next, disk);
            other.join().expect("the other appender");
        });
    }

    /// One waits, a sync fails: both get the poison, and no second sync is called.
    #[test]
    fn a_failed_sync_reaches_everybody() {
        loom::model(|| {
            let commit = Arc::new(Commit::new(at(0)));
            commit.publish(at(8));
            let calls = Arc::new(AtomicU64::new(0));
            let waiter = |commit: Arc<Commit>, calls: Arc<AtomicU64>| {
                let outcome = commit.wait(at(8), || {
                    calls.fetch_add(1, Ordering::SeqCst);
                    Err("EIO".to_owned())
                });
                assert_eq!(outcome, Err(Stopped::Poisoned("EIO".into())));
            };
            let (c, n) = (commit.clone(), calls.clone());
            let other = loom::thread::spawn(move || waiter(c, n));
            waiter(commit.clone(), calls.clone());
            other.join().expect("the other waiter");
            assert_eq!(calls.load(Ordering::SeqCst), 1, "a sync after a failed one");
            assert_eq!(commit.durable(), at(0));
        });
    }

    /// Close races with a waiter: it is told, or its position became durable.
    #[test]
    fn close_wakes_a_waiter() {
        loom::model(|| {
            let commit = Arc::new(Commit::new(at(0)));
            commit.publish(at(8));
            let c = commit.clone();
            let waiter = loom::thread::spawn(move || c.wait(at(8), || Ok(c.visible())));
            commit.close();
            let outcome = waiter.join().expect("the waiter");
            assert_eq!(outcome.is_ok(), commit.durable() == at(8));
        });
    }

    /// Poison from a failed write races with a sync that succeeds: the mark does not move after it.
    #[test]
    fn poison_races_with_a_sync() {
        loom::model(|| {
            let commit = Arc::new(Commit::new(at(0)));
            commit.publish(at(8));
            let c = commit.clone();
            let waiter = loom::thread::spawn(move || c.wait(at(8), || Ok(c.visible())));
            commit.poison("a failed write");
            let before = commit.durable();
            let outcome = waiter.join().expect("the waiter");
            assert_eq!(commit.durable(), before, "the durable mark moved after the poison");
            assert_eq!(outcome.is_ok(), before == at(8));
        });
    }
}
