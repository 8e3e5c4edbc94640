//! `azt_error`: what went wrong, in detail.

use std::ffi::{CString, c_char};

use super::boundary::total;
use super::handle::{self, c_string};
use super::status::azt_status;
use crate::error::Error;

/// What went wrong in a call.
///
/// Every call that can fail takes a last parameter `azt_error **error`, which may be NULL. It is set to NULL
/// at entry, whatever it held, and to an error on failure, which the caller frees with azt_error_free().
/// An error is immutable and may be read from many threads at once.
///
/// Accessors: azt_error_status(), azt_error_message(), azt_error_http_status(), azt_error_service_code(),
/// azt_error_request_id(), azt_error_is_retryable().
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

/// Reads from an error, or gives `otherwise` for NULL.
///
/// # Safety
/// `error` is NULL or a live error.
unsafe fn read<'a, T>(error: *const azt_error, otherwise: T, get: impl FnOnce(&'a azt_error) -> T) -> T
where
    T: Copy,
{
    // SAFETY: by the contract above.
    total(otherwise, || unsafe { error.as_ref() }.map_or(otherwise, get))
}

/// The error's status, the same that the failed call returned; AZT_STATUS_OK for NULL.
///
/// Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_status(error: *const azt_error) -> azt_status {
    // SAFETY: the caller passes NULL or a live error.
    unsafe { read(error, 0, |error| error.error.status() as azt_status) }
}

/// What failed, on which blob, why, and what to do: one readable line without secrets; "" for NULL.
///
/// The text lives as long as the error. Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_message(error: *const azt_error) -> *const c_char {
    // SAFETY: the caller passes NULL or a live error.
    unsafe { read(error, c"".as_ptr(), |error| error.message.as_ptr()) }
}

/// The HTTP status of the service's answer; 0 when there was none, and for NULL.
///
/// Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_http_status(error: *const azt_error) -> u16 {
    // SAFETY: the caller passes NULL or a live error.
    unsafe { read(error, 0, |error| error.error.http_status()) }
}

/// The service's error code, such as "BlobNotFound"; "" when there is none, and for NULL.
/// See <https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes>.
///
/// The text lives as long as the error. Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_service_code(error: *const azt_error) -> *const c_char {
    // SAFETY: the caller passes NULL or a live error.
    unsafe { read(error, c"".as_ptr(), |error| error.service_code.as_ptr()) }
}

/// The service's x-ms-request-id, which Azure support asks for; "" when there is none, and for NULL.
///
/// The text lives as long as the error. Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_request_id(error: *const azt_error) -> *const c_char {
    // SAFETY: the caller passes NULL or a live error.
    unsafe { read(error, c"".as_ptr(), |error| error.request_id.as_ptr()) }
}

/// Whether the same call may succeed later although the caller changes nothing; false for NULL.
///
/// The library has already retried as its options say. Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_is_retryable(error: *const azt_error) -> bool {
    // SAFETY: the caller passes NULL or a live error.
    unsafe { read(error, false, |error| error.error.is_retryable()) }
}

/// Frees an error. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_error_free(error: *mut azt_error) {
    // SAFETY: the caller passes NULL or an error that it owns.
    total((), || unsafe { handle::free(error) });
}
