//! The template engine and the data model against results recorded from Go's `text/template`.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use marblerun_coordinator_core::parameters::{
    Credential, DataSet, ENV_FUNCTIONS, FILE_FUNCTIONS, RENDER_LIMITS, SecretMap,
};
use marblerun_coordinator_core::secret::Secret;
use marblerun_manifest::SecretType;
use marblerun_secret::SecretBytes;
use marblerun_template::{Budget, Error, Function, Stage, Template, Value as TemplateValue};
use serde_json::Value;

/// All classes of the recorded results; another one fails the test.
const CLASSES: [&str; 22] = [
    "arg-count",
    "arg-type",
    "bad-literal",
    "comparison",
    "empty-secret",
    "index-range",
    "lex",
    "limit",
    "loop-control",
    "missing-field",
    "missing-secret",
    "nil-value",
    "not-a-function",
    "nul-byte",
    "number-range",
    "parse",
    "range-type",
    "redefinition",
    "secret-arg-kind",
    "undefined-function",
    "undefined-template",
    "undefined-variable",
];

/// Optional cases, by their template, that go beyond the documented fields of certificates.
const OPTIONAL_GROUP: &str = "x509-extra";

fn testdata(file: &str) -> Value {
    let root = std::env::var("MARBLERUN_TESTDATA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata").to_owned());
    let text = std::fs::read(format!("{root}/template/{file}")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    value.as_str().map(|text| STANDARD.decode(text).unwrap())
}

fn credential(value: &Value) -> Credential {
    Credential {
        certificate: bytes(&value["Cert"]["Raw"]),
        private: bytes(&value["Private"]).map(SecretBytes::new),
        public: bytes(&value["Public"]).map(SecretBytes::new),
    }
}

fn secrets(value: &Value) -> Arc<SecretMap> {
    SecretMap::new(value.as_object().unwrap().iter().map(|(name, secret)| {
        let secret = Secret {
            secret_type: SecretType::from_word(secret["Type"].as_str().unwrap()).unwrap(),
            size: secret["Size"].as_u64().unwrap(),
            shared: secret["Shared"].as_bool().unwrap(),
            user_defined: secret["UserDefined"].as_bool().unwrap(),
            valid_for: secret["ValidFor"].as_u64().unwrap(),
            certificate: bytes(&secret["Cert"]["Raw"]),
            private: bytes(&secret["Private"]).map(SecretBytes::new),
            public: bytes(&secret["Public"]).map(SecretBytes::new),
        };
        (name.as_str(), Arc::new(secret))
    }))
}

fn data_set(value: &Value) -> TemplateValue {
    let marble_run = &value["MarbleRun"];
    DataSet {
        marble_root: credential(&marble_run["RootCA"]),
        marble: credential(&marble_run["MarbleCert"]),
        coordinator_root: credential(&marble_run["CoordinatorRoot"]),
        coordinator_intermediate: credential(&marble_run["CoordinatorIntermediate"]),
        secrets: secrets(&value["Secrets"]),
        previous_secrets: secrets(&value["PreviousSecrets"]),
    }
    .into_value()
}

fn template_of(case: &Value) -> Vec<u8> {
    if let Some(text) = case["template"].as_str() {
        return text.as_bytes().to_vec();
    }
    if let Some(encoded) = bytes(&case["template_b64"]) {
        return encoded;
    }
    let parts = case["template_parts"].as_array().unwrap();
    parts
        .iter()
        .flat_map(|part| part[0].as_str().unwrap().repeat(part[1].as_u64().unwrap() as usize).into_bytes())
        .collect()
}

fn run(source: &[u8], functions: &'static [Function], data: &TemplateValue) -> Result<SecretBytes, Error> {
    Template::parse(source, functions)?.execute(data, &mut Budget::new(RENDER_LIMITS))
}

/// `None` if the outcome is the recorded one, else the difference.
fn difference(case: &Value, outcome: &Result<SecretBytes, Error>) -> Option<String> {
    let result = &case["result"];
    let limit_allowed = case["limit_allowed"].as_bool().unwrap_or(false);
    if let Err(error) = outcome
        && error.class() == "limit"
        && limit_allowed
    {
        return None;
    }
    match (result["ok"].as_bool().unwrap(), outcome) {
        (true, Ok(output)) => {
            let output = output.expose();
            if let Some(expected) = bytes(&result["output_b64"]) {
                let shown = (String::from_utf8_lossy(&expected), String::from_utf8_lossy(output));
                return (expected != output).then(|| format!("expected {:?}, got {:?}", shown.0, shown.1));
            }
            let digest = hex::encode(digest::digest(&digest::SHA256, output));
            let same = result["output_length"].as_u64() == Some(output.len() as u64)
                && result["output_sha256"].as_str() == Some(&digest);
            (!same).then(|| format!("long output differs, got {} bytes", output.len()))
        }
        (true, Err(error)) => Some(format!("expected output {}, got {} ({error})", result["output"], error.class())),
        (false, Ok(output)) => {
            let output = String::from_utf8_lossy(output.expose()).into_owned();
            Some(format!("expected {}, got output {output:?}", result["class"]))
        }
        (false, Err(error)) => {
            let class = result["class"].as_str().unwrap();
            assert!(CLASSES.contains(&class), "unknown class {class}");
            let class = if matches!(class, "lex" | "parse" | "bad-literal") { "syntax" } else { class };
            if class == "limit" && error.class() == "limit" {
                return None;
            }
            let stage = if error.stage == Stage::Parse { "parse" } else { "exec" };
            let got = (error.class(), stage, Some(error.line as u64), error.column.map(|c| c as u64));
            let expected =
                (class, result["stage"].as_str().unwrap(), result["line"].as_u64(), result["column"].as_u64());
            (got != expected).then(|| format!("expected {expected:?}, got {got:?} ({error})"))
        }
    }
}

// rules: ACT-6.1
#[test]
fn templates_give_the_output_or_error_that_go_gives() {
    let data_sets = testdata("datasets.json");
    let document = testdata("cases.json");
    let cases = document["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2227);
    let mut failures = Vec::new();
    let mut skipped = 0;
    for case in cases {
        let functions: &'static [Function] = match case["context"].as_str().unwrap() {
            "files" => &FILE_FUNCTIONS,
            "env" => &ENV_FUNCTIONS,
            other => panic!("unknown context {other}"),
        };
        let name = case["dataset"].as_str().unwrap();
        let set = data_sets.get(name).or_else(|| data_sets["datasets"].get(name));
        let data = data_set(set.unwrap_or_else(|| panic!("unknown data set {name}")));
        let source = template_of(case);
        let outcome = run(&source, functions, &data);
        let Some(difference) = difference(case, &outcome) else { continue };
        if case["optional"].as_bool() == Some(true) && case["group"] == OPTIONAL_GROUP {
            skipped += 1;
            continue;
        }
        let shown: String = String::from_utf8_lossy(&source).chars().take(200).collect();
        failures.push(format!("{} [{}] {shown:?}: {difference}", case["id"], case["group"]));
    }
    assert!(failures.is_empty(), "{} of {} cases differ:\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert!(skipped <= 15, "only the documented optional cases may differ, got {skipped}");
}
