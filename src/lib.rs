//! aztorch: Azure Blob Storage for LibTorch, from any language that speaks C.
//!
//! The C API is [`ffi`], documented in `include/aztorch.h`; what is at the top level here is the same
//! library for Rust. The way of a byte, and who owns it:
//!
//! ```text
//! C, C++, Python ─ ffi ─┐
//! Rust ─────────────────┴─ client ─┬─ dataset ─ shelf, walk ──┬─ sample ─ bring ─┐
//!                                  ├─ stream ─ order, cursor ─┘                  │
//!                                  ├─ reader ─ window, pattern ──────────────────┼─ fetch ────────────┐
//!                                  ├─ writer ─ blocks, staging ─┬─ service ──────┼────────────────────┼─ transport ─ network
//!                                  └─ files ────────────────────┘  └ SDK: documents ─────────────────┘
//! ```
//!
//! * `client`: what can be done; `session`: what its handles share; `options`: its settings
//! * `dataset`: entries by index; `shelf`: what was fetched before it was asked for; `walk`: who reads in order
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

mod archive;
mod blocks;
mod bring;
mod cancel;
mod checksum;
mod client;
mod credential;
mod cursor;
mod dataset;
mod entries;
mod error;
mod etag;
mod fetch;
pub mod ffi;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod local_file;
mod log;
mod listing;
mod manifest;
mod memory;
mod options;
mod order;
mod parallel;
mod pattern;
mod pieces;
mod progress;
mod ranges;
mod reader;
mod receive;
mod redact;
mod retry;
mod runtime;
mod sample;
mod service;
mod session;
mod shelf;
mod staging;
mod stats;
mod stream;
mod structured;
mod sys;
mod transport;
mod url;
mod walk;
mod window;
mod writer;
mod xml;

pub use client::{Answer, Client};
pub use credential::BearerToken;
pub use dataset::{BlobRange, Dataset};
pub use error::{Error, Result, Status};
pub use options::ClientOptions;
pub use reader::BlobReader;
pub use sample::Sample;
pub use stats::Stats;
pub use stream::Stream;
pub use writer::{BlobWriter, WriteMode};
