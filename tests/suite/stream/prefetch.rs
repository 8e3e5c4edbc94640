//! Streams prefetch their samples; one thread or several read them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use aztorch::Stream;

use crate::support::client::{client, client_with};
use crate::support::content::assert_same;
use crate::support::fault::{Fault, GeneratedBlobs};
use crate::support::streams::{all_names, generated_names, generated_server};

const LATENCY: Duration = Duration::from_millis(50);

#[test]
fn a_stream_prefetches() {
    let (server, blobs, url) = generated_server(300, 50 << 10);
    server.on_request(|_| Some(Fault::Delay(Duration::from_millis(100))));
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    for index in 0..300 {
        assert_same(stream.next().unwrap().unwrap().bytes(), &blobs.content(index).all());
    }
    assert!(stream.next().unwrap().is_none());
    assert_eq!(server.requests_of("GET").len(), 300, "each blob is fetched once");
    let chain = server.longest_chain("GET");
    assert!(chain <= 20, "{chain} round trips for 300 samples");
}

#[test]
fn prefetching_respects_the_memory_limit() {
    let client = client_with(|options| options.set_memory_limit(8 << 20));
    for buffer in [None, Some(30)] {
        let (server, blobs, url) = generated_server(60, 1 << 20);
        server.on_request(|_| Some(Fault::Delay(Duration::from_millis(20))));
        let stream = Stream::list(&client, &url, None, 0, 1).unwrap();
        if let Some(buffer) = buffer {
            // The shuffle buffer holds names, not bytes.
            stream.set_shuffle(buffer, 1).unwrap();
        }
        for taken in 1..=60 {
            let sample = stream.next().unwrap().unwrap();
            let index = (0..60).find(|index| GeneratedBlobs::name(*index) == sample.name()).unwrap();
            assert_same(sample.bytes(), &blobs.content(index).all());
            let ahead = server.requests_of("GET").len().saturating_sub(taken);
            assert!(ahead <= 8, "{ahead} MiB prefetched with a limit of 8");
        }
        assert!(server.longest_chain("GET") < 50, "{} round trips", server.longest_chain("GET"));
        assert_eq!(server.requests_of("GET").len(), 60);
    }
    // Blobs larger than the limit are fetched one by one.
    let (_server, blobs, url) = generated_server(4, 20 << 20);
    let stream = Stream::list(&client, &url, None, 0, 1).unwrap();
    for index in 0..4 {
        assert_same(stream.next().unwrap().unwrap().bytes(), &blobs.content(index).all());
    }
}

#[test]
fn each_sample_goes_to_one_of_many_threads() {
    let (server, blobs, url) = generated_server(3000, 1000);
    server.set_page_size(700);
    for buffer in [None, Some(500)] {
        let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
        if let Some(buffer) = buffer {
            stream.set_shuffle(buffer, 7).unwrap();
        }
        for _ in 0..2 {
            let seen = Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        while let Some(sample) = stream.next().unwrap() {
                            let index = sample.name()[9..16].parse().unwrap();
                            assert_same(sample.bytes(), &blobs.content(index).all());
                            seen.lock().unwrap().push((sample.position(), sample.name().to_owned()));
                        }
                        assert!(stream.next().unwrap().is_none());
                    });
                }
            });
            let seen = seen.into_inner().unwrap();
            assert_eq!(seen.len(), 3000);
            let (positions, names): (BTreeSet<_>, BTreeSet<_>) = seen.into_iter().unzip();
            assert!(positions.into_iter().eq(0..3000));
            assert!(names.into_iter().eq(generated_names(0..3000)));
            stream.reset().unwrap();
        }
    }
    assert_eq!(server.requests_of("GET").len(), 4 * 3000);
}

#[test]
fn resets_during_next_in_other_threads_are_safe() {
    let (server, _, url) = generated_server(500, 100);
    server.set_page_size(100);
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..400 {
                    drop(stream.next().unwrap());
                    drop(stream.cursor(None));
                }
            });
        }
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(10));
            stream.reset().unwrap();
        }
    });
    stream.reset().unwrap();
    assert_eq!(all_names(&stream), generated_names(0..500));
}

#[test]
fn dropping_a_stream_stops_its_prefetches() {
    let (server, _, url) = generated_server(5000, 10 << 10);
    server.on_request(|_| Some(Fault::Delay(LATENCY)));
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    for _ in 0..20 {
        stream.next().unwrap();
    }
    drop(stream);
    std::thread::sleep(2 * LATENCY);
    let before = server.requests().len();
    std::thread::sleep(4 * LATENCY);
    assert_eq!(server.requests().len(), before, "requests were sent after the drop");
}

#[test]
fn two_streams_of_one_client_share_max_concurrency() {
    let client = client_with(|options| options.set_max_concurrency(4));
    let (server, _, url) = generated_server(100, 1000);
    server.on_request(|_| Some(Fault::Delay(Duration::from_millis(5))));
    let streams = [0, 1].map(|index| Stream::list(&client, &url, None, index, 2).unwrap());
    let mut seen = HashMap::new();
    std::thread::scope(|scope| {
        let threads = streams.each_ref().map(|stream| scope.spawn(|| all_names(stream)));
        for thread in threads {
            thread.join().unwrap().into_iter().for_each(|name| *seen.entry(name).or_insert(0) += 1);
        }
    });
    assert!(seen.len() == 100 && seen.values().all(|count| *count == 1));
    assert!(server.peak_in_flight() <= 5, "{} in parallel", server.peak_in_flight());
}

#[test]
fn a_stream_leaves_a_quarter_of_the_connections_to_others() {
    let client = client_with(|options| options.set_max_concurrency(16));
    let (server, _, url) = generated_server(200, 1000);
    server.on_request(|_| Some(Fault::Delay(Duration::from_millis(20))));
    let stream = Stream::list(&client, &url, None, 0, 1).unwrap();
    assert_eq!(all_names(&stream).len(), 200);
    // Three quarters are 12. The server counts a request until its response is written, so it may count one more.
    assert!(server.peak_in_flight() <= 13, "{} in parallel", server.peak_in_flight());
}
