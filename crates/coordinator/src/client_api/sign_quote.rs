//! Vouching for quotes of anybody: whoever knows the root certificate need not verify them.
//!
//! The signature says that the quote is genuine and how the vendor judged its platform. It says nothing about the
//! enclave in it: measurements, report data, and the debug flag are for the reader of the quote.

use std::sync::Arc;

use axum::extract::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marblerun_api::rest::{SignQuoteAnswer, SignQuoteRequest, decode_request};
use marblerun_attestation::{MAX_QUOTE_BYTES, TcbStatus};
use marblerun_coordinator_core::ledger::Command;
use marblerun_coordinator_core::snapshot::Snapshot;
use marblerun_manifest::FeatureGate;
use marblerun_pki::{KeyError, KeyPair};
use tokio::sync::Semaphore;
use tracing::debug;

use super::answer::Failure;
use super::{Shared, read_request_within};
use crate::report;
use crate::trust::{EvidenceError, Genuine, Trust};

/// The longest quote in base64, and as much again for what JSON may put around and between.
const MAX_BODY_BYTES: usize = MAX_QUOTE_BYTES.div_ceil(3) * 4 * 2;
/// Quotes being verified. Each costs a processor about a millisecond, and anyone may ask; more are told to come again.
const MAX_IN_FLIGHT: usize = 16;
/// The member that every refusal names.
const MEMBER: &str = "sgxQuote";

/// Verifies quotes and signs the verdict.
pub struct QuoteSigner {
    trust: Arc<Trust>,
    places: Arc<Semaphore>,
}

/// How far one attempt came.
enum Attempt {
    Signed(Box<(Genuine, SignQuoteAnswer)>),
    /// A service is to be asked for collateral.
    Wanting(marblerun_collateral::Request),
}

impl QuoteSigner {
    /// A signer that verifies as `trust` says.
    pub fn new(trust: Arc<Trust>) -> Self {
        Self { trust, places: Arc::new(Semaphore::new(MAX_IN_FLIGHT)) }
    }

    /// The verdict on the bytes that were submitted, and the signed answer.
    async fn sign(&self, snapshot: Arc<Snapshot>, submitted: Vec<u8>) -> Result<(Genuine, SignQuoteAnswer), Failure> {
        if submitted.len() > MAX_QUOTE_BYTES {
            let reason = format!("expected at most {MAX_QUOTE_BYTES} bytes, got {}", submitted.len());
            return Err(not_verified(reason));
        }
        let submitted: Arc<[u8]> = submitted.into();
        match self.attempt(&snapshot, &submitted).await? {
            Attempt::Signed(signed) => Ok(*signed),
            Attempt::Wanting(wanted) => {
                // No place is held meanwhile: whoever needs nothing must not wait for this one.
                self.trust.obtain(&wanted, &snapshot.floor).await.map_err(refused)?;
                match self.attempt(&snapshot, &submitted).await? {
                    Attempt::Signed(signed) => Ok(*signed),
                    Attempt::Wanting(_) => Err(not_verified("the collateral expired meanwhile; try again".to_owned())),
                }
            }
        }
    }

    async fn attempt(&self, snapshot: &Arc<Snapshot>, submitted: &Arc<[u8]>) -> Result<Attempt, Failure> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Failure::Busy)?;
        let trust = Arc::clone(&self.trust);
        let (snapshot, submitted) = (Arc::clone(snapshot), Arc::clone(submitted));
        // The place goes with the work: a caller that hangs up does not stop it.
        let work = move || {
            let _place = place;
            let genuine = match trust.vouch(&submitted, &snapshot.floor) {
                Err(error) if error.wants_collateral() => {
                    return trust.wanted(&submitted, &snapshot.floor).map(Attempt::Wanting).map_err(refused);
                }
                genuine => genuine.map_err(refused)?,
            };
            let answer = signed(&snapshot.identity.root_key, &submitted, genuine.tcb_status)
                .map_err(|error| Failure::Write(report::chain(&error)))?;
            Ok(Attempt::Signed(Box::new((genuine, answer))))
        };
        let interrupted = |_| Failure::Write("signing the quote was interrupted".to_owned());
        tokio::task::spawn_blocking(work).await.map_err(interrupted)?
    }
}

impl Shared {
    /// First the feature, then the body, then the quote.
    pub(super) async fn sign_quote(&self, request: Request) -> Result<String, Failure> {
        let view = self.api.view.load();
        let deployment = view.snapshot.deployment();
        if !deployment.is_some_and(|deployment| deployment.manifest.config.has_feature(FeatureGate::SignQuoteEndpoint))
        {
            return Err(Failure::Forbidden(
                "expected the feature SignQuoteEndpoint in the manifest, got a manifest without",
            ));
        }
        let body = read_request_within(MAX_BODY_BYTES, request, self.api.body_timeout).await?;
        let SignQuoteRequest { sgx_quote } = decode_request(&body).map_err(|error| {
            debug!(error = report::chain(&error), "quote cannot be signed");
            // The exact words are what existing clients get.
            Failure::Member { member: MEMBER, reason: "failed to parse JSON data".to_owned(), message: "" }
        })?;
        let (genuine, answer) = self.api.signer.sign(Arc::clone(&view.snapshot), sgx_quote).await?;
        if let Some(news) = genuine.news {
            // Collateral that a signature rests on must not be followed by older one.
            let written = self.api.writer.submit(Command::AcceptCollateral(news)).await;
            written.map_err(|error| Failure::Write(report::with_hint(&error, error.hint())))?;
        }
        Ok(answer.to_v2())
    }
}

fn refused(error: EvidenceError) -> Failure {
    not_verified(report::with_hint(&error, error.hint()))
}

fn not_verified(reason: String) -> Failure {
    Failure::Member { member: MEMBER, reason, message: "quote verification failed" }
}

/// Signs SHA-256 over the base64 of what was submitted, header or not, followed by the status.
fn signed(root_key: &KeyPair, submitted: &[u8], status: TcbStatus) -> Result<SignQuoteAnswer, KeyError> {
    let text = STANDARD.encode(submitted) + status.as_str();
    let verification_signature = root_key.sign_sha256(text.as_bytes())?;
    Ok(SignQuoteAnswer { tcb_status: status.as_str().to_owned(), verification_signature })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use std::path::PathBuf;

    use marblerun_attestation::with_oe_header;
    use marblerun_collateral::{ClientOptions, SupplyOptions};
    use marblerun_coordinator_core::ledger::Ledger;
    use marblerun_coordinator_core::record::Genesis;
    use marblerun_pki::signature::verify_p384_sha256;
    use marblerun_pki::{AltNames, Certificate};
    use marblerun_software_tee::service::{CollateralService, Item, Misbehaviour, ServiceOptions};
    use marblerun_software_tee::{CollateralOptions, DevelopmentRoot, EnclaveIdentity, RootOptions};

    use super::*;
    use crate::clock::now;
    use crate::trust::system_time;

    /// A quote of a development root, and a signer that trusts it.
    struct Case {
        signer: QuoteSigner,
        quote: Vec<u8>,
        snapshot: Arc<Snapshot>,
        directory: tempfile::TempDir,
    }

    impl Case {
        fn new(status: TcbStatus) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let root = DevelopmentRoot::create(&directory.path().join("root"), system_time(), RootOptions::default());
            let root = root.unwrap();
            // A debug enclave: whoever reads the quote sees it.
            let enclave =
                EnclaveIdentity { mr_enclave: [7; 32], mr_signer: [8; 32], isv_prod_id: 3, isv_svn: 4, debug: true };
            let quote = root.quote(&enclave, &[9; 64]).unwrap();
            let bundle = directory.path().join("collateral");
            std::fs::create_dir_all(&bundle).unwrap();
            let options = CollateralOptions { tcb_status: status.as_str().into(), ..CollateralOptions::default() };
            root.export_bundle(&bundle, system_time(), &options).unwrap();
            let class = marblerun_tee::TrustClass::Software { roots: vec![root.root_der().to_vec()] };
            let trust = Trust::new(&class, Some(&bundle)).unwrap();
            Self { signer: QuoteSigner::new(Arc::new(trust)), quote, snapshot: snapshot(), directory }
        }

        async fn sign(&self, submitted: &[u8]) -> Result<(Genuine, SignQuoteAnswer), Failure> {
            self.signer.sign(Arc::clone(&self.snapshot), submitted.to_vec()).await
        }
    }

    fn snapshot() -> Arc<Snapshot> {
        let genesis = Genesis::create(&AltNames::from_list("localhost"), now()).unwrap();
        Ledger::new(&genesis).unwrap().snapshot()
    }

    /// Checks as a client does: with the root certificate, what it sent, and the answer.
    fn verifies(snapshot: &Snapshot, submitted: &[u8], status: &str, answer: &SignQuoteAnswer) -> bool {
        let certificate = Certificate::parse(&snapshot.identity.root_certificate).unwrap();
        let text = STANDARD.encode(submitted) + status;
        verify_p384_sha256(certificate.public_key_der(), text.as_bytes(), &answer.verification_signature).is_ok()
    }

    fn reason(result: Result<(Genuine, SignQuoteAnswer), Failure>) -> String {
        match result.map(|(_, answer)| answer) {
            Err(Failure::Member { member: "sgxQuote", reason, message: "quote verification failed" }) => reason,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    // rules: SQ-1, SQ-2
    #[tokio::test]
    async fn a_genuine_quote_is_signed_with_its_status_whatever_that_is() {
        for status in TcbStatus::ALL {
            let case = Case::new(status);
            let padded = [&case.quote[..], &[0; 4]].concat();
            for submitted in [case.quote.clone(), with_oe_header(&case.quote), padded] {
                let (genuine, answer) = case.sign(&submitted).await.unwrap();
                assert_eq!((answer.tcb_status.as_str(), genuine.tcb_status), (status.as_str(), status));
                assert!(genuine.news.is_some(), "the collateral was never seen before");
                assert!(verifies(&case.snapshot, &submitted, status.as_str(), &answer));
                assert!(!verifies(&case.snapshot, &submitted, "Unknown", &answer));
                assert!(!verifies(&case.snapshot, &[&submitted[..], &[0]].concat(), status.as_str(), &answer));
            }
        }
    }

    /// A signer whose only source is a service of the same root.
    fn served(case: &Case) -> (QuoteSigner, CollateralService) {
        let root = DevelopmentRoot::open(&case.directory.path().join("root"), system_time()).unwrap();
        let class = marblerun_tee::TrustClass::Software { roots: vec![root.root_der().to_vec()] };
        let service = CollateralService::start(root, ServiceOptions::default()).unwrap();
        let services = vec![ClientOptions::new(service.url().parse().unwrap())];
        let max_age = std::time::Duration::from_secs(24 * 60 * 60);
        let options = SupplyOptions { services, dangerous_max_age: max_age, ..SupplyOptions::default() };
        (QuoteSigner::new(Arc::new(Trust::with_sources(&class, options).unwrap())), service)
    }

    // rules: SQ-1
    #[tokio::test]
    async fn collateral_for_a_quote_is_asked_for_once() {
        let mut case = Case::new(TcbStatus::UpToDate);
        let (signer, service) = served(&case);
        case.signer = signer;
        for _ in 0..2 {
            let (genuine, _) = case.sign(&case.quote.clone()).await.unwrap();
            assert_eq!(genuine.tcb_status, TcbStatus::UpToDate);
        }
        assert_eq!(service.requests().len(), 4);
        assert_eq!(case.signer.places.available_permits(), MAX_IN_FLIGHT);
    }

    // rules: SQ-1, ATT-11.3
    #[tokio::test]
    async fn while_a_quote_waits_for_collateral_it_takes_no_place_from_others() {
        let mut case = Case::new(TcbStatus::UpToDate);
        let (signer, service) = served(&case);
        case.signer = signer;
        service.misbehave(Some(Misbehaviour::Silence));
        let case = Arc::new(case);
        let waiting = tokio::spawn({
            let case = Arc::clone(&case);
            async move { case.sign(&case.quote.clone()).await.map(|_| ()) }
        });
        while service.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(case.signer.places.available_permits(), MAX_IN_FLIGHT);
        assert!(!waiting.is_finished());
        waiting.abort();
    }

    #[tokio::test]
    async fn a_service_that_fails_and_collateral_past_its_date_give_no_signature() {
        let mut case = Case::new(TcbStatus::UpToDate);
        let service;
        (case.signer, service) = served(&case);
        service.misbehave(Some(Misbehaviour::Http(500)));
        assert!(reason(case.sign(&case.quote.clone()).await).contains("got 500"));
        let service;
        (case.signer, service) = served(&case);
        // It counts for a Marble, whose activation says in the log what it rests on; a signature could not say it.
        service.misbehave(Some(Misbehaviour::Expired(Some(Item::TcbInfo))));
        assert!(reason(case.sign(&case.quote.clone()).await).contains("expected current collateral"));
    }

    // rules: SQ-1
    #[test]
    fn the_header_that_verification_inserts_is_not_signed() {
        let snapshot = snapshot();
        for name in ["dcap-qvl-sgx.quote", "automata-sgx-v3.quote", "trustee-occlum-debug.quote"] {
            let quote = std::fs::read(testdata().join(name)).unwrap();
            let answer = signed(&snapshot.identity.root_key, &quote, TcbStatus::OutOfDate).unwrap();
            assert!(verifies(&snapshot, &quote, "OutOfDate", &answer));
            assert!(!verifies(&snapshot, &with_oe_header(&quote), "OutOfDate", &answer));
        }
    }

    fn testdata() -> PathBuf {
        let root = std::env::var_os("MARBLERUN_TESTDATA")
            .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")), PathBuf::from);
        root.join("attestation/sgx")
    }

    // rules: SQ-4
    #[tokio::test]
    async fn what_is_not_genuine_is_refused_with_the_reason() {
        let case = Case::new(TcbStatus::UpToDate);
        let mut changed = case.quote.clone();
        changed[100] ^= 1;
        let mut header = with_oe_header(&case.quote);
        header[4] = 1;
        for (submitted, expected) in [
            (Vec::new(), "expected a quote, got none"),
            (b"random bytes that are no quote".to_vec(), "quote cannot be read"),
            (changed, "signature"),
            (header, "report type"),
            ([&case.quote[..], &[0, 0, 1]].concat(), "quote cannot be read"),
            (vec![0; MAX_QUOTE_BYTES + 1], "expected at most 65536 bytes, got 65537"),
            (std::fs::read(testdata().join("dcap-qvl-sgx.quote")).unwrap(), "no usable collateral"),
        ] {
            let reason = reason(case.sign(&submitted).await);
            assert!(reason.contains(expected), "{expected}: {reason}");
        }
    }

    // rules: SQ-4
    #[tokio::test]
    async fn simulation_vouches_for_nothing_and_says_so() {
        let case = Case::new(TcbStatus::UpToDate);
        let signer = QuoteSigner::new(Arc::new(Trust::Simulation));
        for submitted in [Vec::new(), case.quote.clone()] {
            let reason = reason(signer.sign(snapshot(), submitted).await);
            assert!(reason.contains("in simulation"), "{reason}");
        }
    }

    #[tokio::test]
    async fn one_quote_too_many_is_told_to_come_again() {
        let case = Case::new(TcbStatus::UpToDate);
        let held = case.signer.places.try_acquire_many(u32::try_from(MAX_IN_FLIGHT).unwrap()).unwrap();
        assert!(matches!(case.sign(&case.quote).await, Err(Failure::Busy)));
        drop(held);
        for _ in 0..=MAX_IN_FLIGHT {
            case.sign(&case.quote).await.unwrap();
        }
    }
}
