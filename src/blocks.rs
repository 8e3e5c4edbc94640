//! How a blob is cut into blocks, and what the blocks are called.

use uuid::{Builder, Uuid};

use crate::error::{Error, Result, Status};
use crate::options::MAX_BLOCK_SIZE;

/// The service's limit (<https://learn.microsoft.com/azure/storage/blobs/scalability-targets>).
pub(crate) const MAX_BLOCKS: u64 = 50_000;
/// Every so many blocks they grow by the size of the first.
const TIER: u64 = 2_500;
const MIB: u64 = 1 << 20;

/// The sizes of a blob's blocks: block n (from 0) has `base × (1 + n / 2,500)` bytes, rounded down, so that
/// 50,000 of them hold `525,000 × base`: 4 TiB with the default of 8 MiB.
#[derive(Debug)]
pub(crate) struct Plan {
    base: u64,
    next: u64,
    handle: Uuid,
}

impl Plan {
    pub(crate) fn new(base: u64) -> Self {
        Self { base, next: 0, handle: Uuid::new_v4() }
    }

    /// A plan that holds `size` bytes, with blocks as small as that allows.
    pub(crate) fn for_size(base: u64, size: u64) -> Result<Self> {
        let mut plan = Self::new(base);
        while plan.room() < size {
            if plan.base >= MAX_BLOCK_SIZE {
                return Err(too_large(size, plan.room()));
            }
            plan.base = (plan.base * 2).min(MAX_BLOCK_SIZE);
        }
        Ok(plan)
    }

    /// The size of the next block.
    pub(crate) fn block_size(&self) -> u64 {
        self.size_of(self.next)
    }

    fn size_of(&self, block: u64) -> u64 {
        (self.base * (1 + block / TIER)).min(MAX_BLOCK_SIZE)
    }

    /// How many bytes the blocks that are left can hold.
    pub(crate) fn room(&self) -> u64 {
        let mut room = 0;
        let mut block = self.next;
        while block < MAX_BLOCKS {
            let tier_end = ((block / TIER + 1) * TIER).min(MAX_BLOCKS);
            room += (tier_end - block) * self.size_of(block);
            block = tier_end;
        }
        room
    }

    /// Fails before a write that the blocks left could not hold.
    pub(crate) fn check_room(&self, written: u64, more: u64) -> Result<()> {
        if more <= self.room() {
            return Ok(());
        }
        Err(too_large(written.saturating_add(more), written + self.room()))
    }

    /// The block size for a single write of `length` bytes: no memory is spent on it, so it may be larger
    /// than the plan's, to spare blocks.
    pub(crate) fn direct_block_size(&self, length: u64) -> u64 {
        const WELL_SPREAD: u64 = 512;
        length.div_ceil(WELL_SPREAD).next_multiple_of(MIB).clamp(self.block_size(), MAX_BLOCK_SIZE)
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
            .hint("flush less often, or set a larger block_size"));
        }
        let mut bytes = *self.handle.as_bytes();
        bytes[12..].copy_from_slice(&(self.next as u32).to_be_bytes());
        self.next += 1;
        Ok(Builder::from_bytes(bytes).into_uuid().hyphenated().to_string())
    }
}

fn too_large(size: u64, room: u64) -> Error {
    Error::invalid(format!("{size} bytes do not fit: {MAX_BLOCKS} blocks hold {room} bytes with this block_size"))
        .hint("set a larger block_size on the client: 525,000 times as much fits")
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
        assert!(plan.check_room(0, room).is_ok());
        assert!(plan.check_room(0, room + 1).unwrap_err().message().contains("block_size"));
        for _ in 0..MAX_BLOCKS {
            plan.next_id().unwrap();
        }
        assert_eq!(plan.room(), 0);
        assert!(plan.next_id().is_err());
    }

    #[test]
    fn a_known_size_raises_the_block_size() {
        assert!(Plan::for_size(8 * MIB, 100 << 40).unwrap().room() >= 100 << 40);
        assert_eq!(Plan::for_size(8 * MIB, 1 << 30).unwrap().block_size(), 8 * MIB);
        assert!(Plan::for_size(MIB, 1 << 60).is_err());
        assert_eq!(Plan::new(8 * MIB).direct_block_size(1 << 40), 2048 * MIB);
    }

    #[test]
    fn ids_are_unique_and_as_long_as_the_references() {
        let (mut one, mut other) = (Plan::new(MIB), Plan::new(MIB));
        let ids: std::collections::HashSet<_> =
            (0..1000).flat_map(|_| [one.next_id().unwrap(), other.next_id().unwrap()]).collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.len() == 36));
    }
}
