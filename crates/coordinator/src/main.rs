//! `marblerun-coordinator`: reads the environment, starts, serves. See `docs/coordinator.md`.

#![allow(clippy::print_stderr, reason = "the one place that tells why the process ends")]

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use marblerun_coordinator::config::Config;
use marblerun_coordinator::{log, start, tls};
use tracing::info;

/// More threads do not help: long work runs on the blocking pool.
const MAX_WORKER_THREADS: usize = 8;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let working_directory = std::env::current_dir().context("the working directory is not known")?;
    let config = Config::from_env(|name| std::env::var(name).ok(), working_directory)?;
    log::init(config.log);
    tls::install_provider();
    info!(version = env!("CARGO_PKG_VERSION"), "MarbleRun Coordinator");

    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKER_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        start::start(config).await?.serve().await;
        Ok(())
    })
}
