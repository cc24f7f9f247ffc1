//! The program under floods of connections: others are served, and it takes little memory. How long they take is
//! measured by `cargo xtask bench flood`, not here.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use marblerun_linux::limits::raise_open_files;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::{ELSEWHERE, connect_from};
use crate::running::{Identity, MANIFEST, call, client_config, connect, request_for};
use crate::transport::{PATIENCE, until_closed};

const SILENT: usize = 5000;
/// What the Coordinator may take with all these connections; without them it is about 16 MiB.
const MAX_RESIDENT_BYTES: u64 = 96 * 1024 * 1024;

/// The program itself, started with room for few files, which it raises; killed with this value.
struct Program {
    child: Child,
    client: SocketAddr,
    mesh: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Program {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "ulimit -Sn 256 && exec \"$0\"", env!("CARGO_BIN_EXE_marblerun-coordinator")])
            .env("EDG_COORDINATOR_CLIENT_ADDR", "127.0.0.1:0")
            .env("EDG_COORDINATOR_MESH_ADDR", "127.0.0.1:0")
            .env("EDG_COORDINATOR_SEAL_DIR", directory.path())
            .env("EDG_LOG_FORMAT", "json")
            .env("OE_SIMULATION", "1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let fields = log.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()["fields"].take());
        let fields = fields.into_iter().find(|fields| fields["message"] == "listening").expect("it must listen");
        // Somebody must read the rest.
        std::thread::spawn(move || log.for_each(drop));
        let address = |name: &str| fields[name].as_str().unwrap().parse().unwrap();
        Self { client: address("client"), mesh: address("mesh"), child, _directory: directory }
    }

    async fn set_manifest(&self) {
        let head = format!(
            "POST /manifest HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            MANIFEST.len()
        );
        self.ask(&format!("{head}{MANIFEST}")).await;
    }

    async fn status(&self) {
        self.ask("GET /api/v2/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    }

    async fn ask(&self, request: &str) {
        let asked = async {
            let mut stream = connect(self.client, client_config(&Identity::None, &[b"http/1.1"])).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            until_closed(stream).await
        };
        let said = timeout(PATIENCE, asked).await.expect("others must be served");
        assert!(said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
    }

    async fn activate(&self) {
        let (identity, request) = (Identity::new(), request_for("web"));
        let activated = call(self.mesh, &identity, "/rpc.Marble/Activate", &request);
        timeout(PATIENCE, activated).await.expect("others must be served").unwrap();
    }

    fn check_memory(&self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let bytes = line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024;
        assert!(bytes < MAX_RESIDENT_BYTES, "{bytes} bytes are resident");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn thousands_of_silent_connections_delay_nobody_and_take_little_memory() {
    let allowed = raise_open_files().unwrap();
    assert!(allowed > 2 * SILENT as u64 + 500, "this test needs more open files; see `ulimit -Hn`");
    let program = Program::start();
    program.set_manifest().await;
    let mut silent = Vec::new();
    for address in [program.client, program.mesh] {
        for _ in 0..SILENT {
            silent.push(timeout(PATIENCE, TcpStream::connect(address)).await.unwrap().unwrap());
        }
    }
    for _ in 0..20 {
        program.status().await;
        program.activate().await;
    }
    program.check_memory();
    drop(silent);
    program.status().await;
}

#[tokio::test]
async fn a_flood_of_handshakes_on_the_marble_port_keeps_nobody_from_being_served() {
    let program = Program::start();
    program.set_manifest().await;
    let mut hello = Vec::new();
    let config = Arc::new(client_config(&Identity::new(), &[b"h2"]));
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(config, name).unwrap().write_tls(&mut hello).unwrap();

    let (mesh, (begun, mut seen)) = (program.mesh, tokio::sync::watch::channel(0));
    let flood = tokio::spawn(async move {
        let mut open = VecDeque::new();
        for number in 1.. {
            let mut stream = connect_from(ELSEWHERE, mesh).await;
            // It is the Coordinator's right to close it.
            let _ = stream.write_all(&hello).await;
            open.push_back(stream);
            if open.len() > 300 {
                open.pop_front();
            }
            begun.send_replace(number);
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    });
    for target in [400, 800, 1200, 1600, 2000] {
        timeout(PATIENCE, seen.wait_for(|begun| *begun > target)).await.expect("the flood must go on").unwrap();
        program.status().await;
        program.activate().await;
    }
    program.check_memory();
    flood.abort();
}
