//! The Marble's own key and certificate for one activation.

use std::net::IpAddr;

use marblerun_pki::{AltNames, KeyPair};
use marblerun_secret::SecretBytes;
use rustls_pki_types::UnixTime;

/// Why there are no credentials.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No key.
    #[error("cannot make a key pair")]
    Key(#[source] marblerun_pki::KeyError),
    /// No certificate.
    #[error("cannot make a certificate")]
    Certificate(#[source] marblerun_pki::IssueError),
    /// No certificate request.
    #[error("cannot make a certificate request")]
    Request(#[source] marblerun_pki::IssueError),
}

/// A P-384 key pair and its self-signed certificate, which the evidence names and the TLS connection proves.
///
/// They serve this one activation; the application gets others, made by the Coordinator.
#[derive(Debug)]
pub struct Credentials {
    key: KeyPair,
    private_key: SecretBytes,
    certificate: Vec<u8>,
}

impl Credentials {
    /// Makes a new pair. The certificate names `dns_names` and `ip_addresses` and is valid from `now` on.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub fn generate(dns_names: &[String], ip_addresses: &[IpAddr], now: UnixTime) -> Result<Self, CredentialsError> {
        let key = KeyPair::generate().map_err(CredentialsError::Key)?;
        let private_key = key.to_pkcs8().map_err(CredentialsError::Key)?;
        let certificate = marblerun_pki::profile::premain_certificate(&key, &names(dns_names, ip_addresses), now)
            .map_err(CredentialsError::Certificate)?;
        Ok(Self { key, private_key, certificate })
    }

    /// DER of the certificate.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// PKCS#8 DER of the private key.
    pub fn private_key(&self) -> &SecretBytes {
        &self.private_key
    }

    /// A PKCS#10 request (DER) for the certificate that the Coordinator makes for the application.
    ///
    /// # Errors
    /// [`CredentialsError::Request`].
    pub fn request(&self, dns_names: &[String], ip_addresses: &[IpAddr]) -> Result<Vec<u8>, CredentialsError> {
        marblerun_pki::request::premain_request(&self.key, &names(dns_names, ip_addresses))
            .map_err(CredentialsError::Request)
    }
}

fn names(dns_names: &[String], ip_addresses: &[IpAddr]) -> AltNames {
    AltNames { dns: dns_names.to_vec(), ips: ip_addresses.to_vec() }
}
