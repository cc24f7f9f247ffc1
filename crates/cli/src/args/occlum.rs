//! `marblerun occlum …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::flags::FormatFlag;
use crate::args::occlum_init::{InitArguments, PrepareArguments};
use crate::args::occlum_run::RunArguments;
use crate::output::Format;

/// `occlum`.
#[derive(Debug, Subcommand)]
pub(crate) enum OcclumCommand {
    /// Make an Occlum instance for a program, ready to be a Marble.
    ///
    /// The program with its interpreter and libraries, the premain as the only entry point, a manifest that fits, and sizes that
    /// are computed and explained.
    #[command(
        after_help = "A second run changes nothing. The manifest has 64 zeros for the measurement until it is known.\n\n\
        Example:\n  marblerun occlum init hello --program ./hello_world --coordinator-root root.pem -- Hello"
    )]
    Init(Box<InitArguments>),
    /// Make an existing Occlum instance a Marble with the smallest change.
    ///
    /// Shows the difference first. Order, unknown members and layout of Occlum.json stay; the program's files are not touched.
    #[command(
        after_help = "The first Occlum.json is kept as Occlum.json.before-marblerun. A second run changes nothing.\n\n\
        Example:\n  marblerun occlum prepare ./occlum_instance --marble web --coordinator-root root.pem --dry-run"
    )]
    Prepare(PrepareArguments),
    /// Judge an Occlum instance, and a manifest's entry for it, before anything runs.
    ///
    /// Every breach of a rule of Occlum, of the premain and of the Coordinator, each with what to do.
    #[command(after_help = "The rules stand in docs/occlum-check.md. Nothing is changed, built or run.\n\
        Exit codes: 0 no errors, 1 the check could not be made, 2 errors.\n\n\
        Example:\n  marblerun occlum check ./occlum_instance --manifest manifest.json --marble web")]
    Check(CheckArguments),
    /// Run an instance as a Marble in marble-sim, against a Coordinator, with the program's output and exit code.
    #[command(
        after_help = "A copy runs: it names the Coordinator as the only one, and its measurement is written into the \
        manifest that is set. What it writes inside is lost at its end; host mounts are the instance's own.\n\n\
        Exit codes: those of the program (& 0x7F; 128 + signal), 127 it could not be started, 200 nothing was started, 201 to \
        206 failures of marble-sim.\n\n\
        Example:\n  marblerun occlum run ./hello\n  marblerun occlum run ./hello --coordinator dev -- --verbose"
    )]
    Run(RunArguments),
}

/// Arguments of `occlum check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    /// Instance directory: Occlum.json and image/.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Manifest (JSON or YAML) with the entry that the instance is for.
    ///
    /// Default: manifest.json in the instance directory, if there is one.
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// Name of the entry under `Marbles`. Default: the only one, or the measured EDG_MARBLE_TYPE.
    #[arg(long, value_name = "NAME")]
    pub(crate) marble: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

impl OcclumCommand {
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Init(arguments) => arguments.format.format,
            Self::Prepare(arguments) => arguments.format.format,
            Self::Check(arguments) => arguments.format.format,
            Self::Run(_) => Format::Text,
        }
    }
}
