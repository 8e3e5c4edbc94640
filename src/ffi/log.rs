//! The log callback.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::boundary::call;
use super::callback::{UserData, azt_finalizer};
use super::error::azt_error;
use super::handle::c_string;
use super::status::azt_status;
use crate::observe::log;

/// The level of a log message: one of the AZT_LOG_LEVEL_* constants. A log callback gets the messages of its own level
/// and of all lower numbers.
pub type azt_log_level = i32;

/// No messages.
pub const AZT_LOG_LEVEL_OFF: azt_log_level = 0;
/// Data or work that is lost for good.
pub const AZT_LOG_LEVEL_ERROR: azt_log_level = 1;
/// Conditions that need attention soon: a SAS that is about to expire, a token that could not be obtained.
pub const AZT_LOG_LEVEL_WARN: azt_log_level = 2;
/// Decisions: which credential is used, which requests are retried and why.
pub const AZT_LOG_LEVEL_INFO: azt_log_level = 3;
/// Each request: method, URL without query, status, milliseconds, attempt, request IDs.
pub const AZT_LOG_LEVEL_DEBUG: azt_log_level = 4;
/// All messages.
pub const AZT_LOG_LEVEL_TRACE: azt_log_level = 5;

/// Receives one log message. `target` is the part of the library that sent it; `message` is one line without secrets.
///
/// Both strings are valid during the call. The library calls it on any thread, and on several threads at once. Inside
/// it, functions of the library that block fail with AZT_STATUS_UNSUPPORTED. It must not throw an exception or call
/// longjmp().
pub type azt_log_callback = Option<
    unsafe extern "C" fn(user_data: *mut c_void, level: azt_log_level, target: *const c_char, message: *const c_char),
>;

/// Sends the log of the process to `callback`, which replaces an earlier callback. NULL turns the log off, which is the
/// default.
///
/// When the function returns, the earlier callback is not running and is not called again, and its finalizer has been
/// called. `finalizer`, which may be NULL, is called once with `user_data` when this callback is replaced. If this
/// function fails, the finalizer is not called.
///
/// Thread-safe. Waits only for running calls of the earlier callback. Inside a log callback: AZT_STATUS_UNSUPPORTED. An
/// unknown level: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_log_set_callback(
    level: azt_log_level,
    callback: azt_log_callback,
    user_data: *mut c_void,
    finalizer: azt_finalizer,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        let sink = callback.map(|callback| {
            move || -> Arc<log::LogCallback> {
                let user_data = UserData::new(user_data, finalizer);
                Arc::new(move |level, target: &str, message: &str| {
                    let (target, message) = (c_string(target), c_string(message));
                    // SAFETY: the caller promises a function that may be called with these on any thread.
                    unsafe { callback(user_data.get(), level, target.as_ptr(), message.as_ptr()) };
                })
            }
        });
        log::set_callback(level, sink)
    })
}
