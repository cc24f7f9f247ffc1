//! `occlum check` from outside.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use marblerun_enclave_image::libraries::add_program;
use serde_json::Value;

use crate::Place;

const OCCLUM_JSON: &str = r#"{
  "resource_limits": {"user_space_size": "128MB", "kernel_space_heap_size": "32MB", "kernel_space_stack_size": "1MB",
                      "max_num_of_threads": 16},
  "process": {"default_stack_size": "8MB", "default_heap_size": "8MB", "default_mmap_size": "32MB"},
  "entry_points": ["/bin/premain-libos"],
  "env": {"default": ["OCCLUM=yes", "EDG_MARBLE_TYPE=web"],
          "untrusted": ["EDG_MARBLE_COORDINATOR_ADDR", "EDG_MARBLE_DNS_NAMES", "EDG_MARBLE_UUID_FILE"]},
  "metadata": {"product_id": 1, "version_number": 1, "debuggable": false, "enable_kss": false,
               "family_id": {"high": "0x0", "low": "0x0"}, "ext_prod_id": {"high": "0x0", "low": "0x0"}},
  "feature": {},
  "mount": [{"target": "/", "type": "unionfs", "options": {"layers": [
    {"target": "/", "type": "sefs", "source": "./build/mount/__ROOT", "options": {"MAC": ""}},
    {"target": "/", "type": "sefs", "source": "./run/mount/__ROOT", "options": {"temporary": true}}]}}]
}"#;

const MANIFEST: &str = r#"{
  "Packages": {"web": {"UniqueID": "abababababababababababababababababababababababababababababababab"}},
  "Marbles": {"web": {"Package": "web", "Parameters": {"Argv": ["/bin/app"]}}, "db": {"Package": "web"}}
}"#;

/// An instance in `i/` with a program of this machine, twice: once it claims to be a premain.
fn instance() -> Place {
    let place = Place::new();
    let image = place.path().join("i/image");
    std::fs::create_dir_all(image.join("etc/marblerun")).unwrap();
    add_program(&image, Path::new("/bin/true"), Path::new("/bin/app")).unwrap();
    let mut premain = std::fs::read("/bin/true").unwrap();
    premain.extend(b"EDG_MARBLE_COORDINATOR_ADDR\0");
    place.write("i/image/bin/premain-libos", premain);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(image.join("bin/premain-libos"), mode).unwrap();
    place.write(
        "i/image/etc/marblerun/coordinator.json",
        r#"{"RootSHA256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}"#,
    );
    place.write("i/Occlum.json", OCCLUM_JSON);
    place.write("m.json", MANIFEST);
    place
}

// rules: OCC-8
#[test]
fn an_instance_with_programs_of_this_machine_has_no_errors() {
    let place = instance();
    let run = place.run("occlum check i --manifest m.json --marble web");
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stdout);
    assert!(run.stdout.ends_with("i, Marble \"web\": 0 errors, 1 warning, 1 note\n"), "{}", run.stdout);
    assert!(run.stdout.contains("  warning OCCLUM-UNPATCHED-LIBC  image: "), "{}", run.stdout);
    assert!(!run.stdout.contains('\u{1b}'));
    // The manifest beside the instance, and the entry that the instance is for, need not be named.
    place.write("i/manifest.json", MANIFEST);
    assert_eq!(place.run("occlum check i").stdout, run.stdout);
}

// rules: OCC-9
#[test]
fn what_the_check_warns_of_is_what_a_coordinator_refuses() {
    assert_eq!(marblerun_enclave_image::OCCLUM_TEMPLATE_SIGNER, marblerun_attestation::OCCLUM_TEMPLATE_SIGNER);
}

// rules: OCC-8
#[test]
fn errors_give_the_exit_code_2_each_with_place_reason_and_fix() {
    let place = instance();
    place.write("i/Occlum.json", OCCLUM_JSON.replace("\"/bin/premain-libos\"", "\"/bin\""));
    std::fs::remove_file(place.path().join("i/image/etc/marblerun/coordinator.json")).unwrap();
    let run = place.run("occlum check i");
    assert_eq!((run.code, run.stderr.as_str()), (2, ""));
    let expected = "Configuration\n  error OCCLUM-ENTRY-POINT-BYPASS  Occlum.json: entry_points[0]\n    \
                    the host can start /bin/app without the premain\n    why: ";
    assert!(run.stdout.starts_with(expected), "{}", run.stdout);
    assert!(run.stdout.contains("    fix: Write \"entry_points\": [\"/bin/premain-libos\"].\n"), "{}", run.stdout);
    assert!(run.stdout.ends_with("i, without a manifest: 2 errors, 1 warning, 1 note\n"), "{}", run.stdout);
}

#[test]
fn machine_readable_findings_have_the_documented_members() {
    let place = instance();
    let run = place.run("occlum check i --manifest m.json --output json");
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let json: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&json["directory"], &json["marble"]), (&"i".into(), &"web".into()));
    assert_eq!((&json["errors"], &json["warnings"], &json["notes"]), (&0.into(), &1.into(), &1.into()));
    let finding = json["findings"][0].as_object().unwrap();
    let mut members: Vec<&str> = finding.keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["family", "file", "fix", "path", "reason", "rule", "severity"]);
    assert_eq!((&finding["rule"], &finding["severity"]), (&"OCCLUM-UNPATCHED-LIBC".into(), &"warning".into()));
    assert_eq!((&finding["family"], &finding["file"]), (&"Programs".into(), &"image".into()));
}

#[test]
fn what_cannot_be_checked_is_an_error_of_the_command() {
    let place = instance();
    let hint = "Hint: give the directory that `occlum new` or `marblerun occlum init` made";
    place
        .run("occlum check .")
        .failed(&format!("Error: cannot read ./Occlum.json: No such file or directory (os error 2)\n{hint}"));
    place.run("occlum check i --manifest m.json --marble other").failed(
        "Error: the manifest has no Marble \"other\", only \"db\", \"web\"\nHint: name the entry with --marble",
    );
    place.write("i/Occlum.json", OCCLUM_JSON.replace("EDG_MARBLE_TYPE=web", "A=b"));
    place.run("occlum check i --manifest m.json").failed(
        "Error: expected the name of a Marble, because the manifest has \"db\", \"web\"\nHint: name the entry with --marble",
    );
    place
        .run("occlum check i --marble web")
        .failed("Error: --marble names an entry of a manifest, but there is none: give --manifest\nHint: see --help");
    place.write("m.json", "{\"Marbles\": 3}");
    let run = place.run("occlum check i --manifest m.json");
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stderr.starts_with("Error: manifest m.json: "), "{}", run.stderr);
}
