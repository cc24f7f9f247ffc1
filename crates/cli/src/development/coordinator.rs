//! Starting and ending a Coordinator in `marble-sim`.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::log::{self, Show, Trouble};
use super::{DevelopmentError, io_error};
use crate::simulator::Simulator;

/// How long a Coordinator may take to listen; on an idle machine it takes a fraction of a second.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long `marble-sim` may take to end what runs in it.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const SIGTERM: i32 = 15;
/// The Coordinator's path in its image.
pub(super) const PROGRAM: &str = "/bin/marblerun-coordinator";

/// Where a Coordinator listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// Client API.
    pub(crate) client: SocketAddr,
    /// Marble API.
    pub(crate) marble: SocketAddr,
}

/// How a Coordinator is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start<'a> {
    /// Where it is to listen; port 0 means any.
    pub(crate) addresses: Addresses,
    /// The instance.
    pub(crate) instance: &'a Path,
    /// The root that signs its quotes.
    pub(crate) root: &'a Path,
    /// Simulate although this machine has a real TEE.
    pub(crate) force: bool,
    /// What is shown of its log.
    pub(crate) show: Show,
}

/// A Coordinator that runs. It ends with this value, and with this process.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    log: JoinHandle<()>,
    trouble: Trouble,
    /// Where it listens.
    pub(crate) addresses: Addresses,
}

impl Running {
    /// Starts a Coordinator and waits until it listens.
    ///
    /// The calling thread must live as long as the Coordinator.
    pub(crate) async fn start(simulator: &Simulator, start: Start<'_>) -> Result<Self, DevelopmentError> {
        let mut command = simulator.command(&["run".as_ref(), "--strict".as_ref()]);
        if start.force {
            command.arg("--force");
        }
        command.arg("--instance").arg(start.instance).arg("--root").arg(start.root).args(["--", PROGRAM]);
        // Nothing of the user's environment: a variable that was set for another Coordinator is not meant for this one.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("EDG_")) {
                command.env_remove(name);
            }
        }
        command
            .env("EDG_COORDINATOR_CLIENT_ADDR", start.addresses.client.to_string())
            .env("EDG_COORDINATOR_MESH_ADDR", start.addresses.marble.to_string())
            .env("EDG_COORDINATOR_SEAL_DIR", "/host/state")
            .env("EDG_COORDINATOR_COLLATERAL_DIR", "/host/collateral")
            .env("EDG_LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // The terminal's Ctrl-C is for this process, which ends the Coordinator when it has done the rest.
            .process_group(0);
        marblerun_linux::process::end_with_starter(&mut command, SIGTERM);
        let program = command.get_program().to_owned();
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        let mut child = command.spawn().map_err(io_error("start", Path::new(&program)))?;
        let (listening, is_listening) = oneshot::channel();
        let trouble = Trouble::default();
        let stderr = child.stderr.take();
        let kept = trouble.clone();
        let log = tokio::spawn(async move {
            if let Some(stderr) = stderr {
                log::follow(stderr, start.show, listening, kept).await;
            }
        });
        let result = tokio::time::timeout(START_TIMEOUT, is_listening).await;
        let unused = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut running = Self { child, log, trouble, addresses: Addresses { client: unused, marble: unused } };
        match result {
            Ok(Ok(addresses)) => {
                running.addresses = addresses;
                Ok(running)
            }
            // The log ended.
            Ok(Err(_)) => {
                let status = running.ended().await?;
                let lines = running.trouble();
                let reason = lines.iter().rev().find_map(|line| {
                    line.strip_prefix("error: ").or_else(|| line.strip_prefix("Error: ")).map(str::to_owned)
                });
                let reason = reason.or_else(|| lines.last().cloned()).unwrap_or_else(|| "no reason given".to_owned());
                Err(DevelopmentError::Ended { status: status.to_string(), reason })
            }
            Err(_) => {
                running.stop().await;
                Err(DevelopmentError::Silent(START_TIMEOUT))
            }
        }
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus, DevelopmentError> {
        self.child.wait().await.map_err(io_error("wait for", Path::new("marble-sim")))
    }

    /// Ends it. What it had acknowledged is on disk.
    pub(crate) async fn stop(mut self) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // It may have ended this moment.
            let _ = marblerun_linux::process::kill(id, SIGTERM);
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            // Whatever hangs in it ends with it.
            let _ = self.child.kill().await;
        }
        // The log ends with the last process that writes it.
        let _ = tokio::time::timeout(STOP_TIMEOUT, &mut self.log).await;
    }

    /// The last warnings and errors of the log.
    pub(crate) fn trouble(&self) -> Vec<String> {
        self.trouble.lines()
    }
}
