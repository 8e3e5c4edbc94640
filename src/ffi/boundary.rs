//! The wrapper of every exported function that can fail: it turns results and panics into statuses.

use super::error::azt_error;
use super::handle;
use super::panic::catch_panic;
use super::status::azt_status;
use crate::core::interrupt;
use crate::error::{Result, Status};

/// Runs a call that can fail. `out_error` may be NULL; it is set to NULL, and to an error if the call fails.
pub(super) fn call(out_error: *mut *mut azt_error, body: impl FnOnce() -> Result<()>) -> azt_status {
    if !out_error.is_null() {
        // SAFETY: the caller keeps the header's rules: a pointer for an error can be written.
        unsafe { out_error.write(std::ptr::null_mut()) };
    }
    let _entered = interrupt::enter();
    let Err(error) = catch_panic(body) else { return Status::Ok as azt_status };
    let status = error.status() as azt_status;
    if !out_error.is_null() {
        // SAFETY: as above.
        unsafe { out_error.write(azt_error::into_raw(error)) };
    }
    status
}

/// Runs a call that gives the caller a new handle. `out` is set to NULL first; `name` is its parameter's name.
///
/// # Safety
/// `out` is NULL or valid for a write of a pointer until the call returns.
pub(super) unsafe fn call_for_handle<T>(
    out: *mut *mut T,
    name: &str,
    out_error: *mut *mut azt_error,
    make: impl FnOnce() -> Result<T>,
) -> azt_status {
    // SAFETY: by the contract above.
    unsafe { call_for_optional_handle(out, name, out_error, || make().map(Some)) }
}

/// Runs a call that gives the caller a new handle, or NULL. `out` is set to NULL first; `name` is its parameter's name.
///
/// # Safety
/// `out` is NULL or valid for a write of a pointer until the call returns.
pub(super) unsafe fn call_for_optional_handle<T>(
    out: *mut *mut T,
    name: &str,
    out_error: *mut *mut azt_error,
    make: impl FnOnce() -> Result<Option<T>>,
) -> azt_status {
    call(out_error, || {
        // SAFETY: by the contract above.
        let out = unsafe { handle::out_handle(out, name) }?;
        if let Some(object) = make()? {
            out.set(handle::into_raw(object));
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_internal_error() {
        let mut error = std::ptr::null_mut();
        let status = call(&raw mut error, || panic!("on purpose, at ?sig=hunter2"));
        assert_eq!(status, Status::Internal as azt_status);
        // SAFETY: `call` has just made this error.
        let error = unsafe { Box::from_raw(error) };
        let message = error.message().to_string_lossy();
        assert!(message.contains("on purpose") && !message.contains("hunter2"), "{message}");
    }
}
