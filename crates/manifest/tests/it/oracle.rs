//! `testdata/json/decode.json`: what Go's `encoding/json` does with manifests and user secrets.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use marblerun_json::{DecodeError, decode_whole};
use marblerun_manifest::{Manifest, SecretCertificate, UserSecret, decode_user_secrets_v1, decode_user_secrets_v2};
use serde_json::{Map, Value};

use crate::{canonical, testdata};

fn document(case: &Value) -> Vec<u8> {
    if let Some(text) = case["document"].as_str() {
        return text.as_bytes().to_vec();
    }
    if let Some(encoded) = case["document_b64"].as_str() {
        return STANDARD.decode(encoded).unwrap();
    }
    let parts = case["document_parts"].as_array().expect("a case has a document");
    parts
        .iter()
        .flat_map(|part| part[0].as_str().unwrap().repeat(part[1].as_u64().unwrap() as usize).into_bytes())
        .collect()
}

fn decode(target: &str, text: &[u8]) -> Option<Result<Value, DecodeError>> {
    let user_secrets = |decoded: Result<BTreeMap<String, UserSecret>, DecodeError>| {
        decoded.map(|secrets| canonical::user_secrets(&secrets))
    };
    Some(match target {
        "manifest" => Manifest::decode(text).map(|manifest| canonical::manifest(&manifest)),
        "cert-template" => decode_whole::<SecretCertificate>(text, text.len())
            .map(|(certificate, _)| canonical::certificate(&certificate).unwrap_or(Value::Object(Map::new()))),
        "user-secrets" => user_secrets(decode_user_secrets_v1(text)),
        "v2-set-secrets" => user_secrets(decode_user_secrets_v2(text)).map(|secrets| {
            let mut object = Map::new();
            if secrets != Value::Object(Map::new()) {
                object.insert("secrets".into(), secrets);
            }
            Value::Object(object)
        }),
        // These bodies belong to the client API's types and are tested there.
        "v2-set-manifest" | "v2-recover" | "v2-sign-quote" | "v2-monotonic-counter" => return None,
        unknown => panic!("unknown target {unknown}"),
    })
}

fn agrees(got: &Result<Value, DecodeError>, expected: &Value) -> bool {
    match got {
        Err(error) => expected["ok"] == false && expected["class"] == error.class(),
        Ok(value) => {
            if expected["ok"] != true {
                return false;
            }
            if let Some(digest) = expected["decoded_sha256"].as_str() {
                // The canonical form omits empty lists, which do not occur in these documents.
                let text = value.to_string();
                let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
                return expected["decoded_length"] == text.len() && hex::encode(sha256) == digest;
            }
            canonical::without_empty(value) == canonical::without_empty(&expected["decoded"])
        }
    }
}

// rules: JSON-1, JSON-2, JSON-3, JSON-4, JSON-5
#[test]
fn documents_decode_as_go_decodes_them() {
    const CLASSES: [&str; 12] = [
        "syntax",
        "trailing",
        "depth",
        "type",
        "range",
        "base64",
        "hex",
        "encoding",
        "time",
        "ip",
        "oid",
        "certificate",
    ];
    let oracle: Value = serde_json::from_slice(&testdata("json/decode.json")).unwrap();
    let mut checked = 0;
    let mut failures = Vec::new();
    for case in oracle["cases"].as_array().unwrap() {
        let expected = &case["result"];
        if expected["ok"] == false {
            let class = expected["class"].as_str().unwrap();
            assert!(CLASSES.contains(&class), "unknown class {class}");
        }
        let Some(got) = decode(case["target"].as_str().unwrap(), &document(case)) else {
            continue;
        };
        checked += 1;
        let alternatives = case["alternatives"].as_array().cloned().unwrap_or_default();
        if !agrees(&got, expected) && !alternatives.iter().any(|alternative| agrees(&got, alternative)) {
            failures.push(format!("{}: expected {expected}, got {got:?}", case["id"]));
        }
    }
    assert!(failures.is_empty(), "{} of {checked} cases:\n{}", failures.len(), failures.join("\n"));
    assert!(checked > 0);
}
