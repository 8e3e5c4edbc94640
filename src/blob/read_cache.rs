//! The part of a blob that a reader keeps: pieces that arrived or are arriving, in memory as the network
//! brought them, so that a small read costs one copy and no request.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::core::limits::Limits;
use crate::error::{Error, Result};
use crate::memory::segment_pool::SegmentPool;
use crate::memory::{Holder, Reservation};
use crate::service::body_sink::Sink;
use crate::sys::caller_buffer::Destination;
use crate::sys::lock::lock;

/// A contiguous piece of a blob that one background request brings.
pub(crate) struct Chunk {
    range: Range<u64>,
    /// Those of the request that fills it.
    limits: Limits,
    state: Mutex<Arrival>,
    arrived: Condvar,
    pieces: Arc<SegmentPool>,
    /// Given back when nobody uses the bytes any more.
    _memory: Reservation,
}

#[derive(Default)]
struct Arrival {
    /// What came so far: the offset of each segment, ascending, without gaps.
    segments: Vec<(u64, Bytes)>,
    received: u64,
    /// The request's end: `Some(Ok)` when all came.
    ended: Option<Result<()>>,
    discarded: bool,
}

/// How a copy out of a chunk ended.
pub(crate) enum Copied {
    /// All of it is in place.
    Whole,
    /// The chunk was given up meanwhile: this range is still to be fetched, into what is left of the destination.
    Gone(Range<u64>, Destination),
}

impl Chunk {
    pub(crate) fn new(range: Range<u64>, limits: Limits, pieces: Arc<SegmentPool>, memory: Reservation) -> Arc<Self> {
        let (state, arrived) = (Mutex::default(), Condvar::new());
        Arc::new(Self { range, limits, state, arrived, pieces, _memory: memory })
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Arrival> {
        lock(&self.state)
    }

    fn discard(&self) {
        self.lock().discarded = true;
        self.arrived.notify_all();
    }

    fn has_failed(&self) -> bool {
        matches!(self.lock().ended, Some(Err(_)))
    }

    /// Copies `range`, which lies in this chunk, waiting for what has not arrived.
    pub(crate) fn copy(&self, range: Range<u64>, mut to: Destination, deadline: Option<Instant>) -> Result<Copied> {
        let mut at = range.start;
        let mut state = self.lock();
        loop {
            while at < range.end && at < self.range.start + state.received {
                let index = state.segments.partition_point(|(start, _)| *start <= at) - 1;
                let (start, segment) = &state.segments[index];
                let from = (at - start) as usize;
                let length = (segment.len() - from).min((range.end - at) as usize);
                let piece = segment.slice(from..from + length);
                // The network goes on filling the chunk while this thread copies.
                drop(state);
                at += to.fill(&piece) as u64;
                state = self.lock();
            }
            if at == range.end {
                return Ok(Copied::Whole);
            }
            if state.discarded {
                return Ok(Copied::Gone(at..range.end, to));
            }
            if let Some(result) = &state.ended {
                return Err(result.clone().err().unwrap_or_else(|| Error::internal("a chunk ended before its end")));
            }
            state = self.limits.wait_for(&self.arrived, state, deadline)?;
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.pieces.keep(state.segments.drain(..).map(|(_, segment)| segment));
    }
}

/// Fills a chunk from the network.
pub(crate) struct ChunkSink {
    chunk: Arc<Chunk>,
    room: BytesMut,
    /// What came and was not accepted yet.
    pending: Vec<Bytes>,
    pending_bytes: u64,
}

/// Less room than this is not worth a system call.
const LEAST_ROOM: usize = 16 << 10;

impl ChunkSink {
    pub(crate) fn new(chunk: Arc<Chunk>) -> Self {
        Self { chunk, room: BytesMut::new(), pending: Vec::new(), pending_bytes: 0 }
    }

    pub(crate) fn end(&self, result: Result<()>) {
        self.chunk.lock().ended = Some(result);
        self.chunk.arrived.notify_all();
    }
}

impl Sink for ChunkSink {
    fn room(&mut self) -> &mut (impl BufMut + Send) {
        if self.room.capacity() < LEAST_ROOM {
            let left = self.chunk.range.end - self.chunk.range.start - self.chunk.lock().received - self.pending_bytes;
            self.room = self.chunk.pieces.take(left as usize);
        }
        &mut self.room
    }

    fn received(&mut self) -> Result<()> {
        let piece = self.room.split().freeze();
        self.pending_bytes += piece.len() as u64;
        self.pending.push(piece);
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        let mut state = self.chunk.lock();
        for piece in self.pending.drain(..) {
            let at = self.chunk.range.start + state.received;
            state.received += piece.len() as u64;
            state.segments.push((at, piece));
        }
        drop(state);
        self.pending_bytes = 0;
        self.chunk.arrived.notify_all();
        Ok(())
    }

    fn reject(&mut self) {
        self.room.clear();
        self.chunk.pieces.keep(self.pending.drain(..));
        self.pending_bytes = 0;
    }
}

impl Drop for ChunkSink {
    fn drop(&mut self) {
        // Reached without an end when the task was aborted or panicked: nobody may wait for more.
        self.chunk.lock().ended.get_or_insert_with(|| Err(Error::internal("a read-ahead task ended early")));
        self.chunk.arrived.notify_all();
    }
}

/// A chunk in the window; dropped, it ends its request and gives its memory back once nobody reads from it.
pub(crate) struct Held {
    pub(crate) chunk: Arc<Chunk>,
    pub(crate) request: AbortHandle,
    pub(crate) last_used: u64,
}

impl Held {
    fn size(&self) -> u64 {
        self.chunk.range.end - self.chunk.range.start
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // First, so that whoever waits hears that it was given up rather than that it failed.
        self.chunk.discard();
        self.request.abort();
    }
}

/// A part of a read: from a chunk, or still to be fetched.
pub(crate) enum Piece {
    Kept(Arc<Chunk>, Range<u64>),
    Missing(Range<u64>),
}

/// A reader's chunks, disjoint and ascending.
pub(crate) struct Window {
    held: Vec<Held>,
    clock: u64,
    used: std::time::Instant,
}

impl Default for Window {
    fn default() -> Self {
        Self { held: Vec::new(), clock: 0, used: std::time::Instant::now() }
    }
}

impl Holder for Mutex<Window> {
    fn idle_since(&self) -> Option<std::time::Instant> {
        let window = self.try_lock().ok()?;
        (!window.held.is_empty()).then_some(window.used)
    }

    fn give_up(&self, bytes: u64) -> u64 {
        let Ok(mut window) = self.try_lock() else { return 0 };
        let mut freed = 0;
        while freed < bytes {
            match window.drop_oldest(&(0..0)) {
                0 => break,
                more => freed += more,
            }
        }
        freed
    }
}

impl Window {
    pub(crate) fn insert(&mut self, mut held: Held) {
        self.clock += 1;
        held.last_used = self.clock;
        let at = self.held.partition_point(|other| other.chunk.range.start < held.chunk.range.start);
        self.held.insert(at, held);
    }

    pub(crate) fn clear(&mut self) {
        self.held.clear();
    }

    /// Whether the blob's first bytes are here and are these.
    pub(crate) fn begins_with(&self, magic: &[u8]) -> bool {
        let first = self.held.first().map(|held| &held.chunk).filter(|chunk| chunk.range.start == 0);
        first.is_some_and(|chunk| chunk.lock().segments.first().is_some_and(|(_, bytes)| bytes.starts_with(magic)))
    }

    /// Divides `range` into what is here and what is not, in order. Chunks whose request failed are forgotten first, so
    /// that they are asked for anew.
    pub(crate) fn plan(&mut self, range: Range<u64>) -> Vec<Piece> {
        self.held.retain(|held| !held.chunk.has_failed());
        let mut pieces = Vec::new();
        let mut at = range.start;
        self.clock += 1;
        self.used = std::time::Instant::now();
        let first = self.held.partition_point(|held| held.chunk.range.end <= at);
        for held in &mut self.held[first..] {
            let kept = held.chunk.range();
            if kept.start >= range.end {
                break;
            }
            if at < kept.start {
                pieces.push(Piece::Missing(at..kept.start));
            }
            let end = kept.end.min(range.end);
            pieces.push(Piece::Kept(held.chunk.clone(), at.max(kept.start)..end));
            held.last_used = self.clock;
            at = end;
        }
        if at < range.end {
            pieces.push(Piece::Missing(at..range.end));
        }
        pieces
    }

    /// The stretch without chunks that begins at or after `at`; its end is `limit` when nothing follows.
    pub(crate) fn next_gap(&self, at: u64, limit: u64) -> Range<u64> {
        let mut start = at;
        let first = self.held.partition_point(|held| held.chunk.range.end <= at);
        for held in &self.held[first..] {
            if held.chunk.range.start > start {
                return start.min(limit)..held.chunk.range.start.min(limit);
            }
            start = held.chunk.range.end;
        }
        start.min(limit)..limit
    }

    /// Where the chunk before `at` ends; 0 when there is none.
    pub(crate) fn end_before(&self, at: u64) -> u64 {
        let after = self.held.partition_point(|held| held.chunk.range.end <= at);
        after.checked_sub(1).map_or(0, |index| self.held[index].chunk.range.end)
    }

    /// Lets go of what lies wholly before `at`.
    pub(crate) fn drop_before(&mut self, at: u64) {
        self.held.retain(|held| held.chunk.range.end > at);
    }

    /// Lets go of what was not used for longest, until at most `limit` bytes are held; spares `wanted`.
    pub(crate) fn shrink(&mut self, limit: u64, wanted: &Range<u64>) {
        let mut total: u64 = self.held.iter().map(Held::size).sum();
        while total > limit {
            match self.drop_oldest(wanted) {
                0 => return,
                freed => total -= freed,
            }
        }
    }

    /// Lets go of the chunk that was not used for longest and lies outside of `wanted`; gives its size.
    pub(crate) fn drop_oldest(&mut self, wanted: &Range<u64>) -> u64 {
        let spared = |held: &Held| held.chunk.range.start < wanted.end && held.chunk.range.end > wanted.start;
        let candidates = self.held.iter().enumerate().filter(|(_, held)| !spared(held));
        match candidates.min_by_key(|(_, held)| held.last_used) {
            Some((index, _)) => self.held.remove(index).size(),
            None => 0,
        }
    }
}
