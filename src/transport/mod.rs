//! One exchange with the service: a request out, a response's head in, its body as it comes.
//!
//! Both the bulk data path and the SDK's control plane go through [`Transport::send`]. A connection is
//! owned by the request that uses it and driven from the same task, so that dropping the request (a
//! deadline, a cancel) closes the connection and lets go of the caller's memory at once.

mod connection;
mod counted;
mod identity;
mod liveness;
mod network;
mod pool;
mod response;
mod sdk;
mod stall;
mod throttle;
mod verdict;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, IF_NONE_MATCH, PROXY_AUTHORIZATION,
    RETRY_AFTER, USER_AGENT,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use http_body_util::Full;
use tokio::sync::{Notify, Semaphore};

use crate::checksum::Checksums;
use crate::credential::{Denial, Signed, Signer};
use crate::error::{Error, Result};
use crate::options::ClientOptions;
use crate::retry::{current_attempt, is_retry, needs_new_connection, request_goes_out};
use crate::stats::Counters;
use liveness::Liveness;
use pool::Pool;
use stall::Stall;
use throttle::Throttle;

pub(crate) use identity::IdentityHttp;
pub(crate) use network::{Network, Proxies, check_user_agent_suffix, read_ca_file};
pub(crate) use response::Response;
pub(crate) use sdk::SdkTransport;
pub(crate) use verdict::X_MS_ERROR_CODE;
#[cfg(any(test, fuzzing))]
pub(crate) use verdict::error as error_of_answer;

/// One version for the SDK's requests and ours, old enough that a user's own Azurite accepts it: blocks of
/// 4,000 MiB came with 2019-12-12, listings that encode names with 2021-02-12, and nothing we use is younger.
pub(crate) const SERVICE_VERSION: &str = "2021-12-02";

pub(crate) const X_MS_VERSION: HeaderName = HeaderName::from_static("x-ms-version");
pub(crate) const X_MS_BLOB_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-type");
const X_MS_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const X_MS_CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");

/// How long the service may take to begin its answer to what it has to carry out. Its own limit for most operations is
/// 30 s (<https://learn.microsoft.com/rest/api/storageservices/setting-timeouts-for-blob-service-operations>).
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

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

/// One request, before it is signed.
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
}

/// A client's connections and credential.
pub(crate) struct Transport {
    pool: Arc<Pool>,
    signer: Arc<Signer>,
    user_agent: HeaderValue,
    stats: Arc<Counters>,
    permits: Arc<Semaphore>,
    max_concurrency: usize,
    throttle: Throttle,
    stall_timeout: Duration,
    checksums: Checksums,
    /// Rung when something of the client's is cancelled.
    cancel_bell: Arc<Notify>,
}

impl Transport {
    pub(crate) fn new(options: &ClientOptions, network: &Network, signer: &Arc<Signer>) -> Result<Self> {
        let stats: Arc<Counters> = Arc::default();
        Ok(Self {
            pool: Arc::new(Pool::new(options.max_concurrency, network.clone(), stats.clone())),
            signer: signer.clone(),
            user_agent: network.user_agent()?,
            stats,
            permits: Arc::new(Semaphore::new(options.max_concurrency)),
            max_concurrency: options.max_concurrency,
            throttle: Throttle::new(),
            stall_timeout: options.stall_timeout,
            checksums: Checksums::new(options.checksum),
            cancel_bell: Arc::default(),
        })
    }

    pub(crate) fn stats(&self) -> &Arc<Counters> {
        &self.stats
    }

    pub(crate) fn checksums(&self) -> &Checksums {
        &self.checksums
    }

    pub(crate) fn cancel_bell(&self) -> &Arc<Notify> {
        &self.cancel_bell
    }

    pub(crate) fn max_concurrency(&self) -> usize {
        self.max_concurrency
    }

    /// One try of a request: an answer of the service, whatever its status, or the network's trouble.
    pub(crate) async fn send(&self, request: Request) -> Result<Response> {
        let origin = pool::origin(&request.uri);
        // As errors show it: no query, no secret.
        let shown = format!("{} {origin}{}", request.method, request.uri.path());
        let prepared = self.signer.prepare(&request.uri, &self.stats).await;
        // Whether a request for a token arrived says nothing of this one.
        prepared.map_err(|error| error.with_known_outcome().context(&shown))?;
        let permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Error::internal("the client's semaphore is closed"))?;
        self.throttle.turn(is_retry()).await;
        let Request { method, uri, mut headers, body } = request;
        // No secret: not worth a system call for random bytes.
        let client_request_id =
            uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid().to_string();
        headers.entry(X_MS_VERSION).or_insert(HeaderValue::from_static(SERVICE_VERSION));
        headers.insert(X_MS_CLIENT_REQUEST_ID, ascii(&client_request_id)?);
        headers.insert(USER_AGENT, self.user_agent.clone());
        // A stored Content-Encoding is the caller's business: bytes come as they were stored.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if method == Method::PUT || !body.is_empty() {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let length = body.len();
        let signing = self.signer.authorize(&method, uri, &mut headers, length, &self.stats).await;
        let (uri, signed) = signing.map_err(|error| error.with_known_outcome().context(&shown))?;
        let authorization = headers.get(AUTHORIZATION).cloned();
        let creates = headers.get(IF_NONE_MATCH).is_some_and(|unwanted| unwanted == "*");
        headers.insert(HOST, ascii(uri.authority().map_or("", |authority| authority.as_str()))?);
        // A read may as well be asked again as waited for.
        let patience = match method {
            Method::GET | Method::HEAD => self.stall_timeout,
            _ => self.stall_timeout.max(HEAD_TIMEOUT),
        };

        let connection = self.pool.checkout(&origin, &uri, needs_new_connection()).await;
        let connection = connection.map_err(|error| error.context(&shown))?;
        let liveness = Liveness::new(&self.pool, &origin, connection.traffic().clone());
        let (body, sending) = Sending::watch(body);
        let mut outgoing = http::Request::new(Full::new(body));
        *outgoing.method_mut() = method;
        *outgoing.headers_mut() = headers;
        // A proxy passes plain http on, and has to be told to whom.
        *outgoing.uri_mut() = match self.pool.network().proxy(&uri)?.filter(|_| uri.scheme_str() == Some("http")) {
            None => origin_form(&uri),
            Some(proxy) => {
                let password = proxy.basic_auth().cloned();
                outgoing.headers_mut().extend(password.map(|password| (PROXY_AUTHORIZATION, password)));
                uri.clone()
            }
        };
        let (sent, in_flight) = (self.throttle.sent(), self.stats.request());
        request_goes_out();
        let exchange = pin!(connection.exchange(outgoing, self.pool.head_room()));
        let answered = stall::answered(exchange, &sending, liveness.traffic(), self.stall_timeout, patience).await;
        let (head, body) = match answered {
            Ok(answered) => answered,
            Err(error) => {
                let error = liveness.failed(error, length);
                log_failure(&shown, &error, &client_request_id);
                return Err(error.context(&shown));
            }
        };
        self.stats.bytes_sent.add(length as u64);
        let code = head.headers.get(X_MS_ERROR_CODE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let began = sent.at();
        let is_paced = sent.answered(head.status, code, head.headers.contains_key(RETRY_AFTER));
        match head.status.as_u16() {
            429 | 503 => self.stats.throttled.add(1),
            401 if signed == Signed::Token => self.signer.refused(&uri, authorization.as_ref(), &head.headers),
            _ => {}
        }
        tracing::debug!(
            target: "aztorch::http",
            "{shown}: {} in {:.1} ms, attempt {}, request id {}, client request id {client_request_id}",
            head.status.as_u16(),
            began.elapsed().as_secs_f64() * 1e3,
            current_attempt(),
            head.headers.get(X_MS_REQUEST_ID).and_then(|value| value.to_str().ok()).unwrap_or("-"),
        );
        check_echo(&head.headers, &client_request_id).map_err(|error| error.context(&shown))?;
        drop(liveness);
        let response = Response {
            status: head.status,
            headers: head.headers,
            shown,
            body: Some(body),
            pool: self.pool.clone(),
            origin,
            sending,
            stall: Stall::new(self.stall_timeout),
            denial: Denial::new(&uri, signed),
            creates,
            stats: self.stats.clone(),
            in_flight: Some(in_flight),
            is_paced,
            voucher: None,
            permit: Some(permit),
        };
        Ok(response.settle())
    }
}

fn log_failure(shown: &str, error: &Error, client_request_id: &str) {
    let attempt = current_attempt();
    tracing::debug!(
        target: "aztorch::http",
        "{shown}: {error}, attempt {attempt}, client request id {client_request_id}"
    );
}

fn ascii(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Error::internal("a header has an invalid character"))
}

fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")).into()
}

/// An answer to another request must never be handed to a caller; no echo at all is fine.
fn check_echo(headers: &HeaderMap, sent: &str) -> Result<()> {
    match headers.get(X_MS_CLIENT_REQUEST_ID) {
        Some(echo) if echo.as_bytes() != sent.as_bytes() => {
            let message = "the answer belongs to another request (its client request id differs)";
            Err(Error::network(message).with_unknown_outcome())
        }
        _ => Ok(()),
    }
}
