//! Streams: order, shards, shuffle, prefetch, cursors.

mod cursor_validation;
mod cursors;
mod failures;
mod iteration;
mod prefetch;
mod resume_after_changes;
mod resume_after_deletions;
mod shards_and_shuffle;
