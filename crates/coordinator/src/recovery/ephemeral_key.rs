//! The key pair to which recovery secrets are encrypted on their way: made once at entry to recovery, never stored.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use marblerun_secret::SecretBytes;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tracing::{error, info};
use zeroize::Zeroizing;

use super::UploadError;

/// Size of the key pair, as MarbleRun v1.9.1 has it.
const KEY_SIZE: KeySize = KeySize::Rsa4096;
/// Making the key takes a second, in a slow enclave several.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Decryptions at work: each takes some milliseconds of processor time and is open to anyone.
const MAX_DECRYPTIONS_IN_FLIGHT: usize = 2;

/// Why there is no public key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is nothing to recover.
    #[error("expected a Coordinator in recovery mode, got one in another state")]
    NotInRecovery,
    /// It takes longer than clients should wait.
    #[error("the ephemeral key is not ready yet: try again")]
    Slow,
    /// The provider failed.
    #[error("the ephemeral key could not be made: upload plain recovery secrets, or restart the Coordinator")]
    Provider,
}

/// The key pair, from its making to its end.
pub(super) struct EphemeralKey {
    state: watch::Sender<State>,
    places: Arc<Semaphore>,
}

/// Freed with the last reference, which wipes it.
type Private = Arc<OaepPrivateDecryptingKey>;

#[derive(Clone, Default)]
enum State {
    #[default]
    InTheMaking,
    Ready {
        private: Private,
        public: Arc<[u8]>,
    },
    Failed,
    Forgotten,
}

impl Default for EphemeralKey {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(MAX_DECRYPTIONS_IN_FLIGHT));
        Self { state: watch::Sender::new(State::default()), places }
    }
}

impl EphemeralKey {
    /// Makes the key in the background.
    pub(super) fn make(&self) {
        let state = self.state.clone();
        // Nobody waits for its end but those who want the key.
        tokio::task::spawn_blocking(move || {
            let made = make();
            if made.is_err() {
                error!("the ephemeral key for recovery secrets could not be made: only plain ones can be uploaded");
            }
            state.send_if_modified(|state| {
                // Recovery may have ended meanwhile.
                let is_wanted = matches!(state, State::InTheMaking);
                if is_wanted {
                    *state = made.unwrap_or(State::Failed);
                }
                is_wanted
            });
        });
    }

    /// Wipes the key as soon as no decryption needs it any more.
    pub(super) fn forget(&self) {
        if matches!(self.state.send_replace(State::Forgotten), State::Ready { .. }) {
            info!("recovery has ended: its ephemeral key is wiped");
        }
    }

    /// SubjectPublicKeyInfo, DER.
    pub(super) async fn public(&self) -> Result<Arc<[u8]>, KeyError> {
        let mut state = self.state.subscribe();
        let made = state.wait_for(|state| !matches!(state, State::InTheMaking));
        let made = tokio::time::timeout(MAX_WAIT, made).await.map_err(|_| KeyError::Slow)?;
        match made.as_deref() {
            Ok(State::Ready { public, .. }) => Ok(Arc::clone(public)),
            Ok(State::InTheMaking) => Err(KeyError::Slow),
            Ok(State::Forgotten) => Err(KeyError::NotInRecovery),
            Ok(State::Failed) | Err(_) => Err(KeyError::Provider),
        }
    }

    /// RSA-OAEP with SHA-256 for hash and MGF1 and an empty label (RFC 8017 7.1).
    pub(super) async fn decrypt(&self, ciphertext: SecretBytes) -> Result<SecretBytes, UploadError> {
        let undecryptable = UploadError::Undecryptable { got: ciphertext.len() };
        // Nobody can have encrypted to a key that is not there, and no ciphertext has another length than the key: these
        // take no place.
        match self.private() {
            Some(private) if private.key_size_bytes() == ciphertext.len() => (),
            _ => return Err(undecryptable),
        }
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| UploadError::Interrupted)?;
        let Some(private) = self.private() else { return Err(undecryptable) };
        // The place goes with the work: a caller that hangs up does not stop it.
        let work = move || (decrypt(&private, &ciphertext), place);
        let (plain, _place) = tokio::task::spawn_blocking(work).await.map_err(|_| UploadError::Interrupted)?;
        plain.map_err(|_| undecryptable)
    }

    /// Decryptions that could begin now.
    #[cfg(test)]
    pub(super) fn free_places(&self) -> usize {
        self.places.available_permits()
    }

    /// The private key, while there is one.
    pub(super) fn private(&self) -> Option<Private> {
        match &*self.state.borrow() {
            State::Ready { private, .. } => Some(Arc::clone(private)),
            _ => None,
        }
    }
}

impl fmt::Debug for EphemeralKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EphemeralKey(..)")
    }
}

fn make() -> Result<State, Unspecified> {
    let private = PrivateDecryptingKey::generate(KEY_SIZE)?;
    let public = private.public_key().as_der()?.as_ref().into();
    Ok(State::Ready { private: Arc::new(OaepPrivateDecryptingKey::new(private)?), public })
}

fn decrypt(private: &OaepPrivateDecryptingKey, ciphertext: &SecretBytes) -> Result<SecretBytes, Unspecified> {
    let mut plain = Zeroizing::new(vec![0; private.min_output_size()]);
    let plain = private.decrypt(&OAEP_SHA256_MGF1SHA256, ciphertext.expose(), &mut plain, None)?;
    Ok(SecretBytes::copy_from(plain))
}
