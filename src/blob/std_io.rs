//! The traits of `std::io` for readers and writers.

use std::io::{self, SeekFrom};

use crate::blob::{BlobReader, BlobWriter};

impl io::Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(BlobReader::read(self, buffer)?)
    }
}

impl io::Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        Ok(BlobReader::seek(self, to)?)
    }
}

impl io::Write for BlobWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        BlobWriter::write_all(self, data)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(BlobWriter::flush(self)?)
    }
}
