//! A loopback forward proxy. It tunnels CONNECT and forwards plain requests, one per connection.

use std::io::{BufReader, Read, Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::http::{self, Headers};

pub struct Proxy {
    authority: String,
    requests: Arc<Mutex<Vec<(String, Headers)>>>,
}

impl Proxy {
    pub fn start() -> Proxy {
        Proxy::serving(None)
    }

    /// Starts a proxy whose tunnels all lead to this address.
    pub fn tunnelling_to(authority: &str) -> Proxy {
        Proxy::serving(Some(authority.to_owned()))
    }

    fn serving(peer: Option<String>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let authority = listener.local_addr().expect("its address").to_string();
        let requests: Arc<Mutex<Vec<(String, Headers)>>> = Arc::default();
        let seen = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, peer) = (seen.clone(), peer.clone());
                // The test sees a broken connection as an error of its client.
                thread::spawn(move || drop(serve(stream, &seen, peer.as_deref())));
            }
        });
        Proxy { authority, requests }
    }

    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Request lines and headers, in order of arrival.
    pub fn requests(&self) -> Vec<(String, Headers)> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(client: TcpStream, seen: &Mutex<Vec<(String, Headers)>>, peer: Option<&str>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let Some((line, headers)) = http::read_head(&mut reader)? else { return Ok(()) };
    seen.lock().unwrap().push((line.clone(), headers.clone()));
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if method == "CONNECT" {
        let server = TcpStream::connect(peer.unwrap_or(target))?;
        (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let (mut up, mut down) = (server.try_clone()?, server);
        let mut back = client.try_clone()?;
        thread::spawn(move || {
            drop(copy(&mut down, &mut back));
            drop(back.shutdown(Shutdown::Both));
        });
        copy(&mut reader, &mut up)?;
        return up.shutdown(Shutdown::Write);
    }
    let rest = target.strip_prefix("http://").expect("an absolute URL");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut server = TcpStream::connect(authority)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers.iter().filter(|(name, _)| name != "proxy-authorization" && name != "connection") {
        head += &format!("{name}: {value}\r\n");
    }
    server.write_all(format!("{head}\r\n").as_bytes())?;
    let length: u64 = http::header(&headers, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    copy(&mut reader.take(length), &mut server)?;
    copy(&mut server, &mut &client)?;
    client.shutdown(Shutdown::Both)
}
