//! The Rust test suite: the library against a real Azurite, and against a server that can break any response.
//! It is one binary, because linking takes most of the time. `cargo test --test suite read::` runs one module.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "this is how a test fails")]

#[path = "../support/mod.rs"]
mod support;

mod auth;
mod client;
mod dataset;
mod network;
mod process;
mod read;
mod stream;
mod write;
