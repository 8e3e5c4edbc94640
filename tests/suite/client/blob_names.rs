//! Unusual names that the service accepts, written and read by name and by URL.

use aztorch::WriteMode;

use crate::support::azurite::{ACCOUNT, ACCOUNT_KEY, azurite};
use crate::support::client::{client, client_with, read_blob, read_rest};
use crate::support::fault::FaultServer;
use crate::support::percent::encode_path;

fn names() -> Vec<String> {
    let plain = [
        "plain.pt",
        "with space",
        " leading and trailing space in/a folder",
        "a+b",
        "100%",
        "%41 is not A",
        "50%25",
        "#1",
        "a#b",
        "what?",
        "a?b=c&d",
        "?snapshot=2020-01-01T00:00:00.0000000Z",
        "semi;colon,comma:at@bang!dollar$",
        "quote'double\"back`tick",
        "(round)[square]{curly}<angle>",
        "pipe|caret^tilde~star*equals=",
        "nested/a/b/c/model.pt",
        "nested//empty/segment",
        "dots...in/.hidden/..name/name..x",
        "Grüße/смысл/模型/モデル/نموذج",
        "🙂/e\u{301} is not \u{e9}",
        "UPPER and lower",
        "https://in.a.name/",
    ];
    let mut names: Vec<_> = plain.map(str::to_owned).into();
    names.push("n".repeat(1024));
    names.push("模".repeat(1024));
    names.push(["nested"; 146].join("/"));
    names
}

#[test]
fn names_are_taken_literally() {
    let container = azurite().container();
    let by_sas = client();
    let by_key = client_with(|options| options.set_account_key(ACCOUNT, ACCOUNT_KEY));
    for (number, name) in names().iter().enumerate() {
        for (client, url) in [(&by_sas, container.url()), (&by_key, container.bare_url())] {
            let body = format!("body {number}").into_bytes();
            let writer = client.writer_in(&url, name, WriteMode::Replace).unwrap();
            writer.write_all(&body).unwrap();
            writer.close().unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(container.get(&encode_path(name)).expect(name), body, "{name} was written to another blob");

            let reader = client.open_in(&url, name).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(read_rest(&reader).unwrap(), body, "{name}");
            assert_eq!(reader.url(), writer.url());
            let by_url = reader.url().to_owned() + url.find('?').map_or("", |query| &url[query..]);
            assert_eq!(read_blob(client, &by_url).unwrap(), body, "{by_url}");
            client.delete(&by_url).unwrap();
            assert_eq!(container.get(&encode_path(name)), None, "{name}");
        }
    }
}

#[test]
fn different_names_are_different_blobs() {
    let container = azurite().container();
    let names = ["a b", "a+b", "a%20b", "a%2Bb", "a%2520b", "A b", "a/b", "a//b", "a%2Fb", "a?b", "a#b", "a"];
    for name in names {
        let writer = client().writer_in(&container.url(), name, WriteMode::Create).unwrap();
        writer.write_all(name.as_bytes()).unwrap();
        writer.close().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for name in names {
        assert_eq!(read_rest(&client().open_in(&container.url(), name).unwrap()).unwrap(), name.as_bytes());
    }
}

#[test]
fn a_url_needs_no_escapes_where_it_is_unambiguous() {
    let container = azurite().container();
    container.put("a%20b%2Bc%C3%A9", b"found");
    for written in ["a%20b%2Bc%C3%A9", "a b+cé", "a%20b+c%c3%a9", "%61 b%2bcé"] {
        assert_eq!(read_blob(&client(), &container.blob(written)).unwrap(), b"found", "{written}");
    }
}

#[test]
fn a_name_is_inserted_before_the_sas_of_the_containers_url() {
    let server = FaultServer::start();
    server.put("a folder/what?", b"found".to_vec());
    let reader = client().open_in(&server.container_url(), "a folder/what?").unwrap();
    assert_eq!(read_rest(&reader).unwrap(), b"found");
    let sas = server.container_url().split_once('?').unwrap().1.to_owned();
    assert!(server.requests()[0].query.contains(&sas), "{}", server.requests()[0].query);
}
