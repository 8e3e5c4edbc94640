//! The progress callback of a blob.

use std::ffi::c_void;
use std::sync::Arc;

use super::blob::{Kind, azt_blob};
use super::boundary::call;
use super::callback::{UserData, azt_finalizer};
use super::error::azt_error;
use super::handle;
use super::status::azt_status;
use crate::core::progress::ProgressCallback;

/// Receives the progress of a blob. For a reader, `done` is the number of bytes that its reads have returned and
/// `total` is its size. For a writer, `done` is the number of bytes that the service has received, and `total` is
/// UINT64_MAX (not known) until azt_blob_close() has published the blob.
///
/// The library calls it only on a thread that is inside a call on the blob, at most ten times a second and at the end
/// of the call. Inside it, functions of the library that block fail with AZT_STATUS_UNSUPPORTED. It must not throw an
/// exception or call longjmp().
pub type azt_progress_callback = Option<unsafe extern "C" fn(user_data: *mut c_void, done: u64, total: u64)>;

/// Reports the progress of calls on a blob to `callback`, which replaces an earlier callback. NULL ends the reports.
///
/// `finalizer`, which may be NULL, is called once with `user_data` when the callback is replaced or the blob is freed.
/// If this function fails, the finalizer is not called.
///
/// One thread at a time. Sends no request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_set_progress(
    blob: *mut azt_blob,
    callback: azt_progress_callback,
    user_data: *mut c_void,
    finalizer: azt_finalizer,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let blob = unsafe { handle::borrow(blob, "blob")? };
        let progress = match &blob.kind {
            Kind::Reader(reader) => reader.progress()?,
            Kind::Writer(writer) => writer.progress()?,
        };
        progress.set(callback.map(|function| -> Arc<ProgressCallback> {
            let user_data = UserData::new(user_data, finalizer);
            // SAFETY: the caller promises a function that may be called with these on its threads.
            Arc::new(move |done, total| unsafe { function(user_data.get(), done, total) })
        }));
        Ok(())
    })
}
