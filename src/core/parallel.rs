//! Several transfers in one call. All of them have ended before the call returns its result.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::core::limits::Limits;
use crate::core::runtime::{Started, start};
use crate::error::{Error, Result, Status};

/// Transfers under way. Dropping this cancels them and waits for their end, so that memory lent to them is safe on
/// every path.
#[must_use]
pub(crate) struct Transfers {
    started: Option<Started<()>>,
    cancel: Arc<Notify>,
}

impl Transfers {
    /// Starts `parts` in order, at most `at_once` at a time. The first failure ends the others.
    pub(crate) fn start<F>(parts: Vec<F>, at_once: usize) -> Result<Self>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let cancel = Arc::new(Notify::new());
        let cancelled = cancel.clone();
        let started = start(async move {
            let mut running = JoinSet::new();
            let result = tokio::select! {
                result = run(&mut running, parts, at_once) => result,
                () = cancelled.notified() => Err(Error::new(Status::Cancelled, "the transfer was given up")),
            };
            // An aborted task may be copying into the caller's memory, so wait for its end.
            running.shutdown().await;
            result
        })?;
        Ok(Self { started: Some(started), cancel })
    }

    /// Asks the transfers to end early. Does not wait.
    pub(crate) fn cancel(&self) {
        self.cancel.notify_one();
    }

    /// Blocks until all transfers have ended, which are those of a call with these limits.
    pub(crate) fn wait(mut self, limits: &Limits) -> Result<()> {
        self.started.take().map_or(Ok(()), |started| started.wait(limits.interruption()))
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        if let Some(started) = self.started.take() {
            self.cancel();
            // A caller that drops this early returns an error of its own.
            let _ = started.end();
        }
    }
}

/// Runs `parts`, at most `at_once` at a time, from inside a task. All of them have ended when it returns. Dropping the
/// future aborts them without waiting for their end.
pub(crate) async fn together<F>(parts: Vec<F>, at_once: usize) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let result = run(&mut running, parts, at_once).await;
    running.shutdown().await;
    result
}

async fn run<F>(running: &mut JoinSet<Result<()>>, parts: Vec<F>, at_once: usize) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut waiting = parts.into_iter();
    for part in waiting.by_ref().take(at_once.max(1)) {
        running.spawn(part);
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(|_| Error::internal("a transfer panicked"))??;
        if let Some(part) = waiting.next() {
            running.spawn(part);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::core::cancel::{CancelToken, Cancellation};

    fn limits() -> Limits {
        Limits::new(0, None, Arc::default(), CancelToken::new(Arc::<Cancellation>::default(), None, Arc::default()))
    }

    type Transfer = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_failure_ends_the_others_before_the_result_is_returned() {
        let alive = Arc::new(AtomicUsize::new(0));
        let mut parts: Vec<Transfer> = Vec::new();
        for i in 0..4 {
            alive.fetch_add(1, Ordering::SeqCst);
            let guard = Alive(alive.clone());
            parts.push(Box::pin(async move {
                let _guard = guard;
                if i == 2 {
                    return Err(Error::invalid("on purpose"));
                }
                std::future::pending().await
            }));
        }
        let result = Transfers::start(parts, 4).unwrap().wait(&limits());
        assert_eq!(result.unwrap_err().message(), "on purpose");
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn cancel_ends_a_transfer_that_never_ends_by_itself() {
        let parts: Vec<Transfer> = vec![Box::pin(std::future::pending())];
        let transfers = Transfers::start(parts, 1).unwrap();
        transfers.cancel();
        assert_eq!(transfers.wait(&limits()).unwrap_err().status(), Status::Cancelled);
    }
}
