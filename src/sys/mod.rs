//! The only unsafe code outside the C boundary: caller memory, and what the process does behind our back.

pub(crate) mod memory;
pub(crate) mod process;
