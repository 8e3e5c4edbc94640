//! What datasets cost in memory. A binary of its own, since it counts every allocation of its process.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "how a test fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aztorch::{Client, ClientOptions, Dataset, Stream};

#[path = "support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the other binary needs the rest of it")]
mod support;

use support::content::Content;
use support::fault::{FaultServer, GeneratedBlobs};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// How many allocations there were of [`LARGE`] bytes and more.
static LARGE_ONES: AtomicUsize = AtomicUsize::new(0);

fn grew(bytes: usize) {
    LARGE_ONES.fetch_add(usize::from(bytes >= LARGE), Ordering::Relaxed);
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: all of it is the system's allocator, but for the counting.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grew(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may be there at the same time.
        grew(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MILLION: u64 = 1_000_000;
const MIB: usize = 1 << 20;
/// More than the server takes for any one answer.
const LARGE: usize = 50 * MIB;

/// Each test counts what the others would add to.
static ALONE: Mutex<()> = Mutex::new(());

/// The bytes that are allocated once the server's threads and the library's have put away what they were busy with.
fn at_rest() -> usize {
    let mut last = LIVE.load(Ordering::Relaxed);
    let mut calm = 0;
    while calm < 10 {
        std::thread::sleep(Duration::from_millis(10));
        let now = LIVE.load(Ordering::Relaxed);
        calm = if now == last { calm + 1 } else { 0 };
        last = now;
    }
    last
}

/// Of the dataset, what its end gives back is counted; of the listing, the most that was held at one time.
#[test]
fn a_million_entries_take_32_bytes_each_beside_their_names() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = FaultServer::start();
    let url = server.put_generated("many", GeneratedBlobs { count: MILLION, size: 100_000 });
    let client = Client::new(&ClientOptions::new()).unwrap();
    // What is made once and kept.
    Dataset::list(&client, &server.put_generated("few", GeneratedBlobs { count: 10, size: 1 }), None).unwrap();

    let before = at_rest();
    PEAK.store(before, Ordering::Relaxed);
    let dataset = Dataset::list(&client, &url, None).unwrap();
    let peak = PEAK.load(Ordering::Relaxed) - before;
    let with = at_rest();
    assert_eq!(dataset.len() as u64, MILLION);
    assert_eq!(dataset.name(999_999).unwrap(), GeneratedBlobs::name(999_999));
    assert_eq!(dataset.size(999_999).unwrap(), Some(100_000));
    drop(dataset);
    let held = with - at_rest();
    let names = GeneratedBlobs::name(0).len() * MILLION as usize;
    assert!(held > names, "{held} bytes cannot hold the names: they were allocated elsewhere");
    let beside = (held - names) as f64 / MILLION as f64;
    println!("{beside:.1} bytes beside each name; {} MiB at most while it was listed", peak / MIB);
    assert!(beside <= 32.0, "{beside:.1} bytes beside each name");
    // Parsed as they come: a page in the server's memory, and one in ours. The rest is a table that was growing.
    assert!(peak <= 2 * held, "{} MiB to list what takes {}", peak / MIB, held / MIB);
}

#[test]
fn a_stream_keeps_what_its_cursors_need_however_much_it_has_passed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = FaultServer::start();
    let client = Client::new(&ClientOptions::new()).unwrap();
    let url = server.put_generated("many", GeneratedBlobs { count: MILLION / 5, size: 100_000 });
    let before = at_rest();
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
    println!("{} MiB at most while it was streamed", peak / MIB);
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
        let before = (at_rest(), LARGE_ONES.load(Ordering::Relaxed));
        let sample = dataset.get(0).unwrap();
        assert_eq!(sample.bytes().len() as u64, size);
        assert_eq!(LARGE_ONES.load(Ordering::Relaxed) - before.1, 1);
        // A little for what the sample says of itself.
        let beside = at_rest() - before.0 - size as usize;
        assert!(beside < MIB, "{beside} bytes beside the sample's");
        drop(sample);
        let mut buffer = vec![0; size as usize];
        let before = LARGE_ONES.load(Ordering::Relaxed);
        assert_eq!(dataset.get_into(0, &mut buffer).unwrap(), buffer.len());
        assert_eq!(LARGE_ONES.load(Ordering::Relaxed) - before, 0, "straight into the caller's memory");
    }
}
