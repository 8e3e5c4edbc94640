//! The C ABI: one file for each handle. It has no logic of its own. `boundary` wraps the functions that can fail,
//! `panic` stops panics, and `handle` turns the caller's pointers into references.
//!
//! The doc comments of the exported items are the text of `include/aztorch.h`, which `make header` writes.
//! `tests/header.rs` has the order of the header's sections.

#![allow(non_camel_case_types, reason = "types have the names of the C API")]
#![allow(clippy::missing_safety_doc, reason = "the header states the rules for all functions once, at its top")]

mod boundary;
mod handle;
mod panic;

// In the header's order.
mod version;
mod status;
mod error;
mod callback;
mod client;
mod client_options;
mod credential;
mod blob;
mod blob_reader;
mod blob_writer;
mod operations;
mod dataset;
mod dataset_entries;
mod sample;
mod stream;
mod log;
mod stats;
mod progress;
mod interrupt;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "how a test fails")]
mod tests;

pub use blob::*;
pub use blob_reader::*;
pub use blob_writer::*;
pub use callback::*;
pub use client::*;
pub use client_options::*;
pub use credential::*;
pub use dataset::*;
pub use dataset_entries::*;
pub use error::*;
pub use interrupt::*;
pub use log::*;
pub use operations::*;
pub use progress::*;
pub use sample::*;
pub use stats::*;
pub use status::*;
pub use stream::*;
pub use version::*;
