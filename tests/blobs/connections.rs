//! Connections: how they are set up, how soon it shows that there is none, and whose answers are believed.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use aztorch::{Status, WriteMode};

use crate::support::client::{client, read_blob, write_blob};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};
use crate::support::sockets::{assert_watched, connected_to, option};

fn server() -> FaultServer {
    let server = FaultServer::start();
    server.put("blob", b"some bytes".to_vec());
    server
}

#[test]
fn a_refused_connection_is_reported_within_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/account/container/blob?sig=x", listener.local_addr().unwrap());
    drop(listener);
    let began = Instant::now();
    let error = expect_error(client().open(&url), Status::Unavailable);
    assert!(error.message().contains("refused") && error.message().contains("gave up after 9 tries"), "{error}");
    // All pauses at their longest are 12.75 s.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_dead_path_is_noticed_by_the_kernel() {
    let server = server();
    let client = client();
    read_blob(&client, &server.url("blob")).unwrap();
    let sockets = connected_to(server.authority().parse().unwrap());
    assert_eq!(sockets.len(), 1);
    assert_watched(sockets[0]);
    assert_eq!(option(sockets[0], libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
    drop(client);
}

#[test]
fn another_requests_answer_is_refused_and_asked_for_again() {
    let server = server();
    let client = client();
    server.script("GET", [Fault::OtherRequest, Fault::OtherRequest]);
    assert_eq!(read_blob(&client, &server.url("blob")).unwrap(), b"some bytes");
    assert_eq!(server.requests_of("GET").len(), 3);
    // Nobody knows whose answer is still to come on such a connection.
    assert_eq!(server.connections(), 3);
    server.script("PUT", [Fault::OtherRequest]);
    write_blob(&client, &server.url("blob"), WriteMode::Replace, b"new").unwrap();
    assert_eq!(server.requests_of("PUT").len(), 2);

    server.on_request(|_| Some(Fault::OtherRequest));
    let error = expect_error(client.open(&server.url("blob")), Status::Unavailable);
    assert!(error.message().contains("belongs to another request"), "{error}");
}

#[test]
fn an_answer_that_repeats_no_id_is_fine() {
    let server = server();
    server.on_request(|_| Some(Fault::NoEcho));
    assert_eq!(read_blob(&client(), &server.url("blob")).unwrap(), b"some bytes");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn redirects_are_not_followed() {
    let (server, other) = (server(), server());
    let to = other.url("blob");
    server.on_request(move |_| Some(Fault::Redirect(to.clone())));
    let client = client();
    for error in [
        expect_error(client.open(&server.url("blob")), Status::Rejected),
        expect_error(client.exists(&server.url("blob")), Status::Rejected),
        expect_error(client.delete(&server.url("blob")), Status::Rejected),
        expect_error(write_blob(&client, &server.url("blob"), WriteMode::Replace, b"new"), Status::Rejected),
    ] {
        assert_eq!(error.http_status(), 307, "{error}");
    }
    assert!(other.requests().is_empty(), "the other host was asked");
    assert_eq!(other.connections(), 0);
}
