//! The retry policy: what is tried again, how long each retry waits, and which error is returned at the end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::limits::{LastError, Limits};
use crate::error::{Error, Result};

/// One try of a request, as the layers below need to know it. Cheap to clone.
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

    /// The number of this try, from 1. For the log.
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

    /// Records that the request is on its way: from now on the service may carry it out, even if no answer comes.
    pub(crate) fn mark_sent(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// Records `why` this request waits before it is sent, for the error of a call that its deadline ends meanwhile.
    /// An error that the request itself met is kept instead, since it says more.
    pub(crate) fn waits_because(&self, why: Error) -> Waiting {
        Waiting(self.last_error.set_if_none(why).then(|| self.last_error.clone()))
    }
}

/// A reason to wait that [`Attempt::waits_because`] has recorded. Call [`end`](Self::end) when the wait is over; a
/// dropped one stays recorded, because a call that ends during the wait needs it.
pub(crate) struct Waiting(Option<Arc<LastError>>);

impl Waiting {
    /// Removes the reason.
    pub(crate) fn end(self) {
        if let Some(last_error) = self.0 {
            last_error.set(None);
        }
    }
}

/// The first pause at most: a rare failure is tried again nearly at once.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// How many times longer each pause may be than the one before. Eight of them are 8 s in all, and 16 s at most.
const LONGER: f64 = 3.0;
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// A request whose turns the client's rate spaces only has to keep out of the way of the others for a moment.
const LONGEST_PACED_PAUSE: Duration = Duration::from_millis(100);

/// The tries of one request.
pub(crate) struct Attempts<'a> {
    limits: &'a Limits,
    failed: u32,
    /// For how long paced retries have paused that did not count.
    paced: Duration,
    tries: u32,
    /// The next try is a retry that counts, or one that would without its pace.
    is_retry: bool,
    /// The last try met a dead connection.
    was_stale: bool,
    in_doubt: bool,
    /// How many tries in a row were made at once.
    at_once: u32,
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
            at_once: 0,
            sent: Arc::default(),
        }
    }

    /// Runs one try, ended by the deadline or a cancel. Dropping `future` is what aborts its connection.
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
        // On the heap, and before anything awaits it: it has kilobytes, which all futures around it would have as well,
        // and which would be copied each time that one of those is passed on.
        self.outcome(Box::pin(operation(attempt)))
    }

    async fn outcome<T>(&mut self, attempt: Pin<Box<impl Future<Output = Result<T>>>>) -> Result<T> {
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
            // What happened before it was sent, as to a request for a token, changed nothing in storage.
            Err(error) => self.in_doubt |= error.outcome_unknown() && self.sent.load(Ordering::Relaxed),
        }
        result
    }

    /// Runs `operation` until it succeeds or its error is the last word.
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

    /// Whether the service may have carried out a try that it did not confirm.
    pub(crate) fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Waits before the next try, or gives the error that ends them.
    pub(crate) async fn pause_after(&mut self, error: Error) -> Result<()> {
        if error.was_stale_connection() && error.may_be_retried() {
            // It says nothing of the service. The next try is on a new connection, which cannot be stale.
            self.was_stale = true;
            return self.go_on_at_once(error);
        }
        if self.at_once < error.tries_at_once() {
            self.at_once += 1;
            return self.go_on_at_once(error);
        }
        self.at_once = 0;
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

    /// Counts a retry. Those that are paced pause for less, and count when they have paused for as long as others do: a
    /// call's patience is a matter of time.
    fn count(&mut self, error: &Error, pause: Duration) {
        self.paced += pause;
        if !error.is_paced() || self.paced >= longest_pause(self.failed + 1, LONGEST_PAUSE) / 2 {
            (self.failed, self.paced) = (self.failed + 1, Duration::ZERO);
        }
    }

    /// What was in the way of the request is out of it, so the next try needs no pause and is no retry.
    fn go_on_at_once(&mut self, error: Error) -> Result<()> {
        tracing::info!(target: "aztorch::retry", "again at once: {error}");
        self.limits.last_error.set(Some(error));
        self.limits.check()?;
        self.limits.stats.retries.add(1);
        Ok(())
    }

    /// Something arrived, so the next last_error counts from the beginning.
    pub(crate) fn progressed(&mut self) {
        (self.failed, self.paced, self.at_once) = (0, Duration::ZERO, 0);
    }
}

/// Runs `operation` until it succeeds or its error is the last word.
pub(crate) async fn retry<T, F>(limits: &Limits, operation: impl FnMut(Attempt) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    Attempts::new(limits).run(operation).await
}

/// Exponential with full jitter, which spreads a crowd out best. The throttle keeps a client from asking too much.
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
    fn pauses_grow_are_jittered_and_obey_retry_after() {
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
