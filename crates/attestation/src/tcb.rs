//! TEEs and the vendor's verdict on a platform's patch level.

use std::fmt;

use serde::Deserialize;

/// The kind of trusted execution environment that made evidence.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tee {
    /// Intel SGX.
    Sgx,
}

impl Tee {
    /// The lower-case name, as in the file names of a collateral bundle.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgx => "sgx",
        }
    }
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The vendor's verdict on a platform's patch level (Intel PCS API v4, `tcbStatus`).
///
/// Deserialising refuses every other word: an unknown verdict must not pass as a known one.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum TcbStatus {
    /// Everything is patched.
    UpToDate,
    /// Patched, but the workload must contain software mitigations.
    SWHardeningNeeded,
    /// Patched, but the platform's configuration needs a change.
    ConfigurationNeeded,
    /// Both of the above.
    ConfigurationAndSWHardeningNeeded,
    /// Patches are missing.
    OutOfDate,
    /// Patches are missing and the configuration needs a change.
    OutOfDateConfigurationNeeded,
    /// The platform's keys must not be trusted any more.
    Revoked,
}

impl TcbStatus {
    /// Every status, for tables and help texts.
    pub const ALL: [Self; 7] = [
        Self::UpToDate,
        Self::SWHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSWHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
        Self::Revoked,
    ];

    /// The vendor's spelling, which is also the spelling in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SWHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSWHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::Revoked => "Revoked",
        }
    }

    /// The status of a platform whose quoting enclave has status `component` (Intel QVL, `convergeTcbStatuses`).
    pub(crate) fn converge(self, component: Self) -> Self {
        match (component, self) {
            (Self::Revoked, _) => Self::Revoked,
            (Self::OutOfDate, Self::UpToDate | Self::SWHardeningNeeded) => Self::OutOfDate,
            (Self::OutOfDate, Self::ConfigurationNeeded | Self::ConfigurationAndSWHardeningNeeded) => {
                Self::OutOfDateConfigurationNeeded
            }
            _ => self,
        }
    }

    /// True for the statuses that a QE identity may give (Intel QVL); the hardening statuses speak of platforms.
    pub(crate) fn is_for_quoting_enclaves(self) -> bool {
        !matches!(self, Self::SWHardeningNeeded | Self::ConfigurationAndSWHardeningNeeded)
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::TcbStatus::*;

    #[test]
    fn only_an_outdated_or_revoked_quoting_enclave_changes_the_status_of_the_platform() {
        for (platform, component, expected) in [
            (UpToDate, UpToDate, UpToDate),
            (UpToDate, OutOfDate, OutOfDate),
            (SWHardeningNeeded, OutOfDate, OutOfDate),
            (ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded),
            (ConfigurationAndSWHardeningNeeded, OutOfDate, OutOfDateConfigurationNeeded),
            (OutOfDate, OutOfDate, OutOfDate),
            (OutOfDateConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded),
            (ConfigurationNeeded, Revoked, Revoked),
            (Revoked, OutOfDate, Revoked),
            (UpToDate, ConfigurationNeeded, UpToDate),
            (UpToDate, OutOfDateConfigurationNeeded, UpToDate),
        ] {
            assert_eq!(platform.converge(component), expected, "{platform} with {component}");
        }
    }

    #[test]
    fn the_spelling_is_the_one_that_is_read() {
        for status in super::TcbStatus::ALL {
            let text = format!("\"{status}\"");
            assert_eq!(serde_json::from_str::<super::TcbStatus>(&text).unwrap(), status);
        }
        assert!(serde_json::from_str::<super::TcbStatus>("\"uptodate\"").is_err());
    }
}
