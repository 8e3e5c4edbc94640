//! Receives the body of a range into a sink, and checks its checksum before the sink may show the bytes.

use bytes::BufMut;

use crate::error::{Error, Result, Status};
use crate::http::Response;
use crate::service::checksum::{ExpectedChecksum, Hasher, mismatch};
use crate::service::client_core::Call;
use crate::service::structured_body::{CHECKSUM, Message};
use crate::sys::caller_buffer::Destination;
use crate::sys::tap::Tap;

/// The body of a range that is still arriving.
pub(crate) struct RangeBody {
    pub(crate) response: Response,
    /// `None` when no checksum was asked for.
    pub(crate) expected_checksum: Option<ExpectedChecksum>,
}

/// The destination of a body's bytes. The network writes them into memory that the sink gives.
pub(crate) trait Sink: Send {
    /// Memory for the next bytes. It has room for at least one byte.
    fn room(&mut self) -> &mut (impl BufMut + Send);

    /// Tells the sink that bytes were written into its memory. Their checksum may not be known yet.
    fn received(&mut self) -> Result<()>;

    /// Tells the sink that all bytes received so far are correct and may be shown.
    fn accept(&mut self) -> Result<()>;

    /// Tells the sink to forget the bytes that were not accepted. They will be received again.
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

/// Receives the bytes from `at` to `end` of the blob, and moves `at` over the bytes that the sink has accepted.
pub(crate) async fn receive(
    call: &Call,
    body: &mut RangeBody,
    at: &mut u64,
    end: u64,
    sink: &mut impl Sink,
) -> Result<()> {
    let response = &mut body.response;
    match body.expected_checksum.take() {
        None => receive_unchecked(call, response, at, end, sink).await?,
        Some(ExpectedChecksum::Whole(hasher, expected)) => {
            receive_whole(response, hasher, end - *at, &expected, sink).await?;
            accept(call, at, end - *at, sink)?;
        }
        Some(ExpectedChecksum::Structured(content)) => receive_structured(call, response, at, content, sink).await?,
    }
    // A body of unknown length may have more bytes, which is an error. A body of known length has ended here.
    response.bytes(0).await.map(drop)
}

async fn receive_unchecked(
    call: &Call,
    response: &mut Response,
    at: &mut u64,
    end: u64,
    sink: &mut impl Sink,
) -> Result<()> {
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

/// Receives `length` bytes, which must have the checksum `expected`.
async fn receive_whole(
    response: &mut Response,
    mut hasher: Hasher,
    length: u64,
    expected: &str,
    sink: &mut impl Sink,
) -> Result<()> {
    collect(response, &mut hasher, length, sink).await?;
    if hasher.base64() != expected {
        return Err(mismatch(response.shown(), "other bytes arrived than were sent"));
    }
    Ok(())
}

async fn collect(response: &mut Response, hasher: &mut Hasher, length: u64, sink: &mut impl Sink) -> Result<()> {
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let mut room = Tap::new(sink.room(), |bytes| hasher.update(bytes)).limit(most);
        // The body's length was compared when its headers came.
        match response.receive(&mut room, u64::MAX).await? as u64 {
            0 => return Err(too_short(response)),
            received => left -= received,
        }
        sink.received()?;
    }
    Ok(())
}

/// Receives a structured body, and accepts each segment whose checksum fits. The checksum of the whole message, at its
/// end, is not compared: the segments are numbered, so none can be missing.
async fn receive_structured(
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
        let mut hasher = Hasher::crc64();
        collect(response, &mut hasher, length, sink).await?;
        if hasher.bytes() != exactly::<CHECKSUM>(response).await? {
            return Err(mismatch(&shown, "other bytes arrived than were sent"));
        }
        accept(call, at, length, sink)?;
    }
    exactly::<CHECKSUM>(response).await.map(drop)
}

/// Receives the next `N` bytes of the body, which belong to its format.
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
