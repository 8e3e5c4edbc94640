//! Snapshots, versions, blobs with a content encoding, and polling for a new version.

use aztorch::{Status, WriteMode};

use crate::support::azurite::azurite;
use crate::support::client::{client, read_at, read_blob, read_rest};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::FaultServer;

#[test]
fn a_snapshot_can_be_read_after_the_blob_has_changed() {
    let container = azurite().container();
    let old = Content::new(51, (25 << 20) + 1);
    container.put("blob", &old.all());
    let taken = container.send("PUT", "blob?comp=snapshot", &[], b"").expect(201);
    let snapshot = container.blob(&format!("blob?snapshot={}", taken.header("x-ms-snapshot").unwrap()));
    container.put("blob", b"the new one");

    let reader = client().open(&snapshot).unwrap();
    assert_eq!(reader.url(), format!("{}/blob", container.bare_url()), "the URL is shown without its query");
    assert_same(&read_rest(&reader).unwrap(), &old.all());
    assert_same(&read_at(&reader, 20 << 20, 100).unwrap(), &old.bytes(20 << 20, 100));
    assert_eq!(read_blob(&client(), &container.blob("blob")).unwrap(), b"the new one");
    let file = tempfile::NamedTempFile::new().unwrap();
    client().download(&snapshot, file.path()).unwrap();
    assert_same(&std::fs::read(file.path()).unwrap(), &old.all());
    assert!(client().exists(&snapshot).unwrap());
}

#[test]
fn a_missing_snapshot_is_not_found() {
    let container = azurite().container();
    container.put("blob", b"current");
    let url = container.blob("blob?snapshot=2020-01-01T00:00:00.0000000Z");
    expect_error(client().open(&url), Status::NotFound);
    assert!(!client().exists(&url).unwrap());
}

#[test]
fn a_snapshot_cannot_be_written() {
    let container = azurite().container();
    container.put("blob", b"current");
    let url = container.blob("blob?snapshot=2020-01-01T00:00:00.0000000Z");
    expect_error(client().writer(&url, WriteMode::Replace), Status::InvalidArgument);
    expect_error(client().writer(&url, WriteMode::Create), Status::InvalidArgument);
}

#[test]
fn deleting_a_snapshot_keeps_the_blob() {
    let container = azurite().container();
    container.put("blob", b"current");
    let taken = container.send("PUT", "blob?comp=snapshot", &[], b"").expect(201);
    let snapshot = container.blob(&format!("blob?snapshot={}", taken.header("x-ms-snapshot").unwrap()));
    // The service does not delete a blob that has snapshots.
    assert_eq!(
        expect_error(client().delete(&container.blob("blob")), Status::Rejected).service_code(),
        "SnapshotsPresent"
    );
    client().delete(&snapshot).unwrap();
    assert!(!client().exists(&snapshot).unwrap());
    assert_eq!(container.get("blob").unwrap(), b"current");
}

#[test]
fn every_request_names_the_version() {
    // Azurite does not support versions.
    let server = FaultServer::start();
    let content = Content::new(52, 20 << 20);
    server.put_content("blob", content);
    let reader = client().open(&format!("{}&versionid=2024-05-06T07:08:09.0123456Z", server.url("blob"))).unwrap();
    assert_same(&read_rest(&reader).unwrap(), &content.all());
    let requests = server.requests();
    assert!(requests.len() > 1);
    for request in requests {
        let version = request.query("versionid").expect("the version").replace("%3A", ":");
        assert_eq!(version, "2024-05-06T07:08:09.0123456Z");
    }
}

#[test]
fn a_gzip_encoded_blob_is_not_decoded() {
    let container = azurite().container();
    // Valid gzip, which an HTTP client could decode.
    let mut stored = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    stored.extend([1, 5, 0, 0xfa, 0xff, b'h', b'e', b'l', b'l', b'o', 0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0]);
    container.put_with("blob.gz", &[("x-ms-blob-content-encoding", "gzip")], &stored);
    let reader = client().open(&container.blob("blob.gz")).unwrap();
    assert_eq!(reader.size(), stored.len() as u64);
    assert_eq!(read_rest(&reader).unwrap(), stored);
    assert_eq!(read_at(&reader, 5, 9).unwrap(), stored[5..14]);

    let large = Content::new(53, 20 << 20).all();
    container.put_with("large.gz", &[("x-ms-blob-content-encoding", "gzip")], &large);
    assert_same(&read_blob(&client(), &container.blob("large.gz")).unwrap(), &large);
    let reader = client().open(&container.blob("large.gz")).unwrap();
    assert_same(&read_at(&reader, 15 << 20, 100).unwrap(), &large[15 << 20..][..100]);
}

#[test]
fn polls_of_an_unchanged_blob_transfer_no_blob_bytes() {
    let container = azurite().container();
    let etag = container.put("blob", b"version 1");
    let client = client();
    for _ in 0..1000 {
        assert!(client.open_if_changed(&container.blob("blob"), &etag).unwrap().is_none());
    }
    let polls = container.requests("blob").split_off(1);
    assert_eq!(polls.len(), 1000);
    assert!(polls.iter().all(|poll| poll.status == 304), "the response to a poll had a body");

    let new = container.put("blob", b"version 2");
    let reader = client.open_if_changed(&container.blob("blob"), &etag).unwrap().expect("a change");
    assert_eq!(reader.etag(), new);
    assert_eq!(read_rest(&reader).unwrap(), b"version 2");
}

#[test]
fn a_poll_distinguishes_a_missing_blob_from_an_empty_one() {
    let container = azurite().container();
    let etag = container.put("blob", b"");
    let client = client();
    assert!(client.open_if_changed(&container.blob("blob"), &etag).unwrap().is_none());
    let reader = client.open_if_changed(&container.blob("blob"), "\"0x1\"").unwrap().expect("another version");
    assert_eq!((reader.size(), reader.etag()), (0, etag.as_str()));
    container.send("DELETE", "blob", &[], b"").expect(202);
    expect_error(client.open_if_changed(&container.blob("blob"), &etag), Status::NotFound);
}
