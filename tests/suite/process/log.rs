//! The log callback of the C ABI, and a search for secrets in all output of the library.

use std::ffi::{CStr, OsStr, c_char, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aztorch::ffi::{azt_log_set_callback, azt_status};
use aztorch::{BearerToken, Client, ClientOptions, WriteMode};

use crate::support::azurite::{ACCOUNT, ACCOUNT_KEY, azurite};
use crate::support::child::{self, test_path};
use crate::support::client::{client, client_with, read_blob, write_blob};
use crate::support::deployed::{HOUR, in_child, options, round_trip};
use crate::support::error::assert_no_secret;
use crate::support::fault::{Fault, FaultServer};
use crate::support::identity::IdentityServer;
use crate::support::secure::token;

static LINES: Mutex<Vec<(i32, String, String)>> = Mutex::new(Vec::new());
static FINALIZED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn line(_: *mut c_void, level: i32, target: *const c_char, message: *const c_char) {
    // SAFETY: the library passes strings that live during the call.
    let (target, message) = unsafe { (CStr::from_ptr(target), CStr::from_ptr(message)) };
    // Calls inside the callback are not logged, so there is no recursion and no deadlock.
    let text = |text: &CStr| text.to_str().unwrap().to_owned();
    // SAFETY: NULL is allowed everywhere here.
    assert_eq!(unsafe { azt_log_set_callback(5, None, null_mut(), None, null_mut()) }, 2, "UNSUPPORTED inside");
    // The data of a refused callback stays with the caller and is not finalized.
    assert_eq!(listen(5), 2);
    LINES.lock().unwrap().push((level, text(target), text(message)));
}

unsafe extern "C" fn finalize(user_data: *mut c_void) {
    assert_eq!(user_data as usize, 7);
    FINALIZED.fetch_add(1, Ordering::SeqCst);
}

fn listen(level: i32) -> azt_status {
    // SAFETY: the functions have the right types, and 7 is never used as a pointer.
    unsafe { azt_log_set_callback(level, Some(line), 7 as *mut c_void, Some(finalize), null_mut()) }
}

static WRITER_OF: Mutex<Option<Client>> = Mutex::new(None);

unsafe extern "C" fn open_a_writer(_: *mut c_void, _: i32, _: *const c_char, message: *const c_char) {
    // SAFETY: the library passes strings that live during the call.
    if unsafe { CStr::from_ptr(message) }.to_bytes().starts_with(b"the environment has") {
        let client = WRITER_OF.lock().unwrap().take().unwrap();
        client.writer("https://acc.blob.core.windows.net/con/blob", WriteMode::Replace).unwrap();
        FINALIZED.fetch_add(1, Ordering::SeqCst);
    }
}

/// A call inside the callback must not wait for the operation that the library was logging.
#[test]
fn a_log_callback_may_open_a_writer_of_the_same_client() {
    let path = test_path(a_log_callback_may_open_a_writer_of_the_same_client);
    if child::argument().is_none() {
        let variables = [("AZURE_STORAGE_ACCOUNT", OsStr::new("acc")), ("AZURE_STORAGE_KEY", OsStr::new("a2V5"))];
        assert!(child::spawn_with(path, "run", &variables).wait().unwrap().success());
        return;
    }
    // SAFETY: the function has the right type.
    assert_eq!(unsafe { azt_log_set_callback(3, Some(open_a_writer), null_mut(), None, null_mut()) }, 0);
    let client = client();
    *WRITER_OF.lock().unwrap() = Some(client.clone());
    let ended = Arc::new(AtomicUsize::new(0));
    let at_its_end = ended.clone();
    std::thread::spawn(move || {
        client.writer("https://acc.blob.core.windows.net/con/blob", WriteMode::Replace).unwrap();
        at_its_end.store(1, Ordering::SeqCst);
    });
    let begun = Instant::now();
    while ended.load(Ordering::SeqCst) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the callback deadlocks");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(FINALIZED.load(Ordering::SeqCst), 1, "the line was not logged");
}

type Set = Box<dyn Fn(&mut ClientOptions) -> aztorch::Result<()>>;

/// A process has one log, so this test runs in a process of its own.
#[test]
fn requests_retries_and_warnings_are_logged_without_secrets() {
    let path = test_path(requests_retries_and_warnings_are_logged_without_secrets);
    if child::argument().is_none() {
        assert!(child::spawn(path, "run").wait().unwrap().success());
        return;
    }
    assert_eq!((listen(99), listen(-1), FINALIZED.load(Ordering::SeqCst)), (1, 1, 0));
    assert_eq!(listen(4), 0);
    let server = FaultServer::start();
    server.put("blob", b"some bytes".to_vec());
    server.script("GET", [Fault::status(503, "ServerBusy")]);
    read_blob(&client(), &server.url("blob")).unwrap();
    let lines = std::mem::take(&mut *LINES.lock().unwrap());
    let has = |level: i32, target: &str, parts: &[&str]| {
        let found =
            lines.iter().any(|(l, t, m)| *l == level && t == target && parts.iter().all(|part| m.contains(part)));
        assert!(found, "no line with {parts:?} in {lines:#?}");
    };
    let shown = server.url("blob").split('?').next().unwrap().to_owned();
    has(4, "aztorch::http", &["GET", &shown, ": 503 in ", " ms, attempt 1, request id request-0, client request id "]);
    has(4, "aztorch::http", &["GET", &shown, ": 206 in ", "attempt 2, request id request-1"]);
    has(3, "aztorch::retry", &["ServerBusy", "retry 1 of at most 8"]);

    // A SAS that expires soon is a warning, once.
    let soon = time_of_a_sas(1800);
    let url = server.url("blob").replace("sig=", &format!("se={soon}&sig="));
    let reader = client();
    read_blob(&reader, &url).unwrap();
    read_blob(&reader, &url).unwrap();
    let warnings =
        LINES.lock().unwrap().iter().filter(|(level, _, text)| *level == 2 && text.contains("SAS expires")).count();
    assert_eq!(warnings, 1);

    // Every kind of secret at the finest log level, with successful and failing calls.
    assert_eq!(listen(5), 0);
    let (container, planted) = (azurite().container(), "hunter2");
    let provoke = |client: &Client| {
        for url in [
            container.blob("blob"),
            format!("{}/blob", container.bare_url()),
            server.url("blob"),
            server.url("no"),
            format!("https://127.0.0.1:9/acc/container/blob?sig={planted}"),
        ] {
            let outcomes = [
                write_blob(client, &url, WriteMode::Replace, b"x").map(drop),
                read_blob(client, &url).map(drop),
                client.delete(&url),
            ];
            for error in outcomes.into_iter().filter_map(Result::err) {
                assert_no_secret(&format!("{error} {error:?} {}", std::io::Error::from(error.clone())));
            }
        }
        assert_no_secret(&format!("{:?}", client.stats().unwrap()));
    };
    let sets: Vec<Set> = vec![
        Box::new(|options| options.set_account_key(ACCOUNT, ACCOUNT_KEY)),
        Box::new(|options| options.set_account_key(ACCOUNT, "aHVudGVyMg==")),
        Box::new(|options| options.set_connection_string("AccountName=acc;AccountKey=aHVudGVyMg==")),
        Box::new(|options| options.set_connection_string("AccountName=acc;SharedAccessSignature=sv=1&sig=hunter2")),
        Box::new(|options| options.set_sas_token("sv=1&sig=hunter2")),
        Box::new(|options| options.set_token_callback(|_, _| BearerToken::new("hunter2", SystemTime::now()))),
        Box::new(|options| options.set_client_secret("tenant", "id", "hunter2")),
        Box::new(|options| options.set_proxy("http://user:hunter2@127.0.0.1:9")),
    ];
    for set in sets {
        let mut options = ClientOptions::new();
        options.set_max_retries(0).unwrap();
        set(&mut options).unwrap();
        assert_no_secret(&format!("{options:?} {options:#?}"));
        provoke(&client_with(|options| {
            options.set_max_retries(0)?;
            set(options)
        }));
    }
    for (_, target, message) in LINES.lock().unwrap().iter() {
        assert_no_secret(target);
        assert_no_secret(message);
        assert!(!message.contains("aHVudGVyMg"), "{message}");
    }

    // At level 3 retries are logged and requests are not.
    LINES.lock().unwrap().clear();
    assert_eq!(listen(3), 0);
    server.script("GET", [Fault::status(503, "ServerBusy")]);
    server.put("blob", b"some bytes".to_vec());
    read_blob(&client(), &server.url("blob")).unwrap();
    let levels: Vec<_> = LINES.lock().unwrap().iter().map(|(level, target, _)| (*level, target.clone())).collect();
    assert_eq!(levels, [(3, "aztorch::retry".to_owned())]);

    // After the callback is removed nothing is logged, and the data of each callback was finalized.
    // SAFETY: NULL removes the callback.
    assert_eq!(unsafe { azt_log_set_callback(0, None, null_mut(), None, null_mut()) }, 0);
    assert_eq!(FINALIZED.load(Ordering::SeqCst), 3);
    let before = LINES.lock().unwrap().len();
    server.put("blob", b"some bytes".to_vec());
    read_blob(&client(), &server.url("blob")).unwrap();
    assert_eq!(LINES.lock().unwrap().len(), before);
}

/// The time this many seconds from now, in the format of a SAS.
fn time_of_a_sas(seconds: u64) -> String {
    let now = SystemTime::now() + Duration::from_secs(seconds);
    let date = std::process::Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d"])
        .arg(format!("@{}", now.duration_since(UNIX_EPOCH).unwrap().as_secs()))
        .output()
        .unwrap();
    String::from_utf8(date.stdout).unwrap().trim().replace(':', "%3A")
}

/// The servers repeat the request in their error messages.
#[test]
fn tokens_and_echoed_secrets_are_not_logged() {
    let path = test_path(tokens_and_echoed_secrets_are_not_logged);
    const ECHO: &str = "AZTORCH_TEST_ECHO";
    if let Some(url) = child::argument() {
        let bearer = token("logged", HOUR);
        let echo = format!("https://{}/account/container/blob", std::env::var(ECHO).unwrap());
        assert_eq!(listen(5), 0);
        let by_token = |given: &str| {
            let given = given.to_owned();
            options(move |options| {
                options.set_token_callback(move |_, _| BearerToken::new(&given, SystemTime::now() + HOUR))
            })
        };
        let container = round_trip(&url, &by_token(&bearer));
        let client = Client::new(&by_token(&bearer)).unwrap();
        let (reader, writer) =
            (client.open(&format!("{container}/1000")).unwrap(), client.writer(&echo, WriteMode::Replace).unwrap());
        let mut texts = vec![reader.url().to_owned(), writer.url().to_owned(), format!("{:?}", by_token(&bearer))];
        let panicking = options(|options| options.set_token_callback(|_, _| panic!("planted Bearer hunter2")));
        let by_secret = options(|options| options.set_client_secret("tenant", "id", "hunter2"));
        for (options, url) in [
            (&by_token(&bearer), echo.clone()),
            (&by_token("eyJ.hunter2.hunter2"), echo.clone()),
            (&by_secret, echo.clone()),
            (&panicking, echo.clone()),
            (&by_token(&bearer), format!("{echo}?sv=1&sig=hunter2%2F")),
        ] {
            texts.push(format!("{options:?}"));
            let client = Client::new(options).unwrap();
            for error in [
                client.exists(&url).unwrap_err(),
                client.open(&url).map(drop).unwrap_err(),
                client.delete(&url).unwrap_err(),
                write_blob(&client, &url, WriteMode::Replace, b"x").unwrap_err(),
            ] {
                texts.push(format!("{error} {error:?} {}", std::io::Error::from(error.clone())));
            }
        }
        let lines = std::mem::take(&mut *LINES.lock().unwrap());
        for part in ["the token callback: a token, good for", "/tenant/oauth2/v2.0/token: 400 in ", "/1000: 201 in "] {
            assert!(lines.iter().any(|(_, _, text)| text.contains(part)), "'{part}' is not in {lines:#?}");
        }
        texts.extend(lines.into_iter().map(|(_, target, message)| format!("{target} {message}")));
        let signature = bearer.rsplit('.').next().unwrap();
        for text in texts {
            assert_no_secret(&text);
            assert!(!text.contains(signature), "{text}");
        }
        return;
    }
    // Repeats the request: in JSON like the token authority, or in XML like the storage service.
    let echo = IdentityServer::start_tls(|_, request| {
        let sent = format!("{} {:?} {}", request.target, request.headers, request.body);
        let body = match request.target.contains("oauth2") {
            true => format!(r#"{{"error":"invalid_client","error_description":"I was sent {}"}}"#, request.body),
            false => format!("<Error><Code>AuthenticationFailed</Code><Message>I was sent {sent}</Message></Error>"),
        };
        (400, String::new(), body)
    });
    let authority = format!("https://{}", echo.authority());
    in_child(path, &[(ECHO, echo.authority()), ("AZURE_AUTHORITY_HOST", &authority)]);
    assert!(echo.requests().iter().any(|request| request.body.contains("client_secret=hunter2")));
    assert!(
        echo.requests().iter().any(|request| request.header("authorization") == Some("Bearer eyJ.hunter2.hunter2"))
    );
}
