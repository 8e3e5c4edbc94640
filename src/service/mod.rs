//! Requests to the Blob service, and how its answers are read and checked.

pub(crate) mod blob_service;
pub(crate) mod body_sink;
pub(crate) mod checksum;
pub(crate) mod client_core;
pub(crate) mod error_response;
pub(crate) mod etag;
mod headers;
pub(crate) mod list_blobs;
pub(crate) mod operations;
mod range_request;
pub(crate) mod ranged_get;
pub(crate) mod ranges;
mod sdk;
mod structured_body;
pub(crate) mod version;
mod xml;
