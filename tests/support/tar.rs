//! Tar archives, and datasets made of them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use aztorch::{Dataset, Error, Status};

use super::client::client;
use super::error::expect_error;
use super::fault::{FaultServer, Request};

/// The block size of the format, in bytes.
pub const BLOCK: usize = 512;

/// A temporary folder whose files can be archived.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, and creates its folder if necessary.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    /// The archive that `tar -c` makes of `members`, in this order.
    pub fn tar(&self, options: &[&str], members: &[&str]) -> Vec<u8> {
        let output = Command::new("tar")
            .args(["-c", "-f", "-", "-C"])
            .arg(self.0.path())
            .args(options)
            .arg("--")
            .args(members)
            .output()
            .expect("tar");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// Puts an archive on a new server and makes a dataset of it.
pub fn serve_archive(archive: impl Into<Vec<u8>>) -> (FaultServer, Dataset) {
    let server = FaultServer::start();
    server.put("shard.tar", archive);
    let dataset = Dataset::from_tars(&client(), &[server.url("shard.tar")]).unwrap();
    (server, dataset)
}

/// Expects that no dataset can be made of this archive; returns the error.
pub fn expect_refused_archive(archive: impl Into<Vec<u8>>, status: Status) -> Error {
    let server = FaultServer::start();
    server.put("shard.tar", archive);
    let error = expect_error(Dataset::from_tars(&client(), &[server.url("shard.tar")]), status);
    assert!(error.message().contains("/shard.tar"), "{error}");
    error
}

/// How many bytes these requests asked for, of a blob of `size` bytes.
pub fn bytes_requested(requests: &[Request], size: u64) -> u64 {
    let ranges = requests.iter().filter_map(|request| request.range());
    ranges.map(|(first, last)| last.min(size - 1) - first + 1).sum()
}
