//! What a place in the log is: eight facts, and the first rule that matches.
//!
//! | rule | holds when | verdict |
//! | --- | --- | --- |
//! | 1 | everything about the frame is good | accept |
//! | 2 | both checksums good and the life current, but the Seq is not the next | corrupt: a bug, or a swapped file |
//! | 3 | the place lies below the durable bound | corrupt: acknowledged data is gone |
//! | 4 | otherwise | the log ends at the start of the open batch |
//!
//! The *durable bound* is the greatest durable mark that any valid frame of the tail names,
//! also beyond a hole: the kernel writes mapped pages back in any order, so good frames may
//! follow a hole, and only what they say was durable tells a torn tail from rot.

/// What was found out about one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "eight independent facts are what the table is over")]
pub(crate) struct Facts {
    /// The first word is zero.
    pub(crate) empty: bool,
    /// The lengths stay within the segment.
    pub(crate) fits: bool,
    pub(crate) head_crc: bool,
    pub(crate) body_crc: bool,
    /// The life is the one in force, or an `open` frame follows on it.
    pub(crate) life: bool,
    /// The Seq is the next one, or for a system frame the last one.
    pub(crate) seq: bool,
    /// Frames before it belong to a batch that is not complete.
    pub(crate) batch_open: bool,
    /// The start of the open batch, or else this place, lies below the durable bound.
    pub(crate) below_bound: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    /// The frame is whole and does not belong here.
    CorruptOrder,
    /// What was durable is not there any more.
    CorruptLoss,
    EndOfLog {
        /// The frames of the open batch before this place are cut off with it.
        drops_open_batch: bool,
    },
}

/// The first rule that matches.
pub(crate) fn judge(facts: Facts) -> Verdict {
    let whole = !facts.empty && facts.fits && facts.head_crc && facts.body_crc;
    match facts {
        Facts { life: true, seq: true, .. } if whole => Verdict::Accept,
        Facts { life: true, seq: false, .. } if whole => Verdict::CorruptOrder,
        Facts { below_bound: true, .. } => Verdict::CorruptLoss,
        Facts { batch_open, .. } => Verdict::EndOfLog { drops_open_batch: batch_open },
    }
}

/// The same in words.
pub(crate) fn what_is_wrong(facts: Facts) -> &'static str {
    match facts {
        Facts { empty: true, .. } => "zeros where a frame should be",
        Facts { fits: false, .. } => "a frame longer than its segment",
        Facts { head_crc: false, .. } => "a frame's header does not match its checksum",
        Facts { body_crc: false, .. } => "a frame's content does not match its checksum",
        Facts { life: false, .. } => "a frame of another life",
        Facts { seq: false, .. } => "a frame out of order",
        _ => "a frame that does not belong here",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_total_and_each_verdict_has_exactly_its_cases() {
        let mut counts = [0; 4];
        for bits in 0..256u32 {
            let bit = |n: u32| bits >> n & 1 == 1;
            let facts = Facts {
                empty: bit(0),
                fits: bit(1),
                head_crc: bit(2),
                body_crc: bit(3),
                life: bit(4),
                seq: bit(5),
                batch_open: bit(6),
                below_bound: bit(7),
            };
            let checksums = facts.fits && facts.head_crc && facts.body_crc && !facts.empty;
            let verdict = judge(facts);
            // The rules as the table states them, each on its own.
            let accept = checksums && facts.life && facts.seq;
            let order = checksums && facts.life && !facts.seq;
            let loss = !accept && !order && facts.below_bound;
            let end = !accept && !order && !loss;
            let expected = match (accept, order, loss, end) {
                (true, false, false, false) => Verdict::Accept,
                (false, true, false, false) => Verdict::CorruptOrder,
                (false, false, true, false) => Verdict::CorruptLoss,
                (false, false, false, true) => Verdict::EndOfLog { drops_open_batch: facts.batch_open },
                _ => panic!("the rules overlap or leave a gap at {facts:?}"),
            };
            assert_eq!(verdict, expected, "{facts:?}");
            counts[[accept, order, loss, end].iter().position(|holds| *holds).unwrap()] += 1;
        }
        assert_eq!(counts, [4, 4, 124, 124]);
    }
}
