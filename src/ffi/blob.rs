//! What can be done with an open blob.

use std::ffi::{c_char, c_void};
use std::io::SeekFrom;

use super::blob_open::{Kind, azt_blob};
use super::boundary::{call, total};
use super::error::azt_error;
use super::handle::{self, c_string};
use super::status::azt_status;
use crate::error::Error;

/// Reads up to `length` bytes at the current position, which moves on. Fewer come only at the end, none past it.
///
/// The bytes go straight into `buffer`; large reads are split into parallel ranges. One thread at a time.
/// Blocks. AZT_STATUS_MODIFIED when the blob was replaced since it was opened. On failure the position stays,
/// and what `buffer` holds is not defined.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_read(
    blob: *mut azt_blob,
    buffer: *mut c_void,
    length: usize,
    out_read: *mut usize,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (blob, to, out) = unsafe {
            (
                handle::borrow(blob, "blob")?,
                handle::destination(buffer, length, "buffer")?,
                handle::out(out_read, "out_read")?,
            )
        };
        out.set(blob.reader("be read")?.read_into(to)?);
        Ok(())
    })
}

/// Reads up to `length` bytes at `offset`, leaving the position alone. Fewer come only at the end.
///
/// Any number of threads at once. Otherwise like azt_blob_read(), but it never fetches more than it was asked
/// for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_read_at(
    blob: *const azt_blob,
    offset: u64,
    buffer: *mut c_void,
    length: usize,
    out_read: *mut usize,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (blob, to, out) = unsafe {
            (
                handle::borrow(blob, "blob")?,
                handle::destination(buffer, length, "buffer")?,
                handle::out(out_read, "out_read")?,
            )
        };
        out.set(blob.reader("be read")?.read_at_into(offset, to)?);
        Ok(())
    })
}

/// Moves a reader's position by `offset` from the start (`whence` 0), the current position (1) or the end (2).
/// Past the end is allowed; before the start is AZT_STATUS_INVALID_ARGUMENT, and nothing moves.
///
/// `out_position` may be NULL. One thread at a time. Sends nothing, and forgets nothing that was fetched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_seek(
    blob: *mut azt_blob,
    offset: i64,
    whence: i32,
    out_position: *mut u64,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let blob = unsafe { handle::borrow(blob, "blob")? };
        let reader = blob.reader("seek")?;
        let to = match whence {
            0 => {
                SeekFrom::Start(u64::try_from(offset).map_err(|_| {
                    Error::invalid(format!("{}: cannot seek to {offset}, before the start", reader.url()))
                })?)
            }
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            other => {
                return Err(Error::invalid(format!("whence is {other}; it must be 0 (set), 1 (current) or 2 (end)")));
            }
        };
        let position = reader.seek(to)?;
        if !out_position.is_null() {
            // SAFETY: the caller passes NULL or a pointer that can be written.
            unsafe { out_position.write(position) };
        }
        Ok(())
    })
}

/// A reader's position, or how many bytes were written to a writer.
///
/// Thread-safe. Sends nothing. AZT_STATUS_UNSUPPORTED for a reader that was closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_tell(
    blob: *const azt_blob,
    out_position: *mut u64,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (blob, out) = unsafe { (handle::borrow(blob, "blob")?, handle::out(out_position, "out_position")?) };
        out.set(match &blob.kind {
            Kind::Reader(reader) => reader.position()?,
            Kind::Writer(writer) => writer.position()?,
        });
        Ok(())
    })
}

/// The size in bytes of the version that a reader opened, or of the part of one.
///
/// Thread-safe. Sends nothing. AZT_STATUS_UNSUPPORTED for a writer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_size(
    blob: *const azt_blob,
    out_size: *mut u64,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (blob, out) = unsafe { (handle::borrow(blob, "blob")?, handle::out(out_size, "out_size")?) };
        out.set(blob.reader("tell its size")?.size());
        Ok(())
    })
}

/// The ETag of the version that a reader opened, or that a writer published; "" for a writer not closed yet,
/// and for NULL. Quoted, as the service gives it.
///
/// The text lives as long as the blob. Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_etag(blob: *const azt_blob) -> *const c_char {
    // SAFETY: the caller passes NULL or a live blob.
    total(c"".as_ptr(), || match unsafe { blob.as_ref() } {
        None => c"".as_ptr(),
        Some(blob) => blob.etag.get().map_or(c"".as_ptr(), |etag| etag.as_ptr()),
    })
}

/// The blob's URL without its query, so without a SAS; "" for NULL.
///
/// The text lives as long as the blob. Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_url(blob: *const azt_blob) -> *const c_char {
    // SAFETY: the caller passes NULL or a live blob.
    total(c"".as_ptr(), || unsafe { blob.as_ref() }.map_or(c"".as_ptr(), |blob| blob.url.as_ptr()))
}

/// Makes a writer publish only over the version with this ETag: if another is there at azt_blob_close(), that
/// fails with AZT_STATUS_MODIFIED. A job that was evicted but still runs cannot overwrite its successor's work.
///
/// One thread at a time. Sends nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_set_if_match(
    blob: *mut azt_blob,
    etag: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (blob, etag) = unsafe { (handle::borrow(blob, "blob")?, handle::text(etag, "etag")?) };
        blob.writer("publish")?.set_if_match(etag)
    })
}

/// Writes all of `length` bytes, or fails for good: then each later call gives the same error, and nothing
/// is published.
///
/// Small writes are copied and sent in the background; large ones (from four blocks on) are sent from `data` itself.
/// One thread at a time. Blocks while as much is under way as the limits allow. A failure in the background shows in a
/// later write, in azt_blob_flush() or in azt_blob_close(). AZT_STATUS_UNSUPPORTED after the close,
/// AZT_STATUS_INVALID_ARGUMENT for more than the blocks that are left can hold.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_write(
    blob: *mut azt_blob,
    data: *const c_void,
    length: usize,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (blob, data) = unsafe { (handle::borrow(blob, "blob")?, handle::bytes(data, length, "data")?) };
        blob.writer("be written")?.write_all(data)
    })
}

/// Returns when everything written so far is staged at the service. Nothing is published. Each flush ends a
/// block, of which a blob can have 50,000. For a reader it does nothing.
///
/// One thread at a time. Blocks. Fails as azt_blob_write() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_flush(blob: *mut azt_blob, error: *mut *mut azt_error) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let blob = unsafe { handle::borrow(blob, "blob")? };
        match &blob.kind {
            Kind::Reader(_) => Ok(()),
            Kind::Writer(writer) => writer.flush(),
        }
    })
}

/// Publishes what was written, at once and as a whole, or, for a reader, ends reading. Called again it gives
/// the same answer. The handle stays until azt_blob_free().
///
/// A writer closed without a write publishes an empty blob. When this fails the old blob is as it was, unless the
/// message says that the outcome is unknown because the service's answer was lost, or was an error that may stand for
/// a success (HTTP 408, 500, 502, 503, 504): then the blob is wholly old or wholly new. AZT_STATUS_ALREADY_EXISTS in AZT_BLOB_MODE_CREATE, AZT_STATUS_MODIFIED when another version is there
/// than azt_blob_set_if_match() has named, or another writer was faster. One thread at a time. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_close(blob: *mut azt_blob, error: *mut *mut azt_error) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let blob = unsafe { handle::borrow(blob, "blob")? };
        match &blob.kind {
            Kind::Reader(reader) => reader.close(),
            Kind::Writer(writer) => {
                writer.close()?;
                blob.etag.get_or_init(|| c_string(writer.etag()));
                Ok(())
            }
        }
    })
}
