//! Monotonic counters of Marbles.

use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use marblerun_api::rest::{CounterAnswer, MonotonicCounterRequest, decode_request};
use marblerun_coordinator_core::counter::{MarbleName, RaiseCounter};
use marblerun_coordinator_core::identity::Identity;
use marblerun_coordinator_core::ledger::Command;
use marblerun_manifest::FeatureGate;

use super::answer::Failure;
use super::authentication::certificate;
use super::{Shared, read_request};
use crate::clock::now;
use crate::report;

impl Shared {
    /// First the feature, then the Marble, then the body.
    pub(super) async fn raise_counter(&self, request: Request) -> Result<String, Failure> {
        let leaf = certificate(&request).0;
        let (identity, marble) = self.counting_marble(leaf.as_deref())?;
        let body = read_request(request, self.api.body_timeout).await?;
        let MonotonicCounterRequest { name, value } = decode_request(&body)
            .map_err(|error| Failure::BadRequest(format!("request body: {}", report::chain(&error))))?;
        // The client decides how long its body takes; an update that came meanwhile ended its certificate.
        let is_same = Arc::ptr_eq(&identity, &self.api.view.load().snapshot.identity);
        let marble = if is_same { marble } else { self.counting_marble(leaf.as_deref())?.1 };
        let before = Arc::new(OnceLock::new());
        let wish = RaiseCounter { marble, name, value, before: Arc::clone(&before) };
        let written = self.api.writer.submit(Command::RaiseCounter(wish)).await;
        written.map_err(|error| Failure::Write(report::with_hint(&error, error.hint())))?;
        let value = *before.get().ok_or_else(|| Failure::Write("the counter was not read".to_owned()))?;
        Ok(CounterAnswer { value }.to_v2())
    }

    /// The Marble that shows this certificate, and the authority that issued it.
    fn counting_marble(&self, leaf: Option<&[u8]>) -> Result<(Arc<Identity>, MarbleName), Failure> {
        let view = self.api.view.load();
        let deployment = view.snapshot.deployment();
        if !deployment.is_some_and(|deployment| deployment.manifest.config.has_feature(FeatureGate::MonotonicCounter)) {
            return Err(Failure::Forbidden(
                "expected the feature MonotonicCounter in the manifest, got a manifest without",
            ));
        }
        let identity = &view.snapshot.identity;
        let marble = leaf.and_then(|leaf| MarbleName::authenticate(identity, leaf, now().unix()));
        let marble = marble.ok_or(Failure::Unauthorized("expected the client certificate of a Marble"))?;
        Ok((Arc::clone(identity), marble))
    }
}
