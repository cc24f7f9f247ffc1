//! The newest state, changed by records alone.
//!
//! [`Ledger::decide`] turns a command into a record or refuses it; [`Ledger::apply`] takes the record in. Between the
//! two the edge seals the record and flushes it. After a restart the same records are applied again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use marblerun_attestation::{CollateralFloor, FloorEntry};
use rpds::VectorSync;
use thiserror::Error;

use crate::counter::{CounterError, Counters, RaiseCounter};
use crate::deployment::{ActivationCounts, Deployment, DeploymentError};
use crate::identity::{Identity, IdentityError};
use crate::record::{
    CollateralAccepted, Genesis, ManifestSet, ManifestUpdated, PackagesUpdated, Record, SecretsSet, UpdateAcknowledged,
    UpdateCancelled, UpdateInitiated,
};
use crate::secret::Secret;
use crate::snapshot::{Phase, Snapshot};
use crate::update::{PendingUpdate, PreparedStep};
use crate::user_secrets::{self, PreparedUpload, UserSecretsError};

/// A wish to change the state, prepared outside of every lock and checked again against the newest state.
#[derive(Debug)]
pub enum Command {
    /// Set the first manifest.
    SetManifest(Box<ManifestSet>),
    /// Use one unit of a Marble type's budget.
    CountActivation {
        /// The Marble type.
        marble_type: String,
        /// The deployment that the activation was prepared for.
        deployment: Arc<Deployment>,
    },
    /// Set the values of user-defined secrets.
    SetSecrets(PreparedUpload),
    /// Take a step of an update: raise security versions, begin, acknowledge, cancel, or replace the manifest.
    Update(Box<PreparedStep>),
    /// Raise a Marble's counter.
    RaiseCounter(RaiseCounter),
    /// Remember collateral that is newer than all before it.
    AcceptCollateral(CollateralAccepted),
}

/// Why a command changes nothing.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A manifest is already set.
    // Scripts of MarbleRun users look for the first words.
    #[error("server is not in expected state: expected a Coordinator without manifest, got one that has its manifest")]
    ManifestAlreadySet,
    /// The type has no activations left.
    #[error("Marbles.{marble_type}.MaxActivations: all {limit} activations are used")]
    BudgetUsed {
        /// The Marble type.
        marble_type: String,
        /// The manifest's limit.
        limit: u64,
    },
    /// The manifest changed while the command was prepared.
    #[error("the manifest changed meanwhile")]
    DeploymentChanged,
    /// Another step of an update was taken while this one was prepared.
    #[error("an update was begun, acknowledged, cancelled or applied meanwhile: try again")]
    UpdateChanged,
    /// Secrets that were uploaded meanwhile do not go together with these.
    #[error("the upload does not fit what was uploaded meanwhile")]
    Secrets(#[source] Box<UserSecretsError>),
    /// The counter is not raised.
    #[error(transparent)]
    Counter(#[from] CounterError),
}

/// Why the records of a log do not make a state.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The log begins with something else than the identity.
    #[error("expected the deployment's identity as first record, got another kind of record")]
    NoGenesis,
    /// A second identity, or a second manifest.
    #[error("record does not fit the state before it: {0}")]
    OutOfPlace(&'static str),
    /// The identity's keys cannot be read.
    #[error("the deployment's identity cannot be read")]
    Identity(#[from] IdentityError),
    /// The manifest cannot be read by this version.
    #[error("the manifest cannot be read")]
    Deployment(#[from] Box<DeploymentError>),
}

/// The newest state. One owner applies records; everyone else reads [`Ledger::snapshot`].
#[derive(Debug)]
pub struct Ledger {
    snapshot: Arc<Snapshot>,
    counters: Counters,
    activations: ActivationCounts,
}

impl Ledger {
    /// The state right after the identity was made.
    ///
    /// # Errors
    ///
    /// If the keys of `genesis` cannot be read.
    pub fn new(genesis: &Genesis) -> Result<Self, IdentityError> {
        let identity = Arc::new(Identity::from_genesis(genesis)?);
        let snapshot = Snapshot {
            identity,
            phase: Phase::AcceptingManifest,
            pending_update: None,
            floor: CollateralFloor::default(),
            update_log: VectorSync::default(),
        };
        let (counters, activations) = Default::default();
        Ok(Self { snapshot: Arc::new(snapshot), counters, activations })
    }

    /// The state that `records` make, in their order.
    ///
    /// # Errors
    ///
    /// If they do not begin with an identity, or one does not fit the state before it.
    pub fn replay(records: impl IntoIterator<Item = Record>) -> Result<Self, ReplayError> {
        let mut records = records.into_iter();
        let Some(Record::Genesis(genesis)) = records.next() else { return Err(ReplayError::NoGenesis) };
        let mut ledger = Self::new(&genesis)?;
        for record in records {
            ledger.apply(record)?;
        }
        Ok(ledger)
    }

    /// The state as of the last applied record.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    /// What `command` would write; `None` if it changes nothing.
    ///
    /// # Errors
    ///
    /// If the newest state does not allow it.
    pub fn decide(&self, command: Command) -> Result<Option<Record>, Refusal> {
        match command {
            Command::SetManifest(set) => match self.snapshot.phase {
                Phase::AcceptingManifest => Ok(Some(Record::ManifestSet(*set))),
                Phase::AcceptingMarbles(_) => Err(Refusal::ManifestAlreadySet),
            },
            Command::CountActivation { marble_type, deployment } => {
                let current = self.snapshot.deployment().filter(|current| current.is_generation_of(&deployment));
                let current = current.ok_or(Refusal::DeploymentChanged)?;
                let marble = current.marbles.get(&marble_type).ok_or(Refusal::DeploymentChanged)?;
                marble.check_budget(&marble_type)?;
                Ok(Some(Record::ActivationCounted { marble_type }))
            }
            Command::SetSecrets(PreparedUpload { record, deployment }) => {
                let current = self.snapshot.deployment().filter(|current| current.has_manifest_of(&deployment));
                let current = current.ok_or(Refusal::DeploymentChanged)?;
                if !Arc::ptr_eq(current, &deployment) {
                    user_secrets::check_fits(current, &record.secrets)
                        .map_err(|error| Refusal::Secrets(error.into()))?;
                }
                Ok(Some(Record::SecretsSet(record)))
            }
            Command::Update(step) => step.decide(&self.snapshot).map(Some).ok_or(Refusal::UpdateChanged),
            Command::RaiseCounter(wish) => Ok(self.counters.decide(wish)?.map(Record::CounterRaised)),
            Command::AcceptCollateral(accepted) => {
                let news = raised(&self.snapshot.floor, &accepted) != self.snapshot.floor;
                Ok(news.then_some(Record::CollateralAccepted(accepted)))
            }
        }
    }

    /// Takes `record` in: it was decided on this state, or read from the log.
    ///
    /// # Errors
    ///
    /// If it does not fit the state; the state is then as before.
    pub fn apply(&mut self, record: Record) -> Result<(), ReplayError> {
        match record {
            Record::Genesis(_) => Err(ReplayError::OutOfPlace("a second identity")),
            Record::ManifestSet(set) => self.set_manifest(set),
            Record::ActivationCounted { marble_type } => {
                let counter = self.snapshot.deployment().and_then(|deployment| deployment.marbles.get(&marble_type));
                let counter = counter.ok_or(ReplayError::OutOfPlace("an activation of an unknown Marble type"))?;
                counter.activations.fetch_add(1, Ordering::AcqRel);
                Ok(())
            }
            Record::SecretsSet(set) => self.set_secrets(set),
            Record::CounterRaised(raised) if self.counters.apply(raised.clone()) => Ok(()),
            Record::CounterRaised(_) => Err(ReplayError::OutOfPlace("a counter that does not rise")),
            Record::CollateralAccepted(accepted) => {
                let floor = raised(&self.snapshot.floor, &accepted);
                self.snapshot = Arc::new(Snapshot { floor, ..Snapshot::clone(&self.snapshot) });
                Ok(())
            }
            Record::PackagesUpdated(update) => self.update_packages(update),
            Record::UpdateInitiated(update) => self.initiate_update(update),
            Record::UpdateAcknowledged(update) => self.acknowledge_update(update),
            Record::UpdateCancelled(update) => self.cancel_update(update),
            Record::ManifestUpdated(update) => self.update_manifest(update),
        }
    }

    fn set_manifest(&mut self, set: ManifestSet) -> Result<(), ReplayError> {
        if self.snapshot.deployment().is_some() {
            return Err(ReplayError::OutOfPlace("a second first manifest"));
        }
        // The log starts with the manifest.
        let update_log = VectorSync::from_iter([Arc::from(set.log_line.as_str())]);
        let deployment = Deployment::new(set).map_err(Box::new)?;
        self.activations.adopt(&deployment);
        self.snapshot = Arc::new(Snapshot {
            phase: Phase::AcceptingMarbles(Arc::new(deployment)),
            update_log,
            ..Snapshot::clone(&self.snapshot)
        });
        Ok(())
    }

    fn set_secrets(&mut self, set: SecretsSet) -> Result<(), ReplayError> {
        let deployment = self.deployment()?;
        let fits = |(name, new): &(String, Arc<Secret>)| {
            let old = deployment.secrets.get(name);
            old.is_some_and(|old| old.user_defined && new.user_defined && old.secret_type == new.secret_type)
        };
        if !set.secrets.iter().all(fits) {
            return Err(ReplayError::OutOfPlace("a value for a secret that is not user-defined"));
        }
        let deployment = deployment.with_secrets(set.secrets);
        self.snapshot = Arc::new(Snapshot {
            phase: Phase::AcceptingMarbles(Arc::new(deployment)),
            update_log: self.log_with(&set.log_lines),
            ..Snapshot::clone(&self.snapshot)
        });
        Ok(())
    }

    fn update_packages(&mut self, update: PackagesUpdated) -> Result<(), ReplayError> {
        let deployment = self.deployment()?;
        if self.snapshot.pending_update.is_some() {
            return Err(ReplayError::OutOfPlace("a package update while another update is pending"));
        }
        let rises =
            |(name, new): &(String, u64)| deployment.security_version(name).is_some_and(|old| old <= Some(*new));
        if !update.versions.iter().all(rises) {
            return Err(ReplayError::OutOfPlace("a security version that falls, or of no package"));
        }
        if !update.secrets.iter().all(|(name, _)| deployment.secrets.get(name).is_some_and(|old| old.is_reissued())) {
            return Err(ReplayError::OutOfPlace("a new certificate for a secret that has none of all Marbles"));
        }
        let identity = self.snapshot.identity.updated(&update.authority, None)?;
        let deployment = deployment.with_packages(update.versions, update.secrets);
        self.snapshot = Arc::new(Snapshot {
            identity: Arc::new(identity),
            phase: Phase::AcceptingMarbles(Arc::new(deployment)),
            update_log: self.log_with(&update.log_lines),
            ..Snapshot::clone(&self.snapshot)
        });
        Ok(())
    }

    fn initiate_update(&mut self, update: UpdateInitiated) -> Result<(), ReplayError> {
        let UpdateInitiated { raw, user, log_line } = update;
        if self.snapshot.pending_update.is_some() {
            return Err(ReplayError::OutOfPlace("a second pending update"));
        }
        let pending = PendingUpdate::new(self.deployment()?, raw, &user);
        let pending = pending.ok_or(ReplayError::OutOfPlace("an update of a user who may not update"))?;
        self.set_pending(Some(pending), &[log_line]);
        Ok(())
    }

    fn acknowledge_update(&mut self, update: UpdateAcknowledged) -> Result<(), ReplayError> {
        let pending =
            self.snapshot.pending_update.as_ref().ok_or(ReplayError::OutOfPlace("an acknowledgement of nothing"))?;
        let pending = pending.acknowledged_by(&update.user);
        let pending = pending.ok_or(ReplayError::OutOfPlace("an acknowledgement of a user who is not asked"))?;
        self.set_pending(Some(pending), &[update.log_line]);
        Ok(())
    }

    fn cancel_update(&mut self, update: UpdateCancelled) -> Result<(), ReplayError> {
        if self.snapshot.pending_update.is_none() {
            return Err(ReplayError::OutOfPlace("the end of an update that is not pending"));
        }
        self.set_pending(None, &update.log_lines);
        Ok(())
    }

    fn update_manifest(&mut self, update: ManifestUpdated) -> Result<(), ReplayError> {
        let deployment = self.deployment()?;
        if self.snapshot.pending_update.as_ref().is_some_and(|pending| **pending.raw() != update.raw) {
            return Err(ReplayError::OutOfPlace("another manifest than the pending one"));
        }
        let identity = self.snapshot.identity.updated(&update.authority, update.root_secret.as_ref())?;
        let update_log = self.log_with(&update.log_lines);
        let deployment = deployment.updated(update).map_err(Box::new)?.counting_in(&self.activations);
        self.activations.adopt(&deployment);
        self.snapshot = Arc::new(Snapshot {
            identity: Arc::new(identity),
            phase: Phase::AcceptingMarbles(Arc::new(deployment)),
            pending_update: None,
            update_log,
            ..Snapshot::clone(&self.snapshot)
        });
        Ok(())
    }

    fn set_pending(&mut self, pending: Option<PendingUpdate>, log_lines: &[String]) {
        self.snapshot = Arc::new(Snapshot {
            pending_update: pending.map(Arc::new),
            update_log: self.log_with(log_lines),
            ..Snapshot::clone(&self.snapshot)
        });
    }

    fn deployment(&self) -> Result<&Arc<Deployment>, ReplayError> {
        self.snapshot.deployment().ok_or(ReplayError::OutOfPlace("a change of a manifest that is not set"))
    }

    /// The log with more lines; what is there already is shared and not copied.
    fn log_with(&self, lines: &[String]) -> VectorSync<Arc<str>> {
        let mut log = self.snapshot.update_log.clone();
        lines.iter().for_each(|line| log.push_back_mut(Arc::from(line.as_str())));
        log
    }
}

/// The floor after `accepted`; nothing is ever lowered.
fn raised(floor: &CollateralFloor, accepted: &CollateralAccepted) -> CollateralFloor {
    let entry = FloorEntry { tee: accepted.tee, fmspc: accepted.fmspc, numbers: accepted.numbers };
    CollateralFloor::from_parts(floor.entries().chain([entry]), floor.newest_issue().max(Some(accepted.newest_issue)))
}
