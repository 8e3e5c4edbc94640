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

/// The requests other than ours that Azurite has answered for a blob: `PUT` and what `comp` says.
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
fn a_small_blob_is_one_put_blob_sent_by_close() {
    let container = azurite().container();
    let writer = client().writer(&container.blob("small"), WriteMode::Replace).unwrap();
    assert_eq!(writer.url(), format!("{}/small", container.bare_url()));
    for _ in 0..1000 {
        writer.write_all(b"0123456789").unwrap();
    }
    assert_eq!(writer.position().unwrap(), 10_000);
    assert_eq!(writer.etag(), "", "nothing is published yet");
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
    assert_eq!(container.get("large").unwrap(), b"the old one", "a flush publishes nothing");
    writer.close().unwrap();
    assert_same(&container.get("large").unwrap(), &content.all());
    assert_eq!(writer.etag(), container.etag("large"));
    assert_eq!(writer.position().unwrap(), content.size);
    assert_eq!(puts(&container, "large").iter().filter(|kind| *kind == "blocklist").count(), 1);
}

#[test]
fn blocks_are_staged_while_the_caller_goes_on() {
    let container = azurite().container();
    let writer = client_with(|options| options.set_block_size(1 << 20))
        .writer(&container.blob("blob"), WriteMode::Replace)
        .unwrap();
    // No flush, no close: it is the background that stages.
    while !puts(&container, "blob").contains(&"block".to_owned()) {
        assert!(writer.position().unwrap() < 1 << 30, "nothing staged after a GiB");
        writer.write_all(&[1; 1 << 20]).unwrap();
    }
    assert_eq!(container.get("blob"), None);
}

#[test]
fn nothing_is_published_by_a_drop() {
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
fn a_closed_writer_writes_no_more_and_closes_as_before() {
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
fn a_failed_close_fails_again_in_the_same_way() {
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
fn a_standard_writer_discards_when_dropped_and_publishes_by_close() {
    let container = azurite().container();
    let mut writer = client().writer(&container.blob("blob"), WriteMode::Replace).unwrap();
    writeln!(writer, "epoch {}", 7).unwrap();
    Write::flush(&mut writer).unwrap();
    writer.close().unwrap();
    assert_eq!(container.get("blob").unwrap(), b"epoch 7\n");
}

#[test]
fn a_missing_container_is_not_found_by_close() {
    let mut container = azurite().container();
    container.name.push_str("-absent");
    for size in [10, 20 << 20] {
        let writer = client().writer(&container.blob("blob"), WriteMode::Replace).unwrap();
        // A large write may meet the failure of its first blocks already.
        let written = writer.write_all(&vec![1; size]).and_then(|()| writer.close());
        assert_eq!(expect_error(written, Status::NotFound).service_code(), "ContainerNotFound");
        expect_error(writer.close(), Status::NotFound);
    }
}

#[test]
fn many_threads_write_to_one_handle_one_after_the_other() {
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
    assert!(bytes.chunks(50_000).all(|write| write.iter().all(|byte| *byte == write[0])), "writes are whole");
}

/// A write is cut into blocks of its own when it is long. Each length is taken whole, whatever the block size.
#[test]
fn a_write_of_any_length_ends_with_any_block_size() {
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
