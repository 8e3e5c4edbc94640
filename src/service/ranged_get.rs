//! Reads of a blob: opens it, which pins one version, and fetches ranges of that version. A broken body is resumed
//! where it broke, and a response that contradicts its request or itself is an error.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use http::Method;
use http::StatusCode;
use http::header::{CONTENT_RANGE, ETAG, IF_MATCH, IF_NONE_MATCH};

use crate::core::retry::{Attempt, Attempts, retry};
use crate::error::{Error, Result, Status};
use crate::http::Request;
use crate::service::blob_service::ServiceResponse;
use crate::service::body_sink::{RangeBody, Sink, receive};
use crate::service::client_core::Call;
use crate::service::range_request::{check_length, content_range, etag, send, wrong_range};
use crate::service::ranges;
use crate::service::version::Version;
use crate::url::Target;

/// A try that brought this many bytes before it failed counts as progress: the count of retries begins at 0 again.
const PROGRESS: u64 = 64 << 10;

/// An opened blob: its version, and the response to the first request, which is still arriving.
pub(crate) struct Opened {
    pub(crate) version: Version,
    /// The range that the first request has asked for, as far as the blob has it.
    pub(crate) first: Range<u64>,
    /// The bytes of `first`; `None` for an empty blob.
    pub(crate) body: Option<RangeBody>,
}

impl Opened {
    /// An empty blob.
    pub(crate) fn empty(etag: String) -> Self {
        Self { version: Version { etag, size: 0 }, first: 0..0, body: None }
    }
}

/// The version of a blob that may be opened.
#[derive(Clone, Debug)]
pub(crate) enum Only {
    /// The current version.
    Any,
    /// This version.
    If(Version),
}

/// The condition of a GET that opens a blob.
enum OpenCondition<'a> {
    Only(&'a Only),
    /// Any version but the one with this ETag.
    Unless(&'a str),
}

impl OpenCondition<'_> {
    fn add_to(&self, request: Request) -> Result<Request> {
        match self {
            Self::Only(Only::Any) => Ok(request),
            Self::Only(Only::If(version)) => request.header(IF_MATCH, &version.etag),
            Self::Unless(etag) => request.header(IF_NONE_MATCH, etag),
        }
    }
}

/// Opens a blob and requests the bytes of `range`, as far as the blob has them. A range that begins past the end is an
/// error, except a range from 0 of an empty blob.
pub(crate) async fn open(call: &Call, target: &Target, range: Range<u64>, only: &Only) -> Result<Opened> {
    let opened = open_conditionally(call, target, &range, &OpenCondition::Only(only)).await?;
    opened.ok_or_else(|| Error::internal("a GET without If-None-Match was answered as unchanged"))
}

/// Opens a blob if its ETag is not `etag`, and requests the bytes of `range`, as far as the blob has them. Returns
/// `None` when the blob still has this ETag.
pub(crate) async fn open_if_changed(
    call: &Call,
    target: &Target,
    range: Range<u64>,
    etag: &str,
) -> Result<Option<Opened>> {
    open_conditionally(call, target, &range, &OpenCondition::Unless(etag)).await
}

/// Opens a blob and requests the first bytes of `part`, at most `most`. The part must lie within the blob.
pub(crate) async fn open_part(
    call: &Call,
    target: &Target,
    part: &Range<u64>,
    most: u64,
    only: &Only,
) -> Result<Opened> {
    let first = part.start..part.end.min(part.start.saturating_add(most));
    let opened = open(call, target, first, only).await?;
    if part.end > opened.version.size {
        discard(call, opened.body).await;
        return Err(past_the_end(target, part, &format!("/{}", opened.version.size)));
    }
    Ok(opened)
}

async fn open_conditionally(
    call: &Call,
    target: &Target,
    range: &Range<u64>,
    condition: &OpenCondition<'_>,
) -> Result<Option<Opened>> {
    retry(&call.limits, |attempt| open_once(call, target, range, condition, attempt)).await
}

async fn open_once(
    call: &Call,
    target: &Target,
    range: &Range<u64>,
    condition: &OpenCondition<'_>,
    attempt: Attempt,
) -> Result<Option<Opened>> {
    let request = Request::new(Method::GET, target.uri("")?);
    let reply = send(call, condition.add_to(request)?, range, &attempt).await?;
    match reply.response.status {
        StatusCode::NOT_MODIFIED if matches!(condition, OpenCondition::Unless(_)) => Ok(None),
        StatusCode::RANGE_NOT_SATISFIABLE if reply.range.start == 0 => {
            open_empty(call, target, reply.response, condition, &attempt).await
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let error = match condition {
                OpenCondition::Only(Only::If(version)) if reply.range.start < version.size => replaced(target),
                _ => past_the_end(target, &reply.range, reply.response.header(&CONTENT_RANGE)),
            };
            reply.response.discard().await;
            Err(error)
        }
        _ => {
            let (body, range) = reply.success().await?;
            open_range(body, &range).map(Some)
        }
    }
}

fn open_range(body: RangeBody, asked: &Range<u64>) -> Result<Opened> {
    let response = &body.response;
    let etag = etag(response)?;
    if response.status == StatusCode::OK && response.content_length() == Some(0) {
        return Ok(Opened::empty(etag));
    }
    let (range, size) = content_range(response)?;
    if range != (asked.start..asked.end.min(size)) {
        return Err(wrong_range(response, asked));
    }
    check_length(&body, &range)?;
    Ok(Opened { version: Version { etag, size }, first: range, body: Some(body) })
}

/// The error of an answer with another version than the pinned one.
fn replaced(target: &Target) -> Error {
    Error::new(Status::Modified, format!("{}: the answer belongs to another version of the blob", target.display()))
}

/// The error of a range that is not in the blob. `total` is a `Content-Range`, whose end is the blob's size.
pub(crate) fn past_the_end(target: &Target, range: &Range<u64>, total: &str) -> Error {
    let size = total.rsplit_once('/').map_or("", |(_, size)| size);
    let known = if size.is_empty() { String::new() } else { format!(", which has {size}") };
    let message =
        format!("{}: bytes {} to {} are past the end of the blob{known}", target.display(), range.start, range.end);
    Error::new(Status::OutOfRange, message)
}

/// Opens a blob after the service has refused the range from 0, which it does for an empty blob. Some services check
/// the range before the condition, so the condition is checked here too.
async fn open_empty(
    call: &Call,
    target: &Target,
    refusal: ServiceResponse,
    condition: &OpenCondition<'_>,
    attempt: &Attempt,
) -> Result<Option<Opened>> {
    let etag = refusal.header(&ETAG).to_owned();
    let is_empty = refusal.header(&CONTENT_RANGE) == "bytes */0";
    // Now, because the next request may need the connection permit that this response holds.
    refusal.discard().await;
    match condition {
        OpenCondition::Unless(known) if **known == etag => return Ok(None),
        OpenCondition::Only(Only::Any) | OpenCondition::Unless(_) if is_empty && !etag.is_empty() => {
            return Ok(Some(Opened::empty(etag)));
        }
        _ => {}
    }
    // The refusal has no ETag. The response to a GET without a range has one.
    match get_without_range(call, target, condition, attempt).await? {
        WholeBlob::Empty(etag) => Ok(Some(Opened::empty(etag))),
        WholeBlob::Unchanged => Ok(None),
        WholeBlob::NotEmpty => {
            Err(Error::network(format!("{}: the blob changed while it was opened", target.display())))
        }
    }
}

/// The result of a GET without a range.
enum WholeBlob {
    /// An empty blob with this ETag.
    Empty(String),
    /// A blob with bytes.
    NotEmpty,
    /// The version that [`OpenCondition::Unless`] excludes.
    Unchanged,
}

/// The ETag of a blob that is expected to be empty; `None` when it has bytes.
pub(crate) async fn probe_empty(call: &Call, target: &Target) -> Result<Option<String>> {
    let condition = OpenCondition::Only(&Only::Any);
    let probe = |attempt| {
        let condition = &condition;
        async move { get_without_range(call, target, condition, &attempt).await }
    };
    match retry(&call.limits, probe).await? {
        WholeBlob::Empty(etag) => Ok(Some(etag)),
        WholeBlob::NotEmpty | WholeBlob::Unchanged => Ok(None),
    }
}

async fn get_without_range(
    call: &Call,
    target: &Target,
    condition: &OpenCondition<'_>,
    attempt: &Attempt,
) -> Result<WholeBlob> {
    let request = condition.add_to(Request::new(Method::GET, target.uri("")?))?;
    let response = call.service.send(request, attempt).await?;
    if response.status == StatusCode::NOT_MODIFIED && matches!(condition, OpenCondition::Unless(_)) {
        return Ok(WholeBlob::Unchanged);
    }
    let response = response.success().await?;
    let etag = etag(&response)?;
    let is_empty = response.content_length() == Some(0);
    response.discard().await;
    Ok(if is_empty { WholeBlob::Empty(etag) } else { WholeBlob::NotEmpty })
}

/// The version of a blob. Requests its first byte to find out.
pub(crate) async fn probe_version(call: &Call, target: &Target, only: &Only) -> Result<Version> {
    let Opened { version, body, .. } = open(call, target, 0..1, only).await?;
    discard(call, body).await;
    Ok(version)
}

/// Drops a body that is not needed, within the limits of the call. The future is on the heap, so that it does not
/// enlarge its callers' futures; it is rarely needed.
pub(crate) fn discard(call: &Call, body: Option<RangeBody>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
    Box::pin(async move {
        let Some(body) = body else { return };
        let discarding = |_| async {
            body.response.discard().await;
            Ok(())
        };
        // Ignore the error of a call that has ended: its next step returns it.
        let _ = Attempts::new(&call.limits).try_once(discarding).await;
    })
}

/// Fetches `range` of the pinned version into `sink`, in order. Continues where a body broke. `open` may be a response
/// that already brings the range.
pub(crate) async fn fetch(
    call: &Call,
    target: &Target,
    version: &Version,
    range: Range<u64>,
    mut open: Option<RangeBody>,
    sink: &mut impl Sink,
) -> Result<()> {
    let mut attempts = Attempts::new(&call.limits);
    let mut left = range;
    while left.start < left.end {
        let before = left.start;
        let open = open.take();
        let result =
            attempts.try_once(|attempt| fetch_once(call, target, version, &mut left, open, attempt, sink)).await;
        if result.is_ok() || left.start - before >= PROGRESS {
            attempts.progressed();
        }
        let Err(error) = result else { continue };
        attempts.pause_after(error).await?;
    }
    Ok(())
}

/// Splits `range` of the pinned version into parts for parallel requests, and makes a future for each part, which
/// fetches it into the sink that `sink` gives for it. Sinks are asked for in the order of the parts. The first part is
/// `first`, which `open` may already bring; `first` is empty when nothing was requested yet.
pub(crate) fn fetch_parts<S: Sink + 'static>(
    call: &Call,
    target: &Arc<Target>,
    version: &Arc<Version>,
    range: Range<u64>,
    first: Range<u64>,
    mut open: Option<RangeBody>,
    sink: &mut dyn FnMut(&Range<u64>) -> S,
) -> Vec<impl Future<Output = Result<()>> + Send + 'static + use<S>> {
    let rest = ranges::split(first.end..range.end, call.connections());
    let parts = std::iter::once(first).filter(|first| !first.is_empty()).chain(rest);
    let future = |part: Range<u64>| {
        let (call, target, version, open) = (call.clone(), target.clone(), version.clone(), open.take());
        let mut sink = sink(&part);
        async move { fetch(&call, &target, &version, part, open, &mut sink).await }
    };
    parts.map(future).collect()
}

/// Receives the beginning of `left`, or all of it, with one request; removes the received bytes from `left`.
async fn fetch_once(
    call: &Call,
    target: &Target,
    version: &Version,
    left: &mut Range<u64>,
    open: Option<RangeBody>,
    attempt: Attempt,
    sink: &mut impl Sink,
) -> Result<()> {
    let (mut body, until) = match open {
        Some(body) => (body, left.end),
        None => get(call, target, version, left.clone(), &attempt).await?,
    };
    let result = receive(call, &mut body, &mut left.start, until, sink).await;
    if result.is_err() {
        sink.reject();
    }
    result
}

/// Requests the beginning of `range`, or all of it. Returns the body and the offset at which it ends.
async fn get(
    call: &Call,
    target: &Target,
    version: &Version,
    range: Range<u64>,
    attempt: &Attempt,
) -> Result<(RangeBody, u64)> {
    let request = Request::new(Method::GET, target.uri("")?).header(IF_MATCH, &version.etag)?;
    let reply = send(call, request, &range, attempt).await?;
    if reply.response.status == StatusCode::RANGE_NOT_SATISFIABLE {
        // The pinned version has these bytes, so the blob was replaced. This service checks the range before the ETag.
        reply.response.discard().await;
        return Err(replaced(target));
    }
    let (body, range) = reply.success().await?;
    if content_range(&body.response)? != (range.clone(), version.size) {
        return Err(wrong_range(&body.response, &range));
    }
    if etag(&body.response)? != version.etag {
        return Err(replaced(target));
    }
    check_length(&body, &range)?;
    Ok((body, range.end))
}
