//! Blobs larger than memory. Fetching one is an error, and everything else continues to work.

use aztorch::{Dataset, Status, Stream};

use crate::support::client::client;
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::FaultServer;

/// More than the address space of a process.
const PIB: u64 = 1 << 50;
const SMALL: Content = Content { seed: 2, size: 1000 };

fn server() -> FaultServer {
    let server = FaultServer::start();
    server.put_content("0-huge", Content::new(1, PIB));
    server.put_content("1-small", SMALL);
    server
}

#[test]
fn an_oversized_sample_is_out_of_memory() {
    let server = server();
    let urls: Vec<_> = ["0-huge", "1-small"].iter().map(|name| server.url(name)).collect();
    for dataset in [
        Dataset::list(&client(), &server.container_url(), None).unwrap(),
        Dataset::from_urls(&client(), &urls).unwrap(),
    ] {
        dataset.prefetch(&[0, 1]).unwrap();
        let error = expect_error(dataset.get(0), Status::OutOfMemory);
        assert!(error.message().contains("/0-huge") && error.message().contains(&PIB.to_string()), "{error}");
        assert!(!error.is_retryable());
        assert_eq!(expect_error(dataset.get_batch(&[1, 0]), Status::OutOfMemory).http_status(), 0);
        expect_error(dataset.get_into(0, &mut [0; 1000]), Status::BufferTooSmall);
        assert_same(dataset.get(1).unwrap().bytes(), &SMALL.all());
    }
}

#[test]
fn a_stream_returns_out_of_memory_and_continues() {
    let server = server();
    let stream = Stream::list(&client(), &server.container_url(), None, 0, 1).unwrap();
    expect_error(stream.next(), Status::OutOfMemory);
    assert_same(stream.next().unwrap().expect("the other blob").bytes(), &SMALL.all());
    assert!(stream.next().unwrap().is_none());
}

#[test]
fn an_oversized_manifest_is_out_of_memory() {
    let server = server();
    let error = expect_error(Dataset::from_manifest(&client(), &server.url("0-huge")), Status::OutOfMemory);
    assert!(error.message().contains("/0-huge"), "{error}");
}

#[test]
fn a_reader_needs_memory_only_for_the_bytes_that_it_reads() {
    let server = server();
    let reader = client().open(&server.url("0-huge")).unwrap();
    let mut bytes = [0; 1000];
    assert_eq!(reader.size(), PIB);
    assert_eq!(reader.read_at(PIB - 10, &mut bytes).unwrap(), 10);
    assert_same(&bytes[..10], &Content::new(1, PIB).bytes(PIB - 10, 10));
}
