//! What a manifest is as an update of another one: its kind, and what it leaves as it is.

use std::collections::BTreeMap;

use crate::certificate::{SecretCertificate, shorten};
use crate::schema::{Manifest, Package, SecretDefinition};

/// Days that a generated certificate is valid where its secret gives neither `ValidFor` nor `Cert.NotAfter`.
const DEFAULT_VALID_FOR_DAYS: u64 = 365;

/// The kind of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateKind {
    /// It raises security versions of packages; `Config` is not looked at.
    PackageOnly,
    /// It replaces the manifest.
    Full,
}

/// Why the packages of a package-only update are refused.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageUpdateError {
    /// There are no packages.
    #[error("Packages: expected at least one package, got none")]
    Nothing,
    /// The running manifest has no such package.
    #[error("Packages.{name}: expected a package of the manifest that is set")]
    Unknown {
        /// The name, possibly shortened.
        name: String,
    },
    /// The entry holds something else than a security version.
    #[error("Packages.{name}.{member}: expected only a SecurityVersion, got also this")]
    Member {
        /// The package, possibly shortened.
        name: String,
        /// The member.
        member: &'static str,
    },
    /// The entry holds no security version.
    #[error("Packages.{name}.SecurityVersion: expected a number, got none")]
    NoVersion {
        /// The package, possibly shortened.
        name: String,
    },
    /// The version is lower than the one in force.
    #[error("Packages.{name}.SecurityVersion: expected at least {current}, got {got}")]
    Lower {
        /// The package, possibly shortened.
        name: String,
        /// The version in force.
        current: u64,
        /// The new one.
        got: u64,
    },
}

impl Manifest {
    /// The kind of update that this manifest is.
    pub fn update_kind(&self) -> UpdateKind {
        let is_package_only = self.infrastructures.is_empty()
            && self.marbles.is_empty()
            && self.users.is_empty()
            && self.recovery_keys.is_empty()
            && self.roles.is_empty()
            && self.secrets.is_empty()
            && self.tls.is_empty();
        if is_package_only { UpdateKind::PackageOnly } else { UpdateKind::Full }
    }

    /// The security versions that this package-only update sets. `running` tells of a package of the running manifest
    /// the version in force, if it has one; `None` if there is no such package.
    ///
    /// `AcceptedTCBStatuses` and `AcceptedAdvisories` are ignored.
    ///
    /// # Errors
    ///
    /// See [`PackageUpdateError`].
    pub fn check_package_update(
        &self,
        running: impl Fn(&str) -> Option<Option<u64>>,
    ) -> Result<BTreeMap<String, u64>, PackageUpdateError> {
        if self.packages.is_empty() {
            return Err(PackageUpdateError::Nothing);
        }
        let version = |(name, package): (&String, &Package)| {
            let shown = || shorten(name);
            let current = running(name).ok_or_else(|| PackageUpdateError::Unknown { name: shown() })?;
            let others = [
                ("Debug", package.debug),
                ("UniqueID", !package.unique_id.is_empty()),
                ("SignerID", !package.signer_id.is_empty()),
                ("ProductID", package.product_id.is_some()),
            ];
            if let Some((member, _)) = others.into_iter().find(|(_, given)| *given) {
                return Err(PackageUpdateError::Member { name: shown(), member });
            }
            let got = package.security_version.ok_or_else(|| PackageUpdateError::NoVersion { name: shown() })?;
            match current {
                Some(current) if got < current => Err(PackageUpdateError::Lower { name: shown(), current, got }),
                _ => Ok((name.clone(), got)),
            }
        };
        self.packages.iter().map(version).collect()
    }

    /// True if the same parties can open the state with the same number of shares: names and texts of the recovery keys
    /// are the same, and the thresholds mean the same number (0 means all).
    pub fn has_recovery_of(&self, other: &Self) -> bool {
        self.recovery_keys == other.recovery_keys && self.shares_needed() == other.shares_needed()
    }

    /// How many shares open the state; 0 if there are no recovery keys.
    pub(crate) fn shares_needed(&self) -> u64 {
        match self.config.recovery_threshold {
            // A length always fits 64 bits.
            0 => self.recovery_keys.len() as u64,
            threshold => threshold,
        }
    }
}

impl SecretDefinition {
    /// True if a value of `other` is a value of this definition: type, size, validity and who shares or defines it are
    /// the same. `Cert`, `Private` and `Public` are not compared.
    ///
    /// The default validity is filled in before; MarbleRun v1.9.1 takes an absent `ValidFor` for another one than the
    /// 365 days that it stands for.
    pub fn has_definition_of(&self, other: &Self) -> bool {
        self.type_word == other.type_word
            && self.size == other.size
            && self.shared == other.shared
            && self.user_defined == other.user_defined
            && self.effective_valid_for() == other.effective_valid_for()
    }

    fn effective_valid_for(&self) -> u64 {
        let is_generated =
            self.secret_type().is_some_and(|secret_type| secret_type.is_certificate()) && !self.user_defined;
        let takes_default = is_generated && self.valid_for == 0 && !self.cert.has_end();
        if takes_default { DEFAULT_VALID_FOR_DAYS } else { self.valid_for }
    }
}

impl SecretCertificate {
    /// True if it says when a certificate that is made from it ends.
    pub(crate) fn has_end(&self) -> bool {
        match self {
            Self::Unset | Self::Unreadable => false,
            Self::Template(template) => !template.not_after.is_unset(),
            Self::Der(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use super::*;

    fn manifest(text: &str) -> Manifest {
        Manifest::decode(text.as_bytes()).unwrap()
    }

    #[track_caller]
    fn check_kind(text: &str, expected: UpdateKind) {
        assert_eq!(manifest(text).update_kind(), expected, "{text}");
    }

    #[test]
    fn only_packages_and_config_make_no_full_update() {
        for text in [
            "{}",
            r#"{"Config":{"UpdateThreshold":1}}"#,
            r#"{"Packages":{"p":{"SecurityVersion":1}}}"#,
            r#"{"Packages":{},"Marbles":{},"Users":null,"Secrets":{},"TLS":{},"Roles":{},"RecoveryKeys":{}}"#,
        ] {
            check_kind(text, UpdateKind::PackageOnly);
        }
        for text in [
            r#"{"Infrastructures":{"i":{}}}"#,
            r#"{"Marbles":{"m":{}}}"#,
            r#"{"Users":{"u":{}}}"#,
            r#"{"RecoveryKeys":{"k":""}}"#,
            r#"{"Roles":{"r":{}}}"#,
            r#"{"Secrets":{"s":{}}}"#,
            r#"{"TLS":{"t":{}}}"#,
        ] {
            check_kind(text, UpdateKind::Full);
        }
    }

    #[track_caller]
    fn check_packages(entry: &str, expected: Result<u64, &str>) {
        let running = |name: &str| match name {
            "five" => Some(Some(5)),
            "none" => Some(None),
            _ => None,
        };
        let result = manifest(&format!(r#"{{"Packages":{{{entry}}}}}"#)).check_package_update(running);
        match (result, expected) {
            (Ok(versions), Ok(version)) => assert_eq!(versions.values().copied().collect::<Vec<_>>(), [version]),
            (Err(error), Err(text)) => assert_eq!(error.to_string(), text),
            (result, _) => panic!("{entry}: {result:?}"),
        }
    }

    // rules: UPD-2
    #[test]
    fn a_package_update_raises_or_keeps_security_versions_and_nothing_else() {
        check_packages(r#""five":{"SecurityVersion":5}"#, Ok(5));
        check_packages(r#""five":{"SecurityVersion":6,"AcceptedTCBStatuses":["X"],"AcceptedAdvisories":["Y"]}"#, Ok(6));
        check_packages(r#""none":{"SecurityVersion":0}"#, Ok(0));
        check_packages("", Err("Packages: expected at least one package, got none"));
        check_packages(
            r#""five":{"SecurityVersion":4}"#,
            Err("Packages.five.SecurityVersion: expected at least 5, got 4"),
        );
        check_packages(
            r#""x":{"SecurityVersion":9}"#,
            Err("Packages.x: expected a package of the manifest that is set"),
        );
        for missing in ["", r#""SecurityVersion":null"#] {
            check_packages(
                &format!(r#""five":{{{missing}}}"#),
                Err("Packages.five.SecurityVersion: expected a number, got none"),
            );
        }
        for (member, value) in [("Debug", "true"), ("UniqueID", "\"aa\""), ("SignerID", "\"aa\""), ("ProductID", "0")] {
            check_packages(
                &format!(r#""five":{{"SecurityVersion":9,"{member}":{value}}}"#),
                Err(&format!("Packages.five.{member}: expected only a SecurityVersion, got also this")),
            );
        }
    }

    #[track_caller]
    fn check_recovery(one: &str, other: &str, expected: bool) {
        let (one, other) = (manifest(one), manifest(other));
        assert_eq!(one.has_recovery_of(&other), expected);
        assert_eq!(other.has_recovery_of(&one), expected);
    }

    // rules: UPD-13
    #[test]
    fn the_recovery_configuration_is_names_texts_and_how_many_are_needed() {
        let with = |keys: &str, threshold: u64| {
            format!(r#"{{"RecoveryKeys":{{{keys}}},"Config":{{"RecoveryThreshold":{threshold}}}}}"#)
        };
        let three = r#""a":"x","b":"y","c":"z""#;
        check_recovery(&with(three, 0), &with(three, 3), true);
        check_recovery(&with(three, 2), &with(three, 2), true);
        check_recovery(&with(three, 2), &with(three, 3), false);
        check_recovery(&with(three, 2), &with(three, 0), false);
        check_recovery(&with(three, 0), &with(r#""a":"x","b":"y""#, 0), false);
        check_recovery(&with(three, 0), &with(r#""a":"x","b":"y","d":"z""#, 0), false);
        check_recovery(&with(three, 0), &with(r#""a":"x","b":"y","c":"Z""#, 0), false);
        check_recovery("{}", "{}", true);
    }

    #[track_caller]
    fn check_definition(one: &str, other: &str, expected: bool) {
        let secret = |text: &str| manifest(&format!(r#"{{"Secrets":{{"s":{{{text}}}}}}}"#)).secrets["s"].clone();
        let (one, other) = (secret(one), secret(other));
        assert_eq!(one.has_definition_of(&other), expected);
        assert_eq!(other.has_definition_of(&one), expected);
    }

    // rules: UPD-9
    #[test]
    fn a_definition_is_type_size_validity_and_who_shares_and_defines_it() {
        let key = r#""Type":"symmetric-key","Size":128,"Shared":true"#;
        check_definition(key, key, true);
        check_definition(key, &format!(r#"{key},"Private":"AA==","Public":"AA==","Cert":{{}}"#), true);
        check_definition(key, &key.replace("128", "256"), false);
        check_definition(key, &key.replace("true", "false"), false);
        check_definition(key, &key.replace("symmetric-key", "plain"), false);
        check_definition(key, &format!(r#"{key},"UserDefined":true"#), false);
        check_definition(key, &format!(r#"{key},"ValidFor":365"#), false);
    }

    // rules: SAFE-7
    #[test]
    fn the_default_validity_of_generated_certificates_is_filled_in() {
        let cert = r#""Type":"cert-ed25519""#;
        check_definition(cert, &format!(r#"{cert},"ValidFor":365"#), true);
        check_definition(cert, &format!(r#"{cert},"ValidFor":364"#), false);
        check_definition(cert, &format!(r#"{cert},"Cert":{{"Subject":{{"CommonName":"x"}}}}"#), true);
        let end = format!(r#"{cert},"Cert":{{"NotAfter":"2090-01-01T00:00:00Z"}}"#);
        check_definition(&end, &end.replace("2090", "2091"), true);
        check_definition(&end, cert, false);
        let uploaded = format!(r#"{cert},"UserDefined":true"#);
        check_definition(&uploaded, &format!(r#"{uploaded},"ValidFor":365"#), false);
    }
}
