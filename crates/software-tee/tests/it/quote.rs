//! Quotes: their bytes, and who accepts them.

use marblerun_software_tee::{CollateralOptions, EnclaveIdentity, PckCa, RootOptions};

use crate::support::{CREATED, IDENTITY, REPORT_DATA, fixture, fixture_with, verify_under};

// rules: ATT-10.1
#[test]
fn an_independent_verifier_accepts_the_quote_under_this_root_and_reads_what_was_put_in() {
    for pck_ca in [PckCa::Platform, PckCa::Processor] {
        let fixture = fixture_with(RootOptions { pck_ca, ..RootOptions::default() });
        let collateral = fixture.collateral(&CollateralOptions::default());
        let report = fixture.verify(&fixture.quote(), &collateral, CREATED).unwrap();
        assert_eq!(report.status, "UpToDate");
        assert!(report.advisory_ids.is_empty());
        let sgx = report.report.as_sgx().unwrap();
        assert_eq!(sgx.mr_enclave, IDENTITY.mr_enclave);
        assert_eq!(sgx.mr_signer, IDENTITY.mr_signer);
        assert_eq!(sgx.isv_prod_id, IDENTITY.isv_prod_id);
        assert_eq!(sgx.isv_svn, IDENTITY.isv_svn);
        assert_eq!(sgx.report_data, REPORT_DATA);
    }
}

// rules: ATT-10.2, ATT-10.5
#[test]
fn the_quote_is_refused_under_intels_root_and_under_another_development_root() {
    let (fixture, other) = (fixture(), fixture());
    let quote = fixture.quote();
    let collateral = fixture.collateral(&CollateralOptions::default());
    let other_collateral = other.collateral(&CollateralOptions::default());
    let intel = include_bytes!("../../../../testdata/attestation/roots/intel-sgx-root-ca.der");
    verify_under(intel, &quote, &collateral, CREATED).unwrap_err();
    other.verify(&quote, &collateral, CREATED).unwrap_err();
    other.verify(&quote, &other_collateral, CREATED).unwrap_err();
    fixture.verify(&quote, &other_collateral, CREATED).unwrap_err();
}

// rules: ATT-10.4
#[test]
fn a_debug_enclave_is_quoted_as_one() {
    let fixture = fixture();
    let identity = EnclaveIdentity { debug: true, ..IDENTITY };
    let quote = fixture.root.quote(&identity, &REPORT_DATA).unwrap();
    let refused = fixture
        .verify(&quote, &fixture.collateral(&CollateralOptions::default()), CREATED)
        .map(|report| report.status)
        .unwrap_err();
    assert!(refused.contains("Debug"), "{refused}");
}

#[test]
fn a_quote_has_the_layout_of_a_dcap_quote_version_3() {
    let fixture = fixture();
    let quote = fixture.quote();
    assert_eq!(quote.len(), fixture.root.quote_len());
    let hex_at = |offset: usize, len: usize| hex::encode(&quote[offset..offset + len]);
    assert_eq!(hex_at(0, 12), "0300020000000000".to_owned() + "08000d00");
    assert_eq!(hex_at(12, 16), "939a7233f79c4ca9940a0db3957f0607");
    assert_eq!(hex_at(28, 20), "00".repeat(20));
    // Report body: CPUSVN, MISCSELECT, flags INIT and MODE64BIT, XFRM.
    assert_eq!(hex_at(48, 16), "05".repeat(16));
    assert_eq!(hex_at(64, 32), "00".repeat(32));
    assert_eq!(hex_at(96, 16), "0500000000000000e700000000000000");
    assert_eq!(hex_at(112, 32), "aa".repeat(32));
    assert_eq!(hex_at(144, 32), "00".repeat(32));
    assert_eq!(hex_at(176, 32), "bb".repeat(32));
    assert_eq!(hex_at(208, 96), "00".repeat(96));
    assert_eq!(hex_at(304, 4), "07000300");
    assert_eq!(hex_at(308, 60), "00".repeat(60));
    assert_eq!(quote[368..432], REPORT_DATA);
    assert_eq!(hex_at(432, 4), hex::encode((quote.len() as u32 - 436).to_le_bytes()));
    // Report of the quoting enclave: flags also PROVISIONKEY, product 1, security version 8.
    assert_eq!(hex_at(564 + 48, 16), "1500000000000000e700000000000000");
    assert_eq!(hex_at(564 + 256, 4), "01000800");
    assert_eq!(hex_at(1012, 2), "2000");
    assert_eq!(quote[1014..1046], std::array::from_fn::<u8, 32, _>(|i| i as u8));
    assert_eq!(hex_at(1046, 2), "0500");
    assert_eq!(hex_at(1048, 4), hex::encode((quote.len() as u32 - 1052).to_le_bytes()));
    assert_eq!(&quote[1052..], fixture.root.pck_chain().as_bytes());
}

#[test]
fn debug_changes_exactly_the_debug_flag_of_the_report_body() {
    let body = IDENTITY.report_body(&REPORT_DATA);
    let debug = EnclaveIdentity { debug: true, ..IDENTITY }.report_body(&REPORT_DATA);
    let different: Vec<_> = (0..body.len()).filter(|&i| body[i] != debug[i]).collect();
    assert_eq!((different, body[48], debug[48]), (vec![48], 0x05, 0x07));
}

#[test]
fn a_single_changed_byte_outside_the_pem_armour_is_refused() {
    let fixture = fixture();
    let collateral = fixture.collateral(&CollateralOptions::default());
    let quote = fixture.quote();
    // Header, body, signature, attestation key, QE report, its signature, auth data, certification type.
    for offset in (0..1048).step_by(13) {
        // QE SVN, PCE SVN and user data are signed, so every header byte counts too.
        let mut changed = quote.clone();
        changed[offset] ^= 0x10;
        assert!(fixture.verify(&changed, &collateral, CREATED).is_err(), "byte {offset} was changed unnoticed");
    }
}
