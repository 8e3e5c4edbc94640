//! Checksums as Azure Storage has them: of ranges and of uploads, and structured bodies. The CRC64 comes from another
//! crate than the library's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc::{CRC_64_NVME, Crc, Table};
use md5::{Digest, Md5};

use super::Request;

/// The best kind of checksum that the server supports. It also supports the kinds before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChecksumSupport {
    #[default]
    None,
    /// Like Azurite.
    Md5,
    Crc64,
    /// Like Azure Storage since version 2025-01-05.
    Structured,
}

static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_NVME);
/// Small, so that a body of some KiB has several segments.
const SEGMENT: usize = 10_000;

fn crc64(bytes: &[u8]) -> [u8; 8] {
    CRC64.checksum(bytes).to_le_bytes()
}

fn md5(bytes: &[u8]) -> String {
    STANDARD.encode(Md5::digest(bytes))
}

/// The checksum headers of a range, and its body: the bytes, or a structured body that contains them.
pub fn of_range(support: ChecksumSupport, request: &Request, bytes: Vec<u8>) -> (Vec<(String, String)>, Vec<u8>) {
    let requests = |name: &str| request.header(name).is_some();
    let header = |name: &str, value: String| vec![(name.to_owned(), value)];
    if requests("x-ms-structured-body") && support >= ChecksumSupport::Structured {
        let mut headers = header("x-ms-structured-body", "XSM/1.0; properties=crc64".to_owned());
        headers.push(("x-ms-structured-content-length".to_owned(), bytes.len().to_string()));
        return (headers, structured(&bytes));
    }
    // The service computes checksums of ranges up to this size.
    assert!(
        !(requests("x-ms-range-get-content-crc64") || requests("x-ms-range-get-content-md5")) || bytes.len() <= 4 << 20
    );
    if requests("x-ms-range-get-content-crc64") && support >= ChecksumSupport::Crc64 {
        return (header("x-ms-content-crc64", STANDARD.encode(crc64(&bytes))), bytes);
    }
    if requests("x-ms-range-get-content-md5") && support >= ChecksumSupport::Md5 {
        return (header("Content-MD5", md5(&bytes)), bytes);
    }
    (Vec::new(), bytes)
}

/// <https://learn.microsoft.com/rest/api/storageservices/structured-body-format>
fn structured(bytes: &[u8]) -> Vec<u8> {
    let segments: Vec<_> = bytes.chunks(SEGMENT).collect();
    let length = 13 + segments.len() * 18 + 8 + bytes.len();
    let mut body = vec![1];
    body.extend((length as u64).to_le_bytes());
    body.extend(1_u16.to_le_bytes());
    body.extend((segments.len() as u16).to_le_bytes());
    for (number, segment) in segments.iter().enumerate() {
        body.extend((number as u16 + 1).to_le_bytes());
        body.extend((segment.len() as u64).to_le_bytes());
        body.extend(*segment);
        body.extend(crc64(segment));
    }
    body.extend(crc64(bytes));
    body
}

/// Compares the checksums of an upload: the headers to repeat, or the error code of a mismatch.
pub fn of_upload(
    support: ChecksumSupport,
    request: &Request,
    body: &[u8],
) -> Result<Vec<(String, String)>, &'static str> {
    let sums: [(&str, ChecksumSupport, String, &'static str); 2] = [
        ("x-ms-content-crc64", ChecksumSupport::Crc64, STANDARD.encode(crc64(body)), "Crc64Mismatch"),
        ("Content-MD5", ChecksumSupport::Md5, md5(body), "Md5Mismatch"),
    ];
    let mut headers = Vec::new();
    for (name, least, sum, code) in sums {
        match request.header(&name.to_ascii_lowercase()) {
            Some(sent) if support >= least && sent != sum => return Err(code),
            Some(_) if support >= least => headers.push((name.to_owned(), sum)),
            _ => {}
        }
    }
    Ok(headers)
}
