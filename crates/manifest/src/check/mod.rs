//! Whether a manifest can be set: consistency first, then what its secrets, users and keys must be.

mod access;
mod count;
mod error;
mod secret;

use std::collections::BTreeMap;

use marblerun_json::Place;

pub use count::{
    MAX_ACTIONS, MAX_ARGUMENTS, MAX_FILES, MAX_INFRASTRUCTURES, MAX_MARBLES, MAX_PACKAGES, MAX_ROLES, MAX_SECRETS,
    MAX_TLS_ENTRIES, MAX_TLS_TAGS, MAX_USERS, MAX_VARIABLES,
};
pub use error::CheckError;
pub use secret::{MAX_DERIVED_KEY_BITS, MAX_RANDOM_KEY_BITS};

use crate::certificate::shorten;
use crate::nearest::nearest;
use crate::schema::{FeatureGate, Manifest, Marble, Package};

/// Whether the Coordinator can seal with an Azure HSM, which depends on its environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AzureHsm {
    /// Everything that the feature needs is configured.
    Available,
    /// Something is missing, or this build does not have the feature.
    Unavailable,
}

impl Manifest {
    /// Checks all that can be said about a manifest without running its templates or making its secrets.
    ///
    /// The first failure is reported. Entries of maps are looked at in the order of their names.
    ///
    /// # Errors
    ///
    /// One variant per rule, with the place in the manifest.
    pub fn check(&self, azure_hsm: AzureHsm) -> Result<(), CheckError> {
        count::check_counts(self)?;
        if self.packages.is_empty() {
            return Err(CheckError::NoPackages);
        }
        if self.marbles.is_empty() {
            return Err(CheckError::NoMarbles);
        }
        for (name, marble) in &self.marbles {
            self.check_marble(&Place::top().member("Marbles").member(name), marble)?;
        }
        self.check_tls()?;
        access::check_users(self)?;
        access::check_roles(self)?;
        secret::check_definitions(self)?;
        self.check_config(azure_hsm)?;
        secret::check_generation(self)?;
        self.check_recovery_keys()?;
        access::check_user_certificates(self)?;
        self.check_environment()
    }

    fn check_marble(&self, place: &Place, marble: &Marble) -> Result<(), CheckError> {
        let package = lookup(&self.packages, &marble.package).map_err(|nearest| CheckError::UnknownPackage {
            place: place.member("Package"),
            name: shorten(&marble.package),
            nearest,
        })?;
        check_package(&Place::top().member("Packages").member(&marble.package), package)?;
        for (index, tag) in marble.tls.iter().enumerate() {
            lookup(&self.tls, tag).map_err(|nearest| CheckError::UnknownTag {
                place: place.member("TLS").index(index),
                name: shorten(tag),
                nearest,
            })?;
        }
        Ok(())
    }

    fn check_tls(&self) -> Result<(), CheckError> {
        for (name, tag) in &self.tls {
            let place = Place::top().member("TLS").member(name);
            for (index, entry) in tag.incoming.iter().enumerate() {
                let place = place.member("Incoming").index(index);
                if entry.port.is_empty() {
                    return Err(CheckError::TlsMemberMissing { place: place.member("Port") });
                }
                if !entry.cert.is_empty() {
                    lookup(&self.secrets, &entry.cert).map_err(|nearest| CheckError::UnknownTlsSecret {
                        place: place.member("Cert"),
                        name: shorten(&entry.cert),
                        nearest,
                    })?;
                }
                match (entry.cert.is_empty(), entry.disable_client_auth) {
                    (false, false) => return Err(CheckError::CertWithClientAuth { place }),
                    (true, true) => return Err(CheckError::NoClientAuthWithoutCert { place }),
                    _ => {}
                }
            }
            for (index, entry) in tag.outgoing.iter().enumerate() {
                let place = place.member("Outgoing").index(index);
                if entry.addr.is_empty() {
                    return Err(CheckError::TlsMemberMissing { place: place.member("Addr") });
                }
                if entry.port.is_empty() {
                    return Err(CheckError::TlsMemberMissing { place: place.member("Port") });
                }
            }
        }
        Ok(())
    }

    fn check_config(&self, azure_hsm: AzureHsm) -> Result<(), CheckError> {
        let place = Place::top().member("Config");
        let config = &self.config;
        let users = access::count_update_users(self);
        if users < config.update_threshold {
            return Err(CheckError::TooFewUpdateUsers { threshold: config.update_threshold, users });
        }
        if config.seal_mode().is_none() {
            return Err(CheckError::UnknownSealMode { got: shorten(&config.seal_mode_word) });
        }
        for (index, word) in config.feature_gates.iter().enumerate() {
            let place = place.member("FeatureGates").index(index);
            match FeatureGate::from_word(word) {
                None => return Err(CheckError::UnknownFeature { place, got: shorten(word) }),
                Some(FeatureGate::AzureHsmSealing) if azure_hsm == AzureHsm::Unavailable => {
                    return Err(CheckError::AzureHsmUnavailable { place });
                }
                Some(_) => {}
            }
        }
        let keys = self.recovery_keys.len();
        // A length always fits 64 bits.
        if config.recovery_threshold > keys as u64 {
            return Err(CheckError::RecoveryThresholdTooHigh { threshold: config.recovery_threshold, keys });
        }
        if config.recovery_threshold == 1 {
            return Err(CheckError::RecoveryThresholdOne);
        }
        Ok(())
    }

    fn check_recovery_keys(&self) -> Result<(), CheckError> {
        for (name, pem) in &self.recovery_keys {
            crate::pem::recovery_key(pem).map_err(|source| CheckError::RecoveryKey {
                place: Place::top().member("RecoveryKeys").member(name),
                source,
            })?;
        }
        Ok(())
    }

    /// A variable ends at its first NUL, so that one with NUL cannot be delivered.
    fn check_environment(&self) -> Result<(), CheckError> {
        for (marble_type, marble) in &self.marbles {
            for (variable, content) in &marble.parameters.env {
                if content.data.contains(&0) {
                    let place = Place::top().member("Marbles").member(marble_type).member("Parameters");
                    return Err(CheckError::NulInVariable { place: place.member("Env").member(variable) });
                }
            }
        }
        Ok(())
    }
}

/// What is wrong with a package's identity; a failure unless the package is for debugging.
fn check_package(place: &Place, package: &Package) -> Result<(), CheckError> {
    if package.debug { Ok(()) } else { check_identity(place, package) }
}

/// The rules on identities, whether they matter or not.
pub(crate) fn check_identity(place: &Place, package: &Package) -> Result<(), CheckError> {
    let others = [
        ("SignerID", !package.signer_id.is_empty()),
        ("ProductID", package.product_id.is_some()),
        ("SecurityVersion", package.security_version.is_some()),
    ];
    if !package.unique_id.is_empty() {
        return match others.into_iter().find(|(_, given)| *given) {
            Some((member, _)) => Err(CheckError::UniqueIdWithOther { place: place.clone(), member }),
            None => Ok(()),
        };
    }
    match others.into_iter().find(|(_, given)| !given) {
        Some((member, _)) => Err(CheckError::IdentityMissing { place: place.member(member) }),
        None => Ok(()),
    }
}

/// The entry, or else the name that was probably meant.
fn lookup<'a, T>(entries: &'a BTreeMap<String, T>, name: &str) -> Result<&'a T, Option<String>> {
    entries.get(name).ok_or_else(|| nearest(name, entries.keys().map(String::as_str)).map(str::to_owned))
}
