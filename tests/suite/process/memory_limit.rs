//! One memory limit for all prefetching and writing. It is never exceeded, and no call waits for the caller to free
//! memory.

use std::thread;
use std::time::Duration;

use aztorch::{BlobReader, BlobWriter, Client, Dataset, Status, WriteMode};

use crate::support::child::{self, test_path};
use crate::support::client::client_with;
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};
use crate::support::watchdog::within;

const MIB: u64 = 1 << 20;
const KIB: usize = 1 << 10;

fn limited(limit: u64, block: u64) -> Client {
    client_with(|options| {
        options.set_memory_limit(limit)?;
        options.set_block_size(block)
    })
}

fn content(seed: u64, size: u64) -> Content {
    Content { seed, size }
}

fn piece(content: Content, step: usize, length: usize) -> Vec<u8> {
    content.bytes((step * length) as u64, length)
}

#[test]
fn one_thread_can_use_256_writers_and_256_readers_with_the_smallest_limit() {
    const EACH: u64 = 48 << 10;
    const STEP: usize = 16 * KIB;
    within(Duration::from_secs(300), || {
        let server = FaultServer::start();
        let client = limited(MIB, 64 << 10);
        let writers: Vec<BlobWriter> =
            (0..256).map(|i| client.writer(&server.url(&format!("w{i}")), WriteMode::Replace).unwrap()).collect();
        for i in 0..256 {
            server.put_content(&format!("r{i}"), content(i, EACH));
        }
        let readers: Vec<BlobReader> = (0..256).map(|i| client.open(&server.url(&format!("r{i}"))).unwrap()).collect();
        let mut memory = vec![0; STEP];
        for step in 0..EACH as usize / STEP {
            for (i, (writer, reader)) in writers.iter().zip(&readers).enumerate() {
                let expected = piece(content(i as u64, EACH), step, STEP);
                writer.write_all(&expected).unwrap();
                assert_eq!(reader.read(&mut memory).unwrap(), STEP);
                assert_same(&memory, &expected);
            }
        }
        for writer in &writers {
            writer.close().unwrap();
        }
        for i in [0, 100, 255] {
            assert_same(&server.blob(&format!("w{i}")).unwrap(), &content(i, EACH).all());
        }
        let peak = client.stats().unwrap().memory_peak;
        assert!(peak <= MIB, "{peak}");
        drop((writers, readers));
        assert_eq!(client.stats().unwrap().memory_in_use, 0);
    });
}

#[test]
fn a_thousand_open_transfers_share_sixteen_blocks_of_memory() {
    const BLOCK: usize = 64 * KIB;
    within(Duration::from_secs(300), || {
        let server = FaultServer::start();
        server.put_content("blob", content(3, 4 * MIB));
        let client = limited(16 * BLOCK as u64, BLOCK as u64);
        // Each of these writers begins a block and then waits.
        let idle: Vec<BlobWriter> =
            (0..500).map(|i| client.writer(&server.url(&format!("s{i}")), WriteMode::Replace).unwrap()).collect();
        for writer in &idle {
            writer.write_all(b"begun").unwrap();
        }
        let readers: Vec<BlobReader> = (0..400).map(|_| client.open(&server.url("blob")).unwrap()).collect();
        let mut some = vec![0; 1000];
        for reader in &readers {
            reader.read(&mut some).unwrap();
        }
        let bytes = content(4, 3 * MIB).all();
        for i in 0..100 {
            let writer = client.writer(&server.url(&format!("w{i}")), WriteMode::Replace).unwrap();
            for part in bytes[..(1 + i % 3) << 20].chunks(100 * KIB) {
                writer.write_all(part).unwrap();
            }
            writer.close().unwrap();
        }
        assert_same(&server.blob("w2").unwrap(), &bytes);
        for (i, writer) in idle.iter().enumerate() {
            writer.write_all(b", and ended").unwrap();
            if i % 50 == 0 {
                writer.close().unwrap();
                assert_eq!(server.blob(&format!("s{i}")).unwrap(), b"begun, and ended");
            }
        }
        assert!(client.stats().unwrap().memory_peak <= 16 * BLOCK as u64);
    });
}

#[test]
fn prefetched_bytes_are_evicted_for_writers() {
    // In a process of its own: the memory that other tests use would prevent the prefetch.
    if child::argument().is_none() {
        let path = test_path(prefetched_bytes_are_evicted_for_writers);
        let status = child::spawn(path, "").wait().unwrap();
        return assert!(status.success(), "{status}");
    }
    within(Duration::from_secs(120), || {
        let server = FaultServer::start();
        server.put_content("blob", content(5, 40 * MIB));
        let client = limited(8 * MIB, MIB);
        let reader = client.open(&server.url("blob")).unwrap();
        let mut memory = vec![0; 100 * KIB];
        for _ in 0..40 {
            reader.read(&mut memory).unwrap();
        }
        let urls: Vec<String> = (0..4).map(|_| server.url("blob")).collect();
        assert!(client.stats().unwrap().memory_in_use > 5 * MIB, "nothing was prefetched, so nothing is tested");
        let writer = client.writer(&server.url("new"), WriteMode::Replace).unwrap();
        server
            .on_request(|request| (request.verb() == "put-block").then_some(Fault::Delay(Duration::from_millis(200))));
        for _ in 0..60 {
            writer.write_all(&memory).unwrap();
        }
        writer.close().unwrap();
        // The writer got enough memory for large blocks.
        let blocks = server.requests_of("put-block");
        assert!(blocks.len() <= 8, "{} blocks", blocks.len());
        reader.read(&mut memory).unwrap();
        assert_same(&memory, &content(5, 40 * MIB).bytes(40 * 100 * KIB as u64, 100 * KIB));
        drop(writer);
        // Prefetched samples of a dataset are evicted too.
        drop(reader);
        server.put_content("sample", content(6, 2 * MIB));
        let urls: Vec<String> = urls.iter().map(|_| server.url("sample")).collect();
        let dataset = Dataset::from_urls(&client, &urls).unwrap();
        dataset.get(0).unwrap();
        dataset.prefetch(&[1, 2, 3]).unwrap();
        thread::sleep(Duration::from_millis(500));
        assert!(client.stats().unwrap().memory_in_use >= 6 * MIB, "{}", client.stats().unwrap().memory_in_use);
        let writer = client.writer(&server.url("new"), WriteMode::Replace).unwrap();
        for _ in 0..60 {
            writer.write_all(&memory).unwrap();
        }
        writer.close().unwrap();
        assert!(server.requests_of("put-block").len() <= 16, "{}", server.requests_of("put-block").len());
        for index in 1..4 {
            assert_same(dataset.get(index).unwrap().bytes(), &content(6, 2 * MIB).all());
        }
        assert!(client.stats().unwrap().memory_peak <= 8 * MIB);
    });
}

/// A field of `/proc/self/status`, in MiB.
fn resident(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() >> 10
}

/// The documented memory beyond the limit, in MiB: connections, the segments kept for reading, the runtime.
const BESIDE: u64 = 48;

#[test]
fn the_clients_of_a_process_share_one_limit() {
    let path = test_path(the_clients_of_a_process_share_one_limit);
    let Some(url) = child::argument() else {
        let server = FaultServer::start();
        server.put_content("blob", content(7, 200 * MIB));
        let status = child::spawn(path, &server.url("blob")).wait().unwrap();
        return assert!(status.success(), "{status}");
    };
    const LIMIT: u64 = 64;
    // Clients with the same limit share it.
    let clients: Vec<Client> = (0..6).map(|_| limited(LIMIT * MIB, 8 * MIB)).collect();
    clients[0].exists(&url).unwrap();
    let before = resident("VmRSS:");
    let mut memory = vec![1; 100 * KIB];
    let readers: Vec<Vec<BlobReader>> =
        clients.iter().map(|client| (0..5).map(|_| client.open(&url).unwrap()).collect()).collect();
    let writers: Vec<BlobWriter> = clients
        .iter()
        .enumerate()
        .map(|(i, client)| client.writer(&url.replace("/blob", &format!("/new{i}")), WriteMode::Replace).unwrap())
        .collect();
    let mut most = 0;
    for _ in 0..50 {
        for reader in readers.iter().flatten() {
            assert_eq!(reader.read(&mut memory).unwrap(), memory.len());
        }
        for writer in &writers {
            writer.write_all(&memory).unwrap();
        }
        most = most.max(clients.iter().map(|client| client.stats().unwrap().memory_in_use).sum());
    }
    assert!(most <= LIMIT * MIB, "{} MiB in use by the clients", most / MIB);
    assert!(most > LIMIT * MIB / 2, "only {} MiB in use, so nothing is tested", most / MIB);
    let grown = resident("VmHWM:") - before;
    println!("{grown} MiB more than the {before} at the beginning");
    assert!(grown <= LIMIT + BESIDE, "{grown} MiB");
    drop((readers, writers));
    // Requests in flight end a little later.
    thread::sleep(Duration::from_secs(1));
    let left: u64 = clients.iter().map(|client| client.stats().unwrap().memory_in_use).sum();
    assert_eq!(left, 0);
}

#[test]
fn a_file_too_large_for_the_memory_limit_is_refused_without_requests() {
    let server = FaultServer::start();
    server.on_request(|request| (request.method == "PUT").then(|| Fault::status(403, "AuthorizationFailure")));
    let file = tempfile::NamedTempFile::new().unwrap();
    // 50,000 blocks of half the memory hold about 24 GiB. The file is sparse.
    file.as_file().set_len(30 << 30).unwrap();
    for block in [64 << 10, 8 * MIB] {
        let client = limited(MIB, block);
        let refused = client.upload(file.path(), &server.url("blob"), WriteMode::Replace);
        let error = expect_error(refused, Status::InvalidArgument);
        assert!(error.message().contains("memory_limit") && error.message().contains("32212254720"), "{error}");
    }
    assert!(server.requests().is_empty(), "{:?}", server.requests());
}

#[test]
fn block_sizes_follow_from_the_memory_limit() {
    within(Duration::from_secs(60), || {
        let server = FaultServer::start();
        let whole = content(8, 5 * MIB + 1).all();
        let sent = |write: &dyn Fn(&BlobWriter)| {
            let before = server.requests_of("put-block").len();
            let writer = limited(MIB, 8 * MIB).writer(&server.url("blob"), WriteMode::Replace).unwrap();
            write(&writer);
            writer.close().unwrap();
            assert_same(&server.blob("blob").unwrap(), &whole);
            let mut sizes: Vec<_> =
                server.requests_of("put-block").iter().skip(before).map(|request| request.body_length).collect();
            sizes.sort_unstable();
            sizes
        };
        // A buffer uses half of the memory. Blocks sent from the caller's memory need none.
        let buffered = sent(&|writer| whole.chunks(100_000).for_each(|piece| writer.write_all(piece).unwrap()));
        assert_eq!(buffered, [[1].as_slice(), &[MIB / 2; 10]].concat());
        let one_write = sent(&|writer| writer.write_all(&whole).unwrap());
        assert_eq!(one_write, [1, 5 * MIB / 4, 5 * MIB / 4, 5 * MIB / 4, 5 * MIB / 4]);
    });
}
