//! The doctor on Azurite: with a SAS, with an identity over https, and without a credential.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "how a test fails")]

use std::process::{Command, Output};

use aztorch::{Client, ClientOptions};

#[allow(dead_code, reason = "the library's tests use the rest")]
mod support;

use support::azurite::{ACCOUNT, ACCOUNT_KEY, azurite};
use support::child::hide_azure;
use support::deployed::HOUR;
use support::error::assert_no_secret;
use support::identity::{IdentityServer, entra, managed};
use support::secure::secure;

/// The checks that pass on Azurite.
const CHECKS: [&str; 9] =
    ["DNS", "list", "clock", "write", "read, 1 conn.", "read, 8 conn.", "read, 32 conn.", "snapshot", "delete"];

/// Runs the doctor. Returns its output, and whether it succeeded.
fn examine(url: &str, environment: &[(&str, &str)]) -> (String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aztorch-doctor"));
    hide_azure(&mut command);
    let Output { status, stdout, stderr } = command.arg(url).envs(environment.iter().copied()).output().unwrap();
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    let report = String::from_utf8(stdout).unwrap();
    assert_no_secret(&report);
    (report, status.success())
}

fn lines<'a>(report: &'a str, verdict: &str) -> Vec<&'a str> {
    report.lines().filter(|line| line.starts_with(verdict)).collect()
}

#[track_caller]
fn assert_passed(report: &str, success: bool) {
    assert!(success && lines(report, "FAIL").is_empty(), "{report}");
    for name in CHECKS {
        assert!(
            lines(report, "PASS").iter().any(|line| line[6..].starts_with(&format!("{name} "))),
            "{name}: {report}"
        );
    }
}

#[test]
fn all_checks_pass_with_a_sas_and_no_blob_is_left() {
    let container = azurite().container();
    let (report, success) = examine(&container.url(), &[]);
    assert_passed(&report, success);
    let listing = container.send("GET", "?restype=container&comp=list&include=snapshots", &[], b"").expect(200).body;
    let listing = String::from_utf8(listing).unwrap();
    assert!(listing.contains("EnumerationResults") && !listing.contains("<Blob>"), "{listing}");
}

#[test]
fn all_checks_pass_with_an_identity_over_https() {
    let (secure, server) = (secure(), IdentityServer::start(|_, _| managed("doctor", HOUR)));
    let authority = IdentityServer::start_tls(|_, _| entra("doctor", HOUR));
    let authority_host = format!("https://{}", authority.authority());
    let endpoint = format!("http://{}/msi/token", server.authority());
    let container = format!("{}/doctor-{}", secure.azurite.url, std::process::id());
    let mut options = ClientOptions::new();
    options.set_ca_file(&secure.certificate).unwrap();
    options.set_account_key(ACCOUNT, ACCOUNT_KEY).unwrap();
    Client::new(&options).unwrap().create_container(&container).unwrap();
    let environment = [
        ("IDENTITY_ENDPOINT", endpoint.as_str()),
        ("IDENTITY_HEADER", "planted-hunter2"),
        ("AZURE_AUTHORITY_HOST", authority_host.as_str()),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_ID", "id"),
        ("AZURE_CLIENT_SECRET", "planted-hunter2"),
        ("SSL_CERT_FILE", secure.certificate.to_str().unwrap()),
        ("PATH", "/nowhere"),
    ];
    let (report, success) = examine(&container, &environment);
    assert_passed(&report, success);
    let notes: Vec<&str> = report.lines().filter(|line| line.starts_with("      ")).collect();
    let has_note = |name: &str, text: &str| notes.iter().any(|line| line[6..].starts_with(name) && line.contains(text));
    assert!(has_note("managed", "works") && has_note("principal", "works"), "{report}");
    assert!(has_note("workload", "AZURE_FEDERATED_TOKEN_FILE is not set") && has_note("az login", "no: "), "{report}");
    // One token request for each identity alone, and one for the chain, whose first member is the principal. The number
    // of clients does not matter.
    assert_eq!((server.requests().len(), authority.requests().len()), (1, 2));
}

#[test]
fn without_a_credential_the_doctor_fails_with_the_reason() {
    let (report, success) = examine(&azurite().container().bare_url(), &[]);
    assert!(!success && lines(&report, "FAIL").len() == 1, "{report}");
    assert!(lines(&report, "FAIL")[0].contains("no credential was sent"), "{report}");
    // No token is requested from another machine: the metadata service does not exist here.
    let environment = [
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9"),
        ("SSL_CERT_FILE", secure().certificate.to_str().unwrap()),
        ("PATH", "/nowhere"),
    ];
    let (report, success) = examine(&format!("{}/container", secure().azurite.url), &environment);
    assert!(!success && lines(&report, "FAIL").len() == 1, "{report}");
    assert!(lines(&report, "FAIL")[0].contains("ManagedIdentityCredential: no instance metadata service"), "{report}");
}

#[test]
fn a_secret_given_as_the_url_is_not_printed() {
    let encoded = ACCOUNT_KEY.replace('/', "%2F");
    for url in [
        ACCOUNT_KEY.to_owned(),
        format!("AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY}"),
        format!("https://user:{ACCOUNT_KEY}@127.0.0.1:9/account/container"),
        format!("https://{encoded}@127.0.0.1:9/account/container"),
    ] {
        let (report, success) = examine(&url, &[]);
        assert!(!success && !report.contains("M02xNOcqFlqUwJPL"), "{report}");
    }
}
