//! The table of a dataset's entries, each a blob or a part of one. An entry takes some 25 bytes and its name.

use std::collections::HashMap;
use std::ffi::CString;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result, Status};
use crate::redact::shown;
use crate::service::list_blobs::{BlobSink, ListedBlob};
use crate::service::version::Version;
use crate::url::{Container, Target};

/// Stands for the size of an entry that is not known yet.
pub(crate) const UNKNOWN_SIZE: u64 = u64::MAX;

/// The common origin of entries: the container, and the kind of the entries.
#[derive(Clone, Debug)]
pub(crate) struct EntrySource {
    pub(crate) container: Container,
    pub(crate) container_name: CString,
    pub(crate) kind: SourceKind,
}

/// The kind of a source's entries.
#[derive(Clone, Debug)]
pub(crate) enum SourceKind {
    /// A blob, or a part of one. The entry has the blob's name.
    Blobs,
    /// A member of an archive. The entry has the member's name, and is valid for this version of the archive only.
    Archive { blob: String, version: Version },
}

impl EntrySource {
    pub(crate) fn of_blobs(container: Container) -> Self {
        Self::new(container, SourceKind::Blobs)
    }

    pub(crate) fn new(container: Container, kind: SourceKind) -> Self {
        let container_name = CString::new(container.name.as_str()).unwrap_or_default();
        Self { container, container_name, kind }
    }

    /// The name of the blob that contains an entry's bytes.
    fn blob<'a>(&'a self, entry: &'a str) -> &'a str {
        match &self.kind {
            SourceKind::Blobs => entry,
            SourceKind::Archive { blob, .. } => blob,
        }
    }
}

/// An entry to be added to a table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NewEntry<'a> {
    pub(crate) name: &'a str,
    pub(crate) size: Option<u64>,
    /// Without quotes; "" when it is not known.
    pub(crate) etag: &'a str,
    /// Where the entry begins in its blob; `None` for a whole blob.
    pub(crate) offset: Option<u64>,
}

/// Names, sizes, ETags and offsets of entries. Entries are added at the end and never change, except that an unknown
/// size becomes known.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// Each name is followed by a NUL, so that C can read it in place.
    names: Vec<u8>,
    name_ends: Vec<u64>,
    sizes: Vec<AtomicU64>,
    etags: Vec<u64>,
    long_etags: HashMap<usize, String>,
    /// Empty while every entry is a whole blob.
    offsets: Vec<u64>,
    sources: Vec<EntrySource>,
    /// Empty while every entry is of the first source.
    source_of: Vec<u32>,
}

/// In `etags`: the entry has no ETag.
const NO_ETAG: u64 = 0;
/// In `etags`: the ETag is in `long_etags`.
const LONG_ETAG: u64 = u64::MAX;
/// In `offsets`: the entry is a whole blob.
const WHOLE: u64 = u64::MAX;

impl Entries {
    /// An empty table of the blobs of one container, as source 0.
    pub(crate) fn of_container(container: Container) -> Result<Self> {
        let mut entries = Self::default();
        entries.add_source(EntrySource::of_blobs(container))?;
        Ok(entries)
    }

    /// Adds a source, and returns its number.
    pub(crate) fn add_source(&mut self, source: EntrySource) -> Result<u32> {
        let number = u32::try_from(self.sources.len()).map_err(|_| Error::invalid("too many different containers"))?;
        self.sources.push(source);
        Ok(number)
    }

    /// Adds an entry of the source with this number.
    pub(crate) fn push(&mut self, source: u32, new: NewEntry<'_>) -> Result<()> {
        let NewEntry { name, size, etag, offset } = new;
        if name.contains('\0') {
            return Err(Error::invalid(format!("the name '{}' has a NUL character", shown(name))));
        }
        let index = self.len();
        let needed = |vector: &mut Vec<u64>| vector.try_reserve(1).is_ok();
        if self.names.try_reserve(name.len() + 1).is_err()
            || self.sizes.try_reserve(1).is_err()
            || ![&mut self.name_ends, &mut self.etags, &mut self.offsets].into_iter().all(needed)
        {
            return Err(Error::out_of_memory(self.names.len()).context("a list of blobs"));
        }
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        self.name_ends.push(self.names.len() as u64 - 1);
        self.sizes.push(AtomicU64::new(size.unwrap_or(UNKNOWN_SIZE)));
        self.etags.push(pack_etag(etag));
        if self.etags[index] == LONG_ETAG {
            self.long_etags.insert(index, etag.to_owned());
        }
        if offset.is_some() && self.offsets.is_empty() {
            self.offsets.resize(index, WHOLE);
        }
        if offset.is_some() || !self.offsets.is_empty() {
            self.offsets.push(offset.unwrap_or(WHOLE));
        }
        if source != 0 && self.source_of.is_empty() {
            self.source_of.resize(index, 0);
        }
        if source != 0 || !self.source_of.is_empty() {
            self.source_of.push(source);
        }
        Ok(())
    }

    /// Adds all entries of `other`, which must be whole blobs of one source, as entries of `source`.
    pub(crate) fn append(&mut self, source: u32, other: &Entries) -> Result<()> {
        for index in 0..other.len() {
            let entry = other.entry(index)?;
            self.push(source, NewEntry { name: entry.name(), size: entry.size(), etag: &entry.etag(), offset: None })?;
        }
        Ok(())
    }

    /// Releases spare capacity.
    pub(crate) fn shrink(&mut self) {
        self.names.shrink_to_fit();
        for vector in [&mut self.name_ends, &mut self.etags, &mut self.offsets] {
            vector.shrink_to_fit();
        }
        self.sizes.shrink_to_fit();
        self.source_of.shrink_to_fit();
    }

    pub(crate) fn len(&self) -> usize {
        self.name_ends.len()
    }

    pub(crate) fn sources(&self) -> &[EntrySource] {
        &self.sources
    }

    pub(crate) fn entry(&self, index: usize) -> Result<Entry<'_>> {
        if index < self.len() {
            return Ok(Entry { entries: self, index });
        }
        Err(Error::new(Status::OutOfRange, format!("there is no index {index} in a dataset of {}", self.len())))
    }
}

/// Adds a listing's blobs to the table, as entries of its first source.
impl BlobSink for Entries {
    fn add(&mut self, blob: ListedBlob<'_>) -> Result<()> {
        let ListedBlob { name, size, etag } = blob;
        self.push(0, NewEntry { name, size, etag, offset: None })
    }
}

/// One entry of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    entries: &'a Entries,
    index: usize,
}

impl<'a> Entry<'a> {
    fn name_range(&self) -> Range<usize> {
        let start = self.index.checked_sub(1).map_or(0, |before| self.entries.name_ends[before] as usize + 1);
        start..self.entries.name_ends[self.index] as usize
    }

    /// The blob's name, or the member's name in its archive.
    pub(crate) fn name(&self) -> &'a str {
        std::str::from_utf8(&self.entries.names[self.name_range()]).unwrap_or_default()
    }

    /// The name with a terminating NUL, for C.
    pub(crate) fn name_with_nul(&self) -> &'a [u8] {
        let Range { start, end } = self.name_range();
        &self.entries.names[start..=end]
    }

    pub(crate) fn source_number(&self) -> u32 {
        self.entries.source_of.get(self.index).copied().unwrap_or(0)
    }

    pub(crate) fn source(&self) -> &'a EntrySource {
        &self.entries.sources[self.source_number() as usize]
    }

    pub(crate) fn container_name(&self) -> &'a CString {
        &self.source().container_name
    }

    /// The blob's URL without query.
    pub(crate) fn url(&self) -> String {
        let source = self.source();
        source.container.display_blob(source.blob(self.name()))
    }

    pub(crate) fn target(&self) -> Target {
        let source = self.source();
        source.container.blob(source.blob(self.name()))
    }

    /// The size in bytes; `None` while it is not known.
    pub(crate) fn size(&self) -> Option<u64> {
        let size = self.entries.sizes[self.index].load(Ordering::Relaxed);
        (size != UNKNOWN_SIZE).then_some(size)
    }

    /// Sets the size if it is not known yet.
    pub(crate) fn learn_size(&self, size: u64) {
        // Another thread may have set the size first, perhaps to that of another version. Both values are acceptable.
        let _ =
            self.entries.sizes[self.index].compare_exchange(UNKNOWN_SIZE, size, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The ETag from the listing, without quotes; "" when there was none.
    pub(crate) fn etag(&self) -> String {
        match self.entries.etags[self.index] {
            NO_ETAG => String::new(),
            LONG_ETAG => self.entries.long_etags.get(&self.index).cloned().unwrap_or_default(),
            number => format!("0x{number:X}"),
        }
    }

    /// Where the entry begins in its blob; `None` for a whole blob.
    pub(crate) fn offset(&self) -> Option<u64> {
        self.entries.offsets.get(self.index).copied().filter(|&offset| offset != WHOLE)
    }

    /// The bytes to ask the service for.
    pub(crate) fn extent(&self) -> Extent {
        match (self.offset(), &self.source().kind) {
            (Some(offset), kind) => {
                let length = self.size().unwrap_or(0);
                let version = match kind {
                    SourceKind::Archive { version, .. } => Some(version.clone()),
                    SourceKind::Blobs => None,
                };
                Extent::Range { range: offset..offset.saturating_add(length), version }
            }
            (None, _) => Extent::Whole { expected: self.size() },
        }
    }
}

/// The bytes of a blob that belong to an entry.
#[derive(Clone, Debug)]
pub(crate) enum Extent {
    /// All bytes of the current version. `expected` is its size, as far as it is known.
    Whole { expected: Option<u64> },
    /// These bytes, of any version or of one.
    Range { range: Range<u64>, version: Option<Version> },
}

impl Extent {
    /// Whether a range can be an entry. The largest number is reserved for unknown sizes and for whole blobs.
    pub(crate) fn is_valid_range(offset: u64, length: u64) -> bool {
        offset.checked_add(length).is_some_and(|end| end < u64::MAX)
    }

    /// How many bytes the entry has, as far as it is known.
    pub(crate) fn expected(&self) -> Option<u64> {
        match self {
            Self::Whole { expected } => *expected,
            Self::Range { range, .. } => Some(range.end - range.start),
        }
    }
}

/// An ETag as a number: the service's ETags are `0x` and a number. Other ETags are kept as text.
fn pack_etag(etag: &str) -> u64 {
    if etag.is_empty() {
        return NO_ETAG;
    }
    let number = etag.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match number {
        Some(number) if !matches!(number, NO_ETAG | LONG_ETAG) && format!("0x{number:X}") == etag => number,
        _ => LONG_ETAG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::parse_container;

    fn source(name: &str) -> EntrySource {
        EntrySource::of_blobs(parse_container(&format!("https://a.blob.core.windows.net/{name}"), None).unwrap())
    }

    #[test]
    fn entries_are_read_as_they_were_added() {
        let mut entries = Entries::default();
        let one = entries.add_source(source("one")).unwrap();
        let two = entries.add_source(source("two")).unwrap();
        let news = [
            (one, NewEntry { name: "a", size: Some(7), etag: "0x8DC0FFEE", offset: None }),
            (one, NewEntry { name: "é/b c", size: None, etag: "", offset: None }),
            (two, NewEntry { name: "a", size: Some(5), etag: "0x08DC", offset: Some(100) }),
            (one, NewEntry { name: "", size: Some(0), etag: "0xffffffffffffffff", offset: None }),
            (two, NewEntry { name: "z", size: Some(1), etag: "weird", offset: Some(0) }),
        ];
        for (source, new) in news {
            entries.push(source, new).unwrap();
        }
        entries.shrink();
        assert_eq!(entries.len(), news.len());
        for (index, (source, new)) in news.into_iter().enumerate() {
            let entry = entries.entry(index).unwrap();
            assert_eq!((entry.source_number(), entry.name(), entry.size()), (source, new.name, new.size));
            assert_eq!((entry.etag().as_str(), entry.offset()), (new.etag, new.offset));
            assert_eq!(entry.name_with_nul(), format!("{}\0", new.name).as_bytes());
        }
        assert_eq!(entries.entry(1).unwrap().url(), "https://a.blob.core.windows.net/one/%C3%A9/b%20c");
        assert!(entries.push(one, NewEntry { name: "a\0b", ..NewEntry::default() }).is_err());
        assert_eq!(entries.entry(5).unwrap_err().status(), Status::OutOfRange);
        entries.entry(1).unwrap().learn_size(9);
        entries.entry(1).unwrap().learn_size(10);
        assert_eq!(entries.entry(1).unwrap().size(), Some(9));
    }
}
