//! What a provisioning service serves: TCB info, QE identity and CRLs, in good and in every bad form.

use std::time::Duration;

use rustls_pki_types::UnixTime;
use serde::Serialize;

use crate::enclave::{CPU_SVN, PCE_SVN};
use crate::error::IssueError;
use crate::pck_extension::FMSPC;
use crate::pki::PckCa;
use crate::quote::{QE_SVN, quoting_enclave};
use crate::root::DevelopmentRoot;
use crate::seed::SigningKey;
use crate::x509;

/// Intel's collateral is due again after 30 days; so is ours, unless the root expires before.
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A level's date: long before any development root, so that no age limit hides another check.
const TCB_DATE: &str = "2026-01-01T00:00:00Z";

/// Which collateral to make. The default is what an up-to-date platform gets; every field bends one thing, so that a
/// verifier's refusals can be tested one by one.
#[derive(Clone, Debug)]
pub struct CollateralOptions {
    /// `tcbStatus` of the platform's level. Text and not an enum: a verifier must also be shown words it does not know.
    pub tcb_status: String,
    /// `advisoryIDs` of the platform's level.
    pub advisories: Vec<String>,
    /// `tcbStatus` of the quoting enclave's level.
    pub qe_status: String,
    /// `advisoryIDs` of the quoting enclave's level.
    pub qe_advisories: Vec<String>,
    /// `tcbEvaluationDataNumber` of TCB info and QE identity.
    pub evaluation_number: u32,
    /// FMSPC of the TCB info.
    pub fmspc: [u8; 6],
    /// `pceId` of the TCB info, hexadecimal.
    pub pce_id: String,
    /// `tcbType` of the TCB info.
    pub tcb_type: u32,
    /// `version` of the TCB info.
    pub tcb_info_version: u32,
    /// Component versions that the only TCB level demands; a byte above [`CPU_SVN`] puts the platform below all levels.
    pub required_cpu_svn: [u8; 16],
    /// PCESVN that the only TCB level demands.
    pub required_pce_svn: u16,
    /// ISVSVN that the only level of the QE identity demands.
    pub required_qe_svn: u16,
    /// Dates of the TCB info, if not `now` and 30 days later.
    pub tcb_info_dates: Option<Dates>,
    /// Dates of the QE identity, likewise.
    pub qe_identity_dates: Option<Dates>,
    /// Dates of the root CA's CRL, likewise.
    pub root_crl_dates: Option<Dates>,
    /// Dates of the PCK CA's CRL, likewise.
    pub pck_crl_dates: Option<Dates>,
    /// Certificates that stand in the CRLs.
    pub revoked: Vec<Revoked>,
    /// Who signs the TCB info.
    pub tcb_info_signer: TcbInfoSigner,
    /// Which item is changed after it was signed.
    pub tamper: Option<Tamper>,
}

impl Default for CollateralOptions {
    fn default() -> Self {
        Self {
            tcb_status: "UpToDate".to_owned(),
            advisories: Vec::new(),
            qe_status: "UpToDate".to_owned(),
            qe_advisories: Vec::new(),
            evaluation_number: 1,
            fmspc: FMSPC,
            pce_id: "0000".to_owned(),
            tcb_type: 0,
            tcb_info_version: 3,
            required_cpu_svn: CPU_SVN,
            required_pce_svn: PCE_SVN,
            required_qe_svn: QE_SVN,
            tcb_info_dates: None,
            qe_identity_dates: None,
            root_crl_dates: None,
            pck_crl_dates: None,
            revoked: Vec::new(),
            tcb_info_signer: TcbInfoSigner::TcbSigning,
            tamper: None,
        }
    }
}

/// When something was issued and when its successor is due.
#[derive(Clone, Copy, Debug)]
pub struct Dates {
    /// `issueDate` or thisUpdate.
    pub issued: UnixTime,
    /// `nextUpdate`.
    pub next_update: UnixTime,
}

/// A certificate that can be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The platform's certificate, in the PCK CA's CRL.
    Pck,
    /// The PCK CA, in the root's CRL.
    PckCa,
    /// The signer of the JSON collateral, in the root's CRL.
    TcbSigning,
    /// The root itself, in its own CRL.
    Root,
}

/// Who signs the TCB info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcbInfoSigner {
    /// The TCB signing certificate, issued by the root.
    TcbSigning,
    /// The platform's own PCK, with the PCK chain as issuer chain: well-signed, but by the wrong key.
    Pck,
}

/// What is changed after signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tamper {
    /// The `tcbDate` in the TCB info.
    TcbInfo,
    /// The TCB info's signature.
    TcbInfoSignature,
    /// The `tcbDate` in the QE identity.
    QeIdentity,
    /// The QE identity's signature.
    QeIdentitySignature,
    /// The last byte of the root CA's CRL.
    RootCrl,
    /// The last byte of the PCK CA's CRL.
    PckCrl,
    /// The two CRLs take each other's place.
    CrlsExchanged,
}

/// A JSON text with its signature and the certificates of who signed it.
pub(crate) struct SignedText<'a> {
    pub(crate) text: String,
    /// 64 bytes `r || s`.
    pub(crate) signature: Vec<u8>,
    /// PEM, signer first.
    pub(crate) issuer_chain: &'a str,
}

impl<'a> SignedText<'a> {
    fn sign(text: String, key: &SigningKey, issuer_chain: &'a str) -> Result<Self, IssueError> {
        let signature = key.sign_fixed(text.as_bytes())?.as_ref().to_vec();
        Ok(Self { text, signature, issuer_chain })
    }

    /// Changes the text behind the signature's back.
    fn change(&mut self) {
        self.text = self.text.replace(TCB_DATE, "2026-01-02T00:00:00Z");
    }
}

/// Everything that a provisioning service serves for one kind of platform.
pub(crate) struct CollateralItems<'a> {
    pub(crate) tcb_info: SignedText<'a>,
    pub(crate) qe_identity: SignedText<'a>,
    /// DER.
    pub(crate) root_crl: Vec<u8>,
    /// DER.
    pub(crate) pck_crl: Vec<u8>,
    /// PEM, PCK CA first.
    pub(crate) pck_crl_issuer_chain: String,
}

/// The file format of collateral: JSON texts as strings, signatures and CRLs in hexadecimal, chains in PEM.
#[derive(Serialize)]
struct CollateralFile<'a> {
    pck_crl_issuer_chain: &'a str,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: &'a str,
    tcb_info: String,
    tcb_info_signature: String,
    qe_identity_issuer_chain: &'a str,
    qe_identity: String,
    qe_identity_signature: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TcbInfo<'a> {
    id: &'static str,
    version: u32,
    issue_date: String,
    next_update: String,
    fmspc: String,
    pce_id: &'a str,
    tcb_type: u32,
    tcb_evaluation_data_number: u32,
    tcb_levels: [Level<'a, PlatformTcb>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnclaveIdentityBody<'a> {
    id: &'static str,
    version: u32,
    issue_date: String,
    next_update: String,
    tcb_evaluation_data_number: u32,
    miscselect: &'static str,
    miscselect_mask: &'static str,
    attributes: &'static str,
    attributes_mask: &'static str,
    mrsigner: String,
    isvprodid: u16,
    tcb_levels: [Level<'a, EnclaveTcb>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Level<'a, T> {
    tcb: T,
    tcb_date: &'static str,
    tcb_status: &'a str,
    #[serde(rename = "advisoryIDs", skip_serializing_if = "<[String]>::is_empty")]
    advisory_ids: &'a [String],
}

#[derive(Serialize)]
struct PlatformTcb {
    sgxtcbcomponents: [Component; 16],
    pcesvn: u16,
}

#[derive(Serialize)]
struct Component {
    svn: u8,
}

#[derive(Serialize)]
struct EnclaveTcb {
    isvsvn: u16,
}

#[cfg(feature = "service")]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EvaluationNumbersBody {
    id: &'static str,
    version: u32,
    issue_date: String,
    next_update: String,
    tcb_eval_numbers: [EvaluationNumber; 1],
}

#[cfg(feature = "service")]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EvaluationNumber {
    tcb_evaluation_data_number: u32,
    tcb_recovery_event_date: &'static str,
    tcb_date: &'static str,
}

impl DevelopmentRoot {
    /// Complete collateral for this root's quotes, issued at `now`, as one JSON object.
    ///
    /// Members: `pck_crl_issuer_chain`, `root_ca_crl`, `pck_crl`, `tcb_info_issuer_chain`, `tcb_info`,
    /// `tcb_info_signature`, `qe_identity_issuer_chain`, `qe_identity`, `qe_identity_signature`; the form in which
    /// offline bundles keep it.
    ///
    /// # Errors
    /// [`IssueError`] if a date is out of range or the crypto library fails.
    pub fn collateral(&self, now: UnixTime, options: &CollateralOptions) -> Result<String, IssueError> {
        let items = self.collateral_items(self.pck_ca(), now, options)?;
        let file = CollateralFile {
            pck_crl_issuer_chain: &items.pck_crl_issuer_chain,
            root_ca_crl: hex::encode(&items.root_crl),
            pck_crl: hex::encode(&items.pck_crl),
            tcb_info_issuer_chain: items.tcb_info.issuer_chain,
            tcb_info: items.tcb_info.text,
            tcb_info_signature: hex::encode(items.tcb_info.signature),
            qe_identity_issuer_chain: items.qe_identity.issuer_chain,
            qe_identity: items.qe_identity.text,
            qe_identity_signature: hex::encode(items.qe_identity.signature),
        };
        serde_json::to_string(&file).map_err(IssueError::Json)
    }

    /// The items of the collateral for platforms that `ca` certified, issued at `now`.
    pub(crate) fn collateral_items(
        &self,
        ca: PckCa,
        now: UnixTime,
        options: &CollateralOptions,
    ) -> Result<CollateralItems<'_>, IssueError> {
        let dates = |dates: Option<Dates>| dates.unwrap_or_else(|| self.usual_dates(now));
        let keys = self.keys();
        let (signer, signer_chain) = match options.tcb_info_signer {
            TcbInfoSigner::TcbSigning => (&keys.tcb_signing, self.tcb_signing_chain()),
            TcbInfoSigner::Pck => (&keys.pck, self.pck_chain()),
        };
        let tcb_info = SignedText::sign(tcb_info(options, dates(options.tcb_info_dates))?, signer, signer_chain)?;
        let qe_identity = qe_identity(options, dates(options.qe_identity_dates))?;
        let qe_identity = SignedText::sign(qe_identity, &keys.tcb_signing, self.tcb_signing_chain())?;
        let (root_crl, pck_crl) =
            self.crls(ca, options, dates(options.root_crl_dates), dates(options.pck_crl_dates))?;
        let mut items = CollateralItems {
            tcb_info,
            qe_identity,
            root_crl,
            pck_crl,
            pck_crl_issuer_chain: self.pck_ca_chain_of(ca)?,
        };
        match options.tamper {
            None => {}
            Some(Tamper::TcbInfo) => items.tcb_info.change(),
            Some(Tamper::TcbInfoSignature) => flip_last(&mut items.tcb_info.signature),
            Some(Tamper::QeIdentity) => items.qe_identity.change(),
            Some(Tamper::QeIdentitySignature) => flip_last(&mut items.qe_identity.signature),
            Some(Tamper::RootCrl) => flip_last(&mut items.root_crl),
            Some(Tamper::PckCrl) => flip_last(&mut items.pck_crl),
            Some(Tamper::CrlsExchanged) => std::mem::swap(&mut items.root_crl, &mut items.pck_crl),
        }
        Ok(items)
    }

    /// Which evaluation numbers there are, as the vendor lists them: only the present one.
    #[cfg(feature = "service")]
    pub(crate) fn evaluation_numbers(
        &self,
        now: UnixTime,
        options: &CollateralOptions,
    ) -> Result<SignedText<'_>, IssueError> {
        let dates = options.tcb_info_dates.unwrap_or_else(|| self.usual_dates(now));
        let body = EvaluationNumbersBody {
            id: "SGX",
            version: 1,
            issue_date: rfc3339(dates.issued)?,
            next_update: rfc3339(dates.next_update)?,
            tcb_eval_numbers: [EvaluationNumber {
                tcb_evaluation_data_number: options.evaluation_number,
                tcb_recovery_event_date: TCB_DATE,
                tcb_date: TCB_DATE,
            }],
        };
        let text = serde_json::to_string(&body).map_err(IssueError::Json)?;
        SignedText::sign(text, &self.keys().tcb_signing, self.tcb_signing_chain())
    }

    /// From `now` for 30 days, or as long as the root lives.
    fn usual_dates(&self, now: UnixTime) -> Dates {
        let due = now.as_secs().saturating_add(VALIDITY.as_secs()).min(self.not_after().as_secs());
        Dates { issued: now, next_update: UnixTime::since_unix_epoch(Duration::from_secs(due)) }
    }

    /// The CRLs of root and PCK CA, DER.
    fn crls(
        &self,
        ca: PckCa,
        options: &CollateralOptions,
        root_dates: Dates,
        pck_dates: Dates,
    ) -> Result<(Vec<u8>, Vec<u8>), IssueError> {
        let keys = self.keys();
        let (mut by_root, mut by_pck_ca) = (Vec::new(), Vec::new());
        for revoked in &options.revoked {
            match revoked {
                Revoked::Pck => by_pck_ca.push(keys.pck_serial(&options.fmspc).to_vec()),
                Revoked::PckCa => by_root.push(keys.pck_ca_serial(ca).to_vec()),
                Revoked::TcbSigning => by_root.push(keys.tcb_signing_serial().to_vec()),
                Revoked::Root => by_root.push(keys.root_serial().to_vec()),
            }
        }
        Ok((
            keys.root_issuer()?.crl(&by_root, root_dates.issued, root_dates.next_update)?,
            keys.pck_ca_issuer(ca)?.crl(&by_pck_ca, pck_dates.issued, pck_dates.next_update)?,
        ))
    }
}

fn tcb_info(options: &CollateralOptions, dates: Dates) -> Result<String, IssueError> {
    let body = TcbInfo {
        id: "SGX",
        version: options.tcb_info_version,
        issue_date: rfc3339(dates.issued)?,
        next_update: rfc3339(dates.next_update)?,
        fmspc: hex::encode_upper(options.fmspc),
        pce_id: &options.pce_id,
        tcb_type: options.tcb_type,
        tcb_evaluation_data_number: options.evaluation_number,
        tcb_levels: [Level {
            tcb: PlatformTcb {
                sgxtcbcomponents: options.required_cpu_svn.map(|svn| Component { svn }),
                pcesvn: options.required_pce_svn,
            },
            tcb_date: TCB_DATE,
            tcb_status: &options.tcb_status,
            advisory_ids: &options.advisories,
        }],
    };
    serde_json::to_string(&body).map_err(IssueError::Json)
}

fn qe_identity(options: &CollateralOptions, dates: Dates) -> Result<String, IssueError> {
    let enclave = quoting_enclave();
    let body = EnclaveIdentityBody {
        id: "QE",
        version: 2,
        issue_date: rfc3339(dates.issued)?,
        next_update: rfc3339(dates.next_update)?,
        tcb_evaluation_data_number: options.evaluation_number,
        // Masks as in Intel's QE identity: everything counts but MODE64BIT and XFRM.
        miscselect: "00000000",
        miscselect_mask: "FFFFFFFF",
        attributes: "11000000000000000000000000000000",
        attributes_mask: "FBFFFFFFFFFFFFFF0000000000000000",
        mrsigner: hex::encode_upper(enclave.mr_signer),
        isvprodid: enclave.isv_prod_id,
        tcb_levels: [Level {
            tcb: EnclaveTcb { isvsvn: options.required_qe_svn },
            tcb_date: TCB_DATE,
            tcb_status: &options.qe_status,
            advisory_ids: &options.qe_advisories,
        }],
    };
    serde_json::to_string(&body).map_err(IssueError::Json)
}

fn rfc3339(time: UnixTime) -> Result<String, IssueError> {
    Ok(x509::date_time(time)?.to_string())
}

fn flip_last(bytes: &mut [u8]) {
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
}
