//! `marblerun-coordinator`: reads the environment, starts, serves. See `docs/coordinator.md`.

#![allow(clippy::print_stderr, reason = "the one place that tells why the process ends")]

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use marblerun_coordinator::config::Config;
use marblerun_coordinator::listener::Limits;
use marblerun_coordinator::{log, start, tls};
use tracing::{info, warn};

/// More threads do not help: long work runs on the blocking pool.
const MAX_WORKER_THREADS: usize = 8;

/// Threads for work that does not yield; more work waits. With the others they fit into the 64 threads of the Occlum
/// instance: there a thread beyond the limit cannot be made at all.
const MAX_BLOCKING_THREADS: usize = 32;

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
    raise_open_files();

    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKER_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        start::start(config).await?.serve().await;
        Ok(())
    })
}

/// Each connection is an open file; many systems start programs with room for 1024 and allow more on request.
fn raise_open_files() {
    // Both listeners, and what the Coordinator itself has open.
    let wanted = 2 * Limits::default().max_connections + 128;
    match marblerun_linux::limits::raise_open_files() {
        Ok(allowed) if allowed < wanted as u64 => {
            warn!(allowed, wanted, "fewer open files are allowed than the limits of connections need");
        }
        Ok(_) => {}
        // Not every TEE has this call. Connections beyond the limit wait to be accepted.
        Err(error) => warn!(error = &error as &dyn std::error::Error, "the number of open files cannot be raised"),
    }
}
