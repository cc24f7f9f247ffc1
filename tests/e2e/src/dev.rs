//! `marblerun dev` and `marblerun occlum run`: the inner loop of development.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use marblerun_software_tee::{DevelopmentRoot, RootOptions};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::programs::{Finished, Running, program, run};
use crate::site::Site;

const DATA: &str = ".local/share/marblerun/dev";
const TIMEOUT: Duration = Duration::from_secs(60);

/// `marblerun` with what it keeps, and all that is temporary, in the site.
fn marblerun(site: &Site, arguments: &[&str]) -> Command {
    let temporary = site.path("tmp");
    fs::create_dir_all(&temporary).unwrap();
    let mut command = site.command(program("marblerun"), arguments);
    command.env("TMPDIR", temporary);
    command
}

/// `marblerun dev` on free ports, from where it is ready. It is killed with this value.
struct Dev {
    child: Child,
    log: PathBuf,
    ready: Value,
}

impl Dev {
    #[track_caller]
    fn start(site: &Site, more: &[&str]) -> Self {
        let ports = ["--client-addr", "127.0.0.1:0", "--marble-addr", "127.0.0.1:0", "--output", "json"];
        let log = site.path("dev.log");
        let mut command = marblerun(site, &["dev"]);
        command.args(ports).args(more).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(fs::File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: {line:?}, {}", fs::read_to_string(&log).unwrap()));
        Self { child, log, ready }
    }

    fn address(&self, name: &str) -> String {
        self.ready[name].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn wait_for(&self, word: &str) {
        let deadline = Instant::now() + TIMEOUT;
        while !self.log().contains(word) {
            assert!(Instant::now() < deadline, "no {word:?} in:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Asks it to end, as `kill` does; gives the exit code.
    fn end(&mut self) -> Option<i32> {
        run(Command::new("kill").arg(self.child.id().to_string())).success();
        self.child.wait().unwrap().code()
    }

    /// Fails unless nobody listens any more.
    #[track_caller]
    fn is_gone(&self) {
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(self.address("client")).is_ok() {
            assert!(Instant::now() < deadline, "the Coordinator did not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status(site: &Site) -> Finished {
    run(marblerun(site, &["status"]).env("MARBLERUN_PROFILE", "dev"))
}

/// A manifest with a package by `UniqueID`, of a measurement before.
fn manifest(argv: &[&str]) -> String {
    json!({
        "Packages": {"hello": {"UniqueID": "1".repeat(64)}},
        "Marbles": {"hello": {"Package": "hello", "Parameters": {
            "Argv": argv,
            "Env": {"HELLO_KEY": "{{ hex .Secrets.k }}"},
        }}},
        "Secrets": {"k": {"Type": "symmetric-key", "Size": 128}},
    })
    .to_string()
}

/// An instance `hello` of the sample that runs a shell command as its program.
fn shell_instance(site: &Site, script: &str) {
    site.instance("hello", "occlum-hello", &[&program("premain-libos"), &PathBuf::from("/bin/sh")], |_| ());
    site.write("hello/manifest.json", manifest(&["/bin/sh", "-c", script]));
}

/// Every file of an instance: inode, size and time.
fn state_of(site: &Site, directory: &str) -> BTreeMap<PathBuf, (u64, u64, i64)> {
    let look = |path: PathBuf| {
        let metadata = fs::symlink_metadata(&path).unwrap();
        (path, (metadata.ino(), metadata.size(), metadata.mtime_nsec()))
    };
    site.files_below(directory).into_iter().map(look).collect()
}

// rules: DEV-2
#[test]
fn a_development_coordinator_is_verified_by_its_profile_and_keeps_its_state() {
    let site = Site::new();
    let mut dev = Dev::start(&site, &[]);
    assert_eq!(dev.ready["profile"], "dev");
    status(&site).success().says(&["2: Coordinator is ready to accept a manifest"]);
    let trust = dev.address("trustSoftwareRoot");
    run(marblerun(&site, &["status", &dev.address("client")]).args([
        "--era-config",
        &dev.address("eraConfig"),
        "--trust-software-root",
        &trust,
    ]))
    .success();
    let text = fs::read_to_string(trust).unwrap();
    assert!(text.starts_with("-----BEGIN CERTIFICATE-----"), "{text}");

    // Only one has the state.
    let other = run(marblerun(&site, &["dev"]).args(["--client-addr", "127.0.0.1:0"]));
    other.refused(&["`marblerun dev` is running already"]);
    site.write("m.json", manifest(&["/bin/true"]));
    run(marblerun(&site, &["manifest", "set", "m.json"]).env("MARBLERUN_PROFILE", "dev")).success();
    assert_eq!(dev.end(), Some(0));
    dev.is_gone();

    let mut dev = Dev::start(&site, &[]);
    status(&site).success().says(&["3: "]);
    assert_eq!(dev.end(), Some(0));
    let dev = Dev::start(&site, &["--fresh"]);
    status(&site).success().says(&["2: "]);
    drop(dev);
}

// rules: DEV-1
#[test]
fn a_development_coordinator_ends_also_when_its_command_is_killed() {
    let site = Site::new();
    let mut dev = Dev::start(&site, &[]);
    dev.child.kill().unwrap();
    dev.child.wait().unwrap();
    dev.is_gone();
}

// rules: DEV-4
#[test]
fn a_watched_manifest_is_set_and_followed() {
    let site = Site::new();
    site.write("m.json", manifest(&["/bin/one"]));
    let manifest_flag = ["--manifest", "m.json"];
    let mut dev = Dev::start(&site, &manifest_flag);
    dev.wait_for("Manifest m.json is set");
    status(&site).success().says(&["3: "]);
    // A mistake is told and changes nothing.
    site.write("m.json", "{\"Marbles\": 1}");
    dev.wait_for("Warning: manifest m.json");
    site.write("m.json", manifest(&["/bin/two"]));
    dev.wait_for("--reset throws the state away instead");
    assert_eq!(dev.end(), Some(0));

    let dev = Dev::start(&site, &[manifest_flag[0], manifest_flag[1], "--reset"]);
    dev.wait_for("throwing the state away (--reset)");
    dev.wait_for("Manifest m.json is set");
    let shown = run(marblerun(&site, &["manifest", "get"]).env("MARBLERUN_PROFILE", "dev")).success();
    assert!(shown.stdout.contains("/bin/two"), "{}", shown.stdout);
    site.write("m.json", manifest(&["/bin/three"]));
    let deadline = Instant::now() + TIMEOUT;
    while !run(marblerun(&site, &["manifest", "get"]).env("MARBLERUN_PROFILE", "dev")).stdout.contains("/bin/three") {
        assert!(Instant::now() < deadline, "{}", dev.log());
    }
}

// rules: DEV-2
#[test]
fn an_expired_development_root_is_renewed_visibly() {
    let site = Site::new();
    let directory = site.path(DATA);
    fs::create_dir_all(&directory).unwrap();
    let hour = RootOptions { lifetime: Duration::from_secs(3600), ..RootOptions::default() };
    DevelopmentRoot::create(&directory.join("root"), UnixTime::now(), hour).unwrap();
    let old = site.read(&format!("{DATA}/root/root.pem"));
    let dev = Dev::start(&site, &[]);
    assert!(dev.log().contains("the development root had expired, or nearly so"), "{}", dev.log());
    assert_ne!(site.read(&format!("{DATA}/root/root.pem")), old);
    status(&site).success();
}

// rules: DEV-3
#[test]
fn a_profile_of_the_users_is_not_overwritten() {
    let site = Site::new();
    site.write("era.json", "{}");
    run(&mut marblerun(&site, &["profile", "add", "dev", "coordinator.example:4433", "--era-config", "era.json"]))
        .success();
    let profile = ".config/marblerun/profiles/dev.json";
    let old = site.read(profile);
    let dev = Dev::start(&site, &[]);
    assert_eq!(dev.ready["profile"], Value::Null);
    dev.wait_for("profile dev names another Coordinator");
    assert_eq!(site.read(profile), old);
}

#[test]
fn a_coordinator_that_cannot_listen_is_told_of_with_its_reason() {
    let site = Site::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    run(&mut marblerun(&site, &["dev", "--client-addr", &address, "--marble-addr", "127.0.0.1:0"])).refused(&[
        "ended before it listened",
        "cannot listen",
        &address,
    ]);
}

// rules: DEV-5, DEV-6
#[test]
fn an_instance_runs_as_a_marble_and_is_not_changed() {
    let site = Site::new();
    shell_instance(&site, "echo \"${#HELLO_KEY} $0\"; exit 7");
    let before = state_of(&site, "hello");
    let done = run(&mut marblerun(&site, &["occlum", "run", "hello"]));
    assert_eq!((done.code, done.stdout.as_str()), (7, "32 sh\n"), "{}", done.stderr);
    assert_eq!(state_of(&site, "hello"), before);
    assert_eq!(fs::read_dir(site.path("tmp")).unwrap().count(), 0);

    let manifest = |script: &str| site.write("other.json", manifest(&["/bin/sh", "-c", script]));
    for (script, code) in [("exit 128", 0), ("kill -9 $$", 137), ("exit 255", 127)] {
        manifest(script);
        let done = run(&mut marblerun(&site, &["occlum", "run", "hello", "--manifest", "other.json"]));
        assert_eq!(done.code, code, "{script}: {}", done.stderr);
    }
    // What cannot be started is told apart from what the program says.
    let done = run(&mut marblerun(&site, &["occlum", "run", "hello", "--marble", "other"]));
    assert_eq!(done.code, 200, "{}", done.stderr);
    let done = run(&mut marblerun(&site, &["occlum", "run", "absent"]));
    assert_eq!(done.code, 200, "{}", done.stderr);
    assert_eq!(fs::read_dir(site.path("tmp")).unwrap().count(), 0);
}

// rules: DEV-5
#[test]
fn nothing_is_left_of_a_run_that_is_ended_by_a_signal() {
    let site = Site::new();
    shell_instance(&site, "echo started >&2; while true; do :; done");
    let mut running = Running::start(&mut marblerun(&site, &["occlum", "run", "hello"]));
    running.wait_for("program", |log| log.contains("\nstarted\n").then_some(()));
    assert_eq!(fs::read_dir(site.path("tmp")).unwrap().count(), 1);
    run(Command::new("kill").arg(running.id().to_string())).success();
    assert_eq!(running.finish().code, 143);
    assert_eq!(fs::read_dir(site.path("tmp")).unwrap().count(), 0);
}

#[test]
fn an_instance_joins_the_development_coordinator_as_long_as_its_manifest_names_it() {
    let site = Site::new();
    shell_instance(&site, "exit 3");
    let arguments = ["occlum", "run", "hello", "--coordinator", "dev"];
    let refused = run(&mut marblerun(&site, &arguments)).refused(&["`marblerun dev` is not running"]);
    assert_eq!(refused.code, 200);
    let _dev = Dev::start(&site, &[]);
    for _ in 0..2 {
        let done = run(&mut marblerun(&site, &arguments));
        assert_eq!(done.code, 3, "{}", done.stderr);
    }
    site.write("hello/image/new", "");
    let done = run(&mut marblerun(&site, &arguments)).refused(&["names another enclave in package \"hello\""]);
    assert_eq!(done.code, 200);
}

// rules: DEV-7
#[test]
fn a_program_compiled_anew_joins_the_development_coordinator_again() {
    let site = Site::new();
    shell_instance(&site, "exit 3");
    let unmeasured = |script: &str| {
        let mut manifest: Value = serde_json::from_str(&manifest(&["/bin/sh", "-c", script])).unwrap();
        manifest["Packages"]["hello"] = json!({"UniqueID": "0".repeat(64)});
        site.write("hello/manifest.json", manifest.to_string());
    };
    unmeasured("exit 3");
    let _dev = Dev::start(&site, &[]);
    let start = || run(&mut marblerun(&site, &["occlum", "run", "hello", "--coordinator", "dev"]));
    let done = start();
    assert_eq!(done.code, 3, "{}", done.stderr);
    site.write("hello/image/new", "");
    let done = start();
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(!done.stderr.contains("keeps the manifest"), "{}", done.stderr);
    // A changed manifest is not what runs, and that is said.
    unmeasured("exit 4");
    let done = start();
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("the Coordinator keeps the manifest that it has"), "{}", done.stderr);
}

/// A manifest that user ann may update alone; her certificate and key are `ann.pem` and `ann-key.pem`.
fn manifest_of_ann(site: &Site, argv: &[&str]) -> String {
    if !site.path("ann.pem").exists() {
        site.openssl(&["genpkey", "-algorithm", "ed25519", "-out", "ann-key.pem"]);
        site.openssl(&["req", "-x509", "-new", "-key", "ann-key.pem", "-subj", "/CN=ann", "-out", "ann.pem"]);
    }
    let mut manifest: Value = serde_json::from_str(&manifest(argv)).unwrap();
    manifest["Roles"] = json!({"updater": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]}});
    let certificate = String::from_utf8(site.read("ann.pem")).unwrap();
    manifest["Users"] = json!({"ann": {"Certificate": certificate, "Roles": ["updater"]}});
    manifest.to_string()
}

const ANN: [&str; 4] = ["--cert", "ann.pem", "--key", "ann-key.pem"];

// rules: DEV-4
#[test]
fn a_user_updates_to_a_watched_manifest_that_changes() {
    let site = Site::new();
    site.write("m.json", manifest_of_ann(&site, &["/bin/one"]));
    let dev = Dev::start(&site, &[&["--manifest", "m.json"][..], &ANN].concat());
    dev.wait_for("Manifest m.json is set");
    site.write("m.json", manifest_of_ann(&site, &["/bin/two"]));
    dev.wait_for("Update to m.json is applied");
    // What ann may not do is told, and the state stays.
    site.write("m.json", manifest(&["/bin/three"]).replace("Secrets.k", "Secrets.unknown"));
    dev.wait_for("the update to m.json is refused");
    let shown = run(marblerun(&site, &["manifest", "get"]).env("MARBLERUN_PROFILE", "dev")).success();
    assert!(shown.stdout.contains("/bin/two"), "{}", shown.stdout);
}

#[test]
fn a_user_updates_the_manifest_to_an_instance_that_changed() {
    let site = Site::new();
    shell_instance(&site, "exit 6");
    site.write("hello/manifest.json", manifest_of_ann(&site, &["/bin/sh", "-c", "exit 6"]));
    let _dev = Dev::start(&site, &[]);
    let run_as = |user: &[&str]| run(marblerun(&site, &["occlum", "run", "hello", "--coordinator", "dev"]).args(user));
    assert_eq!(run_as(&[]).code, 6);
    site.write("hello/image/new", "");
    assert_eq!(run_as(&[]).code, 200);
    let done = run_as(&ANN);
    assert_eq!(done.code, 6, "{}", done.stderr);
    assert_eq!(run_as(&[]).code, 6);
}

#[test]
fn an_instance_joins_any_coordinator_that_is_verified() {
    let site = Site::new();
    shell_instance(&site, "exit 4");
    let dev = Dev::start(&site, &[]);
    let (client, marble) = (dev.address("client"), dev.address("marble"));
    let (era, trust) = (dev.address("eraConfig"), dev.address("trustSoftwareRoot"));
    let run_at = |era: &str| {
        let mut command =
            marblerun(&site, &["occlum", "run", "hello", "--coordinator", &client, "--marble-addr", &marble]);
        run(command.args(["--era-config", era, "--trust-software-root", &trust]))
    };
    site.write("other-era.json", json!({"UniqueID": "ab".repeat(32)}).to_string());
    let refused = run_at("other-era.json").refused(&["UniqueID"]);
    assert_eq!(refused.code, 200);
    status(&site).success().says(&["2: "]);
    let done = run_at(&era);
    assert_eq!(done.code, 4, "{}", done.stderr);
}

#[test]
fn where_there_is_a_real_tee_only_force_simulates() {
    let site = Site::new();
    // A simulator that finds a real TEE, beside copies of the other programs.
    fs::create_dir(site.path("bin")).unwrap();
    for name in ["marblerun", "marblerun-coordinator"] {
        fs::copy(program(name), site.path("bin").join(name)).unwrap();
    }
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' --force '*) ;; ' run '*) echo 'marble-sim: error: refusing to simulate a TEE' >&2; exit \
         201 ;; esac\nexec {} \"$@\"\n",
        program("marble-sim").display()
    );
    site.write("bin/marble-sim", script);
    fs::set_permissions(site.path("bin/marble-sim"), PermissionsExt::from_mode(0o755)).unwrap();
    shell_instance(&site, "exit 5");
    fs::create_dir(site.path("tmp")).unwrap();
    let arguments = ["occlum", "run", "hello"];
    let marblerun = |words: &[&str]| {
        let mut command = site.command(site.path("bin/marblerun"), words);
        run(command.env("TMPDIR", site.path("tmp")))
    };
    marblerun(&["dev", "--client-addr", "127.0.0.1:0"]).refused(&["refusing to simulate a TEE", "--force simulates"]);
    assert_eq!(marblerun(&arguments).refused(&["refusing to simulate a TEE", "--force simulates"]).code, 200);
    let forced = marblerun(&[arguments.as_slice(), &["--force"]].concat());
    assert_eq!(forced.code, 5, "{}", forced.stderr);
}

#[test]
fn package_info_says_what_the_simulator_measures() {
    let site = Site::new();
    site.marble_instance("hello");
    let package = run(&mut marblerun(&site, &["package-info", "hello", "--package-only"])).success();
    let package: Value = serde_json::from_str(&package.stdout).unwrap();
    assert_eq!(package, json!({"UniqueID": site.measurement("hello")}));
}
