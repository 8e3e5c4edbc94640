//! A buffer that passes received bytes to a function while they are in the processor's cache.

use bytes::BufMut;
use bytes::buf::UninitSlice;

/// Passes all bytes that are written into `buffer` to `observe`, once and in order.
pub(crate) struct Tap<'a, B, F> {
    buffer: &'a mut B,
    observe: F,
}

impl<'a, B: BufMut, F: FnMut(&[u8])> Tap<'a, B, F> {
    pub(crate) fn new(buffer: &'a mut B, observe: F) -> Self {
        Self { buffer, observe }
    }
}

// SAFETY: every method calls that of `buffer`, which keeps the trait's promises.
unsafe impl<B: BufMut, F: FnMut(&[u8])> BufMut for Tap<'_, B, F> {
    fn remaining_mut(&self) -> usize {
        self.buffer.remaining_mut()
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        let chunk = self.buffer.chunk_mut();
        // A caller writes into one chunk at a time, so the written bytes lie in this one.
        let start = (count <= chunk.len()).then(|| chunk.as_mut_ptr());
        if let Some(start) = start {
            // SAFETY: the caller promises that it has written the next `count` bytes of the chunk, and nothing else
            // refers to them before `advance_mut`.
            (self.observe)(unsafe { std::slice::from_raw_parts(start, count) });
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { self.buffer.advance_mut(count) };
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        self.buffer.chunk_mut()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn received_bytes_are_observed_once() {
        let mut buffer = BytesMut::with_capacity(100);
        let mut observed = Vec::new();
        let mut tap = Tap::new(&mut buffer, |bytes| observed.extend_from_slice(bytes));
        tap.put_slice(b"12345");
        (&mut tap).limit(4).put_slice(b"6789");
        assert_eq!(&buffer[..], b"123456789");
        assert_eq!(observed, b"123456789");
    }
}
