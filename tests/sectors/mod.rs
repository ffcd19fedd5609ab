//! What is tried on a disk of which one sector fails.

pub(crate) mod child;
pub(crate) mod layout;
pub(crate) mod reading;
pub(crate) mod tally;
pub(crate) mod writing;
