//! `azt_status`: the outcome of a call.

use std::ffi::{CStr, c_char};

use crate::error::Status;

/// The outcome of a call that can fail: one of the AZT_STATUS_* constants. Their numbers never change. Later versions
/// may add constants.
pub type azt_status = i32;

/// The call succeeded.
pub const AZT_STATUS_OK: azt_status = 0;
/// The function does not accept the value of an argument. The error message names it.
pub const AZT_STATUS_INVALID_ARGUMENT: azt_status = 1;
/// The handle does not support this operation (reading from a writer, seeking in a writer, writing after close), or a
/// blocking function was called inside a callback.
pub const AZT_STATUS_UNSUPPORTED: azt_status = 2;
/// A memory allocation failed.
pub const AZT_STATUS_OUT_OF_MEMORY: azt_status = 3;
/// A file on this machine could not be read or written.
pub const AZT_STATUS_LOCAL_IO: azt_status = 4;
/// The blob or container does not exist.
pub const AZT_STATUS_NOT_FOUND: azt_status = 10;
/// The blob or container already exists.
pub const AZT_STATUS_ALREADY_EXISTS: azt_status = 11;
/// The blob was replaced while a reader had it open, or another writer published first.
pub const AZT_STATUS_MODIFIED: azt_status = 12;
/// An index or a byte range is past the end.
pub const AZT_STATUS_OUT_OF_RANGE: azt_status = 13;
/// The caller's buffer is too small. The size output is set to the size that is needed.
pub const AZT_STATUS_BUFFER_TOO_SMALL: azt_status = 14;
/// There is no credential, or the service does not accept it (HTTP 401).
pub const AZT_STATUS_UNAUTHENTICATED: azt_status = 20;
/// The credential does not permit this operation (HTTP 403).
pub const AZT_STATUS_PERMISSION_DENIED: azt_status = 21;
/// The service refused the request with another HTTP 4xx status. azt_error_service_code() returns the reason.
pub const AZT_STATUS_REJECTED: azt_status = 22;
/// The service still asked the client to slow down (HTTP 429 or 503) after all retries.
pub const AZT_STATUS_THROTTLED: azt_status = 30;
/// The network still failed, or the service returned HTTP 408 or another 5xx, after all retries.
pub const AZT_STATUS_UNAVAILABLE: azt_status = 31;
/// The deadline passed before a response arrived.
pub const AZT_STATUS_TIMEOUT: azt_status = 32;
/// The caller cancelled the operation, or its interrupt callback ended the call.
pub const AZT_STATUS_CANCELLED: azt_status = 33;
/// Received data has a wrong length or checksum after all retries, or an archive or manifest is damaged.
pub const AZT_STATUS_CORRUPT: azt_status = 40;
/// A reader or writer that was opened before a fork was used in the child.
pub const AZT_STATUS_FORKED: azt_status = 50;
/// This library has a bug.
pub const AZT_STATUS_INTERNAL: azt_status = 99;

/// Each status with its Rust counterpart and its name. A test compares them.
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

/// Returns the Rust counterpart of a status that a callback returned; `None` if it is unknown.
pub(super) fn status_of(number: azt_status) -> Option<Status> {
    STATUSES.iter().find(|(known, _, _)| *known == number).map(|(_, status, _)| *status)
}

/// Returns the name of a status, such as "AZT_STATUS_NOT_FOUND"; "AZT_STATUS_UNKNOWN" for other numbers.
///
/// The string is static. Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub extern "C" fn azt_status_name(status: azt_status) -> *const c_char {
    let known = STATUSES.iter().find(|(number, _, _)| *number == status);
    known.map_or(c"AZT_STATUS_UNKNOWN", |(_, _, name)| name).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_and_c_have_the_same_numbers_and_names() {
        for (number, status, name) in STATUSES {
            assert_eq!(number, status as azt_status);
            let upper_case = format!("{status:?}").chars().fold(String::new(), |mut text, c| {
                if c.is_uppercase() && !text.is_empty() {
                    text.push('_');
                }
                text.extend(c.to_uppercase());
                text
            });
            assert_eq!(name.to_str().unwrap(), format!("AZT_STATUS_{upper_case}"));
        }
    }
}
