//! The part of a listing that a stream keeps: the entries of its shard, and their places in the listing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::dataset::entries::Entries;
use crate::dataset::sample::Item;
use crate::error::Result;
use crate::service::list_blobs::{BlobSink, ListedBlob};
use crate::stream::cursor::key;
use crate::stream::shard::Shard;
use crate::url::Container;

/// How many names on each side of a place in a listing identify it, if one of them is still there.
pub(crate) const NEARBY: usize = 16;

/// The blobs of one page, as far as a stream needs them.
#[derive(Debug)]
pub(crate) struct ShardPage {
    /// The blobs of the shard.
    pub(crate) entries: Entries,
    /// How many blobs the page has, of all shards.
    pub(crate) count: u64,
    /// The names of the page's last blobs, of all shards, at most [`NEARBY`].
    pub(crate) last_names: VecDeque<String>,
    shard: Shard,
    /// How many blobs were listed before the page.
    before: u64,
}

impl ShardPage {
    /// An empty page that follows `before` blobs and keeps those of `shard`.
    pub(crate) fn new(container: &Container, shard: Shard, before: u64) -> Result<Self> {
        let entries = Entries::of_container(container.clone())?;
        Ok(Self { entries, count: 0, last_names: VecDeque::new(), shard, before })
    }
}

impl BlobSink for ShardPage {
    fn add(&mut self, blob: ListedBlob<'_>) -> Result<()> {
        if self.shard.has(self.before + self.count) {
            self.entries.add(blob)?;
        }
        self.count += 1;
        // The memory of the oldest name is used again.
        let oldest = if self.last_names.len() == NEARBY { self.last_names.pop_front() } else { None };
        let mut name = oldest.unwrap_or_default();
        name.clear();
        name.push_str(blob.name);
        self.last_names.push_back(name);
        Ok(())
    }
}

/// Entries that follow each other in the listing: all of a page, or its end.
pub(super) struct ListedEntries {
    pub(super) entries: Arc<Entries>,
    pub(super) origin: TableOrigin,
}

/// The place in the listing where entries begin.
#[derive(Clone)]
pub(super) struct TableOrigin {
    /// The marker of the page.
    pub(super) marker: String,
    /// The names of all shards before the first entry.
    pub(super) before: LastNames,
}

/// The keys of the last [`NEARBY`] names before a place.
#[derive(Clone, Default)]
pub(super) struct LastNames(VecDeque<u64>);

impl LastNames {
    pub(super) fn push(&mut self, key: u64) {
        if self.0.len() == NEARBY {
            self.0.pop_front();
        }
        self.0.push_back(key);
    }

    pub(super) fn nearest_first(&self) -> impl Iterator<Item = u64> {
        self.0.iter().rev().copied()
    }
}

/// The number that stands for an entry's name in a cursor.
pub(super) fn key_of(item: &Item) -> Result<u64> {
    Ok(key(item.entry()?.name()))
}

/// The keys of several entries' names, in their order.
pub(super) fn keys_of<'a>(items: impl IntoIterator<Item = &'a Item>) -> Result<Vec<u64>> {
    items.into_iter().map(key_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::parse_container;

    #[test]
    fn a_page_keeps_the_blobs_of_its_shard_and_the_last_names_of_all() {
        let container = parse_container("https://a.blob.core.windows.net/con", None).unwrap();
        let page = |shard, before, names: &[&str]| {
            let mut page = ShardPage::new(&container, shard, before).unwrap();
            for name in names {
                page.add(ListedBlob { name, size: Some(1), etag: "0x1" }).unwrap();
            }
            page
        };
        let kept = |page: &ShardPage| -> Vec<String> {
            (0..page.entries.len()).map(|index| page.entries.entry(index).unwrap().name().to_owned()).collect()
        };
        let names = ["a&b <A>", "b\u{fffe}%", "file"];
        let all = page(Shard::ALL, 0, &names);
        assert_eq!((kept(&all), all.count), (names.map(str::to_owned).to_vec(), 3));
        assert_eq!(all.last_names, names);
        let second = page(Shard { index: 1, count: 2 }, 1, &names);
        assert_eq!((kept(&second), second.count), (vec!["a&b <A>".to_owned(), "file".to_owned()], 3));
        assert_eq!(second.last_names, names);
        let many: Vec<_> = (0..NEARBY + 5).map(|number| format!("{number:0number$}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(page(Shard::ALL, 0, &many).last_names, &many[5..]);
    }
}
