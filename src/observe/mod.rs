//! What users see of the library at work: the log and the statistics.

pub(crate) mod log;
pub(crate) mod stats;
