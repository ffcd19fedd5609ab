//! What the machine is told to do, in one line.

use std::fmt;

use crate::blocks::known::Known;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The how-manyeth run of one disk it is.
    pub(crate) run: u64,
    pub(crate) seed: u64,
    /// So many lives, one behind the other.
    pub(crate) lives: u64,
    /// The store is judged by this before.
    pub(crate) known: Option<Known>,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.run, self.seed, self.lives)?;
        self.known.as_ref().map_or(Ok(()), |known| write!(f, " {known}"))
    }
}

impl Order {
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = text.trim().splitn(4, ' ');
        let mut number = || parts.next().unwrap().parse::<u64>().unwrap();
        let (run, seed, lives) = (number(), number(), number());
        Self { run, seed, lives, known: parts.next().map(Known::parse) }
    }
}
