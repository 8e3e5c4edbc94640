//! Shared access signatures: checks that need no request to the service.

use std::time::{Duration, SystemTime};

use azure_core::credentials::Secret;
use azure_core::time::parse_rfc3339;
use http::Uri;
use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};
use crate::url::has_signature;

/// A shared access signature, without its leading '?', for the URLs of a client that have none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sas(Secret);

impl Sas {
    pub(crate) fn new(token: &str) -> Result<Self> {
        let token = token.strip_prefix('?').unwrap_or(token);
        if token.is_empty() {
            return Err(Error::invalid("the SAS token is empty"));
        }
        if token.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#')) || !token.is_ascii()
        {
            return Err(Error::invalid(
                "the SAS token has a character that cannot stand in a query; pass it as the portal shows it, from 'sv=' on",
            ));
        }
        if !has_signature(token) {
            return Err(Error::invalid("the SAS token has no signature (sig=)"));
        }
        Ok(Self(Secret::new(token.to_owned())))
    }

    /// Adds the signature to a URI's query.
    pub(super) fn append_to(&self, uri: &Uri) -> Result<Uri> {
        let separator = if uri.query().is_some() { '&' } else { '?' };
        // The error does not show the URI, because it contains the token.
        format!("{uri}{separator}{}", self.0.secret())
            .parse()
            .map_err(|_| Error::invalid("the SAS token cannot be joined to the URL"))
    }
}

/// The expiry of a SAS as written in its query, and the time until then; `Err` has the time since. `None` without an
/// expiry that can be read.
pub(super) fn expiry(query: &str, now: SystemTime) -> Option<(String, std::result::Result<Duration, Duration>)> {
    let value = query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.eq_ignore_ascii_case("se").then_some(value)
    })?;
    let text = percent_decode_str(value).decode_utf8().ok()?.into_owned();
    // The service accepts dates without seconds, and dates without a time, which mean midnight.
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        17 => format!("{}:00Z", text.strip_suffix('Z')?),
        _ => text.clone(),
    };
    let seconds = u64::try_from(parse_rfc3339(&whole).ok()?.unix_timestamp()).ok()?;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    Some((text, at.duration_since(now).map_err(|past| past.duration())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_expiry_is_read() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let left = |query: &str| expiry(query, now).map(|(_, left)| left);
        assert_eq!(left("sv=1&se=2023-11-14T23%3A13%3A20Z&sig=x"), Some(Ok(Duration::from_secs(3600))));
        assert_eq!(left("se=2023-11-14T23:13Z"), Some(Ok(Duration::from_secs(3580))));
        assert_eq!(left("SE=2023-11-14"), Some(Err(Duration::from_secs(80_000))));
        for nothing in ["", "sig=x", "se=", "se=soon", "use=2023-11-14"] {
            assert_eq!(left(nothing), None, "{nothing}");
        }
    }
}
