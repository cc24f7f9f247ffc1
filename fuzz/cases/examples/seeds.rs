//! Writes the seeds of the corpus, `fuzz/corpus/<target>/seed-*`, from `testdata`, `samples` and the product's own
//! writers: `cargo run -p marblerun-fuzz-cases --example seeds`.
//!
//! Files that exist stay as they are, because seeds that hold keys and signatures differ from run to run; remove them
//! to make them anew. Inputs with other names are what the fuzzer found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use marblerun_api::rest;
use marblerun_api::rpc::{ActivationReq, ActivationResp, Parameters};
use marblerun_attestation::{EvaluationNumbers, Fmspc, Tee, with_oe_header};
use marblerun_coordinator_core::counter::{CounterRaised, MarbleName};
use marblerun_coordinator_core::record::{
    Authority, CollateralAccepted, Genesis, ManifestSet, ManifestUpdated, PackagesUpdated, PreviousValue, Record,
    SecretsSet, UpdateAcknowledged, UpdateCancelled, UpdateInitiated, UpdatedSecret,
};
use marblerun_coordinator_core::secret::Secret;
use marblerun_fuzz_cases::{REQUEST_KEY_PKCS8, TARGETS, sealed};
use marblerun_manifest::SecretType;
use marblerun_pki::profile::{marble_root_certificate, premain_certificate};
use marblerun_pki::request::premain_request;
use marblerun_pki::{AltNames, KeyPair, pem};
use marblerun_sealing::{RecoveryScheme, SealPolicy};
use marblerun_secret::SecretBytes;
use prost::Message;
use rustls_pki_types::UnixTime;
use serde_json::Value;
use test_file::ElfFile;

#[allow(dead_code, reason = "shared with the tests of the crate that reads such files")]
#[path = "../../../crates/enclave-image/src/elf/test_file.rs"]
mod test_file;

/// Larger inputs make the fuzzer slow; what they are about is in smaller ones too.
const MAX_SEED_BYTES: usize = 32 * 1024;

/// Inputs by name.
type Seeds = BTreeMap<String, Vec<u8>>;

fn main() -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let testdata = std::env::var_os("MARBLERUN_TESTDATA").map_or_else(|| workspace.join("testdata"), PathBuf::from);
    for (target, _) in TARGETS {
        let directory = workspace.join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&directory)?;
        let seeds =
            seeds(target, &testdata, &workspace.join("samples")).with_context(|| format!("seeds of {target}"))?;
        ensure!(!seeds.is_empty(), "no seeds for {target}");
        for (name, data) in seeds.iter().filter(|(_, data)| data.len() <= MAX_SEED_BYTES) {
            let path = directory.join(format!("seed-{name}"));
            if !path.exists() {
                std::fs::write(path, data)?;
            }
        }
    }
    Ok(())
}

fn seeds(target: &str, testdata: &Path, samples: &Path) -> Result<Seeds> {
    match target {
        "activation" => Ok(activation()),
        "api_answer" => Ok(answers()),
        "api_request" => {
            json_oracle(testdata, &["v2-set-manifest", "v2-monotonic-counter", "v2-recover", "v2-sign-quote"], 2)
        }
        "certificate" => certificates(testdata),
        "certificate_request" => requests(),
        "certificate_template" => json_oracle(testdata, &["cert-template"], 3),
        "collateral" => collateral(testdata),
        "manifest" => manifests(testdata, samples),
        "marble_environment" => Ok(texts(&[
            ("least", "EDG_MARBLE_TYPE=web"),
            (
                "all",
                "EDG_MARBLE_TYPE=web\nEDG_MARBLE_COORDINATOR_ADDR=coordinator.example.com:2001\n\
                 EDG_MARBLE_DNS_NAMES=web,*.example.org,192.0.2.1\nEDG_MARBLE_UUID_FILE=/data/uuid\n\
                 EDG_MARBLE_ACTIVATION_TIMEOUT=1h30m\nEDG_MARBLE_SIMULATION=1",
            ),
            ("ipv6", "EDG_MARBLE_TYPE=web\nEDG_MARBLE_COORDINATOR_ADDR=[2001:db8::1]:2001\nEDG_CWD=/data"),
            ("ipv4-mapped", "EDG_MARBLE_TYPE=web\nEDG_MARBLE_DNS_NAMES=::ffff:192.0.2.1"),
            ("without-type", "EDG_MARBLE_DNS_NAMES=web"),
            (
                "mistakes",
                "EDG_MARBLE_COORDINATOR_ADDR=a:b:0\nEDG_MARBLE_ACTIVATION_TIMEOUT=-1\nEDG_MARBLE_SIMULATION=2",
            ),
        ])),
        "marble_uuid" => Ok(texts(&[
            ("canonical", "3f0c5a1e-9d2b-4c6f-8a7e-0123456789ab"),
            ("plain", "3F0C5A1E9D2B4C6F8A7E0123456789AB"),
            ("urn", "urn:uuid:3f0c5a1e-9d2b-4c6f-8a7e-0123456789ab"),
            ("braces", "{3f0c5a1e-9d2b-4c6f-8a7e-0123456789ab}"),
            ("nil", "00000000-0000-0000-0000-000000000000"),
        ])),
        "nonce_query" => Ok(texts(&[
            ("padded", "nonce=-_8%3D"),
            ("plain", "nonce=AQIDBA=="),
            ("none", "other=1"),
            ("second", "a=b&nonce=AAAA&nonce=%%"),
            ("standard-alphabet", "nonce=%2B/8="),
        ])),
        "copy_bom" => Ok(texts(&[
            (
                "all",
                "includes: [base.yaml]\nexcludes: ['*.o']\ntargets:\n- target: /bin\n  mkdirs: [a]\n  createlinks: [{src: ../x, \
                 linkname: y}]\n  copy:\n  - from: $HOME\n    dirs: [d/]\n    files: [f, {name: g, autodep: false, rename: h}]\n",
            ),
            ("alias", "targets: &a [*a]\n"),
            ("deep", "[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]"),
            ("nothing", "# nothing\n"),
            ("unknown-member", "targets: [{target: /, copies: []}]\n"),
        ])),
        "canaries" => Ok(texts(&[
            (
                "each-encoding",
                r#"{"a": {"text": "hunter2-hunter2"}, "b": {"hex": "00112233445566778899"}, "c": {"base64": "AAECAwQFBgcICQ=="}}"#,
            ),
            ("pem", r#"{"key": {"text": "-----BEGIN KEY-----\nAAECAwQFBgcICQoL\n-----END KEY-----\n"}}"#),
            ("quotes", r#"{"p": {"text": "line \"1\"\nline\t2 \\ end"}}"#),
            ("short", r#"{"a": {"text": "short"}}"#),
            ("twice", r#"{"a": {"text": "12345678"}, "a": {"text": "12345678"}}"#),
        ])),
        "hostile_plan" => Ok(texts(&[
            (
                "calls",
                r#"{"steps": [{"at": {"call": {"name": "quote", "nth": 2, "times": 3}}, "do": {"fail": {"errno": "EINVAL"}}}, {"at": {"call": {"name": "open", "nth": 1, "path": "/host/state"}}, "do": "kill"}]}"#,
            ),
            (
                "start-and-end",
                r#"{"steps": [{"at": "start", "do": {"clock": {"offset_seconds": -86400}}}, {"at": "start", "do": {"environment": {"drop": ["A"], "set": {"B": "1"}, "duplicate": {"C": "2"}}}}, {"at": "end", "do": {"save": {"to": "saved"}}}]}"#,
            ),
            (
                "network-and-files",
                r#"{"steps": [{"at": "start", "do": {"redirect": {"from": "127.0.0.1:1", "to": "127.0.0.1:2"}}}, {"at": {"call": {"name": "fsync", "nth": 1}}, "do": {"replace": {"file": "host/a", "with": "b"}}}, {"at": "end", "do": {"remove": {"file": "run/a"}}}]}"#,
            ),
            ("outside", r#"{"steps": [{"at": "start", "do": {"remove": {"file": "host/../../a"}}}]}"#),
            ("zeroth", r#"{"steps": [{"at": {"call": {"name": "read", "nth": 0}}, "do": "note"}]}"#),
        ])),
        "elf_program" => Ok(elf_programs()),
        "occlum_check" => occlum_check(samples),
        "occlum_json" => occlum(samples),
        "occlum_json_edit" => {
            let mut seeds = occlum(samples)?;
            seeds.extend(texts(&[("colon", "{\"a\" 1}"), ("list", "[\n\t0,\n\t1e400\n]\n"), ("open", "[\"\\")]));
            Ok(seeds)
        }
        "pem" => pem_texts(testdata),
        "pin_file" => Ok(texts(&[
            ("pin", r#"{"RootSHA256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}"#),
            ("short", r#"{"RootSHA256": "9f86"}"#),
            ("unknown-member", r#"{"RootSHA256": "", "Root": 1}"#),
        ])),
        "program_file" => Ok(programs()),
        "qcnl" => Ok(texts(&[
            (
                "stock",
                "{\n  //PCCS server address\n  \"pccs_url\": \"https://localhost:8081/sgx/certification/v4/\"\n  // insecure\n  \
                 ,\"use_secure_cert\": false\n  /* or */ ,\"collateral_service\": \
                 \"https://[::1]/sgx/certification/v4\"\n  ,\"retry_times\": 6\n}\n",
            ),
            ("lines", "# PCCS\nPCCS_URL=https://a/sgx/certification/v4/\r\nUSE_SECURE_CERT=FALSE\nRETRY_TIMES=1\n"),
            ("missing-comma", "{\"pccs_url\": \"https://a/sgx/certification/v4/\" \"use_secure_cert\": true}"),
            ("open-comment", "{\"pccs_url\": \"\\\"//\" /* "),
        ])),
        "quote" => quotes(testdata),
        "record" => Ok(records()),
        "restrictions_file" => Ok(texts(&[
            ("all", r#"{"Programs": ["/bin/app"], "FilePrefixes": ["/etc/app"], "Variables": ["APP_*", "LANG"]}"#),
            ("none", "{}"),
            ("nothing-allowed", r#"{"Programs": [], "FilePrefixes": [], "Variables": []}"#),
            ("relative", r#"{"FilePrefixes": ["../etc"]}"#),
        ])),
        "sealed_log" => sealed_logs(),
        "set_manifest" => recorded_manifests(testdata, samples),
        "template" => templates(testdata),
        "trust_file" => trust_files(testdata),
        "user_secrets" => json_oracle(testdata, &["user-secrets", "v2-set-secrets"], 1),
        "uuid_file" => Ok(texts(&[
            ("plain", "3f0c5a1e-9d2b-4c6f-8a7e-0123456789ab"),
            ("line", "3f0c5a1e-9d2b-4c6f-8a7e-0123456789ab\n"),
            ("nil", "00000000-0000-0000-0000-000000000000"),
            ("text", "web"),
        ])),
        "wrapped_keys" => wrapped_keys(),
        other => anyhow::bail!("no source of seeds is known for {other}"),
    }
}

fn texts(texts: &[(&str, &str)]) -> Seeds {
    texts.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// Every `step`th document of the JSON oracle that has one of these targets.
fn json_oracle(testdata: &Path, targets: &[&str], step: usize) -> Result<Seeds> {
    let oracle = read_json(&testdata.join("json/decode.json"))?;
    let cases = oracle["cases"].as_array().context("cases")?;
    let wanted = cases.iter().filter(|case| targets.iter().any(|target| case["target"] == *target));
    let mut seeds = Seeds::new();
    for case in wanted.step_by(step) {
        let id = format!("{}-{}", case["target"].as_str().context("target")?, case["id"].as_str().context("id")?);
        if let Some(document) = case["document"].as_str() {
            seeds.insert(id, document.as_bytes().to_vec());
        } else if let Some(document) = case["document_b64"].as_str() {
            seeds.insert(id, STANDARD.decode(document)?);
        }
    }
    Ok(seeds)
}

fn manifests(testdata: &Path, samples: &Path) -> Result<Seeds> {
    let mut seeds = json_oracle(testdata, &["manifest"], 9)?;
    seeds.extend(recorded_manifests(testdata, samples)?);
    Ok(seeds)
}

/// The manifests of the recorded activations and of the sample.
fn recorded_manifests(testdata: &Path, samples: &Path) -> Result<Seeds> {
    let mut seeds = Seeds::new();
    seeds.insert("occlum-hello".to_owned(), std::fs::read(samples.join("occlum-hello/manifest.json"))?);
    for entry in std::fs::read_dir(testdata.join("activation"))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else { continue };
        if let Some(manifest) = read_json(&path)?["manifest_b64"].as_str() {
            seeds.insert(format!("activation-{name}"), STANDARD.decode(manifest)?);
        }
    }
    // What a few long values say is in the others too; the corpus is part of every clone.
    seeds.retain(|_, manifest| manifest.len() <= 8 * 1024);
    Ok(seeds)
}

/// Every tenth template of the oracle.
fn templates(testdata: &Path) -> Result<Seeds> {
    let oracle = read_json(&testdata.join("template/cases.json"))?;
    let mut seeds = Seeds::new();
    for case in oracle["cases"].as_array().context("cases")?.iter().step_by(10) {
        if let Some(template) = case["template"].as_str().filter(|template| template.len() <= 4096) {
            // The oracle's secrets have other names than those of the fuzzer's data.
            seeds.insert(case["id"].as_str().context("id")?.to_owned(), template.as_bytes().to_vec());
        }
    }
    seeds.extend(texts(&[
        ("own-pem", "{{ pem .MarbleRun.RootCA.Cert }}{{ pem .Secrets.cert.Private }}"),
        ("own-range", "{{ range $name, $secret := .Secrets }}{{ $name }}={{ hex $secret }}\n{{ end }}"),
        ("own-index", "{{ (index .Secrets \"a-b\").Private | base64 }} {{ slice \"abc\" 1 2 }}"),
        ("own-fields", "{{ .Secrets.cert.Cert.Subject }} {{ .Secrets.key.Size }} {{ len .Secrets.key.Private }}"),
        (
            "own-doubling",
            "{{ $x := \"a\" }}{{ range \"0123456789012345678901234567\" }}{{ $x = print $x $x }}{{ end }}",
        ),
        ("own-recursion", "{{ define \"a\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}"),
    ]));
    Ok(seeds)
}

fn quotes(testdata: &Path) -> Result<Seeds> {
    let read = |name: &str| std::fs::read(testdata.join("attestation").join(name));
    let software = read("swtee/sgx.quote")?;
    Ok([
        ("software-tee-oe-header", with_oe_header(&software)),
        ("software-tee-cut", software.iter().copied().take(700).collect()),
        ("software-tee", software),
        ("dcap-qvl-sgx", read("sgx/dcap-qvl-sgx.quote")?),
        ("automata-sgx-v3", read("sgx/automata-sgx-v3.quote")?),
        ("openenclave-sgx-2022", read("sgx/openenclave-sgx-2022.quote")?),
        ("trustee-occlum-debug", read("sgx/trustee-occlum-debug.quote")?),
        ("software-tee-tdx", read("swtee/tdx.quote")?),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into())
}

fn collateral(testdata: &Path) -> Result<Seeds> {
    let read = |name: &str| std::fs::read(testdata.join("attestation").join(name));
    Ok([
        ("software-tee", read("swtee/sgx.collateral.json")?),
        ("software-tee-tdx", read("swtee/tdx.collateral.json")?),
        ("dcap-qvl-sgx", read("sgx/dcap-qvl-sgx.collateral.json")?),
        ("openenclave-sgx-2022", read("sgx/openenclave-sgx-2022.collateral.json")?),
        ("empty-object", b"{}".to_vec()),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into())
}

fn certificates(testdata: &Path) -> Result<Seeds> {
    let read = |name: &str| std::fs::read(testdata.join(name));
    let ann = pem::decode_certificates(&read("activation/ann.pem")?)?.remove(0);
    let key = KeyPair::generate()?;
    let names = AltNames::from_list("web.example.com,192.0.2.1");
    Ok([
        ("software-root", read("attestation/swtee/dcap-root.der")?),
        ("software-vcek", read("attestation/swtee/snp-vcek.der")?),
        ("intel-sgx-root", read("attestation/roots/intel-sgx-root-ca.der")?),
        ("amd-milan-ark", read("attestation/roots/amd-milan-ark.der")?),
        ("user", ann),
        ("marble-root", marble_root_certificate(&key, &names, now())?),
        ("premain", premain_certificate(&key, &names, now())?),
        ("empty", vec![0x30, 0]),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into())
}

fn requests() -> Result<Seeds> {
    let key = KeyPair::from_pkcs8(&SecretBytes::copy_from(REQUEST_KEY_PKCS8))?;
    let request = |names: &str| premain_request(&key, &AltNames::from_list(names));
    let mut tampered = request("web.example.com")?;
    let middle = tampered.len() / 2;
    tampered[middle] ^= 1;
    Ok([
        ("without-names", request("")?),
        ("name", request("web.example.com")?),
        ("names-and-addresses", request("web.example.com,*.example.org,192.0.2.1,2001:db8::1")?),
        ("tampered", tampered),
        ("no-request", vec![0x30, 0]),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into())
}

fn pem_texts(testdata: &Path) -> Result<Seeds> {
    let key = KeyPair::generate()?;
    let read = |name: &str| std::fs::read(testdata.join("activation").join(name));
    let (certificate, private) = (read("ann.pem")?, read("ann.key")?);
    Ok([
        ("chain", [certificate.clone(), read("ben.pem")?].concat()),
        ("key-and-certificate", [private, b"text between\n".to_vec(), certificate.clone()].concat()),
        ("certificate", certificate),
        ("public-key", pem::encode(pem::PUBLIC_KEY, key.public_key_der()).into_bytes()),
        ("empty-block", pem::encode("EMPTY", &[]).into_bytes()),
        ("no-end", b"-----BEGIN CERTIFICATE-----\nAAAA\n".to_vec()),
        (
            "headers",
            b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
                .to_vec(),
        ),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into())
}

fn trust_files(testdata: &Path) -> Result<Seeds> {
    let root = std::fs::read(testdata.join("attestation/swtee/dcap-root.der"))?;
    let der = STANDARD.encode(&root);
    let text = pem::encode(pem::CERTIFICATE, &root).replace('\n', "\\n");
    Ok(texts(&[
        ("hardware", r#"{"Class":"hardware"}"#),
        ("software-der", &format!(r#"{{"Class":"software","Roots":["{der}"]}}"#)),
        ("software-pem", &format!(r#"{{"Class":"software","Roots":["{text}","MAMCAQE="]}}"#)),
        ("software-without-roots", r#"{"Class":"software"}"#),
        ("unknown-class", r#"{"Class":"simulation"}"#),
    ]))
}

/// Programs and libraries with everything that is looked at.
fn elf_programs() -> Seeds {
    let program = ElfFile::program()
        .needs("libssl.so.3")
        .needs("libc.so.6")
        .run_path("$ORIGIN/../lib")
        .requires("libc.so.6", "GLIBC_2.34")
        .imports_versioned("__libc_start_main")
        .imports("fork");
    let library = ElfFile::library("libc.so.6").defines("GLIBC_2.2.5").defines("GLIBC_2.31");
    [
        ("program", program.clone().build()),
        ("library", library.build()),
        ("system-calls", program.code(&[0x90, 0x0f, 0x05, 0xb8, 0x0f, 0x05, 0, 0, 0xcd, 0x80]).build()),
        ("static-go", ElfFile::program().kind(2).interpreter(None).section(".go.buildinfo").build()),
        ("without-sections", elf(3, Some(b"/lib64/ld-linux-x86-64.so.2\0"))),
        ("another-machine", ElfFile::program().machine(183).build()),
        ("text", b"exit 0\n".to_vec()),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into()
}

fn occlum_check(samples: &Path) -> Result<Seeds> {
    let mut seeds = occlum(samples)?;
    seeds.extend(texts(&[
        ("no-object", "[]"),
        ("duplicates", r#"{"mount": [], "mount": [{"target": "/", "type": "unionfs", "options": {"layers": [{}]}}]}"#),
        ("wrong-types", r#"{"env": {"default": [1, {}], "untrusted": "A"}, "metadata": {"product_id": -1}}"#),
        ("misspelt", r#"{"resource_limit": {"user_space_size": "1 mb"}, "feature": {"amx": 9}}"#),
    ]));
    Ok(seeds)
}

fn occlum(samples: &Path) -> Result<Seeds> {
    Ok([
        ("coordinator", std::fs::read(samples.join("occlum-coordinator/Occlum.json"))?),
        ("hello", std::fs::read(samples.join("occlum-hello/Occlum.json"))?),
        ("empty-object", b"{}".to_vec()),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into())
}

fn sealed_logs() -> Result<Seeds> {
    let mut seeds = Seeds::new();
    for (name, policy) in [("product", SealPolicy::ProductKey), ("unique", SealPolicy::UniqueKey)] {
        for records in [1, 3, sealed::PAYLOADS.len()] {
            seeds.insert(format!("{name}-{records}"), sealed::seal(records, false, policy)?);
        }
        seeds.insert(format!("{name}-restarts"), sealed::seal(sealed::PAYLOADS.len(), true, policy)?);
    }
    let mut torn = sealed::seal(3, false, SealPolicy::ProductKey)?;
    torn.extend_from_slice(&[0; 33]);
    seeds.insert("torn-tail".to_owned(), torn.clone());
    torn.truncate(torn.len() - 100);
    seeds.insert("cut-record".to_owned(), torn);
    Ok(seeds)
}

fn wrapped_keys() -> Result<Seeds> {
    let product = sealed::wrap(SealPolicy::ProductKey)?;
    let mut tampered = product.clone();
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    let recovery = sealed::wrap_for_recovery;
    let threshold = RecoveryScheme::Threshold { threshold: 2 };
    Ok([
        ("product", product),
        ("unique", sealed::wrap(SealPolicy::UniqueKey)?),
        ("tampered", tampered),
        ("recovery-single", recovery(RecoveryScheme::Single, 1)?),
        ("recovery-all", recovery(RecoveryScheme::AllOf, 2)?),
        ("recovery-threshold", recovery(threshold, 3)?),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into())
}

fn records() -> Seeds {
    let secret = || Secret {
        secret_type: SecretType::CertEd25519,
        size: 0,
        shared: true,
        user_defined: false,
        valid_for: 365,
        certificate: Some(vec![0x30, 0]),
        private: Some(SecretBytes::new(vec![1; 16])),
        public: None,
    };
    let bytes = |byte: u8, length: usize| SecretBytes::new(vec![byte; length]);
    let authority = || Authority {
        intermediate_key: bytes(4, 48),
        intermediate_certificate: vec![0x30, 0],
        marble_root_certificate: vec![0x30, 0],
    };
    let line = || r#"{"time":"2026-02-01T09:30:00.125Z","update":"x"}"#.to_owned();
    let updated = |name: &str, value: Option<Secret>, previous| UpdatedSecret {
        name: name.to_owned(),
        value: value.map(Arc::new),
        previous,
    };
    [
        (
            "genesis",
            Record::Genesis(Genesis {
                root_key: bytes(1, 48),
                root_certificate: vec![0x30, 0],
                intermediate_key: bytes(2, 48),
                intermediate_certificate: vec![0x30, 0],
                marble_root_certificate: vec![0x30, 0],
                root_secret: bytes(3, 32),
            }),
        ),
        (
            "manifest-set",
            Record::ManifestSet(ManifestSet {
                raw: b"{}".to_vec(),
                signature: vec![1, 2, 3],
                secrets: vec![("key".to_owned(), secret())],
                log_line: r#"{"update":"initial manifest set"}"#.to_owned(),
            }),
        ),
        ("activation-counted", Record::ActivationCounted { marble_type: "web".to_owned() }),
        (
            "collateral-accepted",
            Record::CollateralAccepted(CollateralAccepted {
                tee: Tee::Sgx,
                fmspc: Fmspc([0, 1, 2, 3, 4, 5]),
                numbers: EvaluationNumbers { tcb_info: 17, qe_identity: 18 },
                newest_issue: now(),
            }),
        ),
        (
            "secrets-set",
            Record::SecretsSet(SecretsSet {
                secrets: vec![("key".to_owned(), Arc::new(secret()))],
                log_lines: vec![line()],
            }),
        ),
        (
            "counter-raised",
            Record::CounterRaised(CounterRaised {
                marble: MarbleName {
                    marble_type: "web".to_owned(),
                    uuid: "11111111-2222-3333-4444-555555555555".to_owned(),
                },
                name: "n".to_owned(),
                value: u64::MAX,
            }),
        ),
        (
            "packages-updated",
            Record::PackagesUpdated(PackagesUpdated {
                versions: vec![("web".to_owned(), 2)],
                authority: authority(),
                secrets: vec![("key".to_owned(), Arc::new(secret()))],
                log_lines: vec![line()],
            }),
        ),
        (
            "update-initiated",
            Record::UpdateInitiated(UpdateInitiated { raw: b"{}".to_vec(), user: "ann".to_owned(), log_line: line() }),
        ),
        (
            "update-acknowledged",
            Record::UpdateAcknowledged(UpdateAcknowledged { user: "ben".to_owned(), log_line: line() }),
        ),
        ("update-cancelled", Record::UpdateCancelled(UpdateCancelled { log_lines: vec![line(), line()] })),
        (
            "manifest-updated",
            Record::ManifestUpdated(ManifestUpdated {
                raw: b"{}".to_vec(),
                signature: vec![1, 2, 3],
                authority: authority(),
                root_secret: Some(bytes(5, 32)),
                secrets: vec![
                    updated("kept", None, PreviousValue::Kept),
                    updated("new", Some(secret()), PreviousValue::New),
                    updated("rotated", Some(secret()), PreviousValue::OldCurrent),
                ],
                log_lines: vec![line()],
            }),
        ),
    ]
    .map(|(name, record)| (name.to_owned(), record.encode().expose().to_vec()))
    .into_iter()
    .chain([("unknown-kind".to_owned(), b"\xfa\x01\x00".to_vec())])
    .collect()
}

fn activation() -> Seeds {
    let request = ActivationReq {
        quote: vec![3, 0],
        csr: vec![0x30, 0],
        marble_type: "web".to_owned(),
        uuid: "3f0c5a1e-9d2b-4c6f-8a7e-0123456789ab".to_owned(),
    };
    let parameters = Parameters {
        files: [("/etc/app/a".to_owned(), b"content".to_vec())].into(),
        env: [("APP_KEY".to_owned(), b"0123456789abcdef".to_vec()), ("A=B".to_owned(), Vec::new())].into(),
        argv: vec!["/bin/app".to_owned(), "--flag".to_owned()],
    };
    let mut applicable = parameters.clone();
    applicable.env.remove("A=B");
    let response = |parameters| ActivationResp { parameters }.encode_to_vec();
    [
        ("request", request.encode_to_vec()),
        ("response", response(Some(applicable))),
        ("response-with-wrong-name", response(Some(parameters))),
        ("response-without-parameters", response(None)),
        ("response-with-wrong-length", b"\x0a\x7f\x0a".to_vec()),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into()
}

fn answers() -> Seeds {
    let status = rest::StatusAnswer {
        code: rest::CoordinatorState::AcceptingMarbles.code(),
        message: rest::CoordinatorState::AcceptingMarbles.message().to_owned(),
        trust_class: Some("software".to_owned()),
    };
    let manifest = rest::ManifestAnswer {
        signature: Some(vec![1, 2, 3]),
        fingerprint: "00".repeat(32),
        manifest: Some(br#"{"Packages":{}}"#.to_vec()),
    };
    let quote = rest::QuoteAnswer {
        cert: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        quote: Some(vec![3, 0, 2, 0]),
        statement: Some(r#"{"format":1}"#.to_owned()),
        ..Default::default()
    };
    let update = rest::UpdateLogAnswer { update_log: vec![r#"{"time":"now"}"#.to_owned()] };
    let set = rest::SetManifestAnswer { recovery_secrets: [("ann".to_owned(), vec![1, 2])].into() };
    texts(&[
        ("status-v1", &status.to_v1()),
        ("status-v2", &status.to_v2()),
        ("manifest-v1", &manifest.to_v1()),
        ("manifest-v2", &manifest.to_v2()),
        ("quote-v1", &quote.to_v1()),
        ("quote-v2", &quote.to_v2()),
        ("update-log-v1", &update.to_v1()),
        ("update-log-v2", &update.to_v2()),
        ("set-manifest", &set.to_v2()),
        ("recover", &rest::RecoverAnswer::new(1).to_v2()),
        ("pending-update", &rest::PendingUpdateAnswer::new(b"{}".to_vec(), 1, Some(vec!["ann".to_owned()])).to_body()),
        ("without-data", &rest::success_without_data()),
        ("fail", &rest::fail("not allowed")),
        ("error", &rest::error("no \"manifest\" is set")),
        ("html", "<html>404</html>"),
    ])
}

/// 2026-01-01.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600))
}

/// Made by hand: an ELF header, program headers and an interpreter's path are all that is looked at.
fn programs() -> Seeds {
    let dynamic = elf(3, Some(b"/lib64/ld-linux-x86-64.so.2\0"));
    [
        ("fixed-address", elf(2, Some(b"/lib64/ld-linux-x86-64.so.2\0"))),
        ("without-interpreter", elf(3, None)),
        ("cut", dynamic[..100].to_vec()),
        ("dynamic", dynamic),
        ("script", b"#! /bin/sh\nexit 0\n".to_vec()),
        ("script-with-argument", b"#!/usr/bin/env python3\n".to_vec()),
        ("text", b"exit 0\n".to_vec()),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into()
}

/// A 64-bit little-endian ELF file for x86-64 without code.
fn elf(kind: u16, interpreter: Option<&[u8]>) -> Vec<u8> {
    const EHDR: u16 = 64;
    const PHDR: u16 = 56;
    let segments = [(1_u32, 0_u64, 0_u64)].into_iter();
    let path = interpreter.unwrap_or_default();
    let segments: Vec<_> =
        segments.chain(interpreter.map(|path| (3, u64::from(EHDR + 2 * PHDR), path.len() as u64))).collect();
    let count = u16::try_from(segments.len()).unwrap_or_default();
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [kind, 62] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [0, u64::from(EHDR), 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [EHDR, PHDR, count, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for (segment, offset, length) in segments {
        file.extend(segment.to_le_bytes());
        file.extend(4_u32.to_le_bytes());
        for word in [offset, 0, 0, length, length, 1] {
            file.extend(word.to_le_bytes());
        }
    }
    file.resize(usize::from(EHDR + 2 * PHDR), 0);
    file.extend(path);
    file
}
