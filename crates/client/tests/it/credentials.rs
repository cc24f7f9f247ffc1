//! Client certificates and their keys.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair};
use marblerun_client::{
    Client, ClientCertificate, CredentialsError, MAX_CREDENTIAL_BYTES, MarbleCredentials, Timeouts,
};
use marblerun_pki::{AltNames, KeyPair, pem, profile};

use crate::address;
use crate::fake::{self, Fake, Script};

struct User {
    certificate: String,
    der: Vec<u8>,
    key: KeyPair,
}

impl User {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let der = profile::premain_certificate(&key, &AltNames::default(), fake::now()).unwrap();
        Self { certificate: pem::encode(pem::CERTIFICATE, &der), der, key }
    }

    fn pkcs8(&self) -> String {
        pem::encode(pem::PRIVATE_KEY, self.key.to_pkcs8().unwrap().expose())
    }

    /// The key in the form of `openssl ecparam -genkey`: parameters, then SEC1.
    fn sec1(&self) -> String {
        let pkcs8 = self.key.to_pkcs8().unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8.expose()).unwrap();
        let sec1: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().unwrap();
        let parameters = pem::encode("EC PARAMETERS", &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22]);
        parameters + &pem::encode("EC PRIVATE KEY", sec1.as_ref())
    }
}

#[tokio::test]
async fn a_user_proves_its_certificate_with_keys_in_every_form() {
    let user = User::new();
    let other = User::new();
    let with_notes = format!("Bag Attributes\r\n    friendlyName: x\r\n{}", user.certificate.replace('\n', "\r\n"));
    for (certificate, key) in [
        (user.certificate.clone(), user.pkcs8()),
        (user.certificate.clone(), user.sec1()),
        // A chain, and one file for both.
        (user.certificate.clone() + &other.certificate, user.pkcs8()),
        (with_notes + &user.pkcs8(), user.certificate.clone() + &user.pkcs8()),
    ] {
        let credentials = ClientCertificate::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(credentials.leaf(), user.der);
        let fake = Fake::start(Script::new());
        let client = Client::pinned_to(address(&fake), &fake.script().identity.root, Timeouts::default()).unwrap();
        client.status().await.unwrap();
        assert_eq!(fake.last().client, None);
        client.with_certificate(&credentials).unwrap().status().await.unwrap();
        assert_eq!(fake.last().client.as_ref(), Some(&user.der));
    }
}

#[track_caller]
fn check_refused(certificate: &str, key: &str, expected: &str) {
    let error = ClientCertificate::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn the_file_that_is_wrong_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("ann.pem"), directory.path().join("ann-key.pem"));
    let user = User::new();
    std::fs::write(&certificate, &user.certificate).unwrap();
    std::fs::write(&key, user.pkcs8()).unwrap();
    ClientCertificate::read(&certificate, &key).unwrap();
    for (certificate, key, wrong) in [(&key, &key, &key), (&certificate, &certificate, &certificate)] {
        let error = ClientCertificate::read(certificate, key).unwrap_err();
        assert_eq!(error.to_string(), wrong.display().to_string());
        assert_eq!(error.hint(), Some("were certificate and key exchanged?"));
    }
    std::fs::write(&key, "").unwrap();
    let error = ClientCertificate::read(&certificate, &key).unwrap_err();
    assert_eq!(error.hint(), Some("give the file in PEM form, which begins with -----BEGIN"));
}

#[test]
fn credentials_that_are_none_are_refused_with_the_reason() {
    let (user, other) = (User::new(), User::new());
    check_refused(&user.certificate, &other.pkcs8(), "the private key does not belong to the client certificate");
    check_refused(
        &user.pkcs8(),
        &user.pkcs8(),
        "expected a PEM block CERTIFICATE as client certificate, got PRIVATE KEY",
    );
    check_refused(
        &user.certificate,
        &user.certificate,
        "expected a PEM block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY, got CERTIFICATE",
    );
    let encrypted = pem::encode("ENCRYPTED PRIVATE KEY", b"x");
    check_refused(&user.certificate, &encrypted, "the private key is encrypted");
    let legacy = user.sec1().replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n");
    check_refused(&user.certificate, &legacy, "the private key is not PEM");
    let garbage = pem::encode(pem::PRIVATE_KEY, b"garbage");
    let error = ClientCertificate::from_pem(user.certificate.as_bytes(), garbage.as_bytes()).unwrap_err();
    assert!(matches!(error, CredentialsError::Key { .. }), "{error}");
    let certificate = pem::encode(pem::CERTIFICATE, b"garbage");
    check_refused(&certificate, &user.pkcs8(), "the client certificate cannot be read");
}

#[test]
fn files_that_are_too_long_are_refused() {
    let user = User::new();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let padded = |length: usize| format!("{}{}", user.certificate, "\n".repeat(length - user.certificate.len()));
    let key = file("key", user.pkcs8());
    ClientCertificate::read(&file("long", padded(MAX_CREDENTIAL_BYTES)), &key).unwrap();
    let path = file("longer", padded(MAX_CREDENTIAL_BYTES + 1));
    let error = ClientCertificate::read(&path, &key).unwrap_err();
    assert_eq!(error, CredentialsError::TooLong { what: "client certificate", path });
}

#[test]
fn keys_are_not_shown() {
    let user = User::new();
    let credentials = ClientCertificate::from_pem(user.certificate.as_bytes(), user.pkcs8().as_bytes()).unwrap();
    assert_eq!(format!("{credentials:?}"), "ClientCertificate([redacted])");
}

#[tokio::test]
async fn a_marble_takes_its_credentials_from_its_variables() {
    let marble = User::new();
    let fake = Fake::start(Script {
        canned: vec![("POST /api/v2/monotonic-counter", 200, marblerun_api::rest::CounterAnswer { value: 4 }.to_v2())],
        ..Script::new()
    });
    let root = pem::encode(pem::CERTIFICATE, &fake.script().identity.root);
    let variable = |name: &str| match name {
        "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN" => Some(format!("{}{root}", marble.certificate).into()),
        "MARBLE_PREDEFINED_PRIVATE_KEY" => Some(marble.pkcs8().into()),
        "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA" => Some(root.clone().into()),
        _ => None,
    };
    let credentials = MarbleCredentials::from_variables(variable).unwrap();
    let client = Client::of_marble(address(&fake), &credentials, Timeouts::default()).unwrap();
    assert_eq!(client.raise_monotonic_counter("db", 9).await.unwrap(), 4);
    assert_eq!(fake.last().client, Some(marble.der.clone()));

    for missing in [
        "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN",
        "MARBLE_PREDEFINED_PRIVATE_KEY",
        "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA",
    ] {
        let without = |name: &str| variable(name).filter(|_| name != missing);
        let error = MarbleCredentials::from_variables(without).unwrap_err();
        assert_eq!(error, CredentialsError::NotAMarble { name: missing });
    }
}
