//! Profiles: what a user would otherwise give with each command for one deployment.
//!
//! A profile stands for flags that are left out: the address, how the Coordinator is verified, and where the user's
//! certificate and key are (paths, never the key). It has its own certificate cache, with the remembered state beside
//! it. `--insecure` is never part of a profile, and cannot be given together with one.

mod parse;
mod pin;
mod store;

use std::path::PathBuf;

use marblerun_json::{DecodeError, decode_object, decode_whole};
use serde_json::{Value, json};

pub(crate) use parse::{NotParsed, Parsed, parse};
pub(crate) use pin::pin;
pub(crate) use store::{Name, NameError, Store};

use crate::failure::Cause;

/// Longest profile file, in bytes.
const MAX_PROFILE_BYTES: usize = 64 * 1024;

/// The content of a profile. Paths are absolute, so that they mean the same in every directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Client API of the Coordinator.
    pub(crate) address: String,
    /// Expected measurements of the Coordinator.
    pub(crate) era_config: Option<String>,
    /// Roots of a software TEE to trust instead of hardware.
    pub(crate) software_roots: Vec<String>,
    /// Directory with collateral.
    pub(crate) collateral: Option<String>,
    /// Certificate of the user.
    pub(crate) cert: Option<String>,
    /// Private key of the user.
    pub(crate) key: Option<String>,
}

decode_object!(Profile {
    "address" => address,
    "eraConfig" => era_config,
    "trustSoftwareRoot" => software_roots,
    "collateral" => collateral,
    "cert" => cert,
    "key" => key,
});

/// Why a profile file is not read.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("{place}: there is no such member")]
    UnknownMember { place: String },
}

impl Profile {
    /// Reads the content of a file. A member that is not known may be a restriction, so it is refused.
    fn parse(text: &[u8]) -> Result<Self, ProfileError> {
        let (profile, notes) = decode_whole::<Self>(text, MAX_PROFILE_BYTES)?;
        match notes.unknown_members.first() {
            None => Ok(profile),
            Some(unknown) => Err(ProfileError::UnknownMember { place: unknown.place.to_string() }),
        }
    }

    /// The form of files and of `--output json`.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "address": self.address,
            "eraConfig": self.era_config,
            "trustSoftwareRoot": self.software_roots,
            "collateral": self.collateral,
            "cert": self.cert,
            "key": self.key,
        })
    }

    /// Every file and directory that it names.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &String> {
        let Self { address: _, era_config, software_roots, collateral, cert, key } = self;
        [era_config, collateral, cert, key].into_iter().flatten().chain(software_roots)
    }

    /// What the user must be told at each use.
    pub(crate) fn warning(&self, name: &Name) -> Option<String> {
        (!self.software_roots.is_empty())
            .then(|| format!("profile {name} trusts a software root: no hardware protects this deployment"))
    }
}

/// A path as it is kept: absolute.
pub(crate) fn absolute(path: &std::path::Path) -> Result<String, Cause> {
    let absolute =
        std::path::absolute(path).map_err(|source| Cause::Read { what: "path", path: path.to_owned(), source })?;
    match absolute.into_os_string().into_string() {
        Ok(text) => Ok(text),
        Err(path) => Err(Cause::PathNotText { path: PathBuf::from(path) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_reads_back_as_it_was_written() {
        let profile = Profile {
            address: "localhost:4433".to_owned(),
            era_config: Some("/e.json".to_owned()),
            software_roots: vec!["/r.pem".to_owned()],
            ..Profile::default()
        };
        assert_eq!(Profile::parse(profile.to_json().to_string().as_bytes()).unwrap(), profile);
    }

    #[test]
    fn unknown_members_are_refused() {
        let error = Profile::parse(br#"{"address":"h:1","insecure":true}"#).unwrap_err();
        assert_eq!(error.to_string(), "insecure: there is no such member");
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let text = format!("{{\"address\":\"{}\"}}", "a".repeat(MAX_PROFILE_BYTES));
        assert!(Profile::parse(text.as_bytes()).is_err());
    }
}
