//! Answers that are wrong and look right.

use super::connection::{Answer, ECHO};
use super::{Fault, Request};

/// Changes a true answer into the wrong one that `fault` describes; returns how many bytes to send after it.
pub(super) fn spoil(answer: &mut Answer, fault: &Fault) -> u64 {
    let range = answer.headers.iter_mut().find(|(name, _)| name == "Content-Range").map(|(_, value)| value);
    let bounds = range.as_deref().and_then(|value| {
        let (span, size) = value.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = span.split_once('-')?;
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, size.to_owned()))
    });
    let length = answer.body.len();
    match (fault, range, bounds) {
        (Fault::ShortRange(missing), Some(range), Some((first, last, size))) => {
            *range = format!("bytes {first}-{}/{size}", last - missing);
            answer.body.truncate(length - *missing as usize);
        }
        (Fault::ShiftedRange(by), Some(range), Some((first, last, size))) => {
            *range = format!("bytes {}-{}/{size}", first + by, last + by)
        }
        (Fault::ShortBody(missing), ..) => {
            answer.body.truncate(length - *missing as usize);
            answer.chunked = false;
        }
        (Fault::LongBody(extra), ..) => answer.body.resize(length + *extra as usize, b'X'),
        (Fault::TrailingBytes(extra), ..) => return *extra,
        (Fault::OtherETag, ..) => set(answer, "ETag", "\"0xOTHER\""),
        (Fault::OtherRequest, ..) => set(answer, ECHO, "11111111-2222-3333-4444-555555555555"),
        (Fault::OtherChecksum, ..) => {
            set(answer, "x-ms-content-crc64", "AAAAAAAAAAA=");
            set(answer, "Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA==");
        }
        (Fault::NoEcho, ..) => answer.headers.retain(|(name, _)| name != ECHO),
        (Fault::FlipByte(at), ..) => answer.body[*at as usize] ^= 1,
        _ => {}
    }
    0
}

pub(super) fn without_range(request: &Request) -> Request {
    let mut request = request.clone();
    request.headers.retain(|(name, _)| name != "range" && name != "x-ms-range");
    request
}

fn set(answer: &mut Answer, header: &str, text: &str) {
    let values = answer.headers.iter_mut().filter(|(name, _)| name == header);
    values.for_each(|(_, value)| *value = text.to_owned());
}
