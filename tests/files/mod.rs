//! A file system in memory that records what is done with its files, and who makes of the record what a power cut may leave.

pub(crate) mod child;
pub(crate) mod failing;
pub(crate) mod model;
pub(crate) mod protocol;
pub(crate) mod tally;
pub(crate) mod tree;
pub(crate) mod workshop;
