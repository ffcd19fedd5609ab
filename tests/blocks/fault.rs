//! One sector of a disk that fails.

use rustix::io::Errno;

use super::disk::SECTOR;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(dead_code, reason = "a power cut takes no sector")]
pub(crate) enum Trouble {
    /// Who reads it gets EIO.
    Unreadable,
    /// Who writes it gets EIO.
    Unwritable,
    /// Who writes it gets ENOSPC, as of a volume that was promised more than there is.
    Full,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) sector: usize,
    pub(crate) trouble: Trouble,
    /// So many requests come before the first that fails.
    pub(crate) spared: usize,
    /// One fails, and no other.
    pub(crate) is_once: bool,
    /// How often it failed.
    pub(crate) hits: usize,
}

impl Fault {
    /// Whether a request fails for it: with what, and how many of its bytes come before.
    pub(crate) fn meets(&mut self, is_write: bool, at: usize, length: usize) -> Option<(Errno, usize)> {
        let begin = self.sector * SECTOR;
        let is_met = is_write == (self.trouble != Trouble::Unreadable)
            && at < begin + SECTOR
            && begin < at + length
            && !(self.is_once && self.hits > 0);
        if !is_met {
            return None;
        }
        if self.spared > 0 {
            self.spared -= 1;
            return None;
        }
        self.hits += 1;
        let error = if self.trouble == Trouble::Full { Errno::NOSPC } else { Errno::IO };
        Some((error, begin.saturating_sub(at)))
    }
}
