//! The doctor on Azurite: with a SAS, with an identity over https, and where nothing lets it in.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "how a test fails")]

use std::process::{Command, Output};

use aztorch::{Client, ClientOptions};

#[allow(dead_code, reason = "the library's tests need the rest of it")]
mod support;

use support::azurite::{ACCOUNT, ACCOUNT_KEY, azurite};
use support::child::hide_azure;
use support::deployed::HOUR;
use support::error::assert_no_secret;
use support::identity::{IdentityServer, entra, managed};
use support::secure::secure;

/// What works on Azurite.
const CHECKS: [&str; 9] =
    ["DNS", "list", "clock", "write", "read, 1 conn.", "read, 8 conn.", "read, 32 conn.", "snapshot", "delete"];

/// What it printed, and whether it found that all is well.
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
fn assert_passed(report: &str, well: bool) {
    assert!(well && lines(report, "FAIL").is_empty(), "{report}");
    for what in CHECKS {
        assert!(
            lines(report, "PASS").iter().any(|line| line[6..].starts_with(&format!("{what} "))),
            "{what}: {report}"
        );
    }
}

#[test]
fn with_a_sas_everything_passes_and_nothing_is_left() {
    let container = azurite().container();
    let (report, well) = examine(&container.url(), &[]);
    assert_passed(&report, well);
    let listing = container.send("GET", "?restype=container&comp=list&include=snapshots", &[], b"").expect(200).body;
    let listing = String::from_utf8(listing).unwrap();
    assert!(listing.contains("EnumerationResults") && !listing.contains("<Blob>"), "{listing}");
}

#[test]
fn with_an_identity_over_https_everything_passes() {
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
    let (report, well) = examine(&container, &environment);
    assert_passed(&report, well);
    let tried: Vec<&str> = report.lines().filter(|line| line.starts_with("      ")).collect();
    let says = |what: &str, text: &str| tried.iter().any(|line| line[6..].starts_with(what) && line.contains(text));
    assert!(says("managed", "works") && says("principal", "works"), "{report}");
    assert!(says("workload", "AZURE_FEDERATED_TOKEN_FILE is not set") && says("az login", "no: "), "{report}");
    // Once for each alone, and once for the chain, which the principal opens, however many clients each had.
    assert_eq!((server.requests().len(), authority.requests().len()), (1, 2));
}

#[test]
fn without_a_credential_it_fails_and_says_why() {
    let (report, well) = examine(&azurite().container().bare_url(), &[]);
    assert!(!well && lines(&report, "FAIL").len() == 1, "{report}");
    assert!(lines(&report, "FAIL")[0].contains("no credential was sent"), "{report}");
    // Nobody is asked for a token outside of this machine: the metadata service is not there.
    let environment = [
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9"),
        ("SSL_CERT_FILE", secure().certificate.to_str().unwrap()),
        ("PATH", "/nowhere"),
    ];
    let (report, well) = examine(&format!("{}/container", secure().azurite.url), &environment);
    assert!(!well && lines(&report, "FAIL").len() == 1, "{report}");
    assert!(lines(&report, "FAIL")[0].contains("ManagedIdentityCredential: no instance metadata service"), "{report}");
}

#[test]
fn a_secret_in_the_place_of_the_url_is_not_printed() {
    let encoded = ACCOUNT_KEY.replace('/', "%2F");
    for url in [
        ACCOUNT_KEY.to_owned(),
        format!("AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY}"),
        format!("https://user:{ACCOUNT_KEY}@127.0.0.1:9/account/container"),
        format!("https://{encoded}@127.0.0.1:9/account/container"),
    ] {
        let (report, well) = examine(&url, &[]);
        assert!(!well && !report.contains("M02xNOcqFlqUwJPL"), "{report}");
    }
}
