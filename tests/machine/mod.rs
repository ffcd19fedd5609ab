//! A machine of its own: what starts it, what runs in it, and how its power is cut.

pub(crate) mod chain;
pub(crate) mod guest;
pub(crate) mod initrd;
pub(crate) mod order;
pub(crate) mod qemu;
pub(crate) mod qmp;
pub(crate) mod tally;
