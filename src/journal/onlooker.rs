//! Who waits for a long piece of work: whether it is to go on, and how far it is.

use std::cell::Cell;
use std::sync::Arc;

use crate::disk::{Access, Directory};
use crate::error::{Error, Result};
use crate::format::compacted::Cover;
use crate::format::frame::Frame;
use crate::format::index::EntityHash;
use crate::format::segment::file_name;
use crate::id::Position;
use crate::log::chain::Chain;
use crate::log::report::Damage;
use crate::log::segment::Segment;
use crate::log::visitor::Visitor;

/// Who waits for a long piece of work. A closure that answers whether it is to go on is one.
///
/// ```
/// use std::cell::Cell;
/// use esker::{Check, Journal, Onlooker, verify_while};
///
/// struct Shown(Cell<(u64, u64)>);
/// impl Onlooker for &Shown {
///     fn sees(&self, done: u64, all: u64) {
///         self.0.set((done, all));
///     }
/// }
/// # fn main() -> esker::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("a.esker");
/// Journal::open(&path)?.close()?;
/// let shown = Shown(Cell::new((0, 0)));
/// verify_while(&path, Check::Full, &shown)?;
/// let (done, all) = shown.0.get();
/// assert!(0 < done && done == all);
/// # Ok(()) }
/// ```
pub trait Onlooker {
    /// False: the work ends, and clears up.
    fn goes_on(&self) -> bool {
        true
    }

    /// So many bytes of all that there are to read and write are done, roughly: what was set aside for what is not written
    /// yet counts as done where it is passed over.
    fn sees(&self, _done: u64, _all: u64) {}
}

impl<F: Fn() -> bool> Onlooker for F {
    fn goes_on(&self) -> bool {
        self()
    }
}

/// Counts for an onlooker how much is done.
pub(crate) struct Meter<'a> {
    onlooker: &'a dyn Onlooker,
    done: Cell<u64>,
    all: Cell<u64>,
}

impl<'a> Meter<'a> {
    pub(crate) fn of(onlooker: &'a dyn Onlooker) -> Self {
        Self { onlooker, done: Cell::new(0), all: Cell::new(0) }
    }

    /// So many bytes more are to be done.
    pub(crate) fn expect(&self, bytes: u64) {
        self.all.set(self.all.get().saturating_add(bytes));
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.done.set(self.done.get().saturating_add(bytes).min(self.all.get()));
        self.onlooker.sees(self.done.get(), self.all.get());
    }

    /// All is done.
    pub(crate) fn end(&self) {
        self.add(u64::MAX);
    }

    /// # Errors
    ///
    /// `Io` if whoever waits for it wants it no more.
    pub(crate) fn check_goes_on(&self, doing: &str) -> Result<()> {
        if self.onlooker.goes_on() {
            return Ok(());
        }
        Err(Error::io(doing, std::io::ErrorKind::Interrupted.into()))
    }
}

/// The bytes of all files of a log: a look at each frame reads them.
pub(crate) fn bytes_of(directory: &dyn Directory, chain: &Chain) -> u64 {
    let parts = chain.covers.iter().filter_map(|cover| cover.part).map(|part| part.bytes);
    parts.fold(bytes_of_segments(directory, &chain.live), u64::saturating_add)
}

/// The bytes of the files of segments.
pub(crate) fn bytes_of_segments<'a>(
    directory: &dyn Directory,
    segments: impl IntoIterator<Item = &'a u32>,
) -> u64 {
    let length = |number| directory.open(&file_name(number), Access::Read).and_then(|file| file.len());
    segments.into_iter().fold(0, |sum: u64, number| sum.saturating_add(length(*number).unwrap_or(0)))
}

/// A visitor of frames for as long as it is to go on.
pub(crate) struct While<'a, V> {
    visitor: V,
    meter: &'a Meter<'a>,
    doing: &'static str,
    /// What of the segment that is read was not counted yet.
    rest: u64,
}

impl<'a, V> While<'a, V> {
    pub(crate) fn of(visitor: V, meter: &'a Meter<'a>, doing: &'static str) -> Self {
        Self { visitor, meter, doing, rest: 0 }
    }

    fn see(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.meter.check_goes_on(self.doing)?;
        let bytes = (frame.len() as u64).min(self.rest);
        self.rest -= bytes;
        self.meter.add(bytes);
        Ok(())
    }
}

impl<V: Visitor> Visitor for While<'_, &mut V> {
    fn enter(&mut self, segment: &Arc<Segment>, from: u64, last_seq: u64) -> Result<()> {
        self.meter.add(std::mem::replace(&mut self.rest, segment.header.bytes));
        self.visitor.enter(segment, from, last_seq)
    }

    fn frame(&mut self, position: Position, frame: &Frame<'_>) -> Result<()> {
        self.see(frame)?;
        self.visitor.frame(position, frame)
    }

    fn frame_of(&mut self, entity: Option<EntityHash>, position: Position, frame: &Frame<'_>) -> Result<()> {
        self.see(frame)?;
        self.visitor.frame_of(entity, position, frame)
    }

    fn kept(&mut self, cover: &Cover) -> Result<()> {
        self.meter.check_goes_on(self.doing)?;
        self.visitor.kept(cover)
    }

    fn lost(&mut self, damage: &Damage) {
        self.visitor.lost(damage);
    }

    fn lost_of_part(&mut self, damage: &Damage, entries: u64) {
        self.visitor.lost_of_part(damage, entries);
    }
}
