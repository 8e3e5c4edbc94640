//! `azt_client`: credential, connections and limits.

use std::time::Duration;

use super::boundary::{call, total};
use super::error::azt_error;
use super::handle;
use super::options::azt_client_options;
use super::status::azt_status;
use crate::client::Client;
use crate::error::Result;

/// A credential, a connection pool and limits. Thread-safe; works in a forked child, with connections of
/// its own. May be freed before the blobs that were opened with it.
///
/// Where a call takes a client, NULL means the process's default one, with default options: a SAS in the URL, or
/// else the credential that the environment has, or else the default chain of identities.
///
/// Functions: azt_client_new(), azt_client_with_timeout_ms(), azt_client_stats(), azt_client_cancel(),
/// azt_client_free().
pub struct azt_client(Client);

/// The client that a call works with: NULL means the process's default one.
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

/// Makes a client with these options; NULL means the defaults. The options are copied.
///
/// The caller frees the client with azt_client_free(). Thread-safe; sends nothing, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_new(
    options: *const azt_client_options,
    out_client: *mut *mut azt_client,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, options) = unsafe { (handle::out_handle(out_client, "out_client")?, options.as_ref()) };
        let options = options.map(azt_client_options::snapshot).unwrap_or_default();
        out.set(handle::into_raw(azt_client(Client::new(&options)?)));
        Ok(())
    })
}

/// Makes a client that shares everything with `client` but ends each call after so many milliseconds; 0 means
/// no limit.
///
/// The caller frees it with azt_client_free(); either may be freed first. Thread-safe, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_with_timeout_ms(
    client: *const azt_client,
    whole_call_ms: u64,
    out_client: *mut *mut azt_client,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let (out, client) = unsafe { (handle::out_handle(out_client, "out_client")?, client_or_default(client)?) };
        let timeout = (whole_call_ms > 0).then(|| Duration::from_millis(whole_call_ms));
        out.set(handle::into_raw(azt_client(client.with_timeout(timeout))));
        Ok(())
    })
}

/// Cancels a client: what is running with it, with the clients derived from it and with all that was opened with them
/// ends, within 100 ms, and this and all later calls give AZT_STATUS_CANCELLED. The client that it was derived from
/// goes on. For good: to go on, make another client.
///
/// From any thread, beside any call but azt_client_free(). Does not block. NULL is allowed and does nothing: the
/// process's default client, which other parts of a program use as well, cannot be cancelled for good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_cancel(client: *const azt_client) {
    total((), || {
        // SAFETY: the caller passes NULL or a live client.
        if let Some(client) = unsafe { client.as_ref() } {
            client.0.cancel();
        }
    });
}

/// Frees a client. Its blobs go on working. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_free(client: *mut azt_client) {
    // SAFETY: the caller passes NULL or a client that it owns.
    total((), || unsafe { handle::free(client) });
}
