//! Which URLs are accepted, how they are normalised, and the errors of the refused ones.

use aztorch::{Status, WriteMode};

use crate::support::client::{client, client_with, read_blob};
use crate::support::error::expect_error;
use crate::support::fault::FaultServer;

/// Wrong URLs, each with words of which the error must contain at least one.
const WRONG: &[(&str, &[&str])] = &[
    ("", &["empty"]),
    (" https://acc.blob.core.windows.net/con/blob", &["white space"]),
    ("https://acc.blob.core.windows.net/con/blob\n", &["white space"]),
    ("https://acc.blob.core.windows.net/con/bl\tob", &["control character"]),
    ("https://acc.blob.core.windows.net/con/a%00b", &["control character"]),
    ("model.pt", &["https://"]),
    ("/con/blob", &["https://"]),
    ("acc.blob.core.windows.net/con/blob", &["https://"]),
    ("https:/acc.blob.core.windows.net", &["does not begin with https://"]),
    ("https://", &["host"]),
    ("https:///con/blob", &["host"]),
    ("https:///acc/con/blob", &["host"]),
    ("s3://bucket/key", &["scheme 's3'"]),
    ("gs://bucket/key", &["scheme 'gs'"]),
    ("file:///tmp/model.pt", &["scheme 'file'"]),
    ("ftp://acc.blob.core.windows.net/con/blob", &["scheme 'ftp'"]),
    ("az://con/blob", &["scheme 'az'"]),
    ("https://acc.blob.core.windows.net", &["container is missing"]),
    ("https://acc.blob.core.windows.net/", &["container is missing"]),
    ("https://acc.blob.core.windows.net//blob", &["container is missing"]),
    ("https://acc.blob.core.windows.net/con", &["no blob"]),
    ("https://acc.blob.core.windows.net/con/", &["no blob"]),
    ("https://acc.blob.core.windows.net/model.pt", &["$root"]),
    ("http://127.0.0.1:10000/devstoreaccount1/con", &["no blob"]),
    ("http://127.0.0.1:10000/con", &["container is missing"]),
    ("http://127.0.0.1:10000//con/blob", &["account"]),
    ("https://acc.blob.core.windows.net/Con/blob", &["lower-case"]),
    ("https://acc.blob.core.windows.net/co/blob", &["3 to 63"]),
    ("https://acc.blob.core.windows.net/con_tainer/blob", &["lower-case"]),
    ("https://acc.blob.core.windows.net/con--tainer/blob", &["hyphen"]),
    ("https://acc.blob.core.windows.net/-con/blob", &["hyphen"]),
    ("https://acc.blob.core.windows.net/con/../blob", &["'..'"]),
    ("https://acc.blob.core.windows.net/con/./blob", &["'.'"]),
    ("https://acc.blob.core.windows.net/con/a/%2E%2e/b", &["'..'"]),
    ("https://acc.blob.core.windows.net/con/a%2F..%2Fb", &["'..'"]),
    ("https://acc.blob.core.windows.net/con/100%", &["%25"]),
    ("https://acc.blob.core.windows.net/con/a%zzb", &["%25"]),
    ("https://acc.blob.core.windows.net/con/a%ffb", &["UTF-8"]),
    ("https://acc.blob.core.windows.net/con/a#b", &["%23"]),
    ("https://acc.blob.core.windows.net/con/a\\b", &["%5C"]),
    ("https://user:hunter2@acc.blob.core.windows.net/con/blob", &["user name or password"]),
    ("https://acc.blob.core.windows.net:99999/con/blob", &["port"]),
    ("https://acc.blob.core.windows.net:0/con/blob", &["port"]),
    ("https://[::1/con/blob", &["IPv6", "host"]),
    ("https://a b.blob.core.windows.net/con/blob", &["host", "domain"]),
    ("abfss://acc.dfs.core.windows.net/blob", &["CONTAINER@ACCOUNT"]),
    ("abfss://con@/blob", &["CONTAINER@ACCOUNT"]),
    ("wasbs://con:hunter2@acc.blob.core.windows.net/blob", &["CONTAINER@ACCOUNT", "password"]),
    ("https://acc.blob.core.windows.net/con/blob?sig=", &["'sig'"]),
    ("https://acc.blob.core.windows.net/con/blob?snapshot=", &["'snapshot'"]),
    ("https://acc.blob.core.windows.net/con/blob?versionid=", &["'versionid'"]),
    ("https://acc.blob.core.windows.net/con/blob?snapshot=1&versionid=2", &["both"]),
    ("https://acc.blob.core.windows.net/con/blob?snapshot=1&snapshot=2", &["'snapshot'"]),
    ("https://acc.blob.core.windows.net/con/blob?sv=1&sig=bm90LWEtcmVhbC1zaWduYXR1cmU?snapshot=1", &["second '?'"]),
    ("https://acc.blob.core.windows.net/con/blob?comp=list", &["'comp'"]),
    ("https://acc.blob.core.windows.net/con/blob?sv=2021-12-02&se=2099-01-01", &["no signature"]),
];

#[test]
fn every_call_refuses_wrong_urls_with_the_reason_and_an_example() {
    let client = client();
    let mut wrong: Vec<(String, &[&str])> = WRONG.iter().map(|(url, words)| ((*url).to_owned(), *words)).collect();
    wrong.push((format!("https://acc.blob.core.windows.net/con/{}", "n".repeat(1025)), &["1025 characters"]));
    for (url, words) in wrong {
        let errors = [
            expect_error(client.open(&url), Status::InvalidArgument),
            expect_error(client.writer(&url, WriteMode::Replace), Status::InvalidArgument),
            expect_error(client.writer(&url, WriteMode::Create), Status::InvalidArgument),
            expect_error(client.open_if_changed(&url, "\"0x1\""), Status::InvalidArgument),
            expect_error(client.exists(&url), Status::InvalidArgument),
            expect_error(client.delete(&url), Status::InvalidArgument),
        ];
        for error in errors {
            assert!(words.iter().any(|word| error.message().contains(word)), "{url:?}: none of {words:?} in: {error}");
            assert!(error.message().contains("ACCOUNT.blob.core.windows.net/"), "{url:?}: no example in: {error}");
            assert_eq!(error.http_status(), 0, "{url:?} was sent");
        }
    }
}

#[test]
fn wrong_container_urls_and_wrong_names_have_different_errors() {
    let client = client();
    let container = "https://acc.blob.core.windows.net/con";
    for url in [
        "",
        "con",
        "https://acc.blob.core.windows.net",
        "s3://con",
        &format!("{container}/blob"),
        &format!("{container}?comp=list"),
    ] {
        for error in [
            expect_error(client.create_container(url), Status::InvalidArgument),
            expect_error(client.open_in(url, "blob"), Status::InvalidArgument),
            expect_error(client.writer_in(url, "blob", WriteMode::Create), Status::InvalidArgument),
        ] {
            assert!(
                error.message().contains("ACCOUNT.blob.core.windows.net/CONTAINER"),
                "{url:?}: no example in: {error}"
            );
        }
    }
    for name in ["", ".", "..", "a/../b", "a/.", "line\nbreak", "nul\0", &"n".repeat(1025)] {
        let error = expect_error(client.writer_in(container, name, WriteMode::Create), Status::InvalidArgument);
        assert!(error.message().contains("blob name"), "{name:?}: {error}");
        expect_error(client.open_in(container, name), Status::InvalidArgument);
    }
}

#[test]
fn urls_are_normalised() {
    let client = client();
    // A writer that has no bytes sends no request.
    let shown = |url: &str| client.writer(url, WriteMode::Replace).unwrap().url().to_owned();
    for (url, expected) in [
        ("https://acc.blob.core.windows.net/con/a/b.pt", "https://acc.blob.core.windows.net/con/a/b.pt"),
        (
            "https://acc.blob.core.windows.net/con/a?sv=1&sig=bm90LWEtcmVhbC1zaWduYXR1cmU",
            "https://acc.blob.core.windows.net/con/a",
        ),
        ("HTTPS://ACC.blob.core.windows.net/con/A", "https://acc.blob.core.windows.net/con/A"),
        ("https://acc.blob.core.windows.net:443/con/a", "https://acc.blob.core.windows.net/con/a"),
        ("https://acc.blob.core.windows.net/$root/a", "https://acc.blob.core.windows.net/$root/a"),
        ("https://acc.dfs.core.windows.net/con/a/b", "https://acc.blob.core.windows.net/con/a/b"),
        ("abfss://con@acc.dfs.core.windows.net/a/b", "https://acc.blob.core.windows.net/con/a/b"),
        ("abfs://con@acc.dfs.core.windows.net/a", "https://acc.blob.core.windows.net/con/a"),
        ("wasbs://con@acc.blob.core.windows.net/a", "https://acc.blob.core.windows.net/con/a"),
        ("wasb://con@acc.blob.core.windows.net/a", "https://acc.blob.core.windows.net/con/a"),
        ("https://acc.blob.core.usgovcloudapi.net/con/a", "https://acc.blob.core.usgovcloudapi.net/con/a"),
        ("abfss://con@acc.dfs.core.chinacloudapi.cn/a", "https://acc.blob.core.chinacloudapi.cn/con/a"),
        ("https://data.example.org/con/a", "https://data.example.org/con/a"),
        ("http://127.0.0.1:10000/devstoreaccount1/con/a", "http://127.0.0.1:10000/devstoreaccount1/con/a"),
        ("http://localhost:10000/acc/con/a", "http://localhost:10000/acc/con/a"),
        ("http://[::1]:10000/acc/con/a", "http://[::1]:10000/acc/con/a"),
        ("http://azurite/acc/con/a", "http://azurite/acc/con/a"),
        ("https://storage.example.org:8443/acc/con/a", "https://storage.example.org:8443/acc/con/a"),
        ("http://storage.example.org:80/con/a", "http://storage.example.org/con/a"),
    ] {
        assert_eq!(shown(url), expected, "{url}");
    }
}

#[test]
fn the_host_decides_between_path_style_and_host_style() {
    let client = client();
    // With the wrong style the container's name would be invalid, or the blob would be missing.
    for good in [
        "http://127.0.0.1/Account/con/a",
        "http://localhost/Account/con/a",
        "http://azurite/Account/con/a",
        "https://storage.example.org:8443/Account/con/a",
        "https://storage.example.org/con/a",
        "http://storage.example.org:80/con/a",
    ] {
        client.writer(good, WriteMode::Replace).unwrap_or_else(|error| panic!("{error}"));
    }
    for bad in ["http://127.0.0.1/con/a", "http://azurite:10000/con/a", "https://storage.example.org/Account/con/a"] {
        expect_error(client.writer(bad, WriteMode::Replace), Status::InvalidArgument);
    }
}

#[test]
fn the_endpoint_of_a_connection_string_decides_the_style_of_its_host() {
    let server = FaultServer::start();
    let authority = server.authority();
    server.put("/con/folder/blob", b"host style".to_vec());
    server.put("/acc/con/folder/blob", b"path style".to_vec());
    let read = |endpoint: &str, url: &str| {
        let text = format!("BlobEndpoint=http://{authority}{endpoint};AccountName=acc;AccountKey=aHVudGVyMg==");
        let client = client_with(|options| options.set_connection_string(&text));
        read_blob(&client, &format!("http://{authority}{url}")).unwrap()
    };
    assert_eq!(read("", "/con/folder/blob"), b"host style");
    assert_eq!(read("/acc", "/acc/con/folder/blob"), b"path style");
}
