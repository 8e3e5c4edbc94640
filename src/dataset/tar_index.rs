//! Finds the files in a tar archive: reads its headers by ranges, once.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use tar::Header;

use crate::error::{Error, Result, Status};
use crate::service::body_sink::Sink;
use crate::service::client_core::Call;
use crate::service::ranged_get::{self, Only, Opened, fetch};
use crate::service::version::Version;
use crate::url::Target;

/// The size in bytes of the blocks that an archive consists of.
const BLOCK: u64 = 512;
/// The bytes of the first read, and the least bytes of a read through small files.
const MIN_READ: u64 = 64 << 10;
/// Files larger than this are skipped. Smaller ones are read through, since a request costs as much as their bytes.
const MAX_READ_THROUGH: u64 = 1 << 20;
/// How many headers one read through small files aims to bring.
const HEADERS_PER_READ: u64 = 16;
/// The most bytes of a read through small files.
const MAX_READ: u64 = 8 << 20;
/// The bytes of a read after a skipped file: a header, and extended headers that may come before it.
const READ_AFTER_SKIP: u64 = 4 << 10;
/// The longest extended header that is accepted: a long name, or a set of attributes.
const MAX_EXTENSION: u64 = 1 << 20;

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArchiveMember {
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// Finds the regular files of an archive. Returns the version of the archive that they are in, and the files.
pub(crate) async fn index(call: &Call, target: &Target) -> Result<(Version, Vec<ArchiveMember>)> {
    let context = |error: Error| error.context("cannot index the archive");
    let (bytes, window) = BlobBytes::open(call, target).await.map_err(context)?;
    let mut archive = Archive { bytes, start: 0, window };
    let members = archive.members().await.map_err(context)?;
    Ok((archive.bytes.version, members))
}

/// An archive's bytes.
trait ArchiveBytes: Sync {
    /// The archive's name, for errors.
    fn name(&self) -> String;
    fn size(&self) -> u64;
    /// Appends a range of the archive to `window`.
    fn fetch(&self, range: Range<u64>, window: &mut HeaderWindow) -> impl Future<Output = Result<()>> + Send;
}

/// The bytes of an archive that is one version of a blob.
struct BlobBytes<'a> {
    call: &'a Call,
    target: &'a Target,
    version: Version,
}

impl<'a> BlobBytes<'a> {
    async fn open(call: &'a Call, target: &'a Target) -> Result<(Self, HeaderWindow)> {
        let opened = ranged_get::open(call, target, 0..MIN_READ, &Only::Any).await?;
        let Opened { version, first, body } = opened;
        let mut window = HeaderWindow::default();
        fetch(call, target, &version, first, body, &mut window).await?;
        Ok((Self { call, target, version }, window))
    }
}

impl ArchiveBytes for BlobBytes<'_> {
    fn name(&self) -> String {
        self.target.display()
    }

    fn size(&self) -> u64 {
        self.version.size
    }

    async fn fetch(&self, range: Range<u64>, window: &mut HeaderWindow) -> Result<()> {
        fetch(self.call, self.target, &self.version, range, None, window).await
    }
}

/// An archive that is being indexed.
struct Archive<B> {
    bytes: B,
    /// The position in the archive where `window` begins.
    start: u64,
    window: HeaderWindow,
}

/// The bytes that were fetched last.
#[derive(Default)]
struct HeaderWindow {
    bytes: BytesMut,
    /// How many of the bytes have been checked.
    accepted: usize,
}

impl HeaderWindow {
    fn clear(&mut self) {
        self.bytes.clear();
        self.accepted = 0;
    }
}

impl Sink for HeaderWindow {
    fn room(&mut self) -> &mut (impl BufMut + Send) {
        self.bytes.reserve(MIN_READ as usize);
        &mut self.bytes
    }

    fn received(&mut self) -> Result<()> {
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        self.accepted = self.bytes.len();
        Ok(())
    }

    fn reject(&mut self) {
        self.bytes.truncate(self.accepted);
    }
}

/// The attributes that extended headers give the next file.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// Whether the file's bytes are not contiguous in the archive.
    sparse: bool,
}

impl<B: ArchiveBytes> Archive<B> {
    async fn members(&mut self) -> Result<Vec<ArchiveMember>> {
        let mut members = Vec::new();
        let mut extended = Extended::default();
        let (mut at, mut files) = (0, 0);
        while at < self.bytes.size() {
            let header = self.header(at, at / (files + 1)).await?;
            let Some(header) = header else { break };
            let kind = header.entry_type();
            let declared = header.entry_size().map_err(|error| self.damaged(at, &error.to_string()))?;
            let data = at + BLOCK;
            if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
                let content = self.extension(data, declared).await?;
                if kind.is_gnu_longname() {
                    extended.name = Some(content.split(|&byte| byte == 0).next().unwrap_or_default().to_vec());
                } else {
                    self.read_pax(at, &content, &mut extended)?;
                }
                at = self.after(data, declared)?;
                continue;
            }
            if kind.is_gnu_longlink() || kind.is_pax_global_extensions() {
                at = self.after(data, declared)?;
                continue;
            }
            let Extended { name, size, sparse } = std::mem::take(&mut extended);
            let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
            let name = String::from_utf8_lossy(&name).into_owned();
            if sparse || kind.is_gnu_sparse() {
                return Err(self.sparse(&name));
            }
            files += 1;
            let size = size.unwrap_or(declared);
            // Links, directories and devices have no data, even if their size field is not 0.
            let has_no_data = kind.is_hard_link() || kind.is_symlink() || kind.is_dir() || kind.is_fifo();
            let has_no_data = has_no_data || kind.is_character_special() || kind.is_block_special();
            at = if has_no_data { data } else { self.after(data, size)? };
            let is_file = kind.is_file() || kind.is_contiguous();
            if is_file && !name.ends_with('/') {
                members.push(ArchiveMember { name, offset: data, size });
            }
        }
        Ok(members)
    }

    /// The header at `at`; `None` for the block of zeros that ends an archive. `stride` is the usual distance of
    /// headers.
    async fn header(&mut self, at: u64, stride: u64) -> Result<Option<Header>> {
        let ahead = match stride {
            0..=MAX_READ_THROUGH => (stride * HEADERS_PER_READ).clamp(MIN_READ, MAX_READ),
            _ => READ_AFTER_SKIP,
        };
        if at == 0 && is_compressed(&self.window.bytes) {
            return Err(self.damaged(at, "it is compressed, and cannot be read by ranges: store it as plain tar"));
        }
        if at == 0 && self.bytes.size() < BLOCK {
            return Err(self.damaged(at, "it is too short for a tar header"));
        }
        let block = self.read(at, BLOCK, ahead).await?;
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(block).clone();
        // The sum of all bytes of the header, where the checksum field counts as spaces.
        let bytes = header.as_bytes();
        let sum = bytes[..148].iter().chain(&bytes[156..]).map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
        match header.cksum() {
            Ok(expected) if expected == sum => Ok(Some(header)),
            _ if at > 0 => Err(self.damaged(at, "the checksum of a header is wrong")),
            _ => Err(self.damaged(at, "it does not begin with a tar header")),
        }
    }

    async fn extension(&mut self, at: u64, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(self.damaged(at, "an extended header is too long"));
        }
        Ok(self.read(at, size, MIN_READ).await?.to_vec())
    }

    fn read_pax(&self, at: u64, content: &[u8], extended: &mut Extended) -> Result<()> {
        let mut rest = content;
        while !rest.is_empty() {
            let record = pax_record(rest).ok_or_else(|| self.damaged(at, "an extended header cannot be read"))?;
            let Record { key, value, length } = record;
            rest = &rest[length..];
            match key {
                b"path" if !extended.sparse => extended.name = Some(value.to_vec()),
                b"size" => {
                    let digits = Some(value).filter(|value| value.iter().all(u8::is_ascii_digit));
                    let size = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
                    extended.size = Some(size.ok_or_else(|| self.damaged(at, "a size is no number"))?);
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    extended.sparse = true;
                    if key == b"GNU.sparse.name" {
                        extended.name = Some(value.to_vec());
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The offset of the header that follows `size` bytes at `data`.
    fn after(&self, data: u64, size: u64) -> Result<u64> {
        match data.checked_add(size) {
            // Some writers do not pad the last block.
            Some(end) if end <= self.bytes.size() => Ok(end.next_multiple_of(BLOCK)),
            _ => Err(self.damaged(data, "a file is longer than what is left of the archive: it was cut off")),
        }
    }

    /// The `length` bytes at `at`. If they are not in the window, at least `ahead` bytes are fetched.
    async fn read(&mut self, at: u64, length: u64, ahead: u64) -> Result<&[u8]> {
        let end = at.checked_add(length).filter(|&end| end <= self.bytes.size());
        let end = end.ok_or_else(|| self.damaged(at, "it ends in the middle of a header: it was cut off"))?;
        if at < self.start || end > self.start + self.window.bytes.len() as u64 {
            let range = at..end.max(at + ahead).min(self.bytes.size());
            self.window.clear();
            self.start = at;
            self.bytes.fetch(range, &mut self.window).await?;
        }
        let from = (at - self.start) as usize;
        Ok(&self.window.bytes[from..from + length as usize])
    }

    fn damaged(&self, at: u64, why: &str) -> Error {
        Error::new(Status::Corrupt, format!("{}, byte {at}: {why}", self.bytes.name()))
    }

    fn sparse(&self, name: &str) -> Error {
        let message = format!("{}: '{name}' is a sparse file, which does not lie in one piece", self.bytes.name());
        Error::unsupported(message).hint("make the archive without --sparse")
    }
}

/// Whether these are the first bytes of a gzip, Zstandard, bzip2 or xz file.
fn is_compressed(start: &[u8]) -> bool {
    const MAGICS: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0"];
    MAGICS.iter().any(|magic| start.starts_with(magic))
}

/// One attribute of a pax header.
struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
    /// The length of the whole record, in bytes.
    length: usize,
}

/// The first record of a pax header: `LENGTH KEY=VALUE` and a line break, where LENGTH counts the whole record. The
/// `tar` crate looks for the line break instead, but a value may contain line breaks.
fn pax_record(content: &[u8]) -> Option<Record<'_>> {
    let space = content.iter().position(|&byte| byte == b' ')?;
    let digits = Some(&content[..space]).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let attribute = content.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = attribute.iter().position(|&byte| byte == b'=')?;
    Some(Record { key: &attribute[..equals], value: &attribute[equals + 1..], length })
}

/// Indexes an archive that is in memory.
#[cfg(any(test, fuzzing))]
pub(crate) mod in_memory {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    struct MemoryBytes<'a>(&'a [u8]);

    impl ArchiveBytes for MemoryBytes<'_> {
        fn name(&self) -> String {
            "an archive in memory".to_owned()
        }

        fn size(&self) -> u64 {
            self.0.len() as u64
        }

        async fn fetch(&self, range: Range<u64>, window: &mut HeaderWindow) -> Result<()> {
            window.bytes.extend_from_slice(&self.0[range.start as usize..range.end as usize]);
            Ok(())
        }
    }

    pub(crate) fn index(archive: &[u8]) -> Result<Vec<ArchiveMember>> {
        let first = &archive[..archive.len().min(MIN_READ as usize)];
        let mut archive = Archive {
            bytes: MemoryBytes(archive),
            start: 0,
            window: HeaderWindow { bytes: first.into(), accepted: first.len() },
        };
        match pin!(archive.members()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(members) => members,
            Poll::Pending => Err(Error::internal("indexing an archive in memory had to wait")),
        }
    }
}
