//! One version of a blob (or of a part of it) with a cache. Plans which bytes of a read are copied from the cache,
//! which are fetched, and how much is read ahead, and carries the plan out.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::blob::read_cache::{CachedChunk, Chunk, ChunkSink, Copied, ReadCache, ReadPart};
use crate::blob::read_pattern::{CHUNK, MAX_AHEAD, Pattern, TAIL, is_in_tail};
use crate::core::parallel::Transfers;
use crate::core::runtime::spawn;
use crate::error::Result;
use crate::memory::buffer_pool::BufferPool;
use crate::memory::{Budget, EvictableHolder, IDLE, Registration};
use crate::service::body_sink::RangeBody;
use crate::service::client_core::Call;
use crate::service::ranged_get::{fetch, fetch_parts};
use crate::service::version::Version;
use crate::sys::caller_buffer::Destination;
use crate::sys::lock::lock;
use crate::url::Target;

/// Gaps of at least this many bytes are fetched straight into the caller's memory; smaller ones through the cache.
const DIRECT: u64 = 1 << 20;
/// How many bytes stay cached behind a sequential reader, for small steps back.
const KEPT_BEHIND: u64 = 2 * CHUNK;
/// The maximum number of bytes in the cache: read-ahead, bytes behind the reader, the tail, and the chunks at both
/// edges.
const MAX_CACHED: u64 = MAX_AHEAD + KEPT_BEHIND + TAIL + 2 * CHUNK;
/// The first bytes of a zip archive, the format that `torch::save` writes.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// A part of a blob, and the cache of its bytes. Positions are relative to the beginning of the part.
pub(super) struct CachedBlob {
    target: Arc<Target>,
    version: Arc<Version>,
    /// Where the part begins in the blob.
    base: u64,
    size: u64,
    cache: Arc<Mutex<ReadCache>>,
    budget: Arc<Budget>,
    buffers: &'static BufferPool,
    /// Lets the budget evict cached chunks.
    _registered: Registration,
}

impl CachedBlob {
    /// Makes an empty cache for the byte range `part` of the blob.
    pub(super) fn new(
        target: Arc<Target>,
        version: Arc<Version>,
        part: &Range<u64>,
        budget: &Arc<Budget>,
    ) -> Result<Self> {
        let cache: Arc<Mutex<ReadCache>> = Arc::default();
        let holder: Arc<dyn EvictableHolder> = cache.clone();
        Ok(Self {
            target,
            version,
            base: part.start,
            size: part.end - part.start,
            cache,
            budget: budget.clone(),
            buffers: BufferPool::of_process()?,
            _registered: budget.register(Arc::downgrade(&holder)),
        })
    }

    /// How many bytes the part has.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Caches `range` of the blob, whose bytes arrive in `body`, if the budget allows it.
    pub(super) fn cache_first(&self, call: &Call, range: &Range<u64>, body: RangeBody) -> Result<()> {
        let range = range.start - self.base..range.end - self.base;
        self.fetch_chunk(&mut self.lock(), call, range, Some(body), IDLE).map(drop)
    }

    /// Drops all cached bytes, and ends the requests for more.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// The range that a read of `length` bytes at `start` covers; it ends at the end of the part at the latest.
    pub(super) fn clip(&self, start: u64, length: usize) -> Range<u64> {
        let end = start.saturating_add(length as u64).min(self.size);
        start.min(end)..end
    }

    /// Plans the next read of a sequence whose history is `pattern`: starts the requests for small gaps and for
    /// read-ahead, and returns the parts of `range` in order.
    pub(super) fn plan_next(&self, call: &Call, range: &Range<u64>, pattern: &mut Pattern) -> Result<Vec<ReadPart>> {
        let mut cache = self.lock();
        pattern.observe(range, self.size, || cache.begins_with(ZIP_MAGIC));
        if pattern.ahead() > 0 && !is_in_tail(range.start, self.size) {
            cache.drop_before(range.start.saturating_sub(KEPT_BEHIND));
        }
        let mut parts = cache.split(range.clone());
        let small_gap = |part: &ReadPart| match part {
            ReadPart::Missing(gap) if gap.end - gap.start < DIRECT => Some(gap.clone()),
            _ => None,
        };
        let small_gaps: Vec<_> = parts.iter().filter_map(small_gap).collect();
        for gap in &small_gaps {
            self.fetch_around(&mut cache, call, gap, range, pattern)?;
        }
        if !small_gaps.is_empty() {
            parts = cache.split(range.clone());
        }
        self.read_ahead(&mut cache, call, pattern)?;
        cache.shrink(MAX_CACHED, &(range.start..range.end + pattern.ahead()));
        Ok(parts)
    }

    /// The parts of `range` in order, for a read that is no part of a sequence.
    pub(super) fn plan_single(&self, range: &Range<u64>) -> Vec<ReadPart> {
        self.lock().split(range.clone())
    }

    /// Reads all parts into `to`: fetches the missing parts in parallel, straight from the network, while this thread
    /// copies the cached parts.
    pub(super) fn read(&self, call: &Call, parts: Vec<ReadPart>, mut to: Destination) -> Result<()> {
        let (mut cached, mut missing) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                ReadPart::Cached(chunk, range) => {
                    let to = to.split_to((range.end - range.start) as usize);
                    cached.push((chunk, range, to));
                }
                ReadPart::Missing(range) => {
                    let to = to.split_to((range.end - range.start) as usize);
                    missing.push((range, to));
                }
            }
        }
        let transfers = self.fetch_missing(call, missing)?;
        let copied = copy_cached(call, cached);
        if let (Some(transfers), Err(_)) = (&transfers, &copied) {
            transfers.cancel();
        }
        let fetched = transfers.map_or(Ok(()), |transfers| transfers.wait(&call.limits));
        let discarded = copied?;
        fetched?;
        self.fetch_missing(call, discarded)?.map_or(Ok(()), |transfers| transfers.wait(&call.limits))
    }

    fn lock(&self) -> MutexGuard<'_, ReadCache> {
        lock(&self.cache)
    }

    fn in_blob(&self, range: &Range<u64>) -> Range<u64> {
        self.base + range.start..self.base + range.end
    }

    fn fetch_missing(&self, call: &Call, missing: Vec<(Range<u64>, Destination)>) -> Result<Option<Transfers>> {
        if missing.is_empty() {
            return Ok(None);
        }
        let mut fetches = Vec::new();
        for (range, mut to) in missing {
            let range = self.in_blob(&range);
            let nothing_yet = range.start..range.start;
            let mut sink = |part: &Range<u64>| to.split_to((part.end - part.start) as usize);
            fetches.extend(fetch_parts(call, &self.target, &self.version, range, nothing_yet, None, &mut sink));
        }
        Transfers::start(fetches, call.connections()).map(Some)
    }

    /// Starts the request of a chunk that covers a small gap. When memory is short, it drops chunks that were read
    /// before, and then makes the chunk smaller. Without any memory the gap stays, and is fetched without the cache.
    fn fetch_around(
        &self,
        cache: &mut ReadCache,
        call: &Call,
        gap: &Range<u64>,
        wanted: &Range<u64>,
        pattern: &Pattern,
    ) -> Result<()> {
        let mut chunk = self.chunk_around(cache, gap, pattern);
        while !self.fetch_chunk(cache, call, chunk.clone(), None, Duration::ZERO)? {
            if cache.drop_oldest(wanted) > 0 {
                continue;
            }
            let half = (chunk.end - chunk.start) / 2;
            if half < gap.end - gap.start {
                break;
            }
            chunk = gap.start..(gap.start + half).min(chunk.end);
        }
        Ok(())
    }

    /// The chunk to fetch for a small gap: the whole tail, or as much as the pattern suggests.
    fn chunk_around(&self, cache: &ReadCache, gap: &Range<u64>, pattern: &Pattern) -> Range<u64> {
        let size = self.size;
        let limit = cache.next_gap(gap.start, size).end;
        if is_in_tail(gap.start, size) {
            return size.saturating_sub(TAIL).max(cache.end_before(gap.start))..limit;
        }
        gap.start..(gap.start + pattern.window()).max(gap.end).min(limit)
    }

    /// Starts the requests for bytes beyond the reads so far. They are for whole chunks, or for the rest of a gap,
    /// so that small reads do not make small requests.
    fn read_ahead(&self, cache: &mut ReadCache, call: &Call, pattern: &Pattern) -> Result<()> {
        if pattern.ahead() == 0 {
            return Ok(());
        }
        let mut at = pattern.next();
        let limit = at.saturating_add(pattern.ahead()).min(self.size);
        loop {
            let gap = cache.next_gap(at, self.size);
            let end = (gap.start + CHUNK).min(gap.end);
            if gap.is_empty() || end > limit || !self.fetch_chunk(cache, call, gap.start..end, None, IDLE)? {
                return Ok(());
            }
            at = end;
        }
    }

    /// Starts a chunk's request if the budget has memory for it, after evicting memory that was not used for `idle`.
    /// `body` is the response that already brings the chunk's bytes, if there is one. Returns whether the request was
    /// started.
    fn fetch_chunk(
        &self,
        cache: &mut ReadCache,
        call: &Call,
        range: Range<u64>,
        body: Option<RangeBody>,
        idle: Duration,
    ) -> Result<bool> {
        let Some(memory) = self.budget.reserve(range.end - range.start, idle) else { return Ok(false) };
        let (call, target, version) = (call.in_background(), self.target.clone(), self.version.clone());
        let chunk = Chunk::new(range.clone(), call.limits.clone(), self.buffers, memory);
        let mut sink = ChunkSink::new(chunk.clone());
        let range = self.in_blob(&range);
        let request = spawn(async move {
            let result = fetch(&call, &target, &version, range, body, &mut sink).await;
            sink.end(result);
        })?;
        cache.insert(CachedChunk { chunk, request, last_used: 0 });
        Ok(true)
    }
}

/// Copies out of cached chunks; returns the ranges that must be fetched because their chunks were discarded meanwhile.
fn copy_cached(
    call: &Call,
    cached: Vec<(Arc<Chunk>, Range<u64>, Destination)>,
) -> Result<Vec<(Range<u64>, Destination)>> {
    let mut discarded = Vec::new();
    for (chunk, range, to) in cached {
        if let Copied::Discarded(rest, to) = chunk.copy(range, to, &call.limits)? {
            discarded.push((rest, to));
        }
    }
    Ok(discarded)
}
