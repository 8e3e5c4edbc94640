//! Notices a caller that reads a dataset in order.

/// Requests in a row that count as reading in order. One fewer is enough at the beginning of the dataset.
const MIN_STREAK: usize = 3;

/// The recent requests of the callers of one dataset.
#[derive(Debug, Default)]
pub(crate) struct SequentialDetector {
    /// The index that continues the last request.
    next: usize,
    /// How many entries were requested in a row.
    streak: usize,
    /// How many requests have continued the row since it was noticed.
    steps: Option<u32>,
}

impl SequentialDetector {
    /// Records a request for `count` entries from `first` on. Returns how many requests have continued the row since it
    /// was noticed (0 for the request with which it is noticed), or `None` if the caller does not read in order.
    pub(crate) fn observe(&mut self, first: usize, count: usize) -> Option<u32> {
        if first == self.next {
            self.streak += count;
        } else {
            (self.streak, self.steps) = (count, None);
        }
        self.next = first + count;
        let from_the_start = self.next == self.streak;
        // One batch is one request, however many entries it has.
        if self.streak == count || self.streak + usize::from(from_the_start) < MIN_STREAK {
            return None;
        }
        self.steps = Some(self.steps.map_or(0, |steps| steps.saturating_add(1)));
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::dataset::depth::{Foresight, depth};

    /// The entries that a dataset loads ahead after a request, with 64 connections.
    fn ahead(detector: &mut SequentialDetector, first: usize, count: usize) -> Option<Range<usize>> {
        let steps = detector.observe(first, count)?;
        let entries = depth(Foresight::Guess { batch: count }, steps, 64, 0).entries;
        Some(first + count..first + count + entries)
    }

    #[test]
    fn reading_in_order_is_noticed_and_jumps_are_not() {
        let mut detector = SequentialDetector::default();
        assert_eq!(ahead(&mut detector, 0, 1), None);
        assert_eq!(ahead(&mut detector, 1, 1), Some(2..10));
        assert_eq!(ahead(&mut detector, 2, 1), Some(3..19));
        for index in 3..20 {
            ahead(&mut detector, index, 1);
        }
        assert_eq!(ahead(&mut detector, 20, 1), Some(21..149));
        assert_eq!(ahead(&mut detector, 50, 1), None);
        assert_eq!(ahead(&mut detector, 51, 1), None);
        assert_eq!(ahead(&mut detector, 52, 1), Some(53..61));
        for jump in [9, 4, 5, 30, 31, 2] {
            assert_eq!(ahead(&mut detector, jump, 1), None, "{jump}");
        }
    }

    #[test]
    fn batches_in_order_are_noticed_too() {
        let mut detector = SequentialDetector::default();
        assert_eq!(ahead(&mut detector, 0, 32), None);
        assert_eq!(ahead(&mut detector, 32, 32), Some(64..96));
        assert_eq!(ahead(&mut detector, 96, 32), None);
    }
}
