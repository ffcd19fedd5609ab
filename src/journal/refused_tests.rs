//! Readers of a store of which the device refuses a part.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use crate::compact::policy::CompactOptions;
use crate::disk::memory::MemoryDirectory;
use crate::disk::posix::PosixDirectory;
use crate::disk::refusing::Refusing;
use crate::disk::{Access, Directory, read_whole};
use crate::error::{Error, ErrorKind};
use crate::format::segment::file_name;
use crate::format::system::Keep;
use crate::id::{KindId, Seq};
use crate::journal::Journal;
use crate::journal::opening;
use crate::journal::reader::Reader;
use crate::journal::record::Record;
use crate::journal::region::Region;
use crate::journal::subscriber::{Item, Start, SubscribeOptions, Subscriber};
use crate::log::lock::SeenLock;
use crate::options::{Durability, Options};

type Files = BTreeMap<String, Vec<u8>>;

fn files_of(directory: &dyn Directory) -> Files {
    let read = |name: &str| read_whole(&*directory.open(name, Access::Read).unwrap(), 1 << 20).unwrap();
    directory.list().unwrap().into_iter().map(|entry| (entry.name.clone(), read(&entry.name))).collect()
}

/// A process is killed, and the next one writes on in another segment. Answers that one, and the last Seq before it.
fn killed_once() -> (Files, u32, u64) {
    let options = || Options::new().segment_bytes(4096).background(false);
    let mut files = Files::new();
    let (mut before, mut segment) = (0, 0);
    for _ in 0..2 {
        let directory = Arc::new(MemoryDirectory::with(std::mem::take(&mut files), None));
        let journal = Journal::of(opening::open(Arc::clone(&directory) as _, options()).unwrap());
        let kind = journal.kind("note").unwrap();
        before = journal.view().last_seq().unwrap().map_or(0, Seq::get);
        for n in 0..8_u8 {
            let seq = journal.append(Record::new(kind, b"k", &[n; 30])).unwrap().seq;
            segment = journal.view().get(seq).unwrap().unwrap().position().segment();
        }
        files = files_of(&*directory);
    }
    (files, segment, before)
}

#[test]
fn a_last_segment_that_the_device_refuses_is_no_end() {
    let (files, last, before) = killed_once();
    for (what, refused) in
        [("its header", 0..128), ("a page", 0..4096), ("what is behind its header", 200..4096)]
    {
        let memory = MemoryDirectory::with(files.clone(), None);
        let directory = Refusing::of(memory, file_name(last), vec![refused]);
        let reader = Reader::open_in(Arc::new(directory)).unwrap_or_else(|error| panic!("{what}: {error}"));
        let view = reader.view().unwrap();
        let entries: Vec<_> = view.range(..).collect();
        let shown = entries.iter().flatten().map(|entry| entry.seq().get());
        assert!(shown.eq(1..=before), "{what}: {entries:?}");
        assert!(entries.last().unwrap().is_err(), "{what}: as if that were the end");
        let kind = reader.kind_named("note").unwrap().id;
        assert!(view.latest(kind, b"k").is_err(), "{what}: what it was before");
    }
}

/// A store on the disk, somebody who writes it, and a directory of it for readers of which a file may be refused for now.
struct Beside {
    place: tempfile::TempDir,
    journal: Journal,
    note: KindId,
    directory: Arc<Refusing>,
    reader: Reader,
}

impl Beside {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let journal = options().open(place.path()).unwrap();
        let note = journal.kind("note").unwrap();
        let files = PosixDirectory::open(place.path()).unwrap();
        let directory = Arc::new(Refusing::of(files, String::new(), Vec::new()));
        let reader = Reader::open_in(Arc::clone(&directory) as _).unwrap();
        Self { place, journal, note, directory, reader }
    }

    fn say(&self, key: &[u8]) -> (u64, u32) {
        let seq = self.journal.append(Record::new(self.note, key, &[7; 100])).unwrap().seq;
        (seq.get(), self.journal.view().get(seq).unwrap().unwrap().position().segment())
    }

    /// The last Seq when the writer has come to a segment.
    fn say_until(&self, segment: u32) -> u64 {
        loop {
            let (seq, here) = self.say(b"k");
            if here >= segment {
                return seq;
            }
        }
    }

    fn refuse(&self, behind: usize, name: &str, errno: Errno) {
        *self.directory.not_now.lock() = Some((behind, name.to_owned(), errno));
    }

    fn is_refused(&self) -> bool {
        self.directory.not_now.lock().is_none()
    }

    fn damage(&self, name: &str, at: u64) {
        let file =
            std::fs::File::options().write(true).read(true).open(self.place.path().join(name)).unwrap();
        let mut byte = [0];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, at).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[byte[0] ^ 1], at).unwrap();
    }
}

fn options() -> Options {
    Options::new().segment_bytes(4096).background(false).durability(Durability::Os)
}

/// All that a subscriber is told now: Seqs, and errors.
fn drain(subscriber: &mut Subscriber) -> (Vec<u64>, Vec<Error>) {
    let (mut seqs, mut errors) = (Vec::new(), Vec::new());
    loop {
        match subscriber.try_next() {
            Ok(Some(Item::Entry(entry))) => seqs.push(entry.seq().get()),
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) => return (seqs, errors),
            Err(error) => errors.push(error),
        }
        assert!(errors.len() < 10, "{errors:?}");
    }
}

#[test]
fn a_segment_that_is_refused_for_now_is_told_so_and_followed_a_moment_later() {
    let passing = [
        (Errno::IO, ErrorKind::Io),
        (Errno::ACCESS, ErrorKind::PermissionDenied),
        (Errno::MFILE, ErrorKind::Io),
    ];
    // The one that the writer is in, one before that, and what is asked where one is damaged.
    for (errno, kind) in passing {
        for (further, is_damaged) in [(1, false), (3, false), (3, true)] {
            let what = format!("{errno}, {further} on, damaged: {is_damaged}");
            let beside = Beside::new();
            let from = SubscribeOptions::new().from(Start::Oldest);
            let mut all = beside.reader.subscribe(Region::all(), from).unwrap();
            let came = beside.say_until(2);
            assert_eq!(drain(&mut all).0.last(), Some(&came), "{what}");
            let last = beside.say_until(2 + further);
            if is_damaged {
                beside.damage(&file_name(3), 40);
            }
            beside.refuse(0, &file_name(if is_damaged { 4 } else { 3 }), errno);
            let (seqs, errors) = drain(&mut all);
            assert!(beside.is_refused(), "{what}");
            let lost: u64 =
                errors.iter().filter_map(Error::seqs).map(|lost| lost.end() - lost.start() + 1).sum();
            assert_eq!(errors[0].kind(), kind, "{what}: {errors:?}");
            assert_eq!(errors.len(), 1 + usize::from(is_damaged), "{what}: {errors:?}");
            assert_eq!(
                (seqs.len() as u64 + lost, seqs.last()),
                (last - came, Some(&last)),
                "{what}: {errors:?}"
            );
            assert_eq!(lost > 0, is_damaged, "{what}: {errors:?}");
        }
    }
}

#[test]
fn a_segment_that_is_refused_for_good_is_an_error_until_the_log_goes_on_behind_it() {
    let beside = Beside::new();
    let from = SubscribeOptions::new().from(Start::Oldest);
    let mut all = beside.reader.subscribe(Region::all(), from).unwrap();
    let came = beside.say_until(2);
    assert_eq!(drain(&mut all).0.last(), Some(&came));
    let last = beside.say_until(3);
    beside.directory.stays.store(true, Ordering::Relaxed);
    beside.refuse(0, &file_name(3), Errno::IO);
    let mut seen = came;
    for look in 0..4 {
        let told = loop {
            match all.try_next() {
                Ok(Some(Item::Entry(entry))) => seen = entry.seq().get(),
                told => break told.map(|item| item.is_some()).map_err(|error| error.kind()),
            }
        };
        assert_eq!(told, Err(ErrorKind::Io), "look {look}: the writer is in it, and nobody is told");
    }
    // Behind it the log goes on: what was in it is lost, and told so.
    let newest = beside.say_until(5);
    let (seqs, errors) = drain(&mut all);
    let lost: Vec<u64> = errors.iter().filter_map(Error::seqs).flatten().collect();
    assert!(lost.contains(&last) && seqs.last() == Some(&newest), "{errors:?} {seqs:?}");
    assert_eq!(lost.len() as u64 + seqs.len() as u64, newest - seen, "{errors:?} {seqs:?}");
}

#[test]
fn nothing_is_left_out_where_there_are_no_descriptors_for_a_moment() {
    let beside = Beside::new();
    for n in 0..6 {
        beside.say(b"rare");
        beside.say_until(2 + n);
    }
    beside.say(b"rare");
    beside.journal.close().unwrap();
    let note = beside.note;
    for region in
        [Region::all(), Region::kind(note), Region::entity(note, b"rare"), Region::prefix(note, b"r")]
    {
        let subscribe = |capacity: Option<u64>| {
            let reader = Reader::open_in(Arc::clone(&beside.directory) as _).unwrap();
            let options = SubscribeOptions::new().from(Start::Oldest);
            let options = capacity.map_or(options.clone(), |capacity| options.capacity(capacity));
            reader.subscribe(region.clone(), options).unwrap()
        };
        let whole = drain(&mut subscribe(None)).0;
        assert!(whole.len() >= 7);
        for capacity in [None, Some(1000)] {
            for behind in 0.. {
                let mut subscriber = subscribe(capacity);
                beside.refuse(behind, "", Errno::MFILE);
                let (seqs, errors) = drain(&mut subscriber);
                if !beside.is_refused() {
                    break;
                }
                assert_eq!(seqs, whole, "{region:?}, {capacity:?}, {behind}: {errors:?}");
            }
            *beside.directory.not_now.lock() = None;
        }
    }
}

#[test]
fn what_was_looked_up_before_it_was_compacted_is_not_left_out_where_there_is_no_descriptor_for_it() {
    for behind in 0.. {
        let beside = Beside::new();
        let fact = beside.journal.kind("fact").unwrap();
        beside.journal.keep(beside.note, Keep::Latest).unwrap();
        let rare = || beside.journal.append(Record::new(fact, b"rare", &[1; 100])).unwrap().seq.get();
        let before: Vec<u64> = (2..6)
            .map(|segment| {
                beside.say_until(segment);
                rare()
            })
            .collect();
        let from = SubscribeOptions::new().from(Start::Oldest).capacity(1000);
        let mut subscriber = beside.reader.subscribe(Region::entity(fact, b"rare"), from).unwrap();
        let Some(Item::Entry(first)) = subscriber.try_next().unwrap() else { panic!("an entry") };
        assert_eq!(first.seq().get(), before[0]);
        let compacted = beside.journal.compact(&CompactOptions::new().thorough(true)).unwrap();
        assert!(compacted.entries_dropped > 0);
        let newest = rare();
        beside.refuse(behind, "", Errno::MFILE);
        let (seqs, errors) = drain(&mut subscriber);
        let expected: Vec<u64> = before[1..].iter().copied().chain([newest]).collect();
        assert_eq!(seqs, expected, "{behind}: {errors:?}");
        if !beside.is_refused() {
            assert!(behind > 0);
            break;
        }
    }
}

#[test]
fn what_is_refused_for_now_is_no_damage_behind_a_cursor() {
    for errno in [Errno::IO, Errno::ACCESS] {
        let beside = Beside::new();
        beside.say(b"k");
        let mut watcher = beside.journal.watch("far", Region::all()).unwrap();
        assert!(watcher.try_next().unwrap().is_some());
        watcher.checkpoint().unwrap();
        drop(watcher);
        let last = beside.say_until(6);
        beside.journal.close().unwrap();
        let mut errors = 0;
        for behind in 0.. {
            let reader = Reader::open_in(Arc::clone(&beside.directory) as _).unwrap();
            beside.refuse(behind, &file_name(3), errno);
            match reader.cursors() {
                Ok(cursors) => assert_eq!((cursors[0].damaged, cursors[0].behind), (0, last - 1)),
                Err(error) => {
                    assert!(!error.is_corruption(), "{error}");
                    errors += 1;
                    let again = reader.cursors().unwrap();
                    assert_eq!((again[0].damaged, again[0].behind), (0, last - 1));
                }
            }
            if !beside.is_refused() {
                break;
            }
        }
        assert!(errors > 0);
        *beside.directory.not_now.lock() = None;
    }
}

/// A power cut has left whole segments behind a torn end, which the next writer could not remove; and the header of its own is lost.
#[test]
fn who_follows_goes_into_no_segment_that_is_dead() {
    let (dead, alive) = (Beside::new(), tempfile::tempdir().unwrap());
    let at = dead.say_until(2);
    (0..3).for_each(|_| _ = dead.say(b"dead"));
    dead.say_until(5);
    let torn = dead.journal.view().get(Seq::new(at + 2).unwrap()).unwrap().unwrap().position();
    assert_eq!(torn.segment(), 2);
    let copy = |name: &str| std::fs::copy(dead.place.path().join(name), alive.path().join(name)).unwrap();
    let names = [2, 3, 4].map(file_name);
    ["MANIFEST", &file_name(1)]
        .into_iter()
        .chain(names.iter().map(|name| &**name))
        .for_each(|name| _ = copy(name));
    let damage = |name: &str, at: u64| {
        let file = std::fs::File::options().write(true).read(true).open(alive.path().join(name)).unwrap();
        let mut byte = [0];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, at).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[byte[0] ^ 1], at).unwrap();
    };
    damage(&names[0], torn.offset() + 20);
    let journal = options().durability(Durability::Sync).open(alive.path()).unwrap();
    let reader = Reader::open(alive.path()).unwrap();
    let from = SubscribeOptions::new().from(Start::Oldest);
    let mut all = reader.subscribe(Region::all(), from).unwrap();
    assert_eq!(drain(&mut all).0.last(), Some(&(at + 1)));
    let note = journal.kind("note").unwrap();
    let say = || journal.append(Record::new(note, b"alive", &[9; 100])).unwrap().seq;
    let segment = |seq: Seq| journal.view().get(seq).unwrap().unwrap().position().segment();
    let first = say();
    let own = segment(first);
    assert!(own > 4 && !alive.path().join(&names[1]).exists());
    names[1..].iter().for_each(|name| _ = copy(name));
    damage(&file_name(own), 40);
    let (seqs, errors) = drain(&mut all);
    assert!(seqs.is_empty(), "{seqs:?}, {errors:?}");
    let mut last = say();
    while segment(last) == own {
        last = say();
    }
    let (seqs, errors) = drain(&mut all);
    assert_eq!((seqs, errors.len()), (vec![last.get()], 1), "{errors:?}");
    assert_eq!(errors[0].seqs(), Some(first.get()..=last.get() - 1));
}

/// What stands behind a torn end in the segment that is read is dead, however good it looks.
#[test]
fn who_goes_on_behind_damage_stops_where_the_segment_was_torn() {
    let (dead, alive) = (Beside::new(), tempfile::tempdir().unwrap());
    let at = dead.say_until(2);
    (0..8).for_each(|_| _ = dead.say(b"dead"));
    let position = |seq: u64| dead.journal.view().get(Seq::new(seq).unwrap()).unwrap().unwrap().position();
    let place = |seq: u64| usize::try_from(position(seq).offset()).unwrap();
    assert_eq!(position(at + 8).segment(), 2);
    let name = file_name(2);
    ["MANIFEST", &*file_name(1)].into_iter().for_each(|name| {
        std::fs::copy(dead.place.path().join(name), alive.path().join(name)).unwrap();
    });
    let mut bytes = std::fs::read(dead.place.path().join(&name)).unwrap();
    bytes[place(at + 5) + 20] ^= 1;
    let whole = bytes.clone();
    bytes[place(at + 2)..].fill(0);
    std::fs::write(alive.path().join(&name), &bytes).unwrap();
    let reader = Reader::open(alive.path()).unwrap();
    let from = SubscribeOptions::new().from(Start::Oldest);
    let mut all = reader.subscribe(Region::all(), from).unwrap();
    assert_eq!(drain(&mut all).0.last(), Some(&(at + 1)));
    let write = |bytes: &[u8]| {
        let file = std::fs::File::options().write(true).open(alive.path().join(&name)).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
    };
    write(&whole);
    let journal = options().durability(Durability::Sync).open(alive.path()).unwrap();
    let note = journal.kind("note").unwrap();
    let first = journal.append(Record::new(note, b"alive", &[9; 100])).unwrap().seq;
    assert_eq!(first.get(), at + 5, "the log ended where it was torn");
    bytes.copy_from_slice(&whole);
    // Also the last one before that.
    [at + 2, at + 4].into_iter().for_each(|seq| bytes[place(seq) + 20] ^= 1);
    write(&bytes);
    let (seqs, errors) = drain(&mut all);
    assert_eq!((&seqs[..], errors.len()), (&[at + 3, at + 5][..], 2), "{errors:?}");
    let lost: Vec<_> = errors.iter().flat_map(Error::seqs).collect();
    assert_eq!(lost, [at + 2..=at + 2, at + 4..=at + 4]);
    let view = reader.view().unwrap();
    assert_eq!(view.get(first).unwrap().unwrap().key(), b"alive");
}

#[test]
fn what_a_poisoned_writer_could_not_make_durable_is_not_shown_when_it_has_gone() {
    let beside = Beside::new();
    beside.say(b"k");
    beside.journal.sync().unwrap();
    let durable = beside.journal.core().commit.durable();
    beside.say(b"k");
    assert!(beside.reader.view().unwrap().end() > durable);
    beside.journal.core().poison("the disk is gone");
    assert_eq!(beside.reader.view().unwrap().end(), durable);
    assert!(beside.journal.close().is_err());
    let anew = Reader::open(beside.place.path()).unwrap();
    for reader in [&beside.reader, &anew] {
        assert_eq!(reader.view().unwrap().end(), durable, "as before");
        assert_eq!(reader.refresh_durable().unwrap(), durable);
    }
    // The next one has judged what there is.
    let next = options().open(beside.place.path()).unwrap();
    assert!(anew.view().unwrap().end() >= durable);
    next.close().unwrap();
}

#[test]
fn of_a_holder_that_cannot_be_read_nobody_knows_in_which_boot_it_was() {
    let beside = Beside::new();
    beside.say(b"k");
    beside.journal.close().unwrap();
    let directory = PosixDirectory::open(beside.place.path()).unwrap();
    let words = || SeenLock::look(&directory, beside.reader.store_id()).unwrap().unwrap().last_words();
    assert!(words().is_of_this_boot && !words().is_of_another_boot && words().is_released);
    beside.damage("LOCK", 130);
    assert!(!words().is_of_this_boot && !words().is_of_another_boot);
}
