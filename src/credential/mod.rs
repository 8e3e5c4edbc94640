//! Who the client is to the service, and the one place that writes it into a request.

mod connection_string;
mod shared_key;

use azure_core::credentials::Secret;
use http::{HeaderMap, Method, Uri};

use crate::error::{Error, Result};
use crate::url::has_signature;

pub(crate) use connection_string::ConnectionString;
pub(crate) use shared_key::SharedKey;

/// What a client proves its identity with. Its `Debug` shows no secret: `Secret` sees to that.
#[derive(Clone, Debug, Default)]
pub(crate) enum Credential {
    /// Nothing was configured. Only URLs with a SAS and public containers work.
    #[default]
    Unset,
    /// The caller wants no credential sent.
    Anonymous,
    /// A shared access signature without its leading '?'.
    Sas(Secret),
    /// An account key, which signs each request.
    SharedKey(SharedKey),
}

impl Credential {
    pub(crate) fn sas(token: &str) -> Result<Self> {
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
        Ok(Self::Sas(Secret::new(token.to_owned())))
    }

    /// Signs one try of a request. A SAS that the URL brought along wins over the client's credential.
    ///
    /// Async because tokens will have to be fetched here.
    pub(crate) async fn authorize(
        &self,
        method: &Method,
        uri: Uri,
        headers: &mut HeaderMap,
        body_length: usize,
    ) -> Result<Uri> {
        if uri.query().is_some_and(has_signature) {
            return Ok(uri);
        }
        match self {
            Self::Unset | Self::Anonymous => Ok(uri),
            Self::Sas(token) => append_query(&uri, token.secret()),
            Self::SharedKey(key) => {
                key.sign(method, &uri, headers, body_length)?;
                Ok(uri)
            }
        }
    }

    /// What to tell a caller whom the service did not let in.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Unset => {
                "no credential is configured: put a SAS into the URL, or set a SAS, an account key or a connection string on the client"
            }
            Self::Anonymous => "the client is anonymous, which works for public containers only",
            Self::Sas(_) => "check the SAS token's permissions, services, resource types and expiry",
            Self::SharedKey(_) => "check the account name and key, and that the account allows key access",
        }
    }
}

fn append_query(uri: &Uri, token: &str) -> Result<Uri> {
    let separator = if uri.query().is_some() { '&' } else { '?' };
    // The error must not show the URI, since the token is in it.
    format!("{uri}{separator}{token}").parse().map_err(|_| Error::invalid("the SAS token cannot be joined to the URL"))
}
