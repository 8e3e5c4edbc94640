//! The base of every call: the runtime's threads, retries, deadlines, cancellation and interrupts, parallel transfers, progress.

pub(crate) mod cancel;
pub(crate) mod interrupt;
pub(crate) mod limits;
pub(crate) mod parallel;
pub(crate) mod progress;
pub(crate) mod retry;
pub(crate) mod runtime;
pub(crate) mod turn;
