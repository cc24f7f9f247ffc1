//! The fixed profiles, and how their certificates verify.

use marblerun_pki::{AltNames, Certificate, CertificateRequest, IssueError, Issuer, KeyPair, profile, request};

use crate::openssl::{Files, dump};
use crate::{Deployment, NOW_SECONDS, now};

const UUID: &str = "11111111-2222-3333-4444-555555555555";

fn marble_certificate(deployment: &Deployment) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let names = AltNames::from_list("web.example,192.0.2.9");
    let request = request::premain_request(&KeyPair::generate().unwrap(), &names).unwrap();
    let request = CertificateRequest::parse_and_verify(&request).unwrap();
    let issuer = deployment.marble_issuer();
    profile::marble_certificate(&issuer, &request, UUID, "backend", key.public_key_der(), now()).unwrap()
}

#[track_caller]
fn check_dump(der: &[u8], expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(dump(der), expected.join("\n"));
}

const CA_EXTENSIONS: &str = "X509v3 extensions:
    X509v3 Key Usage: critical
    Digital Signature, Certificate Sign
    X509v3 Extended Key Usage:
    TLS Web Server Authentication, TLS Web Client Authentication
    X509v3 Basic Constraints: critical
    CA:TRUE
    X509v3 Subject Key Identifier:
    <key id>";

const HEAD: &str = "Certificate:
    Data:
    Version: 3 (0x2)
    Signature Algorithm: ecdsa-with-SHA384";

const VALIDITY: &str = "Validity
    Not Before: Sep 21 14:10:20 2026 GMT
    Not After : Jan  1 14:00:36 2319 GMT";

const CA_NAMES: &str = "X509v3 Subject Alternative Name:
    DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, IP Address:192.0.2.1";

// rules: ACT-4.1, TLS-7
#[test]
fn the_root_has_its_profile() {
    let name = "CN = MarbleRun Coordinator";
    let expected = format!("{HEAD}\nIssuer: {name}\n{VALIDITY}\nSubject: {name}\n{CA_EXTENSIONS}\n{CA_NAMES}");
    check_dump(&Deployment::new().root, &expected);
}

// rules: ACT-4.1
#[test]
fn the_intermediate_has_its_profile() {
    let expected = format!(
        "{HEAD}\nIssuer: CN = MarbleRun Coordinator\n{VALIDITY}\n\
         Subject: CN = MarbleRun Coordinator - Intermediate CA\n{CA_EXTENSIONS}\n\
         X509v3 Authority Key Identifier:\n<key id>\n{CA_NAMES}"
    );
    check_dump(&Deployment::new().intermediate, &expected);
}

// rules: ACT-4.1
#[test]
fn the_marble_root_is_the_intermediates_self_signed_twin() {
    let deployment = Deployment::new();
    let name = "CN = MarbleRun Coordinator - Intermediate CA";
    let expected = format!("{HEAD}\nIssuer: {name}\n{VALIDITY}\nSubject: {name}\n{CA_EXTENSIONS}\n{CA_NAMES}");
    check_dump(&deployment.marble_root, &expected);

    let twin = Certificate::parse(&deployment.marble_root).unwrap();
    let intermediate = Certificate::parse(&deployment.intermediate).unwrap();
    assert_eq!(twin.public_key_der(), intermediate.public_key_der());
    assert_eq!(twin.subject_der(), intermediate.subject_der());
    assert_eq!(twin.subject_key_id().unwrap(), intermediate.subject_key_id().unwrap());
}

// rules: ACT-4.1
#[test]
fn a_marble_certificate_has_its_profile() {
    let expected = format!(
        "{HEAD}\nIssuer: CN = MarbleRun Coordinator - Intermediate CA\n{VALIDITY}\nSubject: CN = {UUID}
         X509v3 extensions:
         X509v3 Key Usage: critical
         Digital Signature, Key Agreement
         X509v3 Extended Key Usage:
         TLS Web Server Authentication, TLS Web Client Authentication
         X509v3 Basic Constraints: critical
         CA:FALSE
         X509v3 Authority Key Identifier:
         <key id>
         X509v3 Subject Alternative Name:
         DNS:web.example, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, IP Address:192.0.2.9
         1.3.9903.2.1:
         backend"
    );
    check_dump(&marble_certificate(&Deployment::new()), &expected);
}

// rules: ACT-4.5
#[test]
fn the_marble_type_is_carried_as_raw_bytes() {
    let der = marble_certificate(&Deployment::new());
    let expected = hex::decode("301006052bcd2f020104076261636b656e64").unwrap();
    assert!(der.windows(expected.len()).any(|window| window == expected));
}

// rules: ACT-4.1
#[test]
fn the_premains_certificate_has_its_profile() {
    let names = AltNames::from_list("web.example,192.0.2.9");
    let name = "CN = MarbleRun Marble";
    let expected = format!(
        "{HEAD}\nIssuer: {name}\n{VALIDITY}\nSubject: {name}
         X509v3 extensions:
         X509v3 Key Usage: critical
         Digital Signature, Key Agreement
         X509v3 Extended Key Usage:
         TLS Web Server Authentication, TLS Web Client Authentication
         X509v3 Basic Constraints: critical
         CA:FALSE
         X509v3 Subject Alternative Name:
         DNS:web.example, IP Address:192.0.2.9, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1"
    );
    check_dump(&profile::premain_certificate(&KeyPair::generate().unwrap(), &names, now()).unwrap(), &expected);
}

// rules: ACT-4.2
#[test]
fn marble_certificates_verify_in_all_three_ways_also_strictly_and_with_a_slow_clock() {
    let deployment = Deployment::new();
    let files = Files::new();
    files.certificate("root.pem", &deployment.root);
    files.certificate("intermediate.pem", &deployment.intermediate);
    files.certificate("marble-root.pem", &deployment.marble_root);
    files.certificate("marble.pem", &marble_certificate(&deployment));
    for anchors in [
        &["-CAfile", "marble-root.pem"][..],
        &["-CAfile", "root.pem", "-untrusted", "intermediate.pem"],
        &["-partial_chain", "-CAfile", "intermediate.pem"],
    ] {
        for strict in [&[][..], &["-x509_strict"]] {
            for seconds_behind in [0, 1, 30, 120] {
                let time = (NOW_SECONDS - seconds_behind).to_string();
                let arguments = [&["verify", "-attime", &time], anchors, strict, &["marble.pem"]].concat();
                files.openssl(&arguments).unwrap();
            }
        }
    }
}

#[test]
fn marble_certificates_of_another_deployment_do_not_verify() {
    let files = Files::new();
    files.certificate("marble-root.pem", &Deployment::new().marble_root);
    files.certificate("marble.pem", &marble_certificate(&Deployment::new()));
    let time = NOW_SECONDS.to_string();
    files.openssl(&["verify", "-attime", &time, "-CAfile", "marble-root.pem", "marble.pem"]).unwrap_err();
}

#[test]
fn serial_numbers_are_random_and_have_at_most_128_bits() {
    let key = KeyPair::generate().unwrap();
    let files = Files::new();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..16 {
        let der = profile::root_certificate(&key, &AltNames::default(), now()).unwrap();
        files.certificate("c.pem", &der);
        let serial = files.openssl(&["x509", "-in", "c.pem", "-noout", "-serial"]).unwrap();
        let digits = serial.trim().strip_prefix("serial=").unwrap();
        assert!(digits.len() <= 32 && !digits.starts_with('-'), "{digits}");
        assert!(seen.insert(digits.to_owned()), "{digits} came twice");
    }
}

#[test]
fn an_issuer_whose_key_is_not_in_its_certificate_is_refused() {
    let other = KeyPair::generate().unwrap();
    assert_eq!(Issuer::new(&Deployment::new().root, &other).unwrap_err(), IssueError::IssuerKey);
}

#[test]
fn names_beyond_ascii_are_refused() {
    let key = KeyPair::generate().unwrap();
    let error = profile::root_certificate(&key, &AltNames::from_list("ü.example"), now()).unwrap_err();
    assert_eq!(error.to_string(), "DNSNames: expected ASCII characters only, got \"ü.example\"");
}

#[test]
fn names_that_nobody_could_ask_for_are_refused() {
    let key = KeyPair::generate().unwrap();
    for (name, is_good) in [
        ("a".repeat(63), true),
        ("a".repeat(64), false),
        ("a.".repeat(126) + "a", true),
        ("a.".repeat(127) + "a", false),
    ] {
        let names = AltNames::from_list(&name);
        assert_eq!(profile::root_certificate(&key, &names, now()).is_ok(), is_good, "{name}");
        assert_eq!(profile::premain_certificate(&key, &names, now()).is_ok(), is_good, "{name}");
        assert_eq!(request::premain_request(&key, &names).is_ok(), is_good, "{name}");
    }
}

#[test]
fn a_marble_key_that_is_none_is_refused() {
    let deployment = Deployment::new();
    let request = request::premain_request(&deployment.key, &AltNames::default()).unwrap();
    let request = CertificateRequest::parse_and_verify(&request).unwrap();
    let issuer = deployment.marble_issuer();
    let error = profile::marble_certificate(&issuer, &request, UUID, "m", b"\x30\x00", now()).unwrap_err();
    assert!(matches!(error, IssueError::Encode(_)));
}

// rules: SIG-1
#[test]
fn manifest_signatures_verify_with_openssl() {
    let key = KeyPair::generate().unwrap();
    let files = Files::new();
    files.write("manifest.json", b"{}");
    files.write("signature", &key.sign_sha256(b"{}").unwrap());
    let public = marblerun_pki::pem::encode(marblerun_pki::pem::PUBLIC_KEY, key.public_key_der());
    files.write("public.pem", public.as_bytes());
    let arguments = ["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "manifest.json"];
    files.openssl(&arguments).unwrap();
    files.write("manifest.json", b"{ }");
    files.openssl(&arguments).unwrap_err();
}
