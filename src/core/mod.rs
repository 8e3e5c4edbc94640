//! What every call has: threads to run on, retries, an end by deadline or cancel, parallel parts, progress.

pub(crate) mod cancel;
pub(crate) mod limits;
pub(crate) mod parallel;
pub(crate) mod progress;
pub(crate) mod retry;
pub(crate) mod runtime;
