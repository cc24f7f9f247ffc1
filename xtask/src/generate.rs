//! Generated files that are committed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Crates that have generators: messages and `docs/openapi.json` in one, `docs/cli-reference.md` in the other.
const PACKAGES: [&str; 2] = ["marblerun-api", "marblerun-cli"];

/// Writes generated files anew, or with `check` only compares them with what is committed.
///
/// The generators are tests of their crates, so that this program does not have to link them.
///
/// # Errors
///
/// If a generator fails, or if `check` finds a difference.
pub fn run(check: bool) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for package in PACKAGES {
        let mut command = Command::new(&cargo);
        command.current_dir(workspace).args(["test", "--quiet", "-p", package, "--test", "it", "generated"]);
        if check {
            command.env_remove("MARBLERUN_REGENERATE");
        } else {
            command.env("MARBLERUN_REGENERATE", "1");
        }
        let status = command.status().context("cargo cannot be started")?;
        if !status.success() {
            bail!("generated files of {package} are out of date or cannot be generated");
        }
    }
    Ok(())
}
