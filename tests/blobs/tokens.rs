//! What becomes of a token: asked for once, kept, renewed, inherited, given up when it is refused, and sent nowhere else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aztorch::{BearerToken, Client, ClientOptions, Status, WriteMode};

use crate::support::child;
use crate::support::client::{client_with, read_blob, write_blob};
use crate::support::deployed::{HOUR, in_child, new_container, options, round_trip, tool};
use crate::support::error::expect_error;
use crate::support::fault::FaultServer;
use crate::support::identity::{IdentityServer, imds, managed};
use crate::support::secure::{CLOUDS, secure, token};

#[test]
fn a_busy_metadata_service_is_asked_again_later() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|options| options.set_managed_identity(None)));
        return;
    }
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let seen = times.clone();
    let server = IdentityServer::start(move |index, asked| {
        seen.lock().unwrap().push(Instant::now());
        match index {
            0 => (429, "Retry-After: 2\r\n".into(), r#"{"error":"too many"}"#.into()),
            _ => imds(asked, "after-429"),
        }
    });
    let host = format!("http://{}", server.authority());
    in_child("tokens::a_busy_metadata_service_is_asked_again_later", &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &host)]);
    let times = times.lock().unwrap();
    assert_eq!(times.len(), 2);
    assert!(times[1] - times[0] >= Duration::from_secs(2), "asked again after {:?}", times[1] - times[0]);
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
    in_child("tokens::however_many_wait_one_token_is_asked_for", &variables);
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
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            assert!(client.exists(&format!("{container}/1000")).unwrap());
            thread::sleep(Duration::from_millis(20));
        }
        return;
    }
    let server = IdentityServer::start(|index, _| managed(&format!("renewal-{index}"), Duration::from_secs(4)));
    let endpoint = format!("http://{}/msi/token", server.authority());
    let variables = [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "planted-header")];
    in_child("tokens::a_token_is_renewed_before_it_expires", &variables);
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
    in_child("tokens::a_callback_gives_tokens_and_errors", &[]);
}

#[test]
fn a_callback_may_wait_for_a_thread_that_reads_with_the_same_client() {
    let blobs = FaultServer::start();
    blobs.put("secret", b"planted".to_vec());
    let url = blobs.url("secret");
    let account = IdentityServer::start_tls(|_, _| (200, String::new(), String::new()));
    let shared: Arc<Mutex<Option<Client>>> = Arc::default();
    let inside = shared.clone();
    let client = client_with(move |options| {
        options.set_ca_file(&secure().certificate)?;
        options.set_max_concurrency(1)?;
        options.set_token_callback(move |_, _| {
            let (client, url) = (inside.lock().unwrap().clone().unwrap(), url.clone());
            let secret = thread::spawn(move || read_blob(&client, &url)).join().unwrap()?;
            BearerToken::new(std::str::from_utf8(&secret).unwrap(), SystemTime::now() + HOUR)
        })
    });
    // Ends a call that hangs, long after every other one.
    let client = client.with_timeout(Some(Duration::from_secs(60)));
    *shared.lock().unwrap() = Some(client.clone());
    assert!(client.exists(&format!("https://{}/account/container/blob", account.authority())).unwrap());
    assert_eq!(tokens(&account), ["Bearer planted"]);
    shared.lock().unwrap().take();
}

#[test]
fn no_token_is_ever_sent_over_http() {
    let server = FaultServer::start();
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

/// A client with a callback that gives `planted-0`, `planted-1` and so on.
fn counting(max_retries: u32) -> (Client, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let client = client_with(|options| {
        options.set_ca_file(&secure().certificate)?;
        options.set_max_retries(max_retries)?;
        options.set_token_callback(move |_, _| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            BearerToken::new(&format!("planted-{number}"), SystemTime::now() + HOUR)
        })
    });
    (client, calls)
}

fn tokens(server: &IdentityServer) -> Vec<String> {
    server.asked().iter().map(|asked| asked.header("authorization").unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_refused_token_is_replaced_within_the_same_try() {
    let server = IdentityServer::start_tls(|_, asked| match asked.header("authorization") {
        Some("Bearer planted-0") => (401, String::new(), "<Error>the token has expired</Error>".into()),
        _ => (if asked.method == "PUT" { 201 } else { 200 }, "ETag: \"0x1\"\r\n".into(), String::new()),
    });
    let (client, calls) = counting(0);
    let url = format!("https://{}/account/container/blob", server.authority());
    write_blob(&client, &url, WriteMode::Replace, b"some bytes").unwrap();
    assert!(server.asked().iter().all(|asked| asked.method == "PUT" && asked.body == "some bytes"));
    assert!(client.exists(&url).unwrap());
    assert_eq!(tokens(&server), ["Bearer planted-0", "Bearer planted-1", "Bearer planted-1"]);
    let stats = client.stats().unwrap();
    assert_eq!((calls.load(Ordering::SeqCst), stats.token_requests, stats.retries), (2, 2, 1));
}

#[test]
fn a_new_token_that_is_refused_too_is_the_end_of_it() {
    let server = IdentityServer::start_tls(|_, _| (401, String::new(), String::new()));
    let (client, calls) = counting(8);
    let url = format!("https://{}/account/container/blob", server.authority());
    for more in 1..3 {
        let error = expect_error(client.exists(&url), Status::Unauthenticated);
        assert!(error.message().contains("the token was not accepted") && !error.is_retryable(), "{error}");
        // The last one is not used again either.
        assert_eq!((server.asked().len(), calls.load(Ordering::SeqCst)), (2 * more, 2 * more));
    }
}

#[test]
fn nothing_but_a_token_is_replaced() {
    let server = IdentityServer::start_tls(|_, _| (401, String::new(), String::new()));
    let url = format!("https://{}/account/container/blob", server.authority());
    let (by_token, calls) = counting(8);
    let by = |set: &dyn Fn(&mut ClientOptions) -> aztorch::Result<()>| {
        client_with(|options| options.set_ca_file(&secure().certificate).and_then(|()| set(options)))
    };
    let asked = [
        by_token.exists(&format!("{url}?sv=1&sig=x")),
        by(&|options| options.set_sas_token("sv=1&sig=x")).exists(&url),
        by(&|options| options.set_account_key("account", "a2V5")).exists(&url),
        by(&|options| options.set_anonymous()).exists(&url),
    ];
    for (number, result) in asked.into_iter().enumerate() {
        let error = expect_error(result, Status::Unauthenticated);
        assert!(!error.is_retryable(), "{number}: {error}");
    }
    assert_eq!((server.asked().len(), calls.load(Ordering::SeqCst)), (4, 0));
}

#[test]
fn a_redirect_takes_no_credential_to_another_host() {
    let other = IdentityServer::start_tls(|_, _| (200, String::new(), String::new()));
    let location = format!("Location: https://{}/account/container/blob?sig=hunter2\r\n", other.authority());
    let server =
        IdentityServer::start_tls(move |index, _| ([301, 302, 307, 308][index % 4], location.clone(), String::new()));
    let (by_token, _) = counting(8);
    let url = format!("https://{}/account/container/blob", server.authority());
    let with_sas = format!("{url}?sv=1&sig=bm90LWEtcmVhbC1zaWduYXR1cmU");
    for url in [&url, &with_sas] {
        let outcomes = [
            by_token.open(url).map(drop),
            by_token.exists(url).map(drop),
            by_token.delete(url),
            write_blob(&by_token, url, WriteMode::Replace, b"x").map(drop),
        ];
        for outcome in outcomes {
            let error = expect_error(outcome, Status::Rejected);
            let shown = format!("https://{}", other.authority());
            assert!(
                error.message().contains("redirects are not followed") && error.message().contains(&shown),
                "{error}"
            );
        }
    }
    assert_eq!((server.asked().len(), other.asked().len()), (8, 0));
}

const TENANT: &str = "11111111-2222-3333-4444-555555555555";

/// A storage service of this tenant: it takes `of-TENANT` as token, and else says where there is one.
fn of_one_tenant() -> IdentityServer {
    IdentityServer::start_tls(|_, asked| match asked.header("authorization") {
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
fn the_tenant_that_a_refusal_names_is_asked_for_a_token() {
    let server = of_one_tenant();
    let tenants: Arc<Mutex<Vec<String>>> = Arc::default();
    let asked = tenants.clone();
    let client = client_with(|options| {
        options.set_ca_file(&secure().certificate)?;
        options.set_max_retries(0)?;
        options.set_token_callback(move |_, tenant| {
            asked.lock().unwrap().push(tenant.to_owned());
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
    let first = server.asked().len();
    assert!(client.exists(&url).unwrap());
    assert_eq!(server.asked().len(), first + 1, "the tenant is known from then on");
    assert_eq!(*tenants.lock().unwrap(), ["", TENANT]);
}

#[test]
fn a_tenant_whose_token_is_refused_too_is_the_end_of_it() {
    let server = of_one_tenant();
    let (client, calls) = counting(8);
    let url = format!("https://{}/account/container/blob", server.authority());
    let error = expect_error(client.exists(&url), Status::Unauthenticated);
    assert!(error.message().contains(&format!("belongs to the tenant {TENANT}")), "{error}");
    assert!(!error.is_retryable());
    assert_eq!((server.asked().len(), calls.load(Ordering::SeqCst)), (2, 2));
}

#[test]
fn the_azure_cli_is_asked_for_a_tenants_token() {
    if child::argument().is_some() {
        let client = Client::new(&options(|options| options.set_azure_cli())).unwrap();
        let url = format!("https://{}/account/container/blob", std::env::var("AZTORCH_TEST_SERVER").unwrap());
        assert!(client.exists(&url).unwrap());
        return;
    }
    let server = of_one_tenant();
    let script = r#"case "$*" in *--tenant*) token=of-TENANT;; *) token=of-home;; esac
echo '{"accessToken":"'$token'","expiresOn":"2099-01-01 00:00:00.000000","expires_on":4070908800,"subscription":"s","tenant":"t","tokenType":"Bearer"}'"#;
    let (directory, calls) = tool("az", &script.replace("TENANT", TENANT));
    let path = format!("{}:/usr/bin:/bin", directory.display());
    let variables = [("PATH", path.as_str()), ("AZTORCH_TEST_SERVER", server.authority())];
    in_child("tokens::the_azure_cli_is_asked_for_a_tenants_token", &variables);
    let calls = std::fs::read_to_string(calls).unwrap();
    assert_eq!(calls.lines().count(), 2, "{calls}");
    assert!(calls.lines().nth(1).unwrap().contains(&format!("--tenant {TENANT}")), "{calls}");
}

#[test]
fn the_callback_is_called_one_at_a_time_for_whatever_accounts() {
    let (inside, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = calls.clone();
    let client = client_with(|options| {
        options.set_max_retries(0)?;
        // The token is there, the proxy is not.
        options.set_proxy("http://127.0.0.1:9")?;
        options.set_token_callback(move |_, _| {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            thread::sleep(Duration::from_millis(100));
            inside.fetch_sub(1, Ordering::SeqCst);
            count.fetch_add(1, Ordering::SeqCst);
            BearerToken::new("planted", SystemTime::now() + HOUR)
        })
    });
    let barrier = Barrier::new(CLOUDS.len());
    thread::scope(|scope| {
        for (account, _) in CLOUDS {
            let (client, barrier) = (&client, &barrier);
            scope.spawn(move || {
                barrier.wait();
                expect_error(client.exists(&format!("https://{account}/container/blob")), Status::Unavailable);
            });
        }
    });
    assert_eq!(calls.load(Ordering::SeqCst), CLOUDS.len());
}
