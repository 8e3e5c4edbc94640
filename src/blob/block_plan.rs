//! How a blob is cut into blocks, and what the blocks are called.

use uuid::{Builder, Uuid};

use crate::error::{Error, Result, Status};
use crate::options::MAX_BLOCK_SIZE;

/// The service's limit (<https://learn.microsoft.com/azure/storage/blobs/scalability-targets>).
pub(crate) const MAX_BLOCKS: u64 = 50_000;
/// Every so many blocks they grow by the size of the first.
const TIER: u64 = 2_500;
/// A write of at least this many blocks is staged from the caller's memory, without a copy of it.
const DIRECT_BLOCKS: u64 = 4;
/// Into about as many blocks is such a write cut.
const WELL_SPREAD: u64 = 512;
/// Smaller blocks are not worth a request while there is hope for more memory.
const SHORTEST_BLOCK: u64 = 64 << 10;
const MIB: u64 = 1 << 20;

/// The sizes of a blob's blocks: block n (from 0) has `base × (1 + n / 2,500)` bytes, rounded down, so that
/// 50,000 of them hold `525,000 × base`: 4 TiB with the default of 8 MiB. A client with little memory has smaller ones,
/// and less room.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    base: u64,
    /// The largest block that is buffered.
    most: u64,
    next: u64,
    /// The size of the whole blob, where it is known.
    size: Option<u64>,
    handle: Uuid,
}

impl Plan {
    pub(crate) fn new(base: u64) -> Self {
        Self { base, most: MAX_BLOCK_SIZE, next: 0, size: None, handle: Uuid::new_v4() }
    }

    /// With blocks that this much memory has room for: two at least, so that one can be filled while another is under
    /// way.
    pub(crate) fn within(self, memory_limit: u64) -> Self {
        Self { most: self.most.min(memory_limit / 2), ..self }
    }

    /// For a blob of `size` bytes, with blocks as small as that allows.
    pub(crate) fn for_size(mut self, size: u64) -> Result<Self> {
        while self.room() < size {
            if self.base >= self.most {
                return Err(self.too_large(size, self.room()));
            }
            self.base = (self.base * 2).min(self.most);
        }
        self.size = Some(size);
        Ok(self)
    }

    /// The size of the next block.
    pub(crate) fn block_size(&self) -> u64 {
        self.size_of(self.next).min(self.most)
    }

    /// What the next block may have at least when memory is short, after `written` bytes. Shorter blocks than planned cost
    /// room. A blob of known size keeps what its rest needs; any other keeps half of its room at least.
    pub(crate) fn least_block_size(&self, written: u64) -> u64 {
        let planned = self.block_size();
        let needed = match self.size {
            // With no block shorter than this, those that are left hold the rest.
            Some(size) => size.saturating_sub(written).div_ceil(MAX_BLOCKS.saturating_sub(self.next).max(1)),
            None => planned * self.next / MAX_BLOCKS,
        };
        needed.max(SHORTEST_BLOCK).min(planned)
    }

    fn size_of(&self, block: u64) -> u64 {
        (self.base * (1 + block / TIER)).min(MAX_BLOCK_SIZE)
    }

    /// How many bytes the blocks that are left can hold, when each is filled in a buffer.
    pub(crate) fn room(&self) -> u64 {
        let mut room = 0;
        let mut block = self.next;
        while block < MAX_BLOCKS {
            let tier_end = ((block / TIER + 1) * TIER).min(MAX_BLOCKS);
            room += (tier_end - block) * self.size_of(block).min(self.most);
            block = tier_end;
        }
        room
    }

    /// Fails before a write of `length` bytes that the blocks left could not hold. A buffer that is begun has the next
    /// block, and takes the first `buffered` of them.
    pub(crate) fn check_room(&self, written: u64, length: u64, buffered: Option<u64>) -> Result<()> {
        let mut then = self.clone();
        then.next += u64::from(buffered.is_some());
        let mut rest = length.saturating_sub(buffered.unwrap_or(0));
        // As the writer cuts it.
        while let Some(size) = then.direct_block_size(rest) {
            then.next += rest / size;
            rest %= size;
        }
        if then.next <= MAX_BLOCKS && rest <= then.room() {
            return Ok(());
        }
        Err(self.too_large(written.saturating_add(length), written.saturating_add(self.room())))
    }

    /// The block size for a single write of `length` bytes that is long enough to be sent from the caller's memory: at
    /// most a fourth of it. No memory is spent on it, so it may be larger than the plan's, to spare blocks.
    pub(crate) fn direct_block_size(&self, length: u64) -> Option<u64> {
        let most = length / DIRECT_BLOCKS;
        let spread = length.div_ceil(WELL_SPREAD).next_multiple_of(MIB).max(self.size_of(self.next));
        (most >= self.block_size()).then(|| spread.min(most).min(MAX_BLOCK_SIZE))
    }

    /// The next block's id. It is unique to the handle, so that two writers cannot mix blocks, and has 36
    /// characters as azstoragetorch's ids have, so that what a killed job of either library left behind
    /// does not make the service refuse ours: it wants ids of one length.
    pub(crate) fn next_id(&mut self) -> Result<String> {
        if self.next >= MAX_BLOCKS {
            return Err(Error::new(
                Status::Rejected,
                format!("the blob has {MAX_BLOCKS} blocks, the most there can be"),
            )
            .hint("flush less often, or set a larger block_size or memory_limit"));
        }
        let mut bytes = *self.handle.as_bytes();
        bytes[12..].copy_from_slice(&(self.next as u32).to_be_bytes());
        self.next += 1;
        Ok(Builder::from_bytes(bytes).into_uuid().hyphenated().to_string())
    }

    /// `size` bytes are too many, and `room` would not be. Says which setting stands in the way.
    fn too_large(&self, size: u64, room: u64) -> Error {
        let message = format!("{size} bytes do not fit: {MAX_BLOCKS} blocks hold {room} bytes");
        if size <= MAX_BLOCKS * self.most && self.base < self.most {
            return Error::invalid(message + " with this block_size")
                .hint("set a larger block_size on the client: up to 525,000 times as much fits");
        }
        if self.most < MAX_BLOCK_SIZE {
            return Error::invalid(message + " with this memory_limit").hint(
                "set a larger memory_limit on the client: a block that is buffered has at most half of it, and a blob \
                 50,000 times as much",
            );
        }
        Error::invalid(message + ", and the service takes no larger ones")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_formula() {
        let plan = Plan::new(8 * MIB);
        assert_eq!(plan.room(), 525_000 * 8 * MIB);
        assert!(plan.room() >= 1 << 40);
        let summed: u64 = (0..MAX_BLOCKS).map(|block| plan.size_of(block)).sum();
        assert_eq!(plan.room(), summed);
        assert_eq!(plan.block_size(), 8 * MIB);
    }

    #[test]
    fn running_out_is_seen_before_it_happens() {
        let mut plan = Plan::new(64 << 10);
        let room = plan.room();
        for _ in 1..MAX_BLOCKS {
            plan.next_id().unwrap();
        }
        // One block is left, and 1.25 MiB fit into it.
        assert_eq!(plan.room(), 20 * (64 << 10));
        assert!(plan.check_room(room - plan.room(), plan.room(), None).is_ok());
        let error = plan.check_room(room - plan.room(), plan.room() + 1, None).unwrap_err();
        assert!(error.message().contains("block_size") && error.message().contains(&room.to_string()), "{error}");
        assert!(plan.check_room(0, 10, Some(10)).is_ok(), "the buffer has the last block");
        assert!(plan.check_room(0, 11, Some(10)).is_err());
        plan.next_id().unwrap();
        assert_eq!(plan.room(), 0);
        assert!(plan.next_id().is_err());
    }

    #[test]
    fn a_known_size_raises_the_block_size() {
        assert!(Plan::new(8 * MIB).for_size(100 << 40).unwrap().room() >= 100 << 40);
        assert_eq!(Plan::new(8 * MIB).for_size(1 << 30).unwrap().block_size(), 8 * MIB);
        assert!(Plan::new(MIB).for_size(1 << 60).is_err());
        assert_eq!(Plan::new(8 * MIB).direct_block_size(1 << 40), Some(2048 * MIB));
    }

    #[test]
    fn ids_are_unique_and_as_long_as_the_references() {
        let (mut one, mut other) = (Plan::new(MIB), Plan::new(MIB));
        let ids: std::collections::HashSet<_> =
            (0..1000).flat_map(|_| [one.next_id().unwrap(), other.next_id().unwrap()]).collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.len() == 36));
    }

    #[test]
    fn a_long_write_is_cut_into_four_blocks_at_least() {
        for base in [64 << 10, 100_000, (256 << 10) - 1, 256 << 10, MIB, 8 * MIB, MAX_BLOCK_SIZE] {
            for memory_limit in [MIB, 32 * MIB, u64::MAX] {
                let plan = Plan::new(base).within(memory_limit);
                let block = plan.block_size();
                assert_eq!(plan.direct_block_size(4 * block - 1), None);
                for length in [4 * block, 4 * block + 1, 5 * block, MIB.max(4 * block), 600 * block, 1 << 44] {
                    let size = plan.direct_block_size(length).unwrap();
                    assert!((block..=MAX_BLOCK_SIZE).contains(&size) && size <= length / 4, "{base} {length} {size}");
                }
            }
        }
    }

    /// What a writer does that gets a buffer of the least size each time.
    #[test]
    fn the_plan_counts_the_sizes_that_little_memory_allows() {
        let plan = Plan::new(8 * MIB).within(32 * MIB);
        let sizes: Vec<_> = (0..MAX_BLOCKS).map(|next| Plan { next, ..plan.clone() }.block_size()).collect();
        assert_eq!((sizes[0], sizes[TIER as usize], sizes[49_999]), (8 * MIB, 16 * MIB, 16 * MIB));
        assert_eq!(plan.room(), sizes.iter().sum::<u64>());

        let sent = |mut plan: Plan| {
            let mut written = 0;
            for _ in 0..MAX_BLOCKS {
                written += plan.least_block_size(written);
                plan.next_id().unwrap();
            }
            written
        };
        assert!(sent(plan.clone()) >= plan.room() / 2);
        let most = 50_000 * 16 * MIB;
        for size in [1, MIB, 10 << 30, 500 << 30, most - 1, most] {
            let sized = plan.clone().for_size(size).unwrap();
            assert!(sized.room() >= size && sent(sized) >= size, "{size}");
        }
        let error = plan.clone().for_size(most + 1).unwrap_err();
        assert!(error.message().contains("memory_limit"), "{error}");
    }

    #[test]
    fn what_does_not_fit_says_which_setting_limits_it() {
        let said = |plan: &Plan, size| plan.check_room(0, size, Some(size - 1)).unwrap_err().message().to_owned();
        let last = |base, memory| Plan { next: MAX_BLOCKS, ..Plan::new(base).within(memory) };
        assert!(said(&last(64 << 10, u64::MAX), 10).contains("larger block_size"));
        assert!(said(&last(64 << 10, 32 * MIB), 10).contains("larger block_size"));
        assert!(said(&last(8 * MIB, MIB), 10).contains("larger memory_limit"));
        let whole = said(&last(MAX_BLOCK_SIZE, u64::MAX), 10);
        assert!(!whole.contains("larger block_size") && whole.contains("the service"), "{whole}");
        // Of a write that is sent from the caller's memory, blocks may be larger.
        let small = Plan::new(64 << 10).within(MIB);
        assert!(small.room() < 30 << 30 && small.check_room(0, 30 << 30, None).is_ok());
    }
}
