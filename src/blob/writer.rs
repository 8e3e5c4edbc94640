//! Writes a blob: buffers the caller's bytes, uploads it in blocks, and publishes the blob when it is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use once_cell::sync::OnceCell;

use crate::blob::block_plan::BlockPlan;
use crate::blob::block_uploads::{BlockBuffer, BlockUploads};
use crate::core::limits::LastError;
use crate::core::parallel::Transfers;
use crate::core::progress::{self, Progress};
use crate::core::runtime::spawn;
use crate::core::turn::{Taken, Turn};
use crate::error::{Error, Result, Status};
use crate::memory::{EvictableHolder, Registration};
use crate::service::client_core::{Call, ClientCore};
use crate::service::etag::quoted;
use crate::service::operations::{self, WriteCondition};
use crate::sys::blocking::check_may_block;
use crate::sys::caller_buffer::lend_bytes;
use crate::sys::process::ProcessBound;
use crate::url::Target;

/// What a writer does when the blob exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Replace the blob when the writer is closed.
    Replace,
    /// Keep the blob, and fail with `Status::AlreadyExists`.
    Create,
}

/// A blob opened for writing. [`close`](Self::close) publishes all that was written, or fails and publishes nothing. A
/// writer that is dropped before that changes nothing.
pub struct BlobWriter {
    url: String,
    etag: OnceCell<String>,
    written: AtomicU64,
    inner: ProcessBound<Arc<WriterInner>>,
    /// Lets the budget flush the buffer that was begun, and evict kept buffers.
    _registered: ProcessBound<[Registration; 2]>,
}

struct WriterInner {
    core: ClientCore,
    target: Arc<Target>,
    mode: WriteMode,
    uploads: Arc<BlockUploads>,
    last_error: Arc<LastError>,
    state: Turn<WriterState>,
    progress: Arc<Progress>,
}

struct WriterState {
    plan: BlockPlan,
    /// The ids of the blocks so far, in the order of the blob.
    ids: Vec<String>,
    /// The buffer that is being filled.
    buffer: Option<BlockBuffer>,
    condition: WriteCondition,
    /// The result of `close`.
    outcome: Option<Result<()>>,
}

impl BlobWriter {
    pub(crate) fn new(core: &ClientCore, target: Target, mode: WriteMode) -> Result<Self> {
        Self::with_plan(core, target, mode, Self::plan(core)?)
    }

    /// A writer for a blob of `size` bytes, with blocks that are large enough for it.
    pub(crate) fn for_size(core: &ClientCore, target: Target, mode: WriteMode, size: u64) -> Result<Self> {
        Self::with_plan(core, target, mode, Self::plan(core)?.for_size(size)?)
    }

    fn plan(core: &ClientCore) -> Result<BlockPlan> {
        Ok(BlockPlan::new(core.block_size()).within(core.budget()?.limit()))
    }

    fn with_plan(core: &ClientCore, target: Target, mode: WriteMode, plan: BlockPlan) -> Result<Self> {
        target.require_writable()?;
        let condition = match mode {
            WriteMode::Replace => WriteCondition::None,
            WriteMode::Create => WriteCondition::Absent,
        };
        let url = target.display();
        let inner = WriterInner {
            core: core.child(),
            target: Arc::new(target),
            mode,
            uploads: Arc::default(),
            last_error: Arc::default(),
            state: Turn::new(WriterState { plan, ids: Vec::new(), buffer: None, condition, outcome: None }),
            progress: Arc::default(),
        };
        let (budget, inner) = (core.budget()?, Arc::new(inner));
        let (begun, kept): (Arc<dyn EvictableHolder>, Arc<dyn EvictableHolder>) =
            (inner.clone(), inner.uploads.clone());
        let registered = [begun, kept].map(|holder| budget.register(Arc::downgrade(&holder)));
        Ok(Self {
            url,
            etag: OnceCell::new(),
            written: AtomicU64::new(0),
            inner: ProcessBound::new(inner),
            _registered: ProcessBound::new(registered),
        })
    }

    /// Publishes only over the version with this ETag; otherwise `close` fails with `Status::Modified`.
    pub fn set_if_match(&self, etag: &str) -> Result<()> {
        // A callback runs while its call has the state that is taken below.
        check_may_block()?;
        let etag = quoted(etag)?;
        let inner = self.inner.get()?;
        let mut state = inner.take_open(&self.url)?;
        if inner.mode == WriteMode::Create {
            return Err(Error::invalid("a writer that only creates a blob cannot also require a version of it"));
        }
        state.condition = WriteCondition::Matches(etag);
        Ok(())
    }

    /// Writes all of `data`. After an error the writer cannot be used any more. An error of an upload in the background
    /// is returned by the next `write_all`, `flush` or `close`.
    pub fn write_all(&self, data: &[u8]) -> Result<()> {
        self.reporting(|| self.buffer_all(data))
    }

    fn buffer_all(&self, data: &[u8]) -> Result<()> {
        let (inner, call) = self.begin()?;
        let mut state = inner.take_open(&self.url)?;
        if data.is_empty() {
            return Ok(());
        }
        inner.write(&call, &mut state, data, self.written.load(Ordering::Relaxed)).map_err(|e| inner.remember(e))?;
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Writes all bytes of `source`, the file `from`, without a buffer in between.
    pub(crate) fn write_from(&self, source: &mut impl std::io::Read, from: &std::path::Path) -> Result<()> {
        let (inner, call) = self.begin()?;
        let mut state = inner.take_open(&self.url)?;
        loop {
            // The file may grow as fast as it is read, so that the loop never ends by itself.
            call.limits.check()?;
            // A slow file may keep the call here without any wait.
            call.limits.ask()?;
            let mut buffer = inner.buffer_with_room(&call, &mut state, self.written.load(Ordering::Relaxed))?;
            let read = buffer.fill_from(source).map_err(|error| Error::file("cannot read", from, &error))?;
            state.buffer = Some(buffer);
            if read == 0 {
                return Ok(());
            }
            self.written.fetch_add(read as u64, Ordering::Relaxed);
        }
    }

    /// Returns when all that was written so far is uploaded. Publishes nothing.
    pub fn flush(&self) -> Result<()> {
        self.reporting(|| self.flush_all())
    }

    fn flush_all(&self) -> Result<()> {
        let (inner, call) = self.begin()?;
        let mut state = inner.take_open(&self.url)?;
        inner.upload_buffer(&call, &mut state).map_err(|error| inner.remember(error))?;
        let ended = inner.uploads.wait_all(&call.limits);
        ended.map_err(|error| if call.limits.is_interrupted() { inner.remember(error) } else { error })
    }

    /// Publishes the blob. A second call returns the same result.
    pub fn close(&self) -> Result<()> {
        let progress = self.progress()?;
        let written = self.written.load(Ordering::Relaxed);
        progress.during(
            progress::UNKNOWN,
            || self.publish(),
            |result, before| match result {
                Ok(()) => (written, written),
                Err(_) => (before, progress::UNKNOWN),
            },
        )
    }

    /// Calls `callback` on the writing thread with the number of bytes that were uploaded, and the total, which is
    /// `u64::MAX` (unknown) until the blob is closed. `None` removes the callback.
    pub fn set_progress(&self, callback: Option<Arc<dyn Fn(u64, u64) + Send + Sync>>) -> Result<()> {
        self.progress()?.set(callback);
        Ok(())
    }

    pub(crate) fn progress(&self) -> Result<&Arc<Progress>> {
        Ok(&self.inner.get()?.progress)
    }

    fn reporting(&self, call: impl FnOnce() -> Result<()>) -> Result<()> {
        let progress = self.progress()?;
        progress.during(progress::UNKNOWN, call, |_, _| (progress.landed(), progress::UNKNOWN))
    }

    fn publish(&self) -> Result<()> {
        check_may_block()?;
        let mut state = self.inner.get()?.take()?;
        if let Some(outcome) = &state.outcome {
            return outcome.clone();
        }
        let (inner, call) = self.begin()?;
        let outcome = inner.publish(&call, &mut state).map(|etag| {
            self.etag.get_or_init(|| etag);
        });
        let outcome = outcome.map_err(|error| error.context(format!("{} was not published", self.url)));
        inner.uploads.abort();
        state.outcome = Some(outcome.clone());
        outcome
    }

    /// Makes running and later calls fail with `Status::Cancelled`: a cancelled writer never publishes. Returns at
    /// once, and may be called from any thread.
    pub fn cancel(&self) {
        // In a forked child, no call of the parent is running.
        if let Ok(inner) = self.inner.get() {
            inner.core.cancel();
        }
    }

    /// The number of bytes written so far.
    pub fn position(&self) -> Result<u64> {
        self.inner.get()?.core.check_cancelled()?;
        Ok(self.written.load(Ordering::Relaxed))
    }

    /// The ETag of the published blob; "" until `close` has succeeded.
    pub fn etag(&self) -> &str {
        self.etag.get().map_or("", String::as_str)
    }

    /// The blob's URL without query.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn begin(&self) -> Result<(&WriterInner, Call)> {
        check_may_block()?;
        let inner = self.inner.get()?;
        Ok((inner, inner.call().map_err(|error| error.context(&self.url))?))
    }
}

impl WriterInner {
    fn call(&self) -> Result<Call> {
        let mut call = self.core.call()?;
        call.limits.last_error = self.last_error.clone();
        call.moved = self.progress.counter();
        Ok(call)
    }

    /// Waits for the state. If the wait is interrupted, the writer fails for good: its caller believes that this call has
    /// been made.
    fn take(&self) -> Result<Taken<'_, WriterState>> {
        self.state.take().map_err(|error| self.remember(error))
    }

    fn take_open(&self, url: &str) -> Result<Taken<'_, WriterState>> {
        let state = self.take()?;
        if state.outcome.is_some() {
            return Err(Error::unsupported(format!("{url}: the writer is closed")));
        }
        self.uploads.check()?;
        Ok(state)
    }

    /// Makes every later call fail with `error` too: bytes are missing, so the blob must not be published.
    fn remember(&self, error: Error) -> Error {
        self.uploads.fail(error.clone());
        error
    }

    fn write(&self, call: &Call, state: &mut WriterState, mut data: &[u8], written: u64) -> Result<()> {
        let buffered = state.buffer.as_ref().map(|buffer| buffer.room() as u64);
        state.plan.check_capacity(written, data.len() as u64, buffered)?;
        while !data.is_empty() {
            call.limits.check()?;
            let is_full_or_none = state.buffer.as_ref().is_none_or(|buffer| buffer.room() == 0);
            let direct = if is_full_or_none { state.plan.direct_block_size(data.len() as u64) } else { None };
            if let Some(block_size) = direct {
                self.upload_buffer(call, state)?;
                data = self.upload_direct(call, state, data, block_size as usize)?;
                continue;
            }
            let mut buffer = self.buffer_with_room(call, state, written)?;
            data = buffer.fill(data);
            state.buffer = Some(buffer);
        }
        Ok(())
    }

    /// Returns the buffer to fill next. A full buffer is uploaded only here, when more data comes, so that a blob of
    /// one block needs only one request (Put Blob).
    fn buffer_with_room(&self, call: &Call, state: &mut WriterState, written: u64) -> Result<BlockBuffer> {
        if state.buffer.as_ref().is_some_and(|buffer| buffer.room() == 0) {
            self.upload_buffer(call, state)?;
        }
        match state.buffer.take() {
            Some(buffer) => Ok(buffer),
            None => {
                let sizes = state.plan.least_block_size(written)..=state.plan.block_size();
                self.uploads.buffer(self.core.budget()?, sizes, &call.limits)
            }
        }
    }

    fn upload_buffer(&self, call: &Call, state: &mut WriterState) -> Result<()> {
        let Some(buffer) = state.buffer.take() else { return Ok(()) };
        if buffer.len() == 0 {
            return Ok(());
        }
        let id = self.next_id(call, state)?;
        self.uploads.upload(call, &self.target, id, buffer)
    }

    /// Uploads whole blocks from the caller's memory and waits for them; returns the rest of `data`.
    fn upload_direct<'a>(
        &self,
        call: &Call,
        state: &mut WriterState,
        data: &'a [u8],
        block_size: usize,
    ) -> Result<&'a [u8]> {
        let (blocks, rest) = data.split_at(data.len() - data.len() % block_size);
        lend_bytes(blocks, |mut bytes| {
            let mut uploads = Vec::with_capacity(blocks.len() / block_size);
            while bytes.len() > 0 {
                let body = bytes.split_to(block_size).into_body();
                let id = self.next_id(call, state)?;
                let (call, target) = (call.clone(), self.target.clone());
                uploads.push(async move { operations::put_block(&call, &target, &id, &body).await });
            }
            Transfers::start(uploads, call.connections())?.wait(&call.limits)
        })?;
        Ok(rest)
    }

    fn next_id(&self, call: &Call, state: &mut WriterState) -> Result<String> {
        if state.ids.is_empty() && self.mode == WriteMode::Create {
            self.check_existence(call)?;
        }
        let id = state.plan.next_id()?;
        state.ids.push(id.clone());
        Ok(id)
    }

    /// Checks in the background, beside the first block, whether the blob exists, so that the writer need not upload
    /// all blocks before it fails.
    fn check_existence(&self, call: &Call) -> Result<()> {
        let (call, target, uploads) = (call.in_background(), self.target.clone(), self.uploads.clone());
        spawn(async move {
            // Some credentials may create blobs but not read them. Then only the condition of the commit is checked.
            if let Ok(true) = operations::exists(&call, &target).await {
                uploads.fail(Error::new(Status::AlreadyExists, format!("{} exists already", target.display())));
            }
        })
        .map(drop)
    }

    fn publish(&self, call: &Call, state: &mut WriterState) -> Result<String> {
        self.uploads.check()?;
        let (for_task, target, condition) = (call.clone(), self.target.clone(), state.condition.clone());
        if state.ids.is_empty() {
            let body = state.buffer.take().map(|buffer| self.uploads.freeze(buffer)).unwrap_or_default();
            let id = state.plan.next_id()?;
            return for_task
                .block_on(|call| async move { operations::put_blob(&call, &target, &condition, body, &id).await });
        }
        self.upload_buffer(call, state)?;
        self.uploads.wait_all(&call.limits)?;
        let ids = std::mem::take(&mut state.ids);
        for_task.block_on(|call| async move { operations::commit(&call, &target, &condition, &ids).await })
    }
}

impl EvictableHolder for WriterInner {
    /// Uploads the buffer that was begun, as a shorter block.
    fn flush(&self) -> bool {
        let Some(mut state) = self.state.try_take() else { return false };
        let length = state.buffer.as_ref().map_or(0, |buffer| buffer.len() as u64);
        if state.outcome.is_some() || state.buffer.is_none() || !self.uploads.has_room(length) {
            return false;
        }
        let Ok(call) = self.call() else { return false };
        // The writer's next call returns the error.
        self.upload_buffer(&call, &mut state).map_err(|error| self.remember(error)).is_ok()
    }
}

impl Drop for WriterInner {
    fn drop(&mut self) {
        self.uploads.abort();
    }
}
