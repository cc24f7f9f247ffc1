//! The keys and certificates that a deployment is known by.

use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use marblerun_pki::{AltNames, IssueError, Issuer, KeyError, KeyPair, profile};
use marblerun_secret::SecretBytes;
use thiserror::Error;
use zeroize::Zeroize;

use crate::record::Genesis;
use crate::time::Timestamp;

/// Bytes of the root secret.
const ROOT_SECRET_LEN: usize = 32;

/// The keys and certificates that a deployment is known by.
#[derive(Debug)]
pub struct Identity {
    /// Signs the intermediate certificate and the manifest.
    pub root_key: KeyPair,
    /// DER; what clients pin and what the quote speaks for.
    pub root_certificate: Arc<[u8]>,
    /// Signs the certificates of Marbles and secrets.
    pub intermediate_key: KeyPair,
    /// DER; signed by the root.
    pub intermediate_certificate: Arc<[u8]>,
    /// DER; the same name and key as the intermediate certificate, signed by itself.
    pub marble_root_certificate: Arc<[u8]>,
    /// From which Marbles' own symmetric keys are derived.
    pub root_secret: SecretBytes,
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
        let mut root_secret = [0; ROOT_SECRET_LEN];
        SystemRandom::new().fill(&mut root_secret).map_err(|_| IdentityError::Random)?;
        let genesis = Self {
            root_key: root.to_pkcs8()?,
            root_certificate,
            intermediate_key: intermediate.to_pkcs8()?,
            intermediate_certificate,
            marble_root_certificate,
            root_secret: SecretBytes::copy_from(&root_secret),
        };
        root_secret.zeroize();
        Ok(genesis)
    }
}

impl Identity {
    /// The identity that a record holds.
    ///
    /// # Errors
    ///
    /// If a key cannot be read.
    pub fn from_genesis(genesis: &Genesis) -> Result<Self, IdentityError> {
        Ok(Self {
            root_key: KeyPair::from_pkcs8(&genesis.root_key)?,
            root_certificate: genesis.root_certificate.as_slice().into(),
            intermediate_key: KeyPair::from_pkcs8(&genesis.intermediate_key)?,
            intermediate_certificate: genesis.intermediate_certificate.as_slice().into(),
            marble_root_certificate: genesis.marble_root_certificate.as_slice().into(),
            root_secret: genesis.root_secret.duplicate(),
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
