//! What the disk refused, and the page cache goes on showing.
//!
//! After a failed sync the kernel takes the pages for clean: they can still be read, by
//! processes that were there before and by those that are started later, a new sync succeeds,
//! and after a power cut the bytes are gone. So a restart must not believe what it reads: what
//! it recovers is what it would recover if the cache had been dropped.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is a failed test")]

use esker::{
    Check, Durability, ErrorKind, Journal, Options, OwnedEntry, Reader, Record, Simulator, Verdict, verify_in,
};

fn open(disk: &Simulator) -> Journal {
    let options = Options::new().segment_bytes(8192).background(false).durability(Durability::Sync);
    options.open_in(disk).unwrap()
}

fn contents(journal: &Journal) -> Vec<Vec<u8>> {
    journal.range(..).unwrap().iter().map(|entry| entry.payload().to_vec()).collect()
}

/// Payloads of many lengths, so that frames do not end where those before them ended.
fn payload(n: u8, life: u8) -> Vec<u8> {
    vec![n + 1; 3 + usize::from(n) * 37 % 301 + usize::from(life) * 5]
}

/// Appends until a sync fails, or so many times; answers what was acknowledged.
fn append(journal: &Journal, count: u8, life: u8) -> Vec<Vec<u8>> {
    let mut acknowledged = Vec::new();
    let Ok(kind) = journal.kind("note") else { return acknowledged };
    for n in 0..count {
        let payload = payload(n, life);
        if journal.append(Record::new(kind, b"k", &payload)).is_err() {
            break;
        }
        acknowledged.push(payload);
    }
    acknowledged
}

/// A disk whose cache shows what it refused, who still reads it, and what was acknowledged.
struct Refused {
    disk: Simulator,
    reader: Reader,
    held: Vec<OwnedEntry>,
    acknowledged: Vec<Vec<u8>>,
}

/// A life that ends with a failed sync, behind `before` entries of a life that ended in order.
fn life_that_ends_with_a_failed_sync(before: u8, nth: usize) -> Option<Refused> {
    let disk = Simulator::new();
    let journal = open(&disk);
    let mut acknowledged = append(&journal, before, 0);
    journal.close().unwrap();
    let journal = open(&disk);
    disk.forget_sync_after(nth);
    acknowledged.extend(append(&journal, 40, 1));
    if !journal.stats().poisoned {
        return None;
    }
    // A reader may see what is not durable; it holds maps of it from here on.
    let reader = Reader::open_on(&disk).unwrap();
    assert_eq!(reader.durable(), None, "nobody says that any of it is durable");
    let held: Vec<OwnedEntry> =
        reader.view().unwrap().range(..).map(|entry| entry.unwrap().to_owned()).collect();
    assert!(held.len() >= acknowledged.len());
    drop(journal);
    Some(Refused { disk, reader, held, acknowledged })
}

/// The next life, in the same process or after a kill.
fn each_restart(refused: &Refused) -> [Simulator; 2] {
    [refused.disk.clone(), refused.disk.kill(refused.disk.events())]
}

#[test]
fn a_restart_recovers_what_it_would_recover_if_the_cache_had_been_dropped() {
    let mut hidden = 0;
    for (before, nth) in [0, 7].iter().flat_map(|before| (0..40).map(move |nth| (*before, nth))) {
        let Some(refused) = life_that_ends_with_a_failed_sync(before, nth) else { continue };
        for (restart, disk) in each_restart(&refused).into_iter().enumerate() {
            let shown = format!("sync {nth} behind {before} entries, restart {restart}");
            let dropped = disk.crash(disk.events(), &mut |n| n - 1);
            let expected = contents(&open(&dropped));
            let journal = open(&disk);
            let recovered = contents(&journal);
            assert_eq!(recovered, expected, "{shown}");
            assert!(recovered.starts_with(&refused.acknowledged), "{shown}");
            hidden += refused.held.len() - recovered.len();
        }
    }
    assert!(hidden > 20, "the cache showed only {hidden} entries that the disk had refused");
}

#[test]
fn what_is_appended_behind_refused_bytes_is_whole_whatever_the_cache_still_holds() {
    for (before, nth) in [0, 7].iter().flat_map(|before| (0..40).map(move |nth| (*before, nth))) {
        let Some(refused) = life_that_ends_with_a_failed_sync(before, nth) else { continue };
        for (restart, disk) in each_restart(&refused).into_iter().enumerate() {
            let shown = format!("sync {nth} behind {before} entries, restart {restart}");
            let journal = open(&disk);
            let mut expected = contents(&journal);
            expected.extend(append(&journal, 5, 2));
            assert_eq!(contents(&journal), expected, "{shown}");
            for lost in [disk.crash(disk.events(), &mut |_| 0), disk.kill(disk.events())] {
                assert_eq!(contents(&open(&lost)), expected, "{shown}, and cut off");
            }
            journal.close().unwrap();
            let found = verify_in(&disk, Check::Full).unwrap();
            assert_eq!(found.verdict, Verdict::Valid, "{shown}: {:#?}", found.findings);
        }
    }
}

#[test]
fn a_reader_of_refused_bytes_keeps_its_entries_and_is_told_that_the_log_went_back() {
    let mut rewound = 0;
    for (before, nth) in [0, 7].iter().flat_map(|before| (0..40).map(move |nth| (*before, nth))) {
        let Some(refused) = life_that_ends_with_a_failed_sync(before, nth) else { continue };
        let Refused { disk, reader, held, acknowledged } = refused;
        let shown = format!("sync {nth} behind {before} entries");
        let copies: Vec<Vec<u8>> = held.iter().map(|entry| entry.payload().to_vec()).collect();
        let journal = open(&disk);
        let recovered = contents(&journal);
        if held.len() == recovered.len() {
            continue;
        }
        append(&journal, 5, 2);
        let log = contents(&journal);
        assert_eq!(reader.view().unwrap_err().kind(), ErrorKind::Rewound, "{shown}");
        rewound += 1;
        assert!(held.iter().map(|entry| entry.payload()).eq(copies.iter().map(Vec::as_slice)), "{shown}");
        assert!(copies.starts_with(&acknowledged), "{shown}");
        let fresh = Reader::open_on(&disk).unwrap();
        let seen: Vec<Vec<u8>> =
            fresh.view().unwrap().range(..).map(|entry| entry.unwrap().payload().to_vec()).collect();
        assert_eq!(seen, log, "{shown}: a reader that was opened afterwards");
    }
    assert!(rewound > 10, "only {rewound} readers had seen what was taken back");
}
