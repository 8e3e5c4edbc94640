//! `azt_finalizer`, and the `user_data` of a callback.

use std::ffi::c_void;

/// Releases the `user_data` of a callback.
///
/// A function that sets a callback also takes a `user_data` pointer and a finalizer, which may be NULL. If the function
/// succeeds, the library calls the finalizer once with `user_data`, as soon as nothing uses the callback any more. If
/// the function fails, the finalizer is not called and the caller keeps `user_data`.
///
/// The finalizer may run on any thread. It must not throw an exception or call longjmp().
pub type azt_finalizer = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// The `user_data` of a callback. The finalizer runs when the value is dropped.
pub(super) struct UserData {
    pointer: *mut c_void,
    finalizer: azt_finalizer,
}

// SAFETY: the pointer is only passed to the caller's functions, which the caller promises may run on any thread.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl UserData {
    pub(super) fn new(pointer: *mut c_void, finalizer: azt_finalizer) -> Self {
        Self { pointer, finalizer }
    }

    pub(super) fn get(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(finalizer) = self.finalizer {
            // SAFETY: the caller gave this function for this pointer, and a value is dropped once.
            unsafe { finalizer(self.pointer) };
        }
    }
}
