//! A copy-on-write file system, where a frame is written by a call, and the call may fail: the
//! batch is not there, nothing more is written into its segment, and the log goes on in another
//! one that follows where it stopped. For each write of a workload in turn.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is a failed test")]

use esker::{
    Check, Durability, ErrorKind, IdempotencyKey, Journal, Options, Record, Simulator, Verdict, verify_in,
};

const BATCHES: u8 = 24;
/// Where the first frame of a segment begins: such an end says that there is nothing of it.
const FIRST_FRAME: u64 = 128;

fn open(disk: &Simulator, durability: Durability) -> Journal {
    disk.copy_on_write(true);
    Options::new().segment_bytes(4096).background(false).durability(durability).open_in(disk).unwrap()
}

/// Two payloads that end in zeros or not, so that half of a batch looks whole now and then.
fn payloads(n: u8) -> [Vec<u8>; 2] {
    let ends_in = n % 2;
    [vec![n + 1; 60], [vec![n + 1; 20], vec![ends_in; 150]].concat()]
}

fn contents(journal: &Journal) -> Vec<Vec<u8>> {
    journal.range(..).unwrap().iter().map(|entry| entry.payload().to_vec()).collect()
}

fn append(journal: &Journal, n: u8) -> esker::Result<()> {
    let kind = journal.kind(["note", "order"][usize::from(n / 5 % 2)])?;
    let key = IdempotencyKey([n + 1; 16]);
    let payloads = payloads(n);
    let mut batch = journal.batch().idempotency_key(key);
    for payload in &payloads[usize::from(n.is_multiple_of(3))..] {
        batch.push(Record::new(kind, b"k", payload));
    }
    batch.commit().map(drop)
}

fn expected(n: u8) -> Vec<Vec<u8>> {
    payloads(n)[usize::from(n.is_multiple_of(3))..].to_vec()
}

/// Where the newest segment says that the log went on: a segment, and an offset in bytes.
fn follows(disk: &Simulator) -> (u32, u64) {
    let files = disk.files();
    let (_, bytes) = files.iter().rfind(|(name, _)| name.ends_with(".seg")).unwrap();
    let word = u64::from_le_bytes(bytes[56..64].try_into().unwrap());
    (u32::try_from(word >> 32).unwrap(), (word & 0xffff_ffff) * 8)
}

/// What stands in the log, and where it ends.
fn there(journal: &Journal) -> (Vec<Vec<u8>>, (u32, u64)) {
    let end = journal.view().end();
    (contents(journal), (end.segment(), end.offset()))
}

/// Runs the workload with one failing write; answers whether a batch was refused for it.
fn one_write_fails(nth: usize, durability: Durability) -> bool {
    let disk = Simulator::new();
    let journal = open(&disk, durability);
    disk.fail_writes(nth, 1);
    let (mut log, mut refused) = (Vec::new(), false);
    for n in 0..BATCHES {
        let shown = format!("write {nth}, batch {n}, {durability:?}");
        if let Err(error) = append(&journal, n) {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{shown}: {error}");
            assert!(!refused, "{shown}: one write failed, and a second batch was refused: {error}");
            refused = true;
            let (found, end) = there(&journal);
            assert_eq!(found, log, "{shown}: a part of what was refused");
            assert_eq!(journal.stats().entries, log.len() as u64, "{shown}");
            assert!(!journal.remembers(IdempotencyKey([n + 1; 16])), "{shown}");
            // Nobody goes on: neither a kill nor a new opening finds any of it.
            assert_eq!(contents(&open(&disk.kill(disk.events()), durability)), log, "{shown}, killed");
            append(&journal, n).unwrap_or_else(|error| panic!("{shown}, once more: {error}"));
            if error.to_string().contains("nothing of it was appended") {
                let (follows, nothing_of_it) = (follows(&disk), end.1 == FIRST_FRAME);
                let behind_a_seal = (end.0, 0);
                assert!(
                    follows == end && !nothing_of_it
                        || follows == behind_a_seal
                        || nothing_of_it && follows.0 < end.0,
                    "{shown}: the log goes on behind {follows:?}, and ended at {end:?}"
                );
            }
        }
        log.extend(expected(n));
        assert_eq!(contents(&journal), log, "{shown}");
    }
    disk.fail_writes(0, 0);
    journal.sync().unwrap();
    for disk in [disk.crash(disk.events(), &mut |_| 0), disk.kill(disk.events())] {
        let journal = open(&disk, durability);
        assert_eq!(contents(&journal), log, "write {nth}, cut off");
        let generations: Vec<u64> =
            journal.view().range(..).map(|entry| entry.unwrap().generation().get()).collect();
        assert!(generations.iter().filter(|generation| **generation == 1).count() <= 2);
    }
    journal.close().unwrap();
    let found = verify_in(&disk, Check::Full).unwrap();
    assert_eq!(found.verdict, Verdict::Valid, "write {nth}: {:#?}", found.findings);
    assert_eq!(found.entries, log.len() as u64);
    refused
}

#[test]
fn a_write_that_fails_takes_its_batch_and_nothing_else() {
    for durability in [Durability::Sync, Durability::Os] {
        let refused = (0..120).filter(|nth| one_write_fails(*nth, durability)).count();
        assert!(refused > 30, "only {refused} batches met a write that failed");
    }
}

/// Half of it was written, and the rest is zeros: it is whole on the disk.
#[test]
fn a_refused_batch_that_looks_whole_and_cannot_be_taken_back_has_an_unknown_outcome() {
    for (failing, outcome) in [(1, ErrorKind::NoSpace), (2, ErrorKind::Poisoned)] {
        let disk = Simulator::new();
        let journal = open(&disk, Durability::Sync);
        let kind = journal.kind("note").unwrap();
        journal.append(Record::new(kind, b"k", b"1")).unwrap();
        disk.fail_writes(0, failing);
        let error = journal.append(Record::new(kind, b"k", &[0; 300])).unwrap_err();
        assert_eq!(error.kind(), outcome, "{error}");
        assert_eq!(contents(&journal), [b"1"]);
        let next = journal.append(Record::new(kind, b"k", b"2"));
        assert_eq!(next.is_ok(), outcome == ErrorKind::NoSpace, "{next:?}");
        drop(journal);
        let found = contents(&open(&disk, Durability::Sync));
        assert_eq!(found[0], b"1");
        if outcome == ErrorKind::NoSpace {
            assert_eq!(found[1..], [b"2"]);
        }
    }
}
