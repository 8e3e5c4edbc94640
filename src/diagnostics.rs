//! Requests for which the library has no function. `aztorch-doctor` examines an account with them, over the library's
//! own connections and credentials. This module is for such tools only: it is hidden and not part of the public API.

use std::time::SystemTime;

use http::HeaderMap;
use http::header::DATE;

use crate::client::Client;
use crate::core::retry::retry;
use crate::error::{Error, Result};
use crate::http::Request;
use crate::url::{parse_blob, parse_container};

/// The largest response body in bytes. Bodies are not returned.
const MAX_BODY: usize = 8 << 20;

/// The headers of a response.
pub struct ResponseHeaders(HeaderMap);

impl ResponseHeaders {
    /// Returns the value of a header; `None` if it is missing or not text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    /// Returns the service's time when it sent the response.
    pub fn date(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(self.0.get(DATE)?.to_str().ok()?).ok()
    }
}

/// Sends one request without a body to a container or a blob, signed and retried like every other request. `query` is
/// put before the query of the URL. A response that is not a success is an error.
pub fn send(
    client: &Client,
    method: &str,
    url: &str,
    query: &str,
    headers: &[(&str, &str)],
) -> Result<ResponseHeaders> {
    let core = client.core();
    let endpoint = core.endpoint();
    let target =
        parse_container(url, endpoint).map(|container| container.target).or_else(|_| parse_blob(url, endpoint))?;
    let method = method.parse().map_err(|_| Error::invalid("the method is malformed"))?;
    let mut request = Request::new(method, target.uri(query)?);
    for (name, value) in headers {
        let name = name.parse().map_err(|_| Error::invalid("the name of a header is malformed"))?;
        request = request.header(name, value)?;
    }
    let call = core.call()?;
    call.block_on(|call| async move {
        retry(&call.limits, |attempt| async {
            let attempt = attempt;
            let mut response = call.service.send(request.clone(), &attempt).await?.success().await?;
            response.bytes(MAX_BODY).await?;
            Ok(ResponseHeaders(response.headers.clone()))
        })
        .await
    })
}
