//! `package-info`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::args::FormatFlag;

/// Arguments of `package-info`.
#[derive(Args, Debug)]
pub(crate) struct PackageInfoArguments {
    /// Signed enclave, EGo bundle or `occlum package` archive (file); Occlum instance, or directory with one .sig file.
    ///
    /// An instance that was not built is measured by marble-sim, for the simulator.
    pub(crate) path: PathBuf,

    /// Print the package alone, as JSON.
    #[arg(long, conflicts_with = "into")]
    pub(crate) package_only: bool,

    /// Write the package into this manifest (JSON), in place: everything else in the file stays as it is.
    #[arg(long, value_name = "FILE", requires = "package")]
    pub(crate) into: Option<PathBuf>,

    /// Name of the package that --into writes; it is added where there is none.
    #[arg(long, value_name = "NAME", requires = "into")]
    pub(crate) package: Option<String>,

    /// How the package names the enclave [default: unique-id; with --into, as the package does already]
    #[arg(long, value_name = "HOW")]
    pub(crate) by: Option<By>,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// The properties by which a package names an enclave. They exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// This enclave and no other one.
    UniqueId,
    /// All enclaves of this signer and product, from this security version on.
    Signer,
}

impl By {
    /// The members of a package.
    pub(crate) fn members(self) -> &'static [&'static str] {
        match self {
            Self::UniqueId => &["UniqueID"],
            Self::Signer => &["SignerID", "ProductID", "SecurityVersion"],
        }
    }
}
