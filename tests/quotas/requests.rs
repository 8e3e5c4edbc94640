//! A quota of requests: each of many processes finds its share, uses it, and notices when the quota grows.

use std::thread;
use std::time::Duration;

use aztorch::Status;

use crate::support::child;
use crate::support::client::{client, client_with, read_blob};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer, Quota};
use crate::{Processes, alone, check, counting_server, in_one_of_three_runs, measure, wait_until_warm};

const PROCESSES: usize = 16;
const THREADS: usize = 8;
/// With this latency the demand depends only on the number of threads, not on how busy the machine is.
const LATENCY: Duration = Duration::from_millis(60);
const SECONDS_WITHOUT_QUOTA: u64 = 3;
const SECONDS_UNDER_QUOTA: u64 = 20;
/// The guaranteed bound. Measured: 1.07 to 1.17.
const MOST_UNEQUAL: f64 = 1.3;
/// The guaranteed bound.
const SECONDS_TO_RECOVER: u64 = 10;

/// A child process: reads its blob until its parent kills it.
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
    in_one_of_three_runs(|| share_a_quota(NAME));
}

fn share_a_quota(name: &str) -> Result<(), String> {
    let server = counting_server(LATENCY);
    let readers = Processes::start(name, &server, PROCESSES, |_| vec![1; 4000]);
    wait_until_warm(&server, PROCESSES, 50);
    let demand: f64 = measure(&server, SECONDS_WITHOUT_QUOTA).granted.iter().sum();
    let quota = demand / 4.0;
    server.set_quota(Some(Quota::requests(quota)));
    let measured = measure(&server, SECONDS_UNDER_QUOTA);
    let (used, refused, slowest) = (measured.used(quota), measured.refused, measured.slowest());
    server.set_quota(Some(Quota::requests(2.0 * quota)));
    thread::sleep(Duration::from_secs(SECONDS_TO_RECOVER));
    let recovered = measure(&server, 2).used(2.0 * quota);
    drop(readers);

    println!("granted a second: {:.1?}", measured.granted);
    println!(
        "demand {demand:.0}/s; used {used:.3}, refused {refused:.3}, slowest {slowest:.2}, recovered {recovered:.3}"
    );
    check(&[
        (used >= 0.9, format!("only {used:.3} of the quota of {quota:.0}/s was used")),
        (refused <= 0.1, format!("{refused:.3} of all requests were refused")),
        (slowest <= MOST_UNEQUAL, format!("the slowest process is {slowest:.2} times slower than the median")),
        (recovered >= 0.9, format!("{recovered:.3} of twice the quota was used after {SECONDS_TO_RECOVER} s")),
    ])
}

/// How many requests 64 threads send to a service that always fails, in this many seconds.
fn requests_to_a_failing_service(status: u16, seconds: u64) -> usize {
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
    // The client is slow at first, but it works again.
    assert!(client.exists(&server.url("blob")).unwrap());
    requests
}

#[test]
fn a_failing_service_gets_few_requests() {
    let _alone = alone();
    // One try for each thread, an allowance of as many retries, and ten retries a second.
    let requests = requests_to_a_failing_service(500, 4);
    println!("500: {requests} requests");
    assert!((70..=64 + 64 + 60).contains(&requests), "{requests} requests");
    // The refusals may come from a quota, so the client finds its rate in some steps.
    let requests = requests_to_a_failing_service(503, 4);
    println!("503: {requests} requests");
    assert!((70..=320).contains(&requests), "{requests} requests");
}

#[test]
fn a_call_that_ends_before_its_request_is_sent_says_throttled() {
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
    assert!(server.requests().iter().all(|request| !request.path.ends_with("hasty")), "its request was sent");
}
