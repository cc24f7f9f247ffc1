//! Activation of a Marble, after its evidence was judged.
//!
//! The steps and their order are those of MarbleRun v1.9.1: who is asked for, is the evidence good (the edge does
//! that with `marblerun-attestation`), is there budget, then UUID, request, credentials, secrets, parameters.

use std::sync::Arc;

use marblerun_pki::{CertificateRequest, IssueError, KeyError, KeyPair, RequestError, profile};
use marblerun_secret::SecretBytes;
use thiserror::Error;

use crate::deployment::{Deployment, PreparedMarble};
use crate::generate::{self, GenerateError, MarbleContext};
use crate::identity::Identity;
use crate::ledger::Refusal;
use crate::parameters::{MarbleData, Parameters, RenderError, UsedSecrets};
use crate::secrets::Secrets;
use crate::snapshot::{Phase, Snapshot};
use crate::time::Timestamp;
use crate::uuid::{MarbleUuid, UuidError};

/// A type that nobody knows is shown up to this many characters.
const MAX_SHOWN_CHARS: usize = 64;

/// Why a Marble is not activated.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ActivationError {
    /// There is no manifest yet.
    #[error("cannot accept Marbles in the current state: expected a Coordinator with a manifest")]
    State,
    /// The manifest has no such Marble type.
    #[error("Marble type: expected a type of the manifest, got {0:?}")]
    UnknownType(String),
    /// No activations are left, or the manifest changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The UUID cannot be used.
    #[error(transparent)]
    Uuid(#[from] UuidError),
    /// The certificate request cannot be used.
    #[error("certificate request cannot be used")]
    Request(#[from] RequestError),
    /// The Marble's key cannot be made.
    #[error("the Marble's key cannot be made")]
    Key(#[from] KeyError),
    /// The Marble's certificate cannot be made.
    #[error("the Marble's certificate cannot be made")]
    Certificate(#[from] IssueError),
    /// A secret has no value.
    #[error("secret cannot be generated")]
    Secret(#[from] GenerateError),
    /// A template fails.
    #[error("parameters cannot be made")]
    Parameters(#[from] RenderError),
}

/// A Marble type that may be activated as far as the manifest is concerned.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The deployment that all further steps use.
    pub deployment: Arc<Deployment>,
    /// The Marble type.
    pub marble_type: String,
}

impl Candidate {
    /// Finds the Marble type in the state.
    ///
    /// # Errors
    ///
    /// [`ActivationError::State`] without manifest, [`ActivationError::UnknownType`].
    pub fn find(snapshot: &Snapshot, marble_type: &str) -> Result<Self, ActivationError> {
        let Phase::AcceptingMarbles(deployment) = &snapshot.phase else { return Err(ActivationError::State) };
        if !deployment.marbles.contains_key(marble_type) {
            return Err(ActivationError::UnknownType(marble_type.chars().take(MAX_SHOWN_CHARS).collect()));
        }
        Ok(Self { deployment: Arc::clone(deployment), marble_type: marble_type.to_owned() })
    }

    /// What is prepared for the type.
    ///
    /// # Panics
    ///
    /// Never: [`Candidate::find`] looked it up in the same, immutable deployment.
    pub fn marble(&self) -> &PreparedMarble {
        &self.deployment.marbles[&self.marble_type]
    }

    /// True if each activation must be counted before it is answered.
    pub fn is_counted(&self) -> bool {
        self.marble().max_activations > 0
    }

    /// Everything that the Marble gets; the evidence must have been admitted before.
    ///
    /// # Errors
    ///
    /// See [`ActivationError`]; nothing was changed and no budget was used.
    pub fn prepare(
        &self,
        identity: &Identity,
        uuid: &str,
        certificate_request: &[u8],
        now: Timestamp,
    ) -> Result<Prepared, ActivationError> {
        let marble = self.marble();
        marble.check_budget(&self.marble_type)?;
        let uuid = MarbleUuid::parse(uuid)?;
        let request = CertificateRequest::parse_and_verify(certificate_request)?;

        let issuer = identity.marble_issuer()?;
        let key = KeyPair::generate()?;
        let certificate = profile::marble_certificate(
            &issuer,
            &request,
            &uuid.to_string(),
            &self.marble_type,
            key.public_key_der(),
            now.unix(),
        )?;
        let values = |secrets: &Secrets, used: &UsedSecrets, root_secret: &SecretBytes| {
            let context = MarbleContext { uuid, binding_name: &marble.binding_name, root_secret };
            let value = |(name, stored): (&str, _)| {
                Ok((name.to_owned(), generate::marble_value(name, stored, context, &issuer, now.unix())?))
            };
            secrets.used_by(used).map(value).collect::<Result<Secrets, GenerateError>>()
        };
        let data = MarbleData {
            marble_root: &identity.marble_root_certificate,
            coordinator_root: &identity.root_certificate,
            coordinator_intermediate: &identity.intermediate_certificate,
            certificate: &certificate,
            private_key: &key.to_pkcs8()?,
            public_key: key.public_key_der(),
            secrets: &values(&self.deployment.secrets, marble.parameters.used_secrets(), &identity.root_secret)?,
            previous_secrets: &values(
                &self.deployment.previous_secrets,
                marble.parameters.used_previous_secrets(),
                &identity.previous_root_secret,
            )?,
        };
        Ok(Prepared { uuid, parameters: marble.parameters.render(&data)? })
    }
}

/// A Marble's parameters, not yet given out.
#[derive(Debug)]
pub struct Prepared {
    /// The instance.
    pub uuid: MarbleUuid,
    /// Its files, environment and arguments.
    pub parameters: Parameters,
}
