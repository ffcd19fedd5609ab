//! The log as far as nothing is wrong with it, read through a window, so that no segment is held in memory.
//!
//! What is accepted here recovery accepts too. Of anything else nothing is said: recovery judges it, from the last
//! whole batch before it on. It has a copy of each segment that it looks at, for only then can frames be found again
//! behind damage.
//!
//! A large log is read and judged by a thread of its own, ahead of the visitor: what that does with a piece takes longer
//! than reading the next one. So up to four pieces are in memory, and a piece is as large as the largest batch, or two; a large one
//! is looked at before the next is read. With each goes a list of whose the entries in it are: 16 bytes for each, and room for as
//! many again while it grows.

use std::sync::mpsc::sync_channel;
use std::thread::{Builder, scope};

use crate::disk::Directory;
use crate::error::Result;
use crate::format::system::System;
use crate::id::{Position, StoreId};
use crate::journal::onlooker::bytes_of_segments;
use crate::journal::verify::judge::{Judge, Next, Pieces, Stopped, is_end_by_index};
use crate::log::chain::Chain;
use crate::log::part::visit_kept;
use crate::log::recovery::recover;
use crate::log::report::RecoveryReport;
use crate::log::visitor::{Covered, End, Purpose, Visitor};

/// So many pieces may wait for the visitor.
const AHEAD: usize = 1;

/// Behind a piece of more bytes nothing is read before it was looked at: what waits is bounded by its bytes.
const LARGE: usize = 4 << 20;

/// As [`recover`] for those who salvage, in less memory where the log is as it should be.
pub(super) fn recover_in_pieces(
    directory: &dyn Directory,
    store: StoreId,
    chain: &Chain,
    covered: Option<Covered>,
    pieces: Pieces,
    visitor: &mut dyn Visitor,
) -> Result<End> {
    let judge = || Judge::new(directory, store, chain, pieces, covered);
    let mut show = Show { directory, store, chain, visitor, covers: 0, covered, end: None };
    let first = covered.map_or(0, |covered| covered.segment);
    let bytes = bytes_of_segments(directory, chain.live.iter().filter(|number| **number >= first));
    let is_behind = bytes / pieces.bytes.max(1) >= pieces.for_a_thread && show.behind(judge())?;
    if !is_behind {
        show.beside(judge())?;
    }
    // By now the writer may have gone on, and written an index of what was not there when the end was judged.
    let is_end = |(number, at): &(u32, u64)| is_end_by_index(directory, store, *number, *at);
    let is_whole = |(number, at): &(u32, u64)| Position::new(*number, *at) >= chain.bound.max(chain.said);
    if let Some((number, at)) = show.end.filter(is_end).filter(is_whole) {
        return Ok(show.end_at(number, at));
    }
    let Show { covers, covered, .. } = show;
    let mut rest = chain.clone();
    rest.covers.drain(..covers);
    recover(directory, store, &rest, covered, Purpose::Salvage, visitor)
}

/// Shows the visitor what was judged.
struct Show<'a> {
    directory: &'a dyn Directory,
    store: StoreId,
    chain: &'a Chain,
    visitor: &'a mut dyn Visitor,
    /// So many covers were visited.
    covers: usize,
    /// Up to here, in whole batches, everything was shown.
    covered: Option<Covered>,
    /// The end of the log, if that was reached without a doubt.
    end: Option<(u32, u64)>,
}

impl Show<'_> {
    /// Shows each thing when it is judged.
    fn beside(&mut self, judge: Judge<'_>) -> Result<()> {
        let mut shown = Ok(());
        let told = judge.tell_all(&mut |next| {
            shown = self.next(next);
            if shown.is_ok() { Ok(()) } else { Err(Stopped) }
        });
        debug_assert_eq!(told.is_ok(), shown.is_ok(), "who stops it knows why");
        shown
    }

    /// Has a thread judge what comes next meanwhile. False: the system refuses one, and nothing was shown.
    fn behind(&mut self, judge: Judge<'_>) -> Result<bool> {
        scope(|scope| {
            let (sender, receiver) = sync_channel(AHEAD);
            let (looked_at, is_looked_at) = sync_channel(AHEAD);
            // Whoever does not listen any more has an error to tell, or panics.
            let judging = move || {
                drop(judge.tell_all(&mut |next: Next| {
                    let is_large = next.bytes() > LARGE;
                    sender.send(next).map_err(|_| Stopped)?;
                    if is_large { is_looked_at.recv().map_err(|_| Stopped) } else { Ok(()) }
                }));
            };
            if Builder::new().name("esker-judge".into()).spawn_scoped(scope, judging).is_err() {
                return Ok(false);
            }
            // Dropped on an error, behind which the thread can tell nothing more, and ends.
            for next in receiver {
                let is_large = next.bytes() > LARGE;
                self.next(next)?;
                if is_large {
                    // It waits for that, or has ended by a panic, which the scope tells of.
                    let _ = looked_at.send(());
                }
            }
            Ok(true)
        })
    }

    fn next(&mut self, next: Next) -> Result<()> {
        match next {
            Next::Segment { segment, from, last_seq } => {
                self.kept_before(segment.number())?;
                self.visitor.enter(&segment, from, last_seq)
            }
            Next::Batches(batches) => {
                let number = batches.covered.segment;
                for (at, entity, frame) in batches.frames() {
                    self.visitor.frame_of(entity, Position::new(number, at), &frame)?;
                }
                self.covered = Some(batches.covered);
                Ok(())
            }
            Next::End(number, at) => {
                self.end = Some((number, at));
                Ok(())
            }
        }
    }

    /// What was kept of the log before a segment.
    fn kept_before(&mut self, number: u32) -> Result<()> {
        for cover in self.chain.covers.iter().skip(self.covers).take_while(|cover| cover.last < number) {
            visit_kept(self.directory, self.store, cover, self.visitor)?;
            self.covers += 1;
        }
        Ok(())
    }

    fn end_at(&self, number: u32, at: u64) -> End {
        let closed = self.covered.is_some_and(|covered| {
            (covered.segment, covered.end) == (number, at) && covered.last == Some(System::Closed)
        });
        End {
            position: Position::new(number, at),
            last_seq: self.covered.map_or(0, |covered| covered.last_seq),
            life: self.covered.map(|covered| covered.last_life),
            sealed: false,
            // Nobody goes on from here.
            durable: Position::ZERO,
            report: RecoveryReport { clean: closed, ..RecoveryReport::default() },
        }
    }
}
