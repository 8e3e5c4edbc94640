//! Finds a cursor's place in a listing that may have changed since, and the names that the cursor mentions.
//!
//! The service keeps the order of names: of two names that are in both listings, the same one comes first. A cursor has
//! the names on both sides of its place, so the place is after the names before it and before the names after it. If
//! one of them is still listed, no older name is between it and the place. If none of them is listed, the stream
//! continues from the beginning of the place's page: samples of that page are repeated, and none is lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::dataset::entries::{Entries, NewEntry};
use crate::dataset::sample::Item;
use crate::error::Result;
use crate::service::list_blobs::Listing;
use crate::stream::cursor::{Cursor, Landmarks, key};
use crate::stream::listed::{LastNames, ListedEntries, TableOrigin, key_of};
use crate::stream::shard::Shard;
use crate::stream::shuffle::ShuffleBuffer;

/// After this many names that follow a name before the place, no other name before the place is expected: this many
/// new names would have to be between the two.
const MOST_UNDECIDED: u64 = 10_000;

/// A search that goes through a listing, page by page.
pub(super) struct Search {
    cursor: Cursor,
    landmarks: Landmarks,
    /// The names that the cursor mentions: those in its buffer, in its queue, and to be tried again.
    wanted: HashSet<u64>,
    /// The wanted names that were listed so far.
    found: HashMap<u64, Item>,
    reached: Reached,
    /// The shard's entries after the last name that is known to be before the place.
    following: Vec<ListedEntries>,
}

/// How far the search has come.
#[derive(Clone, Default)]
struct Reached {
    nearness: Nearness,
    /// The last names that were listed.
    last: LastNames,
    /// How many names of all shards are after the last one that is known to be before the place.
    count: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Nearness {
    #[default]
    /// No name next to the place was listed yet.
    Far,
    /// A name before the place was listed, and others may follow.
    Near,
    Found,
}

/// The result of looking through a page.
pub(super) enum SearchOutcome {
    /// The place is not found yet.
    NeedsMore,
    /// The place is found: the shard's entries after it so far, how many blobs of all shards were listed up to their
    /// end, and the last of these.
    Found { entries: Vec<ListedEntries>, count: u64, last: LastNames },
    /// The listing has ended without a name next to the place. `count` blobs were before the place.
    Gone { count: u64 },
}

impl Search {
    pub(super) fn new(cursor: Cursor) -> Self {
        let retried = cursor.retry.iter().map(|(_, key)| key);
        Self {
            landmarks: cursor.place.landmarks.clone().unwrap_or_else(Landmarks::of_the_beginning),
            wanted: cursor.slots.iter().chain(&cursor.queue).chain(retried).copied().collect(),
            found: HashMap::new(),
            reached: Reached::default(),
            following: Vec::new(),
            cursor,
        }
    }

    /// Whether the cursor mentions any name. If not, the stream continues with the cursor's page.
    pub(super) fn is_needed(&self) -> bool {
        let Landmarks { before, behind, .. } = &self.landmarks;
        !(before.is_empty() && behind.is_empty() && self.wanted.is_empty())
    }

    /// Looks through a page, which has the names of all shards.
    pub(super) fn look_through(
        &mut self,
        listing: &Listing,
        page: &Entries,
        marker: &str,
        shard: Shard,
        is_last: bool,
    ) -> Result<SearchOutcome> {
        let new_table = || Entries::of_container(listing.container.clone());
        // The search changes at the end only, since memory may run out before.
        let (mut wanted, mut following) = (new_table()?, new_table()?);
        let Reached { mut nearness, mut last, mut count } = self.reached.clone();
        let mut origin = TableOrigin { marker: marker.to_owned(), before: last.clone() };
        let mut starts_anew = false;
        for index in 0..page.len() {
            let entry = page.entry(index)?;
            let (name, key) = (entry.name(), key(entry.name()));
            let new = NewEntry { name, size: entry.size(), etag: &entry.etag(), offset: None };
            if nearness != Nearness::Found {
                if self.wanted.contains(&key) {
                    wanted.push(0, new)?;
                }
                let before = self.landmarks.before.iter().position(|&known| known == key);
                let is_behind = self.landmarks.behind.contains(&key);
                if before.is_some() {
                    last.push(key);
                }
                if before.is_some() || is_behind {
                    // Entries between an earlier such name and this one were created since, and are left out.
                    (starts_anew, count, following) = (true, 0, new_table()?);
                    origin.before = last.clone();
                    let is_next = before.is_none_or(|distance| distance == 0);
                    nearness = if is_next { Nearness::Found } else { Nearness::Near };
                }
                if before.is_some() {
                    continue;
                }
            }
            last.push(key);
            if nearness != Nearness::Far {
                if shard.has(self.cursor.place.count + count) {
                    following.push(0, new)?;
                }
                count += 1;
            }
        }
        let wanted = Arc::new(wanted);
        for index in 0..wanted.len() {
            let item = Item { entries: wanted.clone(), index };
            self.found.insert(key_of(&item)?, item);
        }
        if starts_anew {
            self.following.clear();
        }
        if following.len() > 0 {
            self.following.push(ListedEntries { entries: Arc::new(following), origin });
        }
        self.reached = Reached { nearness, last, count };
        Ok(self.outcome(is_last))
    }

    fn outcome(&mut self, is_last: bool) -> SearchOutcome {
        let is_decided = match self.reached.nearness {
            Nearness::Far => false,
            Nearness::Near => is_last || self.reached.count > MOST_UNDECIDED,
            Nearness::Found => true,
        };
        let count = self.cursor.place.count;
        if is_decided {
            let Reached { last, count: following, .. } = std::mem::take(&mut self.reached);
            return SearchOutcome::Found {
                entries: std::mem::take(&mut self.following),
                count: count + following,
                last,
            };
        }
        if is_last { SearchOutcome::Gone { count } } else { SearchOutcome::NeedsMore }
    }

    /// Moves the sequence to where the cursor was, without blobs that were deleted meanwhile. Returns the samples to be
    /// tried again, by position, and the marker of the cursor's page.
    pub(super) fn finish(self, sequence: &mut ShuffleBuffer<Item>) -> (Vec<(u64, Item)>, Option<String>) {
        let find = |key: &u64| self.found.get(key).cloned();
        let slots = self.cursor.slots.iter().filter_map(find).collect();
        let queue = self.cursor.queue.iter().filter_map(find).collect();
        sequence.resume(self.cursor.position, slots, queue);
        let retry = self.cursor.retry.iter().filter_map(|(position, key)| Some((*position, find(key)?))).collect();
        (retry, self.landmarks.page)
    }
}
