//! Activation through real sockets: what it costs the Coordinator, and how long the Marble waits.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use marblerun_api::rpc::ActivationReq;
use marblerun_marble::activation::activate;
use marblerun_marble::config::CoordinatorAddress;
use marblerun_marble::{Credentials, SystemPace, evidence};
use marblerun_software_tee::{DevelopmentRoot, EnclaveIdentity};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::deployment::Deployment;
use crate::figure::{Figure, Unit};
use crate::primitives::Activation;
use crate::process::Process;
use crate::surroundings::Surroundings;
use crate::timing::percentile;

const CPU_LIMIT: f64 = 1.5;
/// Of the rounds the median counts, so that a burst of other work does not.
const ROUNDS: usize = 5;
const ACTIVATIONS_PER_ROUND: usize = 400;
const WARM_UP: usize = 100;
/// Each has a key, certificate and quote of its own; they are used by turns.
const MARBLES: usize = 64;
/// A slow machine must not hold a round for long.
const TIME: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);

const IDENTITY: EnclaveIdentity =
    EnclaveIdentity { mr_enclave: [0x42; 32], mr_signer: [0x43; 32], isv_prod_id: 1, isv_svn: 1, debug: false };

/// Measures activations that need no budget, one at a time and eight at once, then counted ones.
///
/// # Errors
///
/// If an activation fails.
pub fn measure(surroundings: &Surroundings) -> Result<Vec<Figure>> {
    let primitives = Activation::measure()?;
    let (deployment, root) = Deployment::in_enclave(surroundings, "activation")?;
    deployment.set_manifest(&manifest())?;
    let marbles = (0..MARBLES).map(|index| Marble::new(&root, index)).collect::<Result<Vec<_>>>()?;
    let drive = |marble_type, concurrency, count| Load::drive(&deployment, &marbles, marble_type, concurrency, count);
    drive("web", 1, WARM_UP)?;

    let mut figures: Vec<Figure> = primitives
        .parts()
        .map(|(name, time)| Figure::new(format!("floor: {name}"), time, Unit::Milliseconds))
        .into_iter()
        .collect();
    for (marble_type, concurrency, name) in [
        ("web", 1, "one at a time"),
        ("web", 8, "8 at once"),
        ("counted", 1, "counted, one at a time"),
        ("counted", 8, "counted, 8 at once"),
    ] {
        let rounds = (0..ROUNDS).map(|_| drive(marble_type, concurrency, ACTIVATIONS_PER_ROUND));
        let rounds = rounds.collect::<Result<Vec<_>>>()?;
        let median = |value: fn(&Load) -> f64| percentile(&mut rounds.iter().map(value).collect::<Vec<_>>(), 50);
        let mut latencies: Vec<f64> = rounds.iter().flat_map(|round| &round.latencies).copied().collect();
        let named = |what: &str, value: f64| Figure::new(format!("{name}: {what}"), value, Unit::Milliseconds);
        let cpu = named("Coordinator CPU", median(|load| load.coordinator_cpu)).floor(primitives.sum());
        figures.push(if marble_type == "web" { cpu.limit(CPU_LIMIT) } else { cpu });
        figures.push(named("time to answer, median", percentile(&mut latencies, 50)));
        figures.push(named("time to answer, p99", percentile(&mut latencies, 99)));
        figures.push(named("Marble CPU, without key and quote", median(|load| load.marble_cpu)));
    }
    let resident = deployment.coordinator().status("VmRSS")? / 1e6;
    figures.push(Figure::new("Coordinator, resident memory afterwards", resident, Unit::Megabytes));
    Ok(figures)
}

/// What a small service gets: certificate and key by default, and a variable and a file from a secret.
fn manifest() -> Value {
    let parameters = json!({
        "Env": { "TOKEN": "{{ hex .Secrets.key }}" },
        "Files": { "/etc/web/cert.pem": "{{ pem .MarbleRun.MarbleCert.Cert }}" },
    });
    json!({
        "Packages": { "web": { "UniqueID": "42".repeat(32) } },
        "Marbles": {
            "web": { "Package": "web", "Parameters": parameters },
            "counted": { "Package": "web", "Parameters": parameters, "MaxActivations": 1_000_000 },
        },
        "Secrets": { "key": { "Type": "symmetric-key", "Size": 128 } },
    })
}

/// A Marble that is ready to call: keys and evidence are made beforehand.
struct Marble {
    credentials: Credentials,
    request: ActivationReq,
}

impl Marble {
    fn new(root: &DevelopmentRoot, index: usize) -> Result<Self> {
        let names = ["localhost".to_owned()];
        let credentials = Credentials::generate(&names, &[], UnixTime::now())?;
        let quote = root.quote(&IDENTITY, &evidence::report_data(credentials.certificate()))?;
        let request = ActivationReq {
            quote: marblerun_attestation::with_oe_header(&quote),
            csr: credentials.request(&names, &[])?,
            marble_type: String::new(),
            uuid: format!("{index:08x}-0000-4000-8000-000000000001"),
        };
        Ok(Self { credentials, request })
    }

    fn activate(&self, mesh: SocketAddr, marble_type: &str) -> Result<f64> {
        let address = CoordinatorAddress { host: mesh.ip().to_string(), port: mesh.port() };
        let request = ActivationReq { marble_type: marble_type.to_owned(), ..self.request.clone() };
        let start = Instant::now();
        activate(&address, &self.credentials, &request, TIMEOUT, &mut SystemPace::start(), &mut |_| ())?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }
}

/// What a number of activations took; milliseconds.
struct Load {
    latencies: Vec<f64>,
    coordinator_cpu: f64,
    marble_cpu: f64,
}

impl Load {
    fn drive(
        deployment: &Deployment,
        marbles: &[Marble],
        marble_type: &str,
        concurrency: usize,
        count: usize,
    ) -> Result<Self> {
        let (coordinator, own) = (deployment.coordinator(), Process::own());
        let before = (coordinator.cpu()?, own.cpu()?);
        let deadline = Instant::now() + TIME;
        let next = AtomicUsize::new(0);
        let caller = || -> Result<Vec<f64>> {
            let mut latencies = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count || Instant::now() >= deadline {
                    return Ok(latencies);
                }
                latencies.push(marbles[index % marbles.len()].activate(deployment.mesh(), marble_type)?);
            }
        };
        let results: Vec<Result<Vec<f64>>> = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..concurrency).map(|_| scope.spawn(caller)).collect();
            callers.into_iter().map(|caller| caller.join().expect("a caller does not panic")).collect()
        });
        let latencies: Vec<f64> = results.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        ensure!(!latencies.is_empty(), "no activation within {TIME:?}");
        let per_call = |before: Duration, after: Duration| {
            after.saturating_sub(before).as_secs_f64() * 1e3 / latencies.len() as f64
        };
        let coordinator_cpu = per_call(before.0, coordinator.cpu().context("the Coordinator ended")?);
        Ok(Self { coordinator_cpu, marble_cpu: per_call(before.1, own.cpu()?), latencies })
    }
}
