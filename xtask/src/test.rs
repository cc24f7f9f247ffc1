//! `cargo xtask test`: every test of the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::dist;
use crate::prerequisites::{self, CC, CURL, GO, OPENSSL, PYTHON, PYTHON_LIBRARY, REDIS, SETPRIV};
use crate::process::{cargo, heading, say, step};

/// Runs everything; the slow suites come last.
///
/// # Errors
///
/// The first suite that fails, or missing tools.
pub fn run(workspace: &Path) -> Result<()> {
    println!("This runs all tests: of each crate, of the documentation's examples, of the whole system through its");
    println!("sockets (conformance suite), and of the premain as it is built for real Occlum images.");
    prerequisites::require(&[CC, OPENSSL, PYTHON, GO, SETPRIV, CURL, PYTHON_LIBRARY, REDIS])?;
    prerequisites::require_namespaces()?;

    heading("Build the programs that the tests start");
    step(cargo(workspace, &["build", "--workspace", "--bins", "--locked"]).env("CARGO_TERM_PROGRESS_WHEN", "never"))?;

    heading("Tests of the crates, the system and the documentation");
    step(cargo(workspace, &["test", "--workspace", "--locked"]).env("CARGO_TERM_PROGRESS_WHEN", "never"))?;

    heading("Conformance suite against the Coordinator (sets up a Python environment the first time)");
    conformance(workspace, &[])?;

    heading("The premain for real Occlum images");
    dist::run(workspace)?;
    say("all suites passed");
    Ok(())
}

/// Runs the conformance suite with additional pytest arguments.
///
/// # Errors
///
/// If a test fails.
pub fn conformance(workspace: &Path, arguments: &[&str]) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    step(
        Command::new(workspace.join("tests/conformance/run"))
            .current_dir(workspace)
            .args(arguments)
            .env("COORDINATOR", target.join("debug/marblerun-coordinator")),
    )
}
