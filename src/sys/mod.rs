//! The only unsafe code outside the C boundary: memory that the network fills, and what the process does behind our back.

pub(crate) mod block;
pub(crate) mod caller_buffer;
pub(crate) mod lock;
pub(crate) mod process;
mod spare;
pub(crate) mod blocking;
pub(crate) mod tap;
