//! What a Marble tells its operator while it activates. The texts are those of MarbleRun v1.9.1's premain, so that
//! people and tools that know them find them again.

use std::fmt;
use std::time::Instant;

use marblerun_tee::EvidenceError;
use uuid::Uuid;

use crate::connection::TryError;

/// A step, in words through `Display`. Nothing here is secret.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Variables are read next.
    FetchingEnvironment,
    /// The key pair is made next.
    LoadingCredentials,
    /// The UUID file is read next.
    LoadingUuid,
    /// The UUID file was there.
    FoundUuid(&'a Uuid),
    /// A new UUID was made and stored.
    NewUuid,
    /// The certificate request is made next.
    GeneratingCsr,
    /// The evidence is issued next.
    GeneratingQuote,
    /// There is no evidence, and simulation is allowed.
    Simulation {
        /// Why there is none.
        error: &'a EvidenceError,
    },
    /// The Coordinator is called next.
    Activating {
        /// The Marble's type.
        marble_type: &'a str,
    },
    /// The Coordinator is unreachable or busy; reported once for each class of failure.
    Retrying {
        /// The failure.
        error: &'a TryError,
    },
    /// The Coordinator has answered. Of interest only to who measures.
    Replied {
        /// When the answer was complete.
        received: Instant,
    },
    /// The Coordinator is the pinned one.
    CoordinatorVerified,
    /// Nothing says which Coordinator to believe.
    Unpinned,
    /// Transparent TLS is not used.
    NoTtls,
    /// Files are written next.
    CreatingFiles,
    /// The environment is merged next.
    SettingEnvironment,
    /// The root of the application is mounted next.
    MountingRoot,
    /// Everything is ready for the application.
    Done,
}

/// How much attention an event deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Not worth a line.
    Silent,
    /// Something that was asked for happens.
    Info,
    /// Something is weaker than it should be.
    Warn,
}

impl Event<'_> {
    /// How much attention the event deserves.
    pub fn level(&self) -> Level {
        match self {
            Self::Simulation { .. } | Self::Unpinned => Level::Warn,
            Self::Replied { .. } => Level::Silent,
            _ => Level::Info,
        }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FetchingEnvironment => f.write_str("fetching env variables"),
            Self::LoadingCredentials => f.write_str("loading TLS Credentials"),
            Self::LoadingUuid => f.write_str("loading UUID"),
            Self::FoundUuid(uuid) => write!(f, "found UUID: {}", uuid.hyphenated()),
            Self::NewUuid => f.write_str("UUID not found. Generating and storing a new UUID"),
            Self::GeneratingCsr => f.write_str("generating CSR"),
            Self::GeneratingQuote => f.write_str("generating quote"),
            Self::Simulation { error } => {
                write!(f, "failed to get quote: {}. Proceeding in simulation mode", Chain(error))
            }
            Self::Activating { marble_type } => write!(f, "activating marble of type {}", marble_type.escape_debug()),
            Self::Retrying { error } => write!(f, "waiting for the Coordinator: {}", Chain(error)),
            Self::Replied { .. } => f.write_str("the Coordinator has answered"),
            Self::CoordinatorVerified => f.write_str("the Coordinator is the pinned one"),
            Self::Unpinned => f.write_str(
                "no pinned Coordinator: /etc/marblerun/coordinator.json is not in the image, so whoever answers at \
                 the configured address decides what runs here",
            ),
            Self::NoTtls => f.write_str("Not using TTLS"),
            Self::CreatingFiles => f.write_str("creating files from manifest"),
            Self::SettingEnvironment => f.write_str("setting env vars from manifest"),
            Self::MountingRoot => f.write_str("mounting the image of the application"),
            Self::Done => f.write_str("done with PreMain"),
        }
    }
}

/// An error followed by its causes, separated by colons.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a, E: ?Sized>(pub &'a E);

impl<E: std::error::Error + ?Sized> fmt::Display for Chain<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn simulation_names_every_cause_and_warns() {
        let error = EvidenceError::Open(io::Error::from(io::ErrorKind::NotFound));
        let event = Event::Simulation { error: &error };
        let text = "failed to get quote: /dev/sgx cannot be opened: entity not found. Proceeding in simulation mode";
        assert_eq!(event.to_string(), text);
        assert_eq!(event.level(), Level::Warn);
        assert_eq!(Event::Done.level(), Level::Info);
    }
}
