//! `package-info` with manifests and instances.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::Place;

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A signature structure with MRENCLAVE 0xAB.., product 3, version 4.
fn sigstruct(is_debug: bool) -> Vec<u8> {
    let mut bytes = vec![0; 1808];
    bytes[..16].copy_from_slice(&[6, 0, 0, 0, 0xE1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    bytes[24..40].copy_from_slice(&[1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0]);
    bytes[928] = if is_debug { 2 } else { 0 };
    bytes[960..992].fill(0xAB);
    bytes[1024] = 3;
    bytes[1026] = 4;
    bytes
}

// rules: PKG-7
#[test]
fn a_package_is_written_into_a_manifest_and_nothing_else_changes() {
    let place = Place::new();
    place.write("app.sig", sigstruct(false));
    let manifest = format!("{{ \"Marbles\": {{}},\n\t\"Packages\": {{\"web\" : {{\"UniqueID\": \"{ZEROS}\"}}}}}}\n");
    place.write("m.json", &manifest);
    let run = place.run("package-info app.sig --into m.json --package web");
    assert!(run.code == 0 && run.stdout.starts_with("Updated package \"web\" in m.json\n"), "{}", run.stdout);
    let expected = manifest.replace(ZEROS, &"ab".repeat(32));
    assert_eq!(place.read("m.json"), expected);

    let run = place.run("package-info app.sig --into m.json --package web");
    assert!(run.stdout.starts_with("Package \"web\" in m.json is up to date\n"), "{}", run.stdout);
    assert_eq!(place.read("m.json"), expected);

    let run = place.run("package-info app.sig --into m.json --package web --by signer");
    assert!(run.code == 1 && run.stderr.contains("expected a package without UniqueID"), "{}", run.stderr);
    let run = place.run("package-info app.sig --into m.json --package db --by signer -q");
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let manifest: Value = serde_json::from_str(&place.read("m.json")).unwrap();
    assert_eq!(manifest["Packages"]["db"]["SecurityVersion"], 4);

    place.write("m.yaml", "Packages: {}\n");
    let run = place.run("package-info app.sig --into m.yaml --package web");
    assert!(run.code == 1 && run.stderr.contains("m.yaml: expected a manifest in JSON"), "{}", run.stderr);
    assert_eq!(place.read("m.yaml"), "Packages: {}\n");
    for half in ["--into m.json", "--package web"] {
        assert_eq!(place.run(&format!("package-info app.sig {half}")).code, 1);
    }
}

// rules: PKG-8
#[test]
fn an_enclave_that_may_be_debugged_is_warned_of_and_its_package_says_so() {
    let place = Place::new();
    place.write("app.sig", sigstruct(true));
    let run = place.run("package-info app.sig --package-only");
    assert!(run.stderr.starts_with("Warning: the enclave may be debugged"), "{}", run.stderr);
    let package: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(package, json!({"UniqueID": "ab".repeat(32), "Debug": true}));

    place.write("m.json", "{\"Packages\": {\"old\": {}}}");
    for (name, is_warned) in [("old", true), ("new", false)] {
        let run = place.run(&format!("package-info app.sig --into m.json --package {name}"));
        assert_eq!(run.stderr.contains("has no \"Debug\": true"), is_warned, "{}", run.stderr);
    }
}

// rules: PKG-8
#[test]
fn a_published_signing_key_is_warned_of() {
    let place = Place::new();
    let instance = |place: &Place, signer: &str| {
        std::fs::create_dir_all(place.path().join("i/image")).unwrap();
        place.write("i/Occlum.json", "{}");
        let script = format!(
            "#!/bin/sh\n[ \"$1 $2 $3\" = 'measure --instance i' ] || exit 201\necho '{{\"mrenclave\": \"{}\", \
             \"mrsigner\": \"{signer}\", \"isv_prod_id\": 1, \"isv_svn\": 2, \"debug\": false, \"package\": {{}}}}'\n",
            "cd".repeat(32)
        );
        std::fs::create_dir_all(place.path().join("bin")).unwrap();
        place.write("bin/marble-sim", script);
        std::fs::set_permissions(place.path().join("bin/marble-sim"), std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    // A copy of the program, beside which there is no other simulator than the one in PATH.
    let program = place.path().join("alone/marblerun");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_marblerun"), &program).unwrap();
    let run = |words: &[&str]| {
        let output = std::process::Command::new(&program)
            .args(words)
            .current_dir(place.path())
            .env_clear()
            .env("HOME", place.path())
            .env("PATH", place.path().join("bin"))
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    for (signer, words) in [
        ("83d719e77deaca1470f6baf62a4d774303c899db69020f9c70ee1dfc08c7ce9e", "published with Occlum"),
        ("62e0f4c7ba82781b9905aafddb145bc3eac173cfc205ce3606223482492adbf8", "development key of marble-sim"),
        (ZEROS, ""),
    ] {
        instance(&place, signer);
        let (code, stdout, stderr) = run(&["package-info", "i"]);
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.starts_with("Detected an instance without build, measured by marble-sim\n"), "{stdout}");
        assert!(stderr.contains("of use in the simulator only"), "{stderr}");
        assert_eq!(stderr.contains("signed with"), !words.is_empty(), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
    // What the simulator says is passed on; without one, the user learns where it was looked for.
    let (code, _, stderr) = run(&["package-info", "absent"]);
    assert!(code == 1 && stderr.contains("cannot read absent"), "{stderr}");
    std::fs::remove_file(place.path().join("bin/marble-sim")).unwrap();
    let (code, _, stderr) = run(&["package-info", "i"]);
    assert!(code == 1 && stderr.contains("marble-sim is not installed: looked for it as"), "{stderr}");
    assert!(stderr.contains("bin/marble-sim") && stderr.contains("cargo build"), "{stderr}");
}
