//! `marble-sim collateral`: what the vendor of the simulated hardware publishes, as files and over HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use marblerun_software_tee::service::{CollateralService, Misbehaviour, Rule, ServiceOptions};
use marblerun_software_tee::{CollateralOptions, refuse_on_real_tee};
use rustls_pki_types::UnixTime;

use super::{CommandResult, PlatformArguments, RootArgument, because, open_platform, open_root, parse_fmspc, print};
use crate::outcome::Failure;
use crate::supervisor::say;

#[derive(Debug, Subcommand)]
pub(super) enum CollateralCommand {
    /// Writes a collateral bundle for quotes of the root
    ///
    /// Example: marble-sim collateral export ./collateral --root ./root
    Export {
        /// Directory to write into
        dir: PathBuf,
        #[command(flatten)]
        platform: PlatformArguments,
    },
    /// Serves collateral over HTTP on loopback, as Intel's PCS or a PCCS does, and misbehaves on request
    ///
    /// The first line on standard output is the URL that clients are configured with. Everything is issued at the time
    /// of the request. Runs until it is stopped.
    ///
    /// Example: marble-sim collateral serve --root ./root --misbehave tcb-info:http=503
    Serve(ServeArguments),
}

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    #[command(flatten)]
    root: RootArgument,
    /// FMSPC of a further platform that is served; may be repeated
    #[arg(long, value_name = "HEX", value_parser = parse_fmspc)]
    fmspc: Vec<[u8; 6]>,
    /// What is done wrong; may be repeated
    #[arg(long, value_name = "[SCOPE:]NAME[=VALUE]", value_parser = parse_rule, long_help = misbehave_help())]
    misbehave: Vec<Rule>,
    /// Serve although this machine has a real TEE, or although other machines can reach the address
    #[arg(long)]
    force: bool,
}

pub(super) fn run(command: CollateralCommand) -> CommandResult {
    match command {
        CollateralCommand::Export { dir, platform } => export(&dir, &platform),
        CollateralCommand::Serve(arguments) => serve(arguments),
    }
}

fn export(dir: &Path, platform: &PlatformArguments) -> CommandResult {
    let root = open_platform(platform)?;
    let options = CollateralOptions { fmspc: root.fmspc(), ..CollateralOptions::default() };
    let path = root.export_bundle(dir, UnixTime::now(), &options).map_err(because(Failure::DevelopmentRoot))?;
    print(&format!("{}\n", path.display()))
}

fn serve(arguments: ServeArguments) -> CommandResult {
    if !arguments.force {
        refuse_on_real_tee(Path::new("/")).map_err(because(Failure::Configuration))?;
    }
    let root = open_root(&arguments.root)?;
    let subject = root.subject().to_owned();
    let misbehaves = !arguments.misbehave.is_empty();
    let options = ServiceOptions {
        listen: arguments.listen,
        allow_remote: arguments.force,
        further_platforms: arguments.fmspc,
        rules: arguments.misbehave,
        ..ServiceOptions::default()
    };
    let service = CollateralService::start(root, options).map_err(because(Failure::Configuration))?;
    let shown = print(&format!("{}\n", service.url()))?;
    say(format_args!(
        "serving collateral of the development root {subject:?}, which protects nothing{}",
        if misbehaves { ", and misbehaving as asked for" } else { "" }
    ));
    service.wait();
    Ok(shown)
}

fn parse_rule(text: &str) -> Result<Rule, String> {
    text.parse::<Rule>().map_err(|error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}

fn misbehave_help() -> String {
    let names = Misbehaviour::NAMES.iter().map(|name| format!("\n  {name}")).collect::<String>();
    format!(
        "What is done wrong; may be repeated.\n\nSCOPE is tcb-info, qe-identity, root-crl or pck-crl, or an FMSPC, whose \
         TCB info is meant; without it all requests are. ITEM is one of the first four.\n{names}"
    )
}
