//! A backplane as a process had it in hand that is not there any more: for tests of what becomes of what that leaves.

use std::sync::Arc;

use crate::backplane::{
    Backplane, CellState, Compactor, Done, Era, Feed, Filter, Listener, Offset, Process, Step,
};
use crate::error::Result;
use crate::journal::lodger::Registrations;

/// Whoever finds what was begun here and not ended takes its process for one that has ended without a word.
#[derive(Debug)]
pub struct Elsewhere {
    inner: Arc<dyn Backplane>,
    process: Process,
}

impl Elsewhere {
    /// Over another one.
    #[must_use]
    pub fn over(plane: &Arc<dyn Backplane>) -> Arc<dyn Backplane> {
        Arc::new(Self { inner: Arc::clone(plane), process: Process::that_has_ended() })
    }
}

impl Backplane for Elsewhere {
    fn atomic(&self) -> bool {
        self.inner.atomic()
    }

    fn answers_at_once(&self) -> bool {
        self.inner.answers_at_once()
    }

    fn commit(&self, steps: &[Step<'_>]) -> Result<Done> {
        self.inner.commit(steps)
    }

    fn subscribe(&self, filter: Filter<'_>, from: Offset) -> Result<Box<dyn Feed>> {
        self.inner.subscribe(filter, from)
    }

    fn head(&self, filter: Filter<'_>) -> Result<Offset> {
        self.inner.head(filter)
    }

    fn lowest_retained(&self, filter: Filter<'_>) -> Result<Offset> {
        self.inner.lowest_retained(filter)
    }

    fn load(&self, cell: &[u8]) -> Result<CellState> {
        self.inner.load(cell)
    }

    fn broadcast(&self, channel: &str, bytes: &[u8]) -> Result<usize> {
        self.inner.broadcast(channel, bytes)
    }

    fn listen(&self, channel: &str) -> Result<Box<dyn Listener>> {
        self.inner.listen(channel)
    }

    fn era(&self) -> Result<Era> {
        self.inner.era()
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }

    fn compactor(&self) -> Option<&dyn Compactor> {
        self.inner.compactor()
    }

    fn shares_offsets(&self, with: Era, through: Offset) -> bool {
        self.inner.shares_offsets(with, through)
    }

    fn registrations(&self) -> Option<&Registrations> {
        self.inner.registrations()
    }

    fn process(&self) -> Process {
        self.process.clone()
    }

    fn is_over(&self, process: &Process) -> bool {
        self.inner.is_over(process)
    }

    fn still_has(&self, topic: Filter<'_>, offset: Offset) -> Result<bool> {
        self.inner.still_has(topic, offset)
    }
}
