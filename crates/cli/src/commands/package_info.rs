//! `package-info`: the properties of a signed enclave, for a package of a manifest.
//!
//! JSON: `{"UniqueID": text, "SignerID": text, "ProductID": number, "SecurityVersion": number, "Debug": bool, "kind": text,
//! "simulation": bool, "publishedKey": text or null, "package": {...}}`. The members in PascalCase are those of a package in
//! a manifest.

use std::path::Path;

use marblerun_enclave_image::{EnclaveImage, ImageKind, PublishedKey};
use marblerun_manifest::MAX_MANIFEST_BYTES;
use serde_json::json;

use crate::args::package_info::{By, PackageInfoArguments};
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::files;
use crate::manifest_edit;
use crate::output::Output;
use crate::simulator::{self, Measurement, Simulator};

/// What is known about an enclave.
struct Enclave {
    kind: Kind,
    unique_id: String,
    signer_id: String,
    product_id: u16,
    security_version: u16,
    is_debug: bool,
    is_simulation: bool,
    published_key: Option<PublishedKey>,
}

/// What the path holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Signed(ImageKind),
    /// An instance that was not built, measured by the simulator.
    Unbuilt,
}

pub(crate) fn run(arguments: &PackageInfoArguments, output: &mut Output) -> Result<ExitStatus, Failure> {
    let enclave = read(&arguments.path)?;
    enclave.warn(output)?;
    if let (Some(file), Some(name)) = (&arguments.into, &arguments.package) {
        write_into(file, name, &enclave, arguments.by, output)?;
    }
    let by = arguments.by.unwrap_or(By::UniqueId);
    if arguments.package_only {
        output.line(&enclave.package(by))?;
    } else if output.is_json() {
        output.json(&json!({
            "UniqueID": enclave.unique_id,
            "SignerID": enclave.signer_id,
            "ProductID": enclave.product_id,
            "SecurityVersion": enclave.security_version,
            "Debug": enclave.is_debug,
            "kind": enclave.kind.word(),
            "simulation": enclave.is_simulation,
            "publishedKey": enclave.published_key.map(|key| key.to_string()),
            "package": package_json(&enclave, by),
        }))?;
    } else {
        enclave.show(&arguments.path, output)?;
        if arguments.into.is_none() {
            output.line("\nPackage for a manifest:")?;
            output.line(&enclave.package(by))?;
        }
    }
    Ok(ExitStatus::Success)
}

fn read(path: &Path) -> Result<Enclave, Failure> {
    if simulator::is_unbuilt_instance(path) {
        return Ok(Enclave::measured(Simulator::find()?.measure(path)?));
    }
    Ok(Enclave::signed(&marblerun_enclave_image::read(path)?))
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Signed(ImageKind::File) => "enclave",
            Self::Signed(ImageKind::Ego) => "ego",
            Self::Signed(ImageKind::EgoBundle) => "ego-bundle",
            Self::Signed(ImageKind::Gramine) => "gramine",
            Self::Signed(ImageKind::Occlum) => "occlum",
            Self::Signed(ImageKind::OcclumPackage) => "occlum-package",
            Self::Unbuilt => "simulator",
        }
    }

    /// The line before the others for what is no plain file, and what the path is called.
    fn text(self) -> (Option<&'static str>, &'static str) {
        match self {
            Self::Signed(ImageKind::File) => (None, "enclave"),
            Self::Signed(ImageKind::Ego) => (None, "EGo enclave"),
            Self::Signed(ImageKind::EgoBundle) => (Some("Detected a bundle of EGo"), "EGo enclave in"),
            Self::Signed(ImageKind::Gramine) => (Some("Detected a directory of Gramine"), "Gramine enclave in"),
            Self::Signed(ImageKind::Occlum) => (Some("Detected an Occlum instance"), "Occlum instance"),
            Self::Signed(ImageKind::OcclumPackage) => (Some("Detected a package of Occlum"), "Occlum instance in"),
            Self::Unbuilt => (Some("Detected an instance without build, measured by marble-sim"), "instance"),
        }
    }
}

impl Enclave {
    fn signed(image: &EnclaveImage) -> Self {
        let sigstruct = &image.sigstruct;
        Self {
            kind: Kind::Signed(image.kind),
            unique_id: hex::encode(sigstruct.mr_enclave),
            signer_id: hex::encode(sigstruct.mr_signer),
            product_id: sigstruct.isv_prod_id,
            security_version: sigstruct.isv_svn,
            is_debug: sigstruct.is_debug,
            is_simulation: image.is_simulation,
            published_key: PublishedKey::of(&sigstruct.mr_signer),
        }
    }

    fn measured(measurement: Measurement) -> Self {
        let mut signer = [0; 32];
        let is_signer = hex::decode_to_slice(&measurement.mrsigner, &mut signer).is_ok();
        Self {
            kind: Kind::Unbuilt,
            unique_id: measurement.mrenclave,
            signer_id: measurement.mrsigner,
            product_id: measurement.isv_prod_id,
            security_version: measurement.isv_svn,
            is_debug: measurement.debug,
            is_simulation: true,
            published_key: PublishedKey::of(&signer).filter(|_| is_signer),
        }
    }

    fn warn(&self, output: &mut Output) -> std::io::Result<()> {
        match (self.kind, self.is_simulation) {
            (Kind::Unbuilt, _) => output
                .warn("the instance was measured by marble-sim: its UniqueID is of use in the simulator only, not on hardware")?,
            (Kind::Signed(_), true) => output
                .warn("the Occlum instance was built for simulation (SIM): its UniqueID is of no use in a manifest")?,
            (Kind::Signed(_), false) => {}
        }
        if self.is_debug {
            output.warn("the enclave may be debugged (attribute DEBUG): nothing in it is secret")?;
        }
        if let Some(key) = self.published_key {
            output.warn(&format!(
                "the enclave is signed with {key}: everybody can sign as this SignerID, so name the enclave by its UniqueID"
            ))?;
        }
        Ok(())
    }

    fn show(&self, path: &Path, output: &mut Output) -> std::io::Result<()> {
        let (detected, what) = self.kind.text();
        if let Some(detected) = detected {
            output.line(detected)?;
        }
        output.line(&format!("Package properties of {what} {}:", path.display()))?;
        for (label, value) in [
            ("UniqueID (MRENCLAVE)", self.unique_id.clone()),
            ("SignerID (MRSIGNER)", self.signer_id.clone()),
            ("ProductID (ISVPRODID)", self.product_id.to_string()),
            ("SecurityVersion (ISVSVN)", self.security_version.to_string()),
        ] {
            output.line(&format!("{label:<26}: {value}"))?;
        }
        Ok(())
    }

    /// All members that name the enclave, as JSON.
    fn identity(&self) -> [(&'static str, String); 4] {
        [
            ("UniqueID", format!("\"{}\"", self.unique_id)),
            ("SignerID", format!("\"{}\"", self.signer_id)),
            ("ProductID", self.product_id.to_string()),
            ("SecurityVersion", self.security_version.to_string()),
        ]
    }

    /// Members that a package needs beside the identity.
    fn extra(&self) -> &'static [(&'static str, &'static str)] {
        if self.is_debug { &[("Debug", "true")] } else { &[] }
    }

    /// A package of a manifest.
    fn package(&self, by: By) -> String {
        let identity = self.identity();
        let identity = identity.iter().map(|(member, value)| (*member, value.as_str()));
        let members = identity.filter(|(member, _)| by.members().contains(member)).chain(self.extra().iter().copied());
        let members: Vec<_> = members.map(|(member, value)| format!("  \"{member}\": {value}")).collect();
        format!("{{\n{}\n}}", members.join(",\n"))
    }
}

fn package_json(enclave: &Enclave, by: By) -> serde_json::Value {
    let mut package = match by {
        By::UniqueId => json!({"UniqueID": enclave.unique_id}),
        By::Signer => json!({
            "SignerID": enclave.signer_id,
            "ProductID": enclave.product_id,
            "SecurityVersion": enclave.security_version,
        }),
    };
    if enclave.is_debug {
        package["Debug"] = true.into();
    }
    package
}

fn write_into(file: &Path, name: &str, enclave: &Enclave, by: Option<By>, output: &mut Output) -> Result<(), Failure> {
    let refused = |source| Cause::ManifestEdit { path: file.to_owned(), source };
    let bytes = files::read("manifest", file, MAX_MANIFEST_BYTES)?;
    let old = String::from_utf8(bytes).map_err(|error| Cause::Read {
        what: "manifest",
        path: file.to_owned(),
        source: std::io::Error::other(error),
    })?;
    let identity = enclave.identity();
    let identity: Vec<_> = identity.iter().map(|(member, value)| (*member, value.as_str())).collect();
    let (text, is_new) = manifest_edit::set_package(&old, name, &identity, by, enclave.extra()).map_err(refused)?;
    if text != old {
        files::rewrite("manifest", file, text.as_bytes())?;
    }
    if enclave.is_debug && !manifest_edit::package_has(&text, name, "Debug", "true") {
        output.warn(&format!("package {name:?} has no \"Debug\": true, so that a Coordinator refuses this enclave"))?;
    }
    output.step(&match (is_new, text != old) {
        (true, _) => format!("Added package {name:?} to {}", file.display()),
        (false, true) => format!("Updated package {name:?} in {}", file.display()),
        (false, false) => format!("Package {name:?} in {} is up to date", file.display()),
    })?;
    Ok(())
}
