//! `azt_client_options`: the settings of a client.

use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::boundary::{call, total};
use super::error::azt_error;
use super::handle;
use super::status::azt_status;
use crate::error::Result;
use crate::options::ClientOptions;

/// The settings of a client: made with defaults, changed by setters, read by azt_client_new().
///
/// Each setter checks its value and leaves the options as they were if it refuses it
/// (AZT_STATUS_INVALID_ARGUMENT). None blocks. Of the credentials the one set last counts; a SAS in a URL wins
/// over all of them for that URL. One thread at a time.
///
/// Functions: azt_client_options_new(), azt_client_options_free(); credentials: azt_client_options_set_anonymous(),
/// azt_client_options_set_sas_token(), azt_client_options_set_account_key(),
/// azt_client_options_set_connection_string(), azt_client_options_set_default_credential(),
/// azt_client_options_set_client_secret(), azt_client_options_set_managed_identity(),
/// azt_client_options_set_workload_identity(), azt_client_options_set_azure_cli(),
/// azt_client_options_set_token_callback(); the network: azt_client_options_set_proxy(),
/// azt_client_options_set_ca_file(), azt_client_options_set_user_agent(); limits:
/// azt_client_options_set_max_concurrency(), azt_client_options_set_memory_limit(),
/// azt_client_options_set_block_size(), azt_client_options_set_max_retries(), azt_client_options_set_timeout_ms(),
/// azt_client_options_set_stall_timeout_ms(); what is checked: azt_client_options_set_checksum().
pub struct azt_client_options(Mutex<ClientOptions>);

impl azt_client_options {
    pub(super) fn snapshot(&self) -> ClientOptions {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

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
        change(&mut options.0.lock().unwrap_or_else(PoisonError::into_inner))
    })
}

/// New options with the defaults: the credential is what the environment has for storage
/// (AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, in
/// this order, and for that account only), or else azt_client_options_set_default_credential(). NULL when there is no
/// memory.
///
/// The caller frees them with azt_client_options_free(). Thread-safe, does not block.
#[unsafe(no_mangle)]
pub extern "C" fn azt_client_options_new() -> *mut azt_client_options {
    total(std::ptr::null_mut(), || handle::into_raw(azt_client_options(Mutex::default())))
}

/// Frees options; clients made from them are not affected. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_free(options: *mut azt_client_options) {
    // SAFETY: the caller passes NULL or options that it owns.
    total((), || unsafe { handle::free(options) });
}

/// Sends no credential: for public containers, and for URLs with a SAS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_anonymous(
    options: *mut azt_client_options,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, ClientOptions::set_anonymous) }
}

/// Uses a shared access signature, with or without its leading '?', for all URLs without one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_sas_token(
    options: *mut azt_client_options,
    sas: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_sas_token(handle::text(sas, "sas")?)) }
}

/// Signs each request with an account's key (SharedKey). The key is base64, as the portal shows it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_account_key(
    options: *mut azt_client_options,
    account: *const c_char,
    key_base64: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        set(options, error, |options| {
            options.set_account_key(handle::text(account, "account")?, handle::text(key_base64, "key_base64")?)
        })
    }
}

/// Takes credential and endpoint from an Azure Storage connection string, with an AccountKey or a
/// SharedAccessSignature, with or without a BlobEndpoint; or UseDevelopmentStorage=true, with or without a
/// DevelopmentStorageProxyUri.
/// See <https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string>.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_connection_string(
    options: *mut azt_client_options,
    connection_string: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        set(options, error, |options| {
            options.set_connection_string(handle::text(connection_string, "connection_string")?)
        })
    }
}

/// How many requests the client has under way at once at most, 1 to 4096. Default: 64, so that a batch of
/// 64 samples goes out at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_max_concurrency(
    options: *mut azt_client_options,
    requests: u32,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_max_concurrency(requests)) }
}

/// How many bytes the client holds at most for read-ahead, prefetched samples and blocks being written, at least 1 MiB.
/// Default: an eighth of the memory that the machine or this process's cgroup has, divided by LOCAL_WORLD_SIZE
/// (torchrun sets it), between 32 and 512 MiB: more does not make transfers faster, and training needs the rest. All
/// clients of a process together hold no more than the largest of their limits.
///
/// The limit is never exceeded, and nothing fails or waits for a caller because of it: what was only read ahead makes
/// way for who needs the memory, a block that an idle writer has begun is sent as it is, and without memory readers
/// fetch just what they are asked for. A block that is buffered has no more than half of it, so that a blob written in
/// small pieces has 25,000 times as much at most; an upload of a larger file is refused before anything is sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_memory_limit(
    options: *mut azt_client_options,
    bytes: u64,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_memory_limit(bytes)) }
}

/// The size in bytes of a blob's first blocks, 64 KiB to 4000 MiB. Default: 8 MiB. Block n (from 0) has
/// block_size * (1 + n / 2500) bytes, n / 2500 rounded down, so that the 50,000 blocks which the service allows
/// hold 525,000 * block_size: 4 TiB by default, with enough memory (see azt_client_options_set_memory_limit()). For
/// blobs of S bytes set at least S / 525,000.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_block_size(
    options: *mut azt_client_options,
    bytes: u64,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_block_size(bytes)) }
}

/// How often a request that failed for now (HTTP 408, 429, 500, 502, 503, 504, connection errors, broken
/// bodies) is tried again, 0 to 1000. Default: 8, some eight seconds of patience. A pause lasts up to 0.005 s, then up to
/// three times as long and so on, up to 20 s. Retry-After is obeyed by each request, and under a limit of requests per
/// second by the client as a whole. A body that broke is resumed where it broke. A request that met
/// an idle connection which had died is sent again at once on a new one, and that does not count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_max_retries(
    options: *mut azt_client_options,
    retries: u32,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_max_retries(retries)) }
}

/// Ends each call after so many milliseconds, retries included. Default: none; then a call ends with its
/// retries. See azt_client_with_timeout_ms() for a limit on some calls only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_timeout_ms(
    options: *mut azt_client_options,
    whole_call_ms: u64,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_timeout(Some(Duration::from_millis(whole_call_ms)))) }
}

/// Gives up a connection that moves less than 1 KiB/s over so many milliseconds, in either direction, and one on which
/// the answer to a read does not begin for so long; what it brought is kept and the rest asked for again, which counts
/// as a retry. Default: 30,000, as long as the service itself may take for an operation. A large body may take as
/// long as it takes; see azt_client_options_set_timeout_ms() for a limit on whole calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_stall_timeout_ms(
    options: *mut azt_client_options,
    milliseconds: u64,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_stall_timeout(Duration::from_millis(milliseconds))) }
}

/// Whether every byte of a blob is checked end to end. True: an upload carries a CRC64 that the service compares, and a
/// download is asked for with checksums (a structured body; where the service has none, a CRC64 or MD5 for ranges of at
/// most 4 MiB), compared before anyone sees its bytes. Bytes that are wrong are fetched or sent again, and
/// AZT_STATUS_CORRUPT if they stay so; a service that gives no checksum is AZT_STATUS_UNSUPPORTED. False: neither.
/// Default: uploads over https, by a service that knows CRC64: beside TLS that costs next to nothing. Lengths, ranges
/// and versions are always checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_checksum(
    options: *mut azt_client_options,
    verify: bool,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_checksum(verify)) }
}

/// Sends all requests through this proxy, "http://[USER:PASSWORD@]HOST:PORT": https through a tunnel that it cannot
/// read, http in plain. Default: what HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY (or their lower-case forms) say,
/// read when the client is made. Identity endpoints of this machine are never asked through a proxy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_proxy(
    options: *mut azt_client_options,
    proxy_url: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_proxy(handle::text(proxy_url, "proxy_url")?)) }
}

/// Trusts the CA certificates of a PEM file beside those of the system, for a private endpoint or a proxy that
/// looks into TLS. Default: the system's only, or those of SSL_CERT_FILE and SSL_CERT_DIR in their place. The file is
/// read now: AZT_STATUS_LOCAL_IO when that fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_ca_file(
    options: *mut azt_client_options,
    pem_path: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_ca_file(handle::text(pem_path, "pem_path")?.as_ref())) }
}

/// Puts this behind "aztorch/VERSION" in each request's User-Agent, where the account's logs show it: up to 200
/// printable ASCII characters, for example "trainer/1.2". Default: nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_user_agent(
    options: *mut azt_client_options,
    suffix: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_user_agent(handle::text(suffix, "suffix")?)) }
}
