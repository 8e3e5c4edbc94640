//! The log callback.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::boundary::call;
use super::error::azt_error;
use super::handle::{UserData, c_string};
use super::status::azt_status;
use crate::observe::log;

/// How important a log line is: one of the AZT_LOG_LEVEL_* constants. A callback gets those up to its own level.
pub type azt_log_level = i32;

/// Nothing.
pub const AZT_LOG_LEVEL_OFF: azt_log_level = 0;
/// What is lost for good.
pub const AZT_LOG_LEVEL_ERROR: azt_log_level = 1;
/// What needs attention soon: a SAS about to expire, a token that could not be had.
pub const AZT_LOG_LEVEL_WARN: azt_log_level = 2;
/// Decisions: which credential is used, what is tried again and why.
pub const AZT_LOG_LEVEL_INFO: azt_log_level = 3;
/// Each request: method, URL without query, status, milliseconds, attempt, request ids.
pub const AZT_LOG_LEVEL_DEBUG: azt_log_level = 4;
/// All there is.
pub const AZT_LOG_LEVEL_TRACE: azt_log_level = 5;

/// Takes one line, which lives during the call and holds no secret. Called from any thread, also from several at once.
/// Calls of the library that block are refused there (AZT_STATUS_UNSUPPORTED).
pub type azt_log_callback = Option<
    unsafe extern "C" fn(user_data: *mut c_void, level: azt_log_level, target: *const c_char, message: *const c_char),
>;

/// Sends the process's log to `callback`, in place of an earlier one; NULL turns it off, which is the default.
///
/// When this returns, the earlier callback is not running and will not be called again; its `finalizer`, which may be
/// NULL, has been called with its `user_data`. When it fails, the finalizer passed is not called:
/// AZT_STATUS_UNSUPPORTED from inside a log callback, AZT_STATUS_INVALID_ARGUMENT for an unknown level. Thread-safe.
/// Waits for calls of the earlier callback that are running, and for nothing else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_log_set_callback(
    level: azt_log_level,
    callback: azt_log_callback,
    user_data: *mut c_void,
    finalizer: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
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
