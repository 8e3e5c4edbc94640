//! Decides when a request may be sent: at once, unless the service refuses this client's requests or fails them.
//!
//! If the service refuses requests (429, 503), they are sent in order of arrival, at the rate that [`RateController`]
//! finds. If it fails requests without refusing them, a [`RetryBudget`] limits the retries: each success pays for half
//! a retry, and with an empty budget [`REFILL`] retries are sent per second. The budget never fails a call; it only
//! delays retries.
//!
//! If neither happens, a request costs some relaxed atomic operations and two reads of the clock.

mod controller_states;
mod demand;
mod evidence;
mod quota_share;
mod rate_controller;
#[cfg(test)]
mod simulation;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use tokio::time::sleep;

use crate::core::retry::Attempt;
use crate::error::{Error, Status};
use crate::sys::lock::lock;
use demand::DemandEstimator;
use rate_controller::{RateController, RequestOutcome};

/// The largest retry budget: the number of retries without any success.
const MAX_BUDGET: f64 = 64.0;
/// Enough to pay for three failures in ten, with a reserve: they need 0.43 retries for each success.
const RETRIES_PER_SUCCESS: f64 = 0.5;
/// The number of retries per second of a client without any success.
const REFILL: f64 = 10.0;
/// A waiting request checks at least this often whether it may be sent earlier.
const MAX_SLEEP: Duration = Duration::from_millis(100);

/// Decides when the requests of one client in one process are sent.
pub(super) struct Throttle {
    began: Instant,
    limited: AtomicBool,
    /// Retries need no budget, because refusals are random.
    has_random_refusals: AtomicBool,
    /// All requests that were neither refused nor failed by the service.
    granted: AtomicU64,
    demand: DemandEstimator,
    shared: Mutex<Shared>,
    /// The task that holds the lock is at the head of the queue. tokio's mutex is fair, and dropping a waiting future
    /// removes it from the queue.
    queue: tokio::sync::Mutex<()>,
    retry_queue: tokio::sync::Mutex<()>,
}

struct Shared {
    controller: RateController,
    /// How many of `granted` the controller has counted.
    counted: u64,
    budget: RetryBudget,
    /// The latest refusal.
    refusal: Option<Error>,
}

/// A request under way. Dropping it ends the request.
pub(super) struct SentRequest<'a> {
    throttle: &'a Throttle,
    at: Instant,
}

impl Drop for SentRequest<'_> {
    fn drop(&mut self) {
        self.throttle.demand.ended();
    }
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            limited: AtomicBool::new(false),
            has_random_refusals: AtomicBool::new(false),
            granted: AtomicU64::new(0),
            demand: DemandEstimator::default(),
            shared: Mutex::new(Shared {
                controller: RateController::new(wall_clock_at(Instant::now())),
                counted: 0,
                budget: RetryBudget::default(),
                refusal: None,
            }),
            queue: tokio::sync::Mutex::default(),
            retry_queue: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.began).as_secs_f64()
    }

    /// Waits until a request may be sent. Dropping the future removes the request from the queue.
    pub(super) async fn acquire(&self, attempt: &Attempt) {
        if self.limited.load(Ordering::Relaxed) {
            self.acquire_limited(attempt).await;
        } else if attempt.is_retry() && !self.has_random_refusals.load(Ordering::Relaxed) {
            wait_in(&self.retry_queue, || {
                let now = self.seconds(Instant::now());
                self.lock().budget.try_take(now, self.granted.load(Ordering::Relaxed))
            })
            .await;
        }
    }

    async fn acquire_limited(&self, attempt: &Attempt) {
        // A call whose deadline passes here was throttled, even if none of its own requests was refused.
        let reason = self.lock().refusal.clone().map(|refusal| attempt.set_wait_reason(refusal));
        wait_in(&self.queue, || {
            let mut shared = self.lock();
            let wait = shared.controller.try_acquire(self.seconds(Instant::now()));
            self.publish(shared);
            wait
        })
        .await;
        if let Some(reason) = reason {
            reason.clear();
        }
    }

    /// Records that a request is sent now.
    pub(super) fn begin_request(&self) -> SentRequest<'_> {
        self.demand.began();
        SentRequest { throttle: self, at: Instant::now() }
    }

    /// Publishes the controller's decision in the atomics and in the log. Low-rate probes are not logged.
    fn publish(&self, shared: MutexGuard<'_, Shared>) {
        let (limited, random) = (shared.controller.is_limited(), shared.controller.has_random_refusals());
        let rate = shared.controller.per_second();
        let was_limited = self.limited.swap(limited, Ordering::Relaxed);
        let was_random = self.has_random_refusals.swap(random, Ordering::Relaxed);
        // Logging may call the caller's callback, so no lock is held.
        drop(shared);
        match rate {
            _ if limited == was_limited || (random && was_random) => {}
            Some(rate) => {
                tracing::info!(target: "aztorch::retry", "the service throttles this client: limited to {rate:.1} requests per second");
            }
            None => tracing::info!(target: "aztorch::retry", "the request rate is no longer limited"),
        }
    }
}

/// The wall clock's seconds at `time`. With a wrong wall clock a client only fails to probe at the same time as others.
fn wall_clock_at(time: Instant) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    now - time.elapsed().as_secs_f64()
}

impl SentRequest<'_> {
    /// When the request was sent.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// Records the head of the response. Returns whether the retry of a refused request only has to wait for the
    /// client's rate: no long pause and no `Retry-After` is needed, because the client as a whole sends no more than
    /// the service grants.
    pub(super) fn on_response(self, status: StatusCode, code: &str, has_retry_after: bool) -> bool {
        let throttle = self.throttle;
        let outcome = match status.as_u16() {
            429 | 503 if has_retry_after => RequestOutcome::RefusedWithRetryAfter,
            429 | 503 => RequestOutcome::Refused,
            _ => RequestOutcome::Granted,
        };
        let refused = outcome != RequestOutcome::Granted;
        if !refused && (status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT) {
            if throttle.limited.load(Ordering::Relaxed) {
                throttle.lock().controller.failed();
            }
            return false;
        }
        let (now, sent) = (throttle.seconds(Instant::now()), throttle.seconds(self.at));
        if !refused {
            throttle.demand.granted(now, sent);
            throttle.granted.fetch_add(1, Ordering::Relaxed);
            if !throttle.limited.load(Ordering::Relaxed) {
                return false;
            }
        }
        let mut shared = throttle.lock();
        let granted = throttle.granted.load(Ordering::Relaxed);
        let uncounted = granted - std::mem::replace(&mut shared.counted, granted);
        if !shared.controller.is_limited() {
            shared.controller.granted_unlimited(uncounted);
        }
        if refused || shared.controller.is_limited() {
            shared.controller.set_wall_clock(wall_clock_at(throttle.began));
            shared.controller.answered(now, sent, outcome, &throttle.demand);
        }
        if refused {
            shared.refusal = Some(refusal(status, code));
        }
        let is_paced = refused && shared.controller.paces_retries();
        throttle.publish(shared);
        is_paced
    }
}

fn refusal(status: StatusCode, code: &str) -> Error {
    let message = format!("the service throttles this client ({} {code})", status.as_u16());
    Error::service(Status::Throttled, status.as_u16(), code, "", message.trim_end()).retryable(None)
}

/// Waits in the queue, first come, first served, until `try_acquire` returns 0. Otherwise it returns the seconds to
/// wait.
async fn wait_in(queue: &tokio::sync::Mutex<()>, mut try_acquire: impl FnMut() -> f64) {
    let _head = queue.lock().await;
    loop {
        let wait = try_acquire();
        if wait <= 0.0 {
            return;
        }
        sleep(Duration::from_secs_f64(wait).min(MAX_SLEEP)).await;
    }
}

/// The number of retries that a client may make.
#[derive(Debug)]
struct RetryBudget {
    left: f64,
    /// The time in seconds up to which it was refilled.
    at: f64,
    /// The number of successes that have been added.
    counted: u64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { left: MAX_BUDGET, at: 0.0, counted: 0 }
    }
}

impl RetryBudget {
    /// Takes one retry and returns 0, or returns the seconds until there will be one. `granted` is the number of
    /// successes so far.
    fn try_take(&mut self, now: f64, granted: u64) -> f64 {
        let paid = (granted - self.counted) as f64 * RETRIES_PER_SUCCESS;
        let refilled = (now - self.at).max(0.0) * REFILL;
        (self.at, self.counted) = (now, granted);
        self.left = (self.left + paid + refilled).min(MAX_BUDGET);
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

    /// Makes `attempts` per second for a minute, of which `failures_in_ten` of ten fail and are retried. Returns how
    /// many retries had to wait.
    fn waits(attempts: u64, failures_in_ten: u64) -> usize {
        let (mut budget, mut granted, mut waits) = (RetryBudget::default(), 0, 0);
        for attempt in 0..attempts * 60 {
            if attempt % 10 >= failures_in_ten {
                granted += 1;
            } else if budget.try_take(attempt as f64 / attempts as f64, granted) > 0.0 {
                waits += 1;
            }
        }
        waits
    }

    #[test]
    fn retries_wait_only_when_far_more_than_three_in_ten_fail() {
        assert_eq!(waits(1000, 3), 0);
        let made = 60_000 - waits(1000, 10);
        assert!((600..=664 + 10).contains(&made), "{made} retries in a minute");
    }

    #[test]
    fn successes_never_raise_the_retry_budget_above_its_maximum() {
        let mut budget = RetryBudget::default();
        let taken = (0..200).filter(|_| budget.try_take(0.0, 1_000_000) == 0.0).count();
        assert_eq!(taken as f64, MAX_BUDGET);
    }

    #[tokio::test]
    async fn a_dropped_request_leaves_the_queue() {
        let throttle = Throttle::new();
        for _ in 0..20 {
            throttle.begin_request().on_response(StatusCode::SERVICE_UNAVAILABLE, "ServerBusy", false);
        }
        assert!(throttle.limited.load(Ordering::Relaxed));
        throttle.lock().controller.slow_down_to(1.0);
        let attempt = Attempt::first();
        let mut requests: Vec<_> = (0..3).map(|_| Box::pin(throttle.acquire(&attempt))).collect();
        assert!(poll_once(requests[0].as_mut()).await, "the first request has to wait");
        assert!(!poll_once(requests[1].as_mut()).await && !poll_once(requests[2].as_mut()).await);
        // Without the second request the third is at the head; without the third the queue is empty.
        drop(requests.remove(1));
        assert!(!poll_once(requests[1].as_mut()).await);
        assert!(throttle.queue.try_lock().is_err());
        drop(requests);
        assert!(throttle.queue.try_lock().is_ok());
    }

    /// Polls once, and returns whether the future was ready.
    async fn poll_once(mut future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready())).await
    }
}
