//! Sealing keys and local reports.

use marblerun_software_tee::{
    CPU_SVN, DevelopmentRoot, EnclaveIdentity, KEY_REQUEST_LEN, KeyRequest, KeyRequestError, ReportError, key_name,
    key_policy,
};

use crate::support::{IDENTITY, REPORT_DATA, fixture};

fn request(policy: u16) -> KeyRequest {
    KeyRequest {
        name: key_name::SEAL,
        policy,
        isv_svn: IDENTITY.isv_svn,
        cpu_svn: CPU_SVN,
        attribute_mask: [0; 16],
        key_id: [9; 32],
        misc_mask: 0,
        config_svn: 0,
    }
}

fn key(root: &DevelopmentRoot, request: &KeyRequest, identity: &EnclaveIdentity) -> Vec<u8> {
    root.sgx_key(request, identity).unwrap().expose().to_vec()
}

#[test]
fn a_policy_selects_exactly_the_identity_fields_that_a_seal_key_depends_on() {
    let fixture = fixture();
    let base = |policy| key(&fixture.root, &request(policy), &IDENTITY);
    let changed: [(&str, EnclaveIdentity); 5] = [
        ("mr_enclave", EnclaveIdentity { mr_enclave: [1; 32], ..IDENTITY }),
        ("mr_signer", EnclaveIdentity { mr_signer: [1; 32], ..IDENTITY }),
        ("isv_prod_id", EnclaveIdentity { isv_prod_id: 8, ..IDENTITY }),
        ("isv_svn above the request", EnclaveIdentity { isv_svn: 4, ..IDENTITY }),
        ("debug", EnclaveIdentity { debug: true, ..IDENTITY }),
    ];
    for (policy, same) in [
        (key_policy::MR_ENCLAVE, ["mr_signer", "isv_svn above the request"].as_slice()),
        (key_policy::MR_SIGNER, &["mr_enclave", "isv_svn above the request"]),
        (key_policy::MR_ENCLAVE | key_policy::MR_SIGNER, &["isv_svn above the request"]),
    ] {
        for (field, identity) in &changed {
            let equal = key(&fixture.root, &request(policy), identity) == base(policy);
            assert_eq!(equal, same.contains(field), "policy {policy}, {field}");
        }
    }
    assert_ne!(base(key_policy::MR_ENCLAVE), base(key_policy::MR_SIGNER));
    assert_eq!(base(key_policy::MR_ENCLAVE).len(), 16);
}

#[test]
fn a_seal_key_depends_on_every_field_of_the_request_and_on_the_root() {
    let (fixture, other) = (fixture(), fixture());
    let good = request(key_policy::MR_SIGNER);
    let base = key(&fixture.root, &good, &IDENTITY);
    assert_eq!(base, key(&fixture.root, &good, &IDENTITY));
    let mut low_cpu = CPU_SVN;
    low_cpu[3] = 4;
    for changed in [
        KeyRequest { isv_svn: 2, ..good.clone() },
        KeyRequest { cpu_svn: low_cpu, ..good.clone() },
        KeyRequest { attribute_mask: [4; 16], ..good.clone() },
        KeyRequest { key_id: [8; 32], ..good.clone() },
        KeyRequest { misc_mask: 1, ..good.clone() },
    ] {
        assert_ne!(base, key(&fixture.root, &changed, &IDENTITY), "{changed:?}");
    }
    assert_ne!(base, key(&other.root, &good, &IDENTITY));
}

#[test]
fn a_newer_enclave_gets_the_keys_of_older_ones_but_never_the_reverse() {
    let fixture = fixture();
    let newer = EnclaveIdentity { isv_svn: 4, ..IDENTITY };
    let old = request(key_policy::MR_SIGNER);
    assert_eq!(key(&fixture.root, &old, &newer), key(&fixture.root, &old, &IDENTITY));
    let ahead = KeyRequest { isv_svn: 4, ..old };
    let refused = fixture.root.sgx_key(&ahead, &IDENTITY).unwrap_err();
    assert!(matches!(refused, KeyRequestError::IsvSvn { actual: 3, got: 4 }), "{refused}");
}

#[test]
fn requests_that_the_processor_refuses_are_refused() {
    let fixture = fixture();
    let good = request(key_policy::MR_ENCLAVE);
    let mut high_cpu = CPU_SVN;
    high_cpu[15] += 1;
    let refuse = |request: KeyRequest| fixture.root.sgx_key(&request, &IDENTITY).unwrap_err().to_string();
    for (request, because) in [
        (KeyRequest { name: 0, ..good.clone() }, "key name 0 is not available"),
        (KeyRequest { name: 2, ..good.clone() }, "key name 2 is not available"),
        (KeyRequest { policy: 0x41, ..good.clone() }, "key policy 0x0041 has an unknown bit"),
        (KeyRequest { policy: 0x05, ..good.clone() }, "key policy 0x0005 needs the KSS attribute"),
        (KeyRequest { cpu_svn: high_cpu, ..good.clone() }, "CPUSVN too high"),
        (KeyRequest { config_svn: 1, ..good.clone() }, "CONFIGSVN too high: expected 0, got 1"),
    ] {
        let refused = refuse(request);
        assert!(refused.starts_with(because), "expected `{because}`, got `{refused}`");
    }
}

#[test]
fn a_key_request_is_read_at_the_processors_offsets() {
    let mut bytes = [0; KEY_REQUEST_LEN];
    bytes[0] = 4;
    bytes[2] = 2;
    bytes[4] = 3;
    bytes[8..24].fill(5);
    bytes[24..40].fill(0xF0);
    bytes[40..72].fill(9);
    bytes[72..76].copy_from_slice(&[1, 2, 3, 4]);
    bytes[76] = 7;
    assert_eq!(
        KeyRequest::parse(&bytes).unwrap(),
        KeyRequest {
            name: 4,
            policy: 2,
            isv_svn: 3,
            cpu_svn: [5; 16],
            attribute_mask: [0xF0; 16],
            key_id: [9; 32],
            misc_mask: 0x0403_0201,
            config_svn: 7,
        }
    );
    for offset in [6, 7, 78, 511] {
        let mut bad = bytes;
        bad[offset] = 1;
        let refused = KeyRequest::parse(&bad).unwrap_err();
        assert!(matches!(refused, KeyRequestError::Reserved { offset: o, got: 1 } if o == offset), "{refused}");
    }
}

#[test]
fn a_report_verifies_for_its_target_and_for_nobody_else() {
    let (fixture, other) = (fixture(), fixture());
    let root = &fixture.root;
    let target = EnclaveIdentity { mr_enclave: [0x77; 32], ..IDENTITY };
    let report = root.create_report(&IDENTITY, &root.target_info(&target), &REPORT_DATA).unwrap();
    assert_eq!(report[..384], IDENTITY.report_body(&REPORT_DATA));
    root.verify_report(&target, &report).unwrap();

    assert!(matches!(root.verify_report(&IDENTITY, &report), Err(ReportError::Mac)));
    let debug_target = EnclaveIdentity { debug: true, ..target };
    assert!(matches!(root.verify_report(&debug_target, &report), Err(ReportError::Mac)));
    assert!(matches!(other.root.verify_report(&target, &report), Err(ReportError::Mac)));
    for offset in [0, 64, 320, 383, 384, 415, 416, 431] {
        let mut changed = report;
        changed[offset] ^= 1;
        assert!(matches!(root.verify_report(&target, &changed), Err(ReportError::Mac)), "byte {offset}");
    }
}

#[test]
fn the_report_key_goes_to_the_target_only() {
    let fixture = fixture();
    let request = KeyRequest { name: key_name::REPORT, ..request(0) };
    let other = EnclaveIdentity { mr_enclave: [1; 32], ..IDENTITY };
    assert_ne!(key(&fixture.root, &request, &IDENTITY), key(&fixture.root, &request, &other));
}

#[test]
fn target_info_with_reserved_bytes_is_refused() {
    let fixture = fixture();
    for offset in [48, 56, 128, 511] {
        let mut target = fixture.root.target_info(&IDENTITY);
        target[offset] = 1;
        let refused = fixture.root.create_report(&IDENTITY, &target, &REPORT_DATA).unwrap_err();
        assert!(matches!(refused, ReportError::ReservedTargetInfo { offset: o, got: 1 } if o == offset), "{refused}");
    }
}
