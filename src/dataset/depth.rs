//! How far ahead of its caller a dataset or a stream loads entries. This module alone decides it.
//!
//! Hints have no depth: the caller names the entries, so only the memory limit bounds the loading.

/// The number of entries ahead after the first step: it fills a few connections, and wastes little if the guess was
/// wrong.
const FIRST_AHEAD: usize = 8;
/// The maximum number of entries ahead of a stream's caller: twice the default `max_concurrency` of 64, so that one set
/// of entries can be loaded while the caller works on another.
const MOST_AHEAD_OF_STREAM: usize = 128;
/// The maximum number of doublings of the depth; each step of the caller is one. More doublings exceed every bound
/// anyway.
const MOST_DOUBLINGS: u32 = 16;

/// How a reader knows which entries come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foresight {
    /// From a stream's sequence: the caller will get each of the entries.
    Sequence,
    /// From the caller's past calls: it read in order, and its last call read `batch` entries.
    Guess { batch: usize },
}

/// How far a reader may be ahead of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Entries that are planned, being loaded or loaded.
    pub(crate) entries: usize,
    /// The bytes of these entries, as far as their sizes are known or guessed.
    pub(crate) bytes: u64,
}

/// The depth after `steps` further steps of the caller. It begins small and doubles with each step, as the read-ahead
/// of kernels does, so that a caller who stops early has cost little.
///
/// A guess goes as far as two rounds of requests, or two batches. All read-ahead of one reader takes at most half of
/// the client's memory limit: the other half is left to its other readers and writers.
pub(crate) fn depth(foresight: Foresight, steps: u32, max_concurrency: usize, memory_limit: u64) -> Depth {
    let (first, most) = match foresight {
        Foresight::Sequence => (FIRST_AHEAD, MOST_AHEAD_OF_STREAM),
        Foresight::Guess { batch } => (FIRST_AHEAD.max(batch), 2 * max_concurrency.max(batch)),
    };
    let doubled = first.saturating_mul(1 << steps.min(MOST_DOUBLINGS));
    Depth { entries: doubled.min(most), bytes: memory_limit / 2 }
}

/// How many loads of one reader may be under way at once. A quarter of the connections is left to calls that wait for
/// their result.
pub(crate) fn most_loads(max_concurrency: usize) -> usize {
    (max_concurrency * 3 / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_from_8_entries_to_128_with_any_number_of_connections() {
        for max_concurrency in [1, 64, 4096] {
            let entries = |steps| depth(Foresight::Sequence, steps, max_concurrency, 0).entries;
            assert_eq!([0, 1, 2, 3, 4, 5, u32::MAX].map(entries), [8, 16, 32, 64, 128, 128, 128]);
        }
    }

    #[test]
    fn a_guess_goes_as_far_as_two_rounds_of_requests_or_two_batches() {
        let entries = |batch, steps| depth(Foresight::Guess { batch }, steps, 16, 0).entries;
        assert_eq!([0, 1, 2, 3, u32::MAX].map(|steps| entries(1, steps)), [8, 16, 32, 32, 32]);
        assert_eq!([0, 1, 2, 3, u32::MAX].map(|steps| entries(50, steps)), [50, 100, 100, 100, 100]);
    }

    #[test]
    fn half_of_the_memory_and_a_quarter_of_the_connections_are_left_to_others() {
        assert_eq!(depth(Foresight::Sequence, 0, 64, 1000).bytes, 500);
        assert_eq!(depth(Foresight::Guess { batch: 1 }, 9, 64, 1000).bytes, 500);
        assert_eq!([1, 2, 4, 64].map(most_loads), [1, 1, 3, 48]);
    }
}
