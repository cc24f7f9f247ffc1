//! `marblerun manifest …`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::args::flags::{Credentials, FormatFlag, OutputFlag, WarningsFlag};
use crate::args::plan::PlanArguments;
use crate::output::Format;

/// `manifest`.
#[derive(Debug, Subcommand)]
pub(crate) enum ManifestCommand {
    /// Retrieve the manifest.
    #[command(
        after_help = "Example:\n  marblerun manifest get localhost:4433 --output manifest.json --era-config era.json"
    )]
    Get {
        /// Client API of the Coordinator.
        #[arg(value_name = "IP:PORT")]
        coordinator: String,
        #[command(flatten)]
        output: OutputFlag,
        /// Put the manifest's signature (SHA-256) beside it.
        #[arg(short, long)]
        signature: bool,
        /// Show the manifest with the security versions that package updates raised since it was set.
        ///
        /// It is written anew for people to read; its hash is not the manifest's signature.
        #[arg(short = 'u', long)]
        display_update: bool,
        /// Write the verified certificates to the certificate cache.
        #[arg(long)]
        keep_cert: bool,
    },
    /// Set the manifest of a deployment that has none.
    #[command(after_help = "The manifest is checked first, as by `manifest check`.\n\n\
        Example:\n  marblerun manifest set manifest.json localhost:4433 --era-config era.json --recoverydata recovery.json")]
    Set {
        /// Manifest, JSON or YAML.
        manifest: PathBuf,
        /// Client API of the Coordinator.
        #[arg(value_name = "IP:PORT")]
        coordinator: String,
        /// File for the recovery data. Default: stdout.
        #[arg(short, long, value_name = "FILE")]
        recoverydata: Option<PathBuf>,
        #[command(flatten)]
        warnings: WarningsFlag,
        #[command(flatten)]
        format: FormatFlag,
    },
    /// Print the signature of a manifest: SHA-256 of the bytes that are uploaded.
    #[command(after_help = "Example:\n  marblerun manifest signature manifest.json")]
    Signature {
        /// Manifest, JSON or YAML.
        manifest: PathBuf,
        #[command(flatten)]
        format: FormatFlag,
    },
    /// Verify that a Coordinator has exactly this manifest.
    #[command(after_help = "Example:\n  marblerun manifest verify manifest.json localhost:4433 --era-config era.json")]
    Verify {
        /// Manifest (JSON or YAML), or its signature as 64 hexadecimal digits.
        #[arg(value_name = "MANIFEST|SIGNATURE")]
        manifest: PathBuf,
        /// Client API of the Coordinator.
        #[arg(value_name = "IP:PORT")]
        coordinator: String,
        #[command(flatten)]
        format: FormatFlag,
    },
    /// Show the update log: what changed the deployment, when, and by whom.
    #[command(
        after_help = "The root certificate comes from the certificate cache; without one, or with --era-config, from \
        the quote.\n\nExample:\n  marblerun manifest log localhost:4433"
    )]
    Log {
        /// Client API of the Coordinator.
        #[arg(value_name = "IP:PORT")]
        coordinator: String,
        #[command(flatten)]
        output: OutputFlag,
    },
    /// Update the manifest, alone or with the agreement of other users.
    #[command(subcommand, arg_required_else_help = true)]
    Update(UpdateCommand),
    /// Show what an update would change, without making it.
    ///
    /// Who gains or loses which secret, what is made anew, what breaks, and who has to agree.
    #[command(after_help = "The Coordinator's manifest and update log are read; nothing is changed.\n\
        Exit codes: 0 nothing breaks, 1 the plan could not be made, 2 the update would be refused, 3 something breaks.\n\n\
        Example:\n  marblerun manifest plan update.json localhost:4433 --era-config era.json\n  \
        marblerun manifest plan update.json --running manifest.json --updates update.log")]
    Plan(PlanArguments),
    /// Check a manifest without a Coordinator.
    #[command(after_help = "Secrets are generated and templates tried out as a Coordinator does.\n\
        Warnings are for what a Coordinator accepts but is probably a mistake.\n\
        Exit codes: 0 nothing found, 1 the check could not be made, 2 errors or warnings.\n\n\
        Example:\n  marblerun manifest check manifest.yaml")]
    Check {
        /// Manifest, JSON or YAML.
        manifest: PathBuf,
        #[command(flatten)]
        warnings: WarningsFlag,
        #[command(flatten)]
        format: FormatFlag,
    },
}

impl ManifestCommand {
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Get { output, .. } | Self::Log { output, .. } => output.format(),
            Self::Set { format, .. }
            | Self::Signature { format, .. }
            | Self::Verify { format, .. }
            | Self::Check { format, .. } => format.format,
            Self::Plan(arguments) => arguments.format.format,
            Self::Update(command) => command.format(),
        }
    }
}

/// `manifest update`.
#[derive(Debug, Subcommand)]
pub(crate) enum UpdateCommand {
    /// Update the manifest: at once, or once enough users have agreed.
    #[command(
        after_help = "A file that names only packages with new SecurityVersions raises those; a whole manifest replaces \
        the one that is set.\n\n\
        Example:\n  marblerun manifest update apply update.json localhost:4433 --cert ann.pem --key ann-key.pem"
    )]
    Apply(ChangeArguments),
    /// Agree to the pending update, which must be exactly this manifest.
    #[command(
        after_help = "Example:\n  marblerun manifest update acknowledge manifest.json localhost:4433 --cert ben.pem \
        --key ben-key.pem"
    )]
    Acknowledge(ChangeArguments),
    /// Drop the pending update.
    #[command(
        after_help = "Example:\n  marblerun manifest update cancel localhost:4433 --cert ann.pem --key ann-key.pem"
    )]
    Cancel {
        /// Client API of the Coordinator.
        #[arg(value_name = "IP:PORT")]
        coordinator: String,
        #[command(flatten)]
        credentials: Credentials,
        #[command(flatten)]
        format: FormatFlag,
    },
    /// Show the pending update.
    #[command(after_help = "Example:\n  marblerun manifest update get localhost:4433 --missing")]
    Get {
        /// Client API of the Coordinator.
        #[arg(value_name = "IP:PORT")]
        coordinator: String,
        #[command(flatten)]
        output: OutputFlag,
        /// Show who may still agree, instead of the manifest.
        #[arg(long)]
        missing: bool,
    },
}

/// Arguments of `manifest update apply` and `acknowledge`.
#[derive(clap::Args, Debug)]
pub(crate) struct ChangeArguments {
    /// Manifest, JSON or YAML.
    pub(crate) manifest: PathBuf,
    /// Client API of the Coordinator.
    #[arg(value_name = "IP:PORT")]
    pub(crate) coordinator: String,
    /// File for the recovery data, if the update changes the recovery keys. Default: stdout.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) recoverydata: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) credentials: Credentials,
    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

impl UpdateCommand {
    fn format(&self) -> Format {
        match self {
            Self::Apply(arguments) | Self::Acknowledge(arguments) => arguments.format.format,
            Self::Cancel { format, .. } => format.format,
            Self::Get { output, .. } => output.format(),
        }
    }
}
