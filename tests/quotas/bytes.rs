//! A service that throttles by bytes: a few large answers use up what thousands of small requests would.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::child;
use crate::support::client::client;
use crate::support::content::Content;
use crate::support::fault::Quota;
use crate::{Crowd, alone, measure};

const PROCESSES: usize = 8;
const THREADS: usize = 4;
const PIECE: usize = 1 << 20;
const SIZE: u64 = 8 << 20;
/// With the threads it makes the demand, of 320 pieces a second, as far as the machine can make and take them.
const LATENCY: Duration = Duration::from_millis(100);
const SECONDS_WITHOUT_QUOTA: u64 = 2;
const SECONDS_UNDER_QUOTA: u64 = 15;
/// It was 0.09 to 0.14, half of it while the quota set in.
const MOST_REFUSED: f64 = 0.4;
/// It was 1.04 to 1.12.
const LEAST_EQUAL: f64 = 3.0;

/// A process that reads pieces of its blob here and there and compares them, and is ended by its parent.
fn read_pieces_for_ever(argument: &str) {
    let (seed, url) = argument.split_once(' ').unwrap();
    let expected = Content::new(seed.parse().unwrap(), SIZE).all();
    let reader = client().open(url).unwrap();
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut piece = vec![0; PIECE];
                loop {
                    // Not one after the other, which would be read ahead of.
                    let at = next.fetch_add(1, Ordering::Relaxed) * 5 % 8 * PIECE as u64;
                    let read = reader.read_at(at, &mut piece);
                    if !matches!(read, Ok(PIECE)) || piece != expected[at as usize..][..PIECE] {
                        // The other threads would go on after a panic.
                        eprintln!("process {seed}: {read:?}, or other bytes than were written");
                        std::process::exit(1);
                    }
                }
            });
        }
    });
}

#[test]
fn eight_processes_share_a_quota_of_bytes() {
    const NAME: &str = "bytes::eight_processes_share_a_quota_of_bytes";
    if let Some(argument) = child::argument() {
        return read_pieces_for_ever(&argument);
    }
    let _alone = alone();
    let blob = |index| Content::new(index as u64, SIZE).all();
    let mut crowd = Crowd::gather(NAME, PROCESSES, LATENCY, blob, 20, SECONDS_WITHOUT_QUOTA);
    let demand = crowd.demand;
    let quota = demand / 4.0;
    crowd.server.set_quota(Some(Quota {
        requests_per_second: f64::INFINITY,
        bytes_per_second: quota * PIECE as f64,
        burst: 0.2,
        retry_after: None,
    }));
    let measured = measure(&crowd.server, SECONDS_UNDER_QUOTA);
    for reader in &mut crowd.readers.0 {
        assert!(reader.try_wait().unwrap().is_none(), "a reader has given up, or found other bytes");
    }
    drop(crowd.readers);
    let (used, refused, slowest) = (measured.used(quota), measured.refused, measured.slowest());
    println!("pieces/s granted {:.1?}", measured.granted);
    println!("demand {demand:.0} MiB/s; used {used:.3}, refused {refused:.3}, slowest {slowest:.2}");
    assert!(used >= 0.8, "{used:.3} of the quota of {quota:.0} MiB/s");
    // One piece too many is a debt of a MiB, so that refusals come in bursts, of all who ask meanwhile.
    assert!(refused <= MOST_REFUSED, "{refused:.3} of all requests were refused");
    assert!(slowest <= LEAST_EQUAL, "the slowest gets its share {slowest:.2} times slower than the median");
}
