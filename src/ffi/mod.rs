//! The C ABI: a file for each handle, no logic. `boundary` is the only way in, `handle` the only place
//! where pointers become references.
//!
//! The doc comments of the exported items are the header's text: `make header` writes `include/aztorch.h`
//! from them.

#![allow(non_camel_case_types, reason = "types have the names of the C API")]
#![allow(clippy::missing_safety_doc, reason = "the header states the rules for all functions once, at its top")]

mod boundary;
mod handle;

// In the order in which the header is read.
mod status;
mod error;
mod options;
mod token;
mod client;
mod blob_open;
mod blob;
mod progress;
mod operations;
mod log;
mod stats;
mod sample;
mod dataset_make;
mod dataset;
mod stream;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "how a test fails")]
mod tests;

pub use blob::*;
pub use blob_open::*;
pub use client::*;
pub use dataset::*;
pub use dataset_make::*;
pub use error::*;
pub use log::*;
pub use operations::*;
pub use options::*;
pub use progress::*;
pub use sample::*;
pub use stats::*;
pub use status::*;
pub use stream::*;
pub use token::*;
