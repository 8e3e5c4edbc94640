//! The retry policy: which errors are retried, how long each retry waits, and which error is returned at the end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::limits::{LastError, Limits};
use crate::error::{Error, Result};

/// One try of a request, for the layers below. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    number: u32,
    is_retry: bool,
    needs_new_connection: bool,
    sent: Arc<AtomicBool>,
    last_error: Arc<LastError>,
}

impl Attempt {
    /// The first try of a request that has no limits.
    #[cfg(test)]
    pub(crate) fn first() -> Self {
        let (sent, last_error) = (Arc::default(), Arc::default());
        Self { number: 1, is_retry: false, needs_new_connection: false, sent, last_error }
    }

    /// The number of this try, from 1, for the log.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Whether the service failed the try before this one. A dead connection or a refused token does not count.
    pub(crate) fn is_retry(&self) -> bool {
        self.is_retry
    }

    /// Whether the try before this one met a dead connection, so that this one must not take a pooled connection.
    pub(crate) fn needs_new_connection(&self) -> bool {
        self.needs_new_connection
    }

    /// Records that the request is being sent. From now on the service may carry it out, even if no answer comes.
    pub(crate) fn mark_sent(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// Records why this request waits before it is sent. If the deadline ends the call during the wait, its error shows
    /// the reason. An earlier error of the request itself is kept instead, because it says more.
    pub(crate) fn set_wait_reason(&self, reason: Error) -> WaitReason {
        WaitReason(self.last_error.set_if_none(reason).then(|| self.last_error.clone()))
    }
}

/// A reason that [`Attempt::set_wait_reason`] has recorded. Call [`clear`](Self::clear) after the wait. Dropping it
/// keeps the reason, because a call that ends during the wait needs it.
pub(crate) struct WaitReason(Option<Arc<LastError>>);

impl WaitReason {
    /// Removes the reason.
    pub(crate) fn clear(self) {
        if let Some(last_error) = self.0 {
            last_error.set(None);
        }
    }
}

/// The longest first pause. It is short, so that a request that fails only rarely is retried nearly at once.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The factor between the longest pause and the one before. Eight pauses take 8 s on average and 16 s at most.
const LONGER: f64 = 3.0;
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// A paced request only lets other requests pass for a moment, because the client's rate limits it anyway.
const LONGEST_PACED_PAUSE: Duration = Duration::from_millis(100);

/// The tries of one request.
pub(crate) struct Attempts<'a> {
    limits: &'a Limits,
    /// Failures that count towards the limit of retries.
    failed: u32,
    /// The pauses of paced retries since the last one that counted.
    paced: Duration,
    tries: u32,
    /// The next try comes after a failure of the service.
    is_retry: bool,
    /// The last try met a dead connection.
    was_stale: bool,
    in_doubt: bool,
    /// The number of immediate retries in a row.
    immediate: u32,
    /// Set by [`Attempt::mark_sent`] of the current try.
    sent: Arc<AtomicBool>,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            failed: 0,
            paced: Duration::ZERO,
            tries: 0,
            is_retry: false,
            was_stale: false,
            in_doubt: false,
            immediate: 0,
            sent: Arc::default(),
        }
    }

    /// Runs one try until it ends, or the deadline or a cancellation ends it. Dropping the operation's future closes
    /// its connection.
    pub(crate) fn try_once<T, F>(&mut self, operation: impl FnOnce(Attempt) -> F) -> impl Future<Output = Result<T>>
    where
        F: Future<Output = Result<T>>,
    {
        self.tries += 1;
        self.sent.store(false, Ordering::Relaxed);
        let attempt = Attempt {
            number: self.tries,
            is_retry: std::mem::take(&mut self.is_retry),
            needs_new_connection: std::mem::take(&mut self.was_stale),
            sent: self.sent.clone(),
            last_error: self.limits.last_error.clone(),
        };
        // On the heap, before anything awaits it: its kilobytes would otherwise be part of all futures around it, and
        // be copied with each of them.
        self.run_to_end(Box::pin(operation(attempt)))
    }

    async fn run_to_end<T>(&mut self, attempt: Pin<Box<impl Future<Output = Result<T>>>>) -> Result<T> {
        self.limits.cancel.check()?;
        let result = match self.limits.unless_interrupted(attempt).await {
            Ok(result) => result,
            Err(why) => {
                let sent = self.sent.load(Ordering::Relaxed);
                Err(if sent { why.with_unknown_outcome() } else { why }.no_more_retries())
            }
        };
        match &result {
            Ok(_) => self.limits.last_error.set(None),
            // An error from before the request was sent, such as one of a token request, changed nothing in storage.
            Err(error) => self.in_doubt |= error.outcome_unknown() && self.sent.load(Ordering::Relaxed),
        }
        result
    }

    /// Runs `operation` until it succeeds, or fails with an error that is not retried.
    pub(crate) async fn run<T, F>(&mut self, mut operation: impl FnMut(Attempt) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            match self.try_once(&mut operation).await {
                Ok(value) => return Ok(value),
                Err(error) => self.pause_after(error).await?,
            }
        }
    }

    /// Whether the service may have carried out a try without confirming it.
    pub(crate) fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Waits before the next try, or returns the error that ends the tries.
    pub(crate) async fn pause_after(&mut self, error: Error) -> Result<()> {
        if error.was_stale_connection() && error.may_be_retried() {
            // A dead connection says nothing about the service. The next try takes a new connection.
            self.was_stale = true;
            return self.retry_at_once(error);
        }
        if self.immediate < error.tries_at_once() {
            self.immediate += 1;
            return self.retry_at_once(error);
        }
        self.immediate = 0;
        if !error.may_be_retried() || self.failed >= self.limits.max_retries {
            return Err(match self.failed {
                0 => error,
                n => error.hint(format!("gave up after {} tries", n + 1)),
            });
        }
        let pause = pause(self.failed + 1, error.retry_after(), error.is_paced());
        self.count(&error, pause);
        tracing::info!(
            target: "aztorch::retry",
            "again in {:.3} s, retry {} of at most {}: {error}",
            pause.as_secs_f64(),
            self.failed,
            self.limits.max_retries
        );
        self.limits.last_error.set(Some(error));
        if self.limits.deadline.is_some_and(|deadline| Instant::now() + pause >= deadline) {
            return Err(self.limits.deadline_passed());
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            why = self.limits.interrupted() => return Err(why),
        }
        self.limits.stats.retries.add(1);
        self.is_retry = true;
        Ok(())
    }

    /// Counts a retry. Paced retries pause for less, so several of them count as one: together they pause as long as
    /// another retry does on average. This way a call takes the same time before it fails.
    fn count(&mut self, error: &Error, pause: Duration) {
        self.paced += pause;
        if !error.is_paced() || self.paced >= longest_pause(self.failed + 1, LONGEST_PAUSE) / 2 {
            (self.failed, self.paced) = (self.failed + 1, Duration::ZERO);
        }
    }

    /// Prepares a try without a pause, after the cause of the error was removed. It does not count as a retry.
    fn retry_at_once(&mut self, error: Error) -> Result<()> {
        tracing::info!(target: "aztorch::retry", "again at once: {error}");
        self.limits.last_error.set(Some(error));
        self.limits.check()?;
        self.limits.stats.retries.add(1);
        Ok(())
    }

    /// Records that the transfer made progress, so that the retries are counted from 0 again.
    pub(crate) fn progressed(&mut self) {
        (self.failed, self.paced, self.immediate) = (0, Duration::ZERO, 0);
    }
}

/// Runs `operation` until it succeeds, or fails with an error that is not retried.
pub(crate) async fn retry<T, F>(limits: &Limits, operation: impl FnMut(Attempt) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    Attempts::new(limits).run(operation).await
}

/// The pause before a retry: exponential with full jitter, which spreads the retries of many clients best. At least
/// `retry_after`.
fn pause(failed: u32, retry_after: Option<Duration>, paced: bool) -> Duration {
    let longest = longest_pause(failed, if paced { LONGEST_PACED_PAUSE } else { LONGEST_PAUSE });
    retry_after.unwrap_or_default().max(longest.mul_f64(fastrand::f64()))
}

fn longest_pause(failed: u32, most: Duration) -> Duration {
    let exponent = i32::try_from(failed - 1).unwrap_or(i32::MAX);
    Duration::from_secs_f64((FIRST_PAUSE.as_secs_f64() * LONGER.powi(exponent)).min(most.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_have_jitter_and_obey_retry_after() {
        let cases = [
            (1, false, 0.005),
            (2, false, 0.015),
            (8, false, 10.935),
            (u32::MAX, false, 20.0),
            (1, true, 0.005),
            (8, true, 0.1),
        ];
        for (failed, paced, longest) in cases {
            let pauses: Vec<_> = (0..500).map(|_| pause(failed, None, paced).as_secs_f64()).collect();
            assert!(pauses.iter().all(|pause| (0.0..=longest).contains(pause)), "{failed}: {pauses:?}");
            assert!(pauses.iter().any(|pause| *pause < 0.1 * longest), "{failed}: no jitter");
            assert!(pauses.iter().any(|pause| *pause > 0.9 * longest), "{failed}: too short");
        }
        assert_eq!(pause(1, Some(Duration::from_secs(7)), false), Duration::from_secs(7));
        assert_ne!(pause(5, None, false), pause(5, None, false));
    }
}
