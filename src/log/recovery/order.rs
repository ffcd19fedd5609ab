//! Which frame comes next: that of a life and of a Seq.

use super::Walk;
use crate::format::frame::Frame;
use crate::format::segment::FIRST_FRAME;
use crate::format::system::{Open, Preamble, System};
use crate::id::{KINDS_MAX, SEQ_MAX};

impl Walk<'_> {
    /// Those of the life that is in force, or the first of the next one.
    pub(super) fn life_is_right(&self, at: u64, frame: &Frame<'_>) -> bool {
        let life = frame.header.life();
        let operation = frame.header.is_system().then(|| System::of(frame.header.operation)).flatten();
        match (self.life, operation) {
            (None, _) => true,
            (Some(current), _) if current == life => true,
            (Some(current), Some(System::Open)) => {
                Open::read(frame.payload()).is_some_and(|open| open.previous_life == current)
            }
            // The first frame of a segment that a new life started behind the end of another's. It
            // stands where it was written: the salt in its checksum is this segment's alone.
            (Some(_), Some(System::Preamble)) => at == FIRST_FRAME,
            _ => false,
        }
    }

    /// The number behind the last one, so many entries into a batch.
    pub(super) fn seq_is_next(&self, frame: &Frame<'_>, in_batch: u64) -> bool {
        let seq = frame.header.seq.get();
        if seq > SEQ_MAX {
            return false;
        }
        if !frame.header.is_system() {
            // An entity's generations start at 1, or at the Seq of its first frame.
            let is_dense = self.last_seq.map_or(seq > self.least_seq, |last| seq == last + in_batch + 1);
            let is_an_entry = !frame.key().is_empty() && frame.header.kind.get() <= KINDS_MAX;
            let is_in_a_history = (1..=seq).contains(&frame.header.generation.get());
            return is_dense && is_an_entry && is_in_a_history;
        }
        let is_preamble = frame.header.operation == System::Preamble as u8;
        let Some(preamble) = is_preamble.then(|| Preamble::read(frame.payload())).flatten() else {
            return self.last_seq.map_or(seq >= self.least_seq, |last| seq == last + in_batch);
        };
        let Some(before) = preamble.next_seq.checked_sub(1).filter(|before| *before <= SEQ_MAX) else {
            return false;
        };
        // A repair says how many it could not save.
        self.last_seq.map_or(before >= self.least_seq, |last| {
            before == last || last.checked_add(preamble.lost) == Some(before)
        })
    }
}
