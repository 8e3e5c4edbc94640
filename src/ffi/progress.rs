//! Progress of the calls on a blob.

use std::ffi::c_void;
use std::sync::Arc;

use super::blob_open::{Kind, azt_blob};
use super::boundary::call;
use super::error::azt_error;
use super::handle::{self, UserData};
use super::status::azt_status;
use crate::core::progress::ProgressCallback;

/// Takes the bytes that reads of this blob have delivered, or that its writer has landed at the service, and those in
/// all (UINT64_MAX: not known, which it is for a writer before azt_blob_close()). Called only on a thread that is inside
/// a call on that blob, at most ten times a second and at the call's end. Calls of the library that block are refused
/// there (AZT_STATUS_UNSUPPORTED).
pub type azt_progress_callback = Option<unsafe extern "C" fn(user_data: *mut c_void, done: u64, total: u64)>;

/// Tells `callback` how the calls on this blob get on, in place of an earlier one; NULL ends that.
///
/// `finalizer`, which may be NULL, is called with `user_data` when the callback was replaced or the blob is freed; when
/// this call fails, it is not. One thread at a time. Sends nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_set_progress(
    blob: *mut azt_blob,
    callback: azt_progress_callback,
    user_data: *mut c_void,
    finalizer: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
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
