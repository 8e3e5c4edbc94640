//! The handle of a blob that is read: its position, its state, and how it is opened. The bytes come from `cached_blob`.

use std::io::SeekFrom;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::blob::cached_blob::CachedBlob;
use crate::blob::read_pattern::{CHUNK, Pattern};
use crate::core::progress::Progress;
use crate::core::turn::Turn;
use crate::error::{Error, Result};
use crate::service::client_core::{Call, ClientCore};
use crate::service::etag::quoted;
use crate::service::ranged_get::{self, Only, Opened};
use crate::service::version::Version;
use crate::sys::blocking::check_may_block;
use crate::sys::caller_buffer::CallerBuffer;
use crate::sys::process::ProcessBound;
use crate::url::Target;

/// A blob opened for reading. All bytes are of the version that was current when the blob was opened, or that the URL
/// names. Once the blob is replaced, reads fail with `Status::Modified`. Safe to share between threads.
pub struct BlobReader {
    url: String,
    version: Arc<Version>,
    size: u64,
    inner: ProcessBound<ReaderInner>,
}

struct ReaderInner {
    core: ClientCore,
    blob: CachedBlob,
    /// The position of the next read. Only the call that has `pattern` changes it.
    position: AtomicU64,
    /// The history of the reads at the position, for the read that is next.
    pattern: Turn<Pattern>,
    closed: AtomicBool,
    progress: Arc<Progress>,
}

impl BlobReader {
    pub(crate) fn open(core: &ClientCore, target: Target) -> Result<Self> {
        let opening = Opening::new(core, target)?;
        let Opening { call, target, first, .. } = opening.clone();
        let opened =
            call.block_on(|call| async move { ranged_get::open(&call, &target, 0..first, &Only::Any).await })?;
        opening.reader(None, opened)
    }

    /// Opens a blob whose ETag is no longer `etag`; `None` when it still is.
    pub(crate) fn open_if_changed(core: &ClientCore, target: Target, etag: &str) -> Result<Option<Self>> {
        let etag = quoted(etag)?;
        let opening = Opening::new(core, target)?;
        let Opening { call, target, first, .. } = opening.clone();
        let opened =
            call.block_on(|call| async move { ranged_get::open_if_changed(&call, &target, 0..first, &etag).await })?;
        opened.map(|opened| opening.reader(None, opened)).transpose()
    }

    /// Opens the byte range `part` of a blob; position 0 of the reader is the start of the range. Opens `version`, or
    /// the current version with `None`.
    pub(crate) fn open_part(
        core: &ClientCore,
        target: Target,
        part: Range<u64>,
        version: Option<Version>,
    ) -> Result<Self> {
        let only = version.map_or(Only::Any, Only::If);
        let opening = Opening::new(core, target)?;
        let (Opening { call, target, first, .. }, range) = (opening.clone(), part.clone());
        let opened = call.block_on(|call| async move { open_part(&call, &target, range, first, &only).await })?;
        opening.reader(Some(part), opened)
    }

    /// Reads at the current position and moves it. Returns the number of bytes, which is less than the buffer's only at
    /// the end of the blob.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        self.read_into(CallerBuffer::from_slice(buffer))
    }

    /// Reads at `offset` and leaves the position alone. Any number of threads may do so at once.
    ///
    /// Uses bytes that an earlier [`read`](Self::read) has cached, and fetches only the missing ones.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.read_at_into(offset, CallerBuffer::from_slice(buffer))
    }

    /// Calls `callback` on the reading thread with the number of bytes that reads have delivered so far and the blob's
    /// size: at most ten times a second while a read waits, and at its end. `None` removes the callback.
    pub fn set_progress(&self, callback: Option<Arc<dyn Fn(u64, u64) + Send + Sync>>) -> Result<()> {
        self.progress()?.set(callback);
        Ok(())
    }

    pub(crate) fn progress(&self) -> Result<&Arc<Progress>> {
        Ok(&self.inner.get()?.progress)
    }

    pub(crate) fn read_into(&self, to: CallerBuffer<'_>) -> Result<usize> {
        let inner = self.inner()?;
        inner.reporting(|| self.read_next(inner, to))
    }

    fn read_next(&self, inner: &ReaderInner, to: CallerBuffer<'_>) -> Result<usize> {
        let call = inner.call()?;
        let mut pattern = inner.pattern.take()?;
        let range = inner.blob.clip(inner.position.load(Ordering::Relaxed), to.len());
        if range.is_empty() {
            return Ok(0);
        }
        let parts = inner.blob.plan_next(&call, &range, &mut pattern)?;
        to.lend(|to| inner.blob.read(&call, parts, to))?;
        inner.position.store(range.end, Ordering::Relaxed);
        Ok((range.end - range.start) as usize)
    }

    pub(crate) fn read_at_into(&self, offset: u64, to: CallerBuffer<'_>) -> Result<usize> {
        let inner = self.inner()?;
        inner.reporting(|| self.read_single(inner, offset, to))
    }

    fn read_single(&self, inner: &ReaderInner, offset: u64, to: CallerBuffer<'_>) -> Result<usize> {
        let call = inner.call()?;
        let range = inner.blob.clip(offset, to.len());
        if range.is_empty() {
            return Ok(0);
        }
        let parts = inner.blob.plan_single(&range);
        to.lend(|to| inner.blob.read(&call, parts, to))?;
        Ok((range.end - range.start) as usize)
    }

    /// Moves the position and returns it. It may lie past the end, where reads return 0 bytes.
    pub fn seek(&self, to: SeekFrom) -> Result<u64> {
        let inner = self.inner()?;
        let _turn = inner.pattern.take()?;
        let position = inner.position.load(Ordering::Relaxed);
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(offset) => position.checked_add_signed(offset),
            SeekFrom::End(offset) => inner.blob.size().checked_add_signed(offset),
        };
        // C and C++ streams have signed 64-bit positions.
        let target = target.filter(|&target| i64::try_from(target).is_ok()).ok_or_else(|| {
            let size = inner.blob.size();
            Error::invalid(format!("{}: cannot seek to {to:?} from position {position} of {size} bytes", self.url))
        })?;
        inner.position.store(target, Ordering::Relaxed);
        Ok(target)
    }

    /// The current position in bytes.
    pub fn position(&self) -> Result<u64> {
        Ok(self.inner()?.position.load(Ordering::Relaxed))
    }

    /// The size of the blob, or of the part of it that was opened, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The ETag of the version that is read, in quotes as the service sends it.
    pub fn etag(&self) -> &str {
        &self.version.etag
    }

    /// The blob's URL without query.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends the requests that read ahead, and frees the cache. Later reads fail.
    pub fn close(&self) -> Result<()> {
        let inner = self.inner.get()?;
        inner.closed.store(true, Ordering::Relaxed);
        inner.blob.clear();
        Ok(())
    }

    /// Makes running and later calls fail with `Status::Cancelled`. Returns at once, and may be called from any thread.
    pub fn cancel(&self) {
        // In a forked child, no call of the parent is running.
        if let Ok(inner) = self.inner.get() {
            inner.core.cancel();
        }
    }

    fn inner(&self) -> Result<&ReaderInner> {
        check_may_block()?;
        let inner = self.inner.get()?;
        inner.core.check_cancelled().map_err(|error| error.context(&self.url))?;
        match inner.closed.load(Ordering::Relaxed) {
            false => Ok(inner),
            true => Err(Error::unsupported(format!("{}: the reader is closed", self.url))),
        }
    }
}

impl ReaderInner {
    fn call(&self) -> Result<Call> {
        let mut call = self.core.call()?;
        call.moved = self.progress.counter();
        Ok(call)
    }

    /// Runs a read with its progress reports. At its end the count of received bytes is replaced by the delivered ones.
    fn reporting(&self, read: impl FnOnce() -> Result<usize>) -> Result<usize> {
        let size = self.blob.size();
        self.progress.during(size, read, |result, before| (before + *result.as_ref().unwrap_or(&0) as u64, size))
    }
}

/// The common part of the open functions: the call that opens a blob, and the values that the reader keeps from it.
#[derive(Clone)]
struct Opening {
    core: ClientCore,
    call: Call,
    target: Arc<Target>,
    /// How many bytes the first request asks for.
    first: u64,
}

impl Opening {
    fn new(core: &ClientCore, target: Target) -> Result<Self> {
        let core = core.child();
        let call = core.call()?;
        let first = CHUNK.min(core.budget()?.fair_share());
        Ok(Self { core, call, target: Arc::new(target), first })
    }

    fn reader(self, part: Option<Range<u64>>, opened: Opened) -> Result<BlobReader> {
        let Self { core, call, target, .. } = self;
        let Opened { version, first, body } = opened;
        let part = part.unwrap_or(0..version.size);
        let (url, version) = (target.display(), Arc::new(version));
        let blob = CachedBlob::new(target, version.clone(), &part, core.budget()?)?;
        if let Some(body) = body {
            blob.cache_first(&call, &first, body)?;
        }
        let size = blob.size();
        let (position, pattern) = (AtomicU64::new(0), Turn::new(Pattern::default()));
        let (closed, progress) = (AtomicBool::new(false), Arc::default());
        let inner = ReaderInner { core, blob, position, pattern, closed, progress };
        Ok(BlobReader { url, version, size, inner: ProcessBound::new(inner) })
    }
}

/// Opens a part of a blob with a request for its first bytes.
async fn open_part(call: &Call, target: &Target, part: Range<u64>, most: u64, only: &Only) -> Result<Opened> {
    if !part.is_empty() {
        return ranged_get::open_part(call, target, &part, most, only).await;
    }
    // There is no byte to request, but the reader must be pinned to a version.
    let version = ranged_get::probe_version(call, target, only).await?;
    match part.end > version.size {
        true => Err(ranged_get::past_the_end(target, &part, &format!("/{}", version.size))),
        false => Ok(Opened { version, first: part, body: None }),
    }
}
