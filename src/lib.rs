//! aztorch: Azure Blob Storage for LibTorch, from any language that speaks C.
//!
//! The C API is [`ffi`], documented in `include/aztorch.h`. The items at the top level here are the Rust API.
//!
//! # The map
//!
//! A folder is a room. A room imports only rooms below it (`tests/structure.rs` holds that):
//!
//! ```text
//! C, C++, Python        Rust
//!       │                 │
//!      ffi                │        the C ABI: pointers, panics, statuses; no logic
//!       └───────┬─────────┘
//!    stream     │                  samples one after the other: order, shuffling, cursors
//!    dataset    │                  samples by index: tables of entries, loading, prefetching
//!    diagnostics│                  requests that tools need
//!    client ────┘                  the operations of a client
//!    blob                          one blob: reading, writing, files
//!    service                       requests to the Blob service, and the meaning of its answers
//!    options                       a client's settings
//!    credential                    how requests are signed, and where tokens come from
//!    http                          one HTTP exchange: connections, proxies, TLS, throttling
//!    memory                        the memory budget, and the eviction of memory
//!    core                          the base of every call: threads, retries, deadline, cancel, interrupt, progress
//!    observe  url  sys             statistics and log; URLs; memory and processes (the only `unsafe` beside `ffi`)
//!    error  redact                 the one error type; keeping secrets out of texts
//! ```
//!
//! `fuzzing` holds the fuzzing targets, for tests only.
//! `diagnostics` holds the requests of `aztorch-doctor`. It is hidden, because it is not part of the public API.
//!
//! # Where is it decided?
//!
//! | question | file |
//! |---|---|
//! | which errors are retried | `service/error_response` (answers), `http/pool` (connections) |
//! | when and how often a request is retried | `core/retry`; a broken body continues in `service/ranged_get` |
//! | when a request may go out | `http/throttle`; its rate under a quota: `http/throttle/rate_controller` |
//! | what signs a request | `credential/signer`; a new credential is a case of `credential/mod` and a file beside it |
//! | how memory is counted, and what is evicted | `memory/budget`, `memory/eviction` |
//! | how far a reader reads ahead | `blob/read_pattern`, carried out by `blob/cached_blob` |
//! | how many samples are loaded ahead | `dataset/depth`, carried out by `dataset/prefetch` |
//! | how a blob is cut into blocks | `blob/block_plan` |
//! | which bytes are checked, and how | `service/checksum`, on the way in `service/body_sink` |
//! | what a URL means | `url` |
//! | what may block, and on which thread | `core/runtime`, `sys/blocking` |
//! | what ends a waiting call early | `core/limits`, with `core/cancel` and `core/interrupt` |
//!
//! # How bytes travel
//!
//! A read: `ffi/blob_reader` → `blob/reader` (position) → `blob/cached_blob` (which bytes are cached, which are
//! fetched) → `service/ranged_get` (pinned to an ETag, resumed) → `service/blob_service` (headers, signature) → `http`
//! (connection) → `service/body_sink` (checked), straight into the caller's memory.
//!
//! A write: `ffi/blob_writer` → `blob/writer` → `blob/block_uploads` (blocks under way) → `service/operations` →
//! `service/blob_service` → `http`.
//!
//! A dataset's index: `ffi/dataset_entries` → `dataset` → `dataset/prefetch` or at once `dataset/load` →
//! `service/ranged_get`, into memory of the sample's own or of the caller's.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod blob;
mod client;
mod core;
mod credential;
mod dataset;
#[doc(hidden)]
pub mod diagnostics;
mod error;
pub mod ffi;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod http;
mod memory;
mod observe;
mod options;
mod redact;
mod service;
mod stream;
mod sys;
mod url;

pub use crate::core::interrupt::set_interrupt_callback;
pub use blob::{BlobReader, BlobWriter, WriteMode};
pub use client::Client;
pub use credential::BearerToken;
pub use dataset::{BlobRange, Dataset, Sample};
pub use error::{Error, Result, Status};
pub use observe::stats::Stats;
pub use options::ClientOptions;
pub use stream::Stream;
