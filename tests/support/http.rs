//! A plain HTTP client, with which the tests prepare and check the service without using the library.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use rustls::{ClientConnection, StreamOwned};

use super::secure;

/// Header names are lower-case.
pub type Headers = Vec<(String, String)>;

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Response {
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// The value of a header; `name` is lower-case.
pub fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Sends one request over a connection of its own; `url` is `http[s]://HOST:PORT/PATH?QUERY`, already encoded.
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let stream = TcpStream::connect(authority).expect("connect");
    // Without TCP_NODELAY a second small packet waits 40 ms for the acknowledgement of the first one.
    stream.set_nodelay(true).expect("no delay");
    let request = Request { method, authority, path, headers, body };
    if scheme == "http" {
        return exchange(stream, &request);
    }
    let host = authority.split(':').next().unwrap_or_default().to_owned();
    let connection = ClientConnection::new(secure::client_config(), host.try_into().expect("a host")).expect("TLS");
    exchange(StreamOwned::new(connection, stream), &request)
}

struct Request<'a> {
    method: &'a str,
    authority: &'a str,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
}

fn exchange(mut stream: impl Read + Write, request: &Request) -> Response {
    let Request { method, authority, path, headers, body } = *request;
    // A response to HTTP/1.0 is not chunked: its body ends with the connection.
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {authority}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in [("x-ms-version", "2021-12-02")].iter().chain(headers) {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).expect("send the head");
    stream.write_all(body).expect("send the body");
    stream.flush().expect("send the rest");

    let mut reader = BufReader::new(stream);
    let (status_line, headers) = read_head(&mut reader).expect("read the head").expect("a response");
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let mut body = Vec::new();
    reader.read_to_end(&mut body).expect("read the body");
    Response { status, headers, body }
}

/// The first line and the headers of a request or a response; `None` if the peer closed the connection before it.
pub fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<(String, Headers)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let first = line.trim_end().to_owned();
    let mut headers = Headers::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => return Ok(Some((first, headers))),
        }
    }
}
