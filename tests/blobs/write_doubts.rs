//! Writes whose answer is lost: cleared up by looking where that is possible, and said where it is not.

use std::sync::atomic::{AtomicUsize, Ordering};

use aztorch::{Client, Result, Status, WriteMode};

use crate::support::client::{client, client_with, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer, Request};
use crate::support::http::send;

const CONTENT: Content = Content { seed: 101, size: 20 << 20 };
/// What publishes a blob of these sizes.
const KINDS: [(usize, &str); 2] = [(10, "PUT"), (20 << 20, "put-block-list")];

fn server() -> FaultServer {
    let server = FaultServer::start();
    server.put("blob", b"the old one".to_vec());
    server
}

/// The answers to the first `count` requests of a verb are lost.
fn lose(server: &FaultServer, verb: &'static str, count: usize) {
    let seen = AtomicUsize::new(0);
    server.on_request(move |request| {
        let meant = request.verb() == verb && seen.fetch_add(1, Ordering::SeqCst) < count;
        meant.then_some(Fault::LoseAnswer)
    });
}

fn replace_if_match(client: &Client, url: &str, etag: &str, bytes: &[u8]) -> Result<String> {
    let writer = client.writer(url, WriteMode::Replace)?;
    writer.set_if_match(etag)?;
    writer.write_all(bytes)?;
    writer.close()?;
    Ok(writer.etag().to_owned())
}

fn etag(server: &FaultServer, name: &str) -> String {
    send("HEAD", &server.url(name), &[], b"").expect(200).header("etag").unwrap().to_owned()
}

#[test]
fn a_lost_answer_to_a_publication_is_cleared_up() {
    for (size, verb) in KINDS {
        let bytes = CONTENT.bytes(0, size);
        for lost in [1, 2] {
            for name in ["blob", "new", "matched"] {
                let server = server();
                let before = server.put("matched", b"the old one".to_vec());
                lose(&server, verb, lost);
                let client = client_with(|options| options.set_max_retries(2));
                let url = server.url(name);
                let written = match name {
                    "new" => write_blob(&client, &url, WriteMode::Create, &bytes),
                    "blob" => write_blob(&client, &url, WriteMode::Replace, &bytes),
                    _ => replace_if_match(&client, &url, &before, &bytes),
                };
                let written = written.unwrap_or_else(|error| panic!("{verb} of {name}, {lost} lost: {error}"));
                assert_eq!(written, etag(&server, name), "{verb} of {name}");
                assert_same(&server.blob(name).unwrap(), &bytes);
            }
        }
    }
}

#[test]
fn where_no_answer_ever_came_looking_still_tells() {
    for (size, verb) in KINDS {
        for (name, mode) in [("new", WriteMode::Create), ("blob", WriteMode::Replace)] {
            let server = server();
            lose(&server, verb, usize::MAX);
            let client = client_with(|options| options.set_max_retries(1));
            let bytes = CONTENT.bytes(0, size);
            match write_blob(&client, &server.url(name), mode, &bytes) {
                Ok(written) => assert_eq!(written, etag(&server, name)),
                // A blob of one request that replaces whatever is there bears no mark to look for.
                Err(error) => {
                    assert_eq!((verb, name), ("PUT", "blob"), "{error}");
                    assert!(error.message().contains("the outcome is unknown"), "{error}");
                }
            }
            assert_same(&server.blob(name).unwrap(), &bytes);
        }
    }
}

/// The first publication does not arrive, and somebody else is faster than the second.
fn outrun(server: &FaultServer, verb: &'static str, by: &'static [u8]) {
    let seen = AtomicUsize::new(0);
    let other = server.url("blob");
    server.on_request(move |request: &Request| {
        let is_first = request.verb() == verb && seen.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then(|| {
            send("PUT", &other, &[("x-ms-blob-type", "BlockBlob")], by).expect(201);
            Fault::Reset { after: None }
        })
    });
}

#[test]
fn another_writer_is_not_taken_for_oneself() {
    for (size, verb) in KINDS {
        // Small ones even write the same.
        let bytes = vec![7; size];
        let server = FaultServer::start();
        outrun(&server, verb, &[7; 10]);
        let error =
            expect_error(write_blob(&client(), &server.url("blob"), WriteMode::Create, &bytes), Status::AlreadyExists);
        assert!(error.message().contains("the outcome is unknown"), "{error}");
        assert_eq!(server.blob("blob").unwrap(), [7; 10]);

        let server = FaultServer::start();
        let before = server.put("blob", b"the old one".to_vec());
        outrun(&server, verb, &[7; 10]);
        let error = expect_error(replace_if_match(&client(), &server.url("blob"), &before, &bytes), Status::Modified);
        assert!(error.message().contains("the outcome is unknown"), "{error}");
        assert_eq!(server.blob("blob").unwrap(), [7; 10]);
    }
}

#[test]
fn who_may_not_look_says_so() {
    let server = FaultServer::start();
    lose(&server, "PUT", 1);
    server.script("HEAD", [Fault::status(403, "AuthorizationPermissionMismatch")]);
    let error =
        expect_error(write_blob(&client(), &server.url("new"), WriteMode::Create, b"new"), Status::AlreadyExists);
    assert!(error.message().contains("the outcome is unknown"), "{error}");
}

#[test]
fn a_refusal_without_a_lost_answer_is_certain() {
    for (size, _) in KINDS {
        let server = server();
        let written = write_blob(&client(), &server.url("blob"), WriteMode::Create, &vec![1; size]);
        let error = expect_error(written, Status::AlreadyExists);
        assert!(!error.message().contains("unknown"), "{error}");
    }
}

#[test]
fn what_was_deleted_is_gone_whose_answer_was_lost_or_not() {
    let server = server();
    lose(&server, "DELETE", 1);
    client().delete(&server.url("blob")).unwrap();
    assert_eq!(server.requests_of("DELETE").len(), 2);
    assert_eq!(server.blob("blob"), None);
    expect_error(client().delete(&server.url("blob")), Status::NotFound);
}
