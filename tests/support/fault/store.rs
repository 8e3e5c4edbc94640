//! The blobs of the fault server: stored blobs by path, the blocks staged for them, and containers of generated blobs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Content;
use super::http::Headers;

#[derive(Clone)]
pub enum Body {
    Bytes(Arc<Vec<u8>>),
    Content(Content),
    /// The content, with its first bytes replaced by these.
    Headed(Arc<Vec<u8>>, Content),
}

impl Body {
    pub fn size(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Content(content) | Body::Headed(_, content) => content.size,
        }
    }

    pub fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        match self {
            Body::Bytes(bytes) => bytes[offset as usize..(offset + length) as usize].to_vec(),
            Body::Content(content) => content.bytes(offset, length as usize),
            Body::Headed(head, content) => {
                let mut bytes = content.bytes(offset, length as usize);
                let head = head.get(offset as usize..).unwrap_or_default();
                bytes.iter_mut().zip(head).for_each(|(byte, head)| *byte = *head);
                bytes
            }
        }
    }
}

/// A block: its id in base64, and its bytes.
pub type Block = (String, Arc<Vec<u8>>);

/// The kind of a listed name. The last two are directories in accounts with a hierarchical namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    /// An empty blob with the metadata `hdi_isfolder`; the key may begin with a capital.
    Stub(&'static str),
    /// An entry whose `ResourceType` is `directory`.
    Directory,
}

#[derive(Clone)]
pub struct Blob {
    pub body: Body,
    pub etag: String,
    /// The blocks that it was committed from; none if it was uploaded with one Put Blob.
    pub blocks: Vec<Block>,
    pub kind: Kind,
    /// Header names and values.
    pub metadata: Headers,
}

/// Blobs whose names and bytes are computed from their index, so that a million of them use no memory.
#[derive(Clone, Copy, Debug)]
pub struct GeneratedBlobs {
    pub count: u64,
    /// The size of each blob, in bytes.
    pub size: u64,
}

impl GeneratedBlobs {
    /// The name of a blob. Names sort in the order of the indices.
    pub fn name(index: u64) -> String {
        format!("part-{:03}/{index:07}.jpg", index / 10_000)
    }

    pub fn content(&self, index: u64) -> Content {
        Content::new(index, self.size)
    }

    fn blob(&self, index: u64) -> Blob {
        let etag = format!("\"0x8DA{index:08X}\"");
        Blob {
            body: Body::Content(self.content(index)),
            etag,
            blocks: Vec::new(),
            kind: Kind::File,
            metadata: Headers::new(),
        }
    }

    /// The first index whose name is `name` or sorts after it.
    fn first_from(&self, name: &str) -> u64 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if GeneratedBlobs::name(middle).as_str() < name { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn index(&self, name: &str) -> Option<u64> {
        let index = name.strip_suffix(".jpg")?.rsplit('/').next()?.parse().ok()?;
        (index < self.count && GeneratedBlobs::name(index) == name).then_some(index)
    }
}

#[derive(Default)]
pub struct Store {
    blobs: BTreeMap<String, Blob>,
    staged: HashMap<String, Vec<Block>>,
    generated: HashMap<String, GeneratedBlobs>,
    order: Option<Order>,
    /// The metadata of the containers that were created. A container with a blob in it need not be created.
    containers: HashMap<String, Headers>,
    versions: u64,
}

/// Computes the key by which a name is sorted in listings.
pub type Order = fn(&str) -> Vec<u8>;

/// An error response: HTTP status and service code.
pub type Refusal = (u16, &'static str);

impl Store {
    pub fn get(&self, path: &str) -> Option<Blob> {
        let generated = || {
            let (container, name) = split_container(path)?;
            let all = self.generated.get(container)?;
            Some(all.blob(all.index(name)?))
        };
        self.blobs.get(path).cloned().or_else(generated)
    }

    /// Creates or replaces a blob; returns its new ETag.
    pub fn put(&mut self, path: &str, body: Body) -> String {
        self.publish(path, body, Vec::new())
    }

    pub fn put_directory(&mut self, path: &str, kind: Kind) {
        self.put(path, Body::Bytes(Arc::default()));
        self.blobs.entry(path.to_owned()).and_modify(|blob| blob.kind = kind);
    }

    pub fn set_metadata(&mut self, path: &str, metadata: Headers) {
        self.blobs.entry(path.to_owned()).and_modify(|blob| blob.metadata = metadata);
    }

    pub fn delete(&mut self, path: &str) -> bool {
        self.blobs.remove(path).is_some()
    }

    /// Fills the container `/ACCOUNT/CONTAINER`, which has no other blobs.
    pub fn put_generated(&mut self, container: &str, blobs: GeneratedBlobs) {
        self.generated.insert(container.to_owned(), blobs);
    }

    /// The metadata of a container if it was created.
    pub fn container(&self, path: &str) -> Option<Headers> {
        self.containers.get(path).cloned()
    }

    pub fn put_container(&mut self, path: &str, metadata: Headers) {
        self.containers.insert(path.to_owned(), metadata);
    }

    pub fn order_by(&mut self, order: Order) {
        self.order = Some(order);
    }

    /// The names of a container from `first` on, and their blobs, in byte order or in that of
    /// [`order_by`](Self::order_by). `None` if the container does not exist; it exists from its first blob on.
    pub fn list(&self, container: &str, first: &str) -> Option<Box<dyn Iterator<Item = (String, Blob)> + '_>> {
        if let Some(all) = self.generated.get(container) {
            let indices = all.first_from(first)..all.count;
            return Some(Box::new(indices.map(|index| (GeneratedBlobs::name(index), all.blob(index)))));
        }
        let folder = format!("{container}/");
        if !self.blobs.keys().any(|path| path.starts_with(&folder)) && container != super::CONTAINER {
            return None;
        }
        if let Some(order) = self.order {
            let blobs = self.blobs.iter().filter_map(|(path, blob)| Some((path.strip_prefix(&folder)?, blob)));
            // An empty name is the beginning in every order.
            let mut blobs: Vec<_> = blobs
                .filter(|(name, _)| first.is_empty() || order(name) >= order(first))
                .map(|(name, blob)| (name.to_owned(), blob.clone()))
                .collect();
            blobs.sort_by_cached_key(|(name, _)| order(name));
            return Some(Box::new(blobs.into_iter()));
        }
        let blobs = self
            .blobs
            .range(format!("{folder}{first}")..)
            .map_while(move |(path, blob)| Some((path.strip_prefix(&folder)?.to_owned(), blob.clone())));
        Some(Box::new(blobs))
    }

    pub fn stage(&mut self, path: &str, id: &str, bytes: Vec<u8>) -> Result<(), Refusal> {
        let staged = self.staged.entry(path.to_owned()).or_default();
        if staged.iter().any(|(known, _)| known.len() != id.len()) {
            return Err((400, "InvalidBlobOrBlock"));
        }
        staged.retain(|(known, _)| known != id);
        staged.push((id.to_owned(), Arc::new(bytes)));
        Ok(())
    }

    /// Commits the blocks that the XML of the list names; they are staged, or the blob has them already.
    pub fn commit(&mut self, path: &str, list: &str) -> Result<String, Refusal> {
        let staged = self.staged.get(path).into_iter().flatten();
        let known: Vec<_> = staged.chain(self.blobs.get(path).into_iter().flat_map(|blob| &blob.blocks)).collect();
        let mut blocks = Vec::new();
        for id in list.split("</").filter_map(|part| Some(part.rsplit_once("<Latest>")?.1.trim())) {
            let block = known.iter().find(|(known, _)| known == id).ok_or((400, "InvalidBlockList"))?;
            blocks.push((*block).clone());
        }
        let mut bytes = Vec::new();
        blocks.iter().for_each(|(_, block)| bytes.extend_from_slice(block));
        Ok(self.publish(path, Body::Bytes(Arc::new(bytes)), blocks))
    }

    fn publish(&mut self, path: &str, body: Body, blocks: Vec<Block>) -> String {
        self.versions += 1;
        let etag = format!("\"0x8D{:08X}\"", self.versions);
        self.staged.remove(path);
        self.blobs.insert(
            path.to_owned(),
            Blob { body, etag: etag.clone(), blocks, kind: Kind::File, metadata: Headers::new() },
        );
        etag
    }
}

/// Splits a path into `/ACCOUNT/CONTAINER` and the blob's name.
fn split_container(path: &str) -> Option<(&str, &str)> {
    let (slash, _) = path.match_indices('/').nth(2)?;
    Some((&path[..slash], &path[slash + 1..]))
}
