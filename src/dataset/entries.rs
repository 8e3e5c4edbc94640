//! Many blobs, or parts of blobs, by number: where each lies, kept in some 25 bytes beside its name.

use std::collections::HashMap;
use std::ffi::CString;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result, Status};
use crate::redact::shown;
use crate::service::ranged_get::Version;
use crate::url::{Container, Target};

/// The size of a blob that nobody has looked at yet.
pub(crate) const UNKNOWN_SIZE: u64 = u64::MAX;

/// What entries have in common.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) container: Container,
    pub(crate) container_name: CString,
    pub(crate) holds: Holds,
}

#[derive(Clone, Debug)]
pub(crate) enum Holds {
    /// The blobs that the entries name.
    Blobs,
    /// An archive: the entries are named by what lies in it, and of use in this version of it only.
    Archive { blob: String, version: Version },
}

impl Source {
    pub(crate) fn of_blobs(container: Container) -> Self {
        Self::new(container, Holds::Blobs)
    }

    pub(crate) fn new(container: Container, holds: Holds) -> Self {
        let container_name = CString::new(container.name.as_str()).unwrap_or_default();
        Self { container, container_name, holds }
    }

    fn blob<'a>(&'a self, entry: &'a str) -> &'a str {
        match &self.holds {
            Holds::Blobs => entry,
            Holds::Archive { blob, .. } => blob,
        }
    }
}

/// An entry to be added.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct New<'a> {
    pub(crate) name: &'a str,
    pub(crate) size: Option<u64>,
    /// Without quotes, "" when not known.
    pub(crate) etag: &'a str,
    /// Where a part of a blob begins.
    pub(crate) offset: Option<u64>,
}

/// Names, sizes, ETags and places of blobs. Grows at its end, then never changes, but for sizes that become known.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// Each name is followed by a NUL, so that C can be shown it where it lies.
    names: Vec<u8>,
    name_ends: Vec<u64>,
    sizes: Vec<AtomicU64>,
    etags: Vec<u64>,
    long_etags: HashMap<usize, String>,
    /// Empty while no entry is a part of a blob.
    offsets: Vec<u64>,
    sources: Vec<Source>,
    /// Empty while all entries are of the first source.
    source_of: Vec<u32>,
}

/// In `etags`: there is none; it is in `long_etags`.
const NO_ETAG: u64 = 0;
const LONG_ETAG: u64 = u64::MAX;
/// In `offsets`: the entry is a whole blob.
const WHOLE: u64 = u64::MAX;

impl Entries {
    /// Takes a source for the entries to come; gives its number.
    pub(crate) fn add_source(&mut self, source: Source) -> Result<u32> {
        let number = u32::try_from(self.sources.len()).map_err(|_| Error::invalid("too many different containers"))?;
        self.sources.push(source);
        Ok(number)
    }

    pub(crate) fn push(&mut self, source: u32, new: New<'_>) -> Result<()> {
        let New { name, size, etag, offset } = new;
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

    /// Takes over all of `other`, whose entries must be whole blobs of one source, as this one's source `source`.
    pub(crate) fn append(&mut self, source: u32, other: &Entries) -> Result<()> {
        for index in 0..other.len() {
            let entry = other.entry(index)?;
            self.push(source, New { name: entry.name(), size: entry.size(), etag: &entry.etag(), offset: None })?;
        }
        Ok(())
    }

    /// Gives back the memory that growing has left over.
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

    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub(crate) fn entry(&self, index: usize) -> Result<Entry<'_>> {
        if index < self.len() {
            return Ok(Entry { entries: self, index });
        }
        Err(Error::new(Status::OutOfRange, format!("there is no index {index} in a dataset of {}", self.len())))
    }
}

/// One of many entries.
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

    /// The blob's name, or that of what lies in an archive.
    pub(crate) fn name(&self) -> &'a str {
        std::str::from_utf8(&self.entries.names[self.name_range()]).unwrap_or_default()
    }

    /// The name with the NUL behind it, for C.
    pub(crate) fn name_with_nul(&self) -> &'a [u8] {
        let Range { start, end } = self.name_range();
        &self.entries.names[start..=end]
    }

    pub(crate) fn source_number(&self) -> u32 {
        self.entries.source_of.get(self.index).copied().unwrap_or(0)
    }

    pub(crate) fn source(&self) -> &'a Source {
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

    /// In bytes, once it is known.
    pub(crate) fn size(&self) -> Option<u64> {
        let size = self.entries.sizes[self.index].load(Ordering::Relaxed);
        (size != UNKNOWN_SIZE).then_some(size)
    }

    /// Takes note of a size that nobody knew.
    pub(crate) fn learn_size(&self, size: u64) {
        // Whoever was faster has learnt the same, or the size of another version, which is as good.
        let _ =
            self.entries.sizes[self.index].compare_exchange(UNKNOWN_SIZE, size, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The ETag that the listing gave, without quotes; "" when there was none.
    pub(crate) fn etag(&self) -> String {
        match self.entries.etags[self.index] {
            NO_ETAG => String::new(),
            LONG_ETAG => self.entries.long_etags.get(&self.index).cloned().unwrap_or_default(),
            number => format!("0x{number:X}"),
        }
    }

    pub(crate) fn offset(&self) -> Option<u64> {
        self.entries.offsets.get(self.index).copied().filter(|&offset| offset != WHOLE)
    }

    /// What to ask the service for.
    pub(crate) fn part(&self) -> Part {
        match (self.offset(), &self.source().holds) {
            (Some(offset), holds) => {
                let length = self.size().unwrap_or(0);
                let version = match holds {
                    Holds::Archive { version, .. } => Some(version.clone()),
                    Holds::Blobs => None,
                };
                Part::Range { range: offset..offset.saturating_add(length), version }
            }
            (None, _) => Part::Whole { expected: self.size() },
        }
    }
}

/// How much of a blob an entry is.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// All of it, whatever version is there.
    Whole { expected: Option<u64> },
    /// These bytes; of this version only, if it is named.
    Range { range: Range<u64>, version: Option<Version> },
}

impl Part {
    /// Whether a part of a blob can lie here: the largest number stands for sizes that are not known, and for whole blobs.
    pub(crate) fn has_place(offset: u64, length: u64) -> bool {
        offset.checked_add(length).is_some_and(|end| end < u64::MAX)
    }

    /// How many bytes it will have, as far as is known.
    pub(crate) fn expected(&self) -> Option<u64> {
        match self {
            Self::Whole { expected } => *expected,
            Self::Range { range, .. } => Some(range.end - range.start),
        }
    }
}

/// The service's ETags are `0x` and a number; others are kept as text.
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

    fn source(name: &str) -> Source {
        Source::of_blobs(parse_container(&format!("https://a.blob.core.windows.net/{name}"), None).unwrap())
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut entries = Entries::default();
        let one = entries.add_source(source("one")).unwrap();
        let two = entries.add_source(source("two")).unwrap();
        let news = [
            (one, New { name: "a", size: Some(7), etag: "0x8DC0FFEE", offset: None }),
            (one, New { name: "é/b c", size: None, etag: "", offset: None }),
            (two, New { name: "a", size: Some(5), etag: "0x08DC", offset: Some(100) }),
            (one, New { name: "", size: Some(0), etag: "0xffffffffffffffff", offset: None }),
            (two, New { name: "z", size: Some(1), etag: "weird", offset: Some(0) }),
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
        assert!(entries.push(one, New { name: "a\0b", ..New::default() }).is_err());
        assert_eq!(entries.entry(5).unwrap_err().status(), Status::OutOfRange);
        entries.entry(1).unwrap().learn_size(9);
        entries.entry(1).unwrap().learn_size(10);
        assert_eq!(entries.entry(1).unwrap().size(), Some(9));
    }
}
