//! What can be done with a dataset's entries.

use std::ffi::{c_char, c_void};

use super::blob_open::azt_blob;
use super::boundary::{call, total};
use super::dataset_make::azt_dataset;
use super::error::azt_error;
use super::handle;
use super::sample::azt_sample;
use super::status::azt_status;
use crate::dataset::Fitted;
use crate::dataset::entries::UNKNOWN_SIZE;

/// How many entries there are; 0 for NULL.
///
/// Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_len(dataset: *const azt_dataset) -> usize {
    // SAFETY: the caller passes NULL or a live dataset.
    total(0, || unsafe { dataset.as_ref() }.map_or(0, |dataset| dataset.0.len()))
}

/// The blob's name, or the path of an archive's member in it; NULL past the end, and for NULL.
///
/// The text lives as long as the dataset. Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_blob_name(dataset: *const azt_dataset, index: usize) -> *const c_char {
    total(std::ptr::null(), || {
        // SAFETY: the caller passes NULL or a live dataset.
        let entry = unsafe { dataset.as_ref() }.and_then(|dataset| dataset.0.entry(index).ok());
        entry.map_or(std::ptr::null(), |entry| entry.name_with_nul().as_ptr().cast())
    })
}

/// The name of the blob's container; NULL past the end, and for NULL.
///
/// The text lives as long as the dataset. Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_container_name(dataset: *const azt_dataset, index: usize) -> *const c_char {
    total(std::ptr::null(), || {
        // SAFETY: the caller passes NULL or a live dataset.
        let entry = unsafe { dataset.as_ref() }.and_then(|dataset| dataset.0.entry(index).ok());
        entry.map_or(std::ptr::null(), |entry| entry.container_name().as_ptr())
    })
}

/// The entry's size in bytes, as the listing, the range, the archive or an earlier read gave it; UINT64_MAX when it is
/// not known yet, as with URLs before the first read. Past the end: AZT_STATUS_OUT_OF_RANGE.
///
/// Thread-safe. Sends nothing.
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

/// Writes the blob's URL without its query into `buffer`, with a NUL at its end; of an archive's member, the
/// archive's. `out_size` is the size with the NUL. A buffer that is too small is AZT_STATUS_BUFFER_TOO_SMALL, and
/// `out_size` the size needed; a capacity of 0 asks for just that. Past the end: AZT_STATUS_OUT_OF_RANGE.
///
/// Thread-safe. Sends nothing.
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

/// Fetches an entry into memory of its own: one GET up to 8 MiB, parallel ranges above, no HEAD. A blob that changed
/// since the listing gives its new bytes, whole. A caller that walks through the dataset in order is noticed, and read
/// ahead of within the memory limit; what azt_dataset_prefetch() brought is taken.
///
/// The caller frees the sample with azt_sample_free(). Past the end: AZT_STATUS_OUT_OF_RANGE. Thread-safe. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_get(
    dataset: *const azt_dataset,
    index: usize,
    out_sample: *mut *mut azt_sample,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, dataset) =
            unsafe { (handle::out_handle(out_sample, "out_sample")?, handle::borrow(dataset, "dataset")?) };
        out.set(azt_sample::into_raw(dataset.0.get(index)?));
        Ok(())
    })
}

/// Fetches `count` entries concurrently, all or none, into `out_samples`, in this order. An index that comes twice is
/// fetched once and gives two samples, with bytes of their own. On failure all of `out_samples` are NULL.
///
/// The caller frees each sample with azt_sample_free(). Otherwise like azt_dataset_get(). Thread-safe. Blocks.
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
        outs.set(samples.into_iter().map(azt_sample::into_raw));
        Ok(())
    })
}

/// Fetches an entry into the caller's memory, pinned or preallocated; `out_size` is how many bytes it has. If that is
/// more than `capacity`, AZT_STATUS_BUFFER_TOO_SMALL, and `out_size` is set all the same.
///
/// On failure what `buffer` holds is not defined. Otherwise like azt_dataset_get(). Thread-safe. Blocks.
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
        let Fitted { sizes, error } = dataset.0.get_into_all(&[index], vec![to]);
        outs.set(sizes);
        error.map_or(Ok(()), Err)
    })
}

/// Fetches `count` entries concurrently into the caller's memory: entry `indices[i]` into `buffers[i]`, which has
/// `capacities[i]` bytes, and the buffers must not overlap. `out_sizes[i]` is how many bytes it has. If one does not
/// fit, AZT_STATUS_BUFFER_TOO_SMALL, and all of `out_sizes` are set.
///
/// On failure what the buffers hold is not defined. Otherwise like azt_dataset_get_batch(). Thread-safe. Blocks.
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
                    .collect::<crate::error::Result<Vec<_>>>()?,
                handle::outs(out_sizes, count, "out_sizes")?,
            )
        };
        let Fitted { sizes, error } = dataset.0.get_into_all(indices, to);
        outs.set(sizes);
        error.map_or(Ok(()), Err)
    })
}

/// Says which entries will be asked for, in this order, so that they can be fetched before they are: as many at a time
/// as three quarters of the client's connections, as far as the memory limit allows, and the others as those are
/// taken. All of an epoch may be announced at once. It is a hint: what was fetched and not taken makes way for a later
/// hint when memory is short. A `count` of 0 withdraws the hints so far. Failures show when the entry is asked for.
///
/// Thread-safe. Returns at once. An index past the end: AZT_STATUS_OUT_OF_RANGE, and no hint is taken.
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

/// Opens an entry for reading, as often as one likes, side by side. A range, or a member of an archive, is read as if
/// it were a blob: its first byte is at 0, its size is its own.
///
/// The caller frees the blob with azt_blob_free(); it may outlive the dataset. Otherwise like azt_blob_open().
/// Thread-safe. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_open(
    dataset: *const azt_dataset,
    index: usize,
    out_blob: *mut *mut azt_blob,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, dataset) =
            unsafe { (handle::out_handle(out_blob, "out_blob")?, handle::borrow(dataset, "dataset")?) };
        out.set(handle::into_raw(azt_blob::of_reader(dataset.0.open(index)?)));
        Ok(())
    })
}
