//! Memory that belongs to the caller of a blocking call: received bytes are written into it, sent bytes are read from
//! it, both by tasks on other threads and without a copy.
//!
//! The compiler cannot see how long a task uses the memory. [`CallerBuffer::lend`], [`CallerBuffer::lend_all`] and
//! [`lend_bytes`] make it safe: they count the parts that they give out, and return only when all parts were dropped.
//! The transfers of a call have usually ended before that (see `core::parallel`), so this rarely waits.
//!
//! The memory may be uninitialised, so it is written through pointers and never seen as `&mut [u8]`.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::buf::UninitSlice;
use bytes::{BufMut, Bytes};

use crate::sys::fill_buffer::FillBuffer;
use crate::sys::lock::lock;

/// A caller's buffer to write into, for the time of one call.
#[derive(Debug)]
pub(crate) struct CallerBuffer<'a> {
    to: Destination,
    _borrowed: PhantomData<&'a mut [u8]>,
}

impl<'a> CallerBuffer<'a> {
    /// # Safety
    /// `start` must be valid for writes of `length` bytes, and nothing else may touch them, for the lifetime `'a`.
    pub(crate) unsafe fn new(start: *mut u8, length: usize) -> Self {
        // SAFETY: the caller's promise covers `'a`, and this destination is private: the parts that tasks get are
        // counted, and dropped when `lend` or `lend_all` returns.
        let to = unsafe { Destination::new(start, length, Owner::Caller) };
        Self { to, _borrowed: PhantomData }
    }

    pub(crate) fn from_slice(slice: &'a mut [u8]) -> Self {
        // SAFETY: the slice is borrowed for `'a`.
        unsafe { Self::new(slice.as_mut_ptr(), slice.len()) }
    }

    /// The number of bytes that are not filled yet.
    pub(crate) fn len(&self) -> usize {
        self.to.len()
    }

    /// Copies as many of `bytes` as fit, and returns that number.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        self.to.fill(bytes)
    }

    /// Runs `call` with the buffer as a destination that tasks may own. Returns when `call` has ended and all parts of
    /// the destination were dropped, also when `call` panics.
    pub(crate) fn lend<R>(self, call: impl FnOnce(Destination) -> R) -> R {
        let (part, _wait) = LentPart::first();
        call(Destination { owner: Owner::Lent { _part: part }, ..self.to })
    }

    /// Runs `call` with several buffers, each of which may be written more than once. Returns when `call` has ended and
    /// all parts of them were dropped, also when `call` panics.
    pub(crate) fn lend_all<R>(buffers: Vec<Self>, call: impl FnOnce(Vec<Loan>) -> R) -> R {
        let (parts, _wait): (Vec<_>, Vec<_>) = buffers.iter().map(|_| LentPart::first()).unzip();
        let loans = buffers.into_iter().zip(parts).map(|(buffer, part)| Loan { whole: buffer.to, part });
        call(loans.collect())
    }
}

/// Runs `call` with the bytes of `slice` as [`LentBytes`] that tasks may own. Returns when `call` has ended and all
/// parts of them were dropped, also when `call` panics.
pub(crate) fn lend_bytes<R>(slice: &[u8], call: impl FnOnce(LentBytes) -> R) -> R {
    let (part, _wait) = LentPart::first();
    call(LentBytes { start: slice.as_ptr(), length: slice.len(), part })
}

/// Counts the parts of one lent buffer.
#[derive(Debug)]
struct PartCount {
    parts: AtomicUsize,
    lock: Mutex<()>,
    all_dropped: Condvar,
}

/// One part in the count. A clone counts as another part; dropping it removes it.
#[derive(Debug)]
pub(super) struct LentPart(Arc<PartCount>);

impl LentPart {
    /// The first part of a buffer, and a guard whose drop waits until all parts were dropped.
    fn first() -> (Self, WaitForParts) {
        let count = PartCount { parts: AtomicUsize::new(1), lock: Mutex::new(()), all_dropped: Condvar::new() };
        let count = Arc::new(count);
        (Self(count.clone()), WaitForParts(count))
    }

    fn is_only_one(&self) -> bool {
        self.0.parts.load(Ordering::Acquire) == 1
    }
}

impl Clone for LentPart {
    fn clone(&self) -> Self {
        // A part exists, so nothing waits for the count to become 0 yet.
        self.0.parts.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl Drop for LentPart {
    fn drop(&mut self) {
        // What the tasks wrote is visible to the thread that sees the smaller count.
        if self.0.parts.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Take the lock: then a waiter that has seen the old count is already waiting.
            let _lock = lock(&self.0.lock);
            self.0.all_dropped.notify_all();
        }
    }
}

/// Waits in its drop until all parts were dropped.
struct WaitForParts(Arc<PartCount>);

impl Drop for WaitForParts {
    fn drop(&mut self) {
        let count = &self.0;
        if count.parts.load(Ordering::Acquire) > 0 {
            let guard = lock(&count.lock);
            drop(count.all_dropped.wait_while(guard, |()| count.parts.load(Ordering::Acquire) > 0));
        }
    }
}

/// A caller's buffer that one task may lend to others. After a failed try it may be lent again.
#[derive(Debug)]
pub(crate) struct Loan {
    whole: Destination,
    part: LentPart,
}

impl Loan {
    /// The size of the buffer in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.whole.length
    }

    /// The first `length` bytes to write to; `None` while parts of an earlier try exist.
    pub(crate) fn lend(&mut self, length: usize) -> Option<Destination> {
        if !self.part.is_only_one() {
            return None;
        }
        let length = length.min(self.whole.length);
        Some(Destination {
            start: self.whole.start,
            length,
            since_mark: 0,
            owner: Owner::Lent { _part: self.part.clone() },
        })
    }
}

/// A part of a buffer that one task may write.
#[derive(Debug)]
pub(crate) struct Destination {
    start: *mut u8,
    length: usize,
    /// How many bytes before `start` were written since the last mark, and may be written again.
    since_mark: usize,
    owner: Owner,
}

/// The owner of a destination's memory, which the destination keeps alive.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// The caller, for the lifetime of a [`CallerBuffer`].
    Caller,
    /// The caller, until all parts were dropped.
    Lent {
        _part: LentPart,
    },
    Buffer(Arc<FillBuffer>),
}

// SAFETY: no two Destinations have a byte in common (`split_to` divides, `Loan::lend` gives out one at a time), so
// moving one to another thread moves the only right to write there.
unsafe impl Send for Destination {}

impl Destination {
    /// # Safety
    /// `start` must be valid for writes of `length` bytes, and nothing else may touch them, until the Destination and
    /// all parts split off it are dropped.
    pub(super) unsafe fn new(start: *mut u8, length: usize, owner: Owner) -> Self {
        Self { start, length, since_mark: 0, owner }
    }

    /// The number of bytes that are not written yet.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Splits off the first `length` bytes; all of them when there are fewer.
    pub(crate) fn split_to(&mut self, length: usize) -> Self {
        // `rewind` must not go back over the head's bytes.
        self.mark();
        let length = length.min(self.length);
        let head = Self { start: self.start, length, since_mark: 0, owner: self.owner.clone() };
        self.advance(length);
        self.since_mark = 0;
        head
    }

    /// Moves past `length` written bytes, or to the end when there are fewer.
    fn advance(&mut self, length: usize) {
        let length = length.min(self.length);
        // SAFETY: `length` is at most `self.length`, so the result is in bounds or one past the end.
        self.start = unsafe { self.start.add(length) };
        self.length -= length;
        self.since_mark += length;
    }

    /// Keeps the bytes written so far: they are not written again.
    pub(crate) fn mark(&mut self) {
        if let Owner::Buffer(buffer) = &self.owner {
            buffer.wrote(self.since_mark);
        }
        self.since_mark = 0;
    }

    /// Goes back to the last mark, to write the bytes since then again.
    pub(crate) fn rewind(&mut self) {
        // SAFETY: `advance` went over these bytes, and they are still this Destination's.
        self.start = unsafe { self.start.sub(self.since_mark) };
        self.length += self.since_mark;
        self.since_mark = 0;
    }

    /// Copies as many of `bytes` as fit, and returns that number.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.len().min(self.length);
        // SAFETY: `start` is valid for writes of at least `length` bytes. Nothing else may touch them, so `bytes` lies
        // elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start, length) };
        self.advance(length);
        length
    }
}

// SAFETY: `chunk_mut` gives all of the memory that is left, and `advance_mut` never goes past its end.
unsafe impl BufMut for Destination {
    fn remaining_mut(&self) -> usize {
        self.length
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        self.advance(count);
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        // SAFETY: the memory is writable, and `UninitSlice` does not allow reads.
        unsafe { UninitSlice::from_raw_parts_mut(self.start, self.length) }
    }
}

/// A part of a caller's bytes that one task may read.
#[derive(Debug)]
pub(crate) struct LentBytes {
    start: *const u8,
    length: usize,
    part: LentPart,
}

// SAFETY: the bytes are only read, and `lend_bytes` keeps them borrowed until all parts are dropped.
unsafe impl Send for LentBytes {}
// SAFETY: as above.
unsafe impl Sync for LentBytes {}

impl LentBytes {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Splits off the first `length` bytes; all of them when there are fewer.
    pub(crate) fn split_to(&mut self, length: usize) -> Self {
        let length = length.min(self.length);
        let head = Self { start: self.start, length, part: self.part.clone() };
        // SAFETY: `length` is at most `self.length`, so the result is in bounds or one past the end.
        self.start = unsafe { self.start.add(length) };
        self.length -= length;
        head
    }

    /// The bytes as a request body. Its clones keep them lent.
    pub(crate) fn into_body(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for LentBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the bytes lie in the slice that `lend_bytes` borrows until this part is dropped.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_destination_never_writes_past_its_end() {
        let mut buffer = [0u8; 6];
        CallerBuffer::from_slice(&mut buffer[..4]).lend(|mut whole| {
            let mut head = whole.split_to(3);
            assert_eq!(head.fill(b"abcdef"), 3);
            assert_eq!(whole.fill(b"xyz"), 1);
            assert_eq!((head.len(), whole.len()), (0, 0));
        });
        assert_eq!(&buffer, b"abcx\0\0");
    }

    #[test]
    fn a_destination_goes_back_to_its_mark_and_no_farther() {
        let mut buffer = [0u8; 6];
        CallerBuffer::from_slice(&mut buffer).lend(|mut whole| {
            let head = whole.split_to(1);
            whole.rewind();
            assert_eq!((head.len(), whole.len()), (1, 5));
            whole.fill(b"ab");
            whole.mark();
            whole.fill(b"XY");
            whole.rewind();
            assert_eq!((whole.fill(b"cde"), whole.len()), (3, 0));
        });
        assert_eq!(&buffer, b"\0abcde");
    }

    #[test]
    fn a_loan_is_lent_again_only_after_all_parts_were_dropped() {
        let mut buffer = [0u8; 4];
        let started = std::time::Instant::now();
        let thread = CallerBuffer::lend_all(vec![CallerBuffer::from_slice(&mut buffer)], |mut loans| {
            let mut loan = loans.pop().unwrap();
            let mut rest = loan.lend(4).unwrap();
            let mut head = rest.split_to(1);
            assert_eq!((head.fill(b"ab"), rest.fill(b"cd")), (1, 2));
            drop(rest);
            assert!(loan.lend(4).is_none());
            drop(head);
            let again = loan.lend(4);
            assert!(again.is_some());
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                drop((loan, again));
            })
        });
        assert!(started.elapsed() >= Duration::from_millis(50), "returned while a part was lent");
        thread.join().unwrap();
        assert_eq!(&buffer, b"acd\0");
    }

    #[test]
    fn a_call_that_panics_returns_after_its_parts_were_dropped() {
        let mut buffer = [0u8; 4];
        let started = std::time::Instant::now();
        let call = std::panic::AssertUnwindSafe(|| {
            CallerBuffer::from_slice(&mut buffer).lend(|to| {
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(50));
                    drop(to);
                });
                panic!("on purpose");
            })
        });
        assert!(std::panic::catch_unwind(call).is_err());
        assert!(started.elapsed() >= Duration::from_millis(50), "returned while a part was lent");
    }

    #[test]
    fn lent_bytes_are_the_callers_own() {
        let data = b"hello".to_vec();
        lend_bytes(&data, |mut bytes| {
            let head = bytes.split_to(2).into_body();
            assert_eq!(head.as_ptr(), data.as_ptr());
            assert_eq!((&head[..], &bytes.into_body()[..]), (&b"he"[..], &b"llo"[..]));
        });
    }
}
