//! The credential of a client: its setters, and the tokens of a callback.

use std::ffi::{c_char, c_void};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::boundary::call;
use super::callback::{UserData, azt_finalizer};
use super::client_options::{azt_client_options, set};
use super::error::azt_error;
use super::handle;
use super::status::{azt_status, status_of};
use crate::credential::BearerToken;
use crate::error::{Error, Result, Status};
use crate::options::ClientOptions;
use crate::sys::lock::lock;

/// Sends no credential, for public containers and for URLs that have a SAS.
///
/// One thread at a time. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_anonymous(
    options: *mut azt_client_options,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, ClientOptions::set_anonymous) }
}

/// Uses a shared access signature (SAS), with or without its leading '?', for all URLs that have none.
///
/// One thread at a time. Does not block. An empty or malformed SAS: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_sas_token(
    options: *mut azt_client_options,
    sas: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, |options| options.set_sas_token(handle::text(sas, "sas")?)) }
}

/// Signs each request with the key of a storage account (Shared Key). The key is base64, as the Azure portal shows it.
///
/// One thread at a time. Does not block. An empty account or a malformed key: AZT_STATUS_INVALID_ARGUMENT.
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

/// Uses the credential and the endpoint of an Azure Storage connection string: with an AccountKey or a
/// SharedAccessSignature, with or without a BlobEndpoint; or UseDevelopmentStorage=true, with or without a
/// DevelopmentStorageProxyUri.
/// The format: <https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string>.
///
/// One thread at a time. Does not block. A malformed connection string: AZT_STATUS_INVALID_ARGUMENT.
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

/// Uses tokens of the first of these identities that works: a service principal in AZURE_TENANT_ID, AZURE_CLIENT_ID and
/// AZURE_CLIENT_SECRET (or AZURE_CLIENT_CERTIFICATE_PATH, a PEM file); a workload identity; a managed identity (the one
/// of AZURE_CLIENT_ID, if set); the Azure CLI; the Azure Developer CLI. The client keeps the identity that worked.
///
/// AZURE_TOKEN_CREDENTIALS (prod, dev or the name of one credential) limits the choice. If no identity works, calls
/// fail with AZT_STATUS_UNAUTHENTICATED, and the message has the reason for each. This is the default if the URL has no
/// SAS and the environment has no key, SAS or connection string.
///
/// One thread at a time. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_default_credential(
    options: *mut azt_client_options,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, ClientOptions::set_default_credential) }
}

/// Uses tokens of an application (service principal) that has a secret. The tenant is an ID or a domain name.
///
/// One thread at a time. Does not block. A malformed tenant or client ID, or an empty secret:
/// AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_client_secret(
    options: *mut azt_client_options,
    tenant_id: *const c_char,
    client_id: *const c_char,
    secret: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        set(options, error, |options| {
            options.set_client_secret(
                handle::text(tenant_id, "tenant_id")?,
                handle::text(client_id, "client_id")?,
                handle::text(secret, "secret")?,
            )
        })
    }
}

/// Uses tokens of this machine's managed identity (virtual machine, App Service, Functions, AKS node): the
/// user-assigned identity with this client ID, or the system-assigned identity if `client_id` is NULL.
///
/// One thread at a time. Does not block. A malformed client ID: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_managed_identity(
    options: *mut azt_client_options,
    client_id: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        set(options, error, |options| options.set_managed_identity(handle::optional_text(client_id, "client_id")?))
    }
}

/// Uses tokens of a pod's workload identity, as AKS configures it: AZURE_TENANT_ID, AZURE_CLIENT_ID and
/// AZURE_FEDERATED_TOKEN_FILE, a file that is read again for each token.
///
/// One thread at a time. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_workload_identity(
    options: *mut azt_client_options,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, ClientOptions::set_workload_identity) }
}

/// Uses tokens of the user who logged in with `az login`. The library runs `az`, which must be on the PATH, for each
/// token.
///
/// One thread at a time. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_azure_cli(
    options: *mut azt_client_options,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, ClientOptions::set_azure_cli) }
}

/// The result of a token callback. The library owns it; it is valid only during the callback's call.
///
/// Functions: azt_token_set(), azt_token_set_error().
pub struct azt_token(Mutex<TokenResult>);

#[derive(Default)]
struct TokenResult {
    token: Option<BearerToken>,
    error: Option<String>,
}

/// Provides a token for `scope` and `tenant_id`. `tenant_id` is "" for any tenant; if the storage account refuses that
/// token and names its tenant, the callback is called again with it. The callback either calls azt_token_set() and
/// returns AZT_STATUS_OK, or calls azt_token_set_error() and returns the status with which the waiting calls fail.
///
/// The strings and `out_token` are valid during the call. The library calls it on a thread of its own, holds no lock,
/// and makes one call at a time for each client. Inside it, functions of the library that block fail with
/// AZT_STATUS_UNSUPPORTED. It must not throw an exception or call longjmp().
pub type azt_token_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        scope: *const c_char,
        tenant_id: *const c_char,
        out_token: *mut azt_token,
    ) -> azt_status,
>;

/// Sets the token of a token callback, which is copied, and the time when it expires, in seconds since 1970 (Unix
/// time).
///
/// Only inside the callback that was given `token`. Does not block. An empty token, or one with characters that a token
/// cannot have: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_token_set(
    token: *mut azt_token,
    bearer: *const c_char,
    expires_unix_seconds: i64,
) -> azt_status {
    call(std::ptr::null_mut(), || {
        // SAFETY: the caller passes NULL or what its callback was given, and NULL or a string.
        let (token, bearer) = unsafe { (handle::borrow(token, "token")?, handle::text(bearer, "bearer")?) };
        let expires = Duration::from_secs(u64::try_from(expires_unix_seconds).unwrap_or_default());
        let expires = SystemTime::UNIX_EPOCH
            .checked_add(expires)
            .ok_or_else(|| Error::invalid("expires_unix_seconds is out of range"))?;
        lock(&token.0).token = Some(BearerToken::new(bearer, expires)?);
        Ok(())
    })
}

/// Sets the reason why a token callback has no token. The text is copied and becomes part of the error of the calls
/// that wait for the token.
///
/// Only inside the callback that was given `token`. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_token_set_error(token: *mut azt_token, message: *const c_char) -> azt_status {
    call(std::ptr::null_mut(), || {
        // SAFETY: the caller passes NULL or what its callback was given, and NULL or a string.
        let (token, message) = unsafe { (handle::borrow(token, "token")?, handle::text(message, "message")?) };
        lock(&token.0).error = Some(message.to_owned());
        Ok(())
    })
}

/// Uses tokens of a callback, for programs that have their own credential object.
///
/// `finalizer`, which may be NULL, is called once with `user_data` when nothing uses the callback any more: when the
/// options and all clients created from them are freed or have another credential. It may run on any thread. If this
/// function fails, the finalizer is not called.
///
/// One thread at a time. Does not block. A NULL callback: AZT_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_token_callback(
    options: *mut azt_client_options,
    callback: azt_token_callback,
    user_data: *mut c_void,
    finalizer: azt_finalizer,
    error: *mut *mut azt_error,
) -> azt_status {
    let change = |options: &mut ClientOptions| {
        let callback = callback.ok_or_else(|| Error::invalid("callback is NULL"))?;
        let user_data = UserData::new(user_data, finalizer);
        options.set_token_callback(move |scope, tenant_id| {
            let (scope, tenant_id) = (handle::c_string(scope), handle::c_string(tenant_id));
            let token = azt_token(Mutex::default());
            // SAFETY: the caller promises a function that may be called with these arguments on any thread.
            let status =
                unsafe { callback(user_data.get(), scope.as_ptr(), tenant_id.as_ptr(), (&raw const token).cast_mut()) };
            token_or_error(status, token.0.into_inner().unwrap_or_else(PoisonError::into_inner))
        })
    };
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, change) }
}

/// Returns the token that a token callback has set, or its error.
fn token_or_error(status: azt_status, result: TokenResult) -> Result<BearerToken> {
    let failed = |status: Status, default_reason: &str| {
        let reason = result.error.as_deref().unwrap_or(default_reason);
        // The callback's text may contain the token.
        let reason = result.token.as_ref().map_or(reason.to_owned(), |token| token.hidden_in(reason));
        Err(Error::new(status, reason))
    };
    match (status_of(status), &result.token) {
        (Some(Status::Ok), Some(token)) if result.error.is_none() => Ok(token.clone()),
        (Some(Status::Ok), _) => failed(Status::Unauthenticated, "it returned without a token"),
        (Some(status), _) => failed(status, "it failed"),
        (None, _) => failed(Status::Unauthenticated, "it failed with an unknown status"),
    }
}
