//! Commands and flags. Names and defaults of MarbleRun v1.9.1 are kept.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(crate) use flags::{Credentials, FormatFlag, OutputFlag};
pub(crate) use manifest::{ManifestCommand, UpdateCommand};
pub(crate) use recovery::{RecoverArguments, SignedRecoveryArguments};
pub(crate) use secret::SecretArguments;

use crate::args::collateral::CollateralCommand;
use crate::args::dev::DevArguments;
use crate::args::occlum::OcclumCommand;
use crate::args::package_info::PackageInfoArguments;
use crate::args::profile::ProfileCommand;
use crate::output::Format;

pub(crate) mod collateral;
pub(crate) mod dev;
pub(crate) mod flags;
pub(crate) mod manifest;
pub(crate) mod occlum;
pub(crate) mod occlum_init;
pub(crate) mod occlum_run;
pub(crate) mod package_info;
pub(crate) mod plan;
pub(crate) mod profile;
pub(crate) mod recovery;
pub(crate) mod secret;

/// Control a confidential deployment.
#[derive(Debug, Parser)]
#[command(name = "marblerun", version, arg_required_else_help = true, max_term_width = 120)]
#[command(
    after_help = "Exit codes: 0 done; 1 failed, with the reason on stderr; 2 `manifest check` or `occlum check` found something, \
    `manifest plan` an update that would be refused, `collateral show` what does not verify; 3 `manifest plan` found something that breaks."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command accepts, also where they have no effect.
#[derive(Args, Debug)]
#[command(next_help_heading = "Trust in the Coordinator")]
pub(crate) struct Global {
    /// Certificate cache: where the Coordinator's certificates are kept after they were verified.
    ///
    /// Default: marblerun/coordinator-cert.pem in the user's configuration directory.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) coordinator_cert: Option<PathBuf>,

    /// Expected measurements of the Coordinator (JSON).
    ///
    /// Default: era-config.json or coordinator-era.json in the current directory.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) era_config: Option<PathBuf>,

    /// Do not verify the Coordinator's quote. Only for simulation: anybody may answer.
    #[arg(short, long, global = true)]
    pub(crate) insecure: bool,

    /// TCB statuses of the Coordinator's platform that are accepted.
    #[arg(
        long,
        global = true,
        value_name = "STATUS",
        value_delimiter = ',',
        default_value = "UpToDate,SWHardeningNeeded"
    )]
    pub(crate) accepted_tcb_statuses: Vec<String>,

    /// Advisories of the Coordinator's platform that are accepted. Default: all.
    #[arg(long, global = true, value_name = "ID", value_delimiter = ',')]
    pub(crate) accepted_advisories: Vec<String>,

    /// Nonce that the Coordinator's quote has to cover. Default: a random one where the Coordinator can.
    #[arg(long, global = true, value_name = "TEXT")]
    pub(crate) nonce: Option<String>,

    /// Write the Coordinator's quote to this file, as it came.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) save_sgx_quote: Option<PathBuf>,

    /// Root certificate of a software TEE (PEM or DER) to trust instead of hardware; may be repeated.
    ///
    /// Then quotes of real hardware are refused.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) trust_software_root: Vec<PathBuf>,

    /// Directory with collateral: dcap/TEE-FMSPC-CA.json for each platform.
    ///
    /// Without it, or where it has none that is current, the collateral that the Coordinator sends is used. Both are
    /// verified.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) collateral: Option<PathBuf>,

    /// Seconds that a call to the Coordinator may take.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,

    /// Profile whose values stand for flags that are left out, and for IP:PORT.
    ///
    /// Default: the one of `profile use`, where no IP:PORT is given.
    #[arg(long, global = true, value_name = "NAME", env = "MARBLERUN_PROFILE")]
    pub(crate) profile: Option<String>,

    /// Go on although the Coordinator's state is older than the remembered one, under another manifest, or that of another
    /// deployment.
    #[arg(long, global = true)]
    pub(crate) accept_other_state: bool,

    /// Print results and warnings only, no lines of progress.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Kubernetes namespace of the deployment; without effect on commands that do not touch the cluster.
    #[arg(short, long, global = true, value_name = "NAME", default_value = "marblerun")]
    pub(crate) namespace: String,
}

impl Global {
    /// The time limit of a call.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Manage the manifest of a deployment.
    #[command(subcommand, arg_required_else_help = true)]
    Manifest(ManifestCommand),
    /// Retrieve certificates of the Coordinator.
    #[command(subcommand, arg_required_else_help = true)]
    Certificate(CertificateCommand),
    /// Upload and read secrets as a user of the manifest.
    #[command(arg_required_else_help = true)]
    Secret(SecretArguments),
    /// Show what the Coordinator is ready for.
    #[command(after_help = "Codes: 1 recovery mode, 2 ready to accept a manifest, 3 ready to accept Marbles.\n\n\
        The root certificate comes from the certificate cache; without one, or with --era-config, from the quote.\n\n\
        Example:\n  marblerun status localhost:4433")]
    Status {
        /// Client API of the Coordinator.
        #[arg(value_name = "IP:PORT")]
        coordinator: String,
        #[command(flatten)]
        format: FormatFlag,
    },
    /// Give a Coordinator a recovery secret, so that it can open its state.
    #[command(
        after_help = "What the Coordinator is about to recover is shown and compared with what was remembered, before it \
        gets the secret.\n\n\
        Example:\n  marblerun recover recovery.json localhost:4433 --name ops --key ops-private.pem --era-config era.json"
    )]
    Recover(RecoverArguments),
    /// Give a Coordinator a recovery secret that was encrypted and signed elsewhere.
    #[command(arg_required_else_help = true)]
    #[command(after_help = "The private key of the recovery party need never be on the machine that talks to the \
        Coordinator.\n\n\
        Example:\n  marblerun recover-with-signature secret.enc localhost:4433 --signature secret.sig --era-config era.json")]
    RecoverWithSignature(SignedRecoveryArguments),
    /// Show the properties of an enclave that its package in a manifest names.
    #[command(
        after_help = "Reads the signature structure of signed Occlum instances and their packages, Gramine, EGo, Open Enclave \
        and Intel SGX SDK enclaves. An instance that was not built is measured for the simulator.\n\n\
        Example:\n  marblerun package-info ./occlum_instance\n  \
        marblerun package-info ./occlum_instance --into manifest.json --package web"
    )]
    PackageInfo(PackageInfoArguments),
    /// Fetch, show and carry the vendor's data with which quotes are verified.
    #[command(subcommand, arg_required_else_help = true)]
    Collateral(CollateralCommand),
    /// Run a Coordinator for development on this machine, until Ctrl-C.
    #[command(
        after_help = "The Coordinator runs in marble-sim, under a development root that is kept with its state in \
        marblerun/dev in the user's data directory. It is no protection. Profile dev says how it is verified.\n\n\
        Example:\n  marblerun dev --manifest manifest.json"
    )]
    Dev(DevArguments),
    /// Make, judge and run instances of Occlum.
    #[command(subcommand, arg_required_else_help = true)]
    Occlum(OcclumCommand),
    /// Remember how deployments are reached and verified.
    #[command(subcommand, arg_required_else_help = true)]
    Profile(ProfileCommand),
    /// Print a script with which a shell completes commands and flags.
    #[command(arg_required_else_help = true)]
    #[command(after_help = "Example:\n  marblerun completion bash > /etc/bash_completion.d/marblerun")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
        /// Leave out what commands and flags are for.
        #[arg(long)]
        no_descriptions: bool,
    },
    /// Print the reference of all commands.
    #[command(hide = true)]
    Documentation {
        /// Write man pages into this directory instead.
        #[arg(long, value_name = "DIR")]
        man: Option<PathBuf>,
    },
    /// Commands for Kubernetes clusters are not part of this version.
    #[command(hide = true, aliases = ["uninstall", "precheck", "check"])]
    Install {
        /// Whatever they take.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
        words: Vec<String>,
    },
    /// Show the version of this program.
    #[command(after_help = "Example:\n  marblerun version")]
    Version {
        #[command(flatten)]
        format: FormatFlag,
    },
}

/// `certificate`.
#[derive(Debug, Subcommand)]
pub(crate) enum CertificateCommand {
    /// Write the Coordinator's root certificate.
    #[command(after_help = "Example:\n  marblerun certificate root localhost:4433 --era-config era.json")]
    Root(CertificateArguments),
    /// Write the Coordinator's intermediate certificate.
    #[command(after_help = "Example:\n  marblerun certificate intermediate localhost:4433 --era-config era.json")]
    Intermediate(CertificateArguments),
    /// Write intermediate and root certificate.
    #[command(after_help = "Example:\n  marblerun certificate chain localhost:4433 --era-config era.json -o chain.pem")]
    Chain(CertificateArguments),
}

/// Arguments of the certificate commands.
#[derive(Args, Debug)]
pub(crate) struct CertificateArguments {
    /// Client API of the Coordinator.
    #[arg(value_name = "IP:PORT")]
    pub(crate) coordinator: String,
    /// Default file: marblerunRootCA.crt, marblerunIntermediateCA.crt or marblerunChainCA.crt.
    #[command(flatten)]
    pub(crate) output: OutputFlag,
}

impl CertificateCommand {
    /// Which certificates, and where they come from and go to.
    pub(crate) fn arguments(&self) -> &CertificateArguments {
        match self {
            Self::Root(arguments) | Self::Intermediate(arguments) | Self::Chain(arguments) => arguments,
        }
    }
}

impl Arguments {
    /// The form of the output that the command asks for.
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            Command::Manifest(command) => command.format(),
            Command::Certificate(command) => command.arguments().output.format(),
            Command::Secret(arguments) => arguments.format(),
            Command::Recover(arguments) => arguments.format.format,
            Command::RecoverWithSignature(arguments) => arguments.format(),
            Command::Occlum(command) => command.format(),
            Command::Profile(command) => command.format(),
            Command::Collateral(command) => command.format(),
            Command::Install { .. } | Command::Completion { .. } | Command::Documentation { .. } => Format::Text,
            Command::PackageInfo(arguments) => arguments.format.format,
            Command::Dev(arguments) => arguments.format.format,
            Command::Status { format, .. } | Command::Version { format } => format.format,
        }
    }
}

/// The message of a usage error, and what clap says behind it.
pub(crate) fn split_usage_error(text: &str) -> (String, String) {
    let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
    let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let rest = rest.lines().map(str::trim).filter(|line| !line.is_empty());
    let rest = rest.map(|line| line.strip_prefix("tip: ").unwrap_or(line)).collect::<Vec<_>>().join("; ");
    (message, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command) {
            if command.has_subcommands() {
                command.get_subcommands().for_each(check);
                return;
            }
            if command.is_hide_set() {
                return;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example:\n  marblerun "), "{} has no example", command.get_name());
        }
        check(&<Arguments as clap::CommandFactory>::command());
    }

    // rules: CLI-1
    #[test]
    fn list_flags_replace_the_default_and_append() {
        let parse = |flags: &[&str]| {
            let words = [&["marblerun", "status", "h:1"], flags].concat();
            Arguments::try_parse_from(words).unwrap().global.accepted_tcb_statuses
        };
        assert_eq!(parse(&[]), ["UpToDate", "SWHardeningNeeded"]);
        assert_eq!(parse(&["--accepted-tcb-statuses", "A,B", "--accepted-tcb-statuses", "C"]), ["A", "B", "C"]);
    }
}
