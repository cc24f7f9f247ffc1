//! A Coordinator with a manifest, and Marbles for it.

use std::process::Command;

use serde_json::{Value, json};

use crate::coordinator::Coordinator;
use crate::programs::{Finished, program, run};
use crate::site::{CLI_COLLATERAL, ROOT, Site, samples};

/// What the sample program prints if it got its argument.
pub(crate) const GREETING: &str = "hello_world: Hello World from Marblerun!";

/// The published key with which `marble-sim` signs; the sample has product 1, version 1.
pub(crate) const SIGNER: &str = "62e0f4c7ba82781b9905aafddb145bc3eac173cfc205ce3606223482492adbf8";

/// A site whose Coordinator runs and is expected by `era.json`.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) site: Site,
    pub(crate) coordinator: Coordinator,
}

impl Deployment {
    /// Without a manifest.
    pub(crate) fn empty() -> Self {
        let site = Site::new();
        site.coordinator_instance("coordinator", ROOT);
        site.expect_coordinator("coordinator");
        let coordinator = Coordinator::start(&site, "coordinator");
        Self { site, coordinator }
    }

    /// With the sample's manifest after `change`, and the instance `hello` that it describes, which pins the Coordinator.
    pub(crate) fn new(change: impl FnOnce(&mut Value)) -> Self {
        Self::empty().with_manifest(change)
    }

    /// Sets the manifest and makes the instance, as [`Self::new`] does.
    pub(crate) fn with_manifest(self, change: impl FnOnce(&mut Value)) -> Self {
        let deployment = self;
        deployment.cli(&["certificate", "root", &deployment.coordinator.client, "--output", "root.pem"]).success();
        deployment.site.marble_instance("hello");
        deployment.site.pin("hello", "root.pem");
        let mut manifest = sample_manifest(&deployment.site.measurement("hello"));
        change(&mut manifest);
        deployment.site.write("manifest.json", manifest.to_string());
        deployment.set_manifest().success();
        deployment
    }

    pub(crate) fn set_manifest(&self) -> Finished {
        // Some tests have packages that a careful author would not write.
        self.cli(&["manifest", "set", "manifest.json", &self.coordinator.client, "--allow-warnings"])
    }

    /// Runs the command line, which verifies the Coordinator.
    #[track_caller]
    pub(crate) fn cli(&self, arguments: &[&str]) -> Finished {
        run(&mut self.site.cli(arguments))
    }

    /// The Marble of an instance under the site's root.
    pub(crate) fn marble_command(&self, instance: &str, marble_type: &str) -> Command {
        self.site.marble(instance, ROOT, marble_type, &self.coordinator.mesh)
    }

    /// Runs a Marble to its end.
    #[track_caller]
    pub(crate) fn marble(&self, instance: &str, marble_type: &str) -> Finished {
        run(&mut self.marble_command(instance, marble_type))
    }

    /// SIGKILL and a new start on the same state. Returns the log of the Coordinator before.
    pub(crate) fn restart(&mut self) -> String {
        let log = self.coordinator.kill();
        self.coordinator = Coordinator::start(&self.site, "coordinator");
        log
    }
}

impl Site {
    /// Writes `era.json`, which expects the Coordinator of an instance.
    pub(crate) fn expect_coordinator(&self, instance: &str) {
        self.write("era.json", json!({"UniqueID": self.measurement(instance)}).to_string());
    }

    /// The command line with everything that it needs to verify the Coordinator.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(program("marblerun"), arguments);
        command.args(["--era-config", "era.json", "--coordinator-cert", "coordinator-cert.pem"]).args([
            "--trust-software-root",
            &format!("{ROOT}/root.pem"),
            "--collateral",
            CLI_COLLATERAL,
        ]);
        command
    }

    /// A Marble of an instance under `root`.
    pub(crate) fn marble(&self, instance: &str, root: &str, marble_type: &str, coordinator: &str) -> Command {
        let mut command =
            self.sim(&["run", "--strict", "--instance", instance, "--root", root, "--", "/bin/premain-libos"]);
        command
            .env("EDG_MARBLE_TYPE", marble_type)
            .env("EDG_MARBLE_COORDINATOR_ADDR", coordinator)
            .env("EDG_MARBLE_ACTIVATION_TIMEOUT", "20s");
        command
    }

    /// Fails if the program of a refused Marble ran or anything that the manifest sends was written.
    #[track_caller]
    pub(crate) fn nothing_reached(&self, instance: &str, marble: &Finished) {
        assert_ne!(marble.code, 0, "the Marble was not refused:\n{}", marble.text());
        assert!(!marble.text().contains("hello_world:"), "the program ran:\n{}", marble.text());
        self.nothing_reached_yet(instance);
    }

    /// Fails if anything that the manifest sends was written.
    #[track_caller]
    pub(crate) fn nothing_reached_yet(&self, instance: &str) {
        for layer in ["run", "host"] {
            for file in self.files_below(&format!("{instance}/{layer}")) {
                let name = file.file_name().unwrap();
                assert!(name != "key" && name != "certificate.pem", "{} was written", file.display());
            }
        }
    }
}

/// The sample's manifest for Marbles with this measurement.
pub(crate) fn sample_manifest(measurement: &str) -> Value {
    let text = std::fs::read_to_string(samples().join("occlum-hello/manifest.json")).unwrap();
    serde_json::from_str(&text.replace("@MRENCLAVE@", measurement)).unwrap()
}
