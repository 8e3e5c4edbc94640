//! The service version of our requests, and the headers that more than one file uses.

use http::header::HeaderName;

/// The service version of all requests, ours and the SDK's. It has blocks of 4,000 MiB (2019-12-12) and listings with
/// encoded names (2021-02-12), and is old enough for users' Azurites.
pub(crate) const SERVICE_VERSION: &str = "2021-12-02";

pub(crate) const X_MS_BLOB_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-type");
pub(crate) const X_MS_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
pub(crate) const X_MS_VERSION: HeaderName = HeaderName::from_static("x-ms-version");
