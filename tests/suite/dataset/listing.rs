//! Datasets listed from a container: every blob once, in the service's order, without directories; names, and errors.

use std::sync::OnceLock;
use std::time::Duration;

use aztorch::{Dataset, Status};

use crate::support::azurite::{Azurite, Container, azurite};
use crate::support::client::{client, client_with, names};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer, GeneratedBlobs, Kind};
use crate::support::percent::{encode_path, percent_decode};

/// A container with more blobs than a page: `batch-0/0000` … `batch-5/5099`. Their bytes are their names. Uploads to
/// Azurite become slower with each blob, so these have a server of their own, and are hardly more than a page.
fn more_than_a_page() -> &'static Container {
    static CONTAINER: OnceLock<(Azurite, Container)> = OnceLock::new();
    let (_azurite, container) = CONTAINER.get_or_init(|| {
        let azurite = Azurite::start(&[]);
        let container = azurite.container();
        std::thread::scope(|scope| {
            for quarter in 0..4 {
                let container = &container;
                scope.spawn(move || {
                    for index in (quarter..MANY).step_by(4) {
                        let name = name(index);
                        container.put(&name, name.as_bytes());
                    }
                });
            }
        });
        (azurite, container)
    });
    container
}

const MANY: usize = 5100;

fn name(index: usize) -> String {
    format!("batch-{}/{index:04}", index / 1000)
}

#[test]
fn all_pages_are_listed_in_the_services_order() {
    let dataset = Dataset::list(&client(), &more_than_a_page().url(), None).unwrap();
    assert_eq!(dataset.len(), MANY);
    assert_eq!(names(&dataset), (0..MANY).map(name).collect::<Vec<_>>());
    assert!((0..MANY).all(|index| dataset.size(index).unwrap() == Some(12)));
    assert_eq!(dataset.get(5099).unwrap().bytes(), b"batch-5/5099");
}

// test_from_container_url_with_prefix
#[test]
fn a_prefix_selects_blobs() {
    let list = |prefix| Dataset::list(&client(), &more_than_a_page().url(), prefix).unwrap();
    let third = list(Some("batch-3/"));
    assert_eq!(names(&third), (3000..4000).map(name).collect::<Vec<_>>());
    assert_eq!(third.get(7).unwrap().bytes(), b"batch-3/3007");
    assert_eq!(names(&list(Some("batch-4/401"))), (4010..4020).map(name).collect::<Vec<_>>());
    assert_eq!(names(&list(Some("batch-4/4016"))), ["batch-4/4016"]);
    // An empty prefix is no prefix.
    assert_eq!(list(Some("")).len(), MANY);
}

#[test]
fn a_prefix_without_matches_makes_an_empty_dataset() {
    let dataset = Dataset::list(&client(), &more_than_a_page().url(), Some("absent/")).unwrap();
    assert!(dataset.is_empty());
    for index in [0, 1, usize::MAX] {
        expect_error(dataset.get(index), Status::OutOfRange);
        expect_error(dataset.name(index), Status::OutOfRange);
        expect_error(dataset.url(index), Status::OutOfRange);
        expect_error(dataset.size(index), Status::OutOfRange);
        expect_error(dataset.container_name(index), Status::OutOfRange);
        expect_error(dataset.open(index), Status::OutOfRange);
        expect_error(dataset.prefetch(&[index]), Status::OutOfRange);
    }
    assert!(dataset.get_batch(&[]).unwrap().is_empty());
    dataset.prefetch(&[]).unwrap();
    let container = azurite().container();
    assert!(Dataset::list(&client(), &container.url(), None).unwrap().is_empty(), "a container without blobs");
}

#[test]
fn fifty_thousand_blobs_take_ten_requests() {
    let server = FaultServer::start();
    let container = server.put_generated("many", GeneratedBlobs { count: 50_000, size: 100 });
    let dataset = Dataset::list(&client(), &container, None).unwrap();
    assert_eq!(dataset.len(), 50_000);
    for index in 0..50_000 {
        assert_eq!(dataset.name(index).unwrap(), GeneratedBlobs::name(index as u64));
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 10, "pages of 5,000");
    for request in requests {
        assert_eq!((request.verb(), request.header("x-ms-version")), ("list", Some("2021-12-02")));
        assert!(request.query("maxresults").is_none_or(|results| results == "5000"), "{}", request.query);
        assert!(request.header("x-ms-client-request-id").is_some_and(|id| !id.is_empty()));
    }
}

#[test]
fn pages_may_be_short_or_empty() {
    let server = FaultServer::start();
    for index in 0..10 {
        server.put(&format!("{index}"), vec![b'x'; index]);
    }
    server.limit_pages([1, 0, 0, 5, 0]);
    let dataset = Dataset::list(&client(), &server.container_url(), None).unwrap();
    assert_eq!(names(&dataset), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert!((0..10).all(|index| dataset.size(index).unwrap() == Some(index as u64)));
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn an_entry_has_name_container_size_and_url() {
    let container = azurite().container();
    container.put("folder/a%20blob", b"12345");
    let dataset = Dataset::list(&client(), &container.url(), None).unwrap();
    assert_eq!(dataset.name(0).unwrap(), "folder/a blob");
    assert_eq!(dataset.container_name(0).unwrap(), container.name);
    assert_eq!(dataset.size(0).unwrap(), Some(5));
    assert_eq!(dataset.url(0).unwrap(), format!("{}/folder/a%20blob", container.bare_url()));
    let sample = dataset.get(0).unwrap();
    assert_eq!(sample.bytes(), b"12345");
    assert_eq!(sample.url(), dataset.url(0).unwrap());
    assert_eq!((sample.name(), sample.container_name()), ("folder/a blob", container.name.as_str()));
    assert_eq!((sample.position(), sample.blob_size()), (0, Some(5)));
}

#[test]
fn directories_are_not_listed() {
    let server = FaultServer::start();
    server.put_directory("images", Kind::Directory);
    server.put("images/1.jpg", b"one".to_vec());
    server.put_directory("labels", Kind::Stub("hdi_isfolder"));
    server.put("labels/1.txt", b"first".to_vec());
    server.put_directory("masks", Kind::Stub("Hdi_isfolder"));
    server.put("masks/empty", b"".to_vec());
    let dataset = Dataset::list(&client(), &server.container_url(), None).unwrap();
    assert_eq!(names(&dataset), ["images/1.jpg", "labels/1.txt", "masks/empty"]);
    assert_eq!(dataset.get(1).unwrap().bytes(), b"first");
    assert_eq!(dataset.get(2).unwrap().bytes(), b"", "an empty blob is listed");
}

#[test]
fn directory_stubs_on_azurite_are_not_listed() {
    let container = azurite().container();
    container.put_with("folder", &[("x-ms-meta-hdi_isfolder", "true")], b"");
    container.put_with("other", &[("x-ms-meta-hdi_isfolder", "false")], b"");
    container.put_with("folder/blob", &[("x-ms-meta-Name", "not the blob's")], b"bytes");
    let dataset = Dataset::list(&client(), &container.url(), None).unwrap();
    assert_eq!(names(&dataset), ["folder/blob", "other"]);
}

#[test]
fn metadata_with_names_of_xml_elements_does_not_change_the_listing() {
    let container = azurite().container();
    for key in ["Metadata", "Tags", "OrMetadata", "Blob", "Properties"] {
        let key = format!("x-ms-meta-{key}");
        container.put_with(
            "images/1.jpg",
            &[(&key, "x"), ("x-ms-meta-Name", "other"), ("x-ms-meta-Etag", "y")],
            b"one",
        );
        let dataset = Dataset::list(&client(), &container.url(), None).unwrap();
        assert_eq!(names(&dataset), ["images/1.jpg"], "{key}");
        assert_eq!(dataset.get(0).unwrap().bytes(), b"one", "{key}");
    }
}

const NAMES: [&str; 22] = [
    "!$&'()*+,;=:@",
    " leading and trailing ",
    "#1",
    "%",
    "%41 is not A",
    "100%",
    "2 < 3 & 4 > 3",
    "<Name>x</Name>",
    "?a=b&c=d",
    "]]> CDATA",
    "a\\b",
    "a+b",
    "a//b",
    "a?b",
    "amp &amp; &lt; &#65; &unknown;",
    "dots...in/.hidden/name.",
    "e\u{301}/\u{e9}",
    "quote'double\"back`tick",
    "trailing dot.",
    "with space",
    "模型/نموذج",
    "🙂",
];

#[test]
fn unusual_names_are_listed_and_read() {
    let server = FaultServer::start();
    for name in NAMES {
        server.put(name, name.as_bytes().to_vec());
    }
    server.limit_pages([5, 5, 5]);
    let dataset = Dataset::list(&client(), &server.container_url(), None).unwrap();
    let mut sorted = NAMES;
    sorted.sort_unstable();
    assert_eq!(names(&dataset), sorted);
    for index in 0..dataset.len() {
        let name = dataset.name(index).unwrap();
        assert_eq!(dataset.get(index).unwrap().bytes(), name.as_bytes(), "{name}");
        let path = dataset.url(index).unwrap();
        assert_eq!(percent_decode(path.split_once("/container/").unwrap().1), name);
    }
    for name in NAMES {
        let alone = Dataset::list(&client(), &server.container_url(), Some(name)).unwrap();
        assert_eq!(alone.name(0).unwrap(), name);
    }
}

#[test]
fn unusual_names_are_listed_and_read_on_azurite() {
    let container = azurite().container();
    // Azurite changes backslashes and empty segments.
    let stored: Vec<_> = NAMES.into_iter().filter(|name| !name.contains(['\\']) && !name.contains("//")).collect();
    for name in &stored {
        container.put(&encode_path(name), name.as_bytes());
    }
    let dataset = Dataset::list(&client(), &container.url(), None).unwrap();
    let mut listed = names(&dataset);
    listed.sort();
    let mut sorted = stored;
    sorted.sort_unstable();
    assert_eq!(listed, sorted);
    for index in 0..dataset.len() {
        assert_eq!(dataset.get(index).unwrap().bytes(), dataset.name(index).unwrap().as_bytes());
    }
}

#[test]
fn names_that_xml_cannot_contain_are_listed() {
    let server = FaultServer::start();
    let odd = ["a\u{fffe}b/c d+e%20", "z\u{ffff}"];
    for name in odd {
        server.put(name, name.as_bytes().to_vec());
    }
    let dataset = Dataset::list(&client(), &server.container_url(), None).unwrap();
    assert_eq!(names(&dataset), odd);
    assert_eq!(dataset.get(0).unwrap().bytes(), odd[0].as_bytes());
    assert_eq!(dataset.get(1).unwrap().bytes(), odd[1].as_bytes());
}

#[test]
fn a_url_that_is_not_a_containers_is_refused() {
    let container = azurite().container();
    let (url, bare) = (container.url(), container.bare_url());
    for wrong in [
        "",
        "no url",
        "ftp://account.blob.core.windows.net/container",
        "https://account.blob.core.windows.net",
        "https://account.blob.core.windows.net/Upper",
        &url.replace('?', "/blob?"),
        &format!("{bare}/a/blob"),
        &format!("{bare}?snapshot=2020-01-01T00:00:00.0000000Z"),
    ] {
        let Err(error) = Dataset::list(&client(), wrong, None) else { panic!("{wrong} was listed") };
        let error = expect_error::<()>(Err(error), Status::InvalidArgument);
        assert_eq!(error.http_status(), 0, "{wrong}: {error}");
    }
}

#[test]
fn a_missing_container_is_not_found() {
    let url = azurite().container().url().replace("test-", "missing-");
    let error = expect_error(Dataset::list(&client(), &url, None), Status::NotFound);
    assert_eq!((error.http_status(), error.service_code()), (404, "ContainerNotFound"));
    assert!(error.message().contains("/missing-"), "{error}");
    assert!(!error.request_id().is_empty());
    let server = FaultServer::start();
    expect_error(Dataset::list(&client(), &server.url_of("/account/missing"), None), Status::NotFound);
}

#[test]
fn a_denied_listing_is_an_error() {
    let server = FaultServer::start();
    server.script("list", [Fault::status(403, "AuthorizationPermissionMismatch")]);
    let error = expect_error(Dataset::list(&client(), &server.container_url(), None), Status::PermissionDenied);
    assert_eq!(error.service_code(), "AuthorizationPermissionMismatch");
    assert_eq!(server.requests().len(), 1);
    // Azurite refuses an anonymous listing of a private container.
    let error = Dataset::list(&client(), &azurite().container().bare_url(), None).err().expect("a refusal");
    assert!(matches!(error.status(), Status::Unauthenticated | Status::PermissionDenied | Status::NotFound), "{error}");
}

/// Lists a container of five pages, of which the third fails once, and expects the whole listing.
fn list_with_failing_third_page(fault: Fault) {
    let server = FaultServer::start();
    for index in 0..50 {
        server.put(&format!("blob-{index:02}"), b"x".to_vec());
    }
    server.limit_pages([10, 10, 10, 10, 10, 10]);
    let seen = std::sync::atomic::AtomicUsize::new(0);
    let lasting = fault.clone();
    server.on_request(move |request| {
        let third = request.verb() == "list" && seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 2;
        third.then(|| lasting.clone())
    });
    let dataset =
        Dataset::list(&client(), &server.container_url(), None).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    assert_eq!(names(&dataset), (0..50).map(|index| format!("blob-{index:02}")).collect::<Vec<_>>(), "{fault:?}");
    let markers: Vec<_> =
        server.requests_of("list").iter().map(|request| request.query("marker").map(str::to_owned)).collect();
    assert!(markers.len() > 5, "no request had {fault:?}");
    assert_eq!(markers[2], markers[3], "{fault:?}: the failed page was not requested again");
}

#[test]
fn a_failed_page_is_requested_again() {
    for status in [408, 429, 500, 502, 503, 504] {
        list_with_failing_third_page(Fault::status(status, ""));
    }
    for after in [None, Some(0), Some(3000), Some(7000)] {
        list_with_failing_third_page(Fault::Reset { after });
        list_with_failing_third_page(Fault::Close { after });
    }
    // XML that ends in the middle of a page, or just before its end.
    for missing in [1, 15, 60, 100, 2000, 7000] {
        list_with_failing_third_page(Fault::ShortBody(missing));
    }
}

#[test]
fn a_page_that_fails_every_time_is_an_error() {
    let server = FaultServer::start();
    for index in 0..50 {
        server.put(&format!("blob-{index:02}"), b"x".to_vec());
    }
    let client = client_with(|options| options.set_max_retries(2));
    for (fault, expected) in [
        (Fault::ShortBody(30), Status::Corrupt),
        (Fault::status(503, "ServerBusy"), Status::Throttled),
        (Fault::status(500, "InternalError"), Status::Unavailable),
        (Fault::Reset { after: Some(5000) }, Status::Unavailable),
    ] {
        let before = server.requests().len();
        let lasting = fault.clone();
        server.on_request(move |_| Some(lasting.clone()));
        let Err(error) = Dataset::list(&client, &server.container_url(), None) else {
            panic!("{fault:?} was accepted as a listing");
        };
        let error = expect_error::<()>(Err(error), expected);
        assert!(error.message().contains("/account/container"), "{error}");
        assert_eq!(server.requests().len() - before, 3, "{fault:?}");
    }
    server.on_request(|_| Some(Fault::StallAfterHead));
    let with_short_timeout = client.with_timeout(Some(Duration::from_millis(300)));
    expect_error(Dataset::list(&with_short_timeout, &server.container_url(), None), Status::Timeout);
}

#[test]
fn the_sas_of_the_container_is_used_for_its_blobs() {
    let server = FaultServer::start();
    server.put("blob", b"bytes".to_vec());
    let dataset = Dataset::list(&client(), &server.container_url(), None).unwrap();
    dataset.get(0).unwrap();
    dataset.open(0).unwrap();
    let sas = server.container_url().split_once('?').unwrap().1.to_owned();
    assert!(server.requests().iter().all(|request| request.query.contains(&sas)));
    // Without a SAS in the URL the client's credential is used.
    let container = azurite().container();
    container.put("blob", b"bytes");
    let keyed = client_with(|options| {
        options.set_account_key(crate::support::azurite::ACCOUNT, crate::support::azurite::ACCOUNT_KEY)
    });
    let dataset = Dataset::list(&keyed, &container.bare_url(), None).unwrap();
    assert_eq!(dataset.get(0).unwrap().bytes(), b"bytes");
}

#[test]
fn a_dataset_does_not_change_with_its_container() {
    let container = azurite().container();
    container.put("a", b"1");
    container.put("c", b"3");
    let dataset = Dataset::list(&client(), &container.url(), None).unwrap();
    container.put("b", b"2");
    container.send("DELETE", "c", &[], b"").expect(202);
    assert_eq!(names(&dataset), ["a", "c"]);
    let error = expect_error(dataset.get(1), Status::NotFound);
    assert!(error.message().contains("/c"), "{error}");
    assert_eq!(dataset.get(0).unwrap().bytes(), b"1");
}
