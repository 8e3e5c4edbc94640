//! Cancellation from another thread. Every wait of a call ends at once; later calls fail too, and nothing is
//! published.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use aztorch::{BearerToken, BlobWriter, Client, Dataset, Error, Result, Status, Stream, WriteMode};

use crate::support::client::{client, client_with};
use crate::support::content::Content;
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};

const MIB: u64 = 1 << 20;
const CONTENT: Content = Content { seed: 57, size: 64 * MIB };
/// Much longer than a cancellation takes, and much shorter than these calls would wait otherwise.
const PROMPT: Duration = Duration::from_secs(2);

/// Cancels a call that waits; returns its error. The documented limit is 100 ms, but the machine may be busy.
#[track_caller]
fn cancelled<T: Send>(cancel: impl FnOnce(), call: impl FnOnce() -> Result<T> + Send) -> Error {
    cancelled_after(|| true, cancel, call)
}

/// Cancels a call that waits, once `condition` is true; returns its error.
#[track_caller]
fn cancelled_after<T: Send>(
    condition: impl Fn() -> bool,
    cancel: impl FnOnce(),
    call: impl FnOnce() -> Result<T> + Send,
) -> Error {
    let result = thread::scope(|scope| {
        let (sender, receiver) = channel();
        scope.spawn(move || sender.send(call()));
        let reached = (0..300).any(|_| {
            let early = receiver.recv_timeout(Duration::from_millis(200));
            assert!(early.is_err(), "the call did not wait: {:?}", early.map(|result| result.err()));
            condition()
        });
        assert!(reached, "the call did not reach the condition");
        let began = Instant::now();
        cancel();
        let result = receiver.recv().unwrap();
        assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
        result
    });
    expect_error(result, Status::Cancelled)
}

fn server(fault: impl Fn(&str) -> Option<Fault> + Send + Sync + 'static) -> FaultServer {
    let server = FaultServer::start();
    server.put_content("blob", CONTENT);
    server.on_request(move |request| fault(request.verb()));
    server
}

/// A response that comes too late for every test.
fn silence() -> Fault {
    Fault::Delay(Duration::from_secs(60))
}

#[test]
fn cancel_ends_an_open_that_waits_for_its_response() {
    for fault in [silence(), Fault::Status { status: 503, code: "ServerBusy", retry_after: Some(60) }] {
        let server = server(move |_| Some(fault.clone()));
        let (client, url) = (client(), server.url("blob"));
        cancelled(|| client.cancel(), || client.open(&url));
        assert_stays_cancelled(&client, &url);
    }
}

/// Asserts that later calls of a cancelled client fail.
fn assert_stays_cancelled(client: &Client, url: &str) {
    expect_error(client.open(url), Status::Cancelled);
    expect_error(client.exists(url), Status::Cancelled);
    expect_error(client.with_timeout(None).delete(url), Status::Cancelled);
}

#[test]
fn cancel_ends_an_open_that_waits_for_the_tls_handshake() {
    // Accepts the connection and sends nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/account/container/blob?sv=2021-12-02&sig=x", listener.local_addr().unwrap());
    let client = client();
    cancelled(|| client.cancel(), || client.open(&url));
}

#[test]
fn cancel_ends_an_open_that_waits_for_a_token() {
    let server = FaultServer::start();
    // The callback continues; the call that waits for it ends.
    let client = client_with(|options| {
        options.set_token_callback(|_, _| {
            thread::sleep(Duration::from_secs(60));
            BearerToken::new("never", std::time::SystemTime::now())
        })
    });
    // Over http no token is requested.
    let url = server.url("blob").replace("http:", "https:").split('?').next().unwrap().to_owned();
    cancelled(|| client.cancel(), || client.open(&url));
}

#[test]
fn a_cancelled_read_of_a_slow_body_releases_its_buffer() {
    let server = server(|_| None);
    // Stored bytes: to compute them for a response takes too long on a busy machine.
    server.put("blob", CONTENT.all());
    let reader = client().open(&server.url("blob")).unwrap();
    server.limit_bandwidth(2_000_000);
    let mut buffer = vec![0; CONTENT.size as usize];
    let error = cancelled(|| reader.cancel(), || reader.read(&mut buffer));
    assert!(buffer.iter().any(|&byte| byte != 0), "no byte had arrived, so nothing was tested");
    buffer.fill(0xA5);
    thread::sleep(Duration::from_millis(300));
    assert!(buffer.iter().all(|&byte| byte == 0xA5));
    assert!(error.message().contains("cancelled"), "{error}");
    expect_error(reader.read(&mut buffer), Status::Cancelled);
    expect_error(reader.read_at(0, &mut buffer[..1]), Status::Cancelled);
    expect_error(reader.seek(std::io::SeekFrom::Start(0)), Status::Cancelled);
}

#[test]
fn cancel_ends_a_small_read_that_waits_for_the_read_cache() {
    let server = server(|_| Some(Fault::StallAfterHead));
    let reader = client().open(&server.url("blob")).unwrap();
    cancelled(|| reader.cancel(), || reader.read(&mut [0; 100]));
}

#[test]
fn cancel_ends_an_open_that_waits_for_a_concurrency_permit() {
    let server = server(|_| Some(Fault::StallAfterHead));
    let client = client_with(|options| options.set_max_concurrency(1));
    let first = client.open(&server.url("blob")).unwrap();
    // The body of the first reader holds the only permit.
    cancelled(|| client.cancel(), || client.with_timeout(None).open(&server.url("blob")));
    drop(first);
}

fn writer(server: &FaultServer) -> (Client, BlobWriter) {
    let client = client_with(|options| {
        options.set_block_size(MIB)?;
        options.set_memory_limit(4 * MIB)
    });
    let writer = client.writer(&server.url("new"), WriteMode::Replace).unwrap();
    (client, writer)
}

/// Asserts that later calls of a cancelled writer fail and that the blob does not exist.
fn assert_never_publishes(server: &FaultServer, writer: &BlobWriter) {
    server.on_request(|_| None);
    expect_error(writer.write_all(b"more"), Status::Cancelled);
    expect_error(writer.flush(), Status::Cancelled);
    expect_error(writer.close(), Status::Cancelled);
    assert!(server.blob("new").is_none());
}

#[test]
fn cancel_ends_a_writer_that_waits_for_memory_or_for_its_blocks() {
    let pieces: fn(&BlobWriter) -> Result<()> = |writer| {
        for _ in 0..200 {
            writer.write_all(&vec![7; 100 << 10])?;
        }
        Ok(())
    };
    let one_write: fn(&BlobWriter) -> Result<()> = |writer| writer.write_all(&vec![7; 20 << 20]);
    let flush: fn(&BlobWriter) -> Result<()> =
        |writer| writer.write_all(&vec![7; 2 << 20]).and_then(|()| writer.flush());
    let close: fn(&BlobWriter) -> Result<()> =
        |writer| writer.write_all(&vec![7; 2 << 20]).and_then(|()| writer.close());
    for write in [pieces, one_write, flush, close] {
        let server = server(|verb| (verb == "put-block").then(silence));
        let (_client, writer) = writer(&server);
        let error = cancelled(|| writer.cancel(), || write(&writer));
        assert!(!error.message().contains("unknown"), "nothing was committed: {error}");
        assert_never_publishes(&server, &writer);
    }
}

#[test]
fn a_cancelled_commit_has_an_unknown_outcome() {
    for (length, verb) in [(3 * MIB, "put-block-list"), (10, "PUT")] {
        let has_arrived = Arc::new(AtomicBool::new(false));
        let arrives = has_arrived.clone();
        let server = server(move |requested| {
            arrives.fetch_or(requested == verb, Ordering::SeqCst);
            (requested == verb).then(silence)
        });
        let (_client, writer) = writer(&server);
        writer.write_all(&vec![7; length as usize]).unwrap();
        let error = cancelled_after(|| has_arrived.load(Ordering::SeqCst), || writer.cancel(), || writer.close());
        assert!(error.message().contains("the outcome is unknown"), "{error}");
    }
}

#[test]
fn a_closed_writer_stays_closed_after_cancel() {
    let server = server(|_| None);
    let (_client, writer) = writer(&server);
    writer.write_all(b"all").unwrap();
    writer.close().unwrap();
    writer.cancel();
    writer.close().unwrap();
    assert_eq!(server.blob("new").unwrap(), b"all");
}

#[test]
fn cancel_ends_every_way_of_fetching_from_a_dataset() {
    let fetches: [fn(&Dataset) -> Result<()>; 4] = [
        |dataset| dataset.get(0).map(drop),
        |dataset| dataset.get_batch(&[0, 1, 2]).map(drop),
        |dataset| dataset.get_into(0, &mut vec![0; 64 << 20]).map(drop),
        |dataset| dataset.open(0)?.read(&mut [0; 100]).map(drop),
    ];
    for fetch in fetches {
        let server = server(|_| Some(Fault::StallAfterHead));
        let client = client();
        let urls = [server.url("blob"), server.url("blob"), server.url("blob")];
        let dataset = Dataset::from_urls(&client, &urls).unwrap();
        cancelled(|| dataset.cancel(), || fetch(&dataset));
        expect_error(dataset.get(1), Status::Cancelled);
        assert_eq!(dataset.name(1).unwrap(), "blob");
        // The client is not cancelled.
        server.on_request(|_| None);
        client.open(&urls[0]).unwrap();
    }
}

#[test]
fn cancel_ends_a_get_that_waits_for_a_prefetch() {
    let server = server(|_| Some(Fault::StallAfterHead));
    let dataset = Dataset::from_urls(&client(), &[server.url("blob")]).unwrap();
    dataset.prefetch(&[0]).unwrap();
    cancelled(|| dataset.cancel(), || dataset.get(0).map(drop));
}

#[test]
fn cancel_ends_the_listing_of_a_dataset_and_of_a_stream() {
    let server = server(|verb| (verb == "list").then(silence));
    let cancelled_client = client();
    cancelled(
        || cancelled_client.cancel(),
        || Dataset::list(&cancelled_client, &server.container_url(), None).map(drop),
    );
    let stream = Stream::list(&client(), &server.container_url(), None, 0, 1).unwrap();
    cancelled(|| stream.cancel(), || stream.next().map(drop));
    expect_error(stream.next(), Status::Cancelled);
    assert!(!stream.cursor(None).unwrap().is_empty());
}

#[test]
fn cancel_ends_a_stream_that_waits_for_its_samples() {
    let server = server(|_| Some(Fault::StallAfterHead));
    let stream = Stream::from_urls(&client(), &[server.url("blob")], 0, 1).unwrap();
    cancelled(|| stream.cancel(), || stream.next().map(drop));
}

#[test]
fn a_cancelled_download_leaves_no_file() {
    let server = server(|verb| match verb {
        "GET" => Some(Fault::StallAfterHead),
        _ => Some(silence()),
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let downloader = client();
    cancelled(|| downloader.cancel(), || downloader.download(&server.url("blob"), &path));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    std::fs::write(&path, vec![1; 1000]).unwrap();
    let uploader = client();
    cancelled(|| uploader.cancel(), || uploader.upload(&path, &server.url("new"), WriteMode::Replace));
}

#[test]
fn a_client_cancelled_before_a_call_sends_nothing() {
    let server = server(|_| None);
    let (parent, sibling) = (client(), client());
    let derived = parent.with_timeout(Some(Duration::from_secs(10)));
    derived.cancel();
    assert_stays_cancelled(&derived, &server.url("blob"));
    assert!(server.requests().is_empty());
    parent.open(&server.url("blob")).unwrap();
    sibling.open(&server.url("blob")).unwrap();
    let reader = parent.open(&server.url("blob")).unwrap();
    parent.cancel();
    expect_error(reader.read(&mut [0; 10]), Status::Cancelled);
    sibling.open(&server.url("blob")).unwrap();
}

#[test]
fn cancelling_another_handle_first_does_not_prevent_a_cancellation() {
    let server = server(|_| Some(Fault::StallAfterHead));
    let client = client();
    let (one, other) = (client.open(&server.url("blob")).unwrap(), client.open(&server.url("blob")).unwrap());
    let both = || {
        one.cancel();
        thread::sleep(Duration::from_millis(300));
        other.cancel();
    };
    cancelled(both, || other.read_at(0, &mut vec![0; 20 << 20]));
}
