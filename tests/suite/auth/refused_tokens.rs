//! The behaviour of a client whose token the storage service refuses.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::SystemTime;

use aztorch::{BearerToken, Client, ClientOptions, Status, WriteMode};

use crate::support::child::{self, test_path};
use crate::support::client::{client_with, write_blob};
use crate::support::deployed::{HOUR, fake_program, in_child, options};
use crate::support::error::expect_error;
use crate::support::identity::IdentityServer;
use crate::support::secure::secure;
use crate::support::tokens::{authorizations, client_with_numbered_tokens};

#[test]
fn a_refused_token_is_replaced_without_a_retry() {
    let server = IdentityServer::start_tls(|_, request| match request.header("authorization") {
        Some("Bearer planted-0") => (401, String::new(), "<Error>the token has expired</Error>".into()),
        _ => (if request.method == "PUT" { 201 } else { 200 }, "ETag: \"0x1\"\r\n".into(), String::new()),
    });
    let (client, calls) = client_with_numbered_tokens(0);
    let url = format!("https://{}/account/container/blob", server.authority());
    write_blob(&client, &url, WriteMode::Replace, b"some bytes").unwrap();
    assert!(server.requests().iter().all(|request| request.method == "PUT" && request.body == "some bytes"));
    assert!(client.exists(&url).unwrap());
    assert_eq!(authorizations(&server), ["Bearer planted-0", "Bearer planted-1", "Bearer planted-1"]);
    let stats = client.stats().unwrap();
    assert_eq!((calls.load(Ordering::SeqCst), stats.token_requests, stats.retries), (2, 2, 1));
}

#[test]
fn a_second_refused_token_is_an_error() {
    let server = IdentityServer::start_tls(|_, _| (401, String::new(), String::new()));
    let (client, calls) = client_with_numbered_tokens(8);
    let url = format!("https://{}/account/container/blob", server.authority());
    for more in 1..3 {
        let error = expect_error(client.exists(&url), Status::Unauthenticated);
        assert!(error.message().contains("the token was not accepted") && !error.is_retryable(), "{error}");
        // A refused token is not used by later calls.
        assert_eq!((server.requests().len(), calls.load(Ordering::SeqCst)), (2 * more, 2 * more));
    }
}

#[test]
fn refused_sas_keys_and_anonymous_requests_are_not_repeated() {
    let server = IdentityServer::start_tls(|_, _| (401, String::new(), String::new()));
    let url = format!("https://{}/account/container/blob", server.authority());
    let (by_token, calls) = client_with_numbered_tokens(8);
    let by = |set: &dyn Fn(&mut ClientOptions) -> aztorch::Result<()>| {
        client_with(|options| options.set_ca_file(&secure().certificate).and_then(|()| set(options)))
    };
    let results = [
        by_token.exists(&format!("{url}?sv=1&sig=x")),
        by(&|options| options.set_sas_token("sv=1&sig=x")).exists(&url),
        by(&|options| options.set_account_key("account", "a2V5")).exists(&url),
        by(&|options| options.set_anonymous()).exists(&url),
    ];
    for (number, result) in results.into_iter().enumerate() {
        let error = expect_error(result, Status::Unauthenticated);
        assert!(!error.is_retryable(), "{number}: {error}");
    }
    assert_eq!((server.requests().len(), calls.load(Ordering::SeqCst)), (4, 0));
}

const TENANT: &str = "11111111-2222-3333-4444-555555555555";

/// A storage service that accepts the token `of-TENANT`, and otherwise names its tenant in a challenge.
fn server_of_tenant() -> IdentityServer {
    IdentityServer::start_tls(|_, request| match request.header("authorization") {
        Some(token) if token == format!("Bearer of-{TENANT}") => (200, String::new(), String::new()),
        _ => {
            let challenge = format!(
                "WWW-Authenticate: Bearer authorization_uri=https://login.microsoftonline.com/{TENANT}/oauth2/authorize \
                 resource_id=https://storage.azure.com\r\n"
            );
            (401, challenge, String::new())
        }
    })
}

#[test]
fn a_token_is_requested_for_the_tenant_of_the_challenge() {
    let server = server_of_tenant();
    let tenants: Arc<Mutex<Vec<String>>> = Arc::default();
    let requested = tenants.clone();
    let client = client_with(|options| {
        options.set_ca_file(&secure().certificate)?;
        options.set_max_retries(0)?;
        options.set_token_callback(move |_, tenant| {
            requested.lock().unwrap().push(tenant.to_owned());
            BearerToken::new(&format!("of-{tenant}"), SystemTime::now() + HOUR)
        })
    });
    let url = format!("https://{}/account/container/blob", server.authority());
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                assert!(client.exists(&url).unwrap());
            });
        }
    });
    let first = server.requests().len();
    assert!(client.exists(&url).unwrap());
    assert_eq!(server.requests().len(), first + 1, "later calls use the tenant without a challenge");
    assert_eq!(*tenants.lock().unwrap(), ["", TENANT]);
}

#[test]
fn a_refused_token_of_the_challenges_tenant_is_an_error() {
    let server = server_of_tenant();
    let (client, calls) = client_with_numbered_tokens(8);
    let url = format!("https://{}/account/container/blob", server.authority());
    let error = expect_error(client.exists(&url), Status::Unauthenticated);
    assert!(error.message().contains(&format!("belongs to the tenant {TENANT}")), "{error}");
    assert!(!error.is_retryable());
    assert_eq!((server.requests().len(), calls.load(Ordering::SeqCst)), (2, 2));
}

#[test]
fn the_azure_cli_gets_the_tenant_of_the_challenge() {
    if child::argument().is_some() {
        let client = Client::new(&options(|options| options.set_azure_cli())).unwrap();
        let url = format!("https://{}/account/container/blob", std::env::var("AZTORCH_TEST_SERVER").unwrap());
        assert!(client.exists(&url).unwrap());
        return;
    }
    let server = server_of_tenant();
    let script = r#"case "$*" in *--tenant*) token=of-TENANT;; *) token=of-home;; esac
echo '{"accessToken":"'$token'","expiresOn":"2099-01-01 00:00:00.000000","expires_on":4070908800,"subscription":"s","tenant":"t","tokenType":"Bearer"}'"#;
    let (directory, calls) = fake_program("az", &script.replace("TENANT", TENANT));
    let path = format!("{}:/usr/bin:/bin", directory.display());
    let variables = [("PATH", path.as_str()), ("AZTORCH_TEST_SERVER", server.authority())];
    in_child(test_path(the_azure_cli_gets_the_tenant_of_the_challenge), &variables);
    let calls = std::fs::read_to_string(calls).unwrap();
    assert_eq!(calls.lines().count(), 2, "{calls}");
    assert!(calls.lines().nth(1).unwrap().contains(&format!("--tenant {TENANT}")), "{calls}");
}
