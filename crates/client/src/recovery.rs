//! Recovering a Coordinator that cannot open its sealed state.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeyPair, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use marblerun_api::rest::{RecoverAnswer, RecoverRequest, RecoveryKeyAnswer, v2};
use marblerun_pki::pem::{self, PemError};
use marblerun_secret::SecretBytes;

use crate::client::Client;
use crate::error::ClientError;

/// Lengths of plain recovery secrets in bytes: of old deployments, of one key or all-of-n, and of a threshold.
///
/// A Coordinator takes every other length for a secret that is encrypted to its recovery key.
pub const PLAIN_SECRET_BYTES: [usize; 3] = [16, 32, 33];

/// Longest RSA key of a recovery party, in bits; an encrypted secret has as many.
const MAX_KEY_BITS: usize = 8192;

/// Why a recovery secret cannot be prepared.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// The key file is not PEM.
    #[error("the recovery key is not PEM")]
    KeyPem(#[source] PemError),
    /// No RSA key in the file.
    #[error("expected an RSA key (PEM block PRIVATE KEY or RSA PRIVATE KEY) as recovery key, got {got}")]
    NoKey {
        /// Labels of the blocks that are there.
        got: String,
    },
    /// The key needs a password.
    #[error("the recovery key is encrypted")]
    EncryptedKey,
    /// Not an RSA key that is usable.
    #[error("expected an RSA key of 2048 to 8192 bits as recovery key, got another one: {reason}")]
    Key {
        /// What the library said.
        reason: String,
    },
    /// The secret was encrypted to another key.
    #[error("the recovery secret does not decrypt with this recovery key")]
    Decrypt,
    /// What was decrypted is no recovery secret.
    #[error("expected a recovery secret of 16, 32 or 33 bytes, got {got}")]
    Length {
        /// Bytes after decryption.
        got: usize,
    },
    /// It is encrypted, and there is no key.
    #[error("the recovery secret of {got} bytes is encrypted, and no recovery key is given")]
    NeedsKey {
        /// Bytes of the encrypted secret.
        got: usize,
    },
    /// The Coordinator's key for recovery secrets is unusable.
    #[error("the Coordinator's recovery public key cannot be used: {reason}")]
    PublicKey {
        /// What is wrong.
        reason: String,
    },
    /// The provider failed.
    #[error("the cryptographic provider failed to {what}")]
    Provider {
        /// What it had to do.
        what: &'static str,
    },
}

impl RecoveryError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::KeyPem(PemError::Headers { .. }) | Self::EncryptedKey => {
                Some("give the key without password, for example from `openssl pkey -in key.pem -out plain.pem`")
            }
            Self::NoKey { .. } => Some("give the private key to a public key in the manifest's RecoveryKeys"),
            Self::Decrypt | Self::Length { .. } => {
                Some("give the private key to the RecoveryKeys entry under whose name this secret was given out")
            }
            Self::NeedsKey { .. } => Some("give the private key that decrypts it"),
            Self::KeyPem(_) | Self::Key { .. } | Self::PublicKey { .. } | Self::Provider { .. } => None,
        }
    }
}

/// A recovery secret in plain form. Whoever has enough of them can open the sealed state.
pub struct RecoverySecret(SecretBytes);

impl fmt::Debug for RecoverySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoverySecret([redacted])")
    }
}

impl RecoverySecret {
    /// Takes a secret that is plain already.
    ///
    /// # Errors
    ///
    /// [`RecoveryError::NeedsKey`] if its length says that it is encrypted.
    pub fn from_plain(secret: SecretBytes) -> Result<Self, RecoveryError> {
        match PLAIN_SECRET_BYTES.contains(&secret.len()) {
            true => Ok(Self(secret)),
            false => Err(RecoveryError::NeedsKey { got: secret.len() }),
        }
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &SecretBytes {
        &self.0
    }

    /// Encrypts to the key of a Coordinator (SubjectPublicKeyInfo, DER): RSA-OAEP, SHA-256, empty label.
    ///
    /// # Errors
    ///
    /// [`RecoveryError::PublicKey`] if that is no RSA key of 2048 to 8192 bits.
    pub fn encrypt_to(&self, coordinator_key: &[u8]) -> Result<Vec<u8>, RecoveryError> {
        let refused = |reason: String| RecoveryError::PublicKey { reason };
        let key = PublicEncryptingKey::from_der(coordinator_key).map_err(|error| refused(error.to_string()))?;
        let key = OaepPublicEncryptingKey::new(key).map_err(|_| refused("not usable for RSA-OAEP".to_owned()))?;
        let mut encrypted = vec![0; key.ciphertext_size()];
        let length = key
            .encrypt(&OAEP_SHA256_MGF1SHA256, self.0.expose(), &mut encrypted, None)
            .map_err(|_| RecoveryError::Provider { what: "encrypt the recovery secret" })?
            .len();
        encrypted.truncate(length);
        Ok(encrypted)
    }
}

/// The private key of a recovery party: decrypts its share and signs it.
pub struct RecoveryKey {
    signing: KeyPair,
    decrypting: OaepPrivateDecryptingKey,
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKey([redacted])")
    }
}

impl RecoveryKey {
    /// Reads an RSA key in PEM, PKCS#8 or PKCS#1.
    ///
    /// # Errors
    ///
    /// See [`RecoveryError`].
    pub fn from_pem(text: &[u8]) -> Result<Self, RecoveryError> {
        let blocks = pem::decode_all(text).map_err(RecoveryError::KeyPem)?;
        let refused = |reason: String| RecoveryError::Key { reason };
        if blocks.iter().any(|block| block.label == "ENCRYPTED PRIVATE KEY") {
            return Err(RecoveryError::EncryptedKey);
        }
        let block = blocks.iter().find(|block| matches!(block.label.as_str(), pem::PRIVATE_KEY | "RSA PRIVATE KEY"));
        let Some(block) = block else {
            let labels: Vec<_> = blocks.iter().map(|block| block.label.as_str()).collect();
            let got = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
            return Err(RecoveryError::NoKey { got });
        };
        let der = block.der.expose();
        let signing = match block.label.as_str() {
            pem::PRIVATE_KEY => KeyPair::from_pkcs8(der),
            _ => KeyPair::from_der(der),
        };
        let signing = signing.map_err(|error| refused(error.to_string()))?;
        let pkcs8 = signing.as_der().map_err(|_| RecoveryError::Provider { what: "convert the recovery key" })?;
        let decrypting =
            PrivateDecryptingKey::from_pkcs8(pkcs8.as_ref()).map_err(|error| refused(error.to_string()))?;
        let decrypting = OaepPrivateDecryptingKey::new(decrypting)
            .map_err(|_| RecoveryError::Provider { what: "prepare the recovery key" })?;
        Ok(Self { signing, decrypting })
    }

    /// The plain form of a secret as it was given out: decrypts it, unless its length says that it is plain.
    ///
    /// # Errors
    ///
    /// See [`RecoveryError`].
    pub fn open(&self, secret: &SecretBytes) -> Result<RecoverySecret, RecoveryError> {
        if PLAIN_SECRET_BYTES.contains(&secret.len()) {
            return Ok(RecoverySecret(secret.duplicate()));
        }
        if secret.len() > MAX_KEY_BITS / 8 {
            return Err(RecoveryError::Decrypt);
        }
        let mut plain = zeroize::Zeroizing::new(vec![0; self.decrypting.min_output_size()]);
        let length = self
            .decrypting
            .decrypt(&OAEP_SHA256_MGF1SHA256, secret.expose(), &mut plain, None)
            .map_err(|_| RecoveryError::Decrypt)?
            .len();
        if !PLAIN_SECRET_BYTES.contains(&length) {
            return Err(RecoveryError::Length { got: length });
        }
        Ok(RecoverySecret(SecretBytes::copy_from(plain.get(..length).unwrap_or_default())))
    }

    /// The signature that a Coordinator wants over the plain secret: RSASSA-PKCS1-v1_5 with SHA-256.
    ///
    /// # Errors
    ///
    /// [`RecoveryError::Provider`] if signing fails.
    pub fn sign(&self, secret: &RecoverySecret) -> Result<Vec<u8>, RecoveryError> {
        let mut signature = vec![0; self.signing.public_modulus_len()];
        self.signing
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), secret.0.expose(), &mut signature)
            .map_err(|_| RecoveryError::Provider { what: "sign the recovery secret" })?;
        Ok(signature)
    }
}

impl Client {
    /// Gives the Coordinator one recovery secret, plain or encrypted to its [recovery public
    /// key](Self::recovery_public_key), with the party's signature over the plain one.
    ///
    /// All secrets of one recovery must reach the same Coordinator. The answer says how many are still missing.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; [`ClientError::NeedsVersion2`] if the Coordinator is too old for signed recovery.
    ///
    /// ```no_run
    /// # async fn example(client: marblerun_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use marblerun_client::{RecoveryKey, SecretBytes};
    ///
    /// let key = RecoveryKey::from_pem(&std::fs::read("recovery-private.pem")?)?;
    /// let secret = key.open(&SecretBytes::new(std::fs::read("recovery-secret")?))?;
    /// let answer = client.recover(secret.expose(), &key.sign(&secret)?).await?;
    /// println!("{} secrets are still missing", answer.remaining);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recover(&self, secret: &SecretBytes, signature: &[u8]) -> Result<RecoverAnswer, ClientError> {
        let request =
            RecoverRequest { recovery_secret: Some(secret.duplicate()), recovery_secret_signature: signature.to_vec() };
        self.call_v2("recovery", "POST", v2::RECOVER, request.to_body()).await
    }

    /// The key to which recovery secrets may be encrypted for this Coordinator: SubjectPublicKeyInfo, DER.
    ///
    /// The Coordinator makes it anew at each start; only the pinned connection vouches for it.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn recovery_public_key(&self) -> Result<Vec<u8>, ClientError> {
        let answer: RecoveryKeyAnswer = self.call_v2("recovery", "GET", v2::RECOVER_PUBLIC_KEY, Vec::new()).await?;
        Ok(answer.ephemeral_public_key)
    }
}
