//! A blob of a GiB in bounded memory, and blocks that killed programs left behind.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};

use aztorch::{Status, WriteMode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use crate::support::azurite::azurite;
use crate::support::child::{self, test_path};
use crate::support::client::{client, client_with, read_blob, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::FaultServer;

const GIB: Content = Content { seed: 31, size: 1 << 30 };
const PIECE: usize = 1 << 20;

/// The peak resident memory of this process, in MiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this process's status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its peak");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

#[test]
fn a_gib_is_written_and_read_back_in_bounded_memory() {
    // In a process of its own the peak memory is that of this transfer.
    let Some(url) = child::argument() else {
        let container = azurite().container();
        let url = container.blob("gib");
        let status = child::spawn(test_path(a_gib_is_written_and_read_back_in_bounded_memory), &url).wait().unwrap();
        assert!(status.success(), "{status}");
        let ids: Vec<_> = container.requests("gib").iter().filter_map(|request| block_id(&request.query)).collect();
        assert!(!ids.is_empty());
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "a block id was used twice");
        assert!(ids.iter().all(|id| id.len() == 36), "{:?}", ids[0]);
        return;
    };
    let client = client();
    let writer = client.writer(&url, WriteMode::Replace).unwrap();
    let mut piece = vec![0; PIECE];
    for offset in (0..GIB.size).step_by(PIECE) {
        GIB.fill(offset, &mut piece);
        writer.write_all(&piece).unwrap();
    }
    writer.close().unwrap();

    let reader = client.open(&url).unwrap();
    assert_eq!(reader.size(), GIB.size);
    assert_eq!(reader.etag(), writer.etag());
    let mut hash = Sha256::new();
    loop {
        let read = reader.read(&mut piece).unwrap();
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
    }
    assert_eq!(<[u8; 32]>::from(hash.finalize()), GIB.sha256());
    assert!(peak_memory() < 256, "{} MiB resident", peak_memory());
}

/// The decoded id of a Put Block.
fn block_id(query: &str) -> Option<String> {
    let id = query.split('&').find_map(|pair| pair.strip_prefix("blockid="))?;
    let id = id.replace("%3D", "=").replace("%2B", "+").replace("%2F", "/");
    Some(String::from_utf8(BASE64.decode(id).expect("base64")).expect("text"))
}

#[test]
fn a_huge_write_stores_exact_bytes() {
    let container = azurite().container();
    let content = Content::new(32, (200 << 20) + 3);
    write_blob(&client(), &container.blob("huge"), WriteMode::Create, &content.all()).unwrap();
    assert_same(&container.get("huge").unwrap(), &content.all());
}

#[test]
fn uncommitted_blocks_of_another_program_do_not_prevent_a_write() {
    let container = azurite().container();
    let large = Content::new(33, 20 << 20).all();
    for (name, mode) in [("replace", WriteMode::Replace), ("create", WriteMode::Create)] {
        for (size, bytes) in [("large", large.as_slice()), ("small", b"small"), ("empty", b"")] {
            let blob = format!("{name}-{size}");
            // The reference's block ids are UUIDs as text. Blocks of a killed program stay for a week.
            for number in 0..3 {
                container.put_block(&blob, &format!("0d9c1e2a-7f4b-4c57-9e67-00000000000{number}"), b"left over");
            }
            write_blob(&client(), &container.blob(&blob), mode, bytes)
                .unwrap_or_else(|error| panic!("{blob}: {error}"));
            assert_same(&container.get(&blob).unwrap(), bytes);
        }
    }
}

#[test]
fn uncommitted_blocks_with_ids_of_another_length_are_an_error_with_advice() {
    let container = azurite().container();
    let large = Content::new(36, 20 << 20).all();
    container.put_block("blob", "short-id", b"left over");
    let error = expect_error(
        write_blob(&client(), &container.blob("blob"), WriteMode::Replace, &large).map(drop),
        Status::Rejected,
    );
    assert_eq!(error.service_code(), "InvalidBlobOrBlock");
    assert!(error.message().contains("left by another program"), "{error}");
}

#[test]
fn uncommitted_blocks_of_this_library_do_not_prevent_a_write() {
    let container = azurite().container();
    let content = Content::new(34, 20 << 20);
    let discarded = client().writer(&container.blob("blob"), WriteMode::Replace).unwrap();
    discarded.write_all(&content.all()).unwrap();
    discarded.flush().unwrap();
    drop(discarded);
    let content = Content::new(35, 25 << 20);
    write_blob(&client(), &container.blob("blob"), WriteMode::Create, &content.all()).unwrap();
    assert_same(&container.get("blob").unwrap(), &content.all());
}

#[test]
fn a_process_killed_during_a_write_leaves_the_old_blob() {
    if let Some(url) = child::argument() {
        let writer = client().writer(&url, WriteMode::Replace).unwrap();
        writer.write_all(&vec![1; 20 << 20]).unwrap();
        writer.flush().unwrap();
        println!("sending");
        loop {
            writer.write_all(&vec![2; 1 << 20]).unwrap();
        }
    }
    let container = azurite().container();
    let old = Content::new(36, 15 << 20).all();
    container.put("checkpoint", &old);
    let mut child =
        child::spawn(test_path(a_process_killed_during_a_write_leaves_the_old_blob), &container.blob("checkpoint"));
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.ends_with("sending")), "the child did not begin to send");
    child.kill().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(libc::SIGKILL));

    assert_same(&container.get("checkpoint").unwrap(), &old);
    assert_same(&read_blob(&client(), &container.blob("checkpoint")).unwrap(), &old);
    let new = Content::new(37, 18 << 20).all();
    write_blob(&client(), &container.blob("checkpoint"), WriteMode::Replace, &new).unwrap();
    assert_same(&container.get("checkpoint").unwrap(), &new);
}

#[test]
fn a_large_write_reuses_its_connections() {
    let server = FaultServer::start();
    let client = client_with(|options| options.set_max_concurrency(4));
    let content = Content::new(77, 64 << 20).all();
    let writer = client.writer(&server.url("blob"), WriteMode::Replace).unwrap();
    writer.write_all(&content).unwrap();
    writer.close().unwrap();
    assert_same(&server.blob("blob").unwrap(), &content);
    assert!(server.requests_of("put-block").len() >= 8);
    assert!(server.connections() <= 4, "{} connections", server.connections());
}
