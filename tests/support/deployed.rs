//! A client in a process of its own, whose environment describes where it runs, with the https Azurite, which accepts
//! tokens.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aztorch::{Client, ClientOptions, Result, WriteMode};

use super::azurite::{ACCOUNT, ACCOUNT_KEY};
use super::child;
use super::client::{read_blob, write_blob};
use super::content::{Content, assert_same};
use super::secure::secure;

pub const HOUR: Duration = Duration::from_secs(3600);
/// An instance metadata service that does not exist, so that the credential chain goes on.
pub const NO_IMDS: (&str, &str) = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9");
const CA: &str = "AZTORCH_TEST_CA";

/// Runs the test with this path in a new process with these variables. There `child::argument` is the https Azurite's
/// URL.
#[track_caller]
pub fn in_child(test: &str, environment: &[(&str, &str)]) {
    let secure = secure();
    let mut all: Vec<(&str, &OsStr)> = vec![(CA, secure.certificate.as_os_str())];
    all.extend(environment.iter().map(|(name, value)| (*name, OsStr::new(*value))));
    let output = child::spawn_with(test, &secure.azurite.url, &all).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Options that trust the https Azurite's certificate, for a process that [`in_child`] started.
pub fn options(set: impl FnOnce(&mut ClientOptions) -> Result<()>) -> ClientOptions {
    let mut options = ClientOptions::new();
    options.set_ca_file(Path::new(&std::env::var(CA).unwrap())).unwrap();
    set(&mut options).unwrap();
    options
}

/// Writes and reads a small and a large blob in a new container; returns the container's URL.
#[track_caller]
pub fn round_trip(url: &str, options: &ClientOptions) -> String {
    let container = new_container(url);
    let client = Client::new(options).unwrap();
    for size in [1000, 20 << 20] {
        let (content, blob) = (Content::new(size, size).all(), format!("{container}/{size}"));
        write_blob(&client, &blob, WriteMode::Create, &content).unwrap();
        assert_same(&read_blob(&client, &blob).unwrap(), &content);
    }
    container
}

/// Creates a container that no other test uses, in a process that [`in_child`] started; returns its URL.
pub fn new_container(url: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let container = format!("{url}/identities-{}-{number}", std::process::id());
    let owner = Client::new(&options(|options| options.set_account_key(ACCOUNT, ACCOUNT_KEY))).unwrap();
    owner.create_container(&container).unwrap();
    container
}

/// A path for a temporary file of this process.
pub fn scratch_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}

/// Writes a program of this name that appends its arguments to a file and then runs `script`; returns its directory and
/// that file.
pub fn fake_program(name: &str, script: &str) -> (PathBuf, PathBuf) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let directory = scratch_path(&format!("program-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&directory).unwrap();
    let (program, calls) = (directory.join(name), directory.join("calls"));
    fs::write(&program, format!("#!/bin/sh\necho \"$@\" >> {}\n{script}\n", calls.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (directory, calls)
}
