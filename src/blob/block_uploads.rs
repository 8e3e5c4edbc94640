//! Blocks on their way to the service while the caller goes on writing.

use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::AbortHandle;

use crate::core::limits::Limits;
use crate::core::progress;
use crate::core::runtime::spawn;
use crate::error::{Error, Result};
use crate::memory::{Budget, Holder, Reservation};
use crate::service::client_core::Call;
use crate::service::operations;
use crate::sys::lock::lock;
use crate::url::Target;

/// What one writer has under way at most: enough for 16 connections with blocks of 8 MiB.
const MAX_IN_FLIGHT: u64 = 128 << 20;
/// How many landed buffers a writer keeps for its next blocks.
const MAX_SPARE: usize = 4;
/// How often a writer that waits for memory looks whether it still should: within the 100 ms that a cancel may take.
const LOOK: Duration = Duration::from_millis(50);

/// A block being filled.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    size: usize,
    memory: Reservation,
}

impl Buffer {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn room(&self) -> usize {
        self.size - self.bytes.len()
    }

    /// Takes the beginning of `data`, as much as there is room for; gives the rest.
    pub(crate) fn fill<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let (head, rest) = data.split_at(data.len().min(self.room()));
        self.bytes.extend_from_slice(head);
        rest
    }

    /// Takes as much from `source` as there is room for; gives how much came.
    pub(crate) fn fill_from(&mut self, source: &mut impl std::io::Read) -> std::io::Result<usize> {
        use std::io::Read;
        let room = self.room() as u64;
        source.by_ref().take(room).read_to_end(&mut self.bytes)
    }
}

/// A filled buffer as a request body; when the last copy is gone the memory serves the next block.
struct Filled {
    buffer: Option<Buffer>,
    staging: Arc<Staging>,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer.bytes)
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        if let Some(mut buffer) = self.buffer.take() {
            buffer.bytes.clear();
            let budget = buffer.memory.has_landed();
            let mut state = self.staging.lock();
            if state.spare.len() < MAX_SPARE {
                state.spare.push(buffer);
                state.landed = Some(Instant::now());
            }
            drop(state);
            budget.tell();
        }
    }
}

/// A writer's blocks under way.
#[derive(Default)]
pub(crate) struct Staging {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    in_flight: u64,
    failed: Option<Error>,
    /// Buffers to use again: fresh memory costs a page fault for every 4 KiB.
    spare: Vec<Buffer>,
    /// When the last of them came back.
    landed: Option<Instant>,
    requests: Vec<AbortHandle>,
}

impl Staging {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The first failure, which every later call repeats.
    pub(crate) fn check(&self) -> Result<()> {
        self.lock().failed.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn fail(&self, error: Error) {
        self.lock().failed.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Ends what is under way; nothing of it will be published. The buffers that have landed go back at once: a request's
    /// task may have reported its end and not have let go of this yet.
    pub(crate) fn abort(&self) {
        let mut state = self.lock();
        state.spare.clear();
        for request in state.requests.drain(..) {
            request.abort();
        }
    }

    /// An empty buffer of the largest of `sizes`, or a smaller one where the budget leaves less. One that is larger than
    /// the smallest is waited for only while memory is on its way back.
    pub(crate) fn buffer(&self, budget: &Arc<Budget>, sizes: RangeInclusive<u64>, limits: &Limits) -> Result<Buffer> {
        let (least, mut size) = sizes.into_inner();
        loop {
            if let Some(buffer) = self.spare(size) {
                return Ok(buffer);
            }
            if let Some(memory) = budget.reserve(size, Duration::ZERO) {
                return allocate(size, memory);
            }
            let listener = budget.listen();
            // Again: what came back before this was not heard of.
            if let Some(memory) = budget.reserve(size, Duration::ZERO) {
                return allocate(size, memory);
            }
            self.check()?;
            limits.check()?;
            if !budget.ask_for(size) && size > least {
                size = (size / 2).max(least);
                continue;
            }
            // What comes back is heard of; a cancel and the deadline are looked for.
            listener.wait(LOOK);
        }
    }

    /// A landed buffer of this size to fill again. Blocks grow: the memory of smaller ones goes back to the budget.
    fn spare(&self, size: u64) -> Option<Buffer> {
        let mut state = self.lock();
        match state.spare.pop() {
            Some(buffer) if buffer.size as u64 == size => Some(buffer),
            _ => {
                state.spare.clear();
                None
            }
        }
    }

    /// Whether a block of `length` bytes could be staged without waiting.
    pub(crate) fn has_room(&self, length: u64) -> bool {
        let state = self.lock();
        state.in_flight == 0 || state.in_flight + length <= MAX_IN_FLIGHT
    }

    /// Stages a filled buffer in the background, once there is room for it.
    pub(crate) fn stage(self: &Arc<Self>, call: &Call, target: &Arc<Target>, id: String, buffer: Buffer) -> Result<()> {
        let length = buffer.len() as u64;
        let mut state = self.lock();
        while state.in_flight > 0 && state.in_flight + length > MAX_IN_FLIGHT && state.failed.is_none() {
            state = call.limits.wait_for(&self.changed, state, call.limits.deadline)?;
        }
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        state.in_flight += length;
        state.requests.retain(|request| !request.is_finished());
        // What the task owns takes the lock when it is dropped, also if the task cannot start.
        drop(state);
        let body = self.freeze(buffer);
        let landing = Landing { staging: self.clone(), length, result: None };
        let (call, target) = (in_background(call), target.clone());
        let request = spawn(async move {
            let result = operations::put_block(&call, &target, &id, &body).await;
            // The memory is free before anyone hears that the block has landed.
            drop(body);
            landing.land(result);
        })?;
        self.lock().requests.push(request);
        Ok(())
    }

    pub(crate) fn freeze(self: &Arc<Self>, mut buffer: Buffer) -> Bytes {
        buffer.memory.is_landing();
        Bytes::from_owner(Filled { buffer: Some(buffer), staging: self.clone() })
    }

    /// Waits until everything staged so far has landed.
    pub(crate) fn wait_all(&self, limits: &Limits) -> Result<()> {
        let mut state = self.lock();
        while state.in_flight > 0 && state.failed.is_none() {
            state = limits.wait_for(&self.changed, state, limits.deadline)?;
            if progress::is_reporting() {
                drop(state);
                progress::report_current();
                state = self.lock();
            }
        }
        state.failed.clone().map_or(Ok(()), Err)
    }
}

impl Holder for Staging {
    /// A landed buffer that waits for the next block can be had at once.
    fn idle_since(&self) -> Option<Instant> {
        let state = self.state.try_lock().ok()?;
        if state.spare.is_empty() { None } else { state.landed }
    }

    fn give_up(&self, _bytes: u64) -> u64 {
        let Ok(mut state) = self.state.try_lock() else { return 0 };
        state.spare.drain(..).map(|buffer| buffer.memory.bytes()).sum()
    }
}

/// Background requests outlive the call that began them, but report their trouble to the writer's calls.
fn in_background(call: &Call) -> Call {
    let mut background = call.in_background();
    background.limits.last_error = call.limits.last_error.clone();
    background.moved = call.moved.clone();
    background
}

/// Tells the writer that a block's request has ended, even by a panic.
struct Landing {
    staging: Arc<Staging>,
    length: u64,
    result: Option<Result<()>>,
}

impl Landing {
    fn land(mut self, result: Result<()>) {
        self.result = Some(result);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut state = self.staging.lock();
        state.in_flight -= self.length;
        let result = self.result.take().unwrap_or_else(|| Err(Error::internal("a block's task ended early")));
        if let Err(error) = result {
            state.failed.get_or_insert(error);
        }
        drop(state);
        self.staging.changed.notify_all();
    }
}

fn allocate(size: u64, memory: Reservation) -> Result<Buffer> {
    let size = usize::try_from(size).map_err(|_| Error::out_of_memory(usize::MAX))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| Error::out_of_memory(size))?;
    Ok(Buffer { bytes, size, memory })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::cancel::{CancelToken, Cancellation};

    #[test]
    fn what_has_landed_goes_back_when_the_writer_ends() {
        let budget = Budget::new(1 << 20).unwrap();
        let cancel = CancelToken::new(Arc::<Cancellation>::default(), Arc::default());
        let limits = Limits::new(0, None, Arc::default(), cancel);
        let staging: Arc<Staging> = Arc::default();
        let buffer = staging.buffer(&budget, 64 << 10..=64 << 10, &limits).unwrap();
        drop(staging.freeze(buffer));
        assert_eq!(budget.use_and_peak().0, 64 << 10);
        staging.abort();
        assert_eq!(budget.use_and_peak().0, 0);
    }
}
