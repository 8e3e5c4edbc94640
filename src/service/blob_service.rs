//! A client's connection to the Blob service: adds headers and a signature to each request, and turns error answers
//! into errors.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HeaderName, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Method};
use tokio::sync::Notify;

use crate::core::retry::Attempt;
use crate::credential::{AuthHints, Signed, Signer};
use crate::error::{Error, Result};
use crate::http::{Config, Network, Request, Response, Transport};
use crate::observe::stats::Counters;
use crate::options::ClientOptions;
use crate::service::checksum::Checksums;
use crate::service::error_response;
use crate::service::headers::{SERVICE_VERSION, X_MS_REQUEST_ID, X_MS_VERSION};

const X_MS_CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");

/// The longest error document that is read, in bytes. The service's documents have some hundred bytes.
const MAX_ERROR_BODY: usize = 64 << 10;

/// What a client needs to send requests in one process: connections, credential, checksums. Shared by all its handles.
pub(crate) struct BlobService {
    transport: Transport,
    signer: Arc<Signer>,
    checksums: Checksums,
    /// Notified when a handle of the client is cancelled.
    cancel_notify: Arc<Notify>,
}

impl BlobService {
    pub(crate) fn new(options: &ClientOptions, network: &Network, signer: &Arc<Signer>) -> Result<Self> {
        let config = Config { max_concurrency: options.max_concurrency, stall_timeout: options.stall_timeout };
        Ok(Self {
            transport: Transport::new(config, network)?,
            signer: signer.clone(),
            checksums: Checksums::new(options.checksum),
            cancel_notify: Arc::default(),
        })
    }

    pub(crate) fn stats(&self) -> &Arc<Counters> {
        self.transport.stats()
    }

    pub(crate) fn max_concurrency(&self) -> usize {
        self.transport.max_concurrency()
    }

    pub(crate) fn checksums(&self) -> &Checksums {
        &self.checksums
    }

    pub(crate) fn cancel_notify(&self) -> &Arc<Notify> {
        &self.cancel_notify
    }

    /// Sends one try of a request. Returns the service's response with any status, or the error if no response came.
    pub(crate) async fn send(&self, mut request: Request, attempt: &Attempt) -> Result<ServiceResponse> {
        let shown = request.shown();
        let stats = self.stats();
        let prepared = self.signer.prepare(&request.uri, stats).await;
        // An error of a token request tells nothing about this request, which was not sent.
        prepared.map_err(|error| error.with_known_outcome().context(&shown))?;
        let admission = self.transport.admit(attempt).await?;
        // Not a secret, so a cheap random number will do.
        let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid().to_string();
        add_headers(&mut request, &id)?;
        let signed = self.signer.authorize(&mut request, stats).await;
        let signed = signed.map_err(|error| error.with_known_outcome().context(&shown))?;
        let creates = request.headers.get(IF_NONE_MATCH).is_some_and(|unwanted| unwanted == "*");
        let authorization = request.headers.get(AUTHORIZATION).cloned();
        let uri = request.uri.clone();

        let response = match self.transport.exchange(admission, request, &shown, attempt).await {
            Ok(response) => response,
            Err(error) => {
                let number = attempt.number();
                tracing::debug!(target: "aztorch::http", "{shown}: {error}, attempt {number}, client request id {id}");
                return Err(error.context(&shown));
            }
        };
        if response.status.as_u16() == 401 && signed == Signed::Token {
            self.signer.refused(&uri, authorization.as_ref(), &response.headers);
        }
        tracing::debug!(
            target: "aztorch::http",
            "{shown}: {} in {:.1} ms, attempt {}, request id {}, client request id {id}",
            response.status.as_u16(),
            response.waited().as_secs_f64() * 1e3,
            attempt.number(),
            response.headers.get(X_MS_REQUEST_ID).and_then(|value| value.to_str().ok()).unwrap_or("-"),
        );
        // Before the connection can be used again: after a wrong answer, the next one would be wrong as well.
        check_echo(&response.headers, &id).map_err(|error| error.context(&shown))?;
        Ok(ServiceResponse { response: response.end_if_complete(), auth: AuthHints::new(&uri, signed), creates })
    }
}

/// Adds the headers that each request of ours has, before it is signed.
fn add_headers(request: &mut Request, client_request_id: &str) -> Result<()> {
    let headers = &mut request.headers;
    let id = HeaderValue::from_str(client_request_id).map_err(|_| Error::internal("a request id cannot be sent"))?;
    headers.entry(X_MS_VERSION).or_insert(HeaderValue::from_static(SERVICE_VERSION));
    headers.insert(X_MS_CLIENT_REQUEST_ID, id);
    // The service must send the bytes as they were stored. The caller handles a stored Content-Encoding.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if request.method == Method::PUT || !request.body.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(request.body.len()));
    }
    Ok(())
}

/// Refuses an answer that belongs to another request: its bytes must never reach a caller. An answer without an echo of
/// the request id is accepted.
fn check_echo(headers: &HeaderMap, sent: &str) -> Result<()> {
    match headers.get(X_MS_CLIENT_REQUEST_ID) {
        Some(echo) if echo.as_bytes() != sent.as_bytes() => {
            let message = "the answer belongs to another request (its client request id differs)";
            Err(Error::network(message).with_unknown_outcome())
        }
        _ => Ok(()),
    }
}

/// A response of the service, with the facts that an error message needs if its status is an error.
pub(crate) struct ServiceResponse {
    response: Response,
    auth: AuthHints,
    /// The request had `If-None-Match: *`.
    creates: bool,
}

impl ServiceResponse {
    /// Returns the response if its status is a success, otherwise the error.
    pub(crate) async fn success(mut self) -> Result<Response> {
        if self.status.is_success() {
            return Ok(self.response);
        }
        // Status and headers are enough if the document does not arrive.
        let document = self.response.bytes(MAX_ERROR_BODY).await.unwrap_or_default();
        let error = error_response::error(self.status, &self.headers, &document, &self.auth, self.creates);
        let error = error.context(self.shown());
        Err(if self.is_paced() { error.paced() } else { error })
    }

    /// Drops a response whose body is not needed, see [`Response::discard`].
    pub(crate) async fn discard(self) {
        self.response.discard().await;
    }
}

impl Deref for ServiceResponse {
    type Target = Response;

    fn deref(&self) -> &Response {
        &self.response
    }
}

impl DerefMut for ServiceResponse {
    fn deref_mut(&mut self) -> &mut Response {
        &mut self.response
    }
}
