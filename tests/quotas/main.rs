//! Tests of throttling: how many processes share a service with a quota, and how long calls take on a service that
//! refuses requests at random. This binary runs one test at a time: the figures depend on the demand of each process,
//! and any other load on the machine lowers that demand.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "how a test fails")]

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the other binaries need the rest of it")]
mod support;

mod bytes;
mod chance;
mod first_seconds;
mod requests;

use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use support::child;
use support::fault::{Count, Fault, FaultServer};

/// Held by the test that runs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns an error when a condition is false, with the messages of all false conditions.
fn check(promises: &[(bool, String)]) -> Result<(), String> {
    let broken: Vec<_> = promises.iter().filter(|(kept, _)| !kept).map(|(_, message)| message.as_str()).collect();
    if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
}

/// Runs `measure` until it succeeds, at most three times. The shares of processes are random: on a busy machine
/// some per cent of the runs end just outside a bound. A client with a defect fails in all three runs.
fn in_one_of_three_runs(mut measure: impl FnMut() -> Result<(), String>) {
    for run in 1..=3 {
        match measure() {
            Ok(()) => return,
            Err(broken) => println!("run {run} of at most 3: {broken}"),
        }
    }
    panic!("three runs in a row failed, as printed above");
}

/// Processes of this test binary. They are killed when this is dropped.
struct Processes(Vec<Child>);

impl Processes {
    /// Starts `count` processes of the test `name`, each with a blob of its own. [`child::argument`] gives each its
    /// number and the blob's URL, with a space between them.
    fn start(name: &str, server: &FaultServer, count: usize, blob: impl Fn(usize) -> Vec<u8>) -> Self {
        let start = |index: usize| {
            let path = format!("blob-{index:02}");
            server.put(&path, blob(index));
            child::spawn(name, &format!("{index} {}", server.url(&path)))
        };
        Self((0..count).map(start).collect())
    }

    /// Whether all processes are still running.
    fn are_running(&mut self) -> bool {
        self.0.iter_mut().all(|process| process.try_wait().unwrap().is_none())
    }

    /// Waits until all have ended, and fails if one has failed.
    fn wait(&mut self) {
        for process in &mut self.0 {
            assert!(process.wait().unwrap().success(), "a process has failed");
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for process in &mut self.0 {
            // The errors of a process that has ended already are expected.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A server without a quota that answers after `latency` and counts the requests of each process.
fn counting_server(latency: Duration) -> FaultServer {
    let server = FaultServer::start();
    server.forget_requests();
    server.on_request(move |_| Some(Fault::Delay(latency)));
    server.set_quota(None);
    server
}

/// Waits until each of `processes` has been granted `warm` requests.
fn wait_until_warm(server: &FaultServer, processes: usize, warm: u64) {
    while counts(server).len() < processes || counts(server).iter().any(|count| count.granted < warm) {
        thread::sleep(Duration::from_millis(10));
    }
}

/// The granted and the refused requests of a measurement.
struct Measured {
    /// Requests granted to each process a second, the smallest number first.
    granted: Vec<f64>,
    /// Refused requests as a share of all.
    refused: f64,
}

impl Measured {
    /// The measurement between two counts, `elapsed` seconds apart.
    fn between(before: &[Count], after: &[Count], elapsed: f64) -> Self {
        let refused: u64 = after.iter().zip(before).map(|(after, before)| after.refused - before.refused).sum();
        let granted: Vec<_> = after.iter().zip(before).map(|(after, before)| after.granted - before.granted).collect();
        let all: u64 = granted.iter().sum();
        let mut granted: Vec<_> = granted.iter().map(|count| *count as f64 / elapsed).collect();
        granted.sort_by(f64::total_cmp);
        Self { granted, refused: refused as f64 / (refused + all) as f64 }
    }

    /// The granted requests of all processes, as a share of `quota` requests a second.
    fn used(&self, quota: f64) -> f64 {
        self.granted.iter().sum::<f64>() / quota
    }

    /// How many times slower the slowest process gets its requests than the median one.
    fn slowest(&self) -> f64 {
        self.granted[self.granted.len() / 2] / self.granted[0]
    }
}

/// The requests of each process so far.
fn counts(server: &FaultServer) -> Vec<Count> {
    server.counts().into_values().collect()
}

fn measure(server: &FaultServer, seconds: u64) -> Measured {
    let (before, began) = (counts(server), Instant::now());
    thread::sleep(Duration::from_secs(seconds));
    Measured::between(&before, &counts(server), began.elapsed().as_secs_f64())
}
