//! `testdata/activation`: whole manifests that MarbleRun v1.9.1 accepts or refuses.

use marblerun_manifest::{AzureHsm, Manifest};
use serde_json::Value;

use crate::testdata_dir;

/// Refused only when templates are run, which is not this crate's work.
fn refused_by_templates(name: &str) -> bool {
    name.starts_with("tpl-refused") || name.contains("dryrun")
}

/// Accepted there, refused here on purpose: one certificate for two users, and a P-224 key.
const STRICTER: [&str; 2] = ["same-user-cert-other-text", "cert-templates"];

#[test]
fn manifests_are_accepted_and_refused_as_recorded() {
    let mut failures = Vec::new();
    let mut checked = 0;
    for entry in std::fs::read_dir(testdata_dir().join("activation")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let name = case["name"].as_str().unwrap();
        // A recipe stands for a manifest with one large file.
        let Some(encoded) = case["manifest_b64"].as_str() else { continue };
        let raw = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap();
        let verdict = Manifest::decode(&raw)
            .map_err(|error| error.to_string())
            .and_then(|manifest| manifest.check(AzureHsm::Unavailable).map_err(|error| error.to_string()));
        let accepted = case["post_manifest"]["http"] == 200;
        let expected = if STRICTER.contains(&name) { false } else { accepted || refused_by_templates(name) };
        if verdict.is_ok() != expected {
            failures.push(format!("{name}: accepted {accepted}, got {verdict:?}"));
        }
        checked += 1;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(checked > 0);
}
