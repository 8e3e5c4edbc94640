//! An access token with its expiry.

use std::fmt;
use std::time::SystemTime;

use http::header::HeaderValue;

use crate::error::{Error, Result};

/// An access token, as a token callback returns it.
#[derive(Clone)]
pub struct BearerToken {
    header: HeaderValue,
    expires: SystemTime,
}

impl BearerToken {
    /// A token, and the time when it expires.
    pub fn new(token: &str, expires: SystemTime) -> Result<Self> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid("the token is empty or has characters that no token has"));
        }
        let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Error::invalid("the token cannot be sent in a header"))?;
        header.set_sensitive(true);
        Ok(Self { header, expires })
    }

    /// `text` with this token replaced by `REDACTED`.
    pub(crate) fn hidden_in(&self, text: &str) -> String {
        let token = self.header.to_str().ok().and_then(|header| header.strip_prefix("Bearer "));
        token.map_or(text.to_owned(), |token| text.replace(token, "REDACTED"))
    }

    /// The value of the `Authorization` header.
    pub(super) fn header(&self) -> &HeaderValue {
        &self.header
    }

    pub(super) fn expires(&self) -> SystemTime {
        self.expires
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BearerToken").field("expires", &self.expires).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_no_token() {
        let token = BearerToken::new("hunter2", SystemTime::now()).unwrap();
        assert!(!format!("{token:?} {:?}", token.header()).contains("hunter2"));
        for bad in ["", "two words", "line\nbreak", "ü"] {
            assert!(BearerToken::new(bad, SystemTime::now()).is_err(), "{bad:?}");
        }
    }
}
