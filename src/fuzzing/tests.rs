//! Runs the targets over their corpus and over mutations of it, on a stable compiler. The number of runs is fixed. With
//! another seed and more runs: AZTORCH_FUZZ_SEED=7 AZTORCH_FUZZ_RUNS=1000000 cargo test --lib fuzzing

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use fastrand::Rng;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().expect("a number"))
}

/// The inputs in `fuzz/corpus/TARGET`, by name.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    files.iter().map(|file| std::fs::read(file).expect("a file of the corpus")).collect()
}

/// Pieces of the parsed formats, so that mutations get past the first checks.
const PIECES: [&[u8]; 16] = [
    b"\0",
    b"\xff",
    b"\n",
    b"?",
    b"=",
    b";",
    b"%00",
    b"%2F",
    b"<",
    b"</Blob>",
    b"<![CDATA[",
    b"&#x0;",
    b"18446744073709551615",
    b"-1",
    b"..",
    b"\xf4\x8f\xbf\xbf",
];

fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(0..=input.len());
        let end = (at + rng.usize(0..32)).min(input.len());
        match rng.u8(0..6) {
            0 if at < input.len() => input[at] ^= 1 << rng.u8(0..8),
            1 if at < input.len() => input[at] = rng.u8(..),
            2 => drop(input.splice(at..at, PIECES[rng.usize(0..PIECES.len())].iter().copied())),
            3 => drop(input.drain(at..end)),
            4 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            // Append the end of another input.
            _ => {
                input.truncate(at);
                input.extend_from_slice(&other[rng.usize(0..=other.len())..]);
            }
        }
    }
}

fn run(target: &str, body: fn(&[u8])) {
    let (seed, runs) = (setting("AZTORCH_FUZZ_SEED", 1), setting("AZTORCH_FUZZ_RUNS", 3000));
    println!("{target}: AZTORCH_FUZZ_SEED={seed} AZTORCH_FUZZ_RUNS={runs}");
    let corpus = corpus(target);
    let try_one = |input: &[u8], which: &str| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(input))) {
            println!("{target}, {which}, seed {seed}: {}", input.escape_ascii());
            std::panic::resume_unwind(panic);
        }
    };
    for (number, input) in corpus.iter().enumerate() {
        try_one(input, &format!("input {number} of the corpus"));
    }
    let mut rng = Rng::with_seed(seed);
    for number in 0..runs {
        let mut input = corpus[rng.usize(0..corpus.len())].clone();
        let other = &corpus[rng.usize(0..corpus.len())];
        mutate(&mut input, other, &mut rng);
        try_one(&input, &format!("mutation {number}"));
    }
}

macro_rules! targets {
    ($($target:ident),*) => {
        const TARGETS: &[&str] = &[$(stringify!($target)),*];
        $(
        #[test]
        fn $target() {
            run(stringify!($target), super::$target);
        }
        )*
    };
}

targets!(url, connection_string, listing_xml, tar_index, content_range_and_error, range_planning, cursor, manifest);

/// cargo-fuzz runs the same targets as these tests.
#[test]
fn each_target_has_a_program_in_fuzz() {
    let cargo = include_str!("../../fuzz/Cargo.toml");
    let names = cargo.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    assert_eq!(names.filter(|&name| name != "aztorch-fuzz").collect::<Vec<_>>(), TARGETS);
}
