//! SAS, account key, connection string and anonymous access, and which of them is used.

use std::time::Duration;

use aztorch::{Client, ClientOptions, Dataset, Result, Status, WriteMode};

use crate::support::azurite::{ACCOUNT, ACCOUNT_KEY, account_sas, azurite};
use crate::support::client::{client, client_with, read_blob, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::{assert_no_secret, expect_error};
use crate::support::fault::{Fault, FaultServer};

/// A well-formed key that belongs to no account.
const WRONG_KEY: &str = "aHVudGVyMiBodW50ZXIyIGh1bnRlcjI=";

/// Asserts that a client may do everything: small and large writes, reads, existence, deletion, container creation.
#[track_caller]
fn assert_has_access(client: &Client, container: &str, blob: &str) {
    let content = Content::new(71, 20 << 20).all();
    for bytes in [b"small".as_slice(), &content] {
        write_blob(client, blob, WriteMode::Replace, bytes).unwrap();
        assert_same(&read_blob(client, blob).unwrap(), bytes);
    }
    assert!(client.exists(blob).unwrap());
    client.delete(blob).unwrap();
    expect_error(client.create_container(container), Status::AlreadyExists);
}

#[test]
fn a_sas_in_the_url_gives_access() {
    let container = azurite().container();
    assert_has_access(&client(), &container.url(), &container.blob("blob"));
    // The client of the process, which is NULL in C.
    assert_has_access(&Client::shared().unwrap(), &container.url(), &container.blob("blob"));
}

#[test]
fn a_sas_on_the_client_gives_access() {
    let container = azurite().container();
    let sas = account_sas("rwdlacup");
    for sas in [sas.clone(), format!("?{sas}")] {
        let client = client_with(|options| options.set_sas_token(&sas));
        assert_has_access(&client, &container.bare_url(), &format!("{}/blob", container.bare_url()));
    }
}

#[test]
fn an_account_key_gives_access() {
    let container = azurite().container();
    let client = client_with(|options| options.set_account_key(ACCOUNT, ACCOUNT_KEY));
    assert_has_access(&client, &container.bare_url(), &format!("{}/a folder/blob", container.bare_url()));
}

#[test]
fn connection_strings_give_access() {
    let container = azurite().container();
    let endpoint = &azurite().url;
    let sas = account_sas("rwdlacup");
    for text in [
        format!(
            "DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};BlobEndpoint={endpoint};"
        ),
        format!("BlobEndpoint={endpoint}/;AccountKey={ACCOUNT_KEY};AccountName={ACCOUNT}"),
        format!(
            " BlobEndpoint = {endpoint} ;; accountname={ACCOUNT};accountkey={ACCOUNT_KEY}; QueueEndpoint=http://127.0.0.1:1/x"
        ),
        format!("BlobEndpoint={endpoint};SharedAccessSignature={sas}"),
        format!("BlobEndpoint={endpoint};SharedAccessSignature=?{sas}"),
        "UseDevelopmentStorage=true".to_owned(),
        "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://127.0.0.1".to_owned(),
    ] {
        let client = client_with(|options| options.set_connection_string(&text));
        assert_has_access(&client, &container.bare_url(), &format!("{}/blob", container.bare_url()));
    }
}

#[test]
fn test_sas_token_in_blob_url_overrides_credential() {
    let container = azurite().container();
    container.put("blob", b"some bytes");
    let bare = format!("{}/blob", container.bare_url());
    let wrong = client_with(|options| options.set_account_key(ACCOUNT, WRONG_KEY));
    assert_eq!(read_blob(&wrong, &container.blob("blob")).unwrap(), b"some bytes");
    expect_error(read_blob(&wrong, &bare), Status::PermissionDenied);

    let right = client_with(|options| options.set_account_key(ACCOUNT, ACCOUNT_KEY));
    assert_eq!(read_blob(&right, &bare).unwrap(), b"some bytes");
    let bad_sas = container.blob("blob").replace("sig=", "sig=bm90LWEtcmVhbC1zaWduYXR1cmU");
    let error = expect_error(read_blob(&right, &bad_sas), Status::PermissionDenied);
    assert_eq!(error.http_status(), 403);
}

#[test]
fn operations_without_sas_permission_are_denied() {
    let container = azurite().container();
    container.put("blob", b"the old one");
    let read_only = client_with(|options| options.set_sas_token(&account_sas("r")));
    let url = format!("{}/blob", container.bare_url());
    assert_eq!(read_blob(&read_only, &url).unwrap(), b"the old one");
    for size in [10, 20 << 20] {
        let error =
            expect_error(write_blob(&read_only, &url, WriteMode::Replace, &vec![1; size]), Status::PermissionDenied);
        assert!(!error.is_retryable());
    }
    expect_error(read_only.delete(&url), Status::PermissionDenied);
    assert_eq!(container.get("blob").unwrap(), b"the old one");
}

#[test]
fn anonymous_access_reads_public_blobs_only() {
    let public = azurite().container_with_headers(&[("x-ms-blob-public-access", "blob")]);
    let private = azurite().container();
    let anonymous = client_with(ClientOptions::set_anonymous);
    // A client without any credential is anonymous too.
    for client in [anonymous, client()] {
        let url = format!("{}/blob", public.bare_url());
        public.put("blob", b"some bytes");
        assert_eq!(read_blob(&client, &url).unwrap(), b"some bytes");
        assert_refused(write_blob(&client, &url, WriteMode::Replace, b"x"));
        private.put("blob", b"some bytes");
        assert_refused(client.open(&format!("{}/blob", private.bare_url())));
        assert_eq!(public.get("blob").unwrap(), b"some bytes");
    }
}

/// The service returns 404 for an anonymous request that it denies
/// (<https://github.com/Azure/azure-storage-cpp/issues/397>).
#[test]
fn a_404_without_a_credential_is_unauthenticated() {
    let server = FaultServer::start();
    let (with_sas, bare) = (server.url("blob"), server.url("blob").split('?').next().unwrap().to_owned());
    server.on_request(|_| Some(Fault::status(404, "ResourceNotFound")));
    for anonymous in [client_with(ClientOptions::set_anonymous), client()] {
        for result in [
            anonymous.exists(&bare).map(|exists| panic!("exists returned {exists}")),
            anonymous.open(&bare).map(drop),
            write_blob(&anonymous, &bare, WriteMode::Replace, b"new").map(drop),
            anonymous.delete(&bare),
            Dataset::list(&anonymous, bare.strip_suffix("/blob").unwrap(), None).map(drop),
        ] {
            let error = expect_error(result, Status::Unauthenticated);
            assert!(error.message().contains("no credential was"), "{error}");
            assert_eq!((error.http_status(), error.service_code()), (404, "ResourceNotFound"));
        }
    }
    assert!(!client().exists(&with_sas).unwrap());
}

#[test]
fn a_missing_blob_in_a_public_container_does_not_exist() {
    let public = azurite().container_with_headers(&[("x-ms-blob-public-access", "blob")]);
    public.put("blob", b"some bytes");
    for anonymous in [client_with(ClientOptions::set_anonymous), client()] {
        assert!(anonymous.exists(&format!("{}/blob", public.bare_url())).unwrap());
        assert!(!anonymous.exists(&format!("{}/missing", public.bare_url())).unwrap());
    }
}

/// Asserts that a call failed for lack of a credential. The service may return 404 instead of 401 or 403.
#[track_caller]
fn assert_refused<T>(result: Result<T>) {
    let Err(error) = result else { panic!("the call succeeded without a credential") };
    let refusals = [Status::NotFound, Status::Unauthenticated, Status::PermissionDenied];
    assert!(refusals.contains(&error.status()), "{error}");
}

#[test]
fn the_last_credential_set_is_used() {
    let server = FaultServer::start();
    server.put("blob", b"some bytes".to_vec());
    let url = server.url("blob").split('?').next().unwrap().to_owned();
    let sent = |set: fn(&mut ClientOptions) -> Result<()>| {
        read_blob(&client_with(set), &url).unwrap();
        server.requests().pop().unwrap()
    };
    let by_key = sent(|options| {
        options.set_sas_token("sv=1&sig=bm90LWEtcmVhbC1zaWduYXR1cmU")?;
        options.set_account_key("account", WRONG_KEY)
    });
    assert!(by_key.header("authorization").is_some_and(|value| value.starts_with("SharedKey account:")));
    assert_eq!(by_key.query("sig"), None);
    let by_sas = sent(|options| {
        options.set_account_key("account", WRONG_KEY)?;
        options.set_sas_token("sv=1&sig=bm90LWEtcmVhbC1zaWduYXR1cmU")
    });
    assert_eq!((by_sas.header("authorization"), by_sas.query("sig")), (None, Some("bm90LWEtcmVhbC1zaWduYXR1cmU")));
    let anonymous = sent(|options| {
        options.set_account_key("account", WRONG_KEY)?;
        options.set_anonymous()
    });
    assert_eq!((anonymous.header("authorization"), anonymous.query("sig")), (None, None));
}

#[test]
fn setters_refuse_malformed_credentials() {
    let mut options = ClientOptions::new();
    for sas in ["", "?", "sv=1&se=2", "sig=", "not a token"] {
        expect_error(options.set_sas_token(sas), Status::InvalidArgument);
    }
    for (account, key) in [("", WRONG_KEY), (ACCOUNT, ""), (ACCOUNT, "hunter2 is not base64!"), ("", "")] {
        expect_error(options.set_account_key(account, key), Status::InvalidArgument);
    }
    for text in [
        "",
        ";",
        "hunter2",
        "AccountName=acc",
        "AccountKey=aHVudGVyMg==",
        "AccountName=acc;AccountKey=",
        "AccountName=acc;AccountKey=hunter2 is not base64!",
        "AccountName=;AccountKey=aHVudGVyMg==",
        "BlobEndpoint=not a url;AccountName=acc;AccountKey=aHVudGVyMg==",
        "BlobEndpoint=ftp://host/;AccountName=acc;AccountKey=aHVudGVyMg==",
        "BlobEndpoint=;AccountName=acc;AccountKey=aHVudGVyMg==",
        "SharedAccessSignature=;BlobEndpoint=https://acc.blob.core.windows.net",
        "UseDevelopmentStorage=maybe",
        "DefaultEndpointsProtocol=gopher;AccountName=acc;AccountKey=aHVudGVyMg==",
    ] {
        let error = expect_error(options.set_connection_string(text), Status::InvalidArgument);
        assert!(!error.message().contains("aHVudGVyMg"), "the key is in: {error}");
    }
}

#[test]
fn a_refused_setting_changes_nothing() {
    let container = azurite().container();
    let mut options = ClientOptions::new();
    options.set_account_key(ACCOUNT, ACCOUNT_KEY).unwrap();
    options.set_sas_token("").unwrap_err();
    options.set_connection_string("hunter2").unwrap_err();
    let client = Client::new(&options).unwrap();
    assert_has_access(&client, &container.bare_url(), &format!("{}/blob", container.bare_url()));
}

#[test]
fn zero_is_valid_for_max_retries_only() {
    let mut options = ClientOptions::new();
    expect_error(options.set_max_concurrency(0), Status::InvalidArgument);
    expect_error(options.set_memory_limit(0), Status::InvalidArgument);
    expect_error(options.set_block_size(0), Status::InvalidArgument);
    expect_error(options.set_timeout(Some(Duration::ZERO)), Status::InvalidArgument);
    options.set_max_retries(0).unwrap();
    options.set_timeout(None).unwrap();
}

#[test]
fn urls_and_debug_output_contain_no_secret() {
    let container = azurite().container();
    container.put("blob", b"some bytes");
    let reader = client().open(&container.blob("blob")).unwrap();
    let writer = client().writer(&container.blob("blob"), WriteMode::Replace).unwrap();
    assert_no_secret(reader.url());
    assert_no_secret(writer.url());
    let options = {
        let mut options = ClientOptions::new();
        options.set_account_key(ACCOUNT, ACCOUNT_KEY).unwrap();
        options
    };
    assert_no_secret(&format!("{options:?}"));
}
