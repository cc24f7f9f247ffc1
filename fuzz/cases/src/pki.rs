//! Certificates, requests for them, and PEM texts.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use der::asn1::BitStringRef;
use der::{AnyRef, Decode, Encode, Reader, SliceReader, Tag};
use marblerun_manifest::{MAX_RECOVERY_KEY_BITS, recovery_key, user_certificate};
use marblerun_pki::certificate::{GeneralNames, MAX_CERTIFICATE_BYTES};
use marblerun_pki::pem::{decode_all, decode_certificates, encode};
use marblerun_pki::profile::{marble_certificate, marble_root_certificate};
use marblerun_pki::request::MAX_REQUEST_BYTES;
use marblerun_pki::secret_certificate::{SecretValidity, issue_secret_certificate};
use marblerun_pki::tls::{SCHEMES, Version, verify};
use marblerun_pki::{
    AltNames, Certificate, CertificateRequest, CertificateTemplate, Issuer, KeyPair, verify_chain_to_pin,
};
use marblerun_secret::SecretBytes;
use rustls_pki_types::UnixTime;

use crate::Verdict;

/// A Marble root; the key is new in each process, because no verdict depends on it.
struct Authority {
    key: KeyPair,
    certificate: Vec<u8>,
}

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let key = KeyPair::generate().expect("the provider makes P-384 keys");
    let certificate = marble_root_certificate(&key, &AltNames::default(), now()).expect("the profile fits its own key");
    Authority { key, certificate }
});

/// 2026-01-01: between the times that the corpus is about.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600))
}

fn issuer() -> Issuer<'static> {
    Issuer::new(&AUTHORITY.certificate, &AUTHORITY.key).expect("certificate and key were made together")
}

/// What we issue can be read by us, is for the right key and is signed by the right one.
#[track_caller]
fn check_issued(der: &[u8], public_key_der: &[u8]) {
    let certificate = Certificate::parse(der).expect("what was issued is a certificate");
    assert_eq!(certificate.public_key_der(), public_key_der);
    certificate.verify_signed_by(AUTHORITY.key.public_key_der()).expect("the issuer signed it");
    certificate.validity().expect("what was issued has a validity");
}

/// Issues a secret's certificate if the template allows one.
pub(crate) fn issue_from_template(template: &CertificateTemplate) -> Verdict {
    let public_key = AUTHORITY.key.public_key_der();
    for shared in [false, true] {
        let validity = SecretValidity { valid_for_days: 7, shared };
        let issued = issue_secret_certificate(&issuer(), template, validity, public_key, now());
        match &issued {
            Ok(der) => check_issued(der, public_key),
            Err(_) => return Verdict::of(&issued),
        }
    }
    Verdict::Accepted
}

/// The key of the corpus' requests. It is public and protects nothing.
pub const REQUEST_KEY_PKCS8: &[u8] = include_bytes!("../keys/request.p8");

static REQUEST_KEY: LazyLock<KeyPair> = LazyLock::new(|| {
    KeyPair::from_pkcs8(&SecretBytes::copy_from(REQUEST_KEY_PKCS8)).expect("the file holds a P-384 key")
});

/// A Marble's certificate request: whoever sent an accepted one gets a certificate for the names in it.
///
/// The signature of a request is the sender's own, so it is also tried with a good one: a fuzzer cannot make that, an
/// attacker can.
pub fn certificate_request(data: &[u8]) -> Verdict {
    let as_sent = admit_request(data);
    match sign_again(data) {
        Some(signed) => as_sent.or(admit_request(&signed)),
        None => as_sent,
    }
}

fn admit_request(der: &[u8]) -> Verdict {
    let parsed = CertificateRequest::parse_and_verify(der);
    let Ok(request) = &parsed else { return Verdict::of(&parsed) };
    assert!(der.len() <= MAX_REQUEST_BYTES);
    let public_key = request.public_key_der();
    let uuid = "3f0c5a1e-9d2b-4c6f-8a7e-0123456789ab";
    let issued = marble_certificate(&issuer(), request, uuid, "web", public_key, now());
    if let Ok(der) = &issued {
        check_issued(der, public_key);
        let certificate = Certificate::parse(der).expect("checked above");
        let subject = certificate.subject().expect("we wrote the subject");
        assert_eq!(subject.common_name, uuid, "the request chose the common name");
        let names = certificate.alt_names().expect("we wrote the names");
        // An IPv4 address in IPv6 form is written in IPv4 form, as Go does.
        let ips: Vec<_> = request.names().ips.iter().map(IpAddr::to_canonical).collect();
        assert_eq!((&names.dns, &names.ips), (&request.names().dns, &ips));
    }
    Verdict::of(&issued)
}

/// The signed part of a request (RFC 2986 4.2: its first element) with a signature of [`REQUEST_KEY`].
fn sign_again(request: &[u8]) -> Option<Vec<u8>> {
    /// ecdsa-with-SHA384 (RFC 5758 3.2).
    const ALGORITHM: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03";
    let outer = AnyRef::from_der(request).ok()?;
    let info = SliceReader::new(outer.value()).ok()?.tlv_bytes().ok()?;
    let signature = REQUEST_KEY.sign_sha384(info).expect("the provider signs");
    let signature = BitStringRef::from_bytes(&signature).and_then(|bits| bits.to_der()).ok()?;
    let body = [info, ALGORITHM, &signature].concat();
    AnyRef::new(Tag::Sequence, &body).and_then(|sequence| sequence.to_der()).ok()
}

/// A certificate that a peer shows or a manifest contains: every part of it is read, and a template taken from it
/// gives a certificate or an error.
pub fn certificate(data: &[u8]) -> Verdict {
    for version in [Version::Tls12, Version::Tls13] {
        for scheme in SCHEMES {
            assert!(verify(data, *scheme, b"message", b"signature", version).is_err(), "nobody signed this");
        }
    }
    let _ = GeneralNames::parse(data);
    let parsed = Certificate::parse(data);
    let template = CertificateTemplate::from_certificate(data);
    let Ok(certificate) = &parsed else {
        assert!(template.is_err(), "a template was taken from what is no certificate");
        return Verdict::of(&parsed);
    };
    assert!(data.len() <= MAX_CERTIFICATE_BYTES);
    let _ = (certificate.subject(), certificate.issuer(), certificate.validity());
    let _ = (certificate.alt_names(), certificate.subject_key_id());
    let _ = certificate.verify_signed_by(certificate.public_key_der());
    if let Ok(extensions) = certificate.extensions() {
        let total: usize = extensions.iter().map(|extension| extension.value.len()).sum();
        assert!(total <= data.len(), "{total} bytes of extensions from {} bytes", data.len());
    }
    match &template {
        Ok(template) => issue_from_template(template).or(Verdict::Accepted),
        Err(_) => Verdict::of(&template),
    }
}

/// A PEM text: what was read from it, written again, reads the same.
pub fn pem(data: &[u8]) -> Verdict {
    let decoded = decode_all(data);
    if let Ok(blocks) = &decoded {
        let text: String = blocks.iter().map(|block| encode(&block.label, block.der.expose())).collect();
        let again = decode_all(text.as_bytes()).expect("what we wrote reads");
        assert_eq!(again.len(), blocks.len());
        for (block, again) in blocks.iter().zip(&again) {
            assert_eq!(again.label, block.label);
            assert_eq!(again.der.expose(), block.der.expose());
        }
        if let Ok(certificates) = decode_certificates(data) {
            assert!(!certificates.is_empty() && certificates.len() == blocks.len());
        }
    }
    assert!(verify_chain_to_pin(&AUTHORITY.certificate, data, data, &[0; 32]).is_err(), "no hash is zero");
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = user_certificate(text);
        if let Ok(der) = recovery_key(text) {
            assert!(der.len() * 8 <= MAX_RECOVERY_KEY_BITS + 1024, "{} bytes of recovery key", der.len());
        }
    }
    match &decoded {
        Ok(blocks) if blocks.is_empty() => Verdict::Refused,
        _ => Verdict::of(&decoded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_with_a_broken_signature_is_tried_with_a_good_one() {
        let mut request = include_bytes!("../../corpus/certificate_request/seed-name").to_vec();
        *request.last_mut().unwrap() ^= 1;
        assert_eq!(admit_request(&request), Verdict::Refused);
        assert_eq!(certificate_request(&request), Verdict::Accepted);
    }
}
