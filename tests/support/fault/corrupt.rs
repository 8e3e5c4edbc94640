//! Responses that look correct but are wrong.

use super::service::{REQUEST_ID, Response};
use super::{Fault, Request};

/// Applies `fault` to a correct response; returns how many bytes to send after it.
pub fn corrupt(response: &mut Response, fault: &Fault) -> u64 {
    let range = response.headers.iter_mut().find(|(name, _)| name == "Content-Range").map(|(_, value)| value);
    let bounds = range.as_deref().and_then(|value| {
        let (span, size) = value.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = span.split_once('-')?;
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, size.to_owned()))
    });
    let length = response.body.len();
    match (fault, range, bounds) {
        (Fault::ShortRange(missing), Some(range), Some((first, last, size))) => {
            *range = format!("bytes {first}-{}/{size}", last - missing);
            response.body.truncate(length - *missing as usize);
        }
        (Fault::ShiftedRange(by), Some(range), Some((first, last, size))) => {
            *range = format!("bytes {}-{}/{size}", first + by, last + by)
        }
        (Fault::ShortBody(missing), ..) => {
            response.body.truncate(length - *missing as usize);
            response.chunked = false;
        }
        (Fault::LongBody(extra), ..) => response.body.resize(length + *extra as usize, b'X'),
        (Fault::TrailingBytes(extra), ..) => return *extra,
        (Fault::OtherETag, ..) => set(response, "ETag", "\"0xOTHER\""),
        (Fault::OtherRequestId, ..) => set(response, REQUEST_ID, "11111111-2222-3333-4444-555555555555"),
        (Fault::OtherChecksum, ..) => {
            set(response, "x-ms-content-crc64", "AAAAAAAAAAA=");
            set(response, "Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA==");
        }
        (Fault::NoRequestId, ..) => response.headers.retain(|(name, _)| name != REQUEST_ID),
        (Fault::NoChecksum, ..) => {
            response.headers.retain(|(name, _)| name != "x-ms-content-crc64" && name != "Content-MD5");
        }
        (Fault::FlipByte(at), ..) => response.body[*at as usize] ^= 1,
        _ => {}
    }
    0
}

/// A copy of the request that asks for the whole blob.
pub fn without_range(request: &Request) -> Request {
    let mut request = request.clone();
    request.headers.retain(|(name, _)| name != "range" && name != "x-ms-range");
    request
}

/// Replaces the value of a header if the response has it.
fn set(response: &mut Response, header: &str, text: &str) {
    let values = response.headers.iter_mut().filter(|(name, _)| name == header);
    values.for_each(|(_, value)| *value = text.to_owned());
}
