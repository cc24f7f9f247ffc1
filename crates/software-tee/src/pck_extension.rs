//! The SGX extension of PCK certificates (Intel SGX PCK Certificate and CRL Profile Specification).

use der::asn1::{Any, OctetString};
use der::oid::ObjectIdentifier;
use der::{Sequence, Tag};
use x509_cert::ext::Extension;

use crate::enclave::{CPU_SVN, PCE_SVN};
use crate::error::IssueError;
use crate::pki::PckCa;
use crate::x509::raw_extension;

/// FMSPC of the software platform: 0xFF, then `SWTEE` in ASCII. Real ones begin with 0x00 to 0xC0.
pub const FMSPC: [u8; 6] = [0xFF, 0x53, 0x57, 0x54, 0x45, 0x45];

/// Identity of the provisioning certification enclave: all platforms have 0.
const PCE_ID: [u8; 2] = [0, 0];

const SGX_EXTENSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1");

/// `SEQUENCE { id OBJECT IDENTIFIER, value ANY }`, which the extension consists of.
#[derive(Sequence)]
struct Attribute {
    id: ObjectIdentifier,
    value: Any,
}

/// Identity of one software platform; hardware burns the like into fuses.
pub(crate) struct PlatformIds {
    pub(crate) ppid: [u8; 16],
    pub(crate) instance_id: [u8; 16],
    pub(crate) fmspc: [u8; 6],
}

/// The extension of a PCK certificate issued by `ca`.
pub(crate) fn pck_extension(ca: PckCa, ids: &PlatformIds) -> Result<Extension, IssueError> {
    let mut tcb = Vec::with_capacity(18);
    for (arc, svn) in (1..).zip(CPU_SVN) {
        tcb.push(integer(&[2, arc], svn.into())?);
    }
    tcb.push(integer(&[2, 17], PCE_SVN)?);
    tcb.push(octets(&[2, 18], &CPU_SVN)?);

    // Standard SGX memory protection on single-package platforms, Scalable on the others.
    let sgx_type = match ca {
        PckCa::Processor => 0,
        PckCa::Platform => 1,
    };
    let mut attributes = vec![
        octets(&[1], &ids.ppid)?,
        attribute(&[2], Any::encode_from(&tcb))?,
        octets(&[3], &PCE_ID)?,
        octets(&[4], &ids.fmspc)?,
        attribute(&[5], Any::new(Tag::Enumerated, [sgx_type]))?,
    ];
    if ca == PckCa::Platform {
        let configuration = vec![boolean(&[7, 1], true)?, boolean(&[7, 2], false)?, boolean(&[7, 3], true)?];
        attributes.push(octets(&[6], &ids.instance_id)?);
        attributes.push(attribute(&[7], Any::encode_from(&configuration))?);
    }
    raw_extension("SGX extension", SGX_EXTENSION, false, &attributes)
}

fn octets(arcs: &[u32], bytes: &[u8]) -> Result<Attribute, IssueError> {
    attribute(arcs, OctetString::new(bytes).and_then(|octets| Any::encode_from(&octets)))
}

fn integer(arcs: &[u32], value: u16) -> Result<Attribute, IssueError> {
    attribute(arcs, Any::encode_from(&value))
}

fn boolean(arcs: &[u32], value: bool) -> Result<Attribute, IssueError> {
    attribute(arcs, Any::encode_from(&value))
}

fn attribute(arcs: &[u32], value: der::Result<Any>) -> Result<Attribute, IssueError> {
    let id = arcs
        .iter()
        .try_fold(SGX_EXTENSION, |oid, arc| oid.push_arc(*arc))
        .map_err(|error| IssueError::Der { what: "SGX extension", source: error.into() })?;
    Ok(Attribute { id, value: value.map_err(IssueError::der("SGX extension"))? })
}
