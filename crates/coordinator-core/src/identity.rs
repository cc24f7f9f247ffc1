//! The keys and certificates that a deployment is known by.

use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use marblerun_pki::{AltNames, Certificate, CertificateError, IssueError, Issuer, KeyError, KeyPair, profile};
use marblerun_secret::SecretBytes;
use thiserror::Error;
use zeroize::Zeroize;

use crate::record::{Authority, Genesis};
use crate::time::Timestamp;

/// Bytes of the root secret.
const ROOT_SECRET_LEN: usize = 32;

/// The keys and certificates that a deployment is known by.
#[derive(Debug)]
pub struct Identity {
    /// Signs the intermediate certificate and the manifest.
    pub root_key: Arc<KeyPair>,
    /// DER; what clients pin and what the quote speaks for.
    pub root_certificate: Arc<[u8]>,
    /// Signs the certificates of Marbles and secrets.
    pub intermediate_key: KeyPair,
    /// DER; signed by the root.
    pub intermediate_certificate: Arc<[u8]>,
    /// DER; the same name and key as the intermediate certificate, signed by itself.
    pub marble_root_certificate: Arc<[u8]>,
    /// From which Marbles' own symmetric keys are derived.
    pub root_secret: Arc<SecretBytes>,
    /// The root secret before its last rotation; the same one before the first. The previous values of Marbles' own
    /// symmetric keys are derived from it.
    pub previous_root_secret: Arc<SecretBytes>,
}

/// Why an identity cannot be made or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A key cannot be made or read.
    #[error("a key of the deployment cannot be used")]
    Key(#[from] KeyError),
    /// A certificate cannot be made.
    #[error("a certificate of the deployment cannot be made")]
    Certificate(#[from] IssueError),
    /// The names in the root certificate cannot be read.
    #[error("the root certificate cannot be read")]
    Root(#[from] CertificateError),
    /// The random number generator failed.
    #[error("no random numbers")]
    Random,
}

impl Genesis {
    /// Makes a new identity. `names` go into the certificates after 127.0.0.1 and ::1.
    ///
    /// # Errors
    ///
    /// If the provider makes no keys, or a name cannot stand in a certificate.
    pub fn create(names: &AltNames, now: Timestamp) -> Result<Self, IdentityError> {
        let (root, intermediate) = (KeyPair::generate()?, KeyPair::generate()?);
        let root_certificate = profile::root_certificate(&root, names, now.unix())?;
        let issuer = Issuer::new(&root_certificate, &root)?;
        let intermediate_certificate = profile::intermediate_certificate(&issuer, &intermediate, names, now.unix())?;
        let marble_root_certificate = profile::marble_root_certificate(&intermediate, names, now.unix())?;
        Ok(Self {
            root_key: root.to_pkcs8()?,
            root_certificate,
            intermediate_key: intermediate.to_pkcs8()?,
            intermediate_certificate,
            marble_root_certificate,
            root_secret: new_root_secret()?,
        })
    }
}

/// Random bytes to derive keys from.
///
/// # Errors
///
/// [`IdentityError::Random`].
pub(crate) fn new_root_secret() -> Result<SecretBytes, IdentityError> {
    let mut bytes = [0; ROOT_SECRET_LEN];
    SystemRandom::new().fill(&mut bytes).map_err(|_| IdentityError::Random)?;
    let secret = SecretBytes::copy_from(&bytes);
    bytes.zeroize();
    Ok(secret)
}

impl Identity {
    /// The identity that a record holds.
    ///
    /// # Errors
    ///
    /// If a key cannot be read.
    pub fn from_genesis(genesis: &Genesis) -> Result<Self, IdentityError> {
        let root_secret = Arc::new(genesis.root_secret.duplicate());
        Ok(Self {
            root_key: Arc::new(KeyPair::from_pkcs8(&genesis.root_key)?),
            root_certificate: genesis.root_certificate.as_slice().into(),
            intermediate_key: KeyPair::from_pkcs8(&genesis.intermediate_key)?,
            intermediate_certificate: genesis.intermediate_certificate.as_slice().into(),
            marble_root_certificate: genesis.marble_root_certificate.as_slice().into(),
            previous_root_secret: Arc::clone(&root_secret),
            root_secret,
        })
    }

    /// Makes the authority that an update of the manifest brings: a new intermediate key and its two certificates, with
    /// the names and addresses of the root certificate.
    ///
    /// # Errors
    ///
    /// If the root certificate cannot be read or the provider makes no key.
    pub fn new_authority(&self, now: Timestamp) -> Result<Authority, IdentityError> {
        let names = configured_names(&self.root_certificate)?;
        let key = KeyPair::generate()?;
        let root = Issuer::new(&self.root_certificate, &self.root_key)?;
        Ok(Authority {
            intermediate_certificate: profile::intermediate_certificate(&root, &key, &names, now.unix())?,
            marble_root_certificate: profile::marble_root_certificate(&key, &names, now.unix())?,
            intermediate_key: key.to_pkcs8()?,
        })
    }

    /// The same deployment under another authority and, if one is given, another root secret.
    ///
    /// # Errors
    ///
    /// If the key cannot be read.
    pub fn updated(&self, authority: &Authority, root_secret: Option<&SecretBytes>) -> Result<Self, IdentityError> {
        let (root_secret, previous_root_secret) = match root_secret {
            Some(new) => (Arc::new(new.duplicate()), Arc::clone(&self.root_secret)),
            None => (Arc::clone(&self.root_secret), Arc::clone(&self.previous_root_secret)),
        };
        Ok(Self {
            root_key: Arc::clone(&self.root_key),
            root_certificate: Arc::clone(&self.root_certificate),
            intermediate_key: KeyPair::from_pkcs8(&authority.intermediate_key)?,
            intermediate_certificate: authority.intermediate_certificate.as_slice().into(),
            marble_root_certificate: authority.marble_root_certificate.as_slice().into(),
            root_secret,
            previous_root_secret,
        })
    }

    /// The issuer of the certificates of Marbles and secrets.
    ///
    /// # Errors
    ///
    /// If the stored certificate cannot be read.
    pub fn marble_issuer(&self) -> Result<Issuer<'_>, IssueError> {
        Issuer::new(&self.marble_root_certificate, &self.intermediate_key)
    }
}

/// The names that were configured when the root was made; every profile adds the default addresses again.
fn configured_names(root_certificate: &[u8]) -> Result<AltNames, CertificateError> {
    let names = Certificate::parse(root_certificate)?.alt_names()?;
    let ips = names.ips.strip_prefix(&AltNames::DEFAULT_IPS).unwrap_or(&names.ips).to_vec();
    Ok(AltNames { dns: names.dns, ips })
}
