//! Readers: open, read, seek, and what that costs in requests.

mod broken_responses;
mod empty_blobs;
mod reader;
mod request_counts;
mod versions;
