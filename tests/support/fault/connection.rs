//! One connection to the fault server: read a request, answer it, or break it as its fault says.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::http::{self, Headers};
use super::listing::Page;
use super::percent::percent_decode;
use super::socket::{reset, wait_until_received};
use super::spoil::{spoil, without_range};
use super::store::{Blob, Body, Refusal, Store};
use super::{Death, Fault, Request, Shared, checksums, listing};

/// The name of the header that repeats the request's.
pub(super) const ECHO: &str = "x-ms-client-request-id";

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Headers,
    pub(super) body: Vec<u8>,
    /// A HEAD's answer tells a length without having a body.
    pub(super) content_length: usize,
    /// Sent in chunks, without a length.
    pub(super) chunked: bool,
}

pub fn serve(stream: &TcpStream, number: usize, shared: &Shared) {
    // A body must not wait until the peer has acknowledged its head, 40 ms later. Refused when the peer is gone.
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    // A peer that goes away ends its connection and no more.
    while let Ok(Some((line, headers))) = http::read_head(&mut reader) {
        match shared.death(number) {
            None => {}
            // Refused when the peer is gone already.
            Some(Death::Reset) => return drop(reset(stream)),
            Some(Death::Close) => return,
            Some(Death::Silence) => return shared.wait_until_stopped(),
        }
        let mut words = line.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body_length = http::header(&headers, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        let request = shared.note(Request {
            method: method.into(),
            path: path.into(),
            query: query.into(),
            version: words.next().unwrap_or_default().into(),
            headers,
            body_length,
            index: 0,
            arrived: Instant::now(),
            answered: None,
        });
        let fault = shared.fault(&request);

        let flying = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.peak_in_flight.fetch_max(flying, Ordering::SeqCst);
        let outcome = answer(stream, &mut reader, shared, &request, fault);
        shared.in_flight.fetch_sub(1, Ordering::SeqCst);
        if !matches!(outcome, Ok(true)) || request.version == "HTTP/1.0" {
            return;
        }
    }
}

/// Answers one request; true when the connection can take another.
fn answer(
    mut stream: &TcpStream,
    reader: &mut impl Read,
    shared: &Shared,
    request: &Request,
    fault: Option<Fault>,
) -> io::Result<bool> {
    match fault {
        Some(Fault::NeverReadBody) => return reset(stream).map(|()| false),
        Some(Fault::NeverRead) => {
            shared.wait_until_stopped();
            return Ok(false);
        }
        _ => {}
    }
    let mut body = vec![0; request.body_length as usize];
    reader.read_exact(&mut body)?;
    if let Some(Fault::FlipSentByte(at)) = fault {
        body[at as usize] ^= 1;
    }
    if let Some(Fault::Delay(delay)) = fault {
        thread::sleep(delay);
    }
    let mut answer = match &fault {
        Some(Fault::Status { status, code, retry_after }) => {
            let mut refused = refusal((*status, code));
            refused.headers.extend(retry_after.map(|seconds| ("Retry-After".into(), seconds.to_string())));
            refused
        }
        Some(Fault::Redirect(to)) => {
            let mut moved = refusal((307, ""));
            moved.headers.push(("Location".into(), to.clone()));
            moved
        }
        Some(Fault::Silence) => {
            shared.wait_until_stopped();
            return Ok(false);
        }
        Some(Fault::Reset { after: None }) => return reset(stream).map(|()| false),
        Some(Fault::Close { after: None }) => return stream.shutdown(Shutdown::Both).map(|()| false),
        Some(Fault::DoneBut { status, code }) => {
            vouched_for(shared, request, body);
            refusal((*status, code))
        }
        Some(Fault::WholeBlob) => carry_out(shared, &without_range(request), body),
        _ => vouched_for(shared, request, body),
    };
    shared.spend(request.body_length + answer.body.len() as u64);
    answer.headers.extend(request.header("x-ms-client-request-id").map(|id| (ECHO.to_owned(), id.to_owned())));
    let trailing = fault.as_ref().map_or(0, |fault| spoil(&mut answer, fault));
    if request.method == "HEAD" {
        answer.body.clear();
    } else {
        answer.content_length = answer.body.len();
    }
    let mut head = format!("HTTP/1.1 {} \r\n", answer.status);
    if answer.chunked {
        answer.body = in_chunks(&answer.body);
        head += "Transfer-Encoding: chunked\r\n";
    } else {
        head += &format!("Content-Length: {}\r\n", answer.content_length);
    }
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("x-ms-request-id: request-{}\r\nx-ms-version: 2021-12-02\r\n\r\n", request.index);
    shared.note_answer(request);
    let sent = |after: u64| &answer.body[..answer.body.len().min(after as usize)];

    match fault {
        Some(Fault::LoseAnswer) => reset(stream)?,
        Some(Fault::Reset { after: Some(after) }) => {
            stream.write_all(head.as_bytes())?;
            send(stream, shared, sent(after))?;
            wait_until_received(stream)?;
            reset(stream)?;
        }
        Some(Fault::Close { after: Some(after) }) => {
            stream.write_all(head.as_bytes())?;
            send(stream, shared, sent(after))?;
            stream.shutdown(Shutdown::Both)?;
        }
        Some(Fault::StallAfterHead) => {
            stream.write_all(head.as_bytes())?;
            shared.wait_until_stopped();
        }
        Some(Fault::Trickle(pause)) => {
            stream.write_all(head.as_bytes())?;
            for byte in &answer.body {
                stream.write_all(&[*byte])?;
                thread::sleep(pause);
            }
            return Ok(true);
        }
        _ => {
            stream.write_all(head.as_bytes())?;
            send(stream, shared, &answer.body)?;
            send(stream, shared, &vec![b'X'; trailing as usize])?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// The same with the checksums that the server knows.
fn vouched_for(shared: &Shared, request: &Request, body: Vec<u8>) -> Answer {
    let knows = shared.state().knows;
    let sums = match checksums::of_upload(knows, request, &body) {
        Ok(sums) => sums,
        Err(code) => return refusal((400, code)),
    };
    let mut answer = carry_out(shared, request, body);
    match answer.status {
        206 => {
            let (sums, body) = checksums::of_range(knows, request, answer.body);
            answer.headers.extend(sums);
            answer.body = body;
        }
        201 => answer.headers.extend(sums),
        _ => {}
    }
    answer
}

/// What a true service does and answers.
fn carry_out(shared: &Shared, request: &Request, body: Vec<u8>) -> Answer {
    let path = percent_decode(&request.path);
    let mut state = shared.state();
    if request.verb() == "list" {
        let limit = state.page_limits.pop_front().or(state.page_size).unwrap_or(usize::MAX);
        let page = listing::page(&state.store, request, limit);
        drop(state);
        return list(request, page);
    }
    let ranges_first = state.ranges_first;
    let store = &mut state.store;
    if request.query("restype").is_some() {
        return container(store, request, &path);
    }
    let blob = store.get(&path);
    if let (Some(with_etag), Some(blob)) = (ranges_first, &blob)
        && request.verb() == "GET"
        && request.range().is_some()
        && blob.body.size() == 0
    {
        drop(state);
        let mut refused = read(request, blob);
        refused.headers.extend(with_etag.then(|| ("ETag".to_owned(), blob.etag.clone())));
        return refused;
    }
    if let Some(refused) = condition_broken(request, blob.as_ref()) {
        return refused;
    }
    let done = |status, etag: Option<String>| {
        let headers = etag.map(|etag| ("ETag".to_owned(), etag)).into_iter().collect();
        Answer { status, headers, body: Vec::new(), content_length: 0, chunked: false }
    };
    match (request.verb(), blob) {
        ("GET" | "HEAD", None) => refusal((404, "BlobNotFound")),
        ("GET" | "HEAD", Some(blob)) => {
            // Making a large body must not hold up the other connections.
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

/// What is done with a container itself.
fn container(store: &mut Store, request: &Request, path: &str) -> Answer {
    let answer = |status, headers| Answer { status, headers, body: Vec::new(), content_length: 0, chunked: false };
    match (request.method.as_str(), store.container(path)) {
        ("PUT", None) => {
            store.put_container(path, metadata(request));
            answer(201, Headers::new())
        }
        ("PUT", Some(_)) => refusal((409, "ContainerAlreadyExists")),
        ("GET" | "HEAD", Some(metadata)) => answer(200, metadata),
        ("GET" | "HEAD", None) => refusal((404, "ContainerNotFound")),
        _ => refusal((405, "UnsupportedHttpVerb")),
    }
}

fn metadata(request: &Request) -> Headers {
    request.headers.iter().filter(|(name, _)| name.starts_with("x-ms-meta-")).cloned().collect()
}

fn condition_broken(request: &Request, blob: Option<&Blob>) -> Option<Answer> {
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

fn read(request: &Request, blob: &Blob) -> Answer {
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
    Answer { status, headers, body, content_length: length as usize, chunked: false }
}

fn block_list(blob: &Blob) -> Answer {
    let block =
        |(id, bytes): &(String, Arc<Vec<u8>>)| format!("<Block><Name>{id}</Name><Size>{}</Size></Block>", bytes.len());
    let blocks: String = blob.blocks.iter().map(block).collect();
    let list = format!("<BlockList><CommittedBlocks>{blocks}</CommittedBlocks></BlockList>");
    let headers =
        vec![("ETag".to_owned(), blob.etag.clone()), ("Content-Type".to_owned(), "application/xml".to_owned())];
    Answer { status: 200, headers, content_length: list.len(), body: list.into_bytes(), chunked: false }
}

/// Chunked for who can take it, as the service sends listings.
fn list(request: &Request, page: Result<Page, Refusal>) -> Answer {
    let body = match page {
        Ok(page) => page.xml(),
        Err(refused) => return refusal(refused),
    };
    let headers = vec![("Content-Type".to_owned(), "application/xml".to_owned())];
    Answer { status: 200, headers, content_length: body.len(), body, chunked: request.version == "HTTP/1.1" }
}

fn in_chunks(body: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(body.len() + 64);
    for chunk in body.chunks(64 << 10) {
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}

fn refusal((status, code): Refusal) -> Answer {
    let body = match status {
        304 => Vec::new(),
        _ => format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Error><Code>{code}</Code><Message>As the test asked.\nTime:now</Message></Error>").into_bytes(),
    };
    let headers = if code.is_empty() { Vec::new() } else { vec![("x-ms-error-code".to_owned(), code.to_owned())] };
    Answer { status, headers, content_length: body.len(), body, chunked: false }
}

fn send(mut stream: &TcpStream, shared: &Shared, body: &[u8]) -> io::Result<()> {
    let Some(bytes_per_second) = shared.state().bytes_per_second else { return stream.write_all(body) };
    for chunk in body.chunks(64 << 10) {
        stream.write_all(chunk)?;
        thread::sleep(Duration::from_secs_f64(chunk.len() as f64 / bytes_per_second as f64));
    }
    Ok(())
}
