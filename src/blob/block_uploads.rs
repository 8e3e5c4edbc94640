//! A writer's blocks: the buffers that are being filled, and the uploads that run while the caller continues to write.

use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::AbortHandle;

use crate::core::limits::Limits;
use crate::core::progress;
use crate::core::runtime::spawn;
use crate::error::{Error, Result};
use crate::memory::buffer_pool::{FreeList, Reusable};
use crate::memory::{Budget, EvictableHolder, Reservation};
use crate::service::client_core::Call;
use crate::service::operations;
use crate::sys::lock::lock;
use crate::url::Target;

/// The most bytes that one writer uploads at once: enough for 16 connections with blocks of 8 MiB.
const MAX_IN_FLIGHT: u64 = 128 << 20;
/// How many buffers of uploaded blocks a writer keeps for its next blocks.
const MAX_KEPT: usize = 4;
/// How often a writer that waits for memory checks its deadline and for a cancel, which must take effect within 100 ms.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The buffer of one block. Its memory is reserved in the budget.
pub(crate) struct BlockBuffer {
    bytes: Vec<u8>,
    size: usize,
    memory: Reservation,
}

impl BlockBuffer {
    fn allocate(size: u64, memory: Reservation) -> Result<Self> {
        let size = usize::try_from(size).map_err(|_| Error::out_of_memory(usize::MAX))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| Error::out_of_memory(size))?;
        Ok(Self { bytes, size, memory })
    }

    /// The number of bytes in the buffer.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The number of bytes that still fit into the buffer.
    pub(crate) fn room(&self) -> usize {
        self.size - self.bytes.len()
    }

    /// Copies the beginning of `data` into the buffer, as much as fits; returns the rest.
    pub(crate) fn fill<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let (head, rest) = data.split_at(data.len().min(self.room()));
        self.bytes.extend_from_slice(head);
        rest
    }

    /// Reads from `source` until it ends or the buffer is full; returns the number of bytes.
    pub(crate) fn fill_from(&mut self, source: &mut impl std::io::Read) -> std::io::Result<usize> {
        use std::io::Read;
        let room = self.room() as u64;
        source.by_ref().take(room).read_to_end(&mut self.bytes)
    }
}

impl Reusable for BlockBuffer {
    fn size(&self) -> usize {
        self.size
    }
}

/// A full buffer as a request body. The writer uses its memory again when the last clone of the body is dropped.
struct BlockBody {
    buffer: Option<BlockBuffer>,
    uploads: Arc<BlockUploads>,
}

impl AsRef<[u8]> for BlockBody {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer.bytes)
    }
}

impl Drop for BlockBody {
    fn drop(&mut self) {
        if let Some(mut buffer) = self.buffer.take() {
            buffer.bytes.clear();
            let budget = buffer.memory.end_flight();
            let mut state = self.uploads.lock();
            let displaced = state.free.put(buffer, |count, _| count > MAX_KEPT);
            state.free_since = Some(Instant::now());
            drop(state);
            drop(displaced);
            budget.notify();
        }
    }
}

/// The uploads of one writer, and the buffers that it can fill again.
#[derive(Default)]
pub(crate) struct BlockUploads {
    state: Mutex<UploadState>,
    changed: Condvar,
}

#[derive(Default)]
struct UploadState {
    /// How many bytes are being uploaded.
    in_flight: u64,
    /// The first failure.
    failed: Option<Error>,
    free: FreeList<BlockBuffer>,
    /// When the last buffer was put into `free`.
    free_since: Option<Instant>,
    requests: Vec<AbortHandle>,
}

impl BlockUploads {
    fn lock(&self) -> MutexGuard<'_, UploadState> {
        lock(&self.state)
    }

    /// The first failure, which every later call repeats.
    pub(crate) fn check(&self) -> Result<()> {
        self.lock().failed.clone().map_or(Ok(()), Err)
    }

    /// Records a failure; the first one stays.
    pub(crate) fn fail(&self, error: Error) {
        self.lock().failed.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Ends the uploads that still run; the service will not publish their blocks. Frees the kept buffers now, because
    /// the task of an upload may keep this object alive for a while after it has reported its end.
    pub(crate) fn abort(&self) {
        let mut state = self.lock();
        state.free.clear();
        for request in state.requests.drain(..) {
            request.abort();
        }
    }

    /// An empty buffer of the largest of `sizes`, or a smaller one when the budget has less. It waits for a buffer that
    /// is larger than the smallest size only while memory is in flight.
    pub(crate) fn buffer(
        &self,
        budget: &Arc<Budget>,
        sizes: RangeInclusive<u64>,
        limits: &Limits,
    ) -> Result<BlockBuffer> {
        let (least, mut size) = sizes.into_inner();
        loop {
            if let Some(buffer) = self.free_buffer(size) {
                return Ok(buffer);
            }
            if let Some(memory) = budget.reserve(size, Duration::ZERO) {
                return BlockBuffer::allocate(size, memory);
            }
            let listener = budget.listen();
            // The listener does not notice memory that was freed before it existed, so try again.
            if let Some(memory) = budget.reserve(size, Duration::ZERO) {
                return BlockBuffer::allocate(size, memory);
            }
            self.check()?;
            limits.check()?;
            if !budget.request_release(size) && size > least {
                size = (size / 2).max(least);
                continue;
            }
            let until_wake = limits.wakes_at().map(|wake| wake.saturating_duration_since(tokio::time::Instant::now()));
            listener.wait(until_wake.map_or(CHECK_INTERVAL, |left| left.min(CHECK_INTERVAL)));
            limits.ask()?;
        }
    }

    /// A kept buffer of `size` bytes. When there is none, buffers of other sizes are freed: blocks grow, so they are
    /// too small for the next ones.
    fn free_buffer(&self, size: u64) -> Option<BlockBuffer> {
        let mut state = self.lock();
        let buffer = state.free.take(|buffer| buffer.size as u64 == size);
        if buffer.is_none() {
            state.free.clear();
        }
        buffer
    }

    /// Whether a block of `length` bytes can be uploaded without waiting.
    pub(crate) fn has_room(&self, length: u64) -> bool {
        let state = self.lock();
        state.in_flight == 0 || state.in_flight + length <= MAX_IN_FLIGHT
    }

    /// Uploads a buffer in the background as the block `id`. Waits first while too many bytes are in flight.
    pub(crate) fn upload(
        self: &Arc<Self>,
        call: &Call,
        target: &Arc<Target>,
        id: String,
        buffer: BlockBuffer,
    ) -> Result<()> {
        let length = buffer.len() as u64;
        let mut state = self.lock();
        while state.in_flight > 0 && state.in_flight + length > MAX_IN_FLIGHT && state.failed.is_none() {
            state = call.limits.wait_for(&self.changed, &self.state, state, &call.limits)?;
        }
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        state.in_flight += length;
        state.requests.retain(|request| !request.is_finished());
        // The body and the guard take the lock when they are dropped, also when the task cannot start.
        drop(state);
        let body = self.freeze(buffer);
        let guard = UploadGuard { uploads: self.clone(), length, result: None };
        let (call, target) = (in_background(call), target.clone());
        let request = spawn(async move {
            let result = operations::put_block(&call, &target, &id, &body).await;
            // Free the memory before the writer learns that the upload has ended.
            drop(body);
            guard.end(result);
        })?;
        self.lock().requests.push(request);
        Ok(())
    }

    /// The buffer as a request body.
    pub(crate) fn freeze(self: &Arc<Self>, mut buffer: BlockBuffer) -> Bytes {
        buffer.memory.begin_flight();
        Bytes::from_owner(BlockBody { buffer: Some(buffer), uploads: self.clone() })
    }

    /// Waits until all uploads have ended.
    pub(crate) fn wait_all(&self, limits: &Limits) -> Result<()> {
        let mut state = self.lock();
        while state.in_flight > 0 && state.failed.is_none() {
            state = limits.wait_for(&self.changed, &self.state, state, limits)?;
            if progress::is_reporting() {
                drop(state);
                progress::report_current();
                state = self.lock();
            }
        }
        state.failed.clone().map_or(Ok(()), Err)
    }
}

impl EvictableHolder for BlockUploads {
    fn idle_since(&self) -> Option<Instant> {
        let state = self.state.try_lock().ok()?;
        if state.free.is_empty() { None } else { state.free_since }
    }

    fn evict(&self, _bytes: u64) -> u64 {
        let Ok(mut state) = self.state.try_lock() else { return 0 };
        state.free.clear() as u64
    }
}

/// For uploads, which outlive the call that began them. Their errors and their progress still belong to that call.
fn in_background(call: &Call) -> Call {
    let mut background = call.in_background();
    background.limits.last_error = call.limits.last_error.clone();
    background.moved = call.moved.clone();
    background
}

/// Tells the writer that an upload has ended, also when its task was aborted or has panicked.
struct UploadGuard {
    uploads: Arc<BlockUploads>,
    length: u64,
    result: Option<Result<()>>,
}

impl UploadGuard {
    fn end(mut self, result: Result<()>) {
        self.result = Some(result);
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        let mut state = self.uploads.lock();
        state.in_flight -= self.length;
        let result = self.result.take().unwrap_or_else(|| Err(Error::internal("a block's task ended early")));
        if let Err(error) = result {
            state.failed.get_or_insert(error);
        }
        drop(state);
        self.uploads.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::cancel::{CancelToken, Cancellation};

    #[test]
    fn kept_buffers_are_freed_when_the_writer_ends() {
        let budget = Budget::new(1 << 20).unwrap();
        let cancel = CancelToken::new(Arc::<Cancellation>::default(), None, Arc::default());
        let limits = Limits::new(0, None, Arc::default(), cancel);
        let uploads: Arc<BlockUploads> = Arc::default();
        let buffer = uploads.buffer(&budget, 64 << 10..=64 << 10, &limits).unwrap();
        drop(uploads.freeze(buffer));
        assert_eq!(budget.use_and_peak().0, 64 << 10);
        uploads.abort();
        assert_eq!(budget.use_and_peak().0, 0);
    }
}
