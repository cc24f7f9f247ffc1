//! Evidence of a software TEE and of real hardware before verifiers of both classes.

#![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

use std::path::PathBuf;
use std::time::Duration;

use marblerun_attestation::{EvaluationNumbers, FloorEntry, Fmspc, TcbStatus, Tee};
use marblerun_collateral::ClientOptions;
use marblerun_software_tee::service::{CollateralService, Misbehaviour, ServiceOptions};
use marblerun_software_tee::{
    CollateralOptions, Dates, DevelopmentRoot, EnclaveIdentity, Revoked, RootOptions, Tamper,
};

use super::*;

const CERTIFICATE: &[u8] = b"the certificate of the connection";
const DAY: u64 = 24 * 60 * 60;
/// Some time after the build.
const NOW: u64 = BUILD_TIME + 100 * DAY;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// What the development root's platform says, and what the verifier believes; one thing is bent at a time.
struct Case {
    directory: tempfile::TempDir,
    root: DevelopmentRoot,
    enclave: EnclaveIdentity,
    package: Package,
    options: CollateralOptions,
    floor: CollateralFloor,
    certificate: Vec<u8>,
    issued: u64,
    system: u64,
    has_collateral: bool,
    class: marblerun_tee::TrustClass,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = DevelopmentRoot::create(&directory.path().join("root"), at(NOW), RootOptions::default()).unwrap();
        let mr_enclave = [7; 32];
        Self {
            class: marblerun_tee::TrustClass::Software { roots: vec![root.root_der().to_vec()] },
            directory,
            root,
            enclave: EnclaveIdentity { mr_enclave, mr_signer: [8; 32], isv_prod_id: 3, isv_svn: 4, debug: false },
            package: Package { unique_id: Some(hex::encode(mr_enclave)), ..Package::default() },
            options: CollateralOptions::default(),
            floor: CollateralFloor::default(),
            certificate: CERTIFICATE.to_vec(),
            issued: NOW,
            system: NOW + 60,
            has_collateral: true,
        }
    }

    fn quote(&self) -> Vec<u8> {
        let mut data = [0; 64];
        data[..32].copy_from_slice(ReportDigest::of(CERTIFICATE).as_bytes());
        let quote = self.root.quote(&self.enclave, &data).unwrap();
        marblerun_attestation::with_oe_header(&quote)
    }

    fn bundle(&self) -> PathBuf {
        self.directory.path().join("collateral")
    }

    /// Writes the collateral under the name of the platform, whatever is in it.
    fn export(&self) {
        std::fs::create_dir_all(self.bundle()).unwrap();
        let path = self.root.export_bundle(&self.bundle(), at(self.issued), &self.options).unwrap();
        let usual = self.root.export_bundle(
            &self.directory.path().join("usual"),
            at(self.issued),
            &CollateralOptions::default(),
        );
        let name = usual.unwrap().file_name().unwrap().to_owned();
        std::fs::rename(&path, path.with_file_name(name)).unwrap();
    }

    fn verifier(&self) -> Box<Verifier> {
        let collateral = self.bundle();
        let Trust::Attested(verifier) =
            Trust::new(&self.class, self.has_collateral.then_some(collateral.as_path())).unwrap()
        else {
            panic!("expected a verifier")
        };
        verifier
    }

    fn judge(&self, evidence: &[u8]) -> Result<Accepted, EvidenceError> {
        self.export();
        self.verifier().judge(evidence, &self.certificate, &self.package, &self.floor, at(self.system))
    }
}

/// One thing is changed; the evidence is refused with this code.
#[track_caller]
fn check(change: impl FnOnce(&mut Case), code: &str, unavailable: bool) {
    let mut case = Case::new();
    change(&mut case);
    let error = case.judge(&case.quote()).unwrap_err();
    assert_eq!((error.code(), error.is_unavailable()), (code, unavailable), "{error:?}");
}

fn floor(tcb_info: u32, qe_identity: u32, newest_issue: u64) -> CollateralFloor {
    let entry = FloorEntry {
        tee: Tee::Sgx,
        fmspc: Fmspc(CollateralOptions::default().fmspc),
        numbers: EvaluationNumbers { tcb_info, qe_identity },
    };
    CollateralFloor::from_parts([entry], Some(at(newest_issue)))
}

#[test]
fn evidence_of_the_named_software_root_is_accepted_and_raises_the_floor_once() {
    let mut case = Case::new();
    let accepted = case.judge(&case.quote()).unwrap();
    assert_eq!(accepted.admission.unwrap().tcb_status, TcbStatus::UpToDate);
    let news = accepted.news.unwrap();
    assert_eq!(news.numbers, EvaluationNumbers { tcb_info: 1, qe_identity: 1 });
    assert_eq!(news.fmspc, Fmspc(case.options.fmspc));
    case.floor = CollateralFloor::from_parts(
        [FloorEntry { tee: news.tee, fmspc: news.fmspc, numbers: news.numbers }],
        Some(news.newest_issue),
    );
    assert!(case.judge(&case.quote()).unwrap().news.is_none());
}

#[test]
fn a_quote_that_was_cut_is_refused() {
    let case = Case::new();
    case.export();
    let (quote, verifier) = (case.quote(), case.verifier());
    for length in (0..quote.len()).step_by(7) {
        let result = verifier.judge(&quote[..length], CERTIFICATE, &case.package, &case.floor, at(case.system));
        assert!(!result.unwrap_err().is_unavailable(), "{length}");
    }
}

// rules: ACT-3.6
#[test]
fn evidence_that_cannot_be_read_is_refused() {
    let case = Case::new();
    let error = case.judge(&[]).unwrap_err();
    assert!(matches!(error, EvidenceError::Empty) && error.code() == "malformed" && error.hint().is_some());
    let error = case.judge(b"random bytes that are no quote").unwrap_err();
    assert!(matches!(error, EvidenceError::Quote(_)) && !error.is_unavailable(), "{error:?}");
}

// rules: ACT-3.3, ATT-8.1
#[test]
fn evidence_for_another_certificate_is_refused() {
    check(|case| case.certificate.push(0), "report-data", false);
    check(|case| case.certificate.clear(), "report-data", false);
}

// rules: ACT-3.5
#[test]
fn evidence_that_the_package_does_not_describe_is_refused() {
    check(|case| case.package.unique_id = Some("00".repeat(32)), "package", false);
    check(|case| case.package.signer_id = Some("00".repeat(32)), "package", false);
    check(|case| case.package.product_id = Some(4), "package", false);
    check(|case| case.package.security_version = Some(5), "package", false);
    check(|case| case.package.debug = true, "debug", false);
    check(|case| case.enclave.debug = true, "debug", false);
}

#[test]
fn a_platform_whose_status_the_package_does_not_accept_is_refused() {
    check(|case| case.options.tcb_status = "OutOfDate".into(), "tcb-status", false);
    check(|case| case.options.tcb_status = "Revoked".into(), "tcb-status", false);
    check(
        |case| {
            case.options.tcb_status = "SWHardeningNeeded".into();
            case.options.advisories = vec!["INTEL-SA-00615".into()];
            case.package.accepted_advisories = vec!["INTEL-SA-00001".into()];
        },
        "advisories",
        false,
    );
    let mut case = Case::new();
    case.options.tcb_status = "OutOfDate".into();
    case.package.accepted_tcb_statuses = vec!["OutOfDate".into()];
    assert_eq!(case.judge(&case.quote()).unwrap().admission.unwrap().tcb_status, TcbStatus::OutOfDate);
}

#[test]
fn a_platform_that_no_level_covers_or_that_is_revoked_is_refused() {
    check(|case| case.options.required_cpu_svn = [255; 16], "tcb-unsupported", false);
    check(|case| case.options.required_pce_svn = u16::MAX, "tcb-unsupported", false);
    check(|case| case.options.required_qe_svn = u16::MAX, "tcb-unsupported", false);
    check(|case| case.options.qe_status = "SWHardeningNeeded".into(), "quoting-enclave", false);
    check(|case| case.options.qe_status = "OutOfDate".into(), "tcb-status", false);
    check(|case| case.options.revoked = vec![Revoked::Pck], "revoked", false);
}

// rules: ATT-11.2
#[test]
fn missing_or_old_collateral_means_come_again() {
    check(|case| case.has_collateral = false, "no-collateral", true);
    check(|case| case.options.fmspc = [9; 6], "collateral-mismatch", true);
    check(|case| case.system = NOW + 29 * DAY + 30 * DAY, "expired-collateral", true);
    check(
        |case| {
            let dates = Dates { issued: at(NOW - 10 * DAY), next_update: at(NOW) };
            case.options.tcb_info_dates = Some(dates);
        },
        "expired-collateral",
        true,
    );
    check(
        |case| {
            let dates = Some(Dates { issued: at(NOW), next_update: at(NOW + 60 * DAY) });
            let CollateralOptions { tcb_info_dates, qe_identity_dates, root_crl_dates, pck_crl_dates, .. } =
                &mut case.options;
            (*tcb_info_dates, *qe_identity_dates, *root_crl_dates, *pck_crl_dates) = (dates, dates, dates, dates);
            case.system = NOW + 40 * DAY;
        },
        // Who signed the collateral has expired, as good as the collateral itself.
        "expired-collateral",
        true,
    );
    let case = Case::new();
    std::fs::create_dir_all(case.bundle()).unwrap();
    let verifier = case.verifier();
    let judge = || verifier.judge(&case.quote(), CERTIFICATE, &case.package, &case.floor, at(case.system));
    let error = judge().unwrap_err();
    assert_eq!((error.code(), error.is_unavailable()), ("no-collateral", true), "{error:?}");
}

#[test]
fn collateral_that_was_changed_or_revoked_is_not_used_and_good_one_may_come() {
    check(|case| case.options.tamper = Some(Tamper::TcbInfo), "signature", true);
    check(|case| case.options.tamper = Some(Tamper::QeIdentitySignature), "signature", true);
    check(|case| case.options.revoked = vec![Revoked::TcbSigning], "revoked", true);
    check(|case| case.options.tcb_info_version = 2, "unsupported", true);
}

// rules: ATT-11.4
#[test]
fn collateral_older_than_some_that_was_accepted_is_a_rollback() {
    check(|case| case.floor = floor(2, 1, 0), "collateral-rollback", true);
    check(|case| case.floor = floor(1, 2, 0), "collateral-rollback", true);
    let mut case = Case::new();
    case.floor = floor(1, 1, 0);
    case.judge(&case.quote()).unwrap();
}

// rules: ATT-11.4, SQ-4
#[test]
fn vouching_rests_on_the_same_floor_and_raises_it() {
    let mut case = Case::new();
    case.export();
    let vouch = |case: &Case| case.verifier().vouch(&case.quote(), &case.floor, at(case.system));
    let genuine = vouch(&case).unwrap();
    assert_eq!(genuine.tcb_status, TcbStatus::UpToDate);
    assert_eq!(genuine.news.unwrap().numbers, EvaluationNumbers { tcb_info: 1, qe_identity: 1 });
    case.floor = floor(2, 1, 0);
    let error = vouch(&case).err().unwrap();
    assert_eq!(error.code(), "collateral-rollback", "{error:?}");
}

#[test]
fn a_clock_behind_the_newest_collateral_does_not_bring_old_collateral_back() {
    // The collateral ends 30 days after it was issued. A clock that says so would accept it, but newer one was seen.
    let turned_back = |case: &mut Case, newest| {
        case.system = NOW + 60;
        case.floor = floor(1, 1, newest);
    };
    check(|case| turned_back(case, NOW + 31 * DAY), "expired-collateral", true);
    let mut case = Case::new();
    turned_back(&mut case, NOW + 2 * DAY);
    case.judge(&case.quote()).unwrap();
}

#[test]
fn a_clock_that_lags_behind_current_collateral_keeps_no_marble_out() {
    let mut case = Case::new();
    case.issued = NOW + 5 * DAY;
    case.floor = floor(1, 1, NOW + 5 * DAY);
    case.system = NOW + DAY;
    case.judge(&case.quote()).unwrap();
}

#[test]
fn a_clock_before_the_build_is_not_believed() {
    let none = CollateralFloor::default();
    assert_eq!(effective_now(&none, at(0)), at(BUILD_TIME));
    assert_eq!(effective_now(&none, at(BUILD_TIME + 1)), at(BUILD_TIME + 1));
    assert_eq!(effective_now(&floor(1, 1, BUILD_TIME + 7), at(0)), at(BUILD_TIME + 7));
    assert_eq!(effective_now(&floor(1, 1, BUILD_TIME - 7), at(0)), at(BUILD_TIME));
}

#[test]
fn a_quote_with_a_changed_bit_is_refused() {
    let case = Case::new();
    case.export();
    let (quote, verifier) = (case.quote(), case.verifier());
    // In the header, the report, its signature, the attestation key and the quoting enclave's report.
    for position in [16, 16 + 48, 16 + 48 + 112, 16 + 48 + 320, 16 + 436, 16 + 500, 16 + 570] {
        let mut changed = quote.clone();
        changed[position] ^= 1;
        let result = verifier.judge(&changed, CERTIFICATE, &case.package, &case.floor, at(case.system));
        let error = result.unwrap_err();
        assert!(!error.is_unavailable(), "{position}: {error:?}");
    }
    verifier.judge(&quote, CERTIFICATE, &case.package, &case.floor, at(case.system)).unwrap();
}

// rules: ATT-7.7
#[test]
fn evidence_under_another_software_root_is_refused() {
    let other = Case::new();
    check(
        |case| case.class = marblerun_tee::TrustClass::Software { roots: vec![other.root.root_der().to_vec()] },
        "untrusted-root",
        false,
    );
}

// rules: ATT-7.7, ATT-10.2, R1
#[test]
fn the_hardware_class_refuses_software_evidence() {
    check(|case| case.class = marblerun_tee::TrustClass::Hardware, "software-root", false);
}

/// A real quote with its real collateral, in a bundle.
fn hardware_evidence(directory: &Path) -> Vec<u8> {
    let testdata = std::env::var_os("MARBLERUN_TESTDATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")), PathBuf::from);
    let read = |name: &str| std::fs::read(testdata.join("attestation/sgx").join(name)).unwrap();
    let quote = marblerun_attestation::with_oe_header(&read("dcap-qvl-sgx.quote"));
    let platform = Quote::parse(&quote).unwrap().unverified_platform().unwrap();
    std::fs::create_dir_all(directory.join("dcap")).unwrap();
    let name = marblerun_collateral::file_name(&platform);
    std::fs::write(directory.join("dcap").join(name), read("dcap-qvl-sgx.collateral.json")).unwrap();
    quote
}

// rules: R1
#[test]
fn the_software_class_refuses_hardware_evidence() {
    let case = Case::new();
    std::fs::create_dir_all(case.bundle()).unwrap();
    let quote = hardware_evidence(&case.bundle());
    let error = case.verifier().judge(&quote, CERTIFICATE, &case.package, &case.floor, at(case.system)).unwrap_err();
    assert_eq!((error.code(), error.is_unavailable()), ("hardware-root", false), "{error:?}");
}

#[test]
fn hardware_evidence_with_collateral_of_last_year_means_come_again() {
    let directory = tempfile::tempdir().unwrap();
    let quote = hardware_evidence(directory.path());
    let Trust::Attested(verifier) = Trust::new(&marblerun_tee::TrustClass::Hardware, Some(directory.path())).unwrap()
    else {
        panic!("expected a verifier")
    };
    // A host cannot bring it back by turning the clock to the time when it was current.
    for system in [NOW, 1_750_377_600] {
        let error = verifier
            .judge(&quote, CERTIFICATE, &Package::default(), &CollateralFloor::default(), at(system))
            .unwrap_err();
        assert_eq!((error.code(), error.is_unavailable()), ("expired-collateral", true), "{error:?}");
    }
}

#[test]
fn each_class_has_its_word_its_roots_and_its_own_sealed_state() {
    let case = Case::new();
    let trust = |class: &marblerun_tee::TrustClass| Trust::new(class, None).unwrap();
    let software = trust(&case.class);
    let hardware = trust(&marblerun_tee::TrustClass::Hardware);
    let simulation = trust(&marblerun_tee::TrustClass::Simulation);
    assert_eq!([software.class(), hardware.class(), simulation.class()], ["software", "hardware", "simulation"]);
    assert_eq!(software.software_root_hashes(), [*ReportDigest::of(case.root.root_der()).as_bytes()]);
    assert!(hardware.software_root_hashes().is_empty() && simulation.software_root_hashes().is_empty());
    let classes = [&software, &hardware, &simulation].map(|trust| trust.context().class());
    assert_eq!(classes, [TrustClass::Software, TrustClass::Hardware, TrustClass::Simulation]);
}

// rules: ACT-3.6
#[test]
fn simulation_looks_at_no_evidence() {
    let trust = Trust::new(&marblerun_tee::TrustClass::Simulation, None).unwrap();
    for evidence in [&b""[..], b"random"] {
        let accepted = trust.judge(evidence, CERTIFICATE, &Package::default(), &CollateralFloor::default()).unwrap();
        assert!(accepted.admission.is_none() && accepted.news.is_none());
    }
}

#[test]
fn roots_or_directories_that_cannot_be_used_end_the_start() {
    let class = marblerun_tee::TrustClass::Software { roots: vec![b"no certificate".to_vec()] };
    assert!(matches!(Trust::new(&class, None), Err(TrustSetupError::Roots(_))));
    let missing = Path::new("/nonexistent/collateral");
    let result = Trust::new(&marblerun_tee::TrustClass::Hardware, Some(missing));
    assert!(matches!(result, Err(TrustSetupError::Collateral(_))));
}

/// A verifier of hardware evidence with the recorded collateral of one quote in its bundle.
fn hardware_verifier(directory: &Path, quote: &[u8], collateral: &[u8]) -> Box<Verifier> {
    let platform = Quote::parse(quote).unwrap().unverified_platform().unwrap();
    std::fs::create_dir_all(directory.join("dcap")).unwrap();
    let name = marblerun_collateral::file_name(&platform);
    std::fs::write(directory.join("dcap").join(name), collateral).unwrap();
    let Trust::Attested(verifier) = Trust::new(&marblerun_tee::TrustClass::Hardware, Some(directory)).unwrap() else {
        panic!("expected a verifier")
    };
    verifier
}

// rules: SQ-2, SQ-4
#[test]
fn quotes_of_real_platforms_are_vouched_for_with_the_status_of_their_time() {
    let testdata = std::env::var_os("MARBLERUN_TESTDATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")), PathBuf::from);
    let testdata = testdata.join("attestation");
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(testdata.join("vectors.json")).unwrap()).unwrap();
    let mut statuses = std::collections::BTreeSet::new();
    for vector in index["vectors"].as_array().unwrap() {
        // The verdict on a quote says nothing about its enclave, so what only forbids debugging does not apply.
        let is_hardware = vector["kind"] == "sgx" && vector["root"] == "roots/intel-sgx-root-ca.der";
        let (Some(collateral), Some(now)) = (vector["collateral"].as_str(), vector["now"].as_u64()) else { continue };
        let id = vector["id"].as_str().unwrap();
        if !is_hardware || id.ends_with("-refused") {
            continue;
        }
        let read = |name: &str| std::fs::read(testdata.join(name)).unwrap();
        let quote = read(vector["evidence"].as_str().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let verifier = hardware_verifier(directory.path(), &quote, &read(collateral));
        for submitted in [quote.clone(), marblerun_attestation::with_oe_header(&quote)] {
            let result = verifier.vouch(&submitted, &CollateralFloor::default(), at(now));
            match vector["expect"]["result"].as_str().unwrap() {
                "accept" => {
                    let status = result.unwrap_or_else(|error| panic!("{id}: {error:?}")).tcb_status.as_str();
                    assert_eq!(status, vector["expect"]["tcbStatus"], "{id}");
                    statuses.insert(status);
                }
                "reject" => drop(result.expect_err(id)),
                other => panic!("{id}: unknown result {other}"),
            }
        }
    }
    let expected = ["ConfigurationAndSWHardeningNeeded", "OutOfDate", "SWHardeningNeeded"];
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), expected);
}

/// A software-class verifier, or one of another class, whose only source is a service of the case's root.
fn served(case: &Case, class: &marblerun_tee::TrustClass) -> (Trust, CollateralService) {
    let root = DevelopmentRoot::open(&case.directory.path().join("root"), system_time()).unwrap();
    let service = CollateralService::start(root, ServiceOptions::default()).unwrap();
    let services = vec![ClientOptions::new(service.url().parse().unwrap())];
    let trust = Trust::with_sources(class, SupplyOptions { services, ..SupplyOptions::default() }).unwrap();
    (trust, service)
}

/// A case of today, because services issue for today.
fn today() -> Case {
    let mut case = Case::new();
    let directory = tempfile::tempdir().unwrap();
    case.root = DevelopmentRoot::create(&directory.path().join("root"), system_time(), RootOptions::default()).unwrap();
    case.class = marblerun_tee::TrustClass::Software { roots: vec![case.root.root_der().to_vec()] };
    case.directory = directory;
    case
}

#[tokio::test]
async fn collateral_that_is_missing_is_wanted_obtained_and_used() {
    let case = today();
    let (trust, service) = served(&case, &case.class);
    let judge = || trust.judge(&case.quote(), CERTIFICATE, &case.package, &case.floor);
    let error = judge().unwrap_err();
    assert!(error.wants_collateral() && error.is_unavailable(), "{error:?}");
    assert!(service.requests().is_empty(), "judging itself asks nobody");
    let request = trust.wanted(&case.quote(), &case.floor).unwrap();
    trust.obtain(&request, &case.floor).await.unwrap();
    assert_eq!(judge().unwrap().admission.unwrap().tcb_status, TcbStatus::UpToDate);
    assert_eq!(service.requests().len(), 4);
}

// rules: ATT-11.2
#[tokio::test]
async fn a_service_that_fails_is_a_reason_to_come_again_with_its_last_answer() {
    let case = today();
    let (trust, service) = served(&case, &case.class);
    service.misbehave(Some(Misbehaviour::Http(500)));
    let request = trust.wanted(&case.quote(), &case.floor).unwrap();
    let error = trust.obtain(&request, &case.floor).await.unwrap_err();
    assert_eq!((error.code(), error.is_unavailable()), ("no-collateral", true));
    let text = crate::report::chain(&error);
    assert!(text.contains("collateral unavailable for FMSPC FF5357544545") && text.contains("got 500"), "{text}");
    let error = trust.judge(&case.quote(), CERTIFICATE, &case.package, &case.floor).unwrap_err();
    assert!(!error.wants_collateral() && error.is_unavailable(), "not again at once");
}

// rules: ATT-11.5
#[tokio::test]
async fn nobody_is_asked_about_a_platform_of_another_root() {
    let case = today();
    let (trust, service) = served(&case, &marblerun_tee::TrustClass::Hardware);
    let error = trust.judge(&case.quote(), CERTIFICATE, &case.package, &case.floor).unwrap_err();
    assert!(error.wants_collateral(), "{error:?}");
    let error = trust.wanted(&case.quote(), &case.floor).unwrap_err();
    assert!(matches!(error, EvidenceError::Uncertified(_)) && !error.is_unavailable(), "{error:?}");
    assert_eq!(error.code(), "untrusted-root");
    assert!(error.hint().is_some() && service.requests().is_empty());
}

#[tokio::test]
async fn collateral_of_our_own_platform_is_fetched_and_given_to_clients() {
    let case = today();
    let (trust, _service) = served(&case, &case.class);
    assert!(trust.own_collateral(&case.quote(), &case.floor).is_none());
    let request = trust.wanted_for_us(&case.quote(), &case.floor).unwrap();
    trust.obtain(&request, &case.floor).await.unwrap();
    assert!(trust.own_collateral(&case.quote(), &case.floor).is_some());
    assert!(trust.wanted_for_us(&case.quote(), &case.floor).is_none(), "it is still young");
    assert!(Trust::Simulation.wanted_for_us(&case.quote(), &case.floor).is_none());
}

// rules: ATT-11.2
#[tokio::test]
async fn clients_are_given_collateral_that_has_expired_so_that_they_can_name_it() {
    let mut case = today();
    let past = |days| at(system_time().as_secs() - days * DAY);
    case.options.tcb_info_dates = Some(Dates { issued: past(40), next_update: past(10) });
    case.export();
    let trust = Trust::new(&case.class, Some(&case.bundle())).unwrap();
    let given = trust.own_collateral(&case.quote(), &case.floor).unwrap();
    let roots = case.verifier().roots.clone();
    let error = marblerun_attestation::Collateral::parse(&given.0).unwrap().verify(&roots, system_time()).unwrap_err();
    assert!(error.to_string().contains("TCB info expired"), "{error}");
    let error = trust.judge(&case.quote(), CERTIFICATE, &case.package, &case.floor).unwrap_err();
    assert_eq!(error.code(), "expired-collateral");
}

#[test]
fn collateral_past_its_next_update_counts_only_if_the_image_says_so_and_is_marked() {
    let judge = |max_age_days: u64, vouch: bool| {
        let mut case = Case::new();
        case.system = NOW + 10 * DAY;
        let dates = Some(Dates { issued: at(NOW), next_update: at(NOW + 7 * DAY) });
        (case.options.tcb_info_dates, case.options.qe_identity_dates) = (dates, dates);
        case.export();
        let sources = SupplyOptions {
            bundle: Some(case.bundle()),
            dangerous_max_age: Duration::from_secs(max_age_days * DAY),
            ..SupplyOptions::default()
        };
        let trust = Trust::with_sources(&case.class, sources).unwrap();
        assert_eq!(
            trust.max_collateral_age().map(|age| age.as_secs()),
            Some(max_age_days * DAY).filter(|&age| age > 0)
        );
        let Trust::Attested(verifier) = trust else { panic!("expected a verifier") };
        if vouch {
            return verifier.vouch(&case.quote(), &case.floor, at(case.system)).map(|_| None);
        }
        let accepted = verifier.judge(&case.quote(), CERTIFICATE, &case.package, &case.floor, at(case.system));
        accepted.map(|accepted| accepted.admission)
    };
    assert!(judge(30, false).unwrap().unwrap().stale_collateral);
    for days in [0, 2] {
        assert_eq!(judge(days, false).unwrap_err().code(), "expired-collateral");
    }
    let error = judge(30, true).unwrap_err();
    assert!(matches!(error, EvidenceError::StaleCollateral) && error.is_unavailable(), "{error:?}");
}
