//! Certificates and CRLs as OpenSSL sees them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use marblerun_software_tee::root::{PCK_CHAIN_FILE, ROOT_PEM_FILE, TCB_SIGNING_CHAIN_FILE};
use marblerun_software_tee::{CollateralOptions, Revoked};

use crate::support::{CREATED, fixture};

/// Runs `openssl` and returns what it prints; its failure fails the test.
#[track_caller]
fn openssl(arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs the openssl program");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "openssl {arguments:?}: {stdout}{stderr}");
    stdout.into_owned()
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

#[test]
fn openssl_verifies_both_chains_strictly() {
    let fixture = fixture();
    let dir = fixture.directory.path().join("root");
    let now = CREATED.to_string();
    for chain in [PCK_CHAIN_FILE, TCB_SIGNING_CHAIN_FILE] {
        let (root, chain) = (path(&dir, ROOT_PEM_FILE), path(&dir, chain));
        openssl(&["verify", "-x509_strict", "-attime", &now, "-CAfile", &root, "-untrusted", &chain, &chain], b"");
    }
}

#[test]
fn every_certificate_says_that_it_is_not_hardware() {
    let fixture = fixture();
    let chains = fixture.root.pck_chain().to_owned() + &tcb_signing_chain(&fixture.collateral(&Default::default()));
    let certificates: Vec<_> = chains.split_inclusive("-----END CERTIFICATE-----\n").collect();
    assert_eq!(certificates.len(), 5);
    for certificate in certificates {
        let text = openssl(&["x509", "-noout", "-subject", "-issuer"], certificate.as_bytes());
        for line in text.lines() {
            assert!(line.contains("Software TEE") && line.contains("NOT HARDWARE"), "{line}");
        }
    }
}

fn tcb_signing_chain(collateral: &str) -> String {
    let collateral: serde_json::Value = serde_json::from_str(collateral).unwrap();
    collateral["tcb_info_issuer_chain"].as_str().unwrap().to_owned()
}

#[test]
fn root_and_leaf_have_the_fields_of_their_roles() {
    let fixture = fixture();
    let root = openssl(&["x509", "-noout", "-text"], fixture.root.root_pem().as_bytes());
    for field in [
        "Version: 3 (0x2)",
        "Signature Algorithm: ecdsa-with-SHA256",
        "ASN1 OID: prime256v1",
        "Not Before: Nov 23 00:00:00 2026 GMT",
        "Not After : Dec 23 00:00:00 2026 GMT",
        "CA:TRUE, pathlen:1",
        "Certificate Sign, CRL Sign",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(root.contains(field), "{field} is missing in\n{root}");
    }
    // OpenSSL reads the first certificate, which is the leaf.
    let leaf = openssl(&["x509", "-noout", "-text"], fixture.root.pck_chain().as_bytes());
    for field in
        ["CA:FALSE", "Digital Signature, Non Repudiation", "1.2.840.113741.1.13.1", "Software TEE PCK Platform CA"]
    {
        assert!(leaf.contains(field), "{field} is missing in\n{leaf}");
    }
    assert!(!leaf.contains("Extended Key Usage"), "{leaf}");
}

#[test]
fn openssl_reads_both_crls_and_their_entries() {
    let fixture = fixture();
    let none = fixture.collateral(&CollateralOptions::default());
    let revoked = fixture.collateral(&CollateralOptions {
        revoked: vec![Revoked::Pck, Revoked::PckCa, Revoked::TcbSigning],
        ..CollateralOptions::default()
    });
    for (collateral, root_entries, pck_entries) in [(none, 0, 0), (revoked, 2, 1)] {
        let collateral: serde_json::Value = serde_json::from_str(&collateral).unwrap();
        for (member, entries) in [("root_ca_crl", root_entries), ("pck_crl", pck_entries)] {
            let der = hex::decode(collateral[member].as_str().unwrap()).unwrap();
            let text = openssl(&["crl", "-inform", "DER", "-noout", "-text"], &der);
            for field in [
                "Version 2 (0x1)",
                "NOT HARDWARE",
                "Last Update: Nov 23 00:00:00 2026 GMT",
                "Next Update: Dec 23 00:00:00 2026 GMT",
                "X509v3 CRL Number",
                "X509v3 Authority Key Identifier",
            ] {
                assert!(text.contains(field), "{field} is missing in\n{text}");
            }
            assert_eq!(text.matches("Serial Number:").count(), entries, "{member}\n{text}");
        }
    }
}
