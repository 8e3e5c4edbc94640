//! Downloads a blob to a local file, and uploads a local file as a blob.

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
use crate::error::{Error, Result, Status};
use crate::redact::shown;
use crate::service::body_sink::Sink;
use crate::service::client_core::ClientCore;
use crate::service::ranged_get::{self, Only, Opened, fetch_parts};
use crate::sys::blocking::check_may_block;
use crate::url::Target;

/// Writes the bytes of a range to their position in a file.
struct FileSink {
    file: Arc<File>,
    /// The file position of the next bytes.
    at: u64,
    /// The end of the accepted bytes.
    accepted: u64,
    room: BytesMut,
}

/// How many bytes a sink receives before it writes them: few enough to stay in the processor's cache.
const BUFFER: usize = 256 << 10;

impl Sink for FileSink {
    fn room(&mut self) -> &mut (impl BufMut + Send) {
        self.room.reserve(BUFFER);
        &mut self.room
    }

    fn received(&mut self) -> Result<()> {
        // The page cache usually takes the bytes at memory speed. When it does not, other threads run this thread's
        // tasks.
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

/// Downloads a blob to a temporary file beside `path`, and renames that file to `path` when it is complete.
pub(crate) fn download(core: &ClientCore, target: Target, path: &Path) -> Result<()> {
    check_may_block()?;
    let call = core.call()?;
    // Create the file first: if it cannot be written, no request is needed.
    let new = NewFile::at(path)?;
    let target = Arc::new(target);
    let open_target = target.clone();
    let open = |call| async move { ranged_get::open(&call, &open_target, 0..CHUNK, &Only::Any).await };
    let opened = call.clone().block_on(open)?;
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
        .wait(&call.limits)
        .map_err(|error| error.context(shown(&path.to_string_lossy())))?;
    new.publish()
}

/// Uploads the file `path` as a blob.
pub(crate) fn upload(core: &ClientCore, path: &Path, target: Target, mode: WriteMode) -> Result<()> {
    check_may_block()?;
    let (mut file, size) = local_file::open(path)?;
    let writer = BlobWriter::for_size(core, target, mode, size)?;
    writer.write_from(&mut file, path)?;
    writer.close()
}
