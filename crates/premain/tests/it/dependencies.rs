//! What the program is made of is counted: it runs in every enclave.

use std::collections::BTreeSet;
use std::process::Command;

/// Crates in the normal dependency tree, build-time macros included. Raise it only with a reason.
const MAX_CRATES: usize = 74;
/// A second cryptographic library, or tools that this program does not need.
const ABSENT: [&str; 8] = ["ring", "openssl", "openssl-sys", "native-tls", "tonic", "axum", "clap", "regex"];

#[test]
fn the_dependency_tree_is_small_and_has_one_cryptographic_library() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "marblerun-premain", "--edges", "normal", "--prefix", "none", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?))
        })
        .collect();
    assert!(crates.len() > 10, "{text}");
    assert!(crates.len() <= MAX_CRATES, "expected at most {MAX_CRATES} crates, got {}: {crates:?}", crates.len());
    for name in ABSENT {
        assert!(!crates.iter().any(|(found, _)| *found == name), "{name} is in the dependency tree");
    }
}

#[test]
fn no_entropy_source_that_measures_time_is_linked() {
    let output = Command::new("nm").arg(env!("CARGO_BIN_EXE_premain-libos")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let symbols = String::from_utf8_lossy(&output.stdout);
    // The library itself is there, so the absence of the other names means something.
    assert!(symbols.contains("RAND_bytes"), "the symbols of the cryptographic library were not found");
    assert!(!symbols.contains("jent_"), "jitter entropy is linked; build with AWS_LC_SYS_NO_JITTER_ENTROPY=1");
}
