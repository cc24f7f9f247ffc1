//! The file that Intel's PCS client tool writes (`platform_collaterals.json`): collateral for a list of platforms.
//!
//! The tool reads the signed TCB info and writes it anew, perhaps with other white space. The vendor signs it without any, so
//! that is taken away again; the signature shows whether it was right.

use marblerun_attestation::{Fmspc, PckCa, PlatformId, Tee};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

/// Longest file that is read: some thousand platforms.
pub(super) const MAX_BYTES: usize = 64 * 1024 * 1024;

#[derive(Deserialize)]
struct File {
    collaterals: Collaterals,
}

/// The members that matter for SGX.
#[derive(Deserialize)]
struct Collaterals {
    tcbinfos: Vec<TcbInfos>,
    pckcacrl: PckCrls,
    qeidentity: Option<Box<RawValue>>,
    qeidentity_early: Option<Box<RawValue>>,
    certificates: Chains,
    /// Hexadecimal.
    rootcacrl: String,
}

#[derive(Deserialize)]
struct TcbInfos {
    fmspc: String,
    sgx_tcbinfo: Option<TcbInfo>,
    sgx_tcbinfo_early: Option<TcbInfo>,
}

#[derive(Deserialize)]
struct TcbInfo {
    #[serde(rename = "tcbInfo")]
    tcb_info: Box<RawValue>,
    signature: String,
}

#[derive(Deserialize)]
struct QeIdentity {
    #[serde(rename = "enclaveIdentity")]
    enclave_identity: Box<RawValue>,
    signature: String,
}

/// Hexadecimal.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PckCrls {
    processor_crl: Option<String>,
    platform_crl: Option<String>,
}

/// Percent-encoded.
#[derive(Deserialize)]
struct Chains {
    #[serde(rename = "SGX-PCK-Certificate-Issuer-Chain")]
    pck: PckChains,
    #[serde(rename = "TCB-Info-Issuer-Chain", alias = "SGX-TCB-Info-Issuer-Chain")]
    tcb_info: String,
    #[serde(rename = "SGX-Enclave-Identity-Issuer-Chain")]
    qe_identity: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct PckChains {
    processor: Option<String>,
    platform: Option<String>,
}

/// The texts of the bundle files that the tool's file makes, each with its platform. Nothing in them is proven.
///
/// # Errors
///
/// If it is another file.
pub(super) fn read(text: &[u8]) -> Result<Vec<(PlatformId, Vec<u8>)>, serde_json::Error> {
    let File { collaterals } = serde_json::from_slice(text)?;
    let qe_identity = collaterals.qeidentity.or(collaterals.qeidentity_early);
    let qe_identity = qe_identity.map(|raw| qe_identity_of(&raw)).transpose()?;
    let Some(qe_identity) = qe_identity else { return Ok(Vec::new()) };
    let chains = &collaterals.certificates;
    let authorities = [
        (PckCa::Processor, &collaterals.pckcacrl.processor_crl, &chains.pck.processor),
        (PckCa::Platform, &collaterals.pckcacrl.platform_crl, &chains.pck.platform),
    ];
    let mut found = Vec::new();
    for infos in collaterals.tcbinfos {
        let (Some(fmspc), Some(info)) = (Fmspc::from_hex(&infos.fmspc), infos.sgx_tcbinfo.or(infos.sgx_tcbinfo_early))
        else {
            continue;
        };
        for (ca, crl, chain) in authorities {
            // The tool has chains of the authorities that certified platforms of its list.
            let (Some(crl), Some(chain)) = (crl, chain) else { continue };
            let file = json!({
                "pck_crl_issuer_chain": decoded(chain),
                "root_ca_crl": collaterals.rootcacrl,
                "pck_crl": crl,
                "tcb_info_issuer_chain": decoded(&chains.tcb_info),
                "tcb_info": without_white_space(info.tcb_info.get()),
                "tcb_info_signature": info.signature,
                "qe_identity_issuer_chain": decoded(&chains.qe_identity),
                "qe_identity": without_white_space(qe_identity.enclave_identity.get()),
                "qe_identity_signature": qe_identity.signature,
            });
            found.push((PlatformId { tee: Tee::Sgx, fmspc, ca }, file.to_string().into_bytes()));
        }
    }
    Ok(found)
}

/// The QE identity is a text in the file.
fn qe_identity_of(raw: &RawValue) -> Result<QeIdentity, serde_json::Error> {
    match serde_json::from_str::<String>(raw.get()) {
        Ok(text) => serde_json::from_str(&text),
        Err(_) => serde_json::from_str(raw.get()),
    }
}

fn decoded(chain: &str) -> String {
    percent_decode_str(chain).decode_utf8_lossy().into_owned()
}

/// JSON without the white space between its tokens.
fn without_white_space(json: &str) -> String {
    let (mut is_text, mut is_escaped) = (false, false);
    let mut kept = json.to_owned();
    kept.retain(|c| {
        if is_text {
            is_text = c != '"' || is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            return true;
        }
        is_text = c == '"';
        !c.is_ascii_whitespace()
    });
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_stays_in_texts_only() {
        let json = "{\n \"a b\" : [ 1,\t\"x \\\" y\\\\\" , \" \" ] }\r\n";
        assert_eq!(without_white_space(json), r#"{"a b":[1,"x \" y\\"," "]}"#);
    }

    #[test]
    fn another_file_is_refused() {
        assert!(read(b"{}").is_err());
        assert!(read(b"{\"collaterals\": []}").is_err());
    }
}
