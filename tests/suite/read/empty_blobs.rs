//! Empty blobs. The service refuses every range of them, but they are opened, polled and read like other blobs.

use std::time::Duration;

use aztorch::{Client, Dataset, Status};

use crate::support::client::{client, client_with, read_blob};
use crate::support::error::expect_error;
use crate::support::fault::FaultServer;
use crate::support::tar::Folder;

/// Ends a call that hangs.
const LIMIT: Duration = Duration::from_secs(60);

fn with_limit(client: &Client) -> Client {
    client.with_timeout(Some(LIMIT))
}

#[test]
fn an_empty_blob_opens_with_a_concurrency_of_one() {
    let server = FaultServer::start();
    server.put("empty", b"");
    let client = with_limit(&client_with(|options| options.set_max_concurrency(1)));
    for _ in 0..3 {
        assert_eq!(read_blob(&client, &server.url("empty")).unwrap(), b"");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    client.download(&server.url("empty"), file.path()).unwrap();
    assert_eq!(std::fs::read(file.path()).unwrap(), b"");
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_batch_of_empty_blobs_does_not_deadlock() {
    let server = FaultServer::start();
    let urls: Vec<_> = (0..200).map(|number| server.url(&format!("empty-{number}"))).collect();
    (0..200).for_each(|number| drop(server.put(&format!("empty-{number}"), b"")));
    let dataset = Dataset::from_urls(&with_limit(&client()), &urls).unwrap();
    let indices: Vec<_> = (0..200).collect();
    let samples = dataset.get_batch(&indices).unwrap();
    assert!(samples.len() == 200 && samples.iter().all(|sample| sample.bytes().is_empty()));
}

/// Some services check the range of a request before its condition, others check the condition first.
#[test]
fn an_unchanged_empty_blob_is_not_opened_again() {
    for (range_first, requests) in [(None, 1), (Some(true), 1), (Some(false), 2)] {
        let server = FaultServer::start();
        let etag = server.put("blob", b"");
        range_first.into_iter().for_each(|with_etag| server.check_range_before_conditions(with_etag));
        let poll = |etag: &str| client().open_if_changed(&server.url("blob"), etag).unwrap();
        assert!(poll(&etag).is_none(), "range first: {range_first:?}");
        assert_eq!(server.requests().len(), requests, "range first: {range_first:?}");

        let reader = poll("\"0xOTHER\"").expect("another version");
        assert_eq!((reader.size(), reader.etag()), (0, etag.as_str()));
        server.put("blob", b"new");
        assert_eq!(poll(&etag).expect("a change").size(), 3);
    }
}

#[test]
fn an_archive_that_became_empty_is_modified() {
    for with_etag in [true, false] {
        let server = FaultServer::start();
        let folder = Folder::new();
        folder.write("member", b"some bytes");
        server.put("shard.tar", folder.tar(&[], &["member"]));
        let dataset = Dataset::from_tars(&client(), &[server.url("shard.tar")]).unwrap();
        server.put("shard.tar", b"");
        server.check_range_before_conditions(with_etag);
        expect_error(dataset.get(0), Status::Modified);
        expect_error(dataset.open(0), Status::Modified);
    }
}
