//! When a transfer that has not ended counts as dead: fewer bytes than a trickle over the client's stall timeout, in
//! either direction. A large body may take as long as it takes.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::Sending;
use super::liveness::Traffic;
use crate::error::{Error, Result, Status};

/// Bytes a second. Slower than this, a new connection is the better bet.
const SLOWEST: u64 = 1 << 10;

fn least(period: Duration) -> u64 {
    (SLOWEST as f64 * period.as_secs_f64()) as u64
}

/// The time spent waiting for a body, and what came of it. Time that the receiver needs for itself does not count.
pub(super) struct Stall {
    limit: Duration,
    waited: Duration,
    received: u64,
}

impl Stall {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, waited: Duration::ZERO, received: 0 }
    }

    /// How long to wait before looking again.
    pub(super) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.waited)
    }

    pub(super) fn saw(&mut self, waited: Duration, received: usize) {
        self.waited += waited;
        self.received += received as u64;
    }

    /// When the period began, or later, if the receiver needed time for itself.
    pub(super) fn began(&self) -> Option<Instant> {
        Instant::now().checked_sub(self.waited)
    }

    /// An error when too little came in a whole period; otherwise the next one begins after it.
    pub(super) fn check(&mut self) -> Result<()> {
        if self.waited < self.limit {
            return Ok(());
        }
        if self.received < least(self.limit).max(1) {
            return Err(stalled("body", self.received, self.limit));
        }
        *self = Self::new(self.limit);
        Ok(())
    }
}

fn stalled(what: &str, bytes: u64, period: Duration) -> Error {
    Error::network(format!("the {what} stalled: {bytes} bytes in {:.1} s", period.as_secs_f64()))
}

/// Waits for the answer to a request: as long as its body moves, and for `patience` when all of it is out.
pub(super) async fn answered<T>(
    mut exchange: Pin<&mut impl Future<Output = Result<T>>>,
    sending: &Sending,
    traffic: &Traffic,
    stall_timeout: Duration,
    patience: Duration,
) -> Result<T> {
    let mut before = traffic.sent();
    while !sending.is_over() {
        if let Ok(answer) = timeout(stall_timeout, exchange.as_mut()).await {
            return answer;
        }
        let now = traffic.sent();
        if !sending.is_over() && now - before < least(stall_timeout).max(1) {
            return Err(stalled("request's body", now - before, stall_timeout));
        }
        before = now;
    }
    match timeout(patience, exchange).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = format!("no answer within {:.1} s", patience.as_secs_f64());
            Err(Error::network(message).with_status(Status::Timeout))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_a_stall_and_a_slow_body_is_none() {
        let second = Duration::from_secs(1);
        let mut stall = Stall::new(10 * second);
        for _ in 0..9 {
            stall.saw(second, 1);
            stall.check().unwrap();
        }
        stall.saw(second, 1);
        assert!(stall.check().unwrap_err().message().contains("stalled: 10 bytes in 10.0 s"));

        let mut stall = Stall::new(10 * second);
        for _ in 0..100 {
            stall.saw(second, 2048);
            stall.check().unwrap();
        }
        assert!(stall.left() > Duration::ZERO);
    }
}
