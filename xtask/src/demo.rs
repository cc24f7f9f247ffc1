//! `cargo xtask demo`: an ordinary program becomes a Marble, three attacks fail, and nobody outside saw a secret.

mod canaries;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::prerequisites::{self, CC, OPENSSL};
use crate::process::{capture, cargo, heading, say, shown, step, succeed};

/// How long a Coordinator may take to listen; on an idle machine it takes well under a second.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const GREETING: &str = "hello_world: Hello World from Marblerun!";

/// Runs the demo; an error means that something did not happen as promised.
///
/// # Errors
///
/// Whatever failed, with the command and what it wrote.
pub fn run(workspace: &Path) -> Result<()> {
    println!("This demo runs an unmodified program as a Marble on this machine, without SGX hardware.");
    println!();
    println!("Simulated: the Occlum library OS, its enclave, and the CPU vendor behind its quotes (`marble-sim`).");
    println!("Real:      Coordinator, premain and command line, the same binaries as on hardware; quote format,");
    println!("           quote verification, certificates, TLS and sealed state.");
    println!("A simulated enclave protects nothing against this machine's administrator.");

    prerequisites::require(&[CC, OPENSSL])?;
    prerequisites::require_namespaces()?;

    heading("Build (release profile; the first time takes some minutes)");
    step(cargo(workspace, &["build", "--release", "--locked", "--bins", "--package", "marblerun-cli"]).args([
        "--package",
        "marblerun-coordinator",
        "--package",
        "marblerun-premain",
        "--package",
        "marblerun-simulator",
    ]))?;

    let directory = WorkDirectory::new()?;
    let demo = Demo::new(workspace, &directory.0)?;
    say(&format!("working directory: {}", directory.0.display()));
    demo.run()
}

/// A directory below the system's temporary one, removed in the end.
struct WorkDirectory(PathBuf);

impl WorkDirectory {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("marblerun-demo-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        // What remains is in the temporary directory and holds nothing of value.
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Demo {
    samples: PathBuf,
    bin: PathBuf,
    work: PathBuf,
    client: SocketAddr,
    mesh: SocketAddr,
}

impl Demo {
    fn new(workspace: &Path, work: &Path) -> Result<Self> {
        // Both are bound at the same time, so that they differ.
        let (client, mesh) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
        Ok(Self {
            samples: workspace.join("samples"),
            bin: target.join("release"),
            work: work.to_owned(),
            client: client.local_addr()?,
            mesh: mesh.local_addr()?,
        })
    }

    fn run(&self) -> Result<()> {
        heading("A development root: the simulated CPU vendor");
        succeed(&mut self.sim(&["root", "create", "root"]))?;
        succeed(&mut self.sim(&["collateral", "export", "coordinator/host/collateral", "--root", "root"]))?;

        heading("A secret of the administrator, and a look at all that leaves the enclaves");
        let mut planted = self.plant()?;

        heading("The Coordinator, as a program inside (simulated) Occlum");
        self.instance("coordinator", "occlum-coordinator", &["marblerun-coordinator"])?;
        let trust =
            format!("{{\"Class\": \"software\", \"Roots\": [{}]}}\n", json_string(&self.read("root/root.pem")?));
        self.write("coordinator/image/etc/marblerun/trust.json", &trust)?;
        say(
            "/etc/marblerun/trust.json in the measured image names the development root; nothing outside can change it",
        );
        let measurement = self.measure("coordinator")?;
        self.write("era.json", &format!("{{\"UniqueID\": \"{measurement}\"}}\n"))?;
        let coordinator = self.start_coordinator("coordinator", true)?;

        heading("Verify it: quote, TCB status, measurement, certificate");
        print!("{}", succeed(&mut self.cli(&["status"], &[]))?);
        succeed(&mut self.cli(&["certificate", "root"], &["--output", "root.pem"]))?;

        heading("An Occlum instance of hello_world with the premain as its only entry point");
        self.hello_program()?;
        self.instance("hello", "occlum-hello", &["premain-libos", "hello_world"])?;
        let pin = self.root_pin()?;
        self.write("hello/image/etc/marblerun/coordinator.json", &format!("{{\"RootSHA256\": \"{pin}\"}}\n"))?;
        say("/etc/marblerun/coordinator.json in the measured image pins the Coordinator's root certificate");
        let measurement = self.measure("hello")?;

        heading("The manifest: this measurement may join, and this is what it gets");
        let manifest = fs::read_to_string(self.samples.join("occlum-hello/manifest.json"))?;
        let manifest = self.with_administrator(&manifest.replace("@MRENCLAVE@", &measurement))?;
        self.write("manifest.json", &manifest)?;
        let recovery = ["--recoverydata", "recovery.json"];
        print!("{}", succeed(&mut self.cli(&["manifest", "set", "manifest.json"], &recovery))?);
        self.upload_and_read(&mut planted)?;

        heading("The Coordinator again, with all secrets known that it must keep");
        planted.collect(self, "coordinator", coordinator)?;
        let coordinator = self.start_coordinator("coordinator", true)?;

        heading("Run the Marble");
        let output = capture(&mut self.marble("hello", "root"))?;
        planted.read(self, "hello")?;
        let text = show_output(&output);
        ensure!(output.status.success(), "the Marble failed: {}", output.status);
        ensure!(text.contains(GREETING), "the Marble did not print {GREETING:?}");
        ensure!(text.contains("HELLO_KEY: 32 hexadecimal"), "the variable made from a secret is missing");
        ensure!(text.contains("/etc/hello/key: 16 bytes"), "the file made from a secret is missing");
        let issuer = succeed(Command::new("openssl").current_dir(&self.work).args([
            "x509",
            "-in",
            "hello/host/certificate.pem",
            "-noout",
            "-subject",
            "-issuer",
        ]))?;
        print!("{issuer}");
        ensure!(
            issuer.contains("MarbleRun Coordinator - Intermediate CA"),
            "the Marble's certificate has another issuer"
        );

        heading("Refusal 1: one byte of the image is changed");
        let tampered = self.tampered_copy()?;
        say(&format!("one byte of {} was flipped", tampered.display()));
        self.refused("tampered", "root", &["UniqueID", "expected", "got"])?;

        heading("Refusal 2: a quote under another development root");
        succeed(&mut self.sim(&["root", "create", "other-root"]))?;
        self.refused("hello", "other-root", &["root"])?;

        heading("Refusal 3: a hostile Coordinator at the same address");
        planted.collect(self, "coordinator", coordinator)?;
        self.hostile_instance()?;
        let hostile = self.start_coordinator("hostile", false)?;
        say("it accepts the same manifest, for it can verify the Marble as well as the true one:");
        succeed(&mut self.cli(&["manifest", "set", "manifest.json"], &[]))?;
        self.upload()?;
        self.refused("hello", "root", &["expected the root certificate with SHA-256", "got"])?;
        hostile.stop();

        heading("Summary");
        println!("Proven here, with real cryptography:");
        println!("  - the command line accepted the Coordinator by its quote, not by its certificate;");
        println!("  - hello_world, unmodified, started only after the Coordinator had verified its quote, and got its");
        println!("    arguments, variable, file and certificate from the manifest;");
        println!("  - a changed image, a quote of another vendor root and another Coordinator were refused.");
        println!("Not proven here: anything about hardware. The enclave and the vendor were simulated, so whoever");
        println!("administers this machine could read every secret of this demo.");
        println!();
        planted.judge()?;
        Ok(())
    }

    /// An instance directory: the sample's configuration, and an image with `programs` in `/bin`.
    fn instance(&self, name: &str, sample: &str, programs: &[&str]) -> Result<()> {
        let directory = self.work.join(name);
        fs::create_dir_all(directory.join("image/etc/marblerun"))?;
        fs::create_dir_all(directory.join("host"))?;
        fs::copy(self.samples.join(sample).join("Occlum.json"), directory.join("Occlum.json"))?;
        for program in programs {
            let file = [&self.bin, &self.work].into_iter().map(|place| place.join(program)).find(|file| file.exists());
            let file = file.with_context(|| format!("{program} was not built"))?;
            succeed(
                self.sim(&["image", "add", "--instance", name]).arg(&file).args(["--as", &format!("/bin/{program}")]),
            )?;
        }
        Ok(())
    }

    fn hello_program(&self) -> Result<()> {
        let source = self.samples.join("occlum-hello/hello.c");
        succeed(
            Command::new("cc").current_dir(&self.work).args(["-O2", "-fPIE", "-pie", "-o", "hello_world"]).arg(source),
        )?;
        Ok(())
    }

    /// A Coordinator of the attacker's: the same program and trust, but its own state, hence another root key.
    fn hostile_instance(&self) -> Result<()> {
        copy_tree(&self.work.join("coordinator/image"), &self.work.join("hostile/image"))?;
        copy_tree(&self.work.join("coordinator/host/collateral"), &self.work.join("hostile/host/collateral"))?;
        fs::copy(self.work.join("coordinator/Occlum.json"), self.work.join("hostile/Occlum.json"))?;
        Ok(())
    }

    fn tampered_copy(&self) -> Result<PathBuf> {
        copy_tree(&self.work.join("hello/image"), &self.work.join("tampered/image"))?;
        fs::create_dir_all(self.work.join("tampered/host"))?;
        fs::copy(self.work.join("hello/Occlum.json"), self.work.join("tampered/Occlum.json"))?;
        let program = self.work.join("tampered/image/bin/hello_world");
        let mut bytes = fs::read(&program)?;
        *bytes.last_mut().context("hello_world is empty")? ^= 1;
        fs::write(&program, bytes)?;
        Ok(program)
    }

    /// Runs a Marble that must be refused, with a reason that holds all `words`.
    fn refused(&self, instance: &str, root: &str, words: &[&str]) -> Result<()> {
        let output = capture(&mut self.marble(instance, root))?;
        let text = show_output(&output);
        ensure!(!output.status.success(), "the Marble was not refused");
        ensure!(!text.contains(GREETING), "the program ran although the Marble was refused");
        for word in words {
            ensure!(text.contains(word), "the refusal does not name {word:?}");
        }
        say("refused, as it must be");
        Ok(())
    }

    fn measure(&self, instance: &str) -> Result<String> {
        let json = succeed(&mut self.sim(&["measure", "--instance", instance]))?;
        let measurement = json_member(&json, "mrenclave").context("`marble-sim measure` printed no mrenclave")?;
        say(&format!("MRENCLAVE of {instance}: {measurement}"));
        Ok(measurement)
    }

    fn root_pin(&self) -> Result<String> {
        let text = succeed(Command::new("openssl").current_dir(&self.work).args([
            "x509",
            "-in",
            "root.pem",
            "-noout",
            "-fingerprint",
            "-sha256",
        ]))?;
        let hex = text.trim().rsplit('=').next().unwrap_or_default().replace(':', "").to_ascii_lowercase();
        ensure!(hex.len() == 64, "unexpected fingerprint {text:?}");
        Ok(hex)
    }

    fn start_coordinator(&self, instance: &str, watched: bool) -> Result<Background> {
        let mut command = self.sim(&["run", "--strict", "--instance", instance, "--root", "root"]);
        if watched {
            command.args(canaries::arguments(instance));
        }
        command
            .args(["--", "/bin/marblerun-coordinator"])
            .env("EDG_COORDINATOR_CLIENT_ADDR", self.client.to_string())
            .env("EDG_COORDINATOR_MESH_ADDR", self.mesh.to_string())
            .env("EDG_COORDINATOR_SEAL_DIR", "/host/state")
            .env("EDG_COORDINATOR_COLLATERAL_DIR", "/host/collateral");
        let mut background = Background::start(command)?;
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(self.client).is_err() || TcpStream::connect(self.mesh).is_err() {
            background.ensure_running()?;
            ensure!(Instant::now() < deadline, "the Coordinator does not listen after {START_TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        say(&format!("the Coordinator listens on {} (client API) and {} (Marble API)", self.client, self.mesh));
        Ok(background)
    }

    fn marble(&self, instance: &str, root: &str) -> Command {
        let mut command = self.sim(&["run", "--strict", "--instance", instance, "--root", root]);
        command.args(canaries::arguments(instance)).args(["--", "/bin/premain-libos"]);
        command.env("EDG_MARBLE_COORDINATOR_ADDR", self.mesh.to_string());
        command
    }

    /// A command against the Coordinator: verified by quote, under the development root.
    fn cli(&self, command: &[&str], more: &[&str]) -> Command {
        let mut line = Command::new(self.bin.join("marblerun"));
        let (verbs, arguments) = command.split_at(if command[0] == "status" { 1 } else { 2 });
        line.current_dir(&self.work)
            .args(verbs)
            .args(arguments)
            .arg(self.client.to_string())
            .args(["--era-config", "era.json", "--coordinator-cert", "coordinator-cert.pem"])
            .args(["--trust-software-root", "root/root.pem", "--collateral", "coordinator/host/collateral"])
            .args(more);
        line
    }

    fn sim(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join("marble-sim"));
        command.current_dir(&self.work).args(arguments);
        command
    }

    fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.work.join(path)).with_context(|| format!("cannot read {path}"))
    }

    /// Writes a file that a reader can write by hand.
    fn write(&self, path: &str, content: &str) -> Result<()> {
        println!("$ cat > {path}");
        content.lines().for_each(|line| println!("   > {}", shortened(line)));
        fs::write(self.work.join(path), content).with_context(|| format!("cannot write {path}"))
    }
}

/// A process that is ended with this value; what it writes is shown as it comes.
struct Background {
    child: Child,
}

impl Background {
    fn start(mut command: Command) -> Result<Self> {
        println!("$ {} &", shown(&command));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().context("no standard error")?;
        let (first, shown_once) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                println!("   | {line}");
                let _ = first.send(());
            }
        });
        // The notice that this is a simulation comes first; showing it before going on keeps the output in order.
        let _ = shown_once.recv_timeout(Duration::from_secs(5));
        Ok(Self { child })
    }

    fn ensure_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the Coordinator ended: {status}");
        }
        Ok(())
    }

    fn stop(self) {
        drop(self);
    }

    /// Ends it with a signal that lets the simulator report; the program itself is killed in any case.
    fn terminate(mut self) -> Result<()> {
        succeed(Command::new("sh").args(["-c", &format!("kill {}", self.child.id())]))?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn show_output(output: &std::process::Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    for line in text.lines() {
        println!("   | {line}");
    }
    text
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if entry.file_type()?.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// A line for the terminal: a certificate in one line would fill the screen.
fn shortened(line: &str) -> String {
    const LONGEST: usize = 160;
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}… ({} characters)", &line[..end], line.chars().count()),
        None => line.to_owned(),
    }
}

/// The string member `name` of a flat JSON object that our own tool printed.
fn json_member(json: &str, name: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{name}\""))?;
    let (_, rest) = rest.split_once('"')?;
    Some(rest.split_once('"')?.0.to_owned())
}

fn json_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
