//! Typed cells: values that are compared and swapped on a store's backplane.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backplane::{CELLS_CHANNEL, CellState, KEY_BYTES_MAX, Revision};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::retry::Retry;
use crate::store::Store;
use crate::store::author::Wanted;
use crate::store::copies::CellCopy;

/// An update that others overtake is tried again so often.
const TRIES: u32 = 100;
const PAUSES: Retry = Retry { base: Duration::from_micros(100), max: Duration::from_millis(10) };

/// The cells of a store, or of one scope in it.
///
/// ```
/// use esker::Store;
/// # fn main() -> esker::Result<()> {
/// let store = Store::in_memory()?;
/// let session = store.cells().scope("session 7")?;
/// let basket = session.cell::<Vec<String>>("basket")?;
/// basket.update(|basket| {
///     let mut basket = basket.unwrap_or_default();
///     basket.push("lamp".to_owned());
///     Ok(Some(basket))
/// })?;
/// assert_eq!(basket.load()?.value.unwrap(), ["lamp"]);          // asks the backplane
/// assert_eq!(basket.get()?.value.unwrap(), ["lamp"]);           // reads this process's copy
/// assert!(store.cells().cell::<Vec<String>>("basket")?.load()?.value.is_none(), "another scope");
/// # store.close() }
/// ```
#[derive(Clone)]
pub struct Cells {
    store: Store,
    /// The scopes, each with its length before it.
    prefix: Vec<u8>,
}

/// One cell with values of type `T`: see [`Cells`].
pub struct Cell<T> {
    store: Store,
    /// The scopes, a zero, and the key.
    key: Vec<u8>,
    /// What this process knows of it, once somebody asked for that.
    copy: OnceLock<Arc<CellCopy>>,
    makes: PhantomData<fn() -> T>,
}

/// What a cell holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded<T> {
    /// The value; `None`: it was never written, or what it held was taken out.
    pub value: Option<T>,
    /// [`Revision::NEVER`] for one that was never written.
    pub revision: Revision,
}

impl Store {
    /// The cells of this store, on its [backplane](Self::backplane).
    #[must_use]
    pub fn cells(&self) -> Cells {
        Cells { store: self.clone(), prefix: Vec::new() }
    }
}

impl Cells {
    /// The cells of a scope within this one: of a session, for example. No key of one scope is one of another.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a name that is empty or too long.
    pub fn scope(&self, name: impl AsRef<[u8]>) -> Result<Self> {
        let name = name.as_ref();
        let length = u8::try_from(name.len()).ok().filter(|length| *length > 0);
        let length = length.ok_or_else(|| too_long("a scope", name.len(), KEY_BYTES_MAX))?;
        let prefix = [&*self.prefix, &[length], name].concat();
        Ok(Self { store: self.store.clone(), prefix })
    }

    /// The cell of a key. All its scopes and it take at most 255 bytes, with one more for each.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a key that is empty or too long.
    pub fn cell<T>(&self, key: impl AsRef<[u8]>) -> Result<Cell<T>> {
        let key = key.as_ref();
        let most = KEY_BYTES_MAX.saturating_sub(self.prefix.len() + 1);
        if key.is_empty() || key.len() > most {
            return Err(too_long("a cell", key.len(), most));
        }
        let key = [&*self.prefix, &[0], key].concat();
        Ok(Cell { store: self.store.clone(), key, copy: OnceLock::new(), makes: PhantomData })
    }
}

fn too_long(what: &str, found: usize, most: usize) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("use the key of {what}"))
        .sides(format!("1 to {most} bytes"), format!("{found} bytes"))
}

impl<T> Cell<T> {
    /// What the cell holds, asked of whoever decides.
    ///
    /// # Errors
    ///
    /// `Codec` if that is no `T`; what [`load`](crate::backplane::Backplane::load) answers.
    pub fn load(&self) -> Result<Loaded<T>>
    where
        T: DeserializeOwned,
    {
        let cell = self.store.backplane()?.load(&self.key)?;
        self.store.copies.learn(&self.key, &cell);
        decoded(&self.key, &cell)
    }

    /// What this process knows of the cell: no call of the backplane, but for the first time that it is asked of this handle.
    ///
    /// It may be behind what the cell [holds](Self::load), and never goes back. A change by a store, of this process or of
    /// another, is told to all that can hear it at once; one that was not heard, or that somebody made by other means, is
    /// found out within [`Options::cell_sweep`](crate::Options::cell_sweep). As long as there is this handle, a clone of it or a
    /// [watcher](Self::watch), the copy is kept up to date.
    ///
    /// # Errors
    ///
    /// `Codec` if that is no `T`. `Closed`. The first time, what [`load`](Self::load) answers; `Io` if no thread can be started.
    pub fn get(&self) -> Result<Loaded<T>>
    where
        T: DeserializeOwned,
    {
        let known = self.followed()?.known()?;
        decoded(&self.key, &known.unwrap_or_default())
    }

    /// Tells what this process knows of the cell, and then each change that it comes to know of; of several the newest. It does
    /// not keep the store open.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn watch(&self) -> Result<CellWatcher<T>> {
        Ok(CellWatcher {
            copy: Arc::clone(self.followed()?),
            key: self.key.clone(),
            told: 0,
            makes: PhantomData,
        })
    }

    /// The copy, in which something is known.
    fn followed(&self) -> Result<&Arc<CellCopy>> {
        let plane = self.store.backplane()?;
        if self.copy.get().is_none() {
            let copy = self.store.copies.follow(plane, &self.key)?;
            let _ = self.copy.set(copy);
        }
        let copy = self.copy.get().ok_or_else(|| Error::new(ErrorKind::Closed, self.doing("follow")))?;
        if copy.known()?.is_none() {
            self.store.copies.look_up_first(&**plane, copy)?;
        }
        Ok(copy)
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Refuses a cell that no batch of a store reaches.
    pub(crate) fn check_of(&self, store: &Store) -> Result<()> {
        store.check_own_backplane(&self.doing("put out a change of"))?;
        self.store.check_own_backplane(&self.doing("put out a change of"))?;
        if Arc::ptr_eq(self.store.journal().core(), store.journal().core()) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidInput, self.doing("put out a change of"))
            .sides("a cell of the store that reacts", "one of another"))
    }

    /// What `change` makes of encoded bytes.
    pub(crate) fn changed(
        &self,
        now: Option<&[u8]>,
        change: impl FnOnce(Option<T>) -> Result<Option<T>>,
    ) -> Result<Option<Vec<u8>>>
    where
        T: Serialize + DeserializeOwned,
    {
        let now = now.map(codec::decode_bytes).transpose();
        let now = now.map_err(|cause| Error::new(ErrorKind::Codec, self.doing("decode")).because(cause))?;
        let encoded = |value: T| {
            let mut bytes = Vec::new();
            codec::encode(CELLS_CHANNEL, &value, &mut bytes)?;
            Ok(bytes)
        };
        change(now)?.map(encoded).transpose()
    }

    /// Changes what the cell holds: loads, asks `change` what it is to hold (`None`: nothing), and swaps if nobody else has
    /// meanwhile; else again, up to 100 times, with pauses from 100 microseconds to 10 milliseconds. So `change` may be
    /// called several times. Answers what it holds then.
    ///
    /// # Errors
    ///
    /// What `change` answers: nothing is written then. `Conflict` if others were faster 100 times. `Codec` if what is there is no
    /// `T`, which is never written over. What [`commit`](crate::backplane::Backplane::commit) answers.
    pub fn update(&self, mut change: impl FnMut(Option<T>) -> Result<Option<T>>) -> Result<Loaded<T>>
    where
        T: Serialize + DeserializeOwned,
    {
        let plane = self.store.backplane()?;
        let mut tries = 0;
        loop {
            let Loaded { value, revision } = self.load()?;
            let value = change(value)?;
            let mut bytes = Vec::new();
            if let Some(value) = &value {
                codec::encode(CELLS_CHANNEL, value, &mut bytes)?;
            }
            let wanted = Wanted::Put { value: value.as_ref().map(|_| &*bytes), expect: revision };
            match self.store.authors.commit(&**plane, None, &self.key, wanted) {
                Ok((revision, _)) => {
                    let revision = Revision::from_raw(revision);
                    let cell = CellState::new(value.as_ref().map(|_| bytes), revision);
                    self.store.copies.changed(&**plane, &self.key, &cell);
                    return Ok(Loaded { value, revision });
                }
                Err(error) if error.kind() == ErrorKind::Conflict && tries + 1 < TRIES => {
                    tries += 1;
                    pause(PAUSES.pause(tries));
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    return Err(error.noting(format!("others were faster {TRIES} times")));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn doing(&self, verb: &str) -> String {
        doing(verb, &self.key)
    }
}

fn doing(verb: &str, key: &[u8]) -> String {
    format!("{verb} the cell {}", String::from_utf8_lossy(key).escape_debug())
}

fn decoded<T: DeserializeOwned>(key: &[u8], cell: &CellState) -> Result<Loaded<T>> {
    let value = cell.bytes.as_deref().map(codec::decode_bytes).transpose();
    let value = value.map_err(|cause| Error::new(ErrorKind::Codec, doing("decode", key)).because(cause))?;
    Ok(Loaded { value, revision: cell.revision })
}

/// Tells of what a cell comes to hold: [`Cell::watch`].
///
/// ```
/// # use esker::Store;
/// # fn main() -> esker::Result<()> {
/// let store = Store::in_memory()?;
/// let limit = store.cells().cell::<u32>("limit")?;
/// let mut watcher = limit.watch()?;
/// assert_eq!(watcher.next()?.value, None);
/// limit.update(|_| Ok(Some(10)))?;
/// assert_eq!(watcher.next()?.value, Some(10));
/// # store.close() }
/// ```
pub struct CellWatcher<T> {
    copy: Arc<CellCopy>,
    key: Vec<u8>,
    told: u64,
    makes: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> CellWatcher<T> {
    /// Waits for something that was not told yet.
    ///
    /// # Errors
    ///
    /// `Codec` if that is no `T`; the next call waits for what comes then. `Closed`.
    #[allow(clippy::should_implement_trait, reason = "it waits, and an error ends it")]
    pub fn next(&mut self) -> Result<Loaded<T>> {
        let cell = self.copy.wait(&mut self.told, None)?;
        decoded(&self.key, &cell.unwrap_or_default())
    }

    /// The same, at most so long; `None`: the time is over.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Loaded<T>>> {
        let cell = self.copy.wait(&mut self.told, Instant::now().checked_add(timeout))?;
        cell.map(|cell| decoded(&self.key, &cell)).transpose()
    }
}

impl<T> fmt::Debug for CellWatcher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CellWatcher({}, {:?})", String::from_utf8_lossy(&self.key).escape_debug(), self.copy)
    }
}

fn pause(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        park_timeout(left);
    }
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cells(in {})", String::from_utf8_lossy(&self.prefix).escape_debug())
    }
}

impl<T> Clone for Cell<T> {
    fn clone(&self) -> Self {
        let copy = self.copy.clone();
        Self { store: self.store.clone(), key: self.key.clone(), copy, makes: PhantomData }
    }
}

impl<T> fmt::Debug for Cell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing("Cell:"))
    }
}
