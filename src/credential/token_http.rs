//! HTTP to the services that issue tokens: Microsoft Entra, and the identity endpoints of Azure's own machines.

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
use crate::observe::redact::shown;

/// From the request's first byte to the answer's last. Entra answers within a second.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Where Azure's machines find their metadata service; it never leaves the host.
const IMDS: &str = "http://169.254.169.254";
/// Where else it is, as in the SDKs of other languages.
const IMDS_OVERRIDE: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

/// Carries token requests, on connections of their own.
pub(crate) struct TokenHttp {
    /// To Microsoft Entra, through a proxy where one is configured.
    remote: SimpleClient,
    /// To identity endpoints, which speak plain http within this machine: no proxy may see their tokens.
    local: SimpleClient,
}

impl TokenHttp {
    pub(crate) fn new(network: &Network) -> Arc<Self> {
        let local = SimpleClient::new(network.direct(), TIMEOUT);
        Arc::new(Self { remote: SimpleClient::new(network.clone(), TIMEOUT), local })
    }

    /// Whether Azure's instance metadata service answers within `patience`. Asked without the header that it
    /// insists on, it refuses at once, which costs no token; elsewhere nothing answers, or something else does.
    pub(crate) async fn probe_imds(&self, patience: Duration) -> Result<()> {
        let uri = imds("/metadata/identity/oauth2/token")?;
        let host = origin(&uri);
        let nobody =
            |why: String| Error::unsupported(format!("no instance metadata service at {}: {why}", shown(&host)));
        match timeout(patience, self.client_for(&uri).send(Request::new(Method::GET, uri.clone()))).await {
            Err(_) => Err(nobody(format!("no answer within {patience:?}"))),
            Ok(Err(error)) => Err(nobody(error.message().to_owned())),
            // Other clouds have something at the same address, which knows no such path or no such caller.
            Ok(Ok(SimpleResponse { status, .. })) if matches!(status.as_u16(), 401 | 403 | 404 | 405) => {
                Err(nobody(format!("what answers there is not Azure's ({})", status.as_u16())))
            }
            Ok(Ok(_)) => Ok(()),
        }
    }

    async fn carry(&self, request: &azure_core::http::Request) -> Result<AsyncRawResponse> {
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
    format!("{host}{path}").parse().map_err(|_| Error::invalid(format!("{IMDS_OVERRIDE} is no URL")))
}

impl fmt::Debug for TokenHttp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenHttp")
    }
}

#[async_trait]
impl HttpClient for TokenHttp {
    async fn execute_request(&self, request: &azure_core::http::Request) -> azure_core::Result<AsyncRawResponse> {
        // `Io` would be tried again below us for a minute; who waits for a token decides that.
        let kind = azure_core::error::ErrorKind::Other;
        self.carry(request).await.map_err(|error| azure_core::Error::new(kind, error))
    }
}
