//! Checksums of bytes on their way to the service and back: CRC64 or MD5, of a whole body or of its segments.
//!
//! The service has three methods, and not every service has all of them: Azurite has MD5 only, and before 3.37 it
//! ignores the CRC64 of an upload. So a client begins with the best method and falls back to the next one that the
//! service has. If the caller requires a checksum, it never falls back to none.

use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm::Crc64Nvme;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use md5::{Digest, Md5};

use crate::error::{Error, Result, Status};
use crate::http::{Request, Response, X_MS_ERROR_CODE};
use crate::service::headers::{X_MS_BLOB_TYPE, X_MS_VERSION};
use crate::sys::lock::lock;

const X_MS_CONTENT_CRC64: HeaderName = HeaderName::from_static("x-ms-content-crc64");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const X_MS_RANGE_GET_CONTENT_CRC64: HeaderName = HeaderName::from_static("x-ms-range-get-content-crc64");
const X_MS_RANGE_GET_CONTENT_MD5: HeaderName = HeaderName::from_static("x-ms-range-get-content-md5");
const X_MS_STRUCTURED_BODY: HeaderName = HeaderName::from_static("x-ms-structured-body");
const X_MS_STRUCTURED_CONTENT_LENGTH: HeaderName = HeaderName::from_static("x-ms-structured-content-length");

/// See <https://learn.microsoft.com/rest/api/storageservices/structured-body-format>.
const STRUCTURED: HeaderValue = HeaderValue::from_static("XSM/1.0; properties=crc64");
/// The first service version that has structured bodies.
const STRUCTURED_VERSION: HeaderValue = HeaderValue::from_static("2025-01-05");
/// The longest range, in bytes, of which the service computes a checksum of the whole
/// (<https://learn.microsoft.com/rest/api/storageservices/get-blob#request-headers>).
const MAX_WHOLE_RANGE: u64 = 4 << 20;

/// Computes a checksum.
pub(crate) enum Hasher {
    /// The service's CRC64: the polynomial of CRC-64/NVME, sent as 8 bytes, the least significant one first.
    Crc64(Box<crc_fast::Digest>),
    Md5(Box<Md5>),
}

impl Hasher {
    pub(crate) fn crc64() -> Self {
        Self::Crc64(Box::new(crc_fast::Digest::new(Crc64Nvme)))
    }

    fn md5() -> Self {
        Self::Md5(Box::default())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc64(digest) => digest.update(bytes),
            Self::Md5(digest) => digest.update(bytes),
        }
    }

    /// The checksum of all of `bytes`, in base64.
    fn hash(mut self, bytes: &[u8]) -> String {
        self.update(bytes);
        self.base64()
    }

    /// The checksum in base64, as headers carry it.
    pub(crate) fn base64(self) -> String {
        STANDARD.encode(self.bytes())
    }

    /// The checksum in binary, as structured bodies carry it.
    pub(crate) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Crc64(digest) => digest.finalize().to_le_bytes().to_vec(),
            Self::Md5(digest) => digest.finalize().to_vec(),
        }
    }
}

/// The checksums that a client's settings ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// No checksums.
    Off,
    /// A CRC64 of each upload over https, if the service compares it.
    BestEffort,
    /// A checksum of each upload and download, or an error.
    Required,
}

/// How the response to a ranged GET brings the checksum of its bytes, from the best method to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReadChecksum {
    /// Segments with a CRC64 each, in a range of any size.
    Structured,
    /// A CRC64 of the whole range.
    Crc64,
    /// An MD5 of the whole range.
    Md5,
}

impl ReadChecksum {
    /// The longest range, in bytes, that one request may ask for; `None` when there is no limit.
    pub(crate) fn max_range(self) -> Option<u64> {
        match self {
            Self::Structured => None,
            Self::Crc64 | Self::Md5 => Some(MAX_WHOLE_RANGE),
        }
    }

    /// Adds the headers that ask for this checksum.
    pub(crate) fn add_to(self, headers: &mut HeaderMap) {
        const TRUE: HeaderValue = HeaderValue::from_static("true");
        match self {
            Self::Structured => {
                headers.insert(X_MS_STRUCTURED_BODY, STRUCTURED);
                headers.insert(X_MS_VERSION, STRUCTURED_VERSION);
            }
            Self::Crc64 => drop(headers.insert(X_MS_RANGE_GET_CONTENT_CRC64, TRUE)),
            Self::Md5 => drop(headers.insert(X_MS_RANGE_GET_CONTENT_MD5, TRUE)),
        }
    }

    /// The method to try when the service does not have this one.
    fn next(self) -> Option<Self> {
        match self {
            Self::Structured => Some(Self::Crc64),
            Self::Crc64 => Some(Self::Md5),
            Self::Md5 => None,
        }
    }
}

/// The checksum that the body of a response must have.
pub(crate) enum ExpectedChecksum {
    /// The body is a structured message with this many bytes of content, and brings its checksums.
    Structured(u64),
    /// The whole body must have this checksum, in base64. The hasher is for the body's bytes.
    Whole(Hasher, String),
}

impl ExpectedChecksum {
    /// How many bytes of the blob are in a body of `length` bytes.
    pub(crate) fn content_length(&self, length: Option<u64>) -> Option<u64> {
        match self {
            Self::Structured(content) => Some(*content),
            Self::Whole(..) => length,
        }
    }
}

/// The result of a ranged GET with regard to the checksum that the request asked for.
pub(crate) enum ReadResponse {
    /// The body can be received, and must have this checksum. `None` for a response without a body to check.
    Accepted(Option<ExpectedChecksum>),
    /// The service does not have this method. Ask again with the method that [`Checksums::for_read`] gives now.
    Unsupported,
}

/// Whether the service compares the CRC64 of an upload with the bytes that it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UploadCrc64 {
    /// Not known: no upload has been answered yet.
    Unknown,
    Supported,
    Unsupported,
}

/// The checksum that was sent with an upload.
pub(crate) struct UploadChecksum {
    header: HeaderName,
    /// In base64.
    value: String,
    /// The upload is a whole blob, not a block.
    is_whole_blob: bool,
}

/// The result of an upload with regard to the checksum that was sent with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UploadResponse {
    Accepted,
    /// The service ignores or refuses the CRC64. Send the upload again; its checksum will be another one.
    Unsupported,
}

/// The checksums of one client: the policy from its settings, and the methods that its service was found to support.
#[derive(Debug)]
pub(crate) struct Checksums {
    policy: Policy,
    support: Mutex<Support>,
}

#[derive(Debug)]
struct Support {
    reads: ReadChecksum,
    uploads: UploadCrc64,
}

impl Checksums {
    /// `verify` is the client's option: `None` when it was not set.
    pub(crate) fn new(verify: Option<bool>) -> Self {
        let policy = match verify {
            None => Policy::BestEffort,
            Some(false) => Policy::Off,
            Some(true) => Policy::Required,
        };
        let support = Support { reads: ReadChecksum::Structured, uploads: UploadCrc64::Unknown };
        Self { policy, support: Mutex::new(support) }
    }

    /// The checksum that the next ranged GET asks for; `None` when the client wants none.
    pub(crate) fn for_read(&self) -> Option<ReadChecksum> {
        (self.policy == Policy::Required).then(|| lock(&self.support).reads)
    }

    /// Looks in the response to a ranged GET for the checksum that was `asked` for. Fails when the service has no
    /// method that is left to try.
    pub(crate) fn check_read(&self, asked: ReadChecksum, response: &Response) -> Result<ReadResponse> {
        let expected = match asked {
            ReadChecksum::Structured | ReadChecksum::Crc64 if is_unsupported(response) => None,
            _ if !response.status.is_success() || response.content_length() == Some(0) => {
                return Ok(ReadResponse::Accepted(None));
            }
            ReadChecksum::Structured => structured(response)?,
            ReadChecksum::Crc64 => whole(response, &X_MS_CONTENT_CRC64, Hasher::crc64),
            ReadChecksum::Md5 => whole(response, &CONTENT_MD5, Hasher::md5),
        };
        if expected.is_some() {
            return Ok(ReadResponse::Accepted(expected));
        }
        let Some(next) = asked.next() else {
            let message = format!("{}: the service gives no checksum, and set_checksum asks for one", response.shown());
            return Err(Error::unsupported(message));
        };
        tracing::info!(target: "aztorch::checksum", "{}: no {asked:?} checksum; asking for {next:?}", response.shown());
        let mut support = lock(&self.support);
        support.reads = support.reads.max(next);
        Ok(ReadResponse::Unsupported)
    }

    /// Adds the checksum of the request's body to its headers; `None` when the request is sent without one.
    pub(crate) fn add_to_upload(&self, request: &mut Request) -> Result<Option<UploadChecksum>> {
        let is_whole_blob = request.headers.contains_key(X_MS_BLOB_TYPE);
        // Plain http is for emulators. Old ones answer a CRC64 with a 500.
        let is_https = request.uri.scheme_str() == Some("https");
        let is_required = match self.policy {
            Policy::Off => return Ok(None),
            _ if request.body.is_empty() => return Ok(None),
            Policy::BestEffort if !is_https => return Ok(None),
            Policy::BestEffort => false,
            Policy::Required => true,
        };
        let (header, hasher) = match lock(&self.support).uploads {
            UploadCrc64::Unsupported if !is_required => return Ok(None),
            UploadCrc64::Unsupported => (CONTENT_MD5, Hasher::md5()),
            // A whole blob is published at once, so a service that may ignore the CRC64 must not get one.
            UploadCrc64::Unknown if is_required && is_whole_blob => (CONTENT_MD5, Hasher::md5()),
            UploadCrc64::Unknown | UploadCrc64::Supported => (X_MS_CONTENT_CRC64, Hasher::crc64()),
        };
        let value = hasher.hash(&request.body);
        let as_header = HeaderValue::from_str(&value).map_err(|_| Error::internal("a checksum cannot be sent"))?;
        request.headers.insert(header.clone(), as_header);
        Ok(Some(UploadChecksum { header, value, is_whole_blob }))
    }

    /// Whether the service has compared the checksum that was `sent`. Fails when the service received other bytes.
    pub(crate) fn check_upload(&self, sent: &UploadChecksum, response: &Response) -> Result<UploadResponse> {
        let is_md5 = sent.header == CONTENT_MD5;
        let echo = response.header(&sent.header);
        match echo {
            // The service compares an MD5 and need not repeat it.
            "" if is_md5 => Ok(UploadResponse::Accepted),
            "" if is_unsupported(response) => {
                tracing::info!(target: "aztorch::checksum", "{}: the service knows no CRC64", response.shown());
                Ok(self.without_crc64())
            }
            _ if !response.status.is_success() => Ok(UploadResponse::Accepted),
            "" if self.policy == Policy::BestEffort => Ok(UploadResponse::Accepted),
            // Azurite 3.37 compares every CRC64, and repeats only those of blocks.
            "" if sent.is_whole_blob && lock(&self.support).uploads == UploadCrc64::Supported => {
                Ok(UploadResponse::Accepted)
            }
            "" => Ok(self.without_crc64()),
            echo if echo == sent.value => {
                if !is_md5 {
                    lock(&self.support).uploads = UploadCrc64::Supported;
                }
                Ok(UploadResponse::Accepted)
            }
            _ => Err(mismatch(response.shown(), "the service received other bytes than were sent")),
        }
    }

    fn without_crc64(&self) -> UploadResponse {
        lock(&self.support).uploads = UploadCrc64::Unsupported;
        UploadResponse::Unsupported
    }
}

/// Whether the service has refused a header that it does not know. Azurite has an error code of its own for that.
fn is_unsupported(response: &Response) -> bool {
    let code = response.header(&X_MS_ERROR_CODE);
    match response.status {
        StatusCode::BAD_REQUEST => matches!(code, "InvalidHeaderValue" | "UnsupportedHeader"),
        StatusCode::INTERNAL_SERVER_ERROR => code == "FeatureNotSupported",
        _ => false,
    }
}

fn structured(response: &Response) -> Result<Option<ExpectedChecksum>> {
    if !response.header(&X_MS_STRUCTURED_BODY).starts_with("XSM/1.0") {
        return Ok(None);
    }
    match response.header(&X_MS_STRUCTURED_CONTENT_LENGTH).parse() {
        Ok(content) => Ok(Some(ExpectedChecksum::Structured(content))),
        Err(_) => {
            let message = format!("{}: the answer's {X_MS_STRUCTURED_CONTENT_LENGTH} cannot be read", response.shown());
            Err(Error::new(Status::Corrupt, message).retryable(None))
        }
    }
}

fn whole(response: &Response, header: &HeaderName, hasher: fn() -> Hasher) -> Option<ExpectedChecksum> {
    let expected = response.header(header);
    (!expected.is_empty()).then(|| ExpectedChecksum::Whole(hasher(), expected.to_owned()))
}

/// The error of bytes that do not have the expected checksum. It may be retried.
pub(crate) fn mismatch(shown: &str, what: &str) -> Error {
    Error::new(Status::Corrupt, format!("{shown}: checksum mismatch: {what}")).retryable(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are from the package `azure-storage-extensions` 0.1.0, which Microsoft's Python SDK uses:
    /// `base64(crc64.compute(data, 0).to_bytes(8, "little"))`.
    #[test]
    fn crc64_matches_microsofts_implementation() {
        let large: Vec<u8> = (0..4_194_304_u32).map(|i| i as u8).collect();
        let cases: [(&[u8], u64); 5] = [
            (b"", 0),
            (b"123456789", 0xae8b_1486_0a79_9888),
            (b"Hello World!", 0x02e5_1cc8_5efc_e1a5),
            (&[b'a'; 100], 0xfd7c_557b_2624_e279),
            (&large, 0xfb08_5d27_f136_45c4),
        ];
        for (bytes, expected) in cases {
            let mut hasher = Hasher::crc64();
            for piece in bytes.chunks(1000) {
                hasher.update(piece);
            }
            assert_eq!(hasher.base64(), STANDARD.encode(expected.to_le_bytes()), "{} bytes", bytes.len());
        }
    }

    /// The value is from RFC 1321; RFC 1864 encodes it in base64.
    #[test]
    fn md5_matches_rfc_1321() {
        let expected = [0x90, 0x01, 0x50, 0x98, 0x3c, 0xd2, 0x4f, 0xb0, 0xd6, 0x96, 0x3f, 0x7d, 0x28, 0xe1, 0x7f, 0x72];
        assert_eq!(Hasher::md5().hash(b"abc"), STANDARD.encode(expected));
    }
}
