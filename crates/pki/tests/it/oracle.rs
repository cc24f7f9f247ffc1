//! Certificates that MarbleRun v1.9.1 made from the templates of one manifest.

use std::fmt;
use std::path::PathBuf;

use marblerun_pki::name::ExtraName;
use marblerun_pki::template::ExtraExtension;
use marblerun_pki::{Certificate, CertificateTemplate, KeyKind, SecretValidity, Subject, issue_secret_certificate};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::openssl::Files;
use crate::{Deployment, now};

#[derive(Deserialize)]
struct Case {
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    files: std::collections::BTreeMap<String, File>,
}

#[derive(Deserialize)]
struct File {
    pem: Vec<Block>,
}

#[derive(Deserialize)]
struct Block {
    label: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    validity_days: f64,
    #[serde(default)]
    extensions_in_order: InOrder,
}

/// An object whose order counts: `oid` or `oid!` (critical) to DER in hexadecimal or `random`.
#[derive(Default)]
struct InOrder(Vec<(String, String)>);

impl<'de> Deserialize<'de> for InOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = InOrder;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(InOrder(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

fn testdata() -> PathBuf {
    std::env::var_os("MARBLERUN_TESTDATA")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata").into(), PathBuf::from)
}

fn template_full() -> CertificateTemplate {
    CertificateTemplate {
        subject: Subject {
            organization: vec!["O1".into(), "O2".into()],
            country: vec!["DE".into()],
            extra_names: vec![ExtraName { oid: vec![2, 5, 4, 5], value: "sn".into() }],
            ..Subject::from_common_name("f.example")
        },
        dns_names: Some(vec!["f.example".into(), "*.f.example".into()]),
        ip_addresses: Some(vec!["192.0.2.8".parse().unwrap(), "2001:db8::1".parse().unwrap()]),
        email_addresses: vec!["a@b.example".into()],
        uris: vec!["spiffe://td/wl".into()],
        key_usage: 1,
        ext_key_usage: Some(vec![1]),
        extra_extensions: vec![ExtraExtension { id: vec![1, 2, 3, 4], critical: false, value: vec![5, 0] }],
        ..CertificateTemplate::default()
    }
}

fn template_ca() -> CertificateTemplate {
    CertificateTemplate {
        is_ca: true,
        max_path_len: 1,
        permitted_dns_domains: vec!["x.example".into()],
        dns_names: Some(Vec::new()),
        ip_addresses: Some(Vec::new()),
        ext_key_usage: Some(Vec::new()),
        ..CertificateTemplate::default()
    }
}

#[track_caller]
fn check(name: &str, template: &CertificateTemplate, valid_for_days: u64, expected: &Block) {
    let deployment = Deployment::new();
    let validity = SecretValidity { valid_for_days, shared: true };
    let key = deployment.key.public_key_der();
    let der = issue_secret_certificate(&deployment.marble_issuer(), template, validity, key, now()).unwrap();
    let certificate = Certificate::parse(&der).unwrap();

    let extensions = certificate.extensions().unwrap();
    let got: Vec<(String, String)> = extensions
        .iter()
        .zip(&expected.extensions_in_order.0)
        .map(|(extension, (_, expected))| {
            let mark = if extension.critical { "!" } else { "" };
            let value = if expected == "random" { expected.clone() } else { hex::encode(&extension.value) };
            (format!("{}{mark}", extension.oid), value)
        })
        .collect();
    assert_eq!(got, expected.extensions_in_order.0, "{name}");
    assert_eq!(extensions.len(), expected.extensions_in_order.0.len(), "{name}");

    let files = Files::new();
    files.certificate("c.pem", &der);
    let subject =
        files.openssl(&["x509", "-in", "c.pem", "-noout", "-subject", "-nameopt", "RFC2253,-dn_rev"]).unwrap();
    let subject = subject.trim().strip_prefix("subject=").unwrap().replace("serialNumber=", "2.5.4.5=");
    // RFC 4514 writes the last RDN first, and keeps the order inside an RDN.
    let subject: Vec<&str> = subject.split(',').rev().collect();
    assert_eq!(subject.join(","), expected.subject, "{name}");

    if template.not_after.is_none() {
        let end = certificate.validity().unwrap().not_after.as_secs();
        assert_eq!((end - now().as_secs()) as f64 / 86400.0, expected.validity_days, "{name}");
    }
}

#[test]
fn certificates_have_the_extensions_that_the_reference_gave_them() {
    let text = std::fs::read_to_string(testdata().join("activation/29-cert-templates.json")).unwrap();
    let case: Case = serde_json::from_str(&text).unwrap();
    let p521 = CertificateTemplate {
        // 2031-02-03T04:05:06+01:00
        not_after: Some(rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_927_854_306))),
        dns_names: Some(vec!["one.example".into()]),
        ..CertificateTemplate::default()
    };
    let mut checked = 0;
    for (path, file) in case.steps.iter().flat_map(|step| &step.files) {
        let [block] = file.pem.as_slice() else { panic!("expected one block in {path}") };
        if block.label != "CERTIFICATE" {
            assert!(path.ends_with(".key") || path.ends_with(".pub"), "{path}");
            continue;
        }
        checked += 1;
        match path.as_str() {
            "/full.crt" => check(path, &template_full(), 30, block),
            "/ca.crt" => check(path, &template_ca(), 0, block),
            "/def.crt" => check(path, &CertificateTemplate::default(), 0, block),
            "/p521.crt" => check(path, &p521, 0, block),
            // Keys of these sizes are refused, whatever their certificates would look like.
            "/p224.crt" => assert!(KeyKind::ecdsa(224).is_err()),
            "/rsa1024.crt" => assert!(KeyKind::rsa(1024).is_err()),
            unknown => panic!("no template for {unknown}"),
        }
    }
    assert_eq!(checked, 12, "two activations with six certificates each");
}
