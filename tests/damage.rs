//! Damage of every kind to a small store: whatever happens to its bytes, esker gives back what
//! was written or an error, never something else, and never a panic.
//!
//! The default run samples where the whole would take long; `ESKER_DAMAGE=full` tries all.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed, which is what it is for"
)]

use std::collections::BTreeMap;
use std::path::Path;

use esker::{
    Check, Durability, ErrorKind, IdempotencyKey, Journal, KindId, Options, Reader, Record, Seq, Severity,
    Simulator, Verdict, View, repair, repair_in, verify, verify_in,
};

#[path = "damage/behind.rs"]
mod behind;
#[path = "damage/ending.rs"]
mod ending;
#[path = "damage/following.rs"]
mod following;
#[path = "damage/killed.rs"]
mod killed;
#[path = "damage/moments.rs"]
mod moments;

type Files = BTreeMap<String, Vec<u8>>;

fn options() -> Options {
    Options::new().segment_bytes(4096).background(false)
}

fn is_full() -> bool {
    std::env::var("ESKER_DAMAGE").is_ok_and(|value| value == "full")
}

/// Everything that a reader can see of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    generation: u64,
    kind: u16,
    key: Vec<u8>,
    metadata: Vec<u8>,
    payload: Vec<u8>,
    time: i64,
    idempotency_key: Option<IdempotencyKey>,
}

type Log = BTreeMap<u64, Seen>;

/// Appends a mix of everything: three kinds, ten entities, batches, keyed batches.
fn fill(journal: &Journal, from: u64, to: u64) {
    let kinds = ["note", "vessel", "order"].map(|name| journal.kind(name).unwrap());
    for n in from..to {
        let kind = kinds[n as usize % 3];
        // Some are written again and again, and of some there is one entry only.
        let key = if n % 10 == 9 { format!("once-{n}") } else { format!("entity-{}", n % 10) };
        let payload = vec![n as u8 + 1; 20 + (n as usize * 37) % 90];
        if n % 4 == 0 {
            let mut batch = journal.batch();
            if n % 8 == 0 {
                batch = batch.idempotency_key(IdempotencyKey([n as u8 + 1; 16]));
            }
            batch.push(Record::new(kind, key.as_bytes(), &payload).metadata(b"first"));
            batch.push(Record::new(kinds[0], b"shared", &payload));
            batch.commit().unwrap();
        } else {
            journal.append(Record::new(kind, key.as_bytes(), &payload).metadata(b"md")).unwrap();
        }
    }
}

/// A store of several segments and two lives; clean, or as a `kill -9` leaves it.
fn build(clean: bool) -> Files {
    let disk = Simulator::new();
    let journal = options().open_in(&disk).unwrap();
    fill(&journal, 0, 70);
    journal.close().unwrap();
    let journal = options().open_in(&disk).unwrap();
    fill(&journal, 70, 110);
    if clean {
        journal.close().unwrap();
    }
    disk.files()
}

fn read_all(journal: &Journal) -> Result<Log, esker::Error> {
    let view = journal.view();
    view.range(..)
        .map(|entry| {
            let entry = entry?;
            let seen = Seen {
                generation: entry.generation().get(),
                kind: entry.kind().get(),
                key: entry.key().to_vec(),
                metadata: entry.metadata().to_vec(),
                payload: entry.payload().to_vec(),
                time: entry.time(),
                idempotency_key: entry.idempotency_key(),
            };
            Ok((entry.seq().get(), seen))
        })
        .collect()
}

fn log_of(files: &Files) -> Log {
    read_all(&options().open_in(&Simulator::with(files.clone())).unwrap()).unwrap()
}

/// How a damaged store may differ from what it was.
struct Oracle {
    log: Log,
    /// The length of the log without its last group, which no later frame calls durable.
    certain: u64,
    /// The damage may take more than one frame: then nothing may be left that names the last group.
    wide: bool,
}

impl Oracle {
    fn of(files: &Files, certain: u64) -> Self {
        Self { log: log_of(files), certain, wide: false }
    }

    fn wide(mut self) -> Self {
        // A clean store's last frames stand in its index too, and are looked for there.
        self.wide = self.certain < self.log.len() as u64;
        self
    }

    fn holds(&self, seq: u64, seen: &Seen) -> bool {
        self.log.get(&seq) == Some(seen)
    }

    /// Opening is right or refused; reading is right or refused; verify sees it; repair helps.
    fn check(&self, what: &str, damaged: &Files) {
        self.check_opening(what, damaged);
        self.check_reader(what, damaged);
        self.check_repair(what, damaged);
    }

    fn check_opening(&self, what: &str, damaged: &Files) {
        let journal = match options().open_in(&Simulator::with(damaged.clone())) {
            Ok(journal) => journal,
            Err(error) => {
                let clear = [
                    ErrorKind::Corrupt,
                    ErrorKind::FormatTooNew,
                    ErrorKind::NotAStore,
                    ErrorKind::NotFound,
                    ErrorKind::Io,
                ];
                assert!(clear.contains(&error.kind()), "{what}: {error}");
                return;
            }
        };
        let entries = journal.stats().entries;
        let mut wrong_at = None;
        for (seq, seen) in &self.log {
            match journal.get(Seq::new(*seq).unwrap()) {
                Ok(Some(entry)) => {
                    assert_eq!(entry.payload(), seen.payload, "{what}: seq {seq}");
                    assert_eq!((entry.key(), entry.metadata()), (&*seen.key, &*seen.metadata), "{what}");
                    assert_eq!(entry.generation().get(), seen.generation, "{what}: seq {seq}");
                    assert_eq!(wrong_at, None, "{what}: seq {seq} behind the end");
                }
                Ok(None) => wrong_at = wrong_at.or(Some(*seq)),
                Err(error) => assert!(error.is_corruption(), "{what}: seq {seq}: {error}"),
            }
        }
        let end = wrong_at.map_or(self.log.len() as u64, |seq| seq - 1);
        assert!(end >= self.certain || self.wide, "{what}: {end} of {} entries, silently", self.log.len());
        assert!(entries <= self.log.len() as u64, "{what}: {entries} entries");
        self.check_entities(what, &journal.view(), end);
    }

    /// Whoever reads beside a writer, or without one, serves what is there, and says what may not be.
    fn check_reader(&self, what: &str, damaged: &Files) {
        let Ok(reader) = Reader::open_on(&Simulator::with(damaged.clone())) else { return };
        let Ok(view) = reader.view() else { return };
        let Ok(end) = view.last_seq() else { return };
        self.check_entities(&format!("{what}, a reader"), &view, end.map_or(0, Seq::get));
    }

    /// Of each entity everything up to the end is shown, or an error says that something is not.
    fn check_entities(&self, what: &str, view: &View, end: u64) {
        let mut entities: BTreeMap<(u16, &[u8]), Vec<u64>> = BTreeMap::new();
        for (seq, seen) in self.log.range(..=end) {
            entities.entry((seen.kind, &seen.key)).or_default().push(*seq);
        }
        for ((kind, key), seqs) in entities {
            let kind = KindId::new(kind).unwrap();
            let what = format!("{what}: {kind} {:?}", String::from_utf8_lossy(key));
            match view.latest(kind, key) {
                Ok(found) => assert_eq!(found.map(|entry| entry.seq().get()), seqs.last().copied(), "{what}"),
                Err(error) => assert!(error.is_corruption(), "{what}: {error}"),
            }
            let (mut found, mut failed) = (Vec::new(), false);
            for entry in view.entity(kind, key) {
                match entry {
                    Ok(entry) => {
                        let seen = &self.log[&entry.seq().get()];
                        assert_eq!((&*seen.payload, &*seen.key), (entry.payload(), key), "{what}");
                        found.push(entry.seq().get());
                    }
                    Err(error) => {
                        assert!(error.is_corruption(), "{what}: {error}");
                        failed = true;
                    }
                }
            }
            assert!(failed || found == seqs, "{what}: {found:?} of {seqs:?}, without a word");
        }
    }

    fn check_repair(&self, what: &str, damaged: &Files) {
        let target = Simulator::new();
        let repaired = match repair_in(&Simulator::with(damaged.clone()), &target) {
            Ok(repaired) => repaired,
            Err(error) => {
                let clear = [ErrorKind::Corrupt, ErrorKind::FormatTooNew, ErrorKind::NotAStore];
                assert!(clear.contains(&error.kind()), "{what}: {error}");
                assert!(target.files().is_empty(), "{what}: a failed repair left files");
                return;
            }
        };
        let found = verify_in(&target, Check::Full).unwrap();
        assert_eq!(
            found.verdict,
            Verdict::Valid,
            "{what}: repaired: {:#?}\nfrom {repaired:#?}",
            found.findings
        );
        let journal = options().open_in(&target).unwrap();
        assert!(journal.recovery().clean, "{what}: {:?}", journal.recovery());
        let kept = read_all(&journal).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(kept.len() as u64, repaired.entries, "{what}");
        for (seq, seen) in &kept {
            assert!(self.holds(*seq, seen), "{what}: seq {seq}: {seen:?}");
        }
        let lost: u64 = (1..=self.certain).filter(|seq| !kept.contains_key(seq)).count() as u64;
        // What the end of a log held is not known where nothing else names it, and that is said.
        let open_end = repaired.damage.iter().any(|damage| damage.next_good.is_none());
        let unknown =
            self.wide || repaired.cut > 0 || open_end && repaired.damage.last().unwrap().next_good.is_none();
        assert!(lost <= repaired.entries_lost || unknown, "{what}: lost {lost}, said {repaired:?}");
        // The store goes on, behind every number that was given.
        let kind = journal.kind("after").unwrap();
        let receipt = journal.append(Record::new(kind, b"a", b"b")).unwrap();
        assert!(kept.keys().all(|seq| *seq < receipt.seq.get()), "{what}");
        assert!(unknown || receipt.seq.get() > self.certain, "{what}: {}", receipt.seq);
    }
}

fn with(files: &Files, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Files {
    let mut files = files.clone();
    change(files.get_mut(name).unwrap());
    files
}

/// Where the last byte that is not zero ends.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

fn segments(files: &Files) -> Vec<String> {
    files.keys().filter(|name| name.ends_with(".seg")).cloned().collect()
}

/// The clean store, and the unclean one with what is certain of it.
fn both() -> [(&'static str, Files, Oracle); 2] {
    let clean = build(true);
    let unclean = build(false);
    let oracle = Oracle::of(&clean, log_of(&clean).len() as u64);
    let len = log_of(&unclean).len() as u64;
    // Each append was synced before the next began: only the last one is not named.
    let last = Oracle::of(&unclean, len - 1);
    [("clean", clean, oracle), ("unclean", unclean, last)]
}

#[test]
fn an_undamaged_store_is_valid_and_repairs_to_itself() {
    for (name, files, oracle) in both() {
        assert!(segments(&files).len() >= 3, "{name}: {:?}", files.keys());
        for check in [Check::Quick, Check::Full] {
            let found = verify_in(&Simulator::with(files.clone()), check).unwrap();
            assert_eq!(found.verdict, Verdict::Valid, "{name}: {:#?}", found.findings);
            assert_eq!(found.last_seq, oracle.log.len() as u64);
        }
        let found = verify_in(&Simulator::with(files.clone()), Check::Full).unwrap();
        assert_eq!((found.entries, found.kinds), (oracle.log.len() as u64, 3));
        assert_eq!(found.clean, name == "clean");
        let target = Simulator::new();
        let source = Simulator::with(files.clone());
        let done = repair_in(&source, &target).unwrap();
        assert_eq!((done.entries, done.entries_lost), (oracle.log.len() as u64, 0));
        assert_eq!(source.files(), files, "the source was touched");
        assert_eq!(log_of(&target.files()), oracle.log);
        let journal = options().open_in(&target).unwrap();
        assert!((0..110).step_by(8).all(|n| journal.remembers(IdempotencyKey([n as u8 + 1; 16]))));
        oracle.check(name, &files);
    }
}

/// Damages every byte of every file with `change`, in steps.
fn every_byte(step: usize, change: impl Fn(usize, u8) -> u8) {
    for (store, files, oracle) in both() {
        for (name, bytes) in &files {
            let step = if is_full() { 1 } else { step };
            for at in (0..used(bytes)).step_by(step) {
                let byte = change(at, bytes[at]);
                if byte == bytes[at] {
                    continue;
                }
                let what = format!("{store}: {name}, byte {at}: {:02x} for {:02x}", byte, bytes[at]);
                let damaged = with(&files, name, |bytes| bytes[at] = byte);
                oracle.check_opening(&what, &damaged);
                let found = verify_in(&Simulator::with(damaged.clone()), Check::Full);
                check_verdict(&what, name, at, bytes, &oracle, found);
                if is_full() || at % 3 == 0 {
                    oracle.check_repair(&what, &damaged);
                }
            }
        }
    }
}

/// The finding names the file, and a place at or before the damage with a good one behind it.
fn check_verdict(
    what: &str,
    name: &str,
    at: usize,
    bytes: &[u8],
    oracle: &Oracle,
    found: esker::Result<esker::Verification>,
) {
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::FormatTooNew, "{what}: {error}");
            return;
        }
    };
    let hint = name == "LOCK" && at >= 512;
    let here = found.findings.iter().filter(|finding| finding.file == name);
    let named: Vec<_> = here.collect();
    if named.iter().all(|finding| finding.severity == Severity::Note) {
        // What no later frame names is ambiguous, and cells of the lock page are hints.
        let ambiguous = found.last_seq >= oracle.certain
            && (!named.is_empty() || found.last_seq == oracle.log.len() as u64);
        assert!(hint || ambiguous && oracle.certain < oracle.log.len() as u64, "{what}: {:#?}", found);
        return;
    }
    assert_eq!(found.verdict, Verdict::Invalid, "{what}");
    let first = named.iter().find(|finding| finding.severity != Severity::Note).unwrap();
    let offset = first.offset.unwrap() as usize;
    assert!(offset <= at, "{what}: {first:?}");
    if let Some(next) = first.next_good {
        assert!(next as usize > at || offset == 0, "{what}: {first:?}");
        assert!((next as usize) < bytes.len());
    }
}

#[test]
fn every_byte_set_to_zero() {
    every_byte(5, |_, _| 0);
}

#[test]
fn every_byte_set_to_ones() {
    every_byte(7, |_, _| 0xff);
}

#[test]
fn one_flipped_bit_in_every_byte() {
    every_byte(3, |at, byte| byte ^ 1 << (at % 8));
}

#[test]
fn every_bit() {
    if is_full() {
        for bit in 0..8 {
            every_byte(1, |_, byte| byte ^ 1 << bit);
        }
    } else {
        every_byte(41, |at, byte| byte ^ 1 << (at / 41 % 8));
    }
}

const SECTOR: usize = 512;

#[test]
fn every_sector_zeroed_swapped_and_duplicated() {
    for (store, files, oracle) in both() {
        let oracle = oracle.wide();
        for (name, bytes) in &files {
            let sectors = bytes.len() / SECTOR;
            for a in 0..sectors.min(if is_full() { sectors } else { 16 }) {
                let what = format!("{store}: {name}, sector {a}");
                let (from, to) = (a * SECTOR, (a + 1) * SECTOR);
                oracle.check(&format!("{what} zeroed"), &with(&files, name, |b| b[from..to].fill(0)));
                let b = (a + 1 + a % 3) % sectors;
                if a == b {
                    continue;
                }
                let swapped = with(&files, name, |bytes| {
                    let copy = bytes.clone();
                    bytes[from..to].copy_from_slice(&copy[b * SECTOR..(b + 1) * SECTOR]);
                    bytes[b * SECTOR..(b + 1) * SECTOR].copy_from_slice(&copy[from..to]);
                });
                oracle.check(&format!("{what} swapped with {b}"), &swapped);
                let doubled = with(&files, name, |bytes| bytes.copy_within(from..to, b * SECTOR));
                oracle.check(&format!("{what} over {b}"), &doubled);
            }
        }
    }
}

#[test]
fn truncation_at_every_length() {
    for (store, files, oracle) in both() {
        let oracle = oracle.wide();
        for (name, bytes) in &files {
            let step = if is_full() { 1 } else { 61 };
            for length in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
                let damaged = with(&files, name, |bytes| bytes.truncate(length));
                oracle.check(&format!("{store}: {name} cut to {length}"), &damaged);
            }
            let damaged = with(&files, name, |bytes| bytes.extend([0; 4096]));
            oracle.check(&format!("{store}: {name} with a page more"), &damaged);
        }
    }
}

#[test]
fn files_deleted_filled_with_garbage_and_swapped() {
    let other = build(true);
    for (store, files, oracle) in both() {
        let oracle = oracle.wide();
        for name in files.keys() {
            let mut without = files.clone();
            without.remove(name);
            oracle.check(&format!("{store}: without {name}"), &without);
            for filler in [0, 0xff, 0xa5] {
                let garbage = with(&files, name, |bytes| bytes.fill(filler));
                oracle.check(&format!("{store}: {name} all {filler:02x}"), &garbage);
                let half = with(&files, name, |bytes| {
                    let middle = bytes.len() / 2;
                    bytes[middle..].fill(filler);
                });
                oracle.check(&format!("{store}: second half of {name} all {filler:02x}"), &half);
            }
            let empty = with(&files, name, Vec::clear);
            oracle.check(&format!("{store}: {name} empty"), &empty);
            // The same file of another store, which is as good as this one.
            if let Some(foreign) = other.get(name) {
                let swapped = with(&files, name, |bytes| bytes.clone_from(foreign));
                let what = format!("{store}: {name} of another store");
                oracle.check(&what, &swapped);
                let found = verify_in(&Simulator::with(swapped), Check::Full).unwrap();
                assert_eq!(found.verdict, Verdict::Invalid, "{what}");
                assert!(found.findings.iter().any(|finding| &finding.file == name), "{what}: {found:#?}");
            }
        }
        let names = segments(&files);
        for a in 0..names.len() {
            for b in 0..names.len() {
                let mut swapped = files.clone();
                swapped.insert(names[a].clone(), files[&names[b]].clone());
                oracle.check(&format!("{store}: segment {b} in the place of {a}"), &swapped);
            }
        }
    }
}

#[test]
fn derived_files_never_matter() {
    let files = build(true);
    let log = log_of(&files);
    for name in files.keys().filter(|name| name.ends_with(".idx") || *name == "entities") {
        for change in [0, 1, 2] {
            let damaged = match change {
                0 => with(&files, name, |bytes| bytes.fill(0xa5)),
                1 => with(&files, name, |bytes| bytes.truncate(100)),
                _ => with(&files, name, |bytes| {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x10;
                }),
            };
            assert_eq!(log_of(&damaged), log, "{name}");
            let found = verify_in(&Simulator::with(damaged.clone()), Check::Full).unwrap();
            let finding = found.findings.iter().find(|finding| &finding.file == name).unwrap();
            assert_eq!((found.verdict, finding.severity), (Verdict::Invalid, Severity::Derived));
            assert_eq!(found.lost, 0);
        }
    }
}

/// No frame says there of those before it that they are durable, and the index of the segment is not there to say what it held.
#[test]
fn damage_takes_nothing_else_of_a_log_that_was_not_synced_and_has_lost_an_index() {
    let unsynced = || options().durability(Durability::Os);
    let disk = Simulator::new();
    let journal = unsynced().open_in(&disk).unwrap();
    fill(&journal, 0, 70);
    journal.close().unwrap();
    let files = disk.files();
    let log = log_of(&files);
    let sealed = segments(&files);
    let step = if is_full() { 1 } else { 7 };
    for (nth, name) in sealed.iter().enumerate().take(sealed.len() - 1) {
        let mut files = files.clone();
        files.remove(&name.replace(".seg", ".idx")).unwrap();
        for at in (nth..used(&files[name])).step_by(step) {
            let damaged = with(&files, name, |bytes| bytes[at] ^= 1 << (at % 8));
            let Ok(journal) = unsynced().open_in(&Simulator::with(damaged)) else { continue };
            let view = journal.view();
            for (seq, seen) in &log {
                match view.get(Seq::new(*seq).unwrap()) {
                    Ok(Some(entry)) => assert_eq!(entry.payload(), seen.payload, "{name} at {at}: {seq}"),
                    Ok(None) => panic!("{name} at {at}: {seq} is not there, and nothing says why"),
                    Err(error) => assert!(error.is_corruption(), "{name} at {at}: {error}"),
                }
            }
        }
    }
}

#[test]
fn a_flipped_byte_in_each_sealed_segment_loses_that_batch_and_is_reported_exactly() {
    let files = build(true);
    let log = log_of(&files);
    for name in segments(&files) {
        let journal = options().open_in(&Simulator::with(files.clone())).unwrap();
        let number: u32 = name[..10].parse().unwrap();
        let view = journal.view();
        let entries: Vec<_> = view.range(..).map(Result::unwrap).collect();
        let here = entries.iter().filter(|entry| entry.position().segment() == number);
        let Some(entry) = here.clone().nth(2) else { continue };
        let (seq, at) = (entry.seq().get(), entry.position().offset());
        let damaged = with(&files, &name, |bytes| bytes[at as usize + 60] ^= 1);
        let found = verify_in(&Simulator::with(damaged.clone()), Check::Full).unwrap();
        let damage: Vec<_> = found.findings.iter().filter(|f| f.severity == Severity::Damage).collect();
        assert_eq!(damage.len(), 1, "{damage:#?}");
        assert_eq!((damage[0].segment, damage[0].offset), (Some(number), Some(at)));
        let lost = damage[0].lost.clone().unwrap();
        assert!(lost.contains(&seq) && found.lost <= 2, "{lost:?}");
        let target = Simulator::new();
        let repaired = repair_in(&Simulator::with(damaged), &target).unwrap();
        assert_eq!(repaired.lost, [(*lost.start(), *lost.end())]);
        let mut expected = log.clone();
        expected.retain(|seq, _| !lost.contains(seq));
        assert_eq!(log_of(&target.files()), expected);
    }
}

fn write_all(files: &Files, path: &Path) {
    std::fs::create_dir(path).unwrap();
    for (name, bytes) in files {
        std::fs::write(path.join(name), bytes).unwrap();
    }
}

fn files_in(path: &Path) -> Files {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn a_real_directory_is_verified_and_repaired_without_being_touched() {
    let scratch = tempfile::tempdir().unwrap();
    let files = build(true);
    let second = segments(&files)[1].clone();
    let mut damaged = with(&files, &second, |bytes| bytes[700..720].fill(0));
    damaged.remove("MANIFEST");
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    write_all(&damaged, &source);
    assert_eq!(options().open(&source).unwrap_err().kind(), ErrorKind::Corrupt);
    let found = verify(&source, Check::Full).unwrap();
    assert_eq!(found.verdict, Verdict::Invalid);
    assert!(found.findings.iter().any(|finding| finding.file == "MANIFEST"));
    assert!(found.findings.iter().any(|finding| finding.file == second));

    let inside = repair(&source, source.join("inside")).unwrap_err();
    assert_eq!(inside.kind(), ErrorKind::InvalidInput);
    assert_eq!(repair(&source, &source).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let done = repair(&source, &target).unwrap();
    assert!(done.manifest_rebuilt && done.entries_lost > 0);
    assert_eq!(files_in(&source), damaged);
    assert_eq!(verify(&target, Check::Full).unwrap().verdict, Verdict::Valid);
    assert_eq!(options().open_existing(&target).unwrap().store_id().to_string(), found.store);
    assert_eq!(repair(&source, &target).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_store_is_verified_beside_its_writer_and_not_repaired() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("live");
    let journal = Options::new().segment_bytes(16 << 10).durability(Durability::Os).open(&path).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let kind = journal.kind("note").unwrap();
            for n in 0..4000_u32 {
                let (key, payload) = (n.to_le_bytes(), n.to_le_bytes().repeat(1 + n as usize % 60));
                let mut batch = journal.batch();
                batch.push(Record::new(kind, b"a", &payload));
                batch.push(Record::new(kind, &key, &payload));
                let _ = batch.commit_nowait().unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        let mut last = 0;
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            let found = verify(&path, Check::Full).unwrap();
            assert_eq!(found.verdict, Verdict::Valid, "{:#?}", found.findings);
            assert!(found.live.is_some() && found.last_seq >= last);
            last = found.last_seq;
        }
    });
    assert_eq!(journal.verify(Check::Full).unwrap().verdict, Verdict::Valid);
    let target = scratch.path().join("target");
    let refused = repair(&path, &target).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Locked);
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    assert!(!target.exists());
    journal.close().unwrap();
    assert_eq!(repair(&path, &target).unwrap().entries, 8000);
}

/// The frames that an index spared an opening were read by nobody, also where the log goes on behind
/// them in the same segment.
#[test]
fn a_byte_that_rots_below_an_index_is_noticed_also_when_the_log_goes_on_in_its_segment() {
    for goes_on in [false, true] {
        let disk = Simulator::new();
        let open = |disk: &Simulator| {
            let options = Options::new().segment_bytes(64 << 10).background(false);
            options.open_in(disk).unwrap()
        };
        let journal = open(&disk);
        let kind = journal.kind("account").unwrap();
        for payload in [b"amount 100", b"amount 200"] {
            journal.append(Record::new(kind, b"k", payload)).unwrap();
        }
        journal.close().unwrap();
        let mut files = disk.files();
        let segment = files.get_mut("0000000001.seg").unwrap();
        let at = segment.windows(10).position(|bytes| bytes == b"amount 100").unwrap();
        segment[at + 7] = b'9';
        let disk = Simulator::with(files);
        let journal = open(&disk);
        if goes_on {
            journal.append(Record::new(kind, b"k", b"amount 300")).unwrap();
        }
        let reader = esker::Reader::open_on(&disk).unwrap();
        for view in [journal.view(), reader.view().unwrap()] {
            let first = view.get(esker::Seq::FIRST).map(|entry| entry.map(|entry| entry.payload().to_vec()));
            assert!(first.unwrap_err().is_corruption(), "goes on: {goes_on}");
            assert!(view.range(..).next().unwrap().unwrap_err().is_corruption());
            assert!(view.entity(kind, b"k").next().unwrap().unwrap_err().is_corruption());
            let last = view.range(..).next_back().unwrap().unwrap().payload().to_vec();
            assert_eq!(last, if goes_on { b"amount 300" } else { b"amount 200" });
        }
    }
}

#[test]
fn an_end_that_is_torn_off_is_no_end_where_an_index_says_that_the_log_went_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = Options::new().segment_bytes(8192).open(&path).unwrap();
    let note = journal.kind("note").unwrap();
    (0..4u8).for_each(|n| _ = journal.append(Record::new(note, b"a", &[n; 20])).unwrap());
    // What an index is trusted by, if it is there.
    let late = journal.kind("late").unwrap();
    (0..4u8).for_each(|n| _ = journal.append(Record::new(late, b"a", &[n; 20])).unwrap());
    journal.close().unwrap();
    let segment = path.join("0000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(20).position(|found| found == [2; 20]).unwrap();
    bytes[at..].fill(0);
    std::fs::write(&segment, bytes).unwrap();
    assert!(path.join("0000000001.idx").exists());

    let refused = Options::new().open(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    let reader = Reader::open(&path).unwrap();
    let damage = &reader.recovery().damage;
    assert_eq!(damage.iter().map(|damage| (damage.first_seq, damage.last_seq)).collect::<Vec<_>>(), [(3, 8)]);
    assert_eq!(reader.view().unwrap().range(..).filter(Result::is_ok).count(), 2);
}
