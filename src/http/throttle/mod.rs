//! When a request may go out: at once, unless the service throttles this client or fails it.
//!
//! A service that refuses requests (429, 503) is asked at the rate that [`RateController`] finds; requests go in the order in
//! which they came. A service that fails without refusing is spared by an allowance: each success pays for half a retry, and
//! when there is nothing left, retries go out [`REFILL`] times a second. So it never fails a call; it makes a crowd of
//! retries slow.
//!
//! While all is well this costs a request some relaxed atomic operations and two looks at the clock.

mod demand;
mod evidence;
mod quota_share;
mod rate_controller;
#[cfg(test)]
mod simulation;
mod states;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use tokio::time::sleep;

use crate::core::retry::Attempt;
use crate::error::{Error, Status};
use crate::sys::lock::lock;
use demand::DemandEstimator;
use rate_controller::{Answer, RateController};

/// Retries that a client may make with no success to pay for them.
const ALLOWANCE: f64 = 64.0;
/// Enough that three failures in ten are paid for, with a reserve: they need 0.43 retries for each success.
const RETRIES_PER_SUCCESS: f64 = 0.5;
/// Retries a second of a client to which nothing succeeds.
const REFILL: f64 = 10.0;
/// A waiting request looks this often whether it may go earlier.
const LONGEST_NAP: Duration = Duration::from_millis(100);

/// Decides when the requests of one client in one process go out.
pub(super) struct Throttle {
    began: Instant,
    limited: AtomicBool,
    /// Retries need no allowance, since refusals are chance.
    free_retries: AtomicBool,
    /// All requests that were neither refused nor failed by the service.
    granted: AtomicU64,
    demand: DemandEstimator,
    state: Mutex<State>,
    /// Its holder is the next to go; tokio's mutex is fair, and a dropped future leaves the queue.
    queue: tokio::sync::Mutex<()>,
    retry_queue: tokio::sync::Mutex<()>,
}

struct State {
    controller: RateController,
    /// How many of `granted` the controller was told.
    told: u64,
    allowance: Allowance,
    refusal: Option<Error>,
}

/// A request that is on its way; its drop ends it.
pub(super) struct Sent<'a> {
    throttle: &'a Throttle,
    at: Instant,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.throttle.demand.ended();
    }
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            limited: AtomicBool::new(false),
            free_retries: AtomicBool::new(false),
            granted: AtomicU64::new(0),
            demand: DemandEstimator::default(),
            state: Mutex::new(State {
                controller: RateController::new(wall_clock_at(Instant::now())),
                told: 0,
                allowance: Allowance::default(),
                refusal: None,
            }),
            queue: tokio::sync::Mutex::default(),
            retry_queue: tokio::sync::Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.began).as_secs_f64()
    }

    /// Waits until a request may go out. Dropped meanwhile, it leaves its place to the next one.
    pub(super) async fn turn(&self, attempt: &Attempt) {
        if self.limited.load(Ordering::Relaxed) {
            self.limited_turn(attempt).await;
        } else if attempt.is_retry() && !self.free_retries.load(Ordering::Relaxed) {
            in_turn(&self.retry_queue, || {
                let now = self.seconds(Instant::now());
                self.state().allowance.take(now, self.granted.load(Ordering::Relaxed))
            })
            .await;
        }
    }

    async fn limited_turn(&self, attempt: &Attempt) {
        // A call whose deadline passes here was throttled, though no request of its own was refused.
        let waiting = self.state().refusal.clone().map(|refusal| attempt.waits_because(refusal));
        in_turn(&self.queue, || {
            let mut state = self.state();
            let wait = state.controller.take_turn(self.seconds(Instant::now()));
            self.note(state);
            wait
        })
        .await;
        if let Some(waiting) = waiting {
            waiting.end();
        }
    }

    /// A request goes out now.
    pub(super) fn sent(&self) -> Sent<'_> {
        self.demand.began();
        Sent { throttle: self, at: Instant::now() }
    }

    /// Makes known what the controller has decided. A look is no news.
    fn note(&self, state: MutexGuard<'_, State>) {
        let (limited, believes) = (state.controller.is_limited(), state.controller.believes_in_chance());
        let rate = state.controller.per_second();
        let was_limited = self.limited.swap(limited, Ordering::Relaxed);
        let did_believe = self.free_retries.swap(believes, Ordering::Relaxed);
        // A callback of the caller's may hear of it, with no lock held.
        drop(state);
        match rate {
            _ if limited == was_limited || (believes && did_believe) => {}
            Some(rate) => {
                tracing::info!(target: "aztorch::retry", "the service throttles: {rate:.1} requests per second from here");
            }
            None => tracing::info!(target: "aztorch::retry", "requests go out without a limit again"),
        }
    }
}

/// The wall clock's seconds at this time. One that is set wrong only keeps clients from acting together.
fn wall_clock_at(time: Instant) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    now - time.elapsed().as_secs_f64()
}

impl Sent<'_> {
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// The head of the answer is here, with `Retry-After` or without. Gives whether the next try of a refused request is spaced by its turn alone, so that
    /// it need not pause, nor obey `Retry-After`: the client as a whole asks no more than the service grants.
    pub(super) fn answered(self, status: StatusCode, code: &str, asks_to_wait: bool) -> bool {
        let throttle = self.throttle;
        let answer = match status.as_u16() {
            429 | 503 if asks_to_wait => Answer::AskedToWait,
            429 | 503 => Answer::Refused,
            _ => Answer::Granted,
        };
        let refused = answer != Answer::Granted;
        if !refused && (status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT) {
            if throttle.limited.load(Ordering::Relaxed) {
                throttle.state().controller.failed();
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
        let mut state = throttle.state();
        let granted = throttle.granted.load(Ordering::Relaxed);
        let untold = granted - std::mem::replace(&mut state.told, granted);
        if !state.controller.is_limited() {
            state.controller.granted_unlimited(untold);
        }
        if refused || state.controller.is_limited() {
            state.controller.set_wall_clock(wall_clock_at(throttle.began));
            state.controller.answered(now, sent, answer, &throttle.demand);
        }
        if refused {
            state.refusal = Some(refusal(status, code));
        }
        let is_paced = refused && state.controller.paces_retries();
        throttle.note(state);
        is_paced
    }
}

fn refusal(status: StatusCode, code: &str) -> Error {
    let message = format!("the service throttles this client ({} {code})", status.as_u16());
    Error::service(Status::Throttled, status.as_u16(), code, "", message.trim_end()).retryable(None)
}

/// Waits, first come, first served, until `take` gives 0 instead of the seconds to wait.
async fn in_turn(queue: &tokio::sync::Mutex<()>, mut take: impl FnMut() -> f64) {
    let _next = queue.lock().await;
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
    async fn a_dropped_request_leaves_its_place_in_the_queue() {
        let throttle = Throttle::new();
        for _ in 0..20 {
            throttle.sent().answered(StatusCode::SERVICE_UNAVAILABLE, "ServerBusy", false);
        }
        assert!(throttle.limited.load(Ordering::Relaxed));
        throttle.state().controller.slow_down_to(1.0);
        let attempt = Attempt::first();
        let mut turns: Vec<_> = (0..3).map(|_| Box::pin(throttle.turn(&attempt))).collect();
        assert!(poll_once(turns[0].as_mut()).await, "the first request has to wait");
        assert!(!poll_once(turns[1].as_mut()).await && !poll_once(turns[2].as_mut()).await);
        // The third is next once the second is gone, and the queue is empty when that is gone, too.
        drop(turns.remove(1));
        assert!(!poll_once(turns[1].as_mut()).await);
        assert!(throttle.queue.try_lock().is_err());
        drop(turns);
        assert!(throttle.queue.try_lock().is_ok());
    }

    /// Polls once; whether it was ready.
    async fn poll_once(mut future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready())).await
    }
}
