//! What the whole process shares: memory and the log.

mod log;
mod memory_limit;
mod oversized_blobs;
