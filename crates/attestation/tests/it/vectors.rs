//! Every vector gives the listed result at the listed time.

use marblerun_attestation::{
    AdmitError, Collateral, ErrorClass, Package, Quote, TcbStatus, VerifiedReport, admit, verify, with_oe_header,
};

use crate::fixtures::{Vector, vectors};

/// Evidence of TEEs that this crate does not verify. A new entry in the index must be added here or pass.
const OTHER_TEES: [&str; 27] = [
    "tdx-v4-uptodate",
    "tdx-nolevel",
    "tdx-v5-td15ex",
    "tdx-v5-relaunch",
    "tdx-v5-servicetd-refused",
    "tdx-v5-migratable-refused",
    "tdx-v4-padded-outofdate",
    "tdx-v4-dcaprs",
    "tdx-v4-spr-nolevel",
    "tdx-v4-trustee-parse",
    "swtee-tdx",
    "swtee-tdx-intelroot",
    "snp-milan",
    "snp-genoa",
    "snp-turin",
    "snp-milan-v2",
    "snp-milan-v2-wrongvcek",
    "snp-milan-v2-wrongroot",
    "snp-milan-v2-late",
    "snp-milan-debug",
    "snp-milan-provisional",
    "snp-milan-badsig",
    "snp-milan-vlek",
    "snp-milan-vlek-expired",
    "snp-milan-vlek-under-ask",
    "swtee-snp",
    "swtee-snp-amdroot",
];

/// Verification, then admission of whatever the evidence claims, with debugging as the vector says.
fn judge(vector: &Vector, evidence: &[u8]) -> Result<VerifiedReport, (ErrorClass, String)> {
    let quote = Quote::parse(evidence).map_err(|error| (error.class(), error.to_string()))?;
    let collateral = Collateral::parse(&vector.collateral)
        .and_then(|collateral| collateral.verify(&vector.roots(), vector.now))
        .map_err(|error| (error.class(), error.to_string()))?;
    let report = verify(&quote, &collateral, vector.now).map_err(|error| (error.class(), error.to_string()))?;
    let package = Package {
        debug: vector.allow_debug,
        accepted_tcb_statuses: TcbStatus::ALL.map(|status| status.to_string()).to_vec(),
        ..Package::default()
    };
    match admit(&report, report.report_data().digest(), &package) {
        Ok(_) => Ok(report),
        Err(error @ AdmitError::Debug { .. }) => Err((error.class(), error.to_string())),
        Err(error) => panic!("{}: {error}", vector.id),
    }
}

fn check(vector: &Vector) {
    let id = &vector.id;
    let verdict = judge(vector, &vector.evidence);
    let with_header = judge(vector, &with_oe_header(&vector.evidence));
    assert_eq!(verdict, with_header, "{id}: the header must not matter");
    let expect = vector.expect.as_object().unwrap();
    match expect["result"].as_str().unwrap() {
        "accept" => {
            assert_eq!(expect.len(), 3, "{id}: unknown expectation");
            let report = verdict.unwrap_or_else(|error| panic!("{id}: {error:?}"));
            assert_eq!(report.tcb_status().as_str(), expect["tcbStatus"].as_str().unwrap(), "{id}");
            let advisories: Vec<_> =
                expect["advisories"].as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect();
            assert_eq!(report.advisories(), advisories, "{id}");
        }
        "reject" => {
            assert_eq!(expect.len(), 2, "{id}: unknown expectation");
            let why = expect["why"].as_str().unwrap();
            let (class, message) = verdict.err().unwrap_or_else(|| panic!("{id} was accepted, expected {why}"));
            let expected: &[ErrorClass] = match why {
                "collateral expired" | "collateral not yet valid" => &[ErrorClass::ExpiredCollateral],
                "root not trusted" if id == "swtee-sgx-intelroot" => &[ErrorClass::SoftwareRoot],
                "root not trusted" if id == "sgx-confhard-testroot" => &[ErrorClass::HardwareRoot],
                "TCB info version 2 (PCS v3 era) is not supported" => &[ErrorClass::Unsupported],
                "debug enclave" => &[ErrorClass::Debug],
                _ => panic!("{id}: unknown reason {why:?}"),
            };
            assert!(expected.contains(&class), "{id}: expected {why}, got {class}: {message}");
        }
        other => panic!("{id}: unknown result {other:?}"),
    }
}

// rules: ATT-3.1, ATT-3.2
#[test]
fn every_sgx_vector_gives_the_listed_result() {
    let (sgx, others) = vectors();
    assert_eq!(sgx.len(), 13);
    assert_eq!(others, OTHER_TEES);
    for vector in &sgx {
        assert_eq!(vector.kind, "sgx");
        check(vector);
    }
}
