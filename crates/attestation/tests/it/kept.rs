//! What is kept between verifications changes their cost, not their result.

use marblerun_attestation::{
    CollateralFloor, CollateralItem, ErrorClass, FloorError, PckCache, PckError, Quote, VerifyError, verify,
    verify_pck, verify_with_pck,
};

use crate::fixtures::at;
use crate::pki::{NOW, Plan, World};

#[test]
fn a_kept_pck_gives_the_same_report() {
    let made = World::new().make(&Plan::default());
    let (quote, collateral) = (Quote::parse(&made.quote).unwrap(), made.trusted());
    let expected = verify(&quote, &collateral, at(NOW)).unwrap();
    let pck = verify_pck(&quote, &collateral, at(NOW)).unwrap();
    assert_eq!(verify_with_pck(&quote, &collateral, &pck, at(NOW)), Ok(expected.clone()));
    let cache = PckCache::new();
    assert!(cache.is_empty());
    for _ in 0..2 {
        assert_eq!(cache.verify(&quote, &collateral, at(NOW)), Ok(expected.clone()));
        assert_eq!(cache.len(), 1);
    }
}

#[test]
fn a_kept_pck_names_the_platform_that_the_quote_names() {
    let world = World::new();
    let (made, other) = (world.make(&Plan::default()), world.make(&Plan::default()));
    let (quote, other) = (Quote::parse(&made.quote).unwrap(), Quote::parse(&other.quote).unwrap());
    let cache = PckCache::new();
    let expected = quote.unverified_platform();
    assert!(expected.is_ok());
    assert_eq!(cache.platform(&quote), expected, "before it is kept");
    cache.verify(&quote, &made.trusted(), at(NOW)).unwrap();
    assert_eq!(cache.platform(&quote), expected, "kept");
    assert_eq!(cache.platform(&other), other.unverified_platform(), "another chain");
}

#[test]
fn a_kept_pck_does_not_name_the_platform_of_a_quote_without_chain() {
    let plan = Plan { chain_in_collateral: true, certification_type: 3, ..Plan::default() };
    let made = World::new().make(&plan);
    let quote = Quote::parse(&made.quote).unwrap();
    let cache = PckCache::new();
    cache.verify(&quote, &made.trusted(), at(NOW)).unwrap();
    assert_eq!(cache.len(), 1);
    assert!(matches!(cache.platform(&quote), Err(PckError::NoChainInQuote { .. })));
}

#[test]
fn a_kept_pck_does_not_speak_for_another_chain() {
    let world = World::new();
    let plan = Plan::default();
    let made = world.make(&plan);
    let other = world.make(&plan);
    let collateral = made.trusted();
    let pck = verify_pck(&Quote::parse(&made.quote).unwrap(), &collateral, at(NOW)).unwrap();
    let error = verify_with_pck(&Quote::parse(&other.quote).unwrap(), &collateral, &pck, at(NOW)).unwrap_err();
    assert_eq!(error, VerifyError::KeptPck { what: "chain" });
    assert_eq!(error.class(), ErrorClass::CollateralMismatch);
}

// rules: ATT-3.3
#[test]
fn new_lists_revoke_a_kept_pck() {
    let world = World::new();
    let made = world.make(&Plan::default());
    let quote = Quote::parse(&made.quote).unwrap();
    let old = made.trusted();
    let cache = PckCache::new();
    cache.verify(&quote, &old, at(NOW)).unwrap();
    let mut revoking = Plan::default();
    revoking.pck_list.revoked = vec![3];
    let mut revoking = world.make(&revoking);
    // The same root certificate, so that only the list differs.
    revoking.root.clone_from(&made.root);
    let new = revoking.trusted();
    assert_eq!(cache.verify(&quote, &new, at(NOW)), Err(VerifyError::Pck(PckError::Revoked)));
    let pck = verify_pck(&quote, &old, at(NOW)).unwrap();
    assert_eq!(verify_with_pck(&quote, &new, &pck, at(NOW)), Err(VerifyError::KeptPck { what: "collateral" }));
}

// rules: ATT-3.2
#[test]
fn a_kept_pck_is_refused_after_it_expired() {
    let mut plan = Plan::default();
    plan.pck.not_after = NOW + 10;
    let made = World::new().make(&plan);
    let (quote, collateral) = (Quote::parse(&made.quote).unwrap(), made.trusted());
    let cache = PckCache::new();
    assert_eq!(cache.verify(&quote, &collateral, at(NOW)).unwrap().expires(), at(NOW + 10));
    cache.verify(&quote, &collateral, at(NOW + 10)).unwrap();
    let error = cache.verify(&quote, &collateral, at(NOW + 11)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::ExpiredCertificate);
    let error = cache.verify(&quote, &collateral, at(NOW - 40 * 24 * 60 * 60)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::ExpiredCollateral, "a clock that is turned back");
}

#[test]
fn kept_collateral_is_refused_after_it_expired_although_the_kept_pck_is_valid() {
    let mut plan = Plan::default();
    plan.pck_list.next_update = NOW + 10;
    let made = World::new().make(&plan);
    let (quote, collateral) = (Quote::parse(&made.quote).unwrap(), made.trusted());
    let pck = verify_pck(&quote, &collateral, at(NOW)).unwrap();
    verify_with_pck(&quote, &collateral, &pck, at(NOW + 9)).unwrap();
    let error = verify_with_pck(&quote, &collateral, &pck, at(NOW + 10)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::ExpiredCollateral);
    let error = collateral.check_time(at(NOW + 10)).unwrap_err();
    assert_eq!(error.item(), CollateralItem::PckCrl);
}

#[test]
fn a_refused_chain_is_not_kept() {
    let mut plan = Plan::default();
    plan.pck_list.revoked = vec![3];
    let made = World::new().make(&plan);
    let cache = PckCache::new();
    assert!(cache.verify(&Quote::parse(&made.quote).unwrap(), &made.trusted(), at(NOW)).is_err());
    assert!(cache.is_empty());
}

// rules: ATT-11.4
#[test]
fn collateral_with_a_lower_evaluation_number_is_refused() {
    let world = World::new();
    let with = |tcb_info: u32, qe_identity: u32| {
        let mut plan = Plan::default();
        plan.tcb_info["tcbEvaluationDataNumber"] = tcb_info.into();
        plan.qe_identity["tcbEvaluationDataNumber"] = qe_identity.into();
        world.make(&plan).trusted()
    };
    let mut floor = CollateralFloor::default();
    let seen = with(17, 18);
    floor.check(&seen).unwrap();
    assert!(floor.observe(&seen), "something new is to be saved");
    assert!(!floor.observe(&seen), "nothing changed");
    assert_eq!(floor.newest_issue(), Some(seen.newest_issue()));
    floor.check(&with(17, 18)).unwrap();
    floor.check(&with(18, 18)).unwrap();
    let (tee, fmspc) = (seen.tee(), seen.fmspc());
    let error = floor.check(&with(16, 19)).unwrap_err();
    assert_eq!(error, FloorError::TcbInfo { tee, fmspc, expected: 17, got: 16 });
    assert_eq!((error.class(), error.code()), (ErrorClass::CollateralRollback, "collateral-rollback"));
    assert!(error.hint().is_some());
    let error = floor.check(&with(19, 17)).unwrap_err();
    assert_eq!(error, FloorError::QeIdentity { tee, fmspc, expected: 18, got: 17 });
    assert!(floor.observe(&with(19, 18)));
    assert!(floor.check(&with(18, 18)).is_err());
    assert!(!floor.observe(&with(1, 1)), "observing never lowers the floor");
}
