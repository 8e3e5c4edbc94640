//! Memory of the library's own that the network fills once and that then belongs to a sample: allocated at its final
//! size, and aligned as tensors want it.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::aligned_memory::{ALIGNMENT, AlignedMemory};
use super::caller_buffer::Destination;
use crate::error::{Error, Result};

/// Where the memory of blocks comes from and goes back to.
pub(crate) trait MemorySource: Sync {
    /// Memory of at least `length` bytes, which are not 0; `None` when there is none.
    fn take(&self, length: usize) -> Option<AlignedMemory>;

    /// Takes memory back.
    fn put(&self, memory: AlignedMemory);
}

/// Memory that is being filled. Those who fill parts of it share it.
pub(crate) struct Block {
    start: NonNull<u8>,
    length: usize,
    /// The memory that `start` lies in; `None` for an empty block.
    memory: Option<AlignedMemory>,
    source: &'static dyn MemorySource,
    /// How many bytes were not reported as written yet.
    missing: AtomicUsize,
}

// SAFETY: a Block gives out its bytes in disjoint parts to write, and to read only after all were written.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// The address of an empty block: aligned as every other.
#[repr(align(64))]
struct Aligned([u8; ALIGNMENT]);
static EMPTY: Aligned = Aligned([0; ALIGNMENT]);

impl Block {
    /// A block of `length` bytes with memory of `source`, and the right to write all of it.
    pub(crate) fn new(length: u64, source: &'static dyn MemorySource) -> Result<(Arc<Self>, Part)> {
        let too_large = || Error::out_of_memory(usize::try_from(length).unwrap_or(usize::MAX));
        let length = usize::try_from(length).map_err(|_| too_large())?;
        let memory = match length {
            0 => None,
            _ => Some(source.take(length).filter(|memory| memory.length() >= length).ok_or_else(too_large)?),
        };
        let start = memory.as_ref().map_or(NonNull::from(&EMPTY.0).cast(), AlignedMemory::start);
        let block = Arc::new(Self { start, length, memory, source, missing: AtomicUsize::new(length) });
        // SAFETY: only this block has the memory, no other Destination lies in it, and the Part keeps the block alive.
        let to = unsafe { Destination::new(start.as_ptr(), length) };
        Ok((block.clone(), Part { to, block }))
    }

    /// The bytes, if all of them were written.
    pub(crate) fn filled(self: Arc<Self>) -> Result<Filled> {
        match self.missing.load(Ordering::Acquire) {
            0 => Ok(Filled(self)),
            missing => Err(Error::internal(format!("{missing} bytes of {} have not arrived", self.length))),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.source.put(memory);
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Block({} bytes)", self.length)
    }
}

/// A part of a block that one task may write. It keeps the block's memory alive.
#[derive(Debug)]
pub(crate) struct Part {
    to: Destination,
    block: Arc<Block>,
}

impl Part {
    /// Splits off the first `length` bytes.
    pub(crate) fn split_to(&mut self, length: usize) -> Self {
        Self { to: self.to.split_to(length), block: self.block.clone() }
    }

    pub(crate) fn destination(&mut self) -> &mut Destination {
        &mut self.to
    }

    /// Reports that `count` more bytes were written.
    pub(crate) fn wrote(&self, count: usize) {
        // No byte is reported twice, so this cannot fall below 0.
        self.block.missing.fetch_sub(count, Ordering::Release);
    }
}

/// A block whose bytes were all written. They never change.
#[derive(Clone, Debug)]
pub(crate) struct Filled(Arc<Block>);

impl Filled {
    /// A copy with memory of its own.
    pub(crate) fn duplicate(&self) -> Result<Self> {
        let (block, mut part) = Block::new(self.len() as u64, self.0.source)?;
        let written = part.to.fill(self);
        part.wrote(written);
        block.filled()
    }
}

impl Deref for Filled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: all bytes were written before `filled` made this, and nothing writes to them afterwards.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::buffer_pool::SampleMemory;

    #[test]
    fn a_block_shows_its_bytes_after_all_were_written() {
        let (block, mut rest) = Block::new(5, &SampleMemory).unwrap();
        let mut head = rest.split_to(2);
        assert_eq!(rest.destination().fill(b"llo"), 3);
        rest.wrote(3);
        assert!(block.clone().filled().is_err());
        assert_eq!(head.destination().fill(b"he"), 2);
        head.wrote(2);
        let filled = block.filled().unwrap();
        let copy = filled.duplicate().unwrap();
        drop((head, rest));
        assert_eq!((&filled[..], &copy[..]), (&b"hello"[..], &b"hello"[..]));
        assert!(filled.as_ptr() != copy.as_ptr());
        assert_eq!(filled.as_ptr().align_offset(ALIGNMENT), 0);
    }

    #[test]
    fn the_memory_of_a_block_is_used_again() {
        let (first, _) = Block::new(100_000, &SampleMemory).unwrap();
        let start = first.start;
        drop(first);
        // They take the place of freed memory, so the same address means that the memory was kept.
        let _others: Vec<_> = (0..10).map(|_| vec![1_u8; 100_000]).collect();
        let (second, mut part) = Block::new(99_000, &SampleMemory).unwrap();
        assert_eq!(second.start, start);
        assert_eq!(part.destination().len(), 99_000, "a block is no longer than it was asked for");
    }

    #[test]
    fn an_empty_block_is_aligned_and_a_too_large_one_is_an_error() {
        let (block, _) = Block::new(0, &SampleMemory).unwrap();
        let filled = block.filled().unwrap();
        assert!(filled.is_empty() && filled.as_ptr().align_offset(ALIGNMENT) == 0);
        for length in [u64::MAX, i64::MAX as u64] {
            assert_eq!(Block::new(length, &SampleMemory).unwrap_err().status(), crate::Status::OutOfMemory);
        }
    }
}
