//! Downloads replace and uploads read regular files only, also through symbolic links.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aztorch::{Status, WriteMode};

use crate::support::client::{client, client_with};
use crate::support::error::expect_error;
use crate::support::fault::FaultServer;
use crate::support::watchdog::within;

const BYTES: &[u8] = b"what the blob holds";

fn server() -> FaultServer {
    let server = FaultServer::start();
    server.put("blob", BYTES.to_vec());
    server
}

fn make(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect(program);
    assert!(status.success(), "{program}: {status}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Files that are not regular, each with the words by which an error must describe it.
fn special_files(folder: &Path) -> Vec<(PathBuf, &'static str)> {
    let path = |name: &str| folder.join(name);
    make("mkfifo", &[path("fifo").to_str().unwrap()]);
    drop(UnixListener::bind(path("socket")).unwrap());
    fs::create_dir(path("directory")).unwrap();
    symlink(path("fifo"), path("link")).unwrap();
    let mut files = vec![
        (path("fifo"), "FIFO"),
        (path("socket"), "socket"),
        (path("directory"), "directory"),
        (path("link"), "FIFO"),
    ];
    // Without the right to make a device, a failing test could not replace /dev/full either.
    let made = Command::new("mknod").arg(path("device")).args(["c", "1", "7"]).status();
    let device = if made.is_ok_and(|status| status.success()) { path("device") } else { PathBuf::from("/dev/full") };
    files.push((device, "character device"));
    files
}

#[test]
fn a_download_replaces_regular_files_only() {
    within(Duration::from_secs(60), || {
        let (server, folder) = (server(), tempfile::tempdir().unwrap());
        let special = special_files(folder.path());
        let before = names(folder.path());
        for (path, kind) in &special {
            let kept = fs::symlink_metadata(path).unwrap();
            let error = expect_error(client().download(&server.url("blob"), path), Status::LocalIo);
            assert!(error.message().contains(path.to_str().unwrap()) && error.message().contains(kind), "{error}");
            let now = fs::symlink_metadata(path).unwrap();
            assert_eq!((now.ino(), now.file_type()), (kept.ino(), kept.file_type()), "{}", path.display());
        }
        assert!(server.requests().is_empty(), "a request was sent before the file was checked");
        assert_eq!(names(folder.path()), before);
        let missing = folder.path().join("directory/");
        expect_error(client().download(&server.url("blob"), &missing.join("..")), Status::LocalIo);
        for unusual in ["", "/", "..", "new/"] {
            expect_error(client().download(&server.url("blob"), &PathBuf::from(unusual)), Status::LocalIo);
        }
    });
}

#[test]
fn a_download_to_a_symbolic_link_replaces_its_target() {
    let server = server();
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    for folder in ["links", "files"] {
        fs::create_dir(path(folder)).unwrap();
    }
    // Links to an existing and to a new file: absolute, relative, through another link, and through a folder that is a
    // link.
    symlink(path("files"), path("folder")).unwrap();
    for file in ["old", "new"] {
        symlink(path("files").join(file), path("links").join(format!("absolute-{file}"))).unwrap();
        symlink(format!("../files/{file}"), path("links").join(format!("relative-{file}"))).unwrap();
        symlink(format!("relative-{file}"), path("links").join(format!("chain-{file}"))).unwrap();
        symlink(format!("../folder/{file}"), path("links").join(format!("through-{file}"))).unwrap();
        for link in ["absolute", "relative", "chain", "through"] {
            let (link, target) = (path("links").join(format!("{link}-{file}")), path("files").join(file));
            fs::write(path("files/old"), b"the old file").unwrap();
            // It does not exist before the first download.
            let _ = fs::remove_file(path("files/new"));
            client().download(&server.url("blob"), &link).unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "{}", link.display());
            assert!(fs::symlink_metadata(&target).unwrap().is_file(), "{}", link.display());
            assert_eq!(fs::read(&target).unwrap(), BYTES);
        }
    }
    assert_eq!(names(&path("files")), ["new", "old"]);
    assert_eq!(names(&path("links")).len(), 8);
}

#[test]
fn an_error_of_a_broken_link_names_it() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    symlink("two", path("one")).unwrap();
    symlink("one", path("two")).unwrap();
    symlink("itself", path("itself")).unwrap();
    symlink("absent/file", path("nowhere")).unwrap();
    let before = names(folder.path());
    for name in ["one", "itself", "nowhere"] {
        let error = expect_error(client().download(&server.url("blob"), &path(name)), Status::LocalIo);
        assert!(error.message().contains(name) || error.message().contains("absent"), "{error}");
    }
    assert_eq!(names(folder.path()), before);
}

#[test]
fn a_replaced_file_keeps_its_mode_and_owner() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    for kept in [0o600, 0o640, 0o644, 0o755, 0o777, 0o444] {
        let _ = fs::remove_file(&file);
        fs::write(&file, b"the old file").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(kept)).unwrap();
        client().download(&server.url("blob"), &file).unwrap();
        assert_eq!((mode(&file), fs::read(&file).unwrap()), (kept, BYTES.to_vec()), "{kept:o}");
    }
    // This needs the right to change owners.
    if std::os::unix::fs::chown(&file, Some(12), Some(34)).is_ok() {
        client().download(&server.url("blob"), &file).unwrap();
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12, 34));
    }
    // Set-ID bits are removed.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6755)).unwrap();
    client().download(&server.url("blob"), &file).unwrap();
    assert_eq!(mode(&file), 0o755);
    // A new file has the default mode.
    File::create(folder.path().join("another")).unwrap();
    client().download(&server.url("blob"), &folder.path().join("new")).unwrap();
    assert_eq!(mode(&folder.path().join("new")), mode(&folder.path().join("another")));
}

/// The same rules as the kernel's `fs.protected_symlinks` and `fs.protected_regular`.
#[test]
fn files_of_other_users_in_sticky_folders_are_neither_followed_nor_replaced() {
    let server = server();
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    fs::create_dir(path("shared")).unwrap();
    fs::set_permissions(path("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    for (link, target) in [("shared/link", "target"), ("shared/ours", "ours")] {
        symlink(path(target), path(link)).unwrap();
    }
    fs::write(path("shared/file"), b"theirs").unwrap();
    client().download(&server.url("blob"), &path("shared/ours")).unwrap();
    assert_eq!(fs::read(path("ours")).unwrap(), BYTES);
    for name in ["shared/link", "shared/file"] {
        if std::os::unix::fs::lchown(path(name), Some(12), None).is_err() {
            eprintln!("skipped: only root can make a file another user's");
            return;
        }
        let error = expect_error(client().download(&server.url("blob"), &path(name)), Status::LocalIo);
        assert!(error.message().contains(name) && error.message().contains("another user"), "{error}");
    }
    assert!(!path("target").exists());
    assert_eq!(fs::read(path("shared/file")).unwrap(), b"theirs");
    assert_eq!(names(&path("shared")), ["file", "link", "ours"]);
}

#[test]
fn a_path_of_an_open_file_descriptor_is_refused() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let nameless = tempfile::tempfile_in(folder.path()).unwrap();
    let named = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
    let before = names(folder.path());
    for file in [&nameless, named.as_file()] {
        for place in ["/proc/self/fd", "/dev/fd"] {
            let path = PathBuf::from(format!("{place}/{}", std::os::fd::AsRawFd::as_raw_fd(file)));
            let error = expect_error(client().download(&server.url("blob"), &path), Status::LocalIo);
            assert!(error.message().contains("open file"), "{error}");
        }
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
    assert_eq!(names(folder.path()), before);
}

#[test]
fn a_directory_that_replaced_the_file_during_a_download_is_kept() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    let file = folder.path().join("file");
    fs::write(&file, b"the old file").unwrap();
    let replaced = file.clone();
    // The file becomes a directory before the first response.
    server.on_request(move |_| {
        if fs::symlink_metadata(&replaced).is_ok_and(|now| now.is_file()) {
            fs::remove_file(&replaced).unwrap();
            fs::create_dir(&replaced).unwrap();
        }
        None
    });
    let error = expect_error(client().download(&server.url("blob"), &file), Status::LocalIo);
    assert!(error.message().contains("directory"), "{error}");
    assert_eq!(names(folder.path()), ["file"]);
}

/// Exchanges two files atomically.
fn exchange(one: &CStr, other: &CStr) {
    // SAFETY: both paths end in a zero byte.
    let result =
        unsafe { libc::renameat2(libc::AT_FDCWD, one.as_ptr(), libc::AT_FDCWD, other.as_ptr(), libc::RENAME_EXCHANGE) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// A FIFO that replaces the file after the check must not block the upload when it is opened.
#[test]
fn an_upload_of_a_file_that_becomes_a_fifo_does_not_hang() {
    within(Duration::from_secs(60), || {
        let (server, folder, done) = (server(), tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let client = client_with(|options| options.set_memory_limit(1 << 20));
        let path = |name: &str| folder.path().join(name);
        // The file is too large for the memory limit, so that each upload ends soon after the file was opened.
        File::create(path("file")).unwrap().set_len(30 << 30).unwrap();
        make("mkfifo", &[path("fifo").to_str().unwrap()]);
        let names = ["file", "fifo"].map(|name| CString::new(path(name).to_str().unwrap()).unwrap());
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    exchange(&names[0], &names[1]);
                }
            });
            // Long enough for many exchanges between the check and the opening.
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(2) {
                let error = client.upload(&path("file"), &server.url("new"), WriteMode::Replace).unwrap_err();
                let is_fifo = error.status() == Status::LocalIo && error.message().contains("FIFO");
                assert!(is_fifo || error.status() == Status::InvalidArgument, "{error}");
            }
            done.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn an_upload_reads_regular_files_only() {
    within(Duration::from_secs(60), || {
        let (server, folder) = (server(), tempfile::tempdir().unwrap());
        let client = client_with(|options| options.set_timeout(Some(Duration::from_secs(5))));
        for (path, kind) in special_files(folder.path()) {
            let refused = client.upload(&path, &server.url("new"), WriteMode::Replace);
            let error = expect_error(refused, Status::LocalIo);
            assert!(error.message().contains(path.to_str().unwrap()) && error.message().contains(kind), "{error}");
        }
        assert!(server.requests().is_empty());
        let endless = client.upload(Path::new("/dev/zero"), &server.url("new"), WriteMode::Replace);
        expect_error(endless, Status::LocalIo);
        // Uploading /dev/null is a common way to write an empty blob.
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        client.upload(Path::new("/dev/null"), &server.url("empty"), WriteMode::Replace).unwrap();
        assert_eq!(server.blob("empty").unwrap(), b"");
        let link = folder.path().join("to-a-file");
        fs::write(folder.path().join("file"), BYTES).unwrap();
        symlink("file", &link).unwrap();
        client.upload(&link, &server.url("linked"), WriteMode::Replace).unwrap();
        assert_eq!(server.blob("linked").unwrap(), BYTES);
    });
}
