//! `azt_sample`: one entry's bytes.

use std::ffi::{CString, c_char};

use once_cell::sync::OnceCell;

use super::blob_open::azt_blob;
use super::boundary::{call, total};
use super::error::azt_error;
use super::handle::{self, c_string};
use super::status::azt_status;
use crate::dataset::entries::UNKNOWN_SIZE;
use crate::dataset::sample::Sample;

/// One blob's bytes, or a part's, or an archive's member's, and where they came from.
///
/// Owned by the caller, who frees it with azt_sample_free(); it outlives the dataset or stream that it came from.
/// Immutable, so that any number of threads may read from it. Texts live as long as the sample.
///
/// Functions: azt_sample_data(), azt_sample_size(), azt_sample_url(), azt_sample_blob_name(),
/// azt_sample_container_name(), azt_sample_position(), azt_sample_blob_size(), azt_sample_open(), azt_sample_free().
pub struct azt_sample {
    sample: Sample,
    url: OnceCell<CString>,
}

impl azt_sample {
    pub(super) fn into_raw(sample: Sample) -> *mut Self {
        handle::into_raw(Self { sample, url: OnceCell::new() })
    }
}

/// Reads from a sample, or gives `otherwise` for NULL.
///
/// # Safety
/// `sample` is NULL or a live sample.
unsafe fn read<'a, T: Copy>(sample: *const azt_sample, otherwise: T, get: impl FnOnce(&'a azt_sample) -> T) -> T {
    // SAFETY: by the contract above.
    total(otherwise, || unsafe { sample.as_ref() }.map_or(otherwise, get))
}

/// The bytes, aligned to 64 bytes and this sample's alone; never written again. NULL for a sample of a lazy stream,
/// and for NULL. An empty blob's are an aligned address that nothing may be read from.
///
/// Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_data(sample: *const azt_sample) -> *const u8 {
    // SAFETY: the caller passes NULL or a live sample.
    unsafe {
        read(sample, std::ptr::null(), |sample| match sample.sample.is_fetched() {
            true => sample.sample.bytes().as_ptr(),
            false => std::ptr::null(),
        })
    }
}

/// How many bytes azt_sample_data() has; 0 for a sample of a lazy stream, and for NULL.
///
/// Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_size(sample: *const azt_sample) -> usize {
    // SAFETY: the caller passes NULL or a live sample.
    unsafe { read(sample, 0, |sample| sample.sample.bytes().len()) }
}

/// The blob's URL without its query, so without a SAS; of an archive's member, the archive's; "" for NULL.
///
/// Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_url(sample: *const azt_sample) -> *const c_char {
    // SAFETY: the caller passes NULL or a live sample.
    unsafe { read(sample, c"".as_ptr(), |sample| sample.url.get_or_init(|| c_string(&sample.sample.url())).as_ptr()) }
}

/// The blob's name, or the path of an archive's member in it; "" for NULL.
///
/// Thread-safe, does not block.
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

/// The name of the blob's container; "" for NULL.
///
/// Thread-safe, does not block.
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

/// The sample's place in its stream's own sequence of the epoch, 0, 1, 2 …; or its index in the dataset. 0 for NULL.
///
/// Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_position(sample: *const azt_sample) -> u64 {
    // SAFETY: the caller passes NULL or a live sample.
    unsafe { read(sample, 0, |sample| sample.sample.position()) }
}

/// The size in bytes of what the sample came from, as the listing, the range, the archive or an earlier read gave it;
/// UINT64_MAX when it is not known, and for NULL. For samples of a lazy stream.
///
/// Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_blob_size(sample: *const azt_sample) -> u64 {
    // SAFETY: the caller passes NULL or a live sample.
    unsafe { read(sample, UNKNOWN_SIZE, |sample| sample.sample.blob_size().unwrap_or(UNKNOWN_SIZE)) }
}

/// Opens what the sample came from for reading: the blob as it is now, or the range or member as if it were a blob.
///
/// The caller frees the blob with azt_blob_free(). Thread-safe. Blocks. Otherwise like azt_dataset_open().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_open(
    sample: *const azt_sample,
    out_blob: *mut *mut azt_blob,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, sample) = unsafe { (handle::out_handle(out_blob, "out_blob")?, handle::borrow(sample, "sample")?) };
        out.set(handle::into_raw(azt_blob::of_reader(sample.sample.open()?)));
        Ok(())
    })
}

/// Frees a sample and its bytes. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_sample_free(sample: *mut azt_sample) {
    // SAFETY: the caller passes NULL or a sample that it owns.
    total((), || unsafe { handle::free(sample) });
}
