//! Tests through the public API against recorded results.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::path::PathBuf;

mod activation;
mod canonical;
mod check;
mod count;
mod oracle;
mod plan;
mod warning;

fn testdata_dir() -> PathBuf {
    std::env::var_os("MARBLERUN_TESTDATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")), PathBuf::from)
}

/// A file below `testdata/`.
fn testdata(path: &str) -> Vec<u8> {
    let path = testdata_dir().join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn activation_file(name: &str) -> String {
    String::from_utf8(testdata(&format!("activation/{name}"))).unwrap()
}

/// The PEM text of an RSA recovery key of 3072 bits.
fn recovery_key_pem() -> String {
    let case: serde_json::Value =
        serde_json::from_slice(&testdata("activation/16-recovery-threshold-2of3.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(case["manifest_text"].as_str().unwrap()).unwrap();
    let keys = manifest["RecoveryKeys"].as_object().unwrap();
    keys.values().next().unwrap().as_str().unwrap().to_owned()
}
