//! `azt_client_options`: the settings of a client. `credential` has the setters of credentials.

use std::ffi::c_char;
use std::sync::Mutex;
use std::time::Duration;

use super::boundary::call;
use super::error::azt_error;
use super::handle;
use super::panic::contain_panic;
use super::status::azt_status;
use crate::error::Result;
use crate::options::ClientOptions;
use crate::sys::lock::lock;

/// The options of a client: created with default values, changed by setters, read by azt_client_new().
///
/// A setter checks its value. If it refuses the value (AZT_STATUS_INVALID_ARGUMENT), the options do not change. Only
/// the credential that was set last is used; a SAS in a URL takes its place for that URL.
///
/// One thread at a time. No function blocks.
///
/// Functions: azt_client_options_new(), azt_client_options_free(). Credentials: azt_client_options_set_anonymous(),
/// azt_client_options_set_sas_token(), azt_client_options_set_account_key(),
/// azt_client_options_set_connection_string(), azt_client_options_set_default_credential(),
/// azt_client_options_set_client_secret(), azt_client_options_set_managed_identity(),
/// azt_client_options_set_workload_identity(), azt_client_options_set_azure_cli(),
/// azt_client_options_set_token_callback(). Network: azt_client_options_set_proxy(),
/// azt_client_options_set_ca_file(), azt_client_options_set_user_agent(). Limits:
/// azt_client_options_set_max_concurrency(), azt_client_options_set_memory_limit(),
/// azt_client_options_set_block_size(), azt_client_options_set_max_retries(), azt_client_options_set_timeout_ms(),
/// azt_client_options_set_stall_timeout_ms(). Checks: azt_client_options_set_checksum().
pub struct azt_client_options(Mutex<ClientOptions>);

impl azt_client_options {
    pub(super) fn snapshot(&self) -> ClientOptions {
        lock(&self.0).clone()
    }
}

/// Runs a setter.
///
/// # Safety
/// `options` is NULL or live options; `error` is NULL or can be written.
pub(super) unsafe fn set(
    options: *mut azt_client_options,
    error: *mut *mut azt_error,
    change: impl FnOnce(&mut ClientOptions) -> Result<()>,
) -> azt_status {
    call(error, || {
        // SAFETY: by the contract above.
        let options = unsafe { handle::borrow(options, "options") }?;
        change(&mut lock(&options.0))
    })
}

/// Creates options with default values. NULL if there is no memory.
///
/// The default credential is in the environment variables: AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT
/// with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, in this order, for that account only. Without it, the default is
/// that of azt_client_options_set_default_credential().
///
/// The caller frees the options with azt_client_options_free(). Thread-safe. Does not block.
#[unsafe(no_mangle)]
pub extern "C" fn azt_client_options_new() -> *mut azt_client_options {
    contain_panic(std::ptr::null_mut(), || handle::into_raw(azt_client_options(Mutex::default())))
}

/// Frees options. Clients that were created from them are not affected. NULL is allowed.
///
/// May be called from static destructors and in a forked child. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_free(options: *mut azt_client_options) {
    // SAFETY: the caller passes NULL or options that it owns.
    unsafe { handle::free(options) };
}

/// Sets the maximum number of requests that the client has in flight: 1 to 4096. Default: 64, so that all samples of a
/// batch of 64 are requested at once.
///
/// One thread at a time. Does not block. Other values: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_max_concurrency(
    options: *mut azt_client_options,
    requests: u32,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_max_concurrency(requests)) }
}

/// Sets the maximum memory in bytes that the client uses for read-ahead, prefetched samples and blocks being written:
/// at least 1 MiB. Default: one eighth of the memory of the machine or of this process's cgroup, divided by
/// LOCAL_WORLD_SIZE (set by torchrun), but at least 32 MiB and at most 512 MiB. More memory does not make transfers
/// faster. All clients of a process together never use more than the largest of their limits.
///
/// The client never exceeds the limit, and no call fails or waits for another caller because of it. If memory is
/// needed, the client drops data that was only read ahead and sends the unfinished block of an idle writer; without
/// memory, readers fetch only the bytes that are asked for. A buffered block uses at most half of the limit. So a blob
/// that is written in small pieces can have at most 25,000 times the limit, and the upload of a larger file is refused
/// before any request is sent.
///
/// One thread at a time. Does not block. Smaller values: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_memory_limit(
    options: *mut azt_client_options,
    bytes: u64,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_memory_limit(bytes)) }
}

/// Sets the size in bytes of the first blocks of a blob: 64 KiB to 4000 MiB. Default: 8 MiB.
///
/// Block n (from 0) has block_size * (1 + n / 2500) bytes, with n / 2500 rounded down. The service allows 50,000
/// blocks, which hold 525,000 * block_size bytes: 4 TiB by default, if the memory limit is large enough (see
/// azt_client_options_set_memory_limit()). For a blob of S bytes, set at least S / 525,000.
///
/// One thread at a time. Does not block. Other values: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_block_size(
    options: *mut azt_client_options,
    bytes: u64,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_block_size(bytes)) }
}

/// Sets how often a request is retried after a temporary failure (HTTP 408, 429, 500, 502, 503, 504, a connection
/// error, an incomplete response body): 0 to 1000. 0 turns retries off. Default: 8, which takes about eight seconds.
///
/// The pause before a retry is at most 0.005 s, then up to three times as long each time, up to 20 s. Each request
/// obeys Retry-After; under a limit of requests per second the whole client does. An incomplete body is resumed where
/// it ended. A request on an idle connection that was already closed is sent again at once on a new one, which does not
/// count as a retry.
///
/// One thread at a time. Does not block. Larger values: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_max_retries(
    options: *mut azt_client_options,
    retries: u32,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_max_retries(retries)) }
}

/// Sets the time limit of each call in milliseconds, retries included. Default: no limit, so that a call ends with its
/// last retry. For a limit on some calls only, see azt_client_with_timeout_ms().
///
/// One thread at a time. Does not block. 0: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_timeout_ms(
    options: *mut azt_client_options,
    whole_call_ms: u64,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_timeout(Some(Duration::from_millis(whole_call_ms)))) }
}

/// Sets after how many milliseconds a stalled connection is given up. A connection is stalled if it moves less than
/// 1 KiB/s over this time, in either direction, or if the response to a read does not begin within this time. The bytes
/// received so far are kept and the rest is requested again, which counts as a retry.
///
/// Default: 30,000, the time that the service itself may take for an operation. A transfer that makes progress may take
/// any time; see azt_client_options_set_timeout_ms() for a limit on whole calls.
///
/// One thread at a time. Does not block. 0: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_stall_timeout_ms(
    options: *mut azt_client_options,
    milliseconds: u64,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_stall_timeout(Duration::from_millis(milliseconds))) }
}

/// Sets whether the content of every blob is checked end to end. Lengths, ranges and versions are always checked.
///
/// True: an upload carries a CRC64, which the service compares. A download is requested with checksums (a structured
/// body; if the service has none, a CRC64 or MD5 for ranges of at most 4 MiB), which are compared before a call returns
/// its bytes. Wrong bytes are fetched or sent again; if they stay wrong, the call fails with AZT_STATUS_CORRUPT. If the
/// service gives no checksum, the call fails with AZT_STATUS_UNSUPPORTED. False: no content is checked. Default: only
/// uploads over https to a service that supports CRC64, where the check costs little compared with TLS.
///
/// One thread at a time. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_checksum(
    options: *mut azt_client_options,
    verify: bool,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_checksum(verify)) }
}

/// Sends all requests through a proxy, `http://[USER:PASSWORD@]HOST:PORT`. Requests over https go through a tunnel that
/// the proxy cannot read, requests over http go in plain text. Requests to identity endpoints of this machine never go
/// through a proxy.
///
/// Default: the environment variables HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY (or in lower case), which are
/// read when the client is created.
///
/// One thread at a time. Does not block. A bad URL: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_proxy(
    options: *mut azt_client_options,
    proxy_url: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_proxy(handle::text(proxy_url, "proxy_url")?)) }
}

/// Trusts the CA certificates of a PEM file in addition to those of the system, for example for a private endpoint or a
/// proxy that inspects TLS. The file is read during this call. Default: the certificates of the system, or those of
/// SSL_CERT_FILE and SSL_CERT_DIR in their place.
///
/// One thread at a time. Does not wait for the network. A file that cannot be read: AZT_STATUS_LOCAL_IO. A file that
/// has no valid certificate: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_ca_file(
    options: *mut azt_client_options,
    pem_path: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_ca_file(handle::text(pem_path, "pem_path")?.as_ref())) }
}

/// Adds text after "aztorch/VERSION" in the User-Agent of each request, which the logs of the storage account show: 1
/// to 200 printable ASCII characters, for example "trainer/1.2". Default: no text.
///
/// One thread at a time. Does not block. Other text: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_user_agent(
    options: *mut azt_client_options,
    suffix: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_user_agent(handle::text(suffix, "suffix")?)) }
}
