//! Ids of tenants and applications, and the environment's variables that hold them.

use crate::error::{Error, Result};
use crate::redact::has_secret;

/// The maximum length of an id that has no known form. Such ids, for example the tenant "common" or the ids of a test
/// service, are shorter and plainer than secrets.
const MAX_FREE_FORM: usize = 24;

/// The value of an environment variable; `None` also if it is empty.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether a text has only characters that occur in tenant ids.
pub(super) fn is_tenant(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

/// Whether a text is short and does not mix upper-case letters, lower-case letters and digits, which most rules for
/// passwords require.
fn is_free_form(text: &str) -> bool {
    let has = |is: fn(&u8) -> bool| text.bytes().any(|byte| is(&byte));
    let is_mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=MAX_FREE_FORM).contains(&text.len()) && !is_mixed && text.bytes().all(is_plain)
}

/// Whether a text is a domain such as contoso.onmicrosoft.com.
fn is_domain(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_top_level = last.bytes().all(|byte| byte.is_ascii_alphabetic()) || last.starts_with("xn--");
    text.contains('.') && !text.split('.').any(str::is_empty) && is_top_level && !has_secret(text)
}

/// Returns an error if the text cannot be a tenant. A secret that was passed by mistake is then neither shown nor sent;
/// otherwise it would be part of a URL and of the response, which logs and errors show.
pub(super) fn check_tenant(tenant_id: &str) -> Result<()> {
    let is_known = is_free_form(tenant_id) || is_uuid(tenant_id) || is_domain(tenant_id);
    if !is_tenant(tenant_id) || !is_known {
        return Err(Error::invalid("the tenant is neither an id (xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx) nor a domain"));
    }
    Ok(())
}

/// Returns an error if the text cannot be a client id; see [`check_tenant`] for the reason.
pub(super) fn check_client_id(client_id: &str) -> Result<()> {
    if !(is_free_form(client_id) || is_uuid(client_id)) {
        return Err(Error::invalid("the client id is not one; it has the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"));
    }
    Ok(())
}
