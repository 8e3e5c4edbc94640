//! Idle connections, by origin, and how new ones are made.

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

use super::connection::{HeadRoom, Idle, Socket};
use super::network::Network;
use crate::error::{Error, Result, Status, chain};
use crate::observe::stats::Counters;
use crate::redact::shown;
use crate::sys::lock::lock;

/// Azure's load balancers drop idle flows without a word after four minutes
/// (<https://learn.microsoft.com/azure/load-balancer/load-balancer-tcp-reset>); stay well below.
const MAX_IDLE: Duration = Duration::from_secs(60);
const TCP_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Name resolution, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Sent data that stays unacknowledged this long means a dead path.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A client's connections that no request is using.
pub(super) struct Pool {
    origins: Mutex<HashMap<String, Origin>>,
    max_idle: usize,
    network: Network,
    stats: Arc<Counters>,
    http: HttpConnector,
    /// Made on the first https request, since reading the system's certificates takes milliseconds.
    tls: OnceCell<Arc<ClientConfig>>,
    head_room: HeadRoom,
}

#[derive(Default)]
struct Origin {
    idle: Vec<Idle>,
    /// How often its connections were retired.
    generation: u64,
}

impl Pool {
    pub(super) fn new(max_idle: usize, network: Network, stats: Arc<Counters>) -> Self {
        let (origins, tls) = (Mutex::default(), OnceCell::new());
        Self { origins, max_idle, network, stats, http: http_connector(), tls, head_room: HeadRoom::default() }
    }

    pub(super) fn head_room(&self) -> &HeadRoom {
        &self.head_room
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<String, Origin>> {
        lock(&self.origins)
    }

    /// A connection to `origin`, which is `uri`'s: the one that was used last, which is the likeliest to be alive, or a
    /// new one.
    pub(super) async fn checkout(&self, origin: &str, uri: &Uri, only_new: bool) -> Result<Idle> {
        while !only_new && let Some(mut connection) = self.take_idle(origin) {
            if connection.is_usable() {
                return Ok(connection);
            }
        }
        // Rarely needed, and large: on the heap, so that every other request is not as large.
        match timeout(CONNECT_TIMEOUT, Box::pin(self.connect(origin, uri))).await {
            Ok(connected) => connected,
            Err(_) => Err(Error::network(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
        }
    }

    /// Keeps a connection for the next request. What was retired meanwhile has just brought the end of an answer, so it is
    /// alive: a path that drops some connections must not cost all of them.
    pub(super) fn check_in(&self, origin: &str, connection: Idle) {
        let mut origins = self.origins();
        if !origins.contains_key(origin) {
            origins.insert(origin.to_owned(), Origin::default());
        }
        let Some(known) = origins.get_mut(origin) else { return };
        if known.idle.len() < self.max_idle {
            connection.traffic().set_generation(known.generation);
            known.idle.push(connection);
        }
    }

    /// A connection of this generation was found dead, so the idle ones are dropped. Once for each generation: where
    /// several requests met dead connections at the same time, the failures that come in later say nothing of the
    /// connections that were made since.
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

    /// Drops the connections that have been idle since before `then`: weaker evidence than a dead connection, such as a
    /// body that stalled, says nothing against those that have served since.
    pub(super) fn drop_idle_since(&self, origin: &str, then: Instant) {
        if let Some(known) = self.origins().get_mut(origin) {
            known.idle.retain(|connection| connection.since() >= then);
        }
    }

    fn generation(&self, origin: &str) -> u64 {
        self.origins().get(origin).map_or(0, |known| known.generation)
    }

    fn take_idle(&self, origin: &str) -> Option<Idle> {
        let mut origins = self.origins();
        let idle = &mut origins.get_mut(origin)?.idle;
        let connection = idle.pop()?;
        if connection.since().elapsed() > MAX_IDLE {
            // All the others have been idle for longer.
            idle.clear();
            return None;
        }
        Some(connection)
    }

    async fn connect(&self, origin: &str, uri: &Uri) -> Result<Idle> {
        let proxy = self.network.proxy(uri)?;
        let stream = match (uri.scheme_str() == Some("https"), &proxy) {
            (true, None) => secure(self.http.clone(), self.tls()?, uri).await,
            (true, Some(proxy)) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.http.clone());
                if let Some(password) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(password.clone());
                }
                secure(tunnel, self.tls()?, uri).await
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
        Ok(Idle::new(stream, self.generation(origin)))
    }

    fn tls(&self) -> Result<Arc<ClientConfig>> {
        self.tls.get_or_try_init(|| self.network.tls()).cloned()
    }
}

async fn secure<C>(connector: C, tls: Arc<ClientConfig>, uri: &Uri) -> Result<Socket>
where
    HttpsConnector<C>: Service<Uri, Response = Socket, Error = BoxError>,
{
    let stream = HttpsConnector::from((connector, tls)).call(uri.clone()).await;
    stream.map_err(|error| connect_error(error.as_ref()))
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A peer that is not who it should be will not be another one at the next try.
fn connect_error(error: &(dyn std::error::Error + 'static)) -> Error {
    let message = format!("could not connect: {}", chain(error));
    let mut cause = Some(error);
    while let Some(current) = cause {
        if matches!(current.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return Error::new(Status::Unavailable, message).hint(
                "the server's certificate was not accepted; name a CA that the system does not know with set_ca_file or SSL_CERT_FILE",
            );
        }
        // The source of an io::Error that wraps another error is that one's source, not that one.
        let wrapped = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = wrapped.map(|inner| inner as _).or_else(|| current.source());
    }
    Error::network(message)
}

pub(crate) fn origin(uri: &Uri) -> String {
    format!("{}://{}", uri.scheme_str().unwrap_or(""), uri.authority().map_or("", |authority| authority.as_str()))
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
                let pool = Pool::new(8, Network::default().direct(), stats.clone());
                for seconds in idle {
                    let connection = pool.connect(&origin, &uri).await.unwrap();
                    pool.check_in(&origin, connection.aged(Duration::from_secs(seconds)));
                }
                let before = stats.connections_opened.get();
                pool.checkout(&origin, &uri, false).await.unwrap();
                (stats.connections_opened.get() - before, pool.origins()[&origin].idle.len())
            }
        };
        // New connections, and how many are still kept.
        assert_eq!(opened(vec![59]).await, (0, 0));
        assert_eq!(opened(vec![61]).await, (1, 0));
        assert_eq!(opened(vec![300, 62, 61]).await, (1, 0));
        assert_eq!(opened(vec![300, 61, 50]).await, (0, 2));
    }

    #[tokio::test]
    async fn a_dead_connection_takes_those_of_its_generation_with_it_and_no_others() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let (origin, elsewhere) = (origin(&uri), "http://elsewhere");
        let pool = Pool::new(8, Network::default().direct(), Arc::default());
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
        assert_eq!(idle(), 2, "an older connection took a newer one with it");
        let came_back = pool.origins()[&origin].idle[0].traffic().generation();
        pool.retire(&origin, came_back);
        assert_eq!(idle(), 0, "one that came back is not of the new generation");
        pool.check_in(&origin, connected().await);
        assert_eq!(pool.origins()[elsewhere].idle.len(), 1);

        pool.check_in(&origin, connected().await.aged(Duration::from_secs(20)));
        pool.drop_idle_since(&origin, Instant::now() - Duration::from_secs(10));
        assert_eq!(idle(), 1, "one that has served since was dropped, or one that has not was kept");

        let newer = pool.checkout(&origin, &uri, true).await.unwrap();
        assert_eq!((newer.traffic().generation(), idle()), (2, 1), "an idle one was taken in place of a new one");
    }
}
