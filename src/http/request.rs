//! One HTTP request, and the parts of its URI that connections need.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};

use crate::error::{Error, Result};

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn new(method: Method, uri: Uri) -> Self {
        Self { method, uri, headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Result<Self> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| Error::invalid(format!("a value has characters that cannot be sent as {name}")))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Method and URL for errors and log lines. The query is left out, because it may hold a secret.
    pub(crate) fn shown(&self) -> String {
        format!("{} {}{}", self.method, origin(&self.uri), self.uri.path())
    }
}

/// Scheme, host and port of a URI: the key of its connections.
pub(crate) fn origin(uri: &Uri) -> String {
    format!("{}://{}", uri.scheme_str().unwrap_or(""), uri.authority().map_or("", |authority| authority.as_str()))
}

/// The value of the `Host` header.
pub(super) fn host(uri: &Uri) -> Result<HeaderValue> {
    let host = uri.authority().map_or("", |authority| authority.as_str());
    HeaderValue::from_str(host).map_err(|_| Error::internal("a host name has an invalid character"))
}

/// Path and query only (RFC 9112, 3.2.1), for a request that goes to its server without a forwarding proxy.
pub(super) fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")).into()
}
