//! Where sealed records live, and the handle through which the Coordinator reads and writes its state.
//!
//! [`open`] proves what is stored and gives a [`SealedLog`]; [`SealedLog::commit`] returns when the records are
//! durable. Below it is one trait, [`RecordStore`]; its first implementation is a directory ([`DirectoryStore`]). The
//! store is untrusted: it is relied on for availability only, everything it returns is proven by `marblerun-sealing`.

mod directory;
mod error;
mod files;
mod log;
mod store;

pub use directory::{DATA_FILE, DirectoryStore, KEY_FILE, LOG_OFFSET, RECOVERY_FILE, open_directory};
pub use error::{CommitError, OpenError, RecoverError, StoreError};
pub use files::{Files, HostFiles};
pub use log::{
    CommitOptions, Existing, NewDeployment, NotRecovered, OpenReport, Opened, Proven, RecipientChange, Recovery,
    SealedLog, open,
};
pub use store::{RecordStore, Settled, Stored};
