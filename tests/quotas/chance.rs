//! A service that refuses requests at random, or refuses all of them for some tenths of a second. Calls take seconds,
//! which are printed; a client that took the refusals for a quota would need minutes.

use std::time::{Duration, Instant};

use aztorch::{Dataset, WriteMode};

use crate::support::child;
use crate::support::client::{client, read_blob, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::fault::{Fault, FaultServer, Request, by_chance};
use crate::support::watchdog::within;
use crate::{Processes, alone, counting_server, counts};

const SEED: u64 = 11;
const BLOBS: usize = 250;
const BLOB: u64 = 100 << 10;
const LARGE: u64 = 256 << 20;
const SAVED: usize = 100 << 20;
/// For each kind of fault. Measured: some 3 s.
const WATCHDOG: Duration = Duration::from_secs(30);

fn server() -> FaultServer {
    let server = FaultServer::start();
    server.put("large", Content::new(SEED, LARGE).all());
    for index in 0..BLOBS {
        server.put(&format!("many/{index:03}"), Content::new(index as u64, BLOB).all());
    }
    server
}

/// Runs four loads (a large read, small reads in a loop, small reads in batches, a save), prints the seconds of each,
/// and returns the number of their requests.
fn run_loads(what: &str, server: &FaultServer) -> usize {
    let large = Content::new(SEED, LARGE).all();
    let urls: Vec<_> = (0..BLOBS).map(|index| server.url(&format!("many/{index:03}"))).collect();
    let small = |index: usize| Content::new(index as u64, BLOB).all();
    let before = server.requests().len();
    let mut seconds = Vec::new();
    let mut took = |began: Instant| seconds.push(began.elapsed().as_secs_f64());

    let began = Instant::now();
    let read = read_blob(&client(), &server.url("large")).unwrap();
    took(began);
    assert_same(&read, &large);

    let (began, one) = (Instant::now(), client());
    let read: Vec<_> = urls.iter().map(|url| read_blob(&one, url).unwrap()).collect();
    took(began);
    read.iter().enumerate().for_each(|(index, read)| assert_same(read, &small(index)));

    let began = Instant::now();
    let dataset = Dataset::from_urls(&client(), &urls).unwrap();
    let indices: Vec<_> = (0..BLOBS).collect();
    let read: Vec<_> = indices.chunks(64).flat_map(|batch| dataset.get_batch(batch).unwrap()).collect();
    took(began);
    read.iter().enumerate().for_each(|(index, read)| assert_same(read.bytes(), &small(index)));

    let began = Instant::now();
    write_blob(&client(), &server.url("saved"), WriteMode::Replace, &large[..SAVED]).unwrap();
    took(began);
    assert_same(&server.blob("saved").unwrap(), &large[..SAVED]);

    let (all, requests) = (seconds.iter().sum::<f64>(), server.requests().len() - before);
    println!("{what}: {all:.2} s (read, loop, batches, save: {seconds:.2?}), {requests} requests");
    requests
}

fn check(what: &'static str, most_requests: f64, fault: impl Fn(&Request) -> Option<Fault> + Send + Sync + 'static) {
    within(WATCHDOG, move || {
        let server = server();
        let needed = run_loads("no fault", &server);
        server.on_request(fault);
        // No request of a whole run may begin during a short outage.
        let made = (0..5).map(|_| run_loads(what, &server)).find(|made| *made > needed);
        let made = made.unwrap_or_else(|| panic!("{what}: no fault was met"));
        assert!(made as f64 <= most_requests * needed as f64, "{what}: {made} requests in place of {needed}");
    });
}

fn refused(_: &Request, _: f64) -> Fault {
    Fault::status(503, "ServerBusy")
}

#[test]
fn refusals_by_chance_take_seconds() {
    let _alone = alone();
    check("1 % refused", 1.1, by_chance(SEED, 0.01, refused));
    check("5 % refused", 1.2, by_chance(SEED, 0.05, refused));
    check("30 % refused", 1.8, by_chance(SEED, 0.3, refused));
}

/// Each fault is a 503, a 500, a reset or a lost answer.
#[test]
fn a_mixture_of_faults_takes_seconds() {
    let _alone = alone();
    let mixture = |request: &Request, number: f64| match (number * 4.0) as u32 {
        0 => refused(request, number),
        1 => Fault::status(500, "InternalError"),
        2 => Fault::Reset { after: None },
        _ => Fault::LoseAnswer,
    };
    check("30 % of a mixture", 2.0, by_chance(SEED, 0.3, mixture));
}

#[test]
fn outages_of_two_tenths_of_a_second_take_seconds() {
    let _alone = alone();
    let began = Instant::now();
    check("200 ms of each second refused", 3.0, move |_| {
        (began.elapsed().as_millis() % 1000 < 200).then(|| Fault::status(503, "ServerBusy"))
    });
}

/// Random refusals of sixteen processes at once are not taken for a quota either.
#[test]
fn refusals_by_chance_of_sixteen_processes_take_seconds() {
    const NAME: &str = "chance::refusals_by_chance_of_sixteen_processes_take_seconds";
    if let Some(argument) = child::argument() {
        let ((_, url), client) = (argument.split_once(' ').unwrap(), client());
        return (0..BLOBS).for_each(|_| drop(read_blob(&client, url).unwrap()));
    }
    let _alone = alone();
    within(WATCHDOG, || {
        let server = counting_server(Duration::ZERO);
        let chance = by_chance(SEED, 0.3, refused);
        server.on_request(move |request| chance(request).or(Some(Fault::Delay(Duration::from_millis(5)))));
        let began = Instant::now();
        let mut readers = Processes::start(NAME, &server, 16, |_| vec![1; 4000]);
        readers.wait();
        let (elapsed, granted) =
            (began.elapsed().as_secs_f64(), counts(&server).iter().map(|count| count.granted).sum::<u64>());
        println!("each of 16 processes read {BLOBS} blobs, with {granted} requests in all, in {elapsed:.1} s");
    });
}
