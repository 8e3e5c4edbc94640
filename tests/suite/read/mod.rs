//! Readers: open, read, seek, and the number of requests.

mod broken_responses;
mod empty_blobs;
mod reader;
mod request_counts;
mod versions;
