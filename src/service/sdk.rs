//! The SDK's clients over our connections: one pool, one signature, one set of errors for both.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::request::Body;
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, RetryOptions, Transport as SdkClientTransport};

use crate::core::retry::Attempt;
use crate::error::{Error, Result};
use crate::http::{Request, azure_types};
use crate::service::blob_service::BlobService;

/// The longest body that is accepted, in bytes. A block list of 50,000 ids is the largest answer, at some 5 MB.
const MAX_BODY: usize = 32 << 20;

/// Sends the SDK's requests over our connections. All of them belong to one try of an operation.
#[derive(Clone)]
pub(crate) struct SdkTransport {
    service: Arc<BlobService>,
    attempt: Attempt,
}

impl SdkTransport {
    /// Settings for an SDK client whose requests go through `service`, as part of `attempt`. The SDK itself neither
    /// signs nor retries.
    pub(crate) fn client_options(service: Arc<BlobService>, attempt: Attempt) -> ClientOptions {
        ClientOptions {
            transport: Some(SdkClientTransport::new(Arc::new(Self { service, attempt }))),
            retry: RetryOptions::none(),
            ..ClientOptions::default()
        }
    }

    async fn exchange(&self, request: &azure_core::http::Request) -> Result<AsyncRawResponse> {
        let Body::Bytes(body) = request.body() else {
            return Err(Error::internal("the SDK sent a streamed body"));
        };
        let mut ours = Request::new(azure_types::method(request.method())?, azure_types::uri(request.url())?);
        ours.headers = azure_types::headers(request.headers())?;
        ours.body = body.clone();
        let mut response = self.service.send(ours, &self.attempt).await?.success().await?;
        let body = response.bytes(MAX_BODY).await?;
        Ok(azure_types::response(response.status, &response.headers, body))
    }
}

impl fmt::Debug for SdkTransport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SdkTransport")
    }
}

#[async_trait]
impl HttpClient for SdkTransport {
    async fn execute_request(&self, request: &azure_core::http::Request) -> azure_core::Result<AsyncRawResponse> {
        let kind = azure_core::error::ErrorKind::Other;
        self.exchange(request).await.map_err(|error| azure_core::Error::new(kind, error))
    }
}
