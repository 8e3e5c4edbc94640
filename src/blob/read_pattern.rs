//! What a reader's reads look like so far, and how much it pays to fetch beyond them.

use std::ops::Range;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The end of a blob holds the directory of a zip archive, which is what `torch::save` writes.
pub(crate) const TAIL: u64 = MIB;
/// What one background request brings at most.
pub(crate) const CHUNK: u64 = 3 * MIB;
/// The farthest that a reader reads ahead.
pub(crate) const MAX_AHEAD: u64 = 64 * MIB;

const FIRST_WINDOW: u64 = 64 * KIB;
/// Archives pad their records to 64 bytes, and readers skip headers: that is still reading on.
const MAX_SKIP: u64 = 64 * KIB;
/// Who reads no more than this of the beginning looks at what sort of file it is.
const MAGIC: u64 = 512;
/// So much in a row is no accident.
const SEQUENTIAL: u64 = 256 * KIB;

/// The history of a reader's reads.
#[derive(Debug, Default)]
pub(crate) struct Pattern {
    next: u64,
    /// How many bytes were read in a row.
    streak: u64,
    tail_seen: bool,
    /// Whether reading began as torch begins to load an archive: its first bytes, then its end.
    loading: bool,
}

impl Pattern {
    /// Takes note of a read; `is_archive` is asked only when it matters.
    pub(crate) fn observe(&mut self, range: &Range<u64>, size: u64, is_archive: impl FnOnce() -> bool) {
        let reads_on = range.start >= self.next && range.start - self.next <= MAX_SKIP;
        if reads_on {
            self.streak += range.end - self.next;
            self.next = range.end;
        } else if is_in_tail(range.start, size) {
            // A look at the directory does not end a row of reads.
            self.tail_seen = true;
            self.loading = self.loading || (1..=MAGIC).contains(&self.next) && is_archive();
        } else {
            self.streak = range.end - range.start;
            self.next = range.end;
            self.loading = false;
        }
    }

    /// Where the next read begins if the reader just reads on.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// How much to fetch for a small read that nothing is there for.
    pub(crate) fn window(&self) -> u64 {
        self.streak.next_power_of_two().clamp(FIRST_WINDOW, CHUNK)
    }

    /// How far to fetch beyond [`next`](Self::next).
    pub(crate) fn ahead(&self) -> u64 {
        if self.loading {
            // The directory is still on its way, which is time that the rest can use.
            return MAX_AHEAD;
        }
        if self.streak < SEQUENTIAL {
            return 0;
        }
        if self.tail_seen {
            // The directory and then record after record: the whole archive is being loaded.
            return MAX_AHEAD;
        }
        (2 * self.streak).clamp(CHUNK, MAX_AHEAD)
    }
}

/// Whether a read at `start` looks at the blob's last part.
pub(crate) fn is_in_tail(start: u64, size: u64) -> bool {
    size - start.min(size) <= TAIL
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 100 * MIB;

    #[test]
    fn one_read_asks_for_little_and_a_row_for_more_and_more() {
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
    fn a_look_at_the_magic_number_and_the_end_is_torch_about_to_load_all() {
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
    fn an_archive_being_loaded_is_fetched_as_a_whole() {
        let mut pattern = Pattern::default();
        pattern.observe(&(SIZE - 22..SIZE), SIZE, || true);
        assert_eq!(pattern.ahead(), 0);
        pattern.observe(&(0..30), SIZE, || true);
        pattern.observe(&(64..300 * KIB), SIZE, || true);
        assert_eq!(pattern.ahead(), MAX_AHEAD);
    }
}
