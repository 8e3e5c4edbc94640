//! `azt_dataset`: the handle, and how it is created, saved and freed.

use std::ffi::c_char;

use super::boundary::{call, call_for_handle};
use super::client::{azt_client, client_or_default};
use super::error::azt_error;
use super::handle::{self, read};
use super::status::azt_status;
use crate::dataset::{BlobRange, Dataset};

/// A map-style dataset: blobs, or parts of blobs, by index from 0. Its entries are listed when it is created and never
/// change.
///
/// Thread-safe: many threads may call all of its functions except azt_dataset_free() at once. Works in a forked child,
/// with connections of its own.
///
/// To create and save: azt_dataset_list(), azt_dataset_from_urls(), azt_dataset_from_ranges(), azt_dataset_from_tars(),
/// azt_dataset_from_manifest(), azt_dataset_save_manifest(), azt_dataset_serialize(), azt_dataset_deserialize(). Entries: azt_dataset_len(), azt_dataset_blob_name(),
/// azt_dataset_container_name(), azt_dataset_blob_size(), azt_dataset_url(). Bytes: azt_dataset_get(),
/// azt_dataset_get_batch(), azt_dataset_get_into(), azt_dataset_get_batch_into(), azt_dataset_prefetch(),
/// azt_dataset_open(). To end: azt_dataset_cancel(), azt_dataset_free().
pub struct azt_dataset(pub(super) Dataset);

/// Creates a dataset of the blobs in a container whose names begin with `prefix`; NULL or "" means all. The entries are
/// in the service's order. Placeholders of directories (in accounts with a hierarchical namespace) are left out. If
/// there are no such blobs, the dataset is empty.
///
/// Sends one GET for each 5,000 blobs. The caller frees the dataset with azt_dataset_free(). Thread-safe. Blocks. A
/// container that does not exist: AZT_STATUS_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_list(
    client: *const azt_client,
    container_url: *const c_char,
    prefix: *const c_char,
    out_dataset: *mut *mut azt_dataset,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_dataset, "out_dataset", error, || {
            let (client, url) = (client_or_default(client)?, handle::text(container_url, "container_url")?);
            Dataset::list(&client, url, handle::optional_text(prefix, "prefix")?).map(azt_dataset)
        })
    }
}

/// Creates a dataset of the blobs at `count` URLs, in this order. The URLs may name several containers, and each may
/// have its own SAS, snapshot or version.
///
/// Sends no request. The caller frees the dataset with azt_dataset_free(). Thread-safe. Does not block. A bad URL fails
/// the whole call with AZT_STATUS_INVALID_ARGUMENT; the message names it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_from_urls(
    client: *const azt_client,
    urls: *const *const c_char,
    count: usize,
    out_dataset: *mut *mut azt_dataset,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_dataset, "out_dataset", error, || {
            let (client, urls) = (client_or_default(client)?, handle::texts(urls, count, "urls")?);
            Dataset::from_urls(&client, &urls).map(azt_dataset)
        })
    }
}

/// Creates a dataset of `count` parts of blobs, for samples that are packed into large blobs of the program's own
/// format. Entry i is the `lengths[i]` bytes from byte `offsets[i]` on of the blob at `urls[i]`.
///
/// Sends no request. The caller frees the dataset with azt_dataset_free(). Thread-safe. Does not block. A bad URL, or a
/// part that reaches UINT64_MAX: AZT_STATUS_INVALID_ARGUMENT. A part past the end of its blob: AZT_STATUS_OUT_OF_RANGE
/// when it is read.
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
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_dataset, "out_dataset", error, || {
            let (client, urls) = (client_or_default(client)?, handle::texts(urls, count, "urls")?);
            let (offsets, lengths) =
                (handle::array(offsets, count, "offsets")?, handle::array(lengths, count, "lengths")?);
            let parts = urls.into_iter().zip(offsets.iter().zip(lengths));
            let ranges: Vec<_> =
                parts.map(|(url, (&offset, &length))| BlobRange { url: url.to_owned(), offset, length }).collect();
            Dataset::from_ranges(&client, &ranges).map(azt_dataset)
        })
    }
}

/// Creates a dataset of the regular files in `count` tar archives (ustar, GNU, pax), in the order of the archives. The
/// name of an entry is its path in the archive, its URL is that of the archive. In names that are not UTF-8, the
/// invalid bytes become U+FFFD.
///
/// The archives are indexed during this call, in parallel, by ranged reads: files of more than 1 MiB are skipped,
/// smaller ones are read. To share the index with other processes, save a manifest (azt_dataset_save_manifest()).
///
/// The caller frees the dataset with azt_dataset_free(). Thread-safe. Blocks. A damaged or compressed archive:
/// AZT_STATUS_CORRUPT (a compressed one cannot be read by ranges). An archive that is replaced later:
/// AZT_STATUS_MODIFIED when an entry is read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_from_tars(
    client: *const azt_client,
    urls: *const *const c_char,
    count: usize,
    out_dataset: *mut *mut azt_dataset,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_dataset, "out_dataset", error, || {
            let (client, urls) = (client_or_default(client)?, handle::texts(urls, count, "urls")?);
            Dataset::from_tars(&client, &urls).map(azt_dataset)
        })
    }
}

/// Creates a dataset from a manifest that azt_dataset_save_manifest() saved. It has the same entries at the same
/// indices, even if blobs were added or deleted since then.
///
/// A SAS in `url` is also used for the entries: for those in the same container, or in the whole account if it is an
/// account SAS. The client's credential is sent only to the host of `url`, to Azure Storage, and to the endpoint of the
/// client's connection string.
///
/// The caller frees the dataset with azt_dataset_free(). Thread-safe. Blocks. A damaged manifest: AZT_STATUS_CORRUPT. A
/// manifest with blobs on other hosts: AZT_STATUS_INVALID_ARGUMENT, unless the client has no credential that it would
/// send there (for example an anonymous client).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_from_manifest(
    client: *const azt_client,
    url: *const c_char,
    out_dataset: *mut *mut azt_dataset,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_dataset, "out_dataset", error, || {
            let client = client_or_default(client)?;
            Dataset::from_manifest(&client, handle::text(url, "url")?).map(azt_dataset)
        })
    }
}

/// Saves a dataset as a manifest: one blob with the names, sizes, ETags and locations of its entries. Other processes
/// load it with azt_dataset_from_manifest(), so that all share one listing and the same indices. The manifest has no
/// SAS.
///
/// Thread-safe. Blocks. The blob at `url` is replaced as a whole. On failure it is unchanged, unless the message says
/// that the outcome is unknown: then it is either the old or the new one.
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

/// Writes a dataset to `buffer`, which has `capacity` bytes, for another process of the same program, such as a worker
/// that loads samples. azt_dataset_deserialize() makes the same dataset of these bytes there, without a listing and
/// without an index of archives. `*out_size` is the number of bytes; there is no NUL at their end.
///
/// **The bytes contain each SAS of the dataset's URLs**: keep them secret, and do not store them. For that there are
/// manifests (azt_dataset_save_manifest()). The bytes do not contain the client, its credential or its options.
///
/// Thread-safe. Sends no request, and takes about a tenth of a second for a million entries. A buffer that is too small:
/// AZT_STATUS_BUFFER_TOO_SMALL, and `*out_size` is the size that is needed; a capacity of 0 asks for this size. If a
/// read makes a size known meanwhile, the next call may need another size, and return AZT_STATUS_BUFFER_TOO_SMALL
/// again. On failure the content of `buffer` is undefined.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_serialize(
    dataset: *const azt_dataset,
    buffer: *mut c_char,
    capacity: usize,
    out_size: *mut usize,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (dataset, mut buffer, out) = unsafe {
            (
                handle::borrow(dataset, "dataset")?,
                handle::destination(buffer.cast(), capacity, "buffer")?,
                handle::out(out_size, "out_size")?,
            )
        };
        let size = dataset.0.serialize_into(&mut buffer)?;
        out.set(size);
        handle::check_fits(size, capacity)
    })
}

/// Creates a dataset from the `size` bytes at `data` that azt_dataset_serialize() has written. It has the same entries
/// at the same indices: names, sizes, ETags, places in archives, and for each URL its own SAS, snapshot or version.
///
/// Pass only bytes of this program: other than with a manifest, the client's credential is sent to every host that they
/// name. Both processes should use the same version of the library.
///
/// The caller frees the dataset with azt_dataset_free(). Thread-safe. Sends no request, and takes about a quarter of a
/// second for a million entries. Damaged bytes, or bytes of another version of the format: AZT_STATUS_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_deserialize(
    client: *const azt_client,
    data: *const c_char,
    size: usize,
    out_dataset: *mut *mut azt_dataset,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_dataset, "out_dataset", error, || {
            let (client, data) = (client_or_default(client)?, handle::bytes(data.cast(), size, "data")?);
            Dataset::deserialize(&client, data).map(azt_dataset)
        })
    }
}

/// Cancels a dataset for good. Every running call on it, and on blobs and streams that were opened from it, ends within
/// 100 ms with AZT_STATUS_CANCELLED, and so does every later call that fetches. Names, sizes and samples stay valid.
///
/// Any thread may call it, during any other call on the dataset except azt_dataset_free(). Does not block. NULL is
/// allowed. To cancel a function that creates a dataset, such as azt_dataset_list(), cancel its client with
/// azt_client_cancel().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_cancel(dataset: *const azt_dataset) {
    // SAFETY: the caller passes NULL or a live dataset.
    unsafe { read(dataset, (), |dataset| dataset.0.cancel()) };
}

/// Frees a dataset. Samples, blobs and streams that came from it stay valid. NULL is allowed.
///
/// Does no network I/O. May be called from static destructors and in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_dataset_free(dataset: *mut azt_dataset) {
    // SAFETY: the caller passes NULL or a dataset that it owns.
    unsafe { handle::free(dataset) };
}
