//! Calls to a Coordinator whose root certificate is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use marblerun_api::rest::{Envelope, ManifestAnswer, SetManifestAnswer, SetManifestRequest, StatusAnswer, v1, v2};
use marblerun_json::Decode;
use marblerun_pki::Certificate;
use marblerun_pki::signature::verify_p384_sha256;
use rustls::ClientConfig;

use crate::address::Address;
use crate::credentials::ClientCertificate;
use crate::error::ClientError;
use crate::http::{Answer, Call, Timeouts, exchange};
use crate::tls::{self, ServerIdentityError};

/// A client that talks to one root certificate and to nobody else.
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
    timeouts: Timeouts,
    root: Vec<u8>,
    config: Arc<ClientConfig>,
}

/// A manifest that the Coordinator's root signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedManifest {
    /// The manifest byte for byte as it was set.
    pub manifest: Vec<u8>,
    /// Lower-case hexadecimal SHA-256 of it.
    pub fingerprint: String,
    /// The root's ECDSA signature over it, ASN.1 DER.
    pub signature: Vec<u8>,
}

/// What setting a manifest gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestOutcome {
    /// Encrypted recovery secrets by the name of their key. The Coordinator gives them only this once.
    pub recovery_secrets: BTreeMap<String, Vec<u8>>,
}

/// A version of the client API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApiVersion {
    V1,
    V2,
}

/// The answer of whichever version the Coordinator knows.
pub(crate) struct Versioned {
    pub(crate) version: ApiVersion,
    pub(crate) path: &'static str,
    pub(crate) answer: Answer,
}

impl Client {
    /// A client for the Coordinator with the root certificate `root` (DER), which an attestation or a cache gave.
    ///
    /// # Errors
    ///
    /// [`ClientError::TlsConfiguration`] in a broken build.
    pub fn pinned_to(address: Address, root: &[u8], timeouts: Timeouts) -> Result<Self, ClientError> {
        let config = tls_config(root, None)?;
        Ok(Self { address, timeouts, root: root.to_vec(), config })
    }

    /// The same client as the owner of a certificate.
    ///
    /// # Errors
    ///
    /// [`ClientError::TlsConfiguration`] in a broken build.
    pub fn with_certificate(self, certificate: &ClientCertificate) -> Result<Self, ClientError> {
        Ok(Self { config: tls_config(&self.root, Some(certificate))?, ..self })
    }

    /// Where the Coordinator is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The root certificate that the client talks to, DER.
    pub fn root(&self) -> &[u8] {
        &self.root
    }

    /// The state of the Coordinator.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<StatusAnswer, ClientError> {
        self.call("GET", [v2::STATUS, v1::STATUS], Default::default).await
    }

    /// The manifest; its fingerprint and the root's signature over it are verified.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; [`ClientError::NoManifest`] if version 1 of the API says so.
    pub async fn manifest(&self) -> Result<SignedManifest, ClientError> {
        let answer: ManifestAnswer = self.call("GET", [v2::MANIFEST, v1::MANIFEST], Default::default).await?;
        let (Some(manifest), Some(signature)) = (answer.manifest, answer.signature) else {
            return Err(ClientError::NoManifest { address: self.address.to_string() });
        };
        let computed = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &manifest));
        if computed != answer.fingerprint {
            return Err(ClientError::Fingerprint { reported: answer.fingerprint, computed });
        }
        let root = Certificate::parse(&self.root).map_err(|source| ClientError::Server {
            address: self.address.to_string(),
            source: ServerIdentityError::Certificate(source),
        })?;
        verify_p384_sha256(root.public_key_der(), &manifest, &signature).map_err(ClientError::ManifestSignature)?;
        Ok(SignedManifest { manifest, fingerprint: answer.fingerprint, signature })
    }

    /// The manifest, if it is the one with this fingerprint (SHA-256 of its bytes, hexadecimal).
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; [`ClientError::OtherManifest`] if the Coordinator has another one.
    pub async fn verify_manifest(&self, fingerprint: &str) -> Result<SignedManifest, ClientError> {
        let signed = self.manifest().await?;
        match signed.fingerprint.eq_ignore_ascii_case(fingerprint) {
            true => Ok(signed),
            false => Err(ClientError::OtherManifest { expected: fingerprint.to_owned(), got: signed.fingerprint }),
        }
    }

    /// Sets the manifest, byte for byte.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; [`ClientError::Refused`] holds the Coordinator's reason.
    pub async fn set_manifest(&self, manifest: &[u8]) -> Result<ManifestOutcome, ClientError> {
        let bodies = || [SetManifestRequest { manifest: manifest.to_vec() }.to_body(), manifest.to_vec()];
        let answer: SetManifestAnswer = self.call("POST", [v2::MANIFEST, v1::MANIFEST], bodies).await?;
        Ok(ManifestOutcome { recovery_secrets: answer.recovery_secrets })
    }

    /// A call whose answer has the same form in both versions.
    async fn call<T: Decode + Default>(
        &self,
        method: &'static str,
        paths: [&'static str; 2],
        bodies: impl Fn() -> [Vec<u8>; 2],
    ) -> Result<T, ClientError> {
        let answer = self.call_either(method, paths, bodies).await?;
        self.decode(method, &answer)
    }

    /// A call that only version 2 knows; `what` is what an old Coordinator cannot do.
    pub(crate) async fn call_v2<T: Decode + Default>(
        &self,
        what: &'static str,
        method: &'static str,
        path: &'static str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        let answer = self.send(method, path, body).await?;
        if answer.status == http::StatusCode::METHOD_NOT_ALLOWED {
            return Err(ClientError::NeedsVersion2 { what, address: self.address.to_string() });
        }
        data_of(method, &self.address, path, &answer)
    }

    /// Sends the request of version 2 and, if the Coordinator does not know it (405), that of version 1. Paths and bodies
    /// stand in this order.
    pub(crate) async fn call_either(
        &self,
        method: &'static str,
        paths: [&'static str; 2],
        bodies: impl Fn() -> [Vec<u8>; 2],
    ) -> Result<Versioned, ClientError> {
        self.call_with_query(method, paths, "", bodies).await
    }

    /// The same with a query, which is that of both versions.
    pub(crate) async fn call_with_query(
        &self,
        method: &'static str,
        [path_v2, path_v1]: [&'static str; 2],
        query: &str,
        bodies: impl Fn() -> [Vec<u8>; 2],
    ) -> Result<Versioned, ClientError> {
        let with_query = |path: &str| if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let [body_v2, body_v1] = bodies();
        let answer = self.send(method, &with_query(path_v2), body_v2).await?;
        if answer.status != http::StatusCode::METHOD_NOT_ALLOWED {
            return Ok(Versioned { version: ApiVersion::V2, path: path_v2, answer });
        }
        let answer = self.send(method, &with_query(path_v1), body_v1).await?;
        Ok(Versioned { version: ApiVersion::V1, path: path_v1, answer })
    }

    /// The data of a successful answer.
    pub(crate) fn decode<T: Decode + Default>(&self, method: &str, answer: &Versioned) -> Result<T, ClientError> {
        data_of(method, &self.address, answer.path, &answer.answer)
    }

    /// A path as a URL, for messages.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Answer, ClientError> {
        let call = if method == "POST" { Call::post(path, body) } else { Call::get(path) };
        exchange(&self.address, &self.config, self.timeouts, call).await
    }
}

fn tls_config(root: &[u8], certificate: Option<&ClientCertificate>) -> Result<Arc<ClientConfig>, ClientError> {
    tls::pinned(root, certificate).map_err(|error| ClientError::TlsConfiguration { reason: error.to_string() })
}

/// The data of a successful answer; every other one is an error with the Coordinator's words.
pub(crate) fn data_of<T: Decode + Default>(
    method: &str,
    address: &Address,
    path: &str,
    answer: &Answer,
) -> Result<T, ClientError> {
    let url = format!("https://{address}{path}");
    if answer.status == http::StatusCode::OK {
        return answer.envelope.data().map_err(|source| ClientError::AnswerData { url, source });
    }
    let message = printable(&reason(&answer.envelope));
    match answer.status.as_u16() {
        401 => Err(ClientError::Unauthorized { url, message }),
        status => Err(ClientError::Refused {
            method: method.to_owned(),
            url,
            status,
            jsend_status: printable(&answer.envelope.status),
            message,
        }),
    }
}

/// The Coordinator's words; a refusal may carry more of them as data.
fn reason(envelope: &Envelope) -> String {
    match envelope.data_text() {
        data if data.is_empty() => envelope.message.clone(),
        data if envelope.message.is_empty() => data,
        data => format!("{} {data}", envelope.message),
    }
}

/// Longest part of a server's message that is shown, in characters.
const MAX_MESSAGE_CHARS: usize = 4096;

/// A server's words for a terminal or log: bounded, and without control characters, which would command them. Before it
/// is attested anybody may be the server.
fn printable(message: &str) -> String {
    let mut text = String::with_capacity(message.len().min(MAX_MESSAGE_CHARS));
    for c in message.chars().take(MAX_MESSAGE_CHARS) {
        if c.is_control() {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    if message.chars().nth(MAX_MESSAGE_CHARS).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_cannot_command_the_terminal() {
        assert_eq!(printable("no\nmanifest\u{1b}[2J\u{9b}é"), "no\\nmanifest\\u{1b}[2J\\u{9b}é");
        assert_eq!(printable(&"é".repeat(5000)).chars().count(), MAX_MESSAGE_CHARS + 1);
    }
}
