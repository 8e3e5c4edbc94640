//! `azt_stats`: the counters of a client.

use super::boundary::call;
use super::client::{azt_client, client_or_default};
use super::error::azt_error;
use super::handle;
use super::status::azt_status;
use crate::error::Error;

/// The counters of a client, and of all clients derived from it, in this process. Later versions of the library may add
/// fields at the end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct azt_stats {
    /// Number of requests to the storage service, with retries, without requests for tokens.
    pub requests: u64,
    /// Number of retries.
    pub retries: u64,
    /// Number of responses that asked to slow down (HTTP 429, 503).
    pub throttled: u64,
    /// Bytes of response bodies that were received.
    pub bytes_received: u64,
    /// Bytes of request bodies to which a response came.
    pub bytes_sent: u64,
    /// Number of requests for tokens.
    pub token_requests: u64,
    /// Number of connections opened to the service, or to a proxy.
    pub connections_opened: u64,
    /// Number of requests in flight now, until the end of their response bodies.
    pub requests_in_flight: u64,
    /// Bytes of memory in use now for read-ahead, prefetched samples and blocks.
    pub memory_in_use: u64,
    /// The largest value that memory_in_use had.
    pub memory_peak: u64,
    /// Time in microseconds that callers spent inside calls of this client, added up.
    pub caller_wait_microseconds: u64,
}

/// Writes the counters of a client to `*out_stats`. `stats_size` is sizeof(azt_stats) in the calling program: the
/// library writes only the fields that the program knows, and sets fields that the library does not know to 0. In a
/// forked child the counters start at 0.
///
/// Thread-safe. Does not block. A size that is 0, not a multiple of 8 or more than 4096: AZT_STATUS_INVALID_ARGUMENT.
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
        let counters = azt_stats {
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
        // SAFETY: the caller states that `stats_size` bytes can be written there.
        unsafe { handle::write_prefix(out_stats, &counters, stats_size) };
        Ok(())
    })
}
