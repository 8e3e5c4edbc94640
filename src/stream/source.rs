//! What a stream is fed with: one shard of a table, or of a container that is listed meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use super::pages::{Pages, key_of};
use crate::dataset::entries::Entries;
use crate::dataset::sample::Item;
use crate::error::Result;
use crate::service::list_blobs::{Listing, Page};
use crate::stream::cursor::{Cursor, Place};
use crate::stream::shuffle::{Rest, ShuffleBuffer};

/// How many entries of a table are looked at in one go.
const TABLE_PIECE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) index: usize,
    pub(super) count: usize,
}

impl Shard {
    pub(super) fn has(self, ordinal: u64) -> bool {
        ordinal % self.count as u64 == self.index as u64
    }

    /// How far it is from an entry to the shard's next one.
    fn distance(self, from: usize) -> usize {
        let at = from % self.count;
        if at <= self.index { self.index - at } else { self.count - at + self.index }
    }
}

/// How far the names have been read.
pub(super) enum Feed {
    Table { entries: Arc<Entries>, next: usize },
    Listing(Pages),
}

/// What a page is asked for.
#[derive(Clone)]
pub(super) struct Wish {
    pub(super) marker: String,
    pub(super) count: u64,
    pub(super) everything: bool,
}

impl Wish {
    /// Whether to keep the blob of this number on the page.
    pub(super) fn keep(&self, shard: Shard, number: u64) -> bool {
        self.everything || shard.has(self.count + number)
    }
}

impl Feed {
    pub(super) fn of_table(entries: &Arc<Entries>) -> Self {
        Self::Table { entries: entries.clone(), next: 0 }
    }

    pub(super) fn of_listing() -> Self {
        Self::Listing(Pages::new())
    }

    /// Whether a cursor's place has not been reached yet.
    pub(super) fn is_resuming(&self) -> bool {
        matches!(self, Self::Listing(pages) if pages.is_resuming())
    }

    /// Puts a sequence where a cursor stands, or sees to it that this happens once that much is listed. Gives the
    /// samples that are to be tried again.
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

    /// Feeds what needs no request; true when that was something.
    pub(super) fn feed_table(&mut self, shard: Shard, sequence: &mut ShuffleBuffer<Item>) -> bool {
        let Self::Table { entries, next } = self else { return false };
        let end = next.saturating_add(TABLE_PIECE.saturating_mul(shard.count)).min(entries.len());
        for index in (next.saturating_add(shard.distance(*next))..end).step_by(shard.count) {
            sequence.push(Item { entries: entries.clone(), index });
        }
        *next = end;
        if end == entries.len() {
            sequence.complete();
        }
        true
    }

    /// The next page, if there is one.
    pub(super) fn wish(&self) -> Option<Wish> {
        match self {
            Self::Table { .. } => None,
            Self::Listing(pages) => pages.wish(),
        }
    }

    /// Feeds a page; gives the samples that are to be tried again, once their names have been found.
    pub(super) fn feed_page(
        &mut self,
        listing: &Listing,
        page: Page,
        shard: Shard,
        sequence: &mut ShuffleBuffer<Item>,
    ) -> Result<Vec<(u64, Item)>> {
        match self {
            Self::Table { .. } => Ok(Vec::new()),
            Self::Listing(pages) => pages.feed(listing, page, shard, sequence),
        }
    }

    /// What a cursor says of the listing and of what is still to come.
    pub(super) fn tell(&self, rest: &Rest<Item>, shard: Shard) -> Result<(Place, Vec<u64>, Vec<u64>)> {
        match self {
            Self::Table { next, .. } => {
                // The queue is what lies between here and there.
                let count = rest.queue.front().map_or(*next, |item| item.index) as u64;
                let slots = rest.slots.iter().map(|item| item.index as u64).collect();
                Ok((Place { count, landmarks: None }, slots, Vec::new()))
            }
            Self::Listing(pages) => pages.tell(rest, shard),
        }
    }

    /// A sample's number in a cursor.
    pub(super) fn key(&self, item: &Item) -> Result<u64> {
        match self {
            Self::Table { .. } => Ok(item.index as u64),
            Self::Listing(_) => key_of(item),
        }
    }
}
