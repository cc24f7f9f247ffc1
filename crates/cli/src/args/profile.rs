//! `marblerun profile …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::flags::FormatFlag;
use crate::output::Format;
use crate::profile::Name;

/// `profile`.
#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Remember how a deployment is reached and verified.
    #[command(
        after_help = "Kept are --era-config, --trust-software-root, --collateral, --cert and --key: the paths, not the \
        files. --insecure is never kept.\n\n\
        Example:\n  marblerun profile add prod coordinator.example:4433 --era-config era.json --cert ann.pem --key ann-key.pem"
    )]
    Add(AddArguments),
    /// Show all profiles.
    #[command(after_help = "Example:\n  marblerun profile list")]
    List {
        #[command(flatten)]
        format: FormatFlag,
    },
    /// Show a profile, with the root certificate and the newest state that were seen.
    #[command(after_help = "Example:\n  marblerun profile show prod")]
    Show {
        /// Name of the profile.
        name: Name,
        #[command(flatten)]
        format: FormatFlag,
    },
    /// Forget a profile, with the root certificate and the state that were seen.
    #[command(after_help = "Example:\n  marblerun profile remove prod")]
    Remove {
        /// Name of the profile.
        name: Name,
        #[command(flatten)]
        format: FormatFlag,
    },
    /// Use a profile wherever no address and no other profile is given.
    #[command(after_help = "Example:\n  marblerun profile use prod\n  marblerun profile use --none")]
    Use {
        /// Name of the profile.
        #[arg(required_unless_present = "none")]
        name: Option<Name>,
        /// Use none.
        #[arg(long, conflicts_with = "name")]
        none: bool,
        #[command(flatten)]
        format: FormatFlag,
    },
}

/// Arguments of `profile add`.
#[derive(Args, Debug)]
pub(crate) struct AddArguments {
    /// Name of the profile: letters, digits, '.', '_' and '-'.
    pub(crate) name: Name,
    /// Client API of the Coordinator.
    #[arg(value_name = "IP:PORT")]
    pub(crate) address: String,
    /// Certificate of the user in the manifest.
    #[arg(short, long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Private key of the certificate.
    #[arg(short, long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Replace a profile of this name; the root certificate and the state that were seen are kept.
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

impl ProfileCommand {
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Add(AddArguments { format, .. })
            | Self::List { format }
            | Self::Show { format, .. }
            | Self::Remove { format, .. }
            | Self::Use { format, .. } => format.format,
        }
    }
}
