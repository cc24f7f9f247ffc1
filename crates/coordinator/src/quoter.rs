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
    use marblerun_coordinator_core::ledger::Ledger;
    use marblerun_coordinator_core::record::Genesis;
    use marblerun_coordinator_core::time::Timestamp;
    use marblerun_pki::AltNames;

    use super::*;

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

    #[tokio::test]
    async fn newer_collateral_of_our_own_platform_is_a_reason_to_renew_the_kept_quote() {
        use marblerun_software_tee::{CollateralOptions, DevelopmentRoot, EnclaveIdentity, RootOptions};
        let directory = tempfile::tempdir().unwrap();
        let issued = crate::trust::system_time();
        let root = DevelopmentRoot::create(&directory.path().join("root"), issued, RootOptions::default()).unwrap();
        let bundle = directory.path().join("bundle");
        std::fs::create_dir(&bundle).unwrap();
        let class = marblerun_tee::TrustClass::Software { roots: vec![root.root_der().to_vec()] };
        let trust = Arc::new(Trust::new(&class, Some(&bundle)).unwrap());
        let genesis = Genesis::create(&AltNames::from_list("localhost"), Timestamp::from_millis(1_769_904_000_000));
        let view = View { snapshot: Ledger::new(&genesis.unwrap()).unwrap().snapshot(), log: None, recovering: None };
        let quoter = Quoter::new(Arc::new(Tee::Simulation), Arc::clone(&trust), SharedView::new(view)).unwrap();
        assert!(!quoter.has_other_collateral(), "there is no evidence");

        let enclave =
            EnclaveIdentity { mr_enclave: [7; 32], mr_signer: [8; 32], isv_prod_id: 3, isv_svn: 4, debug: false };
        let evidence = root.quote(&enclave, &[0; 64]).unwrap();
        let view = quoter.view.load();
        let keep = |collateral| {
            let answer =
                QuoteAnswer { quote: Some(evidence.clone()), collateral, ..(*quoter.answer(b"").unwrap()).clone() };
            let identity = Arc::clone(&view.snapshot.identity);
            quoter.kept.store(Some(Arc::new(Kept { identity, recovering: None, answer: Arc::new(answer) })));
        };
        keep(None);
        assert!(!quoter.has_other_collateral(), "there is none");
        root.export_bundle(&bundle, issued, &CollateralOptions::default()).unwrap();
        // The directory is looked at once a second; a new verifier looks at once.
        let trust = Arc::new(Trust::new(&class, Some(&bundle)).unwrap());
        let quoter = Quoter { trust: Arc::clone(&trust), ..quoter };
        assert!(quoter.has_other_collateral());
        let collateral = trust.own_collateral(&evidence, &view.snapshot.floor);
        let kept = quoter.kept.load_full().unwrap();
        let answer = QuoteAnswer { collateral, ..(*kept.answer).clone() };
        let identity = Arc::clone(&view.snapshot.identity);
        quoter.kept.store(Some(Arc::new(Kept { identity, recovering: None, answer: Arc::new(answer) })));
        assert!(!quoter.has_other_collateral(), "it carries it already");
    }
}
