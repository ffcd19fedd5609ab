//! The crash model: every moment at which the power can fail, and what may be left of it.
//!
//! Random short lives run on the simulated disk, which knows no more than POSIX promises. The
//! power fails behind each operation of the disk; each dirty page, each unsynced name is old or
//! new or torn, in all combinations where they are few. Each outcome is opened and judged, a
//! few of them live on, are killed, closed, and lose power again: three lives.
//!
//! What must hold every time: *what is recovered is a prefix of what was appended, in whole
//! batches; it holds everything acknowledged and nothing never written; the report names the
//! right class, and never corruption; a second recovery changes nothing; a further life works.*
//!
//! `ESKER_CRASH_STATES=1000000 cargo test --release --test crash` looks at a million states;
//! `ESKER_CRASH_SEED` begins elsewhere (a failure names the seed that shows it again, with
//! `ESKER_CRASH_STATES=1`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "crash/choices.rs"]
mod choices;
#[path = "crash/lied.rs"]
mod lied;
#[path = "crash/life.rs"]
mod life;
#[path = "model/plain.rs"]
#[allow(dead_code, reason = "shared with the model tests, which use all of it")]
mod plain;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use choices::{Dice, each_outcome, fingerprint};
use esker::{Check, Durability, Reader, Severity, Simulator, Verdict, verify_in};
use life::{Life, Manner, script};
use plain::Plain;

type Files = BTreeMap<String, Vec<u8>>;

fn from_environment(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// How far one seed is explored.
struct Search {
    dice: Dice,
    manner: Manner,
    states: usize,
}

/// How thoroughly a life is searched: by its place in the row of lives.
struct Depth {
    /// Every combination is tried where there are at most so many.
    all: usize,
    /// How many are tried where there are more.
    some: usize,
    /// One state in so many lives on.
    lives_on: usize,
}

const DEPTHS: [Depth; 3] = [
    Depth { all: 12, some: 6, lives_on: 250 },
    Depth { all: 4, some: 3, lives_on: 300 },
    Depth { all: 2, some: 2, lives_on: usize::MAX },
];

impl Search {
    fn one_seed(seed: u64, manner: Manner) -> Result<usize, String> {
        let mut search = Self { dice: Dice::new(seed), manner, states: 0 };
        let mut first = Life::begin(Simulator::new(), manner, Plain::default())?;
        search.live(&mut first, 5)?;
        search.crashes(&first, 0)?;
        Ok(search.states)
    }

    /// Runs a script in a life, and closes it now and then.
    fn live(&mut self, life: &mut Life, lines: usize) -> Result<(), String> {
        let count = 1 + self.dice.below(2 * lines);
        let lines = script(&mut self.dice, count, self.manner, &life.disk);
        life.act(&lines)?;
        if self.dice.one_in(3) { life.close() } else { Ok(()) }
    }

    /// Lets the power fail behind each operation of a life.
    fn crashes(&mut self, life: &Life, depth: usize) -> Result<(), String> {
        let Some(Depth { all, some, lives_on }) = DEPTHS.get(depth) else { return Ok(()) };
        let mut judged: HashMap<u64, usize> = HashMap::new();
        for operations in life.born..=life.disk.events() {
            let mut images: Vec<Files> = Vec::new();
            let crash = |choose: &mut dyn FnMut(usize) -> usize| life.disk.crash_image(operations, choose);
            each_outcome(*all, *some, &mut self.dice, crash, |image| images.push(image));
            for image in images {
                let shown = || format!("life {depth}, behind {operations} operations");
                let fingerprint = fingerprint(&image);
                if let Some(count) = judged.get(&fingerprint) {
                    // Seen before: the same files give the same log.
                    life.judge_count(*count, operations).map_err(|error| format!("{}: {error}", shown()))?;
                    continue;
                }
                let count =
                    self.state(life, operations, &image).map_err(|error| format!("{}: {error}", shown()))?;
                judged.insert(fingerprint, count);
                if self.dice.one_in(*lives_on) && depth + 1 < DEPTHS.len() {
                    let mut next = self.next_life(life, Simulator::with(image), count)?;
                    self.live(&mut next, 2)?;
                    self.crashes(&next, depth + 1).map_err(|error| format!("{}; {error}", shown()))?;
                }
            }
            if self.dice.one_in(lives_on / 8) {
                self.killed(life, operations, depth)
                    .map_err(|error| format!("killed at {operations}: {error}"))?;
            }
        }
        Ok(())
    }

    fn next_life(&self, life: &Life, disk: Simulator, count: usize) -> Result<Life, String> {
        let mut plain = life.plain.clone();
        plain.truncate(count);
        Life::begin(disk, self.manner, plain)
    }

    /// Opens what a crash left and judges it; answers how many entries there are.
    fn state(&mut self, life: &Life, operations: usize, image: &Files) -> Result<usize, String> {
        self.states += 1;
        let disk = Simulator::with(image.clone());
        if self.dice.one_in(16) && image.contains_key("MANIFEST") {
            nothing_is_damaged(&disk).map_err(|error| format!("before it was opened: {error}"))?;
            let seen = seen_by_a_reader(&disk).map_err(|error| format!("a reader: {error}"))?;
            let journal = self.manner.open(&disk).map_err(|error| format!("open: {error}"))?;
            let entries = journal.stats().entries;
            if seen != entries {
                return Err(format!("a reader sees {seen} entries, and a writer {entries}"));
            }
        }
        let journal = self.manner.open(&disk).map_err(|error| format!("open: {error}"))?;
        let count = life.judge(&journal, operations).map_err(|error| {
            let names: Vec<_> = image.iter().map(|(name, bytes)| (name, bytes.len())).collect();
            format!("{error}; {:?}, kinds {:?}, {names:?}", journal.recovery(), plain::kinds_of(&journal))
        })?;
        if self.dice.one_in(3) {
            let report = journal.recovery().clone();
            drop(journal);
            if without_lock(disk.files()) != without_lock(image.clone()) && image.contains_key("MANIFEST") {
                return Err("an opening that appends nothing changed a file".to_owned());
            }
            let journal = self.manner.open(&disk).map_err(|error| format!("open again: {error}"))?;
            if life.judge(&journal, operations)? != count || *journal.recovery() != report && count > 0 {
                return Err(format!(
                    "a second recovery found {:?}, the first {report:?}",
                    journal.recovery()
                ));
            }
        } else {
            drop(journal);
        }
        if self.dice.one_in(8) {
            let mut plain = life.plain.clone();
            plain.truncate(count);
            Life::goes_on(&disk, self.manner, plain).map_err(|error| format!("a further life: {error}"))?;
            is_valid(&disk).map_err(|error| format!("a further life: {error}"))?;
        }
        Ok(count)
    }

    /// Kills the process instead: everything visible is there, and stays once it was read.
    fn killed(&mut self, life: &Life, operations: usize, depth: usize) -> Result<(), String> {
        let disk = life.disk.kill(operations);
        let journal = self.manner.open(&disk).map_err(|error| format!("open: {error}"))?;
        self.states += 1;
        let count = life.judge(&journal, operations)?;
        if count < life.visible(operations) {
            return Err(format!("{count} entries, where {} were visible", life.visible(operations)));
        }
        drop(journal);
        let mut next = self.next_life(life, disk, count)?;
        self.live(&mut next, 2)?;
        self.crashes(&next, depth + 1)
    }
}

/// Nothing is wrong with what a further life made of what a crash left.
fn is_valid(disk: &Simulator) -> Result<(), String> {
    let found = verify_in(disk, Check::Full).map_err(|error| format!("verify: {error}"))?;
    if found.verdict == Verdict::Valid { Ok(()) } else { Err(format!("{:#?}", found.findings)) }
}

/// A crash is no damage: it may tear the hints in the lock page, which are never synced, and
/// nothing else that a verification complains of.
fn nothing_is_damaged(disk: &Simulator) -> Result<(), String> {
    let mut findings = verify_in(disk, Check::Full).map_err(|error| format!("verify: {error}"))?.findings;
    findings.retain(|finding| finding.severity != Severity::Note && finding.file != "LOCK");
    if findings.is_empty() { Ok(()) } else { Err(format!("{findings:#?}")) }
}

/// How many entries a reader sees before anybody writes: also when it looks again, nothing is damaged and nothing is there that
/// the next writer will not find.
fn seen_by_a_reader(disk: &Simulator) -> Result<u64, String> {
    let reader = Reader::open_on(disk).map_err(|error| format!("open: {error}"))?;
    let mut seen = None;
    for _ in 0..2 {
        let view = reader.view().map_err(|error| format!("view: {error}"))?;
        let entries = view.range(..).try_fold(0, |count, entry| entry.map(|_| count + 1));
        let entries = entries.map_err(|error| error.to_string())?;
        if seen.replace(entries).is_some_and(|before| before != entries) {
            return Err(format!("{entries} entries behind {seen:?}"));
        }
    }
    Ok(seen.unwrap_or(0))
}

fn without_lock(mut files: Files) -> Files {
    files.remove("LOCK");
    files
}

/// Explores seeds on every processor until enough states were looked at.
fn explore(durability: Durability, wanted: usize) -> usize {
    let first = from_environment("ESKER_CRASH_SEED", 1) as u64;
    let (states, seeds) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let violation = std::sync::Mutex::new(None);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while states.load(Ordering::Relaxed) < wanted && violation.lock().unwrap().is_none() {
                    let seed = first + seeds.fetch_add(1, Ordering::Relaxed) as u64;
                    let segment_bytes = [4096, 4096, 8192, 16384][(seed % 4) as usize];
                    let copy_on_write = seed / 4 % 3 == 2;
                    let manner = Manner { segment_bytes, durability, copy_on_write };
                    match Search::one_seed(seed, manner) {
                        Ok(found) => states.fetch_add(found, Ordering::Relaxed),
                        Err(error) => {
                            *violation.lock().unwrap() = Some(format!("seed {seed}, {manner:?}: {error}"));
                            0
                        }
                    };
                }
            });
        }
    });
    if let Some(violation) = violation.into_inner().unwrap() {
        panic!("{violation}");
    }
    states.into_inner()
}

#[test]
fn every_crash_leaves_a_prefix_in_whole_batches_with_everything_acknowledged() {
    let wanted = from_environment("ESKER_CRASH_STATES", 100_000);
    let half = wanted.div_ceil(2);
    let states = explore(Durability::Sync, half) + explore(Durability::Os, half);
    println!("{{\"rung\":\"R2\",\"states\":{states},\"violations\":0}}");
}

#[test]
fn what_follows_a_torn_segment_is_found_again_after_each_further_kill() {
    let manner = Manner { segment_bytes: 16 << 10, durability: Durability::Sync, copy_on_write: false };
    let open = |disk: &Simulator| manner.open(disk).unwrap();
    let disk = Simulator::new();
    let say = |journal: &esker::Journal| {
        let kind = journal.kind("note").unwrap();
        journal.append(esker::Record::new(kind, b"k", b"said")).unwrap();
    };
    say(&open(&disk));
    for at in 0..disk.events() {
        let mut disk = disk.kill(at);
        let mut entries = open(&disk).stats().entries;
        for _ in 0..3 {
            let journal = open(&disk);
            assert_eq!(journal.stats().entries, entries, "killed behind {at} operations");
            say(&journal);
            entries += 1;
            is_valid(&disk).unwrap_or_else(|error| panic!("killed behind {at} operations: {error}"));
            // A power cut right behind what was acknowledged, with nothing else on the disk.
            let lost = disk.crash(disk.events(), &mut |_| 0);
            assert_eq!(open(&lost).stats().entries, entries, "killed behind {at} operations");
            disk = disk.kill(disk.events());
        }
    }
}

#[test]
fn a_segment_begun_behind_a_close_has_a_durable_name_before_anything_is_said_in_it() {
    let manner = Manner { segment_bytes: 16 << 10, durability: Durability::Sync, copy_on_write: false };
    let open = |disk: &Simulator| manner.open(disk).unwrap();
    let say = |journal: &esker::Journal, payload: &[u8]| {
        let kind = journal.kind("note").unwrap();
        journal.append(esker::Record::new(kind, b"k", payload)).unwrap();
    };
    // Of so many lengths one leaves no room for the first frame of another life.
    for filled in (3700..4000).step_by(16) {
        let disk = Simulator::new();
        let journal = open(&disk);
        (0..4).for_each(|_| say(&journal, &[1; 2900]));
        say(&journal, &vec![2; filled]);
        journal.close().unwrap();
        let closed = disk.events();
        say(&open(&disk), b"on");
        for at in closed..disk.events() {
            let killed = disk.kill(at);
            let journal = open(&killed);
            say(&journal, b"acknowledged");
            let entries = journal.stats().entries;
            let lost = killed.crash(killed.events(), &mut |_| 0);
            let left = open(&lost).stats().entries;
            assert_eq!(left, entries, "{filled} B, killed behind {at} operations");
        }
    }
}

/// The power takes all that was in two segments behind a close; what is left of them goes when the
/// next life appends, and while it goes the power fails again.
#[test]
fn no_crash_leaves_a_segment_without_the_one_that_it_follows() {
    let manner = Manner { segment_bytes: 4096, durability: Durability::Os, copy_on_write: false };
    let open = |disk: &Simulator| manner.open(disk).unwrap();
    let say = |journal: &esker::Journal| {
        let kind = journal.kind("note").unwrap();
        let _ = journal.append_nowait(esker::Record::new(kind, b"k", b"said")).unwrap();
    };
    let disk = Simulator::new();
    let journal = open(&disk);
    say(&journal);
    journal.close().unwrap();
    let journal = open(&disk);
    while journal.stats().segments < 4 {
        say(&journal);
    }
    let disk = Simulator::with(disk.crash_image(disk.events(), &mut |_| 0));
    let segments = disk.files().into_keys().filter(|name| name.ends_with(".seg")).count();
    let journal = open(&disk);
    assert_eq!((segments, journal.stats().segments, journal.stats().entries), (4, 1, 1));
    let begun = disk.events();
    say(&journal);
    let mut dice = Dice::new(1);
    let mut states = 0;
    for at in begun..=disk.events() {
        let crash = |choose: &mut dyn FnMut(usize) -> usize| disk.crash(at, choose);
        each_outcome(1000, 0, &mut dice, crash, |left| {
            states += 1;
            let journal =
                manner.open(&left).unwrap_or_else(|error| panic!("behind {at} operations: {error}"));
            assert!((1..=2).contains(&journal.stats().entries), "behind {at} operations");
            say(&journal);
            drop(journal);
            is_valid(&left).unwrap_or_else(|error| panic!("behind {at} operations: {error}"));
        });
    }
    assert!(states > 20, "only {states} states");
}

#[test]
fn schedules_that_once_lost_something_lose_nothing() {
    // 1050: an older index that was still partial, below a newer one.
    // 137: a kill between a seal and the preamble behind it; the next life's segment follows the seal.
    // 327: a kill before the name of a segment behind a close was durable.
    for (seed, durability) in [
        (40, Durability::Sync),
        (47, Durability::Sync),
        (137, Durability::Sync),
        (327, Durability::Sync),
        (1050, Durability::Os),
    ] {
        let segment_bytes = [4096, 4096, 8192, 16384][usize::try_from(seed % 4).unwrap()];
        let manner = Manner { segment_bytes, durability, copy_on_write: false };
        Search::one_seed(seed, manner).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// A store of three segments, closed in order or not, without its derived files.
fn three_segments(closes: bool) -> Files {
    let manner = Manner { segment_bytes: 4096, durability: Durability::Sync, copy_on_write: false };
    let disk = Simulator::new();
    let journal = manner.open(&disk).unwrap();
    let kind = journal.kind("note").unwrap();
    while journal.stats().segments < 3 {
        journal.append(esker::Record::new(kind, b"k", &[5; 300])).unwrap();
    }
    for _ in 0..3 {
        journal.append(esker::Record::new(kind, b"k", &[6; 300])).unwrap();
    }
    if closes {
        journal.close().unwrap();
    }
    let mut files = disk.kill(disk.events()).files();
    files.retain(|name, _| !name.ends_with(".idx"));
    files
}

#[test]
fn rot_below_the_durable_bound_is_corruption_and_never_a_shorter_log() {
    let manner = Manner { segment_bytes: 4096, durability: Durability::Sync, copy_on_write: false };
    for closes in [false, true] {
        let files = three_segments(closes);
        let entries = manner.open(&Simulator::with(files.clone())).unwrap().stats().entries;
        for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".seg")) {
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            let is_last = name.starts_with("0000000003");
            for at in (128..=end).step_by(7) {
                let mut damaged = files.clone();
                damaged.get_mut(name).unwrap()[at] ^= 0x40;
                let unchanged = damaged.clone();
                let disk = Simulator::with(damaged);
                match manner.open(&disk) {
                    Err(error) => {
                        assert!(error.is_corruption(), "{name} at {at}: {error}");
                        assert_eq!(without_lock(disk.files()), without_lock(unchanged), "{name} at {at}");
                    }
                    // Only what nothing behind it calls durable may pass for a torn tail.
                    Ok(journal) => {
                        assert!(is_last, "{name} at {at}: {:?}", journal.recovery());
                        let found = journal.stats().entries;
                        assert!(
                            found + 1 >= entries && found <= entries,
                            "{name} at {at}: {found} of {entries}"
                        );
                        assert!(journal.recovery().ambiguous, "{name} at {at}: {:?}", journal.recovery());
                    }
                }
            }
        }
    }
}

/// A block of zeros may be a hole of the file, and yet the end of an entry.
#[test]
fn an_entry_that_ends_in_blocks_of_zeros_is_found_at_the_end_of_a_log() {
    let manner = Manner { segment_bytes: 64 << 10, durability: Durability::Sync, copy_on_write: false };
    let disk = Simulator::new();
    let journal = manner.open(&disk).unwrap();
    let kind = journal.kind("note").unwrap();
    for _ in 0..2 {
        journal.append(esker::Record::new(kind, b"k", &[0; 12_000])).unwrap();
    }
    let found = manner.open(&disk.kill(disk.events())).unwrap();
    assert_eq!(found.stats().entries, 2, "{:?}", found.recovery());
    assert_eq!(found.view().range(..).next_back().unwrap().unwrap().payload(), [0; 12_000]);
}

/// Pages come to the disk in any order: what stands in the next segment, and not the end of the one before it, is dead.
#[test]
fn a_reader_ends_where_a_writer_does_behind_an_end_that_a_power_cut_tore() {
    let manner = Manner { segment_bytes: 4096, durability: Durability::Os, copy_on_write: false };
    let disk = Simulator::new();
    let journal = manner.open(&disk).unwrap();
    let kind = journal.kind("note").unwrap();
    while journal.stats().segments < 3 {
        let _ = journal.append_nowait(esker::Record::new(kind, b"k", &[5; 300])).unwrap();
    }
    let in_first = |entry: &esker::Entry<'_>| entry.position().segment() == 1;
    let offsets: Vec<u64> = journal
        .view()
        .range(..)
        .map(Result::unwrap)
        .filter(in_first)
        .map(|e| e.position().offset())
        .collect();
    let mut files = disk.kill(disk.events()).files();
    files.retain(|name, _| !name.ends_with(".idx"));
    for torn_at in &offsets[1..] {
        let mut torn = files.clone();
        torn.get_mut("0000000001.seg").unwrap()[usize::try_from(*torn_at).unwrap()..].fill(0);
        let disk = Simulator::with(torn);
        let seen = seen_by_a_reader(&disk).unwrap_or_else(|error| panic!("torn at {torn_at}: {error}"));
        let entries = manner.open(&disk).unwrap().stats().entries;
        assert_eq!(seen, entries, "torn at {torn_at}");
    }
}
