//! What a stream is fed with: one shard of a table, or of a container that is listed meanwhile.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::cursor::{At, Cursor, Listed, key};
use crate::entries::{Entries, New, Source};
use crate::error::Result;
use crate::listing::{Listing, Page};
use crate::order::{Rest, Sequence};
use crate::sample::Item;

/// How many entries of a table are looked at in one go.
const TABLE_PIECE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) index: usize,
    pub(super) count: usize,
}

impl Shard {
    fn has(self, ordinal: u64) -> bool {
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
    Table {
        entries: Arc<Entries>,
        next: usize,
    },
    Listing {
        /// How many blobs of all shards were listed.
        count: u64,
        last: Option<String>,
        /// Where the next page begins; `None` after the last.
        marker: Option<String>,
        resuming: Option<Box<Resuming>>,
    },
}

/// A listing that is read again, up to where a cursor stands.
pub(super) struct Resuming {
    cursor: Cursor,
    /// What the cursor has left behind, found again.
    found: HashMap<u64, Item>,
    wanted: HashMap<u64, ()>,
}

/// What a page is asked for.
#[derive(Clone)]
pub(super) struct Wish {
    pub(super) marker: String,
    count: u64,
    everything: bool,
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
        Self::Listing { count: 0, last: None, marker: Some(String::new()), resuming: None }
    }

    /// Whether a cursor's place has not been reached yet.
    pub(super) fn is_resuming(&self) -> bool {
        matches!(self, Self::Listing { resuming: Some(_), .. })
    }

    /// Puts a sequence where a cursor stands, or sees to it that this happens once that much is listed. Gives the
    /// samples that are to be tried again.
    pub(super) fn resume(&mut self, cursor: &Cursor, sequence: &mut Sequence<Item>) -> Vec<(u64, Item)> {
        match self {
            Self::Table { entries, next } => {
                *next = usize::try_from(cursor.listed.count).unwrap_or(usize::MAX).min(entries.len());
                let item = |&index: &u64| {
                    let index = usize::try_from(index).ok().filter(|&index| index < entries.len())?;
                    Some(Item { entries: entries.clone(), index })
                };
                let slots = cursor.slots.iter().filter_map(item).collect();
                sequence.resume(cursor.position, slots, VecDeque::new());
                cursor.retry.iter().filter_map(|(position, index)| Some((*position, item(index)?))).collect()
            }
            Self::Listing { resuming, .. } => {
                let retried = cursor.retry.iter().map(|(_, key)| key);
                let wanted = cursor.slots.iter().chain(&cursor.queue).chain(retried).map(|&key| (key, ())).collect();
                *resuming = Some(Box::new(Resuming { cursor: cursor.clone(), found: HashMap::new(), wanted }));
                Vec::new()
            }
        }
    }

    /// Feeds what needs no request; true when that was something.
    pub(super) fn feed_table(&mut self, shard: Shard, sequence: &mut Sequence<Item>) -> bool {
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
            Self::Listing { count, marker, resuming, .. } => {
                Some(Wish { marker: marker.clone()?, count: *count, everything: resuming.is_some() })
            }
        }
    }

    /// Feeds a page; gives the samples that are to be tried again, once their names have been found.
    pub(super) fn feed_page(
        &mut self,
        listing: &Listing,
        page: Page,
        shard: Shard,
        sequence: &mut Sequence<Item>,
    ) -> Result<Vec<(u64, Item)>> {
        let Self::Listing { count, last, marker, resuming } = self else { return Ok(Vec::new()) };
        let Page { entries, count: on_page, last_name, next } = page;
        let ended = next.is_none();
        *marker = next;
        let mut retry = Vec::new();
        if let Some(again) = resuming {
            // Only what is still of use is kept of a page that was asked for with all its names.
            let (kept, reached) = again.sift(listing, &entries, shard)?;
            let kept = Arc::new(kept);
            let found = again.place(&kept, reached.as_ref());
            if let Some(Reached { after, .. }) = reached {
                (*count, *last) = (again.cursor.listed.count, None);
                retry = again.finish(sequence);
                for item in found {
                    sequence.push(item);
                }
                *count += after;
                *last = last_name;
                *resuming = None;
            } else if ended {
                // All that the cursor knew lies before the end, also what it stood at.
                (*count, *last) = (again.cursor.listed.count, again.cursor.listed.at.name().map(str::to_owned));
                retry = again.finish(sequence);
                *resuming = None;
            }
        } else {
            let entries = Arc::new(entries);
            for index in 0..entries.len() {
                sequence.push(Item { entries: entries.clone(), index });
            }
            *count += on_page;
            *last = last_name.or(last.take());
        }
        if ended {
            sequence.complete();
        }
        Ok(retry)
    }

    /// What a cursor says of the listing and of what is still to come.
    pub(super) fn tell(&self, rest: &Rest<Item>, shard: Shard) -> Result<(Listed, Vec<u64>, Vec<u64>)> {
        match self {
            Self::Table { next, .. } => {
                // The queue is what lies between here and there.
                let count = rest.queue.front().map_or(*next, |item| item.index) as u64;
                let slots = rest.slots.iter().map(|item| item.index as u64).collect();
                Ok((Listed { count, at: At::Count }, slots, Vec::new()))
            }
            Self::Listing { count, last, .. } => {
                let keys = |items: &mut dyn Iterator<Item = &Item>| {
                    items.map(|item| Ok(key(item.entry()?.name()))).collect::<Result<Vec<_>>>()
                };
                let slots = keys(&mut rest.slots.iter())?;
                match (rest.queue.front(), last) {
                    // Without other shards the queue is all that is listed from its first name on.
                    (Some(first), _) if shard.count == 1 => {
                        let at = At::Before(first.entry()?.name().to_owned());
                        Ok((Listed { count: count.saturating_sub(rest.queue.len() as u64), at }, slots, Vec::new()))
                    }
                    (_, last) => {
                        let at = last.clone().map_or(At::Count, At::After);
                        Ok((Listed { count: *count, at }, slots, keys(&mut rest.queue.iter())?))
                    }
                }
            }
        }
    }

    /// A sample's number in a cursor.
    pub(super) fn key(&self, item: &Item) -> Result<u64> {
        match self {
            Self::Table { .. } => Ok(item.index as u64),
            Self::Listing { .. } => Ok(key(item.entry()?.name())),
        }
    }
}

/// The cursor's place on a page.
struct Reached {
    /// The first kept entry behind it.
    from: usize,
    /// How many blobs of the page lie behind it.
    after: u64,
}

impl Resuming {
    /// What of a page is still to come: what the cursor left behind, and the shard's part of what lies behind it.
    fn sift(&self, listing: &Listing, page: &Entries, shard: Shard) -> Result<(Entries, Option<Reached>)> {
        let mut kept = Entries::default();
        kept.add_source(Source::of_blobs(listing.container.clone()))?;
        let mut reached = None;
        for index in 0..page.len() {
            let entry = page.entry(index)?;
            let new = New { name: entry.name(), size: entry.size(), etag: &entry.etag(), offset: None };
            if reached.is_none() && self.lies_at_or_behind(entry.name()) {
                reached = Some(Reached { from: kept.len(), after: 0 });
            }
            match &mut reached {
                None => {
                    if self.wanted.contains_key(&key(entry.name())) {
                        kept.push(0, new)?;
                    }
                    if matches!(&self.cursor.listed.at, At::After(last) if last == entry.name()) {
                        reached = Some(Reached { from: kept.len(), after: 0 });
                    }
                }
                Some(Reached { after, .. }) => {
                    if shard.has(self.cursor.listed.count + *after) {
                        kept.push(0, new)?;
                    }
                    *after += 1;
                }
            }
        }
        Ok((kept, reached))
    }

    /// Whether the part of the listing that the cursor has not used begins at this name at the latest.
    fn lies_at_or_behind(&self, name: &str) -> bool {
        match &self.cursor.listed.at {
            At::Count => true,
            At::Before(first) => name == first || is_behind(name, first),
            At::After(last) => name != last && is_behind(name, last),
        }
    }

    /// Takes what was looked for out of the kept entries of a page; gives the others.
    fn place(&mut self, kept: &Arc<Entries>, reached: Option<&Reached>) -> Vec<Item> {
        let items = (0..kept.len()).map(|index| Item { entries: kept.clone(), index });
        let from = reached.map_or(kept.len(), |reached| reached.from);
        let (looked_for, rest): (Vec<_>, Vec<_>) = items.partition(|item| item.index < from);
        for item in looked_for {
            let name = item.entry().map_or("", |entry| entry.name()).to_owned();
            self.found.insert(key(&name), item);
        }
        rest
    }

    /// Puts the sequence where the cursor was. What was deleted meanwhile is left out.
    fn finish(&self, sequence: &mut Sequence<Item>) -> Vec<(u64, Item)> {
        let find = |key: &u64| self.found.get(key).cloned();
        let slots = self.cursor.slots.iter().filter_map(find).collect();
        let queue = self.cursor.queue.iter().filter_map(find).collect();
        sequence.resume(self.cursor.position, slots, queue);
        self.cursor.retry.iter().filter_map(|(position, key)| Some((*position, find(key)?))).collect()
    }
}

/// Whether a name comes behind another in every order that the service is known to list in: by its bytes, or, with a
/// hierarchical namespace, with the slash before all other characters. So a name that is looked for, and was deleted,
/// is not looked for to the end.
fn is_behind(name: &str, other: &str) -> bool {
    let slash_first = |text: &str| text.bytes().map(|byte| if byte == b'/' { 0 } else { byte }).collect::<Vec<_>>();
    name > other && slash_first(name) > slash_first(other)
}
