//! The Coordinator's own quote: over its root certificate, and over the statement of its whole configuration.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use marblerun_api::rest::QuoteAnswer;
use marblerun_coordinator_core::identity::Identity;
use marblerun_coordinator_core::statement::{Recovering, Statement, report_data};
use marblerun_pki::pem;
use marblerun_tee::{EvidenceError, Tee};
use tracing::warn;

use crate::report;
use crate::trust::Trust;
use crate::view::{ClaimedState, SharedView, View, statement_head};

/// Makes quotes and keeps the one without nonce.
pub struct Quoter {
    tee: Arc<Tee>,
    trust: Arc<Trust>,
    view: SharedView,
    kept: ArcSwapOption<Kept>,
}

/// A quote without nonce, and what it speaks for.
struct Kept {
    identity: Arc<Identity>,
    recovering: Option<ClaimedState>,
    answer: Arc<QuoteAnswer>,
}

impl Quoter {
    /// A quoter for the state behind `view`, with its first quote.
    ///
    /// # Errors
    ///
    /// If the TEE makes no quote.
    pub fn new(tee: Arc<Tee>, trust: Arc<Trust>, view: SharedView) -> Result<Self, EvidenceError> {
        let quoter = Self { tee, trust, view, kept: ArcSwapOption::empty() };
        quoter.renew()?;
        Ok(quoter)
    }

    /// Makes the kept quote anew: its statement should name the manifest.
    ///
    /// # Errors
    ///
    /// If the TEE makes no quote; the old one is kept then.
    pub fn renew(&self) -> Result<(), EvidenceError> {
        let view = self.view.load();
        let answer = Arc::new(self.issue(&view, &[])?);
        let identity = Arc::clone(&view.snapshot.identity);
        self.kept.store(Some(Arc::new(Kept { identity, recovering: view.recovering, answer })));
        Ok(())
    }

    /// The kept quote, or a fresh one over `nonce`.
    ///
    /// # Errors
    ///
    /// If the TEE makes no quote.
    pub fn answer(&self, nonce: &[u8]) -> Result<Arc<QuoteAnswer>, EvidenceError> {
        let view = self.view.load();
        match &*self.kept.load() {
            // Right after a recovery the kept one still speaks for the temporary root, and after one that was refused
            // perhaps of a manifest that is known better now.
            Some(kept)
                if nonce.is_empty()
                    && Arc::ptr_eq(&kept.identity, &view.snapshot.identity)
                    && kept.recovering == view.recovering =>
            {
                Ok(Arc::clone(&kept.answer))
            }
            _ => Ok(Arc::new(self.issue(&view, nonce)?)),
        }
    }

    fn issue(&self, view: &View, nonce: &[u8]) -> Result<QuoteAnswer, EvidenceError> {
        let identity = &view.snapshot.identity;
        let statement = self.statement(view).to_text();
        let evidence = self.tee.evidence(&report_data(&identity.root_certificate, nonce, &statement))?;
        let mut cert = pem::encode("CERTIFICATE", &identity.intermediate_certificate);
        cert.push_str(&pem::encode("CERTIFICATE", &identity.root_certificate));
        let collateral = self.trust.own_collateral(&evidence, &view.snapshot.floor);
        Ok(QuoteAnswer {
            cert,
            quote: Some(evidence).filter(|evidence| !evidence.is_empty()),
            statement: Some(statement),
            collateral,
        })
    }

    fn statement(&self, view: &View) -> Statement {
        Statement {
            deployment: view.log.map(|log| log.deployment.to_string()).unwrap_or_default(),
            trust_class: self.trust.class(),
            root_hashes: self.trust.software_root_hashes().iter().map(hex::encode).collect(),
            manifest_fingerprint: view.snapshot.deployment().map(|deployment| deployment.fingerprint.clone()),
            log_head: view.log.map(|log| log.statement_head()),
            recovering: view.recovering.map(|claimed| Recovering {
                deployment: claimed.head.deployment.to_string(),
                log_head: statement_head(&claimed.head.head),
                manifest_fingerprint: claimed.manifest.map(|manifest| manifest.to_string()),
            }),
            max_collateral_age_seconds: self.trust.max_collateral_age().map(|age| age.as_secs()),
        }
    }

    /// True if there is collateral for the kept quote that it does not carry.
    pub fn has_other_collateral(&self) -> bool {
        let kept = self.kept.load();
        let Some(answer) = kept.as_ref().map(|kept| &kept.answer) else { return false };
        let Some(evidence) = &answer.quote else { return false };
        let newest = self.trust.own_collateral(evidence, &self.view.load().snapshot.floor);
        newest.is_some_and(|newest| answer.collateral.as_ref().is_none_or(|carried| carried.0 != newest.0))
    }

    /// Like [`Quoter::renew`], where a failure concerns nobody now: the old quote still speaks for the root.
    pub fn renew_or_warn(&self) {
        if let Err(error) = self.renew() {
            warn!(error = report::with_hint(&error, error.hint()), "the kept quote could not be renewed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use marblerun_collateral::{ClientOptions, SupplyOptions};
    use marblerun_coordinator_core::ledger::Ledger;
    use marblerun_coordinator_core::record::Genesis;
    use marblerun_coordinator_core::time::Timestamp;
    use marblerun_pki::AltNames;
    use marblerun_software_tee::service::{CollateralService, ServiceOptions};
    use marblerun_software_tee::{CollateralOptions, DevelopmentRoot, EnclaveIdentity, RootOptions};

    use super::*;
    use crate::trust::system_time;

    // rules: SIG-3, ATT-8.2
    #[test]
    fn a_quote_without_nonce_is_kept_and_one_with_nonce_is_new() {
        let now = Timestamp::from_millis(1_769_904_000_000);
        let genesis = Genesis::create(&AltNames::from_list("localhost"), now).unwrap();
        let view = View { snapshot: Ledger::new(&genesis).unwrap().snapshot(), log: None, recovering: None };
        let quoter =
            Quoter::new(Arc::new(Tee::Simulation), Arc::new(Trust::Simulation), SharedView::new(view)).unwrap();
        let kept = quoter.answer(b"").unwrap();
        assert!(Arc::ptr_eq(&kept, &quoter.answer(b"").unwrap()));
        let fresh = quoter.answer(b"nonce").unwrap();
        assert!(!Arc::ptr_eq(&kept, &fresh));
        assert!(!Arc::ptr_eq(&fresh, &quoter.answer(b"nonce").unwrap()));
        assert!(Arc::ptr_eq(&kept, &quoter.answer(b"").unwrap()), "a nonce does not displace it");
    }

    /// A quoter that keeps a quote of a development root, and that root in a directory.
    struct Attested {
        root: DevelopmentRoot,
        quoter: Arc<Quoter>,
        trust: Arc<Trust>,
        directory: tempfile::TempDir,
    }

    impl Attested {
        fn new(sources: impl FnOnce(&DevelopmentRoot, &Path) -> SupplyOptions) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("root");
            let root = DevelopmentRoot::create(&path, system_time(), RootOptions::default()).unwrap();
            let class = marblerun_tee::TrustClass::Software { roots: vec![root.root_der().to_vec()] };
            let trust = Arc::new(Trust::with_sources(&class, sources(&root, directory.path())).unwrap());
            let now = Timestamp::from_millis(1_769_904_000_000);
            let genesis = Genesis::create(&AltNames::from_list("localhost"), now).unwrap();
            let view = View { snapshot: Ledger::new(&genesis).unwrap().snapshot(), log: None, recovering: None };
            let quoter = Quoter::new(Arc::new(Tee::Simulation), Arc::clone(&trust), SharedView::new(view)).unwrap();
            let attested = Self { root, quoter: Arc::new(quoter), trust, directory };
            assert!(!attested.quoter.has_other_collateral(), "there is no evidence yet");
            attested.keep(None);
            attested
        }

        fn evidence(&self) -> Vec<u8> {
            let enclave =
                EnclaveIdentity { mr_enclave: [7; 32], mr_signer: [8; 32], isv_prod_id: 3, isv_svn: 4, debug: false };
            self.root.quote(&enclave, &[0; 64]).unwrap()
        }

        /// From now on this is the kept quote.
        fn keep(&self, collateral: Option<marblerun_json::RawJson>) {
            let view = self.quoter.view.load();
            let answer = (*self.quoter.answer(b"").unwrap()).clone();
            let answer = Arc::new(QuoteAnswer { quote: Some(self.evidence()), collateral, ..answer });
            let identity = Arc::clone(&view.snapshot.identity);
            self.quoter.kept.store(Some(Arc::new(Kept { identity, recovering: None, answer })));
        }

        /// The simulated TEE gives no evidence, so a kept quote with some was not made anew.
        fn was_renewed(&self) -> bool {
            self.quoter.answer(b"").unwrap().quote.is_none()
        }

        async fn look_after(&self) {
            crate::own_collateral::look_after(&self.trust, &self.quoter.view, &self.quoter).await;
        }
    }

    #[tokio::test]
    async fn newer_collateral_of_our_own_platform_is_a_reason_to_renew_the_kept_quote() {
        let attested = Attested::new(|root, directory| {
            root.export_bundle(directory, system_time(), &CollateralOptions::default()).unwrap();
            SupplyOptions { bundle: Some(directory.to_owned()), ..SupplyOptions::default() }
        });
        let floor = &attested.quoter.view.load().snapshot.floor;
        attested.keep(attested.trust.own_collateral(&attested.evidence(), floor));
        assert!(!attested.quoter.has_other_collateral(), "it carries it already");
        attested.look_after().await;
        assert!(!attested.was_renewed());
        attested.keep(None);
        assert!(attested.quoter.has_other_collateral());
        attested.look_after().await;
        assert!(attested.was_renewed());
    }

    #[tokio::test]
    async fn collateral_of_our_own_platform_is_asked_for_and_a_failure_leaves_the_quote_alone() {
        let mut service = None;
        let attested = Attested::new(|_, directory| {
            let root = DevelopmentRoot::open(&directory.join("root"), system_time()).unwrap();
            let started = CollateralService::start(root, ServiceOptions::default()).unwrap();
            let services = vec![ClientOptions::new(started.url().parse().unwrap())];
            service = Some(started);
            let cache = Some(directory.join("cache"));
            SupplyOptions { services, cache, ..SupplyOptions::default() }
        });
        let service = service.unwrap();
        attested.look_after().await;
        assert!(attested.was_renewed());
        assert_eq!(service.requests().len(), 4);
        // What is young is not asked for again.
        attested.keep(None);
        attested.look_after().await;
        assert_eq!(service.requests().len(), 4);
        assert_eq!(std::fs::read_dir(attested.directory.path().join("cache/dcap")).unwrap().count(), 1);

        let failing = Attested::new(|_, directory| {
            let root = DevelopmentRoot::open(&directory.join("root"), system_time()).unwrap();
            let started = CollateralService::start(root, ServiceOptions::default()).unwrap();
            let url = started.url().parse().unwrap();
            drop(started);
            SupplyOptions { services: vec![ClientOptions::new(url)], ..SupplyOptions::default() }
        });
        failing.look_after().await;
        assert!(!failing.was_renewed());
    }
}
