//! Holding the directory, and telling others who holds it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(not(all(target_os = "linux", not(miri))))]
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use zerocopy::IntoBytes;

use crate::disk::map::SharedPage;
use crate::disk::{Access, Directory, File, Hold};
use crate::error::{Error, ErrorKind, Result, is_passing};
use crate::format::header::{FileHeader, FileType, HEADER_BYTES};
use crate::format::lock::{Cell, FILE_NAME, HOLDER_AT, Holder, PAGE_BYTES};
use crate::id::{Life, Position, StoreId};

/// The directory's lock, held by this process until it is dropped.
#[derive(Debug)]
pub(crate) struct HeldLock {
    file: Arc<dyn File>,
    page: SharedPage,
    holder: Mutex<Holder>,
    /// The directory itself, against those who find another lock file.
    directory: Mutex<Option<Hold>>,
    /// The page may belong to another life.
    released: AtomicBool,
}

impl HeldLock {
    /// Takes the lock, or says who has it. Makes the page where there is none yet.
    pub(crate) fn take(directory: &dyn Directory) -> Result<Self> {
        let path = directory.path().join(FILE_NAME);
        let doing = |e| Error::io("take the lock", e).at(path.clone());
        let file = match directory.open(FILE_NAME, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match directory.create(FILE_NAME) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    directory.open(FILE_NAME, Access::Write)
                }
                other => other,
            },
            other => other,
        }
        .map_err(doing)?;
        if !file.try_lock().map_err(doing)? {
            return Err(locked(&path, read_holder(&*file)));
        }
        let Some(hold) = directory.hold().map_err(doing)? else {
            let holder = read_holder(&*file);
            let _ = file.unlock();
            return Err(locked(&path, holder));
        };
        // Somebody may have removed the file between our opening and locking it: then another
        // process can hold a lock on the file that has its name now.
        let same =
            directory.open(FILE_NAME, Access::Read).and_then(|now| Ok(now.identity()? == file.identity()?));
        if !same.map_err(doing)? {
            let _ = file.unlock();
            return Err(locked(&path, None));
        }
        if file.len().map_err(doing)? < PAGE_BYTES as u64 {
            file.write_at(&[0; PAGE_BYTES], 0).map_err(doing)?;
        }
        let page = file.share_page(Access::Write).map_err(doing)?;
        let holder = Holder {
            pid: std::process::id(),
            host: host_name(),
            since: now(),
            boot: boot_id(),
            life: 0,
            held: true,
        };
        Ok(Self {
            file,
            page,
            holder: Mutex::new(holder),
            directory: Mutex::new(Some(hold)),
            released: AtomicBool::new(false),
        })
    }

    /// Writes down that this life holds the store; the marks start where recovery ended.
    pub(crate) fn announce(
        &self,
        store: StoreId,
        life: Life,
        end: Position,
        compactions: u32,
    ) -> io::Result<()> {
        let (device, inode) = self.file.identity()?;
        let words = [device, inode, 0, 0, 0, 0, 0, 0];
        let mut header = [0; HEADER_BYTES];
        self.file.read_at(&mut header, 0)?;
        let header = FileHeader::read(&header, FileType::Lock);
        if header.is_ok_and(|header| (header.word(0), header.word(1)) != (device, inode)) {
            // A page that was copied with its directory says nothing of this one, also once its header is this one's.
            let cells = [Cell::Life, Cell::Durable, Cell::Visible, Cell::Poison];
            cells.into_iter().for_each(|cell| self.page.store(cell, 0));
        }
        self.page.store(Cell::Life, 0);
        self.file.write_at(FileHeader::new(FileType::Lock, store, 0, 0, words).as_bytes(), 0)?;
        // Readers take the marks only while the life in the page is the same before and after.
        self.page.store(Cell::Visible, end.word());
        self.page.store(Cell::Durable, end.word());
        self.page.store(Cell::Poison, 0);
        self.page.store(Cell::Compactions, compactions.into());
        let mut holder = self.holder.lock();
        holder.life = life.0;
        self.file.write_at(&holder.encode(), HOLDER_AT as u64)?;
        self.page.store(Cell::Life, u64::from(life.0));
        Ok(())
    }

    /// Shows readers in other processes how far they may look, and whoever opens the store behind a kill what was synced.
    #[inline]
    pub(crate) fn show(&self, cell: Cell, word: u64) {
        // A ticket may outlive its journal: the page then belongs to another life.
        if !self.released.load(Ordering::Acquire) {
            self.page.store(cell, word);
        }
    }

    /// As [`show`](Self::show), for a mark that several threads move: it never goes back.
    pub(crate) fn show_at_least(&self, cell: Cell, word: u64) {
        if !self.released.load(Ordering::Acquire) {
            self.page.raise(cell, word);
        }
    }

    /// Says that the store was closed in order, and lets go of it.
    pub(crate) fn release(&self) -> io::Result<()> {
        self.released.store(true, Ordering::Release);
        let mut holder = self.holder.lock();
        holder.held = false;
        self.page.store(Cell::Life, 0);
        let said = self.file.write_at(&holder.encode(), HOLDER_AT as u64);
        drop(self.directory.lock().take());
        let unlocked = self.file.unlock();
        said.and(unlocked)
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        drop(self.directory.lock().take());
        let _ = self.file.unlock();
    }
}

fn read_holder(file: &dyn File) -> Option<Holder> {
    let mut page = [0; PAGE_BYTES];
    file.read_at(&mut page, 0).ok()?;
    Holder::read(&page)
}

fn locked(path: &std::path::Path, holder: Option<Holder>) -> Error {
    let found = match holder {
        Some(Holder { pid, host, since, .. }) => {
            let age = now().saturating_sub(since) / 1_000_000_000;
            format!(
                "process {pid} on {host}, which opened it {age} s ago (unix time {})",
                since / 1_000_000_000
            )
        }
        None => "a holder that left no name".to_owned(),
    };
    Error::new(ErrorKind::Locked, "open the store for writing").at(path).sides("no holder", found)
}

/// Says who holds a store, as far as its lock file tells.
pub(crate) fn refusal(directory: &dyn Directory, file: Option<&dyn File>) -> Error {
    locked(&directory.path().join(FILE_NAME), file.and_then(read_holder))
}

/// Takes the lock of a store that is only to be read, so that nobody writes it meanwhile. The
/// page is not changed. Answers the refusal if somebody holds it.
pub(crate) fn held_elsewhere(directory: &dyn Directory, file: &dyn File) -> Result<Option<Error>> {
    let path = directory.path().join(FILE_NAME);
    let is_free = file.try_lock().map_err(|e| Error::io("take the lock", e).at(path.clone()))?;
    Ok((!is_free).then(|| locked(&path, read_holder(file))))
}

/// What a reader in another process learns from the lock page.
#[derive(Debug)]
pub(crate) struct SeenLock {
    file: Arc<dyn File>,
    page: SharedPage,
}

/// The marks of a live writer, as hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveMarks {
    pub(crate) life: Life,
    pub(crate) visible: Position,
    pub(crate) durable: Position,
    pub(crate) poisoned: bool,
    /// Another number than before: something was compacted.
    pub(crate) compactions: u64,
}

/// What a lock page says where nobody can be told that holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastWords {
    /// Everything below was durable, if it was said since the machine was started.
    pub(crate) durable: Position,
    /// The last writer has let go of the store.
    pub(crate) is_released: bool,
    /// The machine was started anew since.
    pub(crate) is_of_another_boot: bool,
    /// It was not: of a holder that cannot be read nobody knows.
    pub(crate) is_of_this_boot: bool,
    /// A sync had failed: the cache may show what the disk does not have.
    pub(crate) is_poisoned: bool,
}

impl SeenLock {
    /// The lock page of a store, if there is one worth looking at. Nothing is locked or changed.
    ///
    /// # Errors
    ///
    /// One that passes: without the page what is only visible would count as durable.
    pub(crate) fn look(directory: &dyn Directory, store: StoreId) -> Result<Option<Self>> {
        let opened = directory.open(FILE_NAME, Access::Read);
        let seen = opened.and_then(|file| Ok(Self { page: file.share_page(Access::Read)?, file }));
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) if is_passing(&error) => {
                return Err(Error::io("look at the lock page", error).at(directory.path().join(FILE_NAME)));
            }
            Err(_) => return Ok(None),
        };
        // A copied directory has a copied page: its marks are another store's.
        let is_of_it = |header: &FileHeader| {
            let identity = seen.file.identity().ok();
            header.store() == store && Some((header.word(0), header.word(1))) == identity
        };
        let is_of_it = seen.header().is_some_and(|header| is_of_it(&header));
        Ok(is_of_it.then_some(seen))
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        let mut page = vec![0; PAGE_BYTES];
        self.file.read_at(&mut page, 0).ok()?;
        Some(page)
    }

    fn header(&self) -> Option<FileHeader> {
        FileHeader::read(&self.bytes()?, FileType::Lock).ok()
    }

    /// Who holds the store, or held it last.
    pub(crate) fn holder(&self) -> Option<Holder> {
        Holder::read(&self.bytes()?)
    }

    /// The marks of a writer that lives; `None`: there is none, or it cannot be told.
    pub(crate) fn marks(&self) -> Option<LiveMarks> {
        let holder = self.holder().filter(|holder| holder.held && is_alive(holder))?;
        let life = self.page.load(Cell::Life);
        let marks = LiveMarks {
            life: Life(u32::try_from(life).ok().filter(|life| *life != 0)?),
            visible: Position::from_word(self.page.load(Cell::Visible)),
            durable: Position::from_word(self.page.load(Cell::Durable)),
            poisoned: self.page.load(Cell::Poison) != 0,
            compactions: self.page.load(Cell::Compactions),
        };
        std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
        (self.page.load(Cell::Life) == life && holder.life == marks.life.0).then_some(marks)
    }

    /// What is durable for certain, as far as the page tells: all before it, said since the machine was started. Nothing vouches
    /// for the page, which no checksum covers: of a mark that is ahead of what was visible, only so much counts.
    pub(crate) fn said_durable(&self) -> Position {
        let said = self.page.load(Cell::Durable).min(self.page.load(Cell::Visible));
        let is_of_this_boot = self.holder().is_some_and(|holder| is_this_boot(&holder));
        Position::from_word(if is_of_this_boot { said } else { 0 })
    }

    /// What the last writer has left behind; a writer that comes just now may be in the middle of it.
    pub(crate) fn last_words(&self) -> LastWords {
        let holder = self.holder();
        let told = holder.as_ref().filter(|holder| !holder.boot.is_empty());
        let is_of_this_boot = told.map(is_this_boot);
        LastWords {
            durable: Position::from_word(self.page.load(Cell::Durable)),
            is_released: holder.is_some_and(|holder| !holder.held),
            is_of_another_boot: is_of_this_boot == Some(false),
            is_of_this_boot: is_of_this_boot == Some(true),
            is_poisoned: is_of_this_boot == Some(true) && self.page.load(Cell::Poison) != 0,
        }
    }
}

/// True if the machine was not started anew since. Where it does not tell its starts apart nobody knows.
fn is_this_boot(holder: &Holder) -> bool {
    !holder.boot.is_empty() && holder.boot == boot_id()
}

/// True if the holder's process can still be there.
pub(crate) fn is_alive(holder: &Holder) -> bool {
    if holder.boot != boot_id() {
        return false;
    }
    if holder.host != host_name() {
        return true;
    }
    let Ok(pid) = i32::try_from(holder.pid) else { return false };
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return false };
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Nanoseconds since 1970, from the coarse wall clock: precise to a few milliseconds, for the
/// price of reading two words.
pub(crate) fn now() -> i64 {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }
}

pub(super) fn host_name() -> String {
    #[cfg(not(miri))]
    return rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(miri)]
    return "miri".to_owned();
}

/// Changes with each start of the kernel: a process id means nothing under another one.
pub(super) fn boot_id() -> String {
    if cfg!(miri) {
        return "miri".to_owned();
    }
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    #[cfg(not(miri))]
    {
        let mut done = 0;
        while done < N {
            let space = bytes.get_mut(done..).unwrap_or_default();
            match rustix::rand::getrandom(space, rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => done += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    #[cfg(miri)]
    {
        // Miri's own seeded source, through the hasher that std seeds from it.
        use std::hash::{BuildHasher, Hasher};
        for byte in &mut bytes {
            let word = std::collections::hash_map::RandomState::new().build_hasher().finish();
            *byte = word.to_le_bytes().first().copied().unwrap_or(0);
        }
    }
    Ok(bytes)
}
