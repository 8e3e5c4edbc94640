//! aztorch: Azure Blob Storage for LibTorch, from any language that speaks C.
//!
//! The C API is [`ffi`], documented in `include/aztorch.h`; what is at the top level here is the same
//! library for Rust. The way of a byte, and who owns it:
//!
//! ```text
//! C, C++, Python ─ ffi ─┐
//! Rust ─────────────────┴─ client ─┬─ dataset ─ prefetcher, walk ──┬─ sample ─ bring ─┐
//!                                  ├─ stream ─ order, cursor ─┘                  │
//!                                  ├─ reader ─ window, pattern ──────────────────┼─ fetch ────────────┐
//!                                  ├─ writer ─ blocks, staging ─┬─ service ──────┼────────────────────┼─ transport ─ network
//!                                  └─ files ────────────────────┘  └ SDK: documents ─────────────────┘
//! ```
//!
//! * `client`: what can be done; `core`: what its handles share; `options`: its settings
//! * `dataset`: entries by index; `prefetcher`: what was fetched before it was asked for; `walk`: who reads in order
//! * `stream`: entries one after the other; `order`: their sequence, shuffled or not; `cursor`: a place in it, as text
//! * `sample`: an entry's bytes; `bring`: how they get into memory; `entries`: names, sizes and places of many blobs,
//!   out of a `listing`, an `archive`'s headers or a `manifest`
//! * `reader`: positions and plans of reads; `window`: what it keeps, in `pieces` of memory;
//!   `pattern`: what it expects
//! * `writer`: what a caller writes; `blocks`: how it is cut and named; `staging`: blocks under way
//! * `files`: whole blobs from and to files; `local_file`: which files may be replaced and read
//! * `fetch`: ranged GETs, pinned and resumed; `ranges`: their arithmetic; `receive`: their bodies, checked; `checksum`: what vouches for bytes;
//!   `structured`: bodies that bring their own
//! * `service`: all other operations; control documents are `azure_storage_blob`'s business; `xml`: what the parsers of
//!   listings and errors share
//! * `transport`: connections, one exchange at a time; the throttle: when a request may go out; what an answer means; the
//!   SDK's way in
//! * `credential`: who signs, with what, and where tokens come from; `log`, `stats`, `progress`: what can be seen;
//!   `url`: which blob a text names
//! * `retry`: the one policy; `cancel`: its end from another thread; `memory`: the one budget; `parallel`: several transfers in one call
//! * `runtime`: the process's threads; `sys`: memory that the network fills, fork and signals, and the only unsafe code
//!   outside `ffi`; `redact`: keeps secrets out of texts; `etag`: reads ETags;
//!   `error`: what went wrong

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod blob;
mod client;
mod core;
mod credential;
mod dataset;
mod error;
pub mod ffi;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod http;
mod memory;
mod observe;
mod options;
mod service;
mod stream;
mod sys;
mod url;

pub use blob::{BlobReader, BlobWriter, WriteMode};
pub use client::{Answer, Client};
pub use credential::BearerToken;
pub use dataset::{BlobRange, Dataset, Sample};
pub use error::{Error, Result, Status};
pub use observe::stats::Stats;
pub use options::ClientOptions;
pub use stream::Stream;
