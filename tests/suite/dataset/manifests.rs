//! Manifests: they keep a dataset's entries, and no secrets; damaged ones are refused.

use std::process::Command;

use aztorch::{BlobRange, Dataset, Status};

use crate::support::azurite::{ACCOUNT, ACCOUNT_KEY, azurite};
use crate::support::client::{client, client_with, names, read_rest};
use crate::support::content::{Content, assert_same};
use crate::support::error::{FAKE_SIGNATURE, assert_no_secret, expect_error};
use crate::support::fault::{Fault, FaultServer, GeneratedBlobs};
use crate::support::percent::encode_path;

/// Saves a dataset and loads it again; asserts that loading lists nothing.
fn save_and_load(server: &FaultServer, dataset: &Dataset) -> Dataset {
    dataset.save_manifest(&server.url("manifest")).unwrap();
    let before = server.requests().len();
    let loaded = Dataset::from_manifest(&client(), &server.url("manifest")).unwrap();
    let requests = server.requests()[before..].to_vec();
    assert!(requests.iter().all(|request| request.verb() == "GET" && request.path.ends_with("/manifest")));
    loaded
}

#[track_caller]
fn assert_equal_entries(loaded: &Dataset, saved: &Dataset) {
    assert_eq!(loaded.len(), saved.len());
    assert_eq!(names(loaded), names(saved));
    for index in 0..saved.len() {
        assert_eq!(loaded.url(index).unwrap(), saved.url(index).unwrap());
        assert_eq!(loaded.size(index).unwrap(), saved.size(index).unwrap());
        assert_eq!(loaded.container_name(index).unwrap(), saved.container_name(index).unwrap());
    }
}

#[test]
fn a_saved_listing_is_loaded_unchanged() {
    let server = FaultServer::start();
    let odd = ["a \"quoted\" name", "back\\slash", "new\u{2028}line", "模型/🙂", "100% + <more> & 'that'", "z\u{ffff}"];
    for name in odd {
        server.put(name, name.as_bytes().to_vec());
    }
    let dataset = Dataset::list(&client(), &server.container_url(), None).unwrap();
    let loaded = save_and_load(&server, &dataset);
    assert_equal_entries(&loaded, &dataset);
    for index in 0..odd.len() {
        assert_eq!(loaded.get(index).unwrap().bytes(), loaded.name(index).unwrap().as_bytes());
    }
}

#[test]
fn a_saved_listing_with_prefix_is_loaded_on_azurite() {
    let container = azurite().container();
    for index in 0..20 {
        container.put(&format!("data/{index:02}"), format!("bytes of {index}").as_bytes());
        container.put(&format!("other/{index:02}"), b"other");
    }
    let dataset = Dataset::list(&client(), &container.url(), Some("data/")).unwrap();
    dataset.save_manifest(&container.blob("manifests/epoch%201")).unwrap();
    let loaded = Dataset::from_manifest(&client(), &container.blob("manifests/epoch%201")).unwrap();
    assert_equal_entries(&loaded, &dataset);
    assert_eq!(loaded.get(7).unwrap().bytes(), b"bytes of 7");
    let batch = loaded.get_batch(&[19, 0]).unwrap();
    assert_eq!(batch[0].bytes(), b"bytes of 19");
    // A loaded dataset has the same manifest, so manifests can be compared.
    loaded.save_manifest(&container.blob("again")).unwrap();
    assert!(container.get("again") == container.get("manifests/epoch%201"), "the manifests differ");
}

#[test]
fn fifty_thousand_entries_are_saved_and_loaded() {
    let server = FaultServer::start();
    let blobs = GeneratedBlobs { count: 50_000, size: 1000 };
    let dataset = Dataset::list(&client(), &server.put_generated("many", blobs), None).unwrap();
    // A manifest of several blocks, and an empty one.
    let loaded = save_and_load(&server, &dataset);
    assert_equal_entries(&loaded, &dataset);
    assert_same(loaded.get(49_999).unwrap().bytes(), &blobs.content(49_999).all());
    let none =
        Dataset::list(&client(), &server.put_generated("none", GeneratedBlobs { count: 0, size: 0 }), None).unwrap();
    assert!(save_and_load(&server, &none).is_empty());
}

#[test]
fn urls_of_several_containers_and_snapshots_are_saved_and_loaded() {
    let container = azurite().container();
    let other = azurite().container();
    container.put("blob", b"old");
    other.put("blob", b"the other's");
    let snapshot = container.send("PUT", "blob?comp=snapshot", &[], b"").expect(201);
    let snapshot = snapshot.header("x-ms-snapshot").unwrap().to_owned();
    container.put("blob", b"new");
    let urls = [
        other.blob("blob"),
        container.blob(&format!("blob?snapshot={snapshot}")),
        container.blob("blob"),
        container.blob("absent"),
    ];
    let dataset = Dataset::from_urls(&client(), &urls).unwrap();
    // Only the size of an entry that was read is known.
    dataset.get(0).unwrap();
    dataset.save_manifest(&container.blob("manifest")).unwrap();
    let loaded = Dataset::from_manifest(&client(), &container.blob("manifest")).unwrap();
    assert_equal_entries(&loaded, &dataset);
    assert_eq!(loaded.get(0).unwrap().bytes(), b"the other's", "an account SAS is valid for another container");
    assert_eq!(loaded.get(1).unwrap().bytes(), b"old");
    assert_eq!(loaded.get(2).unwrap().bytes(), b"new");
    expect_error(loaded.get(3), Status::NotFound);
}

#[test]
fn ranges_are_saved_and_loaded() {
    let server = FaultServer::start();
    let content = Content::new(1, 1 << 20);
    server.put_content("shard", content);
    let range = |offset, length| BlobRange { url: server.url("shard"), offset, length };
    let dataset = Dataset::from_ranges(&client(), &[range(5000, 100), range(0, 0), range(7, 1 << 19)]).unwrap();
    let loaded = save_and_load(&server, &dataset);
    assert_equal_entries(&loaded, &dataset);
    assert_same(loaded.get(0).unwrap().bytes(), &content.bytes(5000, 100));
    assert_eq!(loaded.get(1).unwrap().bytes(), b"");
    assert_same(&read_rest(&loaded.open(2).unwrap()).unwrap(), &content.bytes(7, 1 << 19));
}

#[test]
fn archive_members_are_loaded_without_indexing() {
    let folder = tempfile::tempdir().unwrap();
    let server = FaultServer::start();
    for shard in ["a", "b"] {
        for member in ["1.jpg", "2.jpg"] {
            std::fs::write(folder.path().join(member), format!("{shard}'s {member}")).unwrap();
        }
        let archive = folder.path().join("shard.tar");
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(&archive).arg("-C").arg(folder.path()).args(["1.jpg", "2.jpg"]);
        assert!(tar.status().unwrap().success());
        server.put(&format!("{shard}.tar"), std::fs::read(&archive).unwrap());
    }
    let dataset = Dataset::from_tars(&client(), &[server.url("a.tar"), server.url("b.tar")]).unwrap();
    let loaded = save_and_load(&server, &dataset);
    assert_equal_entries(&loaded, &dataset);
    assert_eq!(names(&loaded), ["1.jpg", "2.jpg", "1.jpg", "2.jpg"]);
    assert_eq!(loaded.get(3).unwrap().bytes(), b"b's 2.jpg");
    assert_eq!(loaded.open(0).unwrap().size(), 9);
    // Members are read from the indexed version of the archive only.
    server.put("a.tar", vec![0; 4096]);
    expect_error(loaded.get(0), Status::Modified);
    assert_eq!(loaded.get(2).unwrap().bytes(), b"b's 1.jpg");
}

#[test]
fn all_ranks_load_the_same_entries_after_the_container_changed() {
    let container = azurite().container();
    for name in ["b", "d", "f", "h"] {
        container.put(name, name.as_bytes());
    }
    let rank_0 = Dataset::list(&client(), &container.url(), None).unwrap();
    rank_0.save_manifest(&container.blob("manifest")).unwrap();
    container.put("a", b"a new one");
    container.put("e", b"another new one");
    container.put("f", b"new bytes, and more of them");
    container.send("DELETE", "d", &[], b"").expect(202);
    let rank_1 = Dataset::from_manifest(&client(), &container.blob("manifest")).unwrap();
    assert_eq!(names(&rank_1), ["b", "d", "f", "h"]);
    assert_eq!(rank_1.get(0).unwrap().bytes(), b"b");
    assert_eq!(rank_1.get(2).unwrap().bytes(), b"new bytes, and more of them");
    let error = expect_error(rank_1.get(1), Status::NotFound);
    assert!(error.message().contains("/d"), "{error}");
    assert_eq!(rank_1.get(3).unwrap().bytes(), b"h");
}

#[test]
fn a_manifest_contains_no_secret() {
    let server = FaultServer::start();
    server.put("blob", b"bytes".to_vec());
    let url = format!("{}&snapshot=2020-01-01T00:00:00.0000000Z", server.url("blob"));
    let version = format!("{}&versionid=2021-01-01T00:00:00.0000000Z", server.url("blob"));
    let datasets = [
        Dataset::list(&client(), &server.container_url(), None).unwrap(),
        Dataset::from_urls(&client(), &[server.url("blob"), url, version]).unwrap(),
        Dataset::from_ranges(&client(), &[BlobRange { url: server.url("blob"), offset: 1, length: 2 }]).unwrap(),
    ];
    let sas = server.container_url().split_once('?').unwrap().1.to_owned();
    assert!(sas.contains(FAKE_SIGNATURE));
    for dataset in datasets {
        dataset.save_manifest(&server.url("manifest")).unwrap();
        let text = String::from_utf8_lossy(&server.blob("manifest").unwrap()).into_owned();
        assert_no_secret(&text);
        for parameter in sas.split('&') {
            assert!(!text.contains(parameter), "{parameter} of the SAS is in {text}");
        }
        assert!(text.contains("blob"));
    }
    let container = azurite().container();
    container.put("blob", b"bytes");
    let keyed = client_with(|options| options.set_account_key(ACCOUNT, ACCOUNT_KEY));
    let bare = format!("{}/manifest", container.bare_url());
    Dataset::list(&keyed, &container.bare_url(), None).unwrap().save_manifest(&bare).unwrap();
    assert_no_secret(&String::from_utf8_lossy(&container.get("manifest").unwrap()));
    // The loading client uses its own credential: a key, or the SAS of the manifest's URL.
    assert_eq!(Dataset::from_manifest(&keyed, &bare).unwrap().get(0).unwrap().bytes(), b"bytes");
    let by_sas = Dataset::from_manifest(&client(), &container.blob("manifest")).unwrap();
    assert_eq!(by_sas.get(0).unwrap().bytes(), b"bytes");
}

#[test]
fn the_sas_of_the_manifests_url_is_sent_only_where_it_is_valid() {
    let (server, foreign) = (FaultServer::start(), FaultServer::start());
    server.put("blob", b"ours".to_vec());
    server.put("/account/other/blob", b"ours too".to_vec());
    server.put("/another/container/blob", b"another account's".to_vec());
    foreign.put("blob", b"foreign".to_vec());
    let bare = |url: String| url.split('?').next().unwrap().to_owned();
    let urls = [
        server.url("blob"),
        server.url_of("/account/other/blob"),
        server.url_of("/another/container/blob"),
        foreign.url("blob"),
    ]
    .map(bare);
    let dataset = Dataset::from_urls(&client(), &urls).unwrap();
    dataset.save_manifest(&server.url("manifest")).unwrap();
    let sas_of = |kind: &str| format!("sv=2021-12-02&sp=r&{kind}&sig={FAKE_SIGNATURE}");
    // Which entries get the SAS: of an account, of a container, of one blob.
    for (kind, expected) in
        [("ss=b&srt=sco", [true, true, false, false]), ("sr=c", [true, false, false, false]), ("sr=b", [false; 4])]
    {
        let url = format!("{}?{}", bare(server.url("manifest")), sas_of(kind));
        let loaded = Dataset::from_manifest(&client(), &url).unwrap();
        // Backwards, so that nothing is prefetched.
        for (index, expected) in expected.into_iter().enumerate().rev() {
            let host = if index == 3 { &foreign } else { &server };
            loaded.get(index).unwrap();
            let request = host.requests().pop().unwrap();
            assert!(urls[index].contains(&request.path));
            assert_eq!(request.query.contains(FAKE_SIGNATURE), expected, "{kind}, {}", request.path);
        }
    }
}

#[test]
fn no_credential_is_sent_to_a_host_that_only_a_manifest_names() {
    let (server, foreign) = (FaultServer::start(), FaultServer::start());
    server.put("blob", b"ours".to_vec());
    foreign.put("blob", b"foreign".to_vec());
    let bare = |url: String| url.split('?').next().unwrap().to_owned();
    let urls = [&server, &foreign].map(|server| bare(server.url("blob")));
    Dataset::from_urls(&client(), &urls).unwrap().save_manifest(&server.url("manifest")).unwrap();
    let sas = format!("sv=2021-12-02&sp=r&sig={FAKE_SIGNATURE}");
    let endpoint_of = |server: &FaultServer| {
        let authority = server.authority();
        format!("AccountName=account;AccountKey={ACCOUNT_KEY};BlobEndpoint=http://{authority}/account")
    };
    for client in [
        client_with(|options| options.set_account_key("account", ACCOUNT_KEY)),
        client_with(|options| options.set_sas_token(&sas)),
        client_with(|options| options.set_connection_string(&endpoint_of(&server))),
    ] {
        let error = expect_error(Dataset::from_manifest(&client, &server.url("manifest")), Status::InvalidArgument);
        assert!(error.message().contains("/manifest: it names blobs on"), "{error}");
        assert!(error.message().contains(&format!("http://{}", foreign.authority())), "{error}");
        assert!(error.message().contains("anonymous"), "{error}");
        // URLs that the program itself names are accepted.
        assert_eq!(Dataset::from_urls(&client, &urls).unwrap().len(), 2);
        // The manifest's own host is accepted, because the program names it.
        Dataset::from_urls(&client, &urls[..1]).unwrap().save_manifest(&server.url("own")).unwrap();
        let own = Dataset::from_manifest(&client, &bare(server.url("own"))).unwrap();
        assert_eq!(own.get(0).unwrap().bytes(), b"ours");
    }
    assert!(foreign.requests().is_empty());

    let for_foreign = client_with(|options| options.set_connection_string(&endpoint_of(&foreign)));
    for (client, is_signed) in
        [(client(), false), (client_with(|options| options.set_anonymous()), false), (for_foreign, true)]
    {
        let loaded = Dataset::from_manifest(&client, &server.url("manifest")).unwrap();
        assert_eq!(loaded.get(1).unwrap().bytes(), b"foreign");
        assert_eq!(foreign.requests().pop().unwrap().header("authorization").is_some(), is_signed);
    }
}

#[test]
fn a_damaged_manifest_is_corrupt() {
    let server = FaultServer::start();
    for name in ["first", "second", "third"] {
        server.put(name, name.as_bytes().to_vec());
    }
    Dataset::list(&client(), &server.container_url(), None).unwrap().save_manifest(&server.url("manifest")).unwrap();
    let whole = server.blob("manifest").unwrap();
    let refuse = |bytes: Vec<u8>, what: String| {
        server.put("damaged", bytes);
        match Dataset::from_manifest(&client(), &server.url("damaged")) {
            Err(error) if error.status() == Status::Corrupt => {
                assert!(error.message().contains("/damaged"), "{error}");
                assert!(!error.is_retryable());
            }
            Err(error) => panic!("{what}: {error}"),
            Ok(_) => panic!("{what}: accepted as a manifest"),
        }
    };
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x04;
        refuse(damaged, format!("byte {at} changed"));
        refuse(whole[..at].to_vec(), format!("cut off at {at}"));
    }
    let lines: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(lines.len() > 3);
    for line in 0..lines.len() {
        let mut without = lines.clone();
        without.remove(line);
        refuse(without.concat(), format!("without line {line}"));
        let mut twice = lines.clone();
        twice.insert(line, lines[line]);
        refuse(twice.concat(), format!("line {line} twice"));
    }
    refuse([whole.as_slice(), b"more"].concat(), "bytes after the end".to_owned());
    for other in [b"".to_vec(), b"{}\n{}\n".to_vec(), b"\xff\xfe".to_vec(), Content::new(1, 10_000).all()] {
        refuse(other, "not a manifest".to_owned());
    }
    server.put("damaged", whole);
    assert_eq!(Dataset::from_manifest(&client(), &server.url("damaged")).unwrap().len(), 3);
}

#[test]
fn invalid_and_missing_manifest_urls_are_errors() {
    let container = azurite().container();
    container.put("blob", b"bytes");
    let dataset = Dataset::list(&client(), &container.url(), None).unwrap();
    for bad in ["", "nonsense", &container.url(), &container.blob("a/../b")] {
        expect_error(dataset.save_manifest(bad), Status::InvalidArgument);
        expect_error(Dataset::from_manifest(&client(), bad), Status::InvalidArgument);
    }
    let error = expect_error(Dataset::from_manifest(&client(), &container.blob("absent")), Status::NotFound);
    assert!(error.message().contains("/absent"), "{error}");
    let missing = container.url().replace(&container.name, "missing-container");
    let missing = missing.replace('?', "/manifest?");
    let error = expect_error(dataset.save_manifest(&missing), Status::NotFound);
    assert_eq!(error.service_code(), "ContainerNotFound");
    // A second manifest replaces the first.
    for _ in 0..2 {
        dataset.save_manifest(&container.blob(&encode_path("a manifest"))).unwrap();
    }
}

#[test]
fn failed_requests_for_a_manifest_are_retried() {
    let server = FaultServer::start();
    let blobs = GeneratedBlobs { count: 20_000, size: 10 };
    let dataset = Dataset::list(&client(), &server.put_generated("many", blobs), None).unwrap();
    server.script("PUT", [Fault::status(503, ""), Fault::LoseAnswer]);
    server.script("put-block", [Fault::status(500, ""), Fault::Reset { after: None }]);
    dataset.save_manifest(&server.url("manifest")).unwrap();
    for fault in [Fault::status(503, ""), Fault::Reset { after: Some(100_000) }, Fault::ShortBody(7)] {
        server.script("GET", [fault.clone(), fault]);
        assert_equal_entries(&Dataset::from_manifest(&client(), &server.url("manifest")).unwrap(), &dataset);
    }
}
