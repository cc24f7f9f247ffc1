//! A running Coordinator with its state in a directory of its own.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use marblerun_software_tee::{DevelopmentRoot, RootOptions};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::process::Process;
use crate::surroundings::Surroundings;

const START_TIMEOUT: Duration = Duration::from_secs(30);
const PROGRAM: &str = "marblerun-coordinator";

/// A Coordinator process, ended with this value.
pub struct Deployment {
    directory: PathBuf,
    cli: PathBuf,
    trust: Vec<String>,
    child: Child,
    coordinator: Process,
    client: SocketAddr,
    mesh: SocketAddr,
}

impl Deployment {
    /// The release build inside the simulator, as on hardware: quotes are verified, under a new development root.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn in_enclave(surroundings: &Surroundings, name: &str) -> Result<(Self, DevelopmentRoot)> {
        let directory = surroundings.directory(name)?;
        let root = DevelopmentRoot::create(&directory.join("root"), UnixTime::now(), RootOptions::default())?;
        root.export_bundle(&directory.join("coordinator/host/collateral"), UnixTime::now(), &Default::default())?;
        fs::create_dir_all(directory.join("coordinator/image/etc/marblerun"))?;
        fs::copy(
            surroundings.source("samples/occlum-coordinator/Occlum.json"),
            directory.join("coordinator/Occlum.json"),
        )?;
        let simulator = surroundings.program("marble-sim")?;
        let sim = |arguments: &[&str]| {
            let mut command = Command::new(&simulator);
            command.current_dir(&directory).args(arguments);
            command
        };
        let program = surroundings.program(PROGRAM)?;
        let place = format!("/bin/{PROGRAM}");
        succeed(sim(&["image", "add", "--instance", "coordinator"]).arg(program).args(["--as", &place]))?;
        let trust = json!({ "Class": "software", "Roots": [root.root_pem()] });
        fs::write(directory.join("coordinator/image/etc/marblerun/trust.json"), trust.to_string())?;
        let measured: Value = serde_json::from_str(&succeed(&mut sim(&["measure", "--instance", "coordinator"]))?)?;
        fs::write(directory.join("era.json"), json!({ "UniqueID": measured["mrenclave"] }).to_string())?;

        let mut command = sim(&["run", "--strict", "--instance", "coordinator", "--root", "root", "--", &place]);
        command.env("EDG_COORDINATOR_SEAL_DIR", "/host/state");
        command.env("EDG_COORDINATOR_COLLATERAL_DIR", "/host/collateral");
        let trust = "--era-config era.json --trust-software-root root/root.pem \
                     --collateral coordinator/host/collateral --coordinator-cert coordinator-cert.pem";
        Ok((Self::start(surroundings, directory.clone(), command, trust)?, root))
    }

    /// The release build as a plain process without a TEE: any Marble is accepted.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn without_tee(surroundings: &Surroundings, name: &str) -> Result<Self> {
        let directory = surroundings.directory(name)?;
        let mut command = Command::new(surroundings.program(PROGRAM)?);
        command.current_dir(&directory).env("OE_SIMULATION", "1").env("EDG_COORDINATOR_SEAL_DIR", "state");
        Self::start(surroundings, directory, command, "--insecure --coordinator-cert coordinator-cert.pem")
    }

    fn start(surroundings: &Surroundings, directory: PathBuf, mut command: Command, trust: &str) -> Result<Self> {
        let (client, mesh) = free_addresses()?;
        let log = fs::File::create(directory.join("log"))?;
        let child = command
            .env("EDG_COORDINATOR_CLIENT_ADDR", client.to_string())
            .env("EDG_COORDINATOR_MESH_ADDR", mesh.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let coordinator = Process(child.id());
        let cli = surroundings.program("marblerun")?;
        let trust = trust.split_whitespace().map(str::to_owned).collect();
        let mut deployment = Self { directory, cli, trust, child, coordinator, client, mesh };
        deployment.wait_for_listeners()?;
        deployment.coordinator = match Process(deployment.child.id()).descendant(PROGRAM)? {
            Some(process) => process,
            None => bail!("the Coordinator's process was not found below {}", deployment.child.id()),
        };
        Ok(deployment)
    }

    fn wait_for_listeners(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(self.client).is_err() || TcpStream::connect(self.mesh).is_err() {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                bail!("the Coordinator ended: {status}\n{log}");
            }
            ensure!(Instant::now() < deadline, "the Coordinator does not listen after {START_TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sets the manifest with our command line; how long that took from start to end.
    ///
    /// # Errors
    ///
    /// If it is refused.
    pub fn set_manifest(&self, manifest: &Value) -> Result<Duration> {
        fs::write(self.directory.join("manifest.json"), manifest.to_string())?;
        let start = Instant::now();
        let mut command = Command::new(&self.cli);
        command.current_dir(&self.directory).args(["manifest", "set", "manifest.json", &self.client.to_string()]);
        // Secrets that no Marble uses are a probable mistake, but not here.
        succeed(command.arg("--allow-warnings").args(&self.trust))?;
        Ok(start.elapsed())
    }

    /// The Coordinator's own process, not the simulator around it.
    pub fn coordinator(&self) -> Process {
        self.coordinator
    }

    /// Where its files are; the development root of one in an enclave is `root` below it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the client API is.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Where Marbles are activated.
    pub fn mesh(&self) -> SocketAddr {
        self.mesh
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two addresses that nobody listens on: both are bound at the same time, so that they differ, and then released.
fn free_addresses() -> Result<(SocketAddr, SocketAddr)> {
    let (client, mesh) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((client.local_addr()?, mesh.local_addr()?))
}

fn succeed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}\n{text}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
