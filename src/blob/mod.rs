//! One blob: read at any position, written in blocks, moved from and to files.

pub(crate) mod block_plan;
mod block_uploads;
mod cached_blob;
pub(crate) mod file_transfer;
mod local_file;
mod read_cache;
pub(crate) mod read_pattern;
mod reader;
mod std_io;
mod writer;

pub use reader::BlobReader;
pub use writer::{BlobWriter, WriteMode};
