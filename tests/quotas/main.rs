//! What many processes get of a service that throttles them. A binary of its own, and one test at a time: the figures are
//! of what each process asks for, and everything else that runs beside them takes from that.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "how a test fails")]

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the other binary needs the rest of it")]
mod support;

mod bytes;
mod requests;

use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use support::fault::{Count, FaultServer};

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

fn counts(server: &FaultServer) -> Vec<Count> {
    server.counts().into_values().collect()
}

/// What was granted to each a second, the least first, and the share that was refused, while `seconds` passed.
fn measure(server: &FaultServer, seconds: u64) -> (Vec<f64>, f64) {
    let (before, began) = (counts(server), Instant::now());
    thread::sleep(Duration::from_secs(seconds));
    let (after, elapsed) = (counts(server), began.elapsed().as_secs_f64());
    let refused: u64 = after.iter().zip(&before).map(|(after, before)| after.refused - before.refused).sum();
    let granted: Vec<_> = after.iter().zip(&before).map(|(after, before)| after.granted - before.granted).collect();
    let all: u64 = granted.iter().sum();
    let mut granted: Vec<_> = granted.iter().map(|count| *count as f64 / elapsed).collect();
    granted.sort_by(f64::total_cmp);
    (granted, refused as f64 / (refused + all) as f64)
}
