//! Several writers on one blob, conditions, and readers whose blob is replaced.

use std::sync::Barrier;

use aztorch::{Status, WriteMode, diagnostics};

use crate::support::azurite::{account_sas, azurite};
use crate::support::client::{client, client_with, read_at, read_rest, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};

const LARGE: usize = 20 << 20;

#[test]
fn create_never_replaces_an_existing_blob() {
    let container = azurite().container();
    container.put("blob", b"the old one");
    for size in [0, 10, LARGE] {
        let written = write_blob(&client(), &container.blob("blob"), WriteMode::Create, &vec![1; size]);
        expect_error(written, Status::AlreadyExists);
        assert_eq!(container.get("blob").unwrap(), b"the old one");
    }
}

#[test]
fn create_without_the_right_to_read_is_already_exists() {
    let container = azurite().container();
    container.put("blob", b"the old one");
    let write_only = client_with(|options| options.set_sas_token(&account_sas("w")));
    let url = format!("{}/blob", container.bare_url());
    expect_error(write_only.exists(&url), Status::PermissionDenied);
    for size in [0, 10, LARGE] {
        expect_error(write_blob(&write_only, &url, WriteMode::Create, &vec![1; size]), Status::AlreadyExists);
        assert_eq!(container.get("blob").unwrap(), b"the old one");
    }
    // The service's 409 is returned, with any response to the HEAD.
    for status in [401, 403, 404, 500] {
        let server = FaultServer::start();
        server.put("blob", b"the old one".to_vec());
        let code = if status == 404 { "ContainerNotFound" } else { "" };
        server.on_request(move |request| (request.verb() == "HEAD").then(|| Fault::status(status, code)));
        let client = client_with(|options| options.set_max_retries(1));
        let error =
            expect_error(write_blob(&client, &server.url("blob"), WriteMode::Create, b"new"), Status::AlreadyExists);
        assert_eq!(error.http_status(), 409, "{error}");
    }
}

/// The service returns 409 BlobAlreadyExists; other services and proxies return 412.
#[test]
fn a_create_whose_condition_fails_is_already_exists() {
    for code in ["ConditionNotMet", ""] {
        for (size, verb) in [(0, "PUT"), (10, "PUT"), (LARGE, "put-block-list")] {
            let server = FaultServer::start();
            server.on_request(move |request| {
                let creates = request.header("if-none-match") == Some("*");
                (creates && request.verb() == verb).then(|| Fault::status(412, code))
            });
            // The blob appears after the HEAD that accompanies the first block.
            server.put("blob", b"the old one".to_vec());
            server.script("HEAD", [Fault::status(403, "")]);
            let written = write_blob(&client(), &server.url("blob"), WriteMode::Create, &vec![1; size]);
            let error = expect_error(written, Status::AlreadyExists);
            assert_eq!(error.http_status(), 412, "{error}");
            assert!(!error.message().contains("changed meanwhile"), "{error}");
        }
    }
    // A condition that the caller sets.
    let server = FaultServer::start();
    server.on_request(|_| Some(Fault::status(412, "ConditionNotMet")));
    for (name, value, expected) in
        [("if-none-match", "*", Status::AlreadyExists), ("if-match", "\"0x1\"", Status::Modified)]
    {
        let sent = diagnostics::send(&client(), "PUT", &server.url("blob"), "comp=metadata", &[(name, value)]);
        expect_error(sent.map(drop), expected);
    }
}

#[test]
fn of_two_creators_the_first_to_close_wins() {
    let container = azurite().container();
    for (name, size) in [("small", 10), ("large", LARGE)] {
        let (first, second) = (vec![1; size], vec![2; size]);
        let winner = client().writer(&container.blob(name), WriteMode::Create).unwrap();
        let loser = client().writer(&container.blob(name), WriteMode::Create).unwrap();
        winner.write_all(&first).unwrap();
        loser.write_all(&second).unwrap();
        winner.flush().unwrap();
        loser.flush().unwrap();
        winner.close().unwrap();
        expect_error(loser.close(), Status::AlreadyExists);
        assert_same(&container.get(name).unwrap(), &first);
    }
}

#[test]
fn of_many_concurrent_creators_one_wins() {
    let container = azurite().container();
    let start = Barrier::new(8);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8_u8)
            .map(|number| {
                let (url, start) = (container.blob("blob"), &start);
                scope.spawn(move || {
                    let writer = client().writer(&url, WriteMode::Create).unwrap();
                    writer.write_all(&[number; 1000]).unwrap();
                    start.wait();
                    writer.close()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let winner = outcomes.iter().position(Result::is_ok).expect("one wins");
    assert_eq!(container.get("blob").unwrap(), [winner as u8; 1000]);
    for outcome in outcomes.into_iter().filter(Result::is_err) {
        expect_error(outcome, Status::AlreadyExists);
    }
}

#[test]
fn of_two_replacers_the_last_to_close_is_modified() {
    let container = azurite().container();
    let (first, second) = (Content::new(41, 20 << 20).all(), Content::new(42, 22 << 20).all());
    let early = client().writer(&container.blob("blob"), WriteMode::Replace).unwrap();
    let late = client().writer(&container.blob("blob"), WriteMode::Replace).unwrap();
    early.write_all(&first).unwrap();
    late.write_all(&second).unwrap();
    late.flush().unwrap();
    early.close().unwrap();
    assert_same(&container.get("blob").unwrap(), &first);
    // The commit of the early writer discarded the late writer's blocks.
    expect_error(late.close(), Status::Modified);
    assert_same(&container.get("blob").unwrap(), &first);
}

#[test]
fn if_match_replaces_that_version_only() {
    let container = azurite().container();
    for (name, size) in [("small", 10), ("large", LARGE)] {
        let etag = container.put(name, b"the old one");
        let successor = client().writer(&container.blob(name), WriteMode::Replace).unwrap();
        let evicted = client().writer(&container.blob(name), WriteMode::Replace).unwrap();
        successor.set_if_match(&etag).unwrap();
        evicted.set_if_match(&etag).unwrap();
        successor.write_all(&vec![1; size]).unwrap();
        successor.close().unwrap();
        assert_eq!(successor.etag(), container.etag(name));

        let written = evicted.write_all(&vec![2; size]).and_then(|()| evicted.close());
        let error = expect_error(written, Status::Modified);
        assert_eq!(error.http_status(), 412);
        expect_error(evicted.close(), Status::Modified);
        assert_same(&container.get(name).unwrap(), &vec![1; size]);
    }
}

#[test]
fn if_match_does_not_recreate_a_deleted_blob() {
    let container = azurite().container();
    let etag = container.put("blob", b"the old one");
    let writer = client().writer(&container.blob("blob"), WriteMode::Replace).unwrap();
    writer.set_if_match(&etag).unwrap();
    writer.write_all(b"new").unwrap();
    client().delete(&container.blob("blob")).unwrap();
    expect_error(writer.close(), Status::Modified);
    assert_eq!(container.get("blob"), None);
}

#[test]
fn a_blob_replaced_during_a_read_is_modified() {
    let container = azurite().container();
    let old = Content::new(43, 40 << 20);
    container.put("blob", &old.all());
    let reader = client().open(&container.blob("blob")).unwrap();
    assert_same(&read_at(&reader, 0, 1000).unwrap(), &old.bytes(0, 1000));
    container.put("blob", &Content::new(44, 40 << 20).all());

    let error = expect_error(read_at(&reader, 30 << 20, 1 << 20), Status::Modified);
    assert_eq!(error.http_status(), 412);
    expect_error(read_rest(&reader), Status::Modified);
    // Bytes that arrived before may still be returned, but only those of the old version.
    if let Ok(bytes) = read_at(&reader, 0, 1000) {
        assert_same(&bytes, &old.bytes(0, 1000));
    }
    assert_same(&read_at(&client().open(&container.blob("blob")).unwrap(), 0, 9).unwrap(), &Content::new(44, 9).all());
}
