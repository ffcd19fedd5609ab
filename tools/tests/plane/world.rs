//! A store with topics, on which the tests do what applications do.

use std::time::{Duration, Instant};

use esker::backplane::Offset;
use esker::{
    At, CompactOptions, Consumer, ConsumerOptions, Delivery, Durability, Facts, Fold, FoldOptions, Handled,
    Keep, Options, Store, Topic, TopicFold,
};
use tempfile::TempDir;

use crate::support::{Run, run};

pub(crate) const NUMBERS: Topic<u64> = Topic::new("number");
const PATIENCE: Duration = Duration::from_secs(60);

macro_rules! sum_of {
    ($fold:ident, $name:literal, $version:literal) => {
        pub(crate) struct $fold;
        impl Fold for $fold {
            type State = Vec<u64>;
            type Event = u64;
            const NAME: &'static str = $name;
            const VERSION: u32 = $version;
            fn fold(all: &mut Vec<u64>, number: u64, _: &At) {
                all.push(number);
            }
        }
    };
}
sum_of!(All, "all", 1);
sum_of!(Other, "other", 3);

pub(crate) struct World {
    directory: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> String {
        self.directory.path().join("plane.esker").to_str().unwrap().to_owned()
    }

    pub(crate) fn store(&self) -> Store {
        let options = Options::new().segment_bytes(16 << 10).background(false).durability(Durability::Os);
        Store::over(options.open(self.path()).unwrap())
    }

    /// The tool on it: the command's words before the path, and those behind it.
    pub(crate) fn tool(&self, command: &[&str], more: &[&str]) -> Run {
        let path = self.path();
        run(&[command, &[&*path], more].concat())
    }
}

pub(crate) fn append(store: &Store, key: &str, numbers: impl IntoIterator<Item = u64>) -> Offset {
    let topic = store.topic(NUMBERS, key).unwrap();
    numbers.into_iter().map(|number| topic.append(&number).unwrap()).last().unwrap()
}

pub(crate) fn fold<F: Fold<Event = u64>>(store: &Store, key: &str) -> TopicFold<F> {
    store.topic(NUMBERS, key).unwrap().fold_with::<F>(FoldOptions::new().images_every(0)).unwrap()
}

/// Saves an image of all that there is.
pub(crate) fn save<F: Fold<Event = u64>>(store: &Store, key: &str) {
    let head = store.topic(NUMBERS, key).unwrap().head().unwrap();
    let fold = fold::<F>(store, key);
    fold.read_after(head, PATIENCE).unwrap();
    fold.save_image().unwrap();
}

pub(crate) fn keeps_for_folds(store: &Store) {
    store.keep(Facts::<u64>::new("number"), Keep::Fold).unwrap();
}

/// Fills the segment, so that compaction may go over what is in it.
pub(crate) fn leave_the_segment(store: &Store) {
    let filler = store.journal().kind("filler").unwrap();
    for _ in 0..40 {
        store.journal().append(esker::Record::new(filler, b"x", &[0; 1000])).unwrap();
    }
}

/// What `All` has in its image is dropped; `Other` would need it.
pub(crate) fn only_one_fold_was_waited_for(world: &World) -> Store {
    let store = world.store();
    keeps_for_folds(&store);
    append(&store, "a", 1..=5);
    save::<All>(&store, "a");
    leave_the_segment(&store);
    store.journal().compact(&CompactOptions::new().thorough(true)).unwrap();
    store
}

/// `ship` has done three records of `a`, and two more came behind it.
pub(crate) fn ship_is_two_behind(world: &World) {
    let store = world.store();
    let last = append(&store, "a", 1..=3);
    let topic = store.topic(NUMBERS, "a").unwrap();
    done(&topic.on_event("ship", options(), failing(9)).unwrap(), last);
    append(&store, "a", 4..=5);
    store.close().unwrap();
}

/// Tries a record again at once.
pub(crate) fn options() -> ConsumerOptions {
    ConsumerOptions::new().retry_between(Duration::from_millis(1), Duration::from_millis(1))
}

/// A handler to which some numbers are too much.
pub(crate) fn failing(above: u64) -> impl Fn(&Delivery<'_, u64>) -> Handled + Send + 'static {
    move |delivery| {
        if delivery.event > above {
            return Err(format!("{} is too much", delivery.event).into());
        }
        Ok(())
    }
}

pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        std::thread::yield_now();
    }
}

/// Waits until everything up to an offset is written down as done, and stops it.
pub(crate) fn done(consumer: &Consumer, offset: Offset) {
    until("the offset", || consumer.status().committed >= offset);
    consumer.close().unwrap();
}
