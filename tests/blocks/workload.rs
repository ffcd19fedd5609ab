//! What is written, and by whom.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use esker::{CompactOptions, Durability, Journal, Keep, KindId, Options, Record, Region};

use super::known::JUDGE;
use super::random::Random;

pub(crate) const COUNTER: &str = "counter";
pub(crate) const CELL: &str = "cell";
pub(crate) const CURSOR: &str = "audit";

pub(crate) fn options() -> Options {
    Options::new().segment_bytes(32 << 10)
}

/// How a life goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) seed: u64,
    /// How many batches each writes.
    pub(crate) batches: usize,
    /// What is acknowledged is what a later sync covers.
    pub(crate) is_lazy: bool,
    /// It ends with `close`; else by an abort, when the first is through.
    pub(crate) is_closed: bool,
}

/// How many entries the batch has, beside that of the cell.
pub(crate) fn entries(count: u64) -> u64 {
    1 + count % 3
}

/// What stands in an entry: which it is, and what nobody else would write.
pub(crate) fn payload(writer: usize, count: u64, index: u64) -> Vec<u8> {
    let mut payload = count.to_le_bytes().to_vec();
    payload.push(u8::try_from(writer).unwrap());
    payload.push(u8::try_from(index).unwrap());
    // Some batches are so large that they do not go through the mapping.
    let filler = if count % 11 == 10 { 1700 } else { (count * 37 + index * 101) % 300 };
    let mut random = Random::new(count << 16 | (writer as u64) << 8 | index);
    payload.extend((0..filler).map(|_| random.next().to_le_bytes()[0]));
    payload
}

pub(crate) fn key(writer: usize) -> [u8; 1] {
    [b'a' + u8::try_from(writer).unwrap()]
}

/// The file that takes marks.
pub(crate) struct Marks(File);

impl Marks {
    pub(crate) fn open(path: &Path) -> Self {
        Self(File::options().write(true).open(path).unwrap())
    }

    pub(crate) fn mark(&self, line: &str) {
        assert_eq!((&self.0).write(line.as_bytes()).unwrap(), line.len());
    }
}

/// Appends the batch of that count; answers the last Seq.
pub(crate) fn append(journal: &Journal, marks: &Marks, writer: usize, count: u64) -> esker::Result<u64> {
    let (counter, cell) = (journal.kind(COUNTER)?, journal.kind(CELL)?);
    marks.mark(&format!("begin {writer} {count}"));
    let payloads: Vec<_> = (0..=entries(count)).map(|index| payload(writer, count, index)).collect();
    let key = key(writer);
    let mut batch = journal.batch();
    for (index, payload) in (0..).zip(&payloads) {
        let kind = if index == entries(count) { cell } else { counter };
        batch.push(Record::new(kind, &key, payload));
    }
    Ok(batch.commit()?.receipts.last().unwrap().seq.get())
}

pub(crate) fn last_count(journal: &Journal, kind: KindId, writer: usize) -> esker::Result<u64> {
    let newest = journal.latest(kind, &key(writer))?;
    Ok(newest.map_or(0, |entry| u64::from_le_bytes(entry.payload()[..8].try_into().unwrap())))
}

/// A life of several threads: it writes, follows, compacts, and makes the kernel write back before it has to.
pub(crate) fn live(store: &Path, marks: &Path, life: Life) -> esker::Result<()> {
    let durability =
        if life.is_lazy { Durability::Interval(Duration::from_millis(3)) } else { Durability::Sync };
    let journal = options().durability(durability).open(store)?;
    let marks = &Marks::open(marks);
    journal.kind(COUNTER)?;
    let cell = journal.kind(CELL)?;
    journal.keep(cell, Keep::Latest)?;
    marks.mark("open");
    let (is_over, running) = (&AtomicBool::new(false), &AtomicUsize::new(JUDGE));
    let journal = &journal;
    std::thread::scope(|scope| {
        let follower = scope.spawn(move || follow(journal, marks, is_over));
        let writers: Vec<_> = (0..JUDGE)
            .map(|writer| {
                scope.spawn(move || {
                    let wrote = write(journal, marks, writer, life, store);
                    if !life.is_closed && wrote.is_ok() {
                        std::process::abort();
                    }
                    if running.fetch_sub(1, Ordering::AcqRel) == 1 {
                        is_over.store(true, Ordering::Release);
                    }
                    wrote
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().unwrap())?;
        follower.join().unwrap()
    })?;
    journal.close()
}

fn write(journal: &Journal, marks: &Marks, writer: usize, life: Life, store: &Path) -> esker::Result<()> {
    let cell = journal.kind(CELL)?;
    let before = last_count(journal, cell, writer)?;
    let mut random = Random::new(life.seed * 7 + writer as u64);
    for count in before + 1..=before + life.batches as u64 {
        let seq = append(journal, marks, writer, count)?;
        if !life.is_lazy {
            marks.mark(&format!("ack {writer} {count} {seq}"));
        } else if random.below(6) == 0 {
            journal.sync()?;
            marks.mark(&format!("ack {writer} {count} {seq}"));
        }
        if writer == 1 && random.below(if life.is_lazy { 2 } else { 5 }) == 0 {
            write_back_some(store, &mut random);
        }
        if writer == 0 && count % 16 == 0 {
            journal.compact(&CompactOptions::new().keep_tombstones_for(Duration::ZERO).thorough(true))?;
        }
    }
    Ok(())
}

/// Makes the kernel write some pages of a segment, and tell the disk nothing else.
fn write_back_some(store: &Path, random: &mut Random) {
    let mut segments: Vec<_> = std::fs::read_dir(store)
        .unwrap()
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    segments.sort();
    // Compaction may have taken it away.
    let Some(file) = segments.last().and_then(|path| File::open(path).ok()) else { return };
    let at = random.below(8) * 4096;
    let length = std::num::NonZeroU64::new(4096 * (1 + random.below(3)));
    rustix::fs::fadvise(&file, at, length, rustix::fs::Advice::DontNeed).unwrap();
}

fn follow(journal: &Journal, marks: &Marks, is_over: &AtomicBool) -> esker::Result<()> {
    let mut watcher = journal.watch(CURSOR, Region::All)?;
    let mut since = 0;
    while !is_over.load(Ordering::Acquire) {
        let Some(entry) = watcher.next_timeout(Duration::from_millis(5))? else { continue };
        let seq = entry.seq().get();
        marks.mark(&format!("seen {seq}"));
        since += 1;
        if since % 9 == 0 {
            watcher.checkpoint()?;
            marks.mark(&format!("at {seq}"));
        }
    }
    Ok(())
}
