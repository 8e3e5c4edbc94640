//! Recognises patterns in a reader's reads, and decides how much to fetch beyond them.

use std::ops::Range;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The last bytes of a blob that are fetched together. They hold the directory of a zip archive, which `torch::save`
/// writes.
pub(crate) const TAIL: u64 = MIB;
/// The most bytes of one background request.
pub(crate) const CHUNK: u64 = 3 * MIB;
/// The most bytes that a reader reads ahead.
pub(crate) const MAX_AHEAD: u64 = 64 * MIB;

/// The fewest bytes that are fetched for a small read.
const FIRST_WINDOW: u64 = 64 * KIB;
/// A read that skips at most this many bytes still continues the sequence: archives have padding, and readers skip
/// headers.
const MAX_SKIP: u64 = 64 * KIB;
/// A reader that reads at most this many bytes of the beginning is looking for a magic number.
const MAGIC: u64 = 512;
/// A sequence of this many bytes counts as sequential reading.
const SEQUENTIAL: u64 = 256 * KIB;

/// The history of a reader's reads.
#[derive(Debug, Default)]
pub(crate) struct Pattern {
    /// Where the next read of the sequence begins.
    next: u64,
    /// The length of the sequence in bytes.
    streak: u64,
    /// Whether the blob's last bytes were read.
    tail_seen: bool,
    /// Whether reading began with the first bytes of an archive and then its end, as torch does to load it.
    loading: bool,
}

impl Pattern {
    /// Adds a read of `range` in a blob of `size` bytes. `is_archive` is called only if its result is needed.
    pub(crate) fn observe(&mut self, range: &Range<u64>, size: u64, is_archive: impl FnOnce() -> bool) {
        let continues = range.start >= self.next && range.start - self.next <= MAX_SKIP;
        if continues {
            self.streak += range.end - self.next;
            self.next = range.end;
        } else if is_in_tail(range.start, size) {
            // A read of the directory does not end a sequence.
            self.tail_seen = true;
            self.loading = self.loading || (1..=MAGIC).contains(&self.next) && is_archive();
        } else {
            self.streak = range.end - range.start;
            self.next = range.end;
            self.loading = false;
        }
    }

    /// Where the next read begins if it continues the sequence.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// How many bytes to fetch for a small read that is not cached.
    pub(crate) fn window(&self) -> u64 {
        self.streak.next_power_of_two().clamp(FIRST_WINDOW, CHUNK)
    }

    /// How many bytes to fetch beyond [`next`](Self::next).
    pub(crate) fn ahead(&self) -> u64 {
        if self.loading {
            // Fetch the rest while the directory is arriving.
            return MAX_AHEAD;
        }
        if self.streak < SEQUENTIAL {
            return 0;
        }
        if self.tail_seen {
            // The directory, and then one record after the other: the whole archive is being loaded.
            return MAX_AHEAD;
        }
        (2 * self.streak).clamp(CHUNK, MAX_AHEAD)
    }
}

/// Whether a read at `start` lies in the last bytes of a blob of `size` bytes.
pub(crate) fn is_in_tail(start: u64, size: u64) -> bool {
    size - start.min(size) <= TAIL
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 100 * MIB;

    #[test]
    fn the_window_grows_with_a_sequence_of_reads() {
        let mut pattern = Pattern::default();
        pattern.observe(&(50 * MIB..50 * MIB + 100), SIZE, || true);
        assert_eq!((pattern.window(), pattern.ahead()), (FIRST_WINDOW, 0));
        let mut at = 50 * MIB + 100;
        let mut last = 0;
        while at < 90 * MIB {
            pattern.observe(&(at..at + 100 * KIB), SIZE, || true);
            at += 100 * KIB + 64;
            assert!(pattern.ahead() >= last);
            last = pattern.ahead();
        }
        assert_eq!((pattern.window(), last), (CHUNK, MAX_AHEAD));
        pattern.observe(&(0..10), SIZE, || true);
        assert_eq!(pattern.ahead(), 0);
    }

    #[test]
    fn reading_the_magic_number_and_the_end_starts_reading_ahead() {
        let mut pattern = Pattern::default();
        pattern.observe(&(0..8), SIZE, || true);
        assert_eq!(pattern.ahead(), 0);
        pattern.observe(&(SIZE - 4096..SIZE), SIZE, || true);
        assert_eq!((pattern.next(), pattern.ahead()), (8, MAX_AHEAD));
        pattern.observe(&(50 * MIB..50 * MIB + 100), SIZE, || true);
        assert_eq!(pattern.ahead(), 0);

        let mut other_format = Pattern::default();
        other_format.observe(&(0..4), SIZE, || false);
        other_format.observe(&(SIZE - 8..SIZE), SIZE, || false);
        assert_eq!(other_format.ahead(), 0);
    }

    #[test]
    fn reading_records_after_the_directory_fetches_the_whole_archive() {
        let mut pattern = Pattern::default();
        pattern.observe(&(SIZE - 22..SIZE), SIZE, || true);
        assert_eq!(pattern.ahead(), 0);
        pattern.observe(&(0..30), SIZE, || true);
        pattern.observe(&(64..300 * KIB), SIZE, || true);
        assert_eq!(pattern.ahead(), MAX_AHEAD);
    }
}
