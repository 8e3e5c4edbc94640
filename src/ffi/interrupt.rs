//! The interrupt callback of a thread.

use std::ffi::c_void;

use super::boundary::call;
use super::error::azt_error;
use super::status::azt_status;
use crate::core::interrupt::set_interrupt_callback;

/// Says whether the running call is to end: true ends it.
///
/// The library calls it only on the thread for which it was set, about every 25 ms while a call blocks there, and holds
/// no lock of its own meanwhile. Inside it, functions of the library that block fail with AZT_STATUS_UNSUPPORTED. It
/// must not throw an exception or call longjmp().
pub type azt_interrupt_callback = Option<unsafe extern "C" fn(user_data: *mut c_void) -> bool>;

/// Sets the interrupt callback of the calling thread, which replaces an earlier one. NULL removes it. With it a language
/// ends a blocking call when, for example, Ctrl-C was pressed.
///
/// When the callback returns true, the call that blocks on this thread ends within 100 ms with AZT_STATUS_CANCELLED, or
/// with its own result if that comes first. The callback is not called again in that call. This is no cancellation:
/// later calls work as after a temporary failure. A reader keeps its position, and the next azt_stream_next() returns
/// the sample that was waited for. Only a writer fails for good, as after every failed write; if azt_blob_close() is
/// ended while the service publishes the blob, the message says that the outcome is unknown. Calls of other threads, and
/// data that is read ahead, are not disturbed.
///
/// The library has no finalizer for `user_data`: it must stay valid until the callback is replaced or removed, or the
/// thread has ended. Each thread has a callback of its own; a new thread has none. The thread of a forked child keeps
/// the one that it had.
///
/// Does not block. May be called from inside the callback. A call that takes less than 25 ms never calls the callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_thread_set_interrupt_callback(
    callback: azt_interrupt_callback,
    user_data: *mut c_void,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        set_interrupt_callback(callback.map(|function| -> Box<dyn Fn() -> bool> {
            // SAFETY: the caller promises a function that may be called with this on this thread.
            Box::new(move || unsafe { function(user_data) })
        }))
    })
}
