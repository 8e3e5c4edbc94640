//! After a call has returned, even with a timeout, the library neither writes nor reads the caller's memory.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use aztorch::{Client, Status, WriteMode};

use crate::support::client::client;
use crate::support::content::Content;
use crate::support::error::expect_error;
use crate::support::fault::FaultServer;

const SIZE: usize = 64 << 20;
const POISON: u8 = 0xA5;

fn client_with_short_timeout() -> Client {
    client().with_timeout(Some(Duration::from_millis(300)))
}

#[test]
fn after_a_timeout_a_read_writes_nothing() {
    let server = FaultServer::start();
    // Stored bytes: to compute them for a response takes longer than the timeout on a busy machine.
    server.put("blob", Content::new(31, SIZE as u64).all());
    server.limit_bandwidth(2_000_000);
    let reader = client_with_short_timeout().open(&server.url("blob")).unwrap();
    let mut buffer = vec![0; SIZE];
    for offset in [0, 5_000_000] {
        expect_error(reader.read_at(offset, &mut buffer), Status::Timeout);
        assert!(buffer.iter().any(|&byte| byte != 0), "no byte arrived before the deadline, so nothing was tested");
        buffer.fill(POISON);
        // Long enough for 600 KB on each connection that is still open.
        thread::sleep(Duration::from_millis(300));
        assert!(buffer.iter().all(|&byte| byte == POISON));
        buffer.fill(0);
    }
}

/// A server that reads from its connections only after the deadline. It counts all bytes and the poisoned ones.
struct LateReader {
    url: String,
    received: Arc<AtomicUsize>,
    poisoned: Arc<AtomicUsize>,
}

impl LateReader {
    fn start() -> LateReader {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/account/container/blob", listener.local_addr().unwrap());
        let (received, poisoned) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (received.clone(), poisoned.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, (received, poisoned)) = (stream.unwrap(), counts.clone());
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(600));
                    let mut buffer = vec![0; 1 << 20];
                    // The connection ends with a FIN, or with a RST because of unread bytes.
                    while let Ok(length @ 1..) = stream.read(&mut buffer) {
                        received.fetch_add(length, Ordering::SeqCst);
                        let count = buffer[..length].iter().filter(|&&byte| byte == POISON).count();
                        poisoned.fetch_add(count, Ordering::SeqCst);
                    }
                });
            }
        });
        LateReader { url, received, poisoned }
    }
}

#[test]
fn after_a_timeout_a_write_reads_nothing() {
    let server = LateReader::start();
    let writer = client_with_short_timeout().writer(&server.url, WriteMode::Replace).unwrap();
    let mut data = vec![0; SIZE];
    expect_error(writer.write_all(&data), Status::Timeout);
    data.fill(POISON);
    thread::sleep(Duration::from_millis(1200));
    assert!(server.received.load(Ordering::SeqCst) > 0, "no byte was sent, so nothing was tested");
    assert_eq!(server.poisoned.load(Ordering::SeqCst), 0);
    expect_error(writer.flush(), Status::Timeout);
    expect_error(writer.close(), Status::Timeout);
}
