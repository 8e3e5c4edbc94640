//! A quota of bytes: a few large answers use it up, with few requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::child;
use crate::support::client::client;
use crate::support::content::Content;
use crate::support::fault::Quota;
use crate::{Processes, alone, check, counting_server, in_one_of_three_runs, measure, wait_until_warm};

const PROCESSES: usize = 8;
const THREADS: usize = 4;
const PIECE: usize = 1 << 20;
const SIZE: u64 = 8 << 20;
/// With this latency the threads demand 320 pieces a second, if the machine is fast enough.
const LATENCY: Duration = Duration::from_millis(100);
const SECONDS_WITHOUT_QUOTA: u64 = 2;
const SECONDS_UNDER_QUOTA: u64 = 15;
/// The largest allowed share of refused requests. Measured: 0.09 to 0.18, half of it when the quota begins.
const MOST_REFUSED: f64 = 0.4;
/// The largest allowed inequality of the processes. Measured: 1.04 to 1.18.
const MOST_UNEQUAL: f64 = 3.0;

/// A child process: reads pieces of its blob in a scattered order and compares them, until its parent kills it.
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
                    // In a scattered order, because pieces in order would be read ahead.
                    let at = next.fetch_add(1, Ordering::Relaxed) * 5 % 8 * PIECE as u64;
                    let read = reader.read_at(at, &mut piece);
                    if !matches!(read, Ok(PIECE)) || piece != expected[at as usize..][..PIECE] {
                        // After a panic of this thread, the other threads would continue.
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
    in_one_of_three_runs(|| share_a_quota_of_bytes(NAME));
}

fn share_a_quota_of_bytes(name: &str) -> Result<(), String> {
    let server = counting_server(LATENCY);
    let mut readers = Processes::start(name, &server, PROCESSES, |index| Content::new(index as u64, SIZE).all());
    wait_until_warm(&server, PROCESSES, 20);
    let demand: f64 = measure(&server, SECONDS_WITHOUT_QUOTA).granted.iter().sum();
    let quota = demand / 4.0;
    server.set_quota(Some(Quota {
        requests_per_second: f64::INFINITY,
        bytes_per_second: quota * PIECE as f64,
        burst: 0.2,
        retry_after: None,
    }));
    let measured = measure(&server, SECONDS_UNDER_QUOTA);
    assert!(readers.are_running(), "a reader has given up, or has found other bytes than were written");
    drop(readers);
    let (used, refused, slowest) = (measured.used(quota), measured.refused, measured.slowest());
    println!("pieces granted a second: {:.1?}", measured.granted);
    println!("demand {demand:.0} MiB/s; used {used:.3}, refused {refused:.3}, slowest {slowest:.2}");
    check(&[
        (used >= 0.8, format!("only {used:.3} of the quota of {quota:.0} MiB/s was used")),
        // One piece too many is a debt of 1 MiB, so that refusals come in bursts, to all processes at once.
        (refused <= MOST_REFUSED, format!("{refused:.3} of all requests were refused")),
        (slowest <= MOST_UNEQUAL, format!("the slowest process is {slowest:.2} times slower than the median")),
    ])
}
