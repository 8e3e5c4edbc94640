//! The order in which a stream gives out its entries: as listed, or shuffled through a buffer. Earlier states can be
//! restored, since a consumer that resumes may have consumed fewer entries than were given out.

use std::collections::VecDeque;

/// How many positions back a state can be restored, from the last entry that the stream gave out.
pub(crate) const HISTORY: usize = 1 << 16;
/// How many steps are remembered. More than [`HISTORY`], since entries that are loaded ahead are not given out yet.
const REMEMBERED: usize = HISTORY + 1024;

/// How a stream is shuffled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shuffle {
    /// How many entries the buffer holds, at least 1.
    pub(crate) buffer: usize,
    pub(crate) seed: u64,
}

/// The next entry of a sequence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextItem<T> {
    /// A position and its entry.
    Item(u64, T),
    /// Unknown until more is listed.
    NeedsMore,
    /// There are no further entries.
    End,
}

/// One epoch's sequence.
#[derive(Debug)]
pub(crate) struct ShuffleBuffer<T> {
    shuffle: Option<Shuffle>,
    epoch: u64,
    /// The shuffle's buffer.
    slots: Vec<T>,
    /// Entries that are listed and not in the buffer yet.
    queue: VecDeque<T>,
    complete: bool,
    /// The next position.
    position: u64,
    /// How many entries went into the buffer since one came out of it.
    filled: usize,
    steps: VecDeque<Step<T>>,
}

/// One position's step, so that it can be undone.
#[derive(Debug)]
struct Step<T> {
    item: T,
    /// The slot that the entry came out of.
    slot: usize,
    /// How many entries went into the buffer before this step.
    filled: usize,
}

/// The entries that are still to come at some position: the buffer's and the queue's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remaining<T> {
    pub(crate) slots: Vec<T>,
    pub(crate) queue: VecDeque<T>,
}

impl<T: Clone> ShuffleBuffer<T> {
    pub(crate) fn new(shuffle: Option<Shuffle>, epoch: u64) -> Self {
        Self {
            shuffle,
            epoch,
            slots: Vec::new(),
            queue: VecDeque::new(),
            complete: false,
            position: 0,
            filled: 0,
            steps: VecDeque::new(),
        }
    }

    /// Continues from the state of another sequence.
    pub(crate) fn resume(&mut self, position: u64, slots: Vec<T>, queue: VecDeque<T>) {
        (self.position, self.slots, self.queue) = (position, slots, queue);
    }

    pub(crate) fn push(&mut self, item: T) {
        self.queue.push_back(item);
    }

    /// Says that no more entries will be pushed.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn next(&mut self) -> NextItem<T> {
        let (item, slot) = match self.shuffle {
            None => match self.queue.pop_front() {
                Some(item) => (item, 0),
                None if self.complete => return NextItem::End,
                None => return NextItem::NeedsMore,
            },
            Some(shuffle) => {
                while self.slots.len() < shuffle.buffer
                    && let Some(item) = self.queue.pop_front()
                {
                    self.slots.push(item);
                    self.filled += 1;
                }
                if self.slots.len() < shuffle.buffer && !self.complete {
                    return NextItem::NeedsMore;
                }
                if self.slots.is_empty() {
                    return NextItem::End;
                }
                let slot = pick(shuffle.seed, self.epoch, self.position, self.slots.len());
                (self.slots.swap_remove(slot), slot)
            }
        };
        if self.steps.len() == REMEMBERED {
            self.steps.pop_front();
        }
        self.steps.push_back(Step { item: item.clone(), slot, filled: std::mem::take(&mut self.filled) });
        self.position += 1;
        NextItem::Item(self.position - 1, item)
    }

    /// The entries that were still to come before `position`; `None` if it is too long ago or still to come.
    pub(crate) fn remaining_at(&self, position: u64) -> Option<Remaining<T>> {
        let back = usize::try_from(self.position.checked_sub(position)?).ok()?;
        let kept = self.steps.len().checked_sub(back)?;
        let mut remaining = Remaining { slots: self.slots.clone(), queue: self.queue.clone() };
        if back > 0 {
            remaining.undo_fill(self.filled);
        }
        for step in self.steps.range(kept..).rev() {
            if self.shuffle.is_none() {
                remaining.queue.push_front(step.item.clone());
                continue;
            }
            // The last entry of the buffer had moved to the slot that became free.
            remaining.slots.push(step.item.clone());
            let end = remaining.slots.len() - 1;
            remaining.slots.swap(step.slot, end);
            remaining.undo_fill(step.filled);
        }
        Some(remaining)
    }
}

impl<T> Remaining<T> {
    /// Moves the last `count` entries of the buffer back to the queue.
    fn undo_fill(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(item) = self.slots.pop() {
                self.queue.push_front(item);
            }
        }
    }
}

/// A random slot out of `count`, for one position of one epoch. It has no state, so that a stream can resume at any
/// position. Cursors depend on it: it must never change. SplitMix64 (Steele, Lea and Flood, 2014,
/// doi:10.1145/2714064.2660195).
fn pick(seed: u64, epoch: u64, position: u64, count: usize) -> usize {
    let random = mix(mix(mix(seed) ^ epoch) ^ position);
    ((u128::from(random) * count as u128) >> 64) as usize
}

fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(shuffle: Option<Shuffle>, epoch: u64, items: std::ops::Range<u32>) -> ShuffleBuffer<u32> {
        let mut sequence = ShuffleBuffer::new(shuffle, epoch);
        items.for_each(|item| sequence.push(item));
        sequence
    }

    fn drain(sequence: &mut ShuffleBuffer<u32>) -> Vec<u32> {
        sequence.complete();
        let mut items = Vec::new();
        while let NextItem::Item(_, item) = sequence.next() {
            items.push(item);
        }
        items
    }

    #[test]
    fn each_seed_and_epoch_has_its_own_permutation() {
        let shuffled = |buffer, seed, epoch| drain(&mut sequence(Some(Shuffle { buffer, seed }), epoch, 0..1000));
        let one = shuffled(100, 1, 0);
        assert_eq!(one, shuffled(100, 1, 0));
        assert!(one != shuffled(100, 1, 1) && one != shuffled(100, 2, 0));
        // No entry comes out before it could be in the buffer.
        assert!(one.iter().enumerate().all(|(position, &item)| (item as usize) < position + 100));
        let mut sorted = one;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_eq!(shuffled(1, 7, 0), (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn the_order_does_not_depend_on_when_entries_are_listed() {
        let shuffle = Some(Shuffle { buffer: 10, seed: 3 });
        let mut slow = ShuffleBuffer::new(shuffle, 0);
        let mut items = Vec::new();
        for item in 0..50_u32 {
            while let NextItem::Item(_, item) = slow.next() {
                items.push(item);
            }
            slow.push(item);
        }
        items.extend(drain(&mut slow));
        assert_eq!(items, drain(&mut sequence(shuffle, 0, 0..50)));
    }

    #[test]
    fn every_earlier_state_is_restored_as_it_was() {
        for shuffle in [None, Some(Shuffle { buffer: 7, seed: 5 }), Some(Shuffle { buffer: 100, seed: 5 })] {
            let whole = drain(&mut sequence(shuffle, 2, 0..40));
            let mut running = sequence(shuffle, 2, 0..40);
            if shuffle.is_some_and(|shuffle| shuffle.buffer > 40) {
                running.complete();
            }
            for given in 0..30 {
                for position in 0..=given {
                    let remaining = running.remaining_at(position).unwrap();
                    let mut resumed = ShuffleBuffer::new(shuffle, 2);
                    resumed.resume(position, remaining.slots, remaining.queue);
                    assert_eq!(drain(&mut resumed), whole[position as usize..], "{shuffle:?} {position} of {given}");
                }
                assert!(running.remaining_at(given + 1).is_none());
                assert!(matches!(running.next(), NextItem::Item(position, _) if position == given));
            }
        }
    }

    #[test]
    fn a_state_that_is_too_long_ago_is_not_restored() {
        let mut running = sequence(None, 0, 0..REMEMBERED as u32 + 10);
        for _ in 0..REMEMBERED + 10 {
            running.next();
        }
        assert!(running.remaining_at(9).is_none());
        assert_eq!(running.remaining_at(10).unwrap().queue.len(), REMEMBERED);
    }
}
