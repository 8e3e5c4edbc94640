//! Responses to reads that break off, are wrong or stop. A read resumes where that is safe, and never returns wrong
//! data.

use std::io::SeekFrom;
use std::time::Duration;

use aztorch::{Result, Status};

use crate::support::client::{client, client_with, read_at, read_blob, read_rest};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer, Request};

const CONTENT: Content = Content { seed: 81, size: 20 << 20 };
/// Beyond everything that `open` can have fetched.
const FAR: u64 = 13 << 20;

fn server() -> FaultServer {
    let server = FaultServer::start();
    server.put_content("blob", CONTENT);
    server
}

fn covers(request: &Request, offset: u64) -> bool {
    request.range().is_some_and(|(first, last)| (first..=last).contains(&offset))
}

#[test]
fn a_broken_body_is_resumed_where_it_broke() {
    // The response at offset 0 belongs to `open`, the other ones to a read.
    for (offset, broken_after) in [(0, 100_000), (FAR, 300_000), (FAR, 0)] {
        for reset in [false, true] {
            let server = server();
            let client = client();
            let fault = if reset {
                Fault::Reset { after: Some(broken_after) }
            } else {
                Fault::Close { after: Some(broken_after) }
            };
            let broken = std::sync::atomic::AtomicBool::new(false);
            server.on_request(move |request| {
                let first = covers(request, offset) && !broken.swap(true, std::sync::atomic::Ordering::SeqCst);
                first.then(|| fault.clone())
            });
            let reader = client.open(&server.url("blob")).unwrap();
            assert_same(&read_at(&reader, offset, 1 << 20).unwrap(), &CONTENT.bytes(offset, 1 << 20));

            let requests = server.requests();
            let at = requests.iter().position(|request| covers(request, offset)).unwrap();
            let (first, last) = requests[at].range().unwrap();
            let resumed = requests.iter().find(|request| {
                request.range().is_some_and(|range| range.0 == first + broken_after) && request.index > at
            });
            let resumed = resumed
                .unwrap_or_else(|| panic!("no request from {} on: {:?}", first + broken_after, ranges(&requests)));
            assert!(resumed.range().unwrap().1 <= last);
            assert_eq!(resumed.header("if-match"), Some(reader.etag()));
        }
    }
}

fn ranges(requests: &[Request]) -> Vec<(u64, u64)> {
    requests.iter().filter_map(Request::range).collect()
}

#[test]
fn bodies_that_break_repeatedly_arrive_if_each_makes_progress() {
    let server = server();
    // There are more breaks than retries, but each response brings some bytes.
    server.on_request(|_| Some(Fault::Close { after: Some(700_000) }));
    let reader = client().open(&server.url("blob")).unwrap();
    assert_same(&read_rest(&reader).unwrap(), &CONTENT.all());
}

/// Reads under a fault, once or on every request. The library may recover or fail, but must not return wrong bytes.
#[track_caller]
fn read_with_fault(fault: &Fault, lasting: bool) -> Result<Vec<u8>> {
    let server = server();
    if lasting {
        let fault = fault.clone();
        server.on_request(move |request| covers(request, FAR).then(|| fault.clone()));
    } else {
        let (fault, done) = (fault.clone(), std::sync::atomic::AtomicBool::new(false));
        server.on_request(move |request| {
            let first = covers(request, FAR) && !done.swap(true, std::sync::atomic::Ordering::SeqCst);
            first.then(|| fault.clone())
        });
    }
    let client = client_with(|options| options.set_max_retries(2));
    let result = client.open(&server.url("blob")).and_then(|reader| read_at(&reader, FAR, 3 << 20));
    if let Ok(bytes) = &result {
        assert_same(bytes, &CONTENT.bytes(FAR, 3 << 20));
    }
    assert!(server.requests().iter().any(|request| covers(request, FAR)), "no request had the fault");
    result
}

#[test]
fn a_single_wrong_response_is_corrected() {
    for fault in [
        Fault::ShortRange(1),
        Fault::ShortRange(1 << 20),
        Fault::ShiftedRange(1),
        Fault::ShiftedRange(4096),
        Fault::ShortBody(1),
        Fault::ShortBody(1 << 20),
        Fault::LongBody(1),
        Fault::LongBody(1 << 20),
        Fault::TrailingBytes(1),
        Fault::TrailingBytes(100_000),
        Fault::WholeBlob,
    ] {
        read_with_fault(&fault, false).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    }
}

#[test]
fn wrong_responses_to_every_request_are_an_error() {
    for fault in [Fault::ShiftedRange(1), Fault::ShortBody(1 << 20), Fault::LongBody(1), Fault::WholeBlob] {
        let Err(error) = read_with_fault(&fault, true) else { panic!("{fault:?} was accepted as data") };
        let status = error.status();
        assert!(matches!(status, Status::Corrupt | Status::Unavailable), "{fault:?}: {error}");
        expect_error::<()>(Err(error), status);
    }
}

#[test]
fn a_response_with_another_etag_is_modified() {
    let error = expect_error(read_with_fault(&Fault::OtherETag, true), Status::Modified);
    assert!(error.message().contains("/blob"), "{error}");
}

#[test]
fn a_wrong_response_to_open_is_an_error() {
    let content = Content::new(82, 1 << 20);
    for fault in [Fault::ShiftedRange(1), Fault::ShortBody(1), Fault::LongBody(1)] {
        let server = FaultServer::start();
        server.put_content("blob", content);
        let lasting = fault.clone();
        server.on_request(move |_| Some(lasting.clone()));
        let client = client_with(|options| options.set_max_retries(1));
        let result = client.open(&server.url("blob")).and_then(|reader| read_rest(&reader));
        assert!(result.is_err(), "{fault:?} was accepted as data");
    }
}

#[test]
fn bytes_after_a_response_are_not_read_as_the_next_response() {
    let server = FaultServer::start();
    server.put("first", b"first".to_vec());
    server.put("second", b"second".to_vec());
    server.script("GET", [Fault::TrailingBytes(1000)]);
    let client = client();
    assert_eq!(read_blob(&client, &server.url("first")).unwrap(), b"first");
    assert_eq!(read_blob(&client, &server.url("second")).unwrap(), b"second");
}

#[test]
fn a_pooled_connection_that_the_server_closed_is_not_an_error() {
    let server = FaultServer::start();
    server.put("blob", b"0123456789".to_vec());
    // The server closes the connection after each whole response.
    server.on_request(|_| Some(Fault::Close { after: Some(u64::MAX) }));
    let client = client();
    for _ in 0..20 {
        assert_eq!(read_blob(&client, &server.url("blob")).unwrap(), b"0123456789");
    }
}

#[test]
fn a_body_that_stops_is_a_timeout_and_the_buffer_stays_untouched() {
    let server = server();
    server.on_request(|request| covers(request, FAR).then_some(Fault::StallAfterHead));
    let reader = client().with_timeout(Some(Duration::from_millis(300))).open(&server.url("blob")).unwrap();
    let mut buffer = vec![0x55; 1 << 20];
    expect_error(reader.read_at(FAR, &mut buffer), Status::Timeout);
    // From here on the abandoned read must not write into the buffer.
    buffer.fill(0x77);
    drop(server);
    assert!(buffer.iter().all(|byte| *byte == 0x77));
}

#[test]
fn a_failed_read_keeps_the_position() {
    let server = server();
    server.on_request(|request| covers(request, FAR).then(|| Fault::status(403, "AuthorizationFailure")));
    let reader = client().open(&server.url("blob")).unwrap();
    reader.seek(std::io::SeekFrom::Start(FAR)).unwrap();
    expect_error(reader.read(&mut vec![0; 5 << 20]), Status::PermissionDenied);
    assert_eq!(reader.position().unwrap(), FAR);
    server.on_request(|_| None);
    assert_same(&read_rest(&reader).unwrap(), &CONTENT.bytes(FAR, (CONTENT.size - FAR) as usize));
}

#[test]
fn a_failed_chunk_is_requested_again_by_the_next_read() {
    for by_position in [true, false] {
        let server = FaultServer::start();
        let content = Content::new(82, 10_000);
        server.put_content("blob", content);
        server.script("GET", [Fault::Reset { after: Some(1000) }]);
        let reader = client_with(|options| options.set_max_retries(0)).open(&server.url("blob")).unwrap();
        let read = || match by_position {
            true => read_at(&reader, 5000, 100),
            false => reader.seek(SeekFrom::Start(5000)).and_then(|_| {
                let mut bytes = vec![0; 100];
                reader.read(&mut bytes).map(|_| bytes)
            }),
        };
        // The first read may find that the chunk has failed, or wait for it and return its error.
        match read() {
            Ok(bytes) => assert_same(&bytes, &content.bytes(5000, 100)),
            Err(error) => assert_eq!(error.status(), Status::Unavailable, "{error}"),
        }
        assert_same(&read().unwrap(), &content.bytes(5000, 100));
        assert!(server.requests().len() > 1);
    }
}
