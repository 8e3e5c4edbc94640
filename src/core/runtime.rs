//! The process's one tokio runtime, and how blocking calls run their tasks on it.

use std::future::Future;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::core::interrupt::Interruption;
use crate::core::limits::{Limits, earlier};
use crate::core::progress;
use crate::error::{Error, Result};
use crate::sys::blocking::{check_may_block, forbid_blocking};
use crate::sys::process::{PerProcess, with_signals_blocked};

/// Made by the first call that needs it and never shut down: its threads may outlive every handle.
static RUNTIME: PerProcess<Runtime> = PerProcess::for_static();

/// More threads would not be faster, because connections deliver only so much, and the host program needs the cores.
const MAX_WORKERS: usize = 4;

fn runtime() -> Result<&'static Runtime> {
    RUNTIME.get_or_try_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        with_signals_blocked(|| {
            Builder::new_multi_thread()
                .worker_threads(cores.clamp(2, MAX_WORKERS))
                .thread_name("aztorch")
                .on_thread_start(forbid_blocking)
                .enable_io()
                .enable_time()
                .build()
        })
        .map_err(|error| Error::internal(format!("could not start the library's threads: {error}")))
    })
}

/// Runs the caller's code on a new thread. Blocking calls of this library are refused there.
pub(crate) fn spawn_thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    let start = || {
        std::thread::Builder::new().name(name.to_owned()).spawn(|| {
            forbid_blocking();
            body();
        })
    };
    with_signals_blocked(start)
        .map(drop)
        .map_err(|error| Error::internal(format!("could not start a thread for a callback: {error}")))
}

/// Starts `task` in the background.
pub(crate) fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Result<AbortHandle> {
    Ok(runtime()?.spawn(task).abort_handle())
}

/// Starts `task`, whose result can be waited for. The task is dropped, with everything that it owns, before its result
/// is available.
pub(crate) fn start<T: Send + 'static>(task: impl Future<Output = Result<T>> + Send + 'static) -> Result<Started<T>> {
    start_abortable(task).map(|(started, _)| started)
}

/// Starts `task`, and returns it with a handle that aborts it. The task is dropped before its result is available.
pub(crate) fn start_abortable<T: Send + 'static>(
    task: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<(Started<T>, AbortHandle)> {
    let (sender, receiver) = sync_channel(1);
    // Some tasks have kilobytes, which would be copied several times before they run.
    let task = Box::pin(task);
    let handle = spawn(async move {
        let result = task.await;
        // Sending fails if the receiver was dropped because the result is not needed any more.
        let _ = sender.send(result);
    })?;
    Ok((Started(receiver), handle))
}

/// Starts the runtime, or returns the error that prevents it.
pub(crate) fn ensure_started() -> Result<()> {
    runtime().map(drop)
}

/// A running task, whose result can be waited for.
pub(crate) struct Started<T>(Receiver<Result<T>>);

impl<T> Started<T> {
    /// Blocks until the task, a part of `work`, has ended. An error if the limits of the call end the wait before.
    pub(crate) fn wait_within(self, limits: &Limits, work: &Limits) -> Result<Result<T>> {
        while let Some(wake) = limits.wakes_at() {
            match self.0.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Disconnected) => return Ok(Err(panicked())),
                Err(RecvTimeoutError::Timeout) => limits.end_wait(work)?,
            }
        }
        Ok(self.end())
    }

    /// Blocks until the task has ended. Meanwhile it reports the progress of this thread's call, and asks the thread's
    /// callback whether to interrupt the call, which then ends the task.
    pub(crate) fn wait(self, interruption: Option<&Arc<Interruption>>) -> Result<T> {
        let next_report = || progress::is_reporting().then(|| Instant::now() + progress::INTERVAL);
        let mut report = next_report();
        while let Some(wake) = earlier(report, interruption.and_then(|interruption| interruption.due())) {
            match self.0.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(panicked()),
                Err(RecvTimeoutError::Timeout) => {
                    if report.is_some_and(|report| report <= Instant::now()) {
                        progress::report_current();
                        report = next_report();
                    }
                    // The task returns the error.
                    let _ = interruption.map(|interruption| interruption.ask());
                }
            }
        }
        self.end()
    }

    /// Blocks until the task has ended.
    pub(crate) fn end(self) -> Result<T> {
        self.0.recv().unwrap_or_else(|_| Err(panicked()))
    }
}

fn panicked() -> Error {
    Error::internal("a task of the library panicked")
}

/// Runs `task` on the library's threads and blocks until it has ended. `interruption` is that of its call.
pub(crate) fn block_on<T: Send + 'static>(
    interruption: Option<&Arc<Interruption>>,
    task: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    check_may_block()?;
    start(task)?.wait(interruption)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Status;

    #[test]
    fn blocking_inside_the_runtime_is_refused() {
        let inner = block_on(None, async { Ok(block_on(None, async { Ok(1) })) }).unwrap();
        assert_eq!(inner.unwrap_err().status(), Status::Unsupported);
    }

    #[test]
    fn a_panic_in_a_task_is_an_error() {
        let result: Result<()> = block_on(None, async { panic!("on purpose") });
        assert_eq!(result.unwrap_err().status(), Status::Internal);
    }
}
