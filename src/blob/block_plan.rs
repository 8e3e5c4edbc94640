//! How a blob is cut into blocks: their sizes and their ids.

use uuid::{Builder, Uuid};

use crate::error::{Error, Result, Status};
use crate::options::MAX_BLOCK_SIZE;

/// The maximum number of blocks of a blob (<https://learn.microsoft.com/azure/storage/blobs/scalability-targets>).
pub(crate) const MAX_BLOCKS: u64 = 50_000;
/// After this many blocks the block size grows by the size of the first block.
const TIER: u64 = 2_500;
/// A single write of at least this many blocks is uploaded from the caller's memory, without a copy.
const DIRECT_BLOCKS: u64 = 4;
/// The approximate number of blocks of a write that is uploaded from the caller's memory.
const DIRECT_TARGET: u64 = 512;
/// The smallest block, in bytes, that a writer makes when memory is short.
const MIN_SHORT_BLOCK: u64 = 64 << 10;
const MIB: u64 = 1 << 20;

/// The sizes and ids of a blob's blocks. Block n (from 0) has `base × (1 + n / 2,500)` bytes, with the quotient rounded
/// down, so that 50,000 blocks hold `525,000 × base`: 4 TiB with the default of 8 MiB. When memory is short, blocks are
/// smaller and hold less.
#[derive(Clone, Debug)]
pub(crate) struct BlockPlan {
    /// The size of the first block.
    base: u64,
    /// The largest block that is buffered, in bytes.
    max_buffered: u64,
    /// The number of the next block.
    next: u64,
    /// The size of the whole blob in bytes, if it is known.
    size: Option<u64>,
    /// Makes the ids of this plan's blocks unique.
    id: Uuid,
}

impl BlockPlan {
    /// A plan whose first block has `base` bytes.
    pub(crate) fn new(base: u64) -> Self {
        Self { base, max_buffered: MAX_BLOCK_SIZE, next: 0, size: None, id: Uuid::new_v4() }
    }

    /// Limits blocks to half of `memory_limit` bytes, so that one block can be filled while another one is uploaded.
    pub(crate) fn within(self, memory_limit: u64) -> Self {
        Self { max_buffered: self.max_buffered.min(memory_limit / 2), ..self }
    }

    /// For a blob of `size` bytes: doubles the block size until the blocks can hold them.
    pub(crate) fn for_size(mut self, size: u64) -> Result<Self> {
        while self.capacity() < size {
            if self.base >= self.max_buffered {
                return Err(self.too_large(size, self.capacity()));
            }
            self.base = (self.base * 2).min(self.max_buffered);
        }
        self.size = Some(size);
        Ok(self)
    }

    /// The size of the next block in bytes.
    pub(crate) fn block_size(&self) -> u64 {
        self.size_of(self.next).min(self.max_buffered)
    }

    /// The smallest size of the next block when memory is short, after `written` bytes. Blocks that are shorter than
    /// planned reduce the capacity of the blob. A blob of known size keeps enough for its rest; another blob keeps at
    /// least half.
    pub(crate) fn least_block_size(&self, written: u64) -> u64 {
        let planned = self.block_size();
        let needed = match self.size {
            // If no block is shorter than this, the blocks that are left can hold the rest.
            Some(size) => size.saturating_sub(written).div_ceil(MAX_BLOCKS.saturating_sub(self.next).max(1)),
            None => planned * self.next / MAX_BLOCKS,
        };
        needed.max(MIN_SHORT_BLOCK).min(planned)
    }

    fn size_of(&self, block: u64) -> u64 {
        (self.base * (1 + block / TIER)).min(MAX_BLOCK_SIZE)
    }

    /// How many bytes the blocks that are left can hold if all are buffered.
    pub(crate) fn capacity(&self) -> u64 {
        let mut capacity = 0;
        let mut block = self.next;
        while block < MAX_BLOCKS {
            let tier_end = ((block / TIER + 1) * TIER).min(MAX_BLOCKS);
            capacity += (tier_end - block) * self.size_of(block).min(self.max_buffered);
            block = tier_end;
        }
        capacity
    }

    /// An error if the blocks that are left cannot hold another `length` bytes. `buffered` is the free space of the
    /// buffer that was begun, which will be the next block.
    pub(crate) fn check_capacity(&self, written: u64, length: u64, buffered: Option<u64>) -> Result<()> {
        let mut then = self.clone();
        then.next += u64::from(buffered.is_some());
        let mut rest = length.saturating_sub(buffered.unwrap_or(0));
        // The writer cuts long writes in the same way.
        while let Some(size) = then.direct_block_size(rest) {
            then.next += rest / size;
            rest %= size;
        }
        if then.next <= MAX_BLOCKS && rest <= then.capacity() {
            return Ok(());
        }
        Err(self.too_large(written.saturating_add(length), written.saturating_add(self.capacity())))
    }

    /// The block size for a single write of `length` bytes that is uploaded from the caller's memory: at most a fourth
    /// of it. `None` for a write that is too short for that. It may be larger than the plan's size, because it needs no
    /// memory, and large blocks leave more of the 50,000 for later.
    pub(crate) fn direct_block_size(&self, length: u64) -> Option<u64> {
        let most = length / DIRECT_BLOCKS;
        let spread = length.div_ceil(DIRECT_TARGET).next_multiple_of(MIB).max(self.size_of(self.next));
        (most >= self.block_size()).then(|| spread.min(most).min(MAX_BLOCK_SIZE))
    }

    /// The next block's id, before base64. It is unique to this plan, so that two writers cannot mix their blocks. It
    /// has 36 characters like the ids of azstoragetorch, because the service refuses ids of different lengths in one
    /// blob, also of uncommitted blocks that a killed job of either library has left behind.
    pub(crate) fn next_id(&mut self) -> Result<String> {
        if self.next >= MAX_BLOCKS {
            return Err(Error::new(
                Status::Rejected,
                format!("the blob has {MAX_BLOCKS} blocks, the most there can be"),
            )
            .hint("flush less often, or set a larger block_size or memory_limit"));
        }
        let mut bytes = *self.id.as_bytes();
        bytes[12..].copy_from_slice(&(self.next as u32).to_be_bytes());
        self.next += 1;
        Ok(Builder::from_bytes(bytes).into_uuid().hyphenated().to_string())
    }

    /// The error of a blob of `size` bytes where only `capacity` bytes fit. It names the setting to change.
    fn too_large(&self, size: u64, capacity: u64) -> Error {
        let message = format!("{size} bytes do not fit: {MAX_BLOCKS} blocks hold {capacity} bytes");
        if size <= MAX_BLOCKS * self.max_buffered && self.base < self.max_buffered {
            return Error::invalid(message + " with this block_size")
                .hint("set a larger block_size on the client: up to 525,000 times as much fits");
        }
        if self.max_buffered < MAX_BLOCK_SIZE {
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
    fn capacity_follows_the_documented_formula() {
        let plan = BlockPlan::new(8 * MIB);
        assert_eq!(plan.capacity(), 525_000 * 8 * MIB);
        assert!(plan.capacity() >= 1 << 40);
        let summed: u64 = (0..MAX_BLOCKS).map(|block| plan.size_of(block)).sum();
        assert_eq!(plan.capacity(), summed);
        assert_eq!(plan.block_size(), 8 * MIB);
    }

    #[test]
    fn a_write_that_does_not_fit_fails_before_it_begins() {
        let mut plan = BlockPlan::new(64 << 10);
        let capacity = plan.capacity();
        for _ in 1..MAX_BLOCKS {
            plan.next_id().unwrap();
        }
        // One block is left, and 1.25 MiB fit into it.
        assert_eq!(plan.capacity(), 20 * (64 << 10));
        assert!(plan.check_capacity(capacity - plan.capacity(), plan.capacity(), None).is_ok());
        let error = plan.check_capacity(capacity - plan.capacity(), plan.capacity() + 1, None).unwrap_err();
        assert!(error.message().contains("block_size") && error.message().contains(&capacity.to_string()), "{error}");
        assert!(plan.check_capacity(0, 10, Some(10)).is_ok(), "the buffer becomes the last block");
        assert!(plan.check_capacity(0, 11, Some(10)).is_err());
        plan.next_id().unwrap();
        assert_eq!(plan.capacity(), 0);
        assert!(plan.next_id().is_err());
    }

    #[test]
    fn a_known_size_raises_the_block_size() {
        assert!(BlockPlan::new(8 * MIB).for_size(100 << 40).unwrap().capacity() >= 100 << 40);
        assert_eq!(BlockPlan::new(8 * MIB).for_size(1 << 30).unwrap().block_size(), 8 * MIB);
        assert!(BlockPlan::new(MIB).for_size(1 << 60).is_err());
        assert_eq!(BlockPlan::new(8 * MIB).direct_block_size(1 << 40), Some(2048 * MIB));
    }

    #[test]
    fn ids_are_unique_and_have_36_characters() {
        let (mut one, mut other) = (BlockPlan::new(MIB), BlockPlan::new(MIB));
        let ids: std::collections::HashSet<_> =
            (0..1000).flat_map(|_| [one.next_id().unwrap(), other.next_id().unwrap()]).collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.len() == 36));
    }

    #[test]
    fn a_long_write_becomes_at_least_four_blocks() {
        for base in [64 << 10, 100_000, (256 << 10) - 1, 256 << 10, MIB, 8 * MIB, MAX_BLOCK_SIZE] {
            for memory_limit in [MIB, 32 * MIB, u64::MAX] {
                let plan = BlockPlan::new(base).within(memory_limit);
                let block = plan.block_size();
                assert_eq!(plan.direct_block_size(4 * block - 1), None);
                for length in [4 * block, 4 * block + 1, 5 * block, MIB.max(4 * block), 600 * block, 1 << 44] {
                    let size = plan.direct_block_size(length).unwrap();
                    assert!((block..=MAX_BLOCK_SIZE).contains(&size) && size <= length / 4, "{base} {length} {size}");
                }
            }
        }
    }

    /// `sent` simulates a writer whose buffers always have the smallest size.
    #[test]
    fn a_small_memory_limit_makes_smaller_blocks_that_still_hold_the_blob() {
        let plan = BlockPlan::new(8 * MIB).within(32 * MIB);
        let sizes: Vec<_> = (0..MAX_BLOCKS).map(|next| BlockPlan { next, ..plan.clone() }.block_size()).collect();
        assert_eq!((sizes[0], sizes[TIER as usize], sizes[49_999]), (8 * MIB, 16 * MIB, 16 * MIB));
        assert_eq!(plan.capacity(), sizes.iter().sum::<u64>());

        let sent = |mut plan: BlockPlan| {
            let mut written = 0;
            for _ in 0..MAX_BLOCKS {
                written += plan.least_block_size(written);
                plan.next_id().unwrap();
            }
            written
        };
        assert!(sent(plan.clone()) >= plan.capacity() / 2);
        let most = 50_000 * 16 * MIB;
        for size in [1, MIB, 10 << 30, 500 << 30, most - 1, most] {
            let sized = plan.clone().for_size(size).unwrap();
            assert!(sized.capacity() >= size && sent(sized) >= size, "{size}");
        }
        let error = plan.clone().for_size(most + 1).unwrap_err();
        assert!(error.message().contains("memory_limit"), "{error}");
    }

    #[test]
    fn the_error_of_a_blob_that_does_not_fit_names_the_setting() {
        let message =
            |plan: &BlockPlan, size| plan.check_capacity(0, size, Some(size - 1)).unwrap_err().message().to_owned();
        let last = |base, memory| BlockPlan { next: MAX_BLOCKS, ..BlockPlan::new(base).within(memory) };
        assert!(message(&last(64 << 10, u64::MAX), 10).contains("larger block_size"));
        assert!(message(&last(64 << 10, 32 * MIB), 10).contains("larger block_size"));
        assert!(message(&last(8 * MIB, MIB), 10).contains("larger memory_limit"));
        let whole = message(&last(MAX_BLOCK_SIZE, u64::MAX), 10);
        assert!(!whole.contains("larger block_size") && whole.contains("the service"), "{whole}");
        // A write that is uploaded from the caller's memory may have larger blocks.
        let small = BlockPlan::new(64 << 10).within(MIB);
        assert!(small.capacity() < 30 << 30 && small.check_capacity(0, 30 << 30, None).is_ok());
    }
}
