//! What compaction leaves of batches: where one goes on, and where it ended.

use std::sync::Arc;

use crate::compact::policy::CompactOptions;
use crate::disk::memory::MemoryDirectory;
use crate::format::system::Keep;
use crate::journal::Journal;
use crate::journal::opening;
use crate::journal::record::Record;
use crate::options::Options;

#[test]
fn what_is_left_of_a_batch_says_whether_it_goes_on_and_whether_it_ended() {
    let directory = Arc::new(MemoryDirectory::new());
    let options = Options::new().segment_bytes(4096).background(false);
    let journal = Journal::of(opening::open(directory as _, options).unwrap());
    let (log, row) = (journal.kind("log").unwrap(), journal.kind("row").unwrap());
    journal.keep(row, Keep::Latest).unwrap();
    // One letter an entry: all of the log are kept, and of each row the newest.
    let append = |entries: &str| {
        let mut batch = journal.batch();
        for at in 0..entries.len() {
            let key = &entries[at..=at];
            batch.push(Record::new(if key == "l" { log } else { row }, key.as_bytes(), &[7; 40]));
        }
        batch.commit().unwrap();
    };
    let left = || -> Vec<(bool, bool)> {
        let view = journal.view();
        let entries = view.range(..).map(Result::unwrap).filter(|entry| entry.kind() == log);
        entries.map(|entry| (entry.has_more(), entry.ends_batch())).collect()
    };
    ["ll", "lrl", "llr", "rll", "s", "l", "r"].into_iter().for_each(append);
    for next in ["s", "r"] {
        for _ in 0..80 {
            append("r");
        }
        let done = journal.compact(&CompactOptions::new().thorough(true)).unwrap();
        assert!(done.parts_written > 0 && done.entries_dropped > 20, "{done:?}");
        let (goes_on, cut, ended) = ((true, false), (false, false), (false, true));
        let of_batches = [&[goes_on, ended][..], &[cut, ended], &[goes_on, cut], &[goes_on, ended], &[ended]];
        assert_eq!(left(), of_batches.concat());
        // Of what was copied, this is superfluous the next time.
        append(next);
    }
}
