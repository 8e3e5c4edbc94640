//! What users see of the library at work: log lines, statistics, and the redaction that keeps secrets out of texts.

pub(crate) mod log;
pub(crate) mod stats;
