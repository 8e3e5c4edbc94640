//! Clients, and whole reads and writes in one call.

use aztorch::{BlobReader, Client, ClientOptions, Dataset, Result, WriteMode};

/// A client without a credential; the URLs of the tests have a SAS.
pub fn client() -> Client {
    client_with(|_| Ok(()))
}

/// A client with the options that `set` sets.
pub fn client_with(set: impl FnOnce(&mut ClientOptions) -> Result<()>) -> Client {
    let mut options = ClientOptions::new();
    set(&mut options).expect("the options");
    Client::new(&options).expect("a client")
}

/// Reads everything from the reader's position on with one call.
pub fn read_rest(reader: &BlobReader) -> Result<Vec<u8>> {
    let mut bytes = vec![0; reader.size().saturating_sub(reader.position()?) as usize];
    let read = reader.read(&mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads up to `length` bytes at `offset`.
pub fn read_at(reader: &BlobReader, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let read = reader.read_at(offset, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Opens and reads a whole blob.
pub fn read_blob(client: &Client, url: &str) -> Result<Vec<u8>> {
    read_rest(&client.open(url)?)
}

/// Writes and publishes a blob; returns its ETag.
pub fn write_blob(client: &Client, url: &str, mode: WriteMode, bytes: &[u8]) -> Result<String> {
    let writer = client.writer(url, mode)?;
    writer.write_all(bytes)?;
    writer.close()?;
    Ok(writer.etag().to_owned())
}

/// The names of all entries of a dataset.
pub fn names(dataset: &Dataset) -> Vec<String> {
    (0..dataset.len()).map(|index| dataset.name(index).expect("a name").to_owned()).collect()
}
