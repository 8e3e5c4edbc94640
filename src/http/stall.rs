//! Detects stalled transfers. A transfer is stalled if it moved less than 1 KiB/s over the client's stall timeout, in
//! either direction. A body that moves faster may take as long as it needs.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::body_tracker::BodyTracker;
use super::counting_socket::Traffic;
use crate::error::{Error, Result, Status};

/// Bytes per second. Below this rate a new connection is likely to be faster.
const MIN_RATE: u64 = 1 << 10;

/// The smallest number of bytes in a period that does not count as stalled.
fn min_bytes(period: Duration) -> u64 {
    ((MIN_RATE as f64 * period.as_secs_f64()) as u64).max(1)
}

/// Detects that a response's body stalled. Counts only the time spent waiting for bytes, not the time that the receiver
/// spends on its own work.
pub(super) struct StallDetector {
    limit: Duration,
    waited: Duration,
    received: u64,
}

impl StallDetector {
    /// A detector with the stall timeout `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, waited: Duration::ZERO, received: 0 }
    }

    /// The time until the next [`Self::check`].
    pub(super) fn time_left(&self) -> Duration {
        self.limit.saturating_sub(self.waited)
    }

    /// Records that `received` bytes came after a wait of `waited`.
    pub(super) fn record(&mut self, waited: Duration, received: usize) {
        self.waited += waited;
        self.received += received as u64;
    }

    /// When the current period began; later than that if the receiver spent time on its own work.
    pub(super) fn began(&self) -> Option<Instant> {
        Instant::now().checked_sub(self.waited)
    }

    /// Returns an error if too few bytes came in a whole period. Otherwise begins the next period after its end.
    pub(super) fn check(&mut self) -> Result<()> {
        if self.waited < self.limit {
            return Ok(());
        }
        if self.received < min_bytes(self.limit) {
            return Err(stalled("body", self.received, self.limit));
        }
        *self = Self::new(self.limit);
        Ok(())
    }
}

fn stalled(what: &str, bytes: u64, period: Duration) -> Error {
    Error::network(format!("the {what} stalled: {bytes} bytes in {:.1} s", period.as_secs_f64()))
}

/// Waits for the head of the response to a request: while the request's body moves, and then for `head_timeout`.
pub(super) async fn wait_for_head<T>(
    mut exchange: Pin<&mut impl Future<Output = Result<T>>>,
    upload: &BodyTracker,
    traffic: &Traffic,
    stall_timeout: Duration,
    head_timeout: Duration,
) -> Result<T> {
    let mut before = traffic.sent();
    while !upload.is_sent() {
        if let Ok(head) = timeout(stall_timeout, exchange.as_mut()).await {
            return head;
        }
        let now = traffic.sent();
        if !upload.is_sent() && now - before < min_bytes(stall_timeout) {
            return Err(stalled("request's body", now - before, stall_timeout));
        }
        before = now;
    }
    match timeout(head_timeout, exchange).await {
        Ok(head) => head,
        Err(_) => {
            let message = format!("no answer within {:.1} s", head_timeout.as_secs_f64());
            Err(Error::network(message).with_status(Status::Timeout))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_a_stall_and_a_slow_body_is_not() {
        let second = Duration::from_secs(1);
        let mut stall = StallDetector::new(10 * second);
        for _ in 0..9 {
            stall.record(second, 1);
            stall.check().unwrap();
        }
        stall.record(second, 1);
        assert!(stall.check().unwrap_err().message().contains("stalled: 10 bytes in 10.0 s"));

        let mut stall = StallDetector::new(10 * second);
        for _ in 0..100 {
            stall.record(second, 2048);
            stall.check().unwrap();
        }
        assert!(stall.time_left() > Duration::ZERO);
    }
}
