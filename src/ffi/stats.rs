//! `azt_stats`: what a client has done.

use super::boundary::call;
use super::client::{azt_client, client_or_default};
use super::error::azt_error;
use super::handle;
use super::status::azt_status;
use crate::error::Error;

/// What a client and those derived from it have done in this process. Later versions may add fields at the end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct azt_stats {
    /// Requests sent to the storage service, retries included; not those for tokens.
    pub requests: u64,
    /// How often something was tried again.
    pub retries: u64,
    /// Answers that asked to slow down (HTTP 429, 503).
    pub throttled: u64,
    /// Bytes of response bodies.
    pub bytes_received: u64,
    /// Bytes of request bodies that were answered.
    pub bytes_sent: u64,
    /// How often this client asked for a token.
    pub token_requests: u64,
    /// Connections made to the service, or to the proxy before it.
    pub connections_opened: u64,
    /// Requests under way now, until their bodies have ended.
    pub requests_in_flight: u64,
    /// Bytes held now for read-ahead and for blocks.
    pub memory_in_use: u64,
    /// The most that was held at once.
    pub memory_peak: u64,
    /// Time that callers spent inside this client's calls.
    pub caller_wait_microseconds: u64,
}

/// Writes the client's numbers. `stats_size` is sizeof(azt_stats) as the caller was compiled with it: a newer library
/// fills in what an older caller knows, and an older one sets the rest to 0.
///
/// AZT_STATUS_INVALID_ARGUMENT for a size that is 0 or no multiple of 8. Thread-safe, does not block. In a forked child
/// the numbers begin at 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_stats(
    client: *const azt_client,
    out_stats: *mut azt_stats,
    stats_size: usize,
    error: *mut *mut azt_error,
) -> azt_status {
    call(error, || {
        // SAFETY: the caller keeps the header's rules.
        let client = unsafe { client_or_default(client)? };
        if stats_size == 0 || !stats_size.is_multiple_of(size_of::<u64>()) || stats_size > 4096 {
            return Err(Error::invalid(format!("stats_size is {stats_size}; it must be sizeof(azt_stats)")));
        }
        if out_stats.is_null() {
            return Err(Error::invalid("out_stats is NULL"));
        }
        let stats = client.stats()?;
        let ours = azt_stats {
            requests: stats.requests,
            retries: stats.retries,
            throttled: stats.throttled,
            bytes_received: stats.bytes_received,
            bytes_sent: stats.bytes_sent,
            token_requests: stats.token_requests,
            connections_opened: stats.connections_opened,
            requests_in_flight: stats.requests_in_flight,
            memory_in_use: stats.memory_in_use,
            memory_peak: stats.memory_peak,
            caller_wait_microseconds: u64::try_from(stats.caller_wait.as_micros()).unwrap_or(u64::MAX),
        };
        // SAFETY: the caller says that `stats_size` bytes can be written there.
        unsafe { handle::write_prefix(out_stats, &ours, stats_size) };
        Ok(())
    })
}
