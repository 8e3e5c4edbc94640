//! The order in which a stream gives out what is listed: as it comes, or shuffled through a buffer of names. Past
//! states can be told again, since whoever resumes has consumed less than what was given out.

use std::collections::VecDeque;

/// How far back a state can be told, from what was given out last.
pub(crate) const HISTORY: usize = 1 << 16;
/// Steps that are remembered: more, since what is fetched ahead is not given out yet.
const REMEMBERED: usize = HISTORY + 1024;

/// How a stream is shuffled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shuffle {
    /// How many names the buffer holds, at least 1.
    pub(crate) buffer: usize,
    pub(crate) seed: u64,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    Item(u64, T),
    /// Nothing can be said before more is listed.
    NeedsMore,
    End,
}

/// One epoch's sequence.
#[derive(Debug)]
pub(crate) struct ShuffleBuffer<T> {
    shuffle: Option<Shuffle>,
    epoch: u64,
    /// The shuffle's buffer.
    slots: Vec<T>,
    /// Listed, and not in the buffer yet.
    queue: VecDeque<T>,
    complete: bool,
    position: u64,
    /// How many went into the buffer since something came out of it.
    filled: usize,
    steps: VecDeque<Step<T>>,
}

#[derive(Debug)]
struct Step<T> {
    item: T,
    slot: usize,
    filled: usize,
}

/// What is still to come at some position, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rest<T> {
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

    /// Goes on where another sequence was.
    pub(crate) fn resume(&mut self, position: u64, slots: Vec<T>, queue: VecDeque<T>) {
        (self.position, self.slots, self.queue) = (position, slots, queue);
    }

    pub(crate) fn push(&mut self, item: T) {
        self.queue.push_back(item);
    }

    /// Nothing more will be listed.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn next(&mut self) -> Next<T> {
        let (item, slot) = match self.shuffle {
            None => match self.queue.pop_front() {
                Some(item) => (item, 0),
                None if self.complete => return Next::End,
                None => return Next::NeedsMore,
            },
            Some(shuffle) => {
                while self.slots.len() < shuffle.buffer
                    && let Some(item) = self.queue.pop_front()
                {
                    self.slots.push(item);
                    self.filled += 1;
                }
                if self.slots.len() < shuffle.buffer && !self.complete {
                    return Next::NeedsMore;
                }
                if self.slots.is_empty() {
                    return Next::End;
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
        Next::Item(self.position - 1, item)
    }

    /// What was still to come before `position` was given out; `None` when that is too long ago, or has not been yet.
    pub(crate) fn rest_at(&self, position: u64) -> Option<Rest<T>> {
        let back = usize::try_from(self.position.checked_sub(position)?).ok()?;
        let kept = self.steps.len().checked_sub(back)?;
        let mut rest = Rest { slots: self.slots.clone(), queue: self.queue.clone() };
        if back > 0 {
            rest.empty(self.filled);
        }
        for step in self.steps.range(kept..).rev() {
            if self.shuffle.is_none() {
                rest.queue.push_front(step.item.clone());
                continue;
            }
            // The last one had taken the place of the one that went.
            rest.slots.push(step.item.clone());
            let end = rest.slots.len() - 1;
            rest.slots.swap(step.slot, end);
            rest.empty(step.filled);
        }
        Some(rest)
    }
}

impl<T> Rest<T> {
    /// Puts what came last into the buffer back into the queue.
    fn empty(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(item) = self.slots.pop() {
                self.queue.push_front(item);
            }
        }
    }
}

/// A slot out of `count`, for one position of one epoch. Stateless, so that any position can be resumed at; part of
/// what a cursor means, so never to be changed. SplitMix64 (Steele, Lea and Flood, 2014, doi:10.1145/2714064.2660195).
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
        while let Next::Item(_, item) = sequence.next() {
            items.push(item);
        }
        items
    }

    #[test]
    fn a_shuffle_is_a_permutation_of_its_own_for_each_seed_and_epoch() {
        let shuffled = |buffer, seed, epoch| drain(&mut sequence(Some(Shuffle { buffer, seed }), epoch, 0..1000));
        let one = shuffled(100, 1, 0);
        assert_eq!(one, shuffled(100, 1, 0));
        assert!(one != shuffled(100, 1, 1) && one != shuffled(100, 2, 0));
        // Nothing comes before it can have been in the buffer.
        assert!(one.iter().enumerate().all(|(position, &item)| (item as usize) < position + 100));
        let mut sorted = one;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_eq!(shuffled(1, 7, 0), (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn how_the_listing_arrives_does_not_matter() {
        let shuffle = Some(Shuffle { buffer: 10, seed: 3 });
        let mut slow = ShuffleBuffer::new(shuffle, 0);
        let mut items = Vec::new();
        for item in 0..50_u32 {
            while let Next::Item(_, item) = slow.next() {
                items.push(item);
            }
            slow.push(item);
        }
        items.extend(drain(&mut slow));
        assert_eq!(items, drain(&mut sequence(shuffle, 0, 0..50)));
    }

    #[test]
    fn every_earlier_state_is_told_as_it_was() {
        for shuffle in [None, Some(Shuffle { buffer: 7, seed: 5 }), Some(Shuffle { buffer: 100, seed: 5 })] {
            let whole = drain(&mut sequence(shuffle, 2, 0..40));
            let mut running = sequence(shuffle, 2, 0..40);
            if shuffle.is_some_and(|shuffle| shuffle.buffer > 40) {
                running.complete();
            }
            for given in 0..30 {
                for position in 0..=given {
                    let rest = running.rest_at(position).unwrap();
                    let mut resumed = ShuffleBuffer::new(shuffle, 2);
                    resumed.resume(position, rest.slots, rest.queue);
                    assert_eq!(drain(&mut resumed), whole[position as usize..], "{shuffle:?} {position} of {given}");
                }
                assert!(running.rest_at(given + 1).is_none());
                assert!(matches!(running.next(), Next::Item(position, _) if position == given));
            }
        }
    }

    #[test]
    fn what_is_too_long_ago_is_not_made_up() {
        let mut running = sequence(None, 0, 0..REMEMBERED as u32 + 10);
        for _ in 0..REMEMBERED + 10 {
            running.next();
        }
        assert!(running.rest_at(9).is_none());
        assert_eq!(running.rest_at(10).unwrap().queue.len(), REMEMBERED);
    }
}
