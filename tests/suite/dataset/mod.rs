//! Datasets: how they are made, and how their samples are fetched.

mod batches;
mod get;
mod listing;
mod manifests;
mod sequential_access;
mod serialized;
mod tar_archives;
mod tar_headers;
mod urls_and_ranges;
