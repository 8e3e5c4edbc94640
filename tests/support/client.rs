//! The few lines that every test of the library begins with.

use aztorch::{BlobReader, Client, ClientOptions, Dataset, Result, WriteMode};

/// A client without a credential: the tests' URLs bring their SAS.
pub fn client() -> Client {
    client_with(|_| Ok(()))
}

pub fn client_with(set: impl FnOnce(&mut ClientOptions) -> Result<()>) -> Client {
    let mut options = ClientOptions::new();
    set(&mut options).expect("the options");
    Client::new(&options).expect("a client")
}

/// Everything from the reader's position on, in one call.
pub fn read_rest(reader: &BlobReader) -> Result<Vec<u8>> {
    let mut bytes = vec![0; reader.size().saturating_sub(reader.position()?) as usize];
    let read = reader.read(&mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

pub fn read_at(reader: &BlobReader, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let read = reader.read_at(offset, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The whole blob as the library reads it.
pub fn read_blob(client: &Client, url: &str) -> Result<Vec<u8>> {
    read_rest(&client.open(url)?)
}

/// Writes and publishes a blob; its ETag.
pub fn write_blob(client: &Client, url: &str, mode: WriteMode, bytes: &[u8]) -> Result<String> {
    let writer = client.writer(url, mode)?;
    writer.write_all(bytes)?;
    writer.close()?;
    Ok(writer.etag().to_owned())
}

pub fn names(dataset: &Dataset) -> Vec<String> {
    (0..dataset.len()).map(|index| dataset.name(index).expect("a name").to_owned()).collect()
}
