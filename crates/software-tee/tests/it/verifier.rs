//! The product's own verifier: the same code for a development root and for hardware, and each refusal for its reason.

use marblerun_attestation::{
    AdmitError, Claims, Collateral, CollateralFloor, ErrorClass, Package, Quote, ReportData, TcbStatus, TrustClass,
    TrustRoots, VerifiedReport, admit, verify,
};
use marblerun_software_tee::{
    CollateralOptions, Dates, DevelopmentRoot, EnclaveIdentity, PckCa, Revoked, RootOptions, Tamper, TcbInfoSigner,
};

use crate::support::{CREATED, DAY, Fixture, IDENTITY, REPORT_DATA, at, fixture, fixture_with};

/// The class of a refusal, and its text for the failure message.
type Refusal = (ErrorClass, String);

fn roots(root: &DevelopmentRoot) -> TrustRoots {
    TrustRoots::software([("development", root.root_der())]).unwrap()
}

fn judge(roots: &TrustRoots, quote: &[u8], collateral: &str, now: u64) -> Result<VerifiedReport, Refusal> {
    let collateral = Collateral::parse(collateral.as_bytes()).map_err(|error| (error.class(), error.to_string()))?;
    let collateral = collateral.verify(roots, at(now)).map_err(|error| (error.class(), error.to_string()))?;
    let quote = Quote::parse(quote).map_err(|error| (error.class(), error.to_string()))?;
    verify(&quote, &collateral, at(now)).map_err(|error| (error.class(), error.to_string()))
}

fn judge_fixture(fixture: &Fixture, options: &CollateralOptions) -> Result<VerifiedReport, Refusal> {
    let quote = fixture.quote();
    judge(&roots(&fixture.root), &quote, &fixture.collateral(options), CREATED + DAY)
}

#[track_caller]
fn check_refused(bend: impl FnOnce(&mut CollateralOptions), expected: ErrorClass) {
    let mut options = CollateralOptions::default();
    bend(&mut options);
    let (class, text) = judge_fixture(&fixture(), &options).expect_err("must be refused");
    assert_eq!(class, expected, "{text}");
}

// rules: ATT-10.1, ATT-10.5
#[test]
fn our_verifier_accepts_both_kinds_of_platform_under_the_root_it_was_told_and_names_the_class() {
    for pck_ca in [PckCa::Platform, PckCa::Processor] {
        let fixture = fixture_with(RootOptions { pck_ca, ..RootOptions::default() });
        let report = judge_fixture(&fixture, &CollateralOptions::default()).unwrap();
        assert_eq!(report.trust_class(), TrustClass::Software);
        assert_eq!(report.tcb_status(), TcbStatus::UpToDate);
        let Claims::Sgx(sgx) = report.claims() else { panic!("not SGX") };
        assert_eq!(sgx.mr_enclave, IDENTITY.mr_enclave);
        assert_eq!(sgx.mr_signer, IDENTITY.mr_signer);
        assert_eq!((sgx.isv_prod_id, sgx.isv_svn, report.is_debug()), (7, 3, false));
    }
}

// rules: ATT-7.7, ATT-10.2
#[test]
fn a_hardware_verifier_refuses_software_evidence_as_such() {
    let fixture = fixture();
    let collateral = fixture.collateral(&CollateralOptions::default());
    let (class, text) = judge(&TrustRoots::hardware(), &fixture.quote(), &collateral, CREATED).unwrap_err();
    assert_eq!(class, ErrorClass::SoftwareRoot, "{text}");
}

// rules: ATT-10.5
#[test]
fn evidence_of_another_development_root_is_refused_with_either_collateral() {
    let (fixture, other) = (fixture(), fixture());
    let good = CollateralOptions::default();
    let (own, foreign) = (fixture.collateral(&good), other.collateral(&good));
    let trusted = roots(&fixture.root);
    judge(&trusted, &fixture.quote(), &own, CREATED).unwrap();
    for (quote, collateral) in
        [(other.quote(), foreign.as_str()), (other.quote(), &own), (fixture.quote(), foreign.as_str())]
    {
        let (class, text) = judge(&trusted, &quote, collateral, CREATED).unwrap_err();
        assert_eq!(class, ErrorClass::UntrustedRoot, "{text}");
    }
}

// rules: ATT-10.5
#[test]
fn every_changed_byte_of_the_signed_parts_is_refused() {
    let fixture = fixture();
    let trusted = roots(&fixture.root);
    let collateral = Collateral::parse(fixture.collateral(&CollateralOptions::default()).as_bytes()).unwrap();
    let collateral = collateral.verify(&trusted, at(CREATED)).unwrap();
    let quote = fixture.quote();
    for offset in 0..1048 {
        let mut changed = quote.clone();
        changed[offset] ^= 0x10;
        let accepted = Quote::parse(&changed).is_ok_and(|quote| verify(&quote, &collateral, at(CREATED)).is_ok());
        assert!(!accepted, "byte {offset} was changed unnoticed");
    }
}

// rules: ATT-10.5
#[test]
fn our_verifier_reports_each_status_and_refuses_unknown_ones() {
    for (text, status) in [
        ("UpToDate", TcbStatus::UpToDate),
        ("SWHardeningNeeded", TcbStatus::SWHardeningNeeded),
        ("ConfigurationNeeded", TcbStatus::ConfigurationNeeded),
        ("ConfigurationAndSWHardeningNeeded", TcbStatus::ConfigurationAndSWHardeningNeeded),
        ("OutOfDate", TcbStatus::OutOfDate),
        ("OutOfDateConfigurationNeeded", TcbStatus::OutOfDateConfigurationNeeded),
        ("Revoked", TcbStatus::Revoked),
    ] {
        let options = CollateralOptions { tcb_status: text.to_owned(), ..CollateralOptions::default() };
        let report = judge_fixture(&fixture(), &options).unwrap();
        assert_eq!(report.tcb_status(), status);
        if status == TcbStatus::Revoked {
            // Listing it in the manifest must not help.
            let package = Package { accepted_tcb_statuses: vec!["Revoked".to_owned()], ..package(false) };
            assert_eq!(admit(&report, report.report_data().digest(), &package), Err(AdmitError::Revoked));
        }
    }
    check_refused(|options| options.tcb_status = "Splendid".to_owned(), ErrorClass::Malformed);
}

// rules: ATT-2.1, ATT-10.5
#[test]
fn each_tampered_item_is_a_wrong_signature_for_our_verifier() {
    for tamper in [
        Tamper::TcbInfo,
        Tamper::TcbInfoSignature,
        Tamper::QeIdentity,
        Tamper::QeIdentitySignature,
        Tamper::RootCrl,
        Tamper::PckCrl,
    ] {
        check_refused(|options| options.tamper = Some(tamper), ErrorClass::Signature);
    }
}

// rules: ATT-3.3, ATT-10.5
#[test]
fn revoked_keys_are_refused_by_our_verifier() {
    for revoked in [Revoked::Pck, Revoked::PckCa, Revoked::TcbSigning, Revoked::Root] {
        check_refused(|options| options.revoked = vec![revoked], ErrorClass::Revoked);
    }
}

// rules: ATT-10.5
#[test]
fn expired_and_early_collateral_is_refused_by_our_verifier_item_by_item() {
    let past = Some(Dates { issued: at(CREATED - 2 * DAY), next_update: at(CREATED - DAY) });
    let future = Some(Dates { issued: at(CREATED + 2 * DAY), next_update: at(CREATED + 3 * DAY) });
    for dates in [past, future] {
        check_refused(|options| options.tcb_info_dates = dates, ErrorClass::ExpiredCollateral);
        check_refused(|options| options.qe_identity_dates = dates, ErrorClass::ExpiredCollateral);
    }
    // A list that was issued later than now says nothing wrong about now; only its end counts.
    check_refused(|options| options.root_crl_dates = past, ErrorClass::ExpiredCollateral);
    check_refused(|options| options.pck_crl_dates = past, ErrorClass::ExpiredCollateral);
}

// rules: ATT-3.4, ATT-10.5
#[test]
fn tcb_info_signed_by_the_platform_key_is_refused_by_our_verifier() {
    let options = CollateralOptions { tcb_info_signer: TcbInfoSigner::Pck, ..CollateralOptions::default() };
    judge_fixture(&fixture(), &options).unwrap_err();
}

#[test]
fn another_platform_kind_or_a_level_above_the_platform_is_refused_by_our_verifier() {
    check_refused(|options| options.fmspc = [0, 0x90, 0x6E, 0xD5, 0, 0], ErrorClass::CollateralMismatch);
    check_refused(|options| options.pce_id = "0001".to_owned(), ErrorClass::CollateralMismatch);
    check_refused(|options| options.tcb_type = 1, ErrorClass::Unsupported);
    check_refused(|options| options.tcb_info_version = 9, ErrorClass::Unsupported);
    check_refused(|options| options.required_cpu_svn = [6; 16], ErrorClass::TcbUnsupported);
    check_refused(|options| options.required_pce_svn = 14, ErrorClass::TcbUnsupported);
    check_refused(|options| options.required_qe_svn = 9, ErrorClass::TcbUnsupported);
}

// rules: ATT-10.4, ATT-10.5
#[test]
fn a_debug_enclave_is_a_claim_of_which_admission_judges() {
    let fixture = fixture();
    let quote = fixture.root.quote(&EnclaveIdentity { debug: true, ..IDENTITY }, &REPORT_DATA).unwrap();
    let collateral = fixture.collateral(&CollateralOptions::default());
    let report = judge(&roots(&fixture.root), &quote, &collateral, CREATED).unwrap();
    assert!(report.is_debug());
    let admitted = |debug| admit(&report, report.report_data().digest(), &package(debug));
    admitted(true).unwrap();
    assert!(matches!(admitted(false), Err(AdmitError::Debug { expected: false, got: true })));
}

#[test]
fn admission_compares_each_measured_field_with_the_package() {
    let fixture = fixture();
    let report = judge_fixture(&fixture, &CollateralOptions::default()).unwrap();
    let binding = report.report_data().digest();
    let refused = |package: Package| admit(&report, binding, &package).unwrap_err().class();
    let good = package(false);
    admit(&report, binding, &good).unwrap();
    for wrong in [
        Package { unique_id: Some("ab".repeat(32)), ..good.clone() },
        Package { signer_id: Some("ab".repeat(32)), ..good.clone() },
        Package { product_id: Some(8), ..good.clone() },
        Package { security_version: Some(4), ..good.clone() },
    ] {
        assert_eq!(refused(wrong), ErrorClass::Package);
    }
    let other = ReportData::new(&[0x52; 64]).unwrap().digest();
    assert_eq!(admit(&report, other, &good).unwrap_err().class(), ErrorClass::ReportData);
}

/// The package that describes [`IDENTITY`].
fn package(debug: bool) -> Package {
    Package {
        debug,
        unique_id: Some(hex::encode(IDENTITY.mr_enclave)),
        signer_id: Some(hex::encode(IDENTITY.mr_signer)),
        product_id: Some(IDENTITY.isv_prod_id.into()),
        security_version: Some(IDENTITY.isv_svn.into()),
        ..Package::default()
    }
}

// rules: ATT-11.4
#[test]
fn valid_collateral_with_a_lower_evaluation_number_is_refused_once_a_higher_one_was_seen() {
    let fixture = fixture();
    let trusted = |evaluation_number| {
        let text = fixture.collateral(&CollateralOptions { evaluation_number, ..CollateralOptions::default() });
        Collateral::parse(text.as_bytes()).unwrap().verify(&roots(&fixture.root), at(CREATED)).unwrap()
    };
    let mut floor = CollateralFloor::default();
    floor.check(&trusted(17)).unwrap();
    assert!(floor.observe(&trusted(18)));
    floor.check(&trusted(18)).unwrap();
    assert_eq!(floor.check(&trusted(17)).unwrap_err().class(), ErrorClass::CollateralRollback);
}
