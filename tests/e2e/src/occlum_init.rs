//! From a compiled program, or an instance that knows nothing of us, to an attested Marble.

use std::fs;

use serde_json::{Value, json};

use crate::deployment::{Deployment, GREETING};
use crate::programs::{Finished, program};

/// Puts the measurement of an instance in the place of the zeros of its manifest, adds what the program expects, and sets it.
#[track_caller]
fn set_manifest(deployment: &Deployment, instance: &str) {
    let site = &deployment.site;
    let text = String::from_utf8(site.read(&format!("{instance}/manifest.json"))).unwrap();
    let measured = text.replace(&"0".repeat(64), &site.measurement(instance));
    assert_ne!(measured, text, "the manifest has no placeholder");
    let mut manifest: Value = serde_json::from_str(&measured).unwrap();
    let marble = &mut manifest["Marbles"]["hello_world"]["Parameters"];
    marble["Env"] = json!({"HELLO_KEY": "{{ hex .Secrets.key }}"});
    marble["Files"] = json!({"/etc/hello/key": "{{ raw .Secrets.key }}"});
    manifest["Secrets"] = json!({"key": {"Type": "symmetric-key", "Size": 128}});
    site.write("manifest.json", manifest.to_string());
    deployment.cli(&["manifest", "set", "manifest.json", &deployment.coordinator.client]).success();
}

fn says_hello(marble: Finished) {
    marble.success().says(&[
        "the Coordinator is the pinned one",
        GREETING,
        "variable HELLO_KEY: 32 hexadecimal digits",
        "file /etc/hello/key: 16 bytes",
    ]);
}

// rules: INST-1
#[test]
fn a_compiled_program_becomes_an_attested_marble() {
    let deployment = Deployment::empty();
    let site = &deployment.site;
    site.hello_program();
    let premain = program("premain-libos");
    let init = ["occlum", "init", "hello", "--program", "hello_world", "--premain", premain.to_str().unwrap()];
    let pin = ["--coordinator", &deployment.coordinator.client];
    let arguments = ["--", "Hello World from Marblerun!"];
    // The flags of trust come behind, so the program's arguments cannot be last here.
    let made = |directory: &str| {
        let mut words = [&init[..], &pin[..]].concat();
        words[2] = directory;
        let mut command = site.cli(&words);
        command.args(arguments);
        crate::programs::run(&mut command)
    };
    made("hello").success().says(&["Made hello: /bin/hello_world", "resource_limits.user_space_size"]);
    made("hello").success().says(&["Nothing to change: hello"]);
    deployment.cli(&["occlum", "check", "hello"]).success().says(&["0 errors"]);
    set_manifest(&deployment, "hello");
    says_hello(deployment.marble("hello", "hello_world"));
}

// rules: INST-5
#[test]
fn an_instance_that_knows_nothing_of_us_becomes_an_attested_marble() {
    let deployment = Deployment::empty();
    let site = &deployment.site;
    site.hello_program();
    site.instance("hello", "occlum-hello", &[&site.path("hello_world")], |configuration| {
        configuration["entry_points"] = json!(["/bin"]);
        configuration["env"] = json!({"default": ["OCCLUM=yes"], "untrusted": ["EXAMPLE"]});
        configuration["resource_limits"]["user_space_size"] = json!("32MB");
    });
    deployment.cli(&["certificate", "root", &deployment.coordinator.client, "--output", "root.pem"]).success();
    let before = site.read("hello/image/bin/hello_world");
    let premain = program("premain-libos");
    let prepare = |more: &[&str]| {
        let words = [
            &["occlum", "prepare", "hello", "--marble", "hello_world", "--program", "/bin/hello_world"],
            &["--coordinator-root", "root.pem", "--premain", premain.to_str().unwrap()][..],
            more,
        ];
        deployment.cli(&words.concat())
    };
    prepare(&["--dry-run"]).success().says(&["\"/bin/premain-libos\"", "new      image/bin/premain-libos"]);
    prepare(&[]).success().says(&["resource_limits.user_space_size", "Prepared hello"]);
    prepare(&[]).success().says(&["hello: nothing to change"]);
    assert_eq!(site.read("hello/image/bin/hello_world"), before);
    assert!(fs::exists(site.path("hello/Occlum.json.before-marblerun")).unwrap());
    let argv = json!(["/bin/hello_world", "Hello World from Marblerun!"]);
    let manifest = json!({
        "Packages": {"hello": {"UniqueID": "0".repeat(64)}},
        "Marbles": {"hello_world": {"Package": "hello", "Parameters": {"Argv": argv}}}
    });
    site.write("hello/manifest.json", manifest.to_string());
    set_manifest(&deployment, "hello");
    says_hello(deployment.marble("hello", "hello_world"));
}
