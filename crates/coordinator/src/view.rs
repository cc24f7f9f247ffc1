//! What readers see: the newest durable state, replaced as a whole.

use std::sync::Arc;

use arc_swap::ArcSwap;
use marblerun_coordinator_core::snapshot::{Snapshot, Status};
use marblerun_coordinator_core::statement::LogHead;
use marblerun_sealing::{ClaimedHead, DeploymentId, HeadInfo, ManifestFingerprint};
use marblerun_storage::Recovery;
use tokio::sync::watch;

/// The newest durable state and where the log stands.
#[derive(Clone, Debug)]
pub struct View {
    /// The state.
    pub snapshot: Arc<Snapshot>,
    /// The sealed log; `None` while the stored state cannot be opened.
    pub log: Option<LogView>,
    /// What the storage says of the state that waits for recovery; not proven.
    pub recovering: Option<ClaimedState>,
}

/// What the storage says of a state that does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedState {
    /// Where its log ends.
    pub head: ClaimedHead,
    /// The manifest in force, unless nothing fitting is said about it.
    pub manifest: Option<ManifestFingerprint>,
}

impl ClaimedState {
    /// What is said of the state that `recovery` waits for; `None` without a log head.
    pub fn of(recovery: &Recovery) -> Option<Self> {
        Some(Self { head: *recovery.claimed_head()?, manifest: recovery.claimed_manifest() })
    }
}

/// The sealed log at the time of a [`View`].
#[derive(Clone, Copy, Debug)]
pub struct LogView {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The newest record.
    pub head: HeadInfo,
}

impl View {
    /// The state that clients are told.
    pub fn status(&self) -> Status {
        self.snapshot.status(self.log.is_none())
    }
}

impl LogView {
    /// The form that stands in the statement.
    pub fn statement_head(&self) -> LogHead {
        statement_head(&self.head)
    }
}

/// A head in the form that stands in the statement.
pub fn statement_head(head: &HeadInfo) -> LogHead {
    LogHead { epoch: head.epoch, sequence: head.sequence, hash: head.hash.to_string() }
}

/// The place where the writer leaves views and readers find them, without locks.
#[derive(Clone, Debug)]
pub struct SharedView(Arc<Place>);

#[derive(Debug)]
struct Place {
    view: ArcSwap<View>,
    /// Whether the state is open: not in recovery.
    is_open: watch::Sender<bool>,
}

impl SharedView {
    /// A place that holds `view`.
    pub fn new(view: View) -> Self {
        let is_open = watch::Sender::new(view.log.is_some());
        Self(Arc::new(Place { view: ArcSwap::from_pointee(view), is_open }))
    }

    /// The newest view.
    pub fn load(&self) -> Arc<View> {
        self.0.view.load_full()
    }

    /// Replaces the view; only the writer calls this, after the flush.
    pub(crate) fn publish(&self, view: View) {
        let is_open = view.log.is_some();
        self.0.view.store(Arc::new(view));
        self.0.is_open.send_if_modified(|before| std::mem::replace(before, is_open) != is_open);
    }

    /// Returns when the state is open: at once, or when recovery ends.
    pub async fn opened(&self) {
        // The sender lives as long as this view.
        let _ = self.0.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }
}
