//! Memory of samples that were let go, for the next ones. An allocator may well give it back to the kernel between two
//! batches, and fresh memory costs a page fault for every 4 KiB: as much CPU time as receiving into it.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard};

use super::process::PerProcess;
use crate::sys::lock::lock;

/// What LibTorch aligns its own CPU memory to, which is a cache line.
pub(super) const ALIGNMENT: usize = 64;

/// How many bytes the process keeps, beside what the budget counts.
const MOST: usize = 8 << 20;
/// What is smaller is as soon had of the allocator.
const LEAST: usize = 16 << 10;

fn is_worth_keeping(length: usize) -> bool {
    (LEAST..=MOST).contains(&length)
}

/// What this process keeps. A child begins with nothing: the lock that it inherits may be held.
static SPARE: PerProcess<Mutex<Spare>> = PerProcess::for_static();

/// Aligned memory that belongs to whoever has this.
#[derive(Debug)]
pub(super) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it is the only one for its memory, which may be freed by any thread.
unsafe impl Send for Memory {}

impl Memory {
    /// Memory for `length` bytes, which are not 0, used before or fresh; `None` when there is none.
    pub(super) fn new(length: usize) -> Option<Self> {
        let spare = is_worth_keeping(length).then(Spare::lock).flatten();
        spare.and_then(|mut spare| spare.take(length)).or_else(|| Self::fresh(length))
    }

    fn fresh(length: usize) -> Option<Self> {
        let layout = Layout::from_size_align(length, ALIGNMENT).ok().filter(|layout| layout.size() > 0)?;
        // SAFETY: the layout's size is not 0.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        Some(Self { start, layout })
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Leaves it to the next one who needs about as much.
    pub(super) fn keep(self) {
        let spare = is_worth_keeping(self.layout.size()).then(Spare::lock).flatten();
        let over = spare.map(|mut spare| spare.put(self));
        // Freed when the lock is not held any more.
        drop(over);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `fresh` allocated it with this layout, and nobody else has it.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// What nobody uses, in the order in which it was let go.
#[derive(Default)]
struct Spare {
    kept: VecDeque<Memory>,
    bytes: usize,
}

impl Spare {
    fn lock() -> Option<MutexGuard<'static, Self>> {
        let spare = SPARE.get_or_try_init(|| Ok(Mutex::default())).ok()?;
        Some(lock(spare))
    }

    /// What was let go last, and is likely to be in the cache, of this length or a little more.
    fn take(&mut self, length: usize) -> Option<Memory> {
        let fits = |memory: &Memory| (length..=length + length / 16).contains(&memory.layout.size());
        let at = self.kept.iter().rposition(fits)?;
        let memory = self.kept.remove(at)?;
        self.bytes -= memory.layout.size();
        Some(memory)
    }

    /// Keeps it; what is too much then, the oldest first.
    fn put(&mut self, memory: Memory) -> Vec<Memory> {
        let size = memory.layout.size();
        self.kept.push_back(memory);
        self.bytes += size;
        let mut over = Vec::new();
        while self.bytes > MOST
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.layout.size();
            over.push(oldest);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_go_last_is_used_again_if_it_fits() {
        let mut spare = Spare::default();
        let sizes = [100_000, 200_000, 100_000, 106_000];
        let starts = sizes.map(|size| {
            let memory = Memory::fresh(size).unwrap();
            let start = memory.start();
            assert!(spare.put(memory).is_empty());
            start
        });
        assert!(spare.take(50_000).is_none() && spare.take(106_001).is_none());
        let taken = [100_000, 100_000, 100_000].map(|length| spare.take(length).unwrap().start());
        assert_eq!(taken, [starts[3], starts[2], starts[0]]);
        assert_eq!((spare.kept.len(), spare.bytes), (1, 200_000));
    }

    #[test]
    fn no_more_than_so_much_is_kept_and_the_oldest_goes_first() {
        let mut spare = Spare::default();
        let put = |spare: &mut Spare, size| spare.put(Memory::fresh(size).unwrap()).len();
        assert!(!is_worth_keeping(LEAST - 1) && !is_worth_keeping(MOST + 1));
        assert_eq!(put(&mut spare, LEAST), 0);
        assert_eq!(put(&mut spare, MOST), 1);
        assert_eq!((spare.kept.len(), spare.bytes), (1, MOST));
        assert_eq!(put(&mut spare, MOST / 2), 1);
        assert_eq!(put(&mut spare, MOST / 2), 0);
        assert_eq!(put(&mut spare, MOST / 2), 1);
        assert_eq!((spare.kept.len(), spare.bytes), (2, MOST));
    }
}
