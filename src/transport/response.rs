//! A response: its head, its body as it comes, and what becomes of its connection afterwards.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::connection::Connection;
use super::pool::Pool;
use super::verdict;
use crate::credential::Credential;
use crate::error::{Error, Result};
use crate::sys::memory::Loan;

/// A body that brings nothing for this long is given up; what came is kept and the rest asked for again.
const BODY_STALL: Duration = Duration::from_secs(30);
/// The service's error documents have some hundred bytes; a hostile one may not fill our memory.
const MAX_ERROR_BODY: usize = 64 << 10;

/// The service's answer to one request. Dropped before its body's end, it closes the connection.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    shown: String,
    body: Incoming,
    lease: Lease,
    _permit: OwnedSemaphorePermit,
}

/// A connection in use, and the way back to its pool.
pub(super) struct Lease {
    pub(super) connection: Option<Connection>,
    pub(super) pool: Arc<Pool>,
    pub(super) origin: String,
    pub(super) loan: Option<Loan>,
}

impl Lease {
    /// Gives the connection back if it can serve again and holds nothing of the caller's.
    async fn recycle(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if connection.is_reusable().await && self.loan.as_ref().is_none_or(|loan| loan.is_returned(1)) {
            self.pool.check_in(&self.origin, connection);
        }
    }
}

impl Response {
    pub(super) fn new(
        head: http::Response<Incoming>,
        shown: String,
        lease: Lease,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let (parts, body) = head.into_parts();
        Self { status: parts.status, headers: parts.headers, shown, body, lease, _permit: permit }
    }

    pub(crate) fn header(&self, name: &HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Method and URL of the request, as errors show them.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(&CONTENT_LENGTH).parse().ok()
    }

    /// The next piece of the body; `None` at its end, when the connection is free again.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>> {
        let Some(connection) = self.lease.connection.as_mut() else { return Ok(None) };
        let piece = match timeout(BODY_STALL, connection.next_piece(&mut self.body)).await {
            Ok(piece) => piece.map_err(|error| error.context(format!("{}: the body broke off", self.shown)))?,
            Err(_) => {
                let message = format!("{}: the body stalled for {} s", self.shown, BODY_STALL.as_secs());
                return Err(Error::network(message));
            }
        };
        if piece.is_none() {
            self.lease.recycle().await;
        }
        Ok(piece)
    }

    /// The whole body, for answers that are small by their nature.
    pub(crate) async fn bytes(&mut self, max: usize) -> Result<Bytes> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.piece().await? {
            if whole.len() + piece.len() > max {
                return Err(Error::network(format!("{}: the answer has more than {max} bytes", self.shown)));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// Takes an answer for success, or makes its error.
    pub(crate) async fn success(mut self, credential: &Credential) -> Result<Self> {
        if self.status.is_success() {
            return Ok(self);
        }
        // The status and headers say enough if the document does not arrive.
        let document = self.bytes(MAX_ERROR_BODY).await.unwrap_or_default();
        Err(verdict::error(self.status, &self.headers, &document, credential).context(&self.shown))
    }
}
