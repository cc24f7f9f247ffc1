//! A Coordinator for development on this machine: in `marble-sim`, under a development root of the user's.
//!
//! What is kept between two starts is in one directory of the user's data: the root, which is the simulated CPU vendor, the
//! image of the Coordinator, and its sealed state. Nothing of it is a protection.

mod connection;
mod coordinator;
mod log;
mod signals;
mod site;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use marblerun_enclave_image::libraries::ImageError;

pub(crate) use connection::{connect, reachable};
pub(crate) use coordinator::{Addresses, Running, Start};
pub(crate) use log::Show;
pub(crate) use signals::Signals;
pub(crate) use site::{Owner, Renewal, Site};

/// The word that stands for the Coordinator of `marblerun dev` where an address is expected; also the profile's name.
pub(crate) const NAME: &str = "dev";

/// A Coordinator for development cannot be had.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevelopmentError {
    #[error("the user's data directory cannot be told: neither XDG_DATA_HOME nor HOME is an absolute path")]
    NoDataDirectory,
    #[error("cannot {step} {}", path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`marblerun dev` is running already, with its state in {}", .0.display())]
    Busy(PathBuf),
    #[error("`marblerun dev` is not running")]
    NotRunning,
    #[error("development root {}: {reason}", path.display())]
    Root { path: PathBuf, reason: String },
    #[error("image of the Coordinator")]
    Image(#[from] ImageError),
    #[error("the Coordinator in marble-sim ended before it listened ({status}): {reason}")]
    Ended { status: String, reason: String },
    #[error("the Coordinator in marble-sim ended ({status}): {reason}")]
    Stopped { status: String, reason: String },
    #[error("the Coordinator in marble-sim does not listen after {} seconds", .0.as_secs())]
    Silent(Duration),
}

impl DevelopmentError {
    /// What the user can do.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoDataDirectory => Some("set HOME"),
            Self::Busy(_) => Some("use the one that runs, or end it first; another XDG_DATA_HOME has its own"),
            Self::NotRunning => Some("start it in another terminal, or leave --coordinator out"),
            Self::Root { .. } => Some("remove the directory; the next start makes a new root"),
            Self::Ended { reason, .. } if reason.contains("refusing to simulate a TEE") => {
                Some("--force simulates nevertheless")
            }
            Self::Ended { .. } => Some("if the kept state is the reason, `marblerun dev --fresh` throws it away"),
            Self::Io { .. } | Self::Image(_) | Self::Stopped { .. } | Self::Silent(_) => None,
        }
    }
}

/// For `map_err`.
fn io_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DevelopmentError {
    move |source| DevelopmentError::Io { step, path: path.to_owned(), source }
}
