//! Certificate requests that other programs made.

use marblerun_pki::{AltNames, CertificateRequest, KeyPair, RequestError, pem, profile, request};

use crate::openssl::{Files, dump};
use crate::{Deployment, now};

/// A DER request by OpenSSL for a key of this kind.
fn openssl_request(files: &Files, algorithm: &[&str], subject: &str, san: &str) -> Vec<u8> {
    let san = format!("subjectAltName={san}");
    let arguments = [
        &["req", "-new", "-nodes", "-keyout", "key.pem", "-outform", "DER", "-out", "r.der", "-subj", subject],
        &["-addext", &san][..],
        algorithm,
    ]
    .concat();
    files.openssl(&arguments).unwrap();
    files.read("r.der")
}

const P256: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[test]
fn requests_with_rsa_ecdsa_and_ed25519_keys_are_accepted() {
    let files = Files::new();
    for algorithm in [&["-newkey", "rsa:2048"][..], &P256, &["-newkey", "ed25519"]] {
        let der = openssl_request(&files, algorithm, "/CN=x", "DNS:a.example");
        let request = CertificateRequest::parse_and_verify(&der).unwrap();
        assert_eq!(request.names().dns, ["a.example"], "{algorithm:?}");
    }
}

// rules: ACT-4.3, ACT-4.4
#[test]
fn only_the_names_and_attributes_that_a_marble_may_choose_reach_its_certificate() {
    let files = Files::new();
    let names = "DNS:a.example,email:me@example.com,URI:https://u.example,IP:192.0.2.4";
    let der = openssl_request(&files, &P256, "/CN=x/O=y/OU=z/C=DE/emailAddress=m@e", names);
    let request = CertificateRequest::parse_and_verify(&der).unwrap();
    let deployment = Deployment::new();
    let key = KeyPair::generate().unwrap();
    let issuer = deployment.marble_issuer();
    let certificate =
        profile::marble_certificate(&issuer, &request, "the-uuid", "m", key.public_key_der(), now()).unwrap();
    let text = dump(&certificate);
    assert!(text.contains("\nSubject: C = DE, OU = z, CN = the-uuid\n"), "{text}");
    assert!(text.contains("\nDNS:a.example, IP Address:192.0.2.4\n"), "{text}");
    // The key of the request is used for nothing.
    assert!(!certificate.windows(32).any(|window| request.public_key_der().ends_with(window)));
}

#[test]
fn the_premains_request_pleases_openssl() {
    let files = Files::new();
    let der =
        request::premain_request(&KeyPair::generate().unwrap(), &AltNames::from_list("a.example,192.0.2.4")).unwrap();
    files.write("r.pem", pem::encode("CERTIFICATE REQUEST", &der).as_bytes());
    let text = files.openssl(&["req", "-in", "r.pem", "-verify", "-noout", "-text"]).unwrap();
    for expected in [
        "Subject: \n",
        "Signature Algorithm: ecdsa-with-SHA384\n",
        "X509v3 Subject Alternative Name: \n",
        "DNS:a.example, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, IP Address:192.0.2.4\n",
    ] {
        assert!(text.contains(expected), "{expected:?} not in {text}");
    }
}

#[test]
fn a_request_signed_by_another_key_is_refused() {
    let files = Files::new();
    let (one, two) = (
        openssl_request(&files, &["-newkey", "ed25519"], "/CN=x", "DNS:a"),
        openssl_request(&files, &["-newkey", "ed25519"], "/CN=x", "DNS:a"),
    );
    // Both have the same length, and the signature stands in the last 64 bytes.
    let swapped = [&one[..one.len() - 64], &two[two.len() - 64..]].concat();
    assert!(matches!(CertificateRequest::parse_and_verify(&swapped), Err(RequestError::Signature(_))));
}
