//! The one retry policy: what is tried again, how long it waits, and which error is the last word.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::cancel::Watch;
use crate::error::{Error, Result, Status};
use crate::stats::Counters;

tokio::task_local! {
    static ATTEMPT: Attempt;
}

/// What a request knows of the try that it is a part of.
struct Attempt {
    /// From 1.
    number: u32,
    /// The service failed the try before.
    is_retry: bool,
    needs_new_connection: bool,
    sent: Arc<AtomicBool>,
    trouble: Arc<Trouble>,
}

/// Which try of a request this is, from 1, for the log.
pub(crate) fn current_attempt() -> u32 {
    ATTEMPT.try_with(|attempt| attempt.number).unwrap_or(1)
}

/// Whether the service failed the try before this one. A dead connection or an old token was no failure of its.
pub(crate) fn is_retry() -> bool {
    ATTEMPT.try_with(|attempt| attempt.is_retry).unwrap_or(false)
}

/// Whether the try before this one met a dead connection: this one must not meet another.
pub(crate) fn needs_new_connection() -> bool {
    ATTEMPT.try_with(|attempt| attempt.needs_new_connection).unwrap_or(false)
}

/// From here on the service may carry out what this try asks for, also if nobody waits for the answer.
pub(crate) fn request_goes_out() {
    let _ = ATTEMPT.try_with(|attempt| attempt.sent.store(true, Ordering::Relaxed));
}

/// While it lives, a call that loses patience says why its request could not even go out.
pub(crate) struct Waiting(Option<Arc<Trouble>>);

impl Waiting {
    pub(crate) fn because(why: Error) -> Self {
        let trouble = ATTEMPT.try_with(|attempt| attempt.trouble.clone()).ok();
        // What happened to the request itself says more.
        Self(trouble.filter(|trouble| trouble.set_if_none(why)))
    }

    /// Not when it is dropped: that is when the call ends, which wants to know.
    pub(crate) fn end(self) {
        if let Some(trouble) = self.0 {
            trouble.set(None);
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

/// The limits of one call of the caller's: how often it may try, and until when.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_retries: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) trouble: Arc<Trouble>,
    pub(crate) stats: Arc<Counters>,
    pub(crate) cancel: Watch,
}

impl Limits {
    pub(crate) fn new(max_retries: u32, deadline: Option<Instant>, stats: Arc<Counters>, cancel: Watch) -> Self {
        Self { max_retries, deadline, trouble: Arc::default(), stats, cancel }
    }

    /// The same for work that no deadline ends, with trouble of its own.
    pub(crate) fn in_background(&self) -> Self {
        Self::new(self.max_retries, None, self.stats.clone(), self.cancel.clone())
    }

    /// The result of `attempt`, or why the call was over before. A body wakes its task many times, and all tasks of a client
    /// listen to one bell, so that its lock is taken when the bell has woken the task and not for each piece of a body.
    async fn unless_interrupted<T>(&self, mut attempt: Pin<Box<impl Future<Output = T>>>) -> Result<T> {
        let mut interrupted = pin!(self.interrupted());
        let mut listening: Option<Arc<Ear>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
                return Poll::Ready(Ok(result));
            }
            if listening.as_ref().is_some_and(|ear| ear.listens_for(cx.waker())) {
                return Poll::Pending;
            }
            let ear = listening.insert(Arc::new(Ear { heard: AtomicBool::new(false), task: cx.waker().clone() }));
            interrupted.as_mut().poll(&mut Context::from_waker(&ear.clone().into())).map(Err)
        })
        .await
    }

    /// Waits until the call is over, whatever it is doing; why.
    async fn interrupted(&self) -> Error {
        let Some(deadline) = self.deadline else { return self.cancel.cancelled().await };
        match tokio::time::timeout_at(deadline, self.cancel.cancelled()).await {
            Ok(cancelled) => cancelled,
            Err(_) => self.deadline_passed(),
        }
    }

    /// An error once the call is over, for who waits without a future.
    pub(crate) fn check(&self) -> Result<()> {
        self.cancel.check()?;
        match self.deadline {
            Some(deadline) if deadline <= Instant::now() => Err(self.deadline_passed()),
            _ => Ok(()),
        }
    }

    /// Waits for a change of what `state` guards, until `deadline`: the error of a call that it ended. A cancel is not
    /// heard here; what ends by it has to make the change.
    pub(crate) fn wait_for<'a, T>(
        &self,
        changed: &Condvar,
        state: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'a, T>> {
        let Some(deadline) = deadline else {
            return Ok(changed.wait(state).unwrap_or_else(PoisonError::into_inner));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.deadline_passed());
        }
        Ok(changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0)
    }

    /// The error of a call that its deadline ended.
    pub(crate) fn deadline_passed(&self) -> Error {
        deadline_error(self.trouble.last().as_ref())
    }
}

/// Wakes a task for something other than what it is busy with, and knows that it did: whoever was woken has to listen
/// anew.
struct Ear {
    heard: AtomicBool,
    task: Waker,
}

impl Ear {
    fn listens_for(&self, task: &Waker) -> bool {
        !self.heard.load(Ordering::Acquire) && self.task.will_wake(task)
    }
}

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // First, so that the task finds it.
        self.heard.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// The trouble that is being retried, for whoever waits for the end of it and loses patience.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<Option<Error>>);

impl Trouble {
    fn set(&self, trouble: Option<Error>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn set_if_none(&self, trouble: Error) -> bool {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let none = current.is_none();
        current.get_or_insert(trouble);
        none
    }

    fn last(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

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
    pub(crate) fn try_once<T>(&mut self, future: impl Future<Output = Result<T>>) -> impl Future<Output = Result<T>> {
        self.tries += 1;
        self.sent.store(false, Ordering::Relaxed);
        let (sent, trouble) = (self.sent.clone(), self.limits.trouble.clone());
        // On the heap, and before anything awaits it: it has kilobytes, which all futures around it would have as well,
        // and which would be copied each time that one of those is passed on.
        let (number, needs_new_connection) = (self.tries, std::mem::take(&mut self.was_stale));
        let is_retry = std::mem::take(&mut self.is_retry);
        let attempt = Attempt { number, is_retry, needs_new_connection, sent, trouble };
        self.outcome(Box::pin(ATTEMPT.scope(attempt, future)))
    }

    async fn outcome<T>(&mut self, attempt: Pin<Box<impl Future<Output = Result<T>>>>) -> Result<T> {
        self.limits.cancel.check()?;
        let result = match self.limits.unless_interrupted(attempt).await {
            Ok(result) => result,
            Err(why) => {
                let sent = self.sent.load(Ordering::Relaxed);
                Err(if sent { why.with_unknown_outcome() } else { why }.last_word())
            }
        };
        match &result {
            Ok(_) => self.limits.trouble.set(None),
            // What happened before it was sent, as to a request for a token, changed nothing in storage.
            Err(error) => self.in_doubt |= error.outcome_unknown() && self.sent.load(Ordering::Relaxed),
        }
        result
    }

    /// Runs `operation` until it succeeds or its error is the last word.
    pub(crate) async fn run<T, F>(&mut self, mut operation: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            match self.try_once(operation()).await {
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
        self.limits.trouble.set(Some(error));
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
        self.limits.trouble.set(Some(error));
        self.limits.check()?;
        self.limits.stats.retries.add(1);
        Ok(())
    }

    /// Something arrived, so the next trouble counts from the beginning.
    pub(crate) fn progressed(&mut self) {
        (self.failed, self.paced, self.at_once) = (0, Duration::ZERO, 0);
    }
}

/// An answer that may change says more than the clock does. What was tried again at once is settled by that.
fn deadline_error(last: Option<&Error>) -> Error {
    match last {
        Some(answer) if answer.http_status() != 0 && answer.is_retryable() => {
            answer.clone().hint("the call's deadline ended the retries")
        }
        Some(trouble) => {
            Error::new(Status::Timeout, format!("the call's deadline passed; the last trouble was: {trouble}"))
                .retryable(None)
        }
        None => Error::new(Status::Timeout, "the call's deadline passed before an answer came").retryable(None),
    }
}

/// Runs `operation` until it succeeds or its error is the last word.
pub(crate) async fn retry<T, F>(limits: &Limits, operation: impl FnMut() -> F) -> Result<T>
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
    use tokio::sync::Notify;

    use crate::cancel::Cancellation;

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

    /// A task that says whether it was woken since it was asked last.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_cancel_is_heard_however_often_others_were_and_the_task_was_polled() {
        for others in 0..3 {
            for polls in [1, 2, 5] {
                let (cancellation, bell) = (Arc::new(Cancellation::default()), Arc::new(Notify::new()));
                let limits = Limits::new(0, None, Arc::default(), Watch::new(cancellation.clone(), bell.clone()));
                let mut call = pin!(limits.unless_interrupted(Box::pin(std::future::pending::<()>())));
                let mut poll = |task: &Arc<Woken>| call.as_mut().poll(&mut Context::from_waker(&task.clone().into()));
                let (first, then) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
                assert!((0..polls).all(|_| poll(&first).is_pending()));
                for task in [&first, &then] {
                    assert!(poll(task).is_pending());
                    for _ in 0..others {
                        bell.notify_waiters();
                        assert!(task.0.swap(false, Ordering::SeqCst), "another handle's bell is not heard");
                        assert!((0..polls).all(|_| poll(task).is_pending()));
                    }
                }
                cancellation.cancel();
                bell.notify_waiters();
                assert!(then.0.load(Ordering::SeqCst), "not woken: {others} others, {polls} polls");
                assert!(matches!(poll(&then), Poll::Ready(Err(why)) if why.status() == Status::Cancelled));
            }
        }
    }

    #[test]
    fn the_last_answer_outranks_the_deadline() {
        let throttled = Error::service(Status::Throttled, 503, "ServerBusy", "", "busy").retryable(None);
        assert_eq!(deadline_error(Some(&throttled)).status(), Status::Throttled);
        // A token that the service did not take was replaced.
        let refused = Error::service(Status::Unauthenticated, 401, "InvalidAuthenticationInfo", "", "expired");
        assert!(
            matches!(deadline_error(Some(&refused)), error if error.status() == Status::Timeout && error.is_retryable())
        );
        assert_eq!(deadline_error(Some(&Error::network("refused"))).status(), Status::Timeout);
        assert_eq!(deadline_error(None).status(), Status::Timeout);
    }
}
