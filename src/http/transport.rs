//! A client's transport: admits requests, sends each on a pooled connection and returns the response's head.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use http_body_util::Full;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body_tracker::BodyTracker;
use super::dead_connection::DeadConnectionDetector;
use super::network::Network;
use super::pool::ConnectionPool;
use super::request::{Request, host, origin, origin_form};
use super::response::{Response, X_MS_ERROR_CODE};
use super::stall::{StallDetector, wait_for_head};
use super::throttle::Throttle;
use crate::core::retry::Attempt;
use crate::error::{Error, Result};
use crate::observe::stats::Counters;

/// How long the service may take to begin its response to a write. The service's own limit for most operations is 30 s
/// (<https://learn.microsoft.com/rest/api/storageservices/setting-timeouts-for-blob-service-operations>).
const WRITE_HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The settings of a [`Transport`].
pub(crate) struct Config {
    /// The largest number of requests under way at once.
    pub(crate) max_concurrency: usize,
    /// See `ClientOptions::set_stall_timeout`.
    pub(crate) stall_timeout: Duration,
}

/// One client's connections in one process.
pub(crate) struct Transport {
    config: Config,
    pool: Arc<ConnectionPool>,
    user_agent: HeaderValue,
    stats: Arc<Counters>,
    permits: Arc<Semaphore>,
    throttle: Throttle,
}

/// The right to send one request now, one of `max_concurrency`. It is held until the response's body ends.
pub(crate) struct Admission(OwnedSemaphorePermit);

impl Transport {
    pub(crate) fn new(config: Config, network: &Network) -> Result<Self> {
        let stats: Arc<Counters> = Arc::default();
        Ok(Self {
            pool: Arc::new(ConnectionPool::new(config.max_concurrency, network.clone(), stats.clone())),
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

    /// Waits until a request may be sent: for one of `max_concurrency` permits, and for the throttle.
    pub(crate) async fn admit(&self, attempt: &Attempt) -> Result<Admission> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Error::internal("the client's semaphore is closed"))?;
        self.throttle.acquire(attempt).await;
        Ok(Admission(permit))
    }

    /// Sends a request once. `request` is signed and complete except for `Host` and `User-Agent`; `shown` is its
    /// [`Request::shown`]. Returns the response's head, with any status, or a network error. The caller passes the
    /// response through [`Response::end_if_complete`] once it knows that it belongs to the request.
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
        // A read can be sent again, so its silent connection is given up sooner than that of a write.
        let head_timeout = match method {
            Method::GET | Method::HEAD => stall_timeout,
            _ => stall_timeout.max(WRITE_HEAD_TIMEOUT),
        };

        let connection = self.pool.checkout(&origin, &uri, attempt.needs_new_connection()).await?;
        let detector = DeadConnectionDetector::new(&self.pool, &origin, connection.traffic().clone());
        let length = body.len();
        let (body, upload) = BodyTracker::track(body);
        let mut outgoing = http::Request::new(Full::new(body));
        *outgoing.method_mut() = method;
        *outgoing.headers_mut() = headers;
        // A proxy that forwards plain http needs the whole URL.
        *outgoing.uri_mut() = match self.pool.network().proxy(&uri)?.filter(|_| uri.scheme_str() == Some("http")) {
            None => origin_form(&uri),
            Some(proxy) => {
                let password = proxy.basic_auth().cloned();
                outgoing.headers_mut().extend(password.map(|password| (PROXY_AUTHORIZATION, password)));
                uri.clone()
            }
        };
        let (sent, in_flight) = (self.throttle.begin_request(), self.stats.request());
        attempt.mark_sent();
        let exchange = pin!(connection.exchange(outgoing, self.pool.header_limit()));
        let head = wait_for_head(exchange, &upload, detector.traffic(), stall_timeout, head_timeout).await;
        let (head, body) = head.map_err(|error| detector.on_failure(error, length))?;
        self.stats.bytes_sent.add(length as u64);
        if matches!(head.status.as_u16(), 429 | 503) {
            self.stats.throttled.add(1);
        }
        let code = head.headers.get(X_MS_ERROR_CODE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let waited = sent.at().elapsed();
        let is_paced = sent.on_response(head.status, code, head.headers.contains_key(RETRY_AFTER));
        drop(detector);
        Ok(Response {
            status: head.status,
            headers: head.headers,
            shown: shown.to_owned(),
            body: Some(body),
            pool: self.pool.clone(),
            origin,
            upload,
            stall: StallDetector::new(stall_timeout),
            stats: self.stats.clone(),
            waited,
            in_flight: Some(in_flight),
            is_paced,
            permit: Some(admission.0),
        })
    }
}
