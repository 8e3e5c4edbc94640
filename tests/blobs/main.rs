//! The library's promises, held against a real Azurite and against a server that breaks any answer it is told to.
//! One binary, since linking is what takes the time: `cargo test --test blobs read::` runs one module.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "how a test fails")]

#[path = "../support/mod.rs"]
mod support;

mod around;
mod broken_reads;
mod broken_writes;
mod by_chance;
mod cancels;
mod checksums;
mod connections;
mod credentials;
mod dataset_batches;
mod dataset_get;
mod dataset_list;
mod dataset_manifests;
mod dataset_tar_headers;
mod dataset_tars;
mod dataset_urls;
mod dataset_walk;
mod dead_connections;
mod deadlines;
mod empty_blobs;
mod environment;
mod fault_listing;
mod fault_server;
mod identities;
mod larger_than_memory;
mod local_files;
mod logged;
mod memory;
mod names;
mod networks;
mod read;
mod read_patterns;
mod retries;
mod secrets;
mod seeing_inside;
mod stalls;
mod statuses;
mod stream_changes;
mod stream_cursors;
mod stream_deletions;
mod stream_faults;
mod stream_reading;
mod streams;
mod tls;
mod tokens;
mod urls;
mod versions;
mod write;
mod write_doubts;
mod write_large;
mod write_races;
