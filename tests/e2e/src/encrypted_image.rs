//! A program whose image only the owner of a key can read, and who hands that key to the Coordinator.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::deployment::Deployment;
use crate::programs::{Finished, program, run};
use crate::site::{ROOT, Site, samples};

const RESULT: &str = "model: 12 gives 41.50 degrees";
/// Parts of the image that nobody may find without the key: of the data, and of the program.
const PLAIN: [&str; 2] = ["slope 1.75", "%s: %s gives %.2f %s"];

/// The sample's instance `model`, encrypted under `image.key`, and a Coordinator with its manifest after `change`, without
/// the key.
fn deployment(change: impl FnOnce(&mut Value)) -> Deployment {
    configured(|_| (), change)
}

/// [`deployment`] with another configuration of the instance.
fn configured(configure: impl FnOnce(&mut Value), change: impl FnOnce(&mut Value)) -> Deployment {
    let deployment = Deployment::empty();
    let site = &deployment.site;
    deployment.cli(&["certificate", "root", &deployment.coordinator.client, "--output", "root.pem"]).success();
    make_instance(site);
    site.configure("model", configure);
    for arguments in [
        &["image", "generate-key", "image.key"][..],
        &["image", "encrypt", "--instance", "model", "--image-key", "image.key"],
    ] {
        run(&mut site.sim(arguments)).success();
    }
    site.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "owner.key"]);
    site.openssl(&["req", "-x509", "-new", "-key", "owner.key", "-subj", "/CN=owner", "-out", "owner.crt"]);
    let text = fs::read_to_string(samples().join("occlum-encrypted-image/manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["Packages"]["model"]["UniqueID"] = site.measurement("model").into();
    manifest["Users"]["owner"]["Certificate"] = String::from_utf8(site.read("owner.crt")).unwrap().into();
    change(&mut manifest);
    site.write("manifest.json", manifest.to_string());
    deployment.set_manifest().success();
    deployment
}

/// The instance in clear.
fn make_instance(site: &Site) {
    let source = samples().join("occlum-encrypted-image");
    let compiler = &mut Command::new("cc");
    run(compiler.args(["-O2", "-fPIE", "-pie", "-o"]).arg(site.path("model.bin")).arg(source.join("model.c")))
        .success();
    let premain = program("premain-libos");
    site.instance("model", "occlum-encrypted-image", &[&premain], |_| ());
    run(&mut site.sim(&["image", "add", "--instance", "model", "model.bin", "--as", "/bin/model"])).success();
    run(site.sim(&["image", "add", "--instance", "model", "--init", "--as", "/bin/init"]).arg(&premain)).success();
    site.write("model/image/opt/model/weights", fs::read(source.join("weights")).unwrap());
    site.pin("model", "root.pem");
    let pin = site.read("model/image/etc/marblerun/coordinator.json");
    site.write("model/initfs/etc/marblerun/coordinator.json", pin);
}

impl Deployment {
    /// The owner of the image hands `key` to the Coordinator.
    fn give_key(&self, key: &[u8]) -> Finished {
        let secret = json!({"imageKey": {"Key": STANDARD.encode(key)}});
        self.site.write("secret.json", secret.to_string());
        let client = &self.coordinator.client;
        self.cli(&["secret", "set", "secret.json", client, "--cert", "owner.crt", "--key", "owner.key"])
    }

    fn give_the_key(&self) {
        self.give_key(&self.site.read("image.key")).success();
    }

    /// Runs the Marble; the types of both stages are in the measured configuration.
    #[track_caller]
    fn model(&self) -> Finished {
        self.marble("model", "chosen-by-the-host")
    }
}

/// Fails unless the start ended before the program, with `words`.
#[track_caller]
fn never_started(marble: Finished, words: &[&str]) {
    assert_eq!(marble.code, 1, "{}", marble.text());
    assert!(!marble.text().contains("gives"), "the program ran:\n{}", marble.text());
    assert!(!marble.text().contains("activating marble of type model\n"), "{}", marble.text());
    marble.says(words).says(&["the init stage ended with code 1, so Occlum starts no program"]);
}

#[track_caller]
fn is_nowhere_in_clear(site: &Site, key: &[u8]) {
    let files = site.files_below("model");
    assert!(files.iter().any(|file| file.ends_with("image.encrypted")), "{files:?}");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for secret in PLAIN.map(str::as_bytes).into_iter().chain([key]) {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} holds {:?}", file.display(), String::from_utf8_lossy(secret));
        }
    }
}

// rules: INIT-1, INIT-8
#[test]
fn an_encrypted_program_starts_with_the_key_of_its_owner_and_stays_hidden_from_the_host() {
    let deployment = deployment(|_| ());
    deployment.give_the_key();
    let site = &deployment.site;
    let key = site.read("image.key");
    run(&mut site.command(program("marblerun"), &["package-info", "model"]))
        .success()
        .says(&[&site.measurement("model")]);
    for _ in 0..2 {
        let marble = deployment.model().success();
        marble.says(&[RESULT, "activating marble of type model-init", "mounting the image of the application"]);
        is_nowhere_in_clear(site, &key);
    }
    // The init stage is the same Marble at each start.
    assert!(site.path("model/run/initfs/__ROOT/uuid").is_file());
    // In clear the words are found, so the search means something.
    make_instance(site);
    let clear = site.read("model/image/bin/model");
    assert!(clear.windows(PLAIN[1].len()).any(|window| window == PLAIN[1].as_bytes()));
}

// rules: INIT-3
#[test]
fn nothing_starts_before_the_owner_has_given_the_right_key() {
    let deployment = deployment(|_| ());
    never_started(deployment.model(), &["/etc/image_key", "a user-defined secret must be uploaded first"]);
    deployment.give_key(b"00-01-02-03-04-05-06-07-08-09-0a-0b-0c-0d-0e-0f").success();
    never_started(deployment.model(), &["the image cannot be opened with this key"]);
    deployment.give_key(b"too short").success();
    never_started(deployment.model(), &["/etc/image_key: expected 16 bytes, 32 hex digits"]);
    deployment.give_the_key();
    deployment.model().success().says(&[RESULT]);
}

// rules: INIT-6
#[test]
fn an_instance_with_a_changed_init_image_gets_no_key() {
    let mut deployment = deployment(|_| ());
    deployment.give_the_key();
    let site = &deployment.site;
    site.write("model/initfs/etc/changed", "by the host");
    let expected = format!("got {}", site.measurement("model"));
    never_started(deployment.model(), &["PERMISSION_DENIED", &expected]);
    deployment.coordinator.wait_for(&["activation refused", &expected]);
}

// rules: INIT-8
#[test]
fn an_instance_with_another_encrypted_image_gets_no_key() {
    let deployment = deployment(|_| ());
    deployment.give_the_key();
    let site = &deployment.site;
    let mut image = site.read("model/image.encrypted");
    *image.last_mut().unwrap() ^= 1;
    site.write("model/image.encrypted", image);
    never_started(deployment.model(), &["PERMISSION_DENIED"]);
}

// rules: INIT-3
#[test]
fn a_manifest_without_key_or_with_more_than_the_stage_can_deliver_is_told_what_is_wrong() {
    let without = deployment(|manifest| manifest["Marbles"]["model-init"]["Parameters"] = json!({}));
    never_started(without.model(), &["sent no file /etc/image_key", "add it to the Files of the Marble"]);
    let more = deployment(|manifest| {
        manifest["Marbles"]["model-init"]["Parameters"]["Files"]["/etc/app.conf"] = "x".into();
        manifest["Marbles"]["model-init"]["Parameters"]["Argv"] = json!(["/bin/model"]);
    });
    more.give_the_key();
    never_started(more.model(), &["the Coordinator sent \"/etc/app.conf\"", "EDG_MARBLE_INIT_TYPE"]);
}

// rules: INIT-9
#[test]
fn one_activation_is_enough_for_a_program_that_needs_variables_only() {
    let configure = |configuration: &mut Value| {
        configuration["entry_points"] = json!(["/bin/model"]);
        configuration["env"]["default"] = json!(["EDG_MARBLE_TYPE=model", "MODEL_UNIT=measured"]);
    };
    let deployment = configured(configure, |manifest| {
        let init = manifest["Marbles"].as_object_mut().unwrap().remove("model-init").unwrap();
        let parameters = &mut manifest["Marbles"]["model"]["Parameters"];
        parameters.as_object_mut().unwrap().remove("Argv");
        parameters["Files"] = init["Parameters"]["Files"].clone();
    });
    deployment.give_the_key();
    let coordinator = &deployment.coordinator.mesh;
    let site = &deployment.site;
    let start = |program: &str| {
        let mut command = site.sim(&["run", "--strict", "--instance", "model", "--root", ROOT, "--", program, "3"]);
        run(command.env("EDG_MARBLE_COORDINATOR_ADDR", coordinator).env("MODEL_UNIT", "chosen by the host"))
    };
    // The argument is the host's, the variable is the Coordinator's.
    let marble = start("/bin/model").success().says(&["model: 3 gives 25.75 degrees"]);
    assert_eq!(marble.text().matches("activating marble of type ").count(), 1, "{}", marble.text());
    assert_eq!(start("/bin/premain-libos").code, 127);
}
