//! Builds datasets from a listing, URLs, ranges of blobs, tar archives or a manifest.

use std::collections::HashMap;

use super::Dataset;
use crate::client::Client;
use crate::dataset::entries::{Entries, EntrySource, Extent, NewEntry, SourceKind};
use crate::dataset::gather::Gather;
use crate::dataset::manifest;
use crate::dataset::tar_index::{self, ArchiveMember};
use crate::error::{Error, Result};
use crate::service::client_core::{Call, ClientCore};
use crate::service::list_blobs::Listing;
use crate::service::version::Version;
use crate::sys::blocking::check_may_block;
use crate::url::{Container, parse_blob, parse_blob_parts, parse_container};

/// A range of a blob's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRange {
    /// The blob's URL.
    pub url: String,
    /// Where the range begins, in bytes.
    pub offset: u64,
    /// How many bytes the range has.
    pub length: u64,
}

impl Dataset {
    /// All blobs of a container whose names begin with `prefix`, in the service's order. The dataset is empty if there
    /// are no such blobs.
    pub fn list(client: &Client, container_url: &str, prefix: Option<&str>) -> Result<Self> {
        let core = client.core();
        let listing = listing(core, container_url, prefix)?;
        let call = core.call()?;
        let entries = call.block_on(|call| async move { list_all(&call, &listing).await })?;
        Ok(Self::new(client, entries))
    }

    /// The blobs of these URLs, in this order. Each URL may have a SAS, a snapshot or a version of its own.
    pub fn from_urls(client: &Client, urls: &[impl AsRef<str>]) -> Result<Self> {
        Ok(Self::new(client, entries_of_urls(client.core(), urls)?))
    }

    /// Ranges of blobs, in this order. A read fails with `Status::OutOfRange` if its range is not within the blob.
    pub fn from_ranges(client: &Client, ranges: &[BlobRange]) -> Result<Self> {
        let mut builder = Builder::new(client.core());
        for (number, BlobRange { url, offset, length }) in ranges.iter().enumerate() {
            if !Extent::is_valid_range(*offset, *length) {
                return Err(Error::invalid(format!(
                    "range {number}: {length} bytes from {offset} on are beyond any blob"
                )));
            }
            builder.push(number, url, Some(*length), Some(*offset))?;
        }
        Ok(Self::new(client, builder.entries))
    }

    /// The files in tar archives, in the order of the archives. This call reads the archives' headers, once.
    pub fn from_tars(client: &Client, urls: &[impl AsRef<str>]) -> Result<Self> {
        let core = client.core();
        let mut archives = Vec::with_capacity(urls.len());
        for (number, url) in urls.iter().enumerate() {
            let parts = parse_blob_parts(url.as_ref(), core.endpoint());
            archives.push(parts.map_err(|error| error.context(format!("archive {number}")))?);
        }
        let call = core.call()?;
        let found = index_all(&call, &archives)?;
        let mut entries = Entries::default();
        for ((container, blob), (version, members)) in archives.into_iter().zip(found) {
            let source = entries.add_source(EntrySource::new(container, SourceKind::Archive { blob, version }))?;
            for ArchiveMember { name, offset, size } in &members {
                entries.push(source, NewEntry { name, size: Some(*size), etag: "", offset: Some(*offset) })?;
            }
        }
        Ok(Self::new(client, entries))
    }

    /// The dataset that was saved with [`save_manifest`](Self::save_manifest). Nothing is listed. A SAS in `url` is
    /// also used for entries of the same container, or of the same account if it is an account SAS. The client's
    /// credential is sent to `url`'s own host and to Azure Storage only; a manifest that names another host is refused.
    pub fn from_manifest(client: &Client, url: &str) -> Result<Self> {
        Ok(Self::new(client, manifest::load(client.core(), parse_blob(url, client.core().endpoint())?)?))
    }

    /// Saves the names, sizes, ETags and offsets of all entries as one blob, so that each index means the same entry in
    /// many processes. The blob has no secrets.
    pub fn save_manifest(&self, url: &str) -> Result<()> {
        manifest::save(self.core(), self.entries(), parse_blob(url, self.core().endpoint())?)
    }
}

/// The listing of a container's blobs, all of them without a prefix.
pub(crate) fn listing(core: &ClientCore, container_url: &str, prefix: Option<&str>) -> Result<Listing> {
    let container = parse_container(container_url, core.endpoint())?;
    container.require_listable()?;
    Ok(Listing { container, prefix: prefix.unwrap_or_default().to_owned() })
}

async fn list_all(call: &Call, listing: &Listing) -> Result<Entries> {
    let new_table = || Entries::of_container(listing.container.clone());
    let first = listing.page(call, "", new_table).await?;
    let (mut entries, mut next) = (first.blobs, first.next);
    while let Some(marker) = next {
        let page = listing.page(call, &marker, new_table).await?;
        entries.append(0, &page.blobs)?;
        next = page.next;
    }
    Ok(entries)
}

pub(crate) fn entries_of_urls(core: &ClientCore, urls: &[impl AsRef<str>]) -> Result<Entries> {
    let mut builder = Builder::new(core);
    for (number, url) in urls.iter().enumerate() {
        builder.push(number, url.as_ref(), None, None)?;
    }
    Ok(builder.entries)
}

/// Adds entries by their blobs' URLs. URLs with the same container and query share one source.
struct Builder<'a> {
    core: &'a ClientCore,
    entries: Entries,
    sources: HashMap<(String, Option<String>), u32>,
}

impl<'a> Builder<'a> {
    fn new(core: &'a ClientCore) -> Self {
        Self { core, entries: Entries::default(), sources: HashMap::new() }
    }

    fn push(&mut self, number: usize, url: &str, size: Option<u64>, offset: Option<u64>) -> Result<()> {
        let parts = parse_blob_parts(url, self.core.endpoint());
        let (container, name) = parts.map_err(|error| error.context(format!("URL {number}")))?;
        let source = self.source(container)?;
        self.entries.push(source, NewEntry { name: &name, size, etag: "", offset })
    }

    fn source(&mut self, container: Container) -> Result<u32> {
        let key = (container.target.display(), container.target.query().map(str::to_owned));
        if let Some(&known) = self.sources.get(&key) {
            return Ok(known);
        }
        let new = self.entries.add_source(EntrySource::of_blobs(container))?;
        self.sources.insert(key, new);
        Ok(new)
    }
}

/// Indexes archives, several at a time. Returns the version and the members of each.
fn index_all(call: &Call, archives: &[(Container, String)]) -> Result<Vec<(Version, Vec<ArchiveMember>)>> {
    check_may_block()?;
    let index = |(container, blob): &(Container, String)| {
        let (call, target) = (call.clone(), container.blob(blob));
        async move { tar_index::index(&call, &target).await }
    };
    Gather::start(archives.iter().map(index).map(Ok), call.connections())?.wait(&call.limits)
}
