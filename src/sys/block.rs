//! Memory of the library's own that the network fills and that is then given away whole: had once, at its final size,
//! and aligned as tensors want it.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::caller_buffer::Destination;
use super::spare::{ALIGNMENT, Memory};
use crate::error::{Error, Result};

/// Memory that is being filled, shared by those who fill parts of it.
#[derive(Debug)]
pub(crate) struct Block {
    start: NonNull<u8>,
    length: usize,
    /// What `start` lies in; none for an empty block.
    memory: Option<Memory>,
    /// How many bytes nobody has reported as filled yet.
    missing: AtomicUsize,
}

// SAFETY: a Block gives out its bytes in disjoint parts to write, and to read only when all are written.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// An empty block's address: aligned, and as good as any since nothing is there to be read.
#[repr(align(64))]
struct Nothing([u8; ALIGNMENT]);
static NOTHING: Nothing = Nothing([0; ALIGNMENT]);

impl Block {
    /// Memory for `length` bytes, and the right to write all of it.
    pub(crate) fn new(length: u64) -> Result<(Arc<Self>, Part)> {
        let too_large = || Error::out_of_memory(usize::try_from(length).unwrap_or(usize::MAX));
        let length = usize::try_from(length).map_err(|_| too_large())?;
        let memory = match length {
            0 => None,
            _ => Some(Memory::new(length).ok_or_else(too_large)?),
        };
        let start = memory.as_ref().map_or(NonNull::from(&NOTHING.0).cast(), Memory::start);
        let block = Arc::new(Self { start, length, memory, missing: AtomicUsize::new(length) });
        // SAFETY: the memory is this block's alone, nobody else has a Destination in it, and the Part keeps it alive.
        let to = unsafe { Destination::new(start.as_ptr(), length) };
        Ok((block.clone(), Part { to, block }))
    }

    /// The bytes, if all of them have arrived.
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
            memory.keep();
        }
    }
}

/// A part of a block that one task may write. It keeps the memory alive, whatever becomes of the others.
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

    /// Takes note that `count` more bytes were written.
    pub(crate) fn wrote(&self, count: usize) {
        // Nothing asks for the bytes before all parts have been written, so this cannot fall below 0.
        self.block.missing.fetch_sub(count, Ordering::Release);
    }
}

/// A block whose bytes have all arrived; they never change any more.
#[derive(Clone, Debug)]
pub(crate) struct Filled(Arc<Block>);

impl Filled {
    /// A block of its own with the same bytes.
    pub(crate) fn duplicate(&self) -> Result<Self> {
        let (block, mut part) = Block::new(self.len() as u64)?;
        let written = part.to.fill(self);
        part.wrote(written);
        block.filled()
    }
}

impl Deref for Filled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: all bytes were written before `filled` made this, and nothing writes any more.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_shows_its_bytes_once_all_are_there() {
        let (block, mut rest) = Block::new(5).unwrap();
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
    fn the_memory_of_a_block_serves_the_next_one() {
        let (first, _) = Block::new(100_000).unwrap();
        let start = first.start;
        drop(first);
        // Whoever asks the allocator has to look elsewhere.
        let _others: Vec<_> = (0..10).map(|_| vec![1_u8; 100_000]).collect();
        let (second, mut part) = Block::new(99_000).unwrap();
        assert_eq!(second.start, start);
        assert_eq!(part.destination().len(), 99_000, "what the next one has not asked for is not its to write");
    }

    #[test]
    fn nothing_is_aligned_too_and_too_much_is_an_error() {
        let (block, _) = Block::new(0).unwrap();
        let filled = block.filled().unwrap();
        assert!(filled.is_empty() && filled.as_ptr().align_offset(ALIGNMENT) == 0);
        for length in [u64::MAX, i64::MAX as u64] {
            assert_eq!(Block::new(length).unwrap_err().status(), crate::Status::OutOfMemory);
        }
    }
}
