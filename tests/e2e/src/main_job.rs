//! What it is all for: an unmodified program becomes a member of a deployment.

use std::fs;

use serde_json::json;

use crate::deployment::{Deployment, GREETING, SIGNER};
use crate::programs::run;

// rules: ATT-11.1
#[test]
fn an_unmodified_program_gets_argument_variable_file_and_certificate_from_the_manifest() {
    let deployment = Deployment::new(|_| ());
    let site = &deployment.site;
    let first = deployment.marble("hello", "hello").success();
    first.says(&[
        "the Coordinator is the pinned one",
        GREETING,
        "variable HELLO_KEY: 32 hexadecimal digits",
        "file /etc/hello/key: 16 bytes",
    ]);

    // The certificate chains to the Coordinator's root, in the eyes of another implementation.
    let client = &deployment.coordinator.client;
    deployment.cli(&["certificate", "intermediate", client, "--output", "intermediate.pem"]).success();
    let verify = ["verify", "-CAfile", "root.pem", "-untrusted", "intermediate.pem", "hello/host/certificate.pem"];
    assert!(site.openssl(&verify).ends_with("certificate.pem: OK\n"));
    let subject = || site.openssl(&["x509", "-in", "hello/host/certificate.pem", "-noout", "-subject", "-serial"]);
    let before = subject();

    // The same Marble comes back: a new certificate for the same UUID.
    deployment.marble("hello", "hello").success().says(&["found UUID: ", GREETING]);
    let after = subject();
    let uuid = |text: &str| text.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(uuid(&before), uuid(&after));
    assert_eq!(uuid(&before).len(), 36, "expected a UUID as common name, got {before}");
    assert_ne!(before, after, "expected another certificate after the restart");
}

// rules: ACT-4.2
#[test]
fn the_certificate_verifies_under_the_root_alone_with_the_chain_that_the_coordinator_hands_out() {
    let deployment = Deployment::new(|_| ());
    deployment.marble("hello", "hello").success();
    let client = &deployment.coordinator.client;
    deployment.cli(&["certificate", "chain", client, "--output", "chain.pem"]).success();
    let certificate = "hello/host/certificate.pem";
    let output = deployment.site.openssl(&["verify", "-CAfile", "root.pem", "-untrusted", "chain.pem", certificate]);
    assert_eq!(output, format!("{certificate}: OK\n"));
}

// rules: ACT-8.3
#[test]
fn nothing_of_the_manifest_is_there_before_the_activation() {
    let mut deployment = Deployment::new(|_| ());
    deployment.coordinator.kill();
    let site = &deployment.site;
    let mut command = deployment.marble_command("hello", "hello");
    command.env("EDG_MARBLE_ACTIVATION_TIMEOUT", "1s");
    let marble = run(&mut command);
    site.nothing_reached("hello", &marble);
    marble.refused(&["cannot connect to", "gave up after"]);
}

#[test]
fn an_image_that_pins_no_coordinator_says_so_at_each_start() {
    let deployment = Deployment::new(|manifest| {
        manifest["Packages"]["hello"] = json!({"SignerID": SIGNER, "ProductID": 1, "SecurityVersion": 1});
    });
    fs::remove_file(deployment.site.path("hello/image/etc/marblerun/coordinator.json")).unwrap();
    deployment.marble("hello", "hello").success().says(&[GREETING, "warning: ", "coordinator.json"]);
}
