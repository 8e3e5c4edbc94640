//! A body on its way into the place where it belongs, checked against what vouches for it before anyone sees it.

use bytes::BufMut;

use crate::error::{Error, Result, Status};
use crate::http::Response;
use crate::service::checksum::{ExpectedChecksum, Sum, mismatch};
use crate::service::client_core::Call;
use crate::service::structured_body::{CHECKSUM, Message};
use crate::sys::caller_buffer::Destination;
use crate::sys::tap::Tap;

/// The body of a range, still arriving.
pub(crate) struct RangeBody {
    pub(crate) response: Response,
    /// `None` when no checksum was asked for.
    pub(crate) expected_checksum: Option<ExpectedChecksum>,
}

/// Where a body's bytes go: the network writes them into memory that the sink offers.
pub(crate) trait Sink: Send {
    /// Memory for some of the next bytes, at least one.
    fn room(&mut self) -> &mut (impl BufMut + Send);

    /// More bytes are in the room. They may still turn out to be wrong.
    fn received(&mut self) -> Result<()>;

    /// What was received is right, and may be seen.
    fn accept(&mut self) -> Result<()>;

    /// What was received and not accepted is forgotten, and comes again.
    fn reject(&mut self);
}

impl Sink for Destination {
    fn room(&mut self) -> &mut (impl BufMut + Send) {
        self
    }

    fn received(&mut self) -> Result<()> {
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        self.mark();
        Ok(())
    }

    fn reject(&mut self) {
        self.rewind();
    }
}

/// Receives the bytes from `at` to `end` of the blob; `at` moves over those that the sink has accepted.
pub(crate) async fn receive(
    call: &Call,
    body: &mut RangeBody,
    at: &mut u64,
    end: u64,
    sink: &mut impl Sink,
) -> Result<()> {
    let response = &mut body.response;
    match body.expected_checksum.take() {
        None => plain(call, response, at, end, sink).await?,
        Some(ExpectedChecksum::Whole(sum, expected)) => {
            summed(response, sum, end - *at, &expected, sink).await?;
            accept(call, at, end - *at, sink)?;
        }
        Some(ExpectedChecksum::Structured(content)) => structured(call, response, at, content, sink).await?,
    }
    // A body of unknown length may go on, which would be wrong; one of known length has ended.
    response.bytes(0).await.map(drop)
}

async fn plain(call: &Call, response: &mut Response, at: &mut u64, end: u64, sink: &mut impl Sink) -> Result<()> {
    while *at < end {
        let received = response.receive(sink.room(), end - *at).await?;
        if received == 0 {
            return Err(too_short(response));
        }
        sink.received()?;
        accept(call, at, received as u64, sink)?;
    }
    Ok(())
}

fn accept(call: &Call, at: &mut u64, count: u64, sink: &mut impl Sink) -> Result<()> {
    sink.accept()?;
    *at += count;
    call.has_moved(count);
    Ok(())
}

/// The next `length` bytes of the body, which have to have this sum.
async fn summed(
    response: &mut Response,
    mut sum: Sum,
    length: u64,
    expected: &str,
    sink: &mut impl Sink,
) -> Result<()> {
    collect(response, &mut sum, length, sink).await?;
    match sum.text() == expected {
        true => Ok(()),
        false => Err(mismatch(response.shown(), "other bytes arrived than were sent")),
    }
}

async fn collect(response: &mut Response, sum: &mut Sum, length: u64, sink: &mut impl Sink) -> Result<()> {
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let mut room = Tap::new(sink.room(), |bytes| sum.update(bytes)).limit(most);
        // The body's own length was compared when its head came.
        match response.receive(&mut room, u64::MAX).await? as u64 {
            0 => return Err(too_short(response)),
            received => left -= received,
        }
        sink.received()?;
    }
    Ok(())
}

/// Each segment is accepted when its checksum fits. The message's own sum, at its end, says nothing more then: the
/// segments are numbered, and none may be missing.
async fn structured(
    call: &Call,
    response: &mut Response,
    at: &mut u64,
    content: u64,
    sink: &mut impl Sink,
) -> Result<()> {
    let length = response.content_length().unwrap_or_default();
    let shown = response.shown().to_owned();
    let damaged = |error: Error| error.context(&shown);
    let mut message = Message::begin(exactly(response).await?, length, content).map_err(damaged)?;
    while !message.is_over().map_err(damaged)? {
        let length = message.segment(exactly(response).await?).map_err(damaged)?;
        let mut sum = Sum::crc64();
        collect(response, &mut sum, length, sink).await?;
        if sum.bytes() != exactly::<CHECKSUM>(response).await? {
            return Err(mismatch(&shown, "other bytes arrived than were sent"));
        }
        accept(call, at, length, sink)?;
    }
    exactly::<CHECKSUM>(response).await.map(drop)
}

/// The next few bytes of the body, which belong to its form.
async fn exactly<const N: usize>(response: &mut Response) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut room = &mut bytes[..];
    while !room.is_empty() {
        if response.receive(&mut room, u64::MAX).await? == 0 {
            return Err(too_short(response));
        }
    }
    Ok(bytes)
}

fn too_short(response: &Response) -> Error {
    let message = format!("{}: the body is shorter than the range that was asked for", response.shown());
    Error::new(Status::Corrupt, message).retryable(None)
}
