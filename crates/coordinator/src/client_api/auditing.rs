//! What the client API tells the audit stream.

use std::net::SocketAddr;

use axum::extract::Request;
use http::Method;
use marblerun_api::rest::v2;
use marblerun_coordinator_core::counter::MarbleName;

use super::Shared;
use super::answer::{Failure, Version};
use super::authentication::certificate;
use crate::audit::{Audit, Peer, Refusal};
use crate::clock::now;
use crate::listener::{PeerAddress, PeerCertificate};
use crate::view::SharedView;

/// Where a request comes from.
pub(super) struct Asker {
    certificate: PeerCertificate,
    address: Option<SocketAddr>,
}

impl Asker {
    pub(super) fn of(request: &Request) -> Self {
        let address = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
        Self { certificate: certificate(request), address }
    }

    fn address(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }
}

impl Shared {
    /// Takes note of a refused request.
    pub(super) fn audit_refusal(
        &self,
        asker: &Asker,
        method: &Method,
        path: &str,
        version: Version,
        failure: &Failure,
    ) {
        // Anybody invents paths and methods; those of the table are a fixed set.
        let action = match failure {
            Failure::NotAllowed => "request".to_owned(),
            _ => format!("{method} {path}"),
        };
        let address = asker.address();
        let user = self.authenticate(&asker.certificate).ok().map(|(_, user)| user);
        let marble = if user.is_none() && path == v2::MONOTONIC_COUNTER { self.marble(asker, failure) } else { None };
        let peer = match (&user, &marble) {
            (Some(user), _) => Peer::User(user.name()),
            (None, Some(marble)) => Peer::Marble(&marble.marble_type),
            (None, None) => Peer::Client,
        };
        self.api.audit.refused(&Refusal {
            peer,
            action: &action,
            reason: failure.reason(),
            code: failure.status(version).as_str(),
            text: &failure.text(),
            details: &[("address", &address)],
        });
    }

    /// The Marble whose certificate was accepted before the request failed.
    fn marble(&self, asker: &Asker, failure: &Failure) -> Option<MarbleName> {
        if matches!(failure, Failure::Unauthorized(_) | Failure::Forbidden(_) | Failure::NotAllowed) {
            return None;
        }
        let view = self.api.view.load();
        MarbleName::authenticate(&view.snapshot.identity, asker.certificate.0.as_ref()?, now().unix())
    }
}

/// Takes note of a manifest that was set by whoever came first.
pub(super) fn audit_manifest(audit: &Audit, view: &SharedView, asker: &Asker, replaces_sealed_state: bool) {
    let view = view.load();
    let fingerprint = view.snapshot.deployment().map(|deployment| deployment.fingerprint.as_str());
    let action = if replaces_sealed_state { "manifest set in place of a sealed state" } else { "manifest set" };
    let details = [("fingerprint", fingerprint.unwrap_or_default()), ("address", &asker.address())];
    audit.changed(Peer::Client, action, &details);
}

/// Takes note of a recovery secret that was accepted, or of the recovery that it completed.
pub(super) fn audit_recovery(audit: &Audit, asker: &Asker, remaining: usize) {
    let action = if remaining == 0 { "state recovered" } else { "recovery secret accepted" };
    let details = [("remaining", &*remaining.to_string()), ("address", &asker.address())];
    audit.changed(Peer::Client, action, &details);
}
