//! The log and the statistics, which show users how the library works.

pub(crate) mod log;
pub(crate) mod stats;
