//! The SDK's clients over our connections: one pool, one signature, one set of errors for both.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::headers::{HeaderName as SdkName, HeaderValue as SdkValue, Headers};
use azure_core::http::request::Body;
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, RetryOptions, Transport as SdkClientTransport};
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use super::{Request, Transport};
use crate::error::{Error, Result};

/// The SDK's answers are control documents; a block list of 50,000 ids is the largest, at some 5 MB.
const MAX_BODY: usize = 32 << 20;

/// Carries the SDK's requests.
#[derive(Clone)]
pub(crate) struct SdkTransport(Arc<Transport>);

impl SdkTransport {
    /// Settings for an SDK client whose requests go through `transport`, which signs and retries.
    pub(crate) fn client_options(transport: Arc<Transport>) -> ClientOptions {
        ClientOptions {
            transport: Some(SdkClientTransport::new(Arc::new(Self(transport)))),
            retry: RetryOptions::none(),
            ..ClientOptions::default()
        }
    }

    async fn exchange(&self, request: &azure_core::http::Request) -> Result<AsyncRawResponse> {
        let Body::Bytes(body) = request.body() else {
            return Err(Error::internal("the SDK sent a streamed body"));
        };
        let mut ours = Request::new(method(request.method())?, parse_uri(request.url())?);
        ours.headers = headers(request.headers())?;
        ours.body = body.clone();
        let mut response = self.0.send(ours).await?.success().await?;
        let body = response.bytes(MAX_BODY).await?;
        Ok(answer(response.status, &response.headers, body))
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

/// Our own error, as it went into the SDK; the SDK's own are about documents that it could not read.
impl From<azure_core::Error> for Error {
    fn from(error: azure_core::Error) -> Self {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(cause) = source {
            if let Some(ours) = cause.downcast_ref::<Error>() {
                return ours.clone();
            }
            source = cause.source();
        }
        Error::internal(format!("the storage SDK: {}", crate::error::chain(&error)))
    }
}

pub(super) fn headers(headers: &Headers) -> Result<HeaderMap> {
    let mut ours = HeaderMap::new();
    for (name, value) in headers.iter() {
        let name = HeaderName::from_bytes(name.as_str().as_bytes());
        let value = HeaderValue::from_str(value.as_str());
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Error::invalid("a header's value cannot be sent"));
        };
        ours.insert(name, value);
    }
    Ok(ours)
}

/// An answer that has arrived whole, as the SDK has it.
pub(super) fn answer(status: StatusCode, headers: &HeaderMap, body: Bytes) -> AsyncRawResponse {
    let mut theirs = Headers::new();
    for (name, value) in headers {
        if let Ok(value) = value.to_str() {
            theirs.insert(SdkName::from(name.as_str().to_owned()), SdkValue::from(value.to_owned()));
        }
    }
    AsyncRawResponse::from_bytes(status.as_u16().into(), theirs, body)
}

pub(super) fn method(method: azure_core::http::Method) -> Result<Method> {
    Method::from_bytes(method.as_ref().as_bytes()).map_err(|_| Error::internal("the SDK used an unknown method"))
}

pub(super) fn parse_uri(url: &url::Url) -> Result<http::Uri> {
    url.as_str().parse().map_err(|_| Error::internal("the SDK made a URL that cannot be sent"))
}
