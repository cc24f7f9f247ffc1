//! The state as readers see it: immutable, shared, without locks.

use std::sync::Arc;

use marblerun_attestation::CollateralFloor;
use rpds::VectorSync;

use crate::deployment::Deployment;
use crate::identity::Identity;
use crate::update::PendingUpdate;

/// The state at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The deployment's keys and certificates.
    pub identity: Arc<Identity>,
    /// What the Coordinator does now.
    pub phase: Phase,
    /// The full update that waits for acknowledgements.
    pub pending_update: Option<Arc<PendingUpdate>>,
    /// The least collateral that is accepted.
    pub floor: CollateralFloor,
    /// Lines of the update log, oldest first.
    pub update_log: VectorSync<Arc<str>>,
}

/// What the Coordinator does now.
#[derive(Clone, Debug)]
pub enum Phase {
    /// It waits for its manifest.
    AcceptingManifest,
    /// It activates Marbles.
    AcceptingMarbles(Arc<Deployment>),
}

impl Snapshot {
    /// The deployment, once a manifest is set.
    pub fn deployment(&self) -> Option<&Arc<Deployment>> {
        match &self.phase {
            Phase::AcceptingManifest => None,
            Phase::AcceptingMarbles(deployment) => Some(deployment),
        }
    }

    /// What the status endpoint says; `recovery` if the sealed state could not be opened.
    pub fn status(&self, recovery: bool) -> Status {
        match (&self.phase, recovery) {
            (Phase::AcceptingMarbles(_), _) => Status::AcceptingMarbles,
            (Phase::AcceptingManifest, true) => Status::Recovery,
            (Phase::AcceptingManifest, false) => Status::AcceptingManifest,
        }
    }
}

/// The states that clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The sealed state exists and cannot be opened.
    Recovery,
    /// No manifest yet.
    AcceptingManifest,
    /// In operation.
    AcceptingMarbles,
}
