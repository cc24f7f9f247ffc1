//! `occlum run`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::args::Credentials;

/// Arguments of `occlum run`.
#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    /// Instance directory: Occlum.json and image/. It is not changed; a copy of it runs.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// Manifest with the entry that the instance is for (JSON). Default: manifest.json in the instance directory.
    ///
    /// What is set has the measurement of the copy in it; the file stays as it is.
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,

    /// Name of the entry under `Marbles`. Default: the measured EDG_MARBLE_TYPE, or the only one.
    #[arg(long, value_name = "NAME")]
    pub(crate) marble: Option<String>,

    /// Client API of a Coordinator, or `dev` for the one of `marblerun dev`. Default: one that ends with the run.
    #[arg(long = "coordinator", value_name = "dev|IP:PORT")]
    pub(crate) given: Option<String>,

    /// Marble API of the Coordinator. Default: port 2001 of --coordinator's host.
    #[arg(long, value_name = "IP:PORT", requires = "given")]
    pub(crate) marble_addr: Option<SocketAddr>,

    /// Development root that signs the instance's quotes. Default: the one of `marblerun dev`.
    #[arg(long, value_name = "DIR", requires = "given")]
    pub(crate) root: Option<PathBuf>,

    /// Allow what real Occlum refuses: system calls, static programs, long environments.
    #[arg(long)]
    pub(crate) lenient: bool,

    /// Simulate although this machine has a real TEE.
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) credentials: Credentials,

    /// Arguments behind those of the program that is started, which is the instance's entry point.
    #[arg(last = true, value_name = "ARGUMENT")]
    pub(crate) arguments: Vec<String>,
}
