//! The memory that the library holds for its callers: data that was read ahead, and data that is being written.
//!
//! `budget` limits it, `eviction` frees it when it is short, and `buffer_pool` keeps some of it for reuse.

mod budget;
pub(crate) mod buffer_pool;
mod default_limit;
mod eviction;

pub(crate) use budget::{Budget, IDLE, Reservation};
pub(crate) use default_limit::default_memory_limit;
pub(crate) use eviction::{EvictableHolder, Registration};
