//! Idle connections, by origin, and how new ones are made.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use once_cell::sync::OnceCell;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use tokio::time::timeout;
use tower_service::Service;

use super::connection::Idle;
use crate::error::{Error, Result, Status, chain};

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
    idle: Mutex<HashMap<String, Vec<Idle>>>,
    max_idle: usize,
    http: HttpConnector,
    https: OnceCell<HttpsConnector<HttpConnector>>,
}

impl Pool {
    pub(super) fn new(max_idle: usize) -> Self {
        Self { idle: Mutex::default(), max_idle, http: http_connector(), https: OnceCell::new() }
    }

    /// A connection to `origin`, which is `uri`'s: the one that was used last, which is the likeliest to be alive, or a new one.
    pub(super) async fn checkout(&self, origin: &str, uri: &Uri) -> Result<Idle> {
        while let Some(mut connection) = self.take_idle(origin) {
            if connection.is_usable().await {
                return Ok(connection);
            }
        }
        match timeout(CONNECT_TIMEOUT, self.connect(uri)).await {
            Ok(connected) => connected,
            Err(_) => Err(Error::network(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
        }
    }

    /// Keeps a connection for the next request.
    pub(super) fn check_in(&self, origin: &str, connection: Idle) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.entry(origin.to_owned()).or_default();
        if connections.len() < self.max_idle {
            connections.push(connection);
        }
    }

    fn take_idle(&self, origin: &str) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(origin)?;
        let connection = connections.pop()?;
        if connection.since().elapsed() > MAX_IDLE {
            // All the others have been idle for longer.
            connections.clear();
            return None;
        }
        Some(connection)
    }

    async fn connect(&self, uri: &Uri) -> Result<Idle> {
        let stream = if uri.scheme_str() == Some("https") {
            let mut connector = self.https.get_or_try_init(https_connector)?.clone();
            connector.call(uri.clone()).await.map_err(|error| connect_error(error.as_ref()))?
        } else {
            let stream = self.http.clone().call(uri.clone()).await.map_err(|error| connect_error(&error))?;
            MaybeHttpsStream::Http(stream)
        };
        Ok(Idle::new(stream))
    }
}

/// A peer that is not who it should be will not be another one at the next try.
fn connect_error(error: &(dyn std::error::Error + 'static)) -> Error {
    let message = format!("could not connect: {}", chain(error));
    let mut cause = Some(error);
    while let Some(current) = cause {
        if matches!(current.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return Error::new(Status::Unavailable, message).hint(
                "the server's certificate was not accepted; put a CA that the system does not know into SSL_CERT_FILE",
            );
        }
        // The source of an io::Error that wraps another error is that one's source, not that one.
        let wrapped = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = wrapped.map(|inner| inner as _).or_else(|| current.source());
    }
    Error::network(message)
}

pub(super) fn origin(uri: &Uri) -> String {
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

/// Made on the first https request, since reading the system's certificates takes milliseconds.
fn https_connector() -> Result<HttpsConnector<HttpConnector>> {
    use hyper_rustls::ConfigBuilderExt;
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal(format!("TLS settings: {error}")))?
        .with_native_roots()
        .map_err(|error| {
            Error::internal(format!("no CA certificates were found on this system ({error})"))
                .hint("install ca-certificates")
        })?
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .wrap_connector(http_connector()))
}
