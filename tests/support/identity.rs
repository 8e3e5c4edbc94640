//! A loopback server that issues tokens as Azure's services do, over http or https, and records the requests.

use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::http::{self, Headers};
use super::secure::{secure, token};

#[derive(Clone, Debug)]
pub struct TokenRequest {
    pub method: String,
    pub target: String,
    pub headers: Headers,
    pub body: String,
}

impl TokenRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        http::header(&self.headers, name)
    }
}

/// Status, further header lines, body.
pub type Response = (u16, String, String);
/// Computes the response from the number of the request and the request.
type Handler = dyn Fn(usize, &TokenRequest) -> Response + Send + Sync;

pub struct IdentityServer {
    authority: String,
    requests: Arc<Mutex<Vec<TokenRequest>>>,
}

impl IdentityServer {
    /// Starts an http server.
    pub fn start(handler: impl Fn(usize, &TokenRequest) -> Response + Send + Sync + 'static) -> IdentityServer {
        Self::serve(None, Arc::new(handler))
    }

    /// Starts an https server with the certificate of [`secure`].
    pub fn start_tls(handler: impl Fn(usize, &TokenRequest) -> Response + Send + Sync + 'static) -> IdentityServer {
        Self::serve(Some(secure().server_config()), Arc::new(handler))
    }

    /// `127.0.0.1:PORT`
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// All requests so far, in order of arrival.
    pub fn requests(&self) -> Vec<TokenRequest> {
        self.requests.lock().unwrap().clone()
    }

    fn serve(tls: Option<Arc<ServerConfig>>, handler: Arc<Handler>) -> IdentityServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let authority = listener.local_addr().expect("its address").to_string();
        let requests: Arc<Mutex<Vec<TokenRequest>>> = Arc::default();
        let seen = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let (seen, handler, tls) = (seen.clone(), handler.clone(), tls.clone());
                thread::spawn(move || match tls {
                    None => respond(stream, &seen, handler.as_ref()),
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("TLS");
                        respond(StreamOwned::new(connection, stream), &seen, handler.as_ref());
                    }
                });
            }
        });
        IdentityServer { authority, requests }
    }
}

fn respond(stream: impl Read + Write, seen: &Mutex<Vec<TokenRequest>>, handler: &Handler) {
    let mut reader = BufReader::new(stream);
    let Ok(Some((line, headers))) = http::read_head(&mut reader) else { return };
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let length = http::header(&headers, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    let request = TokenRequest { method: method.into(), target: target.into(), headers, body };
    let index = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let (status, more, body) = handler(index, &request);
    let head = format!(
        "HTTP/1.1 {status} \r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n",
        body.len()
    );
    // An error means that the client has given up.
    let _ = reader.get_mut().write_all(head.as_bytes());
    let _ = reader.get_mut().write_all(body.as_bytes());
    let _ = reader.get_mut().flush();
}

/// A token response of App Service or of the metadata service: it has the expiry in seconds since 1970, as text.
pub fn managed(mark: &str, life: Duration) -> Response {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let expires = (now + life).as_secs();
    let token = token(mark, Duration::from_secs(3600));
    let body = format!(
        r#"{{"access_token":"{token}","expires_on":"{expires}","resource":"https://storage.azure.com","token_type":"Bearer","client_id":"id"}}"#
    );
    (200, String::new(), body)
}

/// A token response of Entra.
pub fn entra(mark: &str, life: Duration) -> Response {
    let token = token(mark, Duration::from_secs(3600));
    let seconds = life.as_secs();
    let body = format!(
        r#"{{"token_type":"Bearer","expires_in":{seconds},"ext_expires_in":{seconds},"access_token":"{token}"}}"#
    );
    (200, String::new(), body)
}

/// A response of the metadata service, which requires its header.
pub fn imds(request: &TokenRequest, mark: &str) -> Response {
    match request.header("metadata") {
        Some("true") => managed(mark, Duration::from_secs(3600)),
        _ => (
            400,
            String::new(),
            r#"{"error":"invalid_request","error_description":"Required metadata header not specified"}"#.into(),
        ),
    }
}
