//! A model of readers that follow a log, and what is done to it: shared by the test of the model, by
//! the exploration of crashes and by a fuzzer.

pub(crate) mod lives;
pub(crate) mod operation;
pub(crate) mod plain;
mod readers;
mod reading;
pub(crate) mod world;
mod writing;
