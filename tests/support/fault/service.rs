//! Executes a request as a correct blob service does, and makes its response.

use std::sync::Arc;

use super::http::Headers;
use super::listing::Page;
use super::percent::percent_decode;
use super::state::Shared;
use super::store::{Blob, Body, Refusal, Store};
use super::{Request, checksums, listing};

/// The header by which a response repeats the id of its request.
pub const REQUEST_ID: &str = "x-ms-client-request-id";

pub struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
    /// The response to a HEAD has a content length and no body.
    pub content_length: usize,
    /// The body is sent in chunks, without a content length.
    pub chunked: bool,
}

/// Executes a request, and compares and returns the checksums that the server supports.
pub fn execute_with_checksums(shared: &Shared, request: &Request, body: Vec<u8>) -> Response {
    let support = shared.state().checksum_support;
    let sums = match checksums::of_upload(support, request, &body) {
        Ok(sums) => sums,
        Err(code) => return refusal((400, code)),
    };
    let mut response = execute(shared, request, body);
    match response.status {
        206 => {
            let (sums, body) = checksums::of_range(support, request, response.body);
            response.headers.extend(sums);
            response.body = body;
        }
        201 => response.headers.extend(sums),
        _ => {}
    }
    response
}

/// Executes a request without checksums.
pub fn execute(shared: &Shared, request: &Request, body: Vec<u8>) -> Response {
    let path = percent_decode(&request.path);
    let mut state = shared.state();
    if request.verb() == "list" {
        let limit = state.page_limits.pop_front().or(state.page_size).unwrap_or(usize::MAX);
        let page = listing::page(&state.store, request, limit);
        drop(state);
        return listing_page(request, page);
    }
    let range_before_conditions = state.range_before_conditions;
    let store = &mut state.store;
    if request.query("restype").is_some() {
        return container(store, request, &path);
    }
    let blob = store.get(&path);
    if let (Some(with_etag), Some(blob)) = (range_before_conditions, &blob)
        && request.verb() == "GET"
        && request.range().is_some()
        && blob.body.size() == 0
    {
        drop(state);
        let mut refused = read(request, blob);
        refused.headers.extend(with_etag.then(|| ("ETag".to_owned(), blob.etag.clone())));
        return refused;
    }
    if let Some(refused) = failed_condition(request, blob.as_ref()) {
        return refused;
    }
    let done = |status, etag: Option<String>| {
        let headers = etag.map(|etag| ("ETag".to_owned(), etag)).into_iter().collect();
        Response { status, headers, body: Vec::new(), content_length: 0, chunked: false }
    };
    match (request.verb(), blob) {
        ("GET" | "HEAD", None) => refusal((404, "BlobNotFound")),
        ("GET" | "HEAD", Some(blob)) => {
            // Other connections must not wait while a large body is made.
            drop(state);
            read(request, &blob)
        }
        ("get-block-list", None) => refusal((404, "BlobNotFound")),
        ("get-block-list", Some(blob)) => block_list(&blob),
        ("DELETE", _) if store.delete(&path) => done(202, None),
        ("DELETE", _) => refusal((404, "BlobNotFound")),
        ("put-block", _) => match store.stage(&path, &percent_decode(request.query("blockid").unwrap_or("")), body) {
            Ok(()) => done(201, None),
            Err(refused) => refusal(refused),
        },
        ("put-block-list", _) => match store.commit(&path, &String::from_utf8_lossy(&body)) {
            Ok(etag) => done(201, Some(etag)),
            Err(refused) => refusal(refused),
        },
        ("PUT", _) => {
            let etag = store.put(&path, Body::Bytes(Arc::new(body)));
            store.set_metadata(&path, metadata(request));
            done(201, Some(etag))
        }
        _ => refusal((405, "UnsupportedHttpVerb")),
    }
}

/// An operation on the container itself.
fn container(store: &mut Store, request: &Request, path: &str) -> Response {
    let response = |status, headers| Response { status, headers, body: Vec::new(), content_length: 0, chunked: false };
    match (request.method.as_str(), store.container(path)) {
        ("PUT", None) => {
            store.put_container(path, metadata(request));
            response(201, Headers::new())
        }
        ("PUT", Some(_)) => refusal((409, "ContainerAlreadyExists")),
        ("GET" | "HEAD", Some(metadata)) => response(200, metadata),
        ("GET" | "HEAD", None) => refusal((404, "ContainerNotFound")),
        _ => refusal((405, "UnsupportedHttpVerb")),
    }
}

/// The metadata headers of a request.
fn metadata(request: &Request) -> Headers {
    request.headers.iter().filter(|(name, _)| name.starts_with("x-ms-meta-")).cloned().collect()
}

/// The response if a condition of the request does not hold.
fn failed_condition(request: &Request, blob: Option<&Blob>) -> Option<Response> {
    let etag = blob.map(|blob| blob.etag.as_str());
    if request.header("if-match").is_some_and(|wanted| Some(wanted) != etag && (wanted != "*" || etag.is_none())) {
        return Some(refusal((412, "ConditionNotMet")));
    }
    let unwanted = request.header("if-none-match")?;
    if etag.is_none() || (unwanted != "*" && Some(unwanted) != etag) {
        return None;
    }
    let reading = matches!(request.method.as_str(), "GET" | "HEAD");
    Some(refusal(if reading { (304, "ConditionNotMet") } else { (409, "BlobAlreadyExists") }))
}

fn read(request: &Request, blob: &Blob) -> Response {
    let size = blob.body.size();
    let mut headers =
        vec![("ETag".to_owned(), blob.etag.clone()), ("x-ms-blob-type".to_owned(), "BlockBlob".to_owned())];
    headers.extend(blob.metadata.iter().cloned());
    let (status, first, length) = match request.range() {
        Some((first, _)) if first >= size => {
            let mut refused = refusal((416, "InvalidRange"));
            refused.headers.push(("Content-Range".into(), format!("bytes */{size}")));
            return refused;
        }
        Some((first, last)) => (206, first, last.min(size - 1) - first + 1),
        None => (200, 0, size),
    };
    if status == 206 {
        headers.push(("Content-Range".into(), format!("bytes {first}-{}/{size}", first + length - 1)));
    }
    let body = if request.method == "HEAD" { Vec::new() } else { blob.body.read(first, length) };
    Response { status, headers, body, content_length: length as usize, chunked: false }
}

fn block_list(blob: &Blob) -> Response {
    let block =
        |(id, bytes): &(String, Arc<Vec<u8>>)| format!("<Block><Name>{id}</Name><Size>{}</Size></Block>", bytes.len());
    let blocks: String = blob.blocks.iter().map(block).collect();
    let list = format!("<BlockList><CommittedBlocks>{blocks}</CommittedBlocks></BlockList>");
    let headers =
        vec![("ETag".to_owned(), blob.etag.clone()), ("Content-Type".to_owned(), "application/xml".to_owned())];
    Response { status: 200, headers, content_length: list.len(), body: list.into_bytes(), chunked: false }
}

/// The response to List Blobs. Like the service it is chunked, if the client speaks HTTP/1.1.
fn listing_page(request: &Request, page: Result<Page, Refusal>) -> Response {
    let body = match page {
        Ok(page) => page.xml(),
        Err(refused) => return refusal(refused),
    };
    let headers = vec![("Content-Type".to_owned(), "application/xml".to_owned())];
    Response { status: 200, headers, content_length: body.len(), body, chunked: request.version == "HTTP/1.1" }
}

/// An error response.
pub fn refusal((status, code): Refusal) -> Response {
    let body = match status {
        304 => Vec::new(),
        _ => format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Error><Code>{code}</Code><Message>As the test asked.\nTime:now</Message></Error>").into_bytes(),
    };
    let headers = if code.is_empty() { Vec::new() } else { vec![("x-ms-error-code".to_owned(), code.to_owned())] };
    Response { status, headers, content_length: body.len(), body, chunked: false }
}
