//! Functions of `azt_blob` for writers.

use std::ffi::{c_char, c_void};

use super::blob::{Kind, azt_blob};
use super::boundary::call;
use super::error::azt_error;
use super::handle;
use super::status::azt_status;

/// Appends `length` bytes to a writer. It takes all of them, or fails for good: then every later call on the writer
/// returns the same error, and nothing is published.
///
/// Small writes are copied and sent in the background. Writes of at least four blocks are sent straight from `data`. A
/// failure in the background is returned by a later write, by azt_blob_flush() or by azt_blob_close().
///
/// One thread at a time. Blocks while the limits of the client allow no more data in flight. A reader or a closed
/// writer: AZT_STATUS_UNSUPPORTED. More bytes than the blob's remaining blocks can hold: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_write(
    blob: *mut azt_blob,
    data: *const c_void,
    length: usize,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (blob, data) = unsafe { (handle::borrow(blob, "blob")?, handle::bytes(data, length, "data")?) };
        blob.writer("be written")?.write_all(data)
    })
}

/// Waits until everything that was written so far is staged at the service. Nothing is published. Each flush ends a
/// block, and a blob has at most 50,000 blocks. For a reader it does nothing.
///
/// One thread at a time. Blocks. If a background write failed, the flush and every later call return its error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_flush(blob: *mut azt_blob, error: *mut *mut azt_error) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let blob = unsafe { handle::borrow(blob, "blob")? };
        match &blob.kind {
            Kind::Reader(_) => Ok(()),
            Kind::Writer(writer) => writer.flush(),
        }
    })
}

/// Makes a writer publish only if the blob still has this ETag. If it has another one, azt_blob_close() fails with
/// AZT_STATUS_MODIFIED. So a job that was evicted but still runs cannot overwrite the work of its successor.
///
/// One thread at a time. Sends no request. A reader or a closed writer: AZT_STATUS_UNSUPPORTED. A malformed ETag, or a
/// writer in AZT_BLOB_MODE_CREATE: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_set_if_match(
    blob: *mut azt_blob,
    etag: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (blob, etag) = unsafe { (handle::borrow(blob, "blob")?, handle::text(etag, "etag")?) };
        blob.writer("publish")?.set_if_match(etag)
    })
}
