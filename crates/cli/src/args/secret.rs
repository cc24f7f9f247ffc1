//! `marblerun secret …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::flags::{Credentials, FormatFlag, OutputFlag};
use crate::output::Format;

/// `secret`, whose flags may stand before or behind the command.
#[derive(Args, Debug)]
pub(crate) struct SecretArguments {
    #[command(flatten)]
    pub(crate) credentials: Credentials,
    #[command(subcommand)]
    pub(crate) command: SecretCommand,
}

/// The commands of `secret`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Upload values of user-defined secrets.
    #[command(
        after_help = "The file is a JSON object: {\"name\": {\"Key\": base64}} for symmetric keys and plain secrets, \
        {\"name\": {\"Cert\": base64 of DER, \"Private\": base64 of PKCS#8 DER}} for certificates.\n\n\
        Example:\n  marblerun secret set secrets.json localhost:4433 --cert ann.pem --key ann-key.pem"
    )]
    Set {
        /// Secrets (JSON), or a PEM file with --from-pem.
        #[arg(value_name = "SECRET_FILE")]
        file: PathBuf,
        /// Client API of the Coordinator.
        #[arg(value_name = "IP:PORT")]
        coordinator: String,
        /// Name of a certificate secret: it becomes the first certificate of the PEM file, with the first private key.
        #[arg(long, value_name = "NAME")]
        from_pem: Option<String>,
        #[command(flatten)]
        format: FormatFlag,
    },
    /// Read values of secrets.
    #[command(
        after_help = "Example:\n  marblerun secret get api-token localhost:4433 --cert ann.pem --key ann-key.pem"
    )]
    Get {
        /// Names of secrets, then the client API of the Coordinator.
        // Flags may stand between them, and each run of words counts alone.
        #[arg(value_name = "NAME... IP:PORT", required = true, num_args = 1..)]
        words: Vec<String>,
        #[command(flatten)]
        output: OutputFlag,
    },
}

impl SecretArguments {
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            SecretCommand::Set { format, .. } => format.format,
            SecretCommand::Get { output, .. } => output.format(),
        }
    }
}
