//! Certificates of users, which may be old or odd.

use marblerun_pki::{Certificate, CertificateError, certificate, pem, tls};

use crate::Deployment;
use crate::openssl::Files;

/// Signs `message` with `key.pem` and checks the signature through the certificate.
#[track_caller]
fn check_possession(files: &Files, certificate: &[u8], scheme: u16, options: &[&str]) {
    files.write("message", b"message");
    let arguments = [&["pkeyutl", "-sign", "-inkey", "key.pem", "-rawin", "-in", "message", "-out", "s"], options];
    files.openssl(&arguments.concat()).unwrap();
    tls::verify(certificate, scheme, b"message", &files.read("s"), tls::Version::Tls13).unwrap();
    tls::verify(certificate, scheme, b"messagE", &files.read("s"), tls::Version::Tls13).unwrap_err();
}

fn decode(files: &Files) -> Vec<u8> {
    pem::decode_certificates(&files.read("c.pem")).unwrap().remove(0)
}

#[test]
fn the_key_of_a_version_1_certificate_is_found() {
    let files = Files::new();
    files
        .openssl(&["req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-subj", "/CN=x", "-out", "r"])
        .unwrap();
    files.openssl(&["x509", "-req", "-in", "r", "-signkey", "key.pem", "-out", "c.pem"]).unwrap();
    let text = files.openssl(&["x509", "-in", "c.pem", "-noout", "-text"]).unwrap();
    assert!(text.contains("Version: 1 (0x0)"), "{text}");
    let pss = ["-digest", "sha256", "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest"];
    check_possession(&files, &decode(&files), 0x0804, &pss);
    assert_eq!(Certificate::parse(&decode(&files)).unwrap().extensions().unwrap(), []);
}

#[test]
fn the_key_of_a_certificate_with_an_unknown_critical_extension_is_found() {
    let files = Files::new();
    let arguments = ["req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "key.pem", "-subj", "/CN=x"];
    let more = ["-addext", "1.2.3.4=critical,DER:0500", "-out", "c.pem"];
    files.openssl(&[&arguments[..], &more].concat()).unwrap();
    check_possession(&files, &decode(&files), 0x0807, &[]);
}

#[test]
fn self_signatures_of_other_programs_verify() {
    let files = Files::new();
    let arguments = ["req", "-x509", "-nodes", "-keyout", "key.pem", "-subj", "/CN=x", "-out", "c.pem"];
    for algorithm in [
        &["-newkey", "ed25519"][..],
        &["-newkey", "rsa:2048", "-sha512"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521", "-sha256"],
    ] {
        files.openssl(&[&arguments[..], algorithm].concat()).unwrap();
        let der = decode(&files);
        let parsed = Certificate::parse(&der).unwrap();
        parsed.verify_signed_by(parsed.public_key_der()).unwrap();
        parsed.verify_signed_by(Certificate::parse(&Deployment::new().root).unwrap().public_key_der()).unwrap_err();
    }
}

#[test]
fn cut_overlong_and_extended_certificates_are_refused() {
    let der = Deployment::new().root;
    for length in 0..der.len() {
        assert!(Certificate::parse(&der[..length]).is_err(), "{length} bytes");
    }
    assert!(Certificate::parse(&[&der[..], b"\0"].concat()).is_err());
    let long = vec![0x30; certificate::MAX_CERTIFICATE_BYTES + 1];
    assert_eq!(Certificate::parse(&long).unwrap_err(), CertificateError::TooLong { got: long.len() });
}

#[test]
fn reading_a_changed_certificate_never_panics() {
    let der = Deployment::new().intermediate;
    for position in 0..der.len() {
        for change in [1, 0x20, 0x80, 0xff] {
            let mut changed = der.clone();
            changed[position] ^= change;
            let Ok(parsed) = Certificate::parse(&changed) else { continue };
            let _ = (parsed.subject(), parsed.validity(), parsed.alt_names(), parsed.subject_key_id());
            let _ = marblerun_pki::CertificateTemplate::from_certificate(&changed);
        }
    }
}
