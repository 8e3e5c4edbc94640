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
use crate::error::{Error, Result};

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

    /// A connection to `uri`'s origin: the one that was used last, which is the likeliest to be alive, or a new one.
    pub(super) async fn checkout(&self, uri: &Uri) -> Result<Idle> {
        while let Some(mut connection) = self.take_idle(&origin(uri)) {
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
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::network(format!("could not connect: {}", crate::error::chain(error.as_ref())))
        };
        let stream = if uri.scheme_str() == Some("https") {
            let mut connector = self.https.get_or_try_init(https_connector)?.clone();
            connector.call(uri.clone()).await.map_err(failed)?
        } else {
            let stream = self.http.clone().call(uri.clone()).await.map_err(|error| failed(error.into()))?;
            MaybeHttpsStream::Http(stream)
        };
        Ok(Idle::new(stream))
    }
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
