//! When a request may go out: at once, unless the service throttles this client or fails it.
//!
//! Under a quota [`Rate`] says how fast requests may follow each other, and they go in the order in which they came. A
//! service that fails without throttling is spared by an allowance: each success pays for half a retry, and when there is
//! nothing left, retries go out [`REFILL`] times a second. So it never fails a call; it makes a crowd of retries slow.
//!
//! While all is well this costs a request two loads, an addition and a look at the clock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::time::sleep;

use super::rate::Rate;
use crate::error::{Error, Status};
use crate::retry::Waiting;

/// Retries that a client may make with no success to pay for them.
const ALLOWANCE: f64 = 64.0;
/// Enough that three failures in ten are paid for, with a reserve: they need 0.43 retries for each success.
const RETRIES_PER_SUCCESS: f64 = 0.5;
/// Retries a second of a client to which nothing succeeds.
const REFILL: f64 = 10.0;
/// How often the successes of an unlimited client are handed to its [`Rate`].
const LOOK: Duration = Duration::from_millis(250);
/// Who waits looks this often whether it may go earlier.
const LONGEST_NAP: Duration = Duration::from_millis(100);

/// A client's pace, in one process.
pub(super) struct Pace {
    began: Instant,
    limited: AtomicBool,
    /// All requests that were neither refused nor failed by the service.
    granted: AtomicU64,
    /// Microseconds from `began`.
    next_look: AtomicU64,
    state: Mutex<State>,
    /// Who holds it is the next to go; tokio's mutex is fair, and lets go of who is dropped.
    turnstile: tokio::sync::Mutex<()>,
    retry_turnstile: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    rate: Rate,
    /// Of `granted`, what `rate` knows of.
    rate_knows: u64,
    allowance: Allowance,
    refusal: Option<Error>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            limited: AtomicBool::new(false),
            granted: AtomicU64::new(0),
            next_look: AtomicU64::new(0),
            state: Mutex::default(),
            turnstile: tokio::sync::Mutex::default(),
            retry_turnstile: tokio::sync::Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.began).as_secs_f64()
    }

    /// Waits until a request may go out. Dropped meanwhile, it leaves its place to the next one.
    pub(super) async fn turn(&self, is_retry: bool) {
        if self.limited.load(Ordering::Relaxed) {
            self.limited_turn().await;
        } else if is_retry {
            queue(&self.retry_turnstile, || {
                let now = self.seconds(Instant::now());
                self.state().allowance.take(now, self.granted.load(Ordering::Relaxed))
            })
            .await;
        }
    }

    async fn limited_turn(&self) {
        // A call whose deadline passes here was throttled, though no request of its own was refused.
        let waiting = self.state().refusal.clone().map(Waiting::because);
        queue(&self.turnstile, || {
            let mut state = self.state();
            let wait = state.rate.take_turn(self.seconds(Instant::now()));
            self.note_limit(&state);
            wait
        })
        .await;
        if let Some(waiting) = waiting {
            waiting.end();
        }
    }

    /// The head of the answer to a request that was sent at `sent`.
    pub(super) fn answered(&self, sent: Instant, status: StatusCode, code: &str) {
        let refused = matches!(status.as_u16(), 429 | 503);
        if !refused && (status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT) {
            return;
        }
        let now = Instant::now();
        let limited = self.limited.load(Ordering::Relaxed);
        if !refused {
            self.granted.fetch_add(1, Ordering::Relaxed);
            let elapsed = now.saturating_duration_since(self.began).as_micros() as u64;
            if !limited && elapsed < self.next_look.load(Ordering::Relaxed) {
                return;
            }
            self.next_look.store(elapsed + LOOK.as_micros() as u64, Ordering::Relaxed);
        }
        let (now, sent) = (self.seconds(now), self.seconds(sent));
        let mut state = self.state();
        let granted = self.granted.load(Ordering::Relaxed);
        let new = granted - state.rate_knows;
        state.rate_knows = granted;
        if state.rate.is_limited() {
            state.rate.answered(now, sent, refused);
        } else {
            state.rate.granted_unlimited(now, new);
            if refused {
                state.rate.answered(now, sent, true);
            }
        }
        if refused {
            state.refusal = Some(refusal(status, code));
        }
        self.note_limit(&state);
    }

    fn note_limit(&self, state: &State) {
        let limited = state.rate.is_limited();
        if self.limited.swap(limited, Ordering::Relaxed) == limited {
            return;
        }
        match state.rate.per_second() {
            Some(rate) => {
                tracing::info!(target: "aztorch::retry", "the service throttles: {rate:.1} requests per second from here");
            }
            None => tracing::info!(target: "aztorch::retry", "requests go out without a limit again"),
        }
    }
}

fn refusal(status: StatusCode, code: &str) -> Error {
    let message = format!("the service throttles this client ({} {code})", status.as_u16());
    Error::service(Status::Throttled, status.as_u16(), code, "", message.trim_end()).retryable(None)
}

/// Waits, first come, first served, until `take` gives 0 instead of the seconds to wait.
async fn queue(turnstile: &tokio::sync::Mutex<()>, mut take: impl FnMut() -> f64) {
    let _next = turnstile.lock().await;
    loop {
        let wait = take();
        if wait <= 0.0 {
            return;
        }
        sleep(Duration::from_secs_f64(wait).min(LONGEST_NAP)).await;
    }
}

/// How many retries a client may make.
#[derive(Debug)]
struct Allowance {
    left: f64,
    at: f64,
    paid_for: u64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { left: ALLOWANCE, at: 0.0, paid_for: 0 }
    }
}

impl Allowance {
    /// Takes one retry and gives 0, or says when there will be one. `granted` is the number of successes so far.
    fn take(&mut self, now: f64, granted: u64) -> f64 {
        let paid = (granted - self.paid_for) as f64 * RETRIES_PER_SUCCESS;
        let refilled = (now - self.at).max(0.0) * REFILL;
        (self.at, self.paid_for) = (now, granted);
        self.left = (self.left + paid + refilled).min(ALLOWANCE);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return 0.0;
        }
        (1.0 - self.left) / REFILL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `attempts` a second of which so many in ten fail and are retried, for a minute; how many retries had to wait.
    fn waits(attempts: u64, failures_in_ten: u64) -> usize {
        let (mut allowance, mut granted, mut waits) = (Allowance::default(), 0, 0);
        for attempt in 0..attempts * 60 {
            if attempt % 10 >= failures_in_ten {
                granted += 1;
            } else if allowance.take(attempt as f64 / attempts as f64, granted) > 0.0 {
                waits += 1;
            }
        }
        waits
    }

    #[test]
    fn three_failures_in_ten_never_wait_and_nothing_but_failures_does() {
        assert_eq!(waits(1000, 3), 0);
        let made = 60_000 - waits(1000, 10);
        assert!((600..=664 + 10).contains(&made), "{made} retries in a minute");
    }

    #[test]
    fn a_success_pays_no_more_than_there_is_room_for() {
        let mut allowance = Allowance::default();
        let taken = (0..200).filter(|_| allowance.take(0.0, 1_000_000) == 0.0).count();
        assert_eq!(taken as f64, ALLOWANCE);
    }

    #[tokio::test]
    async fn who_is_dropped_in_the_queue_leaves_its_place() {
        let pace = Pace::new();
        pace.answered(Instant::now(), StatusCode::OK, "");
        sleep(Duration::from_millis(300)).await;
        for _ in 0..2 {
            pace.answered(Instant::now(), StatusCode::SERVICE_UNAVAILABLE, "ServerBusy");
        }
        assert!(pace.limited.load(Ordering::Relaxed));
        let mut turns: Vec<_> = (0..3).map(|_| Box::pin(pace.turn(false))).collect();
        assert!(poll_once(turns[0].as_mut()).await, "the first waits for nobody");
        assert!(!poll_once(turns[1].as_mut()).await && !poll_once(turns[2].as_mut()).await);
        // The third is next once the second is gone, and nobody is when that is gone, too.
        drop(turns.remove(1));
        assert!(!poll_once(turns[1].as_mut()).await);
        assert!(pace.turnstile.try_lock().is_err());
        drop(turns);
        assert!(pace.turnstile.try_lock().is_ok());
    }

    /// Polls once; whether it was ready.
    async fn poll_once(mut future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready())).await
    }
}
