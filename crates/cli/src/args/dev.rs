//! `dev`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::args::{Credentials, FormatFlag};

/// Arguments of `dev`.
#[derive(Args, Debug)]
pub(crate) struct DevArguments {
    /// Manifest to set, and to read again whenever the file changes.
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,

    /// Where a changed manifest is no update that can be made, throw the state away and set it anew.
    #[arg(long, requires = "manifest")]
    pub(crate) reset: bool,

    /// Throw the kept state away first. The development root stays.
    #[arg(long)]
    pub(crate) fresh: bool,

    /// Where the client API listens; port 0 takes any that is free.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:4433")]
    pub(crate) client_addr: SocketAddr,

    /// Where the Marble API listens; port 0 takes any that is free.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:2001")]
    pub(crate) marble_addr: SocketAddr,

    /// Simulate although this machine has a real TEE.
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) credentials: Credentials,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}
