//! The limits of one call: how often its requests may be tried, and what ends it early (a deadline or a cancel).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::time::Instant;

use crate::core::cancel::Watch;
use crate::error::{Error, Result, Status};
use crate::observe::stats::Counters;
use crate::sys::lock::lock;

/// The limits of one call of the caller's: how often it may try, and until when.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_retries: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) last_error: Arc<LastError>,
    pub(crate) stats: Arc<Counters>,
    pub(crate) cancel: Watch,
}

impl Limits {
    pub(crate) fn new(max_retries: u32, deadline: Option<Instant>, stats: Arc<Counters>, cancel: Watch) -> Self {
        Self { max_retries, deadline, last_error: Arc::default(), stats, cancel }
    }

    /// The same for work that no deadline ends, with last_error of its own.
    pub(crate) fn in_background(&self) -> Self {
        Self::new(self.max_retries, None, self.stats.clone(), self.cancel.clone())
    }

    /// The result of `attempt`, or why the call was over before. A body wakes its task many times, and all tasks of a client
    /// listen to one cancel_notify, so that its lock is taken when the cancel_notify has woken the task and not for each piece of a body.
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

    /// Waits until the call is over, whatever it is doing; why.
    pub(super) async fn interrupted(&self) -> Error {
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
        deadline_error(self.last_error.last().as_ref())
    }
}

/// Wakes a task for something other than what it is busy with, and knows that it did: whoever was woken has to listen
/// anew.
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
        // First, so that the task finds it.
        self.woken.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// The last_error that is being retried, for whoever waits for the end of it and loses patience.
#[derive(Debug, Default)]
pub(crate) struct LastError(Mutex<Option<Error>>);

impl LastError {
    pub(super) fn set(&self, last_error: Option<Error>) {
        *lock(&self.0) = last_error;
    }

    pub(super) fn set_if_none(&self, last_error: Error) -> bool {
        let mut current = lock(&self.0);
        let none = current.is_none();
        current.get_or_insert(last_error);
        none
    }

    fn last(&self) -> Option<Error> {
        lock(&self.0).clone()
    }
}

/// An answer that may change says more than the clock does. What was tried again at once is settled by that.
fn deadline_error(last: Option<&Error>) -> Error {
    match last {
        Some(answer) if answer.http_status() != 0 && answer.is_retryable() => {
            answer.clone().hint("the call's deadline ended the retries")
        }
        Some(last_error) => {
            Error::new(Status::Timeout, format!("the call's deadline passed; the last last_error was: {last_error}"))
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
                let (cancellation, cancel_notify) = (Arc::new(Cancellation::default()), Arc::new(Notify::new()));
                let limits =
                    Limits::new(0, None, Arc::default(), Watch::new(cancellation.clone(), cancel_notify.clone()));
                let mut call = pin!(limits.unless_interrupted(Box::pin(std::future::pending::<()>())));
                let mut poll = |task: &Arc<Woken>| call.as_mut().poll(&mut Context::from_waker(&task.clone().into()));
                let (first, then) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
                assert!((0..polls).all(|_| poll(&first).is_pending()));
                for task in [&first, &then] {
                    assert!(poll(task).is_pending());
                    for _ in 0..others {
                        cancel_notify.notify_waiters();
                        assert!(task.0.swap(false, Ordering::SeqCst), "another handle's cancel_notify is not heard");
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
