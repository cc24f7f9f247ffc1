//! Who is refused, and that nothing reached them.

use std::fs;

use serde_json::json;

use crate::coordinator::Coordinator;
use crate::deployment::{Deployment, GREETING, SIGNER, sample_manifest};
use crate::programs::{program, run};
use crate::site::{ROOT, Site};

#[test]
fn an_image_with_one_flipped_byte_is_refused_with_both_measurements() {
    let mut deployment = Deployment::new(|_| ());
    let site = &deployment.site;
    site.copy_instance("hello", "tampered");
    let mut program = site.read("tampered/image/bin/hello_world");
    *program.last_mut().unwrap() ^= 1;
    site.write("tampered/image/bin/hello_world", program);
    let expected = format!("expected UniqueID {}", site.measurement("hello"));
    let got = format!("got {}", site.measurement("tampered"));

    let marble = deployment.marble("tampered", "hello");
    site.nothing_reached("tampered", &marble);
    marble.refused(&["PERMISSION_DENIED", &expected, &got]);
    let event = deployment.coordinator.wait_for(&["activation refused", &expected, &got]);
    assert_eq!(event["reason"], "package");
}

// rules: ATT-7.7
#[test]
fn a_quote_under_another_development_root_is_refused() {
    let mut deployment = Deployment::new(|_| ());
    let site = &deployment.site;
    site.make_root("other-root");
    let marble = run(&mut site.marble("hello", "other-root", "hello", &deployment.coordinator.mesh));
    site.nothing_reached("hello", &marble);
    marble.refused(&["PERMISSION_DENIED", "does not end at the trusted root"]);
    let event = deployment.coordinator.wait_for(&["activation refused"]);
    assert_eq!(event["reason"], "untrusted-root");
}

#[test]
fn a_hostile_coordinator_with_the_same_manifest_is_refused_by_the_marble() {
    let mut deployment = Deployment::new(|_| ());
    deployment.coordinator.kill();
    let site = &deployment.site;
    // The same program and trust, but its own state, hence another root key.
    site.coordinator_instance("hostile", ROOT);
    let mut hostile = Coordinator::start(site, "hostile");
    run(&mut site.cli(&["manifest", "set", "manifest.json", &hostile.client])).success();
    let marble = run(&mut site.marble("hello", ROOT, "hello", &hostile.mesh));
    hostile.wait_for(&["Marble activated"]);
    site.nothing_reached("hello", &marble);
    marble.refused(&["the Coordinator is refused: expected the root certificate with SHA-256", ", got one with "]);
}

// rules: ACT-3.5
#[test]
fn each_property_of_the_package_must_fit() {
    let deployment = Deployment::new(|manifest| {
        let unique = manifest["Packages"]["hello"]["UniqueID"].clone();
        let marble = manifest["Marbles"]["hello"].clone();
        for (name, package) in [
            ("same-signer", json!({"SignerID": SIGNER, "ProductID": 1, "SecurityVersion": 1})),
            ("other-signer", json!({"SignerID": "00".repeat(32), "ProductID": 1, "SecurityVersion": 1})),
            ("other-product", json!({"SignerID": SIGNER, "ProductID": 2, "SecurityVersion": 1})),
            ("newer-version", json!({"SignerID": SIGNER, "ProductID": 1, "SecurityVersion": 2})),
            ("debug", json!({"UniqueID": unique, "Debug": true})),
        ] {
            manifest["Packages"][name] = package;
            manifest["Marbles"][name] = marble.clone();
            manifest["Marbles"][name]["Package"] = name.into();
        }
    });
    let site = &deployment.site;
    for (marble_type, words) in [
        ("other-signer", ["SignerID", "expected", "got"]),
        ("other-product", ["ProductID", "expected", "got"]),
        ("newer-version", ["SecurityVersion", "expected", "got"]),
        ("debug", ["ebug", "expected", "got"]),
        ("absent", ["PERMISSION_DENIED", "absent", "type"]),
    ] {
        let marble = deployment.marble("hello", marble_type);
        site.nothing_reached("hello", &marble);
        marble.refused(&["PERMISSION_DENIED"]).says(&words);
    }

    // The host can read the memory of a debug enclave.
    site.copy_instance("hello", "debuggable");
    site.configure("debuggable", |configuration| configuration["metadata"]["debuggable"] = true.into());
    let marble = deployment.marble("debuggable", "same-signer");
    site.nothing_reached("debuggable", &marble);
    marble.refused(&["PERMISSION_DENIED", "ebug", "expected", "got"]);

    // The refusals above are not for want of a way in.
    deployment.marble("hello", "same-signer").success().says(&[GREETING]);
}

// rules: ATT-7.7, ATT-10.2, SIM-8
#[test]
fn a_coordinator_of_the_hardware_class_believes_no_software_evidence_and_no_software_client_believes_it() {
    let site = Site::new();
    site.coordinator_instance("coordinator", ROOT);
    // An image that names no class means hardware; nothing outside of the image can change that.
    fs::remove_file(site.path("coordinator/image/etc/marblerun/trust.json")).unwrap();
    site.write("coordinator/host/trust.json", site.read("root/root.pem"));
    site.expect_coordinator("coordinator");
    let mut coordinator = Coordinator::start(&site, "coordinator");
    run(&mut site.cli(&["status", &coordinator.client]))
        .refused(&["expected a Coordinator of class software, got one whose statement says \"hardware\""]);

    site.marble_instance("hello");
    site.write("manifest.json", sample_manifest(&site.measurement("hello")).to_string());
    let set = ["manifest", "set", "manifest.json", &coordinator.client, "--insecure"];
    run(&mut site.command(program("marblerun"), &set)).success();
    let marble = run(site.marble("hello", ROOT, "hello", &coordinator.mesh).env("EDG_MARBLE_ACTIVATION_TIMEOUT", "1s"));
    site.nothing_reached("hello", &marble);
    coordinator.wait_for(&["activation refused", "software"]);
    marble.refused(&["software TEE, only hardware roots are trusted"]);
}

// rules: ACT-3.6, SAFE-15, STA-9.7
#[test]
fn a_marble_without_a_quote_is_refused_on_both_sides() {
    let deployment = Deployment::new(|_| ());
    let site = &deployment.site;
    site.copy_instance("hello", "quoteless");
    let marble = |simulation: &str| {
        let mut command =
            site.sim(&["run", "--no-dcap", "--instance", "quoteless", "--root", ROOT, "--", "/bin/premain-libos"]);
        command.env("EDG_MARBLE_TYPE", "hello").env("EDG_MARBLE_COORDINATOR_ADDR", &deployment.coordinator.mesh);
        let marble = run(command.env("EDG_MARBLE_SIMULATION", simulation));
        site.nothing_reached("quoteless", &marble);
        marble
    };
    marble("0").refused(&["cannot get a quote"]);
    // The host can ask for simulation where the image lets it, but gains nothing.
    site.configure("quoteless", |configuration| {
        configuration["env"]["untrusted"].as_array_mut().unwrap().push("EDG_MARBLE_SIMULATION".into());
    });
    marble("1").refused(&["PERMISSION_DENIED", "expected a quote, got none"]);
}

#[test]
fn what_the_image_does_not_allow_is_refused_from_the_true_coordinator() {
    let deployment = Deployment::new(|manifest| {
        let package = json!({"SignerID": SIGNER, "ProductID": 1, "SecurityVersion": 1});
        manifest["Packages"]["hello"] = package;
    });
    let site = &deployment.site;
    for (restrictions, words) in [
        (json!({"Programs": ["/bin/other"]}), "/bin/hello_world"),
        (json!({"FilePrefixes": ["/host"]}), "/etc/hello/key"),
        (json!({"Variables": ["OTHER_*"]}), "HELLO_KEY"),
    ] {
        site.write("hello/image/etc/marblerun/premain.json", restrictions.to_string());
        let marble = deployment.marble("hello", "hello");
        site.nothing_reached("hello", &marble);
        marble.refused(&[words, "premain.json"]);
    }
}
