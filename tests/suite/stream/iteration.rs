//! Streams: listed while they are read, their sources, their end, and further epochs.

use std::time::Duration;

use aztorch::{BlobRange, Dataset, Status, Stream};

use crate::support::azurite::azurite;
use crate::support::client::{client, read_rest};
use crate::support::content::assert_same;
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer, GeneratedBlobs, Kind};
use crate::support::streams::{all_names, generated_names, generated_server};

const LATENCY: Duration = Duration::from_millis(50);

#[test]
fn a_stream_returns_the_samples_of_a_listing() {
    let container = azurite().container();
    for index in 0..30 {
        container.put(&format!("data/{index:02}"), format!("bytes of {index}").as_bytes());
    }
    container.put("other", b"other");
    let stream = Stream::list(&client(), &container.url(), Some("data/"), 0, 1).unwrap();
    for index in 0..30 {
        let sample = stream.next().unwrap().unwrap();
        assert_eq!(sample.bytes(), format!("bytes of {index}").as_bytes());
        assert_eq!(sample.bytes().as_ptr().align_offset(64), 0);
        assert_eq!((sample.name(), sample.position()), (format!("data/{index:02}").as_str(), index));
        assert_eq!(sample.container_name(), container.name);
        assert_eq!(sample.url(), format!("{}/data/{index:02}", container.bare_url()));
        assert_eq!(sample.blob_size(), Some(sample.bytes().len() as u64));
        assert_eq!(read_rest(&sample.open().unwrap()).unwrap(), sample.bytes());
    }
    // The end is returned again and again.
    for _ in 0..5 {
        assert!(stream.next().unwrap().is_none());
    }
}

#[test]
fn the_first_sample_needs_only_the_first_page() {
    let (server, blobs, url) = generated_server(50_000, 100);
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    assert_eq!(server.requests().len(), 0, "a request was sent before the first next");
    assert_same(stream.next().unwrap().unwrap().bytes(), &blobs.content(0).all());
    assert_eq!(server.requests_of("list").len(), 1);
    // The next page is listed before this one is used up.
    server.on_request(|request| (request.verb() == "list").then_some(Fault::Delay(LATENCY)));
    for index in 1..7000 {
        assert_eq!(stream.next().unwrap().unwrap().position(), index);
    }
    let lists = server.requests_of("list").len();
    assert!((2..=3).contains(&lists), "{lists} of 10 pages for 7,000 samples");
}

#[test]
fn a_lazy_stream_over_fifty_thousand_names_sends_ten_requests() {
    let (server, _, url) = generated_server(50_000, 10);
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    stream.set_lazy().unwrap();
    assert_eq!(all_names(&stream), generated_names(0..50_000));
    assert_eq!(server.requests().len(), 10);
    assert!(stream.next().unwrap().is_none());
    assert_eq!(server.requests().len(), 10, "next after the end sent a request");
}

#[test]
fn streams_of_urls_and_ranges_return_their_samples() {
    let server = FaultServer::start();
    server.put("a", b"0123456789".to_vec());
    server.put("/other/container/b", b"bytes".to_vec());
    let urls = [server.url("a"), server.url_of("/other/container/b"), server.url("a")];
    let stream = Stream::from_urls(&client(), &urls, 0, 1).unwrap();
    assert_eq!(server.requests().len(), 0);
    let bytes = |stream: &Stream| {
        std::iter::from_fn(|| stream.next().unwrap()).map(|sample| sample.bytes().to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(bytes(&stream), [&b"0123456789"[..], b"bytes", b"0123456789"]);
    let range = |offset, length| BlobRange { url: server.url("a"), offset, length };
    let dataset = Dataset::from_ranges(&client(), &[range(1, 2), range(5, 0), range(0, 10)]).unwrap();
    assert_eq!(bytes(&Stream::from_dataset(&dataset, 0, 1).unwrap()), [&b"12"[..], b"", b"0123456789"]);
    assert_eq!(bytes(&Stream::from_dataset(&dataset, 1, 2).unwrap()), [b""]);
    let none: [&str; 0] = [];
    assert!(bytes(&Stream::from_urls(&client(), &none, 0, 1).unwrap()).is_empty());
    let error = expect_error(
        Stream::from_urls(&client(), &[server.url("a"), "nonsense".into()], 0, 1),
        Status::InvalidArgument,
    );
    assert!(error.message().contains("URL 1"), "{error}");
}

#[test]
fn a_stream_outlives_its_dataset() {
    let (server, _, url) = generated_server(20, 10);
    let dataset = Dataset::list(&client(), &url, None).unwrap();
    let stream = Stream::from_dataset(&dataset, 0, 1).unwrap();
    drop(dataset);
    assert_eq!(all_names(&stream), generated_names(0..20));
    drop(server);
}

#[test]
fn directories_are_not_counted_in_shards() {
    let server = FaultServer::start();
    for folder in ["a", "b", "c"] {
        server.put_directory(folder, Kind::Stub("hdi_isfolder"));
        server.put_directory(&format!("{folder}/sub"), Kind::Directory);
        server.put(&format!("{folder}/1"), b"x".to_vec());
    }
    server.set_page_size(2);
    let stream = |index, count| Stream::list(&client(), &server.container_url(), None, index, count).unwrap();
    assert_eq!(all_names(&stream(0, 1)), ["a/1", "b/1", "c/1"]);
    assert_eq!(all_names(&stream(0, 2)), ["a/1", "c/1"]);
    assert_eq!(all_names(&stream(1, 2)), ["b/1"]);
}

#[test]
fn a_prefix_without_matches_is_an_empty_stream() {
    let (server, _, url) = generated_server(10, 10);
    for prefix in ["absent/", "part-9"] {
        let stream = Stream::list(&client(), &url, Some(prefix), 0, 1).unwrap();
        for _ in 0..2 {
            assert!(all_names(&stream).is_empty());
            stream.reset().unwrap();
        }
    }
    assert!(all_names(&Stream::list(&client(), &server.container_url(), Some(""), 0, 1).unwrap()).is_empty());
}

#[test]
fn an_invalid_container_url_fails_at_once_and_a_missing_container_at_next() {
    let container = azurite().container();
    for bad in ["", "nonsense", &container.blob("blob")] {
        expect_error(Stream::list(&client(), bad, None, 0, 1), Status::InvalidArgument);
    }
    let url = container.url().replace("test-", "missing-");
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    for _ in 0..2 {
        let error = expect_error(stream.next(), Status::NotFound);
        assert_eq!(error.service_code(), "ContainerNotFound");
        assert!(error.message().contains("/missing-"), "{error}");
    }
}

// test_can_load_across_multiple_epochs
#[test]
fn reset_begins_a_new_epoch_at_any_time() {
    let (server, _, url) = generated_server(100, 10);
    server.set_page_size(30);
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    for _ in 0..3 {
        assert_eq!(all_names(&stream), generated_names(0..100));
        assert!(stream.next().unwrap().is_none());
        stream.reset().unwrap();
    }
    // In the middle of an epoch, and twice.
    for position in 0..40 {
        assert_eq!(stream.next().unwrap().unwrap().position(), position);
    }
    stream.reset().unwrap();
    stream.reset().unwrap();
    assert_eq!(all_names(&stream), generated_names(0..100));
    // Each epoch lists the container again.
    server.put_generated("many", GeneratedBlobs { count: 110, size: 10 });
    stream.reset().unwrap();
    assert_eq!(all_names(&stream), generated_names(0..110));
}

#[test]
fn a_lazy_stream_fetches_nothing_but_the_listing() {
    let (server, blobs, url) = generated_server(200, 1000);
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    stream.set_lazy().unwrap();
    let samples: Vec<_> = std::iter::from_fn(|| stream.next().unwrap()).collect();
    assert_eq!(samples.len(), 200);
    for (sample, index) in samples.iter().zip(0..) {
        assert!(sample.bytes().is_empty());
        assert_eq!((sample.name(), sample.position()), (GeneratedBlobs::name(index).as_str(), index));
        assert_eq!(sample.blob_size(), Some(1000));
    }
    assert_eq!(server.requests_of("list").len(), server.requests().len());
    assert_same(&read_rest(&samples[17].open().unwrap()).unwrap(), &blobs.content(17).all());
    let urls = [server.url_of(&format!("/account/many/{}", GeneratedBlobs::name(3)))];
    let stream = Stream::from_urls(&client(), &urls, 0, 1).unwrap();
    stream.set_lazy().unwrap();
    let sample = stream.next().unwrap().unwrap();
    assert_eq!(sample.blob_size(), None);
    assert_same(&read_rest(&sample.open().unwrap()).unwrap(), &blobs.content(3).all());
}

#[test]
fn settings_are_refused_after_the_first_next() {
    let (_server, _, url) = generated_server(10, 10);
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    expect_error(stream.set_shuffle(0, 1), Status::InvalidArgument);
    stream.set_shuffle(5, 1).unwrap();
    stream.set_shuffle(6, 2).unwrap();
    stream.set_lazy().unwrap();
    stream.next().unwrap();
    for _ in 0..2 {
        expect_error(stream.set_shuffle(5, 1), Status::Unsupported);
        expect_error(stream.set_lazy(), Status::Unsupported);
        stream.reset().unwrap();
    }
    let resumed = Stream::list(&client(), &url, None, 0, 1).unwrap();
    resumed.set_shuffle(6, 2).unwrap();
    resumed.resume(&stream.cursor(None).unwrap()).unwrap();
    expect_error(resumed.set_shuffle(6, 2), Status::Unsupported);
    expect_error(resumed.set_lazy(), Status::Unsupported);
}
