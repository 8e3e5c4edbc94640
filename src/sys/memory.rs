//! Memory that belongs to the caller: received bytes are written into it, sent bytes are read from it.
//!
//! Both types are plain pointers, since the memory may be uninitialised and must never be seen as
//! `&mut [u8]`. Whoever makes one promises that the memory stays valid until every task that was
//! given a part of it has ended; `parallel::run` is what waits for that.
use crate::sys::lock::lock;

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use bytes::buf::UninitSlice;
use bytes::{BufMut, Bytes};

/// A part of a caller's buffer that one task may write.
#[derive(Debug)]
pub(crate) struct Destination {
    start: *mut u8,
    length: usize,
    /// How many bytes before `start` were written since the last mark, and may be written again.
    since_mark: usize,
}

// SAFETY: a Destination is the only one for its bytes (`split_to` divides, nothing copies), so moving
// it to another thread moves the sole right to write there.
unsafe impl Send for Destination {}

impl Destination {
    /// # Safety
    /// `start` must be valid for writes of `length` bytes, and nothing else may touch them, until the
    /// Destination and all parts split off it are gone.
    pub(crate) unsafe fn new(start: *mut u8, length: usize) -> Self {
        Self { start, length, since_mark: 0 }
    }

    /// The caller's slice, which stays borrowed by contract rather than by the compiler: the blocking
    /// call that made this returns only when every task that holds a part has ended.
    pub(crate) fn from_slice(slice: &mut [u8]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), since_mark: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Splits off the first `length` bytes; all of them when there are fewer.
    pub(crate) fn split_to(&mut self, length: usize) -> Self {
        let length = length.min(self.length);
        let head = Self { start: self.start, length, since_mark: 0 };
        self.advance(length);
        // They are the head's now.
        self.mark();
        head
    }

    /// Moves past `length` bytes, which are at most those that are left.
    fn advance(&mut self, length: usize) {
        let length = length.min(self.length);
        // SAFETY: `length` is at most `self.length`, so the result is in bounds or one past the end.
        self.start = unsafe { self.start.add(length) };
        self.length -= length;
        self.since_mark += length;
    }

    /// What was written so far stays.
    pub(crate) fn mark(&mut self) {
        self.since_mark = 0;
    }

    /// Goes back to the last mark.
    pub(crate) fn rewind(&mut self) {
        // SAFETY: `advance` went over these bytes, which are still this Destination's.
        self.start = unsafe { self.start.sub(self.since_mark) };
        self.length += self.since_mark;
        self.since_mark = 0;
    }

    /// Copies as much of `bytes` as there is room for, moves past it, and says how much that was.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.len().min(self.length);
        // SAFETY: `start` is valid for writes of at least `length` bytes, and received bytes never lie
        // in the caller's buffer, so the ranges do not overlap.
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
        // SAFETY: `new` promises that the memory is writable; it stays uninitialised to whoever looks.
        unsafe { UninitSlice::from_raw_parts_mut(self.start, self.length) }
    }
}

/// A caller's buffer on loan to the tasks of one call, possibly once more after a try that failed. The call waits for
/// all of it to come back before it returns.
#[derive(Debug)]
pub(crate) struct Loan {
    whole: Destination,
    out: Arc<Out>,
}

/// How many parts are out.
#[derive(Debug)]
struct Out {
    parts: Mutex<usize>,
    returned: Condvar,
}

impl Out {
    fn lock(&self) -> MutexGuard<'_, usize> {
        lock(&self.parts)
    }
}

impl Loan {
    pub(crate) fn new(whole: Destination) -> Self {
        // The loan itself counts as a part: it can give out others.
        Self { whole, out: Arc::new(Out { parts: Mutex::new(1), returned: Condvar::new() }) }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.whole.length
    }

    /// The first `length` bytes; `None` while parts of an earlier try are still out.
    pub(crate) fn lend(&mut self, length: usize) -> Option<Borrowed> {
        let mut parts = self.out.lock();
        if *parts > 1 {
            return None;
        }
        *parts = 2;
        let to = Destination { start: self.whole.start, length: length.min(self.whole.length), since_mark: 0 };
        Some(Borrowed { to, out: self.out.clone() })
    }

    /// For the call that made the loan.
    pub(crate) fn watch(&self) -> Watch {
        Watch(self.out.clone())
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        *self.out.lock() -= 1;
        self.out.returned.notify_all();
    }
}

/// Knows when a loan has come back.
pub(crate) struct Watch(Arc<Out>);

impl Watch {
    /// Waits until the loan is gone, and nobody holds a part of it any more.
    pub(crate) fn wait_returned(self) {
        let parts = self.0.lock();
        drop(self.0.returned.wait_while(parts, |parts| *parts > 0));
    }
}

/// A part of a loan that one task may write.
#[derive(Debug)]
pub(crate) struct Borrowed {
    to: Destination,
    out: Arc<Out>,
}

impl Borrowed {
    /// Splits off the first `length` bytes.
    pub(crate) fn split_to(&mut self, length: usize) -> Self {
        *self.out.lock() += 1;
        Self { to: self.to.split_to(length), out: self.out.clone() }
    }

    pub(crate) fn destination(&mut self) -> &mut Destination {
        &mut self.to
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        *self.out.lock() -= 1;
        self.out.returned.notify_all();
    }
}

/// A part of a caller's buffer lent to the transport as a request body, without a copy.
#[derive(Debug)]
struct Lent(Source);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `from_slice` got these bytes from a live slice, and its caller keeps that slice alive
        // until every task that was given a part of it has ended.
        unsafe { std::slice::from_raw_parts(self.0.start, self.0.length) }
    }
}

/// Memory to send from. Like [`Destination`], valid until every task that uses it has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    start: *const u8,
    length: usize,
}

// SAFETY: the bytes are only read while the Source is in use.
unsafe impl Send for Source {}

impl Source {
    pub(crate) fn from_slice(slice: &[u8]) -> Self {
        Self { start: slice.as_ptr(), length: slice.len() }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Splits off the first `length` bytes; all of them when there are fewer.
    pub(crate) fn split_to(&mut self, length: usize) -> Self {
        let length = length.min(self.length);
        let head = Self { start: self.start, length };
        // SAFETY: `length` is at most `self.length`, so the result is in bounds or one past the end.
        self.start = unsafe { self.start.add(length) };
        self.length -= length;
        head
    }

    /// The bytes as a request body.
    pub(crate) fn lend(self) -> Bytes {
        Bytes::from_owner(Lent(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_never_writes_past_its_end() {
        let mut buffer = [0u8; 6];
        let mut whole = Destination::from_slice(&mut buffer[..4]);
        let mut head = whole.split_to(3);
        assert_eq!(head.fill(b"abcdef"), 3);
        assert_eq!(whole.fill(b"xyz"), 1);
        assert_eq!((head.len(), whole.len()), (0, 0));
        assert_eq!(&buffer, b"abcx\0\0");
    }

    #[test]
    fn a_destination_goes_back_to_its_mark_and_no_farther() {
        let mut buffer = [0u8; 6];
        let mut whole = Destination::from_slice(&mut buffer);
        let head = whole.split_to(1);
        whole.rewind();
        assert_eq!((head.len(), whole.len()), (1, 5));
        whole.fill(b"ab");
        whole.mark();
        whole.fill(b"XY");
        whole.rewind();
        assert_eq!((whole.fill(b"cde"), whole.len()), (3, 0));
        assert_eq!(&buffer, b"\0abcde");
    }

    #[test]
    fn a_loan_is_given_again_only_when_all_of_it_is_back() {
        let mut buffer = [0u8; 4];
        let mut loan = Loan::new(Destination::from_slice(&mut buffer));
        let mut rest = loan.lend(4).unwrap();
        let mut head = rest.split_to(1);
        assert_eq!((head.destination().fill(b"ab"), rest.destination().fill(b"cd")), (1, 2));
        drop(rest);
        assert!(loan.lend(4).is_none());
        drop(head);
        let again = loan.lend(4);
        assert!(again.is_some());
        let watch = loan.watch();
        std::thread::scope(|scope| {
            scope.spawn(move || drop((loan, again)));
            watch.wait_returned();
        });
        assert_eq!(&buffer, b"acd\0");
    }

    #[test]
    fn lent_bytes_are_the_callers_own() {
        let data = b"hello".to_vec();
        let mut source = Source::from_slice(&data);
        let head = source.split_to(2).lend();
        assert_eq!((&head[..], &source.lend()[..]), (&b"he"[..], &b"llo"[..]));
        assert_eq!(head.as_ptr(), data.as_ptr());
    }
}
