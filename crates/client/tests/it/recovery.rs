//! Recovery secrets and the keys of their parties.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{
    KeyPair, KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use marblerun_client::{RecoveryError, RecoveryKey, RecoverySecret, SecretBytes};
use marblerun_pki::pem;

struct Party {
    pair: KeyPair,
    pkcs8: Vec<u8>,
}

impl Party {
    fn new() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs8 = pair.as_der().unwrap().as_ref().to_vec();
        Self { pair, pkcs8 }
    }

    fn public_key(&self) -> Vec<u8> {
        let key: aws_lc_rs::encoding::PublicKeyX509Der<'_> = self.pair.public_key().as_der().unwrap();
        key.as_ref().to_vec()
    }

    fn key(&self) -> RecoveryKey {
        RecoveryKey::from_pem(pem::encode(pem::PRIVATE_KEY, &self.pkcs8).as_bytes()).unwrap()
    }

    /// PKCS#8 of RSA 2048 is PKCS#1 behind 26 bytes (RFC 5208 5).
    fn pkcs1(&self) -> String {
        pem::encode("RSA PRIVATE KEY", &self.pkcs8[26..])
    }
}

fn secret(length: usize) -> SecretBytes {
    SecretBytes::new(vec![7; length])
}

// rules: CMD-9
#[test]
fn plain_and_encrypted_secrets_are_opened_and_the_plain_one_is_signed() {
    let party = Party::new();
    for key in [party.key(), RecoveryKey::from_pem(party.pkcs1().as_bytes()).unwrap()] {
        for length in [16, 32, 33] {
            let plain = RecoverySecret::from_plain(secret(length)).unwrap();
            let encrypted = SecretBytes::new(plain.encrypt_to(&party.public_key()).unwrap());
            for given in [secret(length), encrypted] {
                let opened = key.open(&given).unwrap();
                assert_eq!(opened.expose().expose(), secret(length).expose());
                let signature = key.sign(&opened).unwrap();
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, party.pair.public_key().as_ref())
                    .verify(secret(length).expose(), &signature)
                    .unwrap();
            }
        }
    }
}

#[test]
fn a_secret_that_was_encrypted_to_the_coordinator_is_decrypted_by_it() {
    let coordinator = Party::new();
    let plain = RecoverySecret::from_plain(secret(33)).unwrap();
    let encrypted = plain.encrypt_to(&coordinator.public_key()).unwrap();
    let key = PrivateDecryptingKey::from_pkcs8(&coordinator.pkcs8).unwrap();
    let key = OaepPrivateDecryptingKey::new(key).unwrap();
    let mut decrypted = vec![0; key.min_output_size()];
    assert_eq!(key.decrypt(&OAEP_SHA256_MGF1SHA256, &encrypted, &mut decrypted, None).unwrap(), [7; 33]);
    assert!(matches!(plain.encrypt_to(b"no key"), Err(RecoveryError::PublicKey { .. })));
}

#[test]
fn secrets_of_others_and_what_is_none_are_refused() {
    let (party, other) = (Party::new(), Party::new());
    let plain = RecoverySecret::from_plain(secret(32)).unwrap();
    let of_other = SecretBytes::new(plain.encrypt_to(&other.public_key()).unwrap());
    for wrong in [of_other, secret(0), secret(31), secret(256), secret(100_000)] {
        assert_eq!(party.key().open(&wrong).unwrap_err(), RecoveryError::Decrypt);
    }
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&party.public_key()).unwrap()).unwrap();
    let mut encrypted = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA256_MGF1SHA256, &[7; 20], &mut encrypted, None).unwrap();
    let error = party.key().open(&SecretBytes::new(encrypted)).unwrap_err();
    assert_eq!(error, RecoveryError::Length { got: 20 });
    assert_eq!(RecoverySecret::from_plain(secret(256)).unwrap_err(), RecoveryError::NeedsKey { got: 256 });
}

#[test]
fn keys_that_are_none_are_refused_with_the_reason() {
    let check = |text: String, expected: &str| {
        let error = RecoveryKey::from_pem(text.as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    };
    check(String::new(), "expected an RSA key (PEM block PRIVATE KEY or RSA PRIVATE KEY) as recovery key, got none");
    check(
        pem::encode("EC PARAMETERS", b"x") + &pem::encode("EC PRIVATE KEY", b"x"),
        "expected an RSA key (PEM block PRIVATE KEY or RSA PRIVATE KEY) as recovery key, got EC PARAMETERS, EC PRIVATE KEY",
    );
    check(pem::encode("ENCRYPTED PRIVATE KEY", b"x"), "the recovery key is encrypted");
    check(
        pem::encode(pem::PRIVATE_KEY, b"x"),
        "expected an RSA key of 2048 to 8192 bits as recovery key, got another one",
    );
    assert_eq!(format!("{:?}", Party::new().key()), "RecoveryKey([redacted])");
}
