//! 30 % of the requests fail at random, from a fixed seed. All calls succeed with the right bytes.

use std::sync::OnceLock;
use std::thread;

use aztorch::WriteMode;

use crate::support::client::{client, read_blob, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::fault::{Fault, FaultServer, Request, by_chance};

const SEED: u64 = 20;
const SHARE: f64 = 0.3;

/// Computed once, because that takes longer than sending it.
fn bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| Content::new(SEED, 256 << 20).all())
}

/// Chooses a fault by a random number from 0 to 1, for a blob of this size.
type Choice = fn(&Request, f64, u64) -> Fault;

const KINDS: [Choice; 3] = [refused, reset, truncated];

/// A random offset in the body of a range.
fn offset_in_range(request: &Request, number: f64, size: u64) -> u64 {
    let (first, last) = request.range().unwrap_or_default();
    ((last.min(size) - first) as f64 * number) as u64
}

fn refused(_: &Request, _: f64, _: u64) -> Fault {
    Fault::status(503, "ServerBusy")
}

/// A RST in the body of the request or the response, or after the execution and before the response.
fn reset(request: &Request, number: f64, size: u64) -> Fault {
    match request.method.as_str() {
        "GET" => Fault::Reset { after: Some(offset_in_range(request, number, size)) },
        _ if number < 0.5 => Fault::NeverReadBody,
        _ => Fault::LoseAnswer,
    }
}

/// A body that ends early: with a shorter `Content-Length`, or with a FIN.
fn truncated(request: &Request, number: f64, size: u64) -> Fault {
    match request.method.as_str() {
        "GET" if number < 0.2 => Fault::ShortBody(1),
        "GET" => Fault::Close { after: Some(offset_in_range(request, number, size)) },
        _ => Fault::Close { after: None },
    }
}

fn server(choice: Choice, size: usize) -> FaultServer {
    let server = FaultServer::start();
    server.on_request(by_chance(SEED, SHARE, move |request, number| choice(request, number, size as u64)));
    server
}

/// Asserts that there were retries.
fn assert_retried(server: &FaultServer, least: usize) {
    let requests = server.requests().len();
    assert!(requests >= least, "{requests} requests: nothing was retried");
}

#[test]
fn a_large_read_returns_the_right_bytes() {
    for choice in KINDS {
        let server = server(choice, bytes().len());
        server.put("blob", bytes());
        let read = read_blob(&client(), &server.url("blob")).unwrap();
        assert_same(&read, bytes());
        assert_retried(&server, 25);
    }
}

#[test]
fn large_writes_store_the_right_bytes() {
    let bytes = &bytes()[..100 << 20];
    for choice in KINDS {
        let server = server(choice, bytes.len());
        let client = client();
        let writer = client.writer(&server.url("blob"), WriteMode::Create).unwrap();
        // Like a checkpoint: many pieces, none of them large.
        for piece in bytes.chunks(3_000_000) {
            writer.write_all(piece).unwrap();
        }
        writer.close().unwrap();
        assert_same(&server.blob("blob").unwrap(), bytes);
        write_blob(&client, &server.url("other"), WriteMode::Replace, bytes).unwrap();
        assert_same(&server.blob("other").unwrap(), bytes);
        assert_retried(&server, 30);
    }
}

#[test]
fn many_small_reads_return_the_right_bytes() {
    const READS: usize = 500;
    const THREADS: usize = 10;
    const SIZE: usize = 20_000;
    let part = |index: usize| &bytes()[index * SIZE..(index + 1) * SIZE];
    for choice in KINDS {
        let server = server(choice, SIZE);
        (0..READS).for_each(|index| drop(server.put(&format!("blob-{index}"), part(index))));
        let client = client();
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (server, client) = (&server, &client);
                scope.spawn(move || {
                    for index in (thread..READS).step_by(THREADS) {
                        let read = read_blob(client, &server.url(&format!("blob-{index}"))).unwrap();
                        assert_same(&read, part(index));
                    }
                });
            }
        });
        assert_retried(&server, 600);
    }
}
