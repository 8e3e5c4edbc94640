//! Datasets as bytes for another process: the same entries, each with its own SAS; damaged bytes are refused.

use std::process::Command;

use aztorch::{BlobRange, Client, Dataset, Status};

use crate::support::azurite::ACCOUNT_KEY;
use crate::support::client::{client, client_with, names, read_rest};
use crate::support::content::{Content, assert_same};
use crate::support::error::{FAKE_SIGNATURE, assert_no_secret, expect_error};
use crate::support::fault::{FaultServer, GeneratedBlobs};

/// Passes a dataset on; asserts that this sends no request, and that the copy has the same bytes and entries.
#[track_caller]
fn pass_on(server: &FaultServer, dataset: &Dataset, client: &Client) -> Dataset {
    let before = server.requests().len();
    let bytes = dataset.serialize().unwrap();
    let copy = Dataset::deserialize(client, &bytes).unwrap();
    assert!(copy.serialize().unwrap() == bytes, "the copy has other bytes");
    assert_eq!(server.requests().len(), before, "a request was sent");
    assert_eq!(names(&copy), names(dataset));
    for index in 0..dataset.len() {
        assert_eq!(copy.url(index).unwrap(), dataset.url(index).unwrap());
        assert_eq!(copy.size(index).unwrap(), dataset.size(index).unwrap());
        assert_eq!(copy.container_name(index).unwrap(), dataset.container_name(index).unwrap());
    }
    copy
}

#[test]
fn a_listing_is_passed_on_with_its_sas() {
    let server = FaultServer::start();
    let odd = ["a \"quoted\" name", "back\\slash", "new\u{2028}line", "模型/🙂", "100% + <more> & 'that'", "z\u{ffff}"];
    for name in odd {
        server.put(name, name.as_bytes().to_vec());
    }
    let dataset = Dataset::list(&client(), &server.container_url(), None).unwrap();
    let copy = pass_on(&server, &dataset, &client());
    for index in 0..odd.len() {
        assert_eq!(copy.get(index).unwrap().bytes(), copy.name(index).unwrap().as_bytes());
        assert!(server.requests().pop().unwrap().query.contains(FAKE_SIGNATURE));
    }
    let none = server.put_generated("none", GeneratedBlobs { count: 0, size: 0 });
    assert!(pass_on(&server, &Dataset::list(&client(), &none, None).unwrap(), &client()).is_empty());
}

#[test]
fn each_url_keeps_its_own_sas_snapshot_or_version() {
    let (server, other) = (FaultServer::start(), FaultServer::start());
    for server in [&server, &other] {
        server.put("blob", b"bytes".to_vec());
        server.put("/account/second/blob", b"of the second".to_vec());
    }
    let bare = |url: String| url.split('?').next().unwrap().to_owned();
    let with = |server: &FaultServer, path: &str, query: &str| format!("{}?{query}", bare(server.url_of(path)));
    let sas = |number: usize| format!("sv=2021-12-02&sp=r&sr=b&n={number}&sig={FAKE_SIGNATURE}");
    let urls = [
        with(&server, "/account/container/blob", &sas(0)),
        with(&server, "/account/container/blob", &sas(1)),
        with(&other, "/account/second/blob", &sas(2)),
        bare(server.url("blob")),
        with(&server, "/account/container/blob", &format!("{}&versionid=2021-01-01T00:00:00.0000000Z", sas(3))),
        with(&server, "/account/container/blob", &format!("snapshot=2020-01-01T00:00:00.0000000Z&{}", sas(4))),
    ];
    let dataset = Dataset::from_urls(&client(), &urls).unwrap();
    dataset.get(1).unwrap();
    let copy = pass_on(&server, &dataset, &client());
    assert_eq!((copy.size(1).unwrap(), copy.size(3).unwrap()), (Some(5), None));
    // Backwards, so that nothing is prefetched.
    for (index, url) in urls.iter().enumerate().rev() {
        // The server has neither the snapshot nor the version, but gets a request for it.
        let _ = copy.get(index);
        let request = if index == 2 { other.requests().pop() } else { server.requests().pop() }.unwrap();
        let query = url.split_once('?').map_or("", |(_, query)| query);
        assert_eq!(request.query, query, "entry {index}");
    }
}

#[test]
fn ranges_and_archive_members_are_passed_on_without_indexing() {
    let folder = tempfile::tempdir().unwrap();
    let server = FaultServer::start();
    for member in ["1.jpg", "2.jpg"] {
        std::fs::write(folder.path().join(member), format!("bytes of {member}")).unwrap();
    }
    let archive = folder.path().join("shard.tar");
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(&archive).arg("-C").arg(folder.path()).args(["1.jpg", "2.jpg"]);
    assert!(tar.status().unwrap().success());
    server.put("shard.tar", std::fs::read(&archive).unwrap());
    let dataset = Dataset::from_tars(&client(), &[server.url("shard.tar")]).unwrap();
    let copy = pass_on(&server, &dataset, &client());
    assert_eq!(names(&copy), ["1.jpg", "2.jpg"]);
    assert_eq!(copy.get(1).unwrap().bytes(), b"bytes of 2.jpg");
    // Members are read from the indexed version of the archive only.
    server.put("shard.tar", vec![0; 4096]);
    expect_error(copy.get(0), Status::Modified);

    let content = Content::new(1, 1 << 20);
    server.put_content("shard", content);
    let range = |offset, length| BlobRange { url: server.url("shard"), offset, length };
    let dataset = Dataset::from_ranges(&client(), &[range(5000, 100), range(0, 0), range(7, 1 << 19)]).unwrap();
    let copy = pass_on(&server, &dataset, &client());
    assert_same(copy.get(0).unwrap().bytes(), &content.bytes(5000, 100));
    assert_eq!(copy.get(1).unwrap().bytes(), b"");
    assert_same(&read_rest(&copy.open(2).unwrap()).unwrap(), &content.bytes(7, 1 << 19));
}

#[test]
fn a_loaded_manifest_is_passed_on_with_the_sas_of_its_url() {
    let server = FaultServer::start();
    server.put("blob", b"bytes".to_vec());
    let dataset = Dataset::list(&client(), &server.container_url(), None).unwrap();
    dataset.save_manifest(&server.url("manifest")).unwrap();
    let copy = pass_on(&server, &Dataset::from_manifest(&client(), &server.url("manifest")).unwrap(), &client());
    assert_eq!(copy.get(0).unwrap().bytes(), b"bytes");
    assert!(server.requests().pop().unwrap().query.contains(FAKE_SIGNATURE));
    // One text is not taken for the other.
    let manifest = server.blob("manifest").unwrap();
    let error = expect_error(Dataset::deserialize(&client(), &manifest), Status::Corrupt);
    assert!(error.message().contains("it is no serialized dataset"), "{error}");
    server.put("manifest", copy.serialize().unwrap());
    expect_error(Dataset::from_manifest(&client(), &server.url("manifest")), Status::Corrupt);
}

#[test]
fn urls_mean_the_same_whatever_the_endpoint_of_the_receiving_client_is() {
    let server = FaultServer::start();
    // The endpoint of the first client has no account in the path, that of the second one has one.
    let text = |account: &str| {
        format!("AccountName=account;AccountKey={ACCOUNT_KEY};BlobEndpoint=http://{}{account}", server.authority())
    };
    let client_at = |account: &str| client_with(|options| options.set_connection_string(&text(account)));
    server.put("/container/folder/blob", b"bytes".to_vec());
    let url = format!("http://{}/container/folder/blob", server.authority());
    let dataset = Dataset::from_urls(&client_at(""), &[&url]).unwrap();
    assert_eq!((dataset.container_name(0).unwrap(), dataset.name(0).unwrap()), ("container", "folder/blob"));
    for receiver in [client_at(""), client_at("/account"), client()] {
        pass_on(&server, &dataset, &receiver);
    }
}

#[test]
fn a_client_with_a_credential_receives_entries_of_any_host() {
    let (server, other) = (FaultServer::start(), FaultServer::start());
    other.put("blob", b"the other's".to_vec());
    let keyed = client_with(|options| options.set_account_key("account", ACCOUNT_KEY));
    let url = other.url("blob").split('?').next().unwrap().to_owned();
    let copy = pass_on(&server, &Dataset::from_urls(&client(), &[url]).unwrap(), &keyed);
    assert_eq!(copy.get(0).unwrap().bytes(), b"the other's");
    assert!(other.requests().pop().unwrap().header("authorization").is_some());
}

#[test]
fn sizes_that_become_known_are_part_of_the_next_bytes() {
    let server = FaultServer::start();
    server.put("blob", vec![7; 100_000]);
    let dataset = Dataset::from_urls(&client(), &[server.url("blob")]).unwrap();
    let before = dataset.serialize().unwrap();
    dataset.get(0).unwrap();
    let after = dataset.serialize().unwrap();
    assert_eq!(after.len(), before.len() + "100000".len() - "null".len());
    assert_eq!(Dataset::deserialize(&client(), &after).unwrap().size(0).unwrap(), Some(100_000));
    assert_eq!(Dataset::deserialize(&client(), &before).unwrap().size(0).unwrap(), None);
}

#[test]
fn damaged_bytes_are_corrupt_and_show_no_secret() {
    let server = FaultServer::start();
    let dataset = Dataset::from_urls(&client(), &[server.url("first"), server.url("second")]).unwrap();
    let whole = dataset.serialize().unwrap();
    assert!(String::from_utf8_lossy(&whole).contains(FAKE_SIGNATURE));
    let refuse = |bytes: &[u8], what: String| {
        let error = match Dataset::deserialize(&client(), bytes) {
            Err(error) => error,
            Ok(_) => panic!("{what}: accepted"),
        };
        assert_eq!(error.status(), Status::Corrupt, "{what}: {error}");
        assert_no_secret(error.message());
        assert!(!error.is_retryable());
    };
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x04;
        refuse(&damaged, format!("byte {at} changed"));
        refuse(&whole[..at], format!("cut off at {at}"));
    }
    refuse(b"", "nothing".to_owned());
    refuse(&[0xff; 1000], "no text".to_owned());
    refuse(&b"[".repeat(100_000), "deeply nested".to_owned());
    refuse(&[whole.clone(), whole.clone()].concat(), "twice".to_owned());
}
