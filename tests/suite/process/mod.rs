//! The state of the whole process: the memory limit and the log.

mod log;
mod memory_limit;
mod oversized_blobs;
