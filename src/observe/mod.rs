//! What can be seen from outside: log lines, statistics, and the redaction that keeps secrets out of them.

pub(crate) mod log;
pub(crate) mod stats;
