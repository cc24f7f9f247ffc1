//! What `occlum init` and `occlum prepare` share: the premain, the C library, the Coordinator to pin.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use marblerun_enclave_image::init::Libc;
use marblerun_pki::{Certificate, pem};

use crate::args::Global;
use crate::args::occlum_init::MarbleArguments;
use crate::commands::certificate;
use crate::development::{self, Site};
use crate::failure::{Cause, Failure};
use crate::output::Output;
use crate::programs::{self, Program};
use crate::{files, trust};

/// A certificate has few kilobytes.
const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;

/// The premain's file.
pub(super) fn premain(arguments: &MarbleArguments) -> Result<PathBuf, Failure> {
    match &arguments.premain {
        Some(file) => Ok(file.clone()),
        None => Ok(programs::find(Program::Premain)?),
    }
}

pub(super) fn libc(arguments: &MarbleArguments) -> Libc {
    arguments.libc_from.clone().map_or(Libc::Host, Libc::Directory)
}

/// SHA-256 of the root certificate to pin, if one is named.
pub(super) fn root_sha256(
    global: &Global,
    arguments: &MarbleArguments,
    output: &mut Output,
) -> Result<Option<[u8; 32]>, Failure> {
    let der = match (&arguments.coordinator_root, &arguments.coordinator) {
        (Some(file), _) => read_root(file)?,
        (None, Some(dev)) if dev == development::NAME => {
            let site = Site::of_user()?;
            let running = site.running()?;
            trust::block_on(async { Ok(development::connect(&site, running.client).await?.root().to_vec()) })?
        }
        (None, Some(address)) => trust::block_on(async {
            let coordinator = trust::attest(global, address, output).await?;
            if coordinator.is_attested() {
                certificate::compare_with_cache(global, &coordinator.chain)?;
            }
            Ok(coordinator.chain.root().to_vec())
        })?,
        (None, None) => return Ok(None),
    };
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &der).as_ref());
    Ok(Some(hash))
}

/// The only certificate of a file, as DER.
fn read_root(path: &Path) -> Result<Vec<u8>, Cause> {
    let refused = |reason| Cause::PinFile { path: path.to_owned(), reason };
    let content = files::read("root certificate", path, MAX_CERTIFICATE_BYTES)?;
    let der = match pem::decode_certificates(&content) {
        Ok(mut certificates) if certificates.len() == 1 => certificates.swap_remove(0),
        Ok(_) => return Err(refused("expected one certificate, got several")),
        Err(_) => content,
    };
    match Certificate::parse(&der) {
        Ok(_) => Ok(der),
        Err(_) => Err(refused("expected a certificate, PEM or DER")),
    }
}
