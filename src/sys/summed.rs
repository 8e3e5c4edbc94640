//! Received bytes summed up where they lie, while they are in the cache.

use bytes::BufMut;
use bytes::buf::UninitSlice;

use crate::checksum::Sum;

/// Room whose bytes go into a checksum as they are received.
pub(crate) struct Summed<'a, B> {
    room: &'a mut B,
    sum: &'a mut Sum,
}

impl<'a, B: BufMut> Summed<'a, B> {
    pub(crate) fn new(room: &'a mut B, sum: &'a mut Sum) -> Self {
        Self { room, sum }
    }
}

// SAFETY: all but the summing is `room`'s own.
unsafe impl<B: BufMut> BufMut for Summed<'_, B> {
    fn remaining_mut(&self) -> usize {
        self.room.remaining_mut()
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        let chunk = self.room.chunk_mut();
        // The next bytes of a room in several pieces would have been offered one piece at a time.
        let start = (count <= chunk.len()).then(|| chunk.as_mut_ptr());
        if let Some(start) = start {
            // SAFETY: whoever calls this has written the next `count` bytes of the chunk, and nobody else sees them yet.
            self.sum.update(unsafe { std::slice::from_raw_parts(start, count) });
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { self.room.advance_mut(count) };
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        self.room.chunk_mut()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn what_is_received_is_summed_once() {
        let mut room = BytesMut::with_capacity(100);
        let mut sum = Sum::crc64();
        let mut summed = Summed::new(&mut room, &mut sum);
        summed.put_slice(b"12345");
        (&mut summed).limit(4).put_slice(b"6789");
        assert_eq!(&room[..], b"123456789");
        let mut expected = Sum::crc64();
        expected.update(b"123456789");
        assert_eq!(sum.text(), expected.text());
    }
}
