//! Writing and publishing, on Azurite.

use std::io::Write;
use std::time::Duration;

use aztorch::{Status, WriteMode};

use crate::support::azurite::{Container, azurite};
use crate::support::client::{client, client_with, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::FaultServer;
use crate::support::watchdog::within;

/// The kinds of the PUTs that Azurite has received for a blob: the value of `comp`, or `blob`.
fn puts(container: &Container, name: &str) -> Vec<String> {
    let kind = |query: &str| query.split('&').find_map(|pair| pair.strip_prefix("comp=")).unwrap_or("blob").to_owned();
    container
        .requests(name)
        .iter()
        .filter(|request| request.method == "PUT")
        .map(|request| kind(&request.query))
        .collect()
}

#[test]
fn close_sends_a_small_blob_with_one_put_blob() {
    let container = azurite().container();
    let writer = client().writer(&container.blob("small"), WriteMode::Replace).unwrap();
    assert_eq!(writer.url(), format!("{}/small", container.bare_url()));
    for _ in 0..1000 {
        writer.write_all(b"0123456789").unwrap();
    }
    assert_eq!(writer.position().unwrap(), 10_000);
    assert_eq!(writer.etag(), "", "published before close");
    assert_eq!(container.get("small"), None);
    writer.close().unwrap();
    assert_eq!(container.get("small").unwrap(), b"0123456789".repeat(1000));
    assert_eq!(writer.etag(), container.etag("small"));
    assert_eq!(puts(&container, "small"), ["blob"]);
}

#[test]
fn test_no_writes_result_in_empty_blob() {
    let container = azurite().container();
    for (name, mode) in [("replace", WriteMode::Replace), ("create", WriteMode::Create)] {
        client().writer(&container.blob(name), mode).unwrap().close().unwrap();
        assert_eq!(container.get(name).unwrap(), b"");
    }
    let writer = client().writer(&container.blob("only-nothing"), WriteMode::Replace).unwrap();
    writer.write_all(b"").unwrap();
    writer.flush().unwrap();
    writer.close().unwrap();
    assert_eq!(container.get("only-nothing").unwrap(), b"");
}

#[test]
fn test_overwrite_blob() {
    let container = azurite().container();
    let large = Content::new(21, 20 << 20).all();
    for bytes in [b"first".as_slice(), &large, b"", b"last"] {
        let etag = write_blob(&client(), &container.blob("blob"), WriteMode::Replace, bytes).unwrap();
        assert_same(&container.get("blob").unwrap(), bytes);
        assert_eq!(etag, container.etag("blob"));
    }
}

#[test]
fn a_large_blob_is_staged_in_blocks_and_committed_once() {
    let container = azurite().container();
    container.put("large", b"the old one");
    let content = Content::new(22, (30 << 20) + 7);
    let writer = client().writer(&container.blob("large"), WriteMode::Replace).unwrap();
    let mut offset = 0;
    for length in [1, 100, 70_000, 9 << 20, 3].into_iter().cycle() {
        let length = (content.size - offset).min(length);
        writer.write_all(&content.bytes(offset, length as usize)).unwrap();
        offset += length;
        if offset == content.size {
            break;
        }
    }
    writer.flush().unwrap();
    let staged = puts(&container, "large");
    assert!(staged.len() > 2 && staged[1..].iter().all(|kind| kind == "block"), "{staged:?}");
    assert_eq!(container.get("large").unwrap(), b"the old one", "flush published the blob");
    writer.close().unwrap();
    assert_same(&container.get("large").unwrap(), &content.all());
    assert_eq!(writer.etag(), container.etag("large"));
    assert_eq!(writer.position().unwrap(), content.size);
    assert_eq!(puts(&container, "large").iter().filter(|kind| *kind == "blocklist").count(), 1);
}

#[test]
fn blocks_are_staged_in_the_background() {
    let container = azurite().container();
    let writer = client_with(|options| options.set_block_size(1 << 20))
        .writer(&container.blob("blob"), WriteMode::Replace)
        .unwrap();
    // Without flush and close, only the background can stage blocks.
    while !puts(&container, "blob").contains(&"block".to_owned()) {
        assert!(writer.position().unwrap() < 1 << 30, "no block was staged during a GiB");
        writer.write_all(&[1; 1 << 20]).unwrap();
    }
    assert_eq!(container.get("blob"), None);
}

#[test]
fn dropping_a_writer_publishes_nothing() {
    let container = azurite().container();
    container.put("old", b"the old one");
    for size in [0, 1000, 20 << 20] {
        for name in ["old", "new"] {
            let writer = client().writer(&container.blob(name), WriteMode::Replace).unwrap();
            writer.write_all(&vec![1; size]).unwrap();
            if size > 1000 {
                writer.flush().unwrap();
            }
            drop(writer);
        }
    }
    assert_eq!(container.get("old").unwrap(), b"the old one");
    assert_eq!(container.get("new"), None);
}

#[test]
fn a_closed_writer_refuses_writes_and_can_be_closed_again() {
    let container = azurite().container();
    let writer = client().writer(&container.blob("blob"), WriteMode::Replace).unwrap();
    writer.write_all(b"all of it").unwrap();
    writer.close().unwrap();
    expect_error(writer.write_all(b"more"), Status::Unsupported);
    writer.close().unwrap();
    assert_eq!(container.get("blob").unwrap(), b"all of it");
    assert_eq!(puts(&container, "blob").len(), 1);
}

#[test]
fn a_failed_close_returns_the_same_error_again() {
    let container = azurite().container();
    container.put("blob", b"the old one");
    let writer = client().writer(&container.blob("blob"), WriteMode::Create).unwrap();
    writer.write_all(b"new").unwrap();
    let first = expect_error(writer.close(), Status::AlreadyExists);
    let second = expect_error(writer.close(), Status::AlreadyExists);
    assert_eq!(first.service_code(), second.service_code());
    assert_eq!(writer.etag(), "");
    assert_eq!(container.get("blob").unwrap(), b"the old one");
}

#[test]
fn std_io_write_publishes_by_close_only() {
    let container = azurite().container();
    let mut writer = client().writer(&container.blob("blob"), WriteMode::Replace).unwrap();
    writeln!(writer, "epoch {}", 7).unwrap();
    Write::flush(&mut writer).unwrap();
    writer.close().unwrap();
    assert_eq!(container.get("blob").unwrap(), b"epoch 7\n");
}

#[test]
fn a_missing_container_is_not_found() {
    let mut container = azurite().container();
    container.name.push_str("-absent");
    for size in [10, 20 << 20] {
        let writer = client().writer(&container.blob("blob"), WriteMode::Replace).unwrap();
        // A large write may already return the error of its first blocks.
        let written = writer.write_all(&vec![1; size]).and_then(|()| writer.close());
        assert_eq!(expect_error(written, Status::NotFound).service_code(), "ContainerNotFound");
        expect_error(writer.close(), Status::NotFound);
    }
}

#[test]
fn writes_of_many_threads_to_one_writer_are_serialised() {
    let container = azurite().container();
    let writer = client().writer(&container.blob("blob"), WriteMode::Replace).unwrap();
    std::thread::scope(|scope| {
        for letter in b'a'..=b'h' {
            let writer = &writer;
            scope.spawn(move || (0..100).for_each(|_| writer.write_all(&[letter; 50_000]).unwrap()));
        }
    });
    writer.close().unwrap();
    let bytes = container.get("blob").unwrap();
    assert_eq!(bytes.len(), 8 * 100 * 50_000);
    assert!(bytes.chunks(50_000).all(|write| write.iter().all(|byte| *byte == write[0])), "two writes are mixed");
}

/// A long write is split into blocks of its own.
#[test]
fn writes_of_any_length_complete_with_any_block_size() {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    within(Duration::from_secs(120), || {
        let server = FaultServer::start();
        for block_size in [64 * KIB, 100_000, 128 * KIB, 256 * KIB - 1, 256 * KIB, 300 * KIB, MIB] {
            let client = client_with(|options| options.set_block_size(block_size));
            for length in
                [4 * block_size - 1, 4 * block_size, 4 * block_size + 1, MIB - 1, MIB, 3 * MIB - 1, 5 * MIB + 7]
            {
                let content = Content::new(block_size + length, length).all();
                write_blob(&client, &server.url("blob"), WriteMode::Replace, &content).unwrap();
                assert_same(&server.blob("blob").unwrap(), &content);
            }
        }
    });
}
