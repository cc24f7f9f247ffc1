//! Verification of a quote: of Intel hardware, recorded in 2025, and of the software TEE.

use std::time::Duration;

use anyhow::{Context as _, Result};
use marblerun_attestation::{Collateral, PckCache, Quote, TrustRoots, verify, verify_pck, verify_with_pck};
use marblerun_software_tee::{CollateralOptions, DevelopmentRoot, EnclaveIdentity, RootOptions};
use rustls_pki_types::UnixTime;

use crate::figure::{Figure, Unit};
use crate::primitives;
use crate::surroundings::Surroundings;
use crate::timing::milliseconds;

const WARM_LIMIT: f64 = 0.15;
const COLD_LIMIT: f64 = 1.5;

/// The PCK over the quoting enclave's report, the attestation key over the quote.
const WARM_SIGNATURES: f64 = 2.0;
/// And: TCB signing certificate, root CRL, TCB info, QE identity; PCK certificate, PCK CA, PCK CRL.
const COLD_SIGNATURES: f64 = WARM_SIGNATURES + 7.0;

/// When the recorded evidence of hardware was valid: 2025-08-16.
const RECORDED: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_755_302_400));

/// Evidence and what is needed to judge it.
struct Case {
    name: &'static str,
    quote: Vec<u8>,
    collateral: Vec<u8>,
    roots: TrustRoots,
    now: UnixTime,
}

/// Measures both kinds of evidence.
///
/// # Errors
///
/// If evidence is missing or does not verify.
pub fn measure(surroundings: &Surroundings) -> Result<Vec<Figure>> {
    let p256 = primitives::p256_verify()?;
    let mut figures = vec![Figure::new("ECDSA P-256, verify", p256, Unit::Milliseconds)];
    for case in [hardware(surroundings)?, software(surroundings)?] {
        figures.extend(case.measure(p256)?);
    }
    Ok(figures)
}

fn hardware(surroundings: &Surroundings) -> Result<Case> {
    let read = |name: &str| {
        let path = surroundings.source("testdata/attestation/sgx").join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok(Case {
        name: "SGX hardware",
        quote: read("automata-sgx-v3.quote")?,
        collateral: read("occlum-fmspc-00606a-2025.collateral.json")?,
        roots: TrustRoots::hardware(),
        now: RECORDED,
    })
}

fn software(surroundings: &Surroundings) -> Result<Case> {
    let now = UnixTime::now();
    let root = DevelopmentRoot::create(&surroundings.directory("verification")?, now, RootOptions::default())?;
    let identity =
        EnclaveIdentity { mr_enclave: [0x42; 32], mr_signer: [0x43; 32], isv_prod_id: 1, isv_svn: 1, debug: false };
    Ok(Case {
        name: "software TEE",
        quote: root.quote(&identity, &[0; 64])?,
        collateral: root.collateral(now, &CollateralOptions::default())?.into_bytes(),
        roots: TrustRoots::software([("bench", root.root_der())])?,
        now,
    })
}

impl Case {
    fn measure(&self, p256: f64) -> Result<Vec<Figure>> {
        let Self { quote, collateral, roots, now, .. } = self;
        let now = *now;
        let named = |what: &str, value: f64| Figure::new(format!("{}: {what}", self.name), value, Unit::Milliseconds);

        let parsed = Quote::parse(quote)?;
        let trusted = Collateral::parse(collateral)?.verify(roots, now)?;
        let pck = verify_pck(&parsed, &trusted, now)?;
        let cache = PckCache::new();
        let warm = || -> Result<()> {
            let parsed = Quote::parse(quote)?;
            cache.platform(&parsed)?;
            cache.verify(&parsed, &trusted, now)?;
            Ok(())
        };
        let cold = || -> Result<()> {
            let trusted = Collateral::parse(collateral)?.verify(roots, now)?;
            let parsed = Quote::parse(quote)?;
            parsed.unverified_platform()?;
            verify(&parsed, &trusted, now)?;
            Ok(())
        };
        // Each must work, or its time means nothing.
        warm()?;
        cold()?;
        Ok(vec![
            named("kept collateral and PCK chain", milliseconds(|| warm().is_ok()))
                .limit(WARM_LIMIT)
                .floor(WARM_SIGNATURES * p256),
            named("first time", milliseconds(|| cold().is_ok())).limit(COLD_LIMIT).floor(COLD_SIGNATURES * p256),
            named("- read the quote", milliseconds(|| Quote::parse(quote))),
            named("- find its platform, first time", milliseconds(|| parsed.unverified_platform())),
            named("- find its platform, PCK chain kept", milliseconds(|| cache.platform(&parsed))),
            named("- judge it, PCK chain kept", milliseconds(|| verify_with_pck(&parsed, &trusted, &pck, now))),
            named("- verify the PCK chain", milliseconds(|| verify_pck(&parsed, &trusted, now))),
            named("- read the collateral", milliseconds(|| Collateral::parse(collateral))),
            named(
                "- read and verify the collateral",
                milliseconds(|| Collateral::parse(collateral).map(|collateral| collateral.verify(roots, now).is_ok())),
            ),
        ])
    }
}
