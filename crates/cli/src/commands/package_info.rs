//! `package-info`: the properties of a signed enclave, for a package of a manifest.
//!
//! JSON: `{"UniqueID": text, "SignerID": text, "ProductID": number, "SecurityVersion": number, "Debug": bool, "simulation":
//! bool}`. The members in PascalCase are those of a package in a manifest.

use std::path::Path;

use marblerun_enclave_image::ImageKind;
use serde_json::json;

use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn run(path: &Path, output: &mut Output) -> Result<ExitStatus, Failure> {
    let image = marblerun_enclave_image::read(path)?;
    let sigstruct = &image.sigstruct;
    let (unique_id, signer_id) = (hex::encode(sigstruct.mr_enclave), hex::encode(sigstruct.mr_signer));
    if image.is_simulation {
        output.warn("the Occlum instance was built for simulation (SIM): its UniqueID is of no use in a manifest")?;
    }
    if sigstruct.is_debug {
        output.warn("the enclave may be debugged (attribute DEBUG): nothing in it is secret")?;
    }
    if output.is_json() {
        output.json(&json!({
            "UniqueID": unique_id,
            "SignerID": signer_id,
            "ProductID": sigstruct.isv_prod_id,
            "SecurityVersion": sigstruct.isv_svn,
            "Debug": sigstruct.is_debug,
            "simulation": image.is_simulation,
        }))?;
        return Ok(ExitStatus::Success);
    }
    let what = match image.kind {
        ImageKind::File => "enclave",
        ImageKind::Gramine => {
            output.line("Detected a directory of Gramine")?;
            "Gramine enclave in"
        }
        ImageKind::Occlum => {
            output.line("Detected an Occlum instance")?;
            "Occlum instance"
        }
    };
    output.line(&format!("Package properties of {what} {}:", path.display()))?;
    for (label, value) in [
        ("UniqueID (MRENCLAVE)", unique_id),
        ("SignerID (MRSIGNER)", signer_id),
        ("ProductID (ISVPRODID)", sigstruct.isv_prod_id.to_string()),
        ("SecurityVersion (ISVSVN)", sigstruct.isv_svn.to_string()),
    ] {
        output.line(&format!("{label:<26}: {value}"))?;
    }
    Ok(ExitStatus::Success)
}
