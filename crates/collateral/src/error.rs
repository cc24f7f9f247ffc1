//! Why there is no collateral.

use std::io;
use std::path::{Path, PathBuf};

use marblerun_attestation::{CollateralError, ErrorClass, Fmspc, PlatformId, ValidityError};

/// Why a directory cannot be used as a bundle.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It cannot be read.
    #[error("collateral directory {} cannot be read: {reason}", directory.display())]
    Unreadable {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It is something else.
    #[error("expected a collateral directory, got another kind of file: {}", directory.display())]
    NotADirectory {
        /// The path.
        directory: PathBuf,
    },
}

impl BundleError {
    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some("give the directory that holds dcap/<tee>-<FMSPC>-<ca>.json")
    }
}

/// Why a look-up gave no collateral.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// There is no file for the platform.
    #[error("collateral unavailable for FMSPC {}: expected {}, got no such file", platform.fmspc, path.display())]
    Missing {
        /// The platform.
        platform: PlatformId,
        /// Where the file is expected.
        path: PathBuf,
    },
    /// Several files are for the same platform.
    #[error("expected one collateral file for {platform} in {}, got {files} that differ in case", directory.display())]
    Ambiguous {
        /// The platform.
        platform: PlatformId,
        /// Where they are.
        directory: PathBuf,
        /// How many there are.
        files: usize,
    },
    /// The directory is too full.
    #[error("expected at most {max} files in {}, got more", directory.display())]
    TooManyFiles {
        /// The directory.
        directory: PathBuf,
        /// The limit.
        max: usize,
    },
    /// A file or directory cannot be read.
    #[error("collateral {} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The path is not a file.
    #[error("expected a regular file as collateral, got another kind: {}", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is too large.
    #[error("expected at most {max} bytes of collateral, got more in {}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        max: usize,
    },
    /// The file's content is not acceptable.
    #[error("collateral {} is not acceptable", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CollateralError,
    },
    /// The file's content is outside its validity period.
    #[error("collateral {} is out of date", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// Which part, since when.
        source: ValidityError,
    },
    /// The file's content is for another platform than its name.
    #[error("expected collateral for FMSPC {expected}, got {got} in {}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// From the name.
        expected: Fmspc,
        /// From the content.
        got: Fmspc,
    },
}

impl LookupError {
    pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), reason: error.to_string() }
    }

    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Missing { .. }
            | Self::Ambiguous { .. }
            | Self::TooManyFiles { .. }
            | Self::Unreadable { .. }
            | Self::NotAFile { .. }
            | Self::TooLarge { .. } => ErrorClass::NoCollateral,
            Self::Invalid { source, .. } => source.class(),
            Self::Expired { source, .. } => source.class(),
            Self::Mismatch { .. } => ErrorClass::CollateralMismatch,
        }
    }

    /// The stable code of [`Self::class`].
    pub fn code(&self) -> &'static str {
        self.class().code()
    }

    /// True if good collateral may still appear at the same place, so that a caller answers `UNAVAILABLE`.
    ///
    /// False only where the collateral belongs to a root that is not trusted: waiting does not change that.
    pub fn is_unavailable(&self) -> bool {
        !matches!(self.class(), ErrorClass::UntrustedRoot | ErrorClass::SoftwareRoot | ErrorClass::HardwareRoot)
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } => {
                Some("fetch the collateral for this FMSPC and put it at that path; it is read without a restart")
            }
            Self::Ambiguous { .. } => Some("remove all but the newest file"),
            Self::TooManyFiles { .. } => Some("remove files that are not collateral"),
            Self::Unreadable { .. } | Self::NotAFile { .. } => Some("check the file's kind and permissions"),
            Self::TooLarge { .. } => Some("export the collateral again; real files have less than 30 KiB"),
            Self::Invalid { source, .. } => source.hint(),
            Self::Expired { source, .. } => source.hint(),
            Self::Mismatch { .. } => Some("export the collateral again under the name of its own platform"),
        }
    }
}
