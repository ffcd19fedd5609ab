//! A disk that records what comes to it, what writes to it, and who judges what is left.

pub(crate) mod device;
pub(crate) mod disk;
pub(crate) mod fault;
pub(crate) mod fuse;
pub(crate) mod judge;
pub(crate) mod known;
pub(crate) mod random;
pub(crate) mod roles;
pub(crate) mod survivors;
pub(crate) mod system;
pub(crate) mod workload;
