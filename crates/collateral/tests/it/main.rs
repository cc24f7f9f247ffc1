//! Integration tests: a bundle directory that changes under its reader; services that answer as they like.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fetching;
mod service;
mod supplying;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use marblerun_attestation::{
    ErrorClass, Fmspc, MAX_COLLATERAL_BYTES, PckCa, PlatformId, Quote, Tee, TrustClass, TrustRoots, verify,
};
use marblerun_collateral::{
    Bundle, BundleError, LookupError, MAX_DIRECTORY_ENTRIES, MAX_KEPT, Origin, RECHECK_INTERVAL, file_name,
};
use rustls_pki_types::UnixTime;
use tempfile::TempDir;

/// When the fabricated collateral is valid.
const NOW: u64 = 1_795_392_000;

fn testdata(name: &str) -> Vec<u8> {
    let root = std::env::var_os("MARBLERUN_TESTDATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")), PathBuf::from);
    fs::read(root.join("attestation").join(name)).unwrap()
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn software_roots() -> TrustRoots {
    TrustRoots::software([("test", testdata("swtee/dcap-root.der").as_slice())]).unwrap()
}

fn platform() -> PlatformId {
    Quote::parse(&testdata("swtee/sgx.quote")).unwrap().unverified_platform().unwrap()
}

struct Setup {
    directory: TempDir,
    bundle: Bundle,
    clock: Instant,
}

impl Setup {
    fn empty() -> Self {
        Self::with_roots(software_roots())
    }

    fn with_roots(roots: TrustRoots) -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("dcap")).unwrap();
        let bundle = Bundle::open(directory.path(), roots).unwrap();
        Self { directory, bundle, clock: Instant::now() }
    }

    fn filled() -> Self {
        let setup = Self::empty();
        setup.write(&testdata("swtee/sgx.collateral.json"));
        setup
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("dcap").join(file_name(&platform()))
    }

    /// Replaces the file as an operator should: a new file, renamed over the old one.
    fn write(&self, text: &[u8]) {
        let new = self.directory.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    fn lookup(&self) -> Result<std::sync::Arc<marblerun_collateral::KeptCollateral>, LookupError> {
        self.bundle.lookup(&platform(), self.clock, at(NOW))
    }

    fn wait(&mut self) {
        self.clock += RECHECK_INTERVAL;
    }

    #[track_caller]
    fn check_refused(&self, class: ErrorClass, message: &str) {
        let error = self.lookup().unwrap_err();
        assert_eq!(error.class(), class, "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.code(), class.code());
        assert!(error.hint().is_some() || matches!(error, LookupError::Invalid { .. }), "{error} has no hint");
    }
}

// rules: ATT-2.3, ATT-11.1
#[test]
fn a_quote_is_verified_with_collateral_from_the_bundle() {
    let setup = Setup::filled();
    let quote = Quote::parse(&testdata("swtee/sgx.quote")).unwrap();
    let kept = setup.lookup().unwrap();
    assert_eq!(kept.text, testdata("swtee/sgx.collateral.json"));
    assert_eq!(kept.origin, Origin::Bundle(setup.path()));
    let report = verify(&quote, &kept.trusted, at(NOW)).unwrap();
    assert_eq!(report.trust_class(), TrustClass::Software);
    assert_eq!(setup.bundle.platforms().unwrap(), [platform()]);
}

#[test]
fn the_case_of_the_fmspc_in_the_file_name_does_not_matter() {
    let setup = Setup::filled();
    let lower = file_name(&platform()).replace("FF5357544545", "ff5357544545");
    fs::rename(setup.path(), setup.path().with_file_name(lower)).unwrap();
    setup.lookup().unwrap();
}

#[test]
fn collateral_is_verified_once_and_kept() {
    let mut setup = Setup::filled();
    let first = setup.lookup().unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &setup.lookup().unwrap()));
    setup.wait();
    assert!(std::sync::Arc::ptr_eq(&first, &setup.lookup().unwrap()), "an unchanged file is not read again");
}

// rules: ATT-11.2
#[test]
fn missing_collateral_is_named_with_its_path_and_found_once_it_is_there() {
    let mut setup = Setup::empty();
    setup.check_refused(ErrorClass::NoCollateral, "collateral unavailable for FMSPC FF5357544545");
    setup.check_refused(ErrorClass::NoCollateral, setup.path().to_str().unwrap());
    setup.write(&testdata("swtee/sgx.collateral.json"));
    setup.wait();
    setup.lookup().unwrap();
}

#[test]
fn a_missing_subdirectory_is_a_bundle_without_files() {
    let setup = Setup::empty();
    fs::remove_dir(setup.directory.path().join("dcap")).unwrap();
    setup.check_refused(ErrorClass::NoCollateral, "collateral unavailable");
    assert_eq!(setup.bundle.platforms().unwrap(), []);
}

// rules: ATT-11.2
#[test]
fn a_changed_file_is_read_again_after_one_second() {
    let mut setup = Setup::filled();
    let first = setup.lookup().unwrap();
    setup.write(b"{}");
    assert!(std::sync::Arc::ptr_eq(&first, &setup.lookup().unwrap()), "the file is looked at once per second");
    setup.wait();
    setup.check_refused(ErrorClass::Malformed, "not acceptable");
    setup.write(&testdata("swtee/sgx.collateral.json"));
    setup.wait();
    setup.lookup().unwrap();
}

#[test]
fn a_file_that_is_taken_away_is_missing_after_one_second() {
    let mut setup = Setup::filled();
    setup.lookup().unwrap();
    fs::remove_file(setup.path()).unwrap();
    setup.wait();
    setup.check_refused(ErrorClass::NoCollateral, "collateral unavailable");
}

// rules: ATT-11.2
#[test]
fn expired_collateral_is_refused_even_if_it_was_kept() {
    let setup = Setup::filled();
    let kept = setup.lookup().unwrap();
    let late = at(kept.trusted.expires().as_secs() + 1);
    let error = setup.bundle.lookup(&platform(), setup.clock, late).unwrap_err();
    assert!(matches!(error, LookupError::Expired { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::ExpiredCollateral);
    assert!(error.is_unavailable());
    setup.lookup().unwrap();
}

#[test]
fn collateral_that_was_not_yet_valid_is_accepted_once_it_is() {
    let mut setup = Setup::filled();
    let error = setup.bundle.lookup(&platform(), setup.clock, at(1_750_000_000)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::ExpiredCollateral, "{error}");
    setup.wait();
    setup.lookup().unwrap();
}

#[test]
fn collateral_of_another_trust_class_is_refused_and_no_reason_to_wait() {
    let setup = Setup::with_roots(TrustRoots::hardware());
    setup.write(&testdata("swtee/sgx.collateral.json"));
    setup.check_refused(ErrorClass::SoftwareRoot, "not acceptable");
    assert!(!setup.lookup().unwrap_err().is_unavailable());
}

#[test]
fn collateral_under_the_name_of_another_platform_is_refused() {
    let setup = Setup::empty();
    let other = PlatformId { tee: Tee::Sgx, fmspc: Fmspc([1; 6]), ca: PckCa::Processor };
    let path = setup.path().with_file_name(file_name(&other));
    fs::write(path, testdata("swtee/sgx.collateral.json")).unwrap();
    let error = setup.bundle.lookup(&other, setup.clock, at(NOW)).unwrap_err();
    assert!(matches!(error, LookupError::Mismatch { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::CollateralMismatch);
}

#[test]
fn two_files_for_one_platform_are_refused() {
    let setup = Setup::filled();
    let lower = file_name(&platform()).replace("FF5357544545", "ff5357544545");
    fs::copy(setup.path(), setup.path().with_file_name(lower)).unwrap();
    setup.check_refused(ErrorClass::NoCollateral, "got 2 that differ in case");
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let setup = Setup::empty();
    setup.write(&vec![b' '; MAX_COLLATERAL_BYTES + 1]);
    setup.check_refused(ErrorClass::NoCollateral, "expected at most 1048576 bytes");
    let mut setup = setup;
    setup.write(&vec![b' '; MAX_COLLATERAL_BYTES]);
    setup.wait();
    setup.check_refused(ErrorClass::Malformed, "not acceptable");
}

#[test]
fn a_directory_or_named_pipe_in_place_of_the_file_is_refused_at_once() {
    let mut setup = Setup::empty();
    fs::create_dir(setup.path()).unwrap();
    setup.check_refused(ErrorClass::NoCollateral, "expected a regular file");
    fs::remove_dir(setup.path()).unwrap();
    let made = std::process::Command::new("mkfifo").arg(setup.path()).status().unwrap();
    assert!(made.success());
    setup.wait();
    setup.check_refused(ErrorClass::NoCollateral, "expected a regular file");
}

#[test]
fn a_link_to_nothing_is_unreadable() {
    let setup = Setup::empty();
    std::os::unix::fs::symlink("nowhere", setup.path()).unwrap();
    setup.check_refused(ErrorClass::NoCollateral, "cannot be read");
}

#[test]
fn a_directory_with_too_many_files_is_refused() {
    let setup = Setup::filled();
    for number in 0..MAX_DIRECTORY_ENTRIES {
        fs::write(setup.path().with_file_name(number.to_string()), "").unwrap();
    }
    setup.check_refused(ErrorClass::NoCollateral, "expected at most 4096 files");
}

#[test]
fn asking_for_platforms_that_do_not_exist_does_not_displace_what_is_kept() {
    let setup = Setup::filled();
    let first = setup.lookup().unwrap();
    for number in 0..=u8::try_from(MAX_KEPT).unwrap() {
        let unknown = PlatformId { tee: Tee::Sgx, fmspc: Fmspc([number; 6]), ca: PckCa::Platform };
        assert!(setup.bundle.lookup(&unknown, setup.clock, at(NOW)).is_err());
    }
    assert!(std::sync::Arc::ptr_eq(&first, &setup.lookup().unwrap()));
}

#[test]
fn threads_share_one_bundle() {
    let setup = Setup::filled();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for step in 0..50 {
                    let clock = setup.clock + RECHECK_INTERVAL * step;
                    setup.bundle.lookup(&platform(), clock, at(NOW)).unwrap();
                }
            });
        }
    });
}

#[test]
fn only_a_directory_can_be_opened() {
    let setup = Setup::filled();
    let error = Bundle::open(setup.path(), software_roots()).unwrap_err();
    assert!(matches!(error, BundleError::NotADirectory { .. }), "{error}");
    let missing: &Path = &setup.directory.path().join("nowhere");
    let error = Bundle::open(missing, software_roots()).unwrap_err();
    assert!(matches!(error, BundleError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("nowhere"));
    assert!(error.hint().is_some());
}
