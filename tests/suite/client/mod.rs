//! What every call of a client shares: URLs, names, files, errors, cancellation, checksums, statistics.

mod blob_names;
mod buffers_after_timeout;
mod cancel;
mod checksums;
mod error_statuses;
mod files_and_containers;
mod local_files;
mod statistics;
mod urls;
