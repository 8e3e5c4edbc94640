//! Memory that is kept for reuse. An allocator often gives large memory back to the kernel, and fresh memory costs a
//! page fault for every 4 KiB: as much CPU time as receiving data into it.
//!
//! | kept | size of one | at most | by | counted in a budget |
//! |---|---|---|---|---|
//! | memory of samples | 16 KiB to 8 MiB | 8 MiB | the process | no |
//! | segments of read caches | 256 KiB | 6 MiB | the process | no |
//! | buffers of a writer's blocks | a block | 4 blocks | the writer | yes |
//!
//! All of it lies in a [`FreeList`]. The process keeps memory until it is used again or newer memory displaces it. A
//! writer frees its buffers when it ends, and earlier when a budget needs their memory (`blob/block_uploads`).
//!
//! A forked child starts with empty lists, because an inherited lock may be held forever. It neither uses nor
//! frees the memory that its parent has kept.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::{Bytes, BytesMut};

use crate::error::Result;
use crate::sys::aligned_memory::AlignedMemory;
use crate::sys::fill_buffer::MemorySource;
use crate::sys::lock::lock;
use crate::sys::process::PerProcess;

/// How many bytes of samples' memory the process keeps, and the longest that one sample may have.
const MAX_SAMPLES: usize = 8 << 20;
/// The shortest memory of a sample that is kept. Allocators keep shorter memory themselves.
const MIN_SAMPLE: usize = 16 << 10;
/// The size of a segment. A chunk of a read cache has several, so that its first bytes can be read while more arrive.
const SEGMENT: usize = 256 << 10;
/// How many bytes of segments the process keeps.
const MAX_SEGMENTS: usize = 24 * SEGMENT;

/// Memory that a [`FreeList`] can keep.
pub(crate) trait Reusable {
    /// Its size in bytes.
    fn size(&self) -> usize;
}

impl Reusable for AlignedMemory {
    fn size(&self) -> usize {
        self.length()
    }
}

/// A segment.
impl Reusable for BytesMut {
    fn size(&self) -> usize {
        SEGMENT
    }
}

/// Memory that is not in use, in the order in which it was put here.
#[derive(Debug)]
pub(crate) struct FreeList<T> {
    kept: VecDeque<T>,
    bytes: usize,
}

impl<T> Default for FreeList<T> {
    fn default() -> Self {
        Self { kept: VecDeque::new(), bytes: 0 }
    }
}

impl<T: Reusable> FreeList<T> {
    /// Takes the memory that was put here last of all that `fits`. It is the most likely to be in the processor's
    /// cache.
    pub(crate) fn take(&mut self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let at = self.kept.iter().rposition(fits)?;
        let memory = self.kept.remove(at)?;
        self.bytes -= memory.size();
        Some(memory)
    }

    /// Keeps `memory`, and returns the oldest memory while `is_too_much` is true; it gets the number of kept pieces and
    /// their bytes. Drop the returned memory without holding a lock: freeing takes time.
    pub(crate) fn put(&mut self, memory: T, is_too_much: impl Fn(usize, usize) -> bool) -> Vec<T> {
        self.bytes += memory.size();
        self.kept.push_back(memory);
        let mut displaced = Vec::new();
        while is_too_much(self.kept.len(), self.bytes)
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.size();
            displaced.push(oldest);
        }
        displaced
    }

    /// Frees all memory; returns its size in bytes.
    pub(crate) fn clear(&mut self) -> usize {
        self.kept.clear();
        std::mem::take(&mut self.bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

static POOL: PerProcess<BufferPool> = PerProcess::for_static();

/// The memory that a process keeps for reuse.
#[derive(Default)]
pub(crate) struct BufferPool {
    samples: Mutex<FreeList<AlignedMemory>>,
    segments: Mutex<FreeList<BytesMut>>,
}

impl BufferPool {
    pub(crate) fn of_process() -> Result<&'static Self> {
        POOL.get_or_try_init(|| Ok(Self::default()))
    }

    /// An empty segment, of at most `length` bytes.
    pub(crate) fn take_segment(&self, length: usize) -> BytesMut {
        let kept = (length >= SEGMENT).then(|| lock(&self.segments).take(|_| true)).flatten();
        kept.unwrap_or_else(|| BytesMut::with_capacity(length.clamp(1, SEGMENT)))
    }

    /// Keeps the segments behind `parts`, except those that have other users.
    pub(crate) fn put_segments(&self, parts: impl Iterator<Item = Bytes>) {
        for part in parts {
            // Several parts may share a segment. Only the last part that comes here is its only owner.
            let Ok(mut segment) = part.try_into_mut() else { continue };
            segment.clear();
            if segment.try_reclaim(SEGMENT) {
                let displaced = lock(&self.segments).put(segment, |_, bytes| bytes > MAX_SEGMENTS);
                drop(displaced);
            }
        }
    }
}

/// The source of samples' memory.
pub(crate) struct SampleMemory;

impl SampleMemory {
    fn is_kept(length: usize) -> bool {
        (MIN_SAMPLE..=MAX_SAMPLES).contains(&length)
    }
}

impl MemorySource for SampleMemory {
    fn take(&self, length: usize) -> Option<AlignedMemory> {
        let pool = if Self::is_kept(length) { BufferPool::of_process().ok() } else { None };
        // A little more than needed is fine.
        let fits = |memory: &AlignedMemory| (length..=length + length / 16).contains(&memory.length());
        let kept = pool.and_then(|pool| lock(&pool.samples).take(fits));
        kept.or_else(|| AlignedMemory::allocate(length))
    }

    fn put(&self, memory: AlignedMemory) {
        let pool = if Self::is_kept(memory.length()) { BufferPool::of_process().ok() } else { None };
        let displaced = pool.map(|pool| lock(&pool.samples).put(memory, |_, bytes| bytes > MAX_SAMPLES));
        drop(displaced);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(length: usize) -> AlignedMemory {
        AlignedMemory::allocate(length).unwrap()
    }

    #[test]
    fn the_newest_memory_that_fits_is_taken() {
        let mut list = FreeList::default();
        let sizes = [100_000, 200_000, 100_000, 106_000];
        let starts = sizes.map(|size| {
            let memory = memory(size);
            let start = memory.start();
            assert!(list.put(memory, |_, bytes| bytes > MAX_SAMPLES).is_empty());
            start
        });
        let take = |list: &mut FreeList<AlignedMemory>, length: usize| {
            list.take(|memory| (length..=length + length / 16).contains(&memory.length()))
        };
        assert!(take(&mut list, 50_000).is_none() && take(&mut list, 106_001).is_none());
        let taken = [100_000, 100_000, 100_000].map(|length| take(&mut list, length).unwrap().start());
        assert_eq!(taken, [starts[3], starts[2], starts[0]]);
        assert_eq!((list.kept.len(), list.bytes), (1, 200_000));
    }

    #[test]
    fn the_oldest_memory_is_displaced_at_the_limit() {
        let mut list = FreeList::default();
        let mut put = |size| {
            let displaced = list.put(memory(size), |_, bytes| bytes > MAX_SAMPLES).len();
            (displaced, list.kept.len(), list.bytes)
        };
        assert!(!SampleMemory::is_kept(MIN_SAMPLE - 1) && !SampleMemory::is_kept(MAX_SAMPLES + 1));
        assert_eq!(put(MIN_SAMPLE).0, 0);
        assert_eq!(put(MAX_SAMPLES), (1, 1, MAX_SAMPLES));
        assert_eq!(put(MAX_SAMPLES / 2).0, 1);
        assert_eq!(put(MAX_SAMPLES / 2).0, 0);
        assert_eq!(put(MAX_SAMPLES / 2), (1, 2, MAX_SAMPLES));
    }

    #[test]
    fn a_segment_is_kept_when_its_last_part_comes_back() {
        let pool = BufferPool::default();
        let mut segment = pool.take_segment(10 * SEGMENT);
        segment.extend_from_slice(&[1; 1000]);
        let first = segment.split().freeze();
        segment.extend_from_slice(&[2; 1000]);
        let second = segment.split().freeze();
        let start = first.as_ptr();
        drop(segment);
        let other_user = second.clone();
        pool.put_segments([first, second].into_iter());
        assert!(lock(&pool.segments).is_empty(), "a part of it is in use");
        pool.put_segments([other_user].into_iter());
        assert_eq!(pool.take_segment(SEGMENT).as_ptr(), start);
        assert!(pool.take_segment(100).capacity() < SEGMENT);
    }
}
