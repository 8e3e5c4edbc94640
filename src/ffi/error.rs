//! `azt_error`: why a call failed.

use std::ffi::{CString, c_char};

use super::handle::{self, c_string, read};
use super::status::azt_status;
use crate::error::Error;

/// An error: why a call failed.
///
/// A function that can fail has a last parameter `azt_error **error`, which may be NULL. The function sets `*error` to
/// NULL at entry, regardless of its old value, and to a new error on failure. The caller frees the error with
/// azt_error_free(). An error is immutable: many threads may read it at once.
///
/// Functions: azt_error_status(), azt_error_message(), azt_error_http_status(), azt_error_service_code(),
/// azt_error_request_id(), azt_error_is_retryable(), azt_error_free().
pub struct azt_error {
    error: Error,
    message: CString,
    service_code: CString,
    request_id: CString,
}

impl azt_error {
    pub(super) fn into_raw(error: Error) -> *mut Self {
        let message = c_string(error.message());
        let service_code = c_string(error.service_code());
        let request_id = c_string(error.request_id());
        handle::into_raw(Self { error, message, service_code, request_id })
    }

    #[cfg(test)]
    pub(super) fn message(&self) -> &std::ffi::CStr {
        &self.message
    }
}

/// Returns the status of an error: the status that the failed call returned. AZT_STATUS_OK for NULL.
///
/// Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_status(error: *const azt_error) -> azt_status {
    // SAFETY: the caller passes NULL or a live error.
    unsafe { read(error, 0, |error| error.error.status() as azt_status) }
}

/// Returns the message of an error: what failed, on which blob, why, and what to do. One line, without secrets. "" for
/// NULL.
///
/// The string is valid until the error is freed. Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_message(error: *const azt_error) -> *const c_char {
    // SAFETY: the caller passes NULL or a live error.
    unsafe { read(error, c"".as_ptr(), |error| error.message.as_ptr()) }
}

/// Returns the HTTP status of the service's response, such as 404. 0 if there was no response, and for NULL.
///
/// Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_http_status(error: *const azt_error) -> u16 {
    // SAFETY: the caller passes NULL or a live error.
    unsafe { read(error, 0, |error| error.error.http_status()) }
}

/// Returns the service's error code, such as "BlobNotFound". "" if there is none, and for NULL.
/// All codes: <https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes>.
///
/// The string is valid until the error is freed. Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_service_code(error: *const azt_error) -> *const c_char {
    // SAFETY: the caller passes NULL or a live error.
    unsafe { read(error, c"".as_ptr(), |error| error.service_code.as_ptr()) }
}

/// Returns the service's request ID (x-ms-request-id), which Azure support asks for. "" if there is none, and for NULL.
///
/// The string is valid until the error is freed. Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_request_id(error: *const azt_error) -> *const c_char {
    // SAFETY: the caller passes NULL or a live error.
    unsafe { read(error, c"".as_ptr(), |error| error.request_id.as_ptr()) }
}

/// Returns whether the same call may succeed later without a change by the caller. The library has already retried as
/// often as the client's options allow. False for NULL.
///
/// Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_is_retryable(error: *const azt_error) -> bool {
    // SAFETY: the caller passes NULL or a live error.
    unsafe { read(error, false, |error| error.error.is_retryable()) }
}

/// Frees an error, and the strings that it returned. NULL is allowed.
///
/// May be called from static destructors and in a forked child. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_free(error: *mut azt_error) {
    // SAFETY: the caller passes NULL or an error that it owns.
    unsafe { handle::free(error) };
}
