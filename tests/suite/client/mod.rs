//! The common features of a client's calls: URLs, names, files, errors, cancellation, checksums, statistics.

mod blob_names;
mod buffers_after_timeout;
mod cancel;
mod checksums;
mod error_statuses;
mod files_and_containers;
mod interrupts;
mod local_files;
mod statistics;
mod urls;
