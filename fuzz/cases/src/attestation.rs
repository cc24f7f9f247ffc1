//! Evidence and what the vendors say about it.

use std::sync::LazyLock;
use std::time::Duration;

use marblerun_attestation::{
    Claims, Collateral, MAX_COLLATERAL_BYTES, MAX_QUOTE_BYTES, OE_HEADER_LEN, Quote, SgxReport, TrustRoots,
    TrustedCollateral, is_raw_sgx_quote, verify, with_oe_header,
};
use rustls_pki_types::UnixTime;

use crate::Verdict;

const SOFTWARE_ROOT: &[u8] = include_bytes!("../../corpus/certificate/seed-software-root");
const SOFTWARE_COLLATERAL: &[u8] = include_bytes!("../../corpus/collateral/seed-software-tee");
const SOFTWARE_QUOTE: &[u8] = include_bytes!("../../corpus/quote/seed-software-tee");
const HARDWARE_COLLATERAL: &[u8] = include_bytes!("../../corpus/collateral/seed-dcap-qvl-sgx");
const HARDWARE_QUOTE: &[u8] = include_bytes!("../../corpus/quote/seed-dcap-qvl-sgx");

/// One deployment's view of the world: roots, the time, and the only evidence that is good there.
struct World {
    roots: TrustRoots,
    now: UnixTime,
    collateral: TrustedCollateral,
    report: SgxReport,
}

impl World {
    fn new(roots: TrustRoots, now_seconds: u64, collateral: &[u8], quote: &[u8]) -> Self {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now_seconds));
        let collateral = Collateral::parse(collateral)
            .expect("the corpus holds good collateral")
            .verify(&roots, now)
            .expect("the corpus holds good collateral");
        let report = Quote::parse(quote).expect("the corpus holds a good quote").unverified_report();
        Self { roots, now, collateral, report }
    }
}

/// Evidence of the software TEE under its root, and evidence of real hardware under the vendor's.
static WORLDS: LazyLock<[World; 2]> = LazyLock::new(|| {
    let software = TrustRoots::software([("development", SOFTWARE_ROOT)]).expect("the seed is a root certificate");
    [
        World::new(software, SOFTWARE_NOW, SOFTWARE_COLLATERAL, SOFTWARE_QUOTE),
        World::new(TrustRoots::hardware(), HARDWARE_NOW, HARDWARE_COLLATERAL, HARDWARE_QUOTE),
    ]
});
/// 2026-11-23.
const SOFTWARE_NOW: u64 = 1_795_392_000;
/// 2025-06-20.
const HARDWARE_NOW: u64 = 1_750_377_600;

/// Evidence: with and without Open Enclave header it means the same, and only what the vendor's key signed is accepted.
pub fn quote(data: &[u8]) -> Verdict {
    let _ = is_raw_sgx_quote(data);
    let parsed = Quote::parse(data);
    let raw = Quote::parse_raw(data);
    let Ok(quote) = &parsed else {
        assert!(raw.is_err(), "evidence of unknown form was read although its raw form is a quote");
        return Verdict::of(&parsed);
    };
    assert!(data.len() <= MAX_QUOTE_BYTES);
    if raw.is_ok() && data.len() + OE_HEADER_LEN <= MAX_QUOTE_BYTES {
        let wrapped = Quote::parse_with_oe_header(&with_oe_header(data)).expect("a header changes no quote");
        assert_eq!(wrapped.unverified_report(), quote.unverified_report());
        assert_eq!(wrapped.evidence_sha256(), quote.evidence_sha256(), "the header is not part of the evidence");
    }
    let _ = (quote.unverified_platform(), quote.certification_type());
    for world in WORLDS.iter() {
        let verified = verify(quote, &world.collateral, world.now);
        if let Ok(report) = &verified {
            let Claims::Sgx(claims) = report.claims() else { panic!("an SGX quote gives SGX claims") };
            assert_eq!(claims, &world.report, "claims that the vendor never signed");
            assert_eq!(report.trust_class(), world.roots.class());
        }
        // Being refused is fine; the reason must be sayable.
        let _ = Verdict::of(&verified);
    }
    Verdict::Accepted
}

/// Collateral: what is accepted under a root is of that root's class, current, and about a platform that the vendor
/// signed for.
pub fn collateral(data: &[u8]) -> Verdict {
    let parsed = Collateral::parse(data);
    let Ok(collateral) = &parsed else { return Verdict::of(&parsed) };
    assert!(data.len() <= MAX_COLLATERAL_BYTES);
    let [software, hardware] = &*WORLDS;
    for world in [software, hardware] {
        let verified = collateral.verify(&world.roots, world.now);
        if let Ok(trusted) = &verified {
            assert_eq!(trusted.trust_class(), world.roots.class());
            assert!(trusted.check_time(world.now).is_ok() && trusted.expires() >= world.now);
            assert!(trusted.earliest_issue() <= trusted.newest_issue() && trusted.newest_issue() <= world.now);
            let signed = (trusted.fmspc(), trusted.evaluation_numbers());
            let known = (software.collateral.fmspc(), software.collateral.evaluation_numbers());
            assert!(std::ptr::eq(world, hardware) || signed == known, "collateral that the root never signed");
        }
        // Being refused is fine; the reason must be sayable.
        let _ = Verdict::of(&verified);
    }
    Verdict::Accepted
}
