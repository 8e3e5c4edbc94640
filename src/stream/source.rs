//! Reads the names of a stream's entries: those of one shard of a table, or of a container, which is listed meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::dataset::entries::Entries;
use crate::dataset::sample::Item;
use crate::error::Result;
use crate::service::list_blobs::{Listing, Page};
use crate::stream::cursor::{Cursor, ListingPosition};
use crate::stream::listed::{ShardPage, key_of};
use crate::stream::pages::{PageRequest, Pages};
use crate::stream::shard::Shard;
use crate::stream::shuffle::{Remaining, ShuffleBuffer};

/// How many entries of a table a shard takes at a time, at most.
const TABLE_CHUNK: usize = 4096;

/// The names of one epoch, and how far they have been read.
pub(super) enum NameReader {
    Table { entries: Arc<Entries>, next: usize },
    Listing(Pages),
}

impl NameReader {
    pub(super) fn of_table(entries: &Arc<Entries>) -> Self {
        Self::Table { entries: entries.clone(), next: 0 }
    }

    pub(super) fn of_listing() -> Self {
        Self::Listing(Pages::new())
    }

    /// Whether a cursor's place is still being looked for.
    pub(super) fn is_resuming(&self) -> bool {
        matches!(self, Self::Listing(pages) if pages.is_resuming())
    }

    /// Moves a sequence to the place of a cursor, at once or as soon as the listing has reached it. Returns the samples
    /// to be tried again, by position.
    pub(super) fn resume(&mut self, cursor: &Cursor, sequence: &mut ShuffleBuffer<Item>) -> Vec<(u64, Item)> {
        match self {
            Self::Table { entries, next } => {
                *next = usize::try_from(cursor.place.count).unwrap_or(usize::MAX).min(entries.len());
                let item = |&index: &u64| {
                    let index = usize::try_from(index).ok().filter(|&index| index < entries.len())?;
                    Some(Item { entries: entries.clone(), index })
                };
                let slots = cursor.slots.iter().filter_map(item).collect();
                sequence.resume(cursor.position, slots, VecDeque::new());
                cursor.retry.iter().filter_map(|(position, index)| Some((*position, item(index)?))).collect()
            }
            Self::Listing(pages) => {
                pages.resume(cursor, sequence);
                Vec::new()
            }
        }
    }

    /// Adds further entries of a table to the sequence. Returns false for a listing, whose entries come with
    /// [`add_page`](Self::add_page).
    pub(super) fn read_table(&mut self, shard: Shard, sequence: &mut ShuffleBuffer<Item>) -> bool {
        let Self::Table { entries, next } = self else { return false };
        let end = next.saturating_add(TABLE_CHUNK.saturating_mul(shard.count)).min(entries.len());
        for index in (next.saturating_add(shard.distance(*next))..end).step_by(shard.count) {
            sequence.push(Item { entries: entries.clone(), index });
        }
        *next = end;
        if end == entries.len() {
            sequence.complete();
        }
        true
    }

    /// The page to be requested next; `None` for a table, and after the last page.
    pub(super) fn next_page(&self) -> Option<PageRequest> {
        match self {
            Self::Table { .. } => None,
            Self::Listing(pages) => pages.next_page(),
        }
    }

    /// Adds a page's entries to the sequence. Returns the samples to be tried again, by position, once the listing has
    /// reached the place of a cursor.
    pub(super) fn add_page(
        &mut self,
        listing: &Listing,
        page: Page<ShardPage>,
        shard: Shard,
        sequence: &mut ShuffleBuffer<Item>,
    ) -> Result<Vec<(u64, Item)>> {
        match self {
            Self::Table { .. } => Ok(Vec::new()),
            Self::Listing(pages) => pages.add(listing, page, shard, sequence),
        }
    }

    /// The place, the buffer and the queue of a cursor for the point where `remaining` is still to come.
    pub(super) fn place_of(
        &self,
        remaining: &Remaining<Item>,
        shard: Shard,
    ) -> Result<(ListingPosition, Vec<u64>, Vec<u64>)> {
        match self {
            Self::Table { next, .. } => {
                // The queue is the entries from `count` to `next`.
                let count = remaining.queue.front().map_or(*next, |item| item.index) as u64;
                let slots = remaining.slots.iter().map(|item| item.index as u64).collect();
                Ok((ListingPosition { count, landmarks: None }, slots, Vec::new()))
            }
            Self::Listing(pages) => pages.place_of(remaining, shard),
        }
    }

    /// The number that stands for an entry in a cursor.
    pub(super) fn key(&self, item: &Item) -> Result<u64> {
        match self {
            Self::Table { .. } => Ok(item.index as u64),
            Self::Listing(_) => key_of(item),
        }
    }
}
