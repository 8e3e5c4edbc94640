//! Three answers in ten fail, by a seed: everything arrives all the same, and right.

use std::sync::OnceLock;
use std::thread;

use aztorch::WriteMode;

use crate::support::client::{client, read_blob, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::fault::{Fault, FaultServer, Request, by_chance};

const SEED: u64 = 20;
const SHARE: f64 = 0.3;

/// Made once: it takes longer than sending it.
fn bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| Content::new(SEED, 256 << 20).all())
}

/// What fails, for a number from 0 to 1 and a blob of this size.
type Choice = fn(&Request, f64, u64) -> Fault;

const KINDS: [Choice; 3] = [refused, reset, truncated];

/// Somewhere in the body of a ranged answer.
fn within(request: &Request, number: f64, size: u64) -> u64 {
    let (first, last) = request.range().unwrap_or_default();
    ((last.min(size) - first) as f64 * number) as u64
}

fn refused(_: &Request, _: f64, _: u64) -> Fault {
    Fault::status(503, "ServerBusy")
}

/// A RST in the middle of a body, of the request's or the answer's; or after the deed, before the answer.
fn reset(request: &Request, number: f64, size: u64) -> Fault {
    match request.method.as_str() {
        "GET" => Fault::Reset { after: Some(within(request, number, size)) },
        _ if number < 0.5 => Fault::NeverReadBody,
        _ => Fault::LoseAnswer,
    }
}

/// A body that ends early, with or without a word.
fn truncated(request: &Request, number: f64, size: u64) -> Fault {
    match request.method.as_str() {
        "GET" if number < 0.2 => Fault::ShortBody(1),
        "GET" => Fault::Close { after: Some(within(request, number, size)) },
        _ => Fault::Close { after: None },
    }
}

fn server(choice: Choice, size: usize) -> FaultServer {
    let server = FaultServer::start();
    server.on_request(by_chance(SEED, SHARE, move |request, number| choice(request, number, size as u64)));
    server
}

/// Whether faults were met at all.
fn check_that_it_failed(server: &FaultServer, least: usize) {
    let tries = server.requests().len();
    assert!(tries >= least, "{tries} requests: nothing was tried again");
}

#[test]
fn a_large_read_ends_with_the_right_bytes() {
    for choice in KINDS {
        let server = server(choice, bytes().len());
        server.put("blob", bytes());
        let read = read_blob(&client(), &server.url("blob")).unwrap();
        assert_same(&read, bytes());
        check_that_it_failed(&server, 25);
    }
}

#[test]
fn a_save_ends_with_the_right_bytes() {
    let bytes = &bytes()[..100 << 20];
    for choice in KINDS {
        let server = server(choice, bytes.len());
        let client = client();
        let writer = client.writer(&server.url("blob"), WriteMode::Create).unwrap();
        // As a checkpoint is written: many pieces, none of them large.
        for piece in bytes.chunks(3_000_000) {
            writer.write_all(piece).unwrap();
        }
        writer.close().unwrap();
        assert_same(&server.blob("blob").unwrap(), bytes);
        write_blob(&client, &server.url("other"), WriteMode::Replace, bytes).unwrap();
        assert_same(&server.blob("other").unwrap(), bytes);
        check_that_it_failed(&server, 30);
    }
}

#[test]
fn many_small_reads_end_with_the_right_bytes() {
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
        check_that_it_failed(&server, 600);
    }
}
