//! One activation: evidence, parameters, budget, answer. Everything slow happens on a snapshot, outside of locks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use marblerun_api::rpc::{ActivationReq, Parameters};
use marblerun_coordinator_core::activation::{Candidate, Prepared};
use marblerun_coordinator_core::ledger::Command;
use marblerun_coordinator_core::uuid::MarbleUuid;
use marblerun_secret::SecretBytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tracing::{info, info_span, warn};

use super::status::Refused;
use crate::answer_budget::AnswerAccount;
use crate::audit::{self, Audit, Refusal};
use crate::body_budget::BodyAccount;
use crate::clock::now;
use crate::metrics::{Event, Metrics};
use crate::report;
use crate::trust::{Accepted, EvidenceError, Trust};
use crate::view::{SharedView, View};
use crate::writer::WriterHandle;

/// Activations at work or waiting for a processor; the next one is told to come again.
const MAX_IN_FLIGHT: usize = 256;
/// Names from outside are cut to this many bytes in the log.
const MAX_LOGGED_BYTES: usize = 256;

/// The two ends of a Marble's TLS connection.
pub(super) struct Peer {
    /// The Marble's certificate.
    pub(super) leaf: Option<Arc<[u8]>>,
    /// The certificate that it was shown. A Marble that knows its Coordinator expects credentials from this very key.
    pub(super) shown: Arc<[u8]>,
    /// Where the connection comes from.
    pub(super) address: Option<SocketAddr>,
}

/// What one request takes of the memory of all.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    /// For the bytes of the request.
    pub(super) body: Option<BodyAccount>,
    /// For the bytes of the answer.
    pub(super) answer: Option<AnswerAccount>,
}

/// A request, and what its bytes take of the memory of all until nobody uses them.
struct Submitted {
    request: ActivationReq,
    _account: Option<BodyAccount>,
}

/// What came of judging.
type Judged = (Candidate, Accepted, Prepared);

/// How far one attempt came.
enum Attempt {
    Judged(Judged, OwnedSemaphorePermit),
    Wanting(Box<Wanting>),
}

/// Evidence that cannot be judged without asking somebody for collateral.
struct Wanting {
    collateral: marblerun_collateral::Request,
    view: Arc<View>,
    refusal: EvidenceError,
}

/// Activates Marbles.
pub struct Activator {
    trust: Arc<Trust>,
    view: SharedView,
    writer: WriterHandle,
    places: Arc<Semaphore>,
    pub(super) metrics: Option<Arc<Metrics>>,
    audit: Audit,
}

impl Activator {
    /// An activator for the state behind `view`, which counts in `metrics` and tells refusals to `audit`.
    pub fn new(
        trust: Arc<Trust>,
        view: SharedView,
        writer: WriterHandle,
        metrics: Option<Arc<Metrics>>,
        audit: Audit,
    ) -> Self {
        Self { trust, view, writer, places: Arc::new(Semaphore::new(MAX_IN_FLIGHT)), metrics, audit }
    }

    /// Answers one request of `peer`, on these accounts.
    ///
    /// # Errors
    ///
    /// A gRPC status with the reason. No budget was used.
    pub(super) async fn activate(
        self: Arc<Self>,
        peer: Peer,
        request: ActivationReq,
        accounts: Accounts,
    ) -> Result<Parameters, Status> {
        let marble_type = shortened(&request.marble_type);
        let uuid = shortened(&request.uuid);
        let address = peer.address;
        let quote = self.metrics.as_ref().map(|_| Event::kept_quote(&request.quote)).unwrap_or_default();
        match self.answer(peer, request, accounts).await {
            Ok(prepared) => {
                if let Some(metrics) = &self.metrics {
                    let event = Event::new(now(), marble_type.clone(), uuid, quote);
                    metrics.activated(&prepared.uuid.to_string(), event);
                }
                info!(marble.type = marble_type, marble.uuid = %prepared.uuid, "Marble activated");
                Ok(message(prepared.parameters))
            }
            Err(refused) => {
                self.note(&refused, &marble_type, &uuid, address);
                Err(refused.status())
            }
        }
    }

    /// Counts a refusal; `marble_type` and `uuid` are what the Marble said.
    fn note(&self, refused: &Refused, marble_type: &str, uuid: &str, address: Option<SocketAddr>) {
        let is_verified = refused.was_verified();
        if let Some(metrics) = &self.metrics {
            // The same label as a success has. What is no UUID is no label.
            let uuid = MarbleUuid::parse(uuid).map(|uuid| uuid.to_string()).unwrap_or_default();
            metrics.refused(is_verified.then_some((marble_type, &uuid)));
        }
        self.audit.refused(&Refusal {
            peer: if is_verified { audit::Peer::Marble(marble_type) } else { audit::Peer::Mesh },
            action: "activation",
            reason: refused.reason(),
            code: &format!("{:?}", refused.code()),
            text: &report::chain(refused),
            details: &[("marbleType", marble_type), ("uuid", uuid), ("address", &shown_address(address))],
        });
    }

    /// Takes note of a request that was refused before anybody knew what it asks for.
    pub(super) fn note_request(&self, reason: &'static str, status: &Status, address: Option<SocketAddr>) {
        self.audit.refused(&Refusal {
            peer: audit::Peer::Mesh,
            action: "request",
            reason,
            code: &format!("{:?}", status.code()),
            text: status.message(),
            details: &[("address", &shown_address(address))],
        });
    }

    /// Judges once, or, where collateral was missing, a second time after a service was asked for it.
    async fn answer(
        self: &Arc<Self>,
        peer: Peer,
        request: ActivationReq,
        accounts: Accounts,
    ) -> Result<Prepared, Refused> {
        let submitted = Arc::new(Submitted { request, _account: accounts.body });
        let (judged, place) = match self.attempt(&peer, &submitted).await? {
            Attempt::Judged(judged, place) => (judged, place),
            Attempt::Wanting(wanted) => {
                // No place is held meanwhile: whoever needs nothing must not wait for this one.
                let asked = self.trust.obtain(&wanted.collateral, &wanted.view.snapshot.floor).await;
                // Also where nobody has newer collateral: the image may allow what is at hand.
                match (self.attempt(&peer, &submitted).await?, asked) {
                    (Attempt::Judged(judged, place), _) => (judged, place),
                    (Attempt::Wanting(_), Err(error)) => return Err(error.into()),
                    // It was there and is gone: another one is needed in the meantime.
                    (Attempt::Wanting(wanted), Ok(())) => return Err(wanted.refusal.into()),
                }
            }
        };
        drop(submitted);
        let (candidate, accepted, prepared) = judged;
        if let Some(account) = accounts.answer {
            // Before anything is counted: a Marble that comes again has lost nothing.
            account.reserve(size(&prepared.parameters))?;
        }

        if let Some(news) = accepted.news {
            self.writer.submit(Command::AcceptCollateral(news)).await?;
        }
        if candidate.is_counted() {
            let Candidate { deployment, marble_type } = candidate;
            self.writer.submit(Command::CountActivation { marble_type, deployment }).await?;
        }
        drop(place);
        Ok(prepared)
    }

    /// Judges on the newest state.
    async fn attempt(self: &Arc<Self>, peer: &Peer, submitted: &Arc<Submitted>) -> Result<Attempt, Refused> {
        let view = self.view.load();
        if peer.shown != view.snapshot.identity.marble_root_certificate {
            return Err(Refused::Outdated);
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refused::Busy)?;
        let candidate = {
            let leaf = peer.leaf.clone().ok_or(Refused::NoCertificate);
            // The state comes before the certificate, the certificate before the type.
            if view.snapshot.deployment().is_none() {
                return Err(marblerun_coordinator_core::activation::ActivationError::State.into());
            }
            (Candidate::find(&view.snapshot, &submitted.request.marble_type), leaf?)
        };
        let (candidate, leaf) = (candidate.0?, candidate.1);

        let activator = Arc::clone(self);
        let submitted = Arc::clone(submitted);
        let span = info_span!("activation", marble.r#type = shortened(&submitted.request.marble_type));
        // The place goes with the work: a caller that hangs up does not stop it, and must not make room for more.
        let work = move || {
            let _entered = span.enter();
            match activator.judge_and_prepare(&view, candidate, &leaf, &submitted.request) {
                Ok(judged) => Ok(Attempt::Judged(judged, place)),
                Err(Refused::Evidence(refusal)) if refusal.wants_collateral() => {
                    let collateral = activator.trust.wanted(&submitted.request.quote, &view.snapshot.floor)?;
                    Ok(Attempt::Wanting(Box::new(Wanting { collateral, view, refusal })))
                }
                Err(refused) => Err(refused),
            }
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Refused::Interrupted)?
    }

    fn judge_and_prepare(
        &self,
        view: &View,
        candidate: Candidate,
        leaf: &[u8],
        request: &ActivationReq,
    ) -> Result<Judged, Refused> {
        let snapshot = &view.snapshot;
        let accepted = self.trust.judge(&request.quote, leaf, &candidate.marble().package, &snapshot.floor)?;
        if let Some(admission) = &accepted.admission
            && admission.tcb_status != marblerun_attestation::TcbStatus::UpToDate
        {
            warn!(
                tcb_status = %admission.tcb_status,
                advisories = admission.advisories.join(","),
                package = candidate.marble().package_name,
                "accepted a platform that is not up to date, as the package allows"
            );
        }
        if accepted.admission.as_ref().is_some_and(|admission| admission.stale_collateral) {
            warn!(
                package = candidate.marble().package_name,
                "accepted a platform by collateral whose next update was due before, as the image allows"
            );
        }
        let prepared = candidate.prepare(&snapshot.identity, &request.uuid, &request.csr, now())?;
        Ok((candidate, accepted, prepared))
    }
}

/// Bytes of an answer, without the few that frame them.
fn size(parameters: &marblerun_coordinator_core::parameters::Parameters) -> usize {
    let sum = |values: &BTreeMap<String, SecretBytes>| -> usize {
        values.iter().map(|(name, value)| name.len() + value.expose().len()).sum()
    };
    sum(&parameters.files) + sum(&parameters.env) + parameters.argv.iter().map(String::len).sum::<usize>()
}

/// The wire form; from here on the secrets are bytes on their way to the Marble.
fn message(parameters: marblerun_coordinator_core::parameters::Parameters) -> Parameters {
    let exposed = |values: BTreeMap<String, SecretBytes>| {
        values.into_iter().map(|(name, value)| (name, value.expose().to_vec())).collect()
    };
    Parameters { files: exposed(parameters.files), env: exposed(parameters.env), argv: parameters.argv }
}

fn shown_address(address: Option<SocketAddr>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

fn shortened(text: &str) -> String {
    report::cut(text.chars().take(MAX_LOGGED_BYTES).collect(), MAX_LOGGED_BYTES)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use std::task::{Context, Waker};

    use marblerun_collateral::{ClientOptions, SupplyOptions};
    use marblerun_coordinator_core::ledger::Ledger;
    use marblerun_coordinator_core::record::{Genesis, Record};
    use marblerun_pki::AltNames;
    use marblerun_sealing::SealMode;
    use marblerun_software_tee::service::{CollateralService, Misbehaviour, ServiceOptions};
    use marblerun_software_tee::{CollateralOptions, Dates, DevelopmentRoot, EnclaveIdentity, RootOptions};
    use marblerun_storage::{Opened, open_directory};
    use tonic::Code;

    use super::*;
    use crate::audit::AuditTarget;
    use crate::body_budget::BodyBudget;
    use crate::fair::Source;
    use crate::seal_keys::TeeSealKeys;
    use crate::tls::Listeners;
    use crate::trust::system_time;
    use crate::writer::{self, Backing};

    fn activator(directory: &std::path::Path, places: usize) -> Arc<Activator> {
        activator_with(directory, places, Trust::Simulation)
    }

    fn activator_with(directory: &std::path::Path, places: usize, trust: Trust) -> Arc<Activator> {
        let tee = Arc::new(marblerun_tee::detect(Some("1")).unwrap());
        let opened = open_directory(directory, Arc::new(TeeSealKeys(tee)), trust.context()).unwrap();
        let Opened::New(new) = opened else { panic!("expected an empty directory") };
        let genesis = Genesis::create(&AltNames::from_list("localhost"), now()).unwrap();
        let ledger = Ledger::new(&genesis).unwrap();
        let log = new.create(SealMode::default(), &[Record::Genesis(genesis).encode().expose()]).unwrap();
        let backing = Backing::Log(log);
        let view = SharedView::new(writer::view(&ledger, &backing));
        let writer = writer::start(ledger, backing, view.clone(), Listeners::new().unwrap()).unwrap();
        let activator = Activator::new(Arc::new(trust), view, writer, None, Audit::start(AuditTarget::Log).unwrap());
        activator.places.forget_permits(MAX_IN_FLIGHT - places);
        Arc::new(activator)
    }

    /// A Marble that was shown the newest certificate.
    fn peer(activator: &Activator, leaf: Option<&[u8]>) -> Peer {
        let shown = Arc::clone(&activator.view.load().snapshot.identity.marble_root_certificate);
        Peer { leaf: leaf.map(Arc::from), shown, address: None }
    }

    #[tokio::test]
    async fn a_marble_that_was_shown_another_certificate_is_told_to_connect_anew() {
        let directory = tempfile::tempdir().unwrap();
        let activator = activator(directory.path(), 1);
        let peer =
            Peer { leaf: Some(Arc::from(&b"leaf"[..])), shown: Arc::from(&b"before an update"[..]), address: None };
        let status =
            Arc::clone(&activator).activate(peer, ActivationReq::default(), Accounts::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }

    #[tokio::test]
    async fn one_activation_too_many_is_told_to_come_again() {
        let directory = tempfile::tempdir().unwrap();
        let activator = activator(directory.path(), 1);
        let activate = |leaf: Option<&[u8]>| {
            Arc::clone(&activator).activate(peer(&activator, leaf), ActivationReq::default(), Accounts::default())
        };
        let held = activator.places.try_acquire().unwrap();
        let status = activate(Some(b"leaf")).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        drop(held);
        for _ in 0..3 {
            // Each one gives its place back.
            let status = activate(Some(b"leaf")).await.unwrap_err();
            assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        }
        // The state comes before the certificate.
        assert_eq!(activate(None).await.unwrap_err().code(), Code::FailedPrecondition);
    }

    /// One blocking thread, which is busy until the returned sender is used.
    fn busy_runtime() -> (tokio::runtime::Runtime, std::sync::mpsc::Sender<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let (free, wait) = std::sync::mpsc::channel();
        runtime.spawn_blocking(move || wait.recv());
        (runtime, free)
    }

    #[test]
    fn a_caller_that_hangs_up_keeps_its_place_until_its_work_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let activator = activator(directory.path(), 1);
        let manifest = br#"{"Packages":{"p":{"SignerID":"00","ProductID":1,"SecurityVersion":1}},
            "Marbles":{"m":{"Package":"p"}}}"#;
        let identity = Arc::clone(&activator.view.load().snapshot.identity);
        let prepared = marblerun_coordinator_core::set_manifest::prepare(&identity, manifest, now()).unwrap();
        let (runtime, free) = busy_runtime();
        runtime.block_on(async {
            let command = Command::SetManifest(Box::new(prepared.record));
            activator.writer.submit_with(command, SealMode::default().into()).await.unwrap();
            let request = ActivationReq { marble_type: "m".to_owned(), ..ActivationReq::default() };
            let peer = || peer(&activator, Some(b"leaf"));
            let budget = BodyBudget::new(2048);
            let account_of = || budget.account(Source::from(std::net::IpAddr::from([192, 0, 2, 1])));
            {
                let account = account_of();
                account.take(1).unwrap();
                let accounts = Accounts { body: Some(account), answer: None };
                let mut call = std::pin::pin!(Arc::clone(&activator).activate(peer(), request.clone(), accounts));
                let mut context = Context::from_waker(Waker::noop());
                assert!(call.as_mut().poll(&mut context).is_pending());
            }
            let status = Arc::clone(&activator).activate(peer(), request, Accounts::default()).await.unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
            assert!(account_of().take(1).is_err(), "the request's bytes are still in use");
            free.send(()).unwrap();
            // It comes back with the end of the work.
            let _place = activator.places.acquire().await.unwrap();
            account_of().take(1).unwrap();
        });
    }

    const LEAF: &[u8] = b"leaf";

    /// A Marble of a development root, and a Coordinator whose only source of collateral is that root's service.
    struct Attested {
        activator: Arc<Activator>,
        service: CollateralService,
        quote: Vec<u8>,
        _directory: tempfile::TempDir,
    }

    impl Attested {
        async fn new() -> Self {
            Self::with(|_, _, sources| sources).await
        }

        /// With sources of collateral that may lie in a directory.
        async fn with(change: impl FnOnce(&DevelopmentRoot, &std::path::Path, SupplyOptions) -> SupplyOptions) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("root");
            let root = DevelopmentRoot::create(&path, system_time(), RootOptions::default()).unwrap();
            let enclave =
                EnclaveIdentity { mr_enclave: [7; 32], mr_signer: [8; 32], isv_prod_id: 3, isv_svn: 4, debug: false };
            let mut data = [0; 64];
            data[..32].copy_from_slice(marblerun_attestation::ReportDigest::of(LEAF).as_bytes());
            let quote = marblerun_attestation::with_oe_header(&root.quote(&enclave, &data).unwrap());
            let class = marblerun_tee::TrustClass::Software { roots: vec![root.root_der().to_vec()] };
            let sources = change(&root, directory.path(), SupplyOptions::default());
            let service = CollateralService::start(root, ServiceOptions::default()).unwrap();
            let services = vec![ClientOptions::new(service.url().parse().unwrap())];
            let sources = SupplyOptions { services, ..sources };
            let trust = Trust::with_sources(&class, sources).unwrap();
            let activator = activator_with(&directory.path().join("state"), 1, trust);
            let manifest = format!(
                r#"{{"Packages":{{"p":{{"UniqueID":"{}"}}}},"Marbles":{{"m":{{"Package":"p"}}}}}}"#,
                "07".repeat(32)
            );
            let identity = Arc::clone(&activator.view.load().snapshot.identity);
            let prepared =
                marblerun_coordinator_core::set_manifest::prepare(&identity, manifest.as_bytes(), now()).unwrap();
            let command = Command::SetManifest(Box::new(prepared.record));
            activator.writer.submit_with(command, SealMode::default().into()).await.unwrap();
            Self { activator, service, quote, _directory: directory }
        }

        /// Ends after the evidence was accepted, because the UUID is none.
        fn activate(&self, quote: &[u8]) -> impl Future<Output = Result<Parameters, Status>> + use<> {
            let (activator, peer) = (Arc::clone(&self.activator), peer(&self.activator, Some(LEAF)));
            let request =
                ActivationReq { marble_type: "m".to_owned(), quote: quote.to_vec(), ..ActivationReq::default() };
            activator.activate(peer, request, Accounts::default())
        }
    }

    // rules: ATT-11.2
    #[tokio::test]
    async fn an_activation_waits_for_collateral_and_goes_on_with_it() {
        let attested = Attested::new().await;
        let status = attested.activate(&attested.quote).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "the evidence was accepted: {status}");
        assert_eq!(attested.service.requests().len(), 4);
        let status = attested.activate(&attested.quote).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(attested.service.requests().len(), 4, "it is kept");
    }

    // rules: ATT-11.2
    #[tokio::test]
    async fn without_collateral_an_activation_is_told_to_come_again_and_why() {
        let attested = Attested::new().await;
        attested.service.misbehave(Some(Misbehaviour::TooManyRequests(Some(600))));
        for _ in 0..2 {
            let status = attested.activate(&attested.quote).await.unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            let text = status.message();
            assert!(text.contains("collateral unavailable for FMSPC FF5357544545"), "{text}");
            assert!(text.contains("HTTP 429") && text.contains("wait, or use a caching service"), "{text}");
        }
        assert!(attested.service.requests().len() <= 4, "it is not asked again at once");
    }

    // rules: ATT-11.2
    #[tokio::test]
    async fn collateral_past_its_date_that_the_image_allows_is_enough_where_no_service_has_any() {
        const DAY: u64 = 24 * 60 * 60;
        for (days, code) in [(30, Code::InvalidArgument), (5, Code::Unavailable)] {
            let attested = Attested::with(|root, directory, sources| {
                let past = |days| {
                    let seconds = system_time().as_secs() - days * DAY;
                    rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
                };
                let dates = Some(Dates { issued: past(40), next_update: past(10) });
                let options = CollateralOptions { tcb_info_dates: dates, ..CollateralOptions::default() };
                root.export_bundle(directory, system_time(), &options).unwrap();
                let dangerous_max_age = std::time::Duration::from_secs(days * DAY);
                SupplyOptions { bundle: Some(directory.to_owned()), dangerous_max_age, ..sources }
            })
            .await;
            attested.service.misbehave(Some(Misbehaviour::Http(500)));
            let status = attested.activate(&attested.quote).await.unwrap_err();
            assert_eq!(status.code(), code, "{status}");
            assert!(!attested.service.requests().is_empty(), "somebody may have had a newer one");
        }
    }

    // rules: ATT-11.3, STA-8.3
    #[test]
    fn while_an_activation_waits_for_collateral_it_holds_no_place_no_thread_and_no_lock() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let attested = Attested::new().await;
            attested.service.misbehave(Some(Misbehaviour::Silence));
            let waiting = tokio::spawn(attested.activate(&attested.quote));
            while attested.service.requests().is_empty() {
                tokio::task::yield_now().await;
            }
            let began = std::time::Instant::now();
            // There is one place and one thread for such work, and both are free.
            let status = attested.activate(b"no quote").await.unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied, "{status}");
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            let _ = attested.activator.view.load().status();
            assert!(began.elapsed() < std::time::Duration::from_millis(100), "{:?}", began.elapsed());
            assert!(!waiting.is_finished());
            waiting.abort();
        });
    }

    #[test]
    fn names_from_outside_are_cut_in_the_log() {
        assert_eq!(shortened("web"), "web");
        for text in ["é".repeat(10_000), "x".repeat(10_000)] {
            assert!(shortened(&text).len() <= MAX_LOGGED_BYTES + '…'.len_utf8());
        }
    }
}
