//! The memory that readers' chunks are made of, used again: fresh memory costs a page fault for every
//! 4 KiB, which is a third of the CPU time of reading in sequence.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::Result;
use crate::sys::lock::lock;
use crate::sys::process::PerProcess;
use bytes::{Bytes, BytesMut};

/// A chunk's memory comes in pieces of this, so that what has arrived can be read while more arrives.
const PIECE: usize = 256 << 10;
/// How many pieces the process keeps for its next chunks: 6 MiB, beside what the budget counts.
const MAX_KEPT: usize = 24;

/// Those of the process; a forked child makes its own.
static PIECES: PerProcess<Arc<SegmentPool>> = PerProcess::for_static();

/// SegmentPool that no chunk is using.
#[derive(Default)]
pub(crate) struct SegmentPool(Mutex<Vec<BytesMut>>);

impl SegmentPool {
    pub(crate) fn of_process() -> Result<Arc<Self>> {
        PIECES.get_or_try_init(|| Ok(Arc::default())).cloned()
    }

    /// An empty piece, of at most `length` bytes.
    pub(crate) fn take(&self, length: usize) -> BytesMut {
        let kept = (length >= PIECE).then(|| self.lock().pop()).flatten();
        kept.unwrap_or_else(|| BytesMut::with_capacity(length.clamp(1, PIECE)))
    }

    /// Takes back the memory of segments that nobody else holds.
    pub(crate) fn keep(&self, segments: impl Iterator<Item = Bytes>) {
        for segment in segments {
            // Of the segments of one piece only the last to come here owns the memory alone.
            let Ok(mut piece) = segment.try_into_mut() else { continue };
            piece.clear();
            let mut kept = self.lock();
            if kept.len() < MAX_KEPT && piece.try_reclaim(PIECE) {
                kept.push(piece);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BytesMut>> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_from_the_last_segment_of_a_piece() {
        let pieces = SegmentPool::default();
        let mut piece = pieces.take(10 * PIECE);
        piece.extend_from_slice(&[1; 1000]);
        let first = piece.split().freeze();
        piece.extend_from_slice(&[2; 1000]);
        let second = piece.split().freeze();
        let memory = first.as_ptr();
        drop(piece);
        let elsewhere = second.clone();
        pieces.keep([first, second].into_iter());
        assert!(pieces.lock().is_empty(), "someone still reads from it");
        pieces.keep([elsewhere].into_iter());
        assert_eq!(pieces.take(PIECE).as_ptr(), memory);
        assert!(pieces.take(100).capacity() < PIECE);
    }
}
