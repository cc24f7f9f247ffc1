//! A Coordinator that is not known yet.

use marblerun_api::rest::{QuoteAnswer, encode_nonce, v1, v2};
use rustls_pki_types::UnixTime;

use crate::address::Address;
use crate::attest::{AttestedCoordinator, Policy, verify_answer};
use crate::chain::CertificateChain;
use crate::client::data_of;
use crate::error::{AttestError, ClientError};
use crate::http::{Answer, Call, Timeouts, exchange};
use crate::tls;

/// Length of a nonce that this client draws, in bytes.
const NONCE_BYTES: usize = 32;

/// With which nonce a quote is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NonceChoice {
    /// A random one; left out where the Coordinator has only version 1 of the API, which knows none.
    Fresh,
    /// These bytes, or the call fails.
    Given(Vec<u8>),
}

/// Chain, quote and what belongs to them, as a Coordinator answered; nothing of it is verified but the chain itself.
#[derive(Clone, Debug)]
pub struct QuoteExchange {
    /// The answer.
    pub answer: QuoteAnswer,
    /// The chain in it; the intermediate is signed by the root.
    pub chain: CertificateChain,
    /// The nonce that the quote has to cover; empty if there was none.
    pub nonce: Vec<u8>,
    /// The certificate that the TLS server showed, DER.
    pub server_certificate: Vec<u8>,
}

/// The address of a Coordinator.
#[derive(Clone, Debug)]
pub struct Coordinator {
    address: Address,
    timeouts: Timeouts,
}

impl Coordinator {
    /// The Coordinator at `address`. Nothing is sent yet.
    pub fn new(address: Address, timeouts: Timeouts) -> Self {
        Self { address, timeouts }
    }

    /// Fetches the quote and verifies it against `policy` at the time `now`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; [`ClientError::Attestation`] if the evidence was refused.
    pub async fn attest(
        &self,
        policy: &Policy,
        nonce: NonceChoice,
        now: UnixTime,
    ) -> Result<AttestedCoordinator, ClientError> {
        let fetched = self.dangerous_fetch_unverified(nonce, now).await?;
        let refused = |source| ClientError::Attestation { address: self.address.to_string(), source: Box::new(source) };
        let server_is_root = fetched.server_certificate == fetched.chain.root();
        let attested = verify_answer(&fetched.answer, fetched.chain, &fetched.nonce, policy, now).map_err(refused)?;
        // The quote is genuine, but every further call would go to somebody else.
        if !server_is_root {
            return Err(refused(AttestError::ServerNotTheRoot));
        }
        Ok(attested)
    }

    /// Fetches chain and quote and verifies nothing but that root and intermediate belong together.
    ///
    /// Whoever uses the result without verifying the quote talks to anybody who answers at the address.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn dangerous_fetch_unverified(
        &self,
        nonce: NonceChoice,
        now: UnixTime,
    ) -> Result<QuoteExchange, ClientError> {
        let (nonce, is_required) = match nonce {
            NonceChoice::Given(nonce) => (nonce, true),
            NonceChoice::Fresh => {
                let mut nonce = vec![0; NONCE_BYTES];
                aws_lc_rs::rand::fill(&mut nonce).map_err(|_| ClientError::Randomness)?;
                (nonce, false)
            }
        };
        let (config, captured) =
            tls::capturing().map_err(|error| ClientError::TlsConfiguration { reason: error.to_string() })?;
        let send = |path: String| {
            let config = config.clone();
            async move { exchange(&self.address, &config, self.timeouts, Call::get(&path)).await }
        };

        let query = if nonce.is_empty() { String::new() } else { format!("?{}", encode_nonce(&nonce)) };
        let mut answer: Answer = send(format!("{}{query}", v2::QUOTE)).await?;
        let mut path = v2::QUOTE;
        let mut covered = nonce;
        if answer.status == http::StatusCode::METHOD_NOT_ALLOWED {
            if is_required && !covered.is_empty() {
                return Err(ClientError::NonceNeedsVersion2 { address: self.address.to_string() });
            }
            covered.clear();
            path = v1::QUOTE;
            answer = send(path.to_owned()).await?;
        }
        let answer: QuoteAnswer = data_of("GET", &self.address, path, &answer)?;
        let chain = CertificateChain::parse_and_verify(answer.cert.as_bytes(), now)
            .map_err(|source| ClientError::Chain { address: self.address.to_string(), source })?;
        // The handshake cannot have ended without a certificate.
        let server_certificate = captured.certificate().unwrap_or_default();
        Ok(QuoteExchange { answer, chain, nonce: covered, server_certificate })
    }
}
