//! What a PCS or PCCS (API version 4) is asked, and how its answers become collateral. No input or output here.

use marblerun_attestation::{Collateral, PlatformId};
use percent_encoding::percent_decode_str;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base_url::{BaseUrl, Location};
use crate::fetch_error::FetchError;

/// The newer name first; older services know the second only.
const TCB_INFO_CHAIN: [&str; 2] = ["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"];
const QE_IDENTITY_CHAIN: [&str; 1] = ["SGX-Enclave-Identity-Issuer-Chain"];
const PCK_CRL_CHAIN: [&str; 1] = ["SGX-PCK-CRL-Issuer-Chain"];

/// Which of the vendor's two publications of TCB info is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcbUpdate {
    /// The usual one.
    #[default]
    Standard,
    /// The one that comes before platforms had time to be patched.
    Early,
}

/// The four URLs of one platform's collateral.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) tcb_info: Location,
    pub(crate) qe_identity: Location,
    pub(crate) pck_crl: Location,
    pub(crate) root_crl: Location,
}

/// One good answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) url: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// The answers, in the order of [`Requests`].
pub(crate) struct Answers {
    pub(crate) tcb_info: Answer,
    pub(crate) qe_identity: Answer,
    pub(crate) pck_crl: Answer,
    pub(crate) root_crl: Answer,
}

/// The text that [`Collateral`] reads, member by member.
#[derive(Serialize)]
struct Text<'a> {
    pck_crl_issuer_chain: String,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: String,
    tcb_info: &'a str,
    tcb_info_signature: &'a str,
    qe_identity_issuer_chain: String,
    qe_identity: &'a str,
    qe_identity_signature: &'a str,
}

impl Requests {
    pub(crate) fn of(base: &BaseUrl, platform: &PlatformId, update: TcbUpdate) -> Self {
        let (fmspc, ca) = (platform.fmspc, platform.ca.name());
        // The parameter is left away where it says nothing: older caches do not know it.
        let (with_more, alone) = match update {
            TcbUpdate::Standard => ("", ""),
            TcbUpdate::Early => ("&update=early", "?update=early"),
        };
        Self {
            tcb_info: base.join(&format!("tcb?fmspc={fmspc}{with_more}")),
            qe_identity: base.join(&format!("qe/identity{alone}")),
            pck_crl: base.join(&format!("pckcrl?ca={ca}&encoding=der")),
            root_crl: base.root_crl(),
        }
    }
}

impl Answers {
    /// Collateral text out of the exact served bytes. Nothing in it is proven.
    pub(crate) fn assemble(&self, base: &BaseUrl) -> Result<Vec<u8>, FetchError> {
        let tcb_info = Signed::<TcbInfoBody<'_>>::read(&self.tcb_info, "tcbInfo")?;
        let qe_identity = Signed::<QeIdentityBody<'_>>::read(&self.qe_identity, "enclaveIdentity")?;
        let text = Text {
            pck_crl_issuer_chain: issuer_chain(&self.pck_crl, &PCK_CRL_CHAIN)?,
            root_ca_crl: hex::encode(revocation_list(&self.root_crl)?),
            pck_crl: hex::encode(revocation_list(&self.pck_crl)?),
            tcb_info_issuer_chain: issuer_chain(&self.tcb_info, &TCB_INFO_CHAIN)?,
            tcb_info: tcb_info.0.tcb_info.get(),
            tcb_info_signature: tcb_info.0.signature,
            qe_identity_issuer_chain: issuer_chain(&self.qe_identity, &QE_IDENTITY_CHAIN)?,
            qe_identity: qe_identity.0.enclave_identity.get(),
            qe_identity_signature: qe_identity.0.signature,
        };
        let text = serde_json::to_vec(&text).expect("texts are always JSON");
        match Collateral::parse(&text) {
            Ok(_) => Ok(text),
            Err(source) => Err(FetchError::Collateral { url: base.to_string(), source }),
        }
    }
}

/// The inner object stays as it was served: its signature is over these bytes.
#[derive(Deserialize)]
struct TcbInfoBody<'a> {
    #[serde(borrow, rename = "tcbInfo")]
    tcb_info: &'a RawValue,
    signature: &'a str,
}

#[derive(Deserialize)]
struct QeIdentityBody<'a> {
    #[serde(borrow, rename = "enclaveIdentity")]
    enclave_identity: &'a RawValue,
    signature: &'a str,
}

struct Signed<T>(T);

impl<'a, T: Deserialize<'a>> Signed<T> {
    fn read(answer: &'a Answer, member: &'static str) -> Result<Self, FetchError> {
        serde_json::from_slice(&answer.body).map(Self).map_err(|error| FetchError::SignedText {
            url: answer.url.clone(),
            member,
            reason: error.to_string(),
        })
    }
}

/// The percent-encoded chain in the first of these headers.
///
/// Without it nobody knows who signed, and then nothing may be believed.
fn issuer_chain(answer: &Answer, names: &[&'static str]) -> Result<String, FetchError> {
    let refuse = |got| FetchError::IssuerChain { url: answer.url.clone(), header: names[0], got };
    let value = names.iter().find_map(|name| answer.headers.get(*name)).ok_or_else(|| refuse("no such header"))?;
    let value = value.to_str().map_err(|_| refuse("bytes that are no text"))?;
    if value.trim().is_empty() {
        return Err(refuse("nothing"));
    }
    // A plus sign is base64 here, never a space.
    let chain = percent_decode_str(value).decode_utf8().map_err(|_| refuse("bytes that are no text"))?;
    if !chain.trim_start().starts_with("-----BEGIN CERTIFICATE-----") {
        return Err(refuse("something else"));
    }
    Ok(chain.into_owned())
}

/// A list as DER. Services send DER, hex in either case, or PEM, whatever they were asked for.
fn revocation_list(answer: &Answer) -> Result<Vec<u8>, FetchError> {
    let refuse = |got: &str| FetchError::Crl { url: answer.url.clone(), got: got.to_owned() };
    // DER begins with 0x30, which is also the hex digit 0; its second byte, the length's form, is no text.
    if let [0x30, 0x80..=0xff, ..] = answer.body[..] {
        return Ok(answer.body.clone());
    }
    let Ok(text) = std::str::from_utf8(&answer.body) else { return Err(refuse("other bytes")) };
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0');
    if text.is_empty() {
        return Err(refuse("nothing"));
    }
    if text.starts_with("-----BEGIN") {
        let list = CertificateRevocationListDer::from_pem_slice(text.as_bytes());
        return list.map(|list| list.to_vec()).map_err(|_| refuse("PEM without a block X509 CRL"));
    }
    if text.len() % 2 == 1 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(refuse("an odd number of hex digits"));
    }
    hex::decode(text).map_err(|_| refuse("other text"))
}

#[cfg(test)]
mod tests;
