//! Blobs over https, with a certificate made for the test. Each client runs in a process of its own, because a process
//! loads its CA certificates once.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use aztorch::{ClientOptions, Status, WriteMode};

use crate::support::azurite::{ACCOUNT, ACCOUNT_KEY, Azurite};
use crate::support::child::{self, test_path};
use crate::support::client::{client_with, read_blob, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;

/// Runs the test with the path `name` in a child against an Azurite over https. If `trusted`, the child trusts the
/// certificate.
fn in_child(name: &str, trusted: bool) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{trusted}-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = Azurite::over_tls(&certificate, &key);
    let ca: &[(&str, &OsStr)] = if trusted { &[("SSL_CERT_FILE", certificate.as_os_str())] } else { &[] };
    let status = child::spawn_with(name, &server.url, ca).wait().unwrap();
    assert!(status.success(), "{status}");
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn blobs_are_written_and_read_over_https() {
    let Some(url) = child::argument() else {
        return in_child(test_path(blobs_are_written_and_read_over_https), true);
    };
    let client = client_with(|options| options.set_account_key(ACCOUNT, ACCOUNT_KEY));
    let container = format!("{url}/over-tls");
    client.create_container(&container).unwrap();
    for size in [0, 1000, 40 << 20] {
        let content = Content::new(size, size).all();
        let blob = format!("{container}/{size}");
        write_blob(&client, &blob, WriteMode::Create, &content).unwrap();
        assert_same(&read_blob(&client, &blob).unwrap(), &content);
        let reader = client.open(&blob).unwrap();
        let mut small = vec![0; 100_000.min(content.len())];
        for step in content.chunks(100_000) {
            let read = reader.read(&mut small).unwrap();
            assert_same(&small[..read], step);
        }
        assert!(client.open_if_changed(&blob, reader.etag()).unwrap().is_none());
    }
}

#[test]
fn a_certificate_of_an_unknown_issuer_is_refused_without_retries() {
    let Some(url) = child::argument() else {
        return in_child(test_path(a_certificate_of_an_unknown_issuer_is_refused_without_retries), false);
    };
    let error = expect_error(
        client_with(ClientOptions::set_anonymous).open(&format!("{url}/container/blob")),
        Status::Unavailable,
    );
    assert!(error.message().contains("certificate") && error.message().contains("SSL_CERT_FILE"), "{error}");
    assert!(!error.is_retryable() && !error.message().contains("tries"), "{error}");
}
