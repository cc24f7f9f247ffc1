//! The directory of a root: modes, lifetime, sharing, damage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use marblerun_software_tee::root::{
    MAX_LIFETIME, PCK_CHAIN_FILE, ROOT_DER_FILE, ROOT_PEM_FILE, SEED_FILE, TCB_SIGNING_CHAIN_FILE,
};
use marblerun_software_tee::{CollateralOptions, DevelopmentRoot, PckCa, RootError, RootOptions};

use crate::support::{CREATED, DAY, IDENTITY, REPORT_DATA, at, fixture, fixture_with};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_seed_and_its_directory_are_private_from_the_start() {
    let fixture = fixture();
    let dir = fixture.directory.path().join("root");
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join(SEED_FILE)), 0o600);
    assert_eq!(fs::read(dir.join(SEED_FILE)).unwrap().len(), 32);
}

#[test]
fn the_certificate_files_are_what_the_root_says_it_is() {
    let fixture = fixture();
    let dir = fixture.directory.path().join("root");
    assert_eq!(fs::read(dir.join(ROOT_DER_FILE)).unwrap(), fixture.root.root_der());
    assert_eq!(fs::read_to_string(dir.join(ROOT_PEM_FILE)).unwrap(), fixture.root.root_pem());
    assert!(fixture.root.subject().contains("NOT HARDWARE"), "{}", fixture.root.subject());
}

#[test]
fn debug_output_shows_the_subject_and_no_secret() {
    let fixture = fixture();
    let seed = fs::read(fixture.directory.path().join("root").join(SEED_FILE)).unwrap();
    let shown = format!("{:?}", fixture.root);
    assert!(shown.contains("NOT HARDWARE") && shown.len() < 200, "{shown}");
    assert!(!shown.contains(&hex::encode(&seed)) && !shown.contains(&format!("{seed:?}")));
}

#[test]
fn two_roots_differ_in_key_name_and_evidence() {
    let (one, other) = (fixture(), fixture());
    assert_ne!(one.root.root_der(), other.root.root_der());
    assert_ne!(one.root.subject(), other.root.subject());
    assert_ne!(one.quote()[500..564], other.quote()[500..564], "attestation keys");
}

#[test]
fn processes_that_open_the_same_directory_have_the_same_root() {
    let fixture = fixture_with(RootOptions { pck_ca: PckCa::Processor, ..RootOptions::default() });
    let opened = DevelopmentRoot::open(&fixture.directory.path().join("root"), at(CREATED + DAY)).unwrap();
    assert_eq!(opened.root_der(), fixture.root.root_der());
    assert_eq!(opened.pck_ca(), PckCa::Processor);
    assert_eq!(opened.quote_len(), fixture.root.quote_len());
    // One makes the quote, the other one the collateral.
    let quote = opened.quote(&IDENTITY, &REPORT_DATA).unwrap();
    fixture.verify(&quote, &fixture.collateral(&CollateralOptions::default()), CREATED + DAY).unwrap();
}

#[test]
fn a_root_lives_at_most_30_days_and_is_refused_with_a_hint_afterwards() {
    let fixture = fixture();
    let dir = fixture.directory.path().join("root");
    let end = CREATED + 30 * DAY;
    assert_eq!(fixture.root.not_after().as_secs(), end);
    DevelopmentRoot::open(&dir, at(end)).unwrap();
    let expired = DevelopmentRoot::open(&dir, at(end + 1)).unwrap_err();
    assert!(matches!(expired, RootError::Expired { .. }), "{expired}");
    assert_eq!(
        expired.to_string(),
        "the development root has expired: it was valid until 2026-12-23T00:00:00Z, now is 2026-12-23T00:00:01Z"
    );
    assert!(expired.hint().unwrap().contains("make a new one"));

    for lifetime in [Duration::ZERO, MAX_LIFETIME + Duration::from_secs(1)] {
        let refused = DevelopmentRoot::create(
            &fixture.directory.path().join("long"),
            at(CREATED),
            RootOptions { lifetime, ..RootOptions::default() },
        );
        assert!(matches!(refused, Err(RootError::Lifetime { .. })), "{lifetime:?}");
    }
    assert!(!fixture.directory.path().join("long").exists());
}

#[test]
fn a_root_from_the_future_is_refused() {
    let fixture = fixture();
    let refused = DevelopmentRoot::open(&fixture.directory.path().join("root"), at(CREATED - 1)).unwrap_err();
    assert!(matches!(refused, RootError::NotYetValid { .. }), "{refused}");
}

#[test]
fn a_root_is_never_made_over_another_one() {
    let fixture = fixture();
    let dir = fixture.directory.path().join("root");
    let before = fs::read(dir.join(SEED_FILE)).unwrap();
    let refused = DevelopmentRoot::create(&dir, at(CREATED), RootOptions::default()).unwrap_err();
    assert!(matches!(refused, RootError::Exists { .. }), "{refused}");
    assert_eq!(fs::read(dir.join(SEED_FILE)).unwrap(), before);
}

#[test]
fn of_several_creators_exactly_one_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let barrier = Barrier::new(4);
    let created = std::thread::scope(|scope| {
        let creators: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    DevelopmentRoot::create(directory.path(), at(CREATED), RootOptions::default()).is_ok()
                })
            })
            .collect();
        creators.into_iter().map(|creator| creator.join().unwrap()).filter(|ok| *ok).count()
    });
    assert_eq!(created, 1);
    DevelopmentRoot::open(directory.path(), at(CREATED)).unwrap();
}

#[test]
fn a_seed_that_others_can_read_is_refused() {
    let fixture = fixture();
    let dir = fixture.directory.path().join("root");
    fs::set_permissions(dir.join(SEED_FILE), fs::Permissions::from_mode(0o640)).unwrap();
    let refused = DevelopmentRoot::open(&dir, at(CREATED)).unwrap_err();
    assert!(refused.to_string().ends_with("expected mode 0600, got 0640"), "{refused}");
}

#[test]
fn missing_truncated_and_foreign_files_are_told_apart() {
    let empty = tempfile::tempdir().unwrap();
    let missing = DevelopmentRoot::open(empty.path(), at(CREATED)).unwrap_err();
    assert!(matches!(missing, RootError::Missing { .. }), "{missing}");

    for name in [ROOT_DER_FILE, PCK_CHAIN_FILE, TCB_SIGNING_CHAIN_FILE] {
        let (fixture, other) = (fixture(), fixture());
        let dir = fixture.directory.path().join("root");
        let path = dir.join(name);
        let open = || DevelopmentRoot::open(&dir, at(CREATED)).unwrap_err();

        fs::copy(other.directory.path().join("root").join(name), &path).unwrap();
        assert!(matches!(open(), RootError::ForeignCertificate { path: p } if p == path), "{name}");
        fs::write(&path, "rubbish").unwrap();
        assert!(matches!(open(), RootError::Certificate { path: p, .. } if p == path), "{name}");
        fs::write(&path, vec![b'x'; 17 * 1024]).unwrap();
        assert!(matches!(open(), RootError::Io { path: p, .. } if p == path), "{name}");
        fs::remove_file(&path).unwrap();
        assert!(matches!(open(), RootError::Incomplete { path: p } if p == path), "{name}");
    }

    let fixture = fixture();
    let dir = fixture.directory.path().join("root");
    fs::write(dir.join(SEED_FILE), [0; 31]).unwrap();
    let short = DevelopmentRoot::open(&dir, at(CREATED)).unwrap_err();
    assert!(matches!(short, RootError::SeedLength { got: 31, .. }), "{short}");
}
