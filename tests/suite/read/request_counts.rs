//! How many requests and bytes reads cost: the read cache, the tail cache, and parallel ranges.

use std::io::SeekFrom;
use std::time::Duration;

use crate::support::client::{client, client_with, read_at, read_rest};
use crate::support::content::{Content, assert_same};
use crate::support::fault::{Fault, FaultServer};

/// The number of GETs, and the number of bytes that they requested of a blob of `size` bytes.
fn gets(server: &FaultServer, size: u64) -> (usize, u64) {
    let ranges: Vec<_> = server.requests_of("GET").iter().map(|request| request.range().expect("a range")).collect();
    (ranges.len(), ranges.iter().map(|(first, last)| (*last).min(size - 1) - first + 1).sum())
}

/// The payloads of a ResNet18's 122 tensors, in bytes.
fn resnet18_payloads() -> Vec<u64> {
    let mut payloads = Vec::new();
    let mut convolution = |inputs: u64, outputs: u64, kernel: u64| {
        payloads.push(inputs * outputs * kernel * kernel * 4);
        // The batch norm: weight, bias, running mean, running variance, number of batches.
        payloads.extend([outputs * 4, outputs * 4, outputs * 4, outputs * 4, 8]);
    };
    convolution(3, 64, 7);
    for (inputs, outputs) in [(64, 64), (64, 128), (128, 256), (256, 512)] {
        convolution(inputs, outputs, 3);
        convolution(outputs, outputs, 3);
        if inputs != outputs {
            convolution(inputs, outputs, 1);
        }
        convolution(outputs, outputs, 3);
        convolution(outputs, outputs, 3);
    }
    payloads.extend([512 * 1000 * 4, 1000 * 4]);
    payloads
}

#[test]
fn torch_load_of_a_resnet18_takes_20_gets_and_1_percent_more_bytes() {
    const RECORD_HEAD: u64 = 192;
    const DIRECTORY: u64 = 53 << 10;
    let payloads = resnet18_payloads();
    assert_eq!(payloads.len(), 122);
    let content = Content::new(11, payloads.iter().map(|payload| payload + RECORD_HEAD).sum::<u64>() + DIRECTORY);
    let server = FaultServer::start();
    server.put_content("model.pt", content);
    let reader = client().open(&server.url("model.pt")).unwrap();
    let read = |offset: u64, length: u64| {
        reader.seek(SeekFrom::Start(offset)).unwrap();
        let mut bytes = vec![0; length as usize];
        assert_eq!(reader.read(&mut bytes).unwrap(), bytes.len());
        assert_same(&bytes, &content.bytes(offset, bytes.len()));
    };
    // torch reads the size, a magic number, the end record, the directory, and then record by record. It seeks before
    // every read.
    reader.seek(SeekFrom::End(0)).unwrap();
    read(0, 8);
    for tail in [4096, 22, 20, 56, DIRECTORY] {
        read(content.size - tail, tail);
    }
    let mut offset = 0;
    for payload in payloads {
        read(offset, 30);
        read(offset + RECORD_HEAD, payload);
        offset += RECORD_HEAD + payload;
    }
    let (requests, bytes) = gets(&server, content.size);
    assert!(requests <= 20, "{requests} GETs");
    assert!(bytes * 100 <= content.size * 101, "{bytes} bytes of {}", content.size);
}

#[test]
fn a_large_read_uses_parallel_ranges() {
    let server = FaultServer::start();
    let content = Content::new(12, 96 << 20);
    server.put_content("blob", content);
    server.on_request(|_| Some(Fault::Delay(Duration::from_millis(50))));
    let reader = client().open(&server.url("blob")).unwrap();
    assert_same(&read_rest(&reader).unwrap(), &content.all());
    assert!(server.peak_in_flight() >= 4, "{} in parallel", server.peak_in_flight());
    let (_, bytes) = gets(&server, content.size);
    assert!(bytes * 100 <= content.size * 101, "{bytes} bytes of {}", content.size);
}

#[test]
fn small_reads_use_a_cache_that_survives_seeks() {
    let server = FaultServer::start();
    let content = Content::new(13, 64 << 20);
    server.put_content("blob", content);
    let reader = client().open(&server.url("blob")).unwrap();
    for step in 0..10_000_u64 {
        // Mostly forwards, with steps back.
        let offset = if step % 2 == 0 { step * 100 } else { (step - 1) * 100 + 3 };
        reader.seek(SeekFrom::Start(offset)).unwrap();
        let mut bytes = [0; 90];
        assert_eq!(reader.read(&mut bytes).unwrap(), 90);
        assert_same(&bytes, &content.bytes(offset, 90));
    }
    let (requests, _) = gets(&server, content.size);
    assert!(requests <= 4, "{requests} GETs for one MiB");
}

#[test]
fn sequential_reads_prefetch_and_fetch_nothing_twice() {
    let server = FaultServer::start();
    let content = Content::new(14, 96 << 20);
    server.put_content("blob", content);
    let reader = client().open(&server.url("blob")).unwrap();
    let mut buffer = vec![0; 100_000];
    let mut offset = 0;
    while offset < content.size / 2 {
        let read = reader.read(&mut buffer).unwrap();
        assert_same(&buffer[..read], &content.bytes(offset, read));
        offset += read as u64;
    }
    let last = server.requests_of("GET").iter().filter_map(|request| Some(request.range()?.1)).max().unwrap();
    assert!(last > offset, "no byte beyond the {offset} read so far was requested");
    while offset < content.size {
        let read = reader.read(&mut buffer).unwrap();
        assert_same(&buffer[..read], &content.bytes(offset, read));
        offset += read as u64;
    }
    let (requests, bytes) = gets(&server, content.size);
    assert!(bytes * 100 <= content.size * 101, "{bytes} bytes of {}", content.size);
    assert!(requests <= 60, "{requests} GETs: the requests did not grow");
}

#[test]
fn every_request_after_the_first_has_if_match() {
    let server = FaultServer::start();
    let content = Content::new(15, 40 << 20);
    let etag = server.put_content("blob", content);
    let reader = client().open(&server.url("blob")).unwrap();
    read_at(&reader, 30 << 20, 5 << 20).unwrap();
    read_rest(&reader).unwrap();
    let requests = server.requests();
    assert!(requests.len() > 2);
    assert!(requests.iter().all(|request| request.method == "GET"), "a reader sent something else than GETs");
    for request in &requests {
        assert_eq!(request.header("x-ms-version"), Some("2021-12-02"));
        assert!(request.header("x-ms-client-request-id").is_some_and(|id| !id.is_empty()));
        assert!(request.header("accept-encoding").is_none_or(|encoding| encoding == "identity"));
    }
    assert!(requests[1..].iter().all(|request| request.header("if-match") == Some(etag.as_str())));
    let ids: std::collections::HashSet<_> =
        requests.iter().map(|request| request.header("x-ms-client-request-id")).collect();
    assert_eq!(ids.len(), requests.len(), "a request id was used twice");
}

#[test]
fn max_concurrency_limits_the_requests_in_flight() {
    let server = FaultServer::start();
    let content = Content::new(16, 96 << 20);
    server.put_content("blob", content);
    server.on_request(|_| Some(Fault::Delay(Duration::from_millis(10))));
    let client = client_with(|options| options.set_max_concurrency(2));
    assert_same(&read_rest(&client.open(&server.url("blob")).unwrap()).unwrap(), &content.all());
    assert_eq!(server.peak_in_flight(), 2);
}

#[test]
fn requests_reuse_connections() {
    let server = FaultServer::start();
    server.put("blob", b"0123456789".to_vec());
    let client = client();
    for _ in 0..50 {
        read_rest(&client.open(&server.url("blob")).unwrap()).unwrap();
    }
    assert_eq!(server.requests().len(), 50);
    assert!(server.connections() <= 2, "{} connections", server.connections());
}

#[test]
fn small_reads_are_cached_with_a_small_memory_limit() {
    let server = FaultServer::start();
    let content = Content::new(9, 16 << 20);
    server.put_content("blob", content);
    let client = client_with(|options| options.set_memory_limit(1 << 20));
    let reader = client.open(&server.url("blob")).unwrap();
    let mut buffer = vec![0; 1000];
    for jump in [0, 5 << 20, 12 << 20] {
        reader.seek(SeekFrom::Start(jump)).unwrap();
        for step in 0..1000 {
            assert_eq!(reader.read(&mut buffer).unwrap(), 1000);
            assert_same(&buffer, &content.bytes(jump + step * 1000, 1000));
        }
    }
    let (requests, bytes) = gets(&server, content.size);
    assert!(requests <= 60, "{requests} GETs for 3,000 reads");
    assert!(bytes <= 6_000_000, "{bytes} bytes for 3,000,000");
}
