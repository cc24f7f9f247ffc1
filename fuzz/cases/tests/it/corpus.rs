//! The corpus: every file is replayed, and it stays small and useful.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use marblerun_fuzz_cases::{TARGETS, Verdict};

/// Larger inputs belong into `testdata`: they make the fuzzer slow.
const MAX_FILE_BYTES: usize = 64 * 1024;
/// The whole corpus is part of every clone.
const MAX_TOTAL_BYTES: usize = 2 * 1024 * 1024;

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The names in a directory, in order.
#[track_caller]
fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The inputs of a target with their names, in order; at least one.
#[track_caller]
pub(crate) fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = fuzz_directory().join("corpus").join(target);
    let inputs: Vec<_> = names(&directory)
        .into_iter()
        .map(|name| (name.clone(), std::fs::read(directory.join(name)).unwrap()))
        .collect();
    assert!(!inputs.is_empty(), "{} has no inputs", directory.display());
    inputs
}

#[test]
fn every_input_of_the_corpus_holds_and_each_verdict_occurs() {
    for (target, case) in TARGETS {
        let mut verdicts = Vec::new();
        for (name, data) in inputs(target) {
            // Shown only if the case panics.
            println!("{target}: {name}");
            verdicts.push(case(&data));
        }
        assert!(verdicts.contains(&Verdict::Accepted), "{target}: no input is accepted");
        assert!(verdicts.contains(&Verdict::Refused), "{target}: no input is refused");
    }
}

#[test]
fn every_target_has_a_corpus_and_a_fuzzer_and_nothing_is_left_over() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "a name occurs twice");
    assert_eq!(names(&fuzz_directory().join("corpus")), targets);

    let fuzzers = names(&fuzz_directory().join("fuzz_targets"));
    assert_eq!(fuzzers, targets.iter().map(|target| format!("{target}.rs")).collect());
    let manifest = std::fs::read_to_string(fuzz_directory().join("Cargo.toml")).unwrap();
    for target in &targets {
        let fuzzer = std::fs::read_to_string(fuzz_directory().join(format!("fuzz_targets/{target}.rs"))).unwrap();
        assert!(fuzzer.contains(&format!("marblerun_fuzz_cases::{target}(data)")), "{target} runs another case");
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not built");
    }
}

#[test]
fn the_corpus_stays_small() {
    let mut total = 0;
    for (target, _) in TARGETS {
        for (name, data) in inputs(target) {
            assert!(data.len() < MAX_FILE_BYTES, "{target}/{name} has {} bytes", data.len());
            total += data.len();
        }
    }
    assert!(total < MAX_TOTAL_BYTES, "the corpus has {total} bytes");
}
