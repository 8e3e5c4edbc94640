//! The only unsafe code beside the C boundary: memory that the network fills, forks and signals of the host process.
//! It also has small helpers for all other modules.

pub(crate) mod aligned_memory;
pub(crate) mod fill_buffer;
pub(crate) mod blocking;
pub(crate) mod caller_buffer;
pub(crate) mod lock;
pub(crate) mod process;
pub(crate) mod tap;
