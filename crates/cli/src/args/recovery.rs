//! `marblerun recover` and `marblerun recover-with-signature …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::flags::{FormatFlag, OutputFlag, RequiredOutputFlag, TokenKey};
use crate::output::Format;

/// A recovery secret and the key of its party.
#[derive(Args, Debug)]
pub(crate) struct ShareArguments {
    /// Recovery secret: the raw bytes, decrypted or as they were given out; or the recovery data (JSON) that
    /// `manifest set` wrote.
    #[arg(value_name = "RECOVERY_KEY_FILE")]
    pub(crate) file: PathBuf,
    /// Name of the secret in the recovery data. Not needed where there is only one.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Private key of the recovery party (PEM, RSA).
    #[arg(short, long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) token: TokenKey,
}

/// `recover`.
#[derive(Args, Debug)]
pub(crate) struct RecoverArguments {
    #[command(flatten)]
    pub(crate) share: ShareArguments,
    /// Client API of the Coordinator.
    #[arg(value_name = "IP:PORT")]
    pub(crate) coordinator: String,
    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// `recover-with-signature`: a command, and the group of those that prepare it.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct SignedRecoveryArguments {
    /// Recovery secret, plain or encrypted to the Coordinator's recovery key.
    #[arg(value_name = "RECOVERY_KEY_FILE", required = true)]
    pub(crate) file: Option<PathBuf>,
    /// Client API of the Coordinator.
    #[arg(value_name = "IP:PORT", required = true)]
    pub(crate) coordinator: Option<String>,
    /// Signature over the plain secret.
    #[arg(short, long, value_name = "FILE", required = true)]
    pub(crate) signature: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatFlag,
    #[command(subcommand)]
    pub(crate) command: Option<SignedRecoveryCommand>,
}

/// The commands of `recover-with-signature`.
#[derive(Debug, Subcommand)]
pub(crate) enum SignedRecoveryCommand {
    /// Retrieve the key to which recovery secrets are encrypted for a Coordinator.
    #[command(
        after_help = "Example:\n  marblerun recover-with-signature public-key localhost:4433 -o coordinator-key.pem"
    )]
    PublicKey {
        /// Client API of the Coordinator.
        #[arg(value_name = "IP:PORT")]
        coordinator: String,
        #[command(flatten)]
        output: OutputFlag,
        /// New file for the Coordinator's evidence, which the offline commands compare with the remembered state.
        #[arg(long, value_name = "FILE")]
        evidence: Option<PathBuf>,
    },
    /// Encrypt a recovery secret to the key of a Coordinator, without network.
    #[command(
        after_help = "Example:\n  marblerun recover-with-signature encrypt-secret recovery.json --name ops --key ops.pem \
        --coordinator-pub-key coordinator-key.pem -o secret.enc"
    )]
    EncryptSecret {
        #[command(flatten)]
        share: ShareArguments,
        /// Key of the Coordinator, from `recover-with-signature public-key`.
        #[arg(long, value_name = "FILE")]
        coordinator_pub_key: PathBuf,
        #[command(flatten)]
        evidence: EvidenceArguments,
        #[command(flatten)]
        output: RequiredOutputFlag,
    },
    /// Sign a recovery secret, without network.
    #[command(
        after_help = "Example:\n  marblerun recover-with-signature sign-secret recovery.json --name ops --key ops.pem -o \
        secret.sig"
    )]
    SignSecret {
        #[command(flatten)]
        share: ShareArguments,
        #[command(flatten)]
        evidence: EvidenceArguments,
        #[command(flatten)]
        output: RequiredOutputFlag,
    },
}

/// Evidence that was taken elsewhere.
#[derive(Args, Debug)]
pub(crate) struct EvidenceArguments {
    /// Evidence from `recover-with-signature public-key --evidence`: verified and compared with the remembered state
    /// first.
    #[arg(long, value_name = "FILE")]
    pub(crate) evidence: Option<PathBuf>,
}

impl SignedRecoveryArguments {
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            None => self.format.format,
            Some(SignedRecoveryCommand::PublicKey { output, .. }) => output.format(),
            Some(
                SignedRecoveryCommand::EncryptSecret { output, .. } | SignedRecoveryCommand::SignSecret { output, .. },
            ) => output.format(),
        }
    }
}
