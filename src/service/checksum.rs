//! What vouches for bytes on their way to the service and back: CRC64 or MD5, over a whole body or over segments of it.
//!
//! The service offers three ways, and not every one of them speaks all of them (Azurite gives MD5 only, and before 3.37
//! compares MD5 only), so a client begins with the best and falls back, never to less than a checksum.

use std::sync::atomic::{AtomicU8, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm::Crc64Nvme;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use md5::{Digest, Md5};

use crate::error::{Error, Result, Status};
use crate::http::{Request, Response, X_MS_ERROR_CODE};
use crate::service::headers::{X_MS_BLOB_TYPE, X_MS_VERSION};

const X_MS_CONTENT_CRC64: HeaderName = HeaderName::from_static("x-ms-content-crc64");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const X_MS_RANGE_GET_CONTENT_CRC64: HeaderName = HeaderName::from_static("x-ms-range-get-content-crc64");
const X_MS_RANGE_GET_CONTENT_MD5: HeaderName = HeaderName::from_static("x-ms-range-get-content-md5");
const X_MS_STRUCTURED_BODY: HeaderName = HeaderName::from_static("x-ms-structured-body");
const X_MS_STRUCTURED_CONTENT_LENGTH: HeaderName = HeaderName::from_static("x-ms-structured-content-length");

/// <https://learn.microsoft.com/rest/api/storageservices/structured-body-format>
const STRUCTURED: HeaderValue = HeaderValue::from_static("XSM/1.0; properties=crc64");
/// The first service version that has structured bodies.
const STRUCTURED_VERSION: HeaderValue = HeaderValue::from_static("2025-01-05");
/// The service sums up a range of no more than this
/// (<https://learn.microsoft.com/rest/api/storageservices/get-blob#request-headers>).
const MAX_SUMMED: u64 = 4 << 20;

/// A checksum that is being made.
pub(crate) enum Sum {
    /// As the service has it: the polynomial of CRC-64/NVME, sent as 8 bytes, the least significant first.
    Crc64(Box<crc_fast::Digest>),
    Md5(Box<Md5>),
}

impl Sum {
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

    fn of(mut self, bytes: &[u8]) -> String {
        self.update(bytes);
        self.text()
    }

    /// As headers carry it.
    pub(crate) fn text(self) -> String {
        STANDARD.encode(self.bytes())
    }

    /// As bodies carry it.
    pub(crate) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Crc64(digest) => digest.finalize().to_le_bytes().to_vec(),
            Self::Md5(digest) => digest.finalize().to_vec(),
        }
    }
}

/// What a client checks, and which ways its service has turned out to speak.
#[derive(Debug)]
pub(crate) struct Checksums {
    /// `None`: uploads over https, as far as the service takes part.
    wanted: Option<bool>,
    reads: AtomicU8,
    uploads: AtomicU8,
}

/// What is known of how the service takes the CRC64 of an upload.
const UNTRIED: u8 = 0;
const TAKEN: u8 = 1;
const UNHEARD: u8 = 2;

/// How a range's bytes are vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Segments with a CRC64 each, in a range of any size.
    Structured,
    Crc64,
    Md5,
}

const WAYS: [Way; 3] = [Way::Structured, Way::Crc64, Way::Md5];

/// What the answer to a ranged GET brings beside its bytes.
pub(crate) enum ExpectedChecksum {
    /// The body is a structured message of so many bytes of content.
    Structured(u64),
    /// The body's sum, to be made, and what it has to be.
    Whole(Sum, String),
}

impl ExpectedChecksum {
    /// How many bytes of the blob a body of this length brings.
    pub(crate) fn content(&self, length: Option<u64>) -> Option<u64> {
        match self {
            Self::Structured(content) => Some(*content),
            Self::Whole(..) => length,
        }
    }
}

/// What the response to a ranged GET says about its checksum.
pub(crate) enum Judged {
    /// The response can be received, and checked if there is a checksum.
    Accepted(Option<ExpectedChecksum>),
    /// The service does not speak the way that was asked for.
    AskDifferently,
}

/// How a ranged GET asks for its bytes to be vouched for.
#[derive(Clone, Copy)]
pub(crate) struct Asked(Option<Way>);

impl Checksums {
    pub(crate) fn new(wanted: Option<bool>) -> Self {
        Self { wanted, reads: AtomicU8::new(0), uploads: AtomicU8::new(UNTRIED) }
    }

    /// Whether ranged GETs ask for a checksum.
    pub(crate) fn of_reads(&self) -> bool {
        self.wanted == Some(true)
    }

    /// How to ask for the next range.
    pub(crate) fn ask(&self) -> Asked {
        let way = WAYS[usize::from(self.reads.load(Ordering::Relaxed)).min(WAYS.len() - 1)];
        Asked(self.of_reads().then_some(way))
    }

    /// Whether the response to a ranged GET brings the checksum that was asked for. On [`Judged::AskDifferently`] the
    /// next [`ask`](Self::ask) gives another way.
    pub(crate) fn judge(&self, asked: Asked, response: &Response) -> Result<Judged> {
        let Asked(Some(way)) = asked else { return Ok(Judged::Accepted(None)) };
        let expected_checksum = match way {
            Way::Structured | Way::Crc64 if is_unknown_here(response) => None,
            _ if !response.status.is_success() || response.content_length() == Some(0) => {
                return Ok(Judged::Accepted(None));
            }
            Way::Structured => {
                let is_structured = response.header(&X_MS_STRUCTURED_BODY).starts_with("XSM/1.0");
                let length = response.header(&X_MS_STRUCTURED_CONTENT_LENGTH).parse();
                is_structured
                    .then(|| length.map(ExpectedChecksum::Structured).map_err(|_| bad_length(response)))
                    .transpose()?
            }
            Way::Crc64 => whole(response, &X_MS_CONTENT_CRC64, Sum::crc64),
            Way::Md5 => whole(response, &CONTENT_MD5, Sum::md5),
        };
        if let Some(expected_checksum) = expected_checksum {
            return Ok(Judged::Accepted(Some(expected_checksum)));
        }
        if way == Way::Md5 {
            let message = format!("{}: the service gives no checksum, and set_checksum asks for one", response.shown());
            return Err(Error::unsupported(message));
        }
        let next = WAYS.iter().position(|known| *known == way).unwrap_or_default() + 1;
        tracing::info!(target: "aztorch::checksum", "{}: no {way:?} checksum; asking for {:?}", response.shown(), WAYS[next]);
        self.reads.fetch_max(next as u8, Ordering::Relaxed);
        Ok(Judged::AskDifferently)
    }

    /// The headers of an upload with this body.
    pub(crate) fn vouch(&self, request: &mut Request) -> Result<Vouched> {
        let is_strict = self.wanted == Some(true);
        // Plain http is for emulators, of which earlier ones do not know it and say so with a 500.
        let is_https = request.uri.scheme_str() == Some("https");
        let is_blob = request.headers.contains_key(X_MS_BLOB_TYPE);
        let (name, sum) = match self.uploads.load(Ordering::Relaxed) {
            _ if self.wanted == Some(false) || request.body.is_empty() => return Ok(Vouched::default()),
            _ if !is_strict && !is_https => return Ok(Vouched::default()),
            UNHEARD if !is_strict => return Ok(Vouched::default()),
            UNHEARD => (CONTENT_MD5, Sum::md5()),
            // It may not be published on the word of a service that ignored what it was told.
            UNTRIED if is_strict && is_blob => (CONTENT_MD5, Sum::md5()),
            _ => (X_MS_CONTENT_CRC64, Sum::crc64()),
        };
        let sum = sum.of(&request.body);
        let value = HeaderValue::from_str(&sum).map_err(|_| Error::internal("a checksum cannot be sent"))?;
        request.headers.insert(name.clone(), value);
        Ok(Vouched { sum: Some((name, sum)), is_blob })
    }

    /// Whether the service has seen the bytes that were sent; `false` when it has to be asked in another way.
    pub(crate) fn confirm(&self, vouched: &Vouched, response: &Response) -> Result<bool> {
        let Some((name, sum)) = &vouched.sum else { return Ok(true) };
        let is_md5 = *name == CONTENT_MD5;
        match response.header(name) {
            // The service compares it, and may well not repeat it.
            "" if is_md5 => Ok(true),
            "" if is_unknown_here(response) => {
                tracing::info!(target: "aztorch::checksum", "{}: the service knows no CRC64", response.shown());
                self.uploads.store(UNHEARD, Ordering::Relaxed);
                Ok(false)
            }
            _ if !response.status.is_success() => Ok(true),
            "" if self.wanted.is_none() => Ok(true),
            // It compares what it gets, and repeats it for blocks only, as Azurite 3.37 does.
            "" if vouched.is_blob && self.uploads.load(Ordering::Relaxed) == TAKEN => Ok(true),
            "" => {
                self.uploads.store(UNHEARD, Ordering::Relaxed);
                Ok(false)
            }
            echo if echo == sum => {
                if !is_md5 {
                    self.uploads.store(TAKEN, Ordering::Relaxed);
                }
                Ok(true)
            }
            _ => Err(mismatch(response.shown(), "the service received other bytes than were sent")),
        }
    }
}

/// The checksum that went with an upload.
#[derive(Default)]
pub(crate) struct Vouched {
    sum: Option<(HeaderName, String)>,
    /// Of a whole blob, not of a block.
    is_blob: bool,
}

impl Asked {
    /// What of a range one request may ask for.
    pub(crate) fn most(self) -> u64 {
        match self.0 {
            None | Some(Way::Structured) => u64::MAX,
            Some(Way::Crc64 | Way::Md5) => MAX_SUMMED,
        }
    }

    pub(crate) fn add_to(self, headers: &mut HeaderMap) {
        const TRUE: HeaderValue = HeaderValue::from_static("true");
        match self.0 {
            None => {}
            Some(Way::Structured) => {
                headers.insert(X_MS_STRUCTURED_BODY, STRUCTURED);
                headers.insert(X_MS_VERSION, STRUCTURED_VERSION);
            }
            Some(Way::Crc64) => drop(headers.insert(X_MS_RANGE_GET_CONTENT_CRC64, TRUE)),
            Some(Way::Md5) => drop(headers.insert(X_MS_RANGE_GET_CONTENT_MD5, TRUE)),
        }
    }
}

/// Older services and Azurite refuse what they do not know, the latter as an error of its own.
fn is_unknown_here(response: &Response) -> bool {
    let code = response.header(&X_MS_ERROR_CODE);
    match response.status {
        StatusCode::BAD_REQUEST => matches!(code, "InvalidHeaderValue" | "UnsupportedHeader"),
        StatusCode::INTERNAL_SERVER_ERROR => code == "FeatureNotSupported",
        _ => false,
    }
}

fn whole(response: &Response, name: &HeaderName, sum: fn() -> Sum) -> Option<ExpectedChecksum> {
    let expected = response.header(name);
    (!expected.is_empty()).then(|| ExpectedChecksum::Whole(sum(), expected.to_owned()))
}

fn bad_length(response: &Response) -> Error {
    let message = format!("{}: the answer's {X_MS_STRUCTURED_CONTENT_LENGTH} cannot be read", response.shown());
    Error::new(Status::Corrupt, message).retryable(None)
}

/// The error of bytes that are not those that were vouched for. Another try may bring the right ones.
pub(crate) fn mismatch(shown: &str, what: &str) -> Error {
    Error::new(Status::Corrupt, format!("{shown}: checksum mismatch: {what}")).retryable(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the `azure-storage-extensions` package 0.1.0, with which Microsoft's Python SDK makes its checksums:
    /// `base64(crc64.compute(data, 0).to_bytes(8, "little"))`.
    #[test]
    fn crc64_is_the_services() {
        let large: Vec<u8> = (0..4_194_304_u32).map(|i| i as u8).collect();
        let cases: [(&[u8], u64); 5] = [
            (b"", 0),
            (b"123456789", 0xae8b_1486_0a79_9888),
            (b"Hello World!", 0x02e5_1cc8_5efc_e1a5),
            (&[b'a'; 100], 0xfd7c_557b_2624_e279),
            (&large, 0xfb08_5d27_f136_45c4),
        ];
        for (bytes, expected) in cases {
            let mut sum = Sum::crc64();
            for piece in bytes.chunks(1000) {
                sum.update(piece);
            }
            assert_eq!(sum.text(), STANDARD.encode(expected.to_le_bytes()), "{} bytes", bytes.len());
        }
    }

    /// From RFC 1321, and base64 of it as RFC 1864 has it.
    #[test]
    fn md5_is_the_standards() {
        let expected = [0x90, 0x01, 0x50, 0x98, 0x3c, 0xd2, 0x4f, 0xb0, 0xd6, 0x96, 0x3f, 0x7d, 0x28, 0xe1, 0x7f, 0x72];
        assert_eq!(Sum::md5().of(b"abc"), STANDARD.encode(expected));
    }
}
