//! What lies where in a tar archive: its headers, read by ranges, once.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use tar::Header;

use crate::error::{Error, Result, Status};
use crate::service::body_sink::Sink;
use crate::service::client_core::Call;
use crate::service::ranged_get::{self, Only, Opened, Version, fetch};
use crate::url::Target;

/// A tar archive is made of blocks of this size.
const BLOCK: u64 = 512;
/// The first look, and the least that a read through small files brings.
const FIRST_LOOK: u64 = 64 << 10;
/// Files larger than this are jumped over; smaller ones are read through, since a request costs as much.
const JUMP: u64 = 1 << 20;
/// How many files' headers a read through small ones is to bring.
const HEADERS_AT_ONCE: u64 = 16;
const MOST_AT_ONCE: u64 = 8 << 20;
/// After a jump: a header, and the extended ones that may stand before it.
const AFTER_JUMP: u64 = 4 << 10;
/// A name, or a set of extended attributes, that is longer than this is damage.
const MAX_EXTENSION: u64 = 1 << 20;

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// Finds the regular files of an archive, and says of which version of it.
pub(crate) async fn index(call: &Call, target: &Target) -> Result<(Version, Vec<Member>)> {
    let context = |error: Error| error.context("cannot index the archive");
    let (blob, window) = Blob::open(call, target).await.map_err(context)?;
    let mut archive = Archive { source: blob, start: 0, window };
    let members = archive.members().await.map_err(context)?;
    Ok((archive.source.version, members))
}

/// Where an archive's bytes come from.
trait Source: Sync {
    fn name(&self) -> String;
    fn size(&self) -> u64;
    /// Adds a range, which lies inside, to what is collected.
    fn fetch(&self, range: Range<u64>, to: &mut Collected) -> impl Future<Output = Result<()>> + Send;
}

/// One version of a blob.
struct Blob<'a> {
    call: &'a Call,
    target: &'a Target,
    version: Version,
}

impl<'a> Blob<'a> {
    async fn open(call: &'a Call, target: &'a Target) -> Result<(Self, Collected)> {
        let opened = ranged_get::open(call, target, 0..FIRST_LOOK, &Only::Any).await?;
        let Opened { version, first, body } = opened;
        let mut window = Collected::default();
        fetch(call, target, &version, first, body, &mut window).await?;
        Ok((Self { call, target, version }, window))
    }
}

impl Source for Blob<'_> {
    fn name(&self) -> String {
        self.target.display()
    }

    fn size(&self) -> u64 {
        self.version.size
    }

    async fn fetch(&self, range: Range<u64>, to: &mut Collected) -> Result<()> {
        fetch(self.call, self.target, &self.version, range, None, to).await
    }
}

struct Archive<S> {
    source: S,
    /// What was fetched last, and where it begins.
    start: u64,
    window: Collected,
}

#[derive(Default)]
struct Collected {
    bytes: BytesMut,
    accepted: usize,
}

impl Collected {
    fn clear(&mut self) {
        self.bytes.clear();
        self.accepted = 0;
    }
}

impl Sink for Collected {
    fn room(&mut self) -> &mut (impl BufMut + Send) {
        self.bytes.reserve(FIRST_LOOK as usize);
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

/// What an extended header says of the next file.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// The file does not lie in one piece.
    sparse: bool,
}

impl<S: Source> Archive<S> {
    async fn members(&mut self) -> Result<Vec<Member>> {
        let mut members = Vec::new();
        let mut extended = Extended::default();
        let (mut at, mut files) = (0, 0);
        while at < self.source.size() {
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
            // Links, directories and devices have no data, whatever their size field says.
            let has_no_data = kind.is_hard_link() || kind.is_symlink() || kind.is_dir() || kind.is_fifo();
            let has_no_data = has_no_data || kind.is_character_special() || kind.is_block_special();
            at = if has_no_data { data } else { self.after(data, size)? };
            let is_file = kind.is_file() || kind.is_contiguous();
            if is_file && !name.ends_with('/') {
                members.push(Member { name, offset: data, size });
            }
        }
        Ok(members)
    }

    /// The header at `at`; `None` for the block of zeros that ends an archive. `stride` is how far headers are apart.
    async fn header(&mut self, at: u64, stride: u64) -> Result<Option<Header>> {
        let ahead = match stride {
            0..=JUMP => (stride * HEADERS_AT_ONCE).clamp(FIRST_LOOK, MOST_AT_ONCE),
            _ => AFTER_JUMP,
        };
        if at == 0 && is_compressed(&self.window.bytes) {
            return Err(self.damaged(at, "it is compressed, and cannot be read by ranges: store it as plain tar"));
        }
        if at == 0 && self.source.size() < BLOCK {
            return Err(self.damaged(at, "it is too short for a tar header"));
        }
        let block = self.read(at, BLOCK, ahead).await?;
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(block).clone();
        // The sum of all bytes, with the sum itself taken as spaces.
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
        Ok(self.read(at, size, FIRST_LOOK).await?.to_vec())
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

    /// Where the header behind `size` bytes of data stands.
    fn after(&self, data: u64, size: u64) -> Result<u64> {
        match data.checked_add(size) {
            // Some writers leave out what would fill the last block.
            Some(end) if end <= self.source.size() => Ok(end.next_multiple_of(BLOCK)),
            _ => Err(self.damaged(data, "a file is longer than what is left of the archive: it was cut off")),
        }
    }

    /// `length` bytes at `at`, out of a window of at least `ahead` if they have to be fetched.
    async fn read(&mut self, at: u64, length: u64, ahead: u64) -> Result<&[u8]> {
        let end = at.checked_add(length).filter(|&end| end <= self.source.size());
        let end = end.ok_or_else(|| self.damaged(at, "it ends in the middle of a header: it was cut off"))?;
        if at < self.start || end > self.start + self.window.bytes.len() as u64 {
            let range = at..end.max(at + ahead).min(self.source.size());
            self.window.clear();
            self.start = at;
            self.source.fetch(range, &mut self.window).await?;
        }
        let from = (at - self.start) as usize;
        Ok(&self.window.bytes[from..from + length as usize])
    }

    fn damaged(&self, at: u64, why: &str) -> Error {
        Error::new(Status::Corrupt, format!("{}, byte {at}: {why}", self.source.name()))
    }

    fn sparse(&self, name: &str) -> Error {
        let message = format!("{}: '{name}' is a sparse file, which does not lie in one piece", self.source.name());
        Error::unsupported(message).hint("make the archive without --sparse")
    }
}

/// What the usual compressed archives begin with: gzip, Zstandard, bzip2 and xz.
fn is_compressed(start: &[u8]) -> bool {
    const MAGICS: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0"];
    MAGICS.iter().any(|magic| start.starts_with(magic))
}

/// One attribute of a pax header.
struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
    /// Of the whole record.
    length: usize,
}

/// The first record, which is `LENGTH KEY=VALUE` and a line break, its length included. The `tar` crate looks for the
/// line break instead, which a value may have in it.
fn pax_record(content: &[u8]) -> Option<Record<'_>> {
    let space = content.iter().position(|&byte| byte == b' ')?;
    let digits = Some(&content[..space]).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let attribute = content.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = attribute.iter().position(|&byte| byte == b'=')?;
    Some(Record { key: &attribute[..equals], value: &attribute[equals + 1..], length })
}

/// An archive that is there already.
#[cfg(any(test, fuzzing))]
pub(crate) mod in_memory {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    struct Bytes<'a>(&'a [u8]);

    impl Source for Bytes<'_> {
        fn name(&self) -> String {
            "an archive in memory".to_owned()
        }

        fn size(&self) -> u64 {
            self.0.len() as u64
        }

        async fn fetch(&self, range: Range<u64>, to: &mut Collected) -> Result<()> {
            to.bytes.extend_from_slice(&self.0[range.start as usize..range.end as usize]);
            Ok(())
        }
    }

    pub(crate) fn index(archive: &[u8]) -> Result<Vec<Member>> {
        let first = &archive[..archive.len().min(FIRST_LOOK as usize)];
        let mut archive = Archive {
            source: Bytes(archive),
            start: 0,
            window: Collected { bytes: first.into(), accepted: first.len() },
        };
        match pin!(archive.members()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(members) => members,
            Poll::Pending => Err(Error::internal("memory made the index wait")),
        }
    }
}
