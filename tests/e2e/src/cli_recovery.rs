//! Recovery at the command line.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::coordinator::Coordinator;
use crate::deployment::{Deployment, sample_manifest};
use crate::programs::{program, run};

/// A deployment with these recovery keys, whose Coordinator has lost the key of its state. Recovery data are in
/// `recovery.json`, private keys in `NAME.pem`.
fn lost(parties: &[&str], threshold: u32) -> Deployment {
    let mut deployment = Deployment::empty();
    let mut manifest = sample_manifest(&"ab".repeat(32));
    for party in parties {
        let file = format!("{party}.pem");
        deployment.site.openssl(&["genrsa", "-out", &file, "2048"]);
        manifest["RecoveryKeys"][*party] = deployment.site.openssl(&["rsa", "-in", &file, "-pubout"]).into();
    }
    let user = ["req", "-x509", "-newkey", "ed25519", "-noenc", "-subj", "/CN=user", "-keyout", "user-key.pem"];
    deployment.site.openssl(&[&user[..], &["-out", "user.pem"]].concat());
    let certificate = String::from_utf8(deployment.site.read("user.pem")).unwrap();
    manifest["Users"]["user"] = json!({"Certificate": certificate, "Roles": ["keeper"]});
    manifest["Roles"]["keeper"] =
        json!({"ResourceType": "Secrets", "ResourceNames": ["token"], "Actions": ["WriteSecret"]});
    manifest["Secrets"]["token"] = json!({"Type": "plain", "UserDefined": true});
    if threshold > 0 {
        manifest["Config"] = json!({"RecoveryThreshold": threshold});
    }
    deployment.site.write("manifest.json", manifest.to_string());
    let client = deployment.coordinator.client.clone();
    deployment
        .cli(&["manifest", "set", "manifest.json", &client, "--allow-warnings", "-r", "recovery.json"])
        .success()
        .says(&["Recovery data written to recovery.json"]);
    // The set manifest is part of the state that is remembered.
    deployment.cli(&["manifest", "verify", "manifest.json", &client]).success();
    deployment.lose_key(|_| ());
    deployment.cli(&["status", &deployment.coordinator.client]).success().says(&["1: Coordinator is in recovery mode"]);
    deployment
}

impl Deployment {
    /// Restarts the Coordinator without the key of its state, which is in `directory`, after `change`.
    fn lose_key(&mut self, change: impl FnOnce(&Path)) {
        self.coordinator.kill();
        let directory = self.site.path("coordinator/host/state");
        change(&directory);
        fs::remove_file(directory.join("sealed_key")).unwrap();
        self.coordinator = Coordinator::start(&self.site, "coordinator");
    }

    fn recovers(&self) {
        let client = self.coordinator.client.as_str();
        self.cli(&["status", client]).success().says(&["3: "]);
        self.cli(&["manifest", "verify", "manifest.json", client]).success().says(&["OK"]);
    }
}

#[test]
fn one_party_recovers_with_the_recovery_data() {
    let deployment = lost(&["ops"], 0);
    let client = deployment.coordinator.client.as_str();
    // A wrong secret is no progress.
    deployment.site.write("wrong", [7; 32]);
    deployment.cli(&["recover", "wrong", client, "--key", "ops.pem"]).refused(&["Error: "]);
    deployment
        .cli(&["recover", "recovery.json", client, "--key", "ops.pem"])
        .success()
        .says(&["Remembered state: deployment ", "Recovery successful."]);
    deployment.recovers();
}

#[test]
fn two_of_three_parties_recover() {
    let deployment = lost(&["ann", "ben", "cy"], 2);
    let client = deployment.coordinator.client.as_str();
    deployment
        .cli(&["recover", "recovery.json", client, "--key", "ann.pem"])
        .refused(&["hold several secrets: ann, ben, cy"]);
    deployment
        .cli(&["recover", "recovery.json", client, "--name", "ann", "--key", "ben.pem"])
        .refused(&["does not decrypt with this recovery key"]);
    let first = deployment
        .cli(&["recover", "recovery.json", client, "--name", "cy", "--key", "cy.pem", "--output", "json"])
        .success();
    let first: Value = serde_json::from_str(&first.stdout).unwrap();
    assert_ne!(first["remaining"], 0);
    let (state, remembered) = (&first["state"], &first["rememberedState"]);
    assert_eq!(state["deployment"], remembered["deployment"], "{first}");
    assert!(state["manifestFingerprint"].is_string(), "{first}");
    assert_eq!(state["manifestFingerprint"], remembered["manifestFingerprint"], "{first}");
    assert!(state["sequence"].as_u64() >= remembered["sequence"].as_u64() && state["hash"].is_string(), "{first}");
    // The same one again is no progress.
    deployment.cli(&["recover", "recovery.json", client, "--name", "cy", "--key", "cy.pem"]).refused(&["Error: "]);
    deployment
        .cli(&["recover", "recovery.json", client, "--name", "ann", "--key", "ann.pem"])
        .success()
        .says(&["Recovery successful."]);
    deployment.recovers();
}

#[test]
fn no_secret_is_given_for_a_state_that_goes_back() {
    let mut deployment = lost(&["ops"], 0);
    let recover = ["recover", "recovery.json", "--key", "ops.pem"];
    let client = deployment.coordinator.client.clone();
    deployment.cli(&[&recover[..], &[&client]].concat()).success();
    let data = deployment.site.read("coordinator/host/state/sealed_data");
    deployment.site.write("secrets.json", json!({"token": {"Key": "aGVsbG8="}}).to_string());
    let set = ["secret", "set", "secrets.json", &client, "--cert", "user.pem", "--key", "user-key.pem"];
    deployment.cli(&set).success();
    deployment.cli(&["manifest", "verify", "manifest.json", &client]).success();

    deployment.lose_key(|directory| fs::write(directory.join("sealed_data"), data).unwrap());
    let client = deployment.coordinator.client.clone();
    let refused = deployment.cli(&[&recover[..], &[&client]].concat());
    refused.refused(&["expected a state not older than epoch ", "--accept-other-state"]);
    deployment.cli(&["status", &client]).refused(&["expected a state not older than epoch "]);
    let accepted = deployment.cli(&[&recover[..], &[&client, "--accept-other-state"]].concat());
    accepted.success().says(&["Recovery successful."]);
}

#[test]
fn a_party_recovers_with_a_key_that_stays_offline() {
    let deployment = lost(&["ops"], 0);
    let client = deployment.coordinator.client.as_str();
    let online = |arguments: &[&str]| deployment.cli(&[&["recover-with-signature"], arguments].concat());
    online(&["public-key", client, "-o", "coordinator-key.pem", "--evidence", "evidence.json"]).success();
    let modulus = deployment.site.openssl(&["rsa", "-pubin", "-in", "coordinator-key.pem", "-noout", "-text"]);
    assert!(modulus.contains("4096 bit"), "{modulus}");

    // Neither address nor trust in the Coordinator is needed here.
    let offline = |arguments: &[&str]| {
        let mut command = deployment.site.command(program("marblerun"), &["recover-with-signature"]);
        run(command.args(arguments).args(["recovery.json", "--name", "ops", "--key", "ops.pem"]))
    };
    let encrypt = ["encrypt-secret", "--coordinator-pub-key", "coordinator-key.pem", "-o", "secret.enc"];
    offline(&encrypt).success();
    offline(&["sign-secret", "-o", "secret.sig"]).success();
    offline(&encrypt).refused(&["File exists"]);
    // With the remembered state and what it takes to verify, the evidence is judged first.
    let mut judged =
        deployment.site.cli(&["recover-with-signature", "sign-secret", "recovery.json", "--key", "ops.pem"]);
    run(judged.args(["--evidence", "evidence.json", "-o", "again.sig"]))
        .success()
        .says(&["Remembered state: deployment "]);
    assert_eq!(deployment.site.read("again.sig"), deployment.site.read("secret.sig"));

    online(&["secret.enc", client, "--signature", "secret.sig"]).success().says(&["Recovery successful."]);
    deployment.recovers();
}
