//! Measures datasets, and beside each its floor: the same bytes over plain blocking sockets, in the same run. `cargo
//! bench --bench datasets` prints medians. Compare the ratios: absolute times depend on the machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use aztorch::{Client, ClientOptions, Dataset, Stream};

#[path = "support/compare.rs"]
mod compare;
#[path = "support/server.rs"]
mod server;

use compare::compare;
use server::{Network, Server, listing};

const SAMPLE: usize = 100 << 10;
const BATCH: usize = 64;

/// A blocking connection.
struct PlainConnection(BufReader<TcpStream>);

impl PlainConnection {
    fn connect(port: u16) -> PlainConnection {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        PlainConnection(BufReader::new(stream))
    }

    /// Receives a body into the beginning of `buffer`, and returns its length.
    fn get(&mut self, path: &str, buffer: &mut [u8]) -> usize {
        let last = buffer.len() - 1;
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-{last}\r\n\r\n").unwrap();
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        self.0.read_exact(&mut buffer[..length]).unwrap();
        length
    }
}

/// The floor of `count` samples: threads that receive into one buffer each.
fn plain_samples(port: u16, count: usize, connections: usize) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let (mut connection, mut buffer) = (PlainConnection::connect(port), vec![0; SAMPLE]);
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    assert_eq!(connection.get("/account/container/b", &mut buffer), SAMPLE);
                }
            });
        }
    });
}

/// The floor of a listing: its pages, received one after the other and not parsed.
fn plain_listing(port: u16) {
    let (mut connection, mut buffer) = (PlainConnection::connect(port), vec![0; 16 << 20]);
    for page in 0..listing::BLOBS / 5000 {
        let path = format!("/account/container?restype=container&comp=list&maxresults=5000&marker={page}");
        assert!(connection.get(&path, &mut buffer) > 0);
    }
}

fn main() {
    server::serve_if_asked();
    let client = Client::new(&ClientOptions::new()).unwrap();
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| only.as_ref().is_none_or(|only| name.contains(only));
    let urls =
        |server: &Server, count: usize| -> Vec<String> { (0..count).map(|i| server.url(&format!("b{i}"))).collect() };

    if wanted("batches") {
        const COUNT: usize = 6400;
        let server = Server::start(SAMPLE as u64, Network::default());
        let dataset = Dataset::from_urls(&client, &urls(&server, COUNT)).unwrap();
        // A pseudo-random order, so that the dataset detects no sequence and prefetches nothing.
        let indices: Vec<usize> = (0..COUNT).map(|i| i * 4001 % COUNT).collect();
        compare(
            "6,400 x 100 KiB, batches of 64",
            || plain_samples(server.port, COUNT, 8),
            || {
                for batch in indices.chunks(BATCH) {
                    assert!(dataset.get_batch(batch).unwrap().iter().all(|sample| sample.bytes().len() == SAMPLE));
                }
            },
        );
        let mut buffers = vec![vec![0; SAMPLE]; BATCH];
        compare(
            "6,400 x 100 KiB, into buffers",
            || plain_samples(server.port, COUNT, 8),
            || {
                for batch in indices.chunks(BATCH) {
                    let mut slices: Vec<_> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
                    dataset.get_batch_into(batch, &mut slices).unwrap();
                }
            },
        );
        compare(
            "6,400 x 100 KiB, a stream",
            || plain_samples(server.port, COUNT, 8),
            || {
                let stream = Stream::from_dataset(&dataset, 0, 1).unwrap();
                while let Some(sample) = stream.next().unwrap() {
                    assert_eq!(sample.bytes().len(), SAMPLE);
                }
            },
        );
    }
    if wanted("sequential") {
        const COUNT: usize = 300;
        let server = Server::start(SAMPLE as u64, Network { latency: Duration::from_millis(20), ..Network::default() });
        let urls = urls(&server, COUNT);
        compare(
            "300 x 100 KiB in a loop, 20 ms",
            || plain_samples(server.port, COUNT, 1),
            || {
                let dataset = Dataset::from_urls(&client, &urls).unwrap();
                for index in 0..COUNT {
                    assert_eq!(dataset.get(index).unwrap().bytes().len(), SAMPLE);
                }
            },
        );
    }
    if wanted("listing") {
        let server = Server::start(0, Network::default());
        let url = format!("http://127.0.0.1:{}/account/container", server.port);
        compare(
            "a listing of 50,000",
            || plain_listing(server.port),
            || assert_eq!(Dataset::list(&client, &url, None).unwrap().len(), listing::BLOBS),
        );
    }
}
