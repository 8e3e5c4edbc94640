//! One GET for a range of a blob: its request, with a checksum where one is wanted, and the checks of its response's
//! headers.

use std::ops::Range;

use http::StatusCode;
use http::header::{CONTENT_RANGE, ETAG, RANGE};

use crate::core::retry::Attempt;
use crate::error::{Error, Result, Status};
use crate::http::{Request, Response};
use crate::service::blob_service::ServiceResponse;
use crate::service::body_sink::RangeBody;
use crate::service::checksum::{ExpectedChecksum, ReadResponse};
use crate::service::client_core::Call;
use crate::service::ranges::{self, parse_content_range};

/// The response to a ranged GET, of any status.
pub(crate) struct RangeReply {
    pub(crate) response: ServiceResponse,
    expected_checksum: Option<ExpectedChecksum>,
    /// The range that was asked for.
    pub(crate) range: Range<u64>,
}

impl RangeReply {
    /// The body and the range that was asked for, or the error of an unsuccessful response.
    pub(crate) async fn success(self) -> Result<(RangeBody, Range<u64>)> {
        let response = self.response.success().await?;
        Ok((RangeBody { response, expected_checksum: self.expected_checksum }, self.range))
    }
}

/// Requests the beginning of `range`, or all of it, and its checksum if the client wants one.
pub(crate) async fn send(call: &Call, request: Request, range: &Range<u64>, attempt: &Attempt) -> Result<RangeReply> {
    let checksums = call.service.checksums();
    loop {
        let Some(asked) = checksums.for_read() else {
            let response = call.service.send(request.header(RANGE, &ranges::header(range))?, attempt).await?;
            return Ok(RangeReply { response, expected_checksum: None, range: range.clone() });
        };
        let most = asked.max_range().unwrap_or(u64::MAX);
        let range = range.start..range.end.min(range.start.saturating_add(most));
        let mut request = request.clone().header(RANGE, &ranges::header(&range))?;
        asked.add_to(&mut request.headers);
        let response = call.service.send(request, attempt).await?;
        match checksums.check_read(asked, &response)? {
            ReadResponse::Accepted(expected_checksum) => return Ok(RangeReply { response, expected_checksum, range }),
            ReadResponse::Unsupported => response.discard().await,
        }
    }
}

/// The blob's ETag.
pub(crate) fn etag(response: &Response) -> Result<String> {
    match response.header(&ETAG) {
        "" => Err(corrupt_answer(response, "it has no ETag")),
        etag => Ok(etag.to_owned()),
    }
}

/// The range that the response brings, and the blob's size.
pub(crate) fn content_range(response: &Response) -> Result<(Range<u64>, u64)> {
    if response.status != StatusCode::PARTIAL_CONTENT {
        return Err(corrupt_answer(response, "the range that was asked for was ignored"));
    }
    parse_content_range(response.header(&CONTENT_RANGE))
        .ok_or_else(|| corrupt_answer(response, "its Content-Range cannot be read"))
}

/// Checks that the body has as many bytes as `range`.
pub(crate) fn check_length(body: &RangeBody, range: &Range<u64>) -> Result<()> {
    let response = &body.response;
    let length = response.content_length();
    let content = body.expected_checksum.as_ref().map_or(length, |expected| expected.content_length(length));
    match content {
        Some(length) if length != range.end - range.start => {
            Err(corrupt_answer(response, "its length and Content-Range contradict each other"))
        }
        _ => Ok(()),
    }
}

/// The error of a response that brings another range than was `asked` for.
pub(crate) fn wrong_range(response: &Response, asked: &Range<u64>) -> Error {
    let got = response.header(&CONTENT_RANGE);
    corrupt_answer(response, &format!("{} was asked for, '{got}' came", ranges::header(asked)))
}

fn corrupt_answer(response: &Response, reason: &str) -> Error {
    let message = format!("{}: the answer cannot be right: {reason}", response.shown());
    Error::new(Status::Corrupt, message).retryable(None)
}
