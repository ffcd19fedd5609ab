//! What was wrong once: compaction beside damage, crashes, readers that begin, and views from before.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is a failed test")]

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use esker::{
    At, BackupBy, CompactOptions, Compaction, Durability, Facts, Fold, Freshness, Hold, Item, Journal, Keep,
    KindId, Options, Record, Region, Seq, Simulator, Start, Store, SubscribeOptions, Until, WatchOptions,
};
use serde::{Deserialize, Serialize};

fn options() -> Options {
    Options::new().segment_bytes(8192).background(false).durability(Durability::Os)
}

fn all() -> CompactOptions {
    CompactOptions::new().keep_tombstones_for(Duration::ZERO).thorough(true)
}

fn fill(journal: &Journal, kind: KindId, entries: u64) {
    for n in 0..entries {
        journal.append(Record::new(kind, format!("f{n}").as_bytes(), &[7; 300])).unwrap();
    }
}

/// Compacts slowly in a thread of its own; behind this call it has begun a part.
fn begin_copying(
    journal: &Journal,
    path: &Path,
    bytes_per_second: u64,
) -> JoinHandle<esker::Result<Compaction>> {
    let copier = journal.clone();
    let compacting = std::thread::spawn(move || copier.compact(&all().bytes_per_second(bytes_per_second)));
    let is_part = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().contains(".snap")
    };
    while !std::fs::read_dir(path).unwrap().any(is_part) {
        assert!(!compacting.is_finished(), "it has copied nothing");
        std::thread::yield_now();
    }
    assert!(!compacting.is_finished());
    compacting
}

/// A view is the log at one moment: what compaction drops later is still in it.
#[test]
fn a_view_taken_before_shows_an_entity_that_was_dropped_since() {
    let journal = options().in_memory().unwrap();
    let row = journal.kind("row").unwrap();
    let noise = journal.kind("noise").unwrap();
    journal.append(Record::new(row, b"k", b"one")).unwrap();
    fill(&journal, noise, 100);
    let view = journal.view();
    assert_eq!(view.latest(row, b"k").unwrap().unwrap().payload(), b"one");
    assert_eq!(view.entity(row, b"k").count(), 1);
    journal.keep(row, Keep::Nothing).unwrap();
    journal.compact(&all()).unwrap();
    assert_eq!(view.kind(row).filter(|e| e.is_ok()).count(), 1, "by kind it is there");
    let n = view.entity(row, b"k").filter(|e| e.is_ok()).count();
    let l = view.latest(row, b"k").unwrap().is_some();
    assert_eq!((n, l), (1, true), "and by entity");
}

/// As above, erased and appended again.
#[test]
fn a_view_taken_before_shows_an_entity_that_began_anew_since() {
    let journal = options().in_memory().unwrap();
    let row = journal.kind("row").unwrap();
    let noise = journal.kind("noise").unwrap();
    journal.append(Record::new(row, b"k", b"one")).unwrap();
    fill(&journal, noise, 100);
    let view = journal.view();
    assert_eq!(view.latest(row, b"k").unwrap().unwrap().payload(), b"one");
    assert!(journal.erase(row, b"k").unwrap().erased);
    journal.append(Record::new(row, b"k", b"two")).unwrap();
    assert_eq!(view.latest(row, b"k").unwrap().map(|e| e.payload().to_vec()), Some(b"one".to_vec()));
}

/// A subscriber is shown what was there or told what is missing.
fn subscriber(entity: bool) -> (u64, bool) {
    let journal = options().in_memory().unwrap();
    let row = journal.kind("row").unwrap();
    let noise = journal.kind("noise").unwrap();
    for i in 0..5u8 {
        journal.append(Record::new(row, b"k", &[i])).unwrap();
    }
    fill(&journal, noise, 100);
    journal.sync().unwrap();
    let region = if entity { Region::entity(row, "k") } else { Region::kind(row) };
    let mut sub = journal.subscribe_with(region, SubscribeOptions::new().from(Start::Oldest)).unwrap();
    journal.keep(row, Keep::Nothing).unwrap();
    journal.compact(&all()).unwrap();
    let (mut seen, mut told) = (0, false);
    while sub.advance().unwrap() {
        match sub.item() {
            Item::Entry(_) => seen += 1,
            Item::Missed(_) => told = true,
            _ => {}
        }
    }
    (seen, told)
}

#[test]
fn a_subscriber_to_a_kind_sees_or_is_told() {
    let (seen, told) = subscriber(false);
    assert!(seen == 5 || told, "{seen} {told}");
}

#[test]
fn a_subscriber_to_an_entity_sees_or_is_told() {
    let (seen, told) = subscriber(true);
    assert!(seen == 5 || told, "{seen} {told}");
}

/// A flipped bit in a header must not make compaction drop a live row.
fn flip(at: usize, bit: u8, keep: Keep, other: bool) {
    let dir = tempfile::tempdir().unwrap();
    let journal = options().open(dir.path()).unwrap();
    let row = journal.kind("row").unwrap();
    let noise = journal.kind("noise").unwrap();
    let three = journal.kind("three").unwrap();
    journal.keep(row, keep).unwrap();
    if other {
        journal.keep(three, Keep::Nothing).unwrap();
        journal.append(Record::new(three, b"z", b"z")).unwrap();
    }
    for i in 0..3 {
        journal.append(Record::new(row, b"thekey00", format!("THEPAYLOAD{i}").as_bytes())).unwrap();
    }
    fill(&journal, noise, 100);
    journal.append(Record::new(three, b"z", b"z")).unwrap();
    journal.close().unwrap();
    let name = dir.path().join("0000000001.seg");
    let mut bytes = std::fs::read(&name).unwrap();
    let pos = bytes.windows(19).position(|window| window == b"thekey00THEPAYLOAD2").unwrap();
    let frame = pos - 56;
    bytes[frame + at] ^= bit;
    std::fs::write(&name, bytes).unwrap();
    let journal = options().open(dir.path()).unwrap();
    let done = journal.compact(&all()).unwrap();
    let after = journal.latest(row, b"thekey00");
    assert!(done.damaged > 0 || after.is_err(), "dropped for a flipped bit, silently");
}

#[test]
fn a_flipped_tombstone_bit_drops_no_row() {
    flip(10, 1 << 5, Keep::Latest, false);
}

#[test]
fn a_flipped_kind_drops_no_fact() {
    flip(8, 2, Keep::All, true);
}

/// Orphan of a crash, one failed directory sync, and a compaction.
#[test]
fn a_part_is_not_removed_as_what_a_crash_left() {
    let sim = Simulator::new();
    let journal = options().open_in(&sim).unwrap();
    let row = journal.kind("row").unwrap();
    let noise = journal.kind("noise").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    for i in 0..100u8 {
        journal.append(Record::new(row, b"k", &[i; 300])).unwrap();
        journal.append(Record::new(noise, b"n", &[i; 300])).unwrap();
    }
    journal.close().unwrap();
    drop(journal);
    // What a crash between the part's name and the manifest leaves.
    let mut files = sim.files();
    files.insert("0000000001.snap".into(), vec![1; 500]);
    let sim = Simulator::with(files);
    let journal = options().open_in(&sim).unwrap();
    sim.forget_sync_after(0);
    journal.compact(&all()).unwrap();
    journal.close().unwrap();
    drop(journal);
    let again = Simulator::with(sim.files());
    let journal = options().open_in(&again).unwrap();
    assert_eq!(journal.view().kind(noise).filter(|e| e.is_ok()).count(), 100);
}

/// Whoever has seen everything meanwhile has lost nothing.
#[test]
fn a_cursor_that_caught_up_while_compaction_copied_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().segment_bytes(4 << 20).background(false).durability(Durability::Os);
    let journal = options.open(dir.path()).unwrap();
    let row = journal.kind("row").unwrap();
    let noise = journal.kind("noise").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    let mut watcher = journal
        .watch_with(
            "slow",
            Region::all(),
            WatchOptions::new().until(Until::Visible).hold(Hold::UpTo(1 << 20)),
        )
        .unwrap();
    for i in 0..2000u32 {
        journal.append(Record::new(noise, &i.to_le_bytes(), &[7; 2000])).unwrap();
        journal.append(Record::new(row, b"k", &[7; 1000])).unwrap();
    }
    let compacting = begin_copying(&journal, dir.path(), 1 << 20);
    while watcher.advance().unwrap() {}
    watcher.checkpoint().unwrap();
    compacting.join().unwrap().unwrap();
    let c = &journal.cursors().unwrap()[0];
    assert!(!c.lost, "{c:?}");
}

/// Damage is left alone and counted.
#[test]
fn a_damaged_last_segment_does_not_end_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let journal = options().open(dir.path()).unwrap();
    let row = journal.kind("row").unwrap();
    let noise = journal.kind("noise").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    for i in 0..100u8 {
        journal.append(Record::new(row, b"k", &[i; 300])).unwrap();
        journal.append(Record::new(noise, b"n", &[i; 300])).unwrap();
    }
    let last = journal.stats().segments;
    journal.close().unwrap();
    drop(journal);
    let name = dir.path().join(format!("{:010}.seg", last - 1));
    let mut bytes = std::fs::read(&name).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&name, bytes).unwrap();
    let journal = options().open(dir.path()).unwrap();
    let done = journal.compact(&all());
    assert!(done.unwrap().damaged == 1);
}

/// A cursor's move that a power cut takes does not let go of what it moved over.
#[test]
fn a_move_that_is_not_durable_frees_nothing() {
    for _ in 0..6 {
        let sim = Simulator::new();
        let journal = options().open_in(&sim).unwrap();
        let row = journal.kind("row").unwrap();
        journal.keep(row, Keep::Nothing).unwrap();
        let mut watcher =
            journal.watch_with("w", Region::all(), WatchOptions::new().until(Until::Visible)).unwrap();
        for i in 0..30000u32 {
            journal.append(Record::new(row, &i.to_le_bytes(), &[7; 300])).unwrap();
        }
        for _ in 0..20000 {
            assert!(watcher.advance().unwrap());
        }
        let before = journal.durable();
        let c = journal.clone();
        let compacting = std::thread::spawn(move || c.compact(&all()));
        while journal.durable() == before {}
        let mut b = journal.batch();
        b.push(Record::new(row, b"effect", b"of 2000"));
        b.move_cursor(&watcher, Seq::new(20000).unwrap()).unwrap();
        let (_, ticket) = b.commit_nowait().unwrap();
        compacting.join().unwrap().unwrap();
        let at = sim.events();
        let after = sim.crash(at, &mut |_| 0);
        drop((ticket, watcher, journal));
        let journal = options().open_in(&after).unwrap();
        let c = &journal.cursors().unwrap()[0];
        let seq = c.seq.map_or(0, Seq::get);
        let mut watcher =
            journal.watch_with("w", Region::all(), WatchOptions::new().until(Until::Visible)).unwrap();
        let first = watcher.try_next().unwrap().map(|e| e.seq().get());
        assert!(
            first.is_none_or(|first| first == seq + 1),
            "entries {}..{} are gone, which the cursor has not seen",
            seq + 1,
            first.unwrap()
        );
    }
}

/// A pending erasure must not make every compaction fail where a segment cannot be opened.
#[test]
fn damage_beside_a_pending_erasure_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = options().open(dir.path()).unwrap();
    let row = journal.kind("row").unwrap();
    let noise = journal.kind("noise").unwrap();
    let watcher = journal.watch("w", Region::all()).unwrap();
    drop(watcher);
    journal.append(Record::new(row, b"k", b"k")).unwrap();
    for i in 0..200u32 {
        journal.append(Record::new(noise, &i.to_le_bytes(), &[1; 300])).unwrap();
    }
    journal.append(Record::new(row, b"k", b"k")).unwrap();
    let e = journal.erase(row, b"k").unwrap();
    assert!(!e.erased);
    for i in 0..100u32 {
        journal.append(Record::new(noise, &i.to_le_bytes(), &[1; 300])).unwrap();
    }
    journal.close().unwrap();
    drop(journal);
    let name = dir.path().join("0000000004.seg");
    let mut bytes = std::fs::read(&name).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&name, bytes).unwrap();
    let journal = options().open(dir.path()).unwrap();
    journal.retire_cursor("w").unwrap();
    let done = journal.compact(&all());
    assert!(done.is_ok());
}

/// A watcher without a name that begins while compaction copies sees everything that it began with.
fn follow(entity: bool) {
    let options = Options::new().segment_bytes(4 << 20).background(false).durability(Durability::Os);
    let dir = tempfile::tempdir().unwrap();
    let journal = options.open(dir.path()).unwrap();
    let row = journal.kind("row").unwrap();
    let noise = journal.kind("noise").unwrap();
    journal.keep(row, Keep::Nothing).unwrap();
    for i in 0..2000u32 {
        journal.append(Record::new(noise, &i.to_le_bytes(), &[7; 2000])).unwrap();
        journal.append(Record::new(row, b"k", &[7; 1000])).unwrap();
    }
    journal.sync().unwrap();
    let compacting = begin_copying(&journal, dir.path(), 2 << 20);
    let region = if entity { Region::entity(row, "k") } else { Region::kind(row) };
    let mut watcher = journal.follow(region, WatchOptions::new().from(Start::Oldest)).unwrap();
    assert!(watcher.advance().unwrap());
    assert_eq!(watcher.entry().seq().get(), 2);
    compacting.join().unwrap().unwrap();
    let mut n = 1;
    let mut last = 2;
    while watcher.advance().unwrap() {
        n += 1;
        assert_eq!(watcher.entry().seq().get(), last + 2, "after {n} of 2000");
        last += 2;
    }
    assert_eq!(n, 2000);
}

#[test]
fn a_nameless_watcher_of_a_kind_passes_nothing_over() {
    follow(false)
}

#[test]
fn a_nameless_watcher_of_an_entity_passes_nothing_over() {
    follow(true)
}

#[test]
fn a_linked_backup_succeeds_while_compaction_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().segment_bytes(64 << 10).background(false).durability(Durability::Os);
    let journal = options.open(dir.path()).unwrap();
    let row = journal.kind("row").unwrap();
    let noise = journal.kind("noise").unwrap();
    for i in 0..8000u32 {
        journal.append(Record::new(noise, &i.to_le_bytes(), &[7; 1000])).unwrap();
        journal.append(Record::new(row, b"k", &[7; 1500])).unwrap();
    }
    journal.keep(row, Keep::Latest).unwrap();
    let c = journal.clone();
    let compacting = std::thread::spawn(move || c.compact(&all()));
    while !dir.path().join("0000000001.snap").exists() && !compacting.is_finished() {}
    let mut n = 0;
    let mut errors = Vec::new();
    loop {
        let finished = compacting.is_finished();
        let to = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
        if let Err(e) = journal.backup(to.path(), BackupBy::Link) {
            errors.push(e.to_string());
        }
        n += 1;
        if finished {
            break;
        }
    }
    compacting.join().unwrap().unwrap();
    assert!(errors.is_empty(), "{} of {n}: {}", errors.len(), errors[0]);
}

/// What was not held back stays free to go for others: an answers-only part is not made twice, and so on.
#[test]
fn a_cursor_is_not_lost_where_nothing_was_dropped() {
    // Hold::UpTo cursor over; a second cursor made during the copy stops the run.
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().segment_bytes(4 << 20).background(false).durability(Durability::Os);
    let journal = options.open(dir.path()).unwrap();
    let row = journal.kind("row").unwrap();
    let noise = journal.kind("noise").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    drop(journal.watch_with("slow", Region::all(), WatchOptions::new().hold(Hold::UpTo(1 << 20))).unwrap());
    for i in 0..2000u32 {
        journal.append(Record::new(noise, &i.to_le_bytes(), &[7; 2000])).unwrap();
        journal.append(Record::new(row, b"k", &[7; 1000])).unwrap();
    }
    let compacting = begin_copying(&journal, dir.path(), 2 << 20);
    drop(journal.watch("new", Region::all()).unwrap());
    let done = compacting.join().unwrap().unwrap();
    let lost = journal.cursors().unwrap().iter().any(|c| c.lost);
    assert!(done.entries_dropped > 0 || !lost, "lost, and nothing was dropped");
}

#[derive(Serialize, Deserialize)]
enum Moved {
    In(u64),
    Out(u64),
}
const ACCOUNTS: Facts<Moved> = Facts::new("account");
struct Balance;
impl Fold for Balance {
    type State = i64;
    type Event = Moved;
    const NAME: &'static str = "balance";
    const VERSION: u32 = 1;
    fn fold(cents: &mut i64, moved: Moved, _: &At) {
        match moved {
            Moved::In(more) => *cents += more as i64,
            Moved::Out(less) => *cents -= less as i64,
        }
    }
}
#[test]
fn an_erased_entity_has_no_projection() {
    let store = Store::in_memory().unwrap();
    store.append(ACCOUNTS, "ada", &Moved::In(500)).unwrap();
    assert_eq!(store.project::<Balance>(ACCOUNTS, "ada", Freshness::Consistent).unwrap().value, Some(500));
    let journal = store.journal();
    let kind = journal.kind_named("account").unwrap().id;
    assert!(journal.erase(kind, b"ada").unwrap().erased);
    store.append(ACCOUNTS, "bob", &Moved::In(1)).unwrap();
    let fresh = store.view().project::<Balance>(ACCOUNTS, "ada").unwrap().value;
    let cached = store.project::<Balance>(ACCOUNTS, "ada", Freshness::Consistent).unwrap().value;
    assert_eq!((fresh, cached), (None, None));
}

/// The last segment was begun, and a power cut took what it began with: what it would have restated stands in the
/// one before.
#[test]
fn what_the_log_says_of_itself_outlives_a_compaction_behind_a_segment_that_never_began() {
    let disk = Simulator::new();
    let journal = options().open_in(&disk).unwrap();
    let row = journal.kind("row").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    drop(journal.watch("audit", Region::kind(row)).unwrap());
    for _ in 0..10 {
        journal.append(Record::new(row, b"k", b"one")).unwrap();
    }
    journal.sync().unwrap();
    let mut audit = journal.watch("audit", Region::kind(row)).unwrap();
    while audit.advance().unwrap() {}
    audit.checkpoint().unwrap();
    // Another life begins a segment of its own, of which only the header is durable.
    let killed = disk.kill(disk.events());
    drop((audit, journal));
    let journal = options().open_in(&killed).unwrap();
    journal.append(Record::new(row, b"k", b"two")).unwrap();
    let cut = killed.crash(killed.events(), &mut |_| 0);
    drop(journal);
    let journal = options().open_in(&cut).unwrap();
    assert_eq!(journal.latest(row, b"k").unwrap().unwrap().payload(), b"one");
    for _ in 0..3 {
        journal.compact(&all()).unwrap();
    }
    let again = cut.kill(cut.events());
    drop(journal);
    let journal = options().open_in(&again).unwrap();
    let known = journal.kind_named("row").map(|kind| (kind.id, kind.keep));
    assert_eq!(known, Some((row, Keep::Latest)));
    assert_eq!(journal.cursors().unwrap()[0].seq, Seq::new(10));
    // An erasure makes one, and does not wait for somebody who appends.
    let erasing = cut.kill(cut.events());
    let eraser = options().open_in(&erasing).unwrap();
    let erasure = eraser.erase(row, b"k").unwrap();
    assert!(erasure.erased && erasure.entries == 10, "{erasure:?}");
    assert!(eraser.latest(row, b"k").unwrap().is_none() && eraser.kind_named("row").is_some());
    drop(eraser);
    let erased = options().open_in(&erasing).unwrap();
    assert!(erased.kind_named("row").is_some() && erased.cursors().unwrap().len() == 1);
    drop(erased);
    // In this life something is appended, so that there is a preamble.
    journal.append(Record::new(row, b"k", b"two")).unwrap();
    journal.sync().unwrap();
    assert_eq!(journal.compact(&all()).unwrap().entries_dropped, 10);
    drop(journal);
    let verified = esker::verify_in(&again, esker::Check::Full).unwrap();
    assert_eq!(verified.verdict, esker::Verdict::Valid, "{:?}", verified.findings);
}
