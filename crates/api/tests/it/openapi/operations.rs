//! The operations of version 2: who may call them, what they take, what they answer.

use std::collections::BTreeMap;

use marblerun_api::rest::describe::{Member, Object, describe};
use marblerun_api::rest::{
    AcknowledgeAnswer, CounterAnswer, ManifestAnswer, MessageAnswer, MonotonicCounterRequest, PendingUpdateAnswer,
    QuoteAnswer, RecoverAnswer, RecoverRequest, RecoveryKeyAnswer, Secret, SecretsObject, SetManifestAnswer,
    SetManifestRequest, SignQuoteAnswer, SignQuoteRequest, StatusAnswer, UpdateAnswer, UpdateLogAnswer,
    UserSecretValue, v2,
};
use serde_json::{Value, json};

/// Who may call an operation.
pub(super) enum Who {
    Anyone,
    /// A user of the manifest, by the client certificate.
    User,
    /// A Marble of this deployment, by the client certificate.
    Marble,
}

pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) details: &'static str,
    pub(super) who: Who,
    pub(super) parameter: Option<fn() -> Value>,
    pub(super) request: Option<(&'static str, Vec<Member>)>,
    /// The schema of the member `data` of a success; `None`: it is `null`.
    pub(super) answer: Option<(&'static str, Vec<Member>)>,
    pub(super) success: &'static str,
    refusals: &'static [(u16, &'static str)],
}

impl Operation {
    fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let (details, success) = ("", "Done.");
        let (parameter, request, answer) = (None, None, None);
        Self {
            method,
            path,
            id,
            summary,
            details,
            who: Who::Anyone,
            parameter,
            request,
            answer,
            success,
            refusals: &[],
        }
    }

    fn details(self, details: &'static str) -> Self {
        Self { details, ..self }
    }

    fn for_users(self) -> Self {
        Self { who: Who::User, ..self }
    }

    fn for_marbles(self) -> Self {
        Self { who: Who::Marble, ..self }
    }

    fn parameter(self, parameter: fn() -> Value) -> Self {
        Self { parameter: Some(parameter), ..self }
    }

    fn takes(self, name: &'static str, request: &impl Object) -> Self {
        Self { request: Some((name, describe(request))), ..self }
    }

    fn answers(self, success: &'static str, name: &'static str, answer: &impl Object) -> Self {
        Self { success, answer: Some((name, describe(answer))), ..self }
    }

    fn refuses(self, refusals: &'static [(u16, &'static str)]) -> Self {
        Self { refusals, ..self }
    }

    /// What this operation refuses, and what all of its kind refuse for the same reason.
    pub(super) fn all_refusals(&self) -> Vec<(u16, &'static str)> {
        let mut common = Vec::new();
        if self.request.is_some() {
            common.extend([
                (400, "The body is not what the schema says, or did not arrive as a whole."),
                (408, "The body did not arrive in time."),
                (503, "Too many requests at once: try again."),
            ]);
            // Of a recovery secret only the beginning is read.
            if self.path != v2::RECOVER {
                common.push((413, "The body is too long."));
            }
        }
        if self.method == "get" {
            common.push((503, "Too many answers are being read at once: try again."));
        }
        match self.who {
            Who::Anyone => {}
            Who::User => common.push((401, "The client certificate is missing, or is not that of a user.")),
            Who::Marble => common.push((401, "The client certificate is missing, or is not that of a Marble.")),
        }
        common.retain(|(status, _)| self.refusals.iter().all(|(own, _)| own != status));
        [self.refusals, &common].concat()
    }
}

const NO_MANIFEST: (u16, &str) = (500, "No manifest is set.");
const NOTHING_PENDING: (u16, &str) = (404, "No update is pending.");

fn nonce() -> Value {
    json!({
        "name": "nonce",
        "in": "query",
        "required": false,
        "description": "URL-safe base64 with padding. The quote is then made for this call, and its report data is \
                        SHA-256 of the root certificate followed by the nonce. The first occurrence counts.",
        "schema": {"type": "string", "contentEncoding": "base64url"},
    })
}

fn secret_names() -> Value {
    json!({
        "name": "s",
        "in": "query",
        "required": true,
        "description": "The name of a secret; once for each secret.",
        "style": "form",
        "explode": true,
        "schema": {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
    })
}

pub(super) fn operations() -> Vec<Operation> {
    let mut all = reading();
    all.extend(updating());
    all.extend(secrets_and_recovery());
    all.extend(features());
    all
}

fn reading() -> Vec<Operation> {
    vec![
        Operation::new("get", v2::STATUS, "getStatus", "What the Coordinator is ready for").answers(
            "The state.",
            "Status",
            &StatusAnswer::default(),
        ),
        Operation::new("get", v2::QUOTE, "getQuote", "Certificates of the Coordinator, and a quote over its root")
            .details(
                "A client verifies the quote, then trusts the root certificate: report data bytes 0 to 31 are SHA-256 \
                 of the root certificate's DER form (followed by the nonce, if given), bytes 32 to 63 are SHA-256 of \
                 `statement`.",
            )
            .parameter(nonce)
            .answers("Certificates and quote.", "Quote", &QuoteAnswer::default())
            .refuses(&[(400, "The nonce is not URL-safe base64 with padding."), (500, "No quote can be made.")]),
        Operation::new("get", v2::MANIFEST, "getManifest", "The manifest in force")
            .answers("The manifest.", "Manifest", &ManifestAnswer::default())
            .refuses(&[NO_MANIFEST]),
        Operation::new("post", v2::MANIFEST, "setManifest", "Set the manifest")
            .details(
                "Whoever comes first sets it; others detect an unwanted one by its fingerprint. In recovery, a new \
                 manifest starts a new deployment, and what was sealed can no longer be recovered from this Coordinator.",
            )
            .takes("SetManifestRequest", &SetManifestRequest::default())
            .answers("The manifest is set.", "SetManifest", &SetManifestAnswer::default())
            .refuses(&[(500, "A manifest is set already, or this one is refused.")]),
        Operation::new("get", v2::UPDATE, "getUpdateLog", "The update log: who changed what, and when")
            .answers("The log.", "UpdateLog", &UpdateLogAnswer::default())
            .refuses(&[NO_MANIFEST]),
    ]
}

fn updating() -> Vec<Operation> {
    vec![
        Operation::new("post", v2::UPDATE, "update", "Update the manifest")
            .details(
                "A manifest of `Packages` alone raises their security versions at once. Any other is a full update: it \
                 comes into force when all users who must agree have acknowledged it.",
            )
            .for_users()
            .takes("SetManifestRequest", &SetManifestRequest::default())
            .answers("The update is in force, or is pending.", "Update", &UpdateAnswer::default())
            .refuses(&[(500, "Another update is pending, permission is missing, or the manifest is refused.")]),
        Operation::new("get", v2::UPDATE_MANIFEST, "getPendingUpdate", "The update that waits for users to agree")
            .answers("The pending update.", "PendingUpdate", &PendingUpdateAnswer::default())
            .refuses(&[NOTHING_PENDING]),
        Operation::new("post", v2::UPDATE_MANIFEST, "acknowledgeUpdate", "Agree to the pending update")
            .details("The manifest must be that of the pending update, byte for byte.")
            .for_users()
            .takes("SetManifestRequest", &SetManifestRequest::default())
            .answers("Agreed; perhaps the update is now in force.", "Acknowledge", &AcknowledgeAnswer::default())
            .refuses(&[
                NOTHING_PENDING,
                (500, "The manifest is another one, the user need not agree, or the update cannot be applied."),
            ]),
        Operation::new("post", v2::UPDATE_CANCEL, "cancelUpdate", "Drop the pending update")
            .details("Any user who may update the manifest may do so. A body is not looked at.")
            .for_users()
            .answers("The pending update is dropped.", "Message", &MessageAnswer::default())
            .refuses(&[NOTHING_PENDING, (500, "Permission is missing.")]),
    ]
}

fn secrets_and_recovery() -> Vec<Operation> {
    vec![
        Operation::new("get", v2::SECRETS, "getSecrets", "Read secrets")
            .for_users()
            .parameter(secret_names)
            .answers("The secrets, in plain text.", "Secrets", &SecretsObject::<Secret>(&BTreeMap::new()))
            .refuses(&[(400, "No name, or an empty one."), (500, "Permission is missing for one of them.")]),
        Operation::new("post", v2::SECRETS, "setSecrets", "Set user-defined secrets, all or none")
            .for_users()
            .takes("SetSecretsRequest", &SecretsObject::<UserSecretValue>(&BTreeMap::new()))
            .refuses(&[(500, "Permission is missing, or a value is not what the manifest expects.")]),
        Operation::new("post", v2::RECOVER, "recover", "Upload one recovery secret")
            .details(
                "Only in recovery. The proof is the secret and its signature. At most 20,480 bytes of the body are \
                 read.",
            )
            .takes("RecoverRequest", &RecoverRequest::default())
            .answers("The secret is taken.", "Recover", &RecoverAnswer::default())
            .refuses(&[
                (400, "The body is not what the schema says, or the secret cannot be decrypted."),
                (500, "The Coordinator is not in recovery, or the secret or its signature is wrong."),
            ]),
        Operation::new(
            "get",
            v2::RECOVER_PUBLIC_KEY,
            "getRecoveryPublicKey",
            "The key to which recovery secrets can be encrypted",
        )
        .details("Only in recovery. The key is kept in memory and stays the same until recovery is over.")
        .answers("The key.", "RecoveryKey", &RecoveryKeyAnswer::default())
        .refuses(&[(500, "The Coordinator is not in recovery.")]),
    ]
}

fn features() -> Vec<Operation> {
    vec![
        Operation::new("post", v2::SIGN_QUOTE, "signQuote", "Have an SGX quote verified and the verdict signed")
            .details(
                "A TCB status other than `UpToDate` is no failure: it is part of what is signed. The signature says \
                 that the quote is genuine, not what it is about.",
            )
            .takes("SignQuoteRequest", &SignQuoteRequest::default())
            .answers("The quote is genuine.", "SignQuote", &SignQuoteAnswer::default())
            .refuses(&[
                (400, "The body is not what the schema says, or the quote is not genuine: `data` tells why."),
                (403, "The manifest does not switch the feature `SignQuoteEndpoint` on."),
                (500, "The quote cannot be judged now, for example because collateral is missing."),
            ]),
        Operation::new("post", v2::MONOTONIC_COUNTER, "setMonotonicCounter", "Raise a counter of the calling Marble")
            .details("A counter belongs to one Marble, by type and UUID. A value that is not higher changes nothing.")
            .for_marbles()
            .takes("MonotonicCounterRequest", &MonotonicCounterRequest::default())
            .answers("The value before.", "Counter", &CounterAnswer::default())
            .refuses(&[
                (403, "The manifest does not switch the feature `MonotonicCounter` on."),
                (500, "The counter cannot be stored."),
            ]),
    ]
}
