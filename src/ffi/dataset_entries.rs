//! Functions of `azt_dataset` for its entries.

use std::ffi::{c_char, c_void};
use std::ptr::null;

use super::blob::azt_blob;
use super::boundary::{call, call_for_handle};
use super::dataset::azt_dataset;
use super::error::azt_error;
use super::handle::{self, Outs, read};
use super::sample::azt_sample;
use super::status::azt_status;
use crate::dataset::ReadInto;
use crate::dataset::entries::UNKNOWN_SIZE;
use crate::error::Result;

/// Returns the number of entries of a dataset. 0 for NULL.
///
/// Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_len(dataset: *const azt_dataset) -> usize {
    // SAFETY: the caller passes NULL or a live dataset.
    unsafe { read(dataset, 0, |dataset| dataset.0.len()) }
}

/// Returns the name of an entry's blob; for a file in a tar archive, its path in the archive. NULL for an index past
/// the end, and for NULL.
///
/// The string is valid until the dataset is freed. Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_blob_name(dataset: *const azt_dataset, index: usize) -> *const c_char {
    // SAFETY: the caller passes NULL or a live dataset.
    unsafe {
        read(dataset, null(), |dataset| match dataset.0.entry(index) {
            Ok(entry) => entry.name_with_nul().as_ptr().cast(),
            Err(_) => null(),
        })
    }
}

/// Returns the name of the container of an entry's blob. NULL for an index past the end, and for NULL.
///
/// The string is valid until the dataset is freed. Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_container_name(dataset: *const azt_dataset, index: usize) -> *const c_char {
    // SAFETY: the caller passes NULL or a live dataset.
    unsafe {
        read(dataset, null(), |dataset| match dataset.0.entry(index) {
            Ok(entry) => entry.container_name().as_ptr(),
            Err(_) => null(),
        })
    }
}

/// Returns the size of an entry in bytes, from the listing, the range, the archive or an earlier read. UINT64_MAX if it
/// is not known, as for a URL before its first read.
///
/// Thread-safe. Sends no request. An index past the end: AZT_STATUS_OUT_OF_RANGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_blob_size(
    dataset: *const azt_dataset,
    index: usize,
    out_size: *mut u64,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, dataset) = unsafe { (handle::out(out_size, "out_size")?, handle::borrow(dataset, "dataset")?) };
        out.set(dataset.0.size(index)?.unwrap_or(UNKNOWN_SIZE));
        Ok(())
    })
}

/// Writes the URL of an entry's blob, without its query and with a NUL at its end, to `buffer`, which has `capacity`
/// bytes. For a file in a tar archive, it is the URL of the archive. `*out_size` is the size in bytes with the NUL.
///
/// Thread-safe. Sends no request. A buffer that is too small: AZT_STATUS_BUFFER_TOO_SMALL, and `*out_size` is the size
/// that is needed; a capacity of 0 asks for this size. An index past the end: AZT_STATUS_OUT_OF_RANGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_url(
    dataset: *const azt_dataset,
    index: usize,
    buffer: *mut c_char,
    capacity: usize,
    out_size: *mut usize,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (dataset, buffer, out) = unsafe {
            (
                handle::borrow(dataset, "dataset")?,
                handle::destination(buffer.cast(), capacity, "buffer")?,
                handle::out(out_size, "out_size")?,
            )
        };
        handle::copy_text(&dataset.0.url(index)?, buffer, out)
    })
}

/// Fetches an entry as a sample: with one GET up to 8 MiB, with parallel ranges above, and without a HEAD. If the blob
/// was replaced since the listing, the sample has all of the new bytes.
///
/// An entry that azt_dataset_prefetch() has fetched is returned without a request. If a caller reads entries in order,
/// the next ones are read ahead within the memory limit.
///
/// The caller frees the sample with azt_sample_free(). Thread-safe. Blocks. An index past the end:
/// AZT_STATUS_OUT_OF_RANGE. A tar archive that was replaced: AZT_STATUS_MODIFIED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_get(
    dataset: *const azt_dataset,
    index: usize,
    out_sample: *mut *mut azt_sample,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_sample, "out_sample", error, || {
            handle::borrow(dataset, "dataset")?.0.get(index).map(azt_sample::new)
        })
    }
}

/// Fetches `count` entries in parallel as samples: entry `indices[i]` as `out_samples[i]`. Either all are fetched or
/// none: on failure all of `out_samples` are NULL. An index that occurs twice is fetched once and gives two samples,
/// each with its own copy of the bytes.
///
/// The caller frees each sample with azt_sample_free(). Thread-safe. Blocks. An index past the end:
/// AZT_STATUS_OUT_OF_RANGE. A tar archive that was replaced: AZT_STATUS_MODIFIED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_get_batch(
    dataset: *const azt_dataset,
    indices: *const usize,
    count: usize,
    out_samples: *mut *mut azt_sample,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (outs, dataset, indices) = unsafe {
            (
                handle::out_handles(out_samples, count, "out_samples")?,
                handle::borrow(dataset, "dataset")?,
                handle::array(indices, count, "indices")?,
            )
        };
        let samples = dataset.0.get_batch(indices)?;
        outs.set(samples.into_iter().map(|sample| handle::into_raw(azt_sample::new(sample))));
        Ok(())
    })
}

/// Fetches an entry into the caller's memory, for example pinned or preallocated memory. `buffer` has `capacity` bytes.
/// `*out_size` is the size of the entry in bytes.
///
/// Thread-safe. Blocks. An entry larger than `capacity`: AZT_STATUS_BUFFER_TOO_SMALL, and `*out_size` is its size. An
/// index past the end: AZT_STATUS_OUT_OF_RANGE. A tar archive that was replaced: AZT_STATUS_MODIFIED. On failure the
/// content of `buffer` is undefined.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_get_into(
    dataset: *const azt_dataset,
    index: usize,
    buffer: *mut c_void,
    capacity: usize,
    out_size: *mut usize,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (dataset, to, outs) = unsafe {
            (
                handle::borrow(dataset, "dataset")?,
                handle::destination(buffer, capacity, "buffer")?,
                handle::outs(out_size, 1, "out_size")?,
            )
        };
        set_sizes(dataset.0.read_into(&[index], vec![to]), outs)
    })
}

/// Fetches `count` entries in parallel into the caller's memory: entry `indices[i]` into `buffers[i]`, which has
/// `capacities[i]` bytes. The buffers must not overlap. `out_sizes[i]` is the size of the entry in bytes.
///
/// Thread-safe. Blocks. An entry that is larger than its buffer: AZT_STATUS_BUFFER_TOO_SMALL, and `out_sizes` has the
/// sizes of all entries. An index past the end: AZT_STATUS_OUT_OF_RANGE. A tar archive that was replaced:
/// AZT_STATUS_MODIFIED. On failure the content of the buffers is undefined.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_get_batch_into(
    dataset: *const azt_dataset,
    indices: *const usize,
    count: usize,
    buffers: *const *mut c_void,
    capacities: *const usize,
    out_sizes: *mut usize,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (dataset, indices, to, outs) = unsafe {
            let buffers = handle::array(buffers, count, "buffers")?.iter();
            let buffers = buffers.zip(handle::array(capacities, count, "capacities")?).enumerate();
            (
                handle::borrow(dataset, "dataset")?,
                handle::array(indices, count, "indices")?,
                buffers
                    .map(|(i, (&buffer, &capacity))| handle::destination(buffer, capacity, &format!("buffers[{i}]")))
                    .collect::<Result<Vec<_>>>()?,
                handle::outs(out_sizes, count, "out_sizes")?,
            )
        };
        set_sizes(dataset.0.read_into(indices, to), outs)
    })
}

/// Writes the sizes, which are also known if a buffer is too small.
fn set_sizes(read: ReadInto, outs: Outs<usize>) -> Result<()> {
    outs.set(read.sizes);
    read.error.map_or(Ok(()), Err)
}

/// Announces which entries will be read, in this order, so that they are fetched before. This is a hint: an entry that
/// was fetched and not read is dropped for a later hint if memory is needed, and a failure shows when the entry is
/// read.
///
/// At most three quarters of the client's connections fetch at a time, within the memory limit; further entries follow
/// as the fetched ones are read. A whole epoch may be announced at once. A `count` of 0 withdraws all earlier hints.
///
/// Thread-safe. Does not block. An index past the end: AZT_STATUS_OUT_OF_RANGE, and the call has no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_prefetch(
    dataset: *const azt_dataset,
    indices: *const usize,
    count: usize,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (dataset, indices) =
            unsafe { (handle::borrow(dataset, "dataset")?, handle::array(indices, count, "indices")?) };
        dataset.0.prefetch(indices)
    })
}

/// Opens an entry for reading. An entry may be opened many times at once. A range, or a file in a tar archive, reads
/// like a blob of its own: its first byte is at offset 0, and it has its own size.
///
/// Sends one ranged GET, returns when the response begins, and receives the first bytes in the background.
///
/// The caller frees the blob with azt_blob_free(). It stays valid after the dataset is freed. Thread-safe. Blocks. An
/// index past the end: AZT_STATUS_OUT_OF_RANGE. A blob that does not exist: AZT_STATUS_NOT_FOUND. A tar archive that
/// was replaced: AZT_STATUS_MODIFIED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_open(
    dataset: *const azt_dataset,
    index: usize,
    out_blob: *mut *mut azt_blob,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_blob, "out_blob", error, || {
            handle::borrow(dataset, "dataset")?.0.open(index).map(azt_blob::of_reader)
        })
    }
}
