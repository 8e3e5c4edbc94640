//! Which entries of a list belong to one of several streams.

/// Shard `index` of `count`: entries `index`, `index + count`, `index + 2 * count` … of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) count: usize,
}

impl Shard {
    /// The shard that has all entries.
    pub(crate) const ALL: Self = Self { index: 0, count: 1 };

    pub(super) fn has(self, number: u64) -> bool {
        number % self.count as u64 == self.index as u64
    }

    /// How many entries there are from entry `from` to the shard's next one, which may be `from` itself.
    pub(super) fn distance(self, from: usize) -> usize {
        let at = from % self.count;
        if at <= self.index { self.index - at } else { self.count - at + self.index }
    }
}
