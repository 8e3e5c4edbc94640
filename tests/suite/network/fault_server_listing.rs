//! The fault server's listings, which must be like those of the service.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use crate::support::azurite::azurite;
use crate::support::fault::{Fault, FaultServer, GeneratedBlobs, Kind, longest_chain};
use crate::support::http::{header, read_head, send};
use crate::support::percent::percent_encode;

/// The XML of one page. `query` is appended to the parameters of a listing.
fn page(container: &str, query: &str) -> String {
    let url = format!("{container}&restype=container&comp=list{query}");
    String::from_utf8(send("GET", &url, &[], b"").expect(200).body).unwrap()
}

/// The texts of all elements of this name.
fn elements<'a>(xml: &'a str, tag: &str) -> Vec<&'a str> {
    let open = format!("<{tag}>");
    xml.split(&open).skip(1).filter_map(|rest| rest.split("</").next()).collect()
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

/// The names on all pages of a listing, and the number of pages.
fn names(container: &str, query: &str) -> (Vec<String>, usize) {
    let (mut names, mut marker, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let xml = page(container, &format!("{query}&marker={}", percent_encode(&marker)));
        names.extend(elements(&xml, "Name").into_iter().map(unescape));
        pages += 1;
        match elements(&xml, "NextMarker").first() {
            Some(next) => marker = unescape(next),
            None => return (names, pages),
        }
    }
}

#[test]
fn markers_lead_from_page_to_page() {
    let server = FaultServer::start();
    for name in ["b", "a/2", "a/10", "a/1", "a b", "c+d", "é"] {
        server.put(name, b"x".to_vec());
    }
    let sorted = ["a b", "a/1", "a/10", "a/2", "b", "c+d", "é"];
    let container = server.container_url();
    assert_eq!(names(&container, ""), (sorted.map(str::to_owned).into(), 1));
    assert_eq!(names(&container, "&maxresults=2"), (sorted.map(str::to_owned).into(), 4));
    assert_eq!(names(&container, "&prefix=a%2F").0, ["a/1", "a/10", "a/2"]);
    assert_eq!(names(&container, "&prefix=a+b").0, ["a b"]);
    assert_eq!(names(&container, "&prefix=c%2B&maxresults=1"), (vec!["c+d".to_owned()], 1));
    assert_eq!(names(&container, "&prefix=z").0, Vec::<String>::new());
    server.limit_pages([2, 0, 1]);
    assert_eq!(names(&container, ""), (sorted.map(str::to_owned).into(), 4));
    assert_eq!(names(&container, "").1, 1);
}

#[test]
fn a_hierarchical_namespace_is_listed_in_its_own_order() {
    let server = FaultServer::start();
    server.list_like_hierarchical_namespace();
    for name in ["a", "a b", "a-b/1", "a/2", "a/1", "a.b", "ab", "B"] {
        server.put(name, b"x".to_vec());
    }
    let sorted = ["B", "a", "a/1", "a/2", "a b", "a-b/1", "a.b", "ab"];
    assert_eq!(names(&server.container_url(), ""), (sorted.map(str::to_owned).into(), 1));
    assert_eq!(names(&server.container_url(), "&maxresults=1"), (sorted.map(str::to_owned).into(), 8));
    assert_eq!(names(&server.container_url(), "&prefix=a&maxresults=3").0, sorted[1..]);
}

#[test]
fn an_entry_has_name_etag_size_and_metadata() {
    let server = FaultServer::start();
    let etag = server.put("<a & b>", b"12345".to_vec());
    server.put("no xml\u{ffff}/x", b"".to_vec());
    server.put_directory("folder", Kind::Stub("hdi_isfolder"));
    server.put_directory("other", Kind::Directory);
    let xml = page(&server.container_url(), "&include=metadata");
    assert!(xml.starts_with("\u{feff}<?xml version=\"1.0\""), "{xml}");
    assert!(xml.contains("<Name>&lt;a &amp; b&gt;</Name>"), "{xml}");
    assert!(xml.contains("<Name Encoded=\"true\">no%20xml%EF%BF%BF%2Fx</Name>"), "{xml}");
    assert!(xml.contains(&format!("<Etag>{}</Etag>", etag.trim_matches('"'))), "{xml}");
    assert_eq!(elements(&xml, "Content-Length"), ["5", "0", "0", "0"]);
    assert_eq!(elements(&xml, "ResourceType"), ["directory"]);
    assert_eq!(elements(&xml, "hdi_isfolder"), ["true"]);
    let xml = page(&server.container_url(), "");
    assert_eq!(elements(&xml, "ResourceType"), ["directory"]);
    assert!(!xml.contains("<Metadata>"), "metadata was not requested: {xml}");
}

#[test]
fn invalid_listing_requests_are_refused() {
    let server = FaultServer::start();
    let list = |container: &str, query: &str| {
        send("GET", &format!("{container}&restype=container&comp=list{query}"), &[], b"")
    };
    let missing = list(&server.url_of("/account/missing"), "").expect(404);
    assert_eq!(missing.header("x-ms-error-code"), Some("ContainerNotFound"));
    for query in ["&marker=2", "&marker=2!4!MDAw", "&maxresults=0", "&maxresults=x", "&delimiter=%2F"] {
        list(&server.container_url(), query).expect(400);
    }
    page(&server.container_url(), "");
    server.put("/account/second/blob", b"".to_vec());
    assert_eq!(names(&server.url_of("/account/second"), "").0, ["blob"]);
}

#[test]
fn generated_blobs_are_listed_and_read() {
    let server = FaultServer::start();
    let blobs = GeneratedBlobs { count: 12_345, size: 1000 };
    let container = server.put_generated("many", blobs);
    let (all, pages) = names(&container, "");
    assert_eq!((all.len(), pages), (12_345, 3));
    assert!(all.is_sorted());
    assert!(all.iter().zip(0..).all(|(name, index)| *name == GeneratedBlobs::name(index)));
    assert_eq!(names(&container, "&prefix=part-001%2F").0, all[10_000..]);
    let url = |index| server.url_of(&format!("/account/many/{}", GeneratedBlobs::name(index)));
    assert_eq!(send("GET", &url(12_344), &[], b"").expect(200).body, blobs.content(12_344).all());
    send("GET", &url(12_345), &[], b"").expect(404);
}

#[test]
fn listings_are_chunked_and_can_have_faults() {
    let server = FaultServer::start();
    server.put("blob", b"".to_vec());
    let whole = page(&server.container_url(), "").into_bytes();
    let list = || {
        let mut stream = TcpStream::connect(server.authority()).unwrap();
        let head = "GET /account/container?restype=container&comp=list HTTP/1.1\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        let mut reader = BufReader::new(stream);
        let (line, headers) = read_head(&mut reader).unwrap().unwrap();
        let mut body = Vec::new();
        let reset =
            reader.read_to_end(&mut body).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        (line, headers, body, reset)
    };
    let (_, headers, body, _) = list();
    assert_eq!(header(&headers, "transfer-encoding"), Some("chunked"));
    // These requests have no `Host`, so the XML differs from that of the first listing.
    let sent = String::from_utf8(body).unwrap();
    assert!(sent.contains("<Name>blob</Name>") && sent.ends_with("</EnumerationResults>\r\n0\r\n\r\n"), "{sent}");

    server.script("list", [Fault::ShortBody(40), Fault::Reset { after: Some(100) }, Fault::status(503, "ServerBusy")]);
    let (_, headers, body, _) = list();
    assert_eq!(header(&headers, "content-length"), Some(body.len().to_string().as_str()));
    assert!(body.len() < whole.len() - 20 && !body.ends_with(b"</EnumerationResults>"));
    let (_, _, body, reset) = list();
    assert_eq!((body.len(), reset), (100, true));
    assert!(list().0.contains("503"));
    assert_eq!(server.requests_of("list").len(), 5);
}

#[test]
fn the_longest_chain_counts_sequential_requests() {
    let server = FaultServer::start();
    server.put("blob", b"".to_vec());
    server.on_request(|_| Some(Fault::Delay(std::time::Duration::from_millis(20))));
    let get = || drop(send("GET", &server.url("blob"), &[], b"").expect(200));
    (0..3).for_each(|_| get());
    assert_eq!(server.longest_chain("GET"), 3);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(get);
        }
    });
    let chain = longest_chain(&server.requests_of("GET")[3..]);
    assert!(chain < 8, "{chain} of 8 parallel requests count as sequential");
}

/// Azurite must return the same pages.
#[test]
fn listings_equal_those_of_azurite() {
    let container = azurite().container();
    let server = FaultServer::start();
    for name in ["a", "a/b", "a&b", "a b", "a+b", "ab", "é", "模"] {
        container.put(&percent_encode(name), b"12345");
        server.put(name, b"12345".to_vec());
    }
    for query in ["", "&maxresults=3", "&prefix=a%26", "&prefix=a+", "&prefix=a%2B", "&prefix=%E6%A8%A1"] {
        assert_eq!(names(&container.url(), query), names(&server.container_url(), query), "{query}");
    }
}
