//! From configuration to a running Coordinator. Whatever fails here ends the process with a reason.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use marblerun_collateral::{ClientOptions, Qcnl, ServerCertificate, SupplyOptions};
use marblerun_coordinator_core::generate::MAX_SECRETS_BYTES;
use marblerun_coordinator_core::ledger::Ledger;
use marblerun_coordinator_core::record::{Genesis, Record};
use marblerun_linux::regular_file::read_bounded;
use marblerun_pki::AltNames;
use marblerun_sealing::SealMode;
use marblerun_storage::{Existing, NewDeployment, OpenReport, Opened, Recovery, open_directory};
use marblerun_tee::{TRUST_PATH, Tee};
use tracing::{error, info, warn};

use crate::audit::{Audit, Peer};
use crate::client_api::{self, ClientApi, QuoteSigner};
use crate::clock::now;
use crate::config::{Config, QCNL};
use crate::listener::{Limits, Listener, Protocols};
use crate::manifest_setter::ManifestSetter;
use crate::marble_api::{self, Activator};
use crate::metrics::{Metrics, MetricsListener, count_requests};
use crate::own_collateral;
use crate::quoter::Quoter;
use crate::recovery::{Collection, Recoverer};
use crate::report;
use crate::seal_keys::TeeSealKeys;
use crate::tls::Listeners;
use crate::trust::Trust;
use crate::view::SharedView;
use crate::writer::{self, Backing};

/// How long one service may take; two of them fit into the time that an activation waits.
const COLLATERAL_TIMEOUT: Duration = Duration::from_secs(7);

/// A Coordinator with bound listeners.
pub struct Coordinator {
    client: Listener,
    mesh: Listener,
    metrics: Option<MetricsListener>,
}

/// Opens the state, proves that the TEE works, sets the start-up manifest, and binds both listeners.
///
/// # Errors
///
/// Whatever prevents operation, with a hint where there is one.
pub async fn start(config: Config) -> Result<Coordinator> {
    start_with_limits(config, Limits::default()).await
}

/// [`start`] with other limits of both listeners than the usual ones.
///
/// # Errors
///
/// As [`start`].
pub async fn start_with_limits(config: Config, limits: Limits) -> Result<Coordinator> {
    let tee = marblerun_tee::detect(config.simulation.as_deref()).map_err(|error| hinted(&error, error.hint()))?;
    let policy = tee.trust_policy(Path::new(TRUST_PATH))?;
    let trust = Trust::with_sources(&policy.class, collateral_sources(&config, policy.max_collateral_age)?)?;
    announce(&trust);
    let audit = Audit::start(config.audit.clone()).context("cannot start the thread of the audit stream")?;
    audit.changed(
        Peer::Coordinator,
        "started",
        &[("version", env!("CARGO_PKG_VERSION")), ("trustClass", trust.class())],
    );

    let (tee, trust) = (Arc::new(tee), Arc::new(trust));
    let (ledger, backing) = open_state(&config, &tee, &trust)?;
    let view = SharedView::new(writer::view(&ledger, &backing));
    let collection = Collection::of(&backing);
    let listeners = Listeners::new()?;
    listeners.show(&ledger.snapshot().identity)?;
    let writer = writer::start(ledger, backing, view.clone(), listeners.clone());
    let writer = writer.context("cannot start the writer's thread")?;
    let quoter = Quoter::new(tee, Arc::clone(&trust), view.clone()).map_err(|error| hinted(&error, error.hint()))?;
    let quoter = Arc::new(quoter);
    own_collateral::start(Arc::clone(&trust), view.clone(), Arc::clone(&quoter));
    let setter = ManifestSetter::new(view.clone(), writer.clone(), Arc::clone(&quoter));
    if let Some(path) = &config.startup_manifest {
        set_startup_manifest(path, &setter, &view, &audit).await?;
    }
    let recoverer = Recoverer::new(view.clone(), writer.clone(), Arc::clone(&quoter), collection);

    let trust_class = trust.class();
    let body_timeout = limits.body_timeout;
    let metrics = config.metrics_addr.is_some().then(|| Arc::new(Metrics::of(audit.clone(), trust.supply().cloned())));
    let mut client = client_api::router(ClientApi {
        view: view.clone(),
        quoter,
        signer: QuoteSigner::new(Arc::clone(&trust)),
        setter,
        recoverer,
        writer: writer.clone(),
        audit: audit.clone(),
        trust_class,
        body_timeout,
    });
    if let Some(metrics) = &metrics {
        let counting = axum::middleware::from_fn_with_state(Arc::clone(metrics), count_requests);
        client = client.layer(counting);
    }
    let client = Listener::bind(config.client_addr, listeners.client, Protocols::Http, limits, client)
        .await
        .map_err(|error| cannot_listen("EDG_COORDINATOR_CLIENT_ADDR", config.client_addr, &error))?
        .audited(audit.clone(), Peer::Client);

    let (metrics_view, metrics_writer) = (view.clone(), writer.clone());
    let mesh = marble_api::router(Arc::new(Activator::new(trust, view, writer, metrics.clone(), audit.clone())));
    let mesh = Listener::bind(config.mesh_addr, listeners.mesh, Protocols::Http2Only, limits, mesh)
        .await
        .map_err(|error| cannot_listen("EDG_COORDINATOR_MESH_ADDR", config.mesh_addr, &error))?
        .audited(audit, Peer::Mesh);
    let metrics = match config.metrics_addr.zip(metrics) {
        None => None,
        Some((address, metrics)) => {
            let listener = MetricsListener::bind(address, limits, metrics, metrics_view, metrics_writer)
                .await
                .map_err(|error| cannot_listen("EDG_COORDINATOR_PROMETHEUS_ADDR", address, &error))?;
            info!(metrics = %listener.local_addr()?, "listening for scrapes, without TLS");
            Some(listener)
        }
    };
    info!(client = %client.local_addr()?, mesh = %mesh.local_addr()?, "listening");
    Ok(Coordinator { client, mesh, metrics })
}

/// A record holds a manifest and what was made from it; it must never be one that cannot be sealed.
const _: () = assert!(
    marblerun_manifest::MAX_MANIFEST_BYTES + MAX_SECRETS_BYTES + 64 * 1024 <= marblerun_sealing::MAX_PAYLOAD_BYTES
);

impl Coordinator {
    /// Where the client API listens.
    ///
    /// # Errors
    ///
    /// The socket's error.
    pub fn client_addr(&self) -> std::io::Result<SocketAddr> {
        self.client.local_addr()
    }

    /// Where the Marble API listens.
    ///
    /// # Errors
    ///
    /// The socket's error.
    pub fn mesh_addr(&self) -> std::io::Result<SocketAddr> {
        self.mesh.local_addr()
    }

    /// Where metrics, events, and probes are served, if at all.
    ///
    /// # Errors
    ///
    /// The socket's error.
    pub fn metrics_addr(&self) -> std::io::Result<Option<SocketAddr>> {
        self.metrics.as_ref().map(MetricsListener::local_addr).transpose()
    }

    /// Serves all listeners until the process is killed: there is no other way to end.
    pub async fn serve(self) {
        let metrics = async {
            if let Some(metrics) = self.metrics {
                metrics.serve().await;
            }
        };
        tokio::join!(self.client.serve(), self.mesh.serve(), metrics);
    }
}

fn announce(trust: &Trust) {
    match trust.class() {
        "hardware" => info!(trust.class = "hardware", "evidence must verify under the vendors' roots"),
        "software" => {
            let roots: Vec<String> = trust.software_root_hashes().iter().map(hex::encode).collect();
            warn!(
                trust.class = "software",
                roots = roots.join(","),
                "evidence is that of a software TEE: nothing is protected from the host"
            );
        }
        class => warn!(trust.class = class, "no TEE and no evidence: nothing is protected and any Marble is accepted"),
    }
}

/// Where the environment says that collateral comes from. The host chooses it: that can deny or delay, no more.
fn collateral_sources(config: &Config, max_age: Duration) -> Result<SupplyOptions> {
    let mut services: Vec<_> = config.pccs_urls.iter().cloned().map(ClientOptions::new).collect();
    if let Some(path) = &config.qcnl {
        let qcnl = Qcnl::read(path).map_err(|error| hinted(&error, error.hint())).context(QCNL)?;
        services.push(qcnl.client_options());
    }
    for service in &mut services {
        service.timeout = COLLATERAL_TIMEOUT;
        if service.base_url.is_https() && service.server_certificate == ServerCertificate::Any {
            warn!(service = %service.base_url, "any TLS certificate of the collateral service is accepted, as its file says");
        }
    }
    let names: Vec<String> = services.iter().map(|service| service.base_url.to_string()).collect();
    info!(
        bundle = shown(config.collateral_dir.as_deref()),
        cache = shown(config.collateral_cache.as_deref()),
        services = names.join(","),
        "sources of collateral"
    );
    if !max_age.is_zero() {
        warn!(
            max_age_days = max_age.as_secs() / (24 * 60 * 60),
            "the image allows collateral whose next update was due before: platforms may be worse than they seem"
        );
    }
    Ok(SupplyOptions {
        bundle: config.collateral_dir.clone(),
        cache: config.collateral_cache.clone(),
        services,
        dangerous_max_age: max_age,
    })
}

fn shown(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

fn open_state(config: &Config, tee: &Arc<Tee>, trust: &Trust) -> Result<(Ledger, Backing)> {
    let keys = Arc::new(TeeSealKeys(Arc::clone(tee)));
    let names = AltNames::from_list(&config.dns_names);
    match open_directory(&config.seal_dir, keys, trust.context()) {
        Ok(Opened::New(new)) => first_start(new, &names),
        Ok(Opened::Existing(existing)) => restart(existing),
        Ok(Opened::Recovery(recovery)) => recover(recovery, &names),
        Err(error) => Err(hinted(&error, error.hint())),
    }
}

fn first_start(new: NewDeployment, names: &AltNames) -> Result<(Ledger, Backing)> {
    let genesis = Genesis::create(names, now())?;
    let ledger = Ledger::new(&genesis)?;
    let record = Record::Genesis(genesis).encode();
    let log = new.create(SealMode::default(), &[record.expose()]).map_err(|error| hinted(&error, error.hint()))?;
    info!(deployment = %log.deployment_id(), "new deployment: waiting for a manifest");
    Ok((ledger, Backing::Log(log)))
}

fn restart(existing: Existing) -> Result<(Ledger, Backing)> {
    let Existing { records, log, report } = existing;
    report_repairs(&report);
    let count = records.len();
    let records = records.iter().map(|record| Record::decode(record.expose()));
    let records = records.collect::<Result<Vec<_>, _>>().context("sealed state cannot be read by this version")?;
    let ledger = Ledger::replay(records).context("sealed state cannot be read by this version")?;
    info!(deployment = %log.deployment_id(), records = count, head = log.head().sequence, "sealed state opened");
    Ok((ledger, Backing::Log(log)))
}

fn recover(recovery: Recovery, names: &AltNames) -> Result<(Ledger, Backing)> {
    let fault = recovery.fault();
    error!(
        fault = report::with_hint(fault, fault.hint()),
        "sealed state cannot be opened: recovery mode with a temporary identity"
    );
    let genesis = Genesis::create(names, now())?;
    let ledger = Ledger::new(&genesis)?;
    Ok((ledger, Backing::Recovery(Box::new(recovery), genesis)))
}

pub(crate) fn report_repairs(report: &OpenReport) {
    if report.unconfirmed > 0 {
        info!(records = report.unconfirmed, "records behind the head were kept: written, but not acknowledged");
    }
    if let Some(tail) = &report.torn_tail {
        warn!(?tail, "an incomplete write at the end of the log was cut off");
    }
    if report.damaged_head {
        warn!("one of the two copies of the head was damaged and is written anew");
    }
    if report.rewrapped {
        warn!("an interrupted change of the seal mode was settled");
    }
    if report.recovery_rewritten {
        warn!("the file for recovery parties was missing or another one and is written anew");
    }
    if !report.exclusive {
        warn!("the file system cannot keep other processes out of the seal directory");
    }
}

async fn set_startup_manifest(path: &Path, setter: &ManifestSetter, view: &SharedView, audit: &Audit) -> Result<()> {
    let place = || format!("EDG_STARTUP_MANIFEST {}", path.display());
    let raw = read_bounded(path, marblerun_manifest::MAX_MANIFEST_BYTES).with_context(place)?;
    let Some(raw) = raw else { bail!("{}: expected a file, got nothing of this name", place()) };
    if let Some(deployment) = view.load().snapshot.deployment() {
        if *deployment.raw_manifest == raw {
            info!("the start-up manifest is already set");
            return Ok(());
        }
        bail!(
            "{}: expected the manifest that is already set ({}), got another one ({})",
            place(),
            deployment.fingerprint,
            marblerun_manifest::fingerprint(&raw)
        );
    }
    let fingerprint = marblerun_manifest::fingerprint(&raw);
    let recovery = setter.set(raw).await.map_err(|error| hinted(&error, error.hint())).with_context(place)?;
    audit.changed(Peer::Coordinator, "manifest set", &[("fingerprint", &fingerprint)]);
    if !recovery.is_empty() {
        warn!("recovery secrets of a start-up manifest reach nobody: set the manifest through the client API instead");
    }
    Ok(())
}

fn cannot_listen(variable: &str, address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    anyhow!("{variable}: cannot listen on {address}: {error}; stop what listens there, or set another address")
}

/// The error as one line with its hint, for people.
fn hinted(error: &(dyn std::error::Error + 'static), hint: Option<&str>) -> anyhow::Error {
    anyhow!(report::with_hint(error, hint))
}
