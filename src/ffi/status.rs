//! Statuses and the library's version.

use std::ffi::{CStr, c_char};

use crate::error::Status;

/// The outcome of a call that can fail: one of the AZT_STATUS_* constants. Their numbers never change, and
/// later versions may add some.
pub type azt_status = i32;

/// Success.
pub const AZT_STATUS_OK: azt_status = 0;
/// A value that no call of this kind accepts; the message names it.
pub const AZT_STATUS_INVALID_ARGUMENT: azt_status = 1;
/// The handle does not offer this (reading a writer, seeking a writer, writing after close), or a blocking
/// call was made from inside a callback.
pub const AZT_STATUS_UNSUPPORTED: azt_status = 2;
/// An allocation failed.
pub const AZT_STATUS_OUT_OF_MEMORY: azt_status = 3;
/// A file of this machine could not be read or written.
pub const AZT_STATUS_LOCAL_IO: azt_status = 4;
/// No such blob or container.
pub const AZT_STATUS_NOT_FOUND: azt_status = 10;
/// The blob or container exists already.
pub const AZT_STATUS_ALREADY_EXISTS: azt_status = 11;
/// The blob changed under an open reader, or another writer won.
pub const AZT_STATUS_MODIFIED: azt_status = 12;
/// An index or range past the end.
pub const AZT_STATUS_OUT_OF_RANGE: azt_status = 13;
/// The caller's buffer is too small; the size needed was written.
pub const AZT_STATUS_BUFFER_TOO_SMALL: azt_status = 14;
/// No credential, or one that the service does not accept (HTTP 401).
pub const AZT_STATUS_UNAUTHENTICATED: azt_status = 20;
/// The credential does not permit this (HTTP 403).
pub const AZT_STATUS_PERMISSION_DENIED: azt_status = 21;
/// Any other refusal (HTTP 4xx); azt_error_service_code() says which.
pub const AZT_STATUS_REJECTED: azt_status = 22;
/// The service asked to slow down (HTTP 429, 503), after retries.
pub const AZT_STATUS_THROTTLED: azt_status = 30;
/// Network trouble or another HTTP 5xx, after retries.
pub const AZT_STATUS_UNAVAILABLE: azt_status = 31;
/// The deadline passed and no answer had come.
pub const AZT_STATUS_TIMEOUT: azt_status = 32;
/// The caller cancelled.
pub const AZT_STATUS_CANCELLED: azt_status = 33;
/// What arrived is not what was stored: a length or checksum does not match, after retries.
pub const AZT_STATUS_CORRUPT: azt_status = 40;
/// A reader or writer opened before a fork was used in the child.
pub const AZT_STATUS_FORKED: azt_status = 50;
/// A defect of this library.
pub const AZT_STATUS_INTERNAL: azt_status = 99;

/// Name and Rust counterpart of each status; the tests hold them against the numbers above.
const STATUSES: [(azt_status, Status, &CStr); 20] = [
    (AZT_STATUS_OK, Status::Ok, c"AZT_STATUS_OK"),
    (AZT_STATUS_INVALID_ARGUMENT, Status::InvalidArgument, c"AZT_STATUS_INVALID_ARGUMENT"),
    (AZT_STATUS_UNSUPPORTED, Status::Unsupported, c"AZT_STATUS_UNSUPPORTED"),
    (AZT_STATUS_OUT_OF_MEMORY, Status::OutOfMemory, c"AZT_STATUS_OUT_OF_MEMORY"),
    (AZT_STATUS_LOCAL_IO, Status::LocalIo, c"AZT_STATUS_LOCAL_IO"),
    (AZT_STATUS_NOT_FOUND, Status::NotFound, c"AZT_STATUS_NOT_FOUND"),
    (AZT_STATUS_ALREADY_EXISTS, Status::AlreadyExists, c"AZT_STATUS_ALREADY_EXISTS"),
    (AZT_STATUS_MODIFIED, Status::Modified, c"AZT_STATUS_MODIFIED"),
    (AZT_STATUS_OUT_OF_RANGE, Status::OutOfRange, c"AZT_STATUS_OUT_OF_RANGE"),
    (AZT_STATUS_BUFFER_TOO_SMALL, Status::BufferTooSmall, c"AZT_STATUS_BUFFER_TOO_SMALL"),
    (AZT_STATUS_UNAUTHENTICATED, Status::Unauthenticated, c"AZT_STATUS_UNAUTHENTICATED"),
    (AZT_STATUS_PERMISSION_DENIED, Status::PermissionDenied, c"AZT_STATUS_PERMISSION_DENIED"),
    (AZT_STATUS_REJECTED, Status::Rejected, c"AZT_STATUS_REJECTED"),
    (AZT_STATUS_THROTTLED, Status::Throttled, c"AZT_STATUS_THROTTLED"),
    (AZT_STATUS_UNAVAILABLE, Status::Unavailable, c"AZT_STATUS_UNAVAILABLE"),
    (AZT_STATUS_TIMEOUT, Status::Timeout, c"AZT_STATUS_TIMEOUT"),
    (AZT_STATUS_CANCELLED, Status::Cancelled, c"AZT_STATUS_CANCELLED"),
    (AZT_STATUS_CORRUPT, Status::Corrupt, c"AZT_STATUS_CORRUPT"),
    (AZT_STATUS_FORKED, Status::Forked, c"AZT_STATUS_FORKED"),
    (AZT_STATUS_INTERNAL, Status::Internal, c"AZT_STATUS_INTERNAL"),
];

/// The Rust counterpart of a status that a caller's callback returned.
pub(super) fn status_of(number: azt_status) -> Option<Status> {
    STATUSES.iter().find(|(known, _, _)| *known == number).map(|(_, status, _)| *status)
}

/// The name of a status, such as "AZT_STATUS_NOT_FOUND", or "AZT_STATUS_UNKNOWN".
///
/// The text is static. Thread-safe, does not block.
#[unsafe(no_mangle)]
pub extern "C" fn azt_status_name(status: azt_status) -> *const c_char {
    let known = STATUSES.iter().find(|(number, _, _)| *number == status);
    known.map_or(c"AZT_STATUS_UNKNOWN", |(_, _, name)| name).as_ptr()
}

/// The version of the loaded library, "MAJOR.MINOR.PATCH"; the AZT_VERSION_* macros are the header's.
///
/// The text is static. Thread-safe, does not block.
#[unsafe(no_mangle)]
pub extern "C" fn azt_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_have_the_same_numbers_and_names() {
        for (number, status, name) in STATUSES {
            assert_eq!(number, status as azt_status);
            let shouting = format!("{status:?}").chars().fold(String::new(), |mut text, c| {
                if c.is_uppercase() && !text.is_empty() {
                    text.push('_');
                }
                text.extend(c.to_uppercase());
                text
            });
            assert_eq!(name.to_str().unwrap(), format!("AZT_STATUS_{shouting}"));
        }
    }
}
