//! A reader's cache: chunks of a blob that have arrived or are arriving, so that a small read costs one copy and no
//! request.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::task::AbortHandle;

use crate::core::limits::Limits;
use crate::error::{Error, Result};
use crate::memory::buffer_pool::BufferPool;
use crate::memory::{EvictableHolder, Reservation};
use crate::service::body_sink::Sink;
use crate::sys::caller_buffer::Destination;
use crate::sys::lock::lock;

/// A range of a blob that one background request fetches.
pub(crate) struct Chunk {
    range: Range<u64>,
    /// The limits of the request that fills it.
    limits: Limits,
    state: Mutex<Arrival>,
    arrived: Condvar,
    buffers: &'static BufferPool,
    /// Released when the last user of the bytes has dropped the chunk.
    _memory: Reservation,
}

#[derive(Default)]
struct Arrival {
    /// What has arrived: the bytes with their offsets, ascending and without gaps.
    segments: Vec<(u64, Bytes)>,
    received: u64,
    request: RequestState,
}

/// The state of the request that fills a chunk.
#[derive(Default)]
enum RequestState {
    #[default]
    Running,
    Succeeded,
    Failed(Error),
    /// The cache has dropped the chunk and aborted the request.
    Discarded,
}

/// How a copy out of a chunk ended.
pub(crate) enum Copied {
    /// All bytes were copied.
    All,
    /// The cache has dropped the chunk. This range must be fetched into the rest of the destination.
    Discarded(Range<u64>, Destination),
}

impl Chunk {
    pub(crate) fn new(
        range: Range<u64>,
        limits: Limits,
        buffers: &'static BufferPool,
        memory: Reservation,
    ) -> Arc<Self> {
        let (state, arrived) = (Mutex::default(), Condvar::new());
        Arc::new(Self { range, limits, state, arrived, buffers, _memory: memory })
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Arrival> {
        lock(&self.state)
    }

    fn discard(&self) {
        self.lock().request = RequestState::Discarded;
        self.arrived.notify_all();
    }

    fn has_failed(&self) -> bool {
        matches!(self.lock().request, RequestState::Failed(_))
    }

    /// Records the end of the request, unless it has ended before, and wakes waiting readers.
    /// Ends the request with a result, unless it has one. The result is made only then.
    fn end(&self, result: impl FnOnce() -> Result<()>) {
        let mut state = self.lock();
        if let RequestState::Running = state.request {
            state.request = match result() {
                Ok(()) => RequestState::Succeeded,
                Err(error) => RequestState::Failed(error),
            };
        }
        drop(state);
        self.arrived.notify_all();
    }

    /// Copies `range`, which lies in this chunk, into `to`. Waits for bytes that have not arrived, within the limits of
    /// the reading call.
    pub(crate) fn copy(&self, range: Range<u64>, mut to: Destination, limits: &Limits) -> Result<Copied> {
        let mut at = range.start;
        let mut state = self.lock();
        loop {
            while at < range.end && at < self.range.start + state.received {
                let index = state.segments.partition_point(|(start, _)| *start <= at) - 1;
                let (start, bytes) = &state.segments[index];
                let from = (at - start) as usize;
                let length = (bytes.len() - from).min((range.end - at) as usize);
                let bytes = bytes.slice(from..from + length);
                // The network goes on filling the chunk while this thread copies.
                drop(state);
                at += to.fill(&bytes) as u64;
                state = self.lock();
            }
            if at == range.end {
                return Ok(Copied::All);
            }
            match &state.request {
                RequestState::Running => {}
                RequestState::Succeeded => return Err(Error::internal("a chunk ended before its end")),
                RequestState::Failed(error) => return Err(error.clone()),
                RequestState::Discarded => return Ok(Copied::Discarded(at..range.end, to)),
            }
            state = limits.wait_for(&self.arrived, &self.state, state, &self.limits)?;
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.buffers.put_segments(state.segments.drain(..).map(|(_, segment)| segment));
    }
}

/// Fills a chunk from the network.
pub(crate) struct ChunkSink {
    chunk: Arc<Chunk>,
    room: BytesMut,
    /// What has arrived and was not accepted yet.
    pending: Vec<Bytes>,
    pending_bytes: u64,
}

/// With less room than this, in bytes, a sink takes a new segment: a system call should bring more.
const MIN_ROOM: usize = 16 << 10;

impl ChunkSink {
    pub(crate) fn new(chunk: Arc<Chunk>) -> Self {
        Self { chunk, room: BytesMut::new(), pending: Vec::new(), pending_bytes: 0 }
    }

    pub(crate) fn end(&self, result: Result<()>) {
        self.chunk.end(|| result);
    }
}

impl Sink for ChunkSink {
    fn room(&mut self) -> &mut (impl BufMut + Send) {
        if self.room.capacity() < MIN_ROOM {
            let left = self.chunk.range.end - self.chunk.range.start - self.chunk.lock().received - self.pending_bytes;
            self.room = self.chunk.buffers.take_segment(left as usize);
        }
        &mut self.room
    }

    fn received(&mut self) -> Result<()> {
        let bytes = self.room.split().freeze();
        self.pending_bytes += bytes.len() as u64;
        self.pending.push(bytes);
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        let mut state = self.chunk.lock();
        for bytes in self.pending.drain(..) {
            let at = self.chunk.range.start + state.received;
            state.received += bytes.len() as u64;
            state.segments.push((at, bytes));
        }
        drop(state);
        self.pending_bytes = 0;
        self.chunk.arrived.notify_all();
        Ok(())
    }

    fn reject(&mut self) {
        self.room.clear();
        self.chunk.buffers.put_segments(self.pending.drain(..));
        self.pending_bytes = 0;
    }
}

impl Drop for ChunkSink {
    fn drop(&mut self) {
        // The task was aborted or has panicked if it did not call `end`. Readers must not wait for it.
        self.chunk.end(|| Err(Error::internal("a read-ahead task ended early")));
    }
}

/// A chunk in the cache. Dropping it ends its request; its memory is freed when no reader uses it any more.
pub(crate) struct CachedChunk {
    pub(crate) chunk: Arc<Chunk>,
    pub(crate) request: AbortHandle,
    pub(crate) last_used: u64,
}

impl CachedChunk {
    fn size(&self) -> u64 {
        self.chunk.range.end - self.chunk.range.start
    }
}

impl Drop for CachedChunk {
    fn drop(&mut self) {
        // Before the abort, so that a waiting reader sees a discarded chunk and not a failed one.
        self.chunk.discard();
        self.request.abort();
    }
}

/// A part of a read.
pub(crate) enum ReadPart {
    /// The range lies in this chunk.
    Cached(Arc<Chunk>, Range<u64>),
    /// The range must be fetched.
    Missing(Range<u64>),
}

/// A reader's chunks.
pub(crate) struct ReadCache {
    /// Disjoint and ascending.
    chunks: Vec<CachedChunk>,
    /// Counts the uses, for `CachedChunk::last_used`.
    clock: u64,
    used: std::time::Instant,
}

impl Default for ReadCache {
    fn default() -> Self {
        Self { chunks: Vec::new(), clock: 0, used: std::time::Instant::now() }
    }
}

impl EvictableHolder for Mutex<ReadCache> {
    fn idle_since(&self) -> Option<std::time::Instant> {
        let cache = self.try_lock().ok()?;
        (!cache.chunks.is_empty()).then_some(cache.used)
    }

    fn evict(&self, bytes: u64) -> u64 {
        let Ok(mut cache) = self.try_lock() else { return 0 };
        let mut freed = 0;
        while freed < bytes {
            match cache.drop_oldest(&(0..0)) {
                0 => break,
                more => freed += more,
            }
        }
        freed
    }
}

impl ReadCache {
    pub(crate) fn insert(&mut self, mut added: CachedChunk) {
        self.clock += 1;
        added.last_used = self.clock;
        let at = self.chunks.partition_point(|other| other.chunk.range.start < added.chunk.range.start);
        self.chunks.insert(at, added);
    }

    pub(crate) fn clear(&mut self) {
        self.chunks.clear();
    }

    /// Whether the blob's first bytes are cached and are `magic`.
    pub(crate) fn begins_with(&self, magic: &[u8]) -> bool {
        let first = self.chunks.first().map(|cached| &cached.chunk).filter(|chunk| chunk.range.start == 0);
        first.is_some_and(|chunk| chunk.lock().segments.first().is_some_and(|(_, bytes)| bytes.starts_with(magic)))
    }

    /// Splits `range` into parts that are cached and parts that are missing, in order. Drops chunks whose request
    /// failed first, so that they are requested again.
    pub(crate) fn split(&mut self, range: Range<u64>) -> Vec<ReadPart> {
        self.chunks.retain(|cached| !cached.chunk.has_failed());
        let mut parts = Vec::new();
        let mut at = range.start;
        self.clock += 1;
        self.used = std::time::Instant::now();
        let first = self.chunks.partition_point(|cached| cached.chunk.range.end <= at);
        for cached in &mut self.chunks[first..] {
            let kept = cached.chunk.range();
            if kept.start >= range.end {
                break;
            }
            if at < kept.start {
                parts.push(ReadPart::Missing(at..kept.start));
            }
            let end = kept.end.min(range.end);
            parts.push(ReadPart::Cached(cached.chunk.clone(), at.max(kept.start)..end));
            cached.last_used = self.clock;
            at = end;
        }
        if at < range.end {
            parts.push(ReadPart::Missing(at..range.end));
        }
        parts
    }

    /// The first range without chunks at or after `at`; it ends at `limit` when no chunk follows.
    pub(crate) fn next_gap(&self, at: u64, limit: u64) -> Range<u64> {
        let mut start = at;
        let first = self.chunks.partition_point(|cached| cached.chunk.range.end <= at);
        for cached in &self.chunks[first..] {
            if cached.chunk.range.start > start {
                return start.min(limit)..cached.chunk.range.start.min(limit);
            }
            start = cached.chunk.range.end;
        }
        start.min(limit)..limit
    }

    /// The end of the last chunk before `at`; 0 when there is none.
    pub(crate) fn end_before(&self, at: u64) -> u64 {
        let after = self.chunks.partition_point(|cached| cached.chunk.range.end <= at);
        after.checked_sub(1).map_or(0, |index| self.chunks[index].chunk.range.end)
    }

    /// Drops the chunks that end before `at`.
    pub(crate) fn drop_before(&mut self, at: u64) {
        self.chunks.retain(|cached| cached.chunk.range.end > at);
    }

    /// Drops the chunks that were not used for the longest time until at most `limit` bytes are cached. Keeps those
    /// that overlap `wanted`.
    pub(crate) fn shrink(&mut self, limit: u64, wanted: &Range<u64>) {
        let mut total: u64 = self.chunks.iter().map(CachedChunk::size).sum();
        while total > limit {
            match self.drop_oldest(wanted) {
                0 => return,
                freed => total -= freed,
            }
        }
    }

    /// Drops the chunk that was not used for the longest time and does not overlap `wanted`; returns its size.
    pub(crate) fn drop_oldest(&mut self, wanted: &Range<u64>) -> u64 {
        let is_wanted =
            |cached: &CachedChunk| cached.chunk.range.start < wanted.end && cached.chunk.range.end > wanted.start;
        let candidates = self.chunks.iter().enumerate().filter(|(_, cached)| !is_wanted(cached));
        match candidates.min_by_key(|(_, cached)| cached.last_used) {
            Some((index, _)) => self.chunks.remove(index).size(),
            None => 0,
        }
    }
}
