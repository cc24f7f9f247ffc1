//! `marblerun manifest plan`.

use std::path::PathBuf;

use clap::Args;

use crate::args::flags::FormatFlag;

/// Arguments of `manifest plan`.
#[derive(Args, Debug)]
pub(crate) struct PlanArguments {
    /// The update, JSON or YAML: a whole manifest, or packages with their new SecurityVersion.
    pub(crate) manifest: PathBuf,
    /// Client API of the Coordinator whose manifest would be updated.
    #[arg(value_name = "IP:PORT", required_unless_present = "running")]
    pub(crate) coordinator: Option<String>,
    /// The running manifest in a file, instead of asking a Coordinator.
    #[arg(long, value_name = "FILE", conflicts_with = "coordinator")]
    pub(crate) running: Option<PathBuf>,
    /// Update log of the running manifest, as `manifest log --output FILE` writes it.
    #[arg(long, value_name = "FILE", requires = "running")]
    pub(crate) updates: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatFlag,
}
