//! Sleepers, by threads, and by loom over every interleaving
//! (`RUSTFLAGS="--cfg loom" cargo test --release --lib feed::sleepers`).

use super::*;

#[cfg(not(loom))]
mod real {
    use super::*;

    fn touched(shard: Shard) -> Touched {
        let mut touched = Touched::default();
        touched.add(shard);
        touched
    }

    #[test]
    fn only_those_whose_shard_was_touched_are_woken_and_each_once() {
        let sleepers = Sleepers::default();
        let (mine, others) = (Sleeper::new(), Sleeper::new());
        let (a, b) = (Shard::of_kind(1), Shard::of_kind(2));
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
    fn who_got_up_is_not_woken_and_leaves_no_bit_behind() {
        let sleepers = Sleepers::default();
        let (first, second) = (Sleeper::new(), Sleeper::new());
        sleepers.lie_down(Shard::ALL, &first);
        sleepers.lie_down(Shard::ALL, &second);
        sleepers.get_up(Shard::ALL, &first);
        sleepers.wake(&touched(Shard::ALL));
        assert!(!first.wait(Some(Duration::ZERO)));
        assert!(second.wait(Some(Duration::ZERO)));
        assert!(sleepers.occupied.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        sleepers.get_up(Shard::ALL, &second);
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
    fn wait_for(mark: &AtomicU64, least: u64, sleepers: &Sleepers, shard: Shard, sleeper: &Arc<Sleeper>) {
        loop {
            if mark.load(Ordering::Acquire) >= least {
                return;
            }
            sleepers.lie_down(shard, sleeper);
            if mark.load(Ordering::Acquire) >= least {
                return sleepers.get_up(shard, sleeper);
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
                touched.add(Shard::ALL);
                for next in 1..=2 {
                    mark.store(next, Ordering::Release);
                    sleepers.wake(&touched);
                }
            });
            let (mark, sleepers) = &*shared;
            let sleeper = Sleeper::new();
            wait_for(mark, 1, sleepers, Shard::ALL, &sleeper);
            wait_for(mark, 2, sleepers, Shard::ALL, &sleeper);
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
                        wait_for(&shared.0, 1, &shared.1, Shard::of_kind(3), &sleeper);
                    })
                })
                .collect();
            shared.0.store(1, Ordering::Release);
            shared.1.wake_all();
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
    }
}
