//! What many processes get of a service that throttles them, and one of a service that refuses by chance. A binary of its own, and one test at a time: the figures are
//! of what each process asks for, and everything else that runs beside them takes from that.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "how a test fails")]

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the other binary needs the rest of it")]
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

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Readers(Vec<Child>);

impl Drop for Readers {
    fn drop(&mut self) {
        for reader in &mut self.0 {
            // One that has ended says so.
            let _ = reader.kill();
            let _ = reader.wait();
        }
    }
}

/// Processes that read a blob each, and what they ask for in a second without a quota.
struct Crowd {
    server: FaultServer,
    readers: Readers,
    demand: f64,
}

impl Crowd {
    /// Starts `processes` of the test `name`, with their number and the URL of their blob, of a service that takes
    /// `latency`. Their demand is measured for `seconds` once each has made `warm` requests.
    fn gather(
        name: &str,
        processes: usize,
        latency: Duration,
        blob: impl Fn(usize) -> Vec<u8>,
        warm: u64,
        seconds: u64,
    ) -> Self {
        let server = FaultServer::start();
        server.forget_requests();
        server.on_request(move |_| Some(Fault::Delay(latency)));
        server.set_quota(None);
        let start = |index: usize| {
            let path = format!("blob-{index:02}");
            server.put(&path, blob(index));
            child::spawn(name, &format!("{index} {}", server.url(&path)))
        };
        let readers = Readers((0..processes).map(start).collect());
        while counts(&server).len() < processes || counts(&server).iter().any(|count| count.granted < warm) {
            thread::sleep(Duration::from_millis(50));
        }
        let demand = measure(&server, seconds).granted.iter().sum();
        Self { server, readers, demand }
    }
}

/// What processes got.
struct Measured {
    /// Of each a second, the least first.
    granted: Vec<f64>,
    /// The share of all requests that was refused.
    refused: f64,
}

impl Measured {
    fn used(&self, quota: f64) -> f64 {
        self.granted.iter().sum::<f64>() / quota
    }

    /// How many times slower than the median the slowest gets its share.
    fn slowest(&self) -> f64 {
        self.granted[self.granted.len() / 2] / self.granted[0]
    }
}

fn counts(server: &FaultServer) -> Vec<Count> {
    server.counts().into_values().collect()
}

fn measure(server: &FaultServer, seconds: u64) -> Measured {
    let (before, began) = (counts(server), Instant::now());
    thread::sleep(Duration::from_secs(seconds));
    let (after, elapsed) = (counts(server), began.elapsed().as_secs_f64());
    let refused: u64 = after.iter().zip(&before).map(|(after, before)| after.refused - before.refused).sum();
    let granted: Vec<_> = after.iter().zip(&before).map(|(after, before)| after.granted - before.granted).collect();
    let all: u64 = granted.iter().sum();
    let mut granted: Vec<_> = granted.iter().map(|count| *count as f64 / elapsed).collect();
    granted.sort_by(f64::total_cmp);
    Measured { granted, refused: refused as f64 / (refused + all) as f64 }
}
