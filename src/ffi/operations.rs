//! What can be done with blobs and containers by their URL alone.

use std::ffi::c_char;
use std::path::Path;

use super::blob_open::{azt_blob_mode, write_mode};
use super::boundary::call;
use super::client::{azt_client, client_or_default};
use super::error::azt_error;
use super::handle;
use super::status::azt_status;
use crate::error::Error;

/// Whether a blob exists. A missing container is AZT_STATUS_NOT_FOUND. Without a credential the service does not tell what
/// a private container holds, or whether there is one: AZT_STATUS_UNAUTHENTICATED.
///
/// Thread-safe. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_exists(
    client: *const azt_client,
    url: *const c_char,
    out_exists: *mut bool,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, client, url) =
            unsafe { (handle::out(out_exists, "out_exists")?, client_or_default(client)?, handle::text(url, "url")?) };
        out.set(client.exists(url)?);
        Ok(())
    })
}

/// Deletes a blob, or the snapshot or version that the URL names. A blob that has snapshots is refused
/// (AZT_STATUS_REJECTED, SnapshotsPresent).
///
/// Thread-safe. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_delete(
    client: *const azt_client,
    url: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (client, url) = unsafe { (client_or_default(client)?, handle::text(url, "url")?) };
        client.delete(url)
    })
}

/// Brings a blob into a file, in parallel ranges. The file appears at `path` when it is whole, and replaces
/// what was there; on failure nothing is left. A file that is replaced hands on its mode without
/// set-ID bits, and its owner as far as that is permitted; a new one follows the umask. A symbolic link stays, and the
/// file that it leads to is replaced or made. AZT_STATUS_LOCAL_IO when the file cannot be written, or is no regular file
/// but a directory, a device, a FIFO, a socket or an open file below /proc; or when another user put the file or the link
/// into a folder with the sticky bit, like /tmp.
///
/// Thread-safe. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_download(
    client: *const azt_client,
    url: *const c_char,
    path: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (client, url, path) =
            unsafe { (client_or_default(client)?, handle::text(url, "url")?, handle::text(path, "path")?) };
        client.download(url, Path::new(path))
    })
}

/// Writes a file as a blob, in blocks large enough for its size. AZT_STATUS_LOCAL_IO when the file cannot be
/// read, or is no regular file (/dev/null counts as an empty one): write what comes out of a pipe with
/// azt_blob_write(). `mode` is AZT_BLOB_MODE_WRITE or AZT_BLOB_MODE_CREATE. On failure the old blob stays.
///
/// Thread-safe. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_blob_upload(
    client: *const azt_client,
    path: *const c_char,
    url: *const c_char,
    mode: azt_blob_mode,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (client, path, url) =
            unsafe { (client_or_default(client)?, handle::text(path, "path")?, handle::text(url, "url")?) };
        let mode = write_mode(mode)?.ok_or_else(|| Error::invalid("mode must be AZT_BLOB_MODE_WRITE or _CREATE"))?;
        client.upload(Path::new(path), url, mode)
    })
}

/// Creates a container. One that exists is AZT_STATUS_ALREADY_EXISTS. The new one has the metadata aztorch_write, by which
/// this call knows its own work again when the service's answer was lost.
///
/// Thread-safe. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_container_create(
    client: *const azt_client,
    container_url: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (client, url) = unsafe { (client_or_default(client)?, handle::text(container_url, "container_url")?) };
        client.create_container(url)
    })
}
