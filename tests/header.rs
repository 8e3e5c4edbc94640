//! `include/aztorch.h` is made of cbindgen's items, in sections. With `AZTORCH_BLESS=1` the test writes it.
#![allow(clippy::panic, clippy::unwrap_used, reason = "how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The sections of the header, and the files of `src/ffi` whose items are in each. Items have the order of their file.
const SECTIONS: [(&str, &[&str]); 18] = [
    (VERSION, &["version"]),
    ("Errors", &["status", "error"]),
    ("Callbacks", &["callback"]),
    ("Client", &["client"]),
    ("Client options", &["client_options"]),
    ("Credentials", &["credential"]),
    ("Blobs", &["blob"]),
    ("Reading a blob", &["blob_reader"]),
    ("Writing a blob", &["blob_writer"]),
    ("Operations by URL", &["operations"]),
    ("Datasets", &["dataset"]),
    ("Entries of a dataset", &["dataset_entries"]),
    ("Samples", &["sample"]),
    ("Streams", &["stream"]),
    ("Log", &["log"]),
    ("Statistics", &["stats"]),
    ("Progress", &["progress"]),
    ("Interrupts", &["interrupt"]),
];
const VERSION: &str = "Version";

/// cbindgen writes this comment before the first item.
const FIRST_ITEM: &str = "// FIRST ITEM\n";
const BEGIN_EXTERN_C: &str = "#ifdef __cplusplus\nextern \"C\" {\n#endif // __cplusplus\n";
const END_EXTERN_C: &str = "#ifdef __cplusplus\n}  // extern \"C\"\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn header_path() -> PathBuf {
    root().join("include/aztorch.h")
}

/// The header as the sources define it.
static HEADER: LazyLock<String> = LazyLock::new(generate);

fn generate() -> String {
    let mut config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    config.after_includes = Some(FIRST_ITEM.trim_end().to_owned());
    let bindings = cbindgen::Builder::new().with_crate(root()).with_config(config).generate().unwrap();
    let mut text = Vec::new();
    bindings.write(&mut text);
    arrange(&String::from_utf8(text).unwrap())
}

/// Puts cbindgen's items into sections. cbindgen itself orders them by kind: all constants, then all functions.
fn arrange(text: &str) -> String {
    let (top, rest) = text.split_once(FIRST_ITEM).unwrap();
    let (types, rest) = rest.split_once(BEGIN_EXTERN_C).unwrap();
    let (functions, end) = rest.split_once(END_EXTERN_C).unwrap();
    let mut items: BTreeMap<String, &str> = BTreeMap::new();
    for item in types.split("\n\n").chain(functions.split("\n\n")).map(str::trim).filter(|item| !item.is_empty()) {
        assert!(items.insert(name_of(item), item).is_none(), "two items have one name: {item}");
    }
    let mut header = format!("{top}\n{BEGIN_EXTERN_C}\n// The handles. Each has a section below.\n");
    for name in items.values().filter_map(|item| handle_of(item)) {
        writeln!(header, "struct {name};").unwrap();
    }
    for (title, modules) in SECTIONS {
        write!(header, "\n// {:-<98}\n\n", format!("---- {title} ")).unwrap();
        if title == VERSION {
            writeln!(header, "{}", version_macros()).unwrap();
        }
        let names = modules.iter().flat_map(|module| names_in(module));
        let section: Vec<&str> = names.filter_map(|name| items.remove(&name)).collect();
        assert!(!section.is_empty(), "the section {title} is empty");
        writeln!(header, "{}", section.join("\n\n")).unwrap();
    }
    assert!(items.is_empty(), "no section has the file of these items: {:?}", items.into_keys());
    format!("{header}\n{END_EXTERN_C}{end}")
}

/// These numbers follow Cargo.toml; in `src/ffi` they would have to be changed by hand.
fn version_macros() -> String {
    let part = |text: &str| text.parse::<u32>().unwrap();
    let major = part(env!("CARGO_PKG_VERSION_MAJOR"));
    let minor = part(env!("CARGO_PKG_VERSION_MINOR"));
    let patch = part(env!("CARGO_PKG_VERSION_PATCH"));
    assert!(minor < 100 && patch < 100, "AZT_VERSION_NUMBER has two digits for each");
    let number = major * 10_000 + minor * 100 + patch;
    format!(
        "// The major version of this header. azt_version() returns the version of the loaded library.\n\
         #define AZT_VERSION_MAJOR {major}\n\n\
         // The minor version of this header.\n\
         #define AZT_VERSION_MINOR {minor}\n\n\
         // The patch version of this header.\n\
         #define AZT_VERSION_PATCH {patch}\n\n\
         // The version of this header as one number: major * 10000 + minor * 100 + patch. For example,\n\
         // `#if AZT_VERSION_NUMBER >= 10200` is true from version 1.2.0 on.\n\
         #define AZT_VERSION_NUMBER {number}\n"
    )
}

/// Returns the name that an item of the header declares.
fn name_of(item: &str) -> String {
    let code: Vec<&str> = item.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let (first, last) = (code[0], code[code.len() - 1]);
    let name = if let Some(constant) = first.strip_prefix("#define ") {
        constant.split(' ').next().unwrap()
    } else if let Some((_, callback)) = first.split_once("(*") {
        callback.split(')').next().unwrap()
    } else if first.starts_with("typedef ") {
        last.trim_end_matches(';').rsplit(' ').next().unwrap()
    } else {
        first.split('(').next().unwrap().rsplit([' ', '*']).next().unwrap()
    };
    name.to_owned()
}

/// Returns the name of the opaque type that an item declares.
fn handle_of(item: &str) -> Option<&str> {
    let (name, _) = item.lines().last()?.strip_prefix("typedef struct ")?.strip_suffix(';')?.split_once(' ')?;
    Some(name)
}

/// Returns the names of the items that a file of `src/ffi` exports, in its order.
fn names_in(module: &str) -> Vec<String> {
    let path = root().join("src/ffi").join(module).with_extension("rs");
    let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let begins = ["const ", "type ", "struct ", "extern \"C\" fn ", "unsafe extern \"C\" fn "];
    let items = source.lines().filter_map(|line| line.strip_prefix("pub "));
    let items = items.filter_map(|item| begins.iter().find_map(|begin| item.strip_prefix(begin)));
    let end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    items.map(|item| item.split(end).next().unwrap_or_default().to_owned()).collect()
}

/// Returns the names with a prefix that a text has.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with(prefix)).collect()
}

/// Returns the functions that a text names with parentheses, such as `azt_blob_read()`.
fn named_functions(text: &str) -> BTreeSet<&str> {
    let before_parentheses = text.split("()").filter_map(|part| part.rsplit([' ', '(', '\n', '`']).next());
    before_parentheses.filter(|name| name.starts_with("azt_")).collect()
}

#[test]
fn the_committed_header_is_fresh() {
    if std::env::var_os("AZTORCH_BLESS").is_some() {
        std::fs::write(header_path(), &*HEADER).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(header_path()).unwrap_or_default();
    assert!(committed == *HEADER, "include/aztorch.h is stale: run `make header` and commit it");
}

#[test]
fn each_handle_lists_all_of_its_functions() {
    let items: Vec<&str> = HEADER.split("\n\n").map(str::trim).collect();
    let functions: Vec<String> = SECTIONS
        .iter()
        .flat_map(|(_, modules)| modules.iter().flat_map(|module| names_in(module)))
        .filter(|name| HEADER.contains(&format!("{name}(")) && !HEADER.contains(&format!("(*{name})")))
        .collect();
    let handles: Vec<(&str, &str)> = items.iter().filter_map(|item| Some((handle_of(item)?, *item))).collect();
    assert!(handles.len() >= 8 && functions.len() >= 100, "{} handles, {}", handles.len(), functions.len());
    // azt_client_options_new() is of azt_client_options, whose name is longer than azt_client.
    let handle_of_function = |function: &str| {
        let of_handle = |name: &str| function.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'));
        handles.iter().map(|(name, _)| *name).filter(|name| of_handle(name)).max_by_key(|name| name.len())
    };
    for (handle, comment) in &handles {
        let listed = named_functions(comment);
        let missing: Vec<_> = functions
            .iter()
            .filter(|function| handle_of_function(function) == Some(handle) && !listed.contains(function.as_str()))
            .collect();
        assert!(missing.is_empty(), "the comment of {handle} does not list {missing:?}");
    }
}

#[test]
fn comments_name_only_what_the_header_declares() {
    let declared: BTreeSet<String> =
        SECTIONS.iter().flat_map(|(_, modules)| modules.iter().flat_map(|module| names_in(module))).collect();
    let comments: Vec<&str> = HEADER.lines().filter(|line| line.trim_start().starts_with("//")).collect();
    let comments = comments.join("\n");
    let unknown = |name: &&str| !declared.contains(*name) && !version_macros().contains(*name);
    let functions: Vec<_> = named_functions(&comments).into_iter().filter(unknown).collect();
    assert!(functions.is_empty(), "comments name functions that do not exist: {functions:?}");
    // "AZT_STATUS_*" stands for several constants. A name in quotes is a string that a function returns.
    let is_constant = |name: &&str| !name.ends_with('_') && !comments.contains(&format!("\"{name}\""));
    let constants: Vec<_> = words(&comments, "AZT_").into_iter().filter(is_constant).filter(unknown).collect();
    assert!(constants.is_empty(), "comments name constants that do not exist: {constants:?}");
}
