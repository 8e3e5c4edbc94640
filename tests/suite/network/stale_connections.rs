//! Idle connections that died unnoticed, as behind a NAT or a load balancer that has forgotten them: the first request
//! that meets one is sent again on a new connection, and that is no retry.

use std::sync::Barrier;
use std::time::Duration;

use aztorch::{Client, ClientOptions, Result, Status, WriteMode};

use crate::support::client::{client, client_with, read_blob, write_blob};
use crate::support::content::Content;
use crate::support::error::expect_error;
use crate::support::fault::{DeadConnection, Fault, FaultServer};

/// Less than a client keeps, and more than any number of retries.
const POOLED: usize = 48;
const STALL: Duration = Duration::from_millis(500);

fn server() -> FaultServer {
    let server = FaultServer::start();
    server.put("blob", b"some bytes".to_vec());
    server
}

/// Leaves `POOLED` idle connections in the client's pool.
fn fill_pool(client: &Client, server: &FaultServer) {
    let all_are_out = Barrier::new(POOLED);
    server.on_request(move |_| {
        all_are_out.wait();
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
/// Given up when its body does not get out any more, which is after the stall timeout.
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
fn dead_idle_connections_cost_no_retry() {
    for death in [DeadConnection::Reset, DeadConnection::Close] {
        for (name, call) in READS.into_iter().chain(WRITES) {
            let (server, client) = (server(), client_with(without_retries));
            fill_pool(&client, &server);
            server.kill_connections(death);
            call(&client, &server.url("blob")).unwrap_or_else(|error| panic!("{name} after {death:?}: {error}"));
            let met = server.requests_on_dead_connections();
            // A large blob has several blocks under way at once.
            assert!(if name == "large" { met <= 8 } else { met == 1 }, "{name} met {met} dead connections");
            for _ in 0..5 {
                write_blob(&client, &server.url("blob"), WriteMode::Replace, b"new").unwrap();
            }
            assert_eq!(
                server.requests_on_dead_connections(),
                met,
                "{name}: a later call met another of the dead connections"
            );
        }
    }
}

#[test]
fn a_silent_idle_connection_takes_the_others_with_it() {
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

/// A deadline before the stall timeout.
#[test]
fn a_call_that_waited_in_vain_takes_the_idle_connections_with_it() {
    let (server, client) = (server(), client());
    fill_pool(&client, &server);
    server.kill_connections(DeadConnection::Silence);
    let hasty = client.with_timeout(Some(Duration::from_secs(2)));
    expect_error(read_blob(&hasty, &server.url("blob")), Status::Timeout);
    read_blob(&client, &server.url("blob")).unwrap();
    assert_eq!(server.requests_on_dead_connections(), 1);
}

#[test]
fn a_body_that_stalls_takes_the_idle_connections_with_it() {
    let server = server();
    let client = client_with(|options| options.set_stall_timeout(STALL));
    fill_pool(&client, &server);
    server.on_request(move |request| (request.index == POOLED).then_some(Fault::StallAfterHead));
    assert_eq!(read_blob(&client, &server.url("blob")).unwrap(), b"some bytes");
    assert_eq!(server.connections(), POOLED + 1);
}

#[test]
fn what_fails_on_a_new_connection_is_a_retry() {
    for fault in [Fault::Reset { after: None }, Fault::Close { after: None }] {
        let server = server();
        let client = client_with(|options| options.set_max_retries(2));
        fill_pool(&client, &server);
        let lasting = fault.clone();
        server.on_request(move |_| Some(lasting.clone()));
        let error = expect_error(client.exists(&server.url("blob")), Status::Unavailable);
        assert!(error.message().contains("gave up after 3 tries"), "{error}");
        // The one on the idle connection, and three on new ones.
        assert_eq!(server.requests().len() - POOLED, 4, "{fault:?}");
        assert_eq!(server.connections() - POOLED, 3, "{fault:?}");
    }
}

#[test]
fn an_answer_that_broke_after_its_head_is_a_retry() {
    let server = server();
    let client = client_with(|options| options.set_max_retries(0));
    read_blob(&client, &server.url("blob")).unwrap();
    server.script("GET", [Fault::Reset { after: Some(0) }]);
    expect_error(read_blob(&client, &server.url("blob")), Status::Unavailable);
    assert_eq!(server.requests_of("GET").len(), 2);
}

/// The request went out: nobody can tell a dead connection from a lost answer.
#[test]
fn what_was_sent_over_a_dead_connection_may_have_been_carried_out() {
    let server = server();
    let client = client_with(|options| options.set_max_retries(0));
    fill_pool(&client, &server);
    server.script("PUT", [Fault::LoseAnswer]);
    let etag = write_blob(&client, &server.url("new"), WriteMode::Create, b"new").unwrap();
    assert_eq!(server.requests_of("PUT").len(), 2);
    assert_eq!(client.open(&server.url("new")).unwrap().etag(), etag);

    fill_pool_again(&client, &server);
    server.script("DELETE", [Fault::LoseAnswer]);
    client.delete(&server.url("new")).unwrap();
    assert_eq!(server.requests_of("DELETE").len(), 2);
}

/// One idle connection is enough.
fn fill_pool_again(client: &Client, server: &FaultServer) {
    assert!(client.exists(&server.url("blob")).unwrap());
}
