//! Reading `testdata/attestation`.

use std::path::PathBuf;
use std::time::Duration;

use marblerun_attestation::{INTEL_SGX_ROOT_CA, TrustRoots};
use rustls_pki_types::UnixTime;
use serde_json::Value;

pub(crate) fn directory() -> PathBuf {
    let testdata = std::env::var_os("MARBLERUN_TESTDATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")), PathBuf::from);
    testdata.join("attestation")
}

pub(crate) fn read(name: &str) -> Vec<u8> {
    let path = directory().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// One entry of `vectors.json`.
#[derive(Clone)]
pub(crate) struct Vector {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) evidence: Vec<u8>,
    pub(crate) collateral: Vec<u8>,
    pub(crate) root: Vec<u8>,
    pub(crate) now: UnixTime,
    pub(crate) allow_debug: bool,
    pub(crate) expect: Value,
}

impl Vector {
    pub(crate) fn roots(&self) -> TrustRoots {
        if self.root == INTEL_SGX_ROOT_CA {
            return TrustRoots::hardware();
        }
        TrustRoots::software([("test root", self.root.as_slice())]).unwrap()
    }
}

/// Every entry of `vectors.json`, with the ids of those for other TEEs.
pub(crate) fn vectors() -> (Vec<Vector>, Vec<String>) {
    let index: Value = serde_json::from_slice(&read("vectors.json")).unwrap();
    assert_eq!(index["format"], 1);
    let (mut sgx, mut others) = (Vec::new(), Vec::new());
    for entry in index["vectors"].as_array().unwrap() {
        let text = |name: &str| entry[name].as_str().unwrap_or_else(|| panic!("{name} of {entry}")).to_owned();
        if entry["kind"] != "sgx" {
            others.push(text("id"));
            continue;
        }
        let known =
            ["id", "kind", "evidence", "collateral", "root", "now", "nowText", "options", "expect", "source", "note"];
        for name in entry.as_object().unwrap().keys() {
            assert!(known.contains(&name.as_str()), "unknown field {name} in {}", text("id"));
        }
        for name in entry["options"].as_object().unwrap().keys() {
            assert_eq!(name, "allowDebug", "unknown option in {}", text("id"));
        }
        sgx.push(Vector {
            id: text("id"),
            kind: text("kind"),
            evidence: read(&text("evidence")),
            collateral: read(&text("collateral")),
            root: read(&text("root")),
            now: at(entry["now"].as_u64().unwrap()),
            allow_debug: entry["options"].get("allowDebug").is_some_and(|value| value.as_bool().unwrap()),
            expect: entry["expect"].clone(),
        });
    }
    (sgx, others)
}

pub(crate) fn vector(id: &str) -> Vector {
    vectors().0.into_iter().find(|vector| vector.id == id).unwrap_or_else(|| panic!("no vector {id}"))
}
