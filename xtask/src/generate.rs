//! Generated files that are committed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Writes the protobuf messages of `crates/api` and `docs/openapi.json` anew, or with `check` only compares them with what
/// is committed.
///
/// The generators are tests of that crate, so that this program does not have to link it.
///
/// # Errors
///
/// If the generator fails, or if `check` finds a difference.
pub fn run(check: bool) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace).args(["test", "--quiet", "-p", "marblerun-api", "--test", "it", "generated"]);
    if check {
        command.env_remove("MARBLERUN_REGENERATE");
    } else {
        command.env("MARBLERUN_REGENERATE", "1");
    }
    let status = command.status().context("cargo cannot be started")?;
    if !status.success() {
        bail!("generated files are out of date or cannot be generated");
    }
    Ok(())
}
