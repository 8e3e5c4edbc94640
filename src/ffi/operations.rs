//! Operations on blobs and containers by URL, without an open handle.

use std::ffi::c_char;
use std::path::Path;

use super::blob::{azt_blob_mode, write_mode};
use super::boundary::call;
use super::client::{azt_client, client_or_default};
use super::error::azt_error;
use super::handle;
use super::status::azt_status;
use crate::error::Error;

/// Checks whether a blob exists.
///
/// Thread-safe. Blocks. A container that does not exist: AZT_STATUS_NOT_FOUND. A private container, without a
/// credential: AZT_STATUS_UNAUTHENTICATED, whether the container exists or not, because the service does not tell.
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

/// Deletes a blob, or only the snapshot or version that the URL names.
///
/// Thread-safe. Blocks. A blob that does not exist: AZT_STATUS_NOT_FOUND. A blob that has snapshots:
/// AZT_STATUS_REJECTED with the service code SnapshotsPresent.
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

/// Downloads a blob to a file, in parallel ranges. The file appears at `path` only when it is complete, and replaces an
/// existing file. On failure an existing file stays, and nothing new is left behind.
///
/// The new file has the mode of the file that it replaces, without set-ID bits, and its owner if the system permits
/// that. If no file is replaced, the mode follows the umask. If `path` is a symbolic link, the link stays and its
/// target is replaced or created.
///
/// Thread-safe. Blocks. AZT_STATUS_LOCAL_IO: the file cannot be written; the path is not a regular file but a
/// directory, a device, a FIFO, a socket or an open file below /proc; or another user owns the file or link in a
/// directory with the sticky bit, such as /tmp.
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

/// Uploads a file as a blob, in blocks that are large enough for its size. `mode` is AZT_BLOB_MODE_WRITE or
/// AZT_BLOB_MODE_CREATE. On failure the old blob is unchanged, unless the message says that the outcome is unknown.
///
/// Thread-safe. Blocks. AZT_STATUS_LOCAL_IO: the file cannot be read or is not a regular file. /dev/null is allowed as
/// an empty file. For the output of a pipe, use azt_blob_write(). AZT_STATUS_ALREADY_EXISTS: the blob exists, in
/// AZT_BLOB_MODE_CREATE.
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

/// Creates a container. It has the metadata aztorch_write, by which this call recognises its own container if the
/// service's response was lost.
///
/// Thread-safe. Blocks. A container that exists: AZT_STATUS_ALREADY_EXISTS.
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
