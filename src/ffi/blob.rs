//! `azt_blob`: the handle of an open blob, and the common functions of readers and writers.

use std::ffi::{CString, c_char};

use once_cell::sync::OnceCell;

use super::boundary::{call, call_for_handle, call_for_optional_handle};
use super::client::{azt_client, client_or_default};
use super::error::azt_error;
use super::handle::{self, c_string, read};
use super::status::azt_status;
use crate::blob::{BlobReader, BlobWriter, WriteMode};
use crate::error::{Error, Result};

/// A blob that is open for reading (a reader) or for writing (a writer).
///
/// A reader is pinned to the version that it opened: if the blob is replaced, reads fail with AZT_STATUS_MODIFIED and
/// never mix two versions. A writer publishes nothing before azt_blob_close(). In a forked child, both fail with
/// AZT_STATUS_FORKED and may be freed.
///
/// Readers and writers: azt_blob_open(), azt_blob_open_in(), azt_blob_tell(), azt_blob_etag(), azt_blob_url(),
/// azt_blob_flush(), azt_blob_set_progress(), azt_blob_close(), azt_blob_cancel(), azt_blob_free(). Readers only:
/// azt_blob_open_if_changed(), azt_blob_read(), azt_blob_read_at(), azt_blob_seek(), azt_blob_size(). Writers only:
/// azt_blob_write(), azt_blob_set_if_match(). Without an open blob: azt_blob_exists(), azt_blob_delete(),
/// azt_blob_download(), azt_blob_upload().
pub struct azt_blob {
    pub(super) kind: Kind,
    url: CString,
    /// Empty until a writer is closed.
    etag: OnceCell<CString>,
}

pub(super) enum Kind {
    Reader(BlobReader),
    Writer(BlobWriter),
}

impl azt_blob {
    pub(super) fn of_reader(reader: BlobReader) -> Self {
        let etag = OnceCell::with_value(c_string(reader.etag()));
        Self { url: c_string(reader.url()), etag, kind: Kind::Reader(reader) }
    }

    fn of_writer(writer: BlobWriter) -> Self {
        Self { url: c_string(writer.url()), etag: OnceCell::new(), kind: Kind::Writer(writer) }
    }

    /// Returns the reader. For a writer, fails with "a writer cannot {operation}".
    pub(super) fn reader(&self, operation: &str) -> Result<&BlobReader> {
        match &self.kind {
            Kind::Reader(reader) => Ok(reader),
            Kind::Writer(writer) => Err(Error::unsupported(format!("{}: a writer cannot {operation}", writer.url()))),
        }
    }

    /// Returns the writer. For a reader, fails with "a reader cannot {operation}".
    pub(super) fn writer(&self, operation: &str) -> Result<&BlobWriter> {
        match &self.kind {
            Kind::Writer(writer) => Ok(writer),
            Kind::Reader(reader) => Err(Error::unsupported(format!("{}: a reader cannot {operation}", reader.url()))),
        }
    }
}

/// How a blob is opened: one of the AZT_BLOB_MODE_* constants.
pub type azt_blob_mode = i32;

/// Opens a blob for reading.
pub const AZT_BLOB_MODE_READ: azt_blob_mode = 0;
/// Opens a blob for writing. azt_blob_close() replaces an existing blob.
pub const AZT_BLOB_MODE_WRITE: azt_blob_mode = 1;
/// Opens a new blob for writing. If the blob exists, or another writer publishes it first, the writer fails with
/// AZT_STATUS_ALREADY_EXISTS in a write, in azt_blob_flush() or in azt_blob_close(), and the existing blob stays.
pub const AZT_BLOB_MODE_CREATE: azt_blob_mode = 2;

/// Returns the write mode that a mode stands for; `None` for reading.
pub(super) fn write_mode(mode: azt_blob_mode) -> Result<Option<WriteMode>> {
    match mode {
        AZT_BLOB_MODE_READ => Ok(None),
        AZT_BLOB_MODE_WRITE => Ok(Some(WriteMode::Replace)),
        AZT_BLOB_MODE_CREATE => Ok(Some(WriteMode::Create)),
        other => Err(Error::invalid(format!("mode is {other}; it must be one of the AZT_BLOB_MODE_* constants"))),
    }
}

/// Opens the blob at a URL for reading or for writing.
///
/// A reader sends one ranged GET, returns when the response begins, and receives the first bytes in the background. A
/// writer sends no request.
///
/// The caller frees the blob with azt_blob_free(). Thread-safe. Blocks when reading. A blob that does not exist:
/// AZT_STATUS_NOT_FOUND when reading.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_open(
    client: *const azt_client,
    url: *const c_char,
    mode: azt_blob_mode,
    out_blob: *mut *mut azt_blob,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_blob, "out_blob", error, || {
            let (client, url) = (client_or_default(client)?, handle::text(url, "url")?);
            match write_mode(mode)? {
                None => client.open(url).map(azt_blob::of_reader),
                Some(mode) => client.writer(url, mode).map(azt_blob::of_writer),
            }
        })
    }
}

/// Opens a blob of a container by its name, for reading or for writing. The name is taken literally: the library
/// percent-encodes it. A SAS in the container's URL is used.
///
/// A reader sends one ranged GET, returns when the response begins, and receives the first bytes in the background. A
/// writer sends no request.
///
/// The caller frees the blob with azt_blob_free(). Thread-safe. Blocks when reading. A blob that does not exist:
/// AZT_STATUS_NOT_FOUND when reading.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_open_in(
    client: *const azt_client,
    container_url: *const c_char,
    blob_name: *const c_char,
    mode: azt_blob_mode,
    out_blob: *mut *mut azt_blob,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_blob, "out_blob", error, || {
            let client = client_or_default(client)?;
            let container = handle::text(container_url, "container_url")?;
            let name = handle::text(blob_name, "blob_name")?;
            match write_mode(mode)? {
                None => client.open_in(container, name).map(azt_blob::of_reader),
                Some(mode) => client.writer_in(container, name, mode).map(azt_blob::of_writer),
            }
        })
    }
}

/// Opens a blob for reading if its ETag is not `etag`. If the ETag is the same, the call succeeds and `*out_blob` is
/// NULL: one request, and no bytes of the blob are sent. For programs that poll for a new model.
///
/// The caller frees the blob with azt_blob_free(). Thread-safe. Blocks. A blob that does not exist:
/// AZT_STATUS_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_open_if_changed(
    client: *const azt_client,
    url: *const c_char,
    etag: *const c_char,
    out_blob: *mut *mut azt_blob,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_optional_handle(out_blob, "out_blob", error, || {
            let (client, url) = (client_or_default(client)?, handle::text(url, "url")?);
            let reader = client.open_if_changed(url, handle::text(etag, "etag")?)?;
            Ok(reader.map(azt_blob::of_reader))
        })
    }
}

/// Returns the position of a reader, or the number of bytes that were written to a writer.
///
/// Thread-safe. Sends no request. A closed reader: AZT_STATUS_UNSUPPORTED.
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

/// Returns the ETag of the version that a reader opened or a writer published, in quotes, as the service gives it. ""
/// for a writer that is not closed, and for NULL.
///
/// The string is valid until the blob is freed. Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_etag(blob: *const azt_blob) -> *const c_char {
    // SAFETY: the caller passes NULL or a live blob.
    unsafe { read(blob, c"".as_ptr(), |blob| blob.etag.get().map_or(c"".as_ptr(), |etag| etag.as_ptr())) }
}

/// Returns the URL of a blob without its query, and so without a SAS. "" for NULL.
///
/// The string is valid until the blob is freed. Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_url(blob: *const azt_blob) -> *const c_char {
    // SAFETY: the caller passes NULL or a live blob.
    unsafe { read(blob, c"".as_ptr(), |blob| blob.url.as_ptr()) }
}

/// Closes a blob. A writer publishes everything that was written, as a whole; without a write, it publishes an empty
/// blob. A reader stops reading. A later call returns the same result.
///
/// The handle stays valid until azt_blob_free(). One thread at a time. Blocks.
///
/// If a writer fails, nothing is published and the old blob is unchanged, with one exception: the message says that the
/// outcome is unknown if the response was lost, or was an error that can stand for a success (HTTP 408, 500, 502, 503,
/// 504). Then the blob is either the old one or the new one, as a whole. AZT_STATUS_ALREADY_EXISTS: the blob exists, in
/// AZT_BLOB_MODE_CREATE. AZT_STATUS_MODIFIED: the blob has another version than azt_blob_set_if_match() requires, or
/// another writer published first.
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

/// Cancels a blob for good. A running call on it ends within 100 ms with AZT_STATUS_CANCELLED, and so does every later
/// call that reads, writes, seeks or waits. A cancelled writer never publishes. If azt_blob_close() was waiting for the
/// service's response, its error says that the outcome is unknown.
///
/// Any thread may call it, during any other call on the blob except azt_blob_free(). Does not block. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_cancel(blob: *const azt_blob) {
    let cancel = |blob: &azt_blob| match &blob.kind {
        Kind::Reader(reader) => reader.cancel(),
        Kind::Writer(writer) => writer.cancel(),
    };
    // SAFETY: the caller passes NULL or a live blob.
    unsafe { read(blob, (), cancel) };
}

/// Frees a blob. A writer that was not closed is discarded: nothing is published. NULL is allowed.
///
/// Does no network I/O. May be called from static destructors and in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_free(blob: *mut azt_blob) {
    // SAFETY: the caller passes NULL or a blob that it owns.
    unsafe { handle::free(blob) };
}
