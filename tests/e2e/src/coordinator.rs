//! A running Coordinator.

use std::process::Command;

use serde_json::Value;

use crate::programs::{Finished, Running, run};
use crate::site::{ROOT, Site};

/// A Coordinator inside a simulated enclave; killed with this value.
#[derive(Debug)]
pub(crate) struct Coordinator {
    running: Running,
    /// Address of the client API.
    pub(crate) client: String,
    /// Address of the Marble API.
    pub(crate) mesh: String,
}

impl Coordinator {
    /// Starts the Coordinator of an instance under the site's root.
    #[track_caller]
    pub(crate) fn start(site: &Site, instance: &str) -> Self {
        Self::start_command(&mut command(site, instance, ROOT))
    }

    /// Starts a Coordinator and waits until it listens.
    #[track_caller]
    pub(crate) fn start_command(command: &mut Command) -> Self {
        let mut running = Running::start(command);
        let (client, mesh) = running.wait_for("listening Coordinator", |log| {
            events(log).find(|fields| fields["message"] == "listening").map(|fields| {
                let address = |name: &str| fields[name].as_str().unwrap().to_owned();
                (address("client"), address("mesh"))
            })
        });
        Self { running, client, mesh }
    }

    /// Waits until the log holds all `words` in one event, and returns that event.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, words: &[&str]) -> Value {
        self.running.wait_for(&format!("{words:?} in the Coordinator's log"), |log| {
            events(log).find(|fields| words.iter().all(|word| fields.to_string().contains(word)))
        })
    }

    /// The log up to now.
    pub(crate) fn log(&mut self) -> String {
        self.running.log().to_owned()
    }

    /// Id of the simulator's process.
    pub(crate) fn id(&self) -> u32 {
        self.running.id()
    }

    /// SIGTERM, which the simulator notices, and the program does not.
    #[track_caller]
    pub(crate) fn stop(self) -> Finished {
        run(Command::new("sh").args(["-c", &format!("kill {}", self.running.id())])).success();
        self.running.finish()
    }

    /// SIGKILL, as when an Occlum instance is stopped. Returns the log.
    pub(crate) fn kill(&mut self) -> String {
        self.running.kill()
    }
}

/// `marble-sim run` of a Coordinator with free ports and a log that can be parsed.
pub(crate) fn command(site: &Site, instance: &str, root: &str) -> Command {
    let mut command = site.sim(&["run", "--strict", "--instance", instance, "--root", root, "--"]);
    command.arg("/bin/marblerun-coordinator");
    environment(&mut command, "/host");
    command
}

/// Free ports, a log that can be parsed, state and collateral below `directory`.
pub(crate) fn environment(command: &mut Command, directory: &str) {
    command
        .env("EDG_COORDINATOR_CLIENT_ADDR", "127.0.0.1:0")
        .env("EDG_COORDINATOR_MESH_ADDR", "127.0.0.1:0")
        .env("EDG_COORDINATOR_SEAL_DIR", format!("{directory}/state"))
        .env("EDG_COORDINATOR_COLLATERAL_DIR", format!("{directory}/collateral"))
        .env("EDG_LOG_FORMAT", "json");
}

/// The fields of the log's complete events; other lines are the simulator's.
fn events(log: &str) -> impl Iterator<Item = Value> {
    log.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|mut event| event["fields"].take())
}
