//! Writes whose answer is lost, or an error of a service that may have carried them out: cleared up by looking where that
//! is possible, and said where it is not.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

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
    spoil_first(server, verb, count, Fault::LoseAnswer);
}

/// The first `count` requests of a verb meet this fault.
fn spoil_first(server: &FaultServer, verb: &'static str, count: usize, fault: Fault) {
    let seen = AtomicUsize::new(0);
    server.on_request(move |request| {
        let meant = request.verb() == verb && seen.fetch_add(1, Ordering::SeqCst) < count;
        meant.then(|| fault.clone())
    });
}

/// Answers that leave open what was done. A 503 is one only without the service's own code for "not begun".
const UNCLEAR: [(u16, &str); 6] =
    [(408, ""), (500, "InternalError"), (500, "OperationTimedOut"), (502, ""), (503, ""), (504, "")];
/// Answers of a service that did not begin.
const THROTTLES: [(u16, &str); 2] = [(503, "ServerBusy"), (429, "")];

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

#[test]
fn an_error_about_a_write_that_was_carried_out_is_cleared_up() {
    for (status, code) in UNCLEAR {
        for (size, verb) in KINDS {
            // One error is enough for the large ones.
            if size > 10 && status != 500 {
                continue;
            }
            let bytes = CONTENT.bytes(0, size);
            for name in ["blob", "new", "matched"] {
                let server = server();
                let before = server.put("matched", b"the old one".to_vec());
                spoil_first(&server, verb, 1, Fault::ExecuteThenStatus { status, code });
                let url = server.url(name);
                let written = match name {
                    "new" => write_blob(&client(), &url, WriteMode::Create, &bytes),
                    "blob" => write_blob(&client(), &url, WriteMode::Replace, &bytes),
                    _ => replace_if_match(&client(), &url, &before, &bytes),
                };
                let written = written.unwrap_or_else(|error| panic!("{verb} of {name}, {status} {code}: {error}"));
                assert_eq!(written, etag(&server, name), "{verb} of {name}, {status} {code}");
                assert_same(&server.blob(name).unwrap(), &bytes);
            }
        }
        let server = server();
        spoil_first(&server, "DELETE", 1, Fault::ExecuteThenStatus { status, code });
        client().delete(&server.url("blob")).unwrap_or_else(|error| panic!("DELETE, {status} {code}: {error}"));
        assert_eq!(server.requests_of("DELETE").len(), 2);
    }
}

#[test]
fn an_error_that_lasts_leaves_the_outcome_unknown_unless_looking_tells() {
    let without_retries = client_with(|options| options.set_max_retries(0));
    for (size, verb) in KINDS {
        let server = server();
        spoil_first(&server, verb, usize::MAX, Fault::ExecuteThenStatus { status: 500, code: "InternalError" });
        let bytes = CONTENT.bytes(0, size);
        let written = write_blob(&without_retries, &server.url("new"), WriteMode::Create, &bytes).unwrap();
        assert_eq!(written, etag(&server, "new"));
        assert_same(&server.blob("new").unwrap(), &bytes);
    }
    let server = server();
    server.on_request(|_| Some(Fault::status(500, "InternalError")));
    for error in [
        write_blob(&without_retries, &server.url("blob"), WriteMode::Replace, b"new").map(drop),
        write_blob(&without_retries, &server.url("new"), WriteMode::Create, b"new").map(drop),
        without_retries.delete(&server.url("blob")),
        without_retries.create_container(&server.url_of("/account/other")),
    ] {
        let error = expect_error(error, Status::Unavailable);
        assert!(error.message().contains("the outcome is unknown"), "{error}");
    }
}

#[test]
fn a_throttled_write_was_not_carried_out() {
    for (status, code) in THROTTLES {
        for (size, verb) in KINDS {
            // Refused, and somebody else is faster than the second try.
            let server = FaultServer::start();
            let (seen, other) = (AtomicUsize::new(0), server.url("blob"));
            server.on_request(move |request: &Request| {
                let is_first = request.verb() == verb && seen.fetch_add(1, Ordering::SeqCst) == 0;
                is_first.then(|| {
                    send("PUT", &other, &[("x-ms-blob-type", "BlockBlob")], b"another's").expect(201);
                    Fault::status(status, code)
                })
            });
            let written = write_blob(&client(), &server.url("blob"), WriteMode::Create, &vec![1; size]);
            let error = expect_error(written, Status::AlreadyExists);
            assert!(!error.message().contains("unknown"), "{error}");
        }
        let server = server();
        server.script("DELETE", [Fault::status(status, code)]);
        expect_error(client().delete(&server.url("never was")), Status::NotFound);
    }
}

/// A service that is not there yet when a call begins: its first tries are refused.
fn refused_at_first<T: Send>(call: impl Fn(&Client, &str) -> T + Sync) -> (T, FaultServer) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let client = client_with(|options| options.set_max_retries(1000));
    let url = format!("http://{address}/account/container/blob?sv=2021-12-02&sig=x");
    thread::scope(|scope| {
        let called = scope.spawn(|| call(&client, &url));
        while client.stats().unwrap().retries == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let server = FaultServer::start_at(&address);
        (called.join().unwrap(), server)
    })
}

#[test]
fn a_write_that_was_never_sent_was_not_carried_out() {
    let (deleted, server) = refused_at_first(|client, url| client.delete(url));
    let error = expect_error(deleted, Status::NotFound);
    assert!(!error.message().contains("unknown"), "{error}");
    assert_eq!(server.requests_of("DELETE").len(), 1);

    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{gone}/account/container/blob?sv=2021-12-02&sig=x");
    let client = client_with(|options| options.set_max_retries(1));
    for error in [
        write_blob(&client, &url, WriteMode::Replace, b"new").map(drop),
        write_blob(&client, &url, WriteMode::Create, b"new").map(drop),
        replace_if_match(&client, &url, "\"0x1\"", b"new").map(drop),
        client.delete(&url),
        client.create_container(&url.replace("/blob", "")),
    ] {
        let error = expect_error(error, Status::Unavailable);
        assert!(!error.message().contains("unknown"), "{error}");
    }
}

/// A body that did not get out whole cannot have been carried out.
#[test]
fn a_write_that_broke_in_the_middle_was_not_carried_out() {
    let server = server();
    server.on_request(|request| (request.verb() == "PUT").then_some(Fault::NeverReadBody));
    let client = client_with(|options| {
        options.set_max_retries(0)?;
        options.set_block_size(64 << 20)
    });
    // More than the sockets' buffers take.
    let written = write_blob(&client, &server.url("blob"), WriteMode::Replace, &vec![1; 32 << 20]);
    let error = expect_error(written, Status::Unavailable);
    assert!(!error.message().contains("unknown"), "{error}");
}

#[test]
fn a_container_whose_creation_was_not_confirmed_is_looked_at() {
    let faults = UNCLEAR.map(|(status, code)| Fault::ExecuteThenStatus { status, code });
    for fault in faults.into_iter().chain([Fault::LoseAnswer]) {
        let server = FaultServer::start();
        spoil_first(&server, "PUT", 1, fault.clone());
        let url = server.url_of("/account/other");
        client().create_container(&url).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(server.requests_of("PUT").len(), 2);
        let error = expect_error(client().create_container(&url), Status::AlreadyExists);
        assert!(!error.message().contains("unknown"), "{error}");
    }
    // The first try does not arrive, and somebody else is faster than the second.
    let server = FaultServer::start();
    let url = server.url_of("/account/other");
    let (seen, other) = (AtomicUsize::new(0), format!("{url}&restype=container"));
    server.on_request(move |_| {
        (seen.fetch_add(1, Ordering::SeqCst) == 0).then(|| {
            send("PUT", &other, &[("x-ms-meta-aztorch_write", "another's")], b"").expect(201);
            Fault::Reset { after: None }
        })
    });
    let error = expect_error(client().create_container(&url), Status::AlreadyExists);
    assert!(error.message().contains("the outcome is unknown"), "{error}");
}
