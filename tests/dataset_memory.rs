//! How much memory datasets and streams use. This is a binary of its own, because it counts every allocation of its
//! process.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "this is how a test fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aztorch::{Client, ClientOptions, Dataset, Stream};

#[path = "support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other test binaries need the rest of it")]
mod support;

use support::content::Content;
use support::fault::{FaultServer, GeneratedBlobs};

/// The system's allocator, with counters.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// The number of allocations of at least [`LARGE`] bytes.
static LARGE_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

fn count_allocation(bytes: usize) {
    LARGE_ALLOCATIONS.fetch_add(usize::from(bytes >= LARGE), Ordering::Relaxed);
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: all calls go to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_allocation(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old and the new block may exist at the same time.
        count_allocation(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MILLION: u64 = 1_000_000;
const MIB: usize = 1 << 20;
/// More than the server allocates for any response.
const LARGE: usize = 50 * MIB;

/// One test at a time, because they count the allocations of the process.
static ALONE: Mutex<()> = Mutex::new(());

/// The number of allocated bytes, once it no longer changes.
fn allocated_at_rest() -> usize {
    let mut last = LIVE.load(Ordering::Relaxed);
    let mut unchanged = 0;
    while unchanged < 10 {
        std::thread::sleep(Duration::from_millis(10));
        let now = LIVE.load(Ordering::Relaxed);
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
    }
    last
}

/// The size of the dataset is the memory that its drop frees. The listing is measured by its peak.
#[test]
fn a_million_entries_use_32_bytes_each_and_their_names() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = FaultServer::start();
    let url = server.put_generated("many", GeneratedBlobs { count: MILLION, size: 100_000 });
    let client = Client::new(&ClientOptions::new()).unwrap();
    // The first listing makes allocations that the process keeps.
    Dataset::list(&client, &server.put_generated("few", GeneratedBlobs { count: 10, size: 1 }), None).unwrap();

    let before = allocated_at_rest();
    PEAK.store(before, Ordering::Relaxed);
    let dataset = Dataset::list(&client, &url, None).unwrap();
    let peak = PEAK.load(Ordering::Relaxed) - before;
    let with = allocated_at_rest();
    assert_eq!(dataset.len() as u64, MILLION);
    assert_eq!(dataset.name(999_999).unwrap(), GeneratedBlobs::name(999_999));
    assert_eq!(dataset.size(999_999).unwrap(), Some(100_000));
    drop(dataset);
    let held = with - allocated_at_rest();
    let names = GeneratedBlobs::name(0).len() * MILLION as usize;
    assert!(held > names, "{held} bytes cannot hold the names, so they were not counted");
    let beside = (held - names) as f64 / MILLION as f64;
    println!("{beside:.1} bytes besides each name; a peak of {} MiB during the listing", peak / MIB);
    assert!(beside <= 32.0, "{beside:.1} bytes besides each name");
    // Pages are parsed as they arrive. The peak has one page in the server, one in the client, and a growing table.
    assert!(peak <= 2 * held, "a peak of {} MiB to list a dataset of {} MiB", peak / MIB, held / MIB);
}

#[test]
fn the_memory_of_a_stream_does_not_grow_with_its_listing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = FaultServer::start();
    let client = Client::new(&ClientOptions::new()).unwrap();
    let url = server.put_generated("many", GeneratedBlobs { count: MILLION / 5, size: 100_000 });
    let before = allocated_at_rest();
    let stream = Stream::list(&client, &url, None, 0, 1).unwrap();
    stream.set_shuffle(10_000, 1).unwrap();
    stream.set_lazy().unwrap();
    PEAK.store(before, Ordering::Relaxed);
    let mut count = 0;
    while let Some(sample) = stream.next().unwrap() {
        assert_eq!(sample.position(), count);
        count += 1;
    }
    assert_eq!(count, MILLION / 5);
    let peak = PEAK.load(Ordering::Relaxed) - before;
    println!("a peak of {} MiB during the stream", peak / MIB);
    assert!(peak <= 64 * MIB, "{} MiB for a stream over 200,000 names", peak / MIB);
}

#[test]
fn a_sample_is_allocated_once_at_its_final_size() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = FaultServer::start();
    let size = 60 * MIB as u64;
    server.put_content("blob", Content::new(1, size));
    let client = Client::new(&ClientOptions::new()).unwrap();
    for dataset in [
        Dataset::list(&client, &server.container_url(), None).unwrap(),
        Dataset::from_urls(&client, &[server.url("blob")]).unwrap(),
    ] {
        let before = (allocated_at_rest(), LARGE_ALLOCATIONS.load(Ordering::Relaxed));
        let sample = dataset.get(0).unwrap();
        assert_eq!(sample.bytes().len() as u64, size);
        assert_eq!(LARGE_ALLOCATIONS.load(Ordering::Relaxed) - before.1, 1);
        // The sample's name and URL use a little memory.
        let beside = allocated_at_rest() - before.0 - size as usize;
        assert!(beside < MIB, "{beside} bytes besides those of the blob");
        drop(sample);
        let mut buffer = vec![0; size as usize];
        let before = LARGE_ALLOCATIONS.load(Ordering::Relaxed);
        assert_eq!(dataset.get_into(0, &mut buffer).unwrap(), buffer.len());
        assert_eq!(LARGE_ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "get_into allocated a buffer");
    }
}
