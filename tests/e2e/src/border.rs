//! What the host sees of secrets that it must not see, with the simulator at the enclaves' borders.

use serde_json::{Value, json};

use crate::coordinator::{Coordinator, environment};
use crate::deployment::{GREETING, sample_manifest};
use crate::programs::{Finished, run};
use crate::site::{ROOT, Site};

/// A password that the administrator uploads.
const PASSWORD: &str = "correct-horse-battery-staple-0042";

impl Site {
    /// `marble-sim run` with a look for the planted secrets.
    fn watched(&self, instance: &str, program: &str) -> std::process::Command {
        let mut command = self.sim(&["run", "--strict", "--canaries", "canaries.json", "--canary-report"]);
        command.arg(format!("{instance}.border.json")).args(["--instance", instance, "--root", ROOT, "--", program]);
        command
    }

    /// What was found at the border of an instance.
    fn seen(&self, instance: &str) -> Value {
        serde_json::from_slice(&self.read(&format!("{instance}.border.json"))).unwrap()
    }
}

/// A Marble with the uploaded password and a user-defined certificate, and these files beside the sample's.
fn manifest(site: &Site, files: &Value) {
    let mut manifest = sample_manifest(&site.measurement("hello"));
    let admin = String::from_utf8(site.read("admin.pem")).unwrap();
    manifest["Secrets"]["password"] = json!({"Type": "plain", "UserDefined": true});
    manifest["Secrets"]["web"] = json!({"Type": "cert-ecdsa", "Size": 256, "UserDefined": true});
    manifest["Users"] = json!({"admin": {"Certificate": admin, "Roles": ["keeper"]}});
    let (names, actions) = (["password", "web"], ["ReadSecret", "WriteSecret"]);
    manifest["Roles"]["keeper"] = json!({"ResourceType": "Secrets", "ResourceNames": names, "Actions": actions});
    let parameters = &mut manifest["Marbles"]["hello"]["Parameters"];
    parameters["Env"]["PASSWORD"] = "{{ string .Secrets.password }}".into();
    parameters["Files"]["/etc/hello/web.key"] = "{{ pem .Secrets.web.Private }}".into();
    for (path, content) in files.as_object().unwrap() {
        parameters["Files"][path] = content.clone();
    }
    site.write("manifest.json", manifest.to_string());
}

/// Coordinator and Marble under the simulator's eyes: how the Marble ended.
fn deploy(site: &Site, files: &Value) -> Finished {
    site.coordinator_instance("coordinator", ROOT);
    site.expect_coordinator("coordinator");
    site.marble_instance("hello");
    for (name, subject) in [("admin", "/CN=admin"), ("web", "/CN=web")] {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
        site.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key]);
        site.openssl(&["req", "-x509", "-new", "-key", &key, "-subj", subject, "-out", &certificate]);
    }
    let key = String::from_utf8(site.read("web.key")).unwrap();
    let canaries = json!({"password": {"text": PASSWORD}, "web": {"text": key}});
    site.write("canaries.json", canaries.to_string());
    site.write("both.pem", [site.read("web.pem"), site.read("web.key")].concat());

    let mut command = site.watched("coordinator", "/bin/marblerun-coordinator");
    environment(&mut command, "/host");
    let coordinator = Coordinator::start_command(command.env("EDG_DEBUG_LOGGING", "1"));
    let client = coordinator.client.clone();
    run(&mut site.cli(&["certificate", "root", &client, "--output", "root.pem"])).success();
    site.pin("hello", "root.pem");
    manifest(site, files);
    run(&mut site.cli(&["manifest", "set", "manifest.json", &client, "--allow-warnings"])).success();
    let admin = |arguments: &[&str]| {
        run(site.cli(arguments).args(["--cert", "admin.pem", "--key", "admin.key", "--quiet"])).success()
    };
    let upload = json!({"password": {"Key": base64(PASSWORD.as_bytes())}});
    site.write("upload.json", upload.to_string());
    admin(&["secret", "set", "upload.json", &client]);
    admin(&["secret", "set", "both.pem", &client, "--from-pem", "web"]);
    admin(&["secret", "get", "password", "web", &client]);

    let mut marble = site.watched("hello", "/bin/premain-libos");
    marble.env("EDG_MARBLE_TYPE", "hello").env("EDG_MARBLE_COORDINATOR_ADDR", &coordinator.mesh);
    let marble = run(marble.env("EDG_MARBLE_ACTIVATION_TIMEOUT", "20s"));
    let ended = coordinator.stop();
    let seen = site.seen("coordinator");
    // SIGTERM ends Occlum without notice to the program.
    assert_eq!((ended.code, &seen["exit_code"]), (143, &json!(143)), "{}\n{seen:#}", ended.text());
    assert_eq!((&seen["crossed"], &seen["unread"]), (&json!([]), &json!(0)), "{seen:#}");
    assert!(seen["bytes"].as_u64().unwrap() > 10_000, "{seen:#}");
    marble
}

fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

// rules: SIM-12, SIM-13
#[test]
fn uploaded_secrets_leave_neither_coordinator_nor_marble_in_clear() {
    let site = Site::new();
    deploy(&site, &json!({})).success().says(&[GREETING]);
    let seen = site.seen("hello");
    assert_eq!((&seen["canaries"], &seen["crossed"], &seen["unread"]), (&json!(2), &json!([]), &json!(0)), "{seen:#}");
}

// rules: SIM-12
#[test]
fn a_manifest_that_sends_a_secret_to_the_host_is_caught_in_the_marble() {
    let site = Site::new();
    let files = json!({
        "/host/settings": "password = {{ hex .Secrets.password }}",
        "/host/web.key": "{{ pem .Secrets.web.Private }}",
    });
    let marble = deploy(&site, &files).says(&[GREETING, "2 of 2 secrets crossed the border in clear"]);
    assert_eq!(marble.code, 207, "{}", marble.text());
    let seen = site.seen("hello");
    assert_eq!((&seen["crossed"], &seen["exit_code"]), (&json!(["password", "web"]), &json!(0)), "{seen:#}");
    for (canary, form, to) in [("password", "hex", "/host/settings"), ("web", "raw", "/host/web.key")] {
        let fits = |finding: &Value| {
            let place = finding["to"].as_str().unwrap();
            finding["canary"] == canary && finding["form"] == form && place.starts_with(to)
        };
        assert!(seen["findings"].as_array().unwrap().iter().any(fits), "{canary}: {seen:#}");
    }
}
