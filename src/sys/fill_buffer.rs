//! Memory of the library's own that the network fills once and that then belongs to a sample: allocated at its final
//! size, and aligned for tensors.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::aligned_memory::{ALIGNMENT, AlignedMemory};
use super::caller_buffer::{Destination, Owner};
use crate::error::{Error, Result};

/// Where the memory of buffers comes from and goes back to.
pub(crate) trait MemorySource: Sync {
    /// Memory of at least `length` bytes; `None` when there is none. `length` must not be 0.
    fn take(&self, length: usize) -> Option<AlignedMemory>;

    /// Takes back memory that `take` gave out.
    fn put(&self, memory: AlignedMemory);
}

/// Memory that is being filled. The destinations that fill parts of it share it.
pub(crate) struct FillBuffer {
    start: NonNull<u8>,
    length: usize,
    /// The memory that `start` lies in; `None` for an empty buffer.
    memory: Option<AlignedMemory>,
    source: &'static dyn MemorySource,
    /// How many bytes were not reported as written yet.
    missing: AtomicUsize,
}

// SAFETY: a FillBuffer gives out its bytes in disjoint parts to write, and to read only after all were written.
unsafe impl Send for FillBuffer {}
// SAFETY: as above.
unsafe impl Sync for FillBuffer {}

/// The address of an empty buffer. It is aligned like that of every other buffer.
#[repr(align(64))]
struct Aligned([u8; ALIGNMENT]);
static EMPTY: Aligned = Aligned([0; ALIGNMENT]);

impl FillBuffer {
    /// A buffer of `length` bytes with memory of `source`, and the destination that fills all of it.
    pub(crate) fn new(length: u64, source: &'static dyn MemorySource) -> Result<(Arc<Self>, Destination)> {
        let too_large = || Error::out_of_memory(usize::try_from(length).unwrap_or(usize::MAX));
        let length = usize::try_from(length).map_err(|_| too_large())?;
        let memory = match length {
            0 => None,
            _ => Some(source.take(length).filter(|memory| memory.length() >= length).ok_or_else(too_large)?),
        };
        let start = memory.as_ref().map_or(NonNull::from(&EMPTY.0).cast(), AlignedMemory::start);
        let buffer = Arc::new(Self { start, length, memory, source, missing: AtomicUsize::new(length) });
        // SAFETY: only this buffer has the memory, no other Destination lies in it, and this Destination keeps the
        // buffer alive.
        let to = unsafe { Destination::new(start.as_ptr(), length, Owner::Buffer(buffer.clone())) };
        Ok((buffer, to))
    }

    /// Counts `count` bytes that a destination has written and will not write again.
    pub(super) fn wrote(&self, count: usize) {
        self.missing.fetch_sub(count, Ordering::Release);
    }

    /// The bytes, if all of them were written.
    pub(crate) fn filled(self: Arc<Self>) -> Result<FilledBuffer> {
        match self.missing.load(Ordering::Acquire) {
            0 => Ok(FilledBuffer(self)),
            missing => Err(Error::internal(format!("{missing} bytes of {} have not arrived", self.length))),
        }
    }
}

impl Drop for FillBuffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.source.put(memory);
        }
    }
}

impl fmt::Debug for FillBuffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FillBuffer({} bytes)", self.length)
    }
}

/// A buffer whose bytes were all written. They never change.
#[derive(Clone, Debug)]
pub(crate) struct FilledBuffer(Arc<FillBuffer>);

impl FilledBuffer {
    /// A copy with memory of its own.
    pub(crate) fn duplicate(&self) -> Result<Self> {
        let (buffer, mut to) = FillBuffer::new(self.len() as u64, self.0.source)?;
        to.fill(self);
        to.mark();
        buffer.filled()
    }
}

impl Deref for FilledBuffer {
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
    fn a_buffer_shows_its_bytes_after_all_were_written() {
        let (buffer, mut rest) = FillBuffer::new(5, &SampleMemory).unwrap();
        let mut head = rest.split_to(2);
        assert_eq!(rest.fill(b"llo"), 3);
        rest.mark();
        assert!(buffer.clone().filled().is_err());
        assert_eq!(head.fill(b"he"), 2);
        assert!(buffer.clone().filled().is_err(), "bytes that may be written again do not count");
        head.mark();
        let filled = buffer.filled().unwrap();
        let copy = filled.duplicate().unwrap();
        drop((head, rest));
        assert_eq!((&filled[..], &copy[..]), (&b"hello"[..], &b"hello"[..]));
        assert!(filled.as_ptr() != copy.as_ptr());
        assert_eq!(filled.as_ptr().align_offset(ALIGNMENT), 0);
    }

    #[test]
    fn the_memory_of_a_buffer_is_used_again() {
        let (first, _) = FillBuffer::new(100_000, &SampleMemory).unwrap();
        let start = first.start;
        drop(first);
        // They take the place of freed memory, so the same address means that the memory was kept.
        let _others: Vec<_> = (0..10).map(|_| vec![1_u8; 100_000]).collect();
        let (second, to) = FillBuffer::new(99_000, &SampleMemory).unwrap();
        assert_eq!(second.start, start);
        assert_eq!(to.len(), 99_000, "a buffer has exactly the requested length");
    }

    #[test]
    fn an_empty_buffer_is_aligned_and_a_too_large_one_is_an_error() {
        let (buffer, _) = FillBuffer::new(0, &SampleMemory).unwrap();
        let filled = buffer.filled().unwrap();
        assert!(filled.is_empty() && filled.as_ptr().align_offset(ALIGNMENT) == 0);
        for length in [u64::MAX, i64::MAX as u64] {
            assert_eq!(FillBuffer::new(length, &SampleMemory).unwrap_err().status(), crate::Status::OutOfMemory);
        }
    }
}
