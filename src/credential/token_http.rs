//! HTTP to the services that issue tokens: Microsoft Entra, and the identity endpoints of machines in Azure.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::request::Body;
use azure_core::http::{AsyncRawResponse, HttpClient};
use http::{Method, Uri};
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::http::{Network, Request, SimpleClient, SimpleResponse, azure_types, origin};
use crate::redact::shown;

/// The time limit from the request's first byte to the response's last. Entra usually answers within a second.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The instance metadata service of machines in Azure. Requests to it never leave the host.
const IMDS: &str = "http://169.254.169.254";
/// The variable that replaces the address of the metadata service, as in Azure's SDKs for other languages.
const IMDS_OVERRIDE: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

/// Sends token requests, on connections of its own.
pub(super) struct TokenHttp {
    /// For requests to Microsoft Entra, through a proxy if one is configured.
    remote: SimpleClient,
    /// For requests to identity endpoints, over plain http within this machine: no proxy may see their tokens.
    local: SimpleClient,
}

impl TokenHttp {
    pub(super) fn new(network: &Network) -> Arc<Self> {
        let local = SimpleClient::new(network.direct(), TIMEOUT);
        Arc::new(Self { remote: SimpleClient::new(network.clone(), TIMEOUT), local })
    }

    /// Returns an error if Azure's instance metadata service does not answer within `limit`. The request lacks a header
    /// that the service requires, so the service refuses it at once and makes no token.
    pub(super) async fn probe_imds(&self, limit: Duration) -> Result<()> {
        let uri = imds("/metadata/identity/oauth2/token")?;
        let host = origin(&uri);
        let not_found =
            |why: String| Error::unsupported(format!("no instance metadata service at {}: {why}", shown(&host)));
        match timeout(limit, self.client_for(&uri).send(Request::new(Method::GET, uri.clone()))).await {
            Err(_) => Err(not_found(format!("no answer within {limit:?}"))),
            Ok(Err(error)) => Err(not_found(error.message().to_owned())),
            // Other clouds have services at the same address; they refuse the path or the caller.
            Ok(Ok(SimpleResponse { status, .. })) if matches!(status.as_u16(), 401 | 403 | 404 | 405) => {
                Err(not_found(format!("another service than Azure's answered ({})", status.as_u16())))
            }
            Ok(Ok(_)) => Ok(()),
        }
    }

    async fn send(&self, request: &azure_core::http::Request) -> Result<AsyncRawResponse> {
        let Body::Bytes(body) = request.body() else {
            return Err(Error::internal("a token request with a streamed body"));
        };
        let uri = match request.url().as_str().strip_prefix(IMDS) {
            Some(path) => imds(path)?,
            None => azure_types::uri(request.url())?,
        };
        let mut ours = Request::new(azure_types::method(request.method())?, uri);
        ours.headers = azure_types::headers(request.headers())?;
        ours.body = body.clone();
        let SimpleResponse { status, headers, body } = self.client_for(&ours.uri).send(ours).await?;
        Ok(azure_types::response(status, &headers, body))
    }

    fn client_for(&self, uri: &Uri) -> &SimpleClient {
        if uri.scheme_str() == Some("https") { &self.remote } else { &self.local }
    }
}

fn imds(path: &str) -> Result<Uri> {
    let host = std::env::var(IMDS_OVERRIDE).unwrap_or_default();
    let host = if host.is_empty() { IMDS } else { host.trim_end_matches('/') };
    format!("{host}{path}").parse().map_err(|_| Error::invalid(format!("{IMDS_OVERRIDE} is not a URL")))
}

impl fmt::Debug for TokenHttp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenHttp")
    }
}

#[async_trait]
impl HttpClient for TokenHttp {
    async fn execute_request(&self, request: &azure_core::http::Request) -> azure_core::Result<AsyncRawResponse> {
        // The SDK would retry an error of the kind `Io` for a minute. Our own callers decide about retries.
        let kind = azure_core::error::ErrorKind::Other;
        self.send(request).await.map_err(|error| azure_core::Error::new(kind, error))
    }
}
