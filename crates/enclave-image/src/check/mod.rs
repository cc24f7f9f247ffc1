//! `marblerun occlum check`: an instance directory and a manifest's entry, judged together before anything runs.
//!
//! [`check`] reads the directory and gives all findings at once. Each belongs to a [`Rule`], whose id is stable. The rules
//! are those of Occlum's build tool and LibOS, of the premain, and of the Coordinator; `docs/occlum-check.md` lists them.

mod configuration;
mod delivered;
mod environment;
mod finding;
mod image_files;
mod json_tree;
mod manifest;
mod memory;
mod programs;
mod rule;
mod signing;
#[cfg(test)]
mod tests;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use marblerun_manifest::{Manifest, Marble, Package};

pub use finding::{Finding, Place};
pub use rule::{Family, Rule, Severity};

use crate::image_tree::ImageTree;
use crate::init::writer::open_regular;
use crate::occlum_json::MAX_LEN;
use configuration::Configuration;
use finding::Findings;

/// The image of Occlum's init stage.
const INIT_IMAGE: &str = "initfs";

/// The check could not be made.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No instance.
    #[error("cannot read {}", path.display())]
    Read {
        /// `Occlum.json` of the directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `Occlum.json` is larger than any that was written by hand.
    #[error("{}: expected at most {MAX_LEN} bytes", .0.display())]
    TooLong(PathBuf),
    /// The manifest has no such Marble.
    #[error("the manifest has no Marble {name:?}, only {known}")]
    UnknownMarble {
        /// The name.
        name: String,
        /// Those that it has, in quotes.
        known: String,
    },
    /// The manifest has several Marbles, and none was named.
    #[error("expected the name of a Marble, because the manifest has {known}")]
    AmbiguousMarble {
        /// Those that it has, in quotes.
        known: String,
    },
}

impl CheckError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => Some("give the directory that `occlum new` or `marblerun occlum init` made"),
            Self::TooLong(_) => None,
            Self::UnknownMarble { .. } | Self::AmbiguousMarble { .. } => Some("name the entry with --marble"),
        }
    }
}

/// An entry of a manifest.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'manifest> {
    manifest: &'manifest Manifest,
    name: &'manifest str,
    marble: &'manifest Marble,
    package: Option<&'manifest Package>,
}

impl<'manifest> Entry<'manifest> {
    /// The entry of the Marble `name`; without a name that of the only one.
    ///
    /// # Errors
    /// [`CheckError::UnknownMarble`], [`CheckError::AmbiguousMarble`].
    pub fn find(manifest: &'manifest Manifest, name: Option<&str>) -> Result<Self, CheckError> {
        let known = || {
            let names: Vec<String> = manifest.marbles.keys().map(|name| format!("{name:?}")).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        let found = match name {
            Some(name) => manifest
                .marbles
                .get_key_value(name)
                .ok_or_else(|| CheckError::UnknownMarble { name: name.to_owned(), known: known() })?,
            None => match manifest.marbles.iter().collect::<Vec<_>>().as_slice() {
                [only] => *only,
                _ => return Err(CheckError::AmbiguousMarble { known: known() }),
            },
        };
        Ok(Self { manifest, name: found.0, marble: found.1, package: manifest.packages.get(&found.1.package) })
    }

    /// The name of the Marble.
    pub fn name(&self) -> &'manifest str {
        self.name
    }

    fn place(&self, member: &str) -> Place {
        Place::Manifest(format!("Marbles.{}.{member}", self.name))
    }
}

/// The value of `EDG_MARBLE_TYPE` in `env.default` of an instance, if that can be read.
pub fn measured_marble_type(directory: &Path) -> Option<String> {
    let text = read_configuration(&directory.join("Occlum.json")).ok()?;
    let configuration = configuration::check(&text, false, &mut Findings::default());
    configuration.default_value(marblerun_marble::config::MARBLE_TYPE).map(str::to_owned)
}

fn read_configuration(path: &Path) -> Result<Vec<u8>, CheckError> {
    let read = |source| CheckError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    open_regular(path).map_err(read)?.take(MAX_LEN + 1).read_to_end(&mut text).map_err(read)?;
    if text.len() as u64 > MAX_LEN { Err(CheckError::TooLong(path.to_owned())) } else { Ok(text) }
}

/// Judges the instance in `directory`, with the entry of a manifest if there is one. Findings come by family, errors first.
///
/// # Errors
/// Where there is nothing to judge; everything else is a finding.
pub fn check(directory: &Path, entry: Option<&Entry<'_>>) -> Result<Vec<Finding>, CheckError> {
    let text = read_configuration(&directory.join("Occlum.json"))?;
    let mut findings = Findings::default();
    let debug_is_allowed = entry.and_then(|entry| entry.package).is_some_and(|package| package.debug);
    let configuration = configuration::check(&text, debug_is_allowed, &mut findings);
    check_mounts_in_place(directory, &configuration, &mut findings);
    let image = ImageTree::new(&directory.join("image"));
    let init_image = ImageTree::new(&directory.join(INIT_IMAGE));
    let (mut premain, mut program) = (None, None);
    if image.root().is_dir() {
        let init_activates = programs::has_premain_as_init(&init_image);
        if init_activates {
            manifest::check_init_pin(&init_image, &mut findings);
        }
        premain = programs::check_premain(&image, &configuration, init_activates, &mut findings);
        let path = entry.and_then(|entry| Some((entry, entry.marble.parameters.argv.first()?)));
        if let Some((entry, path)) = path {
            let place = entry.place("Parameters.Argv");
            let is_premain =
                image.find(path).is_some_and(|found| Some(&found.inside) == premain.as_ref().map(|found| &found.path));
            if !is_premain {
                program = programs::check_program(&image, path, place, &configuration, &mut findings);
            }
        }
        image_files::check(image.root(), &mut findings);
        manifest::check_image(&image, entry, &mut findings);
        manifest::check_uuid(&image, &configuration, &mut findings);
    } else {
        findings.add(Rule::NoImage, Place::Instance("image".to_owned()), "there is no such directory");
    }
    if let Some(entry) = entry {
        manifest::check_entry(&image, &configuration, entry, premain.as_ref(), &mut findings);
    }
    environment::check(&configuration, entry, program.as_ref(), &mut findings);
    memory::check(&configuration, entry, premain.as_ref(), program.as_ref(), &mut findings);
    signing::check(directory, &configuration, entry, &mut findings);
    Ok(findings.into_sorted())
}

/// What can only be said of mounts beside the directory: sources of the host, and what targets cover.
fn check_mounts_in_place(directory: &Path, configuration: &Configuration, findings: &mut Findings) {
    let image = ImageTree::new(&directory.join("image"));
    for (place, target, source) in &configuration.mounts.host {
        if let Some(source) = source.as_ref().filter(|source| !source.is_empty())
            && !directory.join(source).is_dir()
        {
            let reason = format!("{} is no directory of the host", finding::shown(source));
            findings.add(Rule::MountSource, Place::OcclumJson(format!("{place}.source")), reason);
        }
        let Some(covered) = image.find(target) else { continue };
        let has_files = covered.metadata.is_file()
            || std::fs::read_dir(&covered.outside).is_ok_and(|mut entries| entries.next().is_some());
        if has_files {
            let reason = format!("the image has files at {target}, which those of the host replace");
            findings.add(Rule::HostFsShadow, Place::OcclumJson(format!("{place}.target")), reason);
        }
    }
}
