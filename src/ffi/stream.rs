//! `azt_stream`: an iterable dataset.

use std::ffi::c_char;

use super::boundary::{call, call_for_handle, call_for_optional_handle};
use super::client::{azt_client, client_or_default};
use super::dataset::azt_dataset;
use super::error::azt_error;
use super::handle::{self, read};
use super::sample::azt_sample;
use super::status::azt_status;
use crate::stream::Stream;

/// An iterable dataset: samples one after the other. A container is listed while the stream is read, and samples are
/// read ahead within the memory limit. Shard `i` of `n` gives the blobs `i`, `i + n`, `i + 2n` … of the listing.
///
/// Shards that list a container on their own agree only while the container does not change. To share one listing, use
/// azt_stream_from_dataset() with a dataset that was loaded from a manifest.
///
/// Thread-safe: many threads may call all of its functions except azt_stream_free() at once, and each sample goes to
/// one of them. In a forked child, a stream starts at its first sample, or at the cursor from which it was resumed.
///
/// To create: azt_stream_list(), azt_stream_from_urls(), azt_stream_from_dataset(). Before the first sample:
/// azt_stream_set_shuffle(), azt_stream_set_lazy(). Samples: azt_stream_next(), azt_stream_reset(),
/// azt_stream_cursor(), azt_stream_resume(). To end: azt_stream_cancel(), azt_stream_free().
pub struct azt_stream(Stream);

/// Creates a stream of the blobs in a container whose names begin with `prefix`; NULL or "" means all. Placeholders of
/// directories (in accounts with a hierarchical namespace) are left out.
///
/// Sends no request: the container is listed by azt_stream_next(), which also returns the error if it does not exist.
///
/// The caller frees the stream with azt_stream_free(). Thread-safe. Does not block. A `shard_index` that is not less
/// than `shard_count`: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_list(
    client: *const azt_client,
    container_url: *const c_char,
    prefix: *const c_char,
    shard_index: usize,
    shard_count: usize,
    out_stream: *mut *mut azt_stream,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_stream, "out_stream", error, || {
            let (client, url) = (client_or_default(client)?, handle::text(container_url, "container_url")?);
            let prefix = handle::optional_text(prefix, "prefix")?;
            Stream::list(&client, url, prefix, shard_index, shard_count).map(azt_stream)
        })
    }
}

/// Creates a stream of the blobs at `count` URLs, in this order. The URLs may name several containers, and each may
/// have its own SAS, snapshot or version.
///
/// Sends no request. The caller frees the stream with azt_stream_free(). Thread-safe. Does not block. A bad URL, or a
/// `shard_index` that is not less than `shard_count`: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_from_urls(
    client: *const azt_client,
    urls: *const *const c_char,
    count: usize,
    shard_index: usize,
    shard_count: usize,
    out_stream: *mut *mut azt_stream,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_stream, "out_stream", error, || {
            let (client, urls) = (client_or_default(client)?, handle::texts(urls, count, "urls")?);
            Stream::from_urls(&client, &urls, shard_index, shard_count).map(azt_stream)
        })
    }
}

/// Creates a stream of the entries of a dataset, in their order: for ranges, for files in tar archives, or to share one
/// listing between processes.
///
/// Sends no request. The dataset may be freed first. The caller frees the stream with azt_stream_free(). Thread-safe.
/// Does not block. A `shard_index` that is not less than `shard_count`: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_from_dataset(
    dataset: *const azt_dataset,
    shard_index: usize,
    shard_count: usize,
    out_stream: *mut *mut azt_stream,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_stream, "out_stream", error, || {
            let dataset = handle::borrow(dataset, "dataset")?;
            Stream::from_dataset(&dataset.0, shard_index, shard_count).map(azt_stream)
        })
    }
}

/// Shuffles the names of a stream, after sharding, through a buffer of `buffer_names` names: the stream fills the
/// buffer, takes a name out at random, and puts the next one in its place. A buffer for all names gives a full shuffle.
/// The same `seed` gives the same order. Each epoch has another order.
///
/// Only before the first azt_stream_next() or azt_stream_resume(); later: AZT_STATUS_UNSUPPORTED. Thread-safe. Does not
/// block. A buffer of 0 names: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_set_shuffle(
    stream: *mut azt_stream,
    buffer_names: usize,
    seed: u64,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        unsafe { handle::borrow(stream, "stream")? }.0.set_shuffle(buffer_names, seed)
    })
}

/// Makes a stream lazy: its samples have no bytes, and nothing is read ahead. azt_sample_open() opens a sample to read
/// the parts that are needed.
///
/// Only before the first azt_stream_next() or azt_stream_resume(); later: AZT_STATUS_UNSUPPORTED. Thread-safe. Does not
/// block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_set_lazy(stream: *mut azt_stream, error: *mut *mut azt_error) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        unsafe { handle::borrow(stream, "stream")? }.0.set_lazy()
    })
}

/// Returns the next sample of a stream. At the end of the epoch the call succeeds and `*out_sample` is NULL; later
/// calls do the same until azt_stream_reset().
///
/// The caller frees the sample with azt_sample_free(). Thread-safe: each sample goes to one caller. Blocks.
///
/// A container that does not exist: AZT_STATUS_NOT_FOUND. A sample with a permanent failure (missing, not permitted) is
/// an error once; the next call continues after it, and its position is not used. A sample, or a page of the listing,
/// with a temporary failure (timeout, throttled, cancelled) is tried again by the next call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_next(
    stream: *const azt_stream,
    out_sample: *mut *mut azt_sample,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_optional_handle(out_sample, "out_sample", error, || {
            Ok(handle::borrow(stream, "stream")?.0.next()?.map(azt_sample::new))
        })
    }
}

/// Starts the next epoch of a stream, even before the end of the current one. A container is listed again. A new stream
/// is in epoch 0.
///
/// Thread-safe. Sends no request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_reset(stream: *const azt_stream, error: *mut *mut azt_error) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        unsafe { handle::borrow(stream, "stream")? }.0.reset()
    })
}

/// Writes a cursor for azt_stream_resume() to `buffer`, which has `capacity` bytes: one line of ASCII text with a NUL
/// at its end. `*out_size` is its size in bytes with the NUL.
///
/// The cursor is the place after the sample with position `after_position` (azt_sample_position()). Pass the last
/// sample that the program has used, because threads may have fetched more; UINT64_MAX means the last sample that the
/// stream has returned. A cursor can be taken for the last 65,536 positions.
///
/// A cursor has about 200 bytes, and about 700 for a container; 11 more for each name in a shuffle buffer; with several
/// shards of a container, up to 11 more for each name of a page of the listing.
///
/// Thread-safe. Sends no request. A buffer that is too small: AZT_STATUS_BUFFER_TOO_SMALL, and `*out_size` is the size
/// that is needed; a capacity of 0 asks for this size. A position that was not returned yet, or is too old:
/// AZT_STATUS_OUT_OF_RANGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_cursor(
    stream: *const azt_stream,
    after_position: u64,
    buffer: *mut c_char,
    capacity: usize,
    out_size: *mut usize,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (stream, buffer, out) = unsafe {
            (
                handle::borrow(stream, "stream")?,
                handle::destination(buffer.cast(), capacity, "buffer")?,
                handle::out(out_size, "out_size")?,
            )
        };
        let after = (after_position != u64::MAX).then_some(after_position);
        handle::copy_text(&stream.0.cursor(after)?, buffer, out)
    })
}

/// Resumes a stream at a cursor, from this process or another one: the samples after the cursor follow in the same
/// order and with the same positions.
///
/// If blobs were added to the container since then, no earlier blob is repeated or lost; deleted blobs are left out.
/// With several shards, this holds for the pages (5,000 names each) that each shard had listed. After these pages, the
/// shards continue with the current listing; they agree if nothing was added or deleted there.
///
/// The stream finds the place by the names around it, up to 16 on each side. It does not depend on the order in which
/// the service lists. If all of these blobs were deleted, the stream continues at the start of the page: no blob is
/// lost, but blobs of this page may be repeated. The log then has a message.
///
/// Thread-safe. Sends no request. A cursor of a stream with another listing (container and prefix, URLs, or dataset),
/// shard or shuffle; a damaged cursor; a cursor of an earlier version of the library that this version cannot read:
/// AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_resume(
    stream: *const azt_stream,
    cursor: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (stream, cursor) = unsafe { (handle::borrow(stream, "stream")?, handle::text(cursor, "cursor")?) };
        stream.0.resume(cursor)
    })
}

/// Cancels a stream for good. A running azt_stream_next() ends within 100 ms with AZT_STATUS_CANCELLED, and so does
/// every later one. Samples stay valid, and azt_stream_cursor() still returns the place.
///
/// Any thread may call it, during any other call on the stream except azt_stream_free(). Does not block. NULL is
/// allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_cancel(stream: *const azt_stream) {
    // SAFETY: the caller passes NULL or a live stream.
    unsafe { read(stream, (), |stream| stream.0.cancel()) };
}

/// Frees a stream. Samples that came from it stay valid. NULL is allowed.
///
/// Does no network I/O. May be called from static destructors and in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_free(stream: *mut azt_stream) {
    // SAFETY: the caller passes NULL or a stream that it owns.
    unsafe { handle::free(stream) };
}
