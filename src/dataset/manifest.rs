//! Saves a dataset's entries as a blob, a manifest, and loads them again: one listing for many processes.
//!
//! A manifest is lines of JSON, so that other programs can read it. The first line has the format, the number of
//! entries and their sources. Then comes one line for each entry: `[source, name, size, etag]`, with the offset as a
//! fifth element if the entry is a part of a blob. The last line has the SHA-256 of all lines before it. URLs have no
//! query, except for snapshots and versions.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::blob::{BlobReader, BlobWriter, WriteMode};
use crate::dataset::entries::{Entries, EntrySource, Extent, NewEntry, SourceKind};
use crate::error::{Error, Result, Status};
use crate::service::client_core::ClientCore;
use crate::service::version::Version;
use crate::url::{Container, Target, parse_container};

const FORMAT: &str = "aztorch manifest";
const VERSION: u64 = 1;
/// The number of bytes that are passed to the writer at a time.
const PIECE: usize = 1 << 20;

pub(crate) fn save(core: &ClientCore, entries: &Entries, target: Target) -> Result<()> {
    let writer = BlobWriter::new(core, target, WriteMode::Replace)?;
    let mut output = ManifestWriter { writer: &writer, hash: Sha256::new(), pending: String::new() };
    let sources: Vec<_> = entries.sources().iter().map(source_to_json).collect();
    let head = json!({"format": FORMAT, "version": VERSION, "entries": entries.len(), "sources": sources});
    output.line(&head)?;
    for index in 0..entries.len() {
        let entry = entries.entry(index)?;
        let etag = Some(entry.etag()).filter(|etag| !etag.is_empty());
        match entry.offset() {
            None => output.line(&json!([entry.source_number(), entry.name(), entry.size(), etag]))?,
            Some(offset) => output.line(&json!([entry.source_number(), entry.name(), entry.size(), etag, offset]))?,
        }
    }
    output.finish()?;
    writer.close()
}

/// Writes a manifest's lines, and computes their checksum.
struct ManifestWriter<'a> {
    writer: &'a BlobWriter,
    hash: Sha256,
    pending: String,
}

impl ManifestWriter<'_> {
    fn line(&mut self, value: &Value) -> Result<()> {
        // Writing to a String cannot fail.
        let _ = writeln!(self.pending, "{value}");
        if self.pending.len() >= PIECE { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<()> {
        self.hash.update(&self.pending);
        self.writer.write_all(self.pending.as_bytes())?;
        self.pending.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.send()?;
        let last = format!("{}\n", json!({"sha256": hexadecimal(&self.hash.finalize())}));
        self.writer.write_all(last.as_bytes())
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn source_to_json(source: &EntrySource) -> Value {
    let target = &source.container.target;
    let mut value = json!({"container": target.display()});
    if let Some(query) = filter_query(target.query(), true) {
        value["query"] = json!(query);
    }
    if let SourceKind::Archive { blob, version } = &source.kind {
        value["archive"] = json!(blob);
        value["etag"] = json!(version.etag);
        value["size"] = json!(version.size);
    }
    value
}

/// The parameters of a query that select a snapshot or a version, or all other parameters.
fn filter_query(query: Option<&str>, selects_blob: bool) -> Option<String> {
    let is_selector = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        name.eq_ignore_ascii_case("snapshot") || name.eq_ignore_ascii_case("versionid")
    };
    let kept: Vec<_> = query?.split('&').filter(|pair| is_selector(pair) == selects_blob).collect();
    Some(kept.join("&")).filter(|kept| !kept.is_empty())
}

pub(crate) fn load(core: &ClientCore, target: Target) -> Result<Entries> {
    let reader = BlobReader::open(core, target.clone())?;
    let too_large = |size| Error::out_of_memory(size).context(target.display());
    let size = usize::try_from(reader.size()).map_err(|_| too_large(usize::MAX))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| too_large(size))?;
    bytes.resize(size, 0);
    reader.read(&mut bytes)?;
    let damaged = |why: String| Error::new(Status::Corrupt, format!("{}: {why}", target.display()));
    let entries = parse(core, &target, &bytes).map_err(damaged)?;
    check_hosts(core, &target, &entries)?;
    Ok(entries)
}

/// Refuses a manifest whose entries would make the client send its credential to another host, because the author of
/// the manifest may not be trusted. The manifest's own host is safe, since the caller named it. Azure Storage is safe
/// too.
fn check_hosts(core: &ClientCore, manifest: &Target, entries: &Entries) -> Result<()> {
    for source in entries.sources() {
        let named = &source.container.target;
        if named.origin() != manifest.origin() && core.would_leak_credential(&named.uri("")?) {
            let message = format!(
                "{}: it names blobs on {}, which is neither its own host nor Azure Storage, and would be sent this client's credential",
                manifest.display(),
                named.origin()
            );
            return Err(Error::invalid(message).hint(
                "load it with an anonymous client, or pass the blobs' URLs to from_urls if they can be trusted",
            ));
        }
    }
    Ok(())
}

pub(crate) fn parse(core: &ClientCore, manifest: &Target, bytes: &[u8]) -> std::result::Result<Entries, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no manifest: it is not text".to_owned())?;
    let (body, last) = text.trim_end_matches('\n').rsplit_once('\n').ok_or("it is no manifest")?;
    let body = &text[..body.len() + 1];
    let mut lines = body.lines();
    let head: Value = lines.next().and_then(|line| serde_json::from_str(line).ok()).ok_or("it is no manifest")?;
    if head["format"] != FORMAT {
        return Err("it is no manifest".to_owned());
    }
    if head["version"] != VERSION {
        return Err(format!("it is a manifest of version {}, and {VERSION} is known here", head["version"]));
    }
    let sum = serde_json::from_str::<Value>(last).ok().and_then(|last| last["sha256"].as_str().map(str::to_owned));
    if sum != Some(hexadecimal(&Sha256::digest(body))) || !text.ends_with('\n') {
        return Err("the manifest is damaged: its checksum is wrong".to_owned());
    }
    let mut entries = Entries::default();
    for source in head["sources"].as_array().ok_or("the manifest has no sources")? {
        let source = source_from_json(core, manifest, source).map_err(|error| error.to_string())?;
        entries.add_source(source).map_err(|error| error.to_string())?;
    }
    for line in lines {
        let entry: EntryLine =
            serde_json::from_str(line).map_err(|error| format!("an entry cannot be read: {error}"))?;
        let EntryLine(source, name, size, etag, offset) = entry;
        if source as usize >= entries.sources().len() {
            return Err(format!("'{name}' is of source {source}, which there is not"));
        }
        let new = NewEntry { name: &name, size, etag: etag.as_deref().unwrap_or_default(), offset };
        if offset.is_some_and(|offset| size.is_none_or(|size| !Extent::is_valid_range(offset, size))) {
            return Err(format!("'{name}' is a part of a blob without an end"));
        }
        entries.push(source, new).map_err(|error| error.to_string())?;
    }
    if head["entries"] != entries.len() {
        return Err(format!("it has {} entries, not {}", entries.len(), head["entries"]));
    }
    Ok(entries)
}

/// An entry's line: source, name, size, ETag, offset.
#[derive(serde::Deserialize)]
struct EntryLine(u32, String, Option<u64>, Option<String>, #[serde(default)] Option<u64>);

fn source_from_json(core: &ClientCore, manifest: &Target, value: &Value) -> Result<EntrySource> {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let url = text("container").ok_or_else(|| Error::invalid("a source has no container"))?;
    let mut container = parse_container(&url, core.endpoint())?;
    let sas = filter_query(manifest.query(), false).filter(|sas| covers(sas, manifest, &container));
    let query: Vec<_> = [text("query"), sas].into_iter().flatten().collect();
    container.target.set_query(Some(query.join("&")).filter(|query| !query.is_empty()));
    let kind = match (text("archive"), text("etag"), value["size"].as_u64()) {
        (Some(blob), Some(etag), Some(size)) => SourceKind::Archive { blob, version: Version { etag, size } },
        (None, _, _) => SourceKind::Blobs,
        _ => return Err(Error::invalid("an archive has no ETag or no size")),
    };
    Ok(EntrySource::new(container, kind))
}

/// Whether the SAS in a manifest's URL is valid for the blobs of a container. An account SAS is valid for all
/// containers of the account, a container's SAS for that container, a blob's SAS for no other blob
/// (<https://learn.microsoft.com/rest/api/storageservices/create-service-sas>).
fn covers(sas: &str, manifest: &Target, container: &Container) -> bool {
    let value = |name: &str| {
        sas.split('&').filter_map(|pair| pair.split_once('=')).find(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    let own = format!("{}/", container.target.display());
    let account = container.target.display().rsplit_once('/').map(|(account, _)| format!("{account}/"));
    let shown = manifest.display();
    match value("sr") {
        None if value("srt").is_some() => account.is_some_and(|account| shown.starts_with(&account)),
        Some((_, resource)) if !resource.eq_ignore_ascii_case("c") => false,
        _ => shown.starts_with(&own),
    }
}
