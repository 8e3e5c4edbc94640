//! A simple HTTP client for token requests: one request, the whole response, on connections of its own.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::Full;
use tokio::time::timeout;

use super::dead_connection::DeadConnectionDetector;
use super::network::Network;
use super::pool::ConnectionPool;
use super::request::{Request, host, origin, origin_form};
use crate::error::{Error, Result};
use crate::redact::shown;

/// Token requests are sent one after the other, so one idle connection is enough.
const MAX_IDLE: usize = 1;
/// The longest body that is accepted, in bytes.
const MAX_BODY: usize = 1 << 20;

/// A response with its whole body.
pub(crate) struct SimpleResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A client without the storage transport's throttle, concurrency limit and statistics.
pub(crate) struct SimpleClient {
    pool: ConnectionPool,
    /// The time limit from the request's first byte to the response's last.
    timeout: Duration,
}

impl SimpleClient {
    pub(crate) fn new(network: Network, timeout: Duration) -> Self {
        Self { pool: ConnectionPool::new(MAX_IDLE, network, Default::default()), timeout }
    }

    /// Sends `request`. If its idle connection was dead, sends it once more on a new connection.
    pub(crate) async fn send(&self, request: Request) -> Result<SimpleResponse> {
        match self.send_once(request.clone(), false).await {
            Err(error) if error.was_stale_connection() => self.send_once(request, true).await,
            response => response,
        }
    }

    async fn send_once(&self, request: Request, only_new: bool) -> Result<SimpleResponse> {
        let Request { method, uri, mut headers, body } = request;
        let origin = origin(&uri);
        let shown = format!("{method} {}", shown(&format!("{origin}{}", uri.path())));
        headers.insert(HOST, host(&uri)?);
        headers.insert(USER_AGENT, self.pool.network().user_agent()?);
        if method != Method::GET {
            headers.insert(CONTENT_LENGTH, body.len().into());
        }
        let began = Instant::now();
        let connection = self.pool.checkout(&origin, &uri, only_new).await.map_err(|error| error.context(&shown))?;
        let detector = DeadConnectionDetector::new(&self.pool, &origin, connection.traffic().clone());
        let length = body.len();
        let mut outgoing = http::Request::new(Full::new(body));
        *outgoing.method_mut() = method;
        *outgoing.uri_mut() = origin_form(&uri);
        *outgoing.headers_mut() = headers;
        let whole = async {
            let (head, mut body) = connection.exchange(outgoing, self.pool.header_limit()).await?;
            let mut bytes = BytesMut::with_capacity(8 << 10);
            loop {
                let left = (MAX_BODY - bytes.len()) as u64;
                if body.receive(&mut bytes, left).await? == 0 {
                    break;
                }
            }
            if let Some(connection) = body.into_idle() {
                self.pool.check_in(&origin, connection);
            }
            Ok::<_, Error>(SimpleResponse { status: head.status, headers: head.headers, body: bytes.freeze() })
        };
        let response = match timeout(self.timeout, whole).await {
            Ok(response) => response,
            Err(_) => Err(Error::network(format!("no answer within {} s", self.timeout.as_secs()))),
        };
        let response = response.map_err(|error| detector.on_failure(error, length).context(&shown))?;
        let (status, took) = (response.status.as_u16(), began.elapsed().as_secs_f64() * 1e3);
        tracing::debug!(target: "aztorch::credential", "{shown}: {status} in {took:.1} ms");
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use http::Uri;

    use super::*;

    fn answer_one(stream: &mut TcpStream) {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
    }

    #[tokio::test]
    async fn a_dead_idle_connection_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri: Uri = format!("http://{}/token", listener.local_addr().unwrap()).parse().unwrap();
        thread::spawn(move || {
            let (mut first, _) = listener.accept().unwrap();
            answer_one(&mut first);
            // The connection is closed after the second request began, not before.
            first.read_exact(&mut [0]).unwrap();
            drop(first);
            let (mut second, _) = listener.accept().unwrap();
            answer_one(&mut second);
        });
        let client = SimpleClient::new(Network::default().direct(), Duration::from_secs(30));
        for _ in 0..2 {
            let response = client.send(Request::new(Method::GET, uri.clone()));
            assert_eq!(response.await.unwrap().status, StatusCode::OK);
        }
    }
}
