//! Functions of `azt_blob` for readers.

use std::ffi::c_void;
use std::io::SeekFrom;

use super::blob::azt_blob;
use super::boundary::call;
use super::error::azt_error;
use super::handle;
use super::status::azt_status;
use crate::blob::BlobReader;
use crate::error::{Error, Result};
use crate::sys::caller_buffer::CallerBuffer;

/// Runs a call that reads into the caller's buffer.
///
/// # Safety `blob` is NULL or a live blob; `buffer` is NULL or valid for writes of `length` bytes and `out_read` is
/// NULL or valid for a write until the call returns.
unsafe fn read_into(
    blob: *const azt_blob,
    buffer: *mut c_void,
    length: usize,
    out_read: *mut usize,
    error: *mut *mut azt_error,
    read: impl FnOnce(&BlobReader, CallerBuffer<'_>) -> Result<usize>,
) -> azt_status {
    call(error, || {
        // SAFETY: by the contract above.
        let (blob, to, out) = unsafe {
            (
                handle::borrow(blob, "blob")?,
                handle::destination(buffer, length, "buffer")?,
                handle::out(out_read, "out_read")?,
            )
        };
        out.set(read(blob.reader("be read")?, to)?);
        Ok(())
    })
}

/// Reads up to `length` bytes at a reader's position into `buffer`, and advances the position. `*out_read` is the
/// number of bytes read. It is less than `length` only at the end of the blob, and 0 at or past the end.
///
/// The bytes are received straight into `buffer`. A large read is split into ranges that are fetched in parallel.
///
/// One thread at a time. Blocks. A blob that was replaced since it was opened: AZT_STATUS_MODIFIED. A writer or a
/// closed reader: AZT_STATUS_UNSUPPORTED. On failure the position does not change, and the content of `buffer` is
/// undefined.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_read(
    blob: *mut azt_blob,
    buffer: *mut c_void,
    length: usize,
    out_read: *mut usize,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { read_into(blob, buffer, length, out_read, error, BlobReader::read_into) }
}

/// Reads up to `length` bytes at `offset` of a reader's blob into `buffer`. The reader's position is neither used nor
/// changed. `*out_read` is the number of bytes read. It is less than `length` only at the end of the blob, and 0 at or
/// past the end.
///
/// The bytes are received straight into `buffer`. A large read is split into ranges that are fetched in parallel. There
/// is no read-ahead: only the bytes that are asked for are fetched.
///
/// Thread-safe. Blocks. A blob that was replaced since it was opened: AZT_STATUS_MODIFIED. A writer or a closed reader:
/// AZT_STATUS_UNSUPPORTED. On failure the content of `buffer` is undefined.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_read_at(
    blob: *const azt_blob,
    offset: u64,
    buffer: *mut c_void,
    length: usize,
    out_read: *mut usize,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { read_into(blob, buffer, length, out_read, error, |reader, buffer| reader.read_at_into(offset, buffer)) }
}

/// A `whence` of azt_blob_seek(): the offset counts from the start of the blob.
pub const AZT_SEEK_SET: i32 = 0;
/// A `whence` of azt_blob_seek(): the offset counts from the current position.
pub const AZT_SEEK_CURRENT: i32 = 1;
/// A `whence` of azt_blob_seek(): the offset counts from the end of the blob.
pub const AZT_SEEK_END: i32 = 2;

/// Moves a reader's position to `offset` bytes from the start (AZT_SEEK_SET), from the current position
/// (AZT_SEEK_CURRENT) or from the end (AZT_SEEK_END). A position past the end is allowed. `*out_position` is the new
/// position; `out_position` may be NULL.
///
/// One thread at a time. Sends no request, and keeps the data that was read ahead. A position before the start, or an
/// unknown `whence`: AZT_STATUS_INVALID_ARGUMENT. A writer or a closed reader: AZT_STATUS_UNSUPPORTED. On failure the
/// position does not change.
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
            AZT_SEEK_SET => {
                SeekFrom::Start(u64::try_from(offset).map_err(|_| {
                    Error::invalid(format!("{}: cannot seek to {offset}, before the start", reader.url()))
                })?)
            }
            AZT_SEEK_CURRENT => SeekFrom::Current(offset),
            AZT_SEEK_END => SeekFrom::End(offset),
            other => {
                return Err(Error::invalid(format!("whence is {other}; it must be one of the AZT_SEEK_* constants")));
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

/// Returns the size in bytes of the data that a reader opened: a version of a blob, or a part of one.
///
/// Thread-safe. Sends no request. A writer: AZT_STATUS_UNSUPPORTED.
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
