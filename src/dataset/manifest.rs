//! Manifests: a dataset's entries saved as a blob, and loaded again: one listing for many processes. `table_text` has the
//! format. A manifest has no SAS.

use crate::blob::{BlobReader, BlobWriter, WriteMode};
use crate::dataset::entries::{Entries, EntrySource};
use crate::dataset::table_text::{self, Form, SourceText, filter_query};
use crate::error::{Error, Result};
use crate::service::client_core::ClientCore;
use crate::url::{Container, Target, parse_container};

pub(crate) fn save(core: &ClientCore, entries: &Entries, target: Target) -> Result<()> {
    let writer = BlobWriter::new(core, target, WriteMode::Replace)?;
    table_text::write(entries, Form::Manifest, |piece| writer.write_all(piece))?;
    writer.close()
}

pub(crate) fn load(core: &ClientCore, target: Target) -> Result<Entries> {
    let reader = BlobReader::open(core, target.clone())?;
    let too_large = |size| Error::out_of_memory(size).context(target.display());
    let size = usize::try_from(reader.size()).map_err(|_| too_large(usize::MAX))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| too_large(size))?;
    bytes.resize(size, 0);
    reader.read(&mut bytes)?;
    let entries = parse(core, &target, &bytes).map_err(|error| error.context(target.display()))?;
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

pub(crate) fn parse(core: &ClientCore, manifest: &Target, bytes: &[u8]) -> Result<Entries> {
    table_text::parse(bytes, Form::Manifest, |source| make_source(core, manifest, source))
}

/// A source of a manifest. It gets the SAS of the manifest's URL where that is valid.
fn make_source(core: &ClientCore, manifest: &Target, source: SourceText<'_>) -> Result<EntrySource> {
    let mut container = parse_container(&source.container.0, core.endpoint())?;
    let sas = manifest.query().and_then(|query| filter_query(query, false));
    let sas = sas.filter(|sas| covers(sas, manifest, &container));
    let named = source.query.as_ref().map(|query| query.0.as_ref());
    let query: Vec<_> = [named, sas.as_deref()].into_iter().flatten().collect();
    container.target.set_query(Some(query.join("&")).filter(|query| !query.is_empty()));
    source.in_container(container)
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
