//! What has to be done here to keep live state: the newest row of each key, durably, and a log of what changed
//! that a consumer reads.
//!
//! Upserts are made durable in groups of [`GROUP`]. esker does that by itself. A store with transactions is
//! used in the two ways in which applications do: [`Direct`] writes each upsert into the open transaction of its
//! group, [`Windowed`] gathers the newest row of each key in a map, and another thread writes what that came to.

use std::collections::HashMap;
use std::mem::take;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::engine::Outcome;
use crate::workload::{Event, Key, PAYLOAD_BYTES};

/// So often what was accepted is made durable: esker's own default.
pub const GROUP: Duration = Duration::from_millis(20);

pub type Payload = [u8; PAYLOAD_BYTES];

/// Keeps rows, and tells a consumer of each change of them that was made durable.
pub trait LiveState: Sized + Sync {
    /// The crate in `Cargo.lock` whose version is reported.
    const CRATE: &'static str;

    /// Whether it is measured in the works that only read, which do not depend on how rows are written.
    const READS_ALONE: bool = true;

    type Consumer: Consumer;

    /// An empty store, and a consumer of every change of it.
    fn open(dir: &Path) -> Outcome<(Self, Self::Consumer)>;

    /// Takes upserts, each as a call of its own, from the only thread that writes.
    fn accept<'a>(&self, upserts: impl Iterator<Item = Event<'a>>) -> Outcome;

    /// Waits until all that was accepted is durable, where anything ever is, and can be consumed.
    fn flush(&self) -> Outcome;

    /// Shows the row of a key as it is now; in another thread while upserts are taken, as of some group before.
    fn get(&self, key: &Key, see: impl FnOnce(&[u8])) -> Outcome;

    /// Shows all rows of one moment.
    fn scan(&self, see: impl FnMut(&[u8], &[u8])) -> Outcome;

    fn close(self) -> Outcome;
}

pub trait Consumer: Send + 'static {
    /// Shows the keys and rows of changes, in order, each once. False: within `patience` there was none.
    fn next(&mut self, patience: Duration, see: impl FnMut(&[u8], &[u8])) -> Outcome<bool>;
}

/// A store with transactions, in which an application keeps rows and a log of their changes itself.
pub trait Transacts: Sized + Send + Sync + 'static {
    const CRATE: &'static str;

    type Consumer: Consumer;

    fn open(dir: &Path) -> Outcome<(Self, Self::Consumer)>;

    /// Upserts all of them and logs each in one durable transaction, and wakes the consumer.
    fn transact(&self, upserts: impl Iterator<Item = (Key, Payload)>) -> Outcome;

    fn get(&self, key: &Key, see: impl FnOnce(&[u8])) -> Outcome;

    fn scan(&self, see: impl FnMut(&[u8], &[u8])) -> Outcome;

    fn close(self) -> Outcome;
}

/// Each upsert goes into the transaction of its group, in the thread that accepts.
pub struct Direct<E>(E);

impl<E: Transacts> LiveState for Direct<E> {
    const CRATE: &'static str = E::CRATE;

    type Consumer = E::Consumer;

    fn open(dir: &Path) -> Outcome<(Self, E::Consumer)> {
        let (store, consumer) = E::open(dir)?;
        Ok((Self(store), consumer))
    }

    fn accept<'a>(&self, upserts: impl Iterator<Item = Event<'a>>) -> Outcome {
        let mut upserts = upserts.map(|event| (event.key, payload_of(&event))).peekable();
        while upserts.peek().is_some() {
            let until = Instant::now() + GROUP;
            // An iterator that stops at the time asks before it takes: nothing is lost between groups.
            self.0.transact(std::iter::from_fn(|| {
                if Instant::now() < until { upserts.next() } else { None }
            }))?;
        }
        Ok(())
    }

    fn flush(&self) -> Outcome {
        Ok(())
    }

    fn get(&self, key: &Key, see: impl FnOnce(&[u8])) -> Outcome {
        self.0.get(key, see)
    }

    fn scan(&self, see: impl FnMut(&[u8], &[u8])) -> Outcome {
        self.0.scan(see)
    }

    fn close(self) -> Outcome {
        self.0.close()
    }
}

/// The newest row of each key is gathered, and another thread writes a group while the next one is gathered.
pub struct Windowed<E> {
    shared: Arc<Shared<E>>,
    writer: JoinHandle<Outcome>,
}

struct Shared<E> {
    store: E,
    window: Mutex<Window>,
    moved: Condvar,
}

#[derive(Default)]
struct Window {
    rows: HashMap<Key, Payload>,
    /// The writer has taken rows, and they are not durable yet.
    is_writing: bool,
    /// Somebody waits: the group is not.
    is_urgent: bool,
    is_closed: bool,
    has_failed: bool,
}

/// More rows than these are not gathered: whoever accepts waits. 64 MiB of keys and rows, as esker has it.
const ROWS_MAX: usize = (64 << 20) / (size_of::<Key>() + PAYLOAD_BYTES);

impl<E: Transacts> LiveState for Windowed<E> {
    const CRATE: &'static str = E::CRATE;
    const READS_ALONE: bool = false;

    type Consumer = E::Consumer;

    fn open(dir: &Path) -> Outcome<(Self, E::Consumer)> {
        let (store, consumer) = E::open(dir)?;
        let shared = Arc::new(Shared { store, window: Mutex::default(), moved: Condvar::new() });
        let writer = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.write_groups()
        });
        Ok((Self { shared, writer }, consumer))
    }

    fn accept<'a>(&self, upserts: impl Iterator<Item = Event<'a>>) -> Outcome {
        for event in upserts {
            let mut window = self.shared.window.lock();
            while window.rows.len() >= ROWS_MAX && !window.has_failed {
                window.is_urgent = true;
                self.shared.moved.notify_all();
                self.shared.moved.wait(&mut window);
            }
            if window.has_failed {
                return Err("a group could not be written".into());
            }
            // The first of a group may be due at once.
            if window.rows.is_empty() {
                self.shared.moved.notify_all();
            }
            window.rows.insert(event.key, payload_of(&event));
        }
        Ok(())
    }

    fn flush(&self) -> Outcome {
        let mut window = self.shared.window.lock();
        while (window.is_writing || !window.rows.is_empty()) && !window.has_failed {
            window.is_urgent = true;
            self.shared.moved.notify_all();
            self.shared.moved.wait(&mut window);
        }
        if window.has_failed { Err("a group could not be written".into()) } else { Ok(()) }
    }

    fn get(&self, key: &Key, see: impl FnOnce(&[u8])) -> Outcome {
        self.shared.store.get(key, see)
    }

    fn scan(&self, see: impl FnMut(&[u8], &[u8])) -> Outcome {
        self.shared.store.scan(see)
    }

    fn close(self) -> Outcome {
        self.shared.window.lock().is_closed = true;
        self.shared.moved.notify_all();
        self.writer.join().map_err(|_| "the writer panicked")??;
        Arc::into_inner(self.shared).ok_or("somebody still has the store")?.store.close()
    }
}

impl<E: Transacts> Shared<E> {
    /// Until it is closed.
    fn write_groups(&self) -> Outcome {
        let mut written = Instant::now();
        let mut window = self.window.lock();
        loop {
            if window.rows.is_empty() && window.is_closed {
                return Ok(());
            }
            let is_due = window.is_urgent || written.elapsed() >= GROUP;
            if window.rows.is_empty() || !is_due {
                self.moved.wait_for(&mut window, GROUP.saturating_sub(written.elapsed()).max(GROUP / 20));
                continue;
            }
            let rows = take(&mut window.rows);
            (window.is_writing, window.is_urgent) = (true, false);
            drop(window);
            written = Instant::now();
            let done = self.store.transact(rows.into_iter());
            window = self.window.lock();
            (window.is_writing, window.has_failed) = (false, done.is_err());
            self.moved.notify_all();
            done?;
        }
    }
}

pub fn payload_of(event: &Event<'_>) -> Payload {
    event.payload.try_into().expect("all payloads have the same length")
}

/// How a consumer in the same process is told that there is something to read.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<u64>,
    heard: Condvar,
}

impl Bell {
    pub fn ring(&self) {
        *self.rung.lock() += 1;
        self.heard.notify_all();
    }

    /// How often it was rung before now; read before looking for what there is.
    pub fn count(&self) -> u64 {
        *self.rung.lock()
    }

    /// Waits until it was rung more often than that, or patience ends.
    pub fn wait(&self, count: u64, patience: Duration) {
        let mut rung = self.rung.lock();
        if *rung == count {
            self.heard.wait_for(&mut rung, patience);
        }
    }
}
