//! A connection that transfers almost nothing is given up after the stall timeout. A slow one is not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aztorch::{Client, Status, WriteMode};

use crate::support::client::{client_with, read_blob, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};

const STALL: Duration = Duration::from_millis(500);
const CONTENT: Content = Content { seed: 77, size: 300 << 10 };
/// Much less than a call would take without the stall timeout.
const SOON: Duration = Duration::from_secs(15);

fn client_with_stall_timeout() -> Client {
    client_with(|options| {
        options.set_stall_timeout(STALL)?;
        options.set_max_retries(2)
    })
}

/// Starts a server that calls `serve` with each connection and its number; returns a blob's URL, and the number of
/// connections so far.
fn listen(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/account/container/blob?sv=2021-12-02&sig=x", listener.local_addr().unwrap());
    let (connections, serve) = (Arc::new(AtomicUsize::new(0)), Arc::new(serve));
    let count = connections.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (number, serve) = (count.fetch_add(1, Ordering::SeqCst), serve.clone());
            thread::spawn(move || serve(stream.unwrap(), number));
        }
    });
    (url, connections)
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn a_body_that_stalls_or_trickles_is_requested_again() {
    let server = FaultServer::start();
    server.put_content("blob", CONTENT);
    server.script("GET", [Fault::StallAfterHead]);
    assert_same(&read_blob(&client_with_stall_timeout(), &server.url("blob")).unwrap(), &CONTENT.all());
    assert_eq!(server.requests_of("GET").len(), 2);

    // A byte every 20 ms.
    let (url, connections) = listen(|mut stream, _| {
        let head = read_head(&mut stream);
        // Each try resumes where the one before was given up.
        let first: u32 =
            head.split("bytes=").nth(1).and_then(|range| range.split('-').next()).unwrap().parse().unwrap();
        let range = format!("Content-Range: bytes {first}-9999/10000\r\nContent-Length: {}", 10_000 - first);
        write!(stream, "HTTP/1.1 206 Partial Content\r\nETag: \"1\"\r\n{range}\r\n\r\n").unwrap();
        // Until the client closes the connection.
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let began = Instant::now();
    let error = expect_error(read_blob(&client_with_stall_timeout(), &url), Status::Unavailable);
    assert!(error.message().contains("stalled") && began.elapsed() < SOON, "{error}, {:?}", began.elapsed());
    // Each of the three tries uses a new connection.
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[test]
fn a_slow_body_is_not_a_stall() {
    let server = FaultServer::start();
    server.put_content("blob", CONTENT);
    // The whole body takes three times the stall timeout.
    server.limit_bandwidth(200 << 10);
    assert_same(&read_blob(&client_with_stall_timeout(), &server.url("blob")).unwrap(), &CONTENT.all());
    assert_eq!(server.requests_of("GET").len(), 1);
}

#[test]
fn a_read_without_any_response_is_a_stall() {
    let server = FaultServer::start();
    server.put_content("blob", CONTENT);
    let client = client_with_stall_timeout();
    read_blob(&client, &server.url("blob")).unwrap();
    // The pooled connection gets this fault.
    server.script("GET", [Fault::Delay(Duration::from_secs(60))]);
    let began = Instant::now();
    assert_same(&read_blob(&client, &server.url("blob")).unwrap(), &CONTENT.all());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[test]
fn a_request_body_that_the_peer_does_not_read_is_a_stall() {
    let (url, connections) = listen(|stream, _| {
        thread::sleep(Duration::from_secs(60));
        drop(stream);
    });
    let began = Instant::now();
    // More than the buffers of the sockets hold.
    let error = expect_error(
        write_blob(&client_with_stall_timeout(), &url, WriteMode::Replace, &vec![1; 64 << 20]),
        Status::Unavailable,
    );
    assert!(error.message().contains("request's body stalled"), "{error}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert!(connections.load(Ordering::SeqCst) >= 3);
}

#[test]
fn a_request_body_that_the_peer_reads_slowly_is_not_a_stall() {
    let (url, connections) = listen(|mut stream, _| {
        read_head(&mut stream);
        // This takes three times the stall timeout, while the buffers of the sockets are full.
        let mut left = 24usize << 20;
        let mut piece = vec![0; 1 << 20];
        while left > 0 {
            let wanted = left.min(piece.len());
            left -= stream.read(&mut piece[..wanted]).unwrap();
            thread::sleep(Duration::from_millis(40));
        }
        stream.write_all(b"HTTP/1.1 201 Created\r\nETag: \"1\"\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let client = client_with(|options| {
        options.set_stall_timeout(STALL)?;
        options.set_block_size(32 << 20)?;
        options.set_max_retries(0)
    });
    write_blob(&client, &url, WriteMode::Replace, &vec![1; 24 << 20]).unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
