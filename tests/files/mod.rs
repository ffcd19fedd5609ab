//! A file system in memory that records what is done with its files, and who makes of the record what a power cut may leave.

pub(crate) mod budget;
pub(crate) mod failing;
pub(crate) mod model;
pub(crate) mod protocol;
pub(crate) mod tally;
pub(crate) mod tree;
pub(crate) mod workshop;

/// A number of the environment.
pub(crate) fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().map_or(otherwise, |value| value.parse().expect("a number"))
}
