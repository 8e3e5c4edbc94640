//! The pool of a client's idle connections, by origin. It also makes new connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Intercept;
use once_cell::sync::OnceCell;
use rustls::ClientConfig;
use tokio::time::timeout;
use tower_service::Service;

use super::connection::{HeaderLimit, IdleConnection, Socket};
use super::network::Network;
use crate::error::{Error, Result, Status, chain};
use crate::observe::stats::Counters;
use crate::redact::shown;
use crate::sys::lock::lock;

/// How long a connection may stay idle. Azure's load balancers silently drop idle flows after four minutes
/// (<https://learn.microsoft.com/azure/load-balancer/load-balancer-tcp-reset>); this stays well below.
const MAX_IDLE: Duration = Duration::from_secs(60);
const TCP_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit for name resolution, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const KEEPALIVE: Duration = Duration::from_secs(30);
/// A connection whose sent data stays unacknowledged this long is dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A client's idle connections. The lock is never held across an await.
pub(super) struct ConnectionPool {
    origins: Mutex<HashMap<String, OriginConnections>>,
    max_idle: usize,
    network: Network,
    stats: Arc<Counters>,
    http: HttpConnector,
    /// Made by the first https request, because reading the system's certificates takes milliseconds.
    tls: OnceCell<Arc<ClientConfig>>,
    header_limit: HeaderLimit,
}

/// The connections to one origin.
#[derive(Default)]
struct OriginConnections {
    /// The connection that was used last is the last.
    idle: Vec<IdleConnection>,
    /// How many times the connections of this origin were retired.
    generation: u64,
}

impl ConnectionPool {
    /// A pool that keeps at most `max_idle` connections per origin.
    pub(super) fn new(max_idle: usize, network: Network, stats: Arc<Counters>) -> Self {
        let (origins, tls) = (Mutex::default(), OnceCell::new());
        Self { origins, max_idle, network, stats, http: http_connector(), tls, header_limit: HeaderLimit::default() }
    }

    pub(super) fn header_limit(&self) -> &HeaderLimit {
        &self.header_limit
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<String, OriginConnections>> {
        lock(&self.origins)
    }

    /// Takes a connection to `origin`, the origin of `uri`: the idle connection that was used last, since it is the
    /// most likely to be alive, or a new one. With `only_new` always a new one.
    pub(super) async fn checkout(&self, origin: &str, uri: &Uri, only_new: bool) -> Result<IdleConnection> {
        while !only_new && let Some(mut connection) = self.take_idle(origin) {
            if connection.is_usable() {
                return Ok(connection);
            }
        }
        // This future is large and rarely needed. On the heap it does not enlarge the future of every request.
        match timeout(CONNECT_TIMEOUT, Box::pin(self.connect(origin, uri))).await {
            Ok(connected) => connected,
            Err(_) => Err(Error::network(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
        }
    }

    /// Keeps a connection for the next request, even if its generation was retired meanwhile: it has just received the
    /// end of a response, so it is alive.
    pub(super) fn check_in(&self, origin: &str, connection: IdleConnection) {
        let mut origins = self.origins();
        if !origins.contains_key(origin) {
            origins.insert(origin.to_owned(), OriginConnections::default());
        }
        let Some(known) = origins.get_mut(origin) else { return };
        if known.idle.len() < self.max_idle {
            connection.traffic().set_generation(known.generation);
            known.idle.push(connection);
        }
    }

    /// Drops the idle connections of `origin`, because a connection of `generation` was found dead. This happens once
    /// per generation: when several requests meet dead connections at the same time, the later failures say nothing
    /// about the connections that were made since.
    pub(super) fn retire(&self, origin: &str, generation: u64) {
        let mut origins = self.origins();
        if let Some(known) = origins.get_mut(origin)
            && known.generation == generation
        {
            known.generation += 1;
            let idle = std::mem::take(&mut known.idle);
            drop(origins);
            tracing::debug!(
                target: "aztorch::http",
                "{origin}: a connection was dead; dropping the {} idle ones",
                idle.len()
            );
        }
    }

    /// Drops the connections that have been idle since before `then`. Used when the evidence is weaker than a dead
    /// connection, such as a stalled body: connections that were used after `then` are kept.
    pub(super) fn drop_idle_since(&self, origin: &str, then: Instant) {
        if let Some(known) = self.origins().get_mut(origin) {
            known.idle.retain(|connection| connection.since() >= then);
        }
    }

    fn generation(&self, origin: &str) -> u64 {
        self.origins().get(origin).map_or(0, |known| known.generation)
    }

    fn take_idle(&self, origin: &str) -> Option<IdleConnection> {
        let mut origins = self.origins();
        let idle = &mut origins.get_mut(origin)?.idle;
        let connection = idle.pop()?;
        if connection.since().elapsed() > MAX_IDLE {
            // All other connections have been idle for longer.
            idle.clear();
            return None;
        }
        Some(connection)
    }

    async fn connect(&self, origin: &str, uri: &Uri) -> Result<IdleConnection> {
        let proxy = self.network.proxy(uri)?;
        let stream = match (uri.scheme_str() == Some("https"), &proxy) {
            (true, None) => connect_tls(self.http.clone(), self.tls()?, uri).await,
            (true, Some(proxy)) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.http.clone());
                if let Some(password) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(password.clone());
                }
                connect_tls(tunnel, self.tls()?, uri).await
            }
            (false, proxy) => {
                let peer = proxy.as_ref().map_or(uri, Intercept::uri);
                let stream = self.http.clone().call(peer.clone()).await;
                stream.map(MaybeHttpsStream::Http).map_err(|error| connect_error(&error))
            }
        };
        let stream = stream.map_err(|error| match proxy {
            Some(proxy) => error.context(format!("through the proxy {}", shown(&proxy.uri().to_string()))),
            None => error,
        })?;
        self.stats.connections_opened.add(1);
        Ok(IdleConnection::new(stream, self.generation(origin)))
    }

    fn tls(&self) -> Result<Arc<ClientConfig>> {
        self.tls.get_or_try_init(|| self.network.tls()).cloned()
    }
}

/// Connects with TLS through `connector`.
async fn connect_tls<C>(connector: C, tls: Arc<ClientConfig>, uri: &Uri) -> Result<Socket>
where
    HttpsConnector<C>: Service<Uri, Response = Socket, Error = BoxError>,
{
    let stream = HttpsConnector::from((connector, tls)).call(uri.clone()).await;
    stream.map_err(|error| connect_error(error.as_ref()))
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The error of a failed connection. It can be retried, unless the server's certificate was rejected.
fn connect_error(error: &(dyn std::error::Error + 'static)) -> Error {
    let message = format!("could not connect: {}", chain(error));
    let mut cause = Some(error);
    while let Some(current) = cause {
        if matches!(current.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return Error::new(Status::Unavailable, message).hint(
                "the server's certificate was not accepted; name a CA that the system does not know with set_ca_file or SSL_CERT_FILE",
            );
        }
        // For an io::Error that wraps another error, `source` skips the wrapped error.
        let wrapped = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = wrapped.map(|inner| inner as _).or_else(|| current.source());
    }
    Error::network(message)
}

fn http_connector() -> HttpConnector {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(TCP_CONNECT_TIMEOUT));
    http.set_keepalive(Some(KEEPALIVE));
    http.set_keepalive_interval(Some(KEEPALIVE));
    http.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    http
}

#[cfg(test)]
mod tests {
    use super::super::request::origin;
    use super::*;

    #[tokio::test]
    async fn a_connection_that_was_idle_for_a_minute_is_not_used_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let origin = origin(&uri);
        let opened = |idle: Vec<u64>| {
            let (uri, origin) = (uri.clone(), origin.clone());
            async move {
                let stats: Arc<Counters> = Arc::default();
                let pool = ConnectionPool::new(8, Network::default().direct(), stats.clone());
                for seconds in idle {
                    let connection = pool.connect(&origin, &uri).await.unwrap();
                    pool.check_in(&origin, connection.aged(Duration::from_secs(seconds)));
                }
                let before = stats.connections_opened.get();
                pool.checkout(&origin, &uri, false).await.unwrap();
                (stats.connections_opened.get() - before, pool.origins()[&origin].idle.len())
            }
        };
        // New connections, and connections that stay in the pool.
        assert_eq!(opened(vec![59]).await, (0, 0));
        assert_eq!(opened(vec![61]).await, (1, 0));
        assert_eq!(opened(vec![300, 62, 61]).await, (1, 0));
        assert_eq!(opened(vec![300, 61, 50]).await, (0, 2));
    }

    #[tokio::test]
    async fn a_dead_connection_retires_its_own_generation_only() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let (origin, elsewhere) = (origin(&uri), "http://elsewhere");
        let pool = ConnectionPool::new(8, Network::default().direct(), Arc::default());
        let connected = || async { pool.connect(&origin, &uri).await.unwrap() };
        let idle = || pool.origins()[&origin].idle.len();
        let (dead, dies_later, in_use) = (connected().await, connected().await, connected().await);
        for _ in 0..2 {
            pool.check_in(&origin, connected().await);
        }
        pool.check_in(elsewhere, connected().await);

        pool.retire(&origin, dead.traffic().generation());
        assert_eq!(idle(), 0);
        pool.check_in(&origin, in_use);
        pool.check_in(&origin, connected().await);
        assert_eq!(idle(), 2);
        pool.retire(&origin, dies_later.traffic().generation());
        assert_eq!(idle(), 2, "an older connection retired a newer generation");
        let returned = pool.origins()[&origin].idle[0].traffic().generation();
        pool.retire(&origin, returned);
        assert_eq!(idle(), 0, "a connection that came back is not of the new generation");
        pool.check_in(&origin, connected().await);
        assert_eq!(pool.origins()[elsewhere].idle.len(), 1);

        pool.check_in(&origin, connected().await.aged(Duration::from_secs(20)));
        pool.drop_idle_since(&origin, Instant::now() - Duration::from_secs(10));
        assert_eq!(idle(), 1, "a connection used since was dropped, or an older one was kept");

        let newer = pool.checkout(&origin, &uri, true).await.unwrap();
        assert_eq!((newer.traffic().generation(), idle()), (2, 1), "an idle connection was taken instead of a new one");
    }
}
