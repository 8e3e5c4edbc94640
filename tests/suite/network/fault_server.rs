//! The fault server itself. Without these tests a fault that does not happen would go unnoticed.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::content::Content;
use crate::support::fault::{Count, Fault, FaultServer, Quota, by_chance};
use crate::support::http::{header, read_head, send};

const CONTENT: Content = Content { seed: 1, size: 1000 };

fn server(fault: Option<Fault>) -> FaultServer {
    let server = FaultServer::start();
    server.put_content("blob", CONTENT);
    server.script("GET", fault);
    server
}

/// Sends a ranged GET; returns the status, the `Content-Range`, the body, and the error that ended it.
fn get(server: &FaultServer) -> (u16, String, Vec<u8>, Option<ErrorKind>) {
    let mut stream = TcpStream::connect(server.authority()).unwrap();
    stream.write_all(b"GET /account/container/blob HTTP/1.1\r\nRange: bytes=100-199\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut reader = BufReader::new(stream);
    let (line, headers) = match read_head(&mut reader) {
        Ok(head) => head.unwrap_or_default(),
        Err(error) => return (0, String::new(), Vec::new(), Some(error.kind())),
    };
    let mut body = Vec::new();
    let end = reader.read_to_end(&mut body).err().map(|error| error.kind());
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, header(&headers, "content-range").unwrap_or_default().to_owned(), body, end)
}

#[test]
fn without_faults_the_server_behaves_like_the_service() {
    let server = server(None);
    let kept_open = Some(ErrorKind::WouldBlock);
    assert_eq!(get(&server), (206, "bytes 100-199/1000".to_owned(), CONTENT.bytes(100, 100), kept_open));
    let url = server.url("blob");
    let etag = send("HEAD", &url, &[], b"").expect(200).header("etag").unwrap().to_owned();
    send("GET", &url, &[("If-Match", &etag)], b"").expect(200);
    send("GET", &url, &[("If-Match", "\"other\"")], b"").expect(412);
    send("GET", &url, &[("If-None-Match", &etag)], b"").expect(304);
    send("PUT", &url, &[("If-None-Match", "*")], b"x").expect(409);
    send("PUT", &url, &[("If-Match", "\"other\"")], b"x").expect(412);
    send("PUT", &format!("{url}&comp=block&blockid=YQ%3D%3D"), &[], b"new ").expect(201);
    send("PUT", &format!("{url}&comp=block&blockid=Yg%3D%3D"), &[], b"blob").expect(201);
    send("PUT", &format!("{url}&comp=block&blockid=longer"), &[], b"").expect(400);
    let list = b"<BlockList><Latest>YQ==</Latest><Latest>Yg==</Latest></BlockList>";
    for _ in 0..2 {
        send("PUT", &format!("{url}&comp=blocklist"), &[], list).expect(201);
        assert_eq!(server.blob("blob").unwrap(), b"new blob");
    }
    let committed =
        String::from_utf8(send("GET", &format!("{url}&comp=blocklist"), &[], b"").expect(200).body).unwrap();
    assert!(committed.contains("<Name>YQ==</Name>") && committed.contains("<Name>Yg==</Name>"), "{committed}");
    send("PUT", &format!("{url}&comp=blocklist"), &[], b"<BlockList><Latest>xx==</Latest></BlockList>").expect(400);
    server.put("blob", Vec::new());
    let empty = send("GET", &url, &[("x-ms-range", "bytes=0-9")], b"").expect(416);
    assert_eq!(empty.header("content-range"), Some("bytes */0"));
    send("DELETE", &url, &[], b"").expect(202);
    send("GET", &url, &[], b"").expect(404);
    let verbs: Vec<_> = server.requests().iter().map(|request| request.verb().to_owned()).collect();
    assert_eq!(verbs.iter().filter(|verb| *verb == "put-block").count(), 3);
    assert_eq!(verbs.iter().filter(|verb| *verb == "put-block-list").count(), 3);
}

#[test]
fn each_fault_happens() {
    let (whole, open) = (CONTENT.bytes(100, 100), Some(ErrorKind::WouldBlock));
    let expect = |fault: Fault, status: u16, range: &str, body: &[u8], end: Option<ErrorKind>| {
        let server = server(Some(fault.clone()));
        assert_eq!(get(&server), (status, range.to_owned(), body.to_vec(), end), "{fault:?}");
        assert_eq!(get(&server).2, whole, "after {fault:?}");
    };
    let requested = "bytes 100-199/1000";
    expect(Fault::Reset { after: Some(30) }, 206, requested, &whole[..30], Some(ErrorKind::ConnectionReset));
    expect(Fault::Close { after: Some(30) }, 206, requested, &whole[..30], None);
    expect(Fault::Reset { after: None }, 0, "", b"", Some(ErrorKind::ConnectionReset));
    expect(Fault::LoseAnswer, 0, "", b"", Some(ErrorKind::ConnectionReset));
    expect(Fault::NeverReadBody, 0, "", b"", Some(ErrorKind::ConnectionReset));
    expect(Fault::Close { after: None }, 0, "", b"", None);
    expect(Fault::StallAfterHead, 206, requested, b"", open);
    expect(Fault::Silence, 0, "", b"", open);
    // A byte every 200 ms; the reader's timeout is 300 ms.
    let slow = server(Some(Fault::Trickle(Duration::from_millis(200))));
    let mut stream = TcpStream::connect(slow.authority()).unwrap();
    stream.write_all(b"GET /account/container/blob HTTP/1.1\r\nRange: bytes=0-3\r\n\r\n").unwrap();
    let began = Instant::now();
    let mut reader = BufReader::new(stream);
    read_head(&mut reader).unwrap();
    let mut body = [0; 4];
    reader.read_exact(&mut body).unwrap();
    assert_eq!(body, CONTENT.bytes(0, 4)[..]);
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    expect(Fault::ShortRange(1), 206, "bytes 100-198/1000", &whole[..99], open);
    expect(Fault::ShiftedRange(1), 206, "bytes 101-200/1000", &whole, open);
    expect(Fault::ShortBody(1), 206, requested, &whole[..99], open);
    expect(Fault::LongBody(1), 206, requested, &[whole.as_slice(), b"X"].concat(), open);
    expect(Fault::TrailingBytes(2), 206, requested, &[whole.as_slice(), b"XX"].concat(), open);
    expect(Fault::WholeBlob, 200, "", &CONTENT.all(), open);
    expect(Fault::Delay(Duration::from_millis(1)), 206, requested, &whole, open);
    let mut flipped = whole.clone();
    flipped[5] ^= 1;
    expect(Fault::FlipByte(5), 206, requested, &flipped, open);
}

#[test]
fn faults_in_the_head_happen() {
    let server = server(Some(Fault::OtherETag));
    assert_eq!(send("GET", &server.url("blob"), &[], b"").header("etag"), Some("\"0xOTHER\""));
    server.script("GET", [Fault::Status { status: 503, code: "ServerBusy", retry_after: Some(7) }]);
    let busy = send("GET", &server.url("blob"), &[], b"").expect(503);
    assert_eq!((busy.header("retry-after"), busy.header("x-ms-error-code")), (Some("7"), Some("ServerBusy")));
    server.on_request(|request| (request.index == 2).then(|| Fault::status(500, "")));
    send("GET", &server.url("blob"), &[], b"").expect(500);
    send("GET", &server.url("blob"), &[], b"").expect(200);
    server.script(
        "GET",
        [Fault::Redirect("http://other.example/x".to_owned()), Fault::OtherRequestId, Fault::NoRequestId],
    );
    let id = [("x-ms-client-request-id", "the-id")];
    let echo = || send("GET", &server.url("blob"), &id, b"").header("x-ms-client-request-id").map(str::to_owned);
    let moved = send("GET", &server.url("blob"), &id, b"").expect(307);
    assert_eq!(moved.header("location"), Some("http://other.example/x"));
    assert_eq!(echo().as_deref(), Some("11111111-2222-3333-4444-555555555555"));
    assert_eq!(echo(), None);
    assert_eq!(echo().as_deref(), Some("the-id"));
}

#[test]
fn a_server_that_never_reads_fills_the_senders_buffers() {
    let server = server(None);
    server.script("PUT", [Fault::NeverRead]);
    let mut stream = TcpStream::connect(server.authority()).unwrap();
    stream.write_all(b"PUT /account/container/new HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let full = (0..100).find_map(|_| stream.write_all(&[0; 1 << 20]).err()).expect("an end");
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_quota_limits_requests_and_bytes_and_can_be_changed() {
    let server = server(None);
    let url = server.url("blob");
    let granted = |count: usize| (0..count).filter(|_| send("GET", &url, &[], b"").status == 200).count();
    // The bucket hardly refills while the test runs.
    server.set_quota(Some(Quota {
        requests_per_second: 1e-3,
        bytes_per_second: f64::INFINITY,
        burst: 5000.0,
        retry_after: None,
    }));
    assert_eq!(granted(8), 5);
    let refused = send("GET", &url, &[], b"").expect(503);
    assert_eq!(refused.header("x-ms-error-code"), Some("ServerBusy"));
    // Whole responses of 1,000 bytes, until the bucket is empty.
    server.set_quota(Some(Quota {
        requests_per_second: f64::INFINITY,
        bytes_per_second: 0.5,
        burst: 5000.0,
        retry_after: None,
    }));
    assert_eq!(granted(8), 3);
    server.set_quota(None);
    assert_eq!(granted(8), 8);
    assert_eq!(server.counts()["/account/container/blob"], Count { granted: 16, refused: 9 });
    server.set_quota(Some(Quota::requests(20.0)));
    let began = Instant::now();
    while granted(1) == 0 || began.elapsed() < Duration::from_millis(500) {}
    let (seconds, count) = (began.elapsed().as_secs_f64(), server.counts()["/account/container/blob"].granted - 16);
    assert!(count as f64 <= 4.0 + 20.0 * seconds && count >= 5, "{count} in {seconds} s");
}

#[test]
fn random_faults_depend_on_seed_and_request_only() {
    let fails = |seed: u64, order: &[u64]| {
        let server = server(None);
        server.on_request(by_chance(seed, 0.3, |_, _| Fault::status(500, "")));
        let get = |first: &u64| {
            let range = format!("bytes={first}-{first}");
            (*first, send("GET", &server.url("blob"), &[("Range", &range)], b"").status)
        };
        let mut statuses: Vec<_> = order.iter().map(get).collect();
        statuses.sort_unstable();
        statuses
    };
    let forwards: Vec<_> = (0..100).chain(0..100).collect();
    let backwards: Vec<_> = forwards.iter().rev().copied().collect();
    let once = fails(1, &forwards);
    assert_eq!(once, fails(1, &backwards));
    assert_ne!(once, fails(2, &forwards));
    let failed = once.iter().filter(|(_, status)| *status == 500).count();
    assert!((35..=85).contains(&failed), "{failed} of 200");
}

#[test]
fn the_bandwidth_can_be_limited() {
    let server = server(None);
    server.limit_bandwidth(10_000);
    let start = Instant::now();
    assert_eq!(send("GET", &server.url("blob"), &[], b"").expect(200).body, CONTENT.all());
    assert!(start.elapsed() >= Duration::from_millis(100), "1,000 bytes in {:?}", start.elapsed());
}
