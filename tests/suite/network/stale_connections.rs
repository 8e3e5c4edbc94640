//! Idle connections that a NAT or a load balancer has dropped without notice. The first request on such a connection is
//! sent again on a new connection, and does not count as a retry.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use aztorch::{Client, ClientOptions, Result, Status, WriteMode};

use crate::support::client::{client, client_with, read_blob, write_blob};
use crate::support::content::Content;
use crate::support::error::expect_error;
use crate::support::fault::{DeadConnection, Fault, FaultServer};

/// Fewer connections than the pool keeps, and more than there are retries.
const POOLED: usize = 48;
const STALL: Duration = Duration::from_millis(500);

fn server() -> FaultServer {
    let server = FaultServer::start();
    server.put("blob", b"some bytes".to_vec());
    server
}

/// Leaves `POOLED` idle connections in the client's pool.
fn fill_pool(client: &Client, server: &FaultServer) {
    let all_arrived = Barrier::new(POOLED);
    server.on_request(move |_| {
        all_arrived.wait();
        None
    });
    std::thread::scope(|scope| {
        for _ in 0..POOLED {
            scope.spawn(|| assert!(client.exists(&server.url("blob")).unwrap()));
        }
    });
    server.on_request(|_| None);
    assert_eq!(server.connections(), POOLED);
}

fn without_retries(options: &mut ClientOptions) -> Result<()> {
    options.set_max_retries(0)?;
    options.set_stall_timeout(STALL)
}

type Call = fn(&Client, &str) -> Result<()>;

const READS: [(&str, Call); 2] = [
    ("read", |client, url| read_blob(client, url).map(drop)),
    ("exists", |client, url| client.exists(url).map(|exists| assert!(exists))),
];
/// Its body cannot be sent, so it is given up after the stall timeout.
const LARGE_WRITE: (&str, Call) =
    ("write", |client, url| write_blob(client, url, WriteMode::Replace, &vec![1; 32 << 20]).map(drop));
const WRITES: [(&str, Call); 4] = [
    ("replace", |client, url| write_blob(client, url, WriteMode::Replace, b"new").map(drop)),
    ("create", |client, url| {
        write_blob(client, &url.replace("blob?", "created?"), WriteMode::Create, b"new").map(drop)
    }),
    ("large", |client, url| write_blob(client, url, WriteMode::Replace, &Content::new(1, 20 << 20).all()).map(drop)),
    ("delete", |client, url| client.delete(url)),
];

#[test]
fn dead_pooled_connections_cost_no_retry() {
    for behaviour in [DeadConnection::Reset, DeadConnection::Close] {
        for (name, call) in READS.into_iter().chain(WRITES) {
            let (server, client) = (server(), client_with(without_retries));
            fill_pool(&client, &server);
            server.kill_connections(behaviour);
            call(&client, &server.url("blob")).unwrap_or_else(|error| panic!("{name} after {behaviour:?}: {error}"));
            let lost = server.requests_on_dead_connections();
            // A large blob has several blocks in flight.
            assert!(if name == "large" { lost <= 8 } else { lost == 1 }, "{name} used {lost} dead connections");
            for _ in 0..5 {
                write_blob(&client, &server.url("blob"), WriteMode::Replace, b"new").unwrap();
            }
            assert_eq!(
                server.requests_on_dead_connections(),
                lost,
                "{name}: a later call used another dead connection"
            );
        }
    }
}

#[test]
fn after_a_silent_connection_all_pooled_connections_are_discarded() {
    for (name, call) in READS.into_iter().chain([LARGE_WRITE]) {
        let server = server();
        let client = client_with(|options| {
            without_retries(options)?;
            options.set_block_size(64 << 20)
        });
        fill_pool(&client, &server);
        server.kill_connections(DeadConnection::Silence);
        call(&client, &server.url("blob")).unwrap_or_else(|error| panic!("{name}: {error}"));
        call(&client, &server.url("blob")).unwrap();
        assert_eq!(server.requests_on_dead_connections(), 1, "{name}");
        assert_eq!(server.connections(), POOLED + 1, "{name}");
    }
}

/// The deadline comes before the stall timeout.
#[test]
fn after_a_timeout_on_a_silent_connection_all_pooled_connections_are_discarded() {
    let (server, client) = (server(), client());
    fill_pool(&client, &server);
    server.kill_connections(DeadConnection::Silence);
    let with_short_timeout = client.with_timeout(Some(Duration::from_secs(2)));
    expect_error(read_blob(&with_short_timeout, &server.url("blob")), Status::Timeout);
    read_blob(&client, &server.url("blob")).unwrap();
    assert_eq!(server.requests_on_dead_connections(), 1);
}

#[test]
fn after_a_stalled_body_all_pooled_connections_are_discarded() {
    let server = server();
    let client = client_with(|options| options.set_stall_timeout(STALL));
    fill_pool(&client, &server);
    server.on_request(move |request| (request.index == POOLED).then_some(Fault::StallAfterHead));
    assert_eq!(read_blob(&client, &server.url("blob")).unwrap(), b"some bytes");
    assert_eq!(server.connections(), POOLED + 1);
}

/// With an allowance the retries of this many calls would take more than ten seconds.
#[test]
fn a_retry_after_a_dead_connection_takes_no_retry_allowance() {
    const CALLS: usize = 350;
    let (server, client) = (server(), client_with(without_retries));
    // Each call but the first one uses a pooled connection, which is reset, and then a new one.
    server.on_request(|request| (request.index % 2 == 1).then_some(Fault::Reset { after: None }));
    let began = Instant::now();
    (0..CALLS).for_each(|_| assert!(client.exists(&server.url("blob")).unwrap()));
    assert_eq!(server.requests().len(), 2 * CALLS - 1);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_failure_on_a_new_connection_counts_as_a_retry() {
    for fault in [Fault::Reset { after: None }, Fault::Close { after: None }] {
        let server = server();
        let client = client_with(|options| options.set_max_retries(2));
        fill_pool(&client, &server);
        let lasting = fault.clone();
        server.on_request(move |_| Some(lasting.clone()));
        let error = expect_error(client.exists(&server.url("blob")), Status::Unavailable);
        assert!(error.message().contains("gave up after 3 tries"), "{error}");
        // One request on the pooled connection, and three on new ones.
        assert_eq!(server.requests().len() - POOLED, 4, "{fault:?}");
        assert_eq!(server.connections() - POOLED, 3, "{fault:?}");
    }
}

#[test]
fn a_response_that_breaks_after_its_head_counts_as_a_retry() {
    let server = server();
    let client = client_with(|options| options.set_max_retries(0));
    read_blob(&client, &server.url("blob")).unwrap();
    server.script("GET", [Fault::Reset { after: Some(0) }]);
    expect_error(read_blob(&client, &server.url("blob")), Status::Unavailable);
    assert_eq!(server.requests_of("GET").len(), 2);
}

/// A client cannot distinguish a dead connection from a lost response.
#[test]
fn a_write_sent_on_a_dead_connection_is_checked_for_execution() {
    let server = server();
    let client = client_with(|options| options.set_max_retries(0));
    fill_pool(&client, &server);
    server.script("PUT", [Fault::LoseAnswer]);
    let etag = write_blob(&client, &server.url("new"), WriteMode::Create, b"new").unwrap();
    assert_eq!(server.requests_of("PUT").len(), 2);
    assert_eq!(client.open(&server.url("new")).unwrap().etag(), etag);

    open_connection(&client, &server);
    server.script("DELETE", [Fault::LoseAnswer]);
    client.delete(&server.url("new")).unwrap();
    assert_eq!(server.requests_of("DELETE").len(), 2);
}

/// Leaves one idle connection in the client's pool.
fn open_connection(client: &Client, server: &FaultServer) {
    assert!(client.exists(&server.url("blob")).unwrap());
}
