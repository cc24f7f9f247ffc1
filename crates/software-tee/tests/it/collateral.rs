//! Collateral: each option bends exactly one thing, and an independent verifier notices.

use marblerun_software_tee::{CollateralOptions, Dates, Revoked, Tamper, TcbInfoSigner};

use crate::support::{CREATED, DAY, at, fixture};

#[track_caller]
fn check_refused(bend: impl FnOnce(&mut CollateralOptions), because: &str) {
    let fixture = fixture();
    let mut options = CollateralOptions::default();
    bend(&mut options);
    let collateral = fixture.collateral(&options);
    let refused = fixture.verify(&fixture.quote(), &collateral, CREATED + DAY).map(|report| report.status);
    let refused = refused.expect_err(because);
    assert!(refused.contains(because), "expected `{because}`, got `{refused}`");
}

// rules: ATT-10.4
#[test]
fn every_status_and_advisory_reaches_the_verifier() {
    for status in [
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
    ] {
        let fixture = fixture();
        let options = CollateralOptions {
            tcb_status: status.to_owned(),
            advisories: vec!["INTEL-SA-00615".to_owned()],
            ..CollateralOptions::default()
        };
        let report = fixture.verify(&fixture.quote(), &fixture.collateral(&options), CREATED).unwrap();
        assert_eq!(report.status, status);
        assert_eq!(report.advisory_ids, ["INTEL-SA-00615"]);
    }
}

#[test]
fn the_quoting_enclaves_status_and_advisories_are_merged_by_the_verifier() {
    let fixture = fixture();
    let options = CollateralOptions {
        qe_status: "OutOfDate".to_owned(),
        qe_advisories: vec!["INTEL-SA-00219".to_owned()],
        ..CollateralOptions::default()
    };
    let report = fixture.verify(&fixture.quote(), &fixture.collateral(&options), CREATED).unwrap();
    assert_eq!(report.status, "OutOfDate");
    assert_eq!(report.advisory_ids, ["INTEL-SA-00219"]);
}

// rules: ATT-10.4, ATT-10.5
#[test]
fn revoked_and_unknown_statuses_are_refused() {
    for (status, because) in [("Revoked", "TCB status is invalid: Revoked"), ("Splendid", "unknown variant `Splendid`")]
    {
        check_refused(|options| options.tcb_status = status.to_owned(), because);
    }
}

// rules: ATT-10.4
#[test]
fn each_revoked_certificate_is_refused() {
    for revoked in [Revoked::Pck, Revoked::PckCa, Revoked::TcbSigning, Revoked::Root] {
        check_refused(|options| options.revoked = vec![revoked], "CertRevoked");
    }
}

// rules: ATT-10.4
#[test]
fn each_tampered_item_is_refused() {
    for (tamper, because) in [
        (Tamper::TcbInfo, "Signature is invalid for tcb_info"),
        (Tamper::TcbInfoSignature, "Signature is invalid for tcb_info"),
        (Tamper::QeIdentity, "Signature is invalid for qe_identity"),
        (Tamper::QeIdentitySignature, "Signature is invalid for qe_identity"),
        (Tamper::RootCrl, "root CA CRL: InvalidCrlSignatureForPublicKey"),
        (Tamper::PckCrl, "certificate chain: InvalidCrlSignatureForPublicKey"),
        (Tamper::CrlsExchanged, "root CA CRL: InvalidCrlSignatureForPublicKey"),
    ] {
        check_refused(|options| options.tamper = Some(tamper), because);
    }
}

// rules: ATT-10.4
#[test]
fn tcb_info_signed_by_the_platform_key_is_refused() {
    check_refused(|options| options.tcb_info_signer = TcbInfoSigner::Pck, "issued directly by the root");
}

// rules: ATT-10.4
#[test]
fn each_expired_or_early_item_is_refused_on_its_own() {
    let past = Some(Dates { issued: at(CREATED - 2 * DAY), next_update: at(CREATED - DAY) });
    let future = Some(Dates { issued: at(CREATED + 2 * DAY), next_update: at(CREATED + 3 * DAY) });
    for dates in [past, future] {
        check_refused(|options| options.tcb_info_dates = dates, "TCBInfo");
        check_refused(|options| options.qe_identity_dates = dates, "QE");
    }
    // The independent verifier does not look at thisUpdate of CRLs.
    check_refused(|options| options.root_crl_dates = past, "CrlExpired");
    check_refused(|options| options.pck_crl_dates = past, "CrlExpired");
}

// rules: ATT-10.4
#[test]
fn another_platforms_collateral_and_a_level_above_the_platform_are_refused() {
    check_refused(|options| options.fmspc = [0, 0x90, 0x6E, 0xD5, 0, 0], "Fmspc mismatch");
    check_refused(|options| options.required_cpu_svn = [6; 16], "TCB level");
    check_refused(|options| options.required_pce_svn = 14, "TCB level");
    check_refused(|options| options.required_qe_svn = 9, "QE ISVSVN 8 is below");
}

#[test]
fn collateral_is_due_again_after_30_days_but_never_after_the_root() {
    let fixture = fixture();
    let due = |issued: u64| {
        let collateral = fixture.root.collateral(at(issued), &CollateralOptions::default()).unwrap();
        let collateral: serde_json::Value = serde_json::from_str(&collateral).unwrap();
        let info: serde_json::Value = serde_json::from_str(collateral["tcb_info"].as_str().unwrap()).unwrap();
        (info["issueDate"].as_str().unwrap().to_owned(), info["nextUpdate"].as_str().unwrap().to_owned())
    };
    let root_ends = "2026-12-23T00:00:00Z".to_owned();
    assert_eq!(due(CREATED), ("2026-11-23T00:00:00Z".to_owned(), root_ends.clone()));
    assert_eq!(due(CREATED + DAY), ("2026-11-24T00:00:00Z".to_owned(), root_ends));
}

#[test]
fn identity_fields_that_a_strict_verifier_checks_can_be_set() {
    let fixture = fixture();
    let options = CollateralOptions {
        pce_id: "0001".to_owned(),
        tcb_type: 1,
        tcb_info_version: 9,
        evaluation_number: 17,
        ..CollateralOptions::default()
    };
    let collateral: serde_json::Value = serde_json::from_str(&fixture.collateral(&options)).unwrap();
    let info: serde_json::Value = serde_json::from_str(collateral["tcb_info"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&info["pceId"], &info["tcbType"], &info["version"], &info["tcbEvaluationDataNumber"], &info["fmspc"]),
        (&"0001".into(), &1.into(), &9.into(), &17.into(), &"FF5357544545".into())
    );
}

#[test]
fn the_bundle_has_the_documented_name_and_is_replaced_whole() {
    let fixture = fixture();
    let bundle = fixture.directory.path().join("bundle");
    let export = |options: &CollateralOptions| fixture.root.export_bundle(&bundle, at(CREATED), options).unwrap();
    let path = export(&CollateralOptions::default());
    assert_eq!(path, bundle.join("dcap/sgx-FF5357544545-platform.json"));
    let first = std::fs::read_to_string(&path).unwrap();
    fixture.verify(&fixture.quote(), &first, CREATED).unwrap();

    let path = export(&CollateralOptions { tcb_status: "OutOfDate".to_owned(), ..CollateralOptions::default() });
    let second = std::fs::read_to_string(&path).unwrap();
    assert_eq!(fixture.verify(&fixture.quote(), &second, CREATED).unwrap().status, "OutOfDate");
    let names: Vec<_> = std::fs::read_dir(bundle.join("dcap")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["sgx-FF5357544545-platform.json"], "no temporary file is left behind");
}
