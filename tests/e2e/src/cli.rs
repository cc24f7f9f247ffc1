//! The command line against a real Coordinator.

use serde_json::{Value, json};

use crate::deployment::{Deployment, sample_manifest};
use crate::programs::{program, run};
use crate::tls_proxy;

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("expected one JSON document ({error}), got {text}"))
}

#[test]
fn a_manifest_is_checked_set_read_back_and_verified() {
    let deployment = Deployment::empty();
    let site = &deployment.site;
    let client = deployment.coordinator.client.as_str();
    let text = sample_manifest(&"ab".repeat(32)).to_string();
    site.write("manifest.json", &text);
    deployment.cli(&["manifest", "check", "manifest.json"]).success().says(&["0 errors, 0 warnings"]);
    let signature = deployment.cli(&["manifest", "signature", "manifest.json"]).success().stdout;
    assert_eq!(signature.trim(), site.openssl(&["dgst", "-sha256", "-r", "manifest.json"]).split(' ').next().unwrap());

    deployment.cli(&["status", client]).success().says(&["2: "]);
    deployment
        .cli(&["manifest", "verify", "manifest.json", client])
        .refused(&["expected a Coordinator with a manifest, got one without"]);
    deployment.set_manifest().success().says(&[signature.trim(), "Manifest successfully set"]);
    deployment.cli(&["status", client]).success().says(&["3: "]);

    deployment.cli(&["manifest", "get", client, "--output", "got.json"]).success();
    assert_eq!(site.read("got.json"), text.as_bytes(), "expected the bytes that were set");
    deployment.cli(&["manifest", "verify", "manifest.json", client]).success().says(&["OK"]);
    deployment.cli(&["manifest", "verify", signature.trim(), client]).success().says(&["OK"]);
    let other = "cd".repeat(32);
    deployment.cli(&["manifest", "verify", &other, client]).refused(&[&other, signature.trim()]);
}

#[test]
fn json_output_is_one_document_with_what_was_verified() {
    let deployment = Deployment::empty();
    let site = &deployment.site;
    let client = deployment.coordinator.client.as_str();
    let json_of =
        |arguments: &[&str]| parsed(&deployment.cli(&[arguments, &["--output", "json"]].concat()).success().stdout);

    let status = json_of(&["status", client]);
    assert_eq!(status["code"], 2);
    assert_eq!(status["coordinator"]["trust"], "software");
    assert_eq!(status["coordinator"]["uniqueID"], site.measurement("coordinator"));
    assert_eq!(status["coordinator"]["debug"], false);
    assert_eq!(status["coordinator"]["statement"]["manifestFingerprint"], Value::Null);

    site.write("manifest.json", sample_manifest(&"ab".repeat(32)).to_string());
    let signature = json_of(&["manifest", "signature", "manifest.json"])["manifestSignature"].clone();
    assert_eq!(json_of(&["manifest", "set", "manifest.json", client])["manifestSignature"], signature);
    let verified = json_of(&["manifest", "verify", "manifest.json", client]);
    assert_eq!((&verified["verified"], &verified["manifestSignature"]), (&json!(true), &signature));
    assert_eq!(verified["coordinator"]["statement"]["manifestFingerprint"], signature);
    assert_eq!(json_of(&["manifest", "get", client])["manifestSignature"], signature);
    assert_eq!(json_of(&["manifest", "check", "manifest.json"])["findings"], json!([]));
    for which in ["root", "intermediate", "chain"] {
        let answer = json_of(&["certificate", which, client]);
        assert!(answer.to_string().contains("BEGIN CERTIFICATE"), "{which}: {answer}");
    }
}

// rules: ATT-7
#[test]
fn the_certificates_form_a_chain() {
    let deployment = Deployment::empty();
    let site = &deployment.site;
    let client = deployment.coordinator.client.as_str();
    for which in ["root", "intermediate", "chain"] {
        deployment.cli(&["certificate", which, client, "--output", &format!("{which}.pem")]).success();
    }
    let [root, intermediate, chain] =
        ["root", "intermediate", "chain"].map(|name| String::from_utf8(site.read(&format!("{name}.pem"))).unwrap());
    assert_eq!(chain.trim(), format!("{}\n{}", intermediate.trim(), root.trim()));
    let verified = site.openssl(&["verify", "-CAfile", "root.pem", "intermediate.pem"]);
    assert_eq!(verified, "intermediate.pem: OK\n");
}

#[test]
fn another_coordinator_than_expected_is_refused_with_field_and_values() {
    let deployment = Deployment::empty();
    let site = &deployment.site;
    let client = deployment.coordinator.client.as_str();
    let measured = site.measure("coordinator");
    let signer = measured["mrsigner"].as_str().unwrap();
    let good = json!({"SignerID": signer, "ProductID": 2, "SecurityVersion": 1});
    let with = |field: &str, value: Value| {
        let mut era = good.clone();
        era[field] = value;
        site.write("era.json", era.to_string());
        deployment.cli(&["status", client])
    };
    let zeros = "00".repeat(32);
    with("SignerID", zeros.as_str().into()).refused(&["expected SignerID", &zeros, &format!("got {signer}")]);
    with("ProductID", 9.into()).refused(&["expected ProductID 9, got 2"]);
    with("SecurityVersion", 9.into()).refused(&["expected SecurityVersion of at least 9, got 1"]);
    with("UniqueID", zeros.as_str().into()).refused(&[
        "expected UniqueID",
        &zeros,
        &format!("got {}", measured["mrenclave"].as_str().unwrap()),
    ]);
    with("ProductID", 2.into()).success();
}

#[test]
fn software_evidence_needs_the_software_root_and_leaves_no_cache_without_it() {
    let deployment = Deployment::empty();
    let site = &deployment.site;
    let client = deployment.coordinator.client.as_str();
    let mut command = site.command(
        program("marblerun"),
        &["manifest", "get", client, "--era-config", "era.json", "--coordinator-cert", "cache.pem", "--keep-cert"],
    );
    run(&mut command).refused(&["software TEE, only hardware roots are trusted", "--trust-software-root"]);
    site.make_root("other-root");
    run(command.args(["--trust-software-root", "other-root/root.pem"])).refused(&["does not chain to a trusted"]);
    assert!(!site.path("cache.pem").exists(), "a Coordinator that was refused must not be remembered");
}

// rules: ATT-10
#[test]
fn insecure_warns_and_does_not_fill_the_usual_cache() {
    let deployment = Deployment::empty();
    let site = &deployment.site;
    let client = deployment.coordinator.client.as_str();
    let status = run(&mut site.command(program("marblerun"), &["certificate", "root", client, "--insecure"]));
    status.success().says(&["Warning: skipping quote verification", "anybody may answer"]);
    assert!(site.files_below(".config").is_empty(), "an unverified certificate was kept");
}

// rules: ATT-8.2, SIG-2, ATT-2, ATT-8
#[test]
fn a_nonce_is_covered_by_the_quote() {
    let deployment = Deployment::empty();
    let site = &deployment.site;
    let client = deployment.coordinator.client.as_str();
    for (nonce, file) in [("one", "one.quote"), ("two", "two.quote")] {
        deployment.cli(&["status", client, "--nonce", nonce, "--save-sgx-quote", file]).success();
    }
    // The quote begins after 16 bytes of Open Enclave; its report data begin at 368 with SHA-256 of certificate and nonce.
    deployment.cli(&["certificate", "root", client, "--output", "root.pem"]).success();
    site.openssl(&["x509", "-in", "root.pem", "-outform", "DER", "-out", "root.der"]);
    for (nonce, file) in [("one", "one.quote"), ("two", "two.quote")] {
        site.write("covered", [site.read("root.der"), nonce.into()].concat());
        site.openssl(&["dgst", "-sha256", "-binary", "-out", "digest", "covered"]);
        assert_eq!(site.read(file)[16 + 368..16 + 400], site.read("digest"), "nonce {nonce}");
    }
}

// rules: R6
#[test]
fn a_changed_statement_is_noticed() {
    let deployment = Deployment::empty();
    let proxy = tls_proxy::start(&deployment.site, &deployment.coordinator.client, |answer| {
        assert!(answer.contains(r#"\"anchor\":\"none\""#), "expected a statement, got {answer}");
        answer.replace(r#"\"anchor\":\"none\""#, r#"\"anchor\":\"tpm2\""#)
    });
    deployment.cli(&["status", &proxy]).refused(&["statement is not the one that its quote covers"]);
}

#[test]
fn a_proxy_that_changes_nothing_is_still_not_the_coordinator() {
    let deployment = Deployment::empty();
    let proxy = tls_proxy::start(&deployment.site, &deployment.coordinator.client, |answer| answer);
    deployment.cli(&["status", &proxy]).refused(&["certificate is not the root certificate", "proxy"]);
    // The cached root is of no use to the proxy either.
    deployment.site.write("manifest.json", sample_manifest(&"ab".repeat(32)).to_string());
    deployment.cli(&["manifest", "set", "manifest.json", &proxy]).refused(&["certificate is not the root certificate"]);
    deployment.cli(&["status", &deployment.coordinator.client]).success().says(&["2: "]);
}
