//! Commands and flags. Names and defaults of MarbleRun v1.9.1 are kept.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::output::Format;

/// The word after `--output` that asks for machine-readable output.
const JSON_WORD: &str = "json";

/// Control a confidential deployment.
#[derive(Debug, Parser)]
#[command(name = "marblerun", disable_version_flag = true, arg_required_else_help = true, max_term_width = 120)]
#[command(after_help = "Exit codes: 0 done; 1 failed, with the reason on stderr; 2 `manifest check` found something.")]
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
    /// Show the version of this program.
    #[command(after_help = "Example:\n  marblerun version")]
    Version {
        #[command(flatten)]
        format: FormatFlag,
    },
}

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
        /// File for the exact bytes of the manifest, or `json` for machine-readable output. Default: stdout.
        #[arg(short, long, value_name = "FILE|json")]
        output: Option<PathBuf>,
        /// Put the manifest's signature (SHA-256) beside it.
        #[arg(short, long)]
        signature: bool,
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
    /// File for the certificate, or `json` for machine-readable output on stdout and no file.
    ///
    /// Default: marblerunRootCA.crt, marblerunIntermediateCA.crt or marblerunChainCA.crt.
    #[arg(short, long, value_name = "FILE|json")]
    pub(crate) output: Option<PathBuf>,
}

/// `--output` of commands that write no file.
#[derive(Args, Debug)]
pub(crate) struct FormatFlag {
    /// Form of the output.
    #[arg(long = "output", value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// `--allow-warnings`.
#[derive(Args, Debug)]
pub(crate) struct WarningsFlag {
    /// Accept what is only probably a mistake.
    #[arg(long)]
    pub(crate) allow_warnings: bool,
}

impl Arguments {
    /// The form of the output that the command asks for.
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            Command::Status { format, .. }
            | Command::Version { format }
            | Command::Manifest(
                ManifestCommand::Set { format, .. }
                | ManifestCommand::Signature { format, .. }
                | ManifestCommand::Verify { format, .. }
                | ManifestCommand::Check { format, .. },
            ) => format.format,
            Command::Manifest(ManifestCommand::Get { output, .. })
            | Command::Certificate(
                CertificateCommand::Root(CertificateArguments { output, .. })
                | CertificateCommand::Intermediate(CertificateArguments { output, .. })
                | CertificateCommand::Chain(CertificateArguments { output, .. }),
            ) => match output {
                Some(word) if word.as_os_str() == JSON_WORD => Format::Json,
                _ => Format::Text,
            },
        }
    }
}

/// The message of a usage error, and what clap says behind it.
pub(crate) fn split_usage_error(text: &str) -> (String, String) {
    let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
    let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let rest = rest.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
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
