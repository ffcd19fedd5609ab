//! What [`recovery`](crate::log::recovery) is asked for, and to whom it tells what it finds.

use std::sync::Arc;

use crate::error::Result;
use crate::format::compacted::Cover;
use crate::format::frame::Frame;
use crate::format::index::EntityHash;
use crate::format::system::System;
use crate::id::{Life, Position};
use crate::log::report::{Damage, RecoveryReport};
use crate::log::segment::Segment;

/// Learns what recovery finds, in the order of the log and in whole batches.
pub(crate) trait Visitor {
    /// The frames that follow stand in this segment.
    fn enter(&mut self, segment: &Arc<Segment>, from: u64, last_seq: u64) -> Result<()>;
    fn frame(&mut self, position: Position, frame: &Frame<'_>) -> Result<()>;
    /// The same, by somebody who knows the hash of the entity whose entry it is, if it is one.
    fn frame_of(&mut self, _entity: Option<EntityHash>, position: Position, frame: &Frame<'_>) -> Result<()> {
        self.frame(position, frame)
    }
    /// Here stands what was kept of a stretch of the log, of which no frame is shown.
    fn kept(&mut self, _cover: &Cover) -> Result<()> {
        Ok(())
    }
    /// User frames between two that were visited are gone.
    fn lost(&mut self, _damage: &Damage) {}
    /// The same of a part, which had so many entries there: the numbers in between had been dropped before.
    fn lost_of_part(&mut self, damage: &Damage, _entries: u64) {
        self.lost(damage);
    }
}

/// How far an index spares the scan of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Covered {
    pub(crate) segment: u32,
    pub(crate) end: u64,
    pub(crate) last_seq: u64,
    pub(crate) last_life: Life,
    /// What the last frame that is covered is, if a seal or a closed frame.
    pub(crate) last: Option<System>,
}

/// What recovery should do beyond looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Before writing: sync first, read past the cache, refuse damage.
    Write,
    /// For a reader: change nothing, and serve what is left around damage.
    Read,
    /// For `verify` and `repair`: as for a reader, from copies and without a map, with whatever
    /// can be had of segments whose header is damaged and of pages that the device refuses.
    Salvage,
}

/// Where a log ends.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) position: Position,
    pub(crate) last_seq: u64,
    pub(crate) life: Option<Life>,
    /// The log ends with a seal: it goes on in a segment that was not there yet.
    pub(crate) sealed: bool,
    /// What was read says that everything below was durable.
    pub(crate) durable: Position,
    pub(crate) report: RecoveryReport,
}
