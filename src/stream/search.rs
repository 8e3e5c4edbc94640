//! Finds a cursor's place in a listing that may have changed since, and the names that the cursor left behind.
//!
//! A listing's order is the service's own, and stays: names that were listed before the place and are still there come
//! before it now. So the place lies behind each name that the cursor knows to lie before it, and before each that it
//! knows to lie behind it; the cursor knows those next to it on either side. If one of them is left, nothing that was
//! there then lies between it and the place. If none is left, the page of the place is gone on with from its beginning:
//! what was given out of it comes once more, and nothing is lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::pages::{LastNames, Origin, Part, key_of};
use super::source::Shard;
use crate::dataset::entries::{Entries, New, Source};
use crate::dataset::sample::Item;
use crate::error::Result;
use crate::service::list_blobs::Listing;
use crate::stream::cursor::{Cursor, Landmarks, key};
use crate::stream::shuffle::ShuffleBuffer;

/// After so many names behind one that lies before the place, none that lies there, too, is expected any more: between
/// them so many would have to be new.
const MOST_UNDECIDED: u64 = 10_000;

pub(super) struct Search {
    cursor: Cursor,
    landmarks: Landmarks,
    /// What the cursor left behind, and what of that was found again.
    wanted: HashSet<u64>,
    found: HashMap<u64, Item>,
    reached: Reached,
    /// What of the shard follows the last name that is known to lie before the place.
    following: Vec<Part>,
}

/// How far the listing was looked through.
#[derive(Clone, Default)]
struct Reached {
    nearness: Nearness,
    /// The last names that were listed.
    last: LastNames,
    /// How many of all shards follow the last one that is known to lie before the place.
    count: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Nearness {
    #[default]
    /// No name next to the place has come.
    Far,
    /// One came that lies before the place, and others that do may follow.
    Near,
    Found,
}

/// What a page has brought.
pub(super) enum Outcome {
    NeedsMore,
    /// What the pages so far hold from the place on, of the shard; how many names of all shards end where they do.
    Found {
        parts: Vec<Part>,
        count: u64,
        last: LastNames,
    },
    /// The listing has ended, and no name that was next to the place was in it.
    Gone {
        count: u64,
    },
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

    /// Otherwise all that matters begins with the cursor's page.
    pub(super) fn is_needed(&self) -> bool {
        let Landmarks { before, behind, .. } = &self.landmarks;
        !(before.is_empty() && behind.is_empty() && self.wanted.is_empty())
    }

    /// Looks through a page, which holds the names of all shards.
    pub(super) fn take(
        &mut self,
        listing: &Listing,
        page: &Entries,
        marker: &str,
        shard: Shard,
        is_last: bool,
    ) -> Result<Outcome> {
        let none = || {
            let mut entries = Entries::default();
            entries.add_source(Source::of_blobs(listing.container.clone())).map(|_| entries)
        };
        // Only what is still of use is kept of a page; all of it is noted at the end, since a page may fail.
        let (mut wanted, mut following) = (none()?, none()?);
        let Reached { mut nearness, mut last, mut count } = self.reached.clone();
        let mut origin = Origin { marker: marker.to_owned(), before: last.clone() };
        let mut is_anew = false;
        for index in 0..page.len() {
            let entry = page.entry(index)?;
            let (name, key) = (entry.name(), key(entry.name()));
            let new = New { name, size: entry.size(), etag: &entry.etag(), offset: None };
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
                    // What followed an earlier one is new.
                    (is_anew, count, following) = (true, 0, none()?);
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
        if is_anew {
            self.following.clear();
        }
        if following.len() > 0 {
            self.following.push(Part { entries: Arc::new(following), origin });
        }
        self.reached = Reached { nearness, last, count };
        Ok(self.outcome(is_last))
    }

    fn outcome(&mut self, is_last: bool) -> Outcome {
        let is_decided = match self.reached.nearness {
            Nearness::Far => false,
            Nearness::Near => is_last || self.reached.count > MOST_UNDECIDED,
            Nearness::Found => true,
        };
        let count = self.cursor.place.count;
        if is_decided {
            let Reached { last, count: following, .. } = std::mem::take(&mut self.reached);
            return Outcome::Found { parts: std::mem::take(&mut self.following), count: count + following, last };
        }
        if is_last { Outcome::Gone { count } } else { Outcome::NeedsMore }
    }

    /// Puts the sequence where the cursor was; what was deleted meanwhile is left out. Gives what has to be tried again,
    /// and the marker of the cursor's page.
    pub(super) fn finish(self, sequence: &mut ShuffleBuffer<Item>) -> (Vec<(u64, Item)>, Option<String>) {
        let find = |key: &u64| self.found.get(key).cloned();
        let slots = self.cursor.slots.iter().filter_map(find).collect();
        let queue = self.cursor.queue.iter().filter_map(find).collect();
        sequence.resume(self.cursor.position, slots, queue);
        let retry = self.cursor.retry.iter().filter_map(|(position, key)| Some((*position, find(key)?))).collect();
        (retry, self.landmarks.page)
    }
}
