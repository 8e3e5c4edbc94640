//! `azt_sample`: the bytes of one entry.

use std::ffi::{CString, c_char};
use std::ptr::null;

use once_cell::sync::OnceCell;

use super::blob::azt_blob;
use super::boundary::call_for_handle;
use super::error::azt_error;
use super::handle::{self, c_string, read};
use super::status::azt_status;
use crate::dataset::entries::UNKNOWN_SIZE;
use crate::dataset::sample::Sample;

/// A sample: the bytes of a blob, of a part of a blob or of a file in a tar archive, and where they came from.
///
/// The caller owns it and frees it with azt_sample_free(). It stays valid after its dataset or stream is freed. A
/// sample is immutable: many threads may read it at once.
///
/// Functions: azt_sample_data(), azt_sample_size(), azt_sample_url(), azt_sample_blob_name(),
/// azt_sample_container_name(), azt_sample_position(), azt_sample_blob_size(), azt_sample_open(), azt_sample_free().
pub struct azt_sample {
    sample: Sample,
    url: OnceCell<CString>,
}

impl azt_sample {
    pub(super) fn new(sample: Sample) -> Self {
        Self { sample, url: OnceCell::new() }
    }
}

/// Returns the bytes of a sample, aligned to 64 bytes. No other sample shares them, and they never change. NULL for a
/// sample of a lazy stream, and for NULL. For an empty blob, the address is aligned and must not be read.
///
/// The bytes are valid until the sample is freed. Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_data(sample: *const azt_sample) -> *const u8 {
    // SAFETY: the caller passes NULL or a live sample.
    unsafe {
        read(sample, null(), |sample| match sample.sample.is_fetched() {
            true => sample.sample.bytes().as_ptr(),
            false => null(),
        })
    }
}

/// Returns the number of bytes at azt_sample_data(). 0 for a sample of a lazy stream, and for NULL.
///
/// Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_size(sample: *const azt_sample) -> usize {
    // SAFETY: the caller passes NULL or a live sample.
    unsafe { read(sample, 0, |sample| sample.sample.bytes().len()) }
}

/// Returns the URL of a sample's blob without its query, and so without a SAS. For a file in a tar archive, it is the
/// URL of the archive. "" for NULL.
///
/// The string is valid until the sample is freed. Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_url(sample: *const azt_sample) -> *const c_char {
    // SAFETY: the caller passes NULL or a live sample.
    unsafe { read(sample, c"".as_ptr(), |sample| sample.url.get_or_init(|| c_string(&sample.sample.url())).as_ptr()) }
}

/// Returns the name of a sample's blob; for a file in a tar archive, its path in the archive. "" for NULL.
///
/// The string is valid until the sample is freed. Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_blob_name(sample: *const azt_sample) -> *const c_char {
    // SAFETY: the caller passes NULL or a live sample.
    unsafe {
        read(sample, c"".as_ptr(), |sample| match sample.sample.item().entry() {
            Ok(entry) => entry.name_with_nul().as_ptr().cast(),
            Err(_) => c"".as_ptr(),
        })
    }
}

/// Returns the name of the container of a sample's blob. "" for NULL.
///
/// The string is valid until the sample is freed. Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_container_name(sample: *const azt_sample) -> *const c_char {
    // SAFETY: the caller passes NULL or a live sample.
    unsafe {
        read(sample, c"".as_ptr(), |sample| match sample.sample.item().entry() {
            Ok(entry) => entry.container_name().as_ptr(),
            Err(_) => c"".as_ptr(),
        })
    }
}

/// Returns the position of a sample: for a stream, its number (0, 1, 2 …) in this stream's order of the epoch; for a
/// dataset, its index. 0 for NULL.
///
/// Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_position(sample: *const azt_sample) -> u64 {
    // SAFETY: the caller passes NULL or a live sample.
    unsafe { read(sample, 0, |sample| sample.sample.position()) }
}

/// Returns the size in bytes of a sample's entry, from the listing, the range, the archive or an earlier read.
/// UINT64_MAX if it is not known, and for NULL. It is useful for samples of a lazy stream, which have no bytes.
///
/// Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_blob_size(sample: *const azt_sample) -> u64 {
    // SAFETY: the caller passes NULL or a live sample.
    unsafe { read(sample, UNKNOWN_SIZE, |sample| sample.sample.blob_size().unwrap_or(UNKNOWN_SIZE)) }
}

/// Opens the blob of a sample for reading, in its current version, which may be newer than the sample. A range, or a
/// file in a tar archive, reads like a blob of its own: its first byte is at offset 0, and it has its own size.
///
/// Sends one ranged GET, returns when the response begins, and receives the first bytes in the background.
///
/// The caller frees the blob with azt_blob_free(). It stays valid after the sample is freed. Thread-safe. Blocks. A
/// blob that does not exist: AZT_STATUS_NOT_FOUND. A tar archive that was replaced: AZT_STATUS_MODIFIED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_open(
    sample: *const azt_sample,
    out_blob: *mut *mut azt_blob,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_blob, "out_blob", error, || {
            handle::borrow(sample, "sample")?.sample.open().map(azt_blob::of_reader)
        })
    }
}

/// Frees a sample and its bytes. NULL is allowed.
///
/// Does no network I/O. May be called from static destructors and in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_free(sample: *mut azt_sample) {
    // SAFETY: the caller passes NULL or a sample that it owns.
    unsafe { handle::free(sample) };
}
