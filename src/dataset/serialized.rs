//! Datasets as bytes, for another process of the same program: it gets the same entries without a listing.

use super::Dataset;
use crate::client::Client;
use crate::dataset::entries::{Entries, EntrySource};
use crate::dataset::table_text::{self, Form, SourceText};
use crate::error::{Error, Result};
use crate::sys::caller_buffer::CallerBuffer;
use crate::url::{Container, parse_written_container};

impl Dataset {
    /// The entries of this dataset as bytes for [`deserialize`](Self::deserialize) in another process of the same
    /// program. **The bytes contain each SAS of the URLs**, so keep them secret and do not store them: a manifest
    /// ([`save_manifest`](Self::save_manifest)) is for that. They contain neither the client's credential nor its
    /// options.
    pub fn serialize(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        table_text::write(self.entries(), Form::Serialized, |piece| {
            bytes.try_reserve(piece.len()).map_err(|_| Error::out_of_memory(piece.len()))?;
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Writes the bytes of [`serialize`](Self::serialize) to `to`, as many as fit. Returns the number of all bytes.
    pub(crate) fn serialize_into(&self, to: &mut CallerBuffer<'_>) -> Result<usize> {
        let mut size = 0;
        table_text::write(self.entries(), Form::Serialized, |piece| {
            to.fill(piece);
            size += piece.len();
            Ok(())
        })?;
        Ok(size)
    }

    /// The dataset that [`serialize`](Self::serialize) made these bytes of, with the same entries at the same indices.
    /// Sends no request. Fails with `Status::Corrupt` if the bytes are damaged. Pass bytes of this program only: the
    /// client's credential is sent to every host that they name.
    pub fn deserialize(client: &Client, bytes: &[u8]) -> Result<Self> {
        let entries = parse(bytes).map_err(|error| error.context("a serialized dataset"))?;
        Ok(Self::new(client, entries))
    }
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Entries> {
    // URLs with a SAS each are a source each, usually of one container, which is parsed only once.
    let mut last: Option<(String, Container)> = None;
    table_text::parse(bytes, Form::Serialized, |source| {
        let url: &str = &source.container.0;
        let container = match &last {
            Some((known, container)) if known == url => container.clone(),
            _ => last.insert((url.to_owned(), parse_written_container(url)?)).1.clone(),
        };
        make_source(source, container)
    })
}

fn make_source(source: SourceText<'_>, mut container: Container) -> Result<EntrySource> {
    container.target.set_query(source.query.as_ref().map(|query| query.0.as_ref().to_owned()));
    source.in_container(container)
}
