//! Who asks: users, known by the leaf certificate of their connection.

use std::sync::Arc;

use axum::extract::Request;
use marblerun_coordinator_core::users::User;

use super::Shared;
use super::answer::Failure;
use crate::listener::PeerCertificate;
use crate::view::View;

// Scripts of MarbleRun users look for the first words.
const NO_CERTIFICATE: &str = "unauthorized user: expected the client certificate of a user, got none";
const OTHER_CERTIFICATE: &str = "unauthorized user: expected the client certificate of a user, got another one";

impl Shared {
    /// The newest state, and the user of it whose certificate this is.
    pub(super) fn authenticate(&self, certificate: &PeerCertificate) -> Result<(Arc<View>, Arc<User>), Failure> {
        let view = self.api.view.load();
        let Some(leaf) = &certificate.0 else {
            return Err(Failure::Unauthorized(NO_CERTIFICATE));
        };
        let user = view.snapshot.deployment().and_then(|deployment| deployment.users.authenticate(leaf)).cloned();
        let user = user.ok_or(Failure::Unauthorized(OTHER_CERTIFICATE))?;
        Ok((view, user))
    }
}

/// The certificate of the connection that carries `request`.
pub(super) fn certificate(request: &Request) -> PeerCertificate {
    request.extensions().get::<PeerCertificate>().cloned().unwrap_or_default()
}
