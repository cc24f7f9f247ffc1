//! The two texts that the vendor signs: TCB info version 3 and QE identity version 2 (Intel PCS API v4).

use rustls_pki_types::UnixTime;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, de::DeserializeOwned};

use super::strict_json::UniqueMembers;
use super::{CollateralError, CollateralItem};
use crate::pck::{Fmspc, PlatformProperties};
use crate::quote::SgxReport;
use crate::tcb::TcbStatus;
use crate::timestamp;

const TCB_INFO_VERSION: u64 = 3;
const TCB_INFO_ID: &str = "SGX";
const TCB_TYPE: u32 = 0;
const QE_IDENTITY_VERSION: u64 = 2;
const QE_IDENTITY_ID: &str = "QE";

/// The TCB levels of one kind of platform, best first.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TcbInfo {
    id: String,
    pub(crate) issue_date: Date,
    pub(crate) next_update: Date,
    fmspc: Hex<6>,
    pce_id: Hex<2>,
    tcb_type: u32,
    pub(crate) tcb_evaluation_data_number: u32,
    tcb_levels: Vec<TcbLevel>,
}

/// What a platform must have to get a status.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TcbLevel {
    tcb: Tcb,
    pub(crate) tcb_date: Date,
    pub(crate) tcb_status: TcbStatus,
    #[serde(rename = "advisoryIDs", default, deserialize_with = "list_or_null")]
    pub(crate) advisory_ids: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Tcb {
    #[serde(rename = "sgxtcbcomponents")]
    components: [Component; 16],
    #[serde(rename = "pcesvn")]
    pce_svn: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Component {
    svn: u8,
}

impl TcbInfo {
    pub(super) fn parse(text: &str) -> Result<Self, CollateralError> {
        let item = CollateralItem::TcbInfo;
        check_version(item, text, TCB_INFO_VERSION)?;
        let mut info: Self = read(item, text)?;
        if info.id != TCB_INFO_ID {
            return Err(CollateralError::Id { item, expected: TCB_INFO_ID, got: info.id });
        }
        if info.tcb_type != TCB_TYPE {
            return Err(CollateralError::TcbType { expected: TCB_TYPE, got: info.tcb_type });
        }
        // The order of the text has no meaning (Intel QVL); sorting is stable, so equal levels keep theirs.
        info.tcb_levels.sort_by(|a, b| b.tcb.cmp(&a.tcb));
        Ok(info)
    }

    pub(crate) fn fmspc(&self) -> Fmspc {
        Fmspc(self.fmspc.0)
    }

    pub(crate) fn pce_id(&self) -> [u8; 2] {
        self.pce_id.0
    }

    /// The best level whose every version the platform reaches.
    pub(crate) fn level_of(&self, platform: &PlatformProperties) -> Option<&TcbLevel> {
        self.tcb_levels.iter().find(|level| {
            let mut components = level.tcb.components.iter().zip(&platform.cpu_svn);
            components.all(|(required, given)| required.svn <= *given) && level.tcb.pce_svn <= platform.pce_svn
        })
    }
}

/// The description of the quoting enclave.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QeIdentity {
    id: String,
    pub(crate) issue_date: Date,
    pub(crate) next_update: Date,
    pub(crate) tcb_evaluation_data_number: u32,
    miscselect: Hex<4>,
    miscselect_mask: Hex<4>,
    attributes: Hex<16>,
    attributes_mask: Hex<16>,
    mrsigner: Hex<32>,
    isvprodid: u16,
    tcb_levels: Vec<QeLevel>,
}

/// What a quoting enclave must have to get a status.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QeLevel {
    tcb: QeTcb,
    #[serde(rename = "tcbDate")]
    _tcb_date: Date,
    pub(crate) tcb_status: TcbStatus,
    #[serde(rename = "advisoryIDs", default, deserialize_with = "list_or_null")]
    pub(crate) advisory_ids: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct QeTcb {
    isvsvn: u16,
}

/// A property in which a quoting enclave differs from its description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum QeMismatch {
    Property { field: &'static str, expected: String, got: String },
    Debug,
    NoLevel { isv_svn: u16 },
    Status { status: TcbStatus },
}

impl QeIdentity {
    pub(super) fn parse(text: &str) -> Result<Self, CollateralError> {
        let item = CollateralItem::QeIdentity;
        check_version(item, text, QE_IDENTITY_VERSION)?;
        let identity: Self = read(item, text)?;
        if identity.id != QE_IDENTITY_ID {
            return Err(CollateralError::Id { item, expected: QE_IDENTITY_ID, got: identity.id });
        }
        Ok(identity)
    }

    /// Compares a quoting enclave with this description and finds its level.
    ///
    /// The levels are taken in the order of the text, which the vendor writes from the highest version down.
    pub(crate) fn level_of(&self, qe: &SgxReport) -> Result<&QeLevel, QeMismatch> {
        let differs = |field, expected: &[u8], got: &[u8]| {
            Err(QeMismatch::Property { field, expected: hex::encode(expected), got: hex::encode(got) })
        };
        if qe.mr_signer != self.mrsigner.0 {
            return differs("MRSIGNER", &self.mrsigner.0, &qe.mr_signer);
        }
        if qe.is_debug() {
            return Err(QeMismatch::Debug);
        }
        if qe.isv_prod_id != self.isvprodid {
            let (expected, got) = (self.isvprodid.to_string(), qe.isv_prod_id.to_string());
            return Err(QeMismatch::Property { field: "ISVPRODID", expected, got });
        }
        let misc_select = qe.misc_select.to_le_bytes();
        if !equal_under_mask(&misc_select, &self.miscselect.0, &self.miscselect_mask.0) {
            return differs("MISCSELECT", &self.miscselect.0, &misc_select);
        }
        if !equal_under_mask(&qe.attributes, &self.attributes.0, &self.attributes_mask.0) {
            return differs("ATTRIBUTES", &self.attributes.0, &qe.attributes);
        }
        let level = self.tcb_levels.iter().find(|level| level.tcb.isvsvn <= qe.isv_svn);
        let level = level.ok_or(QeMismatch::NoLevel { isv_svn: qe.isv_svn })?;
        if !level.tcb_status.is_for_quoting_enclaves() {
            return Err(QeMismatch::Status { status: level.tcb_status });
        }
        Ok(level)
    }
}

fn equal_under_mask(given: &[u8], expected: &[u8], mask: &[u8]) -> bool {
    given.iter().zip(expected).zip(mask).all(|((given, expected), mask)| given & mask == expected & mask)
}

/// Looks at the version first, because a text of another version fails at some member and then nobody sees why.
fn check_version(item: CollateralItem, text: &str, expected: u64) -> Result<(), CollateralError> {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    let Version { version: got } = read(item, text)?;
    if got == expected { Ok(()) } else { Err(CollateralError::Version { item, expected, got }) }
}

fn read<T: DeserializeOwned>(item: CollateralItem, text: &str) -> Result<T, CollateralError> {
    let error = |error: serde_json::Error| CollateralError::SignedText { item, reason: error.to_string() };
    let _: UniqueMembers = serde_json::from_str(text).map_err(error)?;
    serde_json::from_str(text).map_err(error)
}

/// An RFC 3339 date.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Date(pub(crate) UnixTime);

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        timestamp::parse_rfc3339(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format_args!("expected an RFC 3339 date, got {text:?}")))
    }
}

/// Exactly `N` bytes in hex.
#[derive(Clone, Copy, Debug)]
struct Hex<const N: usize>([u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(&text, &mut bytes)
            .map_err(|_| D::Error::custom(format_args!("expected {} hex digits, got {text:?}", 2 * N)))?;
        Ok(Self(bytes))
    }
}

/// Some servers write `null` where others leave an empty list away.
fn list_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
