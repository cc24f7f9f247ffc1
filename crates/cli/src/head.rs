//! The newest state of a deployment that this user has seen: what a Coordinator that goes back behind it is told by.
//!
//! It stands beside the certificate cache, is written with it, and moves forward whenever a verified Coordinator states a
//! newer one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use marblerun_client::{LogHead, Statement};
use marblerun_json::{ObjectEncoder, decode_object, decode_whole};
use serde_json::{Value, json};

use crate::args::Global;
use crate::cache;
use crate::failure::{Cause, Failure};
use crate::files;
use crate::output::Output;

const WHAT: &str = "remembered state";
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A state that a verified Coordinator stated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Identifier of the deployment, hexadecimal.
    pub(crate) deployment: String,
    /// Epoch of the data key.
    pub(crate) epoch: u64,
    /// Position in the log.
    pub(crate) sequence: u64,
    /// Hash of the log up to there, hexadecimal.
    pub(crate) hash: String,
    /// SHA-256 of the manifest, hexadecimal.
    pub(crate) manifest: Option<String>,
}

decode_object!(Head {
    "deployment" => deployment,
    "epoch" => epoch,
    "sequence" => sequence,
    "hash" => hash,
    "manifestFingerprint" => manifest,
});

/// How a stated state differs from the remembered one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// It is that of another deployment.
    Deployment { remembered: String, stated: String },
    /// It is older.
    Older { remembered: (u64, u64), stated: (u64, u64) },
    /// It is another one at the same place.
    Forked { place: (u64, u64) },
    /// It is the same one, but under another manifest, or that is not told.
    Manifest { place: (u64, u64), remembered: String, stated: Option<String> },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deployment { remembered, stated } => {
                write!(f, "expected the state of deployment {remembered}, got that of {stated}")
            }
            Self::Older { remembered: (epoch, sequence), stated } => write!(
                f,
                "expected a state not older than epoch {epoch}, sequence {sequence}, got epoch {}, sequence {}",
                stated.0, stated.1
            ),
            Self::Forked { place: (epoch, sequence) } => {
                write!(f, "expected the remembered state at epoch {epoch}, sequence {sequence}, got another one there")
            }
            Self::Manifest { place: (epoch, sequence), remembered, stated } => {
                let stated = stated.as_deref().unwrap_or("none told");
                write!(f, "expected manifest {remembered} at epoch {epoch}, sequence {sequence}, got {stated}")
            }
        }
    }
}

impl Head {
    /// What a statement says of the sealed state, in recovery mode of the one that waits; `None` if nothing is sealed or
    /// it is not told.
    pub(crate) fn of(statement: &Statement) -> Option<Self> {
        let (deployment, log_head, manifest) = match (&statement.log_head, &statement.recovering) {
            (Some(head), _) => (&statement.deployment, head, &statement.manifest_fingerprint),
            (None, Some(claimed)) => (&claimed.deployment, &claimed.log_head, &claimed.manifest_fingerprint),
            (None, None) => return None,
        };
        let LogHead { epoch, sequence, hash } = log_head.clone();
        Some(Self { deployment: deployment.clone(), epoch, sequence, hash, manifest: manifest.clone() })
    }

    /// Whether [`Head::of`] a statement is a state that the Coordinator has opened. What it tells in recovery mode is a
    /// claim of its storage: to be compared, but not to be remembered.
    pub(crate) fn is_proven(statement: &Statement) -> bool {
        statement.log_head.is_some()
    }

    /// Where the head beside a certificate cache is.
    pub(crate) fn path(global: &Global) -> Result<PathBuf, Cause> {
        let mut name = cache::path(global)?.into_os_string();
        name.push(".head.json");
        Ok(PathBuf::from(name))
    }

    /// Reads the remembered head; `None` if there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Cause> {
        match files::read(WHAT, path, MAX_HEAD_BYTES) {
            Ok(text) => decode_whole::<Self>(&text, MAX_HEAD_BYTES)
                .map(|(head, _)| Some(head))
                .map_err(|source| Cause::Head { path: path.to_owned(), source }),
            Err(Cause::Read { source, .. })
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Remembers this head.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Cause> {
        let mut text = String::new();
        ObjectEncoder::new(&mut text)
            .member("deployment", self.deployment.as_str())
            .member("epoch", &self.epoch)
            .member("sequence", &self.sequence)
            .member("hash", self.hash.as_str())
            .member("manifestFingerprint", &self.manifest)
            .finish();
        text.push('\n');
        files::replace(WHAT, path, text.as_bytes())
    }

    /// Whether `stated` goes on from this head.
    pub(crate) fn compare(&self, stated: &Self) -> Result<(), Difference> {
        if self.deployment != stated.deployment {
            return Err(Difference::Deployment {
                remembered: self.deployment.clone(),
                stated: stated.deployment.clone(),
            });
        }
        let (remembered_place, place) = ((self.epoch, self.sequence), (stated.epoch, stated.sequence));
        if place < remembered_place {
            return Err(Difference::Older { remembered: remembered_place, stated: place });
        }
        if place == remembered_place && self.hash != stated.hash {
            return Err(Difference::Forked { place });
        }
        if place == remembered_place && self.has_other_manifest(stated) {
            return Err(self.other_manifest(stated));
        }
        Ok(())
    }

    /// Like [`Head::compare`] for a state that waits for recovery: the manifest must not be left out where it is known.
    pub(crate) fn compare_claim(&self, stated: &Self) -> Result<(), Difference> {
        self.compare(stated)?;
        let is_same_place = (self.epoch, self.sequence) == (stated.epoch, stated.sequence);
        if is_same_place && self.manifest != stated.manifest && self.manifest.is_some() {
            return Err(self.other_manifest(stated));
        }
        Ok(())
    }

    fn other_manifest(&self, stated: &Self) -> Difference {
        Difference::Manifest {
            place: (stated.epoch, stated.sequence),
            remembered: self.manifest.clone().unwrap_or_default(),
            stated: stated.manifest.clone(),
        }
    }

    /// Whether `stated`, which goes on from this head, is known to be under another manifest.
    pub(crate) fn has_other_manifest(&self, stated: &Self) -> bool {
        self.manifest.is_some() && stated.manifest.is_some() && self.manifest != stated.manifest
    }

    /// `{"deployment": text, "epoch": number, "sequence": number, "hash": text, "manifestFingerprint": text or null}`
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "deployment": self.deployment,
            "epoch": self.epoch,
            "sequence": self.sequence,
            "hash": self.hash,
            "manifestFingerprint": self.manifest,
        })
    }
}

/// Remembers the state of a Coordinator whose manifest has this fingerprint; forgets the one of another Coordinator.
pub(crate) fn remember(global: &Global, statement: Option<&Statement>, manifest: &str) -> Result<(), Cause> {
    let path = Head::path(global)?;
    match statement.and_then(Head::of) {
        Some(head) => Head { manifest: Some(manifest.to_owned()), ..head }.write(&path),
        None => match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Cause::Write { what: WHAT, path, source }),
            _ => Ok(()),
        },
    }
}

/// Moves what is remembered of this deployment forward; fails if its state lies behind that, unless that is accepted.
pub(crate) fn advance(global: &Global, statement: &Statement, output: &mut Output) -> Result<(), Failure> {
    // Without a place nothing is remembered.
    let Ok(path) = Head::path(global) else { return Ok(()) };
    let (Some(remembered), Some(stated)) = (Head::read(&path)?, Head::of(statement)) else { return Ok(()) };
    match remembered.compare(&stated) {
        Ok(()) if remembered == stated || !Head::is_proven(statement) => {}
        Ok(()) => {
            if let Err(error) = stated.write(&path) {
                output.warn(&format!("the newest state is not remembered: {}", Failure::from(error)))?;
            }
        }
        // Another deployment is another root, which is what commands go by.
        Err(Difference::Deployment { .. }) => {}
        Err(difference) if global.accept_other_state => {
            output.warn(&format!("{difference} (--accept-other-state)"))?;
            stated.write(&path)?;
        }
        Err(difference) => return Err(Cause::OtherState { path, difference }.into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(epoch: u64, sequence: u64, hash: &str) -> Head {
        Head { deployment: "d".to_owned(), epoch, sequence, hash: hash.to_owned(), manifest: None }
    }

    #[test]
    fn a_state_goes_on_only_forward_and_in_its_deployment() {
        let remembered = head(2, 7, "aa");
        for good in [head(2, 7, "aa"), head(2, 8, "bb"), head(3, 1, "cc")] {
            assert_eq!(remembered.compare(&good), Ok(()));
        }
        for (older, place) in [(head(2, 6, "aa"), (2, 6)), (head(1, 9, "aa"), (1, 9))] {
            let expected = Difference::Older { remembered: (2, 7), stated: place };
            assert_eq!(remembered.compare(&older), Err(expected));
        }
        assert_eq!(remembered.compare(&head(2, 7, "bb")), Err(Difference::Forked { place: (2, 7) }));
        let other = Head { deployment: "e".to_owned(), ..head(9, 9, "aa") };
        assert!(matches!(remembered.compare(&other), Err(Difference::Deployment { .. })));
    }

    #[test]
    fn a_state_at_the_same_place_has_the_same_manifest_and_a_later_one_may_have_another() {
        let under = |manifest: Option<&str>, head: Head| Head { manifest: manifest.map(str::to_owned), ..head };
        let remembered = under(Some("ff"), head(2, 7, "aa"));
        let unknown = head(2, 7, "aa");
        assert_eq!(remembered.compare(&remembered), Ok(()));
        assert_eq!(unknown.compare(&remembered), Ok(()));
        assert!(!unknown.has_other_manifest(&remembered) && !remembered.has_other_manifest(&remembered));
        for (stated, text) in [(Some("ee"), "got ee"), (None, "got none told")] {
            let stated = under(stated, head(2, 7, "aa"));
            let difference = remembered.compare_claim(&stated).unwrap_err();
            assert_eq!(difference.to_string(), format!("expected manifest ff at epoch 2, sequence 7, {text}"));
            let expected = if stated.manifest.is_some() { Err(difference) } else { Ok(()) };
            assert_eq!(remembered.compare(&stated), expected);
        }
        for good in [&remembered, &head(2, 8, "bb")] {
            assert_eq!(remembered.compare_claim(good), Ok(()));
        }
        assert_eq!(unknown.compare_claim(&remembered), Ok(()));
        let later = under(Some("ee"), head(2, 8, "bb"));
        assert_eq!(remembered.compare(&later), Ok(()));
        assert!(remembered.has_other_manifest(&later));
        assert!(!remembered.has_other_manifest(&head(2, 8, "bb")));
    }

    #[test]
    fn a_head_reads_back_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("head");
        assert_eq!(Head::read(&path).unwrap(), None);
        let head = Head { manifest: Some("ff".to_owned()), ..head(1, u64::MAX, "aa") };
        head.write(&path).unwrap();
        assert_eq!(Head::read(&path).unwrap(), Some(head));
        // What was remembered is not forgotten because it cannot be read.
        std::fs::write(&path, "garbage").unwrap();
        assert!(matches!(Head::read(&path), Err(Cause::Head { .. })));
    }
}
