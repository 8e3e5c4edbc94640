//! A service that throttles: each of many processes finds its share, uses it, and hears of it when there is more.

use std::thread;
use std::time::Duration;

use aztorch::Status;

use crate::support::child;
use crate::support::client::{client, client_with, read_blob};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer, Quota};
use crate::{Crowd, alone, measure};

const PROCESSES: usize = 16;
const THREADS: usize = 8;
/// With the threads it makes the demand, so that this does not depend on how busy the machine is.
const LATENCY: Duration = Duration::from_millis(60);
const SECONDS_WITHOUT_QUOTA: u64 = 3;
const SECONDS_UNDER_QUOTA: u64 = 20;
/// The promise. It is 1.1, give or take 0.05.
const LEAST_EQUAL: f64 = 1.3;
/// The promise.
const SECONDS_TO_RECOVER: u64 = 10;

/// A process that reads its blob again and again, and is ended by its parent.
fn read_for_ever(argument: &str) {
    let (_, url) = argument.split_once(' ').unwrap();
    let client = client();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    read_blob(&client, url).unwrap();
                }
            });
        }
    });
}

#[test]
fn sixteen_processes_share_a_quota() {
    const NAME: &str = "requests::sixteen_processes_share_a_quota";
    if let Some(argument) = child::argument() {
        return read_for_ever(&argument);
    }
    let _alone = alone();
    let crowd = Crowd::gather(NAME, PROCESSES, LATENCY, |_| vec![1; 4000], 50, SECONDS_WITHOUT_QUOTA);
    let (server, demand) = (&crowd.server, crowd.demand);
    let quota = demand / 4.0;
    server.set_quota(Some(Quota::requests(quota)));
    let measured = measure(server, SECONDS_UNDER_QUOTA);
    let (used, refused, slowest) = (measured.used(quota), measured.refused, measured.slowest());
    server.set_quota(Some(Quota::requests(2.0 * quota)));
    thread::sleep(Duration::from_secs(SECONDS_TO_RECOVER));
    let recovered = measure(server, 2).used(2.0 * quota);
    drop(crowd.readers);

    println!("granted {:.1?}", measured.granted);
    println!(
        "demand {demand:.0}/s; used {used:.3}, refused {refused:.3}, slowest {slowest:.2}, recovered {recovered:.3}"
    );
    assert!(used >= 0.9, "{used:.3} of the quota of {quota:.0}/s");
    assert!(refused <= 0.1, "{refused:.3} of all requests were refused");
    assert!(slowest <= LEAST_EQUAL, "the slowest gets its share {slowest:.2} times slower than the median");
    assert!(recovered >= 0.9, "{recovered:.3} of twice the quota after {SECONDS_TO_RECOVER} s");
}

/// How many requests 64 threads make of a service that only fails, in so many seconds.
fn requests_to_a_dying_service(status: u16, seconds: u64) -> usize {
    let server = FaultServer::start();
    server.put("blob", b"some bytes".to_vec());
    server.on_request(move |_| Some(Fault::status(status, "")));
    let client = client_with(|options| {
        options.set_max_retries(1000)?;
        options.set_timeout(Some(Duration::from_secs(seconds)))
    });
    let expected = if status == 503 { Status::Throttled } else { Status::Unavailable };
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| expect_error(client.exists(&server.url("blob")), expected));
        }
    });
    let requests = server.requests().len();
    server.on_request(|_| None);
    // It is slow at first, but it goes on.
    assert!(client.exists(&server.url("blob")).unwrap());
    requests
}

#[test]
fn a_dying_service_sees_few_requests() {
    let _alone = alone();
    // One try each, a reserve of as many retries, and ten a second.
    let requests = requests_to_a_dying_service(500, 4);
    assert!((70..=64 + 64 + 60).contains(&requests), "{requests} requests");
    // A quota might be behind it, so that the pace is found in some steps.
    let requests = requests_to_a_dying_service(503, 4);
    assert!((70..=320).contains(&requests), "{requests} requests");
}

#[test]
fn a_call_that_was_not_let_out_was_throttled() {
    let _alone = alone();
    let server = FaultServer::start();
    server.on_request(|_| Some(Fault::status(503, "ServerBusy")));
    let patient = client_with(|options| {
        options.set_max_retries(1000)?;
        options.set_timeout(Some(Duration::from_secs(3)))
    });
    let hasty = patient.with_timeout(Some(Duration::from_millis(100)));
    thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| expect_error(patient.exists(&server.url("blob")), Status::Throttled));
        }
        thread::sleep(Duration::from_millis(1500));
        let error = expect_error(hasty.exists(&server.url("hasty")), Status::Throttled);
        assert_eq!((error.http_status(), error.service_code()), (503, "ServerBusy"));
        assert!(error.is_retryable() && error.message().contains("throttles this client"), "{error}");
    });
    assert!(server.requests().iter().all(|request| !request.path.ends_with("hasty")), "it was asked after all");
}
