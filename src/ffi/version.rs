//! The library's version.

use std::ffi::c_char;

/// Returns the version of the loaded library, "MAJOR.MINOR.PATCH". The AZT_VERSION_* macros are the header's version.
///
/// The string is static. Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub extern "C" fn azt_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
