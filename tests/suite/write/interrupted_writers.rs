//! Writers whose calls are interrupted: they fail for good, and publish nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aztorch::{BlobWriter, Result, Status, WriteMode};

use crate::support::client::client_with;
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};
use crate::support::interrupt::{interrupted, interrupted_when};

const MIB: u64 = 1 << 20;

fn server(fault: impl Fn(&str) -> Option<Fault> + Send + Sync + 'static) -> FaultServer {
    let server = FaultServer::start();
    server.on_request(move |request| fault(request.verb()));
    server
}

/// A response that comes too late for every test.
fn silence() -> Fault {
    Fault::Delay(Duration::from_secs(60))
}

fn writer(server: &FaultServer) -> BlobWriter {
    let client = client_with(|options| {
        options.set_block_size(MIB)?;
        options.set_memory_limit(4 * MIB)
    });
    client.writer(&server.url("new"), WriteMode::Replace).unwrap()
}

#[test]
fn an_interrupted_writer_fails_for_good() {
    let pieces: fn(&BlobWriter) -> Result<()> = |writer| {
        for _ in 0..200 {
            writer.write_all(&vec![7; 100 << 10])?;
        }
        Ok(())
    };
    let one_write: fn(&BlobWriter) -> Result<()> = |writer| writer.write_all(&vec![7; 20 << 20]);
    let flush: fn(&BlobWriter) -> Result<()> =
        |writer| writer.write_all(&vec![7; 2 << 20]).and_then(|()| writer.flush());
    let close: fn(&BlobWriter) -> Result<()> =
        |writer| writer.write_all(&vec![7; 2 << 20]).and_then(|()| writer.close());
    for write in [pieces, one_write, flush, close] {
        let server = server(|verb| (verb == "put-block").then(silence));
        let writer = writer(&server);
        let error = interrupted(|| write(&writer));
        assert!(!error.message().contains("unknown"), "nothing was committed: {error}");
        server.on_request(|_| None);
        for call in [|writer: &BlobWriter| writer.write_all(b"more"), BlobWriter::flush, BlobWriter::close] {
            let result = call(&writer);
            // After `close` the writer is closed.
            let is_closed = matches!(&result, Err(error) if error.status() == Status::Unsupported);
            if !is_closed {
                expect_error(result, Status::Cancelled);
            }
        }
        expect_error(writer.close(), Status::Cancelled);
        assert!(server.blob("new").is_none());
    }
}

#[test]
fn an_interrupted_commit_has_an_unknown_outcome() {
    for (length, verb) in [(3 * MIB, "put-block-list"), (10, "PUT")] {
        let has_arrived = Arc::new(AtomicBool::new(false));
        let arrives = has_arrived.clone();
        let server = server(move |requested| {
            arrives.fetch_or(requested == verb, Ordering::SeqCst);
            (requested == verb).then(silence)
        });
        let writer = writer(&server);
        writer.write_all(&vec![7; length as usize]).unwrap();
        let error = interrupted_when(move || has_arrived.load(Ordering::SeqCst), || writer.close());
        assert!(error.message().contains("the outcome is unknown"), "{error}");
        assert_eq!(expect_error(writer.close(), Status::Cancelled).message(), error.message());
    }
}

#[test]
fn a_close_that_waits_for_another_threads_call_is_interrupted() {
    let server = server(|verb| (verb == "put-block").then(|| Fault::Delay(Duration::from_secs(5))));
    let writer = writer(&server);
    let has_begun = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| {
            writer.write_all(&vec![7; 2 << 20]).unwrap();
            has_begun.store(true, Ordering::SeqCst);
            writer.flush()
        });
        while !has_begun.load(Ordering::SeqCst) || server.requests().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        interrupted(|| writer.close());
        // The blob must not be published without what an interrupted write would have added.
        expect_error(flush.join().unwrap(), Status::Cancelled);
    });
    expect_error(writer.close(), Status::Cancelled);
    assert!(server.blob("new").is_none());
}
