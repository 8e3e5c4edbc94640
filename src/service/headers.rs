//! The service's version, and its headers that more than one file needs.

use http::header::HeaderName;

/// One version for the SDK's requests and ours, old enough that a user's own Azurite accepts it: blocks of
/// 4,000 MiB came with 2019-12-12, listings that encode names with 2021-02-12, and nothing we use is younger.
pub(crate) const SERVICE_VERSION: &str = "2021-12-02";

pub(crate) const X_MS_BLOB_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-type");
pub(crate) const X_MS_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
pub(crate) const X_MS_VERSION: HeaderName = HeaderName::from_static("x-ms-version");
