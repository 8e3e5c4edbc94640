//! The way to the services that give out tokens: Microsoft Entra, and the identity endpoints of Azure's own machines.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use azure_core::http::request::Body;
use azure_core::http::{AsyncRawResponse, HttpClient};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::Full;
use tokio::time::timeout;

use super::liveness::Liveness;
use super::network::Network;
use super::pool::{self, Pool};
use super::{ascii, origin_form, sdk};
use crate::error::{Error, Result};
use crate::redact::shown;
use crate::stats::Counters;

/// Tokens are asked for one after the other.
const MAX_IDLE: usize = 1;
const MAX_ANSWER: usize = 1 << 20;
/// From the request's first byte to the answer's last. Entra answers within a second.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where Azure's machines find their metadata service; it never leaves the host.
const IMDS: &str = "http://169.254.169.254";
/// Where else it is, as in the SDKs of other languages.
const IMDS_OVERRIDE: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

/// An answer that has arrived whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Connections of their own, without the storage service's headers, limits and counts.
pub(crate) struct IdentityHttp {
    /// Entra lies in the internet, maybe behind a proxy.
    remote: Pool,
    /// Identity endpoints speak plain http, from this machine to itself: no proxy may see their tokens.
    local: Pool,
}

impl IdentityHttp {
    pub(crate) fn new(network: &Network) -> Arc<Self> {
        let stats: Arc<Counters> = Arc::default();
        let local = Pool::new(MAX_IDLE, network.direct(), stats.clone());
        Arc::new(Self { remote: Pool::new(MAX_IDLE, network.clone(), stats), local })
    }

    /// Whether Azure's instance metadata service answers within `patience`. Asked without the header that it
    /// insists on, it refuses at once, which costs no token; elsewhere nothing answers, or something else does.
    pub(crate) async fn probe_imds(&self, patience: Duration) -> Result<()> {
        let uri = imds("/metadata/identity/oauth2/token")?;
        let host = pool::origin(&uri);
        let nobody =
            |why: String| Error::unsupported(format!("no instance metadata service at {}: {why}", shown(&host)));
        match timeout(patience, self.exchange(Method::GET, uri, HeaderMap::new(), Bytes::new())).await {
            Err(_) => Err(nobody(format!("no answer within {patience:?}"))),
            Ok(Err(error)) => Err(nobody(error.message().to_owned())),
            // Other clouds have something at the same address, which knows no such path or no such caller.
            Ok(Ok(Answer { status, .. })) if matches!(status.as_u16(), 401 | 403 | 404 | 405) => {
                Err(nobody(format!("what answers there is not Azure's ({})", status.as_u16())))
            }
            Ok(Ok(_)) => Ok(()),
        }
    }

    /// One try, and another on a new connection if the idle one was dead.
    async fn exchange(&self, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Result<Answer> {
        let first = self.exchange_once(method.clone(), uri.clone(), headers.clone(), body.clone(), false).await;
        match first {
            Err(error) if error.was_stale_connection() => self.exchange_once(method, uri, headers, body, true).await,
            answer => answer,
        }
    }

    async fn exchange_once(
        &self,
        method: Method,
        uri: Uri,
        mut headers: HeaderMap,
        body: Bytes,
        only_new: bool,
    ) -> Result<Answer> {
        let origin = pool::origin(&uri);
        let shown = format!("{method} {}", shown(&format!("{origin}{}", uri.path())));
        let pool = if uri.scheme_str() == Some("https") { &self.remote } else { &self.local };
        headers.insert(HOST, ascii(uri.authority().map_or("", |authority| authority.as_str()))?);
        headers.insert(USER_AGENT, pool.network().user_agent()?);
        if method != Method::GET {
            headers.insert(CONTENT_LENGTH, body.len().into());
        }
        let began = Instant::now();
        let connection = pool.checkout(&origin, &uri, only_new).await.map_err(|error| error.context(&shown))?;
        let (liveness, length) = (Liveness::new(pool, &origin, connection.traffic().clone()), body.len());
        let mut outgoing = http::Request::new(Full::new(body));
        *outgoing.method_mut() = method;
        *outgoing.uri_mut() = origin_form(&uri);
        *outgoing.headers_mut() = headers;
        let whole = async {
            let (head, mut body) = connection.exchange(outgoing, pool.head_room()).await?;
            let mut bytes = BytesMut::with_capacity(8 << 10);
            loop {
                let left = (MAX_ANSWER - bytes.len()) as u64;
                if body.receive(&mut bytes, left).await? == 0 {
                    break;
                }
            }
            if let Some(connection) = body.into_idle() {
                pool.check_in(&origin, connection);
            }
            Ok::<_, Error>(Answer { status: head.status, headers: head.headers, body: bytes.freeze() })
        };
        let answer = match timeout(PATIENCE, whole).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::network(format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        let answer = answer.map_err(|error| liveness.failed(error, length).context(&shown))?;
        let (status, took) = (answer.status.as_u16(), began.elapsed().as_secs_f64() * 1e3);
        tracing::debug!(target: "aztorch::credential", "{shown}: {status} in {took:.1} ms");
        Ok(answer)
    }

    async fn carry(&self, request: &azure_core::http::Request) -> Result<AsyncRawResponse> {
        let Body::Bytes(body) = request.body() else {
            return Err(Error::internal("a token request with a streamed body"));
        };
        let uri = match request.url().as_str().strip_prefix(IMDS) {
            Some(path) => imds(path)?,
            None => sdk::parse_uri(request.url())?,
        };
        let (method, headers) = (sdk::method(request.method())?, sdk::headers(request.headers())?);
        let Answer { status, headers, body } = self.exchange(method, uri, headers, body.clone()).await?;
        Ok(sdk::answer(status, &headers, body))
    }
}

fn imds(path: &str) -> Result<Uri> {
    let host = std::env::var(IMDS_OVERRIDE).unwrap_or_default();
    let host = if host.is_empty() { IMDS } else { host.trim_end_matches('/') };
    format!("{host}{path}").parse().map_err(|_| Error::invalid(format!("{IMDS_OVERRIDE} is no URL")))
}

impl fmt::Debug for IdentityHttp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("IdentityHttp")
    }
}

#[async_trait]
impl HttpClient for IdentityHttp {
    async fn execute_request(&self, request: &azure_core::http::Request) -> azure_core::Result<AsyncRawResponse> {
        // `Io` would be tried again below us for a minute; who waits for a token decides that.
        let kind = azure_core::error::ErrorKind::Other;
        self.carry(request).await.map_err(|error| azure_core::Error::new(kind, error))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

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
    async fn a_dead_idle_connection_costs_no_token() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri: Uri = format!("http://{}/token", listener.local_addr().unwrap()).parse().unwrap();
        thread::spawn(move || {
            let (mut first, _) = listener.accept().unwrap();
            answer_one(&mut first);
            // It dies under the second request, not before.
            first.read_exact(&mut [0]).unwrap();
            drop(first);
            let (mut second, _) = listener.accept().unwrap();
            answer_one(&mut second);
        });
        let http = IdentityHttp::new(&Network::default().direct());
        for _ in 0..2 {
            let asked = http.exchange(Method::GET, uri.clone(), HeaderMap::new(), Bytes::new());
            assert_eq!(asked.await.unwrap().status, StatusCode::OK);
        }
    }
}
