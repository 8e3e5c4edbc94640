//! One HTTP exchange over our own connections: a request out, a response's head in, its body as it comes.
//!
//! The request that uses a connection owns it and drives it from its own task. So dropping the request (a deadline, a
//! cancel) closes the connection and releases the caller's memory at once. This room knows nothing of credentials or of
//! Blob Storage; [`crate::service::blob_service`] signs requests and reads error answers.

pub(crate) mod azure_types;
mod connection;
mod counting_socket;
mod liveness;
mod network;
mod plain;
mod pool;
mod response;
mod stall;
mod throttle;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use http_body_util::Full;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::retry::Attempt;
use crate::error::{Error, Result};
use crate::observe::stats::Counters;
use liveness::Liveness;
use pool::Pool;
use stall::Stall;
use throttle::Throttle;

pub(crate) use network::{Network, Proxies, check_user_agent_suffix, read_ca_file};
pub(crate) use plain::{PlainClient, PlainResponse};
pub(crate) use pool::origin;
pub(crate) use response::Response;

/// The service's code for an error, such as `BlobNotFound`.
pub(crate) const X_MS_ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");

/// How long the service may take to begin its answer to a write. Its own limit for most operations is 30 s
/// (<https://learn.microsoft.com/rest/api/storageservices/setting-timeouts-for-blob-service-operations>).
const WRITE_HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether a request's body is still being sent.
#[derive(Debug)]
pub(super) struct Sending(Arc<()>);

struct WatchedBody {
    bytes: Bytes,
    _sending: Arc<()>,
}

impl AsRef<[u8]> for WatchedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Sending {
    fn watch(bytes: Bytes) -> (Bytes, Self) {
        let token = Arc::new(());
        if bytes.is_empty() {
            return (bytes, Self(token));
        }
        (Bytes::from_owner(WatchedBody { bytes, _sending: token.clone() }), Self(token))
    }

    /// hyper lets go of a body when its last byte is with the kernel.
    fn is_over(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

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

    /// Method and URL as errors and log lines show them: no query, so no secret.
    pub(crate) fn shown(&self) -> String {
        format!("{} {}{}", self.method, origin(&self.uri), self.uri.path())
    }
}

/// The settings of a [`Transport`].
pub(crate) struct Config {
    /// The largest number of requests under way at once.
    pub(crate) max_concurrency: usize,
    /// See `ClientOptions::set_stall_timeout`.
    pub(crate) stall_timeout: Duration,
}

/// One client's connections, in one process.
pub(crate) struct Transport {
    config: Config,
    pool: Arc<Pool>,
    user_agent: HeaderValue,
    stats: Arc<Counters>,
    permits: Arc<Semaphore>,
    throttle: Throttle,
}

/// The right to send one request now; one of `max_concurrency`. Held until the response's end.
pub(crate) struct Admission(OwnedSemaphorePermit);

impl Transport {
    pub(crate) fn new(config: Config, network: &Network) -> Result<Self> {
        let stats: Arc<Counters> = Arc::default();
        Ok(Self {
            pool: Arc::new(Pool::new(config.max_concurrency, network.clone(), stats.clone())),
            user_agent: network.user_agent()?,
            stats,
            permits: Arc::new(Semaphore::new(config.max_concurrency)),
            throttle: Throttle::new(),
            config,
        })
    }

    pub(crate) fn stats(&self) -> &Arc<Counters> {
        &self.stats
    }

    pub(crate) fn max_concurrency(&self) -> usize {
        self.config.max_concurrency
    }

    /// Waits until a request may go out: for one of `max_concurrency` permits, and for its turn while the service
    /// throttles this client.
    pub(crate) async fn admit(&self, attempt: &Attempt) -> Result<Admission> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Error::internal("the client's semaphore is closed"))?;
        self.throttle.turn(attempt).await;
        Ok(Admission(permit))
    }

    /// One try of a request, signed and complete but for `Host` and `User-Agent`: the response's head, whatever its
    /// status, or the error of the network.
    pub(crate) async fn exchange(
        &self,
        admission: Admission,
        request: Request,
        shown: &str,
        attempt: &Attempt,
    ) -> Result<Response> {
        let origin = origin(&request.uri);
        let Request { method, uri, mut headers, body } = request;
        headers.insert(USER_AGENT, self.user_agent.clone());
        headers.insert(HOST, host(&uri)?);
        let stall_timeout = self.config.stall_timeout;
        // A read can be sent again, so a silent connection is given up sooner than for a write.
        let head_timeout = match method {
            Method::GET | Method::HEAD => stall_timeout,
            _ => stall_timeout.max(WRITE_HEAD_TIMEOUT),
        };

        let connection = self.pool.checkout(&origin, &uri, attempt.needs_new_connection()).await?;
        let liveness = Liveness::new(&self.pool, &origin, connection.traffic().clone());
        let length = body.len();
        let (body, sending) = Sending::watch(body);
        let mut outgoing = http::Request::new(Full::new(body));
        *outgoing.method_mut() = method;
        *outgoing.headers_mut() = headers;
        // A proxy forwards plain http, and needs the whole URL for that.
        *outgoing.uri_mut() = match self.pool.network().proxy(&uri)?.filter(|_| uri.scheme_str() == Some("http")) {
            None => origin_form(&uri),
            Some(proxy) => {
                let password = proxy.basic_auth().cloned();
                outgoing.headers_mut().extend(password.map(|password| (PROXY_AUTHORIZATION, password)));
                uri.clone()
            }
        };
        let (sent, in_flight) = (self.throttle.sent(), self.stats.request());
        attempt.mark_sent();
        let exchange = pin!(connection.exchange(outgoing, self.pool.head_room()));
        let answered = stall::answered(exchange, &sending, liveness.traffic(), stall_timeout, head_timeout).await;
        let (head, body) = answered.map_err(|error| liveness.failed(error, length))?;
        self.stats.bytes_sent.add(length as u64);
        if matches!(head.status.as_u16(), 429 | 503) {
            self.stats.throttled.add(1);
        }
        let code = head.headers.get(X_MS_ERROR_CODE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let waited = sent.at().elapsed();
        let is_paced = sent.answered(head.status, code, head.headers.contains_key(RETRY_AFTER));
        drop(liveness);
        let response = Response {
            status: head.status,
            headers: head.headers,
            shown: shown.to_owned(),
            body: Some(body),
            pool: self.pool.clone(),
            origin,
            sending,
            stall: Stall::new(stall_timeout),
            stats: self.stats.clone(),
            waited,
            in_flight: Some(in_flight),
            is_paced,
            permit: Some(admission.0),
        };
        Ok(response.settle())
    }
}

fn host(uri: &Uri) -> Result<HeaderValue> {
    let host = uri.authority().map_or("", |authority| authority.as_str());
    HeaderValue::from_str(host).map_err(|_| Error::internal("a host name has an invalid character"))
}

fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")).into()
}
