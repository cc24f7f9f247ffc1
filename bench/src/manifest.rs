//! Setting manifests with many secrets that the Coordinator makes itself.

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::deployment::Deployment;
use crate::figure::{Figure, Unit};
use crate::surroundings::Surroundings;

/// From the start of the command line to its end.
const KEYS_LIMIT: f64 = 1000.0;

/// Measures 10,000 keys, then 1,000 certificates.
///
/// # Errors
///
/// If the Coordinator does not work.
pub fn measure(surroundings: &Surroundings) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let key = json!({ "Type": "symmetric-key", "Size": 128, "Shared": true });
    let certificate = json!({ "Type": "cert-ecdsa", "Size": 256, "Shared": true, "ValidFor": 30 });
    for (count, name, secret, limit) in [
        (10_000, "10,000 symmetric keys of 128 bits", key, Some(KEYS_LIMIT)),
        (1000, "1,000 ECDSA P-256 certificates", certificate, None),
    ] {
        let deployment = Deployment::without_tee(surroundings, &format!("manifest-{}", figures.len()))?;
        let secrets: Map<String, Value> = (0..count).map(|index| (format!("s{index}"), secret.clone())).collect();
        let manifest = json!({
            "Packages": { "web": { "UniqueID": "42".repeat(32) } },
            "Marbles": { "web": { "Package": "web" } },
            "Secrets": secrets,
        });
        let before = deployment.coordinator().cpu()?;
        let taken = deployment.set_manifest(&manifest)?.as_secs_f64() * 1e3;
        let cpu = deployment.coordinator().cpu()?.saturating_sub(before).as_secs_f64() * 1e3;
        let whole = Figure::new(format!("{name}: `marblerun manifest set`"), taken, Unit::Milliseconds);
        figures.push(limit.map_or_else(|| whole.clone(), |limit| whole.clone().limit(limit)));
        figures.push(Figure::new(format!("{name}: Coordinator CPU"), cpu, Unit::Milliseconds));
    }
    Ok(figures)
}
