//! The log, as C sees it, and a search for secrets in everything that leaves the library.

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
    // What the callback itself does is not logged: no recursion, no deadlock.
    let text = |text: &CStr| text.to_str().unwrap().to_owned();
    // SAFETY: NULL is allowed everywhere here.
    assert_eq!(unsafe { azt_log_set_callback(5, None, null_mut(), None, null_mut()) }, 2, "UNSUPPORTED inside");
    // The data of a callback that was refused stays the caller's: it is not finalized.
    assert_eq!(listen(5), 2);
    LINES.lock().unwrap().push((level, text(target), text(message)));
}

unsafe extern "C" fn finalize(user_data: *mut c_void) {
    assert_eq!(user_data as usize, 7);
    FINALIZED.fetch_add(1, Ordering::SeqCst);
}

fn listen(level: i32) -> azt_status {
    // SAFETY: the functions fit, and 7 is never used as a pointer.
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

/// What the callback may call must not wait for what the library was doing when it logged.
#[test]
fn a_callback_may_open_a_writer_of_the_client_that_it_hears_of() {
    let path = test_path(a_callback_may_open_a_writer_of_the_client_that_it_hears_of);
    if child::argument().is_none() {
        let variables = [("AZURE_STORAGE_ACCOUNT", OsStr::new("acc")), ("AZURE_STORAGE_KEY", OsStr::new("a2V5"))];
        assert!(child::spawn_with(path, "run", &variables).wait().unwrap().success());
        return;
    }
    // SAFETY: the function fits.
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
        assert!(begun.elapsed() < Duration::from_secs(60), "it waits for itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(FINALIZED.load(Ordering::SeqCst), 1, "the line did not come");
}

type Set = Box<dyn Fn(&mut ClientOptions) -> aztorch::Result<()>>;

/// A process has one log, so this one is a process's own.
#[test]
fn requests_retries_and_warnings_are_told_and_no_secret_is() {
    let path = test_path(requests_retries_and_warnings_are_told_and_no_secret_is);
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

    // A SAS near its end is a warning, once.
    let soon = time_of_a_sas(1800);
    let url = server.url("blob").replace("sig=", &format!("se={soon}&sig="));
    let reader = client();
    read_blob(&reader, &url).unwrap();
    read_blob(&reader, &url).unwrap();
    let warnings =
        LINES.lock().unwrap().iter().filter(|(level, _, text)| *level == 2 && text.contains("SAS expires")).count();
    assert_eq!(warnings, 1);

    // Every secret there is, at the finest level, with everything that goes wrong.
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

    // Nothing finer than what was asked for comes: the retry is told, the requests are not.
    LINES.lock().unwrap().clear();
    assert_eq!(listen(3), 0);
    server.script("GET", [Fault::status(503, "ServerBusy")]);
    server.put("blob", b"some bytes".to_vec());
    read_blob(&client(), &server.url("blob")).unwrap();
    let levels: Vec<_> = LINES.lock().unwrap().iter().map(|(level, target, _)| (*level, target.clone())).collect();
    assert_eq!(levels, [(3, "aztorch::retry".to_owned())]);

    // Off: nothing more comes, and each callback's data went back.
    // SAFETY: NULL turns it off.
    assert_eq!(unsafe { azt_log_set_callback(0, None, null_mut(), None, null_mut()) }, 0);
    assert_eq!(FINALIZED.load(Ordering::SeqCst), 3);
    let before = LINES.lock().unwrap().len();
    server.put("blob", b"some bytes".to_vec());
    read_blob(&client(), &server.url("blob")).unwrap();
    assert_eq!(LINES.lock().unwrap().len(), before);
}

/// A time so many seconds from now, as a SAS has it.
fn time_of_a_sas(seconds: u64) -> String {
    let now = SystemTime::now() + Duration::from_secs(seconds);
    let date = std::process::Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d"])
        .arg(format!("@{}", now.duration_since(UNIX_EPOCH).unwrap().as_secs()))
        .output()
        .unwrap();
    String::from_utf8(date.stdout).unwrap().trim().replace(':', "%3A")
}

/// Servers that say back what they were sent, and a token that works: none of it shows.
#[test]
fn tokens_and_what_other_servers_say_show_no_secret() {
    let path = test_path(tokens_and_what_other_servers_say_show_no_secret);
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
        let mut said = vec![reader.url().to_owned(), writer.url().to_owned(), format!("{:?}", by_token(&bearer))];
        let panicking = options(|options| options.set_token_callback(|_, _| panic!("planted Bearer hunter2")));
        let by_secret = options(|options| options.set_client_secret("tenant", "id", "hunter2"));
        for (options, url) in [
            (&by_token(&bearer), echo.clone()),
            (&by_token("eyJ.hunter2.hunter2"), echo.clone()),
            (&by_secret, echo.clone()),
            (&panicking, echo.clone()),
            (&by_token(&bearer), format!("{echo}?sv=1&sig=hunter2%2F")),
        ] {
            said.push(format!("{options:?}"));
            let client = Client::new(options).unwrap();
            for error in [
                client.exists(&url).unwrap_err(),
                client.open(&url).map(drop).unwrap_err(),
                client.delete(&url).unwrap_err(),
                write_blob(&client, &url, WriteMode::Replace, b"x").unwrap_err(),
            ] {
                said.push(format!("{error} {error:?} {}", std::io::Error::from(error.clone())));
            }
        }
        let lines = std::mem::take(&mut *LINES.lock().unwrap());
        for part in ["the token callback: a token, good for", "/tenant/oauth2/v2.0/token: 400 in ", "/1000: 201 in "] {
            assert!(lines.iter().any(|(_, _, text)| text.contains(part)), "'{part}' is not in {lines:#?}");
        }
        said.extend(lines.into_iter().map(|(_, target, message)| format!("{target} {message}")));
        let signature = bearer.rsplit('.').next().unwrap();
        for text in said {
            assert_no_secret(&text);
            assert!(!text.contains(signature), "{text}");
        }
        return;
    }
    // What was sent, in XML for the storage service's part of it.
    let echo = IdentityServer::start_tls(|_, asked| {
        let sent = format!("{} {:?} {}", asked.target, asked.headers, asked.body);
        let body = match asked.target.contains("oauth2") {
            true => format!(r#"{{"error":"invalid_client","error_description":"I was sent {}"}}"#, asked.body),
            false => format!("<Error><Code>AuthenticationFailed</Code><Message>I was sent {sent}</Message></Error>"),
        };
        (400, String::new(), body)
    });
    let authority = format!("https://{}", echo.authority());
    in_child(path, &[(ECHO, echo.authority()), ("AZURE_AUTHORITY_HOST", &authority)]);
    assert!(echo.requests().iter().any(|asked| asked.body.contains("client_secret=hunter2")));
    assert!(echo.requests().iter().any(|asked| asked.header("authorization") == Some("Bearer eyJ.hunter2.hunter2")));
}
