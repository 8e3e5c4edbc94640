//! How datasets come about: out of a listing, of URLs, of ranges, of archives or of a manifest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::Dataset;
use crate::client::Client;
use crate::core::parallel::Transfers;
use crate::core::runtime::block_on;
use crate::dataset::entries::{Entries, Holds, New, Part, Source};
use crate::dataset::manifest;
use crate::dataset::tar_index::{self, Member};
use crate::error::{Error, Result};
use crate::service::client_core::{Call, ClientCore};
use crate::service::list_blobs::Listing;
use crate::service::ranged_get::Version;
use crate::sys::lock::lock;
use crate::url::{Container, parse_blob, parse_blob_parts, parse_container};

/// A part of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRange {
    /// The blob's URL.
    pub url: String,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

impl Dataset {
    /// All blobs of a container whose names begin with `prefix`, in the service's order. No blob at all is an empty
    /// dataset.
    pub fn list(client: &Client, container_url: &str, prefix: Option<&str>) -> Result<Self> {
        let core = client.core();
        let listing = listing(core, container_url, prefix)?;
        let call = core.call()?;
        let entries = block_on(async move { list_all(&call, &listing).await })?;
        Ok(Self::new(client, entries))
    }

    /// The blobs of these URLs, in this order. Each URL may have a SAS, a snapshot or a version of its own.
    pub fn from_urls(client: &Client, urls: &[impl AsRef<str>]) -> Result<Self> {
        Ok(Self::new(client, entries_of_urls(client.core(), urls)?))
    }

    /// Parts of blobs, in this order. They are checked against the blobs when they are read.
    pub fn from_ranges(client: &Client, ranges: &[BlobRange]) -> Result<Self> {
        let mut builder = Builder::new(client.core());
        for (number, BlobRange { url, offset, length }) in ranges.iter().enumerate() {
            if !Part::has_place(*offset, *length) {
                return Err(Error::invalid(format!(
                    "range {number}: {length} bytes from {offset} on are beyond any blob"
                )));
            }
            builder.push(number, url, Some(*length), Some(*offset))?;
        }
        Ok(Self::new(client, builder.entries))
    }

    /// The files in tar archives, in the archives' order. The archives are indexed here, once, by ranged reads.
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
            let source = entries.add_source(Source::new(container, Holds::Archive { blob, version }))?;
            for Member { name, offset, size } in &members {
                entries.push(source, New { name, size: Some(*size), etag: "", offset: Some(*offset) })?;
            }
        }
        Ok(Self::new(client, entries))
    }

    /// The dataset that another process saved with [`save_manifest`](Self::save_manifest). Nothing is listed. A SAS in
    /// `url` is used for the entries of the same container, or account if that is what it was made for. The client's
    /// credential goes to `url`'s own host and to Azure Storage; a manifest that names another one is refused.
    pub fn from_manifest(client: &Client, url: &str) -> Result<Self> {
        Ok(Self::new(client, manifest::load(client.core(), parse_blob(url, client.core().endpoint())?)?))
    }

    /// Saves names, sizes, ETags and places as one blob, without any secret, so that many processes agree on what
    /// each index means.
    pub fn save_manifest(&self, url: &str) -> Result<()> {
        manifest::save(self.core(), self.entries(), parse_blob(url, self.core().endpoint())?)
    }
}

/// A container to be listed; a prefix of `""` is none.
pub(crate) fn listing(core: &ClientCore, container_url: &str, prefix: Option<&str>) -> Result<Listing> {
    let container = parse_container(container_url, core.endpoint())?;
    container.require_listable()?;
    Ok(Listing { container, prefix: prefix.unwrap_or_default().to_owned() })
}

async fn list_all(call: &Call, listing: &Listing) -> Result<Entries> {
    let first = listing.page(call, "", |_| true).await?;
    let (mut entries, mut next) = (first.entries, first.next);
    while let Some(marker) = next {
        let page = listing.page(call, &marker, |_| true).await?;
        entries.append(0, &page.entries)?;
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

/// Collects entries out of blobs' URLs, those of one container with one query under one source.
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
        self.entries.push(source, New { name: &name, size, etag: "", offset })
    }

    fn source(&mut self, container: Container) -> Result<u32> {
        let key = (container.target.display(), container.target.query().map(str::to_owned));
        if let Some(&known) = self.sources.get(&key) {
            return Ok(known);
        }
        let new = self.entries.add_source(Source::of_blobs(container))?;
        self.sources.insert(key, new);
        Ok(new)
    }
}

/// Indexes archives side by side.
fn index_all(call: &Call, archives: &[(Container, String)]) -> Result<Vec<(Version, Vec<Member>)>> {
    let found = Arc::new(Mutex::new(vec![None; archives.len()]));
    let mut parts = Vec::with_capacity(archives.len());
    for (number, (container, blob)) in archives.iter().enumerate() {
        let (call, target, found) = (call.clone(), container.blob(blob), found.clone());
        parts.push(async move {
            let index = tar_index::index(&call, &target).await?;
            lock(&found)[number] = Some(index);
            Ok(())
        });
    }
    crate::sys::blocking::check_may_block()?;
    Transfers::start(parts, call.connections())?.wait()?;
    let mut found = lock(&found);
    let found: Option<Vec<_>> = std::mem::take(&mut *found).into_iter().collect();
    found.ok_or_else(|| Error::internal("an archive was not indexed"))
}
