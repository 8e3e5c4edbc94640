//! When a call returns, its caller's memory is the caller's alone, also when the call's deadline ended it.

use std::thread;
use std::time::Duration;

use aztorch::{Client, Status, WriteMode};

use crate::support::client::client;
use crate::support::content::Content;
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};

const SIZE: usize = 64 << 20;
const POISON: u8 = 0xA5;

fn hasty() -> Client {
    client().with_timeout(Some(Duration::from_millis(300)))
}

#[test]
fn a_read_that_the_deadline_ended_writes_no_more() {
    let server = FaultServer::start();
    server.put_content("blob", Content::new(31, SIZE as u64));
    server.limit_bandwidth(2_000_000);
    let reader = hasty().open(&server.url("blob")).unwrap();
    let mut buffer = vec![0; SIZE];
    for offset in [0, 5_000_000] {
        expect_error(reader.read_at(offset, &mut buffer), Status::Timeout);
        assert!(buffer.iter().any(|&byte| byte != 0), "the deadline came before any byte: nothing was tested");
        buffer.fill(POISON);
        // Enough for another 600 KB on each connection that was left open.
        thread::sleep(Duration::from_millis(300));
        assert!(buffer.iter().all(|&byte| byte == POISON));
        buffer.fill(0);
    }
}

#[test]
fn a_write_that_the_deadline_ended_reads_no_more() {
    let server = FaultServer::start();
    server.on_request(|_| Some(Fault::LoseAnswer));
    let writer = hasty().writer(&server.url("blob"), WriteMode::Replace).unwrap();
    let data = Content::new(32, SIZE as u64).all();
    expect_error(writer.write_all(&data), Status::Timeout);
    // So much memory goes back to the system at once: to read it now would end the process.
    drop(data);
    thread::sleep(Duration::from_millis(300));
    expect_error(writer.flush(), Status::Timeout);
    expect_error(writer.close(), Status::Timeout);
    assert!(server.blob("blob").is_none());
}
