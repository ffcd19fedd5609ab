//! Sleepers, by threads, and by loom over every interleaving
//! (`cargo test --manifest-path tests/loom/Cargo.toml`).

use super::*;

#[cfg(not(loom))]
mod real {
    use super::*;

    fn touched(interest: Interest) -> Touched {
        let mut touched = Touched::default();
        touched.add(interest);
        touched
    }

    #[test]
    fn only_those_whose_shard_was_touched_are_woken_and_each_once() {
        let sleepers = Sleepers::default();
        let (mine, others) = (Sleeper::new(), Sleeper::new());
        let (a, b) = (Interest::of_kind(1), Interest::of_kind(2));
        sleepers.lie_down(a, &mine);
        sleepers.lie_down(b, &others);
        sleepers.wake(&touched(a));
        assert!(mine.wait(Some(Duration::ZERO)));
        assert!(!others.wait(Some(Duration::ZERO)));
        sleepers.wake(&touched(a));
        assert!(!mine.wait(Some(Duration::ZERO)), "it did not lie down again");
        sleepers.wake_all();
        assert!(others.wait(Some(Duration::ZERO)));
        assert_eq!(sleepers.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn of_those_who_share_a_bit_only_who_is_meant_is_woken_while_it_is_known() {
        let sleepers = Sleepers::default();
        let first = Interest::of_entity(1 << 40);
        let second = (2..).map(|n| Interest::of_entity(n << 40)).find(|next| next.shard() == first.shard());
        let (mine, others) = (Sleeper::new(), Sleeper::new());
        sleepers.lie_down(first, &mine);
        sleepers.lie_down(second.unwrap(), &others);
        sleepers.wake(&touched(first));
        assert!(mine.wait(Some(Duration::ZERO)));
        assert!(!others.wait(Some(Duration::ZERO)));
        let mut many = Touched::everything();
        many.add(first);
        sleepers.wake(&many);
        assert!(others.wait(Some(Duration::ZERO)), "it may have been meant");
    }

    #[test]
    fn a_hundred_who_sleep_are_woken_by_each_other() {
        let sleepers = Sleepers::default();
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let sleeper = Sleeper::new();
                    sleepers.lie_down(Interest::ALL, &sleeper);
                    assert!(sleeper.wait(Some(Duration::from_secs(30))), "nobody woke it");
                });
            }
            while sleepers.count.load(Ordering::Relaxed) < 100 {
                std::thread::yield_now();
            }
            sleepers.wake(&touched(Interest::ALL));
        });
        assert!(!sleepers.are_there());
    }

    #[test]
    fn who_got_up_is_not_woken_and_leaves_no_bit_behind() {
        let sleepers = Sleepers::default();
        let (first, second) = (Sleeper::new(), Sleeper::new());
        sleepers.lie_down(Interest::ALL, &first);
        sleepers.lie_down(Interest::ALL, &second);
        sleepers.get_up(Interest::ALL, &first);
        sleepers.wake(&touched(Interest::ALL));
        assert!(!first.wait(Some(Duration::ZERO)));
        assert!(second.wait(Some(Duration::ZERO)));
        assert!(sleepers.occupied.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        sleepers.get_up(Interest::ALL, &second);
    }
}

#[cfg(loom)]
mod modelled {
    use super::*;
    use loom::thread;

    /// More than two forced switches find nothing that two do not, and take an hour.
    fn explore(run: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(run);
    }

    /// Waits for a mark as readers do: look, lie down, look again, wait.
    fn wait_for(
        mark: &AtomicU64,
        least: u64,
        sleepers: &Sleepers,
        interest: Interest,
        sleeper: &Arc<Sleeper>,
    ) {
        loop {
            if mark.load(Ordering::Acquire) >= least {
                return;
            }
            sleepers.lie_down(interest, sleeper);
            if mark.load(Ordering::Acquire) >= least {
                return sleepers.get_up(interest, sleeper);
            }
            sleeper.wait(None);
        }
    }

    #[test]
    fn no_wake_up_is_lost_between_a_mark_and_who_waits_for_it() {
        explore(|| {
            let shared = Arc::new((AtomicU64::new(0), Sleepers::default()));
            let theirs = Arc::clone(&shared);
            let writer = thread::spawn(move || {
                let (mark, sleepers) = &*theirs;
                let mut touched = Touched::default();
                touched.add(Interest::ALL);
                for next in 1..=2 {
                    mark.store(next, Ordering::Release);
                    sleepers.wake(&touched);
                }
            });
            let (mark, sleepers) = &*shared;
            let sleeper = Sleeper::new();
            wait_for(mark, 1, sleepers, Interest::ALL, &sleeper);
            wait_for(mark, 2, sleepers, Interest::ALL, &sleeper);
            writer.join().unwrap();
        });
    }

    #[test]
    fn two_who_sleep_in_one_shard_are_both_woken_by_an_end_for_all() {
        explore(|| {
            let shared = Arc::new((AtomicU64::new(0), Sleepers::default()));
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let sleeper = Sleeper::new();
                        wait_for(&shared.0, 1, &shared.1, Interest::of_kind(3), &sleeper);
                    })
                })
                .collect();
            shared.0.store(1, Ordering::Release);
            shared.1.wake_all();
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
    }

    #[test]
    fn whoever_is_to_be_woken_by_another_is_woken() {
        explore(|| {
            let shared = Arc::new((AtomicU64::new(0), Sleepers::default()));
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let sleeper = Sleeper::new();
                        wait_for(&shared.0, 1, &shared.1, Interest::ALL, &sleeper);
                    })
                })
                .collect();
            // A third lies there and reads on, or has a bell: it wakes nobody.
            let third = Sleeper::new();
            shared.1.lie_down(Interest::ALL, &third);
            let mut touched = Touched::default();
            touched.add(Interest::ALL);
            shared.0.store(1, Ordering::Release);
            shared.1.wake(&touched);
            shared.1.get_up(Interest::ALL, &third);
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
    }

    #[derive(Debug)]
    struct Rings(AtomicU64);

    impl Bell for Rings {
        fn ring(&self) {
            self.0.store(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_has_a_bell_sees_the_mark_or_hears_it() {
        explore(|| {
            let shared = Arc::new((AtomicU64::new(0), Sleepers::default()));
            let theirs = Arc::clone(&shared);
            let writer = thread::spawn(move || {
                let mut touched = Touched::default();
                touched.add(Interest::of_kind(3));
                theirs.0.store(1, Ordering::Release);
                theirs.1.wake(&touched);
            });
            let (sleeper, bell) = (Sleeper::new(), Arc::new(Rings(AtomicU64::new(0))));
            sleeper.give_bell(Some(Arc::clone(&bell) as Arc<dyn Bell>));
            shared.1.lie_down(Interest::of_kind(3), &sleeper);
            let saw = shared.0.load(Ordering::Acquire) == 1;
            writer.join().unwrap();
            assert!(saw || bell.0.load(Ordering::Relaxed) == 1, "nobody told it");
        });
    }
}
