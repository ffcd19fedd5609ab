//! What is known of a store from outside: by the marks that stand in the log of its disk.

use std::fmt;

/// How many write: three of the workload, and whoever judges.
pub(crate) const WRITERS: usize = 4;
pub(crate) const JUDGE: usize = 3;

/// What one of them has begun, and what was acknowledged: the count of a batch, and its last Seq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) begun: u64,
    pub(crate) acknowledged: u64,
    pub(crate) seq: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The store was opened once.
    pub(crate) is_opened: bool,
    pub(crate) writers: [Written; WRITERS],
    /// Where the cursor was put.
    pub(crate) cursor: u64,
    /// The last entry that somebody was shown as durable.
    pub(crate) seen: u64,
}

impl Known {
    /// What a mark tells: `open`, `begin WRITER COUNT`, `ack WRITER COUNT SEQ`, `at SEQ`, `seen SEQ`, or `all` with everything.
    pub(crate) fn learn(&mut self, mark: &str) {
        let (what, rest) = mark.split_once(' ').unwrap_or((mark, ""));
        if what == "all" {
            *self = Self::parse(rest);
            return;
        }
        let numbers: Vec<u64> = rest.split(' ').filter_map(|number| number.parse().ok()).collect();
        match (what, &numbers[..]) {
            ("open", []) => self.is_opened = true,
            ("begin", &[writer, count]) => self.writer(writer).begun = count,
            ("ack", &[writer, count, seq]) => {
                let writer = self.writer(writer);
                (writer.acknowledged, writer.seq) = (count, seq);
            }
            ("at", &[seq]) => self.cursor = seq,
            ("seen", &[seq]) => self.seen = self.seen.max(seq),
            _ => panic!("what is \"{mark}\"?"),
        }
    }

    fn writer(&mut self, number: u64) -> &mut Written {
        &mut self.writers[usize::try_from(number).unwrap()]
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut numbers = text.split(' ').map(|number| number.parse::<u64>().unwrap());
        let mut next = || numbers.next().unwrap();
        let is_opened = next() == 1;
        let writers = [(); WRITERS].map(|()| Written { begun: next(), acknowledged: next(), seq: next() });
        Self { is_opened, writers, cursor: next(), seen: next() }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", u8::from(self.is_opened))?;
        for Written { begun, acknowledged, seq } in self.writers {
            write!(f, " {begun} {acknowledged} {seq}")?;
        }
        write!(f, " {} {}", self.cursor, self.seen)
    }
}
