//! A sync that fails, and a disk that is full: what is acknowledged stays, nothing is retried.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is a failed test")]

#[path = "crash/choices.rs"]
#[allow(dead_code, reason = "whoever compares images is elsewhere")]
mod choices;

use choices::{Dice, each_outcome};
use esker::{Durability, ErrorKind, IdempotencyKey, Journal, Options, Record, Simulator};

fn options(durability: Durability) -> Options {
    Options::new().segment_bytes(4096).background(false).durability(durability)
}

fn open(disk: &Simulator, durability: Durability) -> Journal {
    options(durability).open_in(disk).unwrap()
}

fn contents(journal: &Journal) -> Vec<Vec<u8>> {
    journal.range(..).unwrap().iter().map(|entry| entry.payload().to_vec()).collect()
}

/// The `n`-th payload: large enough that a segment holds a few.
fn payload(n: u64) -> Vec<u8> {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(200, 1);
    payload
}

/// Appends until something fails; answers what was acknowledged, and the failure.
fn append_until_it_fails(journal: &Journal, most: u64) -> (Vec<Vec<u8>>, Option<esker::Error>) {
    let mut acknowledged = Vec::new();
    let kind = match journal.kind("note") {
        Ok(kind) => kind,
        Err(error) => return (acknowledged, Some(error)),
    };
    for n in 0..most {
        match journal.append(Record::new(kind, b"k", &payload(n))) {
            Ok(_) => acknowledged.push(payload(n)),
            Err(error) => return (acknowledged, Some(error)),
        }
    }
    (acknowledged, None)
}

#[test]
fn after_a_failed_sync_nothing_is_synced_again_and_everything_acknowledged_survives() {
    for forgets in [false, true] {
        for nth in 0..60 {
            let disk = Simulator::new();
            let journal = open(&disk, Durability::Sync);
            if forgets {
                disk.forget_sync_after(nth)
            } else {
                disk.fail_sync_after(nth)
            }
            let (acknowledged, failure) = append_until_it_fails(&journal, 40);
            let Some(failure) = failure else { continue };
            let shown = format!("sync {nth}, forgets: {forgets}, {failure}");
            if failure.kind() == ErrorKind::Poisoned {
                assert!(journal.stats().poisoned, "{shown}");
                let calls = disk.syncs();
                let kind = journal.kinds()[0].id;
                let refused = |outcome: esker::Result<()>, what: &str| {
                    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Poisoned, "{what}: {shown}");
                };
                refused(journal.append(Record::new(kind, b"k", b"more")).map(drop), "append");
                refused(journal.append_nowait(Record::new(kind, b"k", b"more")).map(drop), "append_nowait");
                refused(journal.sync().map(drop), "sync");
                refused(journal.kind("other").map(drop), "kind");
                assert_eq!(contents(&journal), acknowledged, "readers see what is durable: {shown}");
                refused(journal.close(), "close");
                assert_eq!(disk.syncs(), calls, "a sync after the one that failed: {shown}");
            } else {
                // A segment could not be made: nothing was appended, and the journal goes on.
                assert_eq!(failure.kind(), ErrorKind::Io, "{shown}");
                assert!(!journal.stats().poisoned, "{shown}");
                drop(journal);
            }
            let mut oldest = |_: usize| 0;
            let reopened = open(&disk.crash(disk.events(), &mut oldest), Durability::Sync);
            let found = contents(&reopened);
            assert!(found.len() >= acknowledged.len(), "{} of {}: {shown}", found.len(), acknowledged.len());
            assert_eq!(found[..acknowledged.len()], acknowledged, "{shown}");
        }
    }
}

#[test]
fn where_a_store_did_not_come_to_be_the_next_one_does_whatever_a_power_cut_leaves() {
    let mut dice = Dice::new(8);
    for forgets in [false, true] {
        for nth in 0.. {
            let disk = Simulator::new();
            if forgets {
                disk.forget_sync_after(nth)
            } else {
                disk.fail_sync_after(nth)
            }
            let Err(error) = options(Durability::Sync).open_in(&disk) else {
                assert!(nth > 3, "only {nth} syncs were to fail");
                break;
            };
            // Whoever tries again at once does so over what is left.
            let again = options(Durability::Sync).open_in(&disk);
            assert_eq!(again.is_ok(), forgets, "sync {nth}");
            drop(again);
            for at in 0..=disk.events() {
                let shown = format!("sync {nth}, forgets: {forgets}, {error}, cut behind operation {at}");
                each_outcome(
                    500,
                    200,
                    &mut dice,
                    |choose| disk.crash(at, choose),
                    |after| {
                        let files: Vec<String> = after.files().into_keys().collect();
                        let opened = options(Durability::Sync).open_in(&after);
                        let journal = opened.unwrap_or_else(|error| panic!("{shown}: {files:?}: {error}"));
                        assert_eq!(contents(&journal), Vec::<Vec<u8>>::new(), "{shown}");
                    },
                );
            }
        }
    }
}

#[test]
fn a_ticket_of_a_poisoned_journal_says_that_its_outcome_is_unknown() {
    let disk = Simulator::new();
    let journal = open(&disk, Durability::Os);
    let kind = journal.kind("note").unwrap();
    let durable = journal.append_nowait(Record::new(kind, b"k", b"1")).unwrap();
    assert_eq!(durable.wait_durable().unwrap().seq.get(), 1);
    let lost = journal.append_nowait(Record::new(kind, b"k", b"2")).unwrap();
    let old = journal.view();
    disk.forget_sync_after(0);
    assert_eq!(lost.wait_durable().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(lost.wait_durable().unwrap_err().kind(), ErrorKind::Poisoned);
    assert!(durable.is_durable() && !lost.is_durable());
    assert_eq!(contents(&journal), [b"1"], "the durable mark is every reader's limit");
    assert_eq!(old.range(..).count(), 2, "an older view keeps what it saw");
    drop(journal);
}

#[test]
fn a_full_disk_refuses_appends_and_loses_nothing() {
    for space in (0..12).map(|pages| pages * 2048) {
        let disk = Simulator::new();
        let journal = open(&disk, Durability::Sync);
        let kind = journal.kind("note").unwrap();
        journal.append(Record::new(kind, b"k", &payload(99))).unwrap();
        disk.limit_space(Some(space));
        let (mut acknowledged, failure) = append_until_it_fails(&journal, 400);
        acknowledged.insert(0, payload(99));
        let failure = failure.expect("the disk is full");
        assert_eq!(failure.kind(), ErrorKind::NoSpace, "{failure}");
        assert!(contents(&journal) == acknowledged, "with {space} bytes free: what failed was appended");
        let mut batch = journal.batch().idempotency_key(IdempotencyKey([7; 16]));
        let large = [9; 700];
        batch.push(Record::new(kind, b"large", &large));
        assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::NoSpace);
        assert!(!journal.remembers(IdempotencyKey([7; 16])));
        journal.sync().unwrap();
        disk.limit_space(None);
        journal.append(Record::new(kind, b"k", b"again")).unwrap();
        acknowledged.push(b"again".to_vec());
        journal.close().unwrap();
        let reopened = open(&disk, Durability::Sync);
        assert!(reopened.recovery().clean);
        assert!(contents(&reopened) == acknowledged, "with {space} bytes free");
        assert!(disk.files().keys().all(|name| !name.ends_with(".tmp")), "{:?}", disk.files().keys());
    }
}
