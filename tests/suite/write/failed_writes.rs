//! Writes that fail: every later call returns the error, and nothing is published. Also how blocks are sent.

use std::collections::HashSet;

use aztorch::{Status, WriteMode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::support::client::{client, client_with, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};

const CONTENT: Content = Content { seed: 101, size: 20 << 20 };

fn server() -> FaultServer {
    let server = FaultServer::start();
    server.put("blob", b"the old one".to_vec());
    server
}

#[test]
fn test_continues_to_throw_after_first_fatal_error() {
    let server = server();
    server.on_request(|request| (request.verb() == "put-block").then(|| Fault::status(403, "AuthorizationFailure")));
    let writer = client().writer(&server.url("blob"), WriteMode::Replace).unwrap();
    let first = expect_error(writer.write_all(&CONTENT.all()).and_then(|()| writer.flush()), Status::PermissionDenied);
    // The service works again, but the block's bytes are lost.
    server.on_request(|_| None);
    for again in [writer.write_all(b"more"), writer.write_all(b""), writer.flush(), writer.close(), writer.close()] {
        let again = expect_error(again, Status::PermissionDenied);
        assert_eq!((again.http_status(), again.service_code()), (403, "AuthorizationFailure"));
        assert_eq!(again.request_id(), first.request_id());
    }
    assert!(server.requests_of("put-block-list").is_empty());
    assert_eq!(server.blob("blob").unwrap(), b"the old one");
    assert_eq!(writer.etag(), "");
}

#[test]
fn test_write_error() {
    // One block in the middle fails; the error may be returned by a later call.
    let server = server();
    let count = std::sync::atomic::AtomicUsize::new(0);
    server.on_request(move |request| {
        let third = request.verb() == "put-block" && count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 2;
        third.then(|| Fault::status(409, "TheThird"))
    });
    let client = client_with(|options| options.set_block_size(1 << 20));
    let writer = client.writer(&server.url("blob"), WriteMode::Replace).unwrap();
    let mut written = Ok(());
    for offset in (0..CONTENT.size).step_by(1 << 20) {
        written = written.and_then(|()| writer.write_all(&CONTENT.bytes(offset, 1 << 20)));
    }
    let flushed = expect_error(written.and_then(|()| writer.flush()), Status::Rejected);
    assert_eq!(flushed.service_code(), "TheThird");
    assert_eq!(expect_error(writer.close(), Status::Rejected).service_code(), "TheThird");
    assert!(server.requests_of("put-block-list").is_empty());
    assert_eq!(server.blob("blob").unwrap(), b"the old one");
}

#[test]
fn test_raises_for_duplicate_block_ids() {
    let server = server();
    let client = client_with(|options| options.set_block_size(1 << 20));
    for _ in 0..2 {
        write_blob(&client, &server.url("blob"), WriteMode::Replace, &CONTENT.all()).unwrap();
    }
    let blocks = server.requests_of("put-block");
    let ids: HashSet<_> = blocks
        .iter()
        .map(|block| block.query("blockid").unwrap().replace("%3D", "=").replace("%2B", "+").replace("%2F", "/"))
        .collect();
    assert_eq!(ids.len(), blocks.len(), "a block id was used twice, within a writer or by two of them");
    assert!(ids.iter().all(|id| BASE64.decode(id).unwrap().len() == 36), "{ids:?}");
}

#[test]
fn each_byte_is_sent_once_and_blocks_are_committed_once() {
    let server = server();
    write_blob(&client(), &server.url("blob"), WriteMode::Replace, &CONTENT.all()).unwrap();
    assert_same(&server.blob("blob").unwrap(), &CONTENT.all());
    assert_eq!(server.requests_of("put-block-list").len(), 1);
    assert!(server.requests_of("PUT").is_empty());
    assert_eq!(server.requests_of("put-block").iter().map(|block| block.body_length).sum::<u64>(), CONTENT.size);
    for request in server.requests() {
        assert_eq!(request.header("x-ms-version"), Some("2021-12-02"));
        assert!(request.header("x-ms-client-request-id").is_some_and(|id| !id.is_empty()));
    }
}

#[test]
fn conditions_are_sent_with_the_publishing_request() {
    for (size, verb) in [(10, "PUT"), (20 << 20, "put-block-list")] {
        let server = server();
        let etag = write_blob(&client(), &server.url("blob"), WriteMode::Replace, &vec![1; size]).unwrap();
        write_blob(&client(), &server.url("new"), WriteMode::Create, &vec![1; size]).unwrap();
        let writer = client().writer(&server.url("blob"), WriteMode::Replace).unwrap();
        writer.set_if_match(&etag).unwrap();
        writer.write_all(&vec![1; size]).unwrap();
        writer.close().unwrap();
        let sent: Vec<_> = server
            .requests_of(verb)
            .iter()
            .map(|put| (put.header("if-none-match").map(str::to_owned), put.header("if-match").map(str::to_owned)))
            .collect();
        assert_eq!(sent, [(None, None), (Some("*".to_owned()), None), (None, Some(etag))]);
    }
}

#[test]
fn blocks_begin_at_the_set_size_and_grow_with_the_blob() {
    const FIRST: u64 = 64 << 10;
    const WRITES: u64 = 2_000;
    let server = server();
    let client = client_with(|options| options.set_block_size(FIRST));
    let writer = client.writer(&server.url("blob"), WriteMode::Replace).unwrap();
    for _ in 0..WRITES {
        // Too small to become blocks of its own.
        writer.write_all(&[3; 100_000]).unwrap();
    }
    writer.flush().unwrap();
    let sizes: Vec<_> = server.requests_of("put-block").iter().map(|block| block.body_length).collect();
    assert_eq!(sizes.iter().sum::<u64>(), WRITES * 100_000);
    assert!(sizes.contains(&FIRST), "none of {} blocks has the set size", sizes.len());
    assert!(sizes.iter().any(|size| *size > FIRST), "none of {} blocks is larger than the set size", sizes.len());
}

#[test]
fn a_huge_write_uses_larger_blocks() {
    let server = server();
    let client = client_with(|options| options.set_block_size(64 << 10));
    write_blob(&client, &server.url("blob"), WriteMode::Replace, &vec![3; 200 << 20]).unwrap();
    let blocks = server.requests_of("put-block").len();
    assert!(blocks <= 1000, "{blocks} blocks");
    assert!(server.blob("blob").unwrap().iter().all(|byte| *byte == 3));
}

#[test]
fn a_throttled_publication_has_a_known_outcome() {
    let server = server();
    server.on_request(|request| (request.verb() == "PUT").then(|| Fault::status(503, "ServerBusy")));
    let client = client_with(|options| options.set_max_retries(1));
    let error = expect_error(write_blob(&client, &server.url("blob"), WriteMode::Replace, b"new"), Status::Throttled);
    assert!(!error.message().contains("unknown"), "{error}");
    assert_eq!(server.blob("blob").unwrap(), b"the old one");
}

#[test]
fn resets_during_every_request_body_are_unavailable() {
    let server = server();
    server.on_request(|request| (request.method == "PUT").then_some(Fault::NeverReadBody));
    let client = client_with(|options| options.set_max_retries(2));
    for size in [10, 20 << 20] {
        let error = expect_error(
            write_blob(&client, &server.url("blob"), WriteMode::Replace, &vec![1; size]),
            Status::Unavailable,
        );
        assert!(error.is_retryable());
    }
    assert_eq!(server.blob("blob").unwrap(), b"the old one");
}
