//! Turns the pages of a listing into a stream's entries, and records places in the listing for cursors.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::dataset::entries::Entries;
use crate::dataset::sample::Item;
use crate::error::Result;
use crate::service::list_blobs::{Listing, Page};
use crate::stream::cursor::{Cursor, Landmarks, ListingPosition, key};
use crate::stream::listed::{LastNames, ListedEntries, NEARBY, ShardPage, TableOrigin, key_of, keys_of};
use crate::stream::search::{Search, SearchOutcome};
use crate::stream::shard::Shard;
use crate::stream::shuffle::{Remaining, ShuffleBuffer};

/// The pages of one epoch's listing.
pub(super) struct Pages {
    /// How many blobs of all shards were listed.
    count: u64,
    /// The last of these blobs.
    last: LastNames,
    /// Where the next page begins; `None` after the last page.
    marker: Option<String>,
    /// Set while a cursor's place is looked for.
    search: Option<Box<Search>>,
    /// The tables whose entries are still in use, in the order of the listing, and where they begin.
    tables: VecDeque<(Weak<Entries>, TableOrigin)>,
}

/// A page to be requested.
#[derive(Clone)]
pub(super) struct PageRequest {
    /// Where the page begins.
    pub(super) marker: String,
    /// How many blobs of all shards were listed before it.
    pub(super) count: u64,
    /// Whether the blobs of all shards are kept.
    pub(super) all_shards: bool,
}

impl PageRequest {
    /// An empty page, which takes the blobs of the response.
    pub(super) fn new_page(&self, listing: &Listing, shard: Shard) -> Result<ShardPage> {
        let shard = if self.all_shards { Shard::ALL } else { shard };
        ShardPage::new(&listing.container, shard, self.count)
    }
}

impl Pages {
    pub(super) fn new() -> Self {
        Self {
            count: 0,
            last: LastNames::default(),
            marker: Some(String::new()),
            search: None,
            tables: VecDeque::new(),
        }
    }

    pub(super) fn is_resuming(&self) -> bool {
        self.search.is_some()
    }

    /// Moves to a cursor's place, at once or when later pages have reached it.
    pub(super) fn resume(&mut self, cursor: &Cursor, sequence: &mut ShuffleBuffer<Item>) {
        let search = Search::new(cursor.clone());
        if !search.is_needed() {
            let (_, page) = search.finish(sequence);
            self.continue_from(cursor.place.count, page, sequence);
            return;
        }
        self.search = Some(Box::new(search));
    }

    /// Continues with the page of this marker; with `None` the listing is complete.
    fn continue_from(&mut self, count: u64, marker: Option<String>, sequence: &mut ShuffleBuffer<Item>) {
        (self.count, self.marker, self.last) = (count, marker, LastNames::default());
        if self.marker.is_none() {
            sequence.complete();
        }
    }

    /// The page to be requested next; `None` after the last page.
    pub(super) fn next_page(&self) -> Option<PageRequest> {
        let marker = self.marker.clone()?;
        Some(PageRequest { marker, count: self.count, all_shards: self.is_resuming() })
    }

    /// Adds a page's entries to the sequence. Returns the samples to be tried again, by position, once the place of a
    /// cursor has been found.
    pub(super) fn add(
        &mut self,
        listing: &Listing,
        page: Page<ShardPage>,
        shard: Shard,
        sequence: &mut ShuffleBuffer<Item>,
    ) -> Result<Vec<(u64, Item)>> {
        let Page { blobs: ShardPage { entries, count, last_names, .. }, next } = page;
        let marker = self.marker.take().unwrap_or_default();
        let mut retry = Vec::new();
        if let Some(search) = &mut self.search {
            let outcome = search.look_through(listing, &entries, &marker, shard, next.is_none());
            // A page for which there is no memory is requested again.
            let outcome = outcome.inspect_err(|_| self.marker = Some(marker))?;
            self.marker = next;
            match outcome {
                SearchOutcome::NeedsMore => return Ok(Vec::new()),
                SearchOutcome::Found { entries, count, last } => {
                    if let Some(search) = self.search.take() {
                        (retry, _) = search.finish(sequence);
                    }
                    (self.count, self.last) = (count, last);
                    entries.into_iter().for_each(|entries| self.push(entries, sequence));
                }
                SearchOutcome::Gone { count } => {
                    let shown = listing.container.target.display();
                    tracing::warn!(
                        target: "aztorch::stream",
                        "{shown}: the names around the cursor's place are gone; its page is begun again, and some samples come twice"
                    );
                    if let Some(search) = self.search.take() {
                        let marker;
                        (retry, marker) = search.finish(sequence);
                        self.continue_from(count, marker, sequence);
                    }
                    return Ok(retry);
                }
            }
        } else {
            self.marker = next;
            let origin = TableOrigin { marker, before: self.last.clone() };
            self.push(ListedEntries { entries: Arc::new(entries), origin }, sequence);
            self.count += count;
            last_names.iter().for_each(|name| self.last.push(key(name)));
        }
        if self.marker.is_none() {
            sequence.complete();
        }
        Ok(retry)
    }

    fn push(&mut self, listed: ListedEntries, sequence: &mut ShuffleBuffer<Item>) {
        let ListedEntries { entries, origin } = listed;
        while self.tables.front().is_some_and(|(entries, _)| entries.strong_count() == 0) {
            self.tables.pop_front();
        }
        for index in 0..entries.len() {
            sequence.push(Item { entries: entries.clone(), index });
        }
        self.tables.push_back((Arc::downgrade(&entries), origin));
    }

    /// The place, the buffer and the queue of a cursor for the point where `remaining` is still to come.
    pub(super) fn place_of(
        &self,
        remaining: &Remaining<Item>,
        shard: Shard,
    ) -> Result<(ListingPosition, Vec<u64>, Vec<u64>)> {
        let slots = keys_of(&remaining.slots)?;
        // With a single shard, the queue is all that was listed from its first name on. So the place of that name is
        // enough.
        if shard.count == 1
            && let Some(first) = remaining.queue.front()
            && let Some(origin) = self.origin(first)
        {
            let nearby = first.index.saturating_sub(NEARBY)..first.index;
            let on_page = nearby.rev().map(|index| key_of(&Item { entries: first.entries.clone(), index }));
            let before = on_page.chain(origin.before.nearest_first().map(Ok)).take(NEARBY).collect::<Result<_>>()?;
            let behind = keys_of(remaining.queue.iter().take(NEARBY))?;
            let landmarks = Landmarks { before, behind, page: Some(origin.marker.clone()) };
            let count = self.count.saturating_sub(remaining.queue.len() as u64);
            return Ok((ListingPosition { count, landmarks: Some(landmarks) }, slots, Vec::new()));
        }
        let before = self.last.nearest_first().collect();
        let landmarks = Landmarks { before, behind: Vec::new(), page: self.marker.clone() };
        Ok((ListingPosition { count: self.count, landmarks: Some(landmarks) }, slots, keys_of(&remaining.queue)?))
    }

    /// Where the table that an entry is in begins.
    fn origin(&self, item: &Item) -> Option<&TableOrigin> {
        let entries = Arc::as_ptr(&item.entries);
        self.tables.iter().find(|(table, _)| table.as_ptr() == entries).map(|(_, origin)| origin)
    }
}
