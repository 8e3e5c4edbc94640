//! A loopback server that gives out tokens as Azure's services do, over http or https, and remembers who asked.

use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::http::{self, Headers};
use super::secure::{secure, token};

#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub headers: Headers,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        http::header(&self.headers, name)
    }
}

/// Status, further header lines, body.
pub type Answer = (u16, String, String);
type Answering = dyn Fn(usize, &Asked) -> Answer + Send + Sync;

pub struct IdentityServer {
    authority: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl IdentityServer {
    pub fn start(answering: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> IdentityServer {
        Self::serve(None, Arc::new(answering))
    }

    pub fn start_tls(answering: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> IdentityServer {
        Self::serve(Some(secure().server_config()), Arc::new(answering))
    }

    /// `127.0.0.1:PORT`
    pub fn authority(&self) -> &str {
        &self.authority
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn serve(tls: Option<Arc<ServerConfig>>, answering: Arc<Answering>) -> IdentityServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let authority = listener.local_addr().expect("its address").to_string();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let seen = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let (seen, answering, tls) = (seen.clone(), answering.clone(), tls.clone());
                thread::spawn(move || match tls {
                    None => answer(stream, &seen, answering.as_ref()),
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("TLS");
                        answer(StreamOwned::new(connection, stream), &seen, answering.as_ref());
                    }
                });
            }
        });
        IdentityServer { authority, asked }
    }
}

fn answer(stream: impl Read + Write, seen: &Mutex<Vec<Asked>>, answering: &Answering) {
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
    let request = Asked { method: method.into(), target: target.into(), headers, body };
    let index = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let (status, more, body) = answering(index, &request);
    let head = format!(
        "HTTP/1.1 {status} \r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n",
        body.len()
    );
    // A client that has given up is no trouble of the server's.
    let _ = reader.get_mut().write_all(head.as_bytes());
    let _ = reader.get_mut().write_all(body.as_bytes());
    let _ = reader.get_mut().flush();
}

/// What App Service and the metadata service answer: seconds since 1970, as text.
pub fn managed(mark: &str, life: Duration) -> Answer {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let expires = (now + life).as_secs();
    let token = token(mark, Duration::from_secs(3600));
    let body = format!(
        r#"{{"access_token":"{token}","expires_on":"{expires}","resource":"https://storage.azure.com","token_type":"Bearer","client_id":"id"}}"#
    );
    (200, String::new(), body)
}

/// What Entra answers.
pub fn entra(mark: &str, life: Duration) -> Answer {
    let token = token(mark, Duration::from_secs(3600));
    let seconds = life.as_secs();
    let body = format!(
        r#"{{"token_type":"Bearer","expires_in":{seconds},"ext_expires_in":{seconds},"access_token":"{token}"}}"#
    );
    (200, String::new(), body)
}

/// The metadata service: it wants its header.
pub fn imds(asked: &Asked, mark: &str) -> Answer {
    match asked.header("metadata") {
        Some("true") => managed(mark, Duration::from_secs(3600)),
        _ => (
            400,
            String::new(),
            r#"{"error":"invalid_request","error_description":"Required metadata header not specified"}"#.into(),
        ),
    }
}
