//! A version of a blob.

/// One version of a blob: what its ETag and size say it is. Reads can be pinned to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) etag: String,
    pub(crate) size: u64,
}
