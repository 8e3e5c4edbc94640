//! Statistics, progress callbacks, and advice in the errors of refused requests.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use aztorch::{BlobRange, Client, Dataset, Status, WriteMode};

use crate::support::azurite::azurite;
use crate::support::client::{client, client_with, read_blob, read_rest, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};

const MIB: u64 = 1 << 20;

#[test]
fn statistics_equal_the_servers_counts() {
    let server = FaultServer::start();
    let client = client();
    let content = Content::new(5, 40 * MIB).all();
    server.script("put-block", [Fault::status(503, "ServerBusy"), Fault::status(500, "InternalError")]);
    server.script("GET", [Fault::Reset { after: None }, Fault::status(429, "")]);
    write_blob(&client, &server.url("blob"), WriteMode::Replace, &content).unwrap();
    assert_same(&read_blob(&client, &server.url("blob")).unwrap(), &content);
    let stats = client.stats().unwrap();
    assert_eq!(stats.requests, server.requests().len() as u64);
    assert_eq!(stats.connections_opened, server.connections() as u64);
    assert_eq!((stats.retries, stats.throttled, stats.token_requests), (4, 2, 0));
    assert!(stats.bytes_received >= 40 * MIB && stats.bytes_received < 41 * MIB, "{stats:?}");
    // The bodies of the two refused blocks count as sent.
    let sent: u64 = server.requests().iter().map(|request| request.body_length).sum();
    assert_eq!(stats.bytes_sent, sent);
    assert_eq!(stats.requests_in_flight, 0);
    assert!(stats.caller_wait > Duration::ZERO && stats.memory_peak >= stats.memory_in_use);
}

#[test]
fn statistics_show_requests_in_flight_and_memory_in_use() {
    let server = FaultServer::start();
    server.put_content("blob", Content::new(6, 8 * MIB));
    let client = client();
    server.script("GET", [Fault::Delay(Duration::from_millis(500))]);
    let reading = {
        let (client, url) = (client.clone(), server.url("blob"));
        thread::spawn(move || client.open(&url).unwrap())
    };
    while server.requests().is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.stats().unwrap().requests_in_flight, 1);
    let reader = reading.join().unwrap();
    assert!(client.stats().unwrap().memory_in_use > 0);
    drop(reader);
    // The background releases the memory a little later if bytes are still arriving.
    let end = Instant::now() + Duration::from_secs(10);
    while client.stats().unwrap().memory_in_use > 0 && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.stats().unwrap().memory_in_use, 0);
    // A derived client shares the statistics, another client has its own.
    assert_eq!(client.with_timeout(None).stats().unwrap().requests, 1);
    assert_eq!(client_with(|_| Ok(())).stats().unwrap().requests, 0);
}

/// The arguments and the thread of each call of a progress callback.
type Calls = Arc<Mutex<Vec<(u64, u64, thread::ThreadId)>>>;

/// A progress callback that records its calls, and in which a blocking call must fail.
fn recording_callback() -> (Calls, Arc<dyn Fn(u64, u64) + Send + Sync>) {
    let calls: Calls = Arc::default();
    let list = calls.clone();
    let callback = move |done, total| {
        let refused =
            Client::shared().and_then(|client| client.exists("https://acc.blob.core.windows.net/container/b"));
        assert_eq!(refused.unwrap_err().status(), Status::Unsupported);
        list.lock().unwrap().push((done, total, thread::current().id()));
    };
    (calls, Arc::new(callback))
}

#[test]
fn progress_is_reported_on_the_calling_thread() {
    let server = FaultServer::start();
    let size = 24 * MIB;
    server.put_content("blob", Content::new(7, size));
    server.limit_bandwidth(8 * MIB);
    let reader = client_with(|options| options.set_max_concurrency(2)).open(&server.url("blob")).unwrap();
    let (calls, callback) = recording_callback();
    reader.set_progress(Some(callback)).unwrap();
    assert_eq!(read_rest(&reader).unwrap().len() as u64, size);
    let list = calls.lock().unwrap().clone();
    assert!(list.len() > 2, "a read of more than a second reported progress {} times", list.len());
    assert!(list.iter().all(|(_, total, id)| *total == size && *id == thread::current().id()));
    assert!(list.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{list:?}");
    assert_eq!(list.last().unwrap().0, size);
    reader.set_progress(None).unwrap();
    reader.read_at(0, &mut [0; 10]).unwrap();
    assert_eq!(calls.lock().unwrap().len(), list.len());
}

#[test]
fn the_progress_of_a_range_has_its_length_as_total() {
    let server = FaultServer::start();
    server.put("blob", b"0123456789".to_vec());
    let part = BlobRange { url: server.url("blob"), offset: 2, length: 5 };
    let reader = Dataset::from_ranges(&client(), &[part]).unwrap().open(0).unwrap();
    let (calls, callback) = recording_callback();
    reader.set_progress(Some(callback)).unwrap();
    assert_eq!(read_rest(&reader).unwrap(), b"23456");
    let last = *calls.lock().unwrap().last().unwrap();
    assert_eq!((last.0, last.1), (5, 5));
}

#[test]
fn the_progress_of_a_writer_has_a_total_at_close() {
    let container = azurite().container();
    let content = Content::new(8, 70 * MIB).all();
    let writer = client().writer(&container.blob("blob"), WriteMode::Replace).unwrap();
    let (calls, callback) = recording_callback();
    writer.set_progress(Some(callback)).unwrap();
    writer.write_all(&content).unwrap();
    writer.write_all(b"the end").unwrap();
    writer.close().unwrap();
    let list = calls.lock().unwrap().clone();
    let written = content.len() as u64 + 7;
    let (last, before) = list.split_last().unwrap();
    assert_eq!((last.0, last.1), (written, written));
    assert!(
        !before.is_empty() && before.iter().all(|(done, total, _)| *done <= written && *total == u64::MAX),
        "{list:?}"
    );
}

#[test]
fn the_error_of_an_expired_sas_says_so() {
    let container = azurite().container();
    let expired = container.blob("blob").replace("2099-01-01T00%3A00%3A00Z", "2020-01-01T00%3A00%3A00Z");
    assert_ne!(expired, container.blob("blob"));
    let error = expect_error(client().open(&expired), Status::PermissionDenied);
    assert!(error.message().contains("the SAS expired at 2020-01-01T00:00:00Z"), "{error}");
}

#[test]
fn the_error_of_a_refusal_contains_advice() {
    let server = FaultServer::start();
    server.put("blob", b"some bytes".to_vec());
    for (status, code, advice) in [
        (403, "AuthorizationFailure", "firewall"),
        (403, "KeyBasedAuthenticationNotPermitted", "allows no keys"),
        (409, "PublicAccessNotPermitted", "no public access"),
        (403, "AuthorizationPermissionMismatch", "sp="),
        (401, "NoAuthenticationInformation", "SAS"),
    ] {
        server.script("GET", [Fault::status(status, code)]);
        let error = client().open(&server.url("blob")).err().unwrap();
        assert!(error.message().contains(advice), "{code}: {error}");
    }
}
