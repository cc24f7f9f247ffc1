//! What was built, tried as on a real machine: the report of `docs/on-sgx.md` with the simulator in the place of Occlum.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process::{capture, cargo, say, step, succeed};

/// Deploys the Coordinator's instance and a Marble from `dist` in the simulator.
pub(super) fn run(workspace: &Path, dist: &Path) -> Result<()> {
    step(
        cargo(workspace, &["build", "--quiet", "--locked", "--package", "marblerun-cli"])
            .args(["--package", "marblerun-simulator"])
            .env("CARGO_TERM_PROGRESS_WHEN", "never"),
    )?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let programs = target.join("debug");
    let work = std::env::temp_dir().join(format!("marblerun-dist-{}", std::process::id()));
    let done = report(workspace, dist, &programs, &work);
    // What remains is in the temporary directory and holds nothing of value.
    let _ = fs::remove_dir_all(&work);
    done
}

fn report(workspace: &Path, dist: &Path, programs: &Path, work: &Path) -> Result<()> {
    let root = work.join("root");
    fs::create_dir_all(work.join("home")).with_context(|| format!("cannot create {}", work.display()))?;
    succeed(Command::new(programs.join("marble-sim")).args(["root", "create"]).arg(&root))?;
    let mut path = vec![programs.to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let occlum = workspace.join("tests/on-sgx/occlum-simulated");
    let (client, mesh) = free_ports()?;
    let output = capture(
        Command::new(workspace.join("tests/on-sgx/report.sh"))
            .arg(work.join("report"))
            .env("HOME", work.join("home"))
            .env("PATH", std::env::join_paths(path)?)
            .env("OCCLUM", &occlum)
            .env("COPY_BOM", format!("{} copy_bom", occlum.display()))
            .env("MARBLERUN_DIST", dist)
            .env("MARBLE_SIM_ROOT", &root)
            .env("EDG_COORDINATOR_CLIENT_ADDR", format!(":{client}"))
            .env("EDG_COORDINATOR_MESH_ADDR", format!(":{mesh}")),
    )?;
    let text = String::from_utf8_lossy(&output.stdout);
    let log = || fs::read_to_string(work.join("report/report.log")).unwrap_or_default();
    ensure!(output.status.success(), "the report is not as it must be:\n{text}\nits log:\n{}", log());
    say(text.lines().last().context("the report is empty")?);
    Ok(())
}

/// Two ports that nobody listens on: both are bound at the same time, so that they differ, and then released.
fn free_ports() -> Result<(u16, u16)> {
    let (client, mesh) = (TcpListener::bind("0.0.0.0:0")?, TcpListener::bind("0.0.0.0:0")?);
    Ok((client.local_addr()?.port(), mesh.local_addr()?.port()))
}
