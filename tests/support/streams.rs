//! Streams over generated and over small listed blobs, and the names that they return.

use std::collections::BTreeMap;
use std::ops::Range;

use aztorch::Stream;

use super::client::client;
use super::fault::{FaultServer, GeneratedBlobs};

/// Shuffles to test with: none, and several buffers with their seeds.
pub const SHUFFLES: [Option<(usize, u64)>; 4] = [None, Some((1, 3)), Some((17, 4)), Some((1000, 5))];

/// Reads the rest of the epoch and returns its names. Asserts that the positions begin at `first` and have no gaps.
#[track_caller]
pub fn names_from(stream: &Stream, first: u64) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(sample) = stream.next().unwrap() {
        assert_eq!(sample.position(), first + names.len() as u64);
        names.push(sample.name().to_owned());
    }
    names
}

/// Reads a whole epoch and returns its names. Asserts that the positions begin at 0 and have no gaps.
#[track_caller]
pub fn all_names(stream: &Stream) -> Vec<String> {
    names_from(stream, 0)
}

/// Reads `count` samples and returns their names.
pub fn take_names(stream: &Stream, count: usize) -> Vec<String> {
    (0..count).map(|_| stream.next().unwrap().unwrap().name().to_owned()).collect()
}

/// The names of generated blobs.
pub fn generated_names(range: Range<u64>) -> Vec<String> {
    range.map(GeneratedBlobs::name).collect()
}

/// A server with a container of generated blobs, and the container's URL.
pub fn generated_server(count: u64, size: u64) -> (FaultServer, GeneratedBlobs, String) {
    let (server, blobs) = (FaultServer::start(), GeneratedBlobs { count, size });
    let url = server.put_generated("many", blobs);
    (server, blobs, url)
}

/// Names `blob-NNNN`, in their order.
pub fn numbered_names(range: Range<usize>) -> Vec<String> {
    range.map(|index| format!("blob-{index:04}")).collect()
}

/// Names in folders, and names of files that begin like those of the folders.
pub fn names_in_folders() -> Vec<String> {
    let folders = ["a", "a b", "a-b", "a.b", "ab"];
    folders
        .iter()
        .flat_map(|folder| [(*folder).to_owned() + ".txt", format!("{folder}/1"), format!("{folder}/sub/2")])
        .collect()
}

/// Lazy streams over the listing of one container, with the same page size and shuffle.
pub struct ListedStreams {
    pub server: FaultServer,
    pub url: String,
    pub page_size: usize,
    pub shuffle: Option<(usize, u64)>,
}

impl ListedStreams {
    /// Puts blobs with these names, whose bytes are their names, on a new server.
    pub fn new(
        names: impl IntoIterator<Item = String>,
        page_size: usize,
        shuffle: Option<(usize, u64)>,
    ) -> ListedStreams {
        let server = FaultServer::start();
        names.into_iter().for_each(|name| drop(server.put(&name, name.as_bytes().to_vec())));
        server.set_page_size(page_size);
        let url = server.container_url();
        ListedStreams { server, url, page_size, shuffle }
    }

    /// A new stream over one shard.
    pub fn shard(&self, index: usize, count: usize) -> Stream {
        let stream = Stream::list(&client(), &self.url, None, index, count).unwrap();
        if let Some((buffer, seed)) = self.shuffle {
            stream.set_shuffle(buffer, seed).unwrap();
        }
        stream.set_lazy().unwrap();
        stream
    }

    /// A new stream over all blobs.
    pub fn unsharded(&self) -> Stream {
        self.shard(0, 1)
    }

    /// Reads `progress[i]` samples of shard `i`; returns the shards' cursors and the names read so far.
    pub fn interrupt_shards(&self, progress: &[usize]) -> (Vec<String>, Vec<String>) {
        let mut seen = Vec::new();
        let cursors = progress.iter().enumerate().map(|(index, count)| {
            let stream = self.shard(index, progress.len());
            seen.extend(take_names(&stream, *count));
            stream.cursor(None).unwrap()
        });
        let cursors = cursors.collect();
        (cursors, seen)
    }

    /// Resumes all shards and reads them to the end; returns how often each name was read, those in `seen` included.
    pub fn resume_shards(&self, cursors: &[String], mut seen: Vec<String>) -> BTreeMap<String, usize> {
        for (index, cursor) in cursors.iter().enumerate() {
            let stream = self.shard(index, cursors.len());
            stream.resume(cursor).unwrap();
            while let Some(sample) = stream.next().unwrap() {
                seen.push(sample.name().to_owned());
            }
        }
        let mut counts = BTreeMap::new();
        seen.into_iter().for_each(|name| *counts.entry(name).or_insert(0) += 1);
        counts
    }
}
