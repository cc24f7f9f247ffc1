//! `testdata/json`: what Go's `encoding/json` reads and writes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use marblerun_api::rest::*;
use marblerun_json::{DecodeError, encode, write_bytes_as_string};
use serde_json::{Map, Value, json};

fn read_oracle(name: &str) -> Vec<Value> {
    let root = std::env::var_os("MARBLERUN_TESTDATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")), PathBuf::from);
    let path = root.join("json").join(name);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let oracle: Value = serde_json::from_slice(&text).unwrap();
    oracle["cases"].as_array().unwrap().clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    value.as_str().map(|text| STANDARD.decode(text).unwrap())
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array().map(|values| values.iter().map(text).collect())
}

fn map<T>(value: &Value, form: impl Fn(&Value) -> T) -> Option<BTreeMap<String, T>> {
    value.as_object().map(|members| members.iter().map(|(name, value)| (name.clone(), form(value))).collect())
}

fn secret(value: &Value) -> Secret {
    let secret_bytes = |value: &Value| bytes(value).map(marblerun_secret::SecretBytes::new);
    Secret {
        type_word: text(&value["Type"]),
        size: value["Size"].as_u64().unwrap(),
        shared: value["Shared"].as_bool().unwrap(),
        user_defined: value["UserDefined"].as_bool().unwrap(),
        cert: bytes(&value["Cert"]),
        valid_for: value["ValidFor"].as_u64().unwrap(),
        private: secret_bytes(&value["Private"]),
        public: secret_bytes(&value["Public"]),
    }
}

fn manifest_answer(signature: &Value, fingerprint: &Value, manifest: &Value) -> ManifestAnswer {
    ManifestAnswer { signature: bytes(signature), fingerprint: text(fingerprint), manifest: bytes(manifest) }
}

fn write(kind: &str, value: &Value) -> String {
    match kind {
        "string" => encode(&text(value)),
        "string-b64" => {
            let mut out = String::new();
            write_bytes_as_string(&bytes(value).unwrap(), &mut out);
            out
        }
        "bytes" => encode(&bytes(value)),
        "string-list" => encode(&strings(value)),
        "uint" => encode(&value.as_u64().unwrap()),
        "bool" => encode(&value.as_bool().unwrap()),
        "string-map" => encode(&map(value, text)),
        "bytes-map" => encode(&map(value, bytes)),
        "secret" => encode(&secret(value)),
        "secret-map" => encode(&map(value, secret)),
        "v1-secrets" => encode_secrets_v1(&map(value, secret).unwrap()),
        "v2-secrets" => encode_secrets_v2(&map(value, secret).unwrap()),
        "v1-status" | "v2-status" => {
            let v1 = kind == "v1-status";
            let (code, message) = if v1 { ("StatusCode", "StatusMessage") } else { ("code", "message") };
            let answer = StatusAnswer {
                code: value[code].as_u64().unwrap(),
                message: text(&value[message]),
                ..StatusAnswer::default()
            };
            if v1 { answer.to_v1() } else { answer.to_v2() }
        }
        "v1-manifest" => {
            manifest_answer(&value["ManifestSignatureRootECDSA"], &value["ManifestSignature"], &value["Manifest"])
                .to_v1()
        }
        "v2-manifest" => {
            manifest_answer(&value["manifestSignatureRootECDSA"], &value["manifestFingerprint"], &value["manifest"])
                .to_v2()
        }
        "v1-quote" => {
            QuoteAnswer { cert: text(&value["Cert"]), quote: bytes(&value["Quote"]), ..QuoteAnswer::default() }.to_v1()
        }
        "v2-quote" => {
            QuoteAnswer { cert: text(&value["cert"]), quote: bytes(&value["quote"]), ..QuoteAnswer::default() }.to_v2()
        }
        "set-manifest" => {
            let recovery_secrets = map(&value["RecoverySecrets"], |value| bytes(value).unwrap()).unwrap();
            SetManifestAnswer { recovery_secrets }.to_v2()
        }
        "v2-update" => UpdateAnswer {
            missing_acknowledgments: value["missingAcknowledgments"].as_u64().unwrap(),
            missing_users: strings(&value["missingUsers"]),
            recovery_secrets: map(&value["recoverySecrets"], |value| bytes(value).unwrap()),
        }
        .to_v2(),
        "v2-acknowledge" => AcknowledgeAnswer {
            message: text(&value["message"]),
            missing_users: strings(&value["missingUsers"]),
            missing_acknowledgments: value["missingAcknowledgments"].as_u64().unwrap(),
            recovery_secrets: map(&value["recoverySecrets"], |value| bytes(value).unwrap()),
        }
        .to_v2(),
        "v2-update-log" => UpdateLogAnswer { update_log: strings(value).unwrap() }.to_v2(),
        "v2-counter" => CounterAnswer { value: value.as_u64().unwrap() }.to_v2(),
        "v1-text" => MessageAnswer { message: text(value) }.to_v1(),
        "null-data" => success_without_data(),
        "error" => error(&text(value)),
        "fail" => fail(&text(value)),
        "fail-data" => {
            let (member, reason) = value["Data"].as_object().unwrap().iter().next().unwrap();
            fail_with_data(member, &text(reason), &text(&value["Message"]))
        }
        unknown => panic!("unknown kind {unknown}"),
    }
}

#[test]
fn answers_are_byte_for_byte_those_of_go() {
    let mut failures = Vec::new();
    let cases = read_oracle("encode.json");
    for case in &cases {
        let output = write(case["kind"].as_str().unwrap(), &case["value"]);
        if case["output"] != output {
            failures.push(format!("{}: expected {}, got {output}", case["id"], case["output"]));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(!cases.is_empty());
}

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

/// The request in canonical form; an empty byte string equals an unset one here.
fn read(target: &str, body: &[u8]) -> Option<Result<Value, DecodeError>> {
    let object = |members: Vec<(&str, Value)>| {
        let set = members.into_iter().filter(|(_, value)| *value != json!("") && *value != json!(0));
        Value::Object(set.map(|(name, value)| (name.to_owned(), value)).collect())
    };
    Some(match target {
        "v2-set-manifest" => decode_request::<SetManifestRequest>(body)
            .map(|request| object(vec![("manifest", json!(STANDARD.encode(request.manifest)))])),
        "v2-recover" => decode_request::<RecoverRequest>(body).map(|request| {
            let secret = request.recovery_secret.map(|secret| STANDARD.encode(secret.expose())).unwrap_or_default();
            let signature = STANDARD.encode(request.recovery_secret_signature);
            object(vec![("recoverySecret", json!(secret)), ("recoverySecretSignature", json!(signature))])
        }),
        "v2-sign-quote" => decode_request::<SignQuoteRequest>(body)
            .map(|request| object(vec![("sgxQuote", json!(STANDARD.encode(request.sgx_quote)))])),
        "v2-monotonic-counter" => decode_request::<MonotonicCounterRequest>(body)
            .map(|request| object(vec![("name", json!(request.name)), ("value", json!(request.value))])),
        // These hold manifests and user secrets and are tested with the crate that knows them.
        "manifest" | "cert-template" | "user-secrets" | "v2-set-secrets" => return None,
        unknown => panic!("unknown target {unknown}"),
    })
}

#[test]
fn requests_decode_as_go_decodes_them() {
    let mut failures = Vec::new();
    let mut checked = 0;
    for case in read_oracle("decode.json") {
        let Some(got) = read(case["target"].as_str().unwrap(), &document(&case)) else { continue };
        checked += 1;
        let agrees = |expected: &Value| match &got {
            Err(error) => expected["ok"] == false && expected["class"] == error.class(),
            Ok(value) => {
                let mut decoded = expected["decoded"].as_object().cloned().unwrap_or_else(Map::new);
                decoded.retain(|_, value| *value != json!(""));
                expected["ok"] == true && *value == Value::Object(decoded)
            }
        };
        let alternatives = case["alternatives"].as_array().cloned().unwrap_or_default();
        if !agrees(&case["result"]) && !alternatives.iter().any(agrees) {
            failures.push(format!("{}: expected {}, got {got:?}", case["id"], case["result"]));
        }
    }
    assert!(failures.is_empty(), "{} of {checked} cases:\n{}", failures.len(), failures.join("\n"));
    assert!(checked > 0);
}

#[test]
fn clients_read_both_versions_and_skip_what_they_do_not_know() {
    let quote = QuoteAnswer { cert: "PEM".into(), quote: Some(vec![3]), ..QuoteAnswer::default() };
    for body in [quote.to_v1(), quote.to_v2()] {
        let envelope = decode_envelope(body.as_bytes(), MAX_ANSWER_BYTES).unwrap();
        assert_eq!(envelope.data::<QuoteAnswer>().unwrap(), quote);
    }
    let body = br#"{"status":"success","data":{"code":3,"message":"m","later":[1]},"more":{}}"#;
    let status = decode_envelope(body, 1000).unwrap().data::<StatusAnswer>().unwrap();
    assert_eq!((status.code, status.message.as_str()), (3, "m"));
}

#[test]
fn statement_and_collateral_are_members_of_version_2_only() {
    let quote = QuoteAnswer {
        cert: "PEM".into(),
        quote: None,
        statement: Some(r#"{"a":"<"}"#.into()),
        collateral: Some(marblerun_json::RawJson(b"{\"tcb\":1}".to_vec())),
    };
    let v2 = decode_envelope(quote.to_v2().as_bytes(), MAX_ANSWER_BYTES).unwrap();
    assert_eq!(v2.data::<QuoteAnswer>().unwrap(), quote, "the statement must survive byte for byte");
    assert_eq!(quote.to_v1(), "{\"status\":\"success\",\"data\":{\"Cert\":\"PEM\",\"Quote\":null}}\n");
}

#[test]
fn answers_longer_than_the_clients_limit_are_refused() {
    let error = decode_envelope(b"{\"status\":\"success\"}", 10).unwrap_err();
    assert_eq!(error.to_string(), "expected at most 10 bytes, got 20");
}

#[test]
fn set_manifest_without_recovery_keys_has_no_data_in_version_1() {
    let answer = SetManifestAnswer::default();
    assert_eq!(answer.to_v1(), "{\"status\":\"success\",\"data\":null}\n");
    assert_eq!(answer.to_v2(), "{\"status\":\"success\",\"data\":{\"RecoverySecrets\":{}}}\n");
}

#[test]
fn data_of_an_answer_reads_as_text() {
    let text = |body: &str| decode_envelope(body.as_bytes(), 1000).unwrap().data_text();
    assert_eq!(text(&success("a\nb")), "a\nb");
    assert_eq!(text(&success_without_data()), "");
    assert_eq!(text("{\"data\":{\"a\":1}}"), "{\"a\":1}");
}

#[test]
fn acknowledgement_texts_of_version_1_are_exact() {
    let text = |missing_acknowledgments| {
        let answer = AcknowledgeAnswer { missing_acknowledgments, ..AcknowledgeAnswer::default() };
        decode_envelope(answer.to_v1().as_bytes(), 1000).unwrap().data_text()
    };
    assert_eq!(text(0), "All users have acknowledged the update manifest. Update successfully applied");
    assert_eq!(text(1), "1 user still needs to acknowledge the update manifest");
    assert_eq!(text(2), "2 users still need to acknowledge the update manifest");
}

#[test]
fn set_manifest_request_survives_the_wire() {
    let request = SetManifestRequest { manifest: b"{ }\n\xff".to_vec() };
    assert_eq!(decode_request::<SetManifestRequest>(&request.to_body()).unwrap(), request);
}
