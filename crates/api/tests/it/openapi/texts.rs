//! What each member means.

use marblerun_api::rest::CoordinatorState;
use serde_json::{Value, json};

pub(super) const INTRODUCTION: &str = "\
HTTPS. The Coordinator presents a certificate that no public authority knows: a client first gets `/api/v2/quote`, \
verifies the quote, and trusts the root certificate that it is about.

Every answer is one JSON object with the members `status`, `data` and, in refusals, `message`. Success is always status \
200. What is not described here, paths and methods alike, is answered 405 with the schema `Error`. Clients skip members \
that they do not know. Requests are read as MarbleRun v1.9.1 reads them: member names match without regard to case, \
unknown members are skipped, and bytes are standard base64 with padding.";

pub(super) const USER: &str = "The certificate of a user in the manifest, compared byte for byte.";
pub(super) const MARBLE: &str = "The certificate that the Marble got in its activation.";

/// The text for a member, and the values that it can have if they are few.
///
/// # Panics
///
/// If a member has no text.
pub(super) fn member(object: &str, member: &str) -> (&'static str, Option<Value>) {
    let found = MEMBERS.iter().find(|(of, name, _)| (*of, *name) == (object, member));
    let (_, _, text) = found.unwrap_or_else(|| panic!("{object}.{member} has no text in {}", file!()));
    (text, values(object, member))
}

/// All members that have a text.
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    MEMBERS.iter().map(|(object, member, _)| (*object, *member))
}

fn values(object: &str, member: &str) -> Option<Value> {
    use CoordinatorState::{AcceptingManifest, AcceptingMarbles, Recovery};
    match (object, member) {
        ("Status", "code") => Some(json!([Recovery, AcceptingManifest, AcceptingMarbles].map(CoordinatorState::code))),
        ("Status", "trustClass") => Some(json!(["hardware", "software", "simulation"])),
        ("Secret", "Type") => Some(json!(["symmetric-key", "cert-rsa", "cert-ecdsa", "cert-ed25519", "plain"])),
        ("RecoveryKey", "algorithm") => Some(json!(["RSA"])),
        _ => None,
    }
}

const RECOVERY_SECRETS: &str = "Recovery secrets by the name of the recovery key to which each is encrypted \
                                (RSA-OAEP, SHA-256). They are given once and never again.";
const NEW_RECOVERY_SECRETS: &str = "New recovery secrets, as in the answer to setting a manifest. There only if this \
                                    call brought an update into force that changed the recovery configuration.";
const MISSING: &str = "How many users must still agree; 0: the update is in force.";
const MISSING_USERS: &str = "Who may still agree; null when the update is in force.";

const MEMBERS: &[(&str, &str, &str)] = &[
    ("Status", "code", "1: recovery, 2: no manifest is set, 3: a manifest is set and Marbles can join."),
    ("Status", "message", "The same as a sentence."),
    ("Status", "trustClass", "The class of the Coordinator's own evidence."),
    ("Quote", "cert", "Two PEM blocks: intermediate certificate, then root certificate."),
    ("Quote", "quote", "The quote with Open Enclave header; null when the Coordinator runs without a TEE."),
    ("Quote", "statement", "A JSON text about the deployment that the quote covers."),
    (
        "Quote",
        "collateral",
        "The vendor's collateral with which the Coordinator verifies quotes of its platform. To be verified like \
         collateral from any other source.",
    ),
    (
        "Manifest",
        "manifestSignatureRootECDSA",
        "ECDSA signature of the root key over SHA-256 of the manifest, ASN.1 DER.",
    ),
    ("Manifest", "manifestFingerprint", "SHA-256 of the manifest, lower-case hexadecimal."),
    ("Manifest", "manifest", "The manifest byte for byte as it was uploaded."),
    ("SetManifestRequest", "manifest", "The manifest, JSON. Its exact bytes are kept and hashed."),
    ("SetManifest", "RecoverySecrets", RECOVERY_SECRETS),
    ("UpdateLog", "updateLog", "One JSON text per entry, oldest first."),
    ("Update", "missingAcknowledgments", MISSING),
    ("Update", "missingUsers", MISSING_USERS),
    ("Update", "recoverySecrets", NEW_RECOVERY_SECRETS),
    ("PendingUpdate", "manifest", "The manifest that waits, byte for byte."),
    ("PendingUpdate", "message", "What is still missing, in words."),
    ("PendingUpdate", "missingUsers", "Who may still agree."),
    ("Acknowledge", "message", "What is still missing, in words."),
    ("Acknowledge", "missingUsers", MISSING_USERS),
    ("Acknowledge", "missingAcknowledgments", MISSING),
    ("Acknowledge", "recoverySecrets", NEW_RECOVERY_SECRETS),
    ("Message", "message", "What was done."),
    ("Secrets", "secrets", "The secrets by name."),
    ("Secret", "Type", "The kind of secret."),
    ("Secret", "Size", "Size in bits as in the manifest, 0 if it gives none."),
    ("Secret", "Shared", "One value for all Marbles."),
    ("Secret", "UserDefined", "Uploaded by a user."),
    ("Secret", "Cert", "The certificate, DER; null if there is none (yet)."),
    ("Secret", "ValidFor", "Validity in days."),
    ("Secret", "Private", "The value, or the private key in PKCS#8 DER; null if there is none (yet)."),
    (
        "Secret",
        "Public",
        "The value again, or the public key as SubjectPublicKeyInfo DER; null if there is none (yet).",
    ),
    ("SetSecretsRequest", "secrets", "The values by name of the secret."),
    ("UserSecret", "Cert", "For certificate secrets: the certificate, DER."),
    ("UserSecret", "Private", "For certificate secrets: the private key, PKCS#8 DER."),
    (
        "UserSecret",
        "Key",
        "For `symmetric-key`, of exactly the size in the manifest, and for `plain`: the value. No other member may then \
         be there.",
    ),
    (
        "RecoverRequest",
        "recoverySecret",
        "The decrypted recovery secret, or that encrypted to the Coordinator's recovery key (RSA-OAEP, SHA-256).",
    ),
    (
        "RecoverRequest",
        "recoverySecretSignature",
        "RSASSA-PKCS1-v1_5 with SHA-256 over the decrypted secret, by the private recovery key.",
    ),
    ("Recover", "remaining", "How many secrets are still missing; 0: the state is open."),
    ("Recover", "message", "The same in words."),
    ("RecoveryKey", "algorithm", "The kind of key."),
    ("RecoveryKey", "ephemeralPublicKey", "The public key as SubjectPublicKeyInfo, DER."),
    ("SignQuoteRequest", "sgxQuote", "The quote, with or without Open Enclave header."),
    ("SignQuote", "tcbStatus", "The vendor's verdict on the platform, for example `UpToDate`."),
    (
        "SignQuote",
        "verificationSignature",
        "ECDSA signature of the root key over SHA-256 of `sgxQuote` as standard base64, followed by `tcbStatus`; ASN.1 \
         DER.",
    ),
    ("MonotonicCounterRequest", "name", "The counter's name; may be empty."),
    ("MonotonicCounterRequest", "value", "The value to reach; 0 only reads."),
    ("Counter", "value", "The value before. If it is lower than what was sent, the counter was raised."),
];
