//! The committed header is what cbindgen makes of the code. `AZTORCH_BLESS=1` writes it instead.

use std::path::Path;

fn generate() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    // Kept by hand, these would drift from Cargo.toml.
    config.after_includes = Some(format!(
        "\n// The version of this header; azt_version() gives that of the loaded library.\n\
         #define AZT_VERSION_MAJOR {}\n#define AZT_VERSION_MINOR {}\n#define AZT_VERSION_PATCH {}",
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
    ));
    let bindings = cbindgen::Builder::new().with_crate(root).with_config(config).generate().unwrap();
    let mut header = Vec::new();
    bindings.write(&mut header);
    String::from_utf8(header).unwrap()
}

#[test]
fn the_committed_header_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/aztorch.h");
    let fresh = generate();
    if std::env::var_os("AZTORCH_BLESS").is_some() {
        std::fs::write(&path, fresh).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == fresh, "include/aztorch.h is stale: run `make header` and commit it");
}
