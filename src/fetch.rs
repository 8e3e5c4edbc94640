//! Ranged GETs: pinned to one version of the blob, resumed where they broke, believed only when they add up.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use http::Method;
use http::StatusCode;
use http::header::{CONTENT_RANGE, ETAG, IF_MATCH, IF_NONE_MATCH, RANGE};

use crate::error::{Error, Result, Status};
use crate::ranges::{self, parse_content_range};
use crate::receive::{Sink, receive};
use crate::retry::{Attempts, retry};
use crate::session::Call;
use crate::transport::{Request, Response};
use crate::url::Target;

/// A body that brought this much before it broke counts as progress: its retries begin anew.
const PROGRESS: u64 = 64 << 10;

/// What a reader is pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) etag: String,
    pub(crate) size: u64,
}

/// The first look at a blob: which version it is, and the first of its bytes that were asked for, still arriving.
pub(crate) struct Opened {
    pub(crate) version: Version,
    pub(crate) first: Range<u64>,
    pub(crate) body: Option<Response>,
}

impl Opened {
    pub(crate) fn empty(etag: String) -> Self {
        Self { version: Version { etag, size: 0 }, first: 0..0, body: None }
    }
}

/// Which version of a blob may be opened.
#[derive(Clone, Debug)]
pub(crate) enum Only {
    /// Whatever is there.
    Any,
    /// Any but the one with this ETag.
    Unless(String),
    /// This one.
    If(Version),
}

impl Only {
    fn add_to(&self, request: Request) -> Result<Request> {
        match self {
            Self::Any => Ok(request),
            Self::Unless(etag) => request.header(IF_NONE_MATCH, etag),
            Self::If(version) => request.header(IF_MATCH, &version.etag),
        }
    }
}

/// Asks for the bytes of `range`, or as many of them as the blob has. `Ok(None)` when the blob is still the
/// version that is not wanted. A range that begins past the end is an error, unless it begins at 0.
pub(crate) async fn open(call: &Call, target: &Target, range: Range<u64>, only: &Only) -> Result<Option<Opened>> {
    retry(&call.limits, || open_once(call, target, &range, only)).await
}

/// Opens a part of a blob, which has to lie in it, and asks for its first bytes, at most `most`.
pub(crate) async fn open_part(
    call: &Call,
    target: &Target,
    part: &Range<u64>,
    most: u64,
    only: &Only,
) -> Result<Option<Opened>> {
    let first = part.start..part.end.min(part.start.saturating_add(most));
    match open(call, target, first, only).await? {
        Some(Opened { version, body, .. }) if part.end > version.size => {
            let_go(call, body).await;
            Err(past_the_end(target, part, &format!("/{}", version.size)))
        }
        opened => Ok(opened),
    }
}

async fn open_once(call: &Call, target: &Target, range: &Range<u64>, only: &Only) -> Result<Option<Opened>> {
    let request = Request::new(Method::GET, target.uri("")?);
    let (response, range) = send(call, only.add_to(request)?, range).await?;
    match response.status {
        StatusCode::NOT_MODIFIED if matches!(only, Only::Unless(_)) => Ok(None),
        StatusCode::RANGE_NOT_SATISFIABLE if range.start == 0 => open_empty(call, target, response, only).await,
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let error = match only {
                Only::If(version) if range.start < version.size => replaced(target),
                _ => past_the_end(target, &range, response.header(&CONTENT_RANGE)),
            };
            response.discard().await;
            Err(error)
        }
        _ => {
            let response = response.success().await?;
            open_range(response, &range).map(Some)
        }
    }
}

fn open_range(response: Response, asked: &Range<u64>) -> Result<Opened> {
    let etag = etag(&response)?;
    if response.status == StatusCode::OK && response.content_length() == Some(0) {
        return Ok(Opened::empty(etag));
    }
    let (range, size) = content_range(&response)?;
    if range != (asked.start..asked.end.min(size)) {
        return Err(wrong_range(&response, asked));
    }
    check_length(&response, &range)?;
    Ok(Opened { version: Version { etag, size }, first: range, body: Some(response) })
}

/// The error of an answer that belongs to another version than the pinned one.
fn replaced(target: &Target) -> Error {
    Error::new(Status::Modified, format!("{}: the answer belongs to another version of the blob", target.display()))
}

/// The error of a range that is not in the blob; `total` is its size, as the service told it.
pub(crate) fn past_the_end(target: &Target, range: &Range<u64>, total: &str) -> Error {
    let size = total.rsplit_once('/').map_or("", |(_, size)| size);
    let known = if size.is_empty() { String::new() } else { format!(", which has {size}") };
    let message =
        format!("{}: bytes {} to {} are past the end of the blob{known}", target.display(), range.start, range.end);
    Error::new(Status::OutOfRange, message)
}

/// No byte of an empty blob can be asked for, so the service refuses the range: that is how empty looks. Some services
/// look at the range before they look at the condition.
async fn open_empty(call: &Call, target: &Target, refusal: Response, only: &Only) -> Result<Option<Opened>> {
    let etag = refusal.header(&ETAG).to_owned();
    let is_empty = refusal.header(&CONTENT_RANGE) == "bytes */0";
    // First of all: the next request may need what this answer holds.
    refusal.discard().await;
    match only {
        Only::Unless(known) if *known == etag => return Ok(None),
        Only::Any | Only::Unless(_) if is_empty && !etag.is_empty() => return Ok(Some(Opened::empty(etag))),
        _ => {}
    }
    // The refusal does not name the version: a GET without a range does.
    match open_without_range(call, target, only).await? {
        Whole::Empty(etag) => Ok(Some(Opened::empty(etag))),
        Whole::Unchanged => Ok(None),
        Whole::NotEmpty => Err(Error::network(format!("{}: the blob changed while it was opened", target.display()))),
    }
}

/// What a GET without a range finds.
pub(crate) enum Whole {
    /// The blob's ETag.
    Empty(String),
    NotEmpty,
    /// The blob is still the version that is not wanted.
    Unchanged,
}

/// Opens a blob that is thought to be empty.
pub(crate) async fn open_without_range(call: &Call, target: &Target, only: &Only) -> Result<Whole> {
    let request = only.add_to(Request::new(Method::GET, target.uri("")?))?;
    let response = call.transport.send(request).await?;
    if response.status == StatusCode::NOT_MODIFIED && matches!(only, Only::Unless(_)) {
        return Ok(Whole::Unchanged);
    }
    let response = response.success().await?;
    let etag = self::etag(&response)?;
    let is_empty = response.content_length() == Some(0);
    response.discard().await;
    Ok(if is_empty { Whole::Empty(etag) } else { Whole::NotEmpty })
}

/// Which version is there, at the cost of its first byte.
pub(crate) async fn look(call: &Call, target: &Target, only: &Only) -> Result<Version> {
    let opened = open(call, target, 0..1, only).await?;
    let Opened { version, body, .. } = opened.ok_or_else(|| Error::internal("a look at a blob was skipped"))?;
    let_go(call, body).await;
    Ok(version)
}

/// Drops a body of which nothing is wanted any more, within the limits of the call. Rarely needed, and so on the heap.
pub(crate) fn let_go(call: &Call, body: Option<Response>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
    Box::pin(async move {
        let Some(body) = body else { return };
        let discarding = async {
            body.discard().await;
            Ok(())
        };
        // A call that is over has nothing to wait for here.
        let _ = Attempts::new(&call.limits).try_once(discarding).await;
    })
}

/// Brings `range` of the pinned version into `sink`, in order, going on where a body broke off.
/// `open` may be a response that already brings the range.
pub(crate) async fn fetch(
    call: &Call,
    target: &Target,
    version: &Version,
    range: Range<u64>,
    mut open: Option<Response>,
    sink: &mut impl Sink,
) -> Result<()> {
    let mut attempts = Attempts::new(&call.limits);
    let mut at = range.start;
    while at < range.end {
        let before = at;
        let attempt = fetch_once(call, target, version, &mut at, range.end, open.take(), sink);
        let result = attempts.try_once(attempt).await;
        if result.is_ok() || at - before >= PROGRESS {
            attempts.progressed();
        }
        let Err(trouble) = result else { continue };
        attempts.pause_after(trouble).await?;
    }
    Ok(())
}

async fn fetch_once(
    call: &Call,
    target: &Target,
    version: &Version,
    at: &mut u64,
    end: u64,
    open: Option<Response>,
    sink: &mut impl Sink,
) -> Result<()> {
    let (mut response, until) = match open {
        Some(response) => (response, end),
        None => get(call, target, version, *at..end).await?,
    };
    let result = receive(call, &mut response, at, until, sink).await;
    if result.is_err() {
        sink.reject();
    }
    result
}

/// Asks for bytes from the beginning of `range` on; up to where, beside the answer.
async fn get(call: &Call, target: &Target, version: &Version, range: Range<u64>) -> Result<(Response, u64)> {
    let request = Request::new(Method::GET, target.uri("")?).header(IF_MATCH, &version.etag)?;
    let (response, range) = send(call, request, &range).await?;
    if response.status == StatusCode::RANGE_NOT_SATISFIABLE {
        // The pinned version has these bytes. A service that looks at the range first does not say so.
        response.discard().await;
        return Err(replaced(target));
    }
    let response = response.success().await?;
    if content_range(&response)? != (range.clone(), version.size) {
        return Err(wrong_range(&response, &range));
    }
    if etag(&response)? != version.etag {
        return Err(replaced(target));
    }
    check_length(&response, &range)?;
    Ok((response, range.end))
}

/// Sends a GET for the beginning of `range`, or all of it, asking for what vouches for its bytes where that is wanted;
/// the answer, and the range that was asked for.
async fn send(call: &Call, request: Request, range: &Range<u64>) -> Result<(Response, Range<u64>)> {
    let checksums = call.transport.checksums();
    if !checksums.of_reads() {
        let response = call.transport.send(request.header(RANGE, &ranges::header(range))?).await?;
        return Ok((response, range.clone()));
    }
    loop {
        let asked = checksums.ask();
        let range = range.start..range.end.min(range.start.saturating_add(asked.most()));
        let mut request = request.clone().header(RANGE, &ranges::header(&range))?;
        asked.add_to(&mut request.headers);
        let mut response = call.transport.send(request).await?;
        if let Some(voucher) = checksums.judge(asked, &response)? {
            response.voucher = voucher;
            return Ok((response, range));
        }
        response.discard().await;
    }
}

fn etag(response: &Response) -> Result<String> {
    match response.header(&ETAG) {
        "" => Err(corrupt_answer(response, "it has no ETag")),
        etag => Ok(etag.to_owned()),
    }
}

fn content_range(response: &Response) -> Result<(Range<u64>, u64)> {
    if response.status != StatusCode::PARTIAL_CONTENT {
        return Err(corrupt_answer(response, "the range that was asked for was ignored"));
    }
    parse_content_range(response.header(&CONTENT_RANGE))
        .ok_or_else(|| corrupt_answer(response, "its Content-Range cannot be read"))
}

fn check_length(response: &Response, range: &Range<u64>) -> Result<()> {
    let body = response.content_length();
    let content = response.voucher.as_ref().map_or(body, |voucher| voucher.content(body));
    match content {
        Some(length) if length != range.end - range.start => {
            Err(corrupt_answer(response, "its length and Content-Range contradict each other"))
        }
        _ => Ok(()),
    }
}

fn wrong_range(response: &Response, asked: &Range<u64>) -> Error {
    let got = response.header(&CONTENT_RANGE);
    corrupt_answer(response, &format!("{} was asked for, '{got}' came", ranges::header(asked)))
}

fn corrupt_answer(response: &Response, reason: &str) -> Error {
    let message = format!("{}: the answer cannot be right: {reason}", response.shown());
    Error::new(Status::Corrupt, message).retryable(None)
}
