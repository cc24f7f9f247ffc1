//! Quotes that a Coordinator verified for others.

use marblerun_api::rest::{SignQuoteAnswer, SignQuoteRequest, v2};
use marblerun_attestation::TcbStatus;
use marblerun_pki::Certificate;
use marblerun_pki::signature::verify_p384_sha256;

use crate::client::Client;
use crate::error::ClientError;

/// A Coordinator's word that a quote is genuine, and how up to date its platform is.
///
/// It says nothing about what runs there: whoever uses it must look at the quote's measurements and report data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedQuote {
    /// The vendor's verdict on the platform.
    pub tcb_status: TcbStatus,
    /// The Coordinator root's ECDSA signature, ASN.1 DER.
    pub signature: Vec<u8>,
}

impl SignedQuote {
    /// Verifies the signature for `quote`, exactly as it was submitted, with the Coordinator's root certificate (DER).
    ///
    /// # Errors
    ///
    /// [`ClientError::QuoteSignature`] if it does not verify.
    pub fn verify(&self, root: &[u8], quote: &[u8]) -> Result<(), ClientError> {
        let root = Certificate::parse(root).map_err(ClientError::RootCertificate)?;
        let text = SignQuoteAnswer::signed_text(quote, self.tcb_status.as_str());
        verify_p384_sha256(root.public_key_der(), &text, &self.signature).map_err(ClientError::QuoteSignature)
    }
}

impl Client {
    /// Has the Coordinator verify a quote, and verifies its signature over the verdict.
    ///
    /// The feature `SignQuoteEndpoint` must be enabled in the manifest.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; [`ClientError::Refused`] with status 400 holds the reason why the quote is not genuine.
    ///
    /// ```no_run
    /// # async fn example(client: marblerun_client::Client, quote: &[u8]) -> Result<(), marblerun_client::ClientError> {
    /// let signed = client.sign_quote(quote).await?;
    /// println!("genuine, platform is {}", signed.tcb_status.as_str());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn sign_quote(&self, quote: &[u8]) -> Result<SignedQuote, ClientError> {
        let body = SignQuoteRequest { sgx_quote: quote.to_vec() }.to_body();
        let answer: SignQuoteAnswer = self.call_v2("signed quotes", "POST", v2::SIGN_QUOTE, body).await?;
        let tcb_status = TcbStatus::ALL
            .iter()
            .copied()
            .find(|status| status.as_str() == answer.tcb_status)
            .ok_or_else(|| ClientError::Words { url: self.url(v2::SIGN_QUOTE), got: answer.tcb_status })?;
        let signed = SignedQuote { tcb_status, signature: answer.verification_signature };
        signed.verify(self.root(), quote)?;
        Ok(signed)
    }
}
