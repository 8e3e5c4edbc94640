//! A version of a blob.

/// One version of a blob: its ETag and its size. Reads can be pinned to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) etag: String,
    pub(crate) size: u64,
}
