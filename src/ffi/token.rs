//! `azt_token` and the credentials that give tokens.

use std::ffi::{c_char, c_void};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::error::azt_error;
use super::handle::{self, UserData};
use super::options::{azt_client_options, set};
use super::status::{azt_status, status_of};
use crate::credential::BearerToken;
use crate::error::{Error, Result, Status};
use crate::options::ClientOptions;

/// What a token callback fills in, during its call only.
///
/// Functions: azt_token_set(), azt_token_set_error().
pub struct azt_token(Mutex<Filled>);

#[derive(Default)]
struct Filled {
    token: Option<BearerToken>,
    error: Option<String>,
}

/// Gives a token for `scope` and `tenant_id`: "" when any, or the tenant that the account has named when it refused
/// the token for any. Calls azt_token_set() and returns AZT_STATUS_OK, or calls azt_token_set_error() and returns the
/// status that the waiting calls are to fail with.
///
/// Called on a thread of its own, one at a time per client, with no lock held. The strings live during the call.
/// Calls of the library that block are refused there (AZT_STATUS_UNSUPPORTED).
pub type azt_token_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        scope: *const c_char,
        tenant_id: *const c_char,
        out_token: *mut azt_token,
    ) -> azt_status,
>;

/// Sets the token and when it expires, in seconds since 1970. The token is copied.
///
/// AZT_STATUS_INVALID_ARGUMENT for NULL, an empty token, or one with characters that no token has. Within the callback
/// that was given `token`; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_token_set(
    token: *mut azt_token,
    bearer: *const c_char,
    expires_unix_seconds: i64,
) -> azt_status {
    fill(|| {
        // SAFETY: the caller passes NULL or what its callback was given, and NULL or a string.
        let (token, bearer) = unsafe { (handle::borrow(token, "token")?, handle::text(bearer, "bearer")?) };
        let expires = Duration::from_secs(u64::try_from(expires_unix_seconds).unwrap_or_default());
        let expires = SystemTime::UNIX_EPOCH
            .checked_add(expires)
            .ok_or_else(|| Error::invalid("expires_unix_seconds is out of range"))?;
        token.0.lock().unwrap_or_else(PoisonError::into_inner).token = Some(BearerToken::new(bearer, expires)?);
        Ok(())
    })
}

/// Says why there is no token; the text becomes part of the error of the calls that wait. It is copied.
///
/// AZT_STATUS_INVALID_ARGUMENT for NULL. Within the callback that was given `token`; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_token_set_error(token: *mut azt_token, message: *const c_char) -> azt_status {
    fill(|| {
        // SAFETY: the caller passes NULL or what its callback was given, and NULL or a string.
        let (token, message) = unsafe { (handle::borrow(token, "token")?, handle::text(message, "message")?) };
        token.0.lock().unwrap_or_else(PoisonError::into_inner).error = Some(message.to_owned());
        Ok(())
    })
}

fn fill(body: impl FnOnce() -> Result<()>) -> azt_status {
    super::boundary::call(std::ptr::null_mut(), body)
}

/// Takes tokens from `callback`, for programs that have a credential object of their own.
///
/// `finalizer`, which may be NULL, is called with `user_data` once nothing needs the callback any more: after the
/// options and all clients made from them are freed or got another credential; on whichever thread that happens.
/// When this call fails, it is not called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_token_callback(
    options: *mut azt_client_options,
    callback: azt_token_callback,
    user_data: *mut c_void,
    finalizer: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
    error: *mut *mut azt_error,
) -> azt_status {
    let change = |options: &mut ClientOptions| {
        let callback = callback.ok_or_else(|| Error::invalid("callback is NULL"))?;
        let user_data = UserData::new(user_data, finalizer);
        options.set_token_callback(move |scope, tenant_id| {
            let (scope, tenant_id) = (handle::c_string(scope), handle::c_string(tenant_id));
            let token = azt_token(Mutex::default());
            // SAFETY: the caller promises a function that may be called with these on any thread.
            let status =
                unsafe { callback(user_data.get(), scope.as_ptr(), tenant_id.as_ptr(), (&raw const token).cast_mut()) };
            taken(status, token.0.into_inner().unwrap_or_else(PoisonError::into_inner))
        })
    };
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, change) }
}

fn taken(status: azt_status, filled: Filled) -> Result<BearerToken> {
    let failed = |status: Status, why: &str| {
        let said = filled.error.as_deref().unwrap_or(why);
        // A callback may say of a token that it is no good.
        let said = filled.token.as_ref().map_or(said.to_owned(), |token| token.hidden_in(said));
        Err(Error::new(status, said))
    };
    match (status_of(status), &filled.token) {
        (Some(Status::Ok), Some(token)) if filled.error.is_none() => Ok(token.clone()),
        (Some(Status::Ok), _) => failed(Status::Unauthenticated, "it returned without a token"),
        (Some(status), _) => failed(status, "it failed"),
        (None, _) => failed(Status::Unauthenticated, "it failed with an unknown status"),
    }
}

/// Uses tokens of the first that works of: a service principal in AZURE_TENANT_ID, AZURE_CLIENT_ID and
/// AZURE_CLIENT_SECRET (or AZURE_CLIENT_CERTIFICATE_PATH, a PEM file); a workload identity; a managed identity
/// (AZURE_CLIENT_ID picks one); the Azure CLI; the Azure Developer CLI. The one that worked is kept.
/// AZURE_TOKEN_CREDENTIALS (prod, dev or one credential's name) narrows the choice. When none works, the error
/// says of each why (AZT_STATUS_UNAUTHENTICATED).
///
/// This is the default where the URL has no SAS and the environment no key, SAS or connection string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_default_credential(
    options: *mut azt_client_options,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, ClientOptions::set_default_credential) }
}

/// Uses tokens of an application (service principal) with a secret. The tenant is an id or a domain.
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
/// system-assigned one when `client_id` is NULL, or the user-assigned one with this client id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_managed_identity(
    options: *mut azt_client_options,
    client_id: *const c_char,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe {
        set(options, error, |options| {
            let client_id = if client_id.is_null() { None } else { Some(handle::text(client_id, "client_id")?) };
            options.set_managed_identity(client_id)
        })
    }
}

/// Uses tokens of a pod's workload identity, as AKS sets it up: AZURE_TENANT_ID, AZURE_CLIENT_ID and
/// AZURE_FEDERATED_TOKEN_FILE, a file that is read again for each token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_workload_identity(
    options: *mut azt_client_options,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, ClientOptions::set_workload_identity) }
}

/// Uses tokens of whoever logged in with `az login`; runs `az`, which must be on the PATH, for each token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azt_client_options_set_azure_cli(
    options: *mut azt_client_options,
    error: *mut *mut azt_error,
) -> azt_status {
    // SAFETY: the caller keeps the header's rules.
    unsafe { set(options, error, ClientOptions::set_azure_cli) }
}
