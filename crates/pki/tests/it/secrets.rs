//! Certificates and keys of secrets.

use std::time::Duration;

use marblerun_pki::name::ExtraName;
use marblerun_pki::template::{ExtraExtension, IpRange};
use marblerun_pki::{
    Certificate, CertificateTemplate, GeneratedKey, IssueError, KeyKind, SecretValidity, Subject,
    issue_secret_certificate, pem,
};
use rustls_pki_types::UnixTime;

use crate::openssl::{Files, dump};
use crate::{Deployment, NOW_SECONDS, now};

const DAY: u64 = 24 * 60 * 60;

fn template() -> CertificateTemplate {
    CertificateTemplate::default()
}

fn seconds(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

// rules: ACT-5.6, SEC-9
#[test]
fn keys_of_every_kind_are_understood_by_openssl() {
    let files = Files::new();
    for (kind, says) in [
        (KeyKind::Rsa2048, "Private-Key: (2048 bit"),
        (KeyKind::Rsa3072, "Private-Key: (3072 bit"),
        (KeyKind::Rsa4096, "Private-Key: (4096 bit"),
        (KeyKind::P256, "ASN1 OID: prime256v1"),
        (KeyKind::P384, "ASN1 OID: secp384r1"),
        (KeyKind::P521, "ASN1 OID: secp521r1"),
        (KeyKind::Ed25519, "ED25519 Private-Key:"),
    ] {
        let key = GeneratedKey::generate(kind).unwrap();
        files.write("key.der", key.private.expose());
        let text = files.openssl(&["pkey", "-inform", "DER", "-in", "key.der", "-noout", "-text"]).unwrap();
        assert!(text.contains(says), "{kind:?}: {text}");
        let public = files.openssl(&["pkey", "-inform", "DER", "-in", "key.der", "-pubout"]).unwrap();
        assert_eq!(public, pem::encode(pem::PUBLIC_KEY, &key.public), "{kind:?}");
    }
}

// rules: X509-3, ACT-4.7
#[test]
fn an_empty_template_gives_the_default_certificate() {
    let text = dump(&Deployment::new().secret(&template()).unwrap());
    let expected = "Certificate:
Data:
Version: 3 (0x2)
Signature Algorithm: ecdsa-with-SHA384
Issuer: CN = MarbleRun Coordinator - Intermediate CA
Validity
Not Before: Sep 21 14:10:20 2026 GMT
Not After : Sep 21 14:13:20 2027 GMT
Subject: CN = localhost
X509v3 extensions:
X509v3 Key Usage: critical
Digital Signature, Certificate Sign
X509v3 Extended Key Usage:
TLS Web Server Authentication, TLS Web Client Authentication
X509v3 Basic Constraints: critical
CA:FALSE
X509v3 Authority Key Identifier:
<key id>
X509v3 Subject Alternative Name:
DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1";
    assert_eq!(text, expected);
}

/// A template in which every member is used.
fn full_template() -> CertificateTemplate {
    let list = |text: &str| vec![text.to_owned()];
    CertificateTemplate {
        subject: Subject {
            country: list("DE"),
            organization: vec!["O1".into(), "O2".into()],
            organizational_unit: list("OU"),
            locality: list("Bochum"),
            province: list("NRW"),
            street_address: list("Street 1"),
            postal_code: list("44787"),
            serial_number: "42".into(),
            common_name: "full".into(),
            extra_names: vec![ExtraName { oid: vec![2, 5, 4, 12], value: "title".into() }],
        },
        raw_subject: None,
        not_after: Some(seconds(NOW_SECONDS + 7 * DAY)),
        key_usage: 1 | 32 | 64 | 256,
        ext_key_usage: Some(vec![0, 1, 3, 13]),
        unknown_ext_key_usage: vec![vec![1, 2, 3]],
        is_ca: true,
        max_path_len: 0,
        max_path_len_zero: true,
        subject_key_id: vec![1; 20],
        ocsp_server: list("http://ocsp.example"),
        issuing_certificate_url: list("http://issuer.example"),
        dns_names: Some(list("*.d.example")),
        email_addresses: list("me@e.example"),
        ip_addresses: Some(vec!["192.0.2.8".parse().unwrap(), "2001:db8::8".parse().unwrap()]),
        uris: list("spiffe://td/wl"),
        permitted_dns_domains_critical: true,
        permitted_dns_domains: list("p.example"),
        excluded_dns_domains: list("x.example"),
        permitted_ip_ranges: vec![IpRange { ip: "10.1.2.3".parse().unwrap(), mask: vec![255, 0, 0, 0] }],
        excluded_ip_ranges: vec![IpRange { ip: "2001:db8::1".parse().unwrap(), mask: [[255; 8], [0; 8]].concat() }],
        permitted_email_addresses: list("p@e.example"),
        excluded_email_addresses: list("x@e.example"),
        permitted_uri_domains: list(".pu.example"),
        excluded_uri_domains: list(".xu.example"),
        crl_distribution_points: list("http://crl.example"),
        policies: list("1.2.3.4"),
        extra_extensions: vec![ExtraExtension { id: vec![1, 2, 3, 4], critical: false, value: vec![5, 0] }],
        signature_algorithm: 12,
    }
}

#[test]
fn every_member_of_a_template_reaches_the_certificate() {
    let expected = "Certificate:
Data:
Version: 3 (0x2)
Signature Algorithm: ecdsa-with-SHA512
Issuer: CN = MarbleRun Coordinator - Intermediate CA
Validity
Not Before: Sep 21 14:10:20 2026 GMT
Not After : Sep 28 14:13:20 2026 GMT
Subject: C = DE, ST = NRW, L = Bochum, street = Street 1, postalCode = 44787, O = O1 + O = O2, OU = OU, CN = full, serialNumber = 42, title = title
X509v3 extensions:
X509v3 Key Usage: critical
Digital Signature, Certificate Sign, CRL Sign, Decipher Only
X509v3 Extended Key Usage:
Any Extended Key Usage, TLS Web Server Authentication, Code Signing, 1.3.6.1.4.1.311.61.1.1, 1.2.3
X509v3 Basic Constraints: critical
CA:TRUE, pathlen:0
X509v3 Subject Key Identifier:
<key id>
X509v3 Authority Key Identifier:
<key id>
Authority Information Access:
OCSP - URI:http://ocsp.example
CA Issuers - URI:http://issuer.example
X509v3 Subject Alternative Name:
DNS:*.d.example, email:me@e.example, IP Address:192.0.2.8, IP Address:2001:DB8:0:0:0:0:0:8, URI:spiffe://td/wl
X509v3 Certificate Policies:
Policy: 1.2.3.4
X509v3 Name Constraints: critical
Permitted:
DNS:p.example
IP:10.0.0.0/255.0.0.0
email:p@e.example
URI:.pu.example
Excluded:
DNS:x.example
IP:2001:DB8:0:0:0:0:0:0/FFFF:FFFF:FFFF:FFFF:0:0:0:0
email:x@e.example
URI:.xu.example
X509v3 CRL Distribution Points:
Full Name:
URI:http://crl.example
1.2.3.4:
..";
    assert_eq!(dump(&Deployment::new().secret(&full_template()).unwrap()), expected);
}

#[test]
fn a_certificate_made_from_a_placeholder_is_like_it_without_the_extra_extensions() {
    let deployment = Deployment::new();
    for template in [
        full_template(),
        template(),
        CertificateTemplate { dns_names: Some(vec![]), ip_addresses: Some(vec![]), ..template() },
        CertificateTemplate { ext_key_usage: Some(vec![]), signature_algorithm: 10, ..template() },
        CertificateTemplate { is_ca: true, max_path_len: 3, ..template() },
    ] {
        let placeholder = deployment.secret(&template).unwrap();
        let again = deployment.secret(&CertificateTemplate::from_certificate(&placeholder).unwrap()).unwrap();
        let without_extra =
            deployment.secret(&CertificateTemplate { extra_extensions: Vec::new(), ..template }).unwrap();
        let (again, expected) = (Certificate::parse(&again).unwrap(), Certificate::parse(&without_extra).unwrap());
        assert_eq!(again.extensions().unwrap(), expected.extensions().unwrap());
        assert_eq!(again.subject_der(), expected.subject_der());
        assert_eq!(again.validity().unwrap(), expected.validity().unwrap());
    }
}

// rules: X509-5
#[test]
fn secret_certificates_verify_against_marble_root_and_through_the_intermediate() {
    let deployment = Deployment::new();
    let files = Files::new();
    files.certificate("root.pem", &deployment.root);
    files.certificate("intermediate.pem", &deployment.intermediate);
    files.certificate("marble-root.pem", &deployment.marble_root);
    let time = NOW_SECONDS.to_string();
    for algorithm in [0, 10, 11, 12] {
        let key = GeneratedKey::generate(KeyKind::Ed25519).unwrap();
        // The default key usage is one that strict verification keeps for CAs.
        let template = CertificateTemplate { key_usage: 1, signature_algorithm: algorithm, ..template() };
        let issuer = deployment.marble_issuer();
        let der = issue_secret_certificate(&issuer, &template, SecretValidity::default(), &key.public, now()).unwrap();
        files.certificate("c.pem", &der);
        let verify = ["verify", "-x509_strict", "-attime", &time];
        files.openssl(&[&verify[..], &["-CAfile", "marble-root.pem", "c.pem"]].concat()).unwrap();
        let through = ["-CAfile", "root.pem", "-untrusted", "intermediate.pem", "c.pem"];
        files.openssl(&[&verify[..], &through].concat()).unwrap();
    }
}

#[track_caller]
fn check_end(not_after: Option<u64>, valid_for_days: u64, shared: bool, expected: u64) {
    let deployment = Deployment::new();
    let template = CertificateTemplate { not_after: not_after.map(seconds), ..template() };
    let validity = SecretValidity { valid_for_days, shared };
    let key = deployment.key.public_key_der();
    let der = issue_secret_certificate(&deployment.marble_issuer(), &template, validity, key, now()).unwrap();
    let end = Certificate::parse(&der).unwrap().validity().unwrap().not_after;
    assert_eq!(end.as_secs(), expected);
}

// rules: ACT-4.7
#[test]
fn validity_follows_the_three_rules() {
    for shared in [false, true] {
        check_end(None, 0, shared, NOW_SECONDS + 365 * DAY);
        check_end(None, 30, shared, NOW_SECONDS + 30 * DAY);
        check_end(None, 10_000, shared, NOW_SECONDS + 10_000 * DAY);
        check_end(Some(1_000_000_000), 0, shared, 1_000_000_000);
    }
    check_end(Some(NOW_SECONDS + DAY), 30, false, NOW_SECONDS + 30 * DAY);
    check_end(Some(NOW_SECONDS + DAY), 30, true, NOW_SECONDS + DAY);
}

#[test]
fn a_missing_common_name_is_filled_in() {
    let names = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect());
    for (dns_names, expected) in [
        (None, "localhost"),
        (names(&["one.example"]), "one.example"),
        (names(&[]), "MarbleRun Generated Certificate"),
        (names(&["a", "b"]), "MarbleRun Generated Certificate"),
    ] {
        let der = Deployment::new().secret(&CertificateTemplate { dns_names, ..template() }).unwrap();
        assert_eq!(Certificate::parse(&der).unwrap().subject().unwrap().common_name, expected);
    }
}

#[test]
fn a_raw_subject_replaces_the_subject_and_an_empty_one_makes_the_names_critical() {
    let raw = Subject::from_common_name("raw").to_der().unwrap();
    let der = Deployment::new().secret(&CertificateTemplate { raw_subject: Some(raw), ..full_template() }).unwrap();
    assert!(dump(&der).contains("\nSubject: CN = raw\n"));
    let empty = CertificateTemplate { raw_subject: Some(vec![0x30, 0]), ..template() };
    let text = dump(&Deployment::new().secret(&empty).unwrap());
    assert!(text.contains("\nX509v3 Subject Alternative Name: critical\n"), "{text}");
}

#[test]
fn an_extra_extension_replaces_the_generated_one_of_its_type() {
    let extra = ExtraExtension { id: vec![2, 5, 29, 15], critical: false, value: vec![3, 2, 7, 128] };
    let der = Deployment::new().secret(&CertificateTemplate { extra_extensions: vec![extra], ..template() }).unwrap();
    let oids: Vec<String> =
        Certificate::parse(&der).unwrap().extensions().unwrap().iter().map(|e| e.oid.to_string()).collect();
    assert_eq!(oids, ["2.5.29.37", "2.5.29.19", "2.5.29.35", "2.5.29.17", "2.5.29.15"]);
}

#[test]
fn a_ca_gets_a_key_identifier_and_others_do_not() {
    let id = |template: &CertificateTemplate| {
        let der = Deployment::new().secret(template).unwrap();
        Certificate::parse(&der).unwrap().subject_key_id().unwrap()
    };
    assert_eq!(id(&template()), None);
    assert_eq!(id(&CertificateTemplate { is_ca: true, ..template() }).unwrap().len(), 20);
    assert_eq!(id(&CertificateTemplate { subject_key_id: vec![7], ..template() }), Some(vec![7]));
}

#[track_caller]
fn check_refused(template: CertificateTemplate, expected: &str) {
    assert_eq!(Deployment::new().secret(&template).unwrap_err().to_string(), expected);
}

#[test]
fn faults_of_a_template_are_refused_with_their_member() {
    for got in [-1, 14] {
        let ext_key_usage = Some(vec![1, got]);
        let expected = format!("ExtKeyUsage: expected numbers from 0 to 13, got {got}");
        check_refused(CertificateTemplate { ext_key_usage, ..template() }, &expected);
    }
    for got in [1, 4, 9, 13, 16, -1] {
        let expected = format!(
            "SignatureAlgorithm: expected 0 (default), 10, 11 or 12 (ECDSA with SHA-256, SHA-384, SHA-512), got {got}"
        );
        check_refused(CertificateTemplate { signature_algorithm: got, ..template() }, &expected);
    }
    check_refused(
        CertificateTemplate { dns_names: Some(vec!["ü.example".into()]), ..template() },
        "DNSNames: expected ASCII characters only, got \"ü.example\"",
    );
    check_refused(
        CertificateTemplate { email_addresses: vec!["ü@example".into()], ..template() },
        "EmailAddresses: expected ASCII characters only, got \"ü@example\"",
    );
    check_refused(
        CertificateTemplate { uris: vec!["https://ü".into()], ..template() },
        "URIs: expected ASCII characters only, got \"https://ü\"",
    );
    check_refused(
        CertificateTemplate { excluded_uri_domains: vec!["ü".into()], ..template() },
        "ExcludedURIDomains: expected ASCII characters only, got \"ü\"",
    );
    check_refused(
        CertificateTemplate { is_ca: true, max_path_len: -2, ..template() },
        "MaxPathLen: expected -1 (none) or a length, got -2",
    );
    let without_ca = "MaxPathLen: expected a path length only together with IsCA, got";
    check_refused(CertificateTemplate { max_path_len: 1, ..template() }, &format!("{without_ca} 1"));
    check_refused(CertificateTemplate { max_path_len_zero: true, ..template() }, &format!("{without_ca} 0"));
    check_refused(
        CertificateTemplate { policies: vec!["1.x".into()], ..template() },
        "Policies: expected an object identifier, got \"1.x\"",
    );
    check_refused(
        CertificateTemplate { unknown_ext_key_usage: vec![vec![9, 9]], ..template() },
        "UnknownExtKeyUsage: expected an object identifier, got \"9.9\"",
    );
    let ranges = vec![IpRange { ip: "2001:db8::".parse().unwrap(), mask: vec![255; 4] }];
    check_refused(
        CertificateTemplate { permitted_ip_ranges: ranges, ..template() },
        "PermittedIPRanges: expected a mask as long as the address 2001:db8::, got 4 bytes",
    );
    check_refused(CertificateTemplate { raw_subject: Some(vec![1]), ..template() }, "RawSubject: expected a DER name");
    check_refused(
        CertificateTemplate { not_after: Some(seconds(253_402_300_800)), ..template() },
        "expected an end of validity before the year 10000, got 253402300800 seconds after 1970",
    );
}

// rules: SAFE-4
#[test]
fn a_secret_cannot_carry_the_marble_type() {
    let extra = ExtraExtension { id: vec![1, 3, 9903, 2, 1], critical: false, value: b"web".to_vec() };
    check_refused(
        CertificateTemplate { extra_extensions: vec![extra], ..template() },
        "ExtraExtensions: 1.3.9903.2.1 marks Marble certificates and cannot be given to a secret",
    );
}

#[test]
fn a_validity_beyond_what_can_be_written_is_refused_not_wrapped() {
    let deployment = Deployment::new();
    for valid_for_days in [3_000_000, u64::MAX] {
        let validity = SecretValidity { valid_for_days, shared: false };
        let key = deployment.key.public_key_der();
        let error = issue_secret_certificate(&deployment.marble_issuer(), &template(), validity, key, now());
        assert!(matches!(error, Err(IssueError::Time { .. })), "{valid_for_days}");
    }
}

#[test]
fn a_public_key_that_is_none_is_refused() {
    let deployment = Deployment::new();
    let validity = SecretValidity::default();
    let error = issue_secret_certificate(&deployment.marble_issuer(), &template(), validity, b"no key", now());
    assert!(matches!(error, Err(IssueError::Encode(_))));
}
