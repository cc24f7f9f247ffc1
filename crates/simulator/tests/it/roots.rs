//! Development roots: what is made, and that only who is told so trusts it.

use std::fs;

use marblerun_attestation::{Collateral, Quote, TrustRoots, verify};
use rustls_pki_types::UnixTime;

use crate::fixture::{Finished, Fixture, finish};

fn export(fixture: &Fixture) -> Collateral {
    let mut command = fixture.command(&["collateral", "export"]);
    let finished = finish(command.arg(fixture.path("collateral")).arg("--root").arg(fixture.path("root")));
    assert_eq!(finished.status.code(), Some(0), "{finished:#?}");
    Collateral::parse(&fs::read(finished.stdout.trim_end()).unwrap()).unwrap()
}

fn quote(fixture: &Fixture) -> Quote {
    let finished = fixture.run(&["--strict"], &["/bin/probe", "write-quote"]);
    Quote::parse_raw(&hex::decode(finished.stdout.trim()).unwrap()).unwrap()
}

// rules: SIM-8, ATT-10.2
#[test]
fn a_quote_verifies_under_its_development_root_and_is_refused_under_hardware_roots() {
    let fixture = Fixture::new();
    let (collateral, quote, now) = (export(&fixture), quote(&fixture), UnixTime::now());
    let root = fs::read(fixture.path("root/root.der")).unwrap();
    let trusted = collateral.verify(&TrustRoots::software([("dev", root.as_slice())]).unwrap(), now).unwrap();
    let verified = verify(&quote, &trusted, now).unwrap();
    assert_eq!(verified.trust_class().name(), "software");
    assert_eq!(verified.report_data().as_bytes()[..3], [1, 2, 3]);

    let refused = collateral.verify(&TrustRoots::hardware(), now).unwrap_err();
    let text = marblerun_simulator::supervisor::chain(&refused);
    assert!(text.contains("software TEE, only hardware roots are trusted"), "{text}");
}

#[test]
fn a_quote_is_refused_under_another_development_root() {
    let (first, second) = (Fixture::new(), Fixture::new());
    let (collateral, now) = (export(&second), UnixTime::now());
    let root = fs::read(second.path("root/root.der")).unwrap();
    let trusted = collateral.verify(&TrustRoots::software([("dev", root.as_slice())]).unwrap(), now).unwrap();
    assert!(verify(&quote(&first), &trusted, now).is_err());
    let root = fs::read(first.path("root/root.der")).unwrap();
    assert!(collateral.verify(&TrustRoots::software([("dev", root.as_slice())]).unwrap(), now).is_err());
}

#[test]
fn making_a_root_says_that_it_is_no_protection_and_never_replaces_one() {
    let fixture = Fixture::new();
    let create = |name: &str| -> Finished { finish(fixture.command(&["root", "create"]).arg(fixture.path(name))) };
    let made = create("another");
    assert_eq!(made.status.code(), Some(0), "{made:#?}");
    for text in ["it is NOT protection", "expires in 30 days"] {
        assert!(made.stderr.contains(text), "{made:#?}");
    }
    create("another").expect_error(204, "exists");
}

#[test]
fn without_a_named_root_one_is_made_in_the_users_data_directory() {
    let fixture = Fixture::new();
    let run = || {
        let mut command = fixture.command(&["run", "--instance"]);
        command.arg(fixture.path("instance")).args(["--", "/bin/probe", "seal-key", "1"]);
        finish(command.env("XDG_DATA_HOME", fixture.path("data")))
    };
    let first = run();
    assert!(first.stderr.contains("made the development root"), "{first:#?}");
    run().expect(0, &first.stdout);
    assert!(fixture.path("data/marble-sim/root/root.der").exists());
}

#[test]
fn a_missing_or_malformed_signing_key_is_one_clear_line() {
    let fixture = Fixture::new();
    let measure = |key: &str| {
        let mut command = fixture.command(&["measure", "--instance"]);
        finish(command.arg(fixture.path("instance")).arg("--sign-key").arg(fixture.path(key)))
    };
    measure("absent.pem").expect_error(201, "expected a PEM file, got nothing");
    fs::write(fixture.path("bad.pem"), "text").unwrap();
    measure("bad.pem").expect_error(201, "expected an RSA private key of 3072 bits with exponent 3");
}
