//! A quota that is there from the first request on: processes that each have some work to do share it at once.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::child;
use crate::support::client::{client, read_blob};
use crate::support::fault::{Fault, FaultServer, Quota};
use crate::{Readers, alone, counts};

const PROCESSES: usize = 8;
const THREADS: usize = 8;
/// Of each process.
const READS: usize = 400;
/// With the threads it makes the demand: four times the quota.
const LATENCY: Duration = Duration::from_millis(40);
const QUOTA: f64 = 400.0;
/// The promises.
const LEAST_USED: f64 = 0.9;
const MOST_REFUSED: f64 = 0.1;
const LEAST_EQUAL: f64 = 1.3;

/// A process that reads its blob so many times, in some threads.
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

fn share_a_quota_from_the_first_second(name: &str, retry_after: Option<u32>) {
    if let Some(argument) = child::argument() {
        return read_some(&argument);
    }
    let _alone = alone();
    let server = FaultServer::start();
    server.forget_requests();
    server.on_request(move |_| Some(Fault::Delay(LATENCY)));
    server.set_quota(Some(Quota { retry_after, ..Quota::requests(QUOTA) }));
    let start = |index: usize| {
        let path = format!("blob-{index:02}");
        server.put(&path, vec![1; 4000]);
        child::spawn(name, &format!("{index} {}", server.url(&path)))
    };
    let mut readers = Readers((0..PROCESSES).map(start).collect());
    while counts(&server).len() < PROCESSES {
        thread::sleep(Duration::from_millis(10));
    }
    // While all of them are at work: the last ones have the quota for themselves.
    let (began, before) = (Instant::now(), counts(&server));
    while counts(&server).iter().all(|count| count.granted < READS as u64) {
        thread::sleep(Duration::from_millis(10));
    }
    let (elapsed, at_work) = (began.elapsed().as_secs_f64(), counts(&server));
    for reader in &mut readers.0 {
        assert!(reader.wait().unwrap().success(), "a process has failed");
    }

    let mut granted: Vec<_> = at_work.iter().map(|count| count.granted as f64).collect();
    granted.sort_by(f64::total_cmp);
    // The first process may have begun before the last one was there.
    let granted_before = before.iter().map(|count| count.granted as f64).sum::<f64>();
    let used = (granted.iter().sum::<f64>() - granted_before) / (QUOTA * elapsed);
    let slowest = granted[PROCESSES / 2] / granted[0];
    let all: Vec<_> = counts(&server);
    let refused: u64 = all.iter().map(|count| count.refused).sum();
    let refused = refused as f64 / (refused + (PROCESSES * READS) as u64) as f64;
    println!("granted {granted:?} in {elapsed:.2} s; used {used:.3}, refused {refused:.3}, slowest {slowest:.2}");
    assert!(used >= LEAST_USED, "{used:.3} of the quota");
    assert!(refused <= MOST_REFUSED, "{refused:.3} of all requests were refused");
    assert!(slowest <= LEAST_EQUAL, "the slowest gets its share {slowest:.2} times slower than the median");
}

#[test]
fn eight_processes_share_a_quota_from_the_first_second() {
    share_a_quota_from_the_first_second("first_seconds::eight_processes_share_a_quota_from_the_first_second", None);
}

#[test]
fn eight_processes_share_a_quota_that_asks_them_to_wait() {
    share_a_quota_from_the_first_second("first_seconds::eight_processes_share_a_quota_that_asks_them_to_wait", Some(1));
}
