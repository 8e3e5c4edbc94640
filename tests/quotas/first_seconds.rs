//! A quota that holds from the first request on: processes with some work each share it from the start.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::child;
use crate::support::client::{client, read_blob};
use crate::support::fault::Quota;
use crate::{Measured, Processes, alone, check, counting_server, counts, in_one_of_three_runs, wait_until_warm};

const PROCESSES: usize = 8;
const THREADS: usize = 8;
/// The reads of each process.
const READS: usize = 400;
/// With this latency the threads demand four times the quota.
const LATENCY: Duration = Duration::from_millis(40);
const QUOTA: f64 = 400.0;
/// The guaranteed bounds.
const LEAST_USED: f64 = 0.9;
const MOST_REFUSED: f64 = 0.1;
const MOST_UNEQUAL: f64 = 1.3;

/// A child process: reads its blob [`READS`] times, in some threads.
fn read_some(argument: &str) {
    let (_, url) = argument.split_once(' ').unwrap();
    let client = client();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..READS / THREADS {
                    read_blob(&client, url).unwrap();
                }
            });
        }
    });
}

fn share_a_quota_from_the_first_second(name: &str, retry_after: Option<u32>) -> Result<(), String> {
    let server = counting_server(LATENCY);
    server.set_quota(Some(Quota { retry_after, ..Quota::requests(QUOTA) }));
    let mut processes = Processes::start(name, &server, PROCESSES, |_| vec![1; 4000]);
    wait_until_warm(&server, PROCESSES, 0);
    // Measured while all processes are at work, from the first request of the last one to the last request of the first
    // one.
    let (began, before) = (Instant::now(), counts(&server));
    while counts(&server).iter().all(|count| count.granted < READS as u64) {
        thread::sleep(Duration::from_millis(10));
    }
    let (elapsed, at_work) = (began.elapsed().as_secs_f64(), counts(&server));
    processes.wait();

    let measured = Measured::between(&before, &at_work, elapsed);
    let (used, slowest) = (measured.used(QUOTA), measured.slowest());
    let refused: u64 = counts(&server).iter().map(|count| count.refused).sum();
    let refused = refused as f64 / (refused + (PROCESSES * READS) as u64) as f64;
    println!(
        "granted {:.1?} a second for {elapsed:.2} s; used {used:.3}, refused {refused:.3}, slowest {slowest:.2}",
        measured.granted
    );
    check(&[
        (used >= LEAST_USED, format!("only {used:.3} of the quota was used")),
        (refused <= MOST_REFUSED, format!("{refused:.3} of all requests were refused")),
        (slowest <= MOST_UNEQUAL, format!("the slowest process is {slowest:.2} times slower than the median")),
    ])
}

fn test(name: &str, retry_after: Option<u32>) {
    if let Some(argument) = child::argument() {
        return read_some(&argument);
    }
    let _alone = alone();
    in_one_of_three_runs(|| share_a_quota_from_the_first_second(name, retry_after));
}

#[test]
fn eight_processes_share_a_quota_from_the_first_second() {
    test("first_seconds::eight_processes_share_a_quota_from_the_first_second", None);
}

#[test]
fn eight_processes_share_a_quota_with_retry_after() {
    test("first_seconds::eight_processes_share_a_quota_with_retry_after", Some(1));
}
