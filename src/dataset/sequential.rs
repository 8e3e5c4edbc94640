//! Whether a caller walks through a dataset in order, and how far it pays to fetch ahead of it.

use std::ops::Range;

/// So many in a row are no accident; at the very beginning one fewer will do.
const NOTICED: usize = 3;
/// How many entries are fetched ahead at first; each further step doubles it.
const FIRST_AHEAD: usize = 8;

/// The history of a caller's requests.
#[derive(Debug, Default)]
pub(crate) struct SequentialDetector {
    next: usize,
    /// How many entries were asked for in a row.
    streak: usize,
    ahead: usize,
}

impl SequentialDetector {
    /// Takes note of a request for `count` entries from `first` on; gives the entries that will be next, or `None`
    /// for a caller that jumps about.
    pub(crate) fn observe(&mut self, first: usize, count: usize, connections: usize) -> Option<Range<usize>> {
        if first == self.next {
            self.streak += count;
        } else {
            (self.streak, self.ahead) = (count, 0);
        }
        self.next = first + count;
        let from_the_start = self.next == self.streak;
        // One batch is one request, however large.
        if self.streak == count || self.streak + usize::from(from_the_start) < NOTICED {
            return None;
        }
        self.ahead = match self.ahead {
            0 => FIRST_AHEAD.max(count),
            ahead => ahead * 2,
        }
        .min(2 * connections.max(count));
        Some(self.next..self.next + self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_noticed_and_jumps_are_not() {
        let mut walk = SequentialDetector::default();
        assert_eq!(walk.observe(0, 1, 64), None);
        assert_eq!(walk.observe(1, 1, 64), Some(2..10));
        assert_eq!(walk.observe(2, 1, 64), Some(3..19));
        for index in 3..20 {
            walk.observe(index, 1, 64);
        }
        assert_eq!(walk.observe(20, 1, 64), Some(21..149));
        assert_eq!(walk.observe(50, 1, 64), None);
        assert_eq!(walk.observe(51, 1, 64), None);
        assert_eq!(walk.observe(52, 1, 64), Some(53..61));
        for jump in [9, 4, 5, 30, 31, 2] {
            assert_eq!(walk.observe(jump, 1, 64), None, "{jump}");
        }
    }

    #[test]
    fn batches_in_order_are_a_walk_too() {
        let mut walk = SequentialDetector::default();
        assert_eq!(walk.observe(0, 32, 64), None);
        assert_eq!(walk.observe(32, 32, 64), Some(64..96));
        assert_eq!(walk.observe(96, 32, 64), None);
    }
}
