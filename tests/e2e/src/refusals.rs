//! Who is refused, and that nothing reached them.

use serde_json::json;

use crate::coordinator::Coordinator;
use crate::deployment::{Deployment, GREETING};
use crate::programs::run;
use crate::site::ROOT;

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

#[test]
fn each_property_of_the_package_must_fit() {
    let deployment = Deployment::new(|manifest| {
        let unique = manifest["Packages"]["hello"]["UniqueID"].clone();
        let marble = manifest["Marbles"]["hello"].clone();
        // `marble-sim` signs with one published key; the sample has product 1, version 1.
        let signer = "62e0f4c7ba82781b9905aafddb145bc3eac173cfc205ce3606223482492adbf8";
        for (name, package) in [
            ("same-signer", json!({"SignerID": signer, "ProductID": 1, "SecurityVersion": 1})),
            ("other-signer", json!({"SignerID": "00".repeat(32), "ProductID": 1, "SecurityVersion": 1})),
            ("other-product", json!({"SignerID": signer, "ProductID": 2, "SecurityVersion": 1})),
            ("newer-version", json!({"SignerID": signer, "ProductID": 1, "SecurityVersion": 2})),
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
