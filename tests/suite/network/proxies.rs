//! Proxies and the user agent, and checks of the network options.

use aztorch::{Client, ClientOptions, Status, WriteMode};

use crate::support::azurite::{ACCOUNT, ACCOUNT_KEY, azurite};
use crate::support::child::{self, test_path};
use crate::support::client::{client_with, read_blob, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::FaultServer;
use crate::support::http::header;
use crate::support::proxy::Proxy;
use crate::support::secure::secure;
use crate::support::sockets::{assert_keepalive, connected_to};

#[test]
fn https_uses_a_tunnel() {
    let (proxy, secure) = (Proxy::start(), secure());
    let client = client_with(|options| {
        options.set_proxy(&format!("http://user:hunter2@{}", proxy.authority()))?;
        options.set_ca_file(&secure.certificate)?;
        options.set_account_key(ACCOUNT, ACCOUNT_KEY)
    });
    let container = format!("{}/tunnel", secure.azurite.url);
    client.create_container(&container).unwrap();
    let content = Content::new(3, 20 << 20).all();
    write_blob(&client, &format!("{container}/blob"), WriteMode::Create, &content).unwrap();
    assert_same(&read_blob(&client, &format!("{container}/blob")).unwrap(), &content);
    let sockets = connected_to(proxy.authority().parse().unwrap());
    assert!(!sockets.is_empty());
    sockets.into_iter().for_each(assert_keepalive);
    let requests = proxy.requests();
    assert!(!requests.is_empty() && requests.len() as u64 == client.stats().unwrap().connections_opened);
    for (line, headers) in requests {
        assert!(line.starts_with("CONNECT 127.0.0.1:"), "{line}");
        let authorization = header(&headers, "proxy-authorization");
        assert_eq!(authorization, Some("Basic dXNlcjpodW50ZXIy"));
        // The credential of the service must stay inside the tunnel.
        assert!(header(&headers, "authorization").is_none());
    }
}

#[test]
fn http_requests_are_forwarded() {
    let (proxy, container) = (Proxy::start(), azurite().container());
    let client = client_with(|options| options.set_proxy(&format!("http://user:hunter2@{}", proxy.authority())));
    write_blob(&client, &container.blob("blob"), WriteMode::Create, b"some bytes").unwrap();
    assert_eq!(read_blob(&client, &container.blob("blob")).unwrap(), b"some bytes");
    let requests = proxy.requests();
    assert_eq!(requests.len(), 2);
    for ((line, headers), method) in requests.iter().zip(["PUT", "GET"]) {
        assert!(line.starts_with(&format!("{method} {}/blob?", container.bare_url())), "{line}");
        assert!(header(headers, "proxy-authorization").is_some());
    }
}

#[test]
fn https_proxy_and_no_proxy_are_read_from_the_environment() {
    let path = test_path(https_proxy_and_no_proxy_are_read_from_the_environment);
    if let Some(url) = child::argument() {
        let client = client_with(|options| {
            options.set_ca_file(std::env::var("AZTORCH_TEST_CA").unwrap().as_ref())?;
            options.set_account_key(ACCOUNT, ACCOUNT_KEY)
        });
        expect_error(client.open(&format!("{url}/no-such/blob")), Status::NotFound);
        return;
    }
    let secure = secure();
    for (no_proxy, tunnels) in [("", 1), ("127.0.0.1", 0)] {
        let proxy = Proxy::start();
        let address = format!("http://{}", proxy.authority());
        let variables = [
            ("AZTORCH_TEST_CA", secure.certificate.as_os_str()),
            ("HTTPS_PROXY", address.as_ref()),
            ("NO_PROXY", no_proxy.as_ref()),
        ];
        assert!(child::spawn_with(path, &secure.azurite.url, &variables).wait().unwrap().success());
        assert_eq!(proxy.requests().len(), tunnels, "NO_PROXY={no_proxy}");
    }
}

#[test]
fn an_error_of_a_proxy_names_the_proxy() {
    let client = client_with(|options| {
        options.set_max_retries(0)?;
        options.set_proxy("http://user:hunter2@127.0.0.1:9")
    });
    let error =
        expect_error(client.open("https://acc.blob.core.windows.net/container/blob?sig=x"), Status::Unavailable);
    assert!(error.message().contains("through the proxy http://127.0.0.1:9"), "{error}");
}

#[test]
fn the_set_user_agent_is_appended() {
    let server = FaultServer::start();
    server.put("blob", b"some bytes".to_vec());
    let client = client_with(|options| options.set_user_agent("trainer/1.2"));
    read_blob(&client, &server.url("blob")).unwrap();
    let expected = format!("aztorch/{} trainer/1.2", env!("CARGO_PKG_VERSION"));
    assert!(server.requests().iter().all(|request| request.header("user-agent") == Some(&expected)));
}

#[test]
fn setters_refuse_invalid_values() {
    let mut options = ClientOptions::new();
    for proxy in ["", "proxy", "https://proxy:1", "socks5://proxy:1", "http://"] {
        expect_error(options.set_proxy(proxy), Status::InvalidArgument);
    }
    expect_error(options.set_ca_file("/no/such/file".as_ref()), Status::LocalIo);
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    expect_error(options.set_ca_file(&source), Status::InvalidArgument);
    for agent in ["", " ", "line\nbreak", "ü"] {
        expect_error(options.set_user_agent(agent), Status::InvalidArgument);
    }
    for (tenant, id, secret) in
        [("", "id", "s"), ("a/b", "id", "s"), ("t", "", "s"), ("t", "i d", "s"), ("t", "id", "")]
    {
        expect_error(options.set_client_secret(tenant, id, secret), Status::InvalidArgument);
    }
    expect_error(options.set_managed_identity(Some("")), Status::InvalidArgument);
    Client::new(&options).unwrap();
}
