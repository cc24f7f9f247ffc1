//! Each reason for which a manifest is not set, and what a set one stores.

use std::error::Error;

use marblerun_coordinator_core::deployment::DeploymentError;
use marblerun_coordinator_core::generate::GenerateReason;
use marblerun_coordinator_core::set_manifest::{self, SetManifestError};
use marblerun_manifest::SealMode;
use marblerun_pki::Certificate;
use marblerun_pki::signature::verify_p384_sha256;

use crate::fixture::{NOW, PACKAGES, new_ledger, prepare};

/// A manifest with one Marble `m` of these parameters.
fn with(parameters: &str, rest: &str) -> String {
    format!(r#"{{{PACKAGES},"Marbles":{{"m":{{"Package":"p","Parameters":{{{parameters}}}}}}}{rest}}}"#)
}

fn with_secret(definition: &str) -> String {
    with("", &format!(r#","Secrets":{{"s":{definition}}}"#))
}

#[track_caller]
fn check(manifest: &str, is_cause: impl Fn(&SetManifestError) -> bool, text: &str) {
    let error = prepare(manifest).unwrap_err();
    assert!(is_cause(&error), "{error:?}");
    let mut chain = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        chain = format!("{chain}: {error}");
        cause = error.source();
    }
    assert!(chain.contains(text), "{chain}");
}

#[test]
fn a_manifest_that_is_no_json_object_is_refused() {
    let decode = |error: &SetManifestError| matches!(error, SetManifestError::Decode(_));
    check("", decode, "");
    check("[]", decode, "");
    check(&with("", "")[1..], decode, "");
    check(&with("", r#","Secrets":{"s":{"Size":"big"}}"#), decode, "Size");
    check(&with("", &format!(r#","x":"{}""#, "y".repeat(16 << 20))), decode, "16777216");
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    let inconsistent = |error: &SetManifestError| matches!(error, SetManifestError::Check(_));
    check("{}", inconsistent, "Packages");
    check(&format!(r#"{{{PACKAGES}}}"#), inconsistent, "Marbles");
    check(&with("", "").replace(r#""Package":"p""#, r#""Package":"q""#), inconsistent, "Marbles.m.Package");
    check(&with("", r#","Config":{"SealMode":"Never"}"#), inconsistent, "SealMode");
    check(&with("", r#","Config":{"RecoveryThreshold":1}"#), inconsistent, "RecoveryThreshold");
    check(&with("", r#","RecoveryKeys":{"a":"no pem"}"#), inconsistent, "RecoveryKeys");
    check(&with(r#""Env":{"E":{"Data":"AA==","Encoding":"base64"}}"#, ""), inconsistent, "NUL");
    check(&with("", r#","Config":{"FeatureGates":["AzureHSMSealing"]}"#), inconsistent, "AzureHSMSealing");
}

#[test]
fn a_secret_that_cannot_be_generated_is_refused() {
    let refused = |error: &SetManifestError| matches!(error, SetManifestError::Check(_));
    for definition in [
        r#"{"Type":"plain"}"#,
        r#"{"Type":"nonsense"}"#,
        r#"{"Type":"symmetric-key"}"#,
        r#"{"Type":"symmetric-key","Size":12}"#,
        r#"{"Type":"symmetric-key","Size":0,"Shared":true}"#,
        r#"{"Type":"symmetric-key","Size":65288}"#,
        r#"{"Type":"cert-rsa","Size":512}"#,
        r#"{"Type":"cert-rsa","Size":1024}"#,
        r#"{"Type":"cert-rsa"}"#,
        r#"{"Type":"cert-ecdsa","Size":224}"#,
        r#"{"Type":"cert-ecdsa","Size":512}"#,
        r#"{"Type":"cert-ed25519","Size":256}"#,
        r#"{"Type":"cert-ecdsa","Size":256,"ValidFor":7,"Cert":{"NotAfter":"2030-01-01T00:00:00Z"}}"#,
        r#"{"Type":"cert-ecdsa","Size":256,"Cert":{"ExtraExtensions":[{"Id":[1,3,9903,2,1],"Value":"bQ=="}]}}"#,
    ] {
        check(&with_secret(definition), refused, "Secrets.s");
        if definition.contains("plain") || definition.contains("Size") && !definition.contains("Cert\"") {
            // Nobody has to generate what users upload.
            prepare(&with_secret(&definition.replace('}', r#","UserDefined":true}"#))).unwrap();
        }
    }
    prepare(&with_secret(r#"{"Type":"symmetric-key","Size":65280}"#)).unwrap();
    prepare(&with_secret(r#"{"Type":"symmetric-key","Size":65288,"Shared":true}"#)).unwrap();
}

#[test]
fn a_template_of_a_certificate_that_nothing_can_issue_is_refused() {
    let generate = |error: &SetManifestError| matches!(error, SetManifestError::Generate(_));
    let cert = |template: &str| with_secret(&format!(r#"{{"Type":"cert-ecdsa","Size":256,"Cert":{template}}}"#));
    check(&cert(r#"{"NotAfter":"1960-01-01T00:00:00Z"}"#), generate, "NotAfter");
    check(&cert(r#"{"Subject":{"ExtraNames":[{"Type":[2,5,4,5],"Value":7}]}}"#), generate, "ExtraNames[0].Value");
}

#[test]
fn secrets_that_are_too_large_together_are_refused_before_all_are_generated() {
    // Eight times two copies of a MiB; the text of this manifest is less than one KiB.
    let secrets: Vec<String> =
        (0..8).map(|n| format!(r#""s{n}":{{"Type":"symmetric-key","Size":8388608,"Shared":true}}"#)).collect();
    let manifest = |count: usize| with("", &format!(r#","Secrets":{{{}}}"#, secrets[..count].join(",")));
    prepare(&manifest(7)).unwrap();
    let error = prepare(&manifest(8)).unwrap_err();
    let SetManifestError::Generate(error) = error else { panic!("{error:?}") };
    assert_eq!(error.name, "s7");
    assert!(matches!(error.reason, GenerateReason::TotalSize), "{error:?}");
}

// rules: SET-2, R28
#[test]
fn recovery_keys_that_cannot_share_are_refused() {
    let key = include_str!("recovery_key.pem").replace('\n', "\\n");
    let keys = |count: usize, threshold: usize| {
        let keys: Vec<String> = (0..count).map(|n| format!(r#""k{n}":"{key}""#)).collect();
        let config = format!(r#"{{"RecoveryThreshold":{threshold}}}"#);
        with("", &format!(r#","RecoveryKeys":{{{}}},"Config":{config}"#, keys.join(",")))
    };
    assert_eq!(prepare(&keys(3, 2)).unwrap().recovery.unwrap().encrypted.len(), 3);
    assert_eq!(prepare(&keys(2, 0)).unwrap().recovery.unwrap().encrypted.len(), 2);
    assert!(prepare(&with("", "")).unwrap().recovery.is_none());
    check(&keys(256, 2), |error| matches!(error, SetManifestError::Recovery(_)), "RecoveryKeys");
}

#[test]
fn a_template_that_does_not_compile_is_refused_with_its_place() {
    let template = |error: &SetManifestError| matches!(error, SetManifestError::Deployment(DeploymentError::Template { marble_type, .. }) if marble_type == "m");
    check(&with(r#""Files":{"/f":"{{ hex"}"#, ""), template, "Files./f");
    check(&with(r#""Files":{"/f":"{{ string .Secrets.x }}"}"#, ""), template, "string");
    check(&with(r#""Env":{"E":"{{ raw .Secrets.x }}"}"#, ""), template, "Env.E");
}

// rules: SET-2, ACT-6.6
#[test]
fn a_template_that_fails_with_substitutes_is_refused_with_its_place() {
    let dry_run = |error: &SetManifestError| matches!(error, SetManifestError::DryRun(_));
    check(&with(r#""Files":{"/f":"{{ hex .Secrets.missing }}"}"#, ""), dry_run, "Marbles.m.Parameters: Files./f");
    check(&with(r#""Env":{"E":"{{ .Nope }}"}"#, ""), dry_run, "Env.E");
    prepare(&with(
        r#""Files":{"/f":"{{ hex .Secrets.u }}"}"#,
        r#","Secrets":{"u":{"Type":"symmetric-key","Size":128,"UserDefined":true}}"#,
    ))
    .unwrap();
}

#[test]
fn templates_that_are_too_large_together_are_refused() {
    // Each Marble is within its own limit of 100000 parts.
    let file = "{{1}}x".repeat(15_000);
    let manifest = |marbles: usize| {
        let marbles: Vec<String> = (0..marbles)
            .map(|n| format!(r#""m{n:02}":{{"Package":"p","Parameters":{{"Files":{{"/f":"{file}"}}}}}}"#))
            .collect();
        format!(r#"{{{PACKAGES},"Marbles":{{{}}}}}"#, marbles.join(","))
    };
    prepare(&manifest(2)).unwrap();
    let nodes = |error: &SetManifestError| matches!(error, SetManifestError::Deployment(DeploymentError::Nodes { marble_type }) if marble_type != "m00");
    check(&manifest(20), nodes, "400000 parts");
}

// rules: SIG-1
#[test]
fn the_signature_is_that_of_the_root_key_over_the_bytes_as_they_came() {
    let snapshot = new_ledger().snapshot();
    let raw = with("", "") + " \n";
    let prepared = set_manifest::prepare(&snapshot.identity, raw.as_bytes(), NOW).unwrap();
    assert_eq!(prepared.record.raw, raw.as_bytes());
    let root = Certificate::parse(&snapshot.identity.root_certificate).unwrap();
    verify_p384_sha256(root.public_key_der(), raw.as_bytes(), &prepared.record.signature).unwrap();
    assert!(verify_p384_sha256(root.public_key_der(), raw.trim().as_bytes(), &prepared.record.signature).is_err());
}

#[test]
fn the_seal_mode_is_that_of_the_manifest() {
    let mode = |config: &str| prepare(&with("", config)).unwrap().seal_mode;
    assert_eq!(mode(""), SealMode::ProductKey);
    assert_eq!(mode(r#","Config":{"SealMode":"UniqueKey"}"#), SealMode::UniqueKey);
    assert_eq!(mode(r#","Config":{"SealMode":"Disabled"}"#), SealMode::Disabled);
}

// rules: ACT-5.5
#[test]
fn the_previous_secrets_begin_as_the_current_ones() {
    let manifest = with("", r#","Secrets":{"k":{"Type":"symmetric-key","Size":128,"Shared":true}}"#);
    let snapshot = crate::fixture::ledger(&manifest).snapshot();
    let deployment = snapshot.deployment().unwrap();
    assert!(std::sync::Arc::ptr_eq(
        deployment.secrets.get("k").unwrap(),
        deployment.previous_secrets.get("k").unwrap()
    ));
}

#[test]
fn what_is_probably_a_mistake_is_a_warning() {
    let prepared = prepare(&with("", r#","Pakages":{}"#)).unwrap();
    assert!(prepared.warnings.iter().any(|warning| warning.to_string().contains("Pakages")), "{:?}", prepared.warnings);
}
