//! Tokens: requested once, cached, renewed, inherited by a forked process, and sent to no other host.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aztorch::{BearerToken, Client, Status, WriteMode};

use crate::support::child::{self, test_path};
use crate::support::client::{client_with, read_blob, write_blob};
use crate::support::deployed::{HOUR, in_child, new_container, options, round_trip};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};
use crate::support::identity::{IdentityServer, imds, managed};
use crate::support::secure::{CLOUDS, secure, token};
use crate::support::tokens::{authorizations, client_with_numbered_tokens};

#[test]
fn a_throttled_token_request_is_retried_after_retry_after() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|options| options.set_managed_identity(None)));
        return;
    }
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let seen = times.clone();
    let server = IdentityServer::start(move |index, request| {
        seen.lock().unwrap().push(Instant::now());
        match index {
            0 => (429, "Retry-After: 2\r\n".into(), r#"{"error":"too many"}"#.into()),
            _ => imds(request, "after-429"),
        }
    });
    let host = format!("http://{}", server.authority());
    in_child(
        test_path(a_throttled_token_request_is_retried_after_retry_after),
        &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &host)],
    );
    let times = times.lock().unwrap();
    assert_eq!(times.len(), 2);
    assert!(times[1] - times[0] >= Duration::from_secs(2), "retried after {:?}", times[1] - times[0]);
}

#[test]
fn concurrent_calls_request_one_token() {
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
        // Another client of the same identity shares the token, and so does a forked process.
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
    in_child(test_path(concurrent_calls_request_one_token), &variables);
    assert_eq!(server.requests().len(), 1);
}

/// Calls `check` in a forked process; returns its result.
fn in_fork(check: impl FnOnce() -> bool) -> bool {
    // SAFETY: no other thread of this process is inside a call of the library or holds the allocator's lock.
    match unsafe { libc::fork() } {
        0 => {
            let code = i32::from(!check());
            // SAFETY: ends the child without running the destructors of the parent.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for the child that was just forked.
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
    in_child(test_path(a_token_is_renewed_before_it_expires), &variables);
    let requests = server.requests().len();
    assert!((3..=6).contains(&requests), "{requests} tokens in about five seconds, each valid for four");
}

/// The write itself was not sent, so it has a known outcome.
#[test]
fn a_write_whose_token_request_breaks_was_not_executed() {
    if let Some(url) = child::argument() {
        let container = new_container(&url);
        let missing = format!("{container}/missing");
        let client = |max_retries| {
            let options = options(|options| {
                options.set_max_retries(max_retries)?;
                options.set_managed_identity(None)
            });
            Client::new(&options).unwrap()
        };
        let without_retries = client(0);
        for written in [
            write_blob(&without_retries, &missing, WriteMode::Create, b"some bytes").map(drop),
            write_blob(&without_retries, &missing, WriteMode::Replace, b"some bytes").map(drop),
            without_retries.delete(&missing),
        ] {
            let error = written.expect_err("a token request that breaks");
            assert!(!error.message().contains("unknown"), "{error}");
        }
        // After a retry of a deletion that may have been executed, NOT_FOUND would count as success.
        expect_error(client(8).delete(&missing), Status::NotFound);
        return;
    }
    let server = FaultServer::start();
    server.put("/msi/token", managed("broken-requests", HOUR).2);
    server.script("GET", vec![Fault::Reset { after: None }; 4]);
    let endpoint = format!("http://{}/msi/token", server.authority());
    let variables = [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "planted-header")];
    in_child(test_path(a_write_whose_token_request_breaks_was_not_executed), &variables);
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_callback_returns_tokens_and_errors() {
    if let Some(url) = child::argument() {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let by_callback = options(|options| {
            options.set_token_callback(move |scope, tenant| {
                assert_eq!((scope, tenant), ("https://storage.azure.com/.default", ""));
                // A blocking call inside the callback is refused, because it could wait for this token.
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
    in_child(test_path(a_callback_returns_tokens_and_errors), &[]);
}

#[test]
fn a_callback_may_wait_for_another_thread_that_uses_the_same_client() {
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
    // The timeout ends a call that hangs.
    let client = client.with_timeout(Some(Duration::from_secs(60)));
    *shared.lock().unwrap() = Some(client.clone());
    assert!(client.exists(&format!("https://{}/account/container/blob", account.authority())).unwrap());
    assert_eq!(authorizations(&account), ["Bearer planted"]);
    shared.lock().unwrap().take();
}

#[test]
fn no_token_is_sent_over_http() {
    let server = FaultServer::start();
    server.put("blob", b"some bytes".to_vec());
    let url = server.url("blob").split('?').next().unwrap().to_owned();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let client = client_with(move |options| {
        options.set_token_callback(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            BearerToken::new("hunter2", SystemTime::now() + HOUR)
        })
    });
    let error = expect_error(client.open(&url), Status::InvalidArgument);
    assert!(error.message().contains("never sent over http"), "{error}");
    assert_eq!((server.requests().len(), calls.load(Ordering::SeqCst)), (0, 0));
}

#[test]
fn a_redirect_sends_no_credential_to_another_host() {
    let other = IdentityServer::start_tls(|_, _| (200, String::new(), String::new()));
    let location = format!("Location: https://{}/account/container/blob?sig=hunter2\r\n", other.authority());
    let server =
        IdentityServer::start_tls(move |index, _| ([301, 302, 307, 308][index % 4], location.clone(), String::new()));
    let (by_token, _) = client_with_numbered_tokens(8);
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
    assert_eq!((server.requests().len(), other.requests().len()), (8, 0));
}

#[test]
fn calls_of_the_callback_for_several_accounts_are_serialised() {
    let (inside, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = calls.clone();
    let client = client_with(|options| {
        options.set_max_retries(0)?;
        // The proxy does not exist: calls fail after they have got their token.
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
