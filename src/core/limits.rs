//! The limits of one call: how often its requests may be tried, and its early end (by a deadline, a cancellation or an
//! interrupt).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::time::Instant;

use crate::core::cancel::CancelToken;
use crate::core::interrupt::Interruption;
use crate::error::{Error, Result, Status};
use crate::observe::stats::Counters;
use crate::sys::lock::lock;

/// The limits of one call: the number of retries, the deadline, the cancellation and interruption.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_retries: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) last_error: Arc<LastError>,
    pub(crate) stats: Arc<Counters>,
    pub(crate) cancel: CancelToken,
}

impl Limits {
    pub(crate) fn new(max_retries: u32, deadline: Option<Instant>, stats: Arc<Counters>, cancel: CancelToken) -> Self {
        Self { max_retries, deadline, last_error: Arc::default(), stats, cancel }
    }

    /// The limits of background work: without a deadline and interrupts, and with a last error of its own.
    pub(crate) fn in_background(&self) -> Self {
        Self::new(self.max_retries, None, self.stats.clone(), self.cancel.in_background())
    }

    /// The interruption of the call; `None` if its thread has no callback.
    pub(crate) fn interruption(&self) -> Option<&Arc<Interruption>> {
        self.cancel.interruption()
    }

    /// Whether the thread's callback has ended the call.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interruption().is_some_and(|interruption| interruption.check().is_err())
    }

    /// An error if this thread's callback has ended the call, or does so now.
    pub(crate) fn ask(&self) -> Result<()> {
        self.interruption().map_or(Ok(()), |interruption| interruption.ask())
    }

    /// When the call's thread has to stop waiting, because of the deadline or to ask its callback; `None` for never.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        earlier(self.deadline, self.interruption().and_then(|interruption| interruption.due()))
    }

    /// Runs `attempt`, and returns its result, or the error of the deadline or cancellation that ended the call first.
    /// A body wakes its task many times, and all tasks of a client wait for one `Notify`: so the wait is polled only
    /// after it has woken the task, not for each part of a body.
    pub(super) async fn unless_interrupted<T>(&self, mut attempt: Pin<Box<impl Future<Output = T>>>) -> Result<T> {
        let mut interrupted = pin!(self.interrupted());
        let mut waker: Option<Arc<InterruptWaker>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
                return Poll::Ready(Ok(result));
            }
            if waker.as_ref().is_some_and(|waker| waker.is_armed_for(cx.waker())) {
                return Poll::Pending;
            }
            let armed =
                waker.insert(Arc::new(InterruptWaker { woken: AtomicBool::new(false), task: cx.waker().clone() }));
            interrupted.as_mut().poll(&mut Context::from_waker(&armed.clone().into())).map(Err)
        })
        .await
    }

    /// Waits until the deadline or a cancellation ends the call, and returns its error.
    pub(super) async fn interrupted(&self) -> Error {
        let Some(deadline) = self.deadline else { return self.cancel.cancelled().await };
        match tokio::time::timeout_at(deadline, self.cancel.cancelled()).await {
            Ok(cancelled) => cancelled,
            Err(_) => self.deadline_passed(),
        }
    }

    /// An error if the deadline or a cancellation has ended the call. For callers that do not wait in a future.
    pub(crate) fn check(&self) -> Result<()> {
        self.cancel.check()?;
        match self.deadline {
            Some(deadline) if deadline <= Instant::now() => Err(self.deadline_passed()),
            _ => Ok(()),
        }
    }

    /// Blocks until `changed` is notified, or for a while. `state` is `mutex`, locked. An error ends the call: at its
    /// deadline, with the last error of `work`, which is waited for; or when its thread's callback says so. A
    /// cancellation does not end the wait: the work that it ends has to notify `changed`.
    pub(crate) fn wait_for<'a, T>(
        &self,
        changed: &Condvar,
        mutex: &'a Mutex<T>,
        state: MutexGuard<'a, T>,
        work: &Self,
    ) -> Result<MutexGuard<'a, T>> {
        let Some(wake) = self.wakes_at() else {
            return Ok(changed.wait(state).unwrap_or_else(PoisonError::into_inner));
        };
        let left = wake.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Ok(changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0);
        }
        // The callback runs without the lock.
        drop(state);
        self.end_wait(work)?;
        Ok(lock(mutex))
    }

    /// An error if the deadline or the thread's callback ends the call, which waits for `work`.
    pub(crate) fn end_wait(&self, work: &Self) -> Result<()> {
        self.ask()?;
        match self.deadline {
            Some(deadline) if deadline <= Instant::now() => Err(work.deadline_passed()),
            _ => Ok(()),
        }
    }

    /// The error of a call that was ended by its deadline.
    pub(crate) fn deadline_passed(&self) -> Error {
        deadline_error(self.last_error.last().as_ref())
    }
}

/// The earlier of two times, if there are any.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// Wakes a task when its call is interrupted, and records that it did: after a wake-up the wait has to be polled again.
struct InterruptWaker {
    woken: AtomicBool,
    task: Waker,
}

impl InterruptWaker {
    fn is_armed_for(&self, task: &Waker) -> bool {
        !self.woken.load(Ordering::Acquire) && self.task.will_wake(task)
    }
}

impl Wake for InterruptWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Set before the wake-up, so that the task sees it.
        self.woken.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// The error that the call is retrying, or the reason why it waits. The error of a passed deadline shows it.
#[derive(Debug, Default)]
pub(crate) struct LastError(Mutex<Option<Error>>);

impl LastError {
    pub(super) fn set(&self, error: Option<Error>) {
        *lock(&self.0) = error;
    }

    /// Sets `error` if there is none; returns whether it did.
    pub(super) fn set_if_none(&self, error: Error) -> bool {
        let mut current = lock(&self.0);
        let was_none = current.is_none();
        current.get_or_insert(error);
        was_none
    }

    fn last(&self) -> Option<Error> {
        lock(&self.0).clone()
    }
}

/// The error of a call that was ended by its deadline: the service's last error if it can be retried, since it says
/// more than the deadline. The error of an answer that was retried at once, such as a refused token, is not used: its
/// cause was removed.
fn deadline_error(last: Option<&Error>) -> Error {
    match last {
        Some(answer) if answer.http_status() != 0 && answer.is_retryable() => {
            answer.clone().hint("the call's deadline ended the retries")
        }
        Some(last_error) => {
            Error::new(Status::Timeout, format!("the call's deadline passed; the last error was: {last_error}"))
                .retryable(None)
        }
        None => Error::new(Status::Timeout, "the call's deadline passed before an answer came").retryable(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Notify;

    use crate::core::cancel::Cancellation;

    /// A waker that records whether it was woken since the last check.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_cancellation_wakes_the_call_after_other_notifications_and_polls() {
        for others in 0..3 {
            for polls in [1, 2, 5] {
                let (cancellation, cancel_notify) = (Arc::new(Cancellation::default()), Arc::new(Notify::new()));
                let limits = Limits::new(
                    0,
                    None,
                    Arc::default(),
                    CancelToken::new(cancellation.clone(), None, cancel_notify.clone()),
                );
                let mut call = pin!(limits.unless_interrupted(Box::pin(std::future::pending::<()>())));
                let mut poll = |task: &Arc<Woken>| call.as_mut().poll(&mut Context::from_waker(&task.clone().into()));
                let (first, then) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
                assert!((0..polls).all(|_| poll(&first).is_pending()));
                for task in [&first, &then] {
                    assert!(poll(task).is_pending());
                    for _ in 0..others {
                        cancel_notify.notify_waiters();
                        assert!(task.0.swap(false, Ordering::SeqCst), "not woken by another handle's notification");
                        assert!((0..polls).all(|_| poll(task).is_pending()));
                    }
                }
                cancellation.cancel();
                cancel_notify.notify_waiters();
                assert!(then.0.load(Ordering::SeqCst), "not woken: {others} others, {polls} polls");
                assert!(matches!(poll(&then), Poll::Ready(Err(why)) if why.status() == Status::Cancelled));
            }
        }
    }

    #[test]
    fn the_last_answer_takes_precedence_over_the_deadline() {
        let throttled = Error::service(Status::Throttled, 503, "ServerBusy", "", "busy").retryable(None);
        assert_eq!(deadline_error(Some(&throttled)).status(), Status::Throttled);
        // A refused token was replaced.
        let refused = Error::service(Status::Unauthenticated, 401, "InvalidAuthenticationInfo", "", "expired");
        assert!(
            matches!(deadline_error(Some(&refused)), error if error.status() == Status::Timeout && error.is_retryable())
        );
        assert_eq!(deadline_error(Some(&Error::network("refused"))).status(), Status::Timeout);
        assert_eq!(deadline_error(None).status(), Status::Timeout);
    }
}
