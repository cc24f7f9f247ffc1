//! Tests of the public API, most of them against OpenSSL as a second opinion.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod openssl;
mod oracle;
mod profiles;
mod requests;
mod secrets;
mod tolerance;

use std::time::Duration;

use marblerun_pki::{AltNames, CertificateTemplate, Issuer, KeyPair, profile};
use marblerun_pki::{SecretValidity, issue_secret_certificate};
use rustls_pki_types::UnixTime;

/// 2026-09-21 14:13:20 UTC.
const NOW_SECONDS: u64 = 1_790_000_000;

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(NOW_SECONDS))
}

/// The CAs of a deployment.
struct Deployment {
    key: KeyPair,
    root: Vec<u8>,
    intermediate: Vec<u8>,
    marble_root: Vec<u8>,
}

impl Deployment {
    fn new() -> Self {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let names = AltNames::from_list("localhost,192.0.2.1");
        let root = profile::root_certificate(&root_key, &names, now()).unwrap();
        let issuer = Issuer::new(&root, &root_key).unwrap();
        let intermediate = profile::intermediate_certificate(&issuer, &key, &names, now()).unwrap();
        let marble_root = profile::marble_root_certificate(&key, &names, now()).unwrap();
        Self { key, root, intermediate, marble_root }
    }

    fn marble_issuer(&self) -> Issuer<'_> {
        Issuer::new(&self.marble_root, &self.key).unwrap()
    }

    /// The certificate of a secret, for the CA's own key: whose it is does not matter to the tests.
    fn secret(&self, template: &CertificateTemplate) -> Result<Vec<u8>, marblerun_pki::IssueError> {
        let validity = SecretValidity::default();
        issue_secret_certificate(&self.marble_issuer(), template, validity, self.key.public_key_der(), now())
    }
}
