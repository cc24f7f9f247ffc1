use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marblerun_json::{RawJson, decode_object};

use crate::rest::describe::{Members, Object};
use crate::rest::envelope::{success_object, success_of, success_without_data};

/// Longer answers are refused by our clients: a manifest of 16 MiB in base64 with room to spare.
pub const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// What the Coordinator is ready for, as it reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoordinatorState {
    /// The sealed state cannot be opened.
    Recovery,
    /// No manifest is set.
    AcceptingManifest,
    /// A manifest is set.
    AcceptingMarbles,
}

impl CoordinatorState {
    /// The number that stands for it.
    pub fn code(self) -> u64 {
        match self {
            Self::Recovery => 1,
            Self::AcceptingManifest => 2,
            Self::AcceptingMarbles => 3,
        }
    }

    /// The state with this number.
    pub fn from_code(code: u64) -> Option<Self> {
        [Self::Recovery, Self::AcceptingManifest, Self::AcceptingMarbles].into_iter().find(|state| state.code() == code)
    }

    /// The sentence that goes with it, exact.
    pub fn message(self) -> &'static str {
        match self {
            Self::Recovery => {
                "Coordinator is in recovery mode. Either upload a key to unseal the saved state, or set a new manifest. \
                 For more information on how to proceed, consult the documentation."
            }
            Self::AcceptingManifest => "Coordinator is ready to accept a manifest.",
            Self::AcceptingMarbles => "Coordinator is running correctly and ready to accept marbles.",
        }
    }
}

/// Answer of GET status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusAnswer {
    /// See [`CoordinatorState::code`].
    pub code: u64,
    /// See [`CoordinatorState::message`].
    pub message: String,
    /// Ours, version 2 only: the class of the Coordinator's own evidence: `hardware`, `software` or `simulation`.
    pub trust_class: Option<String>,
}

decode_object!(StatusAnswer {
    "code" => code,
    "StatusCode" => code,
    "message" => message,
    "StatusMessage" => message,
    "trustClass" => trust_class,
});

impl From<CoordinatorState> for StatusAnswer {
    fn from(state: CoordinatorState) -> Self {
        Self { code: state.code(), message: state.message().to_owned(), trust_class: None }
    }
}

impl Object for StatusAnswer {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { code, message, trust_class } = self;
        members.member("code", code).member("message", message).optional("trustClass", trust_class.as_ref())
    }
}

impl StatusAnswer {
    /// The body in version 1.
    pub fn to_v1(&self) -> String {
        success_of(|object| object.member("StatusCode", &self.code).member("StatusMessage", &self.message))
    }

    /// The body in version 2.
    pub fn to_v2(&self) -> String {
        success_object(self)
    }
}

/// Answer of GET manifest. The default is that of version 1 when no manifest is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestAnswer {
    /// ECDSA signature of the root key over SHA-256 of the manifest, ASN.1 DER.
    pub signature: Option<Vec<u8>>,
    /// Lower-case hexadecimal SHA-256 of the manifest.
    pub fingerprint: String,
    /// The manifest byte for byte as it was uploaded.
    pub manifest: Option<Vec<u8>>,
}

decode_object!(ManifestAnswer {
    "manifestSignatureRootECDSA" => signature,
    "manifestFingerprint" => fingerprint,
    "ManifestSignature" => fingerprint,
    "manifest" => manifest,
});

impl Object for ManifestAnswer {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { signature, fingerprint, manifest } = self;
        members
            .member("manifestSignatureRootECDSA", signature)
            .member("manifestFingerprint", fingerprint)
            .member("manifest", manifest)
    }
}

impl ManifestAnswer {
    /// The body in version 1, which calls the fingerprint `ManifestSignature`.
    pub fn to_v1(&self) -> String {
        success_of(|object| {
            object
                .member("ManifestSignatureRootECDSA", &self.signature)
                .member("ManifestSignature", &self.fingerprint)
                .member("Manifest", &self.manifest)
        })
    }

    /// The body in version 2.
    pub fn to_v2(&self) -> String {
        success_object(self)
    }
}

/// Answer of POST manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetManifestAnswer {
    /// Recovery secrets by the name of the recovery key to which each is encrypted; given once and never again.
    pub recovery_secrets: BTreeMap<String, Vec<u8>>,
}

decode_object!(SetManifestAnswer { "RecoverySecrets" => recovery_secrets });

impl Object for SetManifestAnswer {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { recovery_secrets } = self;
        members.member("RecoverySecrets", recovery_secrets)
    }
}

impl SetManifestAnswer {
    /// The body in version 1: no data if there are no recovery keys.
    pub fn to_v1(&self) -> String {
        if self.recovery_secrets.is_empty() { success_without_data() } else { self.to_v2() }
    }

    /// The body in version 2; the member is in PascalCase here too.
    pub fn to_v2(&self) -> String {
        success_object(self)
    }
}

/// Answer of GET quote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuoteAnswer {
    /// Two PEM blocks: intermediate certificate, then root certificate.
    pub cert: String,
    /// Quote with Open Enclave header; `None` in simulation.
    pub quote: Option<Vec<u8>>,
    /// Ours, version 2 only: a JSON text. SHA-256 of its exact bytes is in bytes 32 to 63 of the report data.
    pub statement: Option<String>,
    /// Ours, version 2 only: the vendor's collateral with which the Coordinator verifies quotes of its platform, a JSON
    /// value. A client must verify it like collateral from any other source.
    pub collateral: Option<RawJson>,
}

decode_object!(QuoteAnswer {
    "cert" => cert,
    "quote" => quote,
    "statement" => statement,
    "collateral" => collateral,
});

impl Object for QuoteAnswer {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { cert, quote, statement, collateral } = self;
        members
            .member("cert", cert)
            .member("quote", quote)
            .optional("statement", statement.as_ref())
            .optional("collateral", collateral.as_ref())
    }
}

impl QuoteAnswer {
    /// The body in version 1.
    pub fn to_v1(&self) -> String {
        success_of(|object| object.member("Cert", &self.cert).member("Quote", &self.quote))
    }

    /// The body in version 2.
    pub fn to_v2(&self) -> String {
        success_object(self)
    }
}

/// Answer of POST recover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoverAnswer {
    /// How many secrets are still missing.
    pub remaining: u64,
    /// The same in words.
    pub message: String,
}

decode_object!(RecoverAnswer { "remaining" => remaining, "message" => message });

impl Object for RecoverAnswer {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { remaining, message } = self;
        members.member("remaining", remaining).member("message", message)
    }
}

impl RecoverAnswer {
    /// The answer when `remaining` secrets are still missing, with the usual words.
    pub fn new(remaining: u64) -> Self {
        let message = match remaining {
            0 => "Recovery successful.".to_owned(),
            _ => format!("Secret was processed successfully. Upload the next secret. Remaining secrets: {remaining}"),
        };
        Self { remaining, message }
    }

    /// The body in version 2.
    pub fn to_v2(&self) -> String {
        success_object(self)
    }
}

/// Answer of GET recover/public-key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryKeyAnswer {
    /// `RSA`.
    pub algorithm: String,
    /// SubjectPublicKeyInfo, DER.
    pub ephemeral_public_key: Vec<u8>,
}

decode_object!(RecoveryKeyAnswer { "algorithm" => algorithm, "ephemeralPublicKey" => ephemeral_public_key });

impl Object for RecoveryKeyAnswer {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { algorithm, ephemeral_public_key } = self;
        let algorithm = (!algorithm.is_empty()).then_some(algorithm);
        members.optional("algorithm", algorithm).member("ephemeralPublicKey", ephemeral_public_key)
    }
}

impl RecoveryKeyAnswer {
    /// The body in version 2.
    pub fn to_v2(&self) -> String {
        success_object(self)
    }
}

/// Answer of POST sign-quote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignQuoteAnswer {
    /// The vendor's verdict, e.g. `UpToDate`.
    pub tcb_status: String,
    /// ECDSA signature of the root key, ASN.1 DER.
    pub verification_signature: Vec<u8>,
}

decode_object!(SignQuoteAnswer { "tcbStatus" => tcb_status, "verificationSignature" => verification_signature });

impl Object for SignQuoteAnswer {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { tcb_status, verification_signature } = self;
        members.member("tcbStatus", tcb_status).member("verificationSignature", verification_signature)
    }
}

impl SignQuoteAnswer {
    /// What the signature is over: the base64 of the quote as it was sent, then the status.
    pub fn signed_text(quote: &[u8], tcb_status: &str) -> Vec<u8> {
        let mut text = STANDARD.encode(quote);
        text.push_str(tcb_status);
        text.into_bytes()
    }

    /// The body in version 2.
    pub fn to_v2(&self) -> String {
        success_object(self)
    }
}
