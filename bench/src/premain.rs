//! What the premain takes from the enclave before it becomes the application.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::deployment::Deployment;
use crate::figure::{Figure, Unit};
use crate::process::status_line;
use crate::surroundings::Surroundings;
use crate::timing::percentile;

const FILE_LIMIT: f64 = 5.0;
const RESIDENT_LIMIT: f64 = 10.0;
const ADDRESS_SPACE_LIMIT: f64 = 32.0;
const RUNS: usize = 20;

/// Measures the premain in a process that sees Occlum, by the shared object that the premain's tests use.
///
/// # Errors
///
/// If the premain does not work.
pub fn measure(surroundings: &Surroundings) -> Result<Vec<Figure>> {
    let directory = surroundings.directory("premain")?;
    let shim = directory.join("occlum.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&shim)
        .arg(surroundings.source("crates/premain/tests/it/occlum.c"))
        .arg("-ldl")
        .status()
        .context("cannot start cc")?;
    ensure!(built.success(), "cc failed: {built}");

    // Its quotes are not genuine, so the Coordinator must be one that does not look at them.
    let deployment = Deployment::without_tee(surroundings, "premain-coordinator")?;
    deployment.set_manifest(&json!({
        "Packages": { "web": { "UniqueID": "42".repeat(32) } },
        "Marbles": { "web": { "Package": "web", "Parameters": { "Argv": ["/bin/true"] } } },
    }))?;

    let program = surroundings.installed("premain-libos")?;
    let mut times = Vec::new();
    let mut highest = [0.0_f64; 3];
    for _ in 0..RUNS {
        let start = Instant::now();
        let output = Command::new(&program)
            .current_dir(&directory)
            .env_clear()
            .env("LD_PRELOAD", &shim)
            .env("OCCLUM_STATUS", directory.join("status"))
            .env("EDG_MARBLE_COORDINATOR_ADDR", deployment.mesh().to_string())
            .env("EDG_MARBLE_TYPE", "web")
            .output()
            .with_context(|| format!("cannot start {}", program.display()))?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        ensure!(output.status.success(), "the premain failed: {}", String::from_utf8_lossy(&output.stderr));
        let status = fs::read_to_string(directory.join("status")).context("no status at execve")?;
        for (highest, name) in highest.iter_mut().zip(["VmHWM", "VmPeak", "Threads"]) {
            *highest = highest.max(status_line(&status, name)?);
        }
    }
    let [resident, address_space, threads] = highest;
    Ok(vec![
        Figure::new("program, stripped", Surroundings::size(&program)? / 1e6, Unit::Megabytes).limit(FILE_LIMIT),
        Figure::new("highest resident memory (VmHWM)", resident / 1e6, Unit::Megabytes).limit(RESIDENT_LIMIT),
        Figure::new("highest address space (VmPeak)", address_space / 1e6, Unit::Megabytes).limit(ADDRESS_SPACE_LIMIT),
        Figure::new("threads", threads, Unit::Count).limit(1.0),
        Figure::new("start to end with /bin/true, median", percentile(&mut times, 50), Unit::Milliseconds),
    ])
}
