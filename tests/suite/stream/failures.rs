//! Streams whose requests fail: a permanent error is returned once and its sample skipped; after a transient error the
//! sample is returned later.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use aztorch::{Client, Status, Stream};

use crate::support::azurite::azurite;
use crate::support::client::{client, client_with};
use crate::support::content::assert_same;
use crate::support::error::expect_error;
use crate::support::fault::{Fault, GeneratedBlobs, Request};
use crate::support::streams::{ListedStreams, generated_server, names_from, numbered_names, take_names};

fn client_without_retries() -> Client {
    client_with(|options| options.set_max_retries(0))
}

fn is_of(request: &Request, index: u64) -> bool {
    request.path.ends_with(&GeneratedBlobs::name(index))
}

/// Reads the rest of the stream; returns the positions and the errors.
fn drain(stream: &Stream) -> (Vec<u64>, Vec<Status>) {
    let (mut positions, mut errors) = (Vec::new(), Vec::new());
    for _ in 0..10_000 {
        match stream.next() {
            Ok(Some(sample)) => positions.push(sample.position()),
            Ok(None) => return (positions, errors),
            Err(error) => errors.push(error.status()),
        }
    }
    panic!("no end after {positions:?} and {errors:?}");
}

#[test]
fn a_permanent_error_is_returned_once_and_the_sample_skipped() {
    for (fault, expected) in [
        (Fault::status(404, "BlobNotFound"), Status::NotFound),
        (Fault::status(403, "AuthorizationFailure"), Status::PermissionDenied),
        (Fault::status(409, "BlobArchived"), Status::Rejected),
    ] {
        let (server, blobs, url) = generated_server(20, 1000);
        server.on_request(move |request| is_of(request, 7).then(|| fault.clone()));
        let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
        for index in 0..20 {
            if index == 7 {
                let error = expect_error(stream.next(), expected);
                assert!(error.message().contains(&GeneratedBlobs::name(7)), "{error}");
                continue;
            }
            // The positions of the other samples do not change.
            let sample = stream.next().unwrap().unwrap();
            assert_eq!(sample.position(), index);
            assert_same(sample.bytes(), &blobs.content(index).all());
        }
        assert!(stream.next().unwrap().is_none());
    }
}

#[test]
fn blobs_deleted_after_the_listing_are_not_found_once() {
    let container = azurite().container();
    for name in ["a", "b", "c", "d"] {
        container.put(name, name.as_bytes());
    }
    let stream = Stream::list(&client(), &container.url(), None, 0, 1).unwrap();
    assert_eq!(stream.next().unwrap().unwrap().name(), "a");
    container.send("DELETE", "c", &[], b"").expect(202);
    let (positions, errors) = drain(&stream);
    // The deleted blob may have been prefetched already.
    assert!(
        (positions == [1, 3] && errors == [Status::NotFound]) || positions == [1, 2, 3],
        "{positions:?} {errors:?}"
    );
    stream.reset().unwrap();
    assert_eq!(drain(&stream), (vec![0, 1, 2], vec![]));
}

#[test]
fn after_a_transient_error_the_next_call_returns_the_sample() {
    for (fault, expected) in [
        (Fault::status(503, "ServerBusy"), Status::Throttled),
        (Fault::status(500, "InternalError"), Status::Unavailable),
        (Fault::Reset { after: None }, Status::Unavailable),
    ] {
        let (server, blobs, url) = generated_server(20, 1000);
        let left = Mutex::new(4);
        server.on_request(move |request| {
            let mut left = left.lock().unwrap();
            let fails = is_of(request, 7) && *left > 0;
            *left -= i32::from(fails);
            fails.then(|| fault.clone())
        });
        let stream = Stream::list(&client_without_retries(), &url, None, 0, 1).unwrap();
        let mut seen = Vec::new();
        let mut failures = 0;
        loop {
            match stream.next() {
                Ok(Some(sample)) => {
                    assert_same(sample.bytes(), &blobs.content(sample.position()).all());
                    seen.push(sample.position());
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(error.message().contains(&GeneratedBlobs::name(7)), "{error}");
                    expect_error::<()>(Err(error), expected);
                    failures += 1;
                }
            }
        }
        assert!((1..=4).contains(&failures), "{failures} failures");
        assert_eq!(
            seen,
            (0..20).collect::<Vec<_>>(),
            "the sample is retried by the next call, so the order does not change"
        );
    }
}

#[test]
fn after_a_timeout_the_sample_is_returned_later() {
    let (server, blobs, url) = generated_server(5, 1000);
    let stalled = Mutex::new(BTreeSet::new());
    server.on_request(move |request| {
        let first = stalled.lock().unwrap().insert(request.path.clone());
        (request.verb() == "GET" && first).then_some(Fault::StallAfterHead)
    });
    let with_short_timeout = client_with(|options| options.set_timeout(Some(Duration::from_millis(400))));
    let stream = Stream::list(&with_short_timeout, &url, None, 0, 1).unwrap();
    let mut seen = BTreeSet::new();
    let mut timeouts = 0;
    while seen.len() < 5 {
        match stream.next() {
            Ok(sample) => {
                let sample = sample.expect("a sample before the end");
                assert_same(sample.bytes(), &blobs.content(sample.position()).all());
                assert!(seen.insert(sample.position()));
            }
            Err(error) => {
                expect_error::<()>(Err(error), Status::Timeout);
                timeouts += 1;
                assert!(timeouts < 20);
            }
        }
    }
    assert!(timeouts > 0);
    assert!(stream.next().unwrap().is_none());
}

#[test]
fn other_threads_retry_samples_after_transient_errors() {
    let (server, _, url) = generated_server(400, 1000);
    let tries = Mutex::new(std::collections::HashMap::new());
    server.on_request(move |request| {
        let mut tries = tries.lock().unwrap();
        let count = tries.entry(request.path.clone()).or_insert(0);
        *count += 1;
        // One blob in seven fails permanently; a third of the other ones fail twice.
        match request.path.bytes().map(u64::from).sum::<u64>() {
            _ if request.verb() != "GET" => None,
            sum if sum % 7 == 0 => Some(Fault::status(404, "BlobNotFound")),
            sum if sum % 3 == 0 && *count <= 2 => Some(Fault::status(503, "ServerBusy")),
            _ => None,
        }
    });
    let stream = Stream::list(&client_without_retries(), &url, None, 0, 1).unwrap();
    stream.set_shuffle(100, 1).unwrap();
    let outcome = Mutex::new((Vec::new(), 0, 0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let next = stream.next();
                    let mut outcome = outcome.lock().unwrap();
                    match next {
                        Ok(Some(sample)) => outcome.0.push(sample.position()),
                        Ok(None) => return,
                        // At most one error per blob.
                        Err(error) if error.status() == Status::NotFound && outcome.1 < 400 => outcome.1 += 1,
                        Err(error) if error.status() == Status::Throttled => outcome.2 += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    // A thread may have seen the end before a sample of another thread failed.
    let (late, errors) = drain(&stream);
    let (mut positions, mut missing, throttled) = outcome.into_inner().unwrap();
    positions.extend(late);
    missing += errors.iter().filter(|status| **status == Status::NotFound).count();
    positions.sort_unstable();
    let distinct = positions.len();
    positions.dedup();
    assert_eq!(positions.len(), distinct, "a sample was returned twice");
    assert!(missing > 20 && throttled > 20, "{missing} missing, {throttled} throttled");
    assert_eq!(distinct + missing, 400, "{missing} missing, {throttled} throttled");
}

#[test]
fn a_failed_page_is_requested_again() {
    for (fault, expected) in [
        (Fault::status(503, "ServerBusy"), Status::Throttled),
        (Fault::status(500, "InternalError"), Status::Unavailable),
        (Fault::Reset { after: Some(2000) }, Status::Unavailable),
        (Fault::ShortBody(3000), Status::Corrupt),
    ] {
        for broken in 0..4 {
            for buffer in [None, Some(25)] {
                let (server, _, url) = generated_server(100, 1000);
                server.set_page_size(30);
                let pages = Mutex::new(0);
                let fault = fault.clone();
                server.on_request(move |request| {
                    if request.verb() != "list" {
                        return None;
                    }
                    let mut pages = pages.lock().unwrap();
                    *pages += 1;
                    (*pages - 1 == broken).then(|| fault.clone())
                });
                let stream = Stream::list(&client_without_retries(), &url, None, 0, 1).unwrap();
                if let Some(buffer) = buffer {
                    stream.set_shuffle(buffer, 1).unwrap();
                }
                let (positions, errors) = drain(&stream);
                assert_eq!(positions, (0..100).collect::<Vec<_>>(), "page {broken}");
                assert_eq!(errors, [expected], "page {broken}");
                let markers: Vec<_> =
                    server.requests_of("list").iter().map(|page| page.query("marker").map(str::to_owned)).collect();
                assert_eq!(markers.len(), 5, "only the failed page is requested again");
                assert_eq!(markers[broken], markers[broken + 1]);
            }
        }
    }
}

#[test]
fn retries_within_a_call_hide_transient_faults() {
    let (server, _, url) = generated_server(100, 1000);
    server.set_page_size(30);
    server.on_request(|request| match request.index % 5 {
        0 => Some(Fault::status(503, "")),
        3 => Some(Fault::Reset { after: Some(500) }),
        _ => None,
    });
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    assert_eq!(drain(&stream), ((0..100).collect(), vec![]));
}

#[test]
fn a_denied_listing_fails_until_it_is_permitted() {
    let (server, _, url) = generated_server(10, 1000);
    server.on_request(|request| (request.verb() == "list").then(|| Fault::status(403, "AuthorizationFailure")));
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    for _ in 0..3 {
        expect_error(stream.next(), Status::PermissionDenied);
    }
    server.on_request(|_| None);
    assert_eq!(drain(&stream), ((0..10).collect(), vec![]));
}

#[test]
fn an_error_before_a_reset_is_not_returned_after_it() {
    let (server, _, url) = generated_server(10, 1000);
    server.on_request(|request| (request.verb() == "GET").then(|| Fault::status(503, "")));
    let stream = Stream::list(&client_without_retries(), &url, None, 0, 1).unwrap();
    expect_error(stream.next(), Status::Throttled);
    server.on_request(|_| None);
    stream.reset().unwrap();
    assert_eq!(drain(&stream), ((0..10).collect(), vec![]));
}

#[test]
fn an_error_during_a_reset_by_another_thread_is_not_returned_after_it() {
    let (server, _, url) = generated_server(10, 1000);
    server.on_request(|request| {
        (request.verb() == "GET").then(|| {
            std::thread::sleep(Duration::from_millis(200));
            Fault::status(503, "")
        })
    });
    let stream = Stream::list(&client_without_retries(), &url, None, 0, 1).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| stream.next());
        while server.requests_of("GET").is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        stream.reset().unwrap();
        expect_error(first.join().unwrap(), Status::Throttled);
    });
    server.on_request(|_| None);
    assert_eq!(drain(&stream), ((0..10).collect(), vec![]));
}

#[test]
fn a_cursor_after_a_transient_error_includes_the_failed_sample() {
    let streams = ListedStreams::new(numbered_names(0..30), 10, None);
    let client = client_with(|options| options.set_max_retries(0));
    let stream = || Stream::list(&client, &streams.url, None, 0, 1).unwrap();
    let begun = stream();
    for _ in 0..3 {
        begun.next().unwrap();
    }
    streams
        .server
        .on_request(|request| (request.path.ends_with("blob-0003")).then(|| Fault::status(503, "ServerBusy")));
    // The first stream may have prefetched the blob; a second one has not.
    let second = stream();
    second.resume(&begun.cursor(None).unwrap()).unwrap();
    expect_error(second.next(), Status::Throttled);
    let cursor = second.cursor(None).unwrap();
    drop(second);
    streams.server.on_request(|_| None);
    let third = stream();
    third.resume(&cursor).unwrap();
    let rest: Vec<_> = std::iter::from_fn(|| third.next().unwrap())
        .map(|sample| (sample.position(), sample.name().to_owned()))
        .collect();
    let expected: Vec<_> = (3..).zip(numbered_names(3..30)).collect();
    assert_eq!(rest, expected, "the failed sample is missing");
}

#[test]
fn a_listing_that_fails_during_a_resume_is_retried() {
    let streams = ListedStreams::new(numbered_names(0..100), 10, Some((30, 2)));
    let begun = streams.unsharded();
    let names = take_names(&begun, 55);
    let cursor = begun.cursor(None).unwrap();
    let rest = names_from(&begun, 55);
    for broken in 0..9 {
        let client = client_with(|options| options.set_max_retries(0));
        let stream = Stream::list(&client, &streams.url, None, 0, 1).unwrap();
        stream.set_shuffle(30, 2).unwrap();
        stream.set_lazy().unwrap();
        stream.resume(&cursor).unwrap();
        streams.server.script("list", (0..broken).map(|_| Fault::Delay(Duration::ZERO)));
        streams.server.script("list", [Fault::status(503, "ServerBusy")]);
        let (mut seen, mut errors) = (Vec::new(), 0);
        loop {
            match stream.next() {
                Ok(Some(sample)) => seen.push(sample.name().to_owned()),
                Ok(None) => break,
                Err(error) => {
                    expect_error::<()>(Err(error), Status::Throttled);
                    errors += 1;
                }
            }
        }
        assert_eq!((seen, errors), (rest.clone(), 1), "page {broken}");
    }
    assert_eq!(names.len() + rest.len(), 100);
}
