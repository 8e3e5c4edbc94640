//! The listing that a stream is fed with, page by page, and what a cursor says of a place in it.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::search::{Outcome, Search};
use super::source::{Shard, Wish};
use crate::dataset::entries::Entries;
use crate::dataset::sample::Item;
use crate::error::Result;
use crate::service::list_blobs::{Listing, NEARBY, Page};
use crate::stream::cursor::{Cursor, Landmarks, Place, key};
use crate::stream::shuffle::{Rest, ShuffleBuffer};

pub(super) struct Pages {
    /// How many blobs of all shards were listed.
    count: u64,
    /// The last of them.
    last: LastNames,
    /// Where the next page begins; `None` after the last.
    marker: Option<String>,
    /// Set while a cursor's place is looked for.
    search: Option<Box<Search>>,
    /// The pages whose entries are still in use, in the order of the listing.
    parts: VecDeque<(Weak<Entries>, Origin)>,
}

/// Entries that follow each other in the listing, all of a page or its end.
pub(super) struct Part {
    pub(super) entries: Arc<Entries>,
    pub(super) origin: Origin,
}

/// Where in the listing entries stand.
#[derive(Clone)]
pub(super) struct Origin {
    /// The marker of the page.
    pub(super) marker: String,
    /// The names of all shards before the first entry.
    pub(super) before: LastNames,
}

/// The [`NEARBY`] names before a place, by their keys.
#[derive(Clone, Default)]
pub(super) struct LastNames(VecDeque<u64>);

impl LastNames {
    pub(super) fn push(&mut self, key: u64) {
        if self.0.len() == NEARBY {
            self.0.pop_front();
        }
        self.0.push_back(key);
    }

    fn nearest_first(&self) -> impl Iterator<Item = u64> {
        self.0.iter().rev().copied()
    }
}

/// A sample's number in a cursor.
pub(super) fn key_of(item: &Item) -> Result<u64> {
    Ok(key(item.entry()?.name()))
}

fn keys_of<'a>(items: impl IntoIterator<Item = &'a Item>) -> Result<Vec<u64>> {
    items.into_iter().map(key_of).collect()
}

impl Pages {
    pub(super) fn new() -> Self {
        Self { count: 0, last: LastNames::default(), marker: Some(String::new()), search: None, parts: VecDeque::new() }
    }

    pub(super) fn is_resuming(&self) -> bool {
        self.search.is_some()
    }

    /// Goes on at a cursor's place, once it is found.
    pub(super) fn resume(&mut self, cursor: &Cursor, sequence: &mut ShuffleBuffer<Item>) {
        let search = Search::new(cursor.clone());
        if !search.is_needed() {
            let (_, page) = search.finish(sequence);
            self.go_on_from(cursor.place.count, page, sequence);
            return;
        }
        self.search = Some(Box::new(search));
    }

    /// What comes next begins with the page of this marker; without one nothing comes.
    fn go_on_from(&mut self, count: u64, marker: Option<String>, sequence: &mut ShuffleBuffer<Item>) {
        (self.count, self.marker, self.last) = (count, marker, LastNames::default());
        if self.marker.is_none() {
            sequence.complete();
        }
    }

    /// The next page, if there is one.
    pub(super) fn wish(&self) -> Option<Wish> {
        let marker = self.marker.clone()?;
        Some(Wish { marker, count: self.count, everything: self.is_resuming() })
    }

    /// Feeds a page; gives the samples that are to be tried again, once their names have been found.
    pub(super) fn feed(
        &mut self,
        listing: &Listing,
        page: Page,
        shard: Shard,
        sequence: &mut ShuffleBuffer<Item>,
    ) -> Result<Vec<(u64, Item)>> {
        let Page { entries, count, last_names, next } = page;
        let marker = self.marker.take().unwrap_or_default();
        let mut retry = Vec::new();
        if let Some(search) = &mut self.search {
            let outcome = search.take(listing, &entries, &marker, shard, next.is_none());
            // A page that cannot be kept, for want of memory, is asked for again.
            let outcome = outcome.inspect_err(|_| self.marker = Some(marker))?;
            self.marker = next;
            match outcome {
                Outcome::NeedsMore => return Ok(Vec::new()),
                Outcome::Found { parts, count, last } => {
                    if let Some(search) = self.search.take() {
                        (retry, _) = search.finish(sequence);
                    }
                    (self.count, self.last) = (count, last);
                    parts.into_iter().for_each(|part| self.push(part, sequence));
                }
                Outcome::Gone { count } => {
                    let shown = listing.container.target.display();
                    tracing::warn!(
                        target: "aztorch::stream",
                        "{shown}: the names around the cursor's place are gone; its page is begun again, and some samples come twice"
                    );
                    if let Some(search) = self.search.take() {
                        let marker;
                        (retry, marker) = search.finish(sequence);
                        self.go_on_from(count, marker, sequence);
                    }
                    return Ok(retry);
                }
            }
        } else {
            self.marker = next;
            let origin = Origin { marker, before: self.last.clone() };
            self.push(Part { entries: Arc::new(entries), origin }, sequence);
            self.count += count;
            last_names.iter().for_each(|name| self.last.push(key(name)));
        }
        if self.marker.is_none() {
            sequence.complete();
        }
        Ok(retry)
    }

    fn push(&mut self, part: Part, sequence: &mut ShuffleBuffer<Item>) {
        let Part { entries, origin } = part;
        while self.parts.front().is_some_and(|(entries, _)| entries.strong_count() == 0) {
            self.parts.pop_front();
        }
        for index in 0..entries.len() {
            sequence.push(Item { entries: entries.clone(), index });
        }
        self.parts.push_back((Arc::downgrade(&entries), origin));
    }

    /// What a cursor says of the listing and of what is still to come.
    pub(super) fn tell(&self, rest: &Rest<Item>, shard: Shard) -> Result<(Place, Vec<u64>, Vec<u64>)> {
        let slots = keys_of(&rest.slots)?;
        // Without other shards the queue is all that is listed from its first name on.
        if shard.count == 1
            && let Some(first) = rest.queue.front()
            && let Some(origin) = self.origin(first)
        {
            let nearby = first.index.saturating_sub(NEARBY)..first.index;
            let on_page = nearby.rev().map(|index| key_of(&Item { entries: first.entries.clone(), index }));
            let before = on_page.chain(origin.before.nearest_first().map(Ok)).take(NEARBY).collect::<Result<_>>()?;
            let behind = keys_of(rest.queue.iter().take(NEARBY))?;
            let landmarks = Landmarks { before, behind, page: Some(origin.marker.clone()) };
            let count = self.count.saturating_sub(rest.queue.len() as u64);
            return Ok((Place { count, landmarks: Some(landmarks) }, slots, Vec::new()));
        }
        let before = self.last.nearest_first().collect();
        let landmarks = Landmarks { before, behind: Vec::new(), page: self.marker.clone() };
        Ok((Place { count: self.count, landmarks: Some(landmarks) }, slots, keys_of(&rest.queue)?))
    }

    fn origin(&self, item: &Item) -> Option<&Origin> {
        let entries = Arc::as_ptr(&item.entries);
        self.parts.iter().find(|(part, _)| part.as_ptr() == entries).map(|(_, origin)| origin)
    }
}
