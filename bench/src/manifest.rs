//! Setting manifests with many secrets that the Coordinator makes itself.

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::deployment::Deployment;
use crate::figure::{Figure, Unit};
use crate::surroundings::Surroundings;

const SECRETS: usize = 1000;

/// Measures 1,000 keys, then 1,000 certificates.
///
/// # Errors
///
/// If the Coordinator does not work.
pub fn measure(surroundings: &Surroundings) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, secret) in [
        ("symmetric keys of 128 bits", json!({ "Type": "symmetric-key", "Size": 128, "Shared": true })),
        ("ECDSA P-256 certificates", json!({ "Type": "cert-ecdsa", "Size": 256, "Shared": true, "ValidFor": 30 })),
    ] {
        let deployment = Deployment::without_tee(surroundings, &format!("manifest-{}", figures.len()))?;
        let secrets: Map<String, Value> = (0..SECRETS).map(|index| (format!("s{index}"), secret.clone())).collect();
        let manifest = json!({
            "Packages": { "web": { "UniqueID": "42".repeat(32) } },
            "Marbles": { "web": { "Package": "web" } },
            "Secrets": secrets,
        });
        let before = deployment.coordinator().cpu()?;
        let taken = deployment.set_manifest(&manifest)?;
        let cpu = deployment.coordinator().cpu()?.saturating_sub(before);
        figures.push(Figure::new(
            format!("1,000 {name}: `marblerun manifest set`"),
            taken.as_secs_f64() * 1e3,
            Unit::Milliseconds,
        ));
        figures.push(Figure::new(
            format!("1,000 {name}: Coordinator CPU"),
            cpu.as_secs_f64() * 1e3,
            Unit::Milliseconds,
        ));
    }
    Ok(figures)
}
