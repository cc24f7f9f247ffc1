//! Users of the manifest at the command line: updates, secrets, the log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::deployment::{Deployment, sample_manifest};
use crate::programs::Finished;
use crate::site::Site;

/// How a user's certificate and key are made: the arguments of `openssl` for the key, and whether the certificate is one of
/// X.509 version 1.
struct Kind {
    name: &'static str,
    key: &'static [&'static str],
    is_version_1: bool,
}

/// Keys and certificates in the forms that people have. `openssl ecparam` writes parameters in front of a SEC1 key,
/// `-traditional` PKCS#1.
const KINDS: [Kind; 4] = [
    Kind { name: "ann", key: &["ecparam", "-name", "prime256v1", "-genkey", "-out"], is_version_1: false },
    Kind { name: "ben", key: &["genrsa", "-traditional", "-out"], is_version_1: true },
    Kind { name: "cy", key: &["genpkey", "-algorithm", "ed25519", "-out"], is_version_1: false },
    Kind {
        name: "dee",
        key: &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521", "-out"],
        is_version_1: false,
    },
];

/// Writes `NAME.pem` and `NAME-key.pem`; returns the certificate.
fn make_user(site: &Site, kind: &Kind) -> String {
    let name = kind.name;
    let (certificate, key) = (format!("{name}.pem"), format!("{name}-key.pem"));
    site.openssl(&[kind.key, &[&key]].concat());
    let subject = format!("/CN={name}");
    if kind.is_version_1 {
        site.openssl(&["req", "-new", "-key", &key, "-subj", &subject, "-out", "request.pem"]);
        site.openssl(&["x509", "-req", "-in", "request.pem", "-signkey", &key, "-out", &certificate]);
    } else {
        site.openssl(&["req", "-x509", "-new", "-key", &key, "-subj", &subject, "-out", &certificate]);
    }
    String::from_utf8(site.read(&certificate)).unwrap()
}

/// A deployment whose users may all update the manifest, two of them together, and write and read secrets.
fn deployment() -> (Deployment, Value) {
    let deployment = Deployment::empty();
    let mut manifest = sample_manifest(&"ab".repeat(32));
    manifest["Packages"]["signed"] = json!({"SignerID": "cd".repeat(32), "ProductID": 1, "SecurityVersion": 1});
    manifest["Marbles"]["other"] = json!({"Package": "signed", "Parameters": {}});
    manifest["Secrets"]["token"] = json!({"Type": "plain", "UserDefined": true});
    manifest["Secrets"]["web"] = json!({"Type": "cert-ecdsa", "Size": 256, "UserDefined": true});
    manifest["Roles"] = json!({
        "updater": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]},
        "packager": {"ResourceType": "Packages", "ResourceNames": ["signed"], "Actions": ["UpdateSecurityVersion"]},
        "keeper": {"ResourceType": "Secrets", "ResourceNames": ["token", "web"], "Actions": ["ReadSecret", "WriteSecret"]},
    });
    for kind in &KINDS {
        manifest["Users"][kind.name] =
            json!({"Certificate": make_user(&deployment.site, kind), "Roles": ["updater", "packager", "keeper"]});
    }
    manifest["Config"] = json!({"UpdateThreshold": 2});
    deployment.site.write("manifest.json", manifest.to_string());
    deployment.set_manifest().success();
    (deployment, manifest)
}

impl Deployment {
    /// Runs the command line as a user of the manifest.
    #[track_caller]
    fn cli_as(&self, user: &str, arguments: &[&str]) -> Finished {
        let (certificate, key) = (format!("{user}.pem"), format!("{user}-key.pem"));
        self.cli(&[arguments, &["--cert", &certificate, "--key", &key, "--quiet"]].concat())
    }
}

#[track_caller]
fn last_line(finished: Finished) -> String {
    finished.success().stdout.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn users_with_keys_of_every_kind_write_and_read_secrets() {
    let (deployment, _) = deployment();
    let client = deployment.coordinator.client.as_str();
    for kind in &KINDS {
        let value = json!({"token": {"Key": STANDARD.encode(kind.name)}});
        deployment.site.write("secrets.json", value.to_string());
        let set = deployment.cli_as(kind.name, &["secret", "set", "secrets.json", client]);
        assert_eq!(last_line(set), "Secret successfully set", "{}", kind.name);
        let get = deployment.cli_as(kind.name, &["secret", "get", "token", client]);
        let expected = format!("\tData:         {}", STANDARD.encode(kind.name));
        assert_eq!(last_line(get), expected, "{}", kind.name);
    }
    // A certificate with its key comes back as it was uploaded.
    let pem = [deployment.site.read("dee.pem"), deployment.site.read("dee-key.pem")].concat();
    deployment.site.write("web.pem", pem);
    deployment.cli_as("ann", &["secret", "set", "web.pem", client, "--from-pem", "web"]).success();
    deployment.cli_as("ann", &["secret", "get", "web", client, "-o", "web.json"]).success();
    let web: Value = serde_json::from_slice(&deployment.site.read("web.json")).unwrap();
    deployment.site.write("web.b64", format!("{}\n", web["web"]["Private"].as_str().unwrap()));
    deployment.site.openssl(&["base64", "-d", "-A", "-in", "web.b64", "-out", "web.der"]);
    let own = deployment.site.openssl(&["pkey", "-in", "dee-key.pem", "-pubout"]);
    assert_eq!(deployment.site.openssl(&["pkey", "-inform", "DER", "-in", "web.der", "-pubout"]), own);

    // Nobody without a certificate of the manifest.
    make_user(&deployment.site, &Kind { name: "eve", ..KINDS[2] });
    deployment.cli_as("eve", &["secret", "get", "token", client]).refused(&["authorizing user"]);
    deployment.cli_as("ann", &["secret", "get", "helloKey", client]).refused(&["500 Internal Server Error"]);
}

#[test]
fn a_package_update_shows_in_log_and_manifest() {
    let (deployment, _) = deployment();
    let client = deployment.coordinator.client.as_str();
    deployment.site.write("update.json", json!({"Packages": {"signed": {"SecurityVersion": 5}}}).to_string());
    let applied = deployment.cli_as("ben", &["manifest", "update", "apply", "update.json", client]);
    assert_eq!(last_line(applied), "Update manifest set successfully");

    let log = deployment.cli(&["manifest", "log", client]).success().stdout;
    let events: Vec<Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect();
    assert_eq!(events[0]["update"], "Initial manifest set");
    assert_eq!((&events[1]["user"], &events[1]["new version"]), (&json!("ben"), &json!(5)));
    deployment.cli(&["manifest", "get", client, "-u", "-o", "shown.json"]).success();
    let shown: Value = serde_json::from_slice(&deployment.site.read("shown.json")).unwrap();
    assert_eq!(shown["Packages"]["signed"]["SecurityVersion"], 5);
    // What was set has not changed.
    deployment.cli(&["manifest", "verify", "manifest.json", client]).success().says(&["OK"]);

    deployment.site.write("update.json", json!({"Packages": {"signed": {"SecurityVersion": 4}}}).to_string());
    deployment
        .cli_as("ben", &["manifest", "update", "apply", "update.json", client])
        .refused(&["Packages.signed.SecurityVersion: expected at least 5, got 4"]);
}

#[test]
fn a_whole_manifest_is_updated_by_two_users() {
    let (deployment, mut manifest) = deployment();
    let client = deployment.coordinator.client.as_str();
    deployment.cli(&["manifest", "update", "get", client]).refused(&["404 Not Found"]);
    deployment.cli_as("ann", &["manifest", "update", "cancel", client]).refused(&["404 Not Found"]);

    manifest["Packages"]["signed"]["SecurityVersion"] = 9.into();
    deployment.site.write("new.json", manifest.to_string());
    let submitted = deployment.cli_as("ann", &["manifest", "update", "apply", "new.json", client]).success();
    submitted.says(&[
        "Update manifest submitted, the update is pending. 1 user still needs to acknowledge it.",
        "Users that may acknowledge: ben, cy, dee",
    ]);
    let pending = deployment.cli(&["manifest", "update", "get", client]).success().stdout;
    assert!(pending.ends_with(&manifest.to_string()), "{pending}");
    deployment.cli(&["manifest", "update", "get", client, "--missing"]).success().says(&["[ben cy dee]"]);

    deployment.cli_as("cy", &["manifest", "update", "cancel", client]).success().says(&["Cancellation successful"]);
    deployment.cli(&["manifest", "update", "get", client]).refused(&["404 Not Found"]);

    deployment.cli_as("ann", &["manifest", "update", "apply", "new.json", client]).success();
    deployment.cli_as("ben", &["manifest", "update", "acknowledge", "manifest.json", client]).refused(&["500"]);
    deployment
        .cli_as("ben", &["manifest", "update", "acknowledge", "new.json", client])
        .success()
        .says(&["Acknowledgement successful:", "The update is applied."]);
    deployment.cli(&["manifest", "verify", "new.json", client]).success().says(&["OK"]);

    // New recovery keys come with an update, and their secrets only once.
    deployment.site.openssl(&["genrsa", "-out", "ops.pem", "2048"]);
    manifest["RecoveryKeys"]["ops"] = deployment.site.openssl(&["rsa", "-in", "ops.pem", "-pubout"]).into();
    deployment.site.write("keys.json", manifest.to_string());
    deployment.cli_as("ann", &["manifest", "update", "apply", "keys.json", client]).success();
    let acknowledge = ["manifest", "update", "acknowledge", "keys.json", client, "-r", "recovery.json"];
    deployment.cli_as("dee", &acknowledge).success().says(&["Recovery data written to recovery.json"]);
    let recovery: Value = serde_json::from_slice(&deployment.site.read("recovery.json")).unwrap();
    assert!(recovery["RecoverySecrets"]["ops"].is_string(), "{recovery}");
}
