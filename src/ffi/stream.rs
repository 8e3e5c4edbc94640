//! `azt_stream`: an iterable dataset.

use std::ffi::c_char;

use super::boundary::{call, total};
use super::client::{azt_client, client_or_default};
use super::dataset_make::azt_dataset;
use super::error::azt_error;
use super::handle;
use super::sample::azt_sample;
use super::status::azt_status;
use crate::stream::Stream;

/// An iterable dataset: samples one after the other, listed while they are read and fetched ahead within the memory
/// limit. Shard `i` of `n` gives out the blobs `i`, `i + n`, `i + 2n` … of the listing.
///
/// Thread-safe: all functions but azt_stream_free() may be called from many threads at once, and each sample goes to
/// one of them. In a forked child a stream begins with its first sample, or where it was resumed. Shards that list a
/// container on their own agree only while it does not change: to share one listing, use azt_stream_from_dataset()
/// with a manifest.
///
/// To make one: azt_stream_list(), azt_stream_from_urls(), azt_stream_from_dataset(); before its first sample:
/// azt_stream_set_shuffle(), azt_stream_set_lazy(). Then azt_stream_next(), azt_stream_reset(), azt_stream_cursor(),
/// azt_stream_resume(), azt_stream_cancel(), azt_stream_free().
pub struct azt_stream(Stream);

/// Streams the blobs of a container whose names begin with `prefix`; NULL or "" for all. Stubs of directories are
/// left out.
///
/// Sends nothing: a container that is missing shows in azt_stream_next(). The caller frees the stream with
/// azt_stream_free(). A `shard_index` of `shard_count` or more is AZT_STATUS_INVALID_ARGUMENT. Thread-safe, does not
/// block.
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
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, client, url, prefix) = unsafe {
            (
                handle::out_handle(out_stream, "out_stream")?,
                client_or_default(client)?,
                handle::text(container_url, "container_url")?,
                handle::optional_text(prefix, "prefix")?,
            )
        };
        out.set(handle::into_raw(azt_stream(Stream::list(&client, url, prefix, shard_index, shard_count)?)));
        Ok(())
    })
}

/// Streams the blobs of `count` URLs, in this order; see azt_dataset_from_urls().
///
/// Sends nothing. The caller frees the stream with azt_stream_free(). Thread-safe, does not block.
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
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, client, urls) = unsafe {
            (
                handle::out_handle(out_stream, "out_stream")?,
                client_or_default(client)?,
                handle::texts(urls, count, "urls")?,
            )
        };
        out.set(handle::into_raw(azt_stream(Stream::from_urls(&client, &urls, shard_index, shard_count)?)));
        Ok(())
    })
}

/// Streams the entries of a dataset, in its order: ranges, members of archives, or one listing for many processes.
///
/// Sends nothing. The dataset may be freed first. The caller frees the stream with azt_stream_free(). Thread-safe,
/// does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_from_dataset(
    dataset: *const azt_dataset,
    shard_index: usize,
    shard_count: usize,
    out_stream: *mut *mut azt_stream,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, dataset) =
            unsafe { (handle::out_handle(out_stream, "out_stream")?, handle::borrow(dataset, "dataset")?) };
        out.set(handle::into_raw(azt_stream(Stream::from_dataset(&dataset.0, shard_index, shard_count)?)));
        Ok(())
    })
}

/// Shuffles the names through a buffer of `buffer_names`, after sharding: the buffer is filled, one of it is given out
/// at random, the next name takes its place. A buffer of all names shuffles them wholly. The same `seed` gives the same
/// order, and each epoch has an order of its own.
///
/// Before the first azt_stream_next() or azt_stream_resume(); later it is AZT_STATUS_UNSUPPORTED. Thread-safe, does not
/// block.
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

/// Gives out samples without their bytes, and fetches none: azt_sample_open() reads what is needed of each.
///
/// Before the first azt_stream_next() or azt_stream_resume(); later it is AZT_STATUS_UNSUPPORTED. Thread-safe, does not
/// block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_set_lazy(stream: *mut azt_stream, error: *mut *mut azt_error) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        unsafe { handle::borrow(stream, "stream")? }.0.set_lazy()
    })
}

/// The next sample, or NULL at the end of the epoch, again and again.
///
/// A container that is missing is AZT_STATUS_NOT_FOUND. A sample that failed for good (missing, denied) is reported
/// once and passed: its position is left out. One that failed for now (timeout, throttled) is tried again by the next
/// call, and so is the listing. The caller frees the sample with azt_sample_free(). Thread-safe. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_next(
    stream: *const azt_stream,
    out_sample: *mut *mut azt_sample,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, stream) =
            unsafe { (handle::out_handle(out_sample, "out_sample")?, handle::borrow(stream, "stream")?) };
        if let Some(sample) = stream.0.next()? {
            out.set(azt_sample::into_raw(sample));
        }
        Ok(())
    })
}

/// Begins the next epoch, also before the end of this one: a container is listed again. A new stream is in epoch 0.
///
/// Thread-safe. Sends nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_reset(stream: *const azt_stream, error: *mut *mut azt_error) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        unsafe { handle::borrow(stream, "stream")? }.0.reset()
    })
}

/// Writes where the stream is into `buffer`: one line of ASCII text with a NUL at its end, for azt_stream_resume().
/// `after_position` is the position of the last sample that was consumed (azt_sample_position()), which is less than
/// what threads may have fetched; UINT64_MAX means the last one that was given out. Positions go back 65,536.
///
/// `out_size` is the size with the NUL. A buffer that is too small is AZT_STATUS_BUFFER_TOO_SMALL, and `out_size` the
/// size needed; a capacity of 0 asks for just that. A cursor has some 200 bytes, of a container some 700, with a shuffle
/// 11 more for each name in its buffer, with several shards of a container up to 11 more for each name of the page. A
/// position that was not given out, or too long ago: AZT_STATUS_OUT_OF_RANGE.
///
/// Thread-safe. Sends nothing.
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

/// Goes on where a cursor was taken, in this process or another one: the samples that were still to come then come now,
/// in the same order and with the same positions. A container that grew meanwhile neither repeats nor loses what was
/// there before; what was deleted is left out. Of several shards that holds for what each had listed (pages have 5,000
/// names): beyond, they count anew, and agree if nothing was added or deleted there.
///
/// The place is found by the names around it, 16 on either side where they are known, in whatever order the service
/// lists. If all of them were deleted, the stream goes on with the beginning of its page of the listing: nothing is
/// lost, and what was taken out of that page and is still there comes once more. The log says so.
///
/// The stream must have the same listing (container and prefix, URLs, or entries of the dataset), shard and shuffle, or
/// it is AZT_STATUS_INVALID_ARGUMENT, and so is a damaged cursor or one of an earlier version of the library that this
/// one cannot read. Thread-safe. Sends nothing.
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

/// Cancels a stream: what is running on it ends within 100 ms, and this and all later calls of azt_stream_next() give
/// AZT_STATUS_CANCELLED. Samples stay, and azt_stream_cursor() still tells the place. For good.
///
/// From any thread, beside any call but azt_stream_free(). Does not block. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_cancel(stream: *const azt_stream) {
    total((), || {
        // SAFETY: the caller passes NULL or a live stream.
        if let Some(stream) = unsafe { stream.as_ref() } {
            stream.0.cancel();
        }
    });
}

/// Frees a stream; samples that came from it stay. NULL is allowed.
///
/// Does no network I/O. Allowed from static destructors and in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_stream_free(stream: *mut azt_stream) {
    // SAFETY: the caller passes NULL or a stream that it owns.
    total((), || unsafe { handle::free(stream) });
}
