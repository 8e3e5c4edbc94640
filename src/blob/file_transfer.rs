//! Whole blobs from and to files of this machine.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use crate::blob::local_file::{self, NewFile};
use crate::blob::read_pattern::CHUNK;
use crate::blob::{BlobWriter, WriteMode};
use crate::core::parallel::Transfers;
use crate::core::runtime::block_on;
use crate::error::{Error, Result, Status};
use crate::redact::shown;
use crate::service::body_sink::Sink;
use crate::service::client_core::ClientCore;
use crate::service::ranged_get::{self, Only, Opened, fetch_parts};
use crate::sys::blocking::check_may_block;
use crate::url::Target;

/// Writes a range's bytes to their place in a file.
struct FileSink {
    file: Arc<File>,
    at: u64,
    accepted: u64,
    room: BytesMut,
}

/// Small enough to stay in a core's cache between the socket and the file.
const PIECE: usize = 256 << 10;

impl Sink for FileSink {
    fn room(&mut self) -> &mut (impl BufMut + Send) {
        self.room.reserve(PIECE);
        &mut self.room
    }

    fn received(&mut self) -> Result<()> {
        // The page cache takes these at memory speed; when it does not, other threads take over meanwhile.
        let written = tokio::task::block_in_place(|| self.file.write_all_at(&self.room, self.at));
        written.map_err(|error| Error::new(Status::LocalIo, format!("cannot write the file: {error}")))?;
        self.at += self.room.len() as u64;
        self.room.clear();
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        self.accepted = self.at;
        Ok(())
    }

    fn reject(&mut self) {
        self.room.clear();
        self.at = self.accepted;
    }
}

/// Brings a blob into a temporary file beside `path`, which takes that name once it is whole.
pub(crate) fn download(core: &ClientCore, target: Target, path: &Path) -> Result<()> {
    check_may_block()?;
    let call = core.call()?;
    // What cannot be written needs no request.
    let new = NewFile::at(path)?;
    let target = Arc::new(target);
    let (open_call, open_target) = (call.clone(), target.clone());
    let opened = block_on(async move { ranged_get::open(&open_call, &open_target, 0..CHUNK, &Only::Any).await })?;
    let Opened { version, first, body } = opened;
    let file = Arc::new(new.file().try_clone().map_err(|error| Error::file("cannot write", path, &error))?);
    let all = 0..version.size;
    let version = Arc::new(version);
    let mut sink = |part: &Range<u64>| FileSink {
        file: file.clone(),
        at: part.start,
        accepted: part.start,
        room: BytesMut::new(),
    };
    let parts = fetch_parts(&call, &target, &version, all, first, body, &mut sink);
    Transfers::start(parts, call.connections())?
        .wait()
        .map_err(|error| error.context(shown(&path.to_string_lossy())))?;
    new.publish()
}

/// Writes a file as a blob.
pub(crate) fn upload(core: &ClientCore, path: &Path, target: Target, mode: WriteMode) -> Result<()> {
    check_may_block()?;
    let (mut file, size) = local_file::open(path)?;
    let writer = BlobWriter::for_size(core, target, mode, size)?;
    writer.write_from(&mut file, path)?;
    writer.close()
}
