//! Instances, programs and runs for the tests.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use marblerun_enclave_image::libraries;
use marblerun_linux::process::effective_user;
use tempfile::TempDir;

/// Nobody: an ordinary user without capabilities.
const NOBODY: u32 = 65534;

/// No run of a test takes a fraction of this; what is still there then hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const OCCLUM_JSON: &str = r#"{
    "resource_limits": {"user_space_size": "512MB", "kernel_space_heap_size": "64MB",
                        "kernel_space_stack_size": "1MB", "max_num_of_threads": 32},
    "process": {"default_stack_size": "4MB", "default_heap_size": "32MB", "default_mmap_size": "256MB"},
    "entry_points": ["/bin"],
    "env": {"default": ["OCCLUM=yes", "LEVEL=low"], "untrusted": ["EDG_MARBLE_TYPE", "LEVEL"]},
    "metadata": {"product_id": 42, "version_number": 3, "debuggable": false, "enable_kss": false},
    "feature": {},
    "mount": [{"target": "/", "type": "unionfs", "options": {"layers": [
        {"target": "/", "type": "sefs", "source": "./build/mount/__ROOT", "options": {"MAC": ""}},
        {"target": "/", "type": "sefs", "source": "./run/mount/__ROOT", "options": {"temporary": true}}]}}]
}"#;

/// Programs that are compiled once for all tests, in a directory that every user can read.
struct Programs {
    directory: TempDir,
}

fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(|| {
        let directory = public_directory();
        let at = |name: &str| directory.path().join(name);
        let cc = |source: &str, output: &str, options: &[&str]| {
            let mut command = Command::new("cc");
            command.args(["-O1", "-w", "-pthread", "-o"]).arg(at(output)).arg(source_of(source)).args(options);
            build(command, "cc", "install a C compiler with static libc (Debian: build-essential)");
        };
        cc("probe.c", "probe", &[]);
        cc("leak.c", "leak", &[]);
        cc("victim.c", "victim", &[]);
        cc("victim.c", "victim-static", &["-static"]);
        cc("probe.c", "probe-static", &["-static"]);
        cc("deny_namespaces.c", "deny_namespaces", &[]);
        cc("listen.c", "listen", &[]);
        cc("init.c", "init", &[]);
        cc("init.c", "init-of-occlum", &["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"]);
        // Tests that change the user need a copy where that user can reach it.
        fs::copy(env!("CARGO_BIN_EXE_marble-sim"), at("marble-sim")).unwrap();
        Programs { directory }
    });
    programs.directory.path()
}

fn source_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name)
}

#[track_caller]
fn build(mut command: Command, tool: &str, fix: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{tool} cannot be run: {error}; {fix}"));
    assert!(output.status.success(), "{tool} failed; {fix}: {}", String::from_utf8_lossy(&output.stderr));
}

fn public_directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// A compiled test program on the host.
pub(crate) fn program(name: &str) -> PathBuf {
    programs().join(name)
}

/// The static Go program, compiled once.
pub(crate) fn go_program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let output = programs().join("probe-go");
            let mut command = Command::new("go");
            let cache = programs().join("go-cache");
            command.args(["build", "-o"]).arg(&output).arg(source_of("probe.go"));
            command.env("CGO_ENABLED", "0").env("GOCACHE", cache).env("GOFLAGS", "-mod=mod").env("GO111MODULE", "off");
            build(command, "go", "install Go (Debian: golang)");
            output
        })
        .clone()
}

/// The Rust program of `examples/`, which cargo builds with the tests.
pub(crate) fn rust_program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_marble-sim")).with_file_name("examples").join("sgx-probe");
    assert!(path.exists(), "{} is missing: run cargo build --examples -p marblerun-simulator", path.display());
    path
}

/// Who runs `marble-sim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// The user of the tests, root in CI.
    Same,
    /// An ordinary user.
    Ordinary,
}

/// True if the tests run as root.
pub(crate) fn is_root() -> bool {
    effective_user().0 == 0
}

/// An instance with the probe in its image, and a development root.
pub(crate) struct Fixture {
    directory: TempDir,
    user: User,
    outer: Vec<PathBuf>,
    wrapper: Vec<PathBuf>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_config(OCCLUM_JSON)
    }

    /// An instance whose configuration has `to` instead of `from`.
    #[track_caller]
    pub(crate) fn replacing(from: &str, to: &str) -> Self {
        assert!(OCCLUM_JSON.contains(from));
        Self::with_config(&OCCLUM_JSON.replace(from, to))
    }

    pub(crate) fn with_config(config: &str) -> Self {
        let fixture = Self { directory: public_directory(), user: User::Same, outer: Vec::new(), wrapper: Vec::new() };
        fs::create_dir_all(fixture.path("instance/image")).unwrap();
        fs::write(fixture.path("instance/Occlum.json"), config).unwrap();
        fixture.add(&program("probe"), "/bin/probe");
        let made = fixture.command(&["root", "create", fixture.path("root").to_str().unwrap()]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fixture
    }

    /// Hands everything to an ordinary user, who runs `marble-sim` from now on.
    pub(crate) fn for_ordinary_user(mut self) -> Self {
        if is_root() {
            self.chown(NOBODY, "");
        }
        self.user = User::Ordinary;
        self
    }

    /// Gives a file or directory with all below it to a user. Only for root.
    pub(crate) fn chown(&self, user: u32, path: &str) {
        let mut command = Command::new("chown");
        command.args(["-R", &format!("{user}:{user}")]).arg(self.path(path));
        build(command, "chown", "install coreutils");
    }

    /// Runs `marble-sim` through another program.
    pub(crate) fn through(mut self, wrapper: &[&Path]) -> Self {
        self.wrapper = wrapper.iter().map(|part| (*part).to_owned()).collect();
        self
    }

    /// Hides a part of `/proc` from everything, as containers do. Only for root.
    pub(crate) fn with_hidden_proc(mut self) -> Self {
        let script = r#"mount -t tmpfs tmpfs /proc/fs && exec "$@""#;
        self.outer = ["unshare", "--mount", "sh", "-c", script, "sh"].map(PathBuf::from).into();
        self
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// Copies a dynamic program and its libraries into the image.
    pub(crate) fn add(&self, elf: &Path, target: &str) {
        libraries::add_program(&self.path("instance/image"), elf, Path::new(target)).unwrap();
    }

    /// Copies a file into `/bin` of the image.
    pub(crate) fn add_file(&self, file: &Path, name: &str) {
        fs::copy(file, self.path("instance/image/bin").join(name)).unwrap();
    }

    /// `marble-sim` with these arguments, as the user of this fixture.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self.outer.clone();
        if self.user == User::Ordinary && is_root() {
            let id = NOBODY.to_string();
            words.extend(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"].map(PathBuf::from));
        }
        words.extend(self.wrapper.iter().cloned());
        words.push(program("marble-sim"));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(arguments).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// `marble-sim run` with these options and this program.
    pub(crate) fn run_command(&self, options: &[&str], program: &[&str]) -> Command {
        let mut command = self.command(&["run"]);
        command.arg("--instance").arg(self.path("instance")).arg("--root").arg(self.path("root"));
        command.args(options).arg("--").args(program);
        command
    }

    /// Runs a program to its end.
    #[track_caller]
    pub(crate) fn run(&self, options: &[&str], program: &[&str]) -> Finished {
        finish(&mut self.run_command(options, program))
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, stdout: &str) {
        assert_eq!((self.status.code(), self.stdout.trim_end()), (Some(code), stdout.trim_end()), "{self:#?}");
    }

    #[track_caller]
    pub(crate) fn expect_error(&self, code: i32, message: &str) {
        let errors: Vec<_> = self.stderr.lines().filter(|line| line.starts_with("marble-sim: error: ")).collect();
        assert_eq!((self.status.code(), errors.len()), (Some(code), 1), "{self:#?}");
        assert!(errors[0].contains(message), "{:?} does not contain {message:?}", errors[0]);
    }
}

/// Runs a command to its end; a hanging one fails the test instead of holding it up.
#[track_caller]
pub(crate) fn finish(command: &mut Command) -> Finished {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    Running::new(child).finish()
}

/// A command whose output is collected while it runs. Dropping it kills it.
pub(crate) struct Running {
    child: std::process::Child,
    stdout: std::thread::JoinHandle<String>,
    stderr: std::thread::JoinHandle<String>,
}

fn collect(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Running {
    fn new(mut child: std::process::Child) -> Self {
        let (stdout, stderr) = (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
        Self { child, stdout, stderr }
    }

    /// Waits until the command and all that holds its output have ended.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        let deadline = Instant::now() + PATIENCE;
        let mut status = None;
        while status.is_none() || !self.stdout.is_finished() || !self.stderr.is_finished() {
            status = status.or(self.child.try_wait().unwrap());
            if Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("hangs: command ended: {status:?}, output closed: {}", self.stdout.is_finished());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let (stdout, stderr) = (self.stdout.join().unwrap(), self.stderr.join().unwrap());
        Finished { status: status.unwrap(), stdout, stderr }
    }
}

/// Starts a program that prints a line and stays, waits for that line, and hands over.
#[track_caller]
pub(crate) fn start_lingering(fixture: &Fixture, options: &[&str]) -> (std::process::Child, std::process::ChildStdout) {
    let mut command = fixture.run_command(options, &["/bin/probe", "linger"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut line = [0; "lingering\n".len()];
    stdout.read_exact(&mut line).unwrap();
    (child, stdout)
}

/// Writes a file and makes it executable.
pub(crate) fn write_executable(path: &Path, bytes: &[u8]) {
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
