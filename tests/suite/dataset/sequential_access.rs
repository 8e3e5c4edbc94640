//! Sequential access to a dataset is detected and prefetched; random access is not. The tests count round trips:
//! requests that were waited for one after another. `cargo bench --bench datasets -- walk` measures the times at a
//! latency of 20 ms.

use std::time::Duration;

use aztorch::{Client, Dataset};

use crate::support::client::{client, client_with};
use crate::support::content::assert_same;
use crate::support::fault::{Fault, FaultServer, GeneratedBlobs};

const KIB: u64 = 1 << 10;

const LATENCY: Duration = Duration::from_millis(100);

fn server(count: u64, size: u64, client: &Client) -> (FaultServer, GeneratedBlobs, Dataset) {
    let (server, made_up) = (FaultServer::start(), GeneratedBlobs { count, size });
    let dataset = Dataset::list(client, &server.put_generated("many", made_up), None).unwrap();
    server.on_request(|_| Some(Fault::Delay(LATENCY)));
    (server, made_up, dataset)
}

#[test]
fn a_loop_over_300_blobs_takes_at_most_15_round_trips() {
    let (server, made_up, dataset) = server(300, 100 * KIB, &client());
    for index in 0..300 {
        let sample = dataset.get(index).unwrap();
        assert_eq!(sample.position(), index as u64);
        assert_same(sample.bytes(), &made_up.content(index as u64).all());
    }
    assert_eq!(server.requests_of("GET").len(), 300, "each blob is fetched once");
    let chain = server.longest_chain("GET");
    assert!(chain <= 15, "{chain} round trips for 300 blobs");
    assert!(server.peak_in_flight() >= 30, "{} in parallel", server.peak_in_flight());
}

#[test]
fn a_loop_over_urls_is_prefetched() {
    let (server, made_up, listed) = server(200, 50 * KIB, &client());
    let urls: Vec<_> = (0..200).map(|index| listed.url(index).unwrap()).collect();
    let dataset = Dataset::from_urls(&client(), &urls).unwrap();
    for index in 0..200 {
        assert_same(dataset.get(index).unwrap().bytes(), &made_up.content(index as u64).all());
    }
    assert_eq!(server.requests_of("GET").len(), 200);
    let chain = server.longest_chain("GET");
    assert!(chain <= 20, "{chain} round trips for 200 blobs");
}

#[test]
fn a_loop_from_the_middle_with_get_into_is_prefetched() {
    let (server, made_up, dataset) = server(300, 10 * KIB, &client());
    let mut buffer = vec![0; 10 << 10];
    for index in 100..300 {
        assert_eq!(dataset.get_into(index, &mut buffer).unwrap(), buffer.len());
        assert_same(&buffer, &made_up.content(index as u64).all());
    }
    assert_eq!(server.requests_of("GET").len(), 200);
    let chain = server.longest_chain("GET");
    assert!(chain <= 20, "{chain} round trips for 200 blobs");
}

#[test]
fn batches_in_order_are_prefetched() {
    let (server, made_up, dataset) = server(512, 10 * KIB, &client());
    for first in (0..512).step_by(16) {
        let indices: Vec<_> = (first..first + 16).collect();
        for (sample, index) in dataset.get_batch(&indices).unwrap().iter().zip(indices) {
            assert_same(sample.bytes(), &made_up.content(index as u64).all());
        }
    }
    assert_eq!(server.requests_of("GET").len(), 512);
    let chain = server.longest_chain("GET");
    assert!(chain <= 16, "{chain} round trips for 32 batches");
}

#[test]
fn repeated_loops_fetch_each_blob_once_per_loop() {
    let (server, _, dataset) = server(40, 1000, &client());
    for _ in 0..3 {
        (0..40).for_each(|index| drop(dataset.get(index).unwrap()));
    }
    assert_eq!(server.requests_of("GET").len(), 120);
}

#[test]
fn a_fixed_permutation_fetches_only_what_is_requested() {
    let (server, made_up, dataset) = server(500, 1000, &client());
    server.on_request(|_| None);
    // A permutation: 211 and 500 have no common divisor.
    for step in 0..500 {
        let index = (step * 211 + 17) % 500;
        assert_same(dataset.get(index).unwrap().bytes(), &made_up.content(index as u64).all());
    }
    assert_eq!(server.requests_of("GET").len(), 500);
    for step in 0..30 {
        let indices: Vec<_> = (0..16).map(|i| ((step * 16 + i) * 211 + 3) % 500).collect();
        dataset.get_batch(&indices).unwrap();
    }
    assert_eq!(server.requests_of("GET").len(), 500 + 480);
}

#[test]
fn a_random_permutation_fetches_only_what_is_requested() {
    let (server, _, dataset) = server(1000, 100, &client());
    server.on_request(|_| None);
    let mut indices: Vec<_> = (0..1000).collect();
    // A Fisher-Yates shuffle with a fixed seed. It contains some pairs of neighbours.
    let mut state = 12345_u64;
    for last in (1..indices.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        indices.swap(last, (state >> 33) as usize % (last + 1));
    }
    assert!(indices.windows(2).any(|pair| pair[0] + 1 == pair[1]));
    for index in indices {
        dataset.get(index).unwrap();
    }
    assert_eq!(server.requests_of("GET").len(), 1000);
}

#[test]
fn a_loop_that_ends_early_stops_its_prefetches() {
    let (server, _, dataset) = server(10_000, 1000, &client());
    (0..20).for_each(|index| drop(dataset.get(index).unwrap()));
    dataset.get(7777).unwrap();
    std::thread::sleep(2 * LATENCY);
    let before = server.requests_of("GET").len();
    assert!(before <= 21 + 200, "{before} GETs for 21 samples");
    for index in [5000, 17, 9000, 4, 6001, 300, 8123] {
        dataset.get(index).unwrap();
    }
    std::thread::sleep(2 * LATENCY);
    let after = server.requests_of("GET").len();
    assert!(after - before <= 7, "{} GETs for 7 jumps", after - before);
}

#[test]
fn prefetching_respects_the_memory_limit() {
    let client = client_with(|options| options.set_memory_limit(8 << 20));
    let (server, made_up, dataset) = server(100, 1 << 20, &client);
    for index in 0..50 {
        let sample = dataset.get(index).unwrap();
        assert_same(sample.bytes(), &made_up.content(index as u64).all());
        let ahead = server.requests_of("GET").len().saturating_sub(index + 1);
        assert!(ahead <= 8, "{ahead} MiB prefetched with a limit of 8");
    }
    assert!(server.longest_chain("GET") < 40, "{} round trips: nothing was prefetched", server.longest_chain("GET"));
}

#[test]
fn a_loop_over_blobs_larger_than_the_memory_limit_works() {
    let client = client_with(|options| options.set_memory_limit(1 << 20));
    let (_server, made_up, dataset) = server(5, 10 << 20, &client);
    for index in 0..5 {
        assert_same(dataset.get(index).unwrap().bytes(), &made_up.content(index as u64).all());
    }
}

#[test]
fn failed_prefetches_do_not_fail_the_loop() {
    let (server, made_up, dataset) = server(200, 50 * KIB, &client());
    server.on_request(|request| match request.index % 7 {
        0 => Some(Fault::Reset { after: Some(20_000) }),
        3 => Some(Fault::status(503, "ServerBusy")),
        _ => None,
    });
    for index in 0..200 {
        assert_same(dataset.get(index).unwrap().bytes(), &made_up.content(index as u64).all());
    }
}

/// Two concurrent loops must not be taken for random access.
#[test]
fn two_concurrent_loops_fetch_each_blob_about_once() {
    let (server, made_up, dataset) = server(300, 10 * KIB, &client());
    std::thread::scope(|scope| {
        for half in [0..150, 150..300] {
            let dataset = &dataset;
            scope.spawn(move || {
                for index in half {
                    assert_same(dataset.get(index).unwrap().bytes(), &made_up.content(index as u64).all());
                }
            });
        }
    });
    let gets = server.requests_of("GET").len();
    assert!(gets <= 330, "{gets} GETs for 300 blobs");
}
