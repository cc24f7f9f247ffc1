//! Vendor data to check a quote: what arrives ([`Collateral`]) and what is proven ([`TrustedCollateral`]).

mod error;
mod signed;
mod strict_json;
mod trusted;

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;

pub use error::{CollateralError, CollateralItem, ValidityError};
pub(crate) use signed::{QeMismatch, TcbLevel};
pub use trusted::TrustedCollateral;
pub(crate) use trusted::revocation_options;

use crate::pem;
use crate::roots::TrustRoots;

/// The longest collateral text that is read. Real ones have less than 30 KiB.
pub const MAX_COLLATERAL_BYTES: usize = 1024 * 1024;

/// Well-formed collateral for one kind of platform. Nothing in it is proven; [`Collateral::verify`] does that.
///
/// The text is one JSON object. Chains are PEM text, lists and signatures are hex, `tcb_info` and `qe_identity` are
/// the exact texts that the vendor signed. `pck_crl_issuer_chain` is part of the format and not used: the list is
/// verified under the CA of the PCK that it speaks for.
#[derive(Clone, Debug)]
pub struct Collateral {
    text: CollateralText,
    root_ca_crl: Vec<u8>,
    pck_crl: Vec<u8>,
    tcb_info_signature: [u8; 64],
    qe_identity_signature: [u8; 64],
    tcb_info_chain: Vec<CertificateDer<'static>>,
    qe_identity_chain: Vec<CertificateDer<'static>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CollateralText {
    #[serde(rename = "pck_crl_issuer_chain")]
    _pck_crl_issuer_chain: String,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: String,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: String,
    #[serde(default)]
    pck_certificate_chain: Option<String>,
}

impl Collateral {
    /// Reads collateral text.
    ///
    /// # Errors
    ///
    /// The text must be a JSON object with exactly the known members, each in its form.
    pub fn parse(text: &[u8]) -> Result<Self, CollateralError> {
        if text.len() > MAX_COLLATERAL_BYTES {
            return Err(CollateralError::TooLong { max: MAX_COLLATERAL_BYTES, got: text.len() });
        }
        let text: CollateralText =
            serde_json::from_slice(text).map_err(|error| CollateralError::Json { reason: error.to_string() })?;
        Ok(Self {
            root_ca_crl: decode_hex("root_ca_crl", &text.root_ca_crl)?,
            pck_crl: decode_hex("pck_crl", &text.pck_crl)?,
            tcb_info_signature: decode_signature("tcb_info_signature", &text.tcb_info_signature)?,
            qe_identity_signature: decode_signature("qe_identity_signature", &text.qe_identity_signature)?,
            tcb_info_chain: decode_chain("tcb_info_issuer_chain", &text.tcb_info_issuer_chain)?,
            qe_identity_chain: decode_chain("qe_identity_issuer_chain", &text.qe_identity_issuer_chain)?,
            text,
        })
    }

    /// Proves the collateral under one of `roots` at `now`: signer chains, signatures, lists, validity periods.
    ///
    /// The result may be kept. Its validity periods are checked again at every use, the rest is proven once. The PCK
    /// list's signature is proven together with the first PCK chain, because only that chain says under which CA.
    ///
    /// # Errors
    ///
    /// Each cause has its own [`CollateralError`].
    pub fn verify(&self, roots: &TrustRoots, now: UnixTime) -> Result<TrustedCollateral, CollateralError> {
        trusted::verify(self, roots, now, Duration::ZERO)
    }

    /// [`Self::verify`], but TCB info and QE identity may be used for `max_age` after their next update was due.
    ///
    /// For places that can only reach a cache whose texts are past that date. What the vendor published meanwhile,
    /// perhaps that the platform is broken, is then unknown for as long, so [`TrustedCollateral::is_stale`] and
    /// [`crate::VerifiedReport::has_stale_collateral`] tell it. Certificates and revocation lists must be current, and
    /// no status becomes better.
    ///
    /// # Errors
    ///
    /// As [`Self::verify`].
    pub fn dangerous_verify_aged(
        &self,
        roots: &TrustRoots,
        now: UnixTime,
        max_age: Duration,
    ) -> Result<TrustedCollateral, CollateralError> {
        trusted::verify(self, roots, now, max_age)
    }
}

fn decode_hex(member: &'static str, text: &str) -> Result<Vec<u8>, CollateralError> {
    hex::decode(text).map_err(|_| CollateralError::Hex { member })
}

fn decode_signature(member: &'static str, text: &str) -> Result<[u8; 64], CollateralError> {
    let bytes = decode_hex(member, text)?;
    let got = bytes.len();
    bytes.try_into().map_err(|_| CollateralError::SignatureLength { member, expected: 64, got })
}

fn decode_chain(member: &'static str, text: &str) -> Result<Vec<CertificateDer<'static>>, CollateralError> {
    pem::parse_chain(text.as_bytes()).map_err(|source| CollateralError::Pem { member, source })
}
