//! Writes whose response is lost, or is an error after which the service may have executed them. The library checks the
//! outcome where that is possible, and reports an unknown outcome where it is not.

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
/// Sizes of a blob, and the verb that publishes a blob of that size.
const KINDS: [(usize, &str); 2] = [(10, "PUT"), (20 << 20, "put-block-list")];

fn server() -> FaultServer {
    let server = FaultServer::start();
    server.put("blob", b"the old one".to_vec());
    server
}

/// Loses the responses to the first `count` requests of a verb.
fn lose_responses(server: &FaultServer, verb: &'static str, count: usize) {
    fail_first(server, verb, count, Fault::LoseAnswer);
}

/// Gives the first `count` requests of a verb this fault.
fn fail_first(server: &FaultServer, verb: &'static str, count: usize, fault: Fault) {
    let seen = AtomicUsize::new(0);
    server.on_request(move |request| {
        let fails = request.verb() == verb && seen.fetch_add(1, Ordering::SeqCst) < count;
        fails.then(|| fault.clone())
    });
}

/// Errors after which the request may have been executed. A 503 is one only without the code `ServerBusy`.
const UNCLEAR: [(u16, &str); 6] =
    [(408, ""), (500, "InternalError"), (500, "OperationTimedOut"), (502, ""), (503, ""), (504, "")];
/// Errors after which the request was not executed.
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
fn a_publication_with_a_lost_response_succeeds() {
    for (size, verb) in KINDS {
        let bytes = CONTENT.bytes(0, size);
        for lost in [1, 2] {
            for name in ["blob", "new", "matched"] {
                let server = server();
                let before = server.put("matched", b"the old one".to_vec());
                lose_responses(&server, verb, lost);
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
fn a_publication_without_any_response_is_checked() {
    for (size, verb) in KINDS {
        for (name, mode) in [("new", WriteMode::Create), ("blob", WriteMode::Replace)] {
            let server = server();
            lose_responses(&server, verb, usize::MAX);
            let client = client_with(|options| options.set_max_retries(1));
            let bytes = CONTENT.bytes(0, size);
            match write_blob(&client, &server.url(name), mode, &bytes) {
                Ok(written) => assert_eq!(written, etag(&server, name)),
                // A blob of one request that replaces unconditionally has no marker to look for.
                Err(error) => {
                    assert_eq!((verb, name), ("PUT", "blob"), "{error}");
                    assert!(error.message().contains("the outcome is unknown"), "{error}");
                }
            }
            assert_same(&server.blob(name).unwrap(), &bytes);
        }
    }
}

/// The first publication does not arrive, and another writer publishes `bytes` before the second one.
fn publish_before_retry(server: &FaultServer, verb: &'static str, bytes: &'static [u8]) {
    let seen = AtomicUsize::new(0);
    let other = server.url("blob");
    server.on_request(move |request: &Request| {
        let is_first = request.verb() == verb && seen.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then(|| {
            send("PUT", &other, &[("x-ms-blob-type", "BlockBlob")], bytes).expect(201);
            Fault::Reset { after: None }
        })
    });
}

#[test]
fn another_writers_blob_is_not_reported_as_success() {
    for (size, verb) in KINDS {
        // In the small case the other writer even writes the same bytes.
        let bytes = vec![7; size];
        let server = FaultServer::start();
        publish_before_retry(&server, verb, &[7; 10]);
        let error =
            expect_error(write_blob(&client(), &server.url("blob"), WriteMode::Create, &bytes), Status::AlreadyExists);
        assert!(error.message().contains("the outcome is unknown"), "{error}");
        assert_eq!(server.blob("blob").unwrap(), [7; 10]);

        let server = FaultServer::start();
        let before = server.put("blob", b"the old one".to_vec());
        publish_before_retry(&server, verb, &[7; 10]);
        let error = expect_error(replace_if_match(&client(), &server.url("blob"), &before, &bytes), Status::Modified);
        assert!(error.message().contains("the outcome is unknown"), "{error}");
        assert_eq!(server.blob("blob").unwrap(), [7; 10]);
    }
}

#[test]
fn without_the_right_to_read_the_outcome_is_unknown() {
    let server = FaultServer::start();
    lose_responses(&server, "PUT", 1);
    server.script("HEAD", [Fault::status(403, "AuthorizationPermissionMismatch")]);
    let error =
        expect_error(write_blob(&client(), &server.url("new"), WriteMode::Create, b"new"), Status::AlreadyExists);
    assert!(error.message().contains("the outcome is unknown"), "{error}");
}

#[test]
fn a_refusal_without_a_lost_response_has_a_known_outcome() {
    for (size, _) in KINDS {
        let server = server();
        let written = write_blob(&client(), &server.url("blob"), WriteMode::Create, &vec![1; size]);
        let error = expect_error(written, Status::AlreadyExists);
        assert!(!error.message().contains("unknown"), "{error}");
    }
}

#[test]
fn a_deletion_with_a_lost_response_succeeds() {
    let server = server();
    lose_responses(&server, "DELETE", 1);
    client().delete(&server.url("blob")).unwrap();
    assert_eq!(server.requests_of("DELETE").len(), 2);
    assert_eq!(server.blob("blob"), None);
    expect_error(client().delete(&server.url("blob")), Status::NotFound);
}

#[test]
fn a_write_that_was_executed_despite_an_error_succeeds() {
    for (status, code) in UNCLEAR {
        for (size, verb) in KINDS {
            // Large blobs are tested with one status only.
            if size > 10 && status != 500 {
                continue;
            }
            let bytes = CONTENT.bytes(0, size);
            for name in ["blob", "new", "matched"] {
                let server = server();
                let before = server.put("matched", b"the old one".to_vec());
                fail_first(&server, verb, 1, Fault::ExecuteThenStatus { status, code });
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
        fail_first(&server, "DELETE", 1, Fault::ExecuteThenStatus { status, code });
        client().delete(&server.url("blob")).unwrap_or_else(|error| panic!("DELETE, {status} {code}: {error}"));
        assert_eq!(server.requests_of("DELETE").len(), 2);
    }
}

#[test]
fn errors_to_every_request_leave_the_outcome_unknown_if_it_cannot_be_checked() {
    let without_retries = client_with(|options| options.set_max_retries(0));
    for (size, verb) in KINDS {
        let server = server();
        fail_first(&server, verb, usize::MAX, Fault::ExecuteThenStatus { status: 500, code: "InternalError" });
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
fn a_throttled_write_was_not_executed() {
    for (status, code) in THROTTLES {
        for (size, verb) in KINDS {
            // The first try is throttled, and another writer publishes before the second.
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

/// Calls a service that does not listen yet, and starts it after the first refused connection.
fn call_before_the_service_starts<T: Send>(call: impl Fn(&Client, &str) -> T + Sync) -> (T, FaultServer) {
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
fn a_write_that_was_never_sent_has_a_known_outcome() {
    let (deleted, server) = call_before_the_service_starts(|client, url| client.delete(url));
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

/// A request whose body was not sent completely was not executed.
#[test]
fn a_write_with_a_partly_sent_body_has_a_known_outcome() {
    let server = server();
    server.on_request(|request| (request.verb() == "PUT").then_some(Fault::NeverReadBody));
    let client = client_with(|options| {
        options.set_max_retries(0)?;
        options.set_block_size(64 << 20)
    });
    // More than the buffers of the sockets hold.
    let written = write_blob(&client, &server.url("blob"), WriteMode::Replace, &vec![1; 32 << 20]);
    let error = expect_error(written, Status::Unavailable);
    assert!(!error.message().contains("unknown"), "{error}");
}

#[test]
fn a_container_creation_without_a_response_is_checked() {
    let faults = UNCLEAR.map(|(status, code)| Fault::ExecuteThenStatus { status, code });
    for fault in faults.into_iter().chain([Fault::LoseAnswer]) {
        let server = FaultServer::start();
        fail_first(&server, "PUT", 1, fault.clone());
        let url = server.url_of("/account/other");
        client().create_container(&url).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(server.requests_of("PUT").len(), 2);
        let error = expect_error(client().create_container(&url), Status::AlreadyExists);
        assert!(!error.message().contains("unknown"), "{error}");
    }
    // The first try does not arrive, and another client creates the container before the second.
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
