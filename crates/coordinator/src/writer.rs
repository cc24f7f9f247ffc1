//! The one owner of writing: commands go in, records are sealed and flushed, then everyone is answered.
//!
//! Commands that wait together share one flush. What is answered with success is on disk; what is refused wrote
//! nothing. After a storage error of unknown extent nothing more is written by this process, readers go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use marblerun_coordinator_core::ledger::{Command, Ledger, Refusal, ReplayError};
use marblerun_coordinator_core::record::{Genesis, Record};
use marblerun_sealing::HeadInfo;
use marblerun_secret::SecretBytes;
use marblerun_storage::{CommitError, CommitOptions, Existing, OpenError, Recovery, SealedLog};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::recovery::{Check, RestoreError, restore};
use crate::start::report_repairs;
use crate::tls::Listeners;
use crate::view::{ClaimedState, LogView, SharedView, View};

/// Commands that wait for the writer; further callers wait for a place.
const QUEUE: usize = 1024;
/// Commands that share one flush.
const MAX_BATCH: usize = 256;
/// Most bytes of all records that share one flush, unless it is one record alone; half of what storage takes.
const MAX_BATCH_BYTES: usize = marblerun_sealing::MAX_BATCH_BYTES / 2;

/// Length of the stored log from which on no secrets are uploaded, in bytes: half of what storage takes.
///
/// Records stay for ever, and the next start reads all of them. Whoever may set one secret must not be able to take the
/// rest from updates, counters and activations, without which the deployment stands still.
const MAX_LOG_BYTES_FOR_UPLOADS: u64 = 512 << 20;

/// Why a change was not made.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The newest state does not allow it.
    #[error(transparent)]
    Refused(#[from] Arc<Refusal>),
    /// The storage failed; nothing was acknowledged.
    #[error("the change could not be stored")]
    Storage(#[source] Arc<CommitError>),
    /// The stored state could not be moved aside for the new one.
    #[error("the state that cannot be opened could not be moved aside")]
    Replace(#[source] Arc<OpenError>),
    /// The record cannot be applied, which would be a defect of this program.
    #[error("the change does not fit the state")]
    Apply(#[source] Arc<ReplayError>),
    /// What is left of the log is kept for other changes than uploads.
    #[error("no more secrets are stored: expected a log of at most {max} bytes, got {got}")]
    Full {
        /// The limit.
        max: u64,
        /// The length of the log.
        got: u64,
    },
    /// An earlier error ended writing.
    #[error("nothing is written any more since an earlier storage error; restart the Coordinator")]
    Ended,
}

impl WriteError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Storage(error) => error.hint(),
            Self::Replace(error) => error.hint(),
            Self::Refused(refusal) => match **refusal {
                Refusal::ManifestAlreadySet => Some("`marblerun manifest get` shows the one that is set"),
                _ => None,
            },
            Self::Full { .. } => Some("the log of a deployment is not shortened: set up a new deployment"),
            Self::Apply(_) | Self::Ended => None,
        }
    }
}

/// Where records go.
pub enum Backing {
    /// A log that is open for writing.
    Log(SealedLog),
    /// A state that does not open, and the identity that serves until a manifest replaces it.
    Recovery(Box<Recovery>, Genesis),
}

enum Request {
    Change(Change),
    Recover { key: SecretBytes, check: Check, reply: oneshot::Sender<Result<(), RestoreError>> },
}

struct Change {
    command: Command,
    /// Take effect together with the command; only a manifest brings them.
    options: Option<CommitOptions>,
    reply: oneshot::Sender<Result<(), WriteError>>,
}

/// The way to the writer. It ends when the last handle is dropped.
#[derive(Clone)]
pub struct WriterHandle {
    requests: mpsc::Sender<Request>,
    has_ended: Arc<AtomicBool>,
}

impl WriterHandle {
    /// Makes the change durable and visible, or refuses it.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]; nothing was changed then.
    pub async fn submit(&self, command: Command) -> Result<(), WriteError> {
        self.send(command, None).await
    }

    /// Like [`WriterHandle::submit`] for a command that brings a manifest: its seal mode and recovery recipient take
    /// effect with the same record.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]; nothing was changed then.
    pub async fn submit_with(&self, command: Command, options: CommitOptions) -> Result<(), WriteError> {
        self.send(command, Some(options)).await
    }

    /// Opens a state that waits for recovery with the key of its parties, if `check` agrees; it is restored durably and
    /// visible then.
    ///
    /// # Errors
    ///
    /// See [`RestoreError`]; the state is as before then.
    pub async fn recover(&self, key: SecretBytes, check: Check) -> Result<(), RestoreError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Recover { key, check, reply };
        self.requests.send(request).await.map_err(|_| RestoreError::Ended)?;
        answer.await.map_err(|_| RestoreError::Ended)?
    }

    /// Whether nothing can be written any more until the process is started again.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed) || self.requests.is_closed()
    }

    async fn send(&self, command: Command, options: Option<CommitOptions>) -> Result<(), WriteError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Change(Change { command, options, reply });
        self.requests.send(request).await.map_err(|_| WriteError::Ended)?;
        answer.await.map_err(|_| WriteError::Ended)?
    }
}

/// Starts the writer on a thread of its own: its work is waiting for the disk.
///
/// # Errors
///
/// If the system gives no thread.
pub fn start(
    ledger: Ledger,
    backing: Backing,
    shared: SharedView,
    listeners: Listeners,
) -> std::io::Result<WriterHandle> {
    let (sender, requests) = mpsc::channel(QUEUE);
    let has_ended = Arc::new(AtomicBool::new(false));
    let max_log_bytes_for_uploads = MAX_LOG_BYTES_FOR_UPLOADS;
    let backing = Some(backing);
    let writer =
        Writer { ledger, backing, shared, listeners, has_ended: Arc::clone(&has_ended), max_log_bytes_for_uploads };
    thread::Builder::new().name("writer".to_owned()).spawn(move || writer.run(requests))?;
    Ok(WriterHandle { requests: sender, has_ended })
}

/// The view that belongs to a ledger and its backing.
pub fn view(ledger: &Ledger, backing: &Backing) -> View {
    let (log, recovering) = match backing {
        Backing::Log(log) => (Some(LogView { deployment: log.deployment_id(), head: log.head() }), None),
        Backing::Recovery(recovery, _) => (None, ClaimedState::of(recovery)),
    };
    View { snapshot: ledger.snapshot(), log, recovering }
}

struct Writer {
    ledger: Ledger,
    /// `None` once an error left it unknown what is stored.
    backing: Option<Backing>,
    /// For handles: `backing` is gone.
    has_ended: Arc<AtomicBool>,
    shared: SharedView,
    /// Show the certificates of the state that readers see.
    listeners: Listeners,
    max_log_bytes_for_uploads: u64,
}

impl Writer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut waiting = Vec::with_capacity(MAX_BATCH);
        while let Some(first) = requests.blocking_recv() {
            waiting.push(first);
            while waiting.len() < MAX_BATCH
                && let Ok(next) = requests.try_recv()
            {
                waiting.push(next);
            }
            self.serve(&mut waiting);
            self.has_ended.store(self.backing.is_none(), Ordering::Relaxed);
        }
    }

    /// Serves what waits: manifests and recoveries alone, everything between them in one flush.
    fn serve(&mut self, waiting: &mut Vec<Request>) {
        let mut batch = Vec::new();
        for request in waiting.drain(..) {
            match request {
                Request::Recover { key, check, reply } => {
                    self.commit(std::mem::take(&mut batch));
                    let _ = reply.send(self.recover(&key, check));
                }
                Request::Change(Change { command, options: Some(options), reply }) => {
                    self.commit(std::mem::take(&mut batch));
                    let result = self.commit_alone(command, options);
                    // A caller that went away does not need the answer.
                    let _ = reply.send(result);
                }
                Request::Change(change) => batch.push(change),
            }
        }
        self.commit(batch);
    }

    fn commit(&mut self, batch: Vec<Change>) {
        let mut answers = Vec::with_capacity(batch.len());
        let mut payloads = Vec::with_capacity(batch.len());
        let mut bytes = 0;
        for Change { command, reply, .. } in batch {
            match self.decide(command) {
                Ok(Some(record)) => {
                    let payload = record.encode();
                    bytes += payload.len();
                    if bytes > MAX_BATCH_BYTES {
                        // Before the record is applied: readers must not see it earlier than it is stored.
                        self.store(std::mem::take(&mut payloads), std::mem::take(&mut answers));
                        bytes = payload.len();
                        if self.backing.is_none() {
                            drop(reply.send(Err(WriteError::Ended)));
                            continue;
                        }
                    }
                    // Applied before it is durable, so that the next command is decided on the right state; readers
                    // see it only after the flush.
                    match self.ledger.apply(record) {
                        Ok(()) => {
                            payloads.push(payload);
                            answers.push(reply);
                        }
                        Err(error) => drop(reply.send(Err(WriteError::Apply(Arc::new(error))))),
                    }
                }
                // What makes it unnecessary may be a record of this very batch, which is not durable yet.
                Ok(None) => answers.push(reply),
                Err(error) => drop(reply.send(Err(error))),
            }
        }
        self.store(payloads, answers);
    }

    fn store(&mut self, payloads: Vec<SecretBytes>, answers: Vec<oneshot::Sender<Result<(), WriteError>>>) {
        let result = match payloads.as_slice() {
            [] => Ok(()),
            payloads => self.flush(payloads, |log, payloads| log.commit(payloads)),
        };
        for reply in answers {
            let _ = reply.send(result.clone());
        }
    }

    fn decide(&self, command: Command) -> Result<Option<Record>, WriteError> {
        let got = match &self.backing {
            None => return Err(WriteError::Ended),
            Some(Backing::Log(log)) => log.stored_bytes(),
            Some(Backing::Recovery(..)) => 0,
        };
        let max = self.max_log_bytes_for_uploads;
        if got > max && matches!(command, Command::SetSecrets(_)) {
            return Err(WriteError::Full { max, got });
        }
        self.ledger.decide(command).map_err(|refusal| WriteError::Refused(Arc::new(refusal)))
    }

    fn commit_alone(&mut self, command: Command, options: CommitOptions) -> Result<(), WriteError> {
        let Some(record) = self.decide(command)? else { return Ok(()) };
        let payload = record.encode();
        match self.backing.take() {
            None => Err(WriteError::Ended),
            Some(Backing::Recovery(recovery, genesis)) => self.replace(*recovery, genesis, record, &payload, options),
            Some(log @ Backing::Log(_)) => {
                self.backing = Some(log);
                self.ledger.apply(record).map_err(|error| WriteError::Apply(Arc::new(error)))?;
                self.flush(&[payload], |log, payloads| log.commit_with(options, payloads))
            }
        }
    }

    /// A new manifest in recovery mode: the old files are kept, a new deployment begins.
    fn replace(
        &mut self,
        recovery: Recovery,
        genesis: Genesis,
        record: Record,
        payload: &SecretBytes,
        options: CommitOptions,
    ) -> Result<(), WriteError> {
        self.ledger.apply(record).map_err(|error| WriteError::Apply(Arc::new(error)))?;
        let fault = recovery.fault().to_string();
        let (new, kept) = recovery.replace().map_err(|error| WriteError::Replace(Arc::new(error)))?;
        let first = Record::Genesis(genesis).encode();
        let log = new
            .create(options, &[first.expose(), payload.expose()])
            .map_err(|error| WriteError::Storage(Arc::new(error)))?;
        warn!(kept, fault, deployment = %log.deployment_id(), "a new manifest replaced a state that did not open");
        self.backing = Some(Backing::Log(log));
        self.publish();
        Ok(())
    }

    fn recover(&mut self, key: &SecretBytes, check: Check) -> Result<(), RestoreError> {
        let (recovery, genesis) = match self.backing.take() {
            Some(Backing::Recovery(recovery, genesis)) => (recovery, genesis),
            Some(log @ Backing::Log(_)) => {
                self.backing = Some(log);
                return Err(RestoreError::NotInRecovery);
            }
            None => return Err(RestoreError::Ended),
        };
        match restore(*recovery, key, check) {
            Ok((ledger, Existing { log, records, report })) => {
                report_repairs(&report);
                let (deployment, head) = (log.deployment_id(), log.head().sequence);
                info!(%deployment, records = records.len(), head, "sealed state recovered");
                self.ledger = ledger;
                self.backing = Some(Backing::Log(log));
                self.publish();
                Ok(())
            }
            Err(refused) => {
                let (recovery, error) = *refused;
                self.backing = Some(Backing::Recovery(Box::new(recovery), genesis));
                // A refusal may have proven what is to be told of the state.
                self.publish();
                Err(error)
            }
        }
    }

    fn flush(
        &mut self,
        payloads: &[SecretBytes],
        commit: impl FnOnce(&mut SealedLog, &[&[u8]]) -> Result<HeadInfo, CommitError>,
    ) -> Result<(), WriteError> {
        let payloads: Vec<&[u8]> = payloads.iter().map(SecretBytes::expose).collect();
        let result = match &mut self.backing {
            Some(Backing::Log(log)) => commit(log, &payloads),
            // Before its manifest a Coordinator in recovery has nothing to remember.
            Some(Backing::Recovery(..)) => return Ok(()),
            None => return Err(WriteError::Ended),
        };
        match result {
            Ok(_) => {
                self.publish();
                Ok(())
            }
            Err(error) => {
                // The ledger already holds what is not stored, so it must not decide anything any more.
                error!(error = &error as &dyn std::error::Error, "writing ends: the state could not be stored");
                self.backing = None;
                Err(WriteError::Storage(Arc::new(error)))
            }
        }
    }

    fn publish(&self) {
        if let Some(backing) = &self.backing {
            self.shared.publish(view(&self.ledger, backing));
            if let Err(error) = self.listeners.show(&self.ledger.snapshot().identity) {
                error!(error = &error as &dyn std::error::Error, "the newest certificates cannot be shown");
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        info!("writer ended");
    }
}

#[cfg(test)]
mod tests;
