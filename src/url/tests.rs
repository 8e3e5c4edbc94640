//! Tests of the parser: accepted, translated and refused URLs.

use super::*;

fn shown(text: &str) -> String {
    parse_blob(text, None).map_or_else(|error| error.to_string(), |target| target.uri("").unwrap().to_string())
}

#[test]
fn good_urls_keep_their_bytes() {
    let cases = [
        ("https://acc.blob.core.windows.net/con/a/b.pt", "https://acc.blob.core.windows.net/con/a/b.pt"),
        (
            "https://acc.blob.core.windows.net/con/a?sv=1&sig=a%2Bb%3D",
            "https://acc.blob.core.windows.net/con/a?sv=1&sig=a%2Bb%3D",
        ),
        (
            "https://acc.blob.core.windows.net/con/a%20b+c%25%23%3F",
            "https://acc.blob.core.windows.net/con/a%20b+c%25%23%3F",
        ),
        ("https://acc.blob.core.windows.net/con/a b", "https://acc.blob.core.windows.net/con/a%20b"),
        ("https://acc.blob.core.windows.net/con//a", "https://acc.blob.core.windows.net/con//a"),
        ("https://acc.blob.core.windows.net/$root/a", "https://acc.blob.core.windows.net/$root/a"),
        ("http://127.0.0.1:10000/dev/con/a", "http://127.0.0.1:10000/dev/con/a"),
        ("http://azurite/dev/con/a", "http://azurite/dev/con/a"),
        ("http://[::1]:10000/dev/con/a", "http://[::1]:10000/dev/con/a"),
        ("https://data.example.org/con/a", "https://data.example.org/con/a"),
        ("https://data.example.org:8443/acc/con/a", "https://data.example.org:8443/acc/con/a"),
        ("abfss://con@acc.dfs.core.windows.net/a/b", "https://acc.blob.core.windows.net/con/a/b"),
        ("ABFSS://con@acc.Dfs.core.windows.net/A", "https://acc.blob.core.windows.net/con/A"),
        ("wasbs://con@acc.blob.core.usgovcloudapi.net/a", "https://acc.blob.core.usgovcloudapi.net/con/a"),
        ("https://acc.z12.blob.storage.azure.net/con/a", "https://acc.z12.blob.storage.azure.net/con/a"),
        ("https://acc.z12.dfs.storage.azure.net/con/a", "https://acc.z12.blob.storage.azure.net/con/a"),
        ("abfss://con@acc.Z12.dfs.storage.azure.net/a", "https://acc.z12.blob.storage.azure.net/con/a"),
        ("https://acc-ipv6.dfs.core.windows.net/con/a", "https://acc-ipv6.blob.core.windows.net/con/a"),
        ("https://acc.privatelink.dfs.core.windows.net/con/a", "https://acc.privatelink.blob.core.windows.net/con/a"),
        ("https://acc.dfs.core.windows.net:443/con/a", "https://acc.blob.core.windows.net/con/a"),
        // These hosts contain "dfs", but are not an account's.
        ("https://my.data.dfs.example.org/con/a", "https://my.data.dfs.example.org/con/a"),
        ("https://dfs.example.org/con/a", "https://dfs.example.org/con/a"),
        (
            "https://acc.dfs.core.windows.net/con/a?snapshot=2020",
            "https://acc.blob.core.windows.net/con/a?snapshot=2020",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn blob_names_are_literal() {
    let target =
        parse_container_and_blob("https://a.blob.core.windows.net/con/?sv=1&sig=x", "100% #1?+é", None).unwrap();
    assert_eq!(
        target.uri("").unwrap().to_string(),
        "https://a.blob.core.windows.net/con/100%25%20%231%3F%2B%C3%A9?sv=1&sig=x"
    );
}

#[test]
fn an_endpoint_determines_the_style_of_its_own_host() {
    let endpoint = Endpoint::parse("http://store.internal:9000").unwrap();
    assert!(parse_blob("http://store.internal:9000/con/a", Some(&endpoint)).is_ok());
    assert!(parse_blob("http://store.internal:9000/con/a", None).is_err());
    assert!(parse_blob("http://other.internal:9000/con/a", Some(&endpoint)).is_err());
}

#[test]
fn snapshots_and_versions_are_read_only() {
    for query in ["snapshot=2020-01-01T00:00:00.0000000Z", "versionId=1"] {
        let target = parse_blob(&format!("https://a.blob.core.windows.net/con/b?{query}"), None).unwrap();
        assert!(target.require_writable().is_err(), "{query}");
    }
}

#[test]
fn errors_never_show_the_query() {
    let error = parse_blob("https://a.blob.core.windows.net/con?sig=topsecret", None).unwrap_err();
    assert!(!error.to_string().contains("topsecret"), "{error}");
}

#[test]
fn urls_that_the_standard_would_repair_are_refused() {
    for (text, why) in [
        ("https:/acc.blob.core.windows.net/con/a", "begin with https://"),
        ("http:127.0.0.1:10000/acc/con/a", "begin with https://"),
        ("https://ac}c.blob.core.windows.net/con/a", "no host name has a '}'"),
    ] {
        let error = parse_blob(text, None).unwrap_err();
        assert!(error.message().contains(why), "{error}");
    }
}
