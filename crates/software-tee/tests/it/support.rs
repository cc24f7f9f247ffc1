//! A root at a fixed time, and an independent verifier.

use std::time::Duration;

use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::verify::{QuoteVerifier, VerifiedReport};
use marblerun_software_tee::{CollateralOptions, DevelopmentRoot, EnclaveIdentity, RootOptions};
use rustls_pki_types::UnixTime;

/// 2026-11-23T00:00:00Z.
pub(crate) const CREATED: u64 = 1_795_392_000;
pub(crate) const DAY: u64 = 24 * 60 * 60;

pub(crate) const IDENTITY: EnclaveIdentity =
    EnclaveIdentity { mr_enclave: [0xAA; 32], mr_signer: [0xBB; 32], isv_prod_id: 7, isv_svn: 3, debug: false };

pub(crate) const REPORT_DATA: [u8; 64] = {
    let mut data = [0; 64];
    data[0] = 0x51;
    data[63] = 0x15;
    data
};

pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// A new root in a directory that lives as long as the test needs it.
pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) root: DevelopmentRoot,
}

pub(crate) fn fixture_with(options: RootOptions) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let root = DevelopmentRoot::create(&directory.path().join("root"), at(CREATED), options).unwrap();
    Fixture { directory, root }
}

pub(crate) fn fixture() -> Fixture {
    fixture_with(RootOptions::default())
}

impl Fixture {
    pub(crate) fn quote(&self) -> Vec<u8> {
        self.root.quote(&IDENTITY, &REPORT_DATA).unwrap()
    }

    pub(crate) fn collateral(&self, options: &CollateralOptions) -> String {
        self.root.collateral(at(CREATED), options).unwrap()
    }

    /// What an independent verifier that trusts this root says at `now`.
    pub(crate) fn verify(&self, quote: &[u8], collateral: &str, now: u64) -> Result<VerifiedReport, String> {
        verify_under(self.root.root_der(), quote, collateral, now)
    }
}

pub(crate) fn verify_under(
    root_der: &[u8],
    quote: &[u8],
    collateral: &str,
    now: u64,
) -> Result<VerifiedReport, String> {
    let collateral: QuoteCollateralV3 = serde_json::from_str(collateral).map_err(|error| error.to_string())?;
    QuoteVerifier::new(root_der.to_vec()).verify(quote, &collateral, now).map_err(|error| format!("{error:#}"))
}
