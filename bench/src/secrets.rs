//! What one upload costs, with few and with many secrets in the manifest.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::connection::{Connection, Credentials};
use crate::deployment::Deployment;
use crate::figure::{Figure, Unit};
use crate::surroundings::Surroundings;
use crate::timing::percentile;

const FEW: usize = 10;
const MANY: usize = 10_000;
const UPLOADS: usize = 300;
/// Uploads at first whose CPU is not counted.
const WARM_UP: usize = 20;
/// A slow disk must not hold the bench for long.
const TIME: Duration = Duration::from_secs(10);
/// Many may cost this much more than few.
const RATIO_LIMIT: f64 = 1.2;

/// Measures uploads one after the other: time to the answer, which is a flush, and the Coordinator's CPU.
///
/// # Errors
///
/// If the Coordinator does not work.
pub fn measure(surroundings: &Surroundings) -> Result<Vec<Figure>> {
    let (few, many) = (Uploads::drive(surroundings, FEW)?, Uploads::drive(surroundings, MANY)?);
    let milliseconds = |name: &str, value: f64| Figure::new(name, value, Unit::Milliseconds);
    Ok(vec![
        milliseconds("10 secrets: time to answer, median", few.latency),
        milliseconds("10 secrets: Coordinator CPU", few.cpu),
        milliseconds("10,000 secrets: time to answer, median", many.latency)
            .limit(few.latency * RATIO_LIMIT)
            .floor(few.latency),
        milliseconds("10,000 secrets: Coordinator CPU", many.cpu).limit(few.cpu * RATIO_LIMIT).floor(few.cpu),
    ])
}

/// Milliseconds of one upload.
struct Uploads {
    latency: f64,
    cpu: f64,
}

impl Uploads {
    fn drive(surroundings: &Surroundings, secrets: usize) -> Result<Self> {
        let deployment = Deployment::without_tee(surroundings, &format!("secrets-{secrets}"))?;
        let user = Credentials::generate()?;
        let definition = json!({ "Type": "symmetric-key", "Size": 128, "UserDefined": true });
        let name = |index: usize| format!("s{index}");
        let definitions: Map<String, Value> = (0..secrets).map(|index| (name(index), definition.clone())).collect();
        deployment.set_manifest(&json!({
            "Packages": { "web": { "UniqueID": "42".repeat(32) } },
            "Marbles": { "web": { "Package": "web", "Parameters": { "Env": { "TOKEN": "{{ hex .Secrets.s0 }}" } } } },
            "Secrets": definitions,
            "Users": { "ann": { "Certificate": user.pem(), "Roles": ["writer"] } },
            "Roles": { "writer": {
                "ResourceType": "Secrets",
                "ResourceNames": (0..secrets).map(name).collect::<Vec<_>>(),
                "Actions": ["WriteSecret"],
            } },
        }))?;
        let mut connection = Connection::open(deployment.client(), &user.client()?)?;
        let coordinator = deployment.coordinator();
        let mut latencies = Vec::new();
        let mut before = Duration::ZERO;
        let deadline = Instant::now() + TIME;
        while latencies.len() < UPLOADS && Instant::now() < deadline {
            if latencies.len() == WARM_UP {
                before = coordinator.cpu()?;
            }
            let body = json!({ "secrets": { name(latencies.len() % secrets): { "Key": "AAAAAAAAAAAAAAAAAAAAAA==" } } });
            let body = body.to_string();
            let head = "POST /api/v2/secrets HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
            let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            let start = Instant::now();
            connection.ask(request.as_bytes())?;
            latencies.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let cpu = coordinator.cpu()?.saturating_sub(before).as_secs_f64() * 1e3;
        #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
        let counted = latencies.len().saturating_sub(WARM_UP).max(1) as f64;
        Ok(Self { latency: percentile(&mut latencies, 50), cpu: cpu / counted })
    }
}
