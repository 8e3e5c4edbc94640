//! One connection to the fault server: reads each request, and responds to it or breaks it as its fault says.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::corrupt::{corrupt, without_range};
use super::http;
use super::service::{REQUEST_ID, execute, execute_with_checksums, refusal};
use super::socket::{reset, wait_until_received};
use super::state::Shared;
use super::{DeadConnection, Fault, Request};

pub fn serve(stream: &TcpStream, number: usize, shared: &Shared) {
    // Without TCP_NODELAY a body waits until the peer has acknowledged its head, 40 ms later. An error means that the
    // peer is gone.
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    // An error of the peer ends this connection only.
    while let Ok(Some((line, headers))) = http::read_head(&mut reader) {
        match shared.dead_connection(number) {
            None => {}
            // An error means that the peer is gone.
            Some(DeadConnection::Reset) => return drop(reset(stream)),
            Some(DeadConnection::Close) => return,
            Some(DeadConnection::Silence) => return shared.wait_until_stopped(),
        }
        let mut words = line.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body_length = http::header(&headers, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        let request = shared.record(Request {
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

        let in_flight = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.peak_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        let outcome = respond(stream, &mut reader, shared, &request, fault);
        shared.in_flight.fetch_sub(1, Ordering::SeqCst);
        if !matches!(outcome, Ok(true)) || request.version == "HTTP/1.0" {
            return;
        }
    }
}

/// Responds to one request; returns whether the connection can be used again.
fn respond(
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
    let mut response = match &fault {
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
        Some(Fault::ExecuteThenStatus { status, code }) => {
            execute_with_checksums(shared, request, body);
            refusal((*status, code))
        }
        Some(Fault::WholeBlob) => execute(shared, &without_range(request), body),
        _ => execute_with_checksums(shared, request, body),
    };
    shared.spend(request.body_length + response.body.len() as u64);
    response.headers.extend(request.header(REQUEST_ID).map(|id| (REQUEST_ID.to_owned(), id.to_owned())));
    let trailing = fault.as_ref().map_or(0, |fault| corrupt(&mut response, fault));
    if request.method == "HEAD" {
        response.body.clear();
    } else {
        response.content_length = response.body.len();
    }
    let mut head = format!("HTTP/1.1 {} \r\n", response.status);
    if response.chunked {
        response.body = in_chunks(&response.body);
        head += "Transfer-Encoding: chunked\r\n";
    } else {
        head += &format!("Content-Length: {}\r\n", response.content_length);
    }
    for (name, value) in &response.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("x-ms-request-id: request-{}\r\nx-ms-version: 2021-12-02\r\n\r\n", request.index);
    shared.record_response(request);
    let sent = |after: u64| &response.body[..response.body.len().min(after as usize)];

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
            for byte in &response.body {
                stream.write_all(&[*byte])?;
                thread::sleep(pause);
            }
            return Ok(true);
        }
        _ => {
            stream.write_all(head.as_bytes())?;
            send(stream, shared, &response.body)?;
            send(stream, shared, &vec![b'X'; trailing as usize])?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// A body in the chunked transfer encoding.
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

/// Sends no faster than the server's bandwidth limit.
fn send(mut stream: &TcpStream, shared: &Shared, body: &[u8]) -> io::Result<()> {
    let Some(bytes_per_second) = shared.state().bytes_per_second else { return stream.write_all(body) };
    for chunk in body.chunks(64 << 10) {
        stream.write_all(chunk)?;
        thread::sleep(Duration::from_secs_f64(chunk.len() as f64 / bytes_per_second as f64));
    }
    Ok(())
}
