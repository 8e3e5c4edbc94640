//! `azt_blob`: the handle, and how it is opened and freed.

use std::ffi::{CString, c_char};

use once_cell::sync::OnceCell;

use super::boundary::{call, total};
use super::client::{azt_client, client_or_default};
use super::error::azt_error;
use super::handle::{self, c_string};
use super::status::azt_status;
use crate::blob::BlobReader;
use crate::blob::{BlobWriter, WriteMode};
use crate::error::{Error, Result};

/// One blob, opened for reading or for writing.
///
/// Functions for both: azt_blob_open(), azt_blob_open_in(), azt_blob_tell(), azt_blob_etag(), azt_blob_url(),
/// azt_blob_flush(), azt_blob_set_progress(), azt_blob_close(), azt_blob_cancel(), azt_blob_free(). Readers:
/// azt_blob_open_if_changed(), azt_blob_read(), azt_blob_read_at(), azt_blob_seek(), azt_blob_size(). Writers:
/// azt_blob_write(), azt_blob_set_if_match(). Without an open blob: azt_blob_exists(), azt_blob_delete(),
/// azt_blob_download(), azt_blob_upload().
///
/// A reader is pinned to the version that it opened: a blob replaced meanwhile gives AZT_STATUS_MODIFIED, never
/// a mix of two versions. A writer publishes nothing before azt_blob_close(). In a forked child both say
/// AZT_STATUS_FORKED and may be freed.
pub struct azt_blob {
    pub(super) kind: Kind,
    pub(super) url: CString,
    pub(super) etag: OnceCell<CString>,
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

    pub(super) fn reader(&self, what: &str) -> Result<&BlobReader> {
        match &self.kind {
            Kind::Reader(reader) => Ok(reader),
            Kind::Writer(writer) => Err(Error::unsupported(format!("{}: a writer cannot {what}", writer.url()))),
        }
    }

    pub(super) fn writer(&self, what: &str) -> Result<&BlobWriter> {
        match &self.kind {
            Kind::Writer(writer) => Ok(writer),
            Kind::Reader(reader) => Err(Error::unsupported(format!("{}: a reader cannot {what}", reader.url()))),
        }
    }
}

/// How a blob is opened: one of the AZT_BLOB_MODE_* constants.
pub type azt_blob_mode = i32;

/// For reading.
pub const AZT_BLOB_MODE_READ: azt_blob_mode = 0;
/// For writing; a blob that is there is replaced when the writer is closed.
pub const AZT_BLOB_MODE_WRITE: azt_blob_mode = 1;
/// For writing; a blob that is there stays, and the writer fails with AZT_STATUS_ALREADY_EXISTS, also when
/// another writer was faster. The failure shows in a write, in azt_blob_flush() or in azt_blob_close().
pub const AZT_BLOB_MODE_CREATE: azt_blob_mode = 2;

/// What a mode means for a writer; `None` for reading.
pub(super) fn write_mode(mode: azt_blob_mode) -> Result<Option<WriteMode>> {
    match mode {
        AZT_BLOB_MODE_READ => Ok(None),
        AZT_BLOB_MODE_WRITE => Ok(Some(WriteMode::Replace)),
        AZT_BLOB_MODE_CREATE => Ok(Some(WriteMode::Create)),
        other => Err(Error::invalid(format!("mode {other} is none of the AZT_BLOB_MODE_* constants"))),
    }
}

/// Opens a blob.
///
/// For reading this sends one ranged GET and returns when the answer begins, while the first bytes come in;
/// a missing blob is AZT_STATUS_NOT_FOUND. For writing it sends nothing.
///
/// The caller frees the blob with azt_blob_free(). Thread-safe. Blocks when reading.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_open(
    client: *const azt_client,
    url: *const c_char,
    mode: azt_blob_mode,
    out_blob: *mut *mut azt_blob,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, client, url) = unsafe {
            (handle::out_handle(out_blob, "out_blob")?, client_or_default(client)?, handle::text(url, "url")?)
        };
        let blob = match write_mode(mode)? {
            None => azt_blob::of_reader(client.open(url)?),
            Some(mode) => azt_blob::of_writer(client.writer(url, mode)?),
        };
        out.set(handle::into_raw(blob));
        Ok(())
    })
}

/// Opens the blob of a container that has this name. The name is taken literally and percent-encoded here; a
/// SAS in the container's URL is kept.
///
/// Otherwise like azt_blob_open().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_open_in(
    client: *const azt_client,
    container_url: *const c_char,
    blob_name: *const c_char,
    mode: azt_blob_mode,
    out_blob: *mut *mut azt_blob,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, client, container, name) = unsafe {
            (
                handle::out_handle(out_blob, "out_blob")?,
                client_or_default(client)?,
                handle::text(container_url, "container_url")?,
                handle::text(blob_name, "blob_name")?,
            )
        };
        let blob = match write_mode(mode)? {
            None => azt_blob::of_reader(client.open_in(container, name)?),
            Some(mode) => azt_blob::of_writer(client.writer_in(container, name, mode)?),
        };
        out.set(handle::into_raw(blob));
        Ok(())
    })
}

/// Opens a blob for reading if its ETag is no longer `etag`. While it is, the call succeeds and the blob is
/// NULL: one request, no bytes of the blob. For programs that poll for a new model.
///
/// Otherwise like azt_blob_open().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_open_if_changed(
    client: *const azt_client,
    url: *const c_char,
    etag: *const c_char,
    out_blob: *mut *mut azt_blob,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, client, url, etag) = unsafe {
            (
                handle::out_handle(out_blob, "out_blob")?,
                client_or_default(client)?,
                handle::text(url, "url")?,
                handle::text(etag, "etag")?,
            )
        };
        if let Some(reader) = client.open_if_changed(url, etag)? {
            out.set(handle::into_raw(azt_blob::of_reader(reader)));
        }
        Ok(())
    })
}

/// Cancels a blob: what is running on it ends, within 100 ms, and this and all later calls that read, write, move or
/// wait give AZT_STATUS_CANCELLED. A cancelled writer never publishes; if azt_blob_close() was waiting for the
/// service's answer, its error says that the outcome is unknown. For good.
///
/// From any thread, beside any call but azt_blob_free(). Does not block. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_cancel(blob: *const azt_blob) {
    total((), || {
        // SAFETY: the caller passes NULL or a live blob.
        match unsafe { blob.as_ref() }.map(|blob| &blob.kind) {
            Some(Kind::Reader(reader)) => reader.cancel(),
            Some(Kind::Writer(writer)) => writer.cancel(),
            None => {}
        }
    });
}

/// Frees a blob. A writer that was not closed is discarded: nothing is published. NULL is allowed.
///
/// Does no network I/O. Allowed from static destructors and in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_free(blob: *mut azt_blob) {
    // SAFETY: the caller passes NULL or a blob that it owns.
    total((), || unsafe { handle::free(blob) });
}
