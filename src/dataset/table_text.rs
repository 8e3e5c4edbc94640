//! A table of entries as text: how manifests are stored, and how a dataset is passed to another process.
//!
//! The text is lines of JSON, so that other programs can read it. The first line has the format, the number of entries
//! and their sources. Then comes one line for each entry: `[source, name, size, etag]`, with the offset as a fifth
//! element if the entry is a part of a blob. The last line has the SHA-256 of all lines before it.
//!
//! The two forms differ in the sources' queries. A manifest has only snapshots and versions, since it is stored where
//! others can read it. A serialized dataset has the whole queries, with each SAS, since it stays with its program.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dataset::entries::{Entries, EntrySource, Extent, NewEntry, SourceKind};
use crate::error::{Error, Result, Status};
use crate::service::version::Version;
use crate::url::Container;

const VERSION: u64 = 1;
/// The number of bytes that are passed on at a time.
const PIECE: usize = 1 << 20;

/// What a text is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Manifest,
    Serialized,
}

impl Form {
    fn format(self) -> &'static str {
        match self {
            Self::Manifest => "aztorch manifest",
            Self::Serialized => "aztorch dataset",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Serialized => "serialized dataset",
        }
    }

    fn query(self, source: &EntrySource) -> Option<Cow<'_, str>> {
        let query = source.container.target.query()?;
        match self {
            Self::Manifest => filter_query(query, true).map(Cow::Owned),
            Self::Serialized => Some(Cow::Borrowed(query)),
        }
    }
}

/// The parameters of a query that select a snapshot or a version, or all other parameters.
pub(crate) fn filter_query(query: &str, selects_blob: bool) -> Option<String> {
    let is_selector = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        name.eq_ignore_ascii_case("snapshot") || name.eq_ignore_ascii_case("versionid")
    };
    let kept: Vec<_> = query.split('&').filter(|pair| is_selector(pair) == selects_blob).collect();
    Some(kept.join("&")).filter(|kept| !kept.is_empty())
}

/// What the first line has, beside the parts that tell whether it can be read.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    sources: Vec<SourceText<'a>>,
    entries: usize,
}

/// The parts of the first line that tell whether the rest can be read.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    format: Text<'a>,
    version: u64,
}

/// A text of JSON, which is copied only if it has escapes.
#[derive(Deserialize, Serialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// The fields of a source, in the order in which they are written.
#[derive(Deserialize, Serialize)]
pub(crate) struct SourceText<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    archive: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) container: Text<'a>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    etag: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) query: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl<'a> SourceText<'a> {
    fn new(source: &'a EntrySource, form: Form) -> Self {
        let container = Text(source.container.target.display().into());
        let query = form.query(source).map(Text);
        let (archive, etag, size) = match &source.kind {
            SourceKind::Blobs => (None, None, None),
            SourceKind::Archive { blob, version } => {
                (Some(Text(blob.into())), Some(Text((&version.etag).into())), Some(version.size))
            }
        };
        Self { archive, container, etag, query, size }
    }

    /// The source, whose container the caller has parsed.
    pub(crate) fn in_container(self, container: Container) -> Result<EntrySource> {
        let kind = match (self.archive, self.etag, self.size) {
            (Some(blob), Some(etag), Some(size)) => {
                SourceKind::Archive { blob: blob.0.into_owned(), version: Version { etag: etag.0.into_owned(), size } }
            }
            (None, _, _) => SourceKind::Blobs,
            _ => return Err(corrupt("an archive has no ETag or no size")),
        };
        Ok(EntrySource::new(container, kind))
    }
}

/// An entry's line: source, name, size, ETag, offset.
#[derive(Deserialize)]
struct EntryText<'a>(
    u32,
    #[serde(borrow)] Text<'a>,
    Option<u64>,
    #[serde(borrow)] Option<Text<'a>>,
    #[serde(default)] Option<u64>,
);

/// Writes a table as text. `put` gets the text in pieces.
pub(crate) fn write(entries: &Entries, form: Form, put: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut output = Lines { put, hash: Sha256::new(), pending: Vec::with_capacity(PIECE + PIECE / 8) };
    output.text(&format!("{{\"entries\":{},\"format\":\"{}\",\"sources\":[", entries.len(), form.format()));
    for (number, source) in entries.sources().iter().enumerate() {
        if number > 0 {
            output.text(",");
        }
        output.json(&SourceText::new(source, form))?;
    }
    output.text(&format!("],\"version\":{VERSION}}}"));
    output.text("\n");
    for index in 0..entries.len() {
        let entry = entries.entry(index)?;
        let etag = Some(entry.etag()).filter(|etag| !etag.is_empty());
        let (source, name, size) = (entry.source_number(), entry.name(), entry.size());
        match entry.offset() {
            None => output.json(&(source, name, size, etag))?,
            Some(offset) => output.json(&(source, name, size, etag, offset))?,
        }
        output.text("\n");
    }
    output.finish()
}

/// Passes lines on in pieces, and computes their checksum.
struct Lines<P> {
    put: P,
    hash: Sha256,
    pending: Vec<u8>,
}

impl<P: FnMut(&[u8]) -> Result<()>> Lines<P> {
    fn text(&mut self, text: &str) {
        self.pending.extend_from_slice(text.as_bytes());
    }

    fn json(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.pending, value).map_err(|error| Error::internal(error.to_string()))?;
        if self.pending.len() >= PIECE { self.pass_on() } else { Ok(()) }
    }

    fn pass_on(&mut self) -> Result<()> {
        self.hash.update(&self.pending);
        (self.put)(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.pass_on()?;
        let last = format!("{{\"sha256\":\"{}\"}}\n", hexadecimal(&self.hash.finalize()));
        (self.put)(last.as_bytes())
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a table. `make_source` makes each source out of its text. Fails with `Status::Corrupt` if the text is damaged.
pub(crate) fn parse(
    bytes: &[u8],
    form: Form,
    mut make_source: impl FnMut(SourceText<'_>) -> Result<EntrySource>,
) -> Result<Entries> {
    let name = form.name();
    let other = || corrupt(format!("it is no {name}"));
    let text = std::str::from_utf8(bytes).map_err(|_| corrupt(format!("it is no {name}: it is not text")))?;
    let (body, last) = text.trim_end_matches('\n').rsplit_once('\n').ok_or_else(other)?;
    let body = &text[..body.len() + 1];
    let mut lines = body.lines();
    let first = lines.next().ok_or_else(other)?;
    let kind: Kind<'_> = serde_json::from_str(first).map_err(|_| other())?;
    if kind.format.0 != form.format() {
        return Err(other());
    }
    if kind.version != VERSION {
        return Err(corrupt(format!("it is a {name} of version {}, and {VERSION} is known here", kind.version)));
    }
    let sum = serde_json::from_str::<LastLine>(last).ok().map(|last| last.sha256);
    if sum != Some(hexadecimal(&Sha256::digest(body))) || !text.ends_with('\n') {
        return Err(corrupt(format!("the {name} is damaged: its checksum is wrong")));
    }
    let head: Head<'_> =
        serde_json::from_str(first).map_err(|error| corrupt(format!("its first line cannot be read: {error}")))?;
    let mut entries = Entries::default();
    for source in head.sources {
        entries.add_source(make_source(source).map_err(|error| error.with_status(Status::Corrupt))?)?;
    }
    for line in lines {
        let entry = serde_json::from_str(line);
        let entry = entry.map_err(|error| corrupt(format!("an entry cannot be read: {error}")))?;
        push(&mut entries, entry)?;
    }
    if head.entries != entries.len() {
        return Err(corrupt(format!("it has {} entries, not {}", entries.len(), head.entries)));
    }
    Ok(entries)
}

#[derive(Deserialize)]
struct LastLine {
    sha256: String,
}

fn push(entries: &mut Entries, entry: EntryText<'_>) -> Result<()> {
    let EntryText(source, Text(name), size, etag, offset) = entry;
    if source as usize >= entries.sources().len() {
        return Err(corrupt(format!("'{name}' is of source {source}, which there is not")));
    }
    if offset.is_some_and(|offset| size.is_none_or(|size| !Extent::is_valid_range(offset, size))) {
        return Err(corrupt(format!("'{name}' is a part of a blob without an end")));
    }
    let etag = etag.as_ref().map_or("", |Text(etag)| etag);
    entries.push(source, NewEntry { name: &name, size, etag, offset }).map_err(|error| match error.status() {
        Status::OutOfMemory => error,
        _ => error.with_status(Status::Corrupt),
    })
}

fn corrupt(why: impl AsRef<str>) -> Error {
    Error::new(Status::Corrupt, why)
}
