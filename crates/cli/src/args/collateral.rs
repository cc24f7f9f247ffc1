//! Flags of `collateral`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use marblerun_attestation::{Fmspc, PckCa};
use marblerun_collateral::BaseUrl;

use crate::args::flags::{FormatFlag, file_of};
use crate::output::Format;

/// `collateral`.
#[derive(Debug, Subcommand)]
pub(crate) enum CollateralCommand {
    /// Fetch collateral of platforms from a service (PCS or PCCS) into a bundle.
    #[command(
        arg_required_else_help = true,
        after_help = "Which platforms: those of quotes, of a Coordinator, or by FMSPC. A Coordinator is only asked for its \
        quote, whose platform is looked up; nothing else of it is believed.\n\n\
        Everything is verified under Intel's root, or under those of --trust-software-root, before it is written to \
        DIR/dcap. Give DIR to --collateral, or to a Coordinator as EDG_COORDINATOR_COLLATERAL_DIR.\n\n\
        Example:\n  marblerun collateral fetch --quote quote.bin \
        --url https://api.trustedservices.intel.com/sgx/certification/v4/ -o bundle\n  \
        marblerun collateral fetch --fmspc 00906ED50000 --ca processor --qcnl /etc/sgx_default_qcnl.conf -o bundle"
    )]
    Fetch(FetchArguments),
    /// Show what bundles hold, until when it is valid, and whether it verifies.
    #[command(
        arg_required_else_help = true,
        after_help = "Exit codes: 0 everything verifies; 1 a file cannot be read; 2 something does not verify.\n\n\
        Example:\n  marblerun collateral show bundle"
    )]
    Show {
        /// Bundle directories, caches of a Coordinator, or files.
        #[arg(required = true, value_name = "DIR|FILE")]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        format: FormatFlag,
    },
    /// Collect what was fetched already, to carry it into a network without a service.
    #[command(
        arg_required_else_help = true,
        after_help = "From the cache of a Coordinator, from a bundle, from the file that Intel's PCS client tool writes \
        (platform_collaterals.json, API version 4), or from a Coordinator, which sends the collateral of its own platform \
        with its quote. Only what verifies now is taken; the rest is warned of. Where several files are for \
        one platform, the one that is valid longest is taken.\n\n\
        The result is a bundle directory, or a tar archive that becomes one with `tar -xf`.\n\n\
        Example:\n  marblerun collateral export /var/lib/marblerun/collateral-cache -o bundle.tar\n  \
        marblerun collateral export coordinator.example:4433 -o bundle"
    )]
    Export(ExportArguments),
}

/// Arguments of `collateral fetch`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("service").required(true))]
#[command(group = ArgGroup::new("platforms").required(true).multiple(true))]
pub(crate) struct FetchArguments {
    /// Client API of a Coordinator whose platform is meant.
    // Not named `coordinator`: a profile must not fill it in.
    #[arg(value_name = "IP:PORT", group = "platforms")]
    pub(crate) of: Option<String>,
    /// Quote of a platform, as --save-sgx-quote writes it; may be repeated.
    #[arg(long, value_name = "FILE", group = "platforms")]
    pub(crate) quote: Vec<PathBuf>,
    /// FMSPC of platforms, 12 hexadecimal digits; may be repeated.
    #[arg(long, value_name = "HEX", group = "platforms", value_parser = parse_fmspc)]
    pub(crate) fmspc: Vec<Fmspc>,
    /// Which authority certified the platforms of --fmspc. Default: both are fetched.
    #[arg(long, value_enum, value_name = "CA", requires = "fmspc")]
    pub(crate) ca: Option<CaArgument>,
    /// The service, with the whole path: https://HOST:PORT/sgx/certification/v4/.
    #[arg(long, value_name = "URL", group = "service", value_parser = parse_url)]
    pub(crate) url: Option<BaseUrl>,
    /// Intel's configuration file, whose collateral_service or else pccs_url is the service.
    #[arg(long, value_name = "FILE", group = "service")]
    pub(crate) qcnl: Option<PathBuf>,
    /// Bundle directory to write into, or `json` for the collateral on stdout and no file.
    #[arg(short, long, value_name = "DIR|json", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    output: String,
}

/// Arguments of `collateral export`.
#[derive(Args, Debug)]
pub(crate) struct ExportArguments {
    /// Bundle directory or file, cache of a Coordinator, file of Intel's tool, or client API of a Coordinator.
    #[arg(value_name = "DIR|FILE|IP:PORT")]
    pub(crate) source: String,
    /// Bundle directory or new .tar file to write, or `json` for the collateral on stdout and no file.
    #[arg(short, long, value_name = "DIR|FILE.tar|json", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    output: String,
}

/// A PCK authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CaArgument {
    /// Of single-package platforms.
    Processor,
    /// Of multi-package platforms.
    Platform,
}

impl From<CaArgument> for PckCa {
    fn from(ca: CaArgument) -> Self {
        match ca {
            CaArgument::Processor => Self::Processor,
            CaArgument::Platform => Self::Platform,
        }
    }
}

impl FetchArguments {
    /// The directory; `None` with machine-readable output.
    pub(crate) fn directory(&self) -> Option<&Path> {
        target_of(&self.output)
    }
}

impl ExportArguments {
    /// The directory or archive; `None` with machine-readable output.
    pub(crate) fn target(&self) -> Option<&Path> {
        target_of(&self.output)
    }
}

impl CollateralCommand {
    pub(crate) fn format(&self) -> Format {
        let target = match self {
            Self::Fetch(arguments) => arguments.directory(),
            Self::Export(arguments) => arguments.target(),
            Self::Show { format, .. } => return format.format,
        };
        if target.is_some() { Format::Text } else { Format::Json }
    }
}

fn target_of(output: &str) -> Option<&Path> {
    file_of(Some(output))
}

fn parse_fmspc(text: &str) -> Result<Fmspc, String> {
    Fmspc::from_hex(text).ok_or_else(|| "expected 12 hexadecimal digits".to_owned())
}

fn parse_url(text: &str) -> Result<BaseUrl, String> {
    BaseUrl::parse(text).map_err(|error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}
