//! The process's one tokio runtime, and how blocking calls run their tasks on it.

use std::future::Future;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;
use tokio::time::Instant;

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
    /// Blocks until the task has ended; `None` if `deadline` passes before.
    pub(crate) fn wait_until(self, deadline: Option<Instant>) -> Option<Result<T>> {
        let Some(deadline) = deadline else { return Some(self.wait()) };
        match self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(panicked())),
        }
    }

    /// Blocks until the task has ended, and reports the progress of this thread's call meanwhile.
    pub(crate) fn wait(self) -> Result<T> {
        while progress::is_reporting() {
            match self.0.recv_timeout(progress::INTERVAL) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(panicked()),
                Err(RecvTimeoutError::Timeout) => progress::report_current(),
            }
        }
        self.0.recv().unwrap_or_else(|_| Err(panicked()))
    }
}

fn panicked() -> Error {
    Error::internal("a task of the library panicked")
}

/// Runs `task` on the library's threads and blocks until it has ended.
pub(crate) fn block_on<T: Send + 'static>(task: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    check_may_block()?;
    start(task)?.wait()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Status;

    #[test]
    fn blocking_inside_the_runtime_is_refused() {
        let inner = block_on(async { Ok(block_on(async { Ok(1) })) }).unwrap();
        assert_eq!(inner.unwrap_err().status(), Status::Unsupported);
    }

    #[test]
    fn a_panic_in_a_task_is_an_error() {
        let result: Result<()> = block_on(async { panic!("on purpose") });
        assert_eq!(result.unwrap_err().status(), Status::Internal);
    }
}
