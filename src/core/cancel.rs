//! Cancelling: from any thread, for good, and for all that was opened with what is cancelled.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::error::{Error, Result, Status};

/// Whether something was cancelled, or what it was opened with. Only flags, so that a forked child inherits no lock.
#[derive(Debug, Default)]
pub(crate) struct Cancellation {
    cancelled: AtomicBool,
    parent: Option<Arc<Cancellation>>,
}

impl Cancellation {
    /// One that is cancelled with `self`, or alone.
    pub(crate) fn child(self: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { cancelled: AtomicBool::new(false), parent: Some(self.clone()) })
    }

    /// Cancels for good. Waiting tasks notice only after their client's `cancel_notify` was notified as well.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) || self.parent.as_ref().is_some_and(|parent| parent.is_cancelled())
    }

    pub(crate) fn check(&self) -> Result<()> {
        match self.is_cancelled() {
            false => Ok(()),
            true => Err(cancelled()),
        }
    }
}

/// A cancellation, and what wakes the tasks that wait for it. All cancellations of a client share one `Notify`: a cancel
/// is rare enough to wake every waiting task of the client.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    cancellation: Arc<Cancellation>,
    notify: Arc<Notify>,
}

impl Watch {
    pub(crate) fn new(cancellation: Arc<Cancellation>, notify: Arc<Notify>) -> Self {
        Self { cancellation, notify }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.cancellation.check()
    }

    /// Waits for the cancellation; its error.
    pub(crate) async fn cancelled(&self) -> Error {
        loop {
            let mut notified = pin!(self.notify.notified());
            // Registers now, so that a cancel between the check and the wait is not missed.
            notified.as_mut().enable();
            if self.cancellation.is_cancelled() {
                return cancelled();
            }
            notified.await;
        }
    }
}

fn cancelled() -> Error {
    Error::new(Status::Cancelled, "cancelled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reaches_what_lies_below_and_nothing_above() {
        let client = Arc::new(Cancellation::default());
        let (derived, other) = (client.child(), client.child());
        let blob = derived.child();
        derived.cancel();
        assert!(blob.is_cancelled() && derived.is_cancelled());
        assert!(!other.is_cancelled() && !client.is_cancelled());
        client.cancel();
        assert!(other.is_cancelled());
        assert_eq!(blob.check().unwrap_err().status(), Status::Cancelled);
    }
}
