//! Each identity end to end: a token asked for as on Azure, a blob written and read with it over https. Each client is a
//! process of its own, since it is the environment that tells a client where it runs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, SystemTime};

use aztorch::{BearerToken, Client, ClientOptions, Result, Status, WriteMode};

use crate::support::azurite::{ACCOUNT, ACCOUNT_KEY};
use crate::support::child;
use crate::support::client::{client_with, read_blob, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::identity::{Asked, IdentityServer, entra, imds, managed};
use crate::support::secure::{secure, token};

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const APP: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
const HOUR: Duration = Duration::from_secs(3600);
const CA: &str = "AZTORCH_TEST_CA";

/// Runs `test` in a process of its own, with these variables; there it gets the https Azurite's URL.
fn in_child(test: &str, environment: &[(&str, &str)]) {
    let secure = secure();
    let mut all: Vec<(&str, &OsStr)> = vec![(CA, secure.certificate.as_os_str())];
    all.extend(environment.iter().map(|(name, value)| (*name, OsStr::new(*value))));
    let output =
        child::spawn_with(&format!("identities::{test}"), &secure.azurite.url, &all).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn options(set: impl FnOnce(&mut ClientOptions) -> Result<()>) -> ClientOptions {
    let mut options = ClientOptions::new();
    options.set_ca_file(Path::new(&std::env::var(CA).unwrap())).unwrap();
    set(&mut options).unwrap();
    options
}

/// Writes and reads a small and a large blob in a container of the test's own.
#[track_caller]
fn round_trip(url: &str, options: &ClientOptions) -> String {
    let container = new_container(url);
    let client = Client::new(options).unwrap();
    for size in [1000, 20 << 20] {
        let (content, blob) = (Content::new(size, size).all(), format!("{container}/{size}"));
        write_blob(&client, &blob, WriteMode::Create, &content).unwrap();
        assert_same(&read_blob(&client, &blob).unwrap(), &content);
    }
    container
}

fn new_container(url: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let container = format!("{url}/identities-{}-{number}", std::process::id());
    let owner = Client::new(&options(|options| options.set_account_key(ACCOUNT, ACCOUNT_KEY))).unwrap();
    owner.create_container(&container).unwrap();
    container
}

#[test]
fn app_service_and_its_user_assigned_identity() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|_| Ok(())));
        return;
    }
    let server = IdentityServer::start(|_, _| managed("app-service", HOUR));
    let endpoint = format!("http://{}/msi/token", server.authority());
    let variables =
        [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "planted-header"), ("AZURE_CLIENT_ID", APP)];
    in_child("app_service_and_its_user_assigned_identity", &variables);
    let asked = server.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].header("x-identity-header"), Some("planted-header"));
    assert!(asked[0].target.contains("resource=https%3A%2F%2Fstorage.azure.com"), "{asked:?}");
    assert!(asked[0].target.contains(&format!("client_id={APP}")), "{asked:?}");
}

#[test]
fn a_virtual_machine_asked_by_the_chain() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|_| Ok(())));
        return;
    }
    let server = IdentityServer::start(|_, asked| imds(asked, "vm"));
    let host = format!("http://{}", server.authority());
    in_child("a_virtual_machine_asked_by_the_chain", &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &host)]);
    let asked = server.asked();
    // The probe, which gets no token, and the request for one.
    assert_eq!(asked.iter().filter(|asked| asked.header("metadata").is_some()).count(), 1, "{asked:?}");
    assert!(asked.iter().all(|asked| asked.target.starts_with("/metadata/identity/oauth2/token")), "{asked:?}");
}

#[test]
fn a_managed_identity_that_was_set_by_hand() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|options| options.set_managed_identity(Some(APP))));
        return;
    }
    let server = IdentityServer::start(|_, asked| imds(asked, "set-by-hand"));
    let host = format!("http://{}", server.authority());
    in_child("a_managed_identity_that_was_set_by_hand", &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &host)]);
    assert_eq!(server.asked().len(), 1);
    assert!(server.asked()[0].target.contains(&format!("client_id={APP}")));
}

#[test]
fn a_busy_metadata_service_is_asked_again_later() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|options| options.set_managed_identity(None)));
        return;
    }
    let server = IdentityServer::start(|index, asked| match index {
        0 => (429, "Retry-After: 1\r\n".into(), r#"{"error":"too many"}"#.into()),
        _ => imds(asked, "after-429"),
    });
    let host = format!("http://{}", server.authority());
    in_child("a_busy_metadata_service_is_asked_again_later", &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &host)]);
    assert_eq!(server.asked().len(), 2);
}

/// The variables of an authority of the test's own.
fn authority(server: &IdentityServer) -> String {
    format!("https://{}", server.authority())
}

#[track_caller]
fn assert_form(asked: &Asked, fields: &[&str]) {
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", format!("/{TENANT}/oauth2/v2.0/token").as_str())
    );
    for field in fields {
        assert!(asked.body.split('&').any(|pair| pair == *field), "{field} is not in {}", asked.body);
    }
}

#[test]
fn a_service_principal_in_the_environment() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|_| Ok(())));
        return;
    }
    let server = IdentityServer::start_tls(|_, _| entra("secret", HOUR));
    let variables = [
        ("AZURE_AUTHORITY_HOST", authority(&server)),
        ("AZURE_TENANT_ID", TENANT.into()),
        ("AZURE_CLIENT_ID", APP.into()),
        ("AZURE_CLIENT_SECRET", "planted hunter2".into()),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    in_child("a_service_principal_in_the_environment", &variables);
    let id = format!("client_id={APP}");
    assert_eq!(server.asked().len(), 1);
    let scope = "scope=https%3A%2F%2Fstorage.azure.com%2F.default";
    assert_form(&server.asked()[0], &[&id, "client_secret=planted+hunter2", scope]);
}

#[test]
fn a_service_principal_that_was_set_by_hand() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|options| options.set_client_secret(TENANT, APP, "planted hunter2")));
        return;
    }
    let server = IdentityServer::start_tls(|_, _| entra("by-hand", HOUR));
    in_child("a_service_principal_that_was_set_by_hand", &[("AZURE_AUTHORITY_HOST", &authority(&server))]);
    assert_form(&server.asked()[0], &["client_secret=planted+hunter2"]);
}

#[test]
fn a_service_principal_with_a_certificate() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|_| Ok(())));
        return;
    }
    let server = IdentityServer::start_tls(|_, _| entra("certificate", HOUR));
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let made = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
    let path = scratch("principal.pem");
    fs::write(&path, format!("{}{}", key.serialize_pem(), made.pem())).unwrap();
    let variables = [
        ("AZURE_AUTHORITY_HOST", authority(&server)),
        ("AZURE_TENANT_ID", TENANT.into()),
        ("AZURE_CLIENT_ID", APP.into()),
        ("AZURE_CLIENT_CERTIFICATE_PATH", path.to_str().unwrap().to_owned()),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    in_child("a_service_principal_with_a_certificate", &variables);
    let asked = &server.asked()[0];
    assert_form(asked, &["grant_type=client_credentials"]);
    let assertion = asked.body.split('&').find_map(|pair| pair.strip_prefix("client_assertion=")).unwrap();
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.public_key_raw());
    public.verify(signed.as_bytes(), &BASE64.decode(signature).unwrap()).unwrap();
    let claims = String::from_utf8(BASE64.decode(signed.split('.').nth(1).unwrap()).unwrap()).unwrap();
    assert!(claims.contains(&format!("{}/{TENANT}/oauth2/v2.0/token", authority(&server))), "{claims}");
}

#[test]
fn a_workload_identity_whose_file_is_read_again() {
    if let Some(url) = child::argument() {
        let path = PathBuf::from(std::env::var("AZURE_FEDERATED_TOKEN_FILE").unwrap());
        let options = options(|_| Ok(()));
        let container = round_trip(&url, &options);
        fs::write(&path, "the second federated token").unwrap();
        let client = Client::new(&options).unwrap();
        // The first token was good for two seconds, so that another one is needed.
        thread::sleep(Duration::from_millis(2100));
        write_blob(&client, &format!("{container}/more"), WriteMode::Create, b"more").unwrap();
        return;
    }
    let server = IdentityServer::start_tls(|_, _| entra("workload", Duration::from_secs(2)));
    let path = scratch("federated");
    fs::write(&path, "the first federated token").unwrap();
    let variables = [
        ("AZURE_AUTHORITY_HOST", authority(&server)),
        ("AZURE_TENANT_ID", TENANT.into()),
        ("AZURE_CLIENT_ID", APP.into()),
        ("AZURE_FEDERATED_TOKEN_FILE", path.to_str().unwrap().to_owned()),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    in_child("a_workload_identity_whose_file_is_read_again", &variables);
    let asked = server.asked();
    assert_form(&asked[0], &["client_assertion=the+first+federated+token"]);
    assert_form(asked.last().unwrap(), &["client_assertion=the+second+federated+token"]);
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}

/// A directory with a program of this name, which appends its arguments to a file beside it.
fn tool(name: &str, script: &str) -> (PathBuf, PathBuf) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let directory = scratch(&format!("tool-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&directory).unwrap();
    let (program, calls) = (directory.join(name), directory.join("calls"));
    fs::write(&program, format!("#!/bin/sh\necho \"$@\" >> {}\n{script}\n", calls.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (directory, calls)
}

/// Nothing listens there, so that the chain goes on.
const NO_IMDS: (&str, &str) = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9");

fn unix_time(later: Duration) -> u64 {
    (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + later).as_secs()
}

#[test]
fn the_azure_cli_after_all_others() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|_| Ok(())));
        return;
    }
    let (token, until) = (token("az", HOUR), unix_time(HOUR));
    let (directory, calls) = tool(
        "az",
        &format!(
            r#"echo '{{"accessToken":"{token}","expiresOn":"2099-01-01 00:00:00.000000","expires_on":{until},"subscription":"s","tenant":"t","tokenType":"Bearer"}}'"#
        ),
    );
    let path = format!("{}:/usr/bin:/bin", directory.display());
    in_child("the_azure_cli_after_all_others", &[("PATH", &path), NO_IMDS]);
    let calls = fs::read_to_string(calls).unwrap();
    assert_eq!(calls, "account get-access-token -o json --scope https://storage.azure.com/.default\n");
}

#[test]
fn the_azure_developer_cli_when_chosen() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|options| options.set_default_credential()));
        return;
    }
    let token = token("azd", HOUR);
    let (directory, calls) =
        tool("azd", &format!(r#"echo '{{"token":"{token}","expiresOn":"2099-01-01T00:00:00Z"}}'"#));
    let path = format!("{}:/usr/bin:/bin", directory.display());
    let chosen = ("AZURE_TOKEN_CREDENTIALS", "AzureDeveloperCliCredential");
    in_child("the_azure_developer_cli_when_chosen", &[("PATH", &path), chosen]);
    assert!(fs::read_to_string(calls).unwrap().starts_with("auth token -o json"));
}

#[test]
fn when_none_works_the_error_says_why_of_each() {
    if let Some(url) = child::argument() {
        let client = Client::new(&options(|_| Ok(()))).unwrap();
        let error = expect_error(client.open(&format!("{url}/container/blob")), Status::Unauthenticated);
        for part in [
            "EnvironmentCredential: not configured: AZURE_TENANT_ID",
            "WorkloadIdentityCredential: not configured",
            "ManagedIdentityCredential: no instance metadata service",
            "AzureCliCredential: ",
            "Please run 'az login'",
            "AzureDeveloperCliCredential: ",
            "azd not found on PATH",
        ] {
            assert!(error.message().contains(part), "'{part}' is not in {error}");
        }
        // A SAS in the URL has nothing to do with any of it.
        let missing =
            client.open(&format!("{url}/container/blob?{}", crate::support::azurite::account_sas("rwdlacup")));
        expect_error(missing, Status::NotFound);
        return;
    }
    let (directory, _) =
        tool("az", "echo \"ERROR: Please run 'az login' to setup account. Bearer hunter2\" >&2; exit 1");
    let path = format!("{}:/usr/bin:/bin", directory.display());
    in_child("when_none_works_the_error_says_why_of_each", &[("PATH", &path), NO_IMDS]);
}

#[test]
fn however_many_wait_one_token_is_asked_for() {
    if let Some(url) = child::argument() {
        let container = new_container(&url);
        let client = Client::new(&options(|_| Ok(()))).unwrap();
        let barrier = Barrier::new(32);
        thread::scope(|scope| {
            for number in 0..32 {
                let (client, barrier, container) = (client.clone(), &barrier, &container);
                scope.spawn(move || {
                    barrier.wait();
                    let blob = format!("{container}/{number}");
                    write_blob(&client, &blob, WriteMode::Create, b"some bytes").unwrap();
                });
            }
        });
        // Another client of the same identity has the token already, and so has a child of this process.
        let other = Client::new(&options(|_| Ok(()))).unwrap();
        assert_eq!(read_blob(&other, &format!("{container}/0")).unwrap(), b"some bytes");
        assert_eq!((client.stats().unwrap().token_requests, other.stats().unwrap().token_requests), (1, 0));
        assert!(in_fork(|| read_blob(&other, &format!("{container}/1")).is_ok_and(|bytes| bytes == b"some bytes")));
        return;
    }
    let server = IdentityServer::start(|_, _| {
        thread::sleep(Duration::from_millis(300));
        managed("single-flight", HOUR)
    });
    let endpoint = format!("http://{}/msi/token", server.authority());
    let variables = [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "planted-header")];
    in_child("however_many_wait_one_token_is_asked_for", &variables);
    assert_eq!(server.asked().len(), 1);
}

/// Whether `works` does in a forked child.
fn in_fork(works: impl FnOnce() -> bool) -> bool {
    // SAFETY: no other thread of this process is inside a call of the library's or holds the allocator's lock.
    match unsafe { libc::fork() } {
        0 => {
            let code = i32::from(!works());
            // SAFETY: ends the child without running what the parent will run.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for the child just made.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            status == 0
        }
    }
}

#[test]
fn a_token_is_renewed_before_it_expires() {
    if let Some(url) = child::argument() {
        let options = options(|_| Ok(()));
        let container = round_trip(&url, &options);
        let client = Client::new(&options).unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(5);
        while std::time::Instant::now() < end {
            assert!(client.exists(&format!("{container}/1000")).unwrap());
            thread::sleep(Duration::from_millis(20));
        }
        return;
    }
    let server = IdentityServer::start(|index, _| managed(&format!("renewal-{index}"), Duration::from_secs(4)));
    let endpoint = format!("http://{}/msi/token", server.authority());
    let variables = [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "planted-header")];
    in_child("a_token_is_renewed_before_it_expires", &variables);
    let asked = server.asked().len();
    assert!((3..=6).contains(&asked), "{asked} tokens in some five seconds, each good for four");
}

#[test]
fn a_callback_gives_tokens_and_errors() {
    if let Some(url) = child::argument() {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let by_callback = options(|options| {
            options.set_token_callback(move |scope, tenant| {
                assert_eq!((scope, tenant), ("https://storage.azure.com/.default", ""));
                // A call that blocks is refused in here, as it could wait for this very token.
                let inner = Client::shared()
                    .and_then(|client| client.exists("https://acc.blob.core.windows.net/container/blob"));
                assert_eq!(inner.unwrap_err().status(), Status::Unsupported);
                count.fetch_add(1, Ordering::SeqCst);
                BearerToken::new(&token("callback", HOUR), SystemTime::now() + HOUR)
            })
        });
        round_trip(&url, &by_callback);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let failing = options(|options| options.set_token_callback(|_, _| BearerToken::new("", SystemTime::now())));
        let error = expect_error(
            Client::new(&failing).unwrap().exists(&format!("{url}/container/blob")),
            Status::InvalidArgument,
        );
        assert!(error.message().contains("token is empty"), "{error}");
        return;
    }
    in_child("a_callback_gives_tokens_and_errors", &[]);
}

#[test]
fn no_token_is_ever_sent_over_http() {
    let server = crate::support::fault::FaultServer::start();
    server.put("blob", b"some bytes".to_vec());
    let url = server.url("blob").split('?').next().unwrap().to_owned();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let client = client_with(move |options| {
        options.set_token_callback(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            BearerToken::new("hunter2", SystemTime::now() + HOUR)
        })
    });
    let error = expect_error(client.open(&url), Status::InvalidArgument);
    assert!(error.message().contains("never sent over http"), "{error}");
    assert_eq!((server.requests().len(), asked.load(Ordering::SeqCst)), (0, 0));
}
