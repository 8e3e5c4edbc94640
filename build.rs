//! Linker settings of the shared library that a manifest cannot express.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let major = env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_else(|_| "0".to_owned());
    let soname = format!("libaztorch.so.{major}");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{soname}");
    // The runtime's threads outlive every handle, so that dlclose must not unmap the code they run.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
    link_soname(&soname)
}

/// A program linked against `target/<profile>/libaztorch.so` asks the loader for the SONAME, so that
/// name must exist beside the library for programs to run from the build tree.
fn link_soname(soname: &str) -> io::Result<()> {
    let out_dir = env::var("OUT_DIR").map_err(io::Error::other)?;
    // OUT_DIR is <profile dir>/build/<package>-<hash>/out.
    let Some(profile_dir) = Path::new(&out_dir).ancestors().nth(3) else {
        return Ok(());
    };
    let link = profile_dir.join(soname);
    if fs::symlink_metadata(&link).is_ok() {
        return Ok(());
    }
    match std::os::unix::fs::symlink("libaztorch.so", &link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
