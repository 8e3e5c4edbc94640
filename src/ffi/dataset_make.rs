//! `azt_dataset`: the handle, how it comes about, is saved and freed.

use std::ffi::c_char;

use super::boundary::{call, total};
use super::client::{azt_client, client_or_default};
use super::error::azt_error;
use super::handle;
use super::status::azt_status;
use crate::dataset::{BlobRange, Dataset};

/// A map-style dataset: blobs, or parts of blobs, by index. Listed when it is made and immutable.
///
/// Thread-safe: all functions but azt_dataset_free() may be called from many threads at once. Works in a forked child,
/// with connections of its own. Texts live as long as the dataset.
///
/// To make one: azt_dataset_list(), azt_dataset_from_urls(), azt_dataset_from_ranges(), azt_dataset_from_tars(),
/// azt_dataset_from_manifest(); to save it: azt_dataset_save_manifest(). Entries: azt_dataset_len(),
/// azt_dataset_blob_name(), azt_dataset_container_name(), azt_dataset_blob_size(), azt_dataset_url(). Bytes:
/// azt_dataset_get(), azt_dataset_get_batch(), azt_dataset_get_into(), azt_dataset_get_batch_into(),
/// azt_dataset_prefetch(), azt_dataset_open(). At last: azt_dataset_cancel(), azt_dataset_free().
pub struct azt_dataset(pub(super) Dataset);

/// Lists the blobs of a container whose names begin with `prefix`; NULL or "" for all. They come in the service's
/// order. Stubs of directories, which hierarchical accounts have, are left out. No blob at all is an empty dataset.
///
/// One GET for each 5,000 blobs. A container that is missing is AZT_STATUS_NOT_FOUND. The caller frees the dataset
/// with azt_dataset_free(). Thread-safe. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_list(
    client: *const azt_client,
    container_url: *const c_char,
    prefix: *const c_char,
    out_dataset: *mut *mut azt_dataset,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, client, url, prefix) = unsafe {
            (
                handle::out_handle(out_dataset, "out_dataset")?,
                client_or_default(client)?,
                handle::text(container_url, "container_url")?,
                handle::optional_text(prefix, "prefix")?,
            )
        };
        out.set(handle::into_raw(azt_dataset(Dataset::list(&client, url, prefix)?)));
        Ok(())
    })
}

/// Takes the blobs of `count` URLs, in this order, of one container or several, each with its own SAS, snapshot or
/// version. A bad URL fails the whole call, AZT_STATUS_INVALID_ARGUMENT, and is named.
///
/// Sends nothing. The caller frees the dataset with azt_dataset_free(). Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_from_urls(
    client: *const azt_client,
    urls: *const *const c_char,
    count: usize,
    out_dataset: *mut *mut azt_dataset,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, client, urls) = unsafe {
            (
                handle::out_handle(out_dataset, "out_dataset")?,
                client_or_default(client)?,
                handle::texts(urls, count, "urls")?,
            )
        };
        out.set(handle::into_raw(azt_dataset(Dataset::from_urls(&client, &urls)?)));
        Ok(())
    })
}

/// Takes `count` parts of blobs: `lengths[i]` bytes from `offsets[i]` on, of the blob `urls[i]`. For samples that are
/// packed into large blobs of a format of your own.
///
/// Sends nothing; a part that is not in its blob is AZT_STATUS_OUT_OF_RANGE when it is read, and one that reaches to
/// UINT64_MAX is AZT_STATUS_INVALID_ARGUMENT here. The caller frees the dataset with azt_dataset_free(). Thread-safe,
/// does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_from_ranges(
    client: *const azt_client,
    urls: *const *const c_char,
    offsets: *const u64,
    lengths: *const u64,
    count: usize,
    out_dataset: *mut *mut azt_dataset,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, client, urls, offsets, lengths) = unsafe {
            (
                handle::out_handle(out_dataset, "out_dataset")?,
                client_or_default(client)?,
                handle::texts(urls, count, "urls")?,
                handle::array(offsets, count, "offsets")?,
                handle::array(lengths, count, "lengths")?,
            )
        };
        let parts = urls.into_iter().zip(offsets.iter().zip(lengths));
        let ranges: Vec<_> =
            parts.map(|(url, (&offset, &length))| BlobRange { url: url.to_owned(), offset, length }).collect();
        out.set(handle::into_raw(azt_dataset(Dataset::from_ranges(&client, &ranges)?)));
        Ok(())
    })
}

/// Takes the regular files in `count` tar archives (ustar, GNU and pax), in the archives' order. An entry's name is
/// its path in the archive; its URL is the archive's. Compressed archives are AZT_STATUS_CORRUPT, since they cannot be
/// read by ranges, and so are damaged ones.
///
/// The archives are indexed here, once, by ranged reads, side by side: files of more than 1 MiB are jumped over,
/// smaller ones are read through. To spare other processes that, save a manifest. An archive that is replaced later
/// gives AZT_STATUS_MODIFIED when it is read. Names that are not UTF-8 have U+FFFD where they are not. The caller frees
/// the dataset with azt_dataset_free(). Thread-safe. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_from_tars(
    client: *const azt_client,
    urls: *const *const c_char,
    count: usize,
    out_dataset: *mut *mut azt_dataset,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, client, urls) = unsafe {
            (
                handle::out_handle(out_dataset, "out_dataset")?,
                client_or_default(client)?,
                handle::texts(urls, count, "urls")?,
            )
        };
        out.set(handle::into_raw(azt_dataset(Dataset::from_tars(&client, &urls)?)));
        Ok(())
    })
}

/// Loads what azt_dataset_save_manifest() saved: the same entries under the same indices, whatever came and went
/// meanwhile. A SAS in `url` is used for the entries too, as far as it reaches: the same container, or all of the
/// account with a SAS of the account. The client's credential goes to `url`'s own host, to Azure Storage and to the
/// endpoint of its connection string: a manifest that names blobs elsewhere is AZT_STATUS_INVALID_ARGUMENT, unless the
/// client has nothing to send there, as an anonymous one.
///
/// A damaged manifest is AZT_STATUS_CORRUPT. The caller frees the dataset with azt_dataset_free(). Thread-safe. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_from_manifest(
    client: *const azt_client,
    url: *const c_char,
    out_dataset: *mut *mut azt_dataset,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, client, url) = unsafe {
            (handle::out_handle(out_dataset, "out_dataset")?, client_or_default(client)?, handle::text(url, "url")?)
        };
        out.set(handle::into_raw(azt_dataset(Dataset::from_manifest(&client, url)?)));
        Ok(())
    })
}

/// Saves the dataset's names, sizes, ETags and places as one blob, so that many processes share one listing and agree
/// on what each index means. No SAS goes into it. The blob is replaced as a whole, or not at all.
///
/// Thread-safe. Blocks. Fails as azt_blob_close() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_save_manifest(
    dataset: *const azt_dataset,
    url: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (dataset, url) = unsafe { (handle::borrow(dataset, "dataset")?, handle::text(url, "url")?) };
        dataset.0.save_manifest(url)
    })
}

/// Cancels a dataset: what is running on it, and on the blobs and streams that were opened from it, ends within 100 ms,
/// and this and all later calls that fetch give AZT_STATUS_CANCELLED. Names, sizes and samples stay. For good.
///
/// From any thread, beside any call but azt_dataset_free(). Does not block. NULL is allowed. To cancel
/// azt_dataset_list() and its like, which have no dataset yet, cancel their client: azt_client_cancel().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_cancel(dataset: *const azt_dataset) {
    total((), || {
        // SAFETY: the caller passes NULL or a live dataset.
        if let Some(dataset) = unsafe { dataset.as_ref() } {
            dataset.0.cancel();
        }
    });
}

/// Frees a dataset; samples, blobs and streams that came from it stay. NULL is allowed.
///
/// Does no network I/O. Allowed from static destructors and in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_free(dataset: *mut azt_dataset) {
    // SAFETY: the caller passes NULL or a dataset that it owns.
    total((), || unsafe { handle::free(dataset) });
}
