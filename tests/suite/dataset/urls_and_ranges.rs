//! Datasets made of URLs, and of ranges of blobs.

use aztorch::{BlobRange, Dataset, Status};

use crate::support::azurite::azurite;
use crate::support::client::{client, client_with, names, read_rest};
use crate::support::content::{Content, assert_same};
use crate::support::error::{FAKE_SIGNATURE, expect_error};
use crate::support::fault::{Fault, FaultServer};

const NONE: [&str; 0] = [];

// test_from_blob_urls, test_from_blob_urls_single
#[test]
fn urls_of_several_containers_keep_their_order() {
    let (one, other) = (azurite().container(), azurite().container());
    one.put("b", b"one's b");
    one.put("a%20b", b"one's a b");
    other.put("b", b"the other's b");
    let urls = [other.blob("b"), one.blob("b"), one.blob("a%20b"), other.blob("b")];
    let dataset = Dataset::from_urls(&client(), &urls).unwrap();
    assert_eq!(names(&dataset), ["b", "b", "a b", "b"]);
    let expected: [(&[u8], _); 4] =
        [(b"the other's b", &other), (b"one's b", &one), (b"one's a b", &one), (b"the other's b", &other)];
    for (index, (bytes, container)) in expected.into_iter().enumerate() {
        let sample = dataset.get(index).unwrap();
        assert_eq!(sample.bytes(), bytes);
        assert_eq!((sample.container_name(), sample.position()), (container.name.as_str(), index as u64));
        assert_eq!(dataset.container_name(index).unwrap(), container.name);
        assert_eq!(Some(sample.url().as_str()), urls[index].split('?').next(), "the URL is shown without its query");
    }
    assert_eq!(Dataset::from_urls(&client(), &[one.blob("b")]).unwrap().len(), 1);
}

#[test]
fn no_urls_make_an_empty_dataset() {
    let dataset = Dataset::from_urls(&client(), &NONE).unwrap();
    assert!(dataset.is_empty());
    expect_error(dataset.get(0), Status::OutOfRange);
    assert!(Dataset::from_ranges(&client(), &[]).unwrap().is_empty());
}

#[test]
fn a_size_is_known_after_the_first_get() {
    let server = FaultServer::start();
    server.put("blob", b"12345".to_vec());
    let dataset = Dataset::from_urls(&client(), &[server.url("blob"), server.url("absent")]).unwrap();
    assert_eq!((dataset.size(0).unwrap(), dataset.size(1).unwrap()), (None, None));
    assert_eq!(dataset.url(0).unwrap(), server.url("blob").split('?').next().unwrap());
    assert_eq!(server.requests().len(), 0);
    assert_eq!(dataset.get(0).unwrap().bytes(), b"12345");
    assert_eq!(dataset.size(0).unwrap(), Some(5));
    let error = expect_error(dataset.get(1), Status::NotFound);
    assert!(error.message().contains("/absent"), "{error}");
    assert_eq!(dataset.size(1).unwrap(), None);
}

#[test]
fn each_url_keeps_its_own_sas() {
    let server = FaultServer::start();
    let url = |path: &str, sas: &str| format!("{}{sas}", server.url_of(path).split_once("sv=").unwrap().0);
    let sas = |number: usize| format!("sv=2021-12-02&sp=r&sr=b&sig={FAKE_SIGNATURE}{number}");
    let paths = ["/account/con/a", "/account/con/b", "/other/con/a", "/account/con2/a"];
    for path in paths {
        server.put(path, path.as_bytes().to_vec());
    }
    let urls: Vec<_> = paths.iter().enumerate().map(|(number, path)| url(path, &sas(number))).collect();
    // The client's SAS is for URLs without one.
    let client = client_with(|options| options.set_sas_token("sv=1&sig=b3RoZXI"));
    let dataset = Dataset::from_urls(&client, &urls).unwrap();
    for (index, path) in paths.iter().enumerate() {
        assert_eq!(dataset.get(index).unwrap().bytes(), path.as_bytes());
        dataset.open(index).unwrap();
    }
    for request in server.requests() {
        let index = paths.iter().position(|path| *path == request.path).unwrap();
        assert_eq!(request.query, sas(index));
    }
    server.on_request(|_| Some(Fault::status(403, "AuthenticationFailed")));
    expect_error(dataset.get(3), Status::PermissionDenied);
}

#[test]
fn a_snapshot_returns_its_bytes() {
    let container = azurite().container();
    container.put("blob", b"the old bytes");
    let snapshot = container.send("PUT", "blob?comp=snapshot", &[], b"").expect(201);
    let snapshot = snapshot.header("x-ms-snapshot").unwrap().to_owned();
    container.put("blob", b"new");
    let urls = [container.blob(&format!("blob?snapshot={snapshot}")), container.blob("blob")];
    let dataset = Dataset::from_urls(&client(), &urls).unwrap();
    assert_eq!(dataset.get(0).unwrap().bytes(), b"the old bytes");
    assert_eq!(dataset.get(1).unwrap().bytes(), b"new");
    assert_eq!(read_rest(&dataset.open(0).unwrap()).unwrap(), b"the old bytes");
    assert_eq!(names(&dataset), ["blob", "blob"]);
}

#[test]
fn requests_name_the_version() {
    let server = FaultServer::start();
    server.put("blob", b"bytes".to_vec());
    let url = format!("{}&versionid=2020-10-12T05:31:41.8939133Z", server.url("blob"));
    let dataset = Dataset::from_urls(&client(), &[url]).unwrap();
    dataset.get(0).unwrap();
    dataset.open(0).unwrap();
    for request in server.requests() {
        assert_eq!(request.query("versionid"), Some("2020-10-12T05:31:41.8939133Z"));
    }
}

#[test]
fn an_invalid_url_fails_the_call_and_its_index_is_reported() {
    let server = FaultServer::start();
    server.put("blob", b"bytes".to_vec());
    for bad in [
        "",
        "nonsense",
        "ftp://account/container/blob",
        "https://account.blob.core.windows.net/container",
        "https://account.blob.core.windows.net/container/a/../b",
        "https://account.blob.core.windows.net/container/line%0Abreak",
        "https://account.blob.core.windows.net/Upper/blob",
    ] {
        let urls = [server.url("blob"), server.url("blob"), bad.to_owned(), server.url("blob")];
        let error = expect_error(Dataset::from_urls(&client(), &urls), Status::InvalidArgument);
        assert!(error.message().contains("URL 2"), "the index is missing: {error}");
        let ranges: Vec<_> = urls.iter().map(|url| BlobRange { url: url.clone(), offset: 0, length: 1 }).collect();
        let error = expect_error(Dataset::from_ranges(&client(), &ranges), Status::InvalidArgument);
        assert!(error.message().contains("URL 2"), "the index is missing: {error}");
        let error = expect_error(Dataset::from_tars(&client(), &urls), Status::InvalidArgument);
        assert!(error.message().contains("archive 2"), "the index is missing: {error}");
    }
    assert_eq!(server.requests().len(), 0, "a request was sent before the URLs were checked");
}

fn range(url: String, offset: u64, length: u64) -> BlobRange {
    BlobRange { url, offset, length }
}

#[test]
fn ranges_of_blobs_are_entries() {
    let container = azurite().container();
    container.put("shard", b"0123456789");
    container.put("other", b"abcdef");
    let (shard, other) = (container.blob("shard"), container.blob("other"));
    let ranges = [
        range(shard.clone(), 2, 3),
        range(other, 0, 6),
        range(shard.clone(), 9, 1),
        range(shard.clone(), 0, 10),
        range(shard, 4, 0),
    ];
    let dataset = Dataset::from_ranges(&client(), &ranges).unwrap();
    let expected: [&[u8]; 5] = [b"234", b"abcdef", b"9", b"0123456789", b""];
    for (index, bytes) in expected.into_iter().enumerate() {
        assert_eq!(dataset.size(index).unwrap(), Some(bytes.len() as u64));
        let sample = dataset.get(index).unwrap();
        assert_eq!(sample.bytes(), bytes);
        assert_eq!(sample.blob_size(), Some(bytes.len() as u64));
        let mut buffer = [0; 10];
        assert_eq!(dataset.get_into(index, &mut buffer).unwrap(), bytes.len());
        assert_eq!(&buffer[..bytes.len()], bytes);
    }
    assert_eq!(names(&dataset), ["shard", "other", "shard", "shard", "shard"]);
    let batch = dataset.get_batch(&[4, 2, 0, 2]).unwrap();
    assert_eq!(batch.iter().map(|sample| sample.bytes()).collect::<Vec<_>>(), [&b""[..], b"9", b"234", b"9"]);
}

#[test]
fn a_small_range_is_one_get() {
    let server = FaultServer::start();
    let content = Content::new(1, 100 << 20);
    server.put_content("shard", content);
    let ranges = [range(server.url("shard"), 50 << 20, 100_000), range(server.url("shard"), 7, 0)];
    let dataset = Dataset::from_ranges(&client(), &ranges).unwrap();
    assert_same(dataset.get(0).unwrap().bytes(), &content.bytes(50 << 20, 100_000));
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].range(), Some((50 << 20, (50 << 20) + 99_999)));
    assert_eq!(dataset.get(1).unwrap().bytes(), b"");
    let fetched: u64 = server.requests().iter().filter_map(|request| request.range()).map(|(a, b)| b - a + 1).sum();
    assert!(fetched <= 100_001, "{fetched} bytes for 100,000");
}

#[test]
fn a_large_range_is_fetched_in_parallel() {
    let server = FaultServer::start();
    let content = Content::new(2, 100 << 20);
    let etag = server.put_content("shard", content);
    server.on_request(|_| Some(Fault::Delay(std::time::Duration::from_millis(20))));
    let dataset = Dataset::from_ranges(&client(), &[range(server.url("shard"), 12_345, 40 << 20)]).unwrap();
    assert_same(dataset.get(0).unwrap().bytes(), &content.bytes(12_345, 40 << 20));
    let requests = server.requests();
    assert!(requests.len() > 2 && server.peak_in_flight() >= 3, "{} requests", requests.len());
    assert!(requests[1..].iter().all(|request| request.header("if-match") == Some(etag.as_str())));
    let mut bounds: Vec<_> = requests.iter().map(|request| request.range().unwrap()).collect();
    bounds.sort_unstable();
    assert_eq!((bounds[0].0, bounds[bounds.len() - 1].1), (12_345, 12_345 + (40 << 20) - 1));
    assert!(bounds.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "gaps or overlaps: {bounds:?}");
}

#[test]
fn a_range_beyond_the_end_of_its_blob_is_out_of_range() {
    let (server, container) = (FaultServer::start(), azurite().container());
    server.put("shard", b"0123456789".to_vec());
    server.put("empty", b"".to_vec());
    container.put("shard", b"0123456789");
    let (shard, on_azurite) = (server.url("shard"), container.blob("shard"));
    let ranges = [
        range(shard.clone(), 8, 3),
        range(shard.clone(), 1 << 40, 5),
        range(shard.clone(), 0, 11),
        range(on_azurite.clone(), 8, 3),
        range(on_azurite.clone(), 1 << 40, 5),
        range(on_azurite, 0, 11),
        // Azurite responds differently to these.
        range(shard.clone(), 10, 1),
        range(server.url("empty"), 0, 1),
        // The largest possible offset of a byte.
        range(shard.clone(), u64::MAX - 2, 1),
        range(shard.clone(), 8, 2),
    ];
    let dataset = Dataset::from_ranges(&client(), &ranges).unwrap();
    assert_eq!(dataset.len(), ranges.len());
    for index in 0..9 {
        let error = expect_error(dataset.get(index), Status::OutOfRange);
        assert!(error.message().contains(if index == 7 { "/empty" } else { "/shard" }), "{error}");
        expect_error(dataset.get_into(index, &mut [0; 16]), Status::OutOfRange);
        expect_error(dataset.get_batch(&[9, index]), Status::OutOfRange);
        let opened = dataset.open(index).and_then(|reader| read_rest(&reader));
        expect_error(opened, Status::OutOfRange);
    }
    assert_eq!(dataset.get(9).unwrap().bytes(), b"89");
    // UINT64_MAX means "unknown" and is no valid end.
    for (offset, length) in [(u64::MAX, 2), (0, u64::MAX), (u64::MAX, 0), (1, u64::MAX - 1)] {
        let ranges = [range(shard.clone(), 0, 1), range(shard.clone(), offset, length)];
        let error = expect_error(Dataset::from_ranges(&client(), &ranges), Status::InvalidArgument);
        assert!(error.message().contains("range 1"), "{error}");
    }
}

#[test]
fn a_range_larger_than_memory_is_out_of_memory_or_out_of_range() {
    let server = FaultServer::start();
    server.put("shard", b"0123456789".to_vec());
    let huge = range(server.url("shard"), 0, u64::MAX >> 1);
    let dataset = Dataset::from_ranges(&client(), &[huge]).unwrap();
    let Err(error) = dataset.get(0) else { panic!("a range of 2^63 bytes was returned") };
    assert!(matches!(error.status(), Status::OutOfRange | Status::OutOfMemory), "{error}");
}
