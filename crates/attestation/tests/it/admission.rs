//! Both admission rules over claims of real and fabricated evidence.

use marblerun_attestation::{
    AdmitError, Claims, ClientAdmitError, ClientWarning, Collateral, ErrorClass, OCCLUM_TEMPLATE_SIGNER, Package,
    Quote, ReportDigest, TcbStatus, VerifiedReport, admit, admit_coordinator, verify,
};
use serde_json::json;

use crate::fixtures::vector;
use crate::pki::{Plan, World, level};

/// The status, given without advisories, and a report bound to `binding()`.
fn report(change: impl FnOnce(&mut Plan)) -> VerifiedReport {
    let mut plan = Plan::default();
    plan.report[320..352].copy_from_slice(binding().as_bytes());
    change(&mut plan);
    World::new().make(&plan).verify().unwrap()
}

fn report_with_status(status: TcbStatus, advisories: &[&str]) -> VerifiedReport {
    report(|plan| plan.tcb_info["tcbLevels"] = json!([level(5, 13, status.as_str(), advisories)]))
}

fn report_of_vector(id: &str) -> VerifiedReport {
    let vector = vector(id);
    let collateral = Collateral::parse(&vector.collateral).unwrap().verify(&vector.roots(), vector.now).unwrap();
    verify(&Quote::parse(&vector.evidence).unwrap(), &collateral, vector.now).unwrap()
}

fn binding() -> ReportDigest {
    ReportDigest::of(b"certificate")
}

fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn statuses(words: &[&str]) -> Package {
    Package { accepted_tcb_statuses: list(words), ..Package::default() }
}

/// What a complete package for [`report`] says.
fn package() -> Package {
    Package {
        unique_id: Some("E1".repeat(32)),
        signer_id: Some("51".repeat(32)),
        product_id: Some(7),
        security_version: Some(3),
        ..Package::default()
    }
}

#[track_caller]
fn check_refused(report: &VerifiedReport, package: &Package, class: ErrorClass, message: &str) {
    let error = admit(report, binding(), package).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.class(), error.code()), (message, class, class.code()));
}

// rules: ACT-3.1, ATT-5
#[test]
fn every_status_with_every_kind_of_list_gives_the_documented_outcome() {
    use TcbStatus::*;
    // Columns: no list; only UpToDate; every status listed.
    let everything: Vec<&str> = TcbStatus::ALL.map(TcbStatus::as_str).to_vec();
    let rows = [
        (UpToDate, [true, true, true]),
        (SWHardeningNeeded, [true, false, true]),
        (ConfigurationNeeded, [false, false, true]),
        (ConfigurationAndSWHardeningNeeded, [false, false, true]),
        (OutOfDate, [false, false, true]),
        (OutOfDateConfigurationNeeded, [false, false, true]),
        (Revoked, [false, false, false]),
    ];
    for (status, expected) in rows {
        let report = report_with_status(status, &["INTEL-SA-00001"]);
        for (words, accepted) in [&[][..], &["UpToDate"], &everything].into_iter().zip(expected) {
            let verdict = admit(&report, binding(), &statuses(words));
            assert_eq!(verdict.is_ok(), accepted, "{status} under {words:?}: {verdict:?}");
            if let Err(error) = verdict {
                assert_eq!(error.class(), ErrorClass::TcbStatus);
                assert!(error.to_string().starts_with(&format!("invalid TCB status: {status}")), "{error}");
            }
        }
    }
}

// rules: ACT-3.1, ATT-5
#[test]
fn a_list_of_statuses_replaces_the_default_and_is_case_sensitive() {
    let report = report_with_status(TcbStatus::SWHardeningNeeded, &[]);
    admit(&report, binding(), &statuses(&["SWHardeningNeeded"])).unwrap();
    for words in [&["OutOfDate"], &["swhardeningneeded"]] {
        let error = admit(&report, binding(), &statuses(words)).unwrap_err();
        let expected = list(&["UpToDate", words[0]]);
        assert_eq!(error, AdmitError::TcbStatus { expected, got: TcbStatus::SWHardeningNeeded });
    }
    // What is up to date is always accepted.
    admit(&self::report(|_| ()), binding(), &statuses(&["OutOfDate"])).unwrap();
}

// rules: ATT-3.5
#[test]
fn a_revoked_platform_is_refused_by_both_rules_even_if_listed() {
    let report = report_with_status(TcbStatus::Revoked, &[]);
    let package = Package { accepted_tcb_statuses: list(&["Revoked"]), ..package() };
    assert_eq!(admit(&report, binding(), &package), Err(AdmitError::Revoked));
    assert_eq!(admit_coordinator(&report, binding(), &package), Err(ClientAdmitError::Refused(AdmitError::Revoked)));
}

// rules: OCC-9
#[test]
fn an_enclave_of_occlums_published_key_is_refused_unless_it_is_for_debugging() {
    let signed = |debug: bool| {
        report(|plan| {
            plan.report[128..160].copy_from_slice(&OCCLUM_TEMPLATE_SIGNER);
            plan.report[48] |= if debug { 2 } else { 0 };
        })
    };
    let unique_id = || Package { unique_id: Some("E1".repeat(32)), ..Package::default() };
    let by_signer = Package { signer_id: Some(hex::encode(OCCLUM_TEMPLATE_SIGNER)), ..package() };
    // Not even a UniqueID helps, and what is wrong is told before what else may be.
    for package in [unique_id(), by_signer, package()] {
        let message = "SignerID 83d719e77deaca1470f6baf62a4d774303c899db69020f9c70ee1dfc08c7ce9e is that of the signing key \
                       that is published with Occlum, expected a key of your own";
        check_refused(&signed(false), &package, ErrorClass::Package, message);
    }
    admit(&signed(true), binding(), &Package { debug: true, ..unique_id() }).unwrap();
    let mut other = OCCLUM_TEMPLATE_SIGNER;
    other[31] ^= 1;
    let report = report(|plan| plan.report[128..160].copy_from_slice(&other));
    admit(&report, binding(), &unique_id()).unwrap();
}

// rules: ACT-3.2, ATT-6
#[test]
fn advisories_count_only_for_software_hardening_and_ignore_case() {
    let of = |status, words: &[&str]| {
        let report = report_with_status(status, &["INTEL-SA-00001", "INTEL-SA-00002"]);
        let package = Package { accepted_advisories: list(words), ..statuses(&[status.as_str()]) };
        admit(&report, binding(), &package)
    };
    of(TcbStatus::SWHardeningNeeded, &[]).unwrap();
    let admission = of(TcbStatus::SWHardeningNeeded, &["intel-sa-00001", "Intel-SA-00002"]).unwrap();
    assert_eq!(admission.advisories, ["INTEL-SA-00001", "INTEL-SA-00002"]);
    let error = of(TcbStatus::SWHardeningNeeded, &["INTEL-SA-00002"]).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Advisories);
    assert_eq!(
        error.to_string(),
        "platform has advisories that are not accepted: INTEL-SA-00001, expected only INTEL-SA-00002"
    );
    for status in [TcbStatus::UpToDate, TcbStatus::OutOfDate, TcbStatus::ConfigurationAndSWHardeningNeeded] {
        of(status, &["INTEL-SA-00009"]).unwrap();
    }
}

// rules: ATT-7.1
#[test]
fn a_real_platform_that_needs_software_hardening_follows_the_lists() {
    let report = report_of_vector("sgx-automata");
    let judge = |statuses: &[&str], advisories: &[&str]| {
        let package = Package {
            accepted_tcb_statuses: list(statuses),
            accepted_advisories: list(advisories),
            ..Package::default()
        };
        admit(&report, report.report_data().digest(), &package)
    };
    judge(&[], &[]).unwrap();
    assert_eq!(judge(&["UpToDate"], &[]).unwrap_err().class(), ErrorClass::TcbStatus);
    judge(&["SWHardeningNeeded"], &["intel-sa-00615"]).unwrap();
    let error = judge(&["SWHardeningNeeded"], &["INTEL-SA-00334"]).unwrap_err();
    assert!(error.to_string().contains("INTEL-SA-00615"), "{error}");
}

// rules: ATT-7.2
#[test]
fn a_real_debug_enclave_of_occlum_needs_debug_and_its_status_listed() {
    let report = report_of_vector("sgx-occlum-debug");
    let judge = |debug, statuses: &[&str], advisories: &[&str]| {
        let package = Package {
            debug,
            accepted_tcb_statuses: list(statuses),
            accepted_advisories: list(advisories),
            ..Package::default()
        };
        admit(&report, report.report_data().digest(), &package)
    };
    assert_eq!(judge(false, &["OutOfDate"], &[]).unwrap_err(), AdmitError::Debug { expected: false, got: true });
    assert!(judge(true, &["OutOfDate"], &[]).unwrap().debug);
    judge(true, &["OutOfDate"], &["INTEL-SA-99999"]).unwrap();
    assert_eq!(judge(true, &[], &[]).unwrap_err().class(), ErrorClass::TcbStatus);
}

// rules: ACT-3.3, ATT-8.1
#[test]
fn a_quote_over_another_certificate_is_refused() {
    let report = report(|_| ());
    let other = ReportDigest::of(b"another certificate");
    let error = admit(&report, other, &package()).unwrap_err();
    assert_eq!(error, AdmitError::ReportData { expected: other, got: binding() });
    assert_eq!((error.class(), error.code()), (ErrorClass::ReportData, "report-data"));
    let error = admit_coordinator(&report, other, &package()).unwrap_err();
    assert_eq!(error.class(), ErrorClass::ReportData);
}

// rules: ACT-3.4
#[test]
fn the_second_half_of_the_report_data_does_not_matter() {
    let report = report(|plan| plan.report[352..384].fill(0xff));
    admit(&report, binding(), &package()).unwrap();
    admit_coordinator(&report, binding(), &package()).unwrap();
    assert_eq!(report.report_data().second_half(), [0xff; 32]);
}

// rules: ACT-3.5, ATT-7.4
#[test]
fn each_property_of_the_package_must_fit() {
    let report = report(|_| ());
    let admission = admit(&report, binding(), &package()).unwrap();
    assert_eq!((admission.tcb_status, admission.debug), (TcbStatus::UpToDate, false));
    let class = ErrorClass::Package;
    let (e1, s1) = ("e1".repeat(32), "51".repeat(32));
    let mut changed = package();
    changed.unique_id = Some("00".repeat(32));
    check_refused(&report, &changed, class, &format!("expected UniqueID {}, got {e1}", "00".repeat(32)));
    let mut changed = package();
    changed.unique_id = Some("e1".to_owned());
    check_refused(&report, &changed, class, &format!("expected UniqueID e1, got {e1}"));
    let mut changed = package();
    changed.signer_id = Some("not hex".to_owned());
    check_refused(&report, &changed, class, &format!("expected SignerID not hex, got {s1}"));
    let mut changed = package();
    changed.product_id = Some(7 + (1 << 16));
    check_refused(&report, &changed, class, "expected ProductID 65543, got 7");
    let mut changed = package();
    changed.product_id = Some(0);
    check_refused(&report, &changed, class, "expected ProductID 0, got 7");
    let mut changed = package();
    changed.security_version = Some(4);
    check_refused(&report, &changed, class, "expected SecurityVersion of at least 4, got 3");
    for version in [0, 2, 3] {
        let changed = Package { security_version: Some(version), ..package() };
        admit(&report, binding(), &changed).unwrap();
    }
    let empty = Package { unique_id: Some(String::new()), signer_id: Some(String::new()), ..Package::default() };
    admit(&report, binding(), &empty).unwrap();
}

// rules: ATT-7.3
#[test]
fn debug_is_equality_for_the_coordinator_and_a_permission_for_clients() {
    let production = report(|_| ());
    let debug = report(|plan| plan.report[48] |= 2);
    let permits = Package { debug: true, ..package() };
    check_refused(&production, &permits, ErrorClass::Debug, "expected Debug true, got false");
    check_refused(&debug, &package(), ErrorClass::Debug, "expected Debug false, got true");
    admit(&debug, binding(), &permits).unwrap();
    admit_coordinator(&production, binding(), &permits).unwrap();
    assert_eq!(admit_coordinator(&debug, binding(), &permits).unwrap().warnings, [ClientWarning::Debug]);
    let error = admit_coordinator(&debug, binding(), &package()).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Debug);
    assert!(error.hint().is_some());
}

#[test]
fn the_coordinator_reports_status_then_advisories_then_binding_then_properties() {
    let advisories = &["INTEL-SA-00001"][..];
    let wrong = Package { accepted_advisories: list(&["other"]), product_id: Some(1), ..Package::default() };
    let other = ReportDigest::of(b"other");
    let class_of =
        |report: &VerifiedReport, binding, package: &Package| admit(report, binding, package).unwrap_err().class();
    assert_eq!(class_of(&report_with_status(TcbStatus::OutOfDate, advisories), other, &wrong), ErrorClass::TcbStatus);
    let hardening = report_with_status(TcbStatus::SWHardeningNeeded, advisories);
    assert_eq!(class_of(&hardening, other, &wrong), ErrorClass::Advisories);
    assert_eq!(class_of(&report(|_| ()), other, &wrong), ErrorClass::ReportData);
    assert_eq!(class_of(&report(|_| ()), binding(), &wrong), ErrorClass::Package);
}

#[test]
fn a_client_reports_a_wrong_identity_before_a_bad_status() {
    let report = report_with_status(TcbStatus::OutOfDate, &[]);
    let wrong = Package { unique_id: Some("00".repeat(32)), ..Package::default() };
    assert_eq!(admit_coordinator(&report, binding(), &wrong).unwrap_err().class(), ErrorClass::Package);
    let error = admit_coordinator(&report, binding(), &package()).unwrap_err();
    assert_eq!(error.to_string(), "invalid TCB status: OutOfDate, expected UpToDate or SWHardeningNeeded");
    admit_coordinator(&report, binding(), &Package { accepted_tcb_statuses: list(&["OutOfDate"]), ..package() })
        .unwrap();
}

#[test]
fn each_property_of_a_client_must_fit() {
    let report = report(|_| ());
    let refused = |change: &dyn Fn(&mut Package)| {
        let mut package = package();
        change(&mut package);
        admit_coordinator(&report, binding(), &package).unwrap_err().to_string()
    };
    assert!(refused(&|package| package.unique_id = Some("00".repeat(32))).starts_with("expected UniqueID 00"));
    assert!(refused(&|package| package.signer_id = Some("00".repeat(32))).starts_with("expected SignerID 00"));
    assert_eq!(refused(&|package| package.product_id = Some(8)), "expected ProductID 8, got 7");
    let message = "expected SecurityVersion of at least 4, got 3";
    assert_eq!(refused(&|package| package.security_version = Some(4)), message);
    let advisories = report_with_status(TcbStatus::SWHardeningNeeded, &["INTEL-SA-00001"]);
    let package = Package { accepted_advisories: list(&["INTEL-SA-00002"]), ..package() };
    let error = admit_coordinator(&advisories, binding(), &package).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Advisories);
}

// rules: ATT-3, ATT-4
#[test]
fn a_client_needs_readable_and_complete_expectations() {
    let report = report(|_| ());
    let judge = |package: &Package| admit_coordinator(&report, binding(), package);
    let unreadable = Package { unique_id: Some("xyz".to_owned()), ..package() };
    let error = judge(&unreadable).unwrap_err();
    assert_eq!(error.to_string(), "expected UniqueID in hex, got \"xyz\"");
    let unreadable = Package { signer_id: Some("5".to_owned()), ..package() };
    assert_eq!(judge(&unreadable).unwrap_err().to_string(), "expected SignerID in hex, got \"5\"");
    let without_id = Package { unique_id: None, ..package() };
    assert_eq!(judge(&without_id).unwrap().warnings, []);
    for (field, package) in [
        ("SecurityVersion", Package { security_version: Some(0), ..without_id.clone() }),
        ("ProductID", Package { product_id: None, ..without_id.clone() }),
    ] {
        let error = judge(&package).unwrap_err();
        assert_eq!(error, ClientAdmitError::Incomplete { field });
        assert_eq!(error.class(), ErrorClass::Package);
    }
    let nobody = Package { signer_id: None, ..without_id };
    assert_eq!(judge(&nobody).unwrap().warnings, [ClientWarning::NoIdentity]);
    // With a UniqueID the rest may be missing, and zero means not given.
    let unique = Package { unique_id: package().unique_id, product_id: Some(0), ..Package::default() };
    assert_eq!(judge(&unique).unwrap().warnings, []);
}

#[test]
fn the_claims_of_a_real_occlum_enclave_are_read_from_the_right_places() {
    let report = report_of_vector("sgx-occlum-debug");
    let Claims::Sgx(sgx) = report.claims() else { panic!("another TEE") };
    assert!(hex::encode(sgx.mr_enclave).starts_with("8f173e46"));
    assert!(hex::encode(sgx.mr_signer).starts_with("83d719e7"));
    assert_eq!((sgx.isv_prod_id, sgx.isv_svn, sgx.misc_select, sgx.attributes[0]), (0, 0, 1, 7));
    assert!(sgx.report_data.as_bytes().starts_with(b"test\0"));
}
