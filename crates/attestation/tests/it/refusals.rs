//! One thing is wrong in a world that is otherwise accepted; each refusal names it.

use marblerun_attestation::{
    Collateral, CollateralError, CollateralItem, ErrorClass, PckError, Quote, RootError, TcbStatus, TrustRoots,
    ValidityError, VerifiedReport, VerifyError, verify,
};
use serde_json::{Value, json};

use crate::fixtures::at;
use crate::pki::{Made, NOW, P384, Plan, World, level, pem, qe_level, sgx_extension};

const DAY: u64 = 24 * 60 * 60;

#[track_caller]
fn check_collateral(change: impl FnOnce(&mut Plan), class: ErrorClass, message: &str) {
    let mut plan = Plan::default();
    change(&mut plan);
    let error = World::new().make(&plan).trusted_at(at(NOW)).unwrap_err();
    assert!(error.to_string().contains(message), "{error}");
    assert_eq!((error.class(), error.code()), (class, class.code()), "{error}");
}

#[track_caller]
fn check_quote(change: impl FnOnce(&mut Plan), class: ErrorClass, message: &str) {
    let mut plan = Plan::default();
    change(&mut plan);
    let error = World::new().make(&plan).verify().unwrap_err();
    assert!(error.to_string().contains(message), "{error}");
    assert_eq!((error.class(), error.code()), (class, class.code()), "{error}");
}

#[track_caller]
fn check_status(change: impl FnOnce(&mut Plan), status: TcbStatus, advisories: &[&str]) {
    let mut plan = Plan::default();
    change(&mut plan);
    let report = World::new().make(&plan).verify().unwrap();
    assert_eq!(
        (report.tcb_status(), report.advisories()),
        (status, &advisories.iter().map(|a| a.to_string()).collect::<Vec<_>>()[..])
    );
}

#[test]
fn the_unchanged_world_is_accepted_with_everything_that_it_says() {
    let made = World::new().make(&Plan::default());
    let report = made.verify().unwrap();
    assert_eq!(report.tcb_status(), TcbStatus::UpToDate);
    assert_eq!(report.tcb_evaluation_number(), 17);
    assert_eq!(report.root_name(), "test");
    assert!(!report.is_debug());
    let platform = report.platform();
    assert_eq!(platform.fmspc.to_string(), "FF5357544545");
    assert_eq!((platform.ppid, platform.platform_instance_id), ([0x11; 16], Some([0x66; 16])));
    assert_eq!(
        (platform.dynamic_platform, platform.cached_keys, platform.smt_enabled),
        (Some(true), Some(true), Some(true))
    );
    let quote = Quote::parse(&made.quote).unwrap();
    assert_eq!(quote.unverified_platform().unwrap().to_string(), "sgx FF5357544545 (platform CA)");
}

// rules: ATT-3.3, ATT-10.5
#[test]
fn revoked_certificates_are_refused() {
    let class = ErrorClass::Revoked;
    check_collateral(|plan| plan.root_list.revoked = vec![4], class, "TCB info signer is revoked");
    check_collateral(|plan| plan.root_list.revoked = vec![9, 1], class, "root certificate is revoked");
    check_quote(|plan| plan.root_list.revoked = vec![2], class, "PCK certificate or its CA is revoked");
    check_quote(|plan| plan.pck_list.revoked = vec![9, 3], class, "PCK certificate or its CA is revoked");
}

// rules: ATT-3.3, ATT-10.5
#[test]
fn a_platform_without_a_list_that_speaks_for_it_is_refused() {
    let world = World::new();
    let mut made = world.make(&Plan::default());
    made.collateral["pck_crl"] = made.collateral["root_ca_crl"].clone();
    let error = made.verify().unwrap_err();
    assert_eq!(error, VerifyError::Pck(PckError::UnknownRevocationStatus));
    assert_eq!(error.class(), ErrorClass::Revoked);
    assert!(error.hint().is_some());
    let mut made = world.make(&Plan::default());
    made.collateral["root_ca_crl"] = made.collateral["pck_crl"].clone();
    let error = made.trusted_at(at(NOW)).unwrap_err();
    assert_eq!(error, CollateralError::UnknownRevocationStatus { item: CollateralItem::TcbInfoSigner });
}

// rules: ATT-3.3, ATT-10.5
#[test]
fn exchanged_lists_are_refused() {
    let mut made = World::new().make(&Plan::default());
    let root_list = made.collateral["root_ca_crl"].take();
    made.collateral["root_ca_crl"] = made.collateral["pck_crl"].take();
    made.collateral["pck_crl"] = root_list;
    let error = made.trusted_at(at(NOW)).unwrap_err();
    assert_eq!(error, CollateralError::CrlIssuer { item: CollateralItem::RootCrl });
}

// rules: ATT-3.2, ATT-3.3, ATT-10.5
#[test]
fn each_part_of_the_collateral_has_its_validity_period() {
    let made = World::new().make(&Plan::default());
    // The texts are the youngest and the first to expire.
    for (now, item) in
        [("2026-11-19T23:59:59Z", CollateralItem::TcbInfo), ("2026-12-20T00:00:01Z", CollateralItem::TcbInfo)]
    {
        let now = at(time::OffsetDateTime::parse(now, &time::format_description::well_known::Rfc3339)
            .unwrap()
            .unix_timestamp()
            .try_into()
            .unwrap());
        match made.trusted_at(now).unwrap_err() {
            CollateralError::Validity(error) => assert_eq!(error.item(), item, "{error}"),
            error => panic!("{error}"),
        }
        let error = verify(&Quote::parse(&made.quote).unwrap(), &made.trusted(), now).unwrap_err();
        assert_eq!(error.class(), ErrorClass::ExpiredCollateral, "kept collateral, {error}");
        assert!(error.class().is_collateral_unavailable() && error.hint().is_some());
    }
    let class = ErrorClass::ExpiredCollateral;
    check_collateral(|plan| plan.tcb_info["nextUpdate"] = "2026-11-22T00:00:00Z".into(), class, "TCB info expired");
    check_collateral(
        |plan| plan.tcb_info["issueDate"] = "2026-12-01T00:00:00Z".into(),
        class,
        "TCB info is not valid before",
    );
    check_collateral(
        |plan| plan.qe_identity["nextUpdate"] = "2026-11-22T00:00:00Z".into(),
        class,
        "QE identity expired",
    );
    check_collateral(
        |plan| plan.qe_identity["issueDate"] = "2026-12-01T00:00:00Z".into(),
        class,
        "QE identity is not valid before",
    );
    check_collateral(|plan| plan.root_list.next_update = NOW, class, "root CA revocation list expired");
    check_collateral(|plan| plan.pck_list.next_update = NOW, class, "PCK revocation list expired");
    check_collateral(|plan| plan.signer.not_after = NOW - 1, class, "TCB info signer expired");
    check_collateral(|plan| plan.signer.not_before = NOW + 1, class, "TCB info signer is not valid before");
    check_collateral(|plan| plan.root.not_after = NOW - 1, class, "root certificate expired");
    check_collateral(|plan| plan.root.not_before = NOW + 1, class, "root certificate is not valid before");
}

/// What the collateral of this plan is at `seconds` after the usual time, with ten days of grace.
fn aged(change: impl FnOnce(&mut Plan), seconds: u64) -> Result<(VerifiedReport, bool), CollateralError> {
    let mut plan = Plan::default();
    change(&mut plan);
    let made = World::new().make(&plan);
    let (now, max_age) = (at(NOW + seconds), std::time::Duration::from_secs(10 * DAY));
    let collateral = Collateral::parse(made.collateral.to_string().as_bytes()).unwrap();
    let trusted = collateral.dangerous_verify_aged(&made.roots(), now, max_age)?;
    let report = verify(&Quote::parse(&made.quote).unwrap(), &trusted, now).unwrap();
    assert_eq!(trusted.is_stale(now), report.has_stale_collateral());
    let late = at(trusted.expires().as_secs() + 1);
    assert!(trusted.check_time(late).is_err() && trusted.fresh_until() <= trusted.expires());
    Ok((report, trusted.is_stale(now)))
}

// rules: ATT-11.2
#[test]
fn texts_past_their_next_update_count_only_with_an_age_that_is_allowed_and_are_marked() {
    let due = "2026-11-24T00:00:00Z";
    type Change = fn(&mut Plan, &str);
    let texts: [(Change, CollateralItem); 2] = [
        (|plan, due| plan.tcb_info["nextUpdate"] = due.into(), CollateralItem::TcbInfo),
        (|plan, due| plan.qe_identity["nextUpdate"] = due.into(), CollateralItem::QeIdentity),
    ];
    let due_at = at(1_795_478_400);
    for (change, item) in texts {
        assert!(!aged(|plan| change(plan, due), due_at.as_secs() - NOW).unwrap().1, "still fresh");
        assert!(aged(|plan| change(plan, due), due_at.as_secs() - NOW + 1).unwrap().1);
        assert!(aged(|plan| change(plan, due), due_at.as_secs() - NOW + 10 * DAY).unwrap().1);
        match aged(|plan| change(plan, due), due_at.as_secs() - NOW + 10 * DAY + 1).unwrap_err() {
            CollateralError::Validity(error) => assert_eq!(error.item(), item),
            error => panic!("{error}"),
        }
    }
    // A status stays what it is.
    let stale = |plan: &mut Plan| {
        plan.tcb_info["nextUpdate"] = due.into();
        plan.tcb_info["tcbLevels"][0]["tcbStatus"] = "OutOfDate".into();
    };
    assert_eq!(aged(stale, 5 * DAY).unwrap().0.tcb_status(), TcbStatus::OutOfDate);
}

// rules: ATT-11.2
#[test]
fn certificates_and_lists_get_no_more_time_where_texts_do() {
    type Change = fn(&mut Plan);
    let changes: [(Change, CollateralItem); 4] = [
        (|plan| plan.root_list.next_update = NOW + DAY, CollateralItem::RootCrl),
        (|plan| plan.pck_list.next_update = NOW + DAY, CollateralItem::PckCrl),
        (|plan| plan.signer.not_after = NOW + DAY, CollateralItem::TcbInfoSigner),
        (|plan| plan.root.not_after = NOW + DAY, CollateralItem::Root),
    ];
    for (change, item) in changes {
        match aged(change, DAY + 1).unwrap_err() {
            CollateralError::Validity(error) => assert_eq!(error.item(), item),
            error => panic!("{error}"),
        }
    }
    let error = aged(|plan| plan.tcb_info["issueDate"] = "2026-12-01T00:00:00Z".into(), 0).unwrap_err();
    assert!(error.to_string().contains("not valid before"), "{error}");
}

// rules: ATT-11.3
#[test]
fn only_platforms_that_the_vendor_certified_are_named_before_there_is_collateral() {
    let check = |change: &dyn Fn(&mut Plan), now: u64| {
        let mut plan = Plan::default();
        change(&mut plan);
        let made = World::new().make(&plan);
        Quote::parse(&made.quote).unwrap().certified_platform(&made.roots(), at(now))
    };
    let world = World::new();
    let made = world.make(&Plan::default());
    let quote = Quote::parse(&made.quote).unwrap();
    let platform = quote.certified_platform(&made.roots(), at(NOW)).unwrap();
    assert_eq!(platform, quote.unverified_platform().unwrap());
    let other = World::new().make(&Plan::default());
    let error = quote.certified_platform(&other.roots(), at(NOW)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::UntrustedRoot, "{error}");
    assert!(quote.certified_platform(&TrustRoots::hardware(), at(NOW)).is_err());
    let expired = check(&|plan| plan.pck.not_after = NOW - 1, NOW).unwrap_err();
    assert_eq!(expired.class(), ErrorClass::ExpiredCertificate, "{expired}");
    let without = check(&|plan| plan.certification_type = 3, NOW).unwrap_err();
    assert_eq!(without.class(), ErrorClass::Unsupported, "{without}");
}

// rules: ATT-3.2
#[test]
fn a_period_includes_its_first_and_last_second() {
    let mut plan = Plan::default();
    (plan.root.not_before, plan.root.not_after) = (NOW, NOW);
    (plan.signer.not_before, plan.signer.not_after) = (NOW, NOW);
    (plan.pck.not_before, plan.pck_ca.not_after) = (NOW, NOW);
    (plan.root_list.next_update, plan.pck_list.next_update) = (NOW + 1, NOW + 1);
    let made = World::new().make(&plan);
    let report = made.verify().unwrap();
    assert_eq!(report.expires(), at(NOW));
}

#[test]
fn a_pck_chain_outside_its_validity_period_is_refused() {
    let class = ErrorClass::ExpiredCertificate;
    let message = "PCK certificate chain is valid from";
    check_quote(|plan| plan.pck.not_after = NOW - 1, class, message);
    check_quote(|plan| plan.pck.not_before = NOW + 1, class, message);
    check_quote(|plan| plan.pck_ca.not_after = NOW - 1, class, message);
    check_quote(|plan| plan.pck_ca.not_before = NOW + 1, class, message);
}

// rules: ATT-3.4, ATT-10.5
#[test]
fn a_signer_that_the_root_did_not_issue_itself_is_refused() {
    let class = ErrorClass::UntrustedRoot;
    check_collateral(
        |plan| plan.indirect_signer = true,
        class,
        "must be issued by the root itself, got 1 certificates",
    );
    check_collateral(|plan| plan.signed_by_pck = true, class, "must be issued by the root itself, got 1 certificates");
}

// rules: ATT-3.3, ATT-10.5
#[test]
fn a_world_under_another_root_of_the_same_name_is_refused() {
    let (ours, theirs) = (World::new().make(&Plan::default()), World::new().make(&Plan::default()));
    let mut mixed = World::new().make(&Plan::default());
    mixed.root.clone_from(&ours.root);
    let error = mixed.trusted_at(at(NOW)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::UntrustedRoot, "{error}");
    let quote = Quote::parse(&theirs.quote).unwrap();
    let error = verify(&quote, &ours.trusted(), at(NOW)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::UntrustedRoot, "{error}");
    // A store with both roots says which one matched.
    let roots = TrustRoots::software([("ours", ours.root.as_slice()), ("theirs", theirs.root.as_slice())]).unwrap();
    let text = theirs.collateral.to_string();
    let trusted = marblerun_attestation::Collateral::parse(text.as_bytes()).unwrap().verify(&roots, at(NOW)).unwrap();
    assert_eq!(verify(&quote, &trusted, at(NOW)).unwrap().root_name(), "theirs");
}

// rules: ATT-5.3
#[test]
fn texts_that_mean_something_else_are_refused() {
    let set = |member: &'static str, value: Value| move |plan: &mut Plan| plan.tcb_info[member] = value;
    check_collateral(set("version", json!(2)), ErrorClass::Unsupported, "expected TCB info version 3, got 2");
    check_collateral(set("version", json!(4)), ErrorClass::Unsupported, "expected TCB info version 3, got 4");
    check_collateral(set("id", json!("TDX")), ErrorClass::CollateralMismatch, "expected TCB info with id \"SGX\"");
    check_collateral(set("tcbType", json!(1)), ErrorClass::Unsupported, "expected tcbType 0 in TCB info, got 1");
    check_collateral(set("fmspc", json!("00")), ErrorClass::Malformed, "expected 12 hex digits");
    check_collateral(set("issueDate", json!("today")), ErrorClass::Malformed, "expected an RFC 3339 date");
    check_collateral(
        |plan| plan.tcb_info["tcbLevels"][0]["tcbStatus"] = "Fine".into(),
        ErrorClass::Malformed,
        "unknown variant `Fine`",
    );
    check_collateral(
        |plan| plan.tcb_info["tcbLevels"][0]["tcb"]["sgxtcbcomponents"][0]["svn"] = 256.into(),
        ErrorClass::Malformed,
        "invalid value: integer `256`",
    );
    check_collateral(
        |plan| plan.tcb_info["tcbLevels"][0]["tcb"]["sgxtcbcomponents"] = json!([]),
        ErrorClass::Malformed,
        "an array of length 16",
    );
    let set = |member: &'static str, value: Value| move |plan: &mut Plan| plan.qe_identity[member] = value;
    check_collateral(set("version", json!(3)), ErrorClass::Unsupported, "expected QE identity version 2, got 3");
    check_collateral(set("id", json!("TD_QE")), ErrorClass::CollateralMismatch, "expected QE identity with id \"QE\"");
}

#[test]
fn a_member_that_stands_twice_in_a_signed_text_is_refused() {
    let world = World::new();
    let mut made = world.make(&Plan::default());
    let text = made.collateral["tcb_info"].as_str().unwrap().to_owned();
    for insert in ["{\"id\":\"SGX\",", "{\"other\":1,\"other\":2,"] {
        let text = text.replacen('{', insert, 1);
        world.sign_text(&mut made.collateral, "tcb_info", &text);
        let error = made.trusted_at(at(NOW)).unwrap_err();
        assert!(error.to_string().contains("stands twice"), "{error}");
    }
    let text = made.collateral["tcb_info"].as_str().unwrap().replacen("\"other\":1,\"other\":2,", "\"other\":1,", 1);
    world.sign_text(&mut made.collateral, "tcb_info", &text);
    made.verify().unwrap();
}

// rules: ATT-5.3, ATT-10.5
#[test]
fn collateral_for_another_platform_is_refused() {
    let class = ErrorClass::CollateralMismatch;
    check_quote(
        |plan| plan.platform.fmspc[5] = 0,
        class,
        "expected collateral for FMSPC FF5357544500, got FF5357544545",
    );
    check_quote(|plan| plan.platform.pce_id[1] = 1, class, "expected collateral for PCE-ID 0001, got 0000");
    check_quote(|plan| plan.tcb_info["pceId"] = "0001".into(), class, "expected collateral for PCE-ID 0000, got 0001");
}

#[test]
fn another_quoting_enclave_is_refused() {
    let class = ErrorClass::QuotingEnclave;
    check_quote(|plan| plan.qe_report[128] ^= 1, class, "expected quoting enclave with MRSIGNER 8c");
    check_quote(|plan| plan.qe_report[48] |= 2, class, "quoting enclave is in debug mode");
    check_quote(|plan| plan.qe_report[256] = 2, class, "expected quoting enclave with ISVPRODID 1, got 2");
    check_quote(
        |plan| plan.qe_report[16] = 1,
        class,
        "expected quoting enclave with MISCSELECT 00000000, got 01000000",
    );
    check_quote(|plan| plan.qe_report[48] ^= 1, class, "expected quoting enclave with ATTRIBUTES 11");
    let message = "quoting enclave with ISVSVN 5 meets none";
    check_quote(|plan| plan.qe_report[258] = 5, ErrorClass::TcbUnsupported, message);
    let status = |plan: &mut Plan| plan.qe_identity["tcbLevels"][0]["tcbStatus"] = "SWHardeningNeeded".into();
    check_quote(status, class, "quoting enclave has status SWHardeningNeeded, which only platforms can have");
    // A bit that the mask leaves open may differ: MODE64BIT.
    check_status(|plan| plan.qe_report[48] ^= 4, TcbStatus::UpToDate, &[]);
}

#[test]
fn signatures_over_other_bytes_are_refused() {
    let made = World::new().make(&Plan::default());
    for (offset, message) in [
        (48 + 64, "signature of the attestation key over the report is wrong"),
        (436, "signature of the attestation key over the report is wrong"),
        (500, "QE report does not bind the attestation key"),
        (564, "signature of the PCK over the QE report is wrong"),
        (948, "signature of the PCK over the QE report is wrong"),
        (1014, "QE report does not bind the attestation key"),
    ] {
        let mut quote = made.quote.clone();
        quote[offset] ^= 1;
        let error = verify(&Quote::parse(&quote).unwrap(), &made.trusted(), at(NOW)).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.class()), (message, ErrorClass::Signature), "byte {offset}");
    }
}

// rules: ATT-10.5
#[test]
fn a_platform_below_all_levels_is_refused() {
    let class = ErrorClass::TcbUnsupported;
    check_quote(|plan| plan.platform.cpu_svn[15] = 4, class, "meets none of the TCB levels");
    check_quote(|plan| plan.platform.pce_svn = 12, class, "PCESVN 12 meets none of the TCB levels");
    check_quote(|plan| plan.tcb_info["tcbLevels"] = json!([]), class, "meets none of the TCB levels");
}

#[test]
fn the_best_level_counts_whatever_the_order_of_the_text() {
    let levels = |levels: Value| move |plan: &mut Plan| plan.tcb_info["tcbLevels"] = levels;
    let (low, middle, high) = (
        level(4, 13, "OutOfDate", &["A"]),
        level(5, 12, "ConfigurationNeeded", &["B"]),
        level(5, 13, "SWHardeningNeeded", &["C"]),
    );
    check_status(levels(json!([low, middle, high])), TcbStatus::SWHardeningNeeded, &["C"]);
    check_status(levels(json!([low, middle])), TcbStatus::ConfigurationNeeded, &["B"]);
    check_status(levels(json!([level(6, 13, "UpToDate", &[]), low])), TcbStatus::OutOfDate, &["A"]);
}

#[test]
fn status_and_advisories_of_an_old_quoting_enclave_are_merged() {
    let change = |plan: &mut Plan| {
        plan.qe_report[258] = 7;
        plan.tcb_info["tcbLevels"] = json!([level(5, 13, "SWHardeningNeeded", &["INTEL-SA-00334", "INTEL-SA-00615"])]);
        plan.qe_identity["tcbLevels"][1] = qe_level(6, "OutOfDate", &["INTEL-SA-00615", "INTEL-SA-00477"]);
    };
    check_status(change, TcbStatus::OutOfDate, &["INTEL-SA-00334", "INTEL-SA-00615", "INTEL-SA-00477"]);
}

// rules: ATT-10.5
#[test]
fn every_status_is_reported_as_it_is_and_null_means_no_advisories() {
    for status in TcbStatus::ALL {
        check_status(|plan| plan.tcb_info["tcbLevels"][0]["tcbStatus"] = status.as_str().into(), status, &[]);
    }
    check_status(|plan| plan.tcb_info["tcbLevels"][0]["advisoryIDs"] = Value::Null, TcbStatus::UpToDate, &[]);
    let remove = |plan: &mut Plan| drop(plan.tcb_info["tcbLevels"][0].as_object_mut().unwrap().remove("advisoryIDs"));
    check_status(remove, TcbStatus::UpToDate, &[]);
    check_status(|plan| plan.tcb_info["tcbLevels"][0]["advisoryIDs"] = json!(["A"]), TcbStatus::UpToDate, &["A"]);
}

#[test]
fn the_terminator_of_a_string_may_follow_the_pck_chain_and_nothing_else() {
    let world = World::new();
    for after in [&b""[..], b"\0", b"\n\0"] {
        world.make(&Plan { after_pem: after, ..Plan::default() }).verify().unwrap();
    }
    check_quote(|plan| plan.after_pem = b"\0A", ErrorClass::Malformed, "PCK certificate chain is not well-formed PEM");
}

#[test]
fn a_quote_without_pck_chain_says_whose_fault_it_is() {
    for kind in [1, 2, 3, 4, 9] {
        check_quote(
            |plan| plan.certification_type = kind,
            ErrorClass::Unsupported,
            &format!("quote carries no PCK certificate chain: expected certification data type 5, got {kind}"),
        );
        // Collateral may bring the chain.
        let plan = Plan { certification_type: kind, chain_in_collateral: true, ..Plan::default() };
        World::new().make(&plan).verify().unwrap();
    }
    let error = PckError::NoChainInQuote { expected: 5, got: 3 };
    assert!(error.hint().unwrap().contains("attesting host"));
}

#[test]
fn a_pck_whose_extension_is_not_as_described_is_refused() {
    let plan = Plan::default();
    let class = ErrorClass::Malformed;
    let message = "PCK certificate has no well-formed SGX extension";
    check_quote(|plan| plan.platform.fmspc = vec![1; 5], class, "FMSPC");
    check_quote(|plan| plan.platform.cpu_svn = vec![5; 15], class, "CPUSVN");
    check_quote(|plan| plan.platform.pce_id = vec![0; 3], class, "PCE-ID");
    check_quote(|plan| plan.platform.sgx_type = 3, class, "SGX type");
    check_quote(|plan| plan.pck.sgx_extension = Some(vec![0x30, 0]), class, message);
    check_quote(|plan| plan.pck.sgx_extension = Some(vec![]), class, message);
    // Two entries for one property leave the choice to the reader.
    let mut doubled = sgx_extension(&plan.platform);
    let entry = [
        &[0x30, 0x12, 0x06, 0x0a][..],
        &[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01, 0x04],
        &[0x04, 0x04, 1, 2, 3, 4],
    ]
    .concat();
    doubled.extend_from_slice(&entry);
    let length = u16::try_from(doubled.len() - 4).unwrap().to_be_bytes();
    doubled[2..4].copy_from_slice(&length);
    check_quote(|plan| plan.pck.sgx_extension = Some(doubled), class, "FMSPC");
}

#[test]
fn collateral_text_in_another_form_is_refused() {
    let made = World::new().make(&Plan::default());
    let parse = |change: &dyn Fn(&mut Value)| {
        let mut collateral = made.collateral.clone();
        change(&mut collateral);
        marblerun_attestation::Collateral::parse(collateral.to_string().as_bytes()).map(drop)
    };
    parse(&|_| ()).unwrap();
    let error = parse(&|c| c["extra"] = 1.into()).unwrap_err();
    assert!(error.to_string().contains("unknown field `extra`"), "{error}");
    let error = parse(&|c| drop(c.as_object_mut().unwrap().remove("pck_crl"))).unwrap_err();
    assert!(error.to_string().contains("missing field `pck_crl`"), "{error}");
    let error = parse(&|c| c["pck_crl"] = "xx".into()).unwrap_err();
    assert_eq!(error, CollateralError::Hex { member: "pck_crl" });
    let error = parse(&|c| c["tcb_info_signature"] = "00".into()).unwrap_err();
    assert_eq!(error, CollateralError::SignatureLength { member: "tcb_info_signature", expected: 64, got: 1 });
    let error = parse(&|c| c["qe_identity_issuer_chain"] = "".into()).unwrap_err();
    assert!(matches!(error, CollateralError::Pem { member: "qe_identity_issuer_chain", .. }));
    let max = marblerun_attestation::MAX_COLLATERAL_BYTES;
    let error = marblerun_attestation::Collateral::parse(&vec![b' '; max + 1]).unwrap_err();
    assert_eq!(error, CollateralError::TooLong { max, got: max + 1 });
    assert_eq!(error.class(), ErrorClass::Malformed);
    for (member, message) in [
        ("root_ca_crl", "root CA revocation list is not a well-formed"),
        ("pck_crl", "PCK revocation list is not a well-formed"),
    ] {
        let mut made = World::new().make(&Plan::default());
        made.collateral[member] = "3000".into();
        let error = made.trusted_at(at(NOW)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

// rules: ATT-2.1, ATT-3.3, ATT-10.5
#[test]
fn every_changed_byte_of_the_collateral_is_refused() {
    let made = World::new().make(&Plan::default());
    for member in ["root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"] {
        let bytes = hex::decode(made.collateral[member].as_str().unwrap()).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            check_changed(&made, member, &hex::encode(changed), at);
        }
    }
    for member in ["tcb_info", "qe_identity"] {
        let text = made.collateral[member].as_str().unwrap();
        for at in 0..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[at] ^= 1;
            check_changed(&made, member, &String::from_utf8(changed).unwrap(), at);
        }
    }
}

#[track_caller]
fn check_changed(made: &Made, member: &str, value: &str, offset: usize) {
    let mut collateral = made.collateral.clone();
    collateral[member] = value.into();
    let made = Made { collateral, root: made.root.clone(), quote: made.quote.clone() };
    let refused = match made.trusted_at(at(NOW)) {
        Err(_) => true,
        Ok(trusted) => verify(&Quote::parse(&made.quote).unwrap(), &trusted, at(NOW)).is_err(),
    };
    assert!(refused, "{member} with byte {offset} changed was accepted");
}

#[test]
fn validity_errors_name_item_and_dates() {
    let error = ValidityError::Expired { item: CollateralItem::TcbInfo, not_after: at(NOW - DAY), now: at(NOW) };
    assert_eq!(
        error.to_string(),
        "TCB info expired: it was valid until 2026-11-22T00:00:00Z, verified at 2026-11-23T00:00:00Z"
    );
}

#[test]
fn certificates_that_break_the_rules_of_their_place_are_refused() {
    let class = ErrorClass::Signature;
    check_collateral(|plan| plan.signer.is_ca = true, class, "TCB info signer is not acceptable: CaUsedAsEndEntity");
    check_quote(|plan| plan.pck.is_ca = true, class, "PCK certificate chain is not acceptable: CaUsedAsEndEntity");
    check_quote(|plan| plan.pck_ca.is_ca = false, class, "PCK certificate chain is not acceptable: EndEntityUsedAsCa");
    let class = ErrorClass::Malformed;
    check_collateral(|plan| plan.signer.curve = P384, class, "TCB info signer is not a well-formed certificate");
    check_quote(|plan| plan.pck.curve = P384, class, "PCK certificate holds no key on curve P-256");
}

#[test]
fn a_certificate_that_cannot_be_read_is_refused() {
    let garbage = pem(&[&b"garbage".to_vec()]);
    let mut made = World::new().make(&Plan::default());
    made.collateral["tcb_info_issuer_chain"] = garbage.clone().into();
    let error = made.trusted_at(at(NOW)).unwrap_err();
    assert_eq!(error, CollateralError::Certificate { item: CollateralItem::TcbInfoSigner });
    let plan = Plan { certification_type: 3, chain_in_collateral: true, ..Plan::default() };
    let mut made = World::new().make(&plan);
    made.collateral["pck_certificate_chain"] = garbage.into();
    assert_eq!(made.verify().unwrap_err(), VerifyError::Pck(PckError::Certificate));
}

#[test]
fn a_pck_that_another_authority_of_the_same_name_signed_is_refused() {
    let plan = Plan { certification_type: 3, chain_in_collateral: true, ..Plan::default() };
    let (mut made, other) = (World::new().make(&plan), World::new().make(&plan));
    let end = "-----END CERTIFICATE-----\n";
    let chain = |made: &Made| made.collateral["pck_certificate_chain"].as_str().unwrap().to_owned();
    let (ours, theirs) = (chain(&made), chain(&other));
    let mixed = [theirs.split_once(end).unwrap().0, end, ours.split_once(end).unwrap().1].concat();
    made.collateral["pck_certificate_chain"] = mixed.into();
    let error = made.verify().unwrap_err();
    assert!(matches!(error, VerifyError::Pck(PckError::Signature { .. })), "{error}");
    assert_eq!(error.class(), ErrorClass::Signature);
}

#[test]
fn a_kind_of_authority_that_is_not_known_has_no_collateral() {
    let mut plan = Plan::default();
    plan.pck_ca.subject = "Test CA";
    let quote = Quote::parse(&World::new().make(&plan).quote).unwrap();
    let error = quote.unverified_platform().unwrap_err();
    assert_eq!(error, PckError::UnknownCa { issuer: "CN=Test CA".to_owned() });
    assert_eq!(error.class(), ErrorClass::Unsupported);
}

// rules: ATT-3.3
#[test]
fn a_pck_chain_is_not_verified_with_an_expired_list() {
    let mut plan = Plan::default();
    plan.pck_list.next_update = NOW + 1;
    let made = World::new().make(&plan);
    let (quote, collateral) = (Quote::parse(&made.quote).unwrap(), made.trusted());
    let error = marblerun_attestation::verify_pck(&quote, &collateral, at(NOW + 1)).unwrap_err();
    assert_eq!(error, PckError::CrlExpired { next_update: at(NOW + 1), now: at(NOW + 1) });
    assert_eq!(error.class(), ErrorClass::ExpiredCollateral);
    assert!(error.hint().is_some());
}

// rules: ATT-7.7
#[test]
fn a_trust_store_has_one_class_and_each_root_once() {
    let root = World::new().make(&Plan::default()).root;
    let error = TrustRoots::software([("a", root.as_slice()), ("b", root.as_slice())]).unwrap_err();
    assert_eq!(error, RootError::Duplicate { name: "b".to_owned() });
    let intel = marblerun_attestation::INTEL_SGX_ROOT_CA;
    let error = TrustRoots::software([("a", root.as_slice()), ("b", intel)]).unwrap_err();
    assert_eq!(error, RootError::HardwareRoot { name: "b".to_owned() });
    assert!(error.hint().is_some());
    let max = marblerun_attestation::MAX_SOFTWARE_ROOTS;
    let many: Vec<_> = (0..=max).map(|_| World::new().make(&Plan::default()).root).collect();
    let error = TrustRoots::software(many.iter().map(|root| ("x", root.as_slice()))).unwrap_err();
    assert_eq!(error, RootError::TooMany { max, got: max + 1 });
    let (mut forward, backward) = (many[..2].to_vec(), [&many[1][..], &many[0]]);
    let hashes = |roots: &[&[u8]]| TrustRoots::software(roots.iter().map(|root| ("x", *root))).unwrap().sha256_sorted();
    assert_eq!(hashes(&[&forward[0], &forward[1]]), hashes(&backward));
    forward.pop();
    assert_ne!(hashes(&[&forward[0]]), hashes(&backward));
}
