//! `azt_client`: credential, connections and limits.

use std::time::Duration;

use super::boundary::call_for_handle;
use super::client_options::azt_client_options;
use super::error::azt_error;
use super::handle::{self, read};
use super::status::azt_status;
use crate::client::Client;
use crate::error::Result;

/// A client: access to Blob Storage with a credential, a connection pool and limits.
///
/// Where a function takes a client, NULL means the process-wide default client. It has default options: it uses the SAS
/// in the URL, or else the credential in the environment variables, or else the default chain of identities.
///
/// A client may be freed before the blobs, datasets and streams that were opened with it. Thread-safe. Works in a
/// forked child, with connections of its own.
///
/// Functions: azt_client_new(), azt_client_with_timeout_ms(), azt_client_stats(), azt_client_cancel(),
/// azt_client_free().
pub struct azt_client(Client);

/// Returns the client that a call works with. NULL means the process-wide default client.
///
/// # Safety
/// `client` is NULL or a live client.
pub(super) unsafe fn client_or_default(client: *const azt_client) -> Result<Client> {
    // SAFETY: by the contract above.
    match unsafe { client.as_ref() } {
        Some(client) => Ok(client.0.clone()),
        None => Client::shared(),
    }
}

/// Creates a client with the given options, which are copied. `options` may be NULL for the defaults.
///
/// The caller frees the client with azt_client_free(). Thread-safe. Does not block, sends no request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_new(
    options: *const azt_client_options,
    out_client: *mut *mut azt_client,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_client, "out_client", error, || {
            let options = options.as_ref().map(azt_client_options::snapshot).unwrap_or_default();
            Client::new(&options).map(azt_client)
        })
    }
}

/// Creates a client that shares the credential, connections, limits and numbers of `client`, and ends each of its own
/// calls after `whole_call_ms` milliseconds, retries included. 0 means no time limit.
///
/// The caller frees the new client with azt_client_free(). Either client may be freed first. Thread-safe. Does not
/// block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_with_timeout_ms(
    client: *const azt_client,
    whole_call_ms: u64,
    out_client: *mut *mut azt_client,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        call_for_handle(out_client, "out_client", error, || {
            let timeout = (whole_call_ms > 0).then(|| Duration::from_millis(whole_call_ms));
            Ok(azt_client(client_or_default(client)?.with_timeout(timeout)))
        })
    }
}

/// Cancels a client for good. Every running call on the client, on clients derived from it, and on everything opened
/// with them ends within 100 ms with AZT_STATUS_CANCELLED, and so does every later call. The client from which this
/// one was derived is not affected. To continue, create another client.
///
/// NULL is allowed and does nothing: the process-wide default client cannot be cancelled, because other parts of the
/// program may use it.
///
/// Any thread may call it, during any other call on the client except azt_client_free(). Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_cancel(client: *const azt_client) {
    // SAFETY: the caller passes NULL or a live client.
    unsafe { read(client, (), |client| client.0.cancel()) };
}

/// Frees a client. Blobs, datasets and streams that were opened with it still work. NULL is allowed.
///
/// Does no network I/O. May be called from static destructors and in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_free(client: *mut azt_client) {
    // SAFETY: the caller passes NULL or a client that it owns.
    unsafe { handle::free(client) };
}
