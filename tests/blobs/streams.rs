//! Streams: listed while they are read, sharded, shuffled, ended and begun again.

use std::time::Duration;

use aztorch::{BlobRange, Dataset, Status, Stream};

use crate::support::azurite::azurite;
use crate::support::client::{client, read_rest};
use crate::support::content::assert_same;
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer, Kind, MadeUp};

pub const LATENCY: Duration = Duration::from_millis(50);

/// The names of all that is left of the epoch, whose positions must follow each other from `first` on.
#[track_caller]
pub fn rest_from(stream: &Stream, first: u64) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(sample) = stream.next().unwrap() {
        assert_eq!(sample.position(), first + names.len() as u64);
        names.push(sample.name().to_owned());
    }
    names
}

/// The same from the epoch's beginning.
#[track_caller]
pub fn all(stream: &Stream) -> Vec<String> {
    rest_from(stream, 0)
}

pub fn made_up(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(MadeUp::name).collect()
}

pub fn server(count: u64, size: u64) -> (FaultServer, MadeUp, String) {
    let (server, blobs) = (FaultServer::start(), MadeUp { count, size });
    let url = server.make_up("many", blobs);
    (server, blobs, url)
}

#[test]
fn a_stream_gives_what_a_dataset_holds() {
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
    // The end is the end, again and again.
    for _ in 0..5 {
        assert!(stream.next().unwrap().is_none());
    }
}

#[test]
fn the_first_sample_comes_after_the_first_page() {
    let (server, blobs, url) = server(50_000, 100);
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    assert_eq!(server.requests().len(), 0, "nothing before the first next");
    assert_same(stream.next().unwrap().unwrap().bytes(), &blobs.content(0).all());
    assert_eq!(server.requests_of("list").len(), 1);
    // And the next page is there before this one is used up.
    server.on_request(|request| (request.verb() == "list").then_some(Fault::Delay(LATENCY)));
    for index in 1..7000 {
        assert_eq!(stream.next().unwrap().unwrap().position(), index);
    }
    let lists = server.requests_of("list").len();
    assert!((2..=3).contains(&lists), "{lists} of 10 pages for 7,000 samples");
}

#[test]
fn fifty_thousand_names_of_many_pages() {
    let (server, _, url) = server(50_000, 10);
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    stream.set_lazy().unwrap();
    assert_eq!(all(&stream), made_up(0..50_000));
    assert_eq!(server.requests().len(), 10);
    assert!(stream.next().unwrap().is_none());
    assert_eq!(server.requests().len(), 10, "the end needs no request");
}

// test_worker_sharding
#[test]
fn shards_take_every_nth_and_together_all() {
    let (server, _, url) = server(103, 10);
    server.set_page_size(10);
    let dataset = Dataset::list(&client(), &url, None).unwrap();
    let urls: Vec<_> = (0..103).map(|index| dataset.url(index).unwrap()).collect();
    for count in [1, 2, 3, 7, 103, 200] {
        let mut union = Vec::new();
        for index in 0..count {
            let expected: Vec<_> = made_up(0..103).into_iter().skip(index).step_by(count).collect();
            let listed = Stream::list(&client(), &url, None, index, count).unwrap();
            listed.set_lazy().unwrap();
            assert_eq!(all(&listed), expected, "shard {index} of {count}");
            let of_dataset = Stream::from_dataset(&dataset, index, count).unwrap();
            of_dataset.set_lazy().unwrap();
            assert_eq!(all(&of_dataset), expected, "shard {index} of {count}");
            let of_urls = Stream::from_urls(&client(), &urls, index, count).unwrap();
            of_urls.set_lazy().unwrap();
            assert_eq!(all(&of_urls), expected, "shard {index} of {count}");
            union.extend(expected);
        }
        union.sort();
        assert_eq!(union, made_up(0..103));
    }
}

#[test]
fn far_more_shards_than_samples() {
    let (_server, _, url) = server(3, 10);
    let dataset = Dataset::list(&client(), &url, None).unwrap();
    for count in [1 << 52, usize::MAX] {
        for (index, expected) in [(0, 0..1), (2, 2..3), (3, 0..0), (count - 1, 0..0)] {
            for stream in
                [Stream::list(&client(), &url, None, index, count), Stream::from_dataset(&dataset, index, count)]
            {
                let stream = stream.unwrap();
                assert_eq!(all(&stream), made_up(expected.clone()), "shard {index} of {count}");
                let again = stream.cursor(None).unwrap();
                stream.resume(&again).unwrap();
                assert!(stream.next().unwrap().is_none(), "shard {index} of {count}");
            }
        }
    }
}

#[test]
fn a_shard_that_is_none_is_refused() {
    let (_server, _, url) = server(1, 1);
    let dataset = Dataset::list(&client(), &url, None).unwrap();
    for (index, count) in [(0, 0), (1, 1), (5, 3), (usize::MAX, usize::MAX), (1, 0)] {
        expect_error(Stream::list(&client(), &url, None, index, count), Status::InvalidArgument);
        expect_error(Stream::from_dataset(&dataset, index, count), Status::InvalidArgument);
        expect_error(Stream::from_urls(&client(), std::slice::from_ref(&url), index, count), Status::InvalidArgument);
    }
    // A shard without any sample is one.
    assert!(all(&Stream::list(&client(), &url, None, 1, 2).unwrap()).is_empty());
}

#[test]
fn streams_of_urls_ranges_and_archives() {
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
fn a_stream_outlives_what_it_was_made_of() {
    let (server, _, url) = server(20, 10);
    let dataset = Dataset::list(&client(), &url, None).unwrap();
    let stream = Stream::from_dataset(&dataset, 0, 1).unwrap();
    drop(dataset);
    assert_eq!(all(&stream), made_up(0..20));
    drop(server);
}

#[test]
fn directory_stubs_count_for_nobody() {
    let server = FaultServer::start();
    for folder in ["a", "b", "c"] {
        server.put_directory(folder, Kind::Stub("hdi_isfolder"));
        server.put_directory(&format!("{folder}/sub"), Kind::Directory);
        server.put(&format!("{folder}/1"), b"x".to_vec());
    }
    server.set_page_size(2);
    let stream = |index, count| Stream::list(&client(), &server.container_url(), None, index, count).unwrap();
    assert_eq!(all(&stream(0, 1)), ["a/1", "b/1", "c/1"]);
    assert_eq!(all(&stream(0, 2)), ["a/1", "c/1"]);
    assert_eq!(all(&stream(1, 2)), ["b/1"]);
}

#[test]
fn what_matches_nothing_is_an_empty_stream() {
    let (server, _, url) = server(10, 10);
    for prefix in ["absent/", "part-9"] {
        let stream = Stream::list(&client(), &url, Some(prefix), 0, 1).unwrap();
        for _ in 0..2 {
            assert!(all(&stream).is_empty());
            stream.reset().unwrap();
        }
    }
    assert!(all(&Stream::list(&client(), &server.container_url(), Some(""), 0, 1).unwrap()).is_empty());
}

#[test]
fn bad_containers_are_seen_at_once_and_missing_ones_when_listed() {
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
fn reset_begins_the_next_epoch_at_any_time() {
    let (server, _, url) = server(100, 10);
    server.set_page_size(30);
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    for _ in 0..3 {
        assert_eq!(all(&stream), made_up(0..100));
        assert!(stream.next().unwrap().is_none());
        stream.reset().unwrap();
    }
    // In the middle of one, or twice.
    for position in 0..40 {
        assert_eq!(stream.next().unwrap().unwrap().position(), position);
    }
    stream.reset().unwrap();
    stream.reset().unwrap();
    assert_eq!(all(&stream), made_up(0..100));
    // Each epoch lists anew.
    server.make_up("many", MadeUp { count: 110, size: 10 });
    stream.reset().unwrap();
    assert_eq!(all(&stream), made_up(0..110));
}

#[test]
fn a_lazy_stream_fetches_nothing_but_the_listing() {
    let (server, blobs, url) = server(200, 1000);
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    stream.set_lazy().unwrap();
    let samples: Vec<_> = std::iter::from_fn(|| stream.next().unwrap()).collect();
    assert_eq!(samples.len(), 200);
    for (sample, index) in samples.iter().zip(0..) {
        assert!(sample.bytes().is_empty());
        assert_eq!((sample.name(), sample.position()), (MadeUp::name(index).as_str(), index));
        assert_eq!(sample.blob_size(), Some(1000));
    }
    assert_eq!(server.requests_of("list").len(), server.requests().len());
    assert_same(&read_rest(&samples[17].open().unwrap()).unwrap(), &blobs.content(17).all());
    let urls = [server.url_of(&format!("/account/many/{}", MadeUp::name(3)))];
    let stream = Stream::from_urls(&client(), &urls, 0, 1).unwrap();
    stream.set_lazy().unwrap();
    let sample = stream.next().unwrap().unwrap();
    assert_eq!(sample.blob_size(), None);
    assert_same(&read_rest(&sample.open().unwrap()).unwrap(), &blobs.content(3).all());
}

#[test]
fn a_stream_is_set_before_its_first_next() {
    let (_server, _, url) = server(10, 10);
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

#[test]
fn the_shuffle_is_a_permutation_that_follows_from_seed_and_epoch() {
    let (server, _, url) = server(400, 10);
    server.set_page_size(90);
    let epochs = |buffer, seed, index, count| {
        let stream = Stream::list(&client(), &url, None, index, count).unwrap();
        stream.set_shuffle(buffer, seed).unwrap();
        stream.set_lazy().unwrap();
        (0..3)
            .map(|_| {
                let names = all(&stream);
                stream.reset().unwrap();
                names
            })
            .collect::<Vec<_>>()
    };
    for buffer in [2, 50, 400, 10_000] {
        let first = epochs(buffer, 42, 0, 1);
        for names in &first {
            let mut sorted = names.clone();
            sorted.sort();
            assert_eq!(sorted, made_up(0..400), "{buffer}");
            assert_ne!(*names, made_up(0..400), "{buffer} shuffles nothing");
            // What comes at position p was in the buffer then.
            for (position, name) in names.iter().enumerate() {
                let index: usize = name[9..16].parse().unwrap();
                assert!(index < position + buffer, "{name} at {position} with a buffer of {buffer}");
            }
        }
        assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2], "{buffer}: epochs are alike");
        assert_eq!(epochs(buffer, 42, 0, 1), first, "{buffer}: the same again");
        assert_ne!(epochs(buffer, 43, 0, 1)[0], first[0], "{buffer}: another seed");
    }
    assert_eq!(epochs(1, 42, 0, 1)[0], made_up(0..400), "a buffer of one name");
    // After sharding: a shard's names are the same ones as without.
    let mut union = Vec::new();
    for index in 0..3 {
        let mut names = epochs(100, 5, index, 3).remove(1);
        union.append(&mut names.clone());
        names.sort();
        assert_eq!(names, made_up(0..400).into_iter().skip(index).step_by(3).collect::<Vec<_>>());
    }
    union.sort();
    assert_eq!(union, made_up(0..400));
}

#[test]
fn the_shuffle_mixes_well() {
    let (_server, _, url) = server(5000, 10);
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    stream.set_shuffle(5000, 3).unwrap();
    stream.set_lazy().unwrap();
    let indices: Vec<f64> = all(&stream).iter().map(|name| name[9..16].parse().unwrap()).collect();
    // Of a uniform permutation the mean distance is a third of its length; neighbours stay so as good as never.
    let distance = indices.iter().enumerate().map(|(at, index)| (at as f64 - index).abs()).sum::<f64>() / 5000.0;
    assert!((1500.0..1833.0).contains(&distance), "{distance}");
    let neighbours = indices.windows(2).filter(|pair| pair[0] + 1.0 == pair[1]).count();
    assert!(neighbours < 12, "{neighbours} neighbours");
    let quarters = indices.chunks(1250).map(|quarter| quarter.iter().sum::<f64>() / 1250.0);
    for mean in quarters {
        assert!((2300.0..2700.0).contains(&mean), "{mean}");
    }
}
