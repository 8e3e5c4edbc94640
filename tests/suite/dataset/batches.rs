//! Batches, samples in the caller's memory, and prefetching.

use std::time::Duration;

use aztorch::{Client, Dataset, Status};

use crate::support::client::{client, client_with};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer, GeneratedBlobs, longest_chain};

const KIB: u64 = 1 << 10;

/// A dataset over generated blobs of one size.
struct Blobs {
    server: FaultServer,
    made_up: GeneratedBlobs,
    dataset: Dataset,
}

impl Blobs {
    fn new(count: u64, size: u64) -> Blobs {
        Blobs::of(&client(), count, size)
    }

    fn of(client: &Client, count: u64, size: u64) -> Blobs {
        let (server, made_up) = (FaultServer::start(), GeneratedBlobs { count, size });
        let dataset = Dataset::list(client, &server.put_generated("many", made_up), None).unwrap();
        Blobs { server, made_up, dataset }
    }

    fn content(&self, index: usize) -> Content {
        self.made_up.content(index as u64)
    }

    fn gets(&self) -> usize {
        self.server.requests_of("GET").len()
    }

    fn delay(&self, milliseconds: u64) {
        self.server.on_request(move |_| Some(Fault::Delay(Duration::from_millis(milliseconds))));
    }

    #[track_caller]
    fn expect_batch(&self, indices: &[usize]) {
        let samples = self.dataset.get_batch(indices).unwrap();
        assert_eq!(samples.len(), indices.len());
        for (sample, index) in samples.iter().zip(indices) {
            assert_eq!(sample.position(), *index as u64);
            assert_eq!(sample.name(), GeneratedBlobs::name(*index as u64));
            assert_same(sample.bytes(), &self.content(*index).all());
        }
    }

    /// Waits until the responses to this many GETs have begun.
    fn wait_for_gets(&self, count: usize) {
        let answered = || self.server.requests_of("GET").iter().filter(|request| request.answered.is_some()).count();
        for _ in 0..2000 {
            if answered() >= count {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{} of {count} GETs got a response", answered());
    }
}

#[test]
fn a_batch_has_the_order_of_its_indices() {
    let blobs = Blobs::new(100, 1000);
    blobs.expect_batch(&[7, 3, 99, 0, 42]);
    blobs.expect_batch(&(0..100).rev().collect::<Vec<_>>());
    blobs.expect_batch(&[5]);
    blobs.expect_batch(&[]);
    assert_eq!(blobs.gets(), 106);
}

#[test]
fn a_batch_of_64_is_fetched_in_parallel() {
    let blobs = Blobs::new(1000, 100 * KIB);
    blobs.delay(100);
    let indices: Vec<_> = (0..64).map(|i| (i * 389 + 1) % 1000).collect();
    blobs.expect_batch(&indices);
    assert_eq!(blobs.gets(), 64);
    assert!(blobs.server.peak_in_flight() >= 32, "{} in parallel", blobs.server.peak_in_flight());
    assert!(blobs.server.longest_chain("GET") <= 3, "{} round trips", blobs.server.longest_chain("GET"));
}

#[test]
fn duplicate_indices_are_separate_copies() {
    let blobs = Blobs::new(10, 1000);
    let samples = blobs.dataset.get_batch(&[3, 5, 3, 3]).unwrap();
    let mut starts: Vec<_> = samples.iter().map(|sample| sample.bytes().as_ptr()).collect();
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts.len(), 4, "two samples share memory");
    for (sample, index) in samples.iter().zip([3, 5, 3, 3]) {
        assert_same(sample.bytes(), &blobs.content(index).all());
        assert_eq!(sample.bytes().as_ptr().align_offset(64), 0);
    }
    let mut buffers = vec![vec![0; 1000]; 3];
    let mut targets: Vec<_> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
    assert_eq!(blobs.dataset.get_batch_into(&[4, 4, 4], &mut targets).unwrap(), [1000; 3]);
    buffers.iter().for_each(|buffer| assert_same(buffer, &blobs.content(4).all()));
}

#[test]
fn a_batch_is_all_or_nothing() {
    let blobs = Blobs::new(10, 1000);
    let mut indices: Vec<_> = (0..10).collect();
    indices.push(10);
    let error = expect_error(blobs.dataset.get_batch(&indices), Status::OutOfRange);
    assert!(error.message().contains("10"), "{error}");
    assert_eq!(blobs.gets(), 0, "a request was sent before the indices were checked");
    expect_error(blobs.dataset.get_batch_into(&[1, 10], &mut [&mut [0; 1000], &mut [0; 1000]]), Status::OutOfRange);

    let path = format!("/account/many/{}", GeneratedBlobs::name(7));
    blobs.server.on_request(move |request| (request.path == path).then(|| Fault::status(404, "BlobNotFound")));
    let error = expect_error(blobs.dataset.get_batch(&[6, 7, 8]), Status::NotFound);
    assert!(error.message().contains(&GeneratedBlobs::name(7)), "{error}");
    let mut buffers = vec![vec![0; 1000]; 3];
    let mut targets: Vec<_> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
    let error = expect_error(blobs.dataset.get_batch_into(&[6, 7, 8], &mut targets), Status::NotFound);
    assert!(error.message().contains(&GeneratedBlobs::name(7)), "{error}");
    blobs.expect_batch(&[6, 8]);
}

#[test]
fn a_batch_of_large_blobs_respects_max_concurrency() {
    let client = client_with(|options| options.set_max_concurrency(2));
    let blobs = Blobs::of(&client, 4, 20 << 20);
    blobs.delay(5);
    blobs.expect_batch(&[2, 0, 3, 1, 0]);
    assert!(blobs.server.peak_in_flight() <= 3, "{} in parallel", blobs.server.peak_in_flight());
    let mut buffers = vec![vec![0; 20 << 20]; 3];
    let mut targets: Vec<_> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
    blobs.dataset.get_batch_into(&[3, 1, 2], &mut targets).unwrap();
    for (buffer, index) in buffers.iter().zip([3, 1, 2]) {
        assert_same(buffer, &blobs.content(index).all());
    }
    // One request at a time, and a memory limit below the size of one blob.
    let client = client_with(|options| {
        options.set_max_concurrency(1)?;
        options.set_memory_limit(1 << 20)
    });
    let blobs = Blobs::of(&client, 3, 12 << 20);
    blobs.dataset.prefetch(&[0, 1, 2]).unwrap();
    blobs.expect_batch(&[1, 2, 0]);
}

#[test]
fn each_failed_request_of_a_batch_is_retried_once() {
    let blobs = Blobs::new(64, 100 * KIB);
    let seen = std::sync::Mutex::new(std::collections::HashMap::new());
    blobs.server.on_request(move |request| {
        let mut seen = seen.lock().unwrap();
        let tries = seen.entry(request.path.clone()).or_insert(0);
        *tries += 1;
        // Each blob's first response fails; the fault depends on the name.
        let kind = request.path.bytes().map(usize::from).sum::<usize>() % 5;
        (*tries == 1).then(|| match kind {
            0 => Fault::Reset { after: Some(50_000) },
            1 => Fault::status(503, "ServerBusy"),
            2 => Fault::Close { after: None },
            3 => Fault::ShortBody(10),
            _ => Fault::LongBody(1),
        })
    });
    blobs.expect_batch(&(0..64).collect::<Vec<_>>());
    assert_eq!(blobs.gets(), 128, "each blob needs one failed and one successful request");
}

#[test]
fn get_into_fills_the_callers_memory() {
    let blobs = Blobs::new(5, 20 << 20);
    let mut buffer = vec![0x55; (20 << 20) + 100];
    assert_eq!(blobs.dataset.get_into(3, &mut buffer).unwrap(), 20 << 20);
    assert_same(&buffer[..20 << 20], &blobs.content(3).all());
    assert!(buffer[20 << 20..].iter().all(|byte| *byte == 0x55), "bytes beyond the blob's size were written");
    assert_eq!(blobs.dataset.get_into(1, &mut buffer[..20 << 20]).unwrap(), 20 << 20);
    assert_same(&buffer[..20 << 20], &blobs.content(1).all());
    assert_eq!(blobs.server.requests_of("HEAD").len(), 0);
    expect_error(blobs.dataset.get_into(5, &mut buffer), Status::OutOfRange);
}

#[test]
fn a_buffer_that_is_too_small_is_an_error_with_the_needed_size() {
    for size in [1000, 20 << 20] {
        let blobs = Blobs::new(3, size);
        for capacity in [0, 1, 500, size as usize - 1] {
            let mut buffer = vec![0; capacity];
            let before = blobs.gets();
            let error = expect_error(blobs.dataset.get_into(1, &mut buffer), Status::BufferTooSmall);
            assert!(error.message().contains(&size.to_string()), "{error}");
            assert!(error.message().contains(&GeneratedBlobs::name(1)), "{error}");
            assert!(blobs.gets() <= before + 1, "more than one GET for a buffer that is too small");
            let requests = blobs.server.requests_of("GET");
            let ranges = requests[before..].iter().filter_map(|request| request.range());
            let bytes: u64 = ranges.map(|(first, last)| last - first + 1).sum();
            assert!(bytes <= 1000, "{bytes} bytes to learn that {size} do not fit into {capacity}");

            let mut other = vec![0; size as usize];
            let mut buffers = [other.as_mut_slice(), &mut buffer];
            let error = expect_error(blobs.dataset.get_batch_into(&[0, 1], &mut buffers), Status::BufferTooSmall);
            assert!(error.message().contains(&GeneratedBlobs::name(1)), "{error}");
        }
    }
    let blobs = Blobs::new(3, 1000);
    let error = expect_error(blobs.dataset.get_batch_into(&[0, 1], &mut [&mut [0; 1000]]), Status::InvalidArgument);
    assert!(error.message().contains('1') && error.message().contains('2'), "{error}");
}

#[test]
fn prefetch_returns_immediately_and_its_samples_are_not_fetched_again() {
    let blobs = Blobs::new(1000, 10 * KIB);
    blobs.delay(50);
    let order: Vec<_> = (0..40).map(|i| (i * 617 + 11) % 1000).collect();
    blobs.dataset.prefetch(&order).unwrap();
    let answered = blobs.server.requests_of("GET").iter().filter(|request| request.answered.is_some()).count();
    assert!(answered < 40, "prefetch waited for its {answered} responses");
    blobs.wait_for_gets(40);
    blobs.expect_batch(&order[..20]);
    let mut buffer = vec![0; 10 << 10];
    for index in &order[20..30] {
        assert_same(blobs.dataset.get(*index).unwrap().bytes(), &blobs.content(*index).all());
    }
    for index in &order[30..] {
        assert_eq!(blobs.dataset.get_into(*index, &mut buffer).unwrap(), buffer.len());
        assert_same(&buffer, &blobs.content(*index).all());
    }
    assert_eq!(blobs.gets(), 40, "a prefetched sample was fetched again");
    assert!(blobs.server.longest_chain("GET") <= 4, "{} round trips", blobs.server.longest_chain("GET"));
    // A sample that the caller has taken is fetched again.
    blobs.expect_batch(&order[..1]);
    assert_eq!(blobs.gets(), 41);
}

#[test]
fn a_get_waits_for_a_prefetch_in_progress() {
    let blobs = Blobs::new(100, 10 * KIB);
    blobs.delay(100);
    blobs.dataset.prefetch(&[90, 10, 50]).unwrap();
    blobs.expect_batch(&[50, 90]);
    assert_same(blobs.dataset.get(10).unwrap().bytes(), &blobs.content(10).all());
    assert_eq!(blobs.gets(), 3);
    // An index that is prefetched twice is fetched once.
    blobs.dataset.prefetch(&[3, 3, 4]).unwrap();
    blobs.dataset.prefetch(&[4, 3]).unwrap();
    blobs.expect_batch(&[3, 4]);
    assert_eq!(blobs.gets(), 5);
}

#[test]
fn unused_prefetched_samples_are_evicted_at_the_memory_limit() {
    let client = client_with(|options| options.set_memory_limit(10 << 20));
    let blobs = Blobs::of(&client, 100, 1 << 20);
    // Ten samples fit into memory; the other ones wait.
    blobs.dataset.prefetch(&(0..30).collect::<Vec<_>>()).unwrap();
    blobs.wait_for_gets(8);
    std::thread::sleep(Duration::from_millis(200));
    let first = blobs.gets();
    assert!(first <= 10, "{first} MiB were prefetched with a limit of 10");
    // They are not taken; newly prefetched samples replace them.
    let wanted: Vec<_> = (50..58).collect();
    blobs.dataset.prefetch(&wanted).unwrap();
    blobs.wait_for_gets(first + 8);
    let before = blobs.gets();
    for index in &wanted {
        assert_same(blobs.dataset.get(*index).unwrap().bytes(), &blobs.content(*index).all());
    }
    let requests = blobs.server.requests_of("GET");
    for index in &wanted {
        let path = format!("/account/many/{}", GeneratedBlobs::name(*index as u64));
        assert_eq!(requests.iter().filter(|request| request.path == path).count(), 1, "{index}; {before} before");
    }
    // Evicted samples are fetched again when they are taken.
    blobs.expect_batch(&[0, 1, 2, 29]);
}

#[test]
fn prefetching_continues_as_samples_are_taken() {
    let client = client_with(|options| options.set_memory_limit(10 << 20));
    let blobs = Blobs::of(&client, 100, 1 << 20);
    // Longer than the pauses of a busy machine, which would look like requests one after the other.
    blobs.delay(50);
    let order: Vec<_> = (0..60).map(|i| (i * 37 + 5) % 100).collect();
    blobs.dataset.prefetch(&order).unwrap();
    for index in &order {
        assert_same(blobs.dataset.get(*index).unwrap().bytes(), &blobs.content(*index).all());
    }
    assert_eq!(blobs.gets(), 60, "each blob is fetched once");
    let chain = longest_chain(&blobs.server.requests_of("GET"));
    assert!(chain <= 30, "{chain} round trips for 60 samples");
}

#[test]
fn a_get_after_a_failed_prefetch_tries_again() {
    let client = client_with(|options| options.set_max_retries(0));
    let blobs = Blobs::of(&client, 10, 1000);
    blobs.server.script("GET", [Fault::status(503, "ServerBusy")]);
    blobs.dataset.prefetch(&[3]).unwrap();
    blobs.wait_for_gets(1);
    // The failed prefetch does not fail the call, which tries again.
    assert_same(blobs.dataset.get(3).unwrap().bytes(), &blobs.content(3).all());
    blobs.server.on_request(|_| Some(Fault::status(403, "AuthorizationFailure")));
    blobs.dataset.prefetch(&[4, 5]).unwrap();
    blobs.wait_for_gets(4);
    expect_error(blobs.dataset.get(4), Status::PermissionDenied);
    expect_error(blobs.dataset.get_batch(&[5, 6]), Status::PermissionDenied);
}

#[test]
fn blobs_larger_than_the_memory_limit_can_be_prefetched() {
    let client = client_with(|options| options.set_memory_limit(1 << 20));
    let blobs = Blobs::of(&client, 4, 3 << 20);
    blobs.dataset.prefetch(&[0, 1, 2, 3]).unwrap();
    blobs.expect_batch(&[0, 1]);
    assert_same(blobs.dataset.get(2).unwrap().bytes(), &blobs.content(2).all());
}

#[test]
fn many_threads_get_and_prefetch_concurrently() {
    let client = client_with(|options| options.set_memory_limit(4 << 20));
    let blobs = Blobs::of(&client, 300, 50 * KIB);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let blobs = &blobs;
            scope.spawn(move || {
                let mut random =
                    Content::new(thread, 0).bytes(0, 8 * 40).chunks(8).map(|word| word[0] as usize).collect::<Vec<_>>();
                random.iter_mut().for_each(|index| *index = (*index * 7) % 300);
                for step in random.chunks(8) {
                    blobs.dataset.prefetch(step).unwrap();
                    blobs.expect_batch(&step[..4]);
                    for index in &step[4..] {
                        assert_same(blobs.dataset.get(*index).unwrap().bytes(), &blobs.content(*index).all());
                    }
                }
            });
        }
    });
}

#[test]
fn dropping_a_dataset_stops_its_prefetches() {
    let blobs = Blobs::new(200, 10 * KIB);
    blobs.delay(50);
    blobs.dataset.prefetch(&(0..200).collect::<Vec<_>>()).unwrap();
    blobs.wait_for_gets(1);
    let Blobs { server, dataset, .. } = blobs;
    drop(dataset);
    std::thread::sleep(Duration::from_millis(100));
    let before = server.requests_of("GET").len();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.requests_of("GET").len(), before, "requests were sent after the drop");
    assert!(before < 200, "all requests were sent before the drop");
}
