//! A Coordinator's evidence in a file, to be verified elsewhere.

use marblerun_api::rest::{MAX_ANSWER_BYTES, QuoteAnswer};
use marblerun_json::{DecodeError, ObjectEncoder, decode_object, decode_whole};
use rustls_pki_types::UnixTime;

use crate::attest::{AttestedCoordinator, Policy, verify_answer};
use crate::chain::CertificateChain;
use crate::error::ClientError;

/// Everything that is needed to verify a Coordinator without talking to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Chain, quote, statement and collateral, as the Coordinator sent them.
    pub answer: QuoteAnswer,
    /// The nonce that the quote covers; empty if there was none.
    pub nonce: Vec<u8>,
}

decode_object!(Evidence {
    "cert" => answer.cert,
    "quote" => answer.quote,
    "statement" => answer.statement,
    "collateral" => answer.collateral,
    "nonce" => nonce,
});

impl Evidence {
    /// Reads the text that [`to_text`](Self::to_text) wrote. Nothing of it is verified.
    ///
    /// # Errors
    ///
    /// If it is no JSON object of this form.
    pub fn parse(text: &[u8]) -> Result<Self, DecodeError> {
        Ok(decode_whole(text, MAX_ANSWER_BYTES)?.0)
    }

    /// One JSON object.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        ObjectEncoder::new(&mut text)
            .member("cert", self.answer.cert.as_str())
            .member("quote", &self.answer.quote)
            .optional("statement", self.answer.statement.as_ref())
            .optional("collateral", self.answer.collateral.as_ref())
            .member("nonce", &self.nonce)
            .finish();
        text
    }

    /// Verifies everything that an attestation verifies, except that nobody stands between client and Coordinator: there
    /// is no connection.
    ///
    /// # Errors
    ///
    /// [`ClientError::Chain`] and [`ClientError::Attestation`]; `origin` names the evidence in them.
    pub fn verify(&self, origin: &str, policy: &Policy, now: UnixTime) -> Result<AttestedCoordinator, ClientError> {
        let chain = CertificateChain::parse_and_verify(self.answer.cert.as_bytes(), now)
            .map_err(|source| ClientError::Chain { address: origin.to_owned(), source })?;
        verify_answer(&self.answer, chain, &self.nonce, policy, now)
            .map_err(|source| ClientError::Attestation { address: origin.to_owned(), source: Box::new(source) })
    }
}
