//! Retries: which faults are retried, how often, until when, and with which status a call fails in the end.

use std::collections::{HashMap, HashSet};
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::Duration;

use aztorch::{Client, Result, Status, WriteMode};

use crate::support::client::{client, client_with, read_blob, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::{ChecksumSupport, Fault, FaultServer};

/// HTTP statuses that are retried.
const TRANSIENT: [u16; 6] = [408, 429, 500, 502, 503, 504];

fn call(client: &Client, server: &FaultServer, verb: &str) -> Result<()> {
    let large = Content::new(91, 20 << 20).all();
    match verb {
        "GET" => read_blob(client, &server.url("blob")).map(drop),
        "PUT" => write_blob(client, &server.url("blob"), WriteMode::Replace, b"new").map(drop),
        "put-block" | "put-block-list" => write_blob(client, &server.url("blob"), WriteMode::Replace, &large).map(drop),
        "DELETE" => client.delete(&server.url("blob")),
        _ => client.exists(&server.url("blob")).map(|exists| assert!(exists)),
    }
}

const VERBS: [&str; 6] = ["GET", "PUT", "put-block", "put-block-list", "DELETE", "exists"];

fn server() -> FaultServer {
    let server = FaultServer::start();
    server.put("blob", b"some bytes".to_vec());
    server
}

#[test]
fn every_call_retries_transient_faults() {
    for verb in VERBS {
        for fault in TRANSIENT.map(|status| Fault::status(status, "")).into_iter().chain([
            Fault::Reset { after: None },
            Fault::Close { after: None },
            Fault::NeverReadBody,
        ]) {
            let server = server();
            let once = (fault.clone(), std::sync::atomic::AtomicBool::new(false));
            server.on_request(move |request| {
                let matches = request.verb() == verb || verb == "exists";
                (matches && !once.1.swap(true, std::sync::atomic::Ordering::SeqCst)).then(|| once.0.clone())
            });
            call(&client(), &server, verb).unwrap_or_else(|error| panic!("{verb} after {fault:?}: {error}"));
            match verb {
                "PUT" => assert_eq!(server.blob("blob").unwrap(), b"new"),
                "put-block" | "put-block-list" => {
                    assert_same(&server.blob("blob").unwrap(), &Content::new(91, 20 << 20).all())
                }
                _ => {}
            }
        }
    }
}

#[test]
fn after_max_retries_the_status_is_that_of_the_last_response() {
    let cases = TRANSIENT.map(|status| {
        let expected = if matches!(status, 429 | 503) { Status::Throttled } else { Status::Unavailable };
        (Fault::status(status, "TheCode"), expected, status)
    });
    let silent = (Fault::Reset { after: None }, Status::Unavailable, 0);
    for (fault, expected, http_status) in cases.into_iter().chain([silent]) {
        for retries in [0, 2] {
            let server = server();
            let lasting = fault.clone();
            server.on_request(move |_| Some(lasting.clone()));
            let client = client_with(|options| options.set_max_retries(retries));
            let error = expect_error(client.open(&server.url("blob")), expected);
            assert_eq!(error.http_status(), http_status);
            assert_eq!(error.service_code(), if http_status == 0 { "" } else { "TheCode" });
            assert!(error.is_retryable(), "{error}");
            assert_eq!(server.requests().len(), retries as usize + 1, "{fault:?}");
        }
    }
}

#[test]
fn max_retries_applies_to_each_request_of_a_write() {
    for (verb, size) in [("PUT", 10), ("put-block", 20 << 20), ("put-block-list", 20 << 20)] {
        let server = server();
        server.on_request(move |request| (request.verb() == verb).then(|| Fault::status(500, "InternalError")));
        let client = client_with(|options| options.set_max_retries(2));
        let written = write_blob(&client, &server.url("blob"), WriteMode::Replace, &vec![1; size]);
        expect_error(written, Status::Unavailable);
        // Each block is a request of its own, identified by its id. The first one that fails finally cancels the other
        // ones.
        let mut tries = HashMap::new();
        for request in server.requests_of(verb) {
            *tries.entry(request.query("blockid").map(str::to_owned)).or_insert(0) += 1;
        }
        assert_eq!(tries.values().max(), Some(&3), "{verb}");
        assert_eq!(server.blob("blob").unwrap(), b"some bytes");
    }
}

/// With MD5 checksums a part of a large read takes several requests.
#[test]
fn a_successful_request_of_a_part_resets_the_count_of_its_retries() {
    let (server, content) = (server(), Content::new(92, 40 << 20));
    server.put_content("large", content);
    server.support_checksums(ChecksumSupport::Md5);
    let client = client_with(|options| {
        options.set_checksum(true)?;
        options.set_max_retries(1)
    });
    // After this read the client knows which checksums the server supports.
    read_blob(&client, &server.url("blob")).unwrap();
    let failed = Mutex::new(HashSet::new());
    server.on_request(move |request| {
        let is_first = failed.lock().unwrap().insert(request.range());
        is_first.then(|| Fault::status(500, "InternalError"))
    });
    assert_same(&read_blob(&client, &server.url("large")).unwrap(), &content.all());
}

#[test]
fn at_the_deadline_the_status_is_that_of_the_last_response() {
    for (status, expected) in
        [(503, Status::Throttled), (429, Status::Throttled), (500, Status::Unavailable), (408, Status::Unavailable)]
    {
        let server = server();
        server.on_request(move |_| Some(Fault::status(status, "")));
        let client = client_with(|options| {
            options.set_max_retries(1000)?;
            options.set_timeout(Some(Duration::from_millis(700)))
        });
        let error = expect_error(client.open(&server.url("blob")), expected);
        assert_eq!(error.http_status(), status);
        assert!(server.requests().len() > 1, "not retried");
        expect_error(write_blob(&client, &server.url("blob"), WriteMode::Replace, b"new"), expected);
        expect_error(client.exists(&server.url("blob")), expected);
        expect_error(client.delete(&server.url("blob")), expected);
    }
}

#[test]
fn the_deadline_without_a_response_is_a_timeout() {
    let server = server();
    let client = client().with_timeout(Some(Duration::from_millis(200)));
    server.on_request(|_| Some(Fault::Delay(Duration::from_secs(3))));
    let calls: [(&str, &dyn Fn() -> Result<()>); 5] = [
        ("open", &|| client.open(&server.url("blob")).map(drop)),
        ("close", &|| write_blob(&client, &server.url("blob"), WriteMode::Replace, b"new").map(drop)),
        ("exists", &|| client.exists(&server.url("blob")).map(drop)),
        ("delete", &|| client.delete(&server.url("blob"))),
        ("poll", &|| client.open_if_changed(&server.url("blob"), "\"0x1\"").map(drop)),
    ];
    for (name, call) in calls {
        let Err(error) = call() else { panic!("{name} succeeded") };
        assert_eq!(error.status(), Status::Timeout, "{name}: {error}");
        assert_eq!(error.http_status(), 0, "{name}");
    }
}

#[test]
fn a_client_with_another_timeout_shares_the_connections() {
    let server = server();
    let patient = client();
    let with_short_timeout = patient.with_timeout(Some(Duration::from_millis(100)));
    read_blob(&with_short_timeout, &server.url("blob")).unwrap();
    read_blob(&patient, &server.url("blob")).unwrap();
    read_blob(&with_short_timeout.with_timeout(None), &server.url("blob")).unwrap();
    assert_eq!(server.connections(), 1, "the clients do not share a pool");
    server.on_request(|_| Some(Fault::Delay(Duration::from_millis(500))));
    expect_error(with_short_timeout.open(&server.url("blob")), Status::Timeout);
    patient.open(&server.url("blob")).unwrap();
}

#[test]
fn retry_after_is_respected() {
    let server = server();
    server.script("GET", [Fault::Status { status: 503, code: "ServerBusy", retry_after: Some(2) }]);
    read_blob(&client(), &server.url("blob")).unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    let pause = requests[1].arrived - requests[0].arrived;
    assert!(pause >= Duration::from_secs(2), "retried after {pause:?}");
}

#[test]
fn a_retry_after_beyond_the_deadline_is_not_waited_for() {
    let server = server();
    server.on_request(|_| Some(Fault::Status { status: 429, code: "", retry_after: Some(100_000) }));
    let client = client().with_timeout(Some(Duration::from_secs(5)));
    let error = expect_error(client.open(&server.url("blob")), Status::Throttled);
    assert_eq!(error.http_status(), 429);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_refused_connection_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/account/container/blob", listener.local_addr().unwrap());
    drop(listener);
    let client = client_with(|options| options.set_max_retries(1));
    for error in [
        expect_error(client.open(&url), Status::Unavailable),
        expect_error(write_blob(&client, &url, WriteMode::Replace, b"new").map(drop), Status::Unavailable),
        expect_error(client.delete(&url), Status::Unavailable),
    ] {
        assert_eq!((error.http_status(), error.service_code(), error.request_id()), (0, "", ""));
        assert!(error.is_retryable());
        assert!(error.message().contains("refused"), "the cause is missing: {error}");
    }
}
