//! Folds over a store's own topics against plain lists: records with stamps and without, folds that are held and let go,
//! images saved, topics compacted and erased, the journal compacted, closes and power cuts.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use arbitrary::Arbitrary;
use esker::backplane::Offset;
use esker::{
    At, CompactOptions, Facts, Fold, FoldOptions, FoldStatus, Folded, Options, Simulator, Store, Topic,
    TopicFold, Verify,
};
use esker_fuzz::wait_for_threads_that_fold;
use libfuzzer_sys::fuzz_target;

const NUMBERS: Topic<u64> = Topic::new("number");
/// The same records, without stamps.
const FACTS: Facts<u64> = Facts::new("number");
const KEYS: usize = 3;
const OPERATIONS_MAX: usize = 80;
/// Less than the fuzzer's own, so that it is told what was waited for.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Arbitrary)]
struct Input {
    images_every: u8,
    verify: u8,
    operations: Vec<Operation>,
}

#[derive(Debug, Arbitrary)]
enum Operation {
    Append { key: u8, count: u8 },
    AppendFact { key: u8 },
    AppendBehind { key: u8, is_stale: bool },
    Hold { key: u8 },
    Read { key: u8 },
    ReadCold { key: u8 },
    SaveAndCompact { key: u8, back: u8 },
    Save { key: u8 },
    LetGo,
    CompactJournal,
    Erase { key: u8 },
    Reopen,
    Crash { choices: Vec<u8> },
}

/// Everything that came, in its order.
struct All;
impl Fold for All {
    type State = Vec<u64>;
    type Event = u64;
    const NAME: &'static str = "all";
    const VERSION: u32 = 1;
    fn fold(all: &mut Vec<u64>, number: u64, _: &At) {
        all.push(number);
    }
}

/// How often each last digit came: a map, whose encoding is compared sorted.
struct Digits;
impl Fold for Digits {
    type State = std::collections::HashMap<String, u64>;
    type Event = u64;
    const NAME: &'static str = "digits";
    const VERSION: u32 = 1;
    fn fold(digits: &mut Self::State, number: u64, _: &At) {
        *digits.entry((number % 10).to_string()).or_default() += 1;
    }
}

/// What one topic has, and where each record is.
#[derive(Default)]
struct Plain {
    numbers: Vec<u64>,
    offsets: Vec<Offset>,
    has_floor: bool,
}

struct World {
    options: FoldOptions,
    disk: Simulator,
    store: Store,
    next: u64,
    plain: [Plain; KEYS],
    folds: BTreeMap<usize, (TopicFold<All>, TopicFold<Digits>)>,
}

fuzz_target!(|input: Input| {
    let verify = [Verify::Nothing, Verify::Images, Verify::Each][usize::from(input.verify % 3)];
    let options = FoldOptions::new().images_every(u32::from(input.images_every % 6)).verify(verify);
    let disk = Simulator::new();
    let store = open(&disk);
    let (plain, folds) = (Default::default(), BTreeMap::new());
    let mut world = World { options, disk, store, next: 0, plain, folds };
    for operation in input.operations.iter().take(OPERATIONS_MAX) {
        world.step(operation);
    }
    (0..KEYS).for_each(|at| world.read(at));
    world.store.close().expect("a healthy disk closes");
    drop(world);
    wait_for_threads_that_fold();
});

fn open(disk: &Simulator) -> Store {
    let options = Options::new().segment_bytes(8 << 10).background(false);
    Store::over(options.open_in(disk).expect("no damage"))
}

impl World {
    fn step(&mut self, operation: &Operation) {
        let place = |key: &u8| usize::from(*key) % KEYS;
        match operation {
            Operation::Append { key, count } => (0..1 + count % 12).for_each(|_| self.append(place(key))),
            Operation::AppendFact { key } => self.append_fact(place(key)),
            Operation::AppendBehind { key, is_stale } => self.append_behind(place(key), *is_stale),
            Operation::Hold { key } => _ = self.fold(place(key)),
            Operation::Read { key } => self.read(place(key)),
            Operation::ReadCold { key } => {
                self.folds.remove(&place(key));
                self.read(place(key));
            }
            Operation::SaveAndCompact { key, back } => self.save_and_compact(place(key), usize::from(*back)),
            Operation::Save { key } => {
                let saved = self.fold(place(key)).0.save_image().expect("a fold that is well saves");
                let at = self.plain[place(key)].offsets.iter().any(|offset| *offset == saved);
                assert!(at || saved == Offset::BEGINNING, "an image of {saved}, where no record is");
            }
            Operation::LetGo => self.folds.clear(),
            Operation::CompactJournal => {
                let thorough = CompactOptions::new().thorough(true);
                self.store.journal().compact(&thorough).expect("a healthy disk is compacted");
            }
            Operation::Erase { key } => self.erase(place(key)),
            Operation::Reopen => {
                self.folds.clear();
                self.store.close().expect("a healthy disk closes");
                self.store = open(&self.disk);
            }
            Operation::Crash { choices } => self.crash(choices),
        }
    }

    fn append(&mut self, at: usize) {
        self.next += 1;
        let offset = self.store.topic(NUMBERS, [at as u8]).unwrap().append(&self.next).expect("an append");
        self.note(at, offset);
    }

    fn append_fact(&mut self, at: usize) {
        self.next += 1;
        let receipt = self.store.append(FACTS, [at as u8], &self.next).expect("an append");
        self.note(at, Offset::from_raw(receipt.seq.get()));
    }

    fn append_behind(&mut self, at: usize, is_stale: bool) {
        let topic = self.store.topic(NUMBERS, [at as u8]).unwrap();
        let newest = self.plain[at].offsets.last().copied().unwrap_or_default();
        let behind = if is_stale { Offset::from_raw(newest.raw() + 1) } else { newest };
        match topic.append_if(behind, &(self.next + 1)) {
            Ok(offset) => {
                assert!(!is_stale, "an append behind {behind}, where {newest} is the newest");
                self.next += 1;
                self.note(at, offset);
            }
            Err(error) => assert!(is_stale, "{error}"),
        }
    }

    fn note(&mut self, at: usize, offset: Offset) {
        let plain = &mut self.plain[at];
        assert!(plain.offsets.last().is_none_or(|last| *last < offset), "offsets rise");
        plain.numbers.push(self.next);
        plain.offsets.push(offset);
    }

    fn fold(&mut self, at: usize) -> &(TopicFold<All>, TopicFold<Digits>) {
        let (store, options) = (&self.store, self.options);
        self.folds.entry(at).or_insert_with(|| {
            let topic = store.topic(NUMBERS, [at as u8]).unwrap();
            (topic.fold_with(options).unwrap(), topic.fold_with(options).unwrap())
        })
    }

    /// Each value is that of the plain list, up to its offset; and with the newest in it, of it all.
    fn read(&mut self, at: usize) {
        let (all, digits) = self.fold(at).clone();
        let plain = &self.plain[at];
        let newest = plain.offsets.last().copied().unwrap_or_default();
        let now = all.read().unwrap_or_else(|error| panic!("topic {at}: {error}"));
        plain.check(at, &now);
        let folded = all.read_after(newest, PATIENCE);
        let folded = folded.unwrap_or_else(|error| panic!("topic {at}: {error}, {:?}", all.stats()));
        plain.check(at, &folded);
        assert_eq!(folded.offset, newest, "topic {at}");
        let folded = digits.read_after(newest, PATIENCE).unwrap_or_else(|error| panic!("{at}: {error}"));
        let mut wanted = BTreeMap::new();
        plain.numbers.iter().for_each(|number| *wanted.entry(number % 10).or_default() += 1);
        let found = folded.value.into_iter().map(|(digit, count)| (digit.parse::<u64>().unwrap(), count));
        assert_eq!(found.collect::<BTreeMap<u64, u64>>(), wanted, "topic {at}");
    }

    fn save_and_compact(&mut self, at: usize, back: usize) {
        let newest = self.plain[at].offsets.last().copied().unwrap_or_default();
        let (all, digits) = self.fold(at).clone();
        for waited in
            [all.read_after(newest, PATIENCE).map(drop), digits.read_after(newest, PATIENCE).map(drop)]
        {
            waited.unwrap_or_else(|error| panic!("topic {at}: {error}"));
        }
        let saved = all.save_image().unwrap().min(digits.save_image().unwrap());
        let known = self.plain[at].offsets.iter().rev().filter(|offset| **offset <= saved);
        let Some(before) = known.copied().nth(back % 4) else { return };
        self.store.topic(NUMBERS, [at as u8]).unwrap().compact(before).expect("a topic is compacted");
        self.plain[at].has_floor = true;
    }

    fn erase(&mut self, at: usize) {
        // A topic with a floor that is erased is `Lost` from its beginning.
        if self.plain[at].has_floor {
            return;
        }
        // A fold that is held learns of it by the next record.
        self.folds.remove(&at);
        if let Some(kind) = self.store.journal().kind_named("number") {
            self.store.journal().erase(kind.id, &[at as u8]).expect("a healthy disk is erased");
            self.plain[at] = Plain::default();
        }
    }

    /// Everything was acknowledged, so that nothing of it may go; what was not synced may.
    fn crash(&mut self, choices: &[u8]) {
        self.folds.clear();
        let mut choices = choices.iter().copied();
        let choose = &mut |n| usize::from(choices.next().unwrap_or(0)) % n;
        self.disk = self.disk.crash(self.disk.events(), choose);
        self.store = open(&self.disk);
    }
}

impl Plain {
    fn check(&self, at: usize, folded: &Folded<Vec<u64>>) {
        assert!(!matches!(folded.status, FoldStatus::Halted(_)), "topic {at}: {:?}", folded.status);
        let count = self.offsets.iter().filter(|offset| **offset <= folded.offset).count();
        assert_eq!(folded.value, self.numbers[..count], "topic {at} up to {}", folded.offset);
    }
}
