//! States of earlier versions, kept in `testdata/state`, open in this one.

use std::fs;
use std::path::{Path, PathBuf};

use marblerun_sealing::{Fault, RecoveryScheme, SealMode, SealPolicy, WrappedForRecovery};
use marblerun_secret::SecretBytes;
use marblerun_storage::{Existing, Opened, RecoverError, Recovery, open_directory};

use crate::disk::{keys, recovery_key, trust};

/// Every version of the format that this one reads.
const VERSIONS: [&str; 1] = ["v1"];

fn states() -> PathBuf {
    let testdata = std::env::var_os("MARBLERUN_TESTDATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")), PathBuf::from);
    testdata.join("state")
}

/// A copy, because opening may write.
fn copy(version: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(states().join(version)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
    }
    directory
}

fn check_content(existing: &Existing) {
    let records: Vec<&[u8]> = existing.records.iter().map(SecretBytes::expose).collect();
    assert_eq!(
        records,
        [b"identity".as_slice(), b"one", b"two", b"manifest", b"manifest 2", &[7; 1000], b"manifest 3"]
    );
    assert_eq!(existing.log.mode(), SealMode::Sealed(SealPolicy::UniqueKey));
    assert_eq!((existing.log.head().epoch, existing.log.head().sequence), (1, 12));
}

fn without_key(directory: &Path) -> Recovery {
    fs::remove_file(directory.join("sealed_key")).unwrap();
    match open_directory(directory, keys(), trust()).unwrap() {
        Opened::Recovery(recovery) => recovery,
        other => panic!("expected recovery, got {other:?}"),
    }
}

#[test]
fn every_kept_state_is_of_a_known_version() {
    let directories = fs::read_dir(states()).unwrap().map(|entry| entry.unwrap());
    let directories = directories.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<String> = directories.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, VERSIONS);
}

// rules: R27
#[test]
fn states_of_every_version_open_and_go_on() {
    for version in VERSIONS {
        let directory = copy(version);
        let open = || match open_directory(directory.path(), keys(), trust()).unwrap() {
            Opened::Existing(existing) => existing,
            other => panic!("{version}: {other:?}"),
        };
        let mut existing = open();
        check_content(&existing);
        let report = existing.report;
        assert!(!report.rewrapped && !report.recovery_rewritten && !report.damaged_head, "{version}: {report:?}");
        assert_eq!((report.unconfirmed, report.torn_tail), (0, None), "{version}");
        existing.log.commit(&[b"new"]).unwrap();
        drop(existing);
        assert_eq!(open().records.len(), 8, "{version}");
    }
}

#[test]
fn states_of_every_version_open_with_the_recovery_key() {
    for version in VERSIONS {
        let directory = copy(version);
        let recipient =
            WrappedForRecovery::parse(&fs::read(directory.path().join("sealed_recovery")).unwrap()).unwrap();
        assert_eq!(recipient.claimed_manifest().as_bytes(), &[0x33; 32], "{version}");
        assert_eq!(recipient.scheme(), RecoveryScheme::Threshold { threshold: 2 }, "{version}");
        let shares: Vec<_> = recipient.shares().iter().map(|share| (&*share.public_key, share.share_hash)).collect();
        let expected: [(&[u8], _); 3] = [(&[0x22; 293], [1; 32]), (&[0x22; 294], [2; 32]), (&[0x22; 295], [3; 32])];
        assert_eq!(shares, expected, "{version}");

        let refused = without_key(directory.path()).open_with(&recovery_key(0x11)).unwrap_err();
        assert!(matches!(refused.error, RecoverError::Refused(Fault::WrongRecoveryKey)), "{version}");
        check_content(&refused.recovery.open_with(&recovery_key(0x22)).unwrap());
    }
}
