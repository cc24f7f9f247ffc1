//! A directory with a development root and instances, for one test.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use marblerun_software_tee::{CollateralOptions, DevelopmentRoot};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::programs::{program, run};

/// The directory's root of trust.
pub(crate) const ROOT: &str = "root";
/// Collateral for the command line, apart from the Coordinator's.
pub(crate) const CLI_COLLATERAL: &str = "cli-collateral";

/// The machine of one test: removed with this value.
#[derive(Debug)]
pub(crate) struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { directory: tempfile::Builder::new().prefix("marblerun-e2e-").tempdir().unwrap() };
        site.make_root(ROOT);
        site.export_collateral(ROOT, CLI_COLLATERAL, &CollateralOptions::default());
        site
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    #[track_caller]
    pub(crate) fn read(&self, relative: &str) -> Vec<u8> {
        fs::read(self.path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
    }

    #[track_caller]
    pub(crate) fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap_or_else(|error| panic!("{relative}: {error}"));
    }

    /// A program with this directory as working directory and nothing of the tests' environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory.path())
            .args(arguments)
            .env_clear()
            .env("HOME", self.directory.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    pub(crate) fn sim(&self, arguments: &[&str]) -> Command {
        self.command(program("marble-sim"), arguments)
    }

    /// The output of OpenSSL, a verifier that is not ours.
    #[track_caller]
    pub(crate) fn openssl(&self, arguments: &[&str]) -> String {
        run(&mut self.command("openssl", arguments)).success().stdout
    }

    pub(crate) fn make_root(&self, name: &str) {
        DevelopmentRoot::create(&self.path(name), UnixTime::now(), Default::default()).unwrap();
    }

    /// Writes what a provisioning service would serve for quotes of `root` into `directory`.
    pub(crate) fn export_collateral(&self, root: &str, directory: &str, options: &CollateralOptions) {
        let root = DevelopmentRoot::open(&self.path(root), UnixTime::now()).unwrap();
        root.export_bundle(&self.path(directory), UnixTime::now(), options).unwrap();
    }

    /// An instance with the sample's configuration after `change`, and `programs` in `/bin` of its image.
    pub(crate) fn instance(&self, name: &str, sample: &str, programs: &[&Path], change: impl FnOnce(&mut Value)) {
        let text = fs::read(samples().join(sample).join("Occlum.json")).unwrap();
        let mut configuration: Value = serde_json::from_slice(&text).unwrap();
        change(&mut configuration);
        self.write(&format!("{name}/Occlum.json"), configuration.to_string());
        fs::create_dir_all(self.path(name).join("host")).unwrap();
        fs::create_dir_all(self.path(name).join("image")).unwrap();
        for file in programs {
            let target = Path::new("/bin").join(file.file_name().unwrap());
            run(self.sim(&["image", "add", "--instance", name]).arg(file).arg("--as").arg(target)).success();
        }
    }

    /// An instance of the Coordinator that trusts `root`, with collateral.
    pub(crate) fn coordinator_instance(&self, name: &str, root: &str) {
        self.instance(name, "occlum-coordinator", &[&program("marblerun-coordinator")], |_| ());
        self.trust(name, root);
        self.export_collateral(root, &format!("{name}/host/collateral"), &CollateralOptions::default());
    }

    /// Names `root` in the measured image as the only one to trust.
    pub(crate) fn trust(&self, name: &str, root: &str) {
        let pem = String::from_utf8(self.read(&format!("{root}/root.pem"))).unwrap();
        let trust = json!({"Class": "software", "Roots": [pem]});
        self.write(&format!("{name}/image/etc/marblerun/trust.json"), trust.to_string());
    }

    /// The unmodified program, compiled: `hello_world`.
    pub(crate) fn hello_program(&self) {
        self.write("hello_world", hello_world());
        fs::set_permissions(self.path("hello_world"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// An instance of the unmodified program behind the premain. The host chooses its Marble type.
    pub(crate) fn marble_instance(&self, name: &str) {
        self.hello_program();
        self.instance(name, "occlum-hello", &[&program("premain-libos"), &self.path("hello_world")], |configuration| {
            let default = configuration["env"]["default"].as_array_mut().unwrap();
            default.retain(|entry| !entry.as_str().unwrap().starts_with("EDG_MARBLE_TYPE="));
            configuration["env"]["untrusted"].as_array_mut().unwrap().push("EDG_MARBLE_TYPE".into());
        });
    }

    /// Pins the Coordinator with the root certificate in `pem` in the measured image of a Marble.
    pub(crate) fn pin(&self, name: &str, pem: &str) {
        let text = self.openssl(&["x509", "-in", pem, "-noout", "-fingerprint", "-sha256"]);
        let hash = text.trim().rsplit('=').next().unwrap().replace(':', "").to_ascii_lowercase();
        assert_eq!(hash.len(), 64, "{text}");
        self.write(&format!("{name}/image/etc/marblerun/coordinator.json"), json!({"RootSHA256": hash}).to_string());
    }

    /// Another instance of the same image and configuration, without what `name` has written.
    pub(crate) fn copy_instance(&self, name: &str, copy: &str) {
        copy_tree(&self.path(name).join("image"), &self.path(copy).join("image"));
        fs::create_dir_all(self.path(copy).join("host")).unwrap();
        fs::copy(self.path(name).join("Occlum.json"), self.path(copy).join("Occlum.json")).unwrap();
    }

    /// Changes the configuration of an instance.
    pub(crate) fn configure(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let file = format!("{name}/Occlum.json");
        let mut configuration: Value = serde_json::from_slice(&self.read(&file)).unwrap();
        change(&mut configuration);
        self.write(&file, configuration.to_string());
    }

    /// What `marble-sim measure` says.
    #[track_caller]
    pub(crate) fn measure(&self, name: &str) -> Value {
        let output = run(&mut self.sim(&["measure", "--instance", name])).success();
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// The hexadecimal MRENCLAVE of an instance.
    #[track_caller]
    pub(crate) fn measurement(&self, name: &str) -> String {
        self.measure(name)["mrenclave"].as_str().unwrap().to_owned()
    }

    /// Paths of all files below `relative`, which need not exist.
    pub(crate) fn files_below(&self, relative: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.path(relative)];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => open.push(entry.path()),
                    false => found.push(entry.path()),
                }
            }
        }
        found
    }
}

/// The samples of this repository.
pub(crate) fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples")
}

/// The sample program, compiled once.
fn hello_world() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("hello_world");
        let source = samples().join("occlum-hello/hello.c");
        run(Command::new("cc").args(["-O2", "-fPIE", "-pie", "-o"]).args([&file, &source])).success();
        fs::read(file).unwrap()
    })
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_tree(&entry.path(), &target);
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
