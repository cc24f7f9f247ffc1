//! Wrong input of every kind, each with the line that tells about it and the exit code, in one snapshot.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::time::Duration;

use marblerun_software_tee::{CollateralOptions, Dates};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::coordinator::{command, environment};
use crate::deployment::{Deployment, SIGNER, sample_manifest};
use crate::programs::{Finished, program, run};
use crate::site::{CLI_COLLATERAL, ROOT, Site};
use crate::tls_proxy;

/// Nobody is privileged as this user.
const NOBODY: &str = "65534";

/// Collects outcomes; what differs from run to run is replaced.
#[derive(Default)]
struct Transcript(String);

impl Transcript {
    fn add(&mut self, site: &Site, case: &str, outcome: &Finished) {
        let text = redact(&outcome.complaint(), &site.path("").display().to_string());
        let _ = writeln!(self.0, "# {case}\nexit code {}\n{text}", outcome.code);
    }

    /// An answer of the client API.
    fn add_answer(&mut self, case: &str, answer: &str) {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
        let _ = writeln!(self.0, "# {case}\n{}\n{}\n", head.lines().next().unwrap_or_default(), body.trim());
    }
}

#[test]
fn each_mistake_has_one_clear_line_and_its_exit_code() {
    let mut transcript = Transcript::default();
    command_line(&mut transcript);
    marble(&mut transcript);
    evidence(&mut transcript);
    coordinator(&mut transcript);
    simulator(&mut transcript);
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("messages", transcript.0);
    });
}

/// The command line and the client API.
fn command_line(transcript: &mut Transcript) {
    let deployment = Deployment::new(|_| ());
    let site = &deployment.site;
    let client = deployment.coordinator.client.as_str();
    let mesh = deployment.coordinator.mesh.as_str();
    let mut add = |case: &str, outcome: Finished| transcript.add(site, &format!("marblerun: {case}"), &outcome);

    add("nobody listens", run(&mut site.cli(&["status", &closed_port()])));
    add("port of the Marble API", run(&mut site.cli(&["status", mesh])));
    add("an address without a meaning", run(&mut site.cli(&["status", "127.0.0.1:http"])));
    let mut bare = site.command(program("marblerun"), &["manifest", "verify", "manifest.json", client]);
    add("no expected measurements", run(&mut bare));
    bare.args(["--era-config", "era.json"]);
    add("software evidence without a software root", run(&mut bare));
    site.make_root("other-root");
    add("another software root", run(bare.args(["--trust-software-root", "other-root/root.pem"])));

    site.write("other-era.json", json!({"UniqueID": "00".repeat(32)}).to_string());
    let mut other = site.command(program("marblerun"), &["status", client, "--era-config", "other-era.json"]);
    add("another Coordinator than expected", run(other.args(["--trust-software-root", "root/root.pem"])));
    site.write("weak-era.json", "{}");
    let mut weak = site.command(program("marblerun"), &["status", client, "--era-config", "weak-era.json"]);
    add("measurements that measure nothing", run(weak.args(["--trust-software-root", "root/root.pem"])));

    site.write("broken.json", "{\"Packages\": {");
    add("check: broken JSON", run(&mut site.cli(&["manifest", "check", "broken.json"])));
    let mut wrong = sample_manifest(&"00".repeat(32));
    wrong["Marbles"]["hello"]["Package"] = "helo".into();
    wrong["Secrets"]["helloKey"]["Size"] = 12.into();
    site.write("wrong.json", sorted(wrong));
    add("check: unknown package and odd key size", run(&mut site.cli(&["manifest", "check", "wrong.json"])));
    add("set: the same manifest", run(&mut site.cli(&["manifest", "set", "wrong.json", client])));
    let mut template = sample_manifest(&"00".repeat(32));
    template["Marbles"]["hello"]["Parameters"]["Env"]["HELLO_KEY"] = "{{ hex .Secrets.helloKye }}".into();
    site.write("template.json", sorted(template));
    add("check: a template names an unknown secret", run(&mut site.cli(&["manifest", "check", "template.json"])));
    add("set: a second manifest", deployment.set_manifest());
    add("no such file", run(&mut site.cli(&["manifest", "check", "absent.json"])));
    add("verify: another manifest", run(&mut site.cli(&["manifest", "verify", "wrong.json", client])));
    add("unknown flag", run(&mut site.cli(&["status", client, "--trust-sofware-root", "x"])));

    let empty = Deployment::empty();
    let mut post = |case: &str, path: &str, body: &[u8]| {
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        let answer = tls_proxy::exchange(&empty.coordinator.client, &[head.as_bytes(), body].concat()).unwrap();
        transcript.add_answer(&format!("POST {path}: {case}"), &answer);
    };
    post("broken JSON", "/manifest", &site.read("broken.json"));
    post("unknown package", "/manifest", &site.read("wrong.json"));
    post("a template names an unknown secret", "/manifest", &site.read("template.json"));
    post("the manifest as it is", "/api/v2/manifest", &site.read("manifest.json"));
}

/// The premain towards its environment and a Coordinator.
fn marble(transcript: &mut Transcript) {
    let deployment = Deployment::new(|manifest| manifest["Marbles"]["hello"]["MaxActivations"] = 1.into());
    let site = &deployment.site;
    let client = deployment.coordinator.client.as_str();
    let mesh = deployment.coordinator.mesh.as_str();
    let mut add = |case: &str, outcome: Finished| transcript.add(site, &format!("premain: {case}"), &outcome);
    let marble = |marble_type: &str, address: &str| {
        let mut command = site.marble("hello", ROOT, marble_type, address);
        command.env("EDG_MARBLE_ACTIVATION_TIMEOUT", "0");
        command
    };

    add("nobody listens", run(&mut marble("hello", &closed_port())));
    add("port of the client API", run(&mut marble("hello", client)));
    add("EDG_MARBLE_TYPE is missing", run(marble("hello", mesh).env_remove("EDG_MARBLE_TYPE")));
    add("an address without port", run(&mut marble("hello", "coordinator")));
    add("outside of a TEE", run(&mut site.command(program("premain-libos"), &[])));
    add("unknown Marble type", run(&mut marble("helo", mesh)));
    site.make_root("other-root");
    add("quote under another development root", run(&mut site.marble("hello", "other-root", "hello", mesh)));
    run(&mut marble("hello", mesh)).success();
    add("the budget is used", run(&mut marble("hello", mesh)));

    site.copy_instance("hello", "tampered");
    site.write("tampered/image/etc/new", "x");
    add("another image", run(&mut site.marble("tampered", ROOT, "hello", mesh)));
    site.copy_instance("hello", "pinned");
    site.write("pinned/image/etc/marblerun/coordinator.json", "{\"RootSHA\": \"00\"}");
    add("a broken pin", run(&mut site.marble("pinned", ROOT, "hello", mesh)));

    let empty = Deployment::empty();
    add("activation before a manifest", run(&mut marble("hello", &empty.coordinator.mesh)));
}

/// Evidence and collateral.
fn evidence(transcript: &mut Transcript) {
    let mut deployment = Deployment::new(|manifest| {
        let marble = manifest["Marbles"]["hello"].clone();
        for (name, package) in [
            ("signer", json!({"SignerID": "00".repeat(32), "ProductID": 1, "SecurityVersion": 1})),
            ("product", json!({"SignerID": SIGNER, "ProductID": 2, "SecurityVersion": 1})),
            ("version", json!({"SignerID": SIGNER, "ProductID": 1, "SecurityVersion": 2})),
            ("production", json!({"SignerID": SIGNER, "ProductID": 1, "SecurityVersion": 1})),
        ] {
            manifest["Packages"][name] = package;
            manifest["Marbles"][name] = marble.clone();
            manifest["Marbles"][name]["Package"] = name.into();
        }
        manifest["Marbles"]["no-program"] = marble;
        manifest["Marbles"]["no-program"]["Parameters"]["Argv"][0] = "/bin/helo".into();
    });
    deployment.site.copy_instance("hello", "debuggable");
    deployment.site.configure("debuggable", |configuration| configuration["metadata"]["debuggable"] = true.into());
    let marble = |deployment: &Deployment, instance: &str, marble_type: &str| {
        run(deployment.marble_command(instance, marble_type).env("EDG_MARBLE_ACTIVATION_TIMEOUT", "0"))
    };
    for (case, instance, marble_type) in [
        ("another signer", "hello", "signer"),
        ("another product", "hello", "product"),
        ("an older version", "hello", "version"),
        ("a debug enclave", "debuggable", "production"),
        ("the image has no such program", "hello", "no-program"),
    ] {
        transcript.add(&deployment.site, &format!("Marble: {case}"), &marble(&deployment, instance, marble_type));
    }

    let now = UnixTime::now().as_secs();
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let past = Dates { issued: at(now - 7200), next_update: at(now - 3600) };
    for (case, options) in [
        ("TCB info has expired", CollateralOptions { tcb_info_dates: Some(past), ..Default::default() }),
        ("CRL has expired", CollateralOptions { pck_crl_dates: Some(past), ..Default::default() }),
        ("platform is out of date", CollateralOptions { tcb_status: "OutOfDate".into(), ..Default::default() }),
        ("platform is revoked", CollateralOptions { tcb_status: "Revoked".into(), ..Default::default() }),
    ] {
        deployment.site.export_collateral(ROOT, "coordinator/host/collateral", &options);
        deployment.restart();
        transcript.add(&deployment.site, &format!("Marble: {case}"), &marble(&deployment, "hello", "hello"));
    }
    let expired = CollateralOptions { qe_identity_dates: Some(past), ..Default::default() };
    deployment.site.export_collateral(ROOT, "coordinator/host/collateral", &expired);
    deployment.site.export_collateral(ROOT, CLI_COLLATERAL, &expired);
    deployment.restart();
    let status = deployment.cli(&["status", &deployment.coordinator.client]);
    transcript.add(&deployment.site, "marblerun: collateral has expired", &status);
    fs::remove_dir_all(deployment.site.path("coordinator/host/collateral/dcap")).unwrap();
    deployment.restart();
    transcript.add(&deployment.site, "Marble: collateral is missing", &marble(&deployment, "hello", "hello"));
    fs::remove_dir_all(deployment.site.path(CLI_COLLATERAL).join("dcap")).unwrap();
    let status = deployment.cli(&["status", &deployment.coordinator.client]);
    transcript.add(&deployment.site, "marblerun: collateral is missing", &status);
}

/// The Coordinator at its start.
fn coordinator(transcript: &mut Transcript) {
    let site = Site::new();
    site.coordinator_instance("coordinator", ROOT);
    let start = || command(&site, "coordinator", ROOT);
    let mut add = |case: &str, command: &mut Command| {
        transcript.add(&site, &format!("Coordinator: {case}"), &run(command.env_remove("EDG_LOG_FORMAT")));
    };

    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    add("busy port", start().env("EDG_COORDINATOR_CLIENT_ADDR", busy.local_addr().unwrap().to_string()));
    add("wrong values", start().env("EDG_COORDINATOR_MESH_ADDR", "2001").env("EDG_DEBUG_LOGGING", "yes"));
    fs::remove_dir_all(site.path("coordinator/host/state")).unwrap();
    site.write("coordinator/host/state", "a file");
    add("a file in place of the seal directory", &mut start());
    fs::remove_file(site.path("coordinator/host/state")).unwrap();

    fs::create_dir(site.path("unwritable")).unwrap();
    fs::set_permissions(site.path("unwritable"), fs::Permissions::from_mode(0o555)).unwrap();
    let mut nobody = unprivileged(&site);
    nobody.arg(program("marblerun-coordinator"));
    environment(&mut nobody, "unwritable");
    add("unwritable seal directory", nobody.env("OE_SIMULATION", "1").env_remove("EDG_COORDINATOR_COLLATERAL_DIR"));

    let mut outside = site.command(program("marblerun-coordinator"), &[]);
    environment(&mut outside, "outside");
    add("outside of a TEE", &mut outside);
    site.configure("coordinator", |configuration| {
        let untrusted = configuration["env"]["untrusted"].as_array_mut().unwrap();
        untrusted.extend([Value::from("OE_SIMULATION"), Value::from("EDG_STORE_BACKEND")]);
    });
    add("simulation in a TEE", start().env("OE_SIMULATION", "1"));
    add("a feature that is not there", start().env("EDG_STORE_BACKEND", "kubernetes"));
    site.write("coordinator/host/manifest.json", "{\"Marbles\": {}}");
    add("unusable start-up manifest", start().env("EDG_STARTUP_MANIFEST", "/host/manifest.json"));
    site.write("coordinator/image/etc/marblerun/trust.json", "{\"Class\": \"softwear\"}");
    add("unknown trust class", &mut start());
}

/// The simulator.
fn simulator(transcript: &mut Transcript) {
    let site = Site::new();
    site.marble_instance("hello");
    let mut add = |case: &str, outcome: Finished| transcript.add(&site, &format!("marble-sim: {case}"), &outcome);
    let start = |instance: &str, root: &str, program: &str| {
        run(&mut site.sim(&["run", "--strict", "--instance", instance, "--root", root, "--", program]))
    };
    add("the program is no entry point", start("hello", ROOT, "/bin/hello_world"));
    site.copy_instance("hello", "empty");
    fs::remove_file(site.path("empty/image/bin/premain-libos")).unwrap();
    add("the image has no such program", start("empty", ROOT, "/bin/premain-libos"));
    add("no such instance", start("helo", ROOT, "/bin/premain-libos"));
    add("no development root", start("hello", "absent-root", "/bin/premain-libos"));
    site.write("broken/Occlum.json", "{\"mount\": [}");
    add("broken Occlum.json", start("broken", ROOT, "/bin/premain-libos"));

    // A program of the image that is the simulator, with an instance below /host.
    site.instance("outer", "occlum-coordinator", &[&program("marble-sim")], |configuration| {
        configuration["entry_points"] = json!(["/bin/marble-sim"]);
    });
    site.copy_instance("hello", "outer/host/inner");
    site.make_root("outer/host/root");
    let nested = ["--instance", "/host/inner", "--root", "/host/root", "--", "/bin/premain-libos"];
    let outer = ["--instance", "outer", "--root", ROOT, "--", "/bin/marble-sim", "run"];
    add("inside of another strict one", run(site.sim(&["run", "--strict"]).args(outer).args(nested)));
    run(site.sim(&["run"]).args(outer).args(nested))
        .says(&["mechanism: ptrace, since another seccomp listener watches this process tree"]);

    // Who has changed the root directory cannot make user namespaces (user_namespaces(7)).
    fs::create_dir(site.path("changed-root")).unwrap();
    let mut nobody = unprivileged(&site);
    nobody.args(["unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "sh", "-c"]).args([
        "mount --rbind / changed-root && exec chroot changed-root setpriv --ambient-caps=-all --inh-caps=-all \"$@\"",
        "sh",
    ]);
    // The build directory may lie below a home directory that others cannot enter.
    fs::copy(program("marble-sim"), site.path("marble-sim")).unwrap();
    nobody.arg(site.path("marble-sim")).args(["run", "--instance"]).arg(site.path("hello"));
    add(
        "neither root nor namespaces",
        run(nobody.arg("--root").arg(site.path(ROOT)).args(["--", "/bin/premain-libos"])),
    );
}

/// Runs what follows without privileges; the site then belongs to that user.
fn unprivileged(site: &Site) -> Command {
    if fs::metadata(site.path("")).unwrap().uid() != 0 {
        return site.command("env", &[]);
    }
    for path in ["hello", ROOT] {
        if site.path(path).exists() {
            run(&mut site.command("chown", &["-R", &format!("{NOBODY}:{NOBODY}"), path])).success();
        }
    }
    fs::set_permissions(site.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    site.command("setpriv", &["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
}

/// The text of `value` with members sorted, whatever features of the library the build has: messages tell columns.
fn sorted(mut value: Value) -> String {
    value.sort_all_objects();
    value.to_string()
}

/// An address at which nobody listens.
fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Replaces ports, hashes, UUIDs, times and the site's directory.
fn redact(text: &str, directory: &str) -> String {
    let mut out = String::new();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let text = text.replace(directory, "<site>/").replace(release.trim(), "<release>");
    let words = text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == ':' || c == '.'));
    for word in words {
        let (body, separator) = match word.char_indices().next_back() {
            Some((at, c)) if !(c.is_ascii_alphanumeric() || "-:.".contains(c)) => word.split_at(at),
            _ => (word, ""),
        };
        let trimmed = body.trim_end_matches(['.', ':']);
        let rest = &body[trimmed.len()..];
        let replaced = redact_word(trimmed);
        let _ = write!(out, "{replaced}{rest}{separator}");
    }
    out
}

fn redact_word(word: &str) -> String {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if word.len() == 64 && is_hex(word) && word.bytes().any(|byte| byte != b'0') {
        return "<hash>".to_owned();
    }
    if word.len() == 36 && word.split('-').map(str::len).eq([8, 4, 4, 4, 12]) {
        return "<uuid>".to_owned();
    }
    if word.len() >= 20 && word.ends_with('Z') && word.contains('T') && word.starts_with("20") {
        return "<time>".to_owned();
    }
    match word.rsplit_once("127.0.0.1:") {
        Some((before, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{before}127.0.0.1:<port>")
        }
        _ => word.to_owned(),
    }
}
