//! The blobs of the fault server: whole ones by path, and the blocks staged for them.

use std::collections::HashMap;
use std::sync::Arc;

use super::Content;

#[derive(Clone)]
pub enum Body {
    Bytes(Arc<Vec<u8>>),
    Content(Content),
}

impl Body {
    pub fn size(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Content(content) => content.size,
        }
    }

    pub fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        match self {
            Body::Bytes(bytes) => bytes[offset as usize..(offset + length) as usize].to_vec(),
            Body::Content(content) => content.bytes(offset, length as usize),
        }
    }
}

/// A block: its id in base64, and its bytes.
pub type Block = (String, Arc<Vec<u8>>);

#[derive(Clone)]
pub struct Blob {
    pub body: Body,
    pub etag: String,
    /// What it was committed from; a blob that came in one piece has none.
    pub blocks: Vec<Block>,
}

#[derive(Default)]
pub struct Store {
    blobs: HashMap<String, Blob>,
    staged: HashMap<String, Vec<Block>>,
    versions: u64,
}

/// An error answer: status and service code.
pub type Refusal = (u16, &'static str);

impl Store {
    pub fn get(&self, path: &str) -> Option<Blob> {
        self.blobs.get(path).cloned()
    }

    /// Replaces a blob and returns its new ETag.
    pub fn put(&mut self, path: &str, body: Body) -> String {
        self.publish(path, body, Vec::new())
    }

    pub fn delete(&mut self, path: &str) -> bool {
        self.blobs.remove(path).is_some()
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

    /// Makes a blob of the blocks that the list's XML names: staged ones, or those that the blob has already.
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
        self.blobs.insert(path.to_owned(), Blob { body, etag: etag.clone(), blocks });
        etag
    }
}
