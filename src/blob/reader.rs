//! A blob opened for reading, pinned to the version that was there at the time.

use std::io::SeekFrom;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::blob::read_cache::{Chunk, Copied, Piece, Window};
use crate::blob::read_pattern::{CHUNK, Pattern};
use crate::core::parallel::Transfers;
use crate::core::progress::Progress;
use crate::core::runtime::block_on;
use crate::error::{Error, Result};
use crate::memory::segment_pool::SegmentPool;
use crate::memory::{Holder, Registration};
use crate::service::client_core::{Call, ClientCore};
use crate::service::etag::quoted;
use crate::service::ranged_get::{self, Only, Opened, Version, fetch_parts};
use crate::sys::blocking::check_may_block;
use crate::sys::caller_buffer::{CallerBuffer, Destination};
use crate::sys::lock::lock;
use crate::sys::process::ProcessBound;
use crate::url::Target;

/// A blob opened for reading. Every byte is of the version that was current at the time (or that the URL
/// names); a blob replaced meanwhile gives `Status::Modified`, never a mix. Safe to share between threads.
pub struct BlobReader {
    url: String,
    version: Arc<Version>,
    size: u64,
    inner: ProcessBound<Inner>,
}

pub(super) struct Inner {
    pub(super) core: ClientCore,
    pub(super) target: Arc<Target>,
    pub(super) version: Arc<Version>,
    /// Where in the blob the part begins that is read; all other positions here are relative to it.
    base: u64,
    /// How many bytes the part has.
    pub(super) size: u64,
    cursor: Mutex<Cursor>,
    window: Arc<Mutex<Window>>,
    pub(super) pieces: Arc<SegmentPool>,
    /// Lets others have what the window holds, should they need it more.
    _registered: Registration,
    closed: AtomicBool,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Cursor {
    position: u64,
    pattern: Pattern,
}

impl BlobReader {
    pub(crate) fn open(core: &ClientCore, target: Target) -> Result<Self> {
        let opening = Opening::new(core, target)?;
        let Opening { call, target, first, .. } = opening.clone();
        let opened = block_on(async move { ranged_get::open(&call, &target, 0..first, &Only::Any).await })?;
        opening.reader(None, opened)
    }

    /// Opens a blob whose ETag is no longer `etag`; `None` when it still is.
    pub(crate) fn open_if_changed(core: &ClientCore, target: Target, etag: &str) -> Result<Option<Self>> {
        let etag = quoted(etag)?;
        let opening = Opening::new(core, target)?;
        let Opening { call, target, first, .. } = opening.clone();
        let opened = block_on(async move { ranged_get::open_if_changed(&call, &target, 0..first, &etag).await })?;
        opened.map(|opened| opening.reader(None, opened)).transpose()
    }

    /// Opens a part of a blob as if it were all of it, of `version` or else of the current one.
    pub(crate) fn open_part(
        core: &ClientCore,
        target: Target,
        part: Range<u64>,
        version: Option<Version>,
    ) -> Result<Self> {
        let only = version.map_or(Only::Any, Only::If);
        let opening = Opening::new(core, target)?;
        let (Opening { call, target, first, .. }, range) = (opening.clone(), part.clone());
        let opened = block_on(async move { open_part(&call, &target, range, first, &only).await })?;
        opening.reader(Some(part), opened)
    }

    /// Reads at the current position, which moves on. Fewer bytes than asked for come only at the end.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        self.read_into(CallerBuffer::from_slice(buffer))
    }

    /// Reads at `offset` without touching the position. Any number of threads may do so at once.
    ///
    /// What an earlier [`read`](Self::read) left in the window is used; beyond that exactly the bytes asked
    /// for are fetched.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.read_at_into(offset, CallerBuffer::from_slice(buffer))
    }

    /// Tells `callback` the bytes that reads have delivered so far and those of the blob, on the reading thread: at
    /// most ten times a second while a read waits, and at its end. `None` ends that.
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

    fn read_next(&self, inner: &Inner, to: CallerBuffer<'_>) -> Result<usize> {
        let call = inner.call()?;
        let mut cursor = inner.lock_cursor();
        let range = inner.clip(cursor.position, to.len());
        if range.is_empty() {
            return Ok(0);
        }
        let pieces = inner.plan(&call, &range, &mut cursor.pattern)?;
        to.lend(|to| inner.transfer(&call, pieces, to))?;
        cursor.position = range.end;
        Ok((range.end - range.start) as usize)
    }

    pub(crate) fn read_at_into(&self, offset: u64, to: CallerBuffer<'_>) -> Result<usize> {
        let inner = self.inner()?;
        inner.reporting(|| self.read_there(inner, offset, to))
    }

    fn read_there(&self, inner: &Inner, offset: u64, to: CallerBuffer<'_>) -> Result<usize> {
        let call = inner.call()?;
        let range = inner.clip(offset, to.len());
        if range.is_empty() {
            return Ok(0);
        }
        let pieces = inner.lock_window().plan(range.clone());
        to.lend(|to| inner.transfer(&call, pieces, to))?;
        Ok((range.end - range.start) as usize)
    }

    /// Moves the position; past the end is allowed, and reads there give no bytes.
    pub fn seek(&self, to: SeekFrom) -> Result<u64> {
        let inner = self.inner()?;
        let mut cursor = inner.lock_cursor();
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(offset) => cursor.position.checked_add_signed(offset),
            SeekFrom::End(offset) => inner.size.checked_add_signed(offset),
        };
        // Positions travel as signed 64-bit numbers in C and C++ streams.
        cursor.position = target.filter(|&position| i64::try_from(position).is_ok()).ok_or_else(|| {
            Error::invalid(format!(
                "{}: cannot seek to {to:?} from position {} of {} bytes",
                self.url, cursor.position, inner.size
            ))
        })?;
        Ok(cursor.position)
    }

    /// The current position in bytes.
    pub fn position(&self) -> Result<u64> {
        Ok(self.inner()?.lock_cursor().position)
    }

    /// The size in bytes, of the blob or of the part of it that was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The ETag of the version being read, quoted as the service gives it.
    pub fn etag(&self) -> &str {
        &self.version.etag
    }

    /// The blob's URL without query.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends reading and what is being read ahead.
    pub fn close(&self) -> Result<()> {
        let inner = self.inner.get()?;
        inner.closed.store(true, Ordering::Relaxed);
        inner.lock_window().clear();
        Ok(())
    }

    /// Ends what is running, and refuses what comes later, with `Status::Cancelled`, for good. Returns at once; from any
    /// thread.
    pub fn cancel(&self) {
        // Nothing of the parent's runs in a forked child.
        if let Ok(inner) = self.inner.get() {
            inner.core.cancel();
        }
    }

    fn inner(&self) -> Result<&Inner> {
        check_may_block()?;
        let inner = self.inner.get()?;
        inner.core.check_cancelled().map_err(|error| error.context(&self.url))?;
        match inner.closed.load(Ordering::Relaxed) {
            false => Ok(inner),
            true => Err(Error::unsupported(format!("{}: the reader is closed", self.url))),
        }
    }
}

impl Inner {
    fn call(&self) -> Result<Call> {
        let mut call = self.core.call()?;
        call.moved = self.progress.counter();
        Ok(call)
    }

    /// Reports a read: what it counted on the way gives way to what it delivered.
    fn reporting(&self, read: impl FnOnce() -> Result<usize>) -> Result<usize> {
        let size = self.size;
        self.progress.during(size, read, |result, before| (before + *result.as_ref().unwrap_or(&0) as u64, size))
    }

    fn lock_cursor(&self) -> MutexGuard<'_, Cursor> {
        lock(&self.cursor)
    }

    pub(super) fn lock_window(&self) -> MutexGuard<'_, Window> {
        lock(&self.window)
    }

    /// A range of what is read as a range of the blob.
    pub(super) fn in_blob(&self, range: &Range<u64>) -> Range<u64> {
        self.base + range.start..self.base + range.end
    }

    /// What of a read lies inside the blob.
    fn clip(&self, start: u64, length: usize) -> Range<u64> {
        let end = start.saturating_add(length as u64).min(self.size);
        start.min(end)..end
    }

    /// Brings all pieces into place: what is missing in parallel, straight from the network, while this
    /// thread copies what is kept.
    fn transfer(&self, call: &Call, pieces: Vec<Piece>, mut to: Destination) -> Result<()> {
        let (mut kept, mut missing) = (Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Kept(chunk, range) => {
                    let part = to.split_to((range.end - range.start) as usize);
                    kept.push((chunk, range, part));
                }
                Piece::Missing(range) => {
                    let part = to.split_to((range.end - range.start) as usize);
                    missing.push((range, part));
                }
            }
        }
        let direct = self.fetch_direct(call, missing)?;
        let copied = self.copy_kept(call, kept);
        if let (Some(direct), Err(_)) = (&direct, &copied) {
            direct.cancel();
        }
        // The caller's memory is lent to these until they have ended, whatever became of the copies.
        let fetched = direct.map_or(Ok(()), Transfers::wait);
        let given_up = copied?;
        fetched?;
        self.fetch_direct(call, given_up)?.map_or(Ok(()), Transfers::wait)
    }

    /// Copies out of chunks; gives back what has to be fetched after all.
    fn copy_kept(
        &self,
        call: &Call,
        kept: Vec<(Arc<Chunk>, Range<u64>, Destination)>,
    ) -> Result<Vec<(Range<u64>, Destination)>> {
        let mut gone = Vec::new();
        for (chunk, range, part) in kept {
            if let Copied::Gone(range, part) = chunk.copy(range, part, call.limits.deadline)? {
                gone.push((range, part));
            }
        }
        Ok(gone)
    }

    fn fetch_direct(&self, call: &Call, missing: Vec<(Range<u64>, Destination)>) -> Result<Option<Transfers>> {
        if missing.is_empty() {
            return Ok(None);
        }
        let mut parts = Vec::new();
        for (range, mut to) in missing {
            let range = self.in_blob(&range);
            let nothing_yet = range.start..range.start;
            let mut sink = |part: &Range<u64>| to.split_to((part.end - part.start) as usize);
            parts.extend(fetch_parts(call, &self.target, &self.version, range, nothing_yet, None, &mut sink));
        }
        Transfers::start(parts, call.connections()).map(Some)
    }
}

/// What the open functions have in common: the call that opens a blob, and the reader that it becomes.
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
        let version = Arc::new(version);
        let size = part.end - part.start;
        let window: Arc<Mutex<Window>> = Arc::default();
        let as_holder: Arc<dyn Holder> = window.clone();
        let registered = core.budget()?.register(Arc::downgrade(&as_holder));
        let url = target.display();
        let inner = Inner {
            core,
            target,
            version: version.clone(),
            base: part.start,
            size,
            cursor: Mutex::default(),
            window,
            pieces: SegmentPool::of_process()?,
            _registered: registered,
            closed: AtomicBool::new(false),
            progress: Arc::default(),
        };
        if let Some(body) = body {
            inner.keep_first(&call, first.start - part.start..first.end - part.start, body)?;
        }
        Ok(BlobReader { url, version, size, inner: ProcessBound::new(inner) })
    }
}

/// Opens a part of a blob with a request for its first bytes.
async fn open_part(call: &Call, target: &Target, part: Range<u64>, most: u64, only: &Only) -> Result<Opened> {
    if !part.is_empty() {
        return ranged_get::open_part(call, target, &part, most, only).await;
    }
    // No byte can be asked for, but the reader needs a version that it is pinned to.
    let version = ranged_get::probe_version(call, target, only).await?;
    match part.end > version.size {
        true => Err(ranged_get::past_the_end(target, &part, &format!("/{}", version.size))),
        false => Ok(Opened { version, first: part, body: None }),
    }
}

impl std::io::Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(BlobReader::read(self, buffer)?)
    }
}

impl std::io::Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        Ok(BlobReader::seek(self, to)?)
    }
}
