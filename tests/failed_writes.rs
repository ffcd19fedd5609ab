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
        // Some that end in zeros were all there in spite of it.
        assert!(refused > 20, "only {refused} batches were refused");
    }
}

/// What the call did not come to was zeros: the batch is whole on the disk.
#[test]
fn a_batch_that_is_all_there_was_appended_whatever_its_call_said() {
    let disk = Simulator::new();
    let journal = open(&disk, Durability::Sync);
    let kind = journal.kind("note").unwrap();
    journal.append(Record::new(kind, b"k", b"1")).unwrap();
    disk.fail_writes(0, 1);
    journal.append(Record::new(kind, b"k", &[0; 300])).unwrap();
    disk.fail_writes(0, 1);
    assert_eq!(journal.append(Record::new(kind, b"k", &[7; 300])).unwrap_err().kind(), ErrorKind::NoSpace);
    journal.append(Record::new(kind, b"k", b"2")).unwrap();
    let log: Vec<Vec<u8>> = vec![b"1".to_vec(), vec![0; 300], b"2".to_vec()];
    assert_eq!(contents(&journal), log);
    for disk in [disk.crash(disk.events(), &mut |_| 0), disk.kill(disk.events())] {
        assert_eq!(contents(&open(&disk, Durability::Sync)), log);
    }
}

/// Large batches go by a call on every file system.
#[test]
fn a_large_batch_that_cannot_be_written_takes_nothing_else_with_it() {
    for durability in [Durability::Sync, Durability::Os] {
        let disk = Simulator::new();
        let options = Options::new().segment_bytes(1 << 20).background(false).durability(durability);
        let journal = options.open_in(&disk).unwrap();
        let kind = journal.kind("note").unwrap();
        let large = |n: u8| {
            let mut batch = journal.batch();
            let (key, payload) = ([n], [n; 1000]);
            for _ in 0..100 {
                batch.push(Record::new(kind, &key, &payload));
            }
            batch.commit()
        };
        journal.append(Record::new(kind, b"small", b"1")).unwrap();
        large(1).unwrap();
        let log = contents(&journal);
        disk.fail_writes(0, 1);
        assert_eq!(large(2).unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!(contents(&journal), log);
        assert_eq!(contents(&options.open_in(&disk.kill(disk.events())).unwrap()), log);
        let again = large(3).unwrap();
        assert_eq!(again.receipts[0].generation.get(), 1);
        assert_eq!(journal.latest(kind, &[2]).unwrap().map(|entry| entry.seq()), None);
        journal.close().unwrap();
        let found = verify_in(&disk, Check::Full).unwrap();
        assert_eq!((found.verdict, found.entries), (Verdict::Valid, 201), "{:#?}", found.findings);
    }
}
