//! The built instance: its mode, its signature, its image.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::Entry;
use super::configuration::Configuration;
use super::finding::{Findings, Place};
use super::manifest::{is_placeholder, parse_id};
use super::rule::Rule;
use crate::signer::PublishedKey;
use crate::sigstruct::SigStruct;

/// The signed LibOS.
const LIBOS: &str = "build/lib/libocclum-libos.signed.so";
/// The flavour of the build.
const MODE: &str = ".sgx_mode";
/// What kind of image was built.
const IMAGE_CONFIG: &str = "build/image_config.json";
/// Both small files are some bytes.
const MAX_SMALL_FILE: u64 = 4096;

pub(super) fn check(
    directory: &Path,
    configuration: &Configuration,
    entry: Option<&Entry<'_>>,
    findings: &mut Findings,
) {
    let is_encrypted = read_small(directory, IMAGE_CONFIG).is_some_and(|text| text.contains("\"encrypted\""));
    if let Some(layer) = configuration.mounts.writable_layer.as_ref().filter(|_| !configuration.mounts.is_temporary)
        && !is_encrypted
    {
        findings.add(Rule::ShadowLayer, Place::OcclumJson(layer.clone()), "it keeps files over a measured image");
    }
    if !directory.join(LIBOS).exists() {
        findings.add(Rule::NotBuilt, Place::Instance(LIBOS.to_owned()), "there is no such file");
        return;
    }
    if !is_encrypted {
        findings.add(Rule::ReadableImage, Place::Instance(IMAGE_CONFIG.to_owned()), "the image is not encrypted");
    }
    let is_simulation = match read_small(directory, MODE).as_deref().map(str::trim) {
        Some("HW") | None => false,
        Some("HYPER") => {
            findings.add(Rule::HyperBuild, Place::Instance(MODE.to_owned()), "the mode is HYPER");
            false
        }
        Some(mode) => {
            findings.add(Rule::SimulationBuild, Place::Instance(MODE.to_owned()), format!("the mode is {mode:?}"));
            true
        }
    };
    let place = || Place::Instance(LIBOS.to_owned());
    let sigstruct = match crate::read(directory) {
        Ok(image) => image.sigstruct,
        Err(error) => {
            findings.add(Rule::SignatureUnreadable, place(), error.to_string());
            return;
        }
    };
    if let Some(key) = PublishedKey::of(&sigstruct.mr_signer) {
        findings.add(Rule::PublishedKey, place(), format!("the signer is {key}"));
    }
    compare_with_configuration(configuration, &sigstruct, findings);
    if let Some(entry) = entry {
        compare_with_package(entry, &sigstruct, is_simulation, findings);
    }
}

fn read_small(directory: &Path, name: &str) -> Option<String> {
    let path = directory.join(name);
    let is_small = fs::metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_SMALL_FILE);
    is_small.then(|| fs::read_to_string(&path).ok()).flatten()
}

fn compare_with_configuration(configuration: &Configuration, sigstruct: &SigStruct, findings: &mut Findings) {
    let mut compare = |member: &str, built: u64, written: Option<u64>| {
        if written.is_some_and(|written| written != built) {
            let written = written.unwrap_or_default();
            let reason = format!("it is {written}, the instance was built with {built}");
            findings.add(Rule::StaleBuild, Place::OcclumJson(format!("metadata.{member}")), reason);
        }
    };
    compare("product_id", sigstruct.isv_prod_id.into(), configuration.product_id.map(u64::from));
    compare("version_number", sigstruct.isv_svn.into(), configuration.version_number.map(u64::from));
    if sigstruct.is_debug != configuration.is_debuggable {
        let reason =
            format!("it is {}, the instance was built with {}", configuration.is_debuggable, sigstruct.is_debug);
        findings.add(Rule::StaleBuild, Place::OcclumJson("metadata.debuggable".to_owned()), reason);
    }
}

fn compare_with_package(entry: &Entry<'_>, sigstruct: &SigStruct, is_simulation: bool, findings: &mut Findings) {
    let Some(package) = entry.package else { return };
    let place = |member: &str| Place::Manifest(format!("Packages.{}.{member}", entry.marble.package));
    let is_other = |wanted: &str, got: &[u8; 32]| !wanted.is_empty() && parse_id(wanted).as_ref() != Some(got);
    // The measurement of a SIM build is not that of the enclave; a placeholder is told of as such.
    if is_other(&package.unique_id, &sigstruct.mr_enclave) && !is_placeholder(&package.unique_id) && !is_simulation {
        let reason = format!("the package wants {}, the instance is {}", package.unique_id, hex(&sigstruct.mr_enclave));
        findings.add(Rule::UniqueIdMismatch, place("UniqueID"), reason);
    }
    if is_other(&package.signer_id, &sigstruct.mr_signer) {
        let reason =
            format!("the package wants {}, the instance's signer is {}", package.signer_id, hex(&sigstruct.mr_signer));
        findings.add(Rule::SignerIdMismatch, place("SignerID"), reason);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
