//! Connections: refused ones, socket options, reuse, redirects, and responses that belong to another request.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use aztorch::{BlobRange, Dataset, Status, WriteMode};

use crate::support::client::{client, client_with, read_blob, write_blob};
use crate::support::error::expect_error;
use crate::support::fault::{ChecksumSupport, Fault, FaultServer};
use crate::support::sockets::{assert_keepalive, connected_to, option};

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
    // The pauses add up to 16.4 s at most.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn connections_have_keepalive_and_nodelay() {
    let server = server();
    let client = client();
    read_blob(&client, &server.url("blob")).unwrap();
    let sockets = connected_to(server.authority().parse().unwrap());
    assert_eq!(sockets.len(), 1);
    assert_keepalive(sockets[0]);
    assert_eq!(option(sockets[0], libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
    drop(client);
}

#[test]
fn a_response_with_another_request_id_is_discarded_and_the_request_repeated() {
    let server = server();
    let client = client();
    server.script("GET", [Fault::OtherRequestId, Fault::OtherRequestId]);
    assert_eq!(read_blob(&client, &server.url("blob")).unwrap(), b"some bytes");
    assert_eq!(server.requests_of("GET").len(), 3);
    // Such a connection is closed: the next response on it could belong to any request.
    assert_eq!(server.connections(), 3);
    server.script("PUT", [Fault::OtherRequestId]);
    write_blob(&client, &server.url("blob"), WriteMode::Replace, b"new").unwrap();
    assert_eq!(server.requests_of("PUT").len(), 2);
    // The first PUT has the connection of the last GET, the second one a new connection.
    assert_eq!(server.connections(), 4);

    server.on_request(|_| Some(Fault::OtherRequestId));
    let error = expect_error(client.open(&server.url("blob")), Status::Unavailable);
    assert!(error.message().contains("belongs to another request"), "{error}");
}

#[test]
fn a_response_without_a_request_id_is_accepted() {
    let server = server();
    server.on_request(|_| Some(Fault::NoRequestId));
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
    assert!(other.requests().is_empty(), "a request was sent to the other host");
    assert_eq!(other.connections(), 0);
}

/// A name, and an operation.
type Step<'a> = (&'a str, Box<dyn Fn() + 'a>);

#[test]
fn every_operation_returns_its_connection_to_the_pool() {
    let server = server();
    let etag = server.put("polled", b"some bytes".to_vec());
    server.put("empty", b"");
    server.set_metadata("polled", vec![("x-ms-meta-key".to_owned(), "value".to_owned())]);
    let client = client();
    let part = |offset, length| BlobRange { url: server.url("blob"), offset, length };
    let parts = Dataset::from_ranges(&client, &[part(5, 0), part(100, 5), part(8, 5)]).unwrap();
    let blobs = Dataset::from_urls(&client, &[server.url("blob")]).unwrap();
    let steps: [Step<'_>; 12] = [
        ("a poll", Box::new(|| assert!(client.open_if_changed(&server.url("polled"), &etag).unwrap().is_none()))),
        ("a blob that exists", Box::new(|| assert!(client.exists(&server.url("blob")).unwrap()))),
        ("a blob that does not", Box::new(|| assert!(!client.exists(&server.url("none")).unwrap()))),
        ("a missing blob", Box::new(|| drop(expect_error(client.open(&server.url("none")), Status::NotFound)))),
        ("an empty blob", Box::new(|| assert_eq!(client.open(&server.url("empty")).unwrap().size(), 0))),
        ("a write", Box::new(|| drop(write_blob(&client, &server.url("new"), WriteMode::Replace, b"x").unwrap()))),
        ("a refused write", {
            Box::new(|| {
                let refused = write_blob(&client, &server.url("blob"), WriteMode::Create, b"x");
                expect_error(refused, Status::AlreadyExists);
            })
        }),
        ("a deletion", {
            Box::new(|| {
                write_blob(&client, &server.url("new"), WriteMode::Replace, b"x").unwrap();
                client.delete(&server.url("new")).unwrap();
            })
        }),
        ("a part without bytes", Box::new(|| assert_eq!(parts.open(0).unwrap().size(), 0))),
        ("a part past the end", Box::new(|| drop(expect_error(parts.get(1), Status::OutOfRange)))),
        ("a part that goes past it", Box::new(|| drop(expect_error(parts.get(2), Status::OutOfRange)))),
        ("a buffer that is too small", {
            Box::new(|| drop(expect_error(blobs.get_into(0, &mut [0; 4]), Status::BufferTooSmall)))
        }),
    ];
    let mut lost = Vec::new();
    for (name, step) in &steps {
        let before = server.connections();
        // The first call may open a connection, if there is none yet or if an earlier step lost it.
        step();
        let opened = server.connections();
        (0..5).for_each(|_| step());
        if server.connections() > opened {
            lost.push(*name);
        }
        assert!(opened <= before + 1, "{name}");
    }
    assert_eq!((lost, server.connections()), (Vec::new(), 1));
}

#[test]
fn falling_back_to_another_checksum_keeps_the_connection() {
    let server = server();
    server.support_checksums(ChecksumSupport::Md5);
    let client = client_with(|options| options.set_checksum(true));
    assert_eq!(read_blob(&client, &server.url("blob")).unwrap(), b"some bytes");
    write_blob(&client, &server.url("new"), WriteMode::Replace, b"new").unwrap();
    assert_eq!(server.connections(), 1);
}

/// The names and values of a blob's metadata may have 8 KiB together.
#[test]
fn responses_may_have_thousands_of_metadata_headers() {
    let server = server();
    let letters: Vec<_> = ('a'..='z').chain(['_']).map(String::from).collect();
    let longer = |names: &[String]| -> Vec<String> {
        names.iter().flat_map(|name| letters.iter().map(move |letter| format!("{name}{letter}"))).collect()
    };
    let (two, mut left) = (longer(&letters), 8 << 10);
    let names = letters.iter().chain(&two).chain(&longer(&two)).cloned().collect::<Vec<_>>();
    let names = names.into_iter().take_while(|name| {
        left -= name.len() as i32 + 1;
        left >= 0
    });
    let metadata: Vec<_> = names.map(|name| (format!("x-ms-meta-{name}"), "v".to_owned())).collect();
    assert!(metadata.len() > 2000);
    server.set_metadata("blob", metadata);
    let client = client_with(|options| options.set_max_retries(0));
    assert_eq!(read_blob(&client, &server.url("blob")).unwrap(), b"some bytes");
    assert!(client.exists(&server.url("blob")).unwrap());
}
