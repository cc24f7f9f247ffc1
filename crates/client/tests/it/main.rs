//! Calls against a Coordinator that the tests play.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod calls;
mod credentials;
mod endpoints;
mod fake;
mod recovery;
mod refusals;

use marblerun_client::{
    Address, AttestedCoordinator, ClientError, CollateralSource, Coordinator, EraConfig, NonceChoice, Policy, Timeouts,
};
use marblerun_collateral::Bundle;

use fake::Fake;

fn address(fake: &Fake) -> Address {
    Address::parse(&fake.address()).unwrap()
}

/// Expects exactly the enclave of [`fake::ENCLAVE`], under the fake's own vendor, with what it sends as collateral.
fn policy(fake: &Fake) -> Policy {
    let expected = EraConfig { unique_id: "aa".repeat(32), signer_id: "bb".repeat(32), ..EraConfig::default() };
    Policy { expected, roots: fake.script().tee.roots(), collateral: CollateralSource::offered() }
}

/// The same with the collateral of a directory.
fn policy_with_directory(fake: &Fake) -> Policy {
    let (directory, roots) = {
        let script = fake.script();
        (script.tee.bundle(), script.tee.roots())
    };
    Policy { collateral: CollateralSource::directory(Bundle::open(directory, roots).unwrap()), ..policy(fake) }
}

async fn attest(fake: &Fake, policy: &Policy) -> Result<AttestedCoordinator, ClientError> {
    Coordinator::new(address(fake), Timeouts::default()).attest(policy, NonceChoice::Fresh, fake::now()).await
}

/// The error with everything behind it, in one line.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
