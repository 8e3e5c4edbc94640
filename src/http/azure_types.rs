//! Conversions between the HTTP types of `azure_core` and those of the `http` crate.

use azure_core::http::AsyncRawResponse;
use azure_core::http::headers::{HeaderName as SdkName, HeaderValue as SdkValue, Headers};
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use crate::error::{Error, Result};

/// Takes our own error out of the SDK's error that wraps it. An error of the SDK itself, which could not parse a
/// document, becomes an internal error.
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

/// The SDK's headers as `http` headers.
pub(crate) fn headers(headers: &Headers) -> Result<HeaderMap> {
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

/// A response as the SDK's type, with its whole body.
pub(crate) fn response(status: StatusCode, headers: &HeaderMap, body: Bytes) -> AsyncRawResponse {
    let mut theirs = Headers::new();
    for (name, value) in headers {
        if let Ok(value) = value.to_str() {
            theirs.insert(SdkName::from(name.as_str().to_owned()), SdkValue::from(value.to_owned()));
        }
    }
    AsyncRawResponse::from_bytes(status.as_u16().into(), theirs, body)
}

pub(crate) fn method(method: azure_core::http::Method) -> Result<Method> {
    Method::from_bytes(method.as_ref().as_bytes()).map_err(|_| Error::internal("the SDK used an unknown method"))
}

pub(crate) fn uri(url: &url::Url) -> Result<http::Uri> {
    url.as_str().parse().map_err(|_| Error::internal("the SDK made a URL that cannot be sent"))
}
