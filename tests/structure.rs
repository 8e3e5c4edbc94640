//! The structure of `src/`: rooms import only rooms below them, no more than two files import each other in a circle,
//! and the map in `src/lib.rs` names every room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms (folders and single files of `src/`), from top to bottom. A room may import only the rooms after it.
const ROOMS: [&str; 17] = [
    "ffi",
    "stream",
    "dataset",
    "diagnostics",
    "client",
    "blob",
    "service",
    "options",
    "credential",
    "http",
    "memory",
    "core",
    "observe",
    "url",
    "sys",
    "error",
    "redact",
];
/// Exists for tests and for fuzzing only, and may import everything.
const FUZZING: &str = "fuzzing";

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file below `folder`, relative to `src/`, with its code: no comments, no unit tests.
fn files(folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(src()).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files(&path, found);
        } else if name.ends_with(".rs") && !is_test(&name) {
            found.insert(name, code(&fs::read_to_string(&path).unwrap()));
        }
    }
}

fn is_test(name: &str) -> bool {
    name == "lib.rs" || name.starts_with(FUZZING) || name.ends_with("tests.rs") || name.contains("/simulation/")
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| line.to_owned() + "\n").collect()
}

fn all_files() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    files(&src(), &mut found);
    assert!(found.len() > 50, "only {} files found", found.len());
    found
}

/// The first segment of a path in `src/`: `http` of `http/pool.rs`, `error` of `error.rs`.
fn room(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The paths below `crate` that a file names: `service::ranges` of `use crate::service::ranges::{header, split};`.
fn paths(code: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '$' || before == '_') {
            continue;
        }
        collect(&code[at + "crate::".len()..], Vec::new(), &mut found);
    }
    found
}

/// Adds the paths that `rest` begins with, one for each name of a group in braces, all below `path`.
fn collect(rest: &str, mut path: Vec<String>, found: &mut BTreeSet<Vec<String>>) {
    let mut rest = rest.trim_start();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut begin) = (0, 0);
            for (at, character) in group.char_indices() {
                match character {
                    '{' => depth += 1,
                    '}' if depth > 0 => depth -= 1,
                    ',' | '}' if depth == 0 => {
                        collect(&group[begin..at], path.clone(), found);
                        begin = at + 1;
                        if character == '}' {
                            return;
                        }
                    }
                    _ => {}
                }
            }
            return;
        }
        let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        path.push(rest[..end].to_owned());
        match rest[end..].strip_prefix("::") {
            Some(next) => rest = next,
            None => break,
        }
    }
    if !path.is_empty() {
        found.insert(path);
    }
}

#[test]
fn rooms_import_only_rooms_below_them() {
    let floor = |room: &str| ROOMS.iter().position(|known| *known == room);
    let mut wrong = Vec::new();
    for (file, code) in all_files() {
        let from = floor(room(&file)).unwrap_or_else(|| panic!("{file} is in no room of tests/structure.rs"));
        for path in paths(&code) {
            match floor(&path[0]) {
                Some(to) if to >= from => {}
                Some(_) => wrong.push(format!("{file} imports crate::{}", path.join("::"))),
                // A name that lib.rs exports for users: files of the library name its room.
                None => wrong.push(format!("{file} imports crate::{}, which is no room", path.join("::"))),
            }
        }
    }
    assert!(wrong.is_empty(), "imports that run upward:\n{}", wrong.join("\n"));
}

/// The file that a path below `crate` leads to; `None` for a file itself.
fn target(path: &[String], files: &BTreeMap<String, String>) -> Option<String> {
    (1..=path.len()).rev().find_map(|length| {
        let stem = path[..length].join("/");
        [format!("{stem}.rs"), format!("{stem}/mod.rs")].into_iter().find(|file| files.contains_key(file))
    })
}

#[test]
fn no_more_than_two_files_import_each_other_in_a_circle() {
    let files = all_files();
    let mut imports: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (file, code) in &files {
        // `super::x` in a/b.rs and `x` of a/mod.rs are both crate::a::x.
        let folder = file.rsplit_once('/').map_or(Vec::new(), |(folder, _)| folder.split('/').collect::<Vec<_>>());
        let parent = |levels: usize| {
            let kept = folder.len().saturating_sub(levels);
            folder[..kept].iter().fold("crate::".to_owned(), |path, part| path + part + "::")
        };
        let is_mod = file.ends_with("/mod.rs");
        let code = code.replace("super::super::", &parent(1 + usize::from(is_mod)));
        let code = code.replace("super::", &parent(usize::from(is_mod)));
        let used = paths(&code).iter().filter_map(|path| target(path, &files)).filter(|other| other != file).collect();
        imports.insert(file, used);
    }
    // A `mod.rs` that only declares and exports items connects no files.
    let only_exports =
        |file: &str| file.ends_with("mod.rs") && !files[file].contains("fn ") && !files[file].contains("struct ");
    let reaches = |from: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(file) = next.pop() {
            for other in &imports[file.as_str()] {
                if !only_exports(other) && seen.insert(other.clone()) {
                    next.push(other.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = files.keys().map(|file| (file.clone(), reaches(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, others) in &reached {
        let circle: BTreeSet<_> = others.iter().filter(|other| reached[*other].contains(file)).cloned().collect();
        if circle.len() > 2 {
            circles.insert(circle);
        }
    }
    assert!(circles.is_empty(), "files that import each other in a circle: {circles:#?}");
}

#[test]
fn the_map_in_lib_rs_names_every_room_and_every_file() {
    let text = fs::read_to_string(src().join("lib.rs")).unwrap();
    let map: String = text.lines().filter(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n");
    let is_part = |character: char| character.is_alphanumeric() || character == '_' || character == '/';
    let named: BTreeSet<_> = map.split(|character| !is_part(character)).collect();
    let missing: Vec<_> = ROOMS.into_iter().chain([FUZZING]).filter(|room| !named.contains(room)).collect();
    assert!(missing.is_empty(), "the map in src/lib.rs does not name {missing:?}");
    let exists = |name: &&str| ["", ".rs"].iter().any(|end| src().join(format!("{name}{end}")).exists());
    let is_path =
        |name: &&&str| name.split_once('/').is_some_and(|(room, file)| ROOMS.contains(&room) && !file.is_empty());
    let gone: Vec<_> = named.iter().filter(is_path).filter(|name| !exists(name)).collect();
    assert!(gone.is_empty(), "the map in src/lib.rs names {gone:?}, which do not exist");
}
