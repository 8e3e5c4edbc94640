//! Writers: blocks, publication, conditions, failures.

mod concurrent_writers;
mod failed_writes;
mod interrupted_writers;
mod large_blobs;
mod unknown_outcomes;
mod writer;
