//! What an idle Coordinator costs.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::deployment::Deployment;
use crate::figure::{Figure, Unit};
use crate::surroundings::Surroundings;

const RESIDENT_LIMIT: f64 = 32.0;
/// Setting a manifest must be over, and what it freed returned.
const SETTLE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(5);

/// Measures memory, threads and idle time in an enclave, after a manifest was set.
///
/// # Errors
///
/// If the Coordinator does not work.
pub fn measure(surroundings: &Surroundings) -> Result<Vec<Figure>> {
    let (deployment, _root) = Deployment::in_enclave(surroundings, "idle")?;
    let manifest = json!({
        "Packages": { "web": { "UniqueID": "42".repeat(32) } },
        "Marbles": { "web": { "Package": "web" } },
        "Secrets": { "key": { "Type": "symmetric-key", "Size": 128, "Shared": true } },
    });
    deployment.set_manifest(&manifest)?;
    std::thread::sleep(SETTLE);
    let coordinator = deployment.coordinator();
    let before = coordinator.cpu()?;
    std::thread::sleep(IDLE);
    let idle = coordinator.cpu()?.saturating_sub(before).as_secs_f64();
    let size = |name: &str| coordinator.status(name).map(|bytes| bytes / 1e6);
    Ok(vec![
        Figure::new("resident memory (VmRSS)", size("VmRSS")?, Unit::Megabytes).limit(RESIDENT_LIMIT),
        Figure::new("highest resident memory since the start (VmHWM)", size("VmHWM")?, Unit::Megabytes),
        Figure::new("of it not backed by a file (RssAnon)", size("RssAnon")?, Unit::Megabytes),
        Figure::new("threads", coordinator.status("Threads")?, Unit::Count),
        Figure::new("CPU in 5 seconds", idle * 1e3, Unit::Milliseconds),
        Figure::new(
            "program as installed",
            Surroundings::size(&surroundings.installed("marblerun-coordinator")?)? / 1e6,
            Unit::Megabytes,
        ),
    ])
}
