//! The crash simulator: a directory in memory that remembers what was not synced.
//!
//! It knows no more than POSIX promises. At a crash, each page that was written since the last
//! sync of its file holds its old content, its new content, or any content in between, torn
//! at 512 bytes; each creation, rename and removal since the last sync of the directory has
//! happened or has not, independently of the others. Real file systems are kinder, which is
//! why only this model shows a missing directory sync.
//!
//! ```
//! # #[cfg(feature = "simulator")] {
//! use esker::{Options, Record, Simulator};
//! # fn main() -> esker::Result<()> {
//! let disk = Simulator::new();
//! let journal = Options::new().segment_bytes(4096).background(false).open_in(&disk)?;
//! let kind = journal.kind("note")?;
//! journal.append(Record::new(kind, b"a", b"durable"))?;
//!
//! let mut always_old = |_: usize| 0;                     // nothing unsynced survives
//! let after = disk.crash(disk.events(), &mut always_old);
//! let journal = Options::new().background(false).open_in(&after)?;
//! assert_eq!(journal.stats().entries, 1);
//! # Ok(()) }
//! # main().unwrap(); }
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::Directory;
use crate::disk::memory::{Event, MemoryDirectory, Recorder, resize};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// A disk that can lose power at any moment.
#[derive(Clone)]
pub struct Simulator {
    directory: Arc<MemoryDirectory>,
    tape: Arc<Tape>,
}

#[derive(Default)]
struct Tape {
    /// What was on the disk when this simulator was made.
    before: Image,
    events: Mutex<Vec<Event>>,
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct Faults {
    /// Syncs that still succeed before one fails.
    syncs_left: Option<usize>,
    /// The sync that fails is the only one: what it should have written is forgotten.
    forget: bool,
    /// Syncs that were asked for, the failed ones included.
    syncs: usize,
    /// Calls that write: so many succeed, and so many behind them fail.
    writes: (usize, usize),
    /// Bytes that can still be allocated.
    bytes_left: Option<usize>,
    /// Syncs of files report success and do nothing: a disk that lies.
    syncs_lie: bool,
    /// The directory's sync reports success and does nothing.
    directory_syncs_lie: bool,
}

/// The names of a directory, and the content behind them.
type Image = BTreeMap<String, Vec<u8>>;

/// Picks one of `n` possibilities, `0` being the oldest content and `n - 1` the newest.
pub type Choose<'a> = &'a mut dyn FnMut(usize) -> usize;

impl Simulator {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Image::new())
    }

    /// A disk with these files, all of them durable.
    #[must_use]
    pub fn with(files: BTreeMap<String, Vec<u8>>) -> Self {
        let tape = Arc::new(Tape { before: files.clone(), ..Tape::default() });
        let recorder = Arc::clone(&tape) as Arc<dyn Recorder>;
        Self { directory: Arc::new(MemoryDirectory::with(files, Some(recorder))), tape }
    }

    /// How many operations the disk has seen: each of them is a moment to crash at.
    #[must_use]
    pub fn events(&self) -> usize {
        self.tape.events.lock().len()
    }

    /// The disk after a crash behind the first `at` operations, with `choose` deciding over
    /// everything that was not synced.
    #[must_use]
    pub fn crash(&self, at: usize, choose: Choose<'_>) -> Self {
        let after = Self::with(self.crash_image(at, choose));
        after.copy_on_write(self.directory.file_system().copy_on_write);
        self.goes_on_lying(&after.tape);
        after
    }

    /// As [`crash`](Self::crash), as files.
    #[must_use]
    pub fn crash_image(&self, at: usize, choose: Choose<'_>) -> BTreeMap<String, Vec<u8>> {
        let events = self.tape.events.lock();
        let mut disk = Disk::of(&self.tape.before);
        events.iter().take(at).for_each(|event| disk.apply(event));
        disk.lose_power(choose)
    }

    /// The disk after the process was killed behind the first `at` operations: the kernel has
    /// everything that it did, and what was not synced is still at the mercy of a power cut.
    #[must_use]
    pub fn kill(&self, at: usize) -> Self {
        let events: Vec<Event> = self.tape.events.lock().iter().take(at).cloned().collect();
        let mut disk = Disk::of(&self.tape.before);
        in_the_cache(&events).for_each(|event| disk.apply(event));
        let (files, next) = disk.into_seen();
        let tape = Arc::new(Tape {
            before: self.tape.before.clone(),
            events: Mutex::new(events),
            ..Tape::default()
        });
        let recorder = Arc::clone(&tape) as Arc<dyn Recorder>;
        let directory = MemoryDirectory::with_files(files, next, Some(recorder));
        directory.copy_on_write(self.directory.file_system().copy_on_write);
        self.goes_on_lying(&tape);
        Self { directory: Arc::new(directory), tape }
    }

    /// The files as a process sees them now, synced or not.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut disk = Disk::of(&self.tape.before);
        in_the_cache(&self.tape.events.lock()).for_each(|event| disk.apply(event));
        disk.lose_power(&mut |n| n - 1)
    }

    /// `n` syncs from now succeed; the next one fails, and so does each one after it.
    pub fn fail_sync_after(&self, n: usize) {
        let mut faults = self.tape.faults.lock();
        faults.syncs_left = Some(n);
        faults.forget = false;
    }

    /// `n` syncs from now succeed; the next one fails, and later ones succeed again without
    /// what this one should have written: what kernels do, and why a sync must not be repeated.
    /// The page cache goes on showing it, also to a process that is started after a
    /// [`kill`](Self::kill); whoever reads past the cache, or after a crash, does not find it.
    pub fn forget_sync_after(&self, n: usize) {
        let mut faults = self.tape.faults.lock();
        faults.syncs_left = Some(n);
        faults.forget = true;
    }

    /// How many syncs were asked for, of files and of the directory, the failed ones included.
    #[must_use]
    pub fn syncs(&self) -> usize {
        self.tape.faults.lock().syncs
    }

    /// From the next opening on, overwriting needs new space, as on btrfs: frames are written
    /// by one call a batch, which may fail, and not by stores into the mapping.
    pub fn copy_on_write(&self, yes: bool) {
        self.directory.copy_on_write(yes);
    }

    /// `n` calls that write succeed from now on; `count` behind them write half of their bytes
    /// and say that there is no space; later ones succeed again. Stores into a mapping are no
    /// calls.
    pub fn fail_writes(&self, n: usize, count: usize) {
        self.tape.faults.lock().writes = (n, count);
    }

    /// Only so many bytes can still be allocated; `None` frees the disk again.
    pub fn limit_space(&self, bytes: Option<usize>) {
        self.tape.faults.lock().bytes_left = bytes;
    }

    /// Syncs of files, or of the directory, report success and do nothing: what a disk with a lying cache does, also behind a
    /// [`kill`](Self::kill) or a [`crash`](Self::crash).
    pub fn lie_about_syncs(&self, files: bool, directory: bool) {
        let mut faults = self.tape.faults.lock();
        faults.syncs_lie = files;
        faults.directory_syncs_lie = directory;
    }

    fn goes_on_lying(&self, next: &Tape) {
        let (faults, mut next) = (self.tape.faults.lock(), next.faults.lock());
        (next.syncs_lie, next.directory_syncs_lie) = (faults.syncs_lie, faults.directory_syncs_lie);
    }

    pub(crate) fn directory(&self) -> Arc<dyn Directory> {
        Arc::clone(&self.directory) as Arc<dyn Directory>
    }
}

impl Default for Simulator {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Simulator({} operations)", self.events())
    }
}

impl Recorder for Tape {
    fn record(&self, event: Event) -> io::Result<()> {
        let mut faults = self.faults.lock();
        match &event {
            Event::SyncFile { .. } | Event::SyncDirectory => {
                faults.syncs += 1;
                if let Some(left) = &mut faults.syncs_left {
                    if *left == 0 {
                        if faults.forget {
                            faults.syncs_left = None;
                            if let Event::SyncFile { file } = event {
                                self.events.lock().push(Event::Forget { file });
                            }
                        }
                        return Err(io::Error::other("simulated failure of a sync"));
                    }
                    *left -= 1;
                }
                let directory = matches!(event, Event::SyncDirectory);
                if if directory { faults.directory_syncs_lie } else { faults.syncs_lie } {
                    return Ok(());
                }
            }
            Event::Create { .. }
            | Event::Rename { .. }
            | Event::Remove { .. }
            | Event::Resize { .. }
            | Event::Forget { .. }
            | Event::Write { .. } => {}
        }
        self.events.lock().push(event);
        Ok(())
    }

    fn write(&self, file: u64, offset: usize, bytes: &[u8]) -> (usize, io::Result<()>) {
        let fails = {
            let (succeed, fail) = &mut self.faults.lock().writes;
            let fails = *succeed == 0 && *fail > 0;
            let one = if fails { fail } else { succeed };
            *one = one.saturating_sub(1);
            fails
        };
        let written = if fails { bytes.len() / 2 } else { bytes.len() };
        let content = bytes.get(..written).unwrap_or_default().to_vec();
        match self.record(Event::Write { file, offset, bytes: content }) {
            Err(error) => (0, Err(error)),
            Ok(()) if fails => (written, Err(io::ErrorKind::StorageFull.into())),
            Ok(()) => (written, Ok(())),
        }
    }

    fn grow(&self, bytes: usize) -> io::Result<()> {
        if let Some(left) = &mut self.faults.lock().bytes_left {
            *left = left.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull)?;
        }
        Ok(())
    }

    fn free(&self, bytes: usize) {
        if let Some(left) = &mut self.faults.lock().bytes_left {
            *left += bytes;
        }
    }

    fn past_the_cache(&self, file: u64) -> Option<Vec<u8>> {
        let events = self.events.lock();
        let is_refused = |event: &Event| matches!(event, Event::Forget { file: of } if *of == file);
        // The cache shows what the disk has, unless the disk refused something.
        events.iter().any(is_refused).then(|| {
            let mut disk = Disk::of(&self.before);
            events.iter().for_each(|event| disk.apply(event));
            disk.files.remove(&file).map_or_else(Vec::new, |mut state| {
                state.settle();
                state.durable
            })
        })
    }
}

/// What the kernel shows in its cache: also what a sync should have written and did not.
fn in_the_cache(events: &[Event]) -> impl Iterator<Item = &Event> {
    events.iter().filter(|event| !matches!(event, Event::Forget { .. }))
}

/// The state of the disk: what is durable, and what is on its way there.
struct Disk {
    files: HashMap<u64, FileState>,
    /// The names that are durable, and as the process sees them.
    names: BTreeMap<String, u64>,
    seen: BTreeMap<String, u64>,
    /// Changes of names since the directory's last sync.
    pending: Vec<NameChange>,
}

/// What happens to names, and to which file: a rename moves that file and no other, whatever
/// else about the names was lost.
enum NameChange {
    Set { name: String, file: u64 },
    Rename { from: String, to: String, file: u64 },
    Remove { name: String, file: u64 },
}

#[derive(Default)]
struct FileState {
    durable: Vec<u8>,
    length: usize,
    pending: Vec<(usize, Vec<u8>)>,
}

impl Disk {
    fn of(before: &Image) -> Self {
        let mut disk = Self {
            files: HashMap::new(),
            names: BTreeMap::new(),
            seen: BTreeMap::new(),
            pending: Vec::new(),
        };
        for (file, (name, bytes)) in (0..).zip(before) {
            let state = FileState { durable: bytes.clone(), length: bytes.len(), pending: Vec::new() };
            disk.files.insert(file, state);
            disk.names.insert(name.clone(), file);
        }
        disk.seen.clone_from(&disk.names);
        disk
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Create { name, file } => {
                self.files.insert(*file, FileState::default());
                self.seen.insert(name.clone(), *file);
                self.pending.push(NameChange::Set { name: name.clone(), file: *file });
            }
            Event::Rename { from, to } => {
                if let Some(file) = self.seen.remove(from) {
                    self.seen.insert(to.clone(), file);
                    self.pending.push(NameChange::Rename { from: from.clone(), to: to.clone(), file });
                }
            }
            Event::Remove { name } => {
                if let Some(file) = self.seen.remove(name) {
                    self.pending.push(NameChange::Remove { name: name.clone(), file });
                }
            }
            Event::SyncDirectory => {
                for change in std::mem::take(&mut self.pending) {
                    self.change_name(change);
                }
            }
            Event::Write { file, offset, bytes } => {
                let state = self.files.entry(*file).or_default();
                state.length = state.length.max(offset + bytes.len());
                state.pending.push((*offset, bytes.clone()));
            }
            Event::Resize { file, bytes } => self.files.entry(*file).or_default().length = *bytes,
            Event::SyncFile { file } => self.files.entry(*file).or_default().settle(),
            Event::Forget { file } => self.files.entry(*file).or_default().pending.clear(),
        }
    }

    /// Every file that has a name, by number, as the kernel shows it; and the next free number.
    fn into_seen(mut self) -> (Vec<(String, u64, Vec<u8>)>, u64) {
        let next = self.files.keys().max().map_or(0, |greatest| greatest + 1);
        self.files.values_mut().for_each(FileState::settle);
        let content = |file: &u64| self.files.get(file).map_or_else(Vec::new, |state| state.durable.clone());
        (self.seen.iter().map(|(name, file)| (name.clone(), *file, content(file))).collect(), next)
    }

    fn change_name(&mut self, change: NameChange) {
        match change {
            NameChange::Set { name, file } => {
                self.names.insert(name, file);
            }
            NameChange::Rename { from, to, file } => {
                self.remove_name(&from, file);
                self.names.insert(to, file);
            }
            NameChange::Remove { name, file } => self.remove_name(&name, file),
        }
    }

    fn remove_name(&mut self, name: &str, file: u64) {
        if self.names.get(name) == Some(&file) {
            self.names.remove(name);
        }
    }

    fn lose_power(mut self, choose: Choose<'_>) -> Image {
        for change in std::mem::take(&mut self.pending) {
            if choose(2) == 1 {
                self.change_name(change);
            }
        }
        let mut image = Image::new();
        for (name, file) in &self.names {
            let content = self.files.get(file).map(|state| state.after_power_loss(choose));
            image.insert(name.clone(), content.unwrap_or_default());
        }
        image
    }
}

impl FileState {
    fn settle(&mut self) {
        resize(&mut self.durable, self.length);
        for (offset, bytes) in std::mem::take(&mut self.pending) {
            overwrite(&mut self.durable, offset, &bytes, 0..usize::MAX);
        }
    }

    /// Each dirty page in one of its versions; now and then torn between several.
    fn after_power_loss(&self, choose: Choose<'_>) -> Vec<u8> {
        let mut content = self.durable.clone();
        if content.len() != self.length && choose(2) == 1 {
            resize(&mut content, self.length);
        }
        let mut pages: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, (offset, bytes)) in self.pending.iter().enumerate() {
            for page in offset / PAGE..(offset + bytes.len()).div_ceil(PAGE) {
                pages.entry(page).or_default().push(at);
            }
        }
        for (page, writes) in pages {
            let start = page * PAGE;
            let unit = if choose(4) == 0 { SECTOR } else { PAGE };
            for part in (start..start + PAGE).step_by(unit) {
                let version = choose(writes.len() + 1);
                for write in writes.iter().take(version) {
                    if let Some((offset, bytes)) = self.pending.get(*write) {
                        overwrite(&mut content, *offset, bytes, part..part + unit);
                    }
                }
            }
        }
        content
    }
}

/// Copies the part of a write that lies within `window` and within the content.
fn overwrite(content: &mut [u8], offset: usize, bytes: &[u8], window: std::ops::Range<usize>) {
    let start = offset.max(window.start);
    let end = (offset + bytes.len()).min(window.end).min(content.len());
    if start < end
        && let (Some(to), Some(from)) = (content.get_mut(start..end), bytes.get(start - offset..end - offset))
    {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::replace;

    fn after_the_worst(disk: &Simulator) -> Image {
        disk.crash_image(disk.events(), &mut |_| 0)
    }

    #[test]
    fn a_replaced_file_is_durable_under_its_name() {
        let disk = Simulator::new();
        for content in [b"old".as_slice(), b"newer"] {
            replace(&*disk.directory(), "file", &[content]).unwrap();
            assert_eq!(after_the_worst(&disk), Image::from([("file".to_owned(), content.to_vec())]));
        }
    }

    #[test]
    fn what_was_not_synced_is_lost_and_what_a_failed_sync_forgot_stays_lost() {
        let disk = Simulator::new();
        let file = disk.directory().create("file").unwrap();
        disk.directory().sync().unwrap();
        file.write_at(b"first", 0).unwrap();
        assert_eq!(after_the_worst(&disk)["file"], b"");
        disk.forget_sync_after(0);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(after_the_worst(&disk)["file"], [0; 5], "the length came, the content did not");
        let killed = disk.kill(disk.events());
        for disk in [&disk, &killed] {
            assert_eq!(disk.files()["file"], b"first", "the cache shows it all the same");
            let file = disk.directory().open("file", crate::disk::Access::Read).unwrap();
            let (mut cached, mut past_the_cache) = ([0; 5], [0; 5]);
            file.read_at(&mut cached, 0).unwrap();
            file.read_uncached(&mut past_the_cache, 0).unwrap();
            assert_eq!((&cached, &past_the_cache), (b"first", &[0; 5]));
        }
        file.write_at(b"again", 0).unwrap();
        file.sync().unwrap();
        assert_eq!(after_the_worst(&disk)["file"], b"again");
        assert_eq!(disk.syncs(), 4);
    }

    #[test]
    fn a_killed_process_leaves_what_it_did_and_the_power_may_still_take_it() {
        let disk = Simulator::new();
        let file = disk.directory().create("file").unwrap();
        file.write_at(b"seen", 0).unwrap();
        let killed = disk.kill(disk.events());
        assert_eq!(killed.files()["file"], b"seen");
        assert!(after_the_worst(&killed).is_empty());
        killed.directory().open("file", crate::disk::Access::Write).unwrap().sync().unwrap();
        killed.directory().sync().unwrap();
        assert_eq!(after_the_worst(&killed)["file"], b"seen");
    }
}
