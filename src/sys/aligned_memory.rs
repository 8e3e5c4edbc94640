//! Memory with the alignment of tensors.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

/// The alignment of LibTorch's CPU memory in bytes: a cache line.
pub(super) const ALIGNMENT: usize = 64;

/// Owns uninitialised memory, aligned to [`ALIGNMENT`].
#[derive(Debug)]
pub(crate) struct AlignedMemory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it is the only owner of its memory, which any thread may free.
unsafe impl Send for AlignedMemory {}

impl AlignedMemory {
    /// Fresh memory for `length` bytes; `None` when there is none, or `length` is 0.
    pub(crate) fn allocate(length: usize) -> Option<Self> {
        let layout = Layout::from_size_align(length, ALIGNMENT).ok().filter(|layout| layout.size() > 0)?;
        // SAFETY: the layout's size is not 0.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        Some(Self { start, layout })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The size of the memory in bytes.
    pub(crate) fn length(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for AlignedMemory {
    fn drop(&mut self) {
        // SAFETY: `allocate` allocated it with this layout, and it has no other owner.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
