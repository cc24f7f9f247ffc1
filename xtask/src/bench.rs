//! `cargo xtask bench`: figures of speed and size, each beside its limit and its floor. See `docs/performance.md`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::dist;
use crate::prerequisites::{self, CC};
use crate::process::{cargo, heading, say, step};

/// The premain as it is installed into images.
const PREMAIN: &str = "dist/premain-libos";

/// Builds what users run, then measures it. `arguments` name groups of figures; none means all.
///
/// # Errors
///
/// If a build fails or something cannot be measured. A figure that misses its target is no error.
pub fn run(workspace: &Path, arguments: &[&str]) -> Result<()> {
    prerequisites::require(&[CC])?;
    prerequisites::require_namespaces()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let release = target.join("release");
    // What the premain costs is counted for the program that is installed into images.
    if !workspace.join(PREMAIN).exists() {
        dist::run(workspace)?;
    }
    heading("Build (release profile; the first time takes some minutes)");
    let programs = ["marblerun-cli", "marblerun-coordinator", "marblerun-premain", "marblerun-simulator"];
    let mut build = cargo(workspace, &["build", "--release", "--locked", "--bins"]);
    for program in programs {
        build.args(["--package", program]);
    }
    step(&mut build)?;
    // By itself: built together with the programs it would give them the features of its libraries.
    step(&mut cargo(workspace, &["build", "--release", "--locked", "--package", "marblerun-bench"]))?;

    if is_older(&workspace.join(PREMAIN), &release.join("premain-libos")) {
        say("dist/premain-libos was built before the last change; `cargo xtask dist` renews it");
    }

    heading("Measure (about a minute; other work on this machine disturbs it)");
    let mut bench = std::process::Command::new(release.join("marblerun-bench"));
    step(bench.current_dir(workspace).arg(workspace).arg(&release).arg(target.join("bench.json")).args(arguments))
}

fn is_older(one: &Path, other: &Path) -> bool {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    changed(one) < changed(other)
}
